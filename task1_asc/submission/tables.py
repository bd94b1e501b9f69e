"""Checking an output file: the names of the clips, scenes, and their probabilities."""

import re
from collections.abc import Collection
from functools import cache, partial
from pathlib import Path

import numpy as np

from common.run.errors import did_you_mean
from common.run.files import existing_file
from common.run.submission.package import refuse_errors
from common.run.submission.tables import Rows, Table, check_header, check_names, lines_of, read_rows
from common.run.submission.violations import Violation, in_order
from task1_asc.data.classes import SCENES
from task1_asc.inference.scores import COLUMNS, SUM_TOLERANCE

EVALUATION_FILES = 135_730  # of 2024: 0.wav to 135729.wav


def check_output(
    data: bytes, file: str, files: int | Collection[str] = EVALUATION_FILES, folder: str = ""
) -> list[Violation]:
    """All violations in an output file.

    data: its bytes; file: its name for messages; files: how many evaluation files there are (0.wav, 1.wav, ...), or
    their names without folder; folder: what stands before the names in this file ("audio/" in 2025).
    """
    table = Table(file)
    text = table.decode(data)
    if text is None or not _check_head(table, text):
        return table.found
    rows = read_rows(lines_of(text)[1:], 2, "\t", 2, len(SCENES), partial(_misfit, table))
    names, scenes = rows.words
    expected = [f"{folder}{name}" for name in (_numbered(files) if isinstance(files, int) else sorted(files))]
    last = f"{folder}{files - 1}.wav" if isinstance(files, int) else None
    check_names(table, rows, names, expected, "filename", partial(_name_problem, folder=folder, last=last))
    if not set(scenes) <= set(SCENES):
        hint = cache(lambda scene: did_you_mean(scene, SCENES))
        for line, scene in zip(rows.lines.tolist(), scenes, strict=True):
            if scene not in SCENES:
                table.report(line, "scene", f"unknown scene {scene!r}{hint(scene)}")
    _check_labels(table, rows, _check_probabilities(table, rows))
    return in_order(table.found)


def _numbered(files: int) -> list[str]:
    return [f"{index}.wav" for index in range(files)]


def _misfit(table: Table, line: int, text: str) -> None:
    hint = "" if "\t" in text else ", separated by tabs"
    fields = text.count("\t") + 1 if text.strip() else 1
    table.report(line, "row-fields", f"{fields} fields, expected {len(COLUMNS)}{hint}")


def _check_head(table: Table, text: str) -> bool:
    """Whether the rows can be read by their places."""
    header = text.partition("\n")[0].removesuffix("\r").split("\t")
    if not text.strip():
        table.report(None, "table-empty", "empty file, expected a header and a row per clip")
    elif len(header) == 1:
        table.report(1, "delimiter", f"columns are not separated by tabs, expected {len(COLUMNS)} columns")
    else:
        check_header(table, header, COLUMNS)
    return not table.found


def _name_problem(name: str, folder: str, last: str | None) -> tuple[str, str]:
    """Rule and message for a file name that is not one of the evaluation set's. last: of a numbered set."""
    if last is None:
        return "filename-range", f"{name!r} is not in the evaluation set"
    if not re.fullmatch(rf"{re.escape(folder)}(0|[1-9][0-9]*)\.wav", name):
        return "filename", f"file name {name!r}, expected {folder}<number>.wav"
    return "filename-range", f"{name} is beyond the last file, {last}"


def _check_probabilities(table: Table, rows: Rows) -> np.ndarray:
    """Report of each row the first thing that is no probability; returns which rows are good, (rows,) bool."""
    values = rows.values
    with np.errstate(invalid="ignore"):
        wrong = ~((values >= 0) & (values <= 1))  # NaN too
    good: np.ndarray = np.logical_not(wrong.any(axis=1))
    for row in np.flatnonzero(~good).tolist():
        column = int(wrong[row].argmax())
        scene, text = SCENES[column], rows.fields(row)[2 + column]
        if rows.unreadable[row, column]:
            rule, message = "number", f"{scene} is {text!r}, expected a number"
        elif not np.isfinite(values[row, column]):
            rule, message = "probability-finite", f"{scene} is {text}, expected a finite number"
        else:
            rule, message = "probability-range", f"{scene} is {text}, expected 0 to 1"
        table.report(int(rows.lines[row]), rule, message)
    sums = values.sum(axis=1)
    for row in np.flatnonzero(good & (np.abs(sums - 1) > SUM_TOLERANCE)).tolist():
        wrong_sum = f"the probabilities sum to {sums[row]:.4g}, expected 1"
        table.report(int(rows.lines[row]), "probability-sum", wrong_sum)
    return good


def _check_labels(table: Table, rows: Rows, good: np.ndarray) -> None:
    """The scene of a row is its likeliest one."""
    index = {scene: number for number, scene in enumerate(SCENES)}
    labels = np.array([index.get(scene, -1) for scene in rows.words[1]], dtype=int)
    best = rows.values.max(axis=1, initial=0)
    own = rows.values[np.arange(len(labels)), labels]
    usable = good & (labels >= 0)
    for row in np.flatnonzero(usable & (own < best)).tolist():
        likeliest = SCENES[int(rows.values[row].argmax())]
        wrong = f"scene_label is {SCENES[labels[row]]}, but {likeliest} is the likeliest"
        table.report(int(rows.lines[row]), "label-argmax", wrong)
    ties = (rows.values == best[:, None]).sum(axis=1) > 1
    for row in np.flatnonzero(usable & (own == best) & ties).tolist():
        wrong = f"{SCENES[labels[row]]} is as likely as another scene"
        table.report(int(rows.lines[row]), "label-tie", wrong, "warning")


def passing_output(path: Path, files: int | Collection[str] = EVALUATION_FILES) -> Path:
    """The path of a valid output file; UserError with its first error otherwise."""
    found = check_output(existing_file(path, "output").read_bytes(), str(path), files)
    refuse_errors(Violation(of.file, of.line or 1, of.rule, of.message, of.severity) for of in found)
    return path
