"""PSDS and ROC areas of many clips and classes, one class at a time: neither time nor memory is that of all at once.

Frame-level pre-training is scored on 17,000 clips and 407 classes; as the arrays that the other metrics take that is
15 GB. Values are the same.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.run.errors import UserError
from task4_sed.metrics.detections import Detections, detections_of_rows
from task4_sed.metrics.filters import running_median
from task4_sed.metrics.psds import (
    PSDS1,
    SECONDS_PER_HOUR,
    ClassSteps,
    Curve,
    PsdsParameters,
    PsdsResult,
    class_steps,
    joined,
    single_class_curve,
)
from task4_sed.metrics.segments import roc_area, roc_curve, segment_targets
from task4_sed.metrics.truth import MICROSECONDS, Truth, to_microseconds

CLIPS_AT_ONCE = 512
CELLS_AT_ONCE = 1 << 28  # clips x frames x classes that are held, in the precision of the scores


@dataclass(frozen=True)
class StreamedScores:
    """Scores of many clips on one grid of frames, read piece by piece.

    read(start, stop): (stop - start, frames, classes) of clips start to stop - 1, in any float type. edges:
    (frames + 1,) seconds, the same for all, also where a clip is shorter.
    """

    clips: tuple[str, ...]
    classes: tuple[str, ...]
    edges: np.ndarray
    read: Callable[[int, int], np.ndarray]

    def by_class(self, clips: Sequence[str], classes: Sequence[str]) -> Iterator[np.ndarray]:
        """Scores (clips, frames) float32 of each of `classes` in turn; several passes over the file, a few GB at most.

        Raises UserError for clips or classes that it does not have.
        """
        rows, columns = _positions(self.clips, clips, "clip"), _positions(self.classes, classes, "class")
        frames, wanted = len(self.edges) - 1, np.full(len(self.clips), -1)
        wanted[rows] = np.arange(len(rows))
        size = max(1, CELLS_AT_ONCE // max(1, len(rows) * frames))
        for first in range(0, len(columns), size):
            chosen, held = columns[first : first + size], None
            for start in range(0, len(self.clips), CLIPS_AT_ONCE):
                target = wanted[start : start + CLIPS_AT_ONCE]
                found = self.read(start, start + len(target))[:, :, chosen]
                held = np.empty((len(chosen), len(rows), frames), found.dtype) if held is None else held
                held[:, target[target >= 0]] = found[target >= 0].transpose(2, 0, 1)
            if held is not None:
                yield from (of_class.astype(np.float32) for of_class in held)


def _positions(there: Sequence[str], wanted: Sequence[str], what: str) -> np.ndarray:
    index = {name: i for i, name in enumerate(there)}
    for name in wanted:
        if name not in index:
            raise UserError(f"no scores of {what} {name!r}")
    return np.array([index[name] for name in wanted], dtype=np.int64)


class ScoresOnDisk:
    """Scores of clips that come batch by batch, in half precision in a nameless file below `folder` (None: the
    system's place for such files), not in memory. Of a slice: (clips, frames, classes)."""

    def __init__(self, folder: Path | None = None) -> None:
        self._file, self._shape = tempfile.TemporaryFile(dir=folder), (0, 0)  # noqa: SIM115 (gone with this object)

    def put(self, clips: np.ndarray, scores: np.ndarray) -> None:
        """Scores (batch, frames, classes) of clips (batch,) by their positions, in any order."""
        self._shape = scores.shape[1:]
        for clip, of_clip in zip(clips.tolist(), scores.astype(np.float16), strict=True):
            self._file.seek(clip * of_clip.nbytes)
            self._file.write(of_clip.tobytes())

    def __getitem__(self, clips: slice) -> np.ndarray:
        size = 2 * int(np.prod(self._shape))
        self._file.seek(clips.start * size)
        return np.frombuffer(self._file.read((clips.stop - clips.start) * size), np.float16).reshape(-1, *self._shape)


@dataclass(frozen=True)
class Streamed:
    """PSDS, ROC areas {class: area} up to the false positive rate asked for; of each weighting of the clips the mean of
    the single-class PSDS and PSDS (draws, 2)."""

    psds: PsdsResult
    auroc: dict[str, float]
    draws: np.ndarray


def streamed_metrics(
    scores: StreamedScores,
    truth: Truth,
    parameters: PsdsParameters = PSDS1,
    median_frames: int = 1,
    max_fpr: float | None = 0.1,
    end_with_clip: bool = False,
    weights: Sequence[np.ndarray] = (),
) -> Streamed:
    """PSDS without cross triggers, and segment-based ROC areas, of the clips and classes of `truth`.

    median_frames: of the filter before. end_with_clip: no detection after the end of a clip's last frame; the published
    evaluation of AudioSet-strong counts those as false. weights: how often each clip counts, (clips,) each, for a
    bootstrap. Raises UserError for clips or classes without scores.
    """
    if parameters.cttc is not None:
        raise ValueError("streamed_metrics knows no cross triggers")
    ones = np.ones(len(truth.clips))
    weightings = [_Weighting(of, truth, parameters) for of in (ones, *weights)]
    segments = _Segments(truth, scores.edges)
    after = _after_the_end(truth, scores.edges) if end_with_clip else None
    curves: list[Curve] = []
    areas: dict[str, float] = {}
    for label, values in enumerate(scores.by_class(truth.clips, truth.classes)):
        filtered = running_median(values, median_frames)
        if after is not None:
            filtered[after] = -np.inf
        areas[truth.classes[label]] = segments.area(label, filtered, max_fpr)
        found = _relevant(filtered, label, truth, parameters.max_efpr, weightings, scores.edges)
        steps = class_steps(label, found, truth, parameters)
        first, *_ = [w.curve(label, steps) for w in weightings]
        curves.append(first)
    draws = np.array([w.areas(len(truth.classes)) for w in weightings[1:]]).reshape(-1, 2)
    return Streamed(joined(truth.classes, curves, parameters), areas, draws)


class _Weighting:
    """Clips counted `clips` times each (clips,): hours, events and their hours of each class.

    Of the curves it keeps sums over classes, of the true positive rate and of its square, at each number of false
    positives: 407 classes of 200 draws are too many to keep.
    """

    def __init__(self, clips: np.ndarray, truth: Truth, parameters: PsdsParameters) -> None:
        self.clips, self.parameters = clips, parameters
        self.hours = float(clips @ truth.durations) / SECONDS_PER_HOUR
        of_event, length = clips[truth.clip], (truth.offset - truth.onset) / MICROSECONDS / SECONDS_PER_HOUR
        count = len(truth.classes)
        self.events = np.bincount(truth.label, of_event, minlength=count)
        self.event_hours = np.bincount(truth.label, of_event * length, minlength=count)
        self.sums = np.zeros((2, int(parameters.max_efpr * self.hours * (1 + 1e-9)) + 1))

    def curve(self, label: int, steps: ClassSteps) -> Curve:
        """That of a class."""
        found = single_class_curve(
            steps, label, self.parameters, self.clips, self.hours, self.events, self.event_hours
        )  # fmt: skip
        false = np.rint(found.efpr * self.hours).astype(np.int64)
        rate = np.repeat(found.tpr, np.diff(np.append(false, self.sums.shape[1])))
        self.sums += rate, rate**2
        return found

    def areas(self, classes: int) -> tuple[float, float]:
        """Under the mean of the curves of all classes, and under it less their spread (`joined`)."""
        mean, square = self.sums / classes
        effective = np.maximum(mean - self.parameters.alpha_st * np.sqrt(np.maximum(square - mean**2, 0.0)), 0.0)
        efpr = np.arange(len(mean)) / self.hours
        return Curve(efpr, mean).area(self.parameters.max_efpr), Curve(efpr, effective).area(self.parameters.max_efpr)


def _after_the_end(truth: Truth, edges: np.ndarray) -> np.ndarray:
    """Which frames (clips, frames) begin at the end of their clip, or later."""
    return to_microseconds(edges[:-1]) >= to_microseconds(truth.durations)[:, None]


def _relevant(
    scores: np.ndarray,
    label: int,
    truth: Truth,
    max_efpr: float,
    weightings: Sequence[_Weighting],
    edges: np.ndarray,
) -> Detections:
    """The detections of a class at thresholds that can have at most `max_efpr` false positives an hour.

    Each clip without events of the class has at least one false positive once the threshold falls below its highest
    score. Where more such clips than allowed are above it, no lower threshold counts, and lower scores need no look.
    """
    peak = scores.max(axis=1)
    without = np.ones(len(peak), dtype=bool)
    without[truth.of_class(label)[0]] = False
    negatives = np.flatnonzero(without)
    order = negatives[np.argsort(-peak[negatives], kind="stable")]
    lowest = np.inf
    for weighting in weightings:
        false = np.cumsum(weighting.clips[order])
        too_many = int(np.searchsorted(false, max_efpr * weighting.hours * (1 + 1e-9), side="right"))
        lowest = min(lowest, peak[order[too_many]] if too_many < len(order) else -np.inf)
    clip = np.flatnonzero(peak > lowest)
    kept = scores[clip].astype(np.float64)
    kept[kept <= lowest] = -np.inf
    return detections_of_rows(kept, clip, edges)


class _Segments:
    """Segments of one second: targets of every class, and of one class after the other the ROC area."""

    def __init__(self, truth: Truth, edges: np.ndarray) -> None:
        self.targets, clip = segment_targets(truth)
        counts = np.bincount(clip, minlength=len(truth.clips))
        self.there = np.arange(counts.max(initial=0)) < counts[:, None]
        borders, at = np.arange(self.there.shape[1] + 1) * MICROSECONDS, to_microseconds(edges)
        start = np.searchsorted(at, borders[:-1], side="right") - 1
        stop = np.minimum(np.searchsorted(at, borders[1:], side="left"), len(at) - 1)
        filled = stop > start  # those after the last frame score 0
        self.filled, self.pairs = int(filled.sum()), np.stack((start, stop), axis=1)[filled].reshape(-1)

    def area(self, label: int, scores: np.ndarray, max_fpr: float | None) -> float:
        """That of a class by its scores (clips, frames)."""
        closed = np.append(scores, np.full((len(scores), 1), -np.inf, scores.dtype), axis=1)
        values = np.zeros(self.there.shape, scores.dtype)
        values[:, : self.filled] = np.maximum.reduceat(closed, self.pairs, axis=1)[:, ::2]
        return roc_area(*roc_curve(values[self.there], self.targets[:, label]), max_fpr)
