"""Segment-based metrics: scores and targets per second, F1, ROC areas."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from task4_sed.metrics.detections import Detections
from task4_sed.metrics.f1 import F1, f1_of_counts, f1_values
from task4_sed.metrics.truth import CLIP_STRIDE, MICROSECONDS, Truth, to_microseconds
from task4_sed.metrics.types import ScoreSet

Integration = Literal["step", "linear"]
INTEGRATIONS: tuple[Integration, ...] = get_args(Integration)


@dataclass(frozen=True)
class Segments:
    """Scores and targets of segments: scores (segments, classes), targets (segments, classes) bool, clip (segments,).

    clip: index of the clip (or recording) that a segment belongs to.
    """

    classes: tuple[str, ...]
    scores: np.ndarray
    targets: np.ndarray
    clip: np.ndarray


def segment_targets(truth: Truth, seconds: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Targets (segments, classes): does an event overlap the segment? And the clip of each segment (segments,).

    A clip has ceil(duration / seconds) segments.
    """
    length = round(seconds * MICROSECONDS)
    counts = np.ceil(np.round(truth.durations / seconds, 9)).astype(np.int64)
    first = np.concatenate(([0], np.cumsum(counts)))
    targets = np.zeros((first[-1], len(truth.classes)), dtype=bool)
    starts = truth.onset // length
    stops = np.minimum(-(-truth.offset // length), counts[truth.clip])
    for clip, label, start, stop in zip(truth.clip, truth.label, starts, stops, strict=True):
        targets[first[clip] + start : first[clip] + stop, label] = True
    return targets, np.repeat(np.arange(len(counts)), counts)


def segments_of_scores(scores: ScoreSet, truth: Truth, seconds: float = 1.0) -> Segments:
    """Segments of the clips and classes of `truth`; a segment's score is the largest of the frames that overlap it.

    Segments after the last frame score 0.
    """
    length = round(seconds * MICROSECONDS)
    targets, clip = segment_targets(truth, seconds)
    counts = np.bincount(clip, minlength=len(truth.clips))
    columns = [scores.classes.index(name) for name in truth.classes]
    values = np.zeros(targets.shape)
    position = 0
    for name, count in zip(truth.clips, counts.tolist(), strict=True):
        of_clip = scores.clips[name]
        edges = to_microseconds(of_clip.edges)
        borders = np.arange(count + 1) * length
        start = np.maximum(np.searchsorted(edges, borders[:-1], side="right") - 1, 0)
        stop = np.minimum(np.searchsorted(edges, borders[1:], side="left"), len(edges) - 1)
        filled = int((stop > start).sum())  # scores start at 0, so only segments at the end can be without any
        if filled:
            chosen = np.append(of_clip.scores[:, columns], np.full((1, len(columns)), -np.inf), axis=0)
            pairs = np.stack((start[:filled], stop[:filled]), axis=1).reshape(-1)
            values[position : position + filled] = np.maximum.reduceat(chosen, pairs, axis=0)[::2]
        position += count
    return Segments(truth.classes, values, targets, clip)


def segment_f1(segments: Segments, threshold: float = 0.5) -> F1:
    """F1 over segments with score > threshold. Mesaros et al. 2016."""
    return _f1_of_found(segments.classes, segments.targets, segments.scores > threshold)


def segment_f1_of_detections(detections: Sequence[Detections], truth: Truth, seconds: float = 1.0) -> F1:
    """F1 over segments of detections at one operating point, one per class; a segment that they touch is found.

    As in sed_eval, segments go on to the last event or detection, be it after the end of the clip.
    """
    length = round(seconds * MICROSECONDS)
    latest = max([0, *truth.offset.tolist(), *((of.offset % CLIP_STRIDE).max(initial=0) for of in detections)])
    shape = (len(truth.clips), -(-int(latest) // length), len(truth.classes))
    targets, found = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for clip, label, onset, offset in zip(truth.clip, truth.label, truth.onset, truth.offset, strict=True):
        targets[clip, onset // length : -(-offset // length), label] = True
    for label, of_class in enumerate(detections):
        starts, stops = of_class.onset % CLIP_STRIDE // length, -(-(of_class.offset % CLIP_STRIDE) // length)
        for clip, start, stop in zip(of_class.clip, starts, stops, strict=True):
            found[clip, start:stop, label] = True
    classes = len(truth.classes)
    return _f1_of_found(truth.classes, targets.reshape(-1, classes), found.reshape(-1, classes))


def _f1_of_found(classes: Sequence[str], targets: np.ndarray, found: np.ndarray) -> F1:
    tp = (found & targets).sum(axis=0).astype(np.float64)
    return f1_of_counts(classes, tp, found.sum(axis=0) - tp, targets.sum(axis=0))


def _counts(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, ...]:
    """Distinct scores, falling, with the true and false positives where score >= each."""
    order = np.argsort(-scores, kind="stable")
    scores, targets = scores[order], targets[order]
    weight = np.ones(len(scores)) if weights is None else weights[order]
    last = np.append(scores[1:] != scores[:-1], True)
    return scores[last], np.cumsum(weight * targets)[last], np.cumsum(weight * ~targets)[last]


def best_segment_f1(segments: Segments) -> tuple[F1, dict[str, float]]:
    """F1 over segments with the best threshold of each class, and these thresholds (score >= threshold)."""
    tp, fp, thresholds = [], [], {}
    for label, name in enumerate(segments.classes):
        values, true, false = _counts(segments.scores[:, label], segments.targets[:, label], None)
        best = int(np.argmax(f1_values(true, false, true[-1])))
        thresholds[name] = float(values[best])
        tp.append(true[best])
        fp.append(false[best])
    return f1_of_counts(segments.classes, np.array(tp), np.array(fp), segments.targets.sum(axis=0)), thresholds


def roc_curve(
    scores: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates (points,) from (0, 0) to (1, 1) of scores and bool targets (n,).

    NaN where there is no negative or no positive at all.
    """
    _, tp, fp = _counts(scores, targets, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.append(0.0, fp) / fp[-1], np.append(0.0, tp) / tp[-1]


def roc_area(fpr: np.ndarray, tpr: np.ndarray, max_fpr: float | None = None, rule: Integration = "step") -> float:
    """Area under the ROC up to `max_fpr`, divided by it (no further correction).

    "step": a staircase, each true positive rate holds until the next point (the challenge of 2024). "linear":
    trapezoids. They differ only where scores are tied. NaN where the curve is not defined.
    """
    limit = 1.0 if max_fpr is None else max_fpr
    if np.isnan(fpr).any() or np.isnan(tpr).any():
        return float("nan")
    inside = fpr <= limit
    if rule == "step":
        return float((tpr[inside] * np.diff(np.append(fpr[inside], limit))).sum() / limit)
    x, y = np.append(fpr[inside], limit), np.append(tpr[inside], np.interp(limit, fpr, tpr))
    if fpr[inside][-1] == limit:  # interp takes the last of several points at the limit: same place, no width
        y[-1] = tpr[inside][-1]
    return float(np.trapezoid(y, x) / limit)


def segment_auroc(
    segments: Segments,
    max_fpr: float | None = None,
    rule: Integration = "step",
    clip_weights: np.ndarray | None = None,
) -> dict[str, float]:
    """ROC area of each class over all segments; NaN for a class that is never or always active.

    `clip_weights` (clips,): how often each clip or recording counts. With `max_fpr` 0.1 and the mean over the scored
    classes of MAESTRO it is the mpAUC of DCASE 2024 Task 4.
    """
    weights = None if clip_weights is None else clip_weights[segments.clip]
    areas = {}
    for label, name in enumerate(segments.classes):
        fpr, tpr = roc_curve(segments.scores[:, label], segments.targets[:, label], weights)
        areas[name] = roc_area(fpr, tpr, max_fpr, rule)
    return areas


def mean_of_defined(values: Mapping[str, float]) -> float:
    """Mean over the classes whose value is defined (not NaN); NaN if none is."""
    defined = [value for value in values.values() if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")
