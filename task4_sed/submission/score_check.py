"""Checking one score table: as a whole when it is well formed, line by line where it isn't."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from common.run.errors import did_you_mean
from common.run.submission.archive import Violation

# A last frame that is not full may be missing: 64 ms, and 16 ms that 10 s leave over.
COVERAGE_TOLERANCE = 0.1
NAMED = 3  # columns, fields and values spelt out in a message


@dataclass(frozen=True)
class TableCheck:
    """What was found in a table, and whether all its scores are 0 or 1 (None where none could be read)."""

    violations: list[Violation]
    binary: bool | None


class _Table:
    """The name of a table and what is wrong with it."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.found: list[Violation] = []

    def report(
        self, line: int | None, rule: str, message: str, severity: Literal["error", "warning"] = "error"
    ) -> None:
        self.found.append(Violation(self.file, line, rule, message, severity))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _check_header(table: _Table, header: Sequence[str], expected: Sequence[str]) -> None:
    if list(header) == list(expected):
        return
    known = set(expected)
    extra = [name for name in header if name not in known]
    for name in expected:
        if name not in header:
            hint = did_you_mean(name, extra) if extra else ""
            table.report(1, "column-missing", f"no column {name!r}{hint}")
    for name in extra:
        table.report(1, "column-unknown", f"unknown column {name!r}{did_you_mean(name, expected)}")
    for name in sorted({name for name in header if header.count(name) > 1}):
        table.report(1, "column-twice", f"column {name!r} is there {header.count(name)} times")
    if not table.found:  # the right columns
        at = next(i for i, (found, right) in enumerate(zip(header, expected, strict=True)) if found != right)
        table.report(1, "column-order", f"column {at + 1} is {header[at]!r}, expected {expected[at]!r}")


def _parse(body: str, columns: int) -> np.ndarray | None:
    """The body of a well-formed table as (rows, columns) float64, else None."""
    rows = body.count("\n") + (not body.endswith("\n"))
    try:
        values = np.loadtxt(io.StringIO(body), delimiter="\t", comments=None, ndmin=2)
    except ValueError:
        return None
    return values if values.shape == (rows, columns) else None  # fewer rows: there are empty lines


def _walk(table: _Table, body: str, header: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The rows that can be read of a table that isn't well formed: their lines and their values."""
    lines, values = [], []
    for number, text in enumerate(body.removesuffix("\n").split("\n"), 2):
        if not text.strip():
            table.report(number, "row-empty", "empty line", "warning")
            continue
        fields = text.rstrip("\r").split("\t")
        if len(fields) != len(header):
            hint = "; tabs separate the columns" if len(fields) == 1 else ""
            table.report(number, "row-fields", f"{len(fields)} fields, expected {len(header)} as in the header{hint}")
            continue
        row, wrong = [], []
        for name, field in zip(header, fields, strict=True):
            try:
                if "_" in field or not field.isascii():  # Python reads 1_000 and other scripts' digits
                    raise ValueError
                row.append(float(field))
            except ValueError:
                wrong.append(f"{name} is {field[:40]!r}")
        if wrong:
            table.report(number, "number", f"{_some(wrong)}, expected a number")
            continue
        lines.append(number)
        values.append(row)
    return np.array(lines, dtype=int), np.array(values, dtype=float).reshape(len(values), len(header))


def _check_times(
    table: _Table, lines: np.ndarray, onsets: np.ndarray, offsets: np.ndarray, duration: float | None
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


def _check_scores(table: _Table, lines: np.ndarray, scores: np.ndarray, names: Sequence[str]) -> None:
    bad = ~np.isfinite(scores)
    for i in np.flatnonzero(bad.any(axis=1)):
        nan = [names[j] for j in np.flatnonzero(np.isnan(scores[i]))]
        infinite = [names[j] for j in np.flatnonzero(np.isinf(scores[i]))]
        if nan:
            table.report(int(lines[i]), "score-nan", f"NaN for {_some(nan)}, expected a number")
        if infinite:
            wrong = f"infinite score for {_some(infinite)}, expected a finite number (0 in place of -inf)"
            table.report(int(lines[i]), "score-infinite", wrong)


def check_table(data: bytes, file: str, classes: Sequence[str], duration: float | None = None) -> TableCheck:
    """All violations in the score table of one clip.

    data: the file's bytes; file: its name for messages; classes: the score columns in their order; duration: seconds
    of the clip, or None to leave its coverage unchecked.
    """
    table = _Table(file)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        table.report(line, "encoding", "not text in UTF-8")
        return TableCheck(table.found, None)
    first, _, body = text.partition("\n")
    header = first.rstrip("\r").split("\t")
    if not text.strip():
        table.report(None, "table-empty", "empty file, expected a header and one row per frame")
        return TableCheck(table.found, None)
    _check_header(table, header, ("onset", "offset", *classes))
    if not body.strip():
        table.report(None, "table-empty", "no rows below the header, expected one per frame")
        return TableCheck(table.found, None)
    values = _parse(body, len(header))
    if values is None:
        lines, values = _walk(table, body, header)
        if not len(lines):
            return TableCheck(table.found, None)
    else:
        lines = np.arange(2, 2 + len(values))
    if "onset" in header and "offset" in header:
        _check_times(table, lines, values[:, header.index("onset")], values[:, header.index("offset")], duration)
    columns = [i for i, name in enumerate(header) if name not in ("onset", "offset")]
    scores = values[:, columns] if columns != list(range(2, len(header))) else values[:, 2:]
    _check_scores(table, lines, scores, [header[i] for i in columns])
    binary = bool(((scores == 0) | (scores == 1)).all())
    return TableCheck(sorted(table.found, key=lambda violation: violation.line or 0), binary)
