"""MAESTRO Real: windows of recordings back to recordings; the truth of its soft labels (DCASE 2024 Task 4)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from common.run.errors import UserError
from task4_sed.metrics.segments import Segments, segment_targets
from task4_sed.metrics.truth import Truth, merge_intervals
from task4_sed.metrics.types import ClipScores, Event, ScoreSet

AnyEvent = TypeVar("AnyEvent", bound=Event)

CONFIDENCE_THRESHOLD = 0.5
_WINDOW = re.compile(r"(?P<recording>.+)-(?P<start>\d{6})-(?P<end>\d{6})")


def window_of(name: str) -> tuple[str, int, float]:
    """(recording, start in whole seconds, length in seconds) of a window <recording>-<start>-<end> in 1/100 s.

    Raises UserError where the name isn't of that form or the window doesn't start at a whole second.
    """
    match = _WINDOW.fullmatch(name)
    if match is None:
        raise UserError(f"{name}: not a window, expected <recording>-<start>-<end> with six digits each (1/100 s)")
    start, end = int(match["start"]), int(match["end"])
    if start % 100:
        raise UserError(f"{name}: the window starts at {start / 100:g} s, expected a whole second")
    if end <= start:
        raise UserError(f"{name}: the window ends at {end / 100:g} s, not after its start")
    return match["recording"], start // 100, (end - start) / 100


def is_window(name: str) -> bool:
    """Is the name of the form <recording>-<start>-<end>?"""
    return _WINDOW.fullmatch(name) is not None


def recording_events(soft: Mapping[str, Sequence[AnyEvent]], classes: Sequence[str]) -> dict[str, list[AnyEvent]]:
    """Events of whole recordings: windows' soft labels of `classes` with a confidence above 0.5, shifted and merged."""
    found: dict[str, dict[str, list[AnyEvent]]] = {}
    for name, events in soft.items():
        recording, start, _ = window_of(name)
        of_recording = found.setdefault(recording, {})
        for event in events:
            if event.confidence > CONFIDENCE_THRESHOLD and event.label in classes:
                times = {"onset": round(event.onset + start, 6), "offset": round(event.offset + start, 6)}
                of_recording.setdefault(event.label, []).append(replace(event, **times, confidence=1.0))
    return {
        recording: [
            replace(listed[0], onset=onset, offset=offset)
            for listed in by_label.values()
            for onset, offset in merge_intervals((event.onset, event.offset) for event in listed)
        ]
        for recording, by_label in found.items()
    }


def second_means(clip: ClipScores, seconds: float) -> np.ndarray:
    """Time-weighted means (ceil(seconds), classes) of the frames in each second; NaN where there is no frame.

    The last second takes the frames up to its nominal end, so those over padding, too.
    """
    count = int(np.ceil(round(seconds, 6)))
    lengths = np.diff(clip.edges)
    integral = np.concatenate((np.zeros((1, clip.scores.shape[1])), np.cumsum(clip.scores * lengths[:, None], axis=0)))
    borders = np.minimum(np.arange(count + 1, dtype=np.float64), clip.edges[-1])
    frame = np.clip(np.searchsorted(clip.edges, borders, side="right") - 1, 0, len(lengths) - 1)
    at_border = integral[frame] + clip.scores[frame] * (borders - clip.edges[frame])[:, None]
    length = np.diff(borders)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.diff(at_border, axis=0) / np.where(length > 0, length, np.nan)


def overlap_add(scores: ScoreSet, durations: Mapping[str, float], classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Scores (seconds, classes) of each recording in `durations`: per second the mean over all windows that hold it.

    Any hop of whole seconds; seconds without a window score 0. Raises UserError for a window of another recording, a
    name that isn't a window's, or a score of -inf.
    """
    columns = [scores.classes.index(name) for name in classes]
    sums = {name: np.zeros((int(np.ceil(round(d, 6))), len(columns))) for name, d in durations.items()}
    counts = {name: np.zeros((len(total), 1)) for name, total in sums.items()}
    for name, clip in scores.clips.items():
        recording, start, length = window_of(name)
        if recording not in sums:
            raise UserError(f"{name}: no duration of the recording {recording}")
        if not np.isfinite(clip.scores[:, columns]).all():
            raise UserError(f"{name}: a score is not finite, expected probabilities")
        means = second_means(ClipScores(clip.edges, clip.scores[:, columns]), length)
        means = means[: max(len(sums[recording]) - start, 0)]
        known = ~np.isnan(means).any(axis=1)
        seconds = start + np.flatnonzero(known)
        sums[recording][seconds] += means[known]
        counts[recording][seconds] += 1
    return {name: total / np.maximum(counts[name], 1) for name, total in sums.items()}


def segments_of_recordings(scores: Mapping[str, np.ndarray], truth: Truth) -> Segments:
    """One-second segments of recordings: scores (seconds, classes) of each clip of `truth`, by name."""
    targets, clip = segment_targets(truth)
    values = np.concatenate([scores[name] for name in truth.clips]) if truth.clips else np.zeros(targets.shape)
    return Segments(truth.classes, values, targets, clip)
