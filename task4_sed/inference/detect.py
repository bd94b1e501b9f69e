"""Events in any audio: a table, JSON, an Audacity label track and a picture for every file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.run.errors import UserError
from common.run.files import remove_partials, write_json, write_rows, write_text
from common.run.progress import progress
from task4_sed.data.annotations import Event
from task4_sed.data.classes import FRAME_SECONDS, SAMPLE_RATE
from task4_sed.inference.postprocess.csebbs import CsebbsParameters, csebbs
from task4_sed.inference.predict import Predictor, audio_files, predict_file
from task4_sed.inference.scores import ClipScores, ScoreSet, from_logits, write_scores_folder


def detect(
    predictor: Predictor,
    files: list[Path],
    out: Path,
    parameters: CsebbsParameters | Mapping[str, CsebbsParameters],
    threshold: float = 0.5,
    plots: bool = True,
) -> dict[str, Any]:
    """Write the events (confidence >= threshold) of every file to `out`; returns {name: events}.

    The frame scores go to `out/scores`, in the form that `evaluate --scores` reads.
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
            seconds = len(waveform) / SAMPLE_RATE
            scores = from_logits(["clip"], logits[None], predictor.classes, FRAME_SECONDS, durations=[seconds])
            events = events_of(scores, parameters, threshold)
            write_events(out / name, events, path, seconds)
            clips[name] = scores.clips["clip"]
            if plots:
                draw(predictor, out / f"{name}.png", waveform, scores, events, threshold, title=path.name)
            found[name] = listed(events)
            advance(note=path.name)
    write_scores_folder(out / "scores", ScoreSet(predictor.classes, clips))
    return found


def listed(events: Sequence[Event]) -> list[dict[str, Any]]:
    """Events as plain mappings, for JSON."""
    return [{"onset": e.onset, "offset": e.offset, "event_label": e.label, "confidence": e.confidence} for e in events]


def events_of(
    scores: ScoreSet, parameters: CsebbsParameters | Mapping[str, CsebbsParameters], threshold: float
) -> list[Event]:
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


def draw(
    predictor: Predictor, path: Path, waveform: np.ndarray, scores: ScoreSet, events: Sequence[Event],
    threshold: float, truth: Sequence[Event] | None = None, title: str = "", note: str | None = None,
) -> None:  # fmt: skip
    """The event roll of one clip."""
    import torch

    from common.run.plots import save
    from task4_sed.evaluation.plots import event_roll

    clip = next(iter(scores.clips.values()))
    heard = waveform[: max(round(clip.edges[-1] * SAMPLE_RATE), predictor.front_end.setting.fft)]
    padded = np.pad(heard, (0, max(predictor.front_end.setting.fft - len(heard), 0)))
    with torch.inference_mode():
        log_mel = predictor.front_end(torch.from_numpy(padded)[None].to(predictor.device))[0].cpu().numpy()
    known = None if truth is None else [e for e in truth if e.label in scores.classes]
    figure = event_roll(
        log_mel, clip, list(scores.classes), known, list(events), min_score=min(threshold, 0.3), title=title, note=note
    )
    save(figure, path)
