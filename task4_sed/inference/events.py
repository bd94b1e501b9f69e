"""Events out of frame scores: median filter, one or two thresholds, gaps, shortest length; or bounding boxes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from common.run.errors import UserError
from common.run.files import read_rows
from task4_sed.data.annotations import Event
from task4_sed.inference.labels import Names
from task4_sed.inference.postprocess.csebbs import CsebbsParameters, csebbs
from task4_sed.metrics.filters import running_median
from task4_sed.metrics.types import ScoreSet

MEDIAN_SECONDS = 0.36  # 9 frames of 40 ms
PUBLISHED_THRESHOLDS = (0.1, 0.2, 0.5)
_CLOSE = 1e-9  # seconds: rounding of sums of frames
Parameters = CsebbsParameters | Mapping[str, CsebbsParameters]


@dataclass(frozen=True)
class Detection(Event):
    """An event in a recording. confidence, peak: mean and highest score between onset and offset.

    mid: of AudioSet's classes; threshold: where events of several are listed.
    """

    peak: float = 0.0
    mid: str | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Rule:
    """When the scores of a class are an event; lengths in seconds.

    Filtered by a running median, it is where they stay above `low` (None: the threshold) and get above the threshold;
    events at most `gap` apart are one; then those shorter than `min_duration` are left out.
    """

    threshold: float = 0.2
    low: float | None = None
    median: float = MEDIAN_SECONDS
    min_duration: float = 0.0
    gap: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise UserError(f"--threshold is {self.threshold:g}, expected 0 to 1")
        if self.low is not None and not 0 <= self.low <= self.threshold:
            raise UserError(f"--low is {self.low:g}, expected 0 to the threshold, {self.threshold:g}")
        for name in ("median", "min_duration", "gap"):
            if not 0 <= (value := getattr(self, name)) < float("inf"):
                raise UserError(f"--{name.replace('_', '-')} is {value:g}, expected seconds of at least 0")


def read_rules(path: Path, rule: Rule, classes: Sequence[str], mids: Sequence[str] | None) -> dict[str, Rule]:
    """{class: its rule} of a table: event_label (name or MID) and any of Rule's fields; `rule` where it has none.

    Raises UserError with file and line for unknown classes and columns, and for values out of range.
    """
    known, names = [field.name for field in fields(Rule)], Names(classes, mids)
    rules = dict.fromkeys(classes, rule)
    seen: set[str] = set()
    rows = read_rows(path, ("event_label",))
    for row in rows:
        if other := set(row) - {"event_label", *known}:
            raise UserError(f"{path}:1: unknown column {min(other)!r}, expected event_label, {', '.join(known)}")
        name = classes[names.find(row["event_label"], row.at)]
        if name in seen:
            raise UserError(f"{row.at}: class {name!r} is listed twice")
        seen.add(name)
        given = {key: row.number(key) for key in known if row.get(key, "").strip()}
        try:
            rules[name] = replace(rule, **given)
        except UserError as error:
            raise UserError(f"{row.at}: {str(error).removeprefix('--')}") from None
    if not rows:
        raise UserError(f"{path}: no rows, expected one per class")
    return rules


def runs_of(scores: np.ndarray, rule: Rule, frame_seconds: float) -> list[tuple[int, int]]:
    """Events of filtered scores (frames,): (first frame, the one after the last)."""
    active = scores > (rule.threshold if rule.low is None else rule.low)
    borders = np.flatnonzero(np.diff(active, prepend=False, append=False))
    starts, stops = borders[::2], borders[1::2]
    if rule.low is not None and len(starts):
        peaks = np.maximum.reduceat(scores, borders[:-1] if stops[-1] == len(scores) else borders)[::2]
        starts, stops = starts[peaks > rule.threshold], stops[peaks > rule.threshold]
    apart = (starts[1:] - stops[:-1]) * frame_seconds > rule.gap + _CLOSE
    starts, stops = starts[np.append(True, apart)[: len(starts)]], stops[np.append(apart, True)[: len(stops)]]
    long = (stops - starts) * frame_seconds >= rule.min_duration - _CLOSE
    return list(zip(starts[long].tolist(), stops[long].tolist(), strict=True))


def detections(
    scores: np.ndarray, names: Sequence[str], rules: Mapping[str, Rule], frame_seconds: float, end: float
) -> list[Detection]:
    """Events of scores (frames, classes), probabilities; times are cut at the recording's end, seconds."""
    lengths = np.array([max(1, round(rules[name].median / frame_seconds)) for name in names])
    rows, found = scores.T.copy(), []
    for length in np.unique(lengths).tolist():
        rows[lengths == length] = running_median(rows[lengths == length], length)
    for name, row in zip(names, rows, strict=True):
        for start, stop in runs_of(row, rules[name], frame_seconds):
            on, off = (round(min(frame * frame_seconds, end), 3) for frame in (start, stop))
            mean, peak = (round(float(of(row[start:stop])), 4) for of in (np.mean, np.max))
            found.append(Detection(on, off, name, mean, peak))
    return found


def events_of(scores: ScoreSet, parameters: Parameters, threshold: float) -> list[Detection]:
    """Boxes of the single clip of `scores` with at least the given confidence, by onset."""
    (clip,) = scores.clips.values()
    found = []
    for label, of_class in csebbs(scores, parameters).items():
        kept, column = of_class.confidence >= threshold, clip.scores[:, scores.classes.index(label)]
        times = zip(of_class.onset[kept].tolist(), of_class.offset[kept].tolist(), strict=True)
        for (on, off), value in zip(times, of_class.confidence[kept].tolist(), strict=True):
            first = np.searchsorted(clip.edges, on + _CLOSE, side="right") - 1
            peak = column[first : max(first + 1, int(np.searchsorted(clip.edges, off - _CLOSE)))].max()
            found.append(Detection(round(on, 3), round(off, 3), label, round(value, 4), round(float(peak), 4)))
    return sorted(found, key=lambda e: (e.onset, e.label))
