"""Tables of outputs, checked as whole columns; only what is wrong is looked for line by line.

Every step takes time in proportion to the size of the file, also where its width or height is absurd.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from common.run.errors import did_you_mean
from common.run.numbers import number
from common.run.submission.violations import Severity, Violation

NAMED = 3  # names spelt out in a message
SHOWN = 50  # unknown columns that are reported one by one


@dataclass
class Table:
    """The name of a table and what is wrong with it."""

    file: str
    found: list[Violation] = field(default_factory=list)

    def report(self, line: int | None, rule: str, message: str, severity: Severity = "error") -> None:
        self.found.append(Violation(self.file, line, rule, message, severity))

    def decode(self, data: bytes) -> str | None:
        """The file's text; reported where it is not UTF-8."""
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            self.report(data.count(b"\n", 0, error.start) + 1, "encoding", "not text in UTF-8")
            return None


@dataclass(frozen=True)
class Rows:
    """The rows of a table that have all their fields.

    lines: (rows,) int64, counted from 1; words: the columns before the numbers, each (rows,); values: (rows, numbers)
    float64; unreadable: of the same shape, where a field is no number (its value is NaN then).
    """

    lines: np.ndarray
    words: Sequence[Sequence[str]]
    values: np.ndarray
    unreadable: np.ndarray
    texts: Sequence[str]
    delimiter: str

    def fields(self, row: int) -> list[str]:
        """All fields of a row as they stand in the file."""
        return self.texts[row].split(self.delimiter)


def some(names: Sequence[str]) -> str:
    """The first names, and how many more."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def lines_of(text: str) -> list[str]:
    """Lines without their ends (LF or CR LF)."""
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def read_rows(
    texts: Sequence[str], first: int, delimiter: str, words: int, numbers: int, misfit: Callable[[int, str], None]
) -> Rows:
    """Split lines into `words` columns of text and `numbers` columns of numbers after them.

    first: the number of the first line. `misfit(line, text)` reports or ignores a line that is blank or has another
    number of fields; it is not among the rows.
    """
    joints = words + numbers - 1
    fits = [text.count(delimiter) == joints and bool(text.replace(delimiter, "").strip()) for text in texts]
    for index in np.flatnonzero(~np.array(fits, dtype=bool)).tolist():
        misfit(first + index, texts[index])
    lines = np.flatnonzero(fits) + first
    rows = texts if len(lines) == len(texts) else [text for text, good in zip(texts, fits, strict=True) if good]
    columns = list(zip(*(row.split(delimiter, words)[:words] for row in rows), strict=True)) if words else []
    values = parse(rows, delimiter, words, numbers)
    if values is not None:
        return Rows(lines, columns or [()] * words, values, np.zeros(values.shape, dtype=bool), rows, delimiter)
    values, unreadable = _walk(rows, delimiter, words, numbers)
    return Rows(lines, columns or [()] * words, values, unreadable, rows, delimiter)


def parse(rows: Sequence[str], delimiter: str, words: int, numbers: int) -> np.ndarray | None:
    """The columns of numbers, (rows, numbers) float64, as a whole; None where any field is no number."""
    if not rows or not numbers or not all(map(str.isascii, rows)):
        return None
    try:
        values = np.loadtxt(rows, delimiter=delimiter, comments=None, ndmin=2, usecols=range(words, words + numbers))
    except ValueError:
        return None
    return values if values.shape == (len(rows), numbers) else None  # fewer rows: there are empty lines


def _walk(rows: Sequence[str], delimiter: str, words: int, numbers: int) -> tuple[np.ndarray, np.ndarray]:
    """Field by field: the numbers, and where there is none."""
    values = np.full((len(rows), numbers), np.nan)
    unreadable = np.zeros(values.shape, dtype=bool)
    for i, row in enumerate(rows if numbers else ()):
        for j, text in enumerate(row.split(delimiter)[words:]):
            try:
                values[i, j] = number(text)
            except ValueError:
                unreadable[i, j] = True
    return values, unreadable


def check_header(table: Table, header: Sequence[str], expected: Sequence[str]) -> None:
    """Columns that are missing, unknown, there twice, or in another order."""
    if list(header) == list(expected):
        return
    counts = Counter(header)
    extra = [name for name in header if name not in expected]
    for name in expected:
        if name not in counts:
            hint = did_you_mean(name, extra[:SHOWN]) if extra else ""
            table.report(1, "column-missing", f"no column {name!r}{hint}")
    for name in extra[:SHOWN]:
        table.report(1, "column-unknown", f"unknown column {name!r}{did_you_mean(name, expected)}")
    if len(extra) > SHOWN:
        table.report(1, "column-unknown", f"{len(extra) - SHOWN:,} more unknown columns")
    for name in expected:
        if counts[name] > 1:
            table.report(1, "column-twice", f"column {name!r} is there {counts[name]} times")
    if not table.found:  # the right columns
        at = next(i for i, (found, right) in enumerate(zip(header, expected, strict=True)) if found != right)
        table.report(1, "column-order", f"column {at + 1} is {header[at]!r}, expected {expected[at]!r}")


def check_names(
    table: Table,
    rows: Rows,
    names: Sequence[str],
    expected: Collection[str] | None,
    kind: str,
    wrong: Callable[[str], tuple[str, str] | None],
) -> None:
    """Each row's name is there once, and every name of `expected` (in order; None: not known) has a row.

    kind: what the names of the rules begin with; `wrong(name)`: rule and message of a name that is not expected.
    """
    there, known = set(names), None if expected is None else frozenset(expected)
    first: dict[str, int] = {}
    whole = known is not None and len(there) == len(names) and there <= known
    for line, name in () if whole else zip(rows.lines.tolist(), names, strict=True):
        if first.setdefault(name, line) != line:
            table.report(line, f"{kind}-twice", f"{name} already stands in line {first[name]}")
        elif (known is None or name not in known) and (problem := wrong(name)):
            table.report(line, *problem)
    if missing := [name for name in expected or () if name not in there]:
        table.report(None, f"{kind}-missing", f"no row for {some(missing)}")
