"""Events and figures as HEAR takes them, for DCASE 2016 Task 2 and MAESTRO: Turian et al. 2022, section 3."""

from collections.abc import Mapping, Sequence

import numpy as np

from task4_sed.metrics.f1 import matching_size
from task4_sed.metrics.filters import running_median

Interval = tuple[float, float]
# {file: {class: (onset, offset) in seconds}}; every file of the references is there.
Events = Mapping[str, Mapping[str, Sequence[Interval]]]
# Figures by name: seconds that an onset may be away, and the share of its length that an offset may be away, if any.
ONSETS: dict[str, tuple[float, float | None]] = {
    "onset_200ms": (0.2, None),
    "onset_50ms": (0.05, None),
    "onset_offset_50ms": (0.05, 0.2),
}


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


def event_counts(found: Events, truth: Events, collar: float = 0.2, share: float | None = None) -> np.ndarray:
    """(files, 3): events that are found, events given, events of the truth; in the order of `truth`.

    An event is found by an onset at most `collar` s away and, with `share`, an offset at most the greater of `collar`
    and that share of its length away. The largest number of pairs, each event in one at most: as sed_eval with optimal
    matching, Mesaros et al. 2016.
    """
    counts = np.zeros((len(truth), 3), dtype=np.int64)
    for row, (file, classes) in zip(counts, truth.items(), strict=True):
        for name in {*classes, *found.get(file, {})}:
            given, expected = (list(of.get(file, {}).get(name, ())) for of in (found, truth))
            row += _matched(given, expected, collar, share), len(given), len(expected)
    return counts


def f1_of(counts: np.ndarray) -> tuple[float, float, float]:
    """F1, precision and recall from `event_counts` summed over files (3,)."""
    hits, given, expected = counts.tolist()
    return 2 * hits / max(given + expected, 1), hits / max(given, 1), hits / max(expected, 1)


def onset_f1(found: Events, truth: Events, collar: float = 0.2) -> tuple[float, float, float]:
    """F1, precision and recall over all files and classes, offsets ignored; see `event_counts`."""
    return f1_of(event_counts(found, truth, collar).sum(axis=0))


def hear_figures(found: Events, truth: Events) -> dict[str, float]:
    """F1 of each of ONSETS, and the error rate in segments of one second."""
    figures = {name: f1_of(event_counts(found, truth, *how).sum(axis=0))[0] for name, how in ONSETS.items()}
    return figures | {"segment_error_rate": segment_error_rate(found, truth)}


def _matched(given: list[Interval], expected: list[Interval], collar: float, share: float | None) -> int:
    if share is None:
        first, second = (np.sort([onset for onset, _ in of]) for of in (given, expected))
        return _pairs(first, second, collar)
    (on, off), (onset, offset) = (np.array(of, dtype=np.float64).reshape(-1, 2).T for of in (given, expected))
    near = np.abs(off[:, None] - offset) <= np.maximum(collar, share * (offset - onset))
    near &= np.abs(on[:, None] - onset) <= collar
    return matching_size(np.argwhere(near).tolist())


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
