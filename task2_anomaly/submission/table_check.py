"""Checking a file of scores or decisions row by row."""

import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from common.run.errors import UserError
from common.run.files import existing_file
from common.run.submission.archive import Violation
from task2_anomaly.data.classes import Machine

NAMED = 3  # missing files spelt out in a message
CLIP_2020 = re.compile(r"id_(?P<id>\d{2})_\d{8}\.wav")
CLIP_FIRST_SHOT = re.compile(
    r"section_(?P<id>\d{2})_(?:(?:source|target)_)?(?:test_)?(?:(?:normal|anomaly)_)?\d{4}(?:_.*)?\.wav"
)


class _Table:
    """The name of a file and what is wrong with it."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.found: list[Violation] = []

    def report(
        self, line: int | None, rule: str, message: str, severity: Literal["error", "warning"] = "error"
    ) -> None:
        self.found.append(Violation(self.file, line, rule, message, severity))


def check_table(
    data: bytes,
    file: str,
    what: Literal["score", "decision"],
    machine: Machine,
    names: Collection[str] | None = None,
) -> tuple[list[Violation], dict[str, float]]:
    """All violations in a file of scores or decisions, and its values {file name: value} as far as they can be read.

    data: its bytes; file: its name for messages; names: of the machine's test files (None: not known).
    """
    table, values = _Table(file), dict[str, float]()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        table.report(data.count(b"\n", 0, error.start) + 1, "encoding", "not text in UTF-8")
        return table.found, values
    seen: dict[str, int] = {}
    for line, row in enumerate((text.split(",") for text in text.splitlines()), start=1):
        if not any(cell.strip() for cell in row):
            continue
        name = row[0].strip().strip('"')
        if len(row) != 2:
            other = next((sign for sign in ";\t " if len(row) == 1 and sign in name), None)
            hint = f", separated by commas, not by {other!r}" if other else ""
            table.report(line, "row-fields", f"{len(row)} columns, expected 2: file name, {what}{hint}")
            continue
        if line == 1 and not name.endswith(".wav"):
            table.report(line, "header", f"{','.join(row)!r} looks like a header, these files have none")
            continue
        if name in seen:
            table.report(line, "clip-twice", f"{name} already stands in line {seen[name]}")
        elif wrong := _clip_problem(name, machine, names):
            table.report(line, *wrong)
        seen.setdefault(name, line)
        if (value := _value(table, line, name, row[1].strip(), what)) is not None:
            values[name] = value
    if not seen:
        table.report(None, "table-empty", "no rows, expected one for each test file")
    elif missing := sorted(set(names or ()) - seen.keys()):
        more = f" and {len(missing) - NAMED:,} more" if len(missing) > NAMED else ""
        table.report(None, "clip-missing", f"no row for {', '.join(missing[:NAMED])}{more}")
    if len(values) > 1 and len(set(values.values())) == 1:
        table.report(None, f"{what}-constant", f"every {what} is {next(iter(values.values())):g}", "warning")
    return table.found, values


def _clip_problem(name: str, machine: Machine, names: Collection[str] | None) -> tuple[str, str] | None:
    """Rule and message for a file name that is none of the machine's."""
    match = (CLIP_FIRST_SHOT if machine.section else CLIP_2020).fullmatch(name)
    if match is None:
        form = f"section_{machine.id:02d}_<4 digits>.wav" if machine.section else f"id_{machine.id:02d}_<8 digits>.wav"
        return "clip-name", f"file name {name!r}, expected {form}"
    if int(match["id"]) != machine.id:
        return "clip-id", f"{name} is of another {'section' if machine.section else 'ID'}, this file is of {machine}"
    return None if names is None or name in names else ("clip-unknown", f"{name} is not in the evaluation set")


def _value(table: _Table, line: int, name: str, text: str, what: str) -> float | None:
    if what == "decision":
        if text in ("0", "1"):
            return float(text)
        table.report(line, "decision", f"decision of {name} is {text!r}, expected 0 or 1")
        return None
    try:
        value = float(text)
    except ValueError:
        table.report(line, "number", f"score of {name} is {text!r}, expected a number")
        return None
    if math.isfinite(value):
        return value
    table.report(line, "score-finite", f"score of {name} is {text}, expected a finite number")
    return None


def passing_table(
    path: Path, what: Literal["score", "decision"], machine: Machine, names: Collection[str] | None
) -> dict[str, float]:
    """The values of a valid file; UserError with its first error otherwise."""
    found, values = check_table(existing_file(path, f"{what} file").read_bytes(), str(path), what, machine, names)
    for violation in found:
        if violation.severity == "error":
            at = "" if violation.line is None else f":{violation.line}"
            raise UserError(f"{path}{at}: {violation.message}")
    return values
