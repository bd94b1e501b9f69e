"""The ground truth as arrays, with times in whole microseconds so that every comparison is exact."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from task4_sed.metrics.types import Event

MICROSECONDS = 1_000_000
# A moment of a clip as one sortable integer: clip index times this, plus microseconds (clips up to 12 days).
CLIP_STRIDE = 1 << 40


def to_microseconds(seconds: np.ndarray | Sequence[float]) -> np.ndarray:
    """Seconds rounded to whole microseconds, int64."""
    return np.rint(np.asarray(seconds, dtype=np.float64) * MICROSECONDS).astype(np.int64)


@dataclass(frozen=True)
class Truth:
    """Events of clips, sorted by class, clip and onset; events of one class in a clip neither touch nor overlap.

    clips, classes: names; durations: (clips,) seconds; clip, label: (events,) indices; onset, offset: (events,)
    microseconds.
    """

    clips: tuple[str, ...]
    classes: tuple[str, ...]
    durations: np.ndarray
    clip: np.ndarray
    label: np.ndarray
    onset: np.ndarray
    offset: np.ndarray

    def of_class(self, label: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Clip index, onset key and offset key of the events of a class; a key is clip * CLIP_STRIDE + microseconds."""
        first, last = np.searchsorted(self.label, (label, label + 1))
        clip = self.clip[first:last]
        return clip, clip * CLIP_STRIDE + self.onset[first:last], clip * CLIP_STRIDE + self.offset[first:last]

    def counts(self) -> np.ndarray:
        """Number of events (clips, classes)."""
        return self._sums(np.ones(len(self.clip)))

    def seconds(self) -> np.ndarray:
        """Total length of the events (clips, classes), seconds."""
        return self._sums((self.offset - self.onset) / MICROSECONDS)

    def _sums(self, values: np.ndarray) -> np.ndarray:
        shape = (len(self.clips), len(self.classes))
        flat = np.bincount(self.clip * shape[1] + self.label, weights=values, minlength=shape[0] * shape[1])
        return flat.reshape(shape)


def merge_intervals(intervals: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Sorted intervals, with those that touch or overlap made one."""
    merged: list[tuple[float, float]] = []
    for onset, offset in sorted(intervals):
        if merged and onset <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], offset))
        else:
            merged.append((onset, offset))
    return merged


def truth_arrays(
    events: Mapping[str, Sequence[Event]], durations: Mapping[str, float], classes: Sequence[str]
) -> Truth:
    """The events of `classes` of the clips in `durations`, in that order of clips.

    Touching or overlapping events of a class are merged; events of other classes and clips are left out.
    """
    of_class: list[list[tuple[int, int, int]]] = [[] for _ in classes]
    column = {name: label for label, name in enumerate(classes)}
    for clip, name in enumerate(durations):
        by_label: dict[str, list[tuple[float, float]]] = {}
        for event in events.get(name, ()):
            interval = round(event.onset * MICROSECONDS), round(event.offset * MICROSECONDS)
            by_label.setdefault(event.label, []).append(interval)
        for class_name in by_label.keys() & column.keys():
            for onset, offset in merge_intervals(by_label[class_name]):
                of_class[column[class_name]].append((clip, int(onset), int(offset)))
    rows = [(label, *event) for label, listed in enumerate(of_class) for event in listed]
    table = np.array(rows, dtype=np.int64).reshape(-1, 4)
    return Truth(
        tuple(durations),
        tuple(classes),
        np.array(list(durations.values()), dtype=np.float64),
        clip=table[:, 1],
        label=table[:, 0],
        onset=table[:, 2],
        offset=table[:, 3],
    )
