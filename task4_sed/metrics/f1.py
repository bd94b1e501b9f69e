"""F1 scores of detections: by intersection and by collars around onset and offset, and of weak labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from task4_sed.metrics.detections import Detections
from task4_sed.metrics.psds import PsdsParameters, event_steps, expand_ranges, psds_statistics
from task4_sed.metrics.truth import Truth

COLLAR_SECONDS = 0.2
COLLAR_OF_LENGTH = 0.2


@dataclass(frozen=True)
class F1:
    """F1 of each class, their mean (macro) and that of the summed counts (micro)."""

    classes: dict[str, float]
    macro: float
    micro: float


def f1_of_counts(classes: Sequence[str], tp: np.ndarray, fp: np.ndarray, positives: np.ndarray) -> F1:
    """F1 from counts (classes,): true positives, false positives, all that should be found. 0 where nothing is."""
    values = f1_values(tp, fp, positives)
    micro = f1_values(tp.sum(), fp.sum(), positives.sum())
    return F1(dict(zip(classes, values.tolist(), strict=True)), float(values.mean()), float(micro))


def f1_values(tp: np.ndarray, fp: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """2 TP / (found + to be found), elementwise; 0 where TP is 0."""
    return np.where(tp > 0, 2 * tp / np.maximum(tp + fp + positives, 1), 0.0)


def intersection_f1(
    detections: Sequence[Detections], truth: Truth, dtc: float = 0.5, gtc: float = 0.5, ratios: bool = False
) -> F1:
    """Intersection-based F1 of detections at one operating point (`Detections.above` or `.at`), one per class.

    `ratios`: see `psds_statistics`. Bilen et al. 2020 (intersection criterion).
    """
    statistics = psds_statistics(detections, truth, PsdsParameters(dtc, gtc), ratios)
    tp = np.array([steps.tp.sum() for steps in statistics.steps], dtype=np.float64)
    fp = np.array([steps.fp.sum() for steps in statistics.steps], dtype=np.float64)
    return f1_of_counts(truth.classes, tp, fp, truth.counts().sum(axis=0))


def _collar_pairs(
    found: Detections, event_onset: np.ndarray, event_offset: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (detection, event) within the collars: onset 200 ms, offset max(200 ms, 20 % of the event's length)."""
    collar = round(COLLAR_SECONDS * 1e6)
    onset, offset = found.onset, found.offset
    row, event = expand_ranges(
        np.searchsorted(event_onset, onset - collar, side="left"),
        np.searchsorted(event_onset, onset + collar, side="right"),
    )
    allowed = np.maximum(collar, COLLAR_OF_LENGTH * (event_offset - event_onset)[event])
    near = np.rint(np.abs(offset[row] - event_offset[event]) - allowed) <= 0
    return row[near], event[near]


def matching_size(pairs: Sequence[Sequence[int]]) -> int:
    """Largest number of pairs (detection, event) in which no detection and no event occurs twice."""
    events_of: dict[int, list[int]] = {}
    for detection, event in pairs:
        events_of.setdefault(detection, []).append(event)
    taken_by: dict[int, int] = {}

    def place(detection: int, tried: set[int]) -> bool:
        for event in events_of[detection]:
            if event not in tried:
                tried.add(event)
                if event not in taken_by or place(taken_by[event], tried):
                    taken_by[event] = detection
                    return True
        return False

    return sum(place(detection, set()) for detection in events_of)


def _ambiguous_steps(row: np.ndarray, event: np.ndarray, found: Detections) -> list[tuple[float, int]]:
    """Changes (value, +-n) of the number of matches in one clip, for pairs where a detection fits several events."""
    born, dies = found.born[row], found.dies[row]
    values = np.unique(np.concatenate((born, dies[dies > -np.inf])))[::-1]
    steps, size = [], 0
    for value in values.tolist():
        there = (born >= value) & (dies < value)
        now = matching_size(list(zip(row[there].tolist(), event[there].tolist(), strict=True)))
        if now != size:
            steps.append((value, now - size))
        size = now
    return steps


def _collar_counts(label: int, found: Detections, truth: Truth) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct values, falling (values,), with the true positives and the detections at each."""
    event_clip, event_onset, event_offset = truth.of_class(label)
    row, event = _collar_pairs(found, event_onset, event_offset)
    # Detections that fit one event only (nearly all): an event is found while any of them is there.
    fits = np.bincount(row, minlength=len(found.clip))
    unclear = np.unique(event_clip[event[fits[row] > 1]])
    slow = np.isin(event_clip[event], unclear)
    quick_row, quick_event = row[~slow], event[~slow]
    ones = np.ones(len(quick_row), np.int64)
    _, value, change = event_steps(
        quick_event, ones, found.born[quick_row], found.dies[quick_row], np.ones(len(event_onset), np.int64)
    )
    extra: list[tuple[float, int]] = []
    for clip in unclear:
        in_clip = slow & (event_clip[event] == clip)
        extra += _ambiguous_steps(row[in_clip], event[in_clip], found)
    ends = found.dies > -np.inf
    values = np.concatenate((value, [v for v, _ in extra], found.born, found.dies[ends]))
    nothing = np.zeros(len(found.born) + int(ends.sum()))
    matched = np.concatenate((change, [c for _, c in extra], nothing))
    number = np.concatenate((np.zeros(len(value) + len(extra)), np.ones(len(found.born)), -np.ones(int(ends.sum()))))
    order = np.argsort(-values, kind="stable")
    values = values[order]
    last = np.append(values[1:] != values[:-1], True) if len(values) else np.zeros(0, bool)
    return values[last], np.cumsum(matched[order])[last], np.cumsum(number[order])[last]


def collar_f1(detections: Sequence[Detections], truth: Truth) -> F1:
    """Collar-based F1 (optimal one-to-one matching) of detections at one operating point, one per class.

    Mesaros et al. 2016.
    """
    counts = [_collar_counts(label, found, truth) for label, found in enumerate(detections)]
    tp = np.array([matched[-1] if len(matched) else 0.0 for _, matched, _ in counts])
    number = np.array([found[-1] if len(found) else 0.0 for _, _, found in counts])
    return f1_of_counts(truth.classes, tp, number - tp, truth.counts().sum(axis=0))


def best_collar_f1(detections: Sequence[Detections], truth: Truth) -> tuple[F1, dict[str, float]]:
    """Collar-based F1 with the best threshold of each class, and these thresholds (score >= threshold)."""
    positives = truth.counts().sum(axis=0)
    tp, fp, thresholds = np.zeros(len(positives)), np.zeros(len(positives)), {}
    for label, found in enumerate(detections):
        values, matched, number = _collar_counts(label, found, truth)
        curve = f1_values(matched, number - matched, positives[label])
        best = int(np.argmax(curve)) if len(curve) else None
        thresholds[truth.classes[label]] = np.inf if best is None else float(values[best])
        if best is not None:
            tp[label], fp[label] = matched[best], number[best] - matched[best]
    return f1_of_counts(truth.classes, tp, fp, positives), thresholds


def weak_f1(scores: np.ndarray, targets: np.ndarray, classes: Sequence[str], threshold: float = 0.5) -> F1:
    """F1 of clip-level scores (clips, classes) > threshold against 0/1 targets of the same shape."""
    found, wanted = scores > threshold, targets > 0.5
    tp = (found & wanted).sum(axis=0).astype(np.float64)
    return f1_of_counts(classes, tp, found.sum(axis=0) - tp, wanted.sum(axis=0))
