"""Checking an output file row by row."""

import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from common.run.errors import UserError, did_you_mean
from common.run.files import existing_file
from common.run.submission.archive import Violation
from task1_asc.data.classes import SCENES
from task1_asc.inference.scores import COLUMNS, SUM_TOLERANCE

EVALUATION_FILES = 135_730  # of 2024: 0.wav to 135729.wav
NAMED = 3  # missing files spelt out in a message


class _Output:
    """The name of an output file and what is wrong with it."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.found: list[Violation] = []

    def report(
        self, line: int | None, rule: str, message: str, severity: Literal["error", "warning"] = "error"
    ) -> None:
        self.found.append(Violation(self.file, line, rule, message, severity))


def check_output(
    data: bytes, file: str, files: int | Collection[str] = EVALUATION_FILES, folder: str = ""
) -> list[Violation]:
    """All violations in an output file.

    data: its bytes; file: its name for messages; files: how many evaluation files there are (0.wav, 1.wav, ...), or
    their names without folder; folder: what stands before the names in this file ("audio/" in 2025).
    """
    output = _Output(file)
    try:
        lines = [line.removesuffix("\r") for line in data.decode("utf-8-sig").removesuffix("\n").split("\n")]
    except UnicodeDecodeError as error:
        output.report(data.count(b"\n", 0, error.start) + 1, "encoding", "not text in UTF-8")
        return output.found
    if not data.strip():
        output.report(None, "table-empty", "empty file, expected a header and a row per clip")
        return output.found
    if not _check_header(output, lines[0].split("\t")):
        return output.found
    files = files if isinstance(files, int) else frozenset(folder + name for name in files)
    seen: dict[str, int] = {}
    for number, line in enumerate(lines[1:], 2):
        fields = line.split("\t")
        if len(fields) != len(COLUMNS):
            hint = "" if "\t" in line else ", separated by tabs"
            output.report(number, "row-fields", f"{len(fields)} fields, expected {len(COLUMNS)}{hint}")
            continue
        name, scene, *probabilities = fields
        if name in seen:
            output.report(number, "filename-twice", f"{name} already stands in line {seen[name]}")
        elif wrong := _name_problem(name, files, folder):
            output.report(number, *wrong)
        seen.setdefault(name, number)
        if scene not in SCENES:
            output.report(number, "scene", f"unknown scene {scene!r}{did_you_mean(scene, SCENES)}")
        _check_probabilities(output, number, scene, probabilities)
    _check_missing(output, seen, files, folder)
    return output.found


def _check_header(output: _Output, header: list[str]) -> bool:
    """Whether the rows can be read by their places."""
    if tuple(header) == COLUMNS:
        return True
    if len(header) == 1:
        output.report(1, "delimiter", f"columns are not separated by tabs, expected {len(COLUMNS)} columns")
        return False
    if missing := [name for name in COLUMNS if name not in header]:
        output.report(1, "column-missing", f"no column {missing[0]!r}{did_you_mean(missing[0], header)}")
    if unknown := [name for name in header if name not in COLUMNS]:
        output.report(1, "column-unknown", f"unknown column {unknown[0]!r}{did_you_mean(unknown[0], COLUMNS)}")
    if twice := [name for name in header if name and header.count(name) > 1]:
        output.report(1, "column-twice", f"column {twice[0]!r} is there {header.count(twice[0])} times")
    if not output.found:
        at = next(i for i, (found, right) in enumerate(zip(header, COLUMNS, strict=True)) if found != right)
        output.report(1, "column-order", f"column {at + 1} is {header[at]!r}, expected {COLUMNS[at]!r}")
    return False


def _name_problem(name: str, files: int | Collection[str], folder: str) -> tuple[str, str] | None:
    """Rule and message for a file name that is not one of the evaluation set's."""
    if not isinstance(files, int):
        return None if name in files else ("filename-range", f"{name!r} is not in the evaluation set")
    if not re.fullmatch(rf"{re.escape(folder)}(0|[1-9]\d*)\.wav", name):
        return "filename", f"file name {name!r}, expected {folder}<number>.wav"
    number = int(name.removeprefix(folder).removesuffix(".wav"))
    if number >= files:
        return "filename-range", f"{name} is beyond the last file, {folder}{files - 1}.wav"
    return None


def _check_probabilities(output: _Output, number: int, scene: str, texts: list[str]) -> None:
    values = []
    for name, text in zip(SCENES, texts, strict=True):
        try:
            value = float(text)
        except ValueError:
            output.report(number, "number", f"{name} is {text!r}, expected a number")
            return
        if not math.isfinite(value):
            output.report(number, "probability-finite", f"{name} is {text}, expected a finite number")
            return
        if not 0 <= value <= 1:
            output.report(number, "probability-range", f"{name} is {text}, expected 0 to 1")
            return
        values.append(value)
    if abs(sum(values) - 1) > SUM_TOLERANCE:
        output.report(number, "probability-sum", f"the probabilities sum to {sum(values):.4g}, expected 1")
    if scene not in SCENES:
        return
    best = max(values)
    likeliest = SCENES[values.index(best)]
    if values[SCENES.index(scene)] < best:
        output.report(number, "label-argmax", f"scene_label is {scene}, but {likeliest} is the likeliest")
    elif values.count(best) > 1:
        output.report(number, "label-tie", f"{scene} is as likely as another scene", "warning")


def _check_missing(output: _Output, seen: Collection[str], files: int | Collection[str], folder: str) -> None:
    names = [f"{folder}{index}.wav" for index in range(files)] if isinstance(files, int) else sorted(files)
    missing = [name for name in names if name not in seen]
    if missing:
        more = f" and {len(missing) - NAMED:,} more" if len(missing) > NAMED else ""
        output.report(None, "filename-missing", f"no row for {', '.join(missing[:NAMED])}{more}")


def passing_output(path: Path, files: int | Collection[str] = EVALUATION_FILES) -> Path:
    """The path of a valid output file; UserError with its first error otherwise."""
    for found in check_output(existing_file(path, "output").read_bytes(), str(path), files):
        if found.severity == "error":
            raise UserError(f"{found.file}:{found.line or 1}: {found.message}")
    return path
