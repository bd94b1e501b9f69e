"""Scores, truth and durations from disk, matched by clip and class; what doesn't match is said."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from common.run.errors import UserError, did_you_mean
from common.run.files import existing_file, read_rows, sha256
from task4_sed.data.annotations import END_TOLERANCE, Event, is_empty, read_durations, read_soft, read_strong
from task4_sed.data.classes import CLASSES, FRAMES_PER_CLIP, MAESTRO_SCORED_CLASSES
from task4_sed.data.hdf5 import check_memory, is_hdf5
from task4_sed.inference.scores import TABLE_FACTOR, LogitSet, from_stored, read_logits, read_scores
from task4_sed.metrics.maestro import CONFIDENCE_THRESHOLD, is_window, recording_events, window_of
from task4_sed.metrics.truth import merge_intervals
from task4_sed.metrics.types import ScoreSet, clip_name

Value = TypeVar("Value")
# Of memory for a score of a frame and class, at the peak of an evaluation.
CELL_BYTES = 200
_MAX_HEADER = 1 << 20
Points = dict[float, dict[tuple[str, str], list[tuple[float, float]]]]


@dataclass
class Report:
    """What was left out: lists by kind, and a sentence each."""

    dropped: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def drop(self, kind: str, names: Iterable[str], sentence: str) -> None:
        """Record `names` (if there are any); `sentence` has {n} for their number and {names} for the first few."""
        listed = list(names)
        if listed:
            self.dropped[kind] = listed
            shown = ", ".join(listed[:4]) + (", ..." if len(listed) > 4 else "")
            self.notes.append(sentence.format(n=len(listed), names=shown))


@dataclass(frozen=True)
class Inputs:
    """Matched input: `scores` or `points` (detections at operating points), events and durations by clip name.

    events: {clip: events}; for MAESTRO {recording: events} with `windows` True where the scores are those of windows.
    durations: {clip or recording: seconds}, those that are evaluated, in that order. classes: those that are scored.
    """

    scores: ScoreSet | None
    points: Points | None
    events: dict[str, list[Event]]
    durations: dict[str, float]
    classes: tuple[str, ...]
    soft: bool
    windows: bool
    report: Report


def is_detections(path: Path) -> bool:
    """Is the file a table of detections with a threshold column?"""
    if not path.is_file() or path.suffix != ".tsv":
        return False
    return "threshold" in _columns(path)


def is_soft(path: Path) -> bool:
    """Is the truth a table of soft labels (with confidences)?"""
    return "confidence" in _columns(existing_file(path, "ground truth"))


def _columns(path: Path) -> list[str]:
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        return file.readline(_MAX_HEADER).rstrip("\r\n").split("\t")


def load(
    scores: Path, ground_truth: Path, durations: Path, allow_missing: bool, in_memory: ScoreSet | None = None
) -> Inputs:
    """Read and match; the kind of each file is recognised by its columns. Raises UserError.

    in_memory: the scores, where they are in no file; `scores` is what they are called in messages then.
    """
    report = Report()
    for path in (ground_truth, durations, scores):
        if path.is_file() and not (path == scores and is_hdf5(path)):
            check_memory(f"{path}: reading it", TABLE_FACTOR * path.stat().st_size)
    soft = is_soft(ground_truth)
    seconds = _by_clip(read_durations(durations), durations)
    # Soft labels are those of windows, their durations those of whole recordings.
    labels = read_soft(ground_truth) if soft else read_strong(ground_truth, instants=True)
    events = _by_clip(labels, ground_truth)
    if in_memory is None and is_detections(scores):
        if soft:
            raise UserError(f"{scores}: detections at thresholds cannot be compared with soft labels, give scores")
        return _match_points(read_detections(scores), scores, _cut(events, seconds, report), seconds, durations, report)
    lengths = {name: window_of(name)[2] for name in events if is_window(name)} | seconds if soft else seconds
    found = in_memory or _read_scores(scores, lengths, report)
    _compare_ends(found, lengths, report)
    frames = sum(len(clip.scores) for name, clip in found.clips.items() if soft or name in events)
    columns = len(_with_events(events).keys() & set(found.classes))
    check_memory(f"{scores}: evaluating {len(found.clips):,} clips, {columns} classes", CELL_BYTES * frames * columns)
    if soft:
        return _match_soft(found, scores, events, seconds, durations, allow_missing, report)
    events = _cut(events, seconds, report)
    return _match_strong(found, scores, events, seconds, durations, allow_missing, report)


def _by_clip(table: Mapping[str, Value], path: Path) -> dict[str, Value]:
    """The table by clip; UserError where files of different folders, or formats, have one name."""
    file_of: dict[str, str] = {}
    for file in table:
        first = file_of.setdefault(clip_name(file), file)
        if first != file:
            raise UserError(
                f"{path}: {first} and {file} have the same name, {clip_name(file)}; expected different ones"
            )
    return {clip_name(file): value for file, value in table.items()}


def _cut(events: dict[str, list[Event]], seconds: Mapping[str, float], report: Report) -> dict[str, list[Event]]:
    """Events without what lies after the end of their clip."""
    cut, late = [], []
    kept: dict[str, list[Event]] = {}
    for name, listed in events.items():
        end = seconds.get(name, math.inf)
        kept[name] = []
        for event in listed:
            if event.offset <= end + END_TOLERANCE:
                kept[name].append(event)
            elif event.onset < end:
                cut.append(f"{event.label} in {name} at {event.offset:g} s")
                kept[name].append(replace(event, offset=end))
            else:
                late.append(f"{event.label} in {name} at {event.onset:g} s")
    report.drop("cut_events", cut, "{n} events end after their clip and are cut there: {names}")
    report.drop("late_events", late, "{n} events begin after the end of their clip and are left out: {names}")
    return kept


def _read_scores(path: Path, lengths: Mapping[str, float], report: Report) -> ScoreSet:
    """Scores whose time axis fits `lengths`: seconds of clips, recordings and windows by name."""
    if path.is_file() and is_hdf5(path):
        return from_stored(_on_time(read_logits(path), path, lengths, report))
    return read_scores(path)


def _on_time(stored: LogitSet, path: Path, lengths: Mapping[str, float], report: Report) -> LogitSet:
    """The logits with a frame length that fits the clips: that of the file, or where it says none, theirs.

    All clips share one grid of frames. It ends with the longest clip, to a frame; or later, where the file is in the
    challenge's form (ten seconds, padded) or says itself how long each clip is. Raises UserError where neither is so.
    """
    known = {name: lengths[name] for name in stored.names if name in lengths}
    if stored.durations is not None:
        for name, own in zip(stored.names, stored.durations.tolist(), strict=True):
            if own > known.get(name, math.inf) + END_TOLERANCE:
                raise UserError(f"{path}: {name} lasts {own:g} s there, {known[name]:g} s in the table of durations")
            known[name] = own
    if not known:
        return stored
    frames, step, longest = stored.logits.shape[1], stored.frame_seconds, max(known.values())
    end = frames * step
    padded = stored.durations is not None if stored.stated else frames == FRAMES_PER_CLIP
    if abs(end - longest) <= max(step, END_TOLERANCE):
        return stored
    if padded and end > longest:
        report.notes.append(f"{frames} frames end at {end:g} s, the longest clip at {longest:g} s: taken for padding")
        return stored
    fitting = longest / frames
    whole_ms = fitting <= 1 and abs(fitting - round(fitting, 3)) < 1e-6
    if not stored.stated and longest - min(known.values()) < 1e-3 and whole_ms:
        report.notes.append(
            f"the file has no frame_seconds: {fitting:g} s a frame taken, so that {frames} frames last {longest:g} s"
        )
        return replace(stored, frame_seconds=fitting)
    what = f"frame_seconds {step:g}" if stored.stated else f"no frame_seconds ({step:g} s by default)"
    raise UserError(
        f"{path}: {what}: {frames} frames end at {end:g} s, the longest clip at {longest:g} s; expected an attribute "
        "frame_seconds that fits, and `durations` of the clips where they are padded"
    )


def _compare_ends(found: ScoreSet, lengths: Mapping[str, float], report: Report) -> None:
    """Say which clips' scores end far before or after the clip."""
    early: list[str] = []
    late: list[str] = []
    for name, clip in found.clips.items():
        tolerance = END_TOLERANCE + min(float(clip.edges[-1] - clip.edges[-2]), 1.0)
        beyond = float(clip.edges[-1]) - lengths.get(name, float(clip.edges[-1]))
        if abs(beyond) > tolerance:
            (late if beyond > 0 else early).append(f"{name} at {clip.edges[-1]:g} of {lengths[name]:g} s")
    report.drop("short_scores", early, "scores of {n} clips end before the clip, nothing is detected there: {names}")
    report.drop("long_scores", late, "scores of {n} clips go on after its end, detections there count: {names}")


def read_detections(path: Path) -> Points:
    """Detections per operating point: columns threshold, filename, onset, offset, event_label. Raises UserError."""
    points: Points = {}
    file_of: dict[str, str] = {}
    for row in read_rows(path, ("threshold", "filename", "onset", "offset", "event_label")):
        of_point = points.setdefault(row.number("threshold"), {})
        if is_empty(row):
            continue  # a clip without detections
        onset, offset = row.number("onset"), row.number("offset")
        if onset < 0 or offset <= onset:
            raise UserError(f"{row.at}: detection from {onset:g} to {offset:g} s, expected 0 <= onset < offset")
        name = clip_name(row["filename"])
        if file_of.setdefault(name, row["filename"]) != row["filename"]:
            raise UserError(f"{row.at}: {file_of[name]} and {row['filename']} have the same name, {name}")
        of_point.setdefault((name, row["event_label"].strip()), []).append((onset, offset))
    if not points:
        raise UserError(f"{path}: no detections")
    for threshold, of_point in points.items():
        for (clip, label), intervals in of_point.items():
            merged = merge_intervals(intervals)
            if len(merged) != len(intervals):
                raise UserError(f"{path}: detections of {label} in {clip} at threshold {threshold:g} overlap or touch")
    return points


def _with_events(events: Mapping[str, Sequence[Event]]) -> dict[str, None]:
    """Classes that have an event, in the order of the table."""
    return dict.fromkeys(event.label for listed in events.values() for event in listed)


def _scored_classes(
    columns: Sequence[str],
    events: Mapping[str, Sequence[Event]],
    scores_path: Path,
    allow_missing: bool,
    report: Report,
) -> tuple[str, ...]:
    """Columns of the scores that have events, in their order; the rest goes to the report."""
    active = _with_events(events)
    classes = tuple(name for name in columns if name in active)
    if not classes:
        raise UserError(f"{scores_path}: none of the classes ({', '.join(columns[:5])}, ...) has events in the truth")
    report.drop(
        "score_classes",
        (name for name in columns if name not in active),
        "{n} score columns have no event in the ground truth and are not scored: {names}",
    )
    without = [name for name in active if name not in columns]
    if without and not allow_missing:
        raise UserError(
            f"{scores_path}: no scores of {without[0]!r}, which has events in the ground truth ({len(without)} such "
            f"classes){did_you_mean(without[0], columns)}; to evaluate the rest, allow missing scores (--allow-missing)"
        )
    report.drop(
        "truth_classes",
        without,
        "{n} classes of the ground truth have no scores and are left out of all means: {names}",
    )
    return classes


def _missing(names: Sequence[str], scores_path: Path, allow_missing: bool, report: Report, what: str = "clips") -> None:
    if names and not allow_missing:
        raise UserError(
            f"{scores_path}: no scores of {names[0]}, which has events in the ground truth ({len(names)} such {what}); "
            "to evaluate the rest, allow missing scores (--allow-missing)"
        )
    report.drop("truth_clips", names, "{n} " + what + " with events have no scores and are left out: {names}")


def _durations_of(names: Sequence[str], seconds: Mapping[str, float], path: Path) -> dict[str, float]:
    for name in names:
        if name not in seconds:
            raise UserError(f"{path}: no duration of {name}")
    return {name: seconds[name] for name in names}


def _match_strong(
    found: ScoreSet,
    scores_path: Path,
    events: dict[str, list[Event]],
    seconds: Mapping[str, float],
    durations_path: Path,
    allow_missing: bool,
    report: Report,
) -> Inputs:
    eventful = [name for name, listed in events.items() if listed]
    _missing([name for name in eventful if name not in found.clips], scores_path, allow_missing, report)
    report.drop(
        "score_clips",
        (name for name in found.clips if name not in events),
        "{n} clips with scores are not in the ground truth and are left out: {names}",
    )
    report.drop(
        "empty_clips",
        (name for name in found.clips if name in events and not events[name]),
        "{n} clips have no event and are left out, with their duration: {names}",
    )
    used = [name for name in eventful if name in found.clips]
    if not used:
        raise UserError(f"{scores_path}: no clip has events in the ground truth; are the names the same?")
    events = {name: events[name] for name in used}
    classes = _scored_classes(found.classes, events, scores_path, allow_missing, report)
    scores = ScoreSet(found.classes, {name: found.clips[name] for name in used})
    return Inputs(scores, None, events, _durations_of(used, seconds, durations_path), classes, False, False, report)


def _match_points(
    points: Points,
    scores_path: Path,
    events: dict[str, list[Event]],
    seconds: Mapping[str, float],
    durations_path: Path,
    report: Report,
) -> Inputs:
    """All clips of the truth count, also those without events, as in psds_eval."""
    columns = sorted({label for of_point in points.values() for _, label in of_point})
    detected = dict.fromkeys(clip for of_point in points.values() for clip, _ in of_point)
    report.drop(
        "score_clips",
        (name for name in detected if name not in events),
        "{n} clips with detections are not in the ground truth and are left out: {names}",
    )
    report.drop(
        "duration_clips",
        (name for name in seconds if name not in events),
        "{n} clips with a duration are not in the ground truth and are left out: {names}",
    )
    # A class that is never detected has no row in the table: it still counts.
    never = [name for name in _with_events(events) if name not in columns]
    report.drop("undetected_classes", never, "{n} classes are never detected (they score 0): {names}")
    classes = _scored_classes([*columns, *never], events, scores_path, False, report)
    return Inputs(
        None, points, events, _durations_of(list(events), seconds, durations_path), classes, False, False, report
    )


def _match_soft(
    found: ScoreSet,
    scores_path: Path,
    soft: dict[str, list[Event]],
    seconds: Mapping[str, float],
    durations_path: Path,
    allow_missing: bool,
    report: Report,
) -> Inputs:
    """Windows of recordings: all windows of the recordings in the truth take part, also those without events."""
    labels = _with_events(soft)
    of_challenge = any(name in CLASSES for name in labels)
    wanted = tuple(name for name in labels if not of_challenge or name in MAESTRO_SCORED_CLASSES)
    events = recording_events(soft, wanted)
    recordings = list(events)
    windows = not all(name in events for name in found.clips)
    recording_of = {name: window_of(name)[0] if windows else name for name in found.clips}
    report.drop(
        "score_clips",
        (name for name, recording in recording_of.items() if recording not in events),
        "{n} windows with scores are of recordings that are not in the ground truth and are left out: {names}",
    )
    clips = {name: clip for name, clip in found.clips.items() if recording_of[name] in events}
    if not clips:
        raise UserError(f"{scores_path}: no window of a recording in the ground truth; are the names the same?")
    if windows:
        eventful = [
            name
            for name, listed in soft.items()
            if any(event.confidence > CONFIDENCE_THRESHOLD and event.label in wanted for event in listed)
        ]
        _missing([name for name in eventful if name not in clips], scores_path, allow_missing, report, "windows")
    scored = {recording_of[name] for name in clips}
    without = [name for name in recordings if name not in scored]
    if without and not allow_missing:
        raise UserError(f"{scores_path}: no scores of the recording {without[0]} ({len(without)} such recordings)")
    report.drop("recordings", without, "{n} recordings have no scores and are left out: {names}")
    kept = {name: events[name] for name in recordings if name in scored}
    classes = _scored_classes(found.classes, kept, scores_path, allow_missing, report)
    return Inputs(
        ScoreSet(found.classes, clips),
        None,
        kept,
        _durations_of(list(kept), seconds, durations_path),
        classes,
        True,
        windows,
        report,
    )


def describe_inputs(**paths: Path) -> dict[str, Any]:
    """Paths, and the hash of each that is a file: versions of the challenge's tables differ."""

    return {
        key: {"path": str(path)} | ({"sha256": sha256(path)} if path.is_file() else {}) for key, path in paths.items()
    }
