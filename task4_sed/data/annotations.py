"""The challenge's annotation tables: strong, weak and soft (MAESTRO) labels, durations. Times in seconds.

Every reader raises UserError with file, line and the offending value. Keys are the file names as they stand in the
table (with ".wav"); the order of the rows is kept.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.run.errors import UserError, did_you_mean
from common.run.files import Row, read_rows, write_rows

# Annotated ends may pass the measured end of a clip, in DESED's validation set by 0.115 s; far beyond it is a mistake.
END_TOLERANCE = 0.25
# How tables say "no event": empty, or as pandas and spreadsheets write a missing value.
_NOTHING = ("", "nan", "na", "n/a", "<na>", "null", "none")


@dataclass(frozen=True)
class Event:
    """A sound event: `onset` and `offset` in seconds from the start of the clip, confidence 0 to 1 (soft labels)."""

    onset: float
    offset: float
    label: str
    confidence: float = 1.0


def is_empty(row: Row) -> bool:
    """Does the row say that a clip has no event?"""
    return all(row[column].strip().lower() in _NOTHING for column in ("onset", "offset", "event_label"))


def event_of(
    row: Row, classes: Sequence[str] | None, durations: Mapping[str, float] | None, instants: bool = False
) -> Event:
    """The event of a row, checked as the readers below say."""
    onset, offset, label = row.number("onset"), row.number("offset"), row["event_label"].strip()
    if classes is not None and label not in classes:
        raise UserError(f"{row.at}: unknown class {label!r}{did_you_mean(label, classes)}")
    if not label:
        raise UserError(f"{row.at}: empty event_label")
    if onset < 0:
        raise UserError(f"{row.at}: onset {onset:g} is negative")
    if offset < onset or (offset == onset and not instants):
        raise UserError(f"{row.at}: offset {offset:g} is not after onset {onset:g}")
    if durations is not None:
        duration = durations.get(row["filename"])
        if duration is not None and offset > duration + END_TOLERANCE:
            raise UserError(f"{row.at}: offset {offset:g} is past the end of the clip ({duration:g} s)")
    confidence = row.number("confidence") if "confidence" in row else 1.0
    if not 0 <= confidence <= 1:
        raise UserError(f"{row.at}: confidence {confidence:g} is outside 0 to 1")
    return Event(onset, offset, label, confidence)


def _read_events(
    path: str | Path,
    columns: Sequence[str],
    classes: Sequence[str] | None,
    durations: Mapping[str, float] | None,
    instants: bool = False,
) -> dict[str, list[Event]]:
    events: dict[str, list[Event]] = {}
    for row in read_rows(path, columns):
        if not row["filename"]:
            raise UserError(f"{row.at}: empty filename")
        of_clip = events.setdefault(row["filename"], [])
        if not is_empty(row):  # else: a clip without any event
            of_clip.append(event_of(row, classes, durations, instants))
    return events


def read_strong(
    path: str | Path,
    classes: Sequence[str] | None = None,
    durations: Mapping[str, float] | None = None,
    instants: bool = False,
) -> dict[str, list[Event]]:
    """Strong labels {filename: events}: columns filename, onset, offset, event_label.

    A clip whose other fields are empty (or NaN) has no event. Unknown classes are an error where `classes` is given,
    ends past the clip where its duration is, events of length 0 unless `instants` are allowed.
    """
    return _read_events(path, ("filename", "onset", "offset", "event_label"), classes, durations, instants)


def read_soft(
    path: str | Path, classes: Sequence[str] | None = None, durations: Mapping[str, float] | None = None
) -> dict[str, list[Event]]:
    """MAESTRO's soft labels {window: events with confidence}: the strong columns and confidence."""
    return _read_events(path, ("filename", "onset", "offset", "event_label", "confidence"), classes, durations)


def read_weak(path: str | Path, classes: Sequence[str] | None = None) -> dict[str, list[str]]:
    """Weak labels {filename: labels}: columns filename, event_labels (comma-separated)."""
    labels: dict[str, list[str]] = {}
    for row in read_rows(path, ("filename", "event_labels")):
        if not row["filename"]:
            raise UserError(f"{row.at}: empty filename")
        names = [name for name in row["event_labels"].split(",") if name]
        for name in names:
            if classes is not None and name not in classes:
                raise UserError(f"{row.at}: unknown class {name!r}{did_you_mean(name, classes)}")
        if row["filename"] in labels:
            raise UserError(f"{row.at}: {row['filename']} is listed twice")
        labels[row["filename"]] = names
    return labels


def read_durations(path: str | Path) -> dict[str, float]:
    """Durations {filename: seconds}: columns filename, duration."""
    durations: dict[str, float] = {}
    for row in read_rows(path, ("filename", "duration")):
        duration = row.number("duration")
        if duration <= 0:
            raise UserError(f"{row.at}: duration {duration:g} is not positive")
        if durations.get(row["filename"], duration) != duration:
            raise UserError(f"{row.at}: {row['filename']} is listed twice, first with {durations[row['filename']]:g} s")
        durations[row["filename"]] = duration
    return durations


def read_names(path: str | Path) -> list[str]:
    """File names of a one-column list (column filename), e.g. an exclusion list."""
    return [row["filename"] for row in read_rows(path, ("filename",))]


def write_strong(path: str | Path, events: Mapping[str, Iterable[Event]]) -> None:
    """Write strong labels; a clip without events gets one row with empty fields."""
    rows: list[tuple[object, ...]] = []
    for name, of_clip in events.items():
        listed = [(name, f"{e.onset:.3f}", f"{e.offset:.3f}", e.label) for e in of_clip]
        rows.extend(listed or [(name, "", "", "")])
    write_rows(path, ("filename", "onset", "offset", "event_label"), rows)


def write_soft(path: str | Path, events: Mapping[str, Iterable[Event]]) -> None:
    """Write MAESTRO's soft labels."""
    rows = [(name, e.onset, e.offset, e.label, e.confidence) for name, of_clip in events.items() for e in of_clip]
    write_rows(path, ("filename", "onset", "offset", "event_label", "confidence"), rows)


def write_weak(path: str | Path, labels: Mapping[str, Sequence[str]]) -> None:
    """Write weak labels."""
    write_rows(path, ("filename", "event_labels"), ((name, ",".join(of)) for name, of in labels.items()))


def write_durations(path: str | Path, durations: Mapping[str, float]) -> None:
    """Write durations in seconds."""
    write_rows(path, ("filename", "duration"), ((name, f"{value:.3f}") for name, value in durations.items()))
