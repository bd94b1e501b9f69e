"""Events and figures as HEAR takes them, for DCASE 2016 Task 2 and MAESTRO: Turian et al. 2022, section 3."""

from collections.abc import Mapping, Sequence

import numpy as np

from task4_sed.metrics.filters import running_median

Interval = tuple[float, float]
# {file: {class: (onset, offset) in seconds}}; every file of the references is there.
Events = Mapping[str, Mapping[str, Sequence[Interval]]]


def hear_events(
    scores: np.ndarray, times: np.ndarray, median_ms: float, min_ms: float, threshold: float = 0.5
) -> list[list[Interval]]:
    """Events of each class, seconds: scores (classes, frames) at frame centres (frames,) in ms, evenly spaced.

    Median filter, runs of frames above the threshold, from the centre of the first to that of the last one; kept if
    that is at least `min_ms`. HEAR gives probabilities; the published script of frame-level pre-training gives logits.
    """
    step = times[1] - times[0]
    active = running_median(scores, max(1, round(median_ms / step))) > threshold
    padded = np.pad(active.astype(np.int8), ((0, 0), (1, 1)))
    found: list[list[Interval]] = []
    for row in np.diff(padded, axis=1):
        starts, stops = times[np.flatnonzero(row == 1)], times[np.flatnonzero(row == -1) - 1]
        kept = stops - starts >= min_ms
        found.append([(on / 1000, off / 1000) for on, off in zip(starts[kept], stops[kept], strict=True)])
    return found


def onset_f1(found: Events, truth: Events, collar: float = 0.2) -> tuple[float, float, float]:
    """F1, precision and recall over all files and classes; an event is found by an onset at most `collar` s away.

    Of the largest number of pairs, each event in one at most. As sed_eval with evaluate_onset alone and optimal
    matching, Mesaros et al. 2016.
    """
    hits = 0
    for file, classes in truth.items():
        for name in {*classes, *found.get(file, {})}:
            first, second = (np.sort([on for on, _ in of.get(file, {}).get(name, ())]) for of in (found, truth))
            hits += _pairs(first, second, collar)
    given, expected = (sum(len(of) for file in side.values() for of in file.values()) for side in (found, truth))
    precision, recall = hits / max(given, 1), hits / max(expected, 1)
    return 2 * hits / max(given + expected, 1), precision, recall


def _pairs(first: np.ndarray, second: np.ndarray, collar: float) -> int:
    """The largest matching of sorted moments at most `collar` apart: always the earliest ones."""
    i = j = pairs = 0
    while i < len(first) and j < len(second):
        if abs(first[i] - second[j]) <= collar:
            i, j, pairs = i + 1, j + 1, pairs + 1
        elif first[i] < second[j]:
            i += 1
        else:
            j += 1
    return pairs


def segment_error_rate(found: Events, truth: Events, seconds: float = 1.0) -> float:
    """(substitutions + deletions + insertions) / reference segments of all files. Mesaros et al. 2016."""
    errors = references = 0
    for file, classes in truth.items():
        names = sorted({*classes, *found.get(file, {})})
        sides = [side.get(file, {}) for side in (found, truth)]
        last = max((off for side in sides for of in side.values() for _, off in of), default=0.0)
        flags = np.zeros((2, len(names), int(np.ceil(last / seconds))), dtype=bool)
        for number, side in enumerate(sides):
            for row, name in enumerate(names):
                for on, off in side.get(name, ()):
                    flags[number, row, int(on // seconds) : int(np.ceil(off / seconds))] = True
        missed, false = (flags[1] & ~flags[0]).sum(axis=0), (flags[0] & ~flags[1]).sum(axis=0)
        errors += int(np.maximum(missed, false).sum())
        references += int(flags[1].sum())
    return errors / max(references, 1)
