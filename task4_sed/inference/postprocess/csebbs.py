"""cSEBBs: sound event bounding boxes by change detection (Ebbers et al., Interspeech 2024).

A step filter slides over the scores of a class; between a local maximum of its output and the following local minimum
lies an event. Events with a small dip between them are merged. A box is an event with its mean score as confidence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.run.errors import UserError, did_you_mean
from common.run.files import read_rows, write_rows
from task4_sed.metrics.detections import Detections, detections_of_intervals
from task4_sed.metrics.maestro import second_means
from task4_sed.metrics.types import TIME_DECIMALS, ClipScores, ScoreSet, clip_name

CSEBBS_FILE = "csebbs.tsv"  # of a run: its tuned parameters
# Break points closer than this are one; frames that reach into a segment by less are not part of it.
_CLOSE = 1e-7
# The filter output is compared after rounding: on plateaus of equal scores only rounding noise would differ.
_DELTA_DECIMALS = 12
_SCORE_FLOOR = 1e-3
_LENGTH_FLOOR = 1e-6


@dataclass(frozen=True)
class CsebbsParameters:
    """Length of the step filter in seconds, absolute and relative merge threshold (inf: not used)."""

    filter_seconds: float = 0.5
    merge_abs: float = 1.0
    merge_rel: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.filter_seconds < np.inf or not self.merge_abs >= 0 or not self.merge_rel >= 0:
            raise UserError(
                f"cSEBBs: filter={self.filter_seconds:g},abs={self.merge_abs:g},rel={self.merge_rel:g}, expected a "
                "filter length above 0 s and thresholds of at least 0 (inf: not used)"
            )


@dataclass(frozen=True)
class Boxes:
    """Boxes of one class, sorted by clip and onset, disjoint within a clip.

    clip: (n,) index into the clips that were given; onset, offset: (n,) seconds; confidence: (n,).
    """

    clip: np.ndarray
    onset: np.ndarray
    offset: np.ndarray
    confidence: np.ndarray

    def detections(self) -> Detections:
        """The boxes as detections that are there for every threshold up to their confidence."""
        return detections_of_intervals(self.clip, self.onset, self.offset, self.confidence)


@dataclass(frozen=True)
class ChangeSegments:
    """Events of one class before merging, sorted by clip and time; what merging needs to know.

    clip: (n,) index; onset, offset: (n,) seconds; at_onset, at_offset: (n,) integral of the score up to there;
    highest: (n,) largest score; gap_lowest: (n,) smallest score before the next event of the clip, -inf after the last.
    """

    clip: np.ndarray
    onset: np.ndarray
    offset: np.ndarray
    at_onset: np.ndarray
    at_offset: np.ndarray
    highest: np.ndarray
    gap_lowest: np.ndarray


def _break_points(edges: np.ndarray, filter_seconds: float) -> np.ndarray:
    """0 and all times up to the end at which the filter's output can turn."""
    half = filter_seconds / 2
    candidates = np.unique(np.round(np.concatenate((edges, edges - half, edges + half)), 8))
    points = [0.0]
    for point in candidates[(candidates > 0) & (candidates <= np.round(edges[-1], 8))].tolist():
        if point - points[-1] >= _CLOSE:
            points.append(point)
    return np.array(points)


class _Integral:
    """Integral of scores (clips, frames) over time, at any times; the scores are 0 outside the frames."""

    def __init__(self, edges: np.ndarray, scores: np.ndarray) -> None:
        self.edges, self.scores = edges, scores
        self.sums = np.zeros((len(scores), len(edges)))
        np.cumsum(scores * np.diff(edges), axis=1, out=self.sums[:, 1:])

    def at(self, times: np.ndarray) -> np.ndarray:
        times = np.clip(times, self.edges[0], self.edges[-1])
        frame = np.clip(np.searchsorted(self.edges, times, side="right") - 1, 0, self.scores.shape[1] - 1)
        return self.sums[:, frame] + self.scores[:, frame] * (times - self.edges[frame])


def _extreme(
    reduction: np.ufunc, scores: np.ndarray, row: np.ndarray, start: np.ndarray, stop: np.ndarray
) -> np.ndarray:
    """Minimum or maximum of scores[row, start:stop] for many rows and ranges (n,)."""
    if not len(row):
        return np.empty(0)
    flat = np.append(scores.reshape(-1), 0.0)
    frames = scores.shape[1]
    ranges = np.stack((row * frames + start, row * frames + stop), axis=1).reshape(-1)
    return reduction.reduceat(flat, ranges)[::2]


def _segments_on_grid(edges: np.ndarray, scores: np.ndarray, filter_seconds: float) -> ChangeSegments:
    """Change segments of scores (clips, frames) that share their frame borders."""
    points = _break_points(edges, filter_seconds)
    integral = _Integral(edges, scores)
    at_points = integral.at(points)
    half = filter_seconds / 2
    delta = (integral.at(points + half) - 2 * at_points + integral.at(points - half)) / half
    rising = np.diff(np.round(delta, _DELTA_DECIMALS), axis=1) > 0
    # An onset where the output stops rising (or doesn't rise at first), an offset where it begins to rise again.
    begins = np.zeros(delta.shape, dtype=bool)
    begins[:, 0] = ~rising[:, 0]
    begins[:, 1:-1] = rising[:, :-1] & ~rising[:, 1:]
    ends = np.zeros(delta.shape, dtype=bool)
    ends[:, 1:-1] = ~rising[:, :-1] & rising[:, 1:]
    ends[:, -1] = ~rising[:, -1]
    row, on = np.nonzero(begins)
    _, off = np.nonzero(ends)
    first_frame = np.maximum(np.searchsorted(edges, points + _CLOSE, side="right") - 1, 0)
    past_frame = np.searchsorted(edges, points - _CLOSE, side="left")
    highest = _extreme(np.maximum, scores, row, first_frame[on], past_frame[off])
    followed = np.flatnonzero(row[1:] == row[:-1])
    gap_lowest = np.full(len(row), -np.inf)
    gap_start, gap_stop = first_frame[off[followed]], past_frame[on[followed + 1]]
    gap_lowest[followed] = _extreme(np.minimum, scores, row[followed], gap_start, gap_stop)
    return ChangeSegments(row, points[on], points[off], at_points[row, on], at_points[row, off], highest, gap_lowest)


def score_grids(scores: ScoreSet, clips: Sequence[str], classes: Sequence[str]) -> list[tuple[np.ndarray, ...]]:
    """Clips grouped by their frame borders: (clip indices, edges, scores (classes, clips, frames)) of each group.

    Raises UserError for scores that are not finite (e.g. boxes) and ones below 0.
    """
    groups: dict[bytes, list[int]] = {}
    for i, name in enumerate(clips):
        groups.setdefault(np.ascontiguousarray(scores.clips[name].edges).tobytes(), []).append(i)
    columns = [scores.classes.index(name) for name in classes]
    grids: list[tuple[np.ndarray, ...]] = []
    for members in groups.values():
        stacked = np.stack([scores.clips[clips[i]].scores[:, columns] for i in members])
        if not np.isfinite(stacked).all() or stacked.min() < 0:
            raise UserError(f"{clips[members[0]]}: cSEBBs need frame-wise probabilities, found -inf or a score below 0")
        edges = scores.clips[clips[members[0]]].edges
        grids.append((np.array(members), edges, np.ascontiguousarray(stacked.transpose(2, 0, 1))))
    return grids


def change_segments(grids: Sequence[tuple[np.ndarray, ...]], label: int, filter_seconds: float) -> ChangeSegments:
    """Change segments of class index `label` over all groups of clips from `score_grids`."""
    parts = []
    for members, edges, stacked in grids:
        found = _segments_on_grid(edges, stacked[label], filter_seconds)
        parts.append((members[found.clip], *list(vars(found).values())[1:]))
    columns = [np.concatenate(part) for part in zip(*parts, strict=True)]
    order = np.lexsort((columns[1], columns[0]))
    return ChangeSegments(*(column[order] for column in columns))


def merge_segments(segments: ChangeSegments, merge_abs: float, merge_rel: float) -> Boxes:
    """Boxes: events with a gap between them that is not deep enough, on both sides, become one."""
    if not len(segments.clip):
        return Boxes(segments.clip, segments.onset, segments.offset, segments.onset)
    highest, lowest = segments.highest + _SCORE_FLOOR, segments.gap_lowest + _SCORE_FLOOR
    following = np.append(highest[1:], np.inf)
    with np.errstate(invalid="ignore", divide="ignore"):
        joined = (
            (lowest > 0)
            & (highest / lowest < merge_rel)
            & (following / lowest < merge_rel)
            & (highest - lowest < merge_abs)
            & (following - lowest < merge_abs)
        )
    last = np.flatnonzero(~joined)
    first = np.append(0, last[:-1] + 1)
    onset, offset = segments.onset[first], segments.offset[last]
    confidence = (segments.at_offset[last] - segments.at_onset[first]) / (offset - onset + _LENGTH_FLOOR)
    return Boxes(segments.clip[first], onset, offset, confidence)


def csebbs(
    scores: ScoreSet,
    parameters: CsebbsParameters | Mapping[str, CsebbsParameters],
    classes: Sequence[str] | None = None,
) -> dict[str, Boxes]:
    """Boxes of each of `classes` (default: all of the scores); clip indices follow the order of `scores.clips`.

    `parameters`: one setting for all classes or one per class. Raises UserError for a class without setting and for
    scores that are no probabilities.
    """
    classes = scores.classes if classes is None else tuple(classes)
    if isinstance(parameters, CsebbsParameters):
        parameters = dict.fromkeys(classes, parameters)
    for name in classes:
        if name not in parameters:
            raise UserError(f"cSEBBs: no parameters for class {name!r}{did_you_mean(name, parameters)}")
    grids = score_grids(scores, list(scores.clips), classes)
    boxes = {}
    for label, name in enumerate(classes):
        of_class = parameters[name]
        segments = change_segments(grids, label, of_class.filter_seconds)
        boxes[name] = merge_segments(segments, of_class.merge_abs, of_class.merge_rel)
    return boxes


def boxes_to_scores(boxes: Mapping[str, Boxes], ends: Mapping[str, float], outside: float = -np.inf) -> ScoreSet:
    """Scores with the confidence inside each box and `outside` elsewhere, from 0 to the end of each clip (seconds).

    `ends`: {clip: seconds} in the order of the boxes' clip indices.
    """
    names, classes = list(ends), tuple(boxes)
    of_clip: list[list[tuple[float, float, int, float]]] = [[] for _ in names]
    for label, of_class in enumerate(boxes.values()):
        onset, offset = np.round(of_class.onset, TIME_DECIMALS), np.round(of_class.offset, TIME_DECIMALS)
        for clip, on, off, value in zip(
            of_class.clip.tolist(), onset.tolist(), offset.tolist(), of_class.confidence.tolist(), strict=True
        ):
            of_clip[clip].append((on, off, label, value))
    clips = {}
    for name, listed in zip(names, of_clip, strict=True):
        borders = {0.0, round(ends[name], TIME_DECIMALS)}.union(*((on, off) for on, off, _, _ in listed))
        edges = np.array(sorted(borders))
        values = np.full((len(edges) - 1, len(classes)), outside)
        for on, off, label, value in listed:
            values[np.searchsorted(edges, on) : np.searchsorted(edges, off), label] = value
        clips[name] = ClipScores(edges, values)
    return ScoreSet(classes, clips)


def combine_with_second_means(boxes: Mapping[str, Boxes], scores: ScoreSet) -> ScoreSet:
    """One table per clip: boxes where a class has them (0 outside), means over each second for all other classes.

    `scores`: frame-wise, whose clips the boxes' indices follow; its column order is kept. The borders are those of the
    boxes and of the seconds.
    """
    ends = {name: float(clip.edges[-1]) for name, clip in scores.clips.items()}
    boxed = boxes_to_scores(boxes, ends, outside=0.0)
    clips = {}
    for name, clip in scores.clips.items():
        means = second_means(clip, ends[name])
        seconds = np.append(np.arange(len(means), dtype=np.float64), ends[name])
        edges = np.unique(np.round(np.concatenate((seconds, boxed.clips[name].edges)), TIME_DECIMALS))
        values = means[np.searchsorted(seconds, edges[:-1], side="right") - 1]
        at_box = np.searchsorted(boxed.clips[name].edges, edges[:-1], side="right") - 1
        for label, class_name in enumerate(boxed.classes):
            values[:, scores.classes.index(class_name)] = boxed.clips[name].scores[at_box, label]
        clips[name] = ClipScores(edges, values)
    return ScoreSet(scores.classes, clips)


def read_parameters(path: str | Path) -> dict[str, CsebbsParameters]:
    """Parameters per class: columns event_label, step_filter_length, merge_threshold_abs, merge_threshold_rel."""
    keys = ("step_filter_length", "merge_threshold_abs", "merge_threshold_rel")
    parameters = {}
    for row in read_rows(path, ("event_label", *keys)):
        if row["event_label"] in parameters:
            raise UserError(f"{row.at}: class {row['event_label']!r} is listed twice")
        values = [np.inf if row[key] == "inf" else row.number(key) for key in keys]
        try:
            parameters[row["event_label"]] = CsebbsParameters(*values)
        except UserError as error:
            raise UserError(f"{row.at}: {error}") from None
    if not parameters:
        raise UserError(f"{path}: no rows, expected one per class")
    return parameters


def write_parameters(path: str | Path, parameters: Mapping[str, CsebbsParameters]) -> None:
    """Write parameters per class, in the form that `read_parameters` reads."""
    write_rows(
        path,
        ("event_label", "step_filter_length", "merge_threshold_abs", "merge_threshold_rel"),
        [(name, p.filter_seconds, p.merge_abs, p.merge_rel) for name, p in parameters.items()],
    )


def read_boxes(path: str | Path, clips: Sequence[str], classes: Sequence[str]) -> dict[str, Boxes]:
    """Boxes from a table (filename, onset, offset, event_label, confidence) of the given clips and classes."""
    index = {name: i for i, name in enumerate(clips)}
    rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in classes}
    for row in read_rows(path, ("filename", "onset", "offset", "event_label", "confidence")):
        if row["event_label"] not in rows:
            raise UserError(f"{row.at}: unknown class {row['event_label']!r}{did_you_mean(row['event_label'], rows)}")
        name = clip_name(row["filename"])
        if name not in index:
            raise UserError(f"{row.at}: unknown clip {name!r}")
        numbers = [row.number(key) for key in ("onset", "offset", "confidence")]
        if numbers[1] <= numbers[0]:
            raise UserError(f"{row.at}: offset {numbers[1]:g} is not after onset {numbers[0]:g}")
        rows[row["event_label"]].append((index[name], *numbers))
    boxes = {}
    for name, listed in rows.items():
        table = np.array(sorted(listed), dtype=np.float64).reshape(-1, 4)
        boxes[name] = Boxes(table[:, 0].astype(np.int64), table[:, 1], table[:, 2], table[:, 3])
    return boxes


def write_boxes(path: str | Path, boxes: Mapping[str, Boxes], clips: Sequence[str]) -> None:
    """Write boxes as a table, sorted by clip, class and onset; times and confidences with 6 decimals at most."""
    rows = [
        (clips[clip], label, onset, offset, name, confidence)
        for label, (name, b) in enumerate(boxes.items())
        for clip, onset, offset, confidence in zip(b.clip, b.onset, b.offset, b.confidence, strict=True)
    ]
    rows.sort(key=lambda row: row[:3])
    shown = [
        (f"{clip}.wav", f"{onset:.6f}", f"{offset:.6f}", name, f"{confidence:.6f}")
        for clip, _, onset, offset, name, confidence in rows
    ]
    write_rows(path, ("filename", "onset", "offset", "event_label", "confidence"), shown)
