"""Events in any audio: a table, JSON, an Audacity label track and a picture for every file; or as plain Python."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.audio import reading
from common.run.errors import UserError
from common.run.files import remove_partials, write_json, write_rows, write_text
from common.run.progress import progress
from common.run.results.tables import print_table
from common.run.verbs import Run
from task4_sed.config import Config
from task4_sed.data.annotations import Event
from task4_sed.data.classes import FRAME_SECONDS, SAMPLE_RATE
from task4_sed.inference.checkpoints import checkpoint_of, load_network
from task4_sed.inference.networks import scored_network
from task4_sed.inference.postprocess.boxes import parse_csebbs
from task4_sed.inference.postprocess.csebbs import CSEBBS_FILE, CsebbsParameters, csebbs
from task4_sed.inference.predict import Predictor, audio_files, log_mel, predict_file
from task4_sed.inference.scores import from_logits, write_scores_folder
from task4_sed.metrics.types import ClipScores, ScoreSet

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
    path, expected = checkpoint_of(run, checkpoint)
    config: Config = run.config
    loaded = load_network(path, config.postprocess.network, config.model, expected, config.encoder)
    tuned = run.folder / CSEBBS_FILE
    parameters = parameters_for(
        loaded.classes, setting or (str(tuned) if tuned.is_file() and checkpoint is None else "default")
    )
    found = detect(Predictor(loaded), files, out, parameters, threshold, draw)
    rows = [
        [name, f"{e['onset']:.2f}", f"{e['offset']:.2f}", e["event_label"], f"{e['confidence']:.2f}"]
        for name, events in found.items()
        for e in events
    ]
    print_table("events", ["file", "onset (s)", "offset (s)", "event", "confidence"], rows, note=f"all files: {out}")
    return {"out": str(out), "files": found}


def detect_in(
    recording: str | Path | np.ndarray,
    checkpoint: str | Path,
    sample_rate: int | None,
    threshold: float,
    csebbs: str | None,
) -> list[dict[str, Any]]:
    """What `task4_sed.detect` gives."""
    folder = Path(checkpoint).absolute().parents[1]  # of the run that the checkpoint lies in
    loaded = load_network(checkpoint, scored_network(folder) or "student")
    tuned = folder / CSEBBS_FILE
    parameters = parameters_for(loaded.classes, csebbs or (str(tuned) if tuned.is_file() else "default"))
    predictor = Predictor(loaded)
    waveform = reading.waveform_of(recording, sample_rate, SAMPLE_RATE)
    logits = predictor.recording(waveform)
    return listed(events_of(scores_of(logits, waveform, loaded.classes), parameters, threshold))


def parameters_for(classes: Sequence[str], setting: str) -> Parameters:
    """The boxes' parameters; a table that was tuned for the scored classes only has the default for the others."""
    parameters = parse_csebbs(setting)
    if isinstance(parameters, Mapping):
        return {name: parameters.get(name, CsebbsParameters()) for name in classes}
    return parameters


def detect(
    predictor: Predictor,
    files: list[Path],
    out: Path,
    parameters: Parameters,
    threshold: float = 0.5,
    draw: Draw | None = None,
) -> dict[str, Any]:
    """Write the events (confidence >= threshold) of every file to `out`; returns {name: events}.

    `draw(path, log_mel, scores, events, title=...)` makes the picture of a file, `out/<name>.png`. The frame scores go
    to `out/scores`, in the form that `evaluate --scores` reads.
    """
    if not 0 <= threshold <= 1:
        raise UserError(f"--threshold is {threshold:g}, expected 0 to 1")
    named = list(audio_files(files))
    remove_partials(out, recursive=False)
    found: dict[str, Any] = {}
    clips: dict[str, ClipScores] = {}
    with progress("detect", len(named), "files") as advance:
        for name, path in named:
            waveform, logits = predict_file(predictor, path)
            scores = scores_of(logits, waveform, predictor.classes)
            events = events_of(scores, parameters, threshold)
            write_events(out / name, events, path, len(waveform) / SAMPLE_RATE)
            clips[name] = scores.clips["clip"]
            if draw is not None:
                heard = waveform[: round(clips[name].edges[-1] * SAMPLE_RATE)]
                draw(out / f"{name}.png", log_mel(predictor.front_end, heard), scores, events, title=path.name)
            found[name] = listed(events)
            advance(note=path.name)
    write_scores_folder(out / "scores", ScoreSet(predictor.classes, clips))
    return found


def scores_of(logits: np.ndarray, waveform: np.ndarray, classes: Sequence[str]) -> ScoreSet:
    """Scores of the single clip "clip" from the logits (frames, classes) of its waveform (samples,) at 16 kHz."""
    return from_logits(["clip"], logits[None], classes, FRAME_SECONDS, durations=[len(waveform) / SAMPLE_RATE])


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


def write_events(stem: Path, events: Sequence[Event], source: Path, seconds: float) -> None:
    """`<stem>.tsv`, `<stem>.json` and `<stem>.txt` (Audacity: File, Import, Labels)."""
    rows = [(source.name, e.onset, e.offset, e.label, e.confidence) for e in events]
    write_rows(Path(f"{stem}.tsv"), ("filename", "onset", "offset", "event_label", "confidence"), rows)
    about = {"file": str(source), "duration": round(seconds, 3), "events": listed(events)}
    write_json(Path(f"{stem}.json"), about)
    labels = (f"{e.onset:.6f}\t{e.offset:.6f}\t{e.label} {e.confidence:.2f}\n" for e in events)
    write_text(Path(f"{stem}.txt"), "".join(labels))
