"""Polyphonic sound detection score: exact over all thresholds, or over given operating points.

Definition: Bilen et al., ICASSP 2020; over all thresholds: Ebbers et al., ICASSP 2022. Statistics of a set of clips
are computed once, as steps per clip at the scores where a count changes; scores for any weighting of the clips
(folds, bootstrap) then only need cumulative sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from task4_sed.metrics.detections import Detections
from task4_sed.metrics.truth import CLIP_STRIDE, MICROSECONDS, Truth

SECONDS_PER_HOUR = 3600.0
ORIGIN = np.zeros(1)


@dataclass(frozen=True)
class PsdsParameters:
    """Detection and ground-truth tolerance, cross-trigger tolerance (None: not counted), weights, false positives/h.

    alpha_ct weighs cross triggers, alpha_st the standard deviation over classes; max_efpr: effective false positives an
    hour. PSDS1 and PSDS2 are those of DCASE 2024 Task 4.
    """

    dtc: float = 0.7
    gtc: float = 0.7
    cttc: float | None = None
    alpha_ct: float = 0.0
    alpha_st: float = 1.0
    max_efpr: float = 100.0


PSDS1 = PsdsParameters()
PSDS2 = PsdsParameters(dtc=0.1, gtc=0.1, cttc=0.3, alpha_ct=0.5)


@dataclass(frozen=True)
class ClassSteps:
    """Changes of the counts of one class as the threshold falls, sorted by falling value.

    clip: (steps,) index; tp, fp: (steps,) change; ct: (steps, classes) or None; last: (values,) index of the last step
    of each distinct value; value: (values,) the scores.
    """

    clip: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    ct: np.ndarray | None
    last: np.ndarray
    value: np.ndarray


@dataclass(frozen=True)
class PsdsStatistics:
    """What `psds` needs: steps of each class; durations (clips,), event counts and seconds (clips, classes)."""

    parameters: PsdsParameters
    classes: tuple[str, ...]
    steps: tuple[ClassSteps, ...]
    durations: np.ndarray
    event_counts: np.ndarray
    event_seconds: np.ndarray


@dataclass(frozen=True)
class Curve:
    """A PSD-ROC: true positive rate against effective false positives per hour, both (points,), as a staircase."""

    efpr: np.ndarray
    tpr: np.ndarray

    def area(self, max_efpr: float) -> float:
        """Area under the staircase from 0 to `max_efpr`, divided by it."""
        ends = np.concatenate((self.efpr[1:], [max_efpr]))
        return float((self.tpr * (ends - self.efpr)).sum() / max_efpr)


@dataclass(frozen=True)
class PsdsResult:
    """The score, the curve it is the area of, and the same for each class alone (without the variance penalty)."""

    value: float
    curve: Curve
    single_class_curves: dict[str, Curve]
    max_efpr: float

    @cached_property
    def single_class(self) -> dict[str, float]:
        """The score of each class alone."""
        return {name: curve.area(self.max_efpr) for name, curve in self.single_class_curves.items()}

    @property
    def mean_of_classes(self) -> float:
        """Mean of the single-class scores."""
        return float(np.mean(list(self.single_class.values())))


def covered_time(times: np.ndarray, onset: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Total microseconds of sorted, disjoint events (keys) before each of `times` (keys)."""
    if not len(onset):
        return np.zeros(len(times), dtype=np.int64)
    borders = np.stack((onset, offset), axis=1).reshape(-1)
    before = np.repeat(np.cumsum(offset - onset), 2)
    before[::2] -= offset - onset
    at = np.searchsorted(borders, times, side="right") - 1
    inside = (at & 1 == 0) & (at >= 0)
    return np.where(at >= 0, before[at], 0) + np.where(inside, times - borders[at], 0)


def event_steps(
    event: np.ndarray, amount: np.ndarray, born: np.ndarray, dies: np.ndarray, needed: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where events become, or stop being, true positives as the threshold falls.

    Each pair (event, detection) adds `amount` for thresholds in (dies, born]; an event counts while its sum is at
    least `needed[event]` (> 0). Returns event, value and change (+1 or -1) of every change.
    """
    ends = dies > -np.inf
    event = np.concatenate((event, event[ends]))
    value = np.concatenate((born, dies[ends]))
    amount = np.concatenate((amount, -amount[ends]))
    order = np.lexsort((-value, event))
    event, value, amount = event[order], value[order], amount[order]
    if not len(event):
        return event, value, amount
    new_event = np.append(True, event[1:] != event[:-1])
    total = np.cumsum(amount)
    starts = np.flatnonzero(new_event)
    before = np.append(0, total[starts[1:] - 1])
    total = total - np.repeat(before, np.diff(np.append(starts, len(event))))
    group_end = np.append((event[1:] != event[:-1]) | (value[1:] != value[:-1]), True)
    event, value, total = event[group_end], value[group_end], total[group_end]
    counts = (total >= needed[event]).astype(np.int64)
    previous = np.append(0, counts[:-1])
    previous[np.append(True, event[1:] != event[:-1])] = 0
    change = counts - previous
    changed = change != 0
    return event[changed], value[changed], change[changed]


def overlapping_pairs(
    onset: np.ndarray, offset: np.ndarray, event_onset: np.ndarray, event_offset: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Indices (pairs,) of detections and of the sorted, disjoint events that they overlap."""
    first = np.searchsorted(event_offset, onset, side="right")
    last = np.searchsorted(event_onset, offset, side="left")
    return expand_ranges(first, last)


def expand_ranges(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each i the pairs (i, first[i]), ..., (i, last[i] - 1)."""
    count = np.maximum(last - first, 0)
    row = np.repeat(np.arange(len(first)), count)
    within = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    return row, first[row] + within


def _seconds(key: np.ndarray) -> np.ndarray:
    """Seconds within the clip, in floating point, of keys."""
    return (key % CLIP_STRIDE) / MICROSECONDS


def _relevant(found: Detections, onset: np.ndarray, offset: np.ndarray, dtc: float, ratios: bool) -> np.ndarray:
    """Which detections (n,) lie inside the events of their class to the tolerated part."""
    if not ratios:
        covered = covered_time(found.times, onset, offset)
        return covered[found.stop] - covered[found.start] >= np.rint(dtc * (found.offset - found.onset))
    row, _, amount = _overlaps(found, onset, offset, ratios)
    length = _seconds(found.offset) - _seconds(found.onset)
    return np.bincount(row, weights=amount / length[row], minlength=len(length)) >= dtc


def _overlaps(
    found: Detections, onset: np.ndarray, offset: np.ndarray, in_seconds: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of overlapping detections and events: their indices and the overlap, in microseconds or seconds."""
    row, event = overlapping_pairs(found.onset, found.offset, onset, offset)
    start, stop = np.maximum(found.onset[row], onset[event]), np.minimum(found.offset[row], offset[event])
    return row, event, _seconds(stop) - _seconds(start) if in_seconds else stop - start


def _true_positives(
    found: Detections, onset: np.ndarray, offset: np.ndarray, gtc: float, ratios: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Changes (event, value, +-1): where events are covered by relevant detections to the tolerated part."""
    row, event, amount = _overlaps(found, onset, offset, ratios)
    born, dies = found.born[row], found.dies[row]
    if not ratios:
        # An event is never found by nothing, however small its tolerated part is (those of length 0: `_instants`).
        needed = np.maximum(np.rint(gtc * (offset - onset)), 1)
        return event_steps(event, amount, born, dies, needed)
    # Each detection is there at one operating point only: add up per event and point.
    order = np.lexsort((born, event))
    row, event, amount, born, dies = row[order], event[order], amount[order], born[order], dies[order]
    if not len(event):
        return event, born, event
    new = np.flatnonzero(np.append(True, (event[1:] != event[:-1]) | (born[1:] != born[:-1])))
    length = np.maximum(_seconds(offset) - _seconds(onset), 1 / MICROSECONDS)
    hit = np.add.reduceat(amount / length[event], new) >= gtc
    event, born, dies = event[new][hit], born[new][hit], dies[new][hit]
    ends = dies > -np.inf
    change = np.concatenate((np.ones(len(event), np.int64), -np.ones(int(ends.sum()), np.int64)))
    return np.concatenate((event, event[ends])), np.concatenate((born, dies[ends])), change


def _instants(
    found: Detections, event_clip: np.ndarray, onset: np.ndarray, offset: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Changes (event, value, +-1) of events of length 0: found while their class is detected anywhere in the clip.

    No part of them can be missing, which is how sed_scores_eval counts them.
    """
    instant = np.flatnonzero(onset == offset)
    order = np.argsort(found.clip, kind="stable")
    clip = found.clip[order]
    row, at = expand_ranges(*(np.searchsorted(clip, event_clip[instant], side=side) for side in ("left", "right")))
    one = np.ones(len(onset), np.int64)
    return event_steps(instant[row], np.ones(len(row), np.int64), found.born[order[at]], found.dies[order[at]], one)


def _cross_triggers(label: int, false: Detections, truth: Truth, cttc: float, ratios: bool) -> np.ndarray:
    """Which false detections (n, classes) lie inside the events of another class to the tolerated part."""
    triggers = np.zeros((len(false.clip), len(truth.classes)), dtype=np.int32)
    for other in range(len(truth.classes)):
        if other != label:
            triggers[:, other] = _relevant(false, *truth.of_class(other)[1:], cttc, ratios)
    return triggers


def class_steps(
    label: int, found: Detections, truth: Truth, parameters: PsdsParameters, ratios: bool = False
) -> ClassSteps:
    """The steps of one class; as `psds_statistics`."""
    event_clip, onset, offset = truth.of_class(label)
    relevant = _relevant(found, onset, offset, parameters.dtc, ratios)
    steps = (
        _true_positives(found.select(relevant), onset, offset, parameters.gtc, ratios),
        _instants(found, event_clip, onset, offset),
    )
    event, tp_value, tp_change = (np.concatenate(of) for of in zip(*steps, strict=True))
    false = found.select(~relevant)
    ends = false.dies > -np.inf
    fp_change = np.concatenate((np.ones(len(ends), np.int32), -np.ones(int(ends.sum()), np.int32)))
    triggers = None
    if parameters.cttc is not None and parameters.alpha_ct:
        of_false = _cross_triggers(label, false, truth, parameters.cttc, ratios)
        triggers = np.concatenate((np.zeros((len(event), of_false.shape[1]), np.int32), of_false, -of_false[ends]))
    return _steps(
        clip=np.concatenate((event_clip[event], false.clip, false.clip[ends])),
        value=np.concatenate((tp_value, false.born, false.dies[ends])),
        tp=np.concatenate((tp_change.astype(np.int32), np.zeros(len(fp_change), np.int32))),
        fp=np.concatenate((np.zeros(len(event), np.int32), fp_change)),
        ct=triggers,
    )


def _steps(clip: np.ndarray, value: np.ndarray, tp: np.ndarray, fp: np.ndarray, ct: np.ndarray | None) -> ClassSteps:
    """Sort the changes by falling value and add up those of one clip at one value; most of them cancel out."""
    order = np.lexsort((clip, -value))
    clip, value = clip[order], value[order]
    new = np.append(True, (value[1:] != value[:-1]) | (clip[1:] != clip[:-1])) if len(clip) else np.zeros(0, bool)
    starts = np.flatnonzero(new)
    if len(starts):
        tp, fp = np.add.reduceat(tp[order], starts), np.add.reduceat(fp[order], starts)
        ct = None if ct is None else np.add.reduceat(ct[order], starts, axis=0)
    clip, value = clip[starts], value[starts]
    kept = (tp != 0) | (fp != 0)
    if ct is not None:
        kept |= (ct != 0).any(axis=1)
    clip, value = clip[kept], value[kept]
    tp, fp = tp[kept].astype(np.float64), fp[kept].astype(np.float64)  # floats: weighted many times
    ct = None if ct is None else ct[kept].astype(np.float64)
    last = np.flatnonzero(np.append(value[1:] != value[:-1], True)) if len(value) else np.zeros(0, np.int64)
    return ClassSteps(clip, tp, fp, ct, last, value[last])


def psds_statistics(
    detections: Sequence[Detections], truth: Truth, parameters: PsdsParameters, ratios: bool = False
) -> PsdsStatistics:
    """Statistics of detections (one per class of `truth`) over all thresholds at which they differ.

    Overlaps are compared in whole microseconds, as sed_scores_eval does. `ratios`: as quotients in floating point, as
    psds_eval does; only for detections that are there at one operating point each. An overlap of exactly the tolerated
    part then counts or not as the last digit falls.
    """
    steps = tuple(class_steps(label, found, truth, parameters, ratios) for label, found in enumerate(detections))
    return PsdsStatistics(parameters, truth.classes, steps, truth.durations, truth.counts(), truth.seconds())


def single_class_curve(
    steps: ClassSteps,
    label: int,
    parameters: PsdsParameters,
    weights: np.ndarray | None,
    hours: float,
    event_count: np.ndarray,
    event_hours: np.ndarray,
) -> Curve:
    """The curve of one class of the clips, each counted `weights` times, which last `hours` then.

    event_count, event_hours: (classes,) events, and how long they last.
    """
    weight = None if weights is None else weights[steps.clip]

    def accumulated(change: np.ndarray) -> np.ndarray:
        return np.cumsum(change if weight is None else change * weight, dtype=np.float64)[steps.last]

    tpr = accumulated(steps.tp) / max(event_count[label], 1)
    efpr = accumulated(steps.fp) / hours
    if steps.ct is not None and len(event_hours) > 1:
        # A class without events has no cross triggers; its rate is 0.
        others = np.divide(1.0, event_hours, out=np.zeros(len(event_hours)), where=event_hours > 0)
        others[label] = 0.0
        efpr = efpr + parameters.alpha_ct * accumulated(steps.ct @ others) / (len(event_hours) - 1)
        efpr[np.abs(efpr) < 1e-9] = 0.0  # sums of fractions that cancel out
    kept = efpr <= parameters.max_efpr
    # First: the infinite threshold. np.append would take half of the time of a bootstrap's many short curves.
    tpr, efpr = np.concatenate((ORIGIN, tpr[kept])), np.concatenate((ORIGIN, efpr[kept]))
    order = np.lexsort((tpr, efpr))
    tpr, efpr = np.maximum.accumulate(tpr[order]), efpr[order]
    last = np.ones(len(efpr), dtype=bool)
    np.not_equal(efpr[1:], efpr[:-1], out=last[:-1])
    return Curve(efpr[last], tpr[last])


def psds(statistics: PsdsStatistics, clip_weights: np.ndarray | None = None) -> PsdsResult:
    """PSDS of the clips, each counted `clip_weights` times ((clips,), default once).

    A class without events among the weighted clips has a true positive rate of 0, as in sed_scores_eval. Bilen et al.
    2020, over all thresholds: Ebbers et al. 2022.
    """
    parameters = statistics.parameters
    weights = clip_weights
    ones = np.ones(len(statistics.durations)) if weights is None else weights
    hours = float(ones @ statistics.durations) / SECONDS_PER_HOUR
    event_count, event_hours = ones @ statistics.event_counts, ones @ statistics.event_seconds / SECONDS_PER_HOUR
    curves = [
        single_class_curve(steps, label, parameters, weights, hours, event_count, event_hours)
        for label, steps in enumerate(statistics.steps)
    ]
    return joined(statistics.classes, curves, parameters)


def joined(classes: Sequence[str], curves: Sequence[Curve], parameters: PsdsParameters) -> PsdsResult:
    """The score that the curves of the single classes give together."""
    efpr = np.unique(np.concatenate([curve.efpr for curve in curves]))
    rates = np.stack([c.tpr[np.searchsorted(c.efpr, efpr, side="right") - 1] for c in curves])
    effective = np.maximum(rates.mean(axis=0) - parameters.alpha_st * rates.std(axis=0), 0.0)
    curve = Curve(efpr, effective)
    by_class = dict(zip(classes, curves, strict=True))
    return PsdsResult(curve.area(parameters.max_efpr), curve, by_class, parameters.max_efpr)
