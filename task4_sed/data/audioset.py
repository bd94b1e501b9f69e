"""AudioSet-strong: its classes, joined on their MIDs, and its tables (Hershey et al. 2021).

456 classes are labelled; models output the 447 that occur in the training labels, sorted by name; 416 occur in the
evaluation labels; the 407 that occur in both are scored. Names differ from those of the weak labels, MIDs do not.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.run.errors import UserError
from common.run.files import csv_lines, existing_file, read_rows
from task4_sed.data.annotations import Event
from task4_sed.data.labels import EventTable

FRAME_SECONDS = 0.04
FRAMES = 250  # of a clip
CLIP_SECONDS = 10.0
COLUMNS = ("segment_id", "start_time_seconds", "end_time_seconds", "label")
ID_LENGTH = 11  # of a YouTube id; the rest of a segment's id is where the excerpt starts, in ms
TOLERANCE = 0.1  # seconds that a label may end after the excerpt


class AudioSetClass(NamedTuple):
    """A labelled class: MID, name, whether it occurs in the training and in the evaluation labels."""

    mid: str
    name: str
    train: bool
    eval: bool


@cache
def audioset_classes() -> tuple[AudioSetClass, ...]:
    """All 456, sorted by name."""
    rows = read_rows(Path(__file__).with_name("audioset_classes.csv"), ("mid", "name", "labelled"))
    return tuple(AudioSetClass(r["mid"], r["name"], r["labelled"] != "eval", r["labelled"] != "train") for r in rows)


def output_classes() -> tuple[str, ...]:
    """Names of the 447 outputs of a model, in their order."""
    return tuple(of.name for of in audioset_classes() if of.train)


def scored_classes() -> tuple[str, ...]:
    """Names of the 407 classes that are scored."""
    return tuple(of.name for of in audioset_classes() if of.train and of.eval)


def clip_key(segment: str) -> str:
    """Name of a clip, "Y" and the YouTube id, of a segment `<id>_<start in ms>`."""
    return f"Y{segment[:ID_LENGTH]}"


@dataclass(frozen=True)
class StrongLabels:
    """Clips in the order of the table, each with at least one event; events by column of `classes`."""

    clips: tuple[str, ...]
    classes: tuple[str, ...]
    events: EventTable

    def chosen(self, clips: np.ndarray) -> "StrongLabels":
        """Some of the clips, by their positions, in that order."""
        return StrongLabels(tuple(self.clips[clip] for clip in clips), self.classes, self.events.chosen(clips))

    def by_clip(self) -> dict[str, list[Event]]:
        """{clip: events}, as the metrics take them."""
        events, found = self.events, {}
        for number, clip in enumerate(self.clips):
            of_clip = slice(events.start[number], events.start[number + 1])
            columns = (events.onset[of_clip], events.offset[of_clip], events.label[of_clip])
            rows = zip(*(column.tolist() for column in columns), strict=True)
            found[clip] = [Event(onset, offset, self.classes[label]) for onset, offset, label in rows]
        return found

    def targets(self, clips: np.ndarray) -> np.ndarray:
        """Frame targets (clips, classes, 250) float32 of some clips by their positions; a frame counts if touched."""
        return self.events.targets(clips, np.zeros(len(clips)), len(self.classes), FRAMES, FRAME_SECONDS)

    def log_odds(self) -> np.ndarray:
        """Of each class (classes,) in the frames of all clips; one frame more counts as active and as not active."""
        _, label, frames = self.events.active_frames(FRAMES, FRAME_SECONDS)
        active, total = np.bincount(label, frames, minlength=len(self.classes)), FRAMES * len(self.clips)
        return np.log((active + 1) / (total - active + 1))

    def balanced_weights(self) -> np.ndarray:
        """How often each clip (clips,) should be drawn: sum over classes of active frames x 1000 / (30 + those of all).

        From the table alone. Schmid et al. 2025.
        """
        clip, label, frames = self.events.active_frames(FRAMES, FRAME_SECONDS)
        total = np.bincount(label, frames, minlength=len(self.classes))
        return np.bincount(clip, frames * 1000.0 / (30.0 + total[label]), minlength=len(self.clips))


def read_strong_labels(
    path: str | Path, classes: Sequence[str] | None = None, own: Mapping[str, str] | None = None
) -> StrongLabels:
    """The released table (.tsv), or a .csv of the same columns: segment_id, start and end in seconds, label (a MID).

    Events of other classes than `classes` (default: the 447) and those of length 0 are left out, and clips without any
    other. own: {identifier: name} of classes beside AudioSet's; segment_id is the name of a clip then, whatever it is.
    Raises UserError, with file and line, for unknown MIDs, ids, times outside the excerpt and two excerpts of one
    recording.
    """
    chosen = tuple(output_classes() if classes is None else classes)
    column = {name: number for number, name in enumerate(chosen)}
    of_mid = {of.mid: column.get(of.name, -1) for of in audioset_classes()}
    of_mid |= {mid: column[name] for mid, name in (own or {}).items()}
    excerpts: dict[str, str] = {}
    position: dict[str, int] = {}
    clip, label, onset, offset = array("q"), array("h"), array("d"), array("d")
    for at, segment, start, end, mid in _rows(Path(path), own is None):
        if mid not in of_mid:
            raise UserError(f"{at}: unknown label {mid!r}, expected a MID of AudioSet-strong such as /m/09x0r")
        key = clip_key(segment) if own is None else segment
        if excerpts.setdefault(key, segment) != segment:
            raise UserError(f"{at}: {segment} and {excerpts[key]} are excerpts of one recording, expected one")
        if of_mid[mid] < 0 or end == start:
            continue
        clip.append(position.setdefault(key, len(position)))
        label.append(of_mid[mid])
        onset.append(start)
        offset.append(end)
    order = np.argsort(np.asarray(clip), kind="stable")
    start_of = np.searchsorted(np.asarray(clip)[order], np.arange(len(position) + 1))
    times = np.asarray(onset)[order], np.asarray(offset)[order]
    events = EventTable(start_of, *times, np.asarray(label)[order], np.ones(len(order), np.float32))
    return StrongLabels(tuple(position), chosen, events)


def _rows(path: Path, excerpts: bool) -> Iterator[tuple[str, str, float, float, str]]:
    """Checked rows: `<file>:<line>`, segment_id, start, end, label. One at a time: the training table has a million."""
    existing_file(path, "table of strong labels")
    lines = csv_lines(path, "," if path.name.removesuffix(".gz").endswith(".csv") else "\t")
    _, header = next(lines, (0, []))
    for name in COLUMNS:
        if name not in header:
            raise UserError(f"{path}:1: no column {name!r}, expected {', '.join(COLUMNS)}")
    columns = [header.index(name) for name in COLUMNS]
    for line, fields in lines:
        if not fields:
            continue
        at = f"{path}:{line}"
        if len(fields) != len(header):
            raise UserError(f"{at}: {len(fields)} fields, expected {len(header)} as in the header")
        segment, start, end, mid = (fields[number].strip() for number in columns)
        is_excerpt = len(segment) >= ID_LENGTH + 2 and segment[ID_LENGTH] == "_" and segment[ID_LENGTH + 1 :].isdigit()
        if not (is_excerpt if excerpts else segment):
            raise UserError(f"{at}: segment_id {segment!r}, expected 11 characters, _ and milliseconds")
        try:
            times = float(start), float(end)
        except ValueError:
            raise UserError(f"{at}: times {start!r} and {end!r}, expected seconds") from None
        if not 0 <= times[0] <= times[1] <= CLIP_SECONDS + TOLERANCE:
            raise UserError(f"{at}: {start} to {end} s, expected times in order within {CLIP_SECONDS:g} s")
        yield at, segment, *times, mid


def read_clip_durations(path: str | Path) -> dict[str, float]:
    """{clip: seconds} of the published list: no header, name of the file and duration."""
    found: dict[str, float] = {}
    for line, fields in csv_lines(existing_file(path, "list of durations")):
        try:
            name, seconds = fields[0].strip(), float(fields[1])
        except (IndexError, ValueError):
            raise UserError(f"{path}:{line}: expected a name and a duration in seconds") from None
        if not 0 < seconds < float("inf"):
            raise UserError(f"{path}:{line}: duration {fields[1]}, expected more than 0 s")
        found[name.removesuffix(".mp3")] = seconds
    return found
