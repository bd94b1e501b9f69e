"""Score tables: what a run's consist of, and checking one."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from common.run.submission.tables import Rows, Table, check_header, lines_of, read_rows, some
from common.run.submission.violations import Violation, in_order
from task4_sed.metrics.types import ScoreSet

# A last frame that is not full may be missing: 64 ms, and 16 ms that 10 s leave over.
COVERAGE_TOLERANCE = 0.1


@dataclass(frozen=True)
class RunScores:
    """Scores of one independently trained run over the evaluation set, with and without post-processing."""

    processed: ScoreSet
    unprocessed: ScoreSet


@dataclass(frozen=True)
class TableCheck:
    """What was found in a table, and whether all its scores are 0 or 1 (None where none could be read)."""

    violations: list[Violation]
    binary: bool | None


def _misfit(table: Table, fields: int, line: int, text: str) -> None:
    """A line that is empty or has not as many fields as the header."""
    if not text.strip():
        table.report(line, "row-empty", "empty line", "warning")
        return
    found = text.count("\t") + 1
    hint = "; tabs separate the columns" if found == 1 else ""
    table.report(line, "row-fields", f"{found} fields, expected {fields} as in the header{hint}")


def _check_numbers(table: Table, rows: Rows, header: Sequence[str]) -> np.ndarray:
    """Report fields that are no numbers; returns which rows have none of them, (rows,) bool."""
    good = np.logical_not(rows.unreadable.any(axis=1))
    for i in np.flatnonzero(~good).tolist():
        fields = rows.fields(i)
        wrong = [f"{header[j]} is {fields[j][:40]!r}" for j in np.flatnonzero(rows.unreadable[i])]
        table.report(int(rows.lines[i]), "number", f"{some(wrong)}, expected a number")
    return np.asarray(good)


def _check_times(
    table: Table, lines: np.ndarray, onsets: np.ndarray, offsets: np.ndarray, duration: float | None
) -> None:
    """Rows that don't follow one another; compared exactly, as the challenge's metric package does."""
    finite = np.isfinite(onsets) & np.isfinite(offsets)
    for i in np.flatnonzero(~finite):
        table.report(int(lines[i]), "time-number", f"onset {onsets[i]:g}, offset {offsets[i]:g}: expected finite times")
    if finite[0] and onsets[0] != 0:
        table.report(int(lines[0]), "time-start", f"the first onset is {onsets[0]:g}, expected 0")
    for i in np.flatnonzero(offsets == onsets):
        table.report(int(lines[i]), "time-zero-length", f"onset and offset are both {onsets[i]:.9g}")
    for i in np.flatnonzero(offsets < onsets):
        table.report(int(lines[i]), "time-order", f"offset {offsets[i]:.9g} is before onset {onsets[i]:.9g}")
    for i in np.flatnonzero(onsets[1:] < onsets[:-1]) + 1:
        table.report(int(lines[i]), "time-order", f"onset {onsets[i]:.9g} is before the one of the row above")
    # A row that couldn't be read has been reported and leaves no gap.
    follows = (lines[1:] == lines[:-1] + 1) & finite[1:] & finite[:-1]
    for i in np.flatnonzero((onsets[1:] != offsets[:-1]) & follows & (onsets[1:] >= onsets[:-1])) + 1:
        kind = "gap" if onsets[i] > offsets[i - 1] else "overlap"
        wrong = f"{kind}: onset {onsets[i]:.17g}, expected {offsets[i - 1]:.17g}, the offset of the row above"
        table.report(int(lines[i]), "time-gap", wrong)
    if duration is not None and finite[-1] and offsets[-1] < duration - COVERAGE_TOLERANCE:
        wrong = f"the scores end at {offsets[-1]:.9g} s, expected the end of the clip, {duration:.9g} s"
        table.report(int(lines[-1]), "time-coverage", wrong)
    if duration is not None and finite[-1] and offsets[-1] > duration + COVERAGE_TOLERANCE:
        wrong = f"the scores end at {offsets[-1]:.9g} s, after the end of the clip, {duration:.9g} s"
        table.report(int(lines[-1]), "time-past-end", wrong, "warning")


def _check_scores(table: Table, lines: np.ndarray, scores: np.ndarray, names: Sequence[str]) -> None:
    bad = ~np.isfinite(scores)
    for i in np.flatnonzero(bad.any(axis=1)):
        nan = [names[j] for j in np.flatnonzero(np.isnan(scores[i]))]
        infinite = [names[j] for j in np.flatnonzero(np.isinf(scores[i]))]
        if nan:
            table.report(int(lines[i]), "score-nan", f"NaN for {some(nan)}, expected a number")
        if infinite:
            wrong = f"infinite score for {some(infinite)}, expected a finite number (0 in place of -inf)"
            table.report(int(lines[i]), "score-infinite", wrong)


def check_table(data: bytes, file: str, classes: Sequence[str], duration: float | None = None) -> TableCheck:
    """All violations in the score table of one clip.

    data: the file's bytes; file: its name for messages; classes: the score columns in their order; duration: seconds
    of the clip, or None to leave its coverage unchecked.
    """
    table = Table(file)
    if (text := table.decode(data)) is None:
        return TableCheck(table.found, None)
    if not text.strip():
        table.report(None, "table-empty", "empty file, expected a header and one row per frame")
        return TableCheck(table.found, None)
    first, _, body = text.partition("\n")
    header = first.rstrip("\r").split("\t")
    check_header(table, header, ("onset", "offset", *classes))
    if not body.strip():
        table.report(None, "table-empty", "no rows below the header, expected one per frame")
        return TableCheck(table.found, None)
    rows = read_rows(lines_of(body), 2, "\t", 0, len(header), partial(_misfit, table, len(header)))
    good = _check_numbers(table, rows, header)
    lines, values = rows.lines[good], rows.values[good]
    if not len(lines):
        return TableCheck(in_order(table.found), None)
    if "onset" in header and "offset" in header:
        _check_times(table, lines, values[:, header.index("onset")], values[:, header.index("offset")], duration)
    columns = [i for i, name in enumerate(header) if name not in ("onset", "offset")]
    scores = values[:, columns] if columns != list(range(2, len(header))) else values[:, 2:]
    _check_scores(table, lines, scores, [header[i] for i in columns])
    return TableCheck(in_order(table.found), bool(((scores == 0) | (scores == 1)).all()))
