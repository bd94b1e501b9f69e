"""Checking a file of scores or decisions: names of the clips, and values."""

import re
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from common.run.files import existing_file
from common.run.submission.package import refuse_errors
from common.run.submission.tables import Rows, Table, check_names, lines_of, read_rows
from common.run.submission.violations import Violation, in_order
from task2_anomaly.data.classes import Machine

What = Literal["score", "decision"]
CLIP_2020 = re.compile(r"id_(?P<id>[0-9]{2})_[0-9]{8}\.wav")
CLIP_FIRST_SHOT = re.compile(
    r"section_(?P<id>[0-9]{2})_(?:(?:source|target)_)?(?:test_)?(?:(?:normal|anomaly)_)?[0-9]{4}(?:_.*)?\.wav"
)


def check_table(
    data: bytes, file: str, what: What, machine: Machine, names: Collection[str] | None = None
) -> tuple[list[Violation], dict[str, float]]:
    """All violations in a file of scores or decisions, and its values {file name: value} as far as they can be read.

    data: its bytes; file: its name for messages; names: of the machine's test files (None: not known).
    """
    table = Table(file)
    if (text := table.decode(data)) is None:
        return table.found, {}
    lines = lines_of(text)
    if lines[0].count(",") == 1 and lines[0].strip(", ") and not _name(lines[0].split(",")[0]).endswith(".wav"):
        table.report(1, "header", f"{lines[0]!r} looks like a header, these files have none")
        lines[0] = ""
    words, numbers = (1, 1) if what == "score" else (2, 0)
    rows = read_rows(lines, 1, ",", words, numbers, partial(_misfit, table, what))
    clips = [_name(name) for name in rows.words[0]]
    if clips:
        expected = None if names is None else sorted(names)
        check_names(table, rows, clips, expected, "clip", partial(_clip_problem, machine=machine, known=names))
    else:
        table.report(None, "table-empty", "no rows, expected one for each test file")
    values = (_scores if what == "score" else _decisions)(table, rows, clips)
    if len(values) > 1 and len(set(values.values())) == 1:
        table.report(None, f"{what}-constant", f"every {what} is {next(iter(values.values())):g}", "warning")
    return in_order(table.found), values


def _name(text: str) -> str:
    return text.strip().strip('"')


def _misfit(table: Table, what: What, line: int, text: str) -> None:
    if not text.replace(",", "").strip():
        return  # a blank line
    other = next((sign for sign in ";\t " if "," not in text and sign in _name(text)), None)
    hint = f", separated by commas, not by {other!r}" if other else ""
    table.report(line, "row-fields", f"{text.count(',') + 1} columns, expected 2: file name, {what}{hint}")


def _clip_problem(name: str, machine: Machine, known: Collection[str] | None) -> tuple[str, str] | None:
    """Rule and message for a file name that is none of the machine's."""
    match = (CLIP_FIRST_SHOT if machine.section else CLIP_2020).fullmatch(name)
    if match is None:
        form = f"section_{machine.id:02d}_<4 digits>.wav" if machine.section else f"id_{machine.id:02d}_<8 digits>.wav"
        return "clip-name", f"file name {name!r}, expected {form}"
    if int(match["id"]) != machine.id:
        return "clip-id", f"{name} is of another {'section' if machine.section else 'ID'}, this file is of {machine}"
    return None if known is None else ("clip-unknown", f"{name} is not in the evaluation set")


def _scores(table: Table, rows: Rows, clips: list[str]) -> dict[str, float]:
    scores = rows.values[:, 0]
    good = np.isfinite(scores)
    for row in np.flatnonzero(~good).tolist():
        line, of, text = int(rows.lines[row]), f"score of {clips[row]} is", rows.fields(row)[1].strip()
        if rows.unreadable[row, 0]:
            table.report(line, "number", f"{of} {text!r}, expected a number")
        else:
            table.report(line, "score-finite", f"{of} {text}, expected a finite number")
    if good.all():
        return dict(zip(clips, scores.tolist(), strict=True))
    return {clips[row]: float(scores[row]) for row in np.flatnonzero(good)}


def _decisions(table: Table, rows: Rows, clips: list[str]) -> dict[str, float]:
    texts = [text.strip() for text in rows.words[1]]
    if not set(texts) <= {"0", "1"}:
        for line, clip, text in zip(rows.lines.tolist(), clips, texts, strict=True):
            if text not in ("0", "1"):
                table.report(line, "decision", f"decision of {clip} is {text!r}, expected 0 or 1")
    return {clip: float(text) for clip, text in zip(clips, texts, strict=True) if text in ("0", "1")}


def passing_table(path: Path, what: What, machine: Machine, names: Collection[str] | None) -> dict[str, float]:
    """The values of a valid file; UserError with its first error otherwise."""
    found, values = check_table(existing_file(path, f"{what} file").read_bytes(), str(path), what, machine, names)
    refuse_errors(found)
    return values
