"""Events in any audio: a table, JSON, an Audacity label track and a picture for every file; or as plain Python."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from common.audio.answers import SCORES, stems, write_answer
from common.audio.recordings import Recording, Recordings, beginning, find_recordings
from common.run.export import note_of
from common.run.files import write_text
from common.run.folders import printable
from common.run.progress import progress
from common.run.results.runs import network_note
from common.run.results.tables import print_table
from common.run.verbs import Run
from task4_sed.config import Config, check_threshold
from task4_sed.data.annotations import Event
from task4_sed.data.classes import FRAME_SECONDS, SAMPLE_RATE
from task4_sed.inference.checkpoints import checkpoint_of, load_network
from task4_sed.inference.exported import open_exported
from task4_sed.inference.networks import scored_network
from task4_sed.inference.postprocess.boxes import parse_csebbs
from task4_sed.inference.postprocess.csebbs import CSEBBS_FILE, CsebbsParameters, csebbs
from task4_sed.inference.predict import Predictor, log_mel
from task4_sed.inference.scores import from_logits, write_score_table
from task4_sed.metrics.types import ScoreSet

Parameters = CsebbsParameters | Mapping[str, CsebbsParameters]
Draw = Callable[..., None]


def predict_files(
    run: Run,
    files: list[Path],
    checkpoint: Path | None,
    out: Path,
    threshold: float,
    setting: str | None,
    draw: Draw | None,
) -> Mapping[str, Any]:
    """Events in named files, by the run's network and its tuned boxes."""
    check_threshold(threshold)
    recordings = find_recordings(files)
    if checkpoint is not None and checkpoint.is_dir():
        loaded, tuned, note = open_exported(checkpoint), checkpoint / CSEBBS_FILE, note_of(checkpoint)
        who = checkpoint.name
    else:
        path, expected = checkpoint_of(run, checkpoint)
        config: Config = run.config
        loaded = load_network(path, config.postprocess.network, config.model, expected, config.encoder)
        tuned = (run.folder if checkpoint is None else Path()) / CSEBBS_FILE
        note = network_note(path.parent.parent)
        who = f"{run.title if checkpoint is None else checkpoint}, {config.postprocess.network}"
    setting = setting or (str(tuned) if tuned.is_file() else "default")
    parameters = parameters_for(loaded.classes, setting)
    if draw is not None:
        about = f"{who}\n{boxes_title(setting, threshold)}"
        draw = partial(draw, note=note, about=about)
    found = detect(Predictor(loaded), recordings, out, parameters, threshold, draw, note)
    rows = [
        [name, f"{e['onset']:.2f}", f"{e['offset']:.2f}", e["event_label"], f"{e['confidence']:.2f}"]
        for name, events in found.items()
        for e in events
    ]
    if found:
        columns = ["file", "onset (s)", "offset (s)", "event", "confidence"]
        print_table("events", columns, rows, note="; ".join(filter(None, (note, f"all files: {out}"))), whole=out)
    return recordings.finish({"out": str(out), "files": found, "note": note})


def boxes_title(setting: str, threshold: float) -> str:
    """What pictures say of the post-processing."""
    name = Path(setting).name if setting.endswith(".tsv") else setting
    return f"detected: cSEBBs ({name}) with a confidence of {threshold:g} or more"


def detect_in(
    recording: str | Path | np.ndarray,
    checkpoint: str | Path,
    sample_rate: int | None,
    threshold: float,
    csebbs: str | None,
) -> list[dict[str, Any]]:
    """What `task4_sed.detect` gives."""
    check_threshold(threshold)
    if Path(checkpoint).is_dir():
        folder, loaded = Path(checkpoint), open_exported(Path(checkpoint))
    else:
        folder = Path(checkpoint).absolute().parents[1]  # of the run that the checkpoint lies in
        loaded = load_network(checkpoint, scored_network(folder) or "student")
    tuned = folder / CSEBBS_FILE
    parameters = parameters_for(loaded.classes, csebbs or (str(tuned) if tuned.is_file() else "default"))
    scores = heard(Predictor(loaded), Recording(recording, SAMPLE_RATE, sample_rate))
    return listed(events_of(scores, parameters, threshold))


def parameters_for(classes: Sequence[str], setting: str) -> Parameters:
    """The boxes' parameters; a table that was tuned for the scored classes only has the default for the others."""
    parameters = parse_csebbs(setting)
    if isinstance(parameters, Mapping):
        return {name: parameters.get(name, CsebbsParameters()) for name in classes}
    return parameters


def detect(
    predictor: Predictor,
    recordings: Recordings,
    out: Path,
    parameters: Parameters,
    threshold: float = 0.5,
    draw: Draw | None = None,
    note: str | None = None,
) -> dict[str, Any]:
    """Write the events (confidence >= threshold) of every file to `out`; returns {file: events}.

    `draw(path, log_mel, scores, events, title=..., setting=...)` makes the picture of a file, `out/<name>.png`; the
    frame scores go to `out/scores`, in the form that `evaluate --scores` reads; `note` stands in the JSON. What lies
    there for other files stays. A file that cannot be read is left out; `recordings` knows why. Raises UserError where
    a table of somebody else would be replaced.
    """
    check_threshold(threshold)
    names = recordings.names()
    found: dict[str, Any] = {}
    with progress("detect", len(names), "files") as advance:
        for path, stem in stems(out, recordings, "events", (".tsv", ".txt")).items():
            with recordings.skipping(path):
                events = _detect(predictor, path, stem, parameters, threshold, draw, note)
                found[names[path]] = listed(events)
                advance(note=names[path])
    return found


def _detect(
    predictor: Predictor,
    path: Path,
    stem: Path,
    parameters: Parameters,
    threshold: float,
    draw: Draw | None,
    note: str | None,
) -> list[Event]:
    """The events of one file, and all that is written for it."""
    recording = Recording(path, SAMPLE_RATE)
    scores = heard(predictor, recording)
    events = events_of(scores, parameters, threshold)
    write_events(stem, events, path, recording.seconds, note)
    write_score_table(stem.parent / SCORES / f"{stem.name}.tsv", scores.clips["clip"], scores.classes)
    if draw is not None:
        shown = beginning(recording, round(scores.clips["clip"].edges[-1] * SAMPLE_RATE))
        seen = log_mel(predictor.front_end, shown)
        setting = predictor.front_end.setting
        draw(stem.with_name(f"{stem.name}.png"), seen, scores, events, title=printable(path.name), setting=setting)
    return events


def heard(predictor: Predictor, recording: Recording) -> ScoreSet:
    """Scores of the single clip "clip"."""
    logits = predictor.recording(recording)
    return from_logits(["clip"], logits[None], predictor.classes, FRAME_SECONDS, durations=[recording.seconds])


def listed(events: Sequence[Event]) -> list[dict[str, Any]]:
    """Events as plain mappings, for JSON."""
    return [{"onset": e.onset, "offset": e.offset, "event_label": e.label, "confidence": e.confidence} for e in events]


def events_of(scores: ScoreSet, parameters: Parameters, threshold: float) -> list[Event]:
    """Boxes of one clip with at least the given confidence, by onset."""
    events = []
    for label, boxes in csebbs(scores, parameters).items():
        kept = boxes.confidence >= threshold
        rows = zip(
            boxes.onset[kept].tolist(), boxes.offset[kept].tolist(), boxes.confidence[kept].tolist(), strict=True
        )
        events += [Event(round(on, 3), round(off, 3), label, round(value, 4)) for on, off, value in rows]
    return sorted(events, key=lambda e: (e.onset, e.label))


def write_events(stem: Path, events: Sequence[Event], source: Path, seconds: float, note: str | None = None) -> None:
    """`<stem>.tsv`, `<stem>.json` (with the note) and `<stem>.txt` (Audacity: File, Import, Labels)."""
    about = {"file": printable(source), "duration": round(seconds, 3), "events": listed(events)}
    rows = [(printable(source.name), e.onset, e.offset, e.label, e.confidence) for e in events]
    columns = ("filename", "onset", "offset", "event_label", "confidence")
    write_answer(stem, about | ({"note": note} if note else {}), columns, rows)
    labels = (f"{e.onset:.6f}\t{e.offset:.6f}\t{e.label} {e.confidence:.2f}\n" for e in events)
    write_text(Path(f"{stem}.txt"), "".join(labels))
