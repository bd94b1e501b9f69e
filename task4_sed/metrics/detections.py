"""Every detection that any threshold gives, each listed once with the range of thresholds at which it is there.

A class is active where its score >= v. As v falls through the distinct scores, runs of active frames appear, grow
and merge. A run [i, j] is there exactly for max(score[i-1], score[j+1]) < v <= min(score[i..j]), so a clip with n
frames has at most n different runs over all thresholds. Metrics that count detections become sums of steps at these
values instead of one pass per threshold (Ebbers et al., ICASSP 2022).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from task4_sed.metrics.truth import CLIP_STRIDE, to_microseconds
from task4_sed.metrics.types import ScoreSet

# Rows x frames that are worked on at a time: keeps the temporaries in the cache and short clips out of long padding.
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Detections:
    """Detections of one class, there for thresholds v with dies < v <= born.

    clip: (n,) index; times: sorted or not, any moments as keys clip * CLIP_STRIDE + microseconds; start, stop: (n,)
    indices into `times`; born, dies: (n,) float64.
    """

    clip: np.ndarray
    times: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    born: np.ndarray
    dies: np.ndarray

    @property
    def onset(self) -> np.ndarray:
        """Onset keys (n,)."""
        return self.times[self.start]

    @property
    def offset(self) -> np.ndarray:
        """Offset keys (n,)."""
        return self.times[self.stop]

    def select(self, chosen: np.ndarray) -> "Detections":
        """The detections that a boolean or index array (n,) chooses."""
        return Detections(
            self.clip[chosen], self.times, self.start[chosen], self.stop[chosen], self.born[chosen], self.dies[chosen]
        )

    def at(self, value: float) -> "Detections":
        """Those that are there where the score must be at least `value`, as if there were no other threshold."""
        there = self.select((self.born >= value) & (self.dies < value))
        constant = np.zeros(len(there.clip))
        return Detections(there.clip, there.times, there.start, there.stop, constant, constant - np.inf)

    def above(self, threshold: float) -> "Detections":
        """Those that are there where the score must exceed `threshold`."""
        return self.at(float(np.nextafter(threshold, np.inf)))


def _runs(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Runs of the rows of (rows, frames): row, first frame, last frame, born, dies.

    Frames are switched on from the highest score downwards, all rows side by side; each new frame joins the runs to
    its left and right. Of frames with equal scores only the last one gives a run with a range of thresholds.
    """
    rows, width = scores.shape[0], scores.shape[1] + 2
    padded = np.full((rows, width), -np.inf)
    padded[:, 1:-1] = scores
    order = np.argsort(-scores, axis=1, kind="stable").astype(np.int32)
    frames = int((scores > -np.inf).sum(axis=1).max(initial=0))  # that are ever on
    order = order[:, :frames]
    # Position p (1-based) of a run's end points to its other end; 0 where the frame is still off.
    other_end = np.zeros((rows, width), dtype=np.int32)
    flat = other_end.reshape(-1)
    base = np.arange(rows) * width
    firsts = np.empty((frames, rows), dtype=np.int32)
    lasts = np.empty((frames, rows), dtype=np.int32)
    for step in range(frames):
        position = order[:, step] + 1
        at = base + position
        left, right = flat[at - 1], flat[at + 1]
        first = np.where(left > 0, left, position)
        last = np.where(right > 0, right, position)
        flat[at] = position  # marks the frame as on; inside a run only the ends are read
        flat[base + first] = last
        flat[base + last] = first
        firsts[step], lasts[step] = first, last
    row = np.broadcast_to(np.arange(rows), (frames, rows)).reshape(-1)
    first, last = firsts.reshape(-1), lasts.reshape(-1)
    born = np.take_along_axis(scores, order, axis=1).T.reshape(-1)
    dies = np.maximum(padded[row, first - 1], padded[row, last + 1])
    real = born > dies
    return row[real], first[real] - 1, last[real] - 1, born[real], dies[real]


def detections_of_scores(scores: ScoreSet, clips: Sequence[str], classes: Sequence[str]) -> list[Detections]:
    """All detections of each of `classes` in `clips` (names), over all thresholds."""
    columns = [scores.classes.index(name) for name in classes]
    edges = [to_microseconds(scores.clips[name].edges) for name in clips]
    frames = np.array([len(of_clip) - 1 for of_clip in edges])
    first_edge = np.concatenate(([0], np.cumsum(frames + 1)))
    times = (
        np.concatenate([of_clip + i * CLIP_STRIDE for i, of_clip in enumerate(edges)]) if edges else np.empty(0, int)
    )
    by_length = np.argsort(frames, kind="stable")
    found: list[list[tuple[np.ndarray, ...]]] = [[] for _ in classes]
    start = 0
    while start < len(clips):
        # Clips of similar length, as many as a block holds.
        sizes = frames[by_length[start:]]
        many = sizes * np.arange(1, len(sizes) + 1) <= _BLOCK
        stop = start + max(1, int(many.sum()) if many.all() else int(np.argmin(many)))
        stop = min(stop, start + max(1, int((sizes <= max(2 * sizes[0], 64)).sum())))
        block = by_length[start:stop]
        padded = np.full((len(block), frames[block].max(), len(classes)), -np.inf)
        for i, clip in enumerate(block):
            padded[i, : frames[clip]] = scores.clips[clips[clip]].scores[:, columns]
        for label in range(len(classes)):
            row, first, last, born, dies = _runs(padded[:, :, label])
            clip = block[row]
            found[label].append((clip, first_edge[clip] + first, first_edge[clip] + last + 1, born, dies))
        start = stop
    result = []
    for parts in found:
        if not parts:
            parts = [(np.empty(0, int), np.empty(0, int), np.empty(0, int), np.empty(0), np.empty(0))]
        clip, first, last, born, dies = (np.concatenate(part) for part in zip(*parts, strict=True))
        result.append(Detections(clip, times, first, last, born, dies))
    return result


def detections_of_rows(scores: np.ndarray, clip: np.ndarray, edges: np.ndarray) -> Detections:
    """All detections of one class in clips of one length: scores (rows, frames), -inf where a frame is never on.

    clip: (rows,) index; edges: (frames + 1,) seconds.
    """
    row, first, last, born, dies = _runs(scores)
    start, at, steps = clip[row] * CLIP_STRIDE, to_microseconds(edges), np.arange(len(row))
    times = np.concatenate((start + at[first], start + at[last + 1]))
    return Detections(clip[row], times, steps, steps + len(row), born, dies)


def detections_of_intervals(
    clip: np.ndarray, onset: np.ndarray, offset: np.ndarray, born: np.ndarray, dies: np.ndarray | None = None
) -> Detections:
    """Detections of one class given as clip index, onset and offset in seconds (n,).

    `dies` -inf (the default): there at every threshold below `born`, as boxes with a confidence are.
    """
    start = clip * CLIP_STRIDE + to_microseconds(onset)
    stop = clip * CLIP_STRIDE + to_microseconds(offset)
    steps = np.arange(len(clip))
    dies = np.full(len(clip), -np.inf) if dies is None else dies
    return Detections(clip, np.concatenate((start, stop)), steps, steps + len(clip), born, dies)


def detections_at_points(
    points: Mapping[float, Mapping[tuple[str, str], Sequence[tuple[float, float]]]],
    clips: Sequence[str],
    classes: Sequence[str],
) -> list[Detections]:
    """Detections that are given per operating point: {threshold: {(clip, class): [(onset, offset), ...]}}, seconds."""
    index = {name: i for i, name in enumerate(clips)}
    thresholds = sorted(points)
    below = dict(zip(thresholds, [-np.inf, *thresholds], strict=False))
    result = []
    for class_name in classes:
        rows = [
            (index[clip], onset, offset, threshold, below[threshold])
            for threshold in thresholds
            for (clip, label), intervals in points[threshold].items()
            if label == class_name and clip in index
            for onset, offset in intervals
        ]
        table = np.array(rows, dtype=np.float64).reshape(-1, 5)
        result.append(
            detections_of_intervals(table[:, 0].astype(np.int64), table[:, 1], table[:, 2], table[:, 3], table[:, 4])
        )
    return result


def detections_above_thresholds(detections: Sequence[Detections], thresholds: Sequence[float]) -> list[Detections]:
    """The detections of scores at a few thresholds only (score > threshold), each an operating point of its own."""
    ordered = sorted(thresholds)
    result = []
    for of_class in detections:
        parts = []
        for threshold, below in zip(ordered, [-np.inf, *ordered], strict=False):
            there = of_class.above(threshold)
            count = len(there.clip)
            parts.append((there.clip, there.start, there.stop, np.full(count, threshold), np.full(count, below)))
        clip, start, stop, born, dies = (np.concatenate(part) for part in zip(*parts, strict=True))
        result.append(Detections(clip, of_class.times, start, stop, born, dies))
    return result
