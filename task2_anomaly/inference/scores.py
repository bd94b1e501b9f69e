"""Score files and decision files of all editions: readers and writers.

2020: `anomaly_score_<type>_id_<NN>.csv`, columns file name and score, no header. First-shot editions:
`anomaly_score_<type>_section_<NN>_test.csv` and `decision_result_...`. Names are without folder.
"""

import csv
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.run.errors import UserError
from common.run.files import existing_file, existing_folder, write_then_rename
from common.run.numbers import number
from common.run.verbs import Run
from task2_anomaly.data.classes import Machine, parse_machine
from task2_anomaly.data.layout import Part

SCORE_NAME = re.compile(r"anomaly_score_(?P<machine>[A-Za-z0-9]+_(?:id|section)_[0-9]{2})(?:_test)?\.csv")
NORMAL = "normal"  # sub-folder of a run's scores with those of held-out normal training clips
OTHER_SIGNS = {";": "semicolons", "\t": "tabs", " ": "blanks"}
_ENDING = {False: ".csv", True: "_test.csv"}  # of the files of an ID, and of a section


def score_file(machine: Machine) -> str:
    """The official name of a machine's score file."""
    return f"anomaly_score_{machine}{_ENDING[machine.section]}"


def decision_file(machine: Machine) -> str:
    """The name of a machine's decisions beside its scores."""
    return f"decision_result_{machine}{_ENDING[machine.section]}"


def scores_folder(run: Run, part: Part) -> Path:
    """Where a run's score files of a part lie."""
    return run.folder / "scores" / part


def write_scores(path: Path, scores: Mapping[str, float]) -> None:
    """{file name: score} as the challenge wants it. Raises UserError for NaN and infinity."""
    for name, score in scores.items():
        if not math.isfinite(score):
            raise UserError(f"{path}: the score of {name} is {score}, expected a finite number")
    _write(path, [(name, repr(float(score))) for name, score in sorted(scores.items())])


def write_decisions(path: Path, decisions: Mapping[str, int]) -> None:
    """{file name: 0 or 1}."""
    _write(path, [(name, str(int(decision))) for name, decision in sorted(decisions.items())])


def _write(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    with write_then_rename(path) as partial, partial.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def read_scores(path: Path) -> dict[str, float]:
    """{file name: score}. Raises UserError naming the line for anything else."""
    found: dict[str, float] = {}
    for line, (name, value) in _rows(path, "scores"):
        try:
            score = number(value)
        except ValueError:
            hint = "; these files have no header" if line == 1 else ""
            raise UserError(f"{path}:{line}: score {value!r} is no number{hint}") from None
        if not math.isfinite(score):
            raise UserError(f"{path}:{line}: score {value!r}, expected a finite number")
        if name in found:
            raise UserError(f"{path}:{line}: {name} for the second time")
        found[name] = score
    return found


def read_flags(path: Path, what: str) -> dict[str, int]:
    """{file name: 0 or 1} of decisions, labels or domains."""
    found: dict[str, int] = {}
    for line, (name, value) in _rows(path, f"{what} file"):
        if value not in ("0", "1"):
            raise UserError(f"{path}:{line}: {what} {value!r}, expected 0 or 1")
        if name in found:
            raise UserError(f"{path}:{line}: {name} for the second time")
        found[name] = int(value)
    return found


def read_pairs(path: Path) -> dict[str, str]:
    """{file name: text}, e.g. descriptive names; further columns are not read."""
    found: dict[str, str] = {}
    for line, row in _rows(path, "attributes", exactly=False):
        if row[0] in found:
            raise UserError(f"{path}:{line}: {row[0]} for the second time")
        found[row[0]] = row[1]
    return found


def _rows(path: Path, what: str, exactly: bool = True) -> list[tuple[int, list[str]]]:
    """(line, cells) of a file of two columns, or at least two; blank lines are left out."""
    rows = read_lines(path, what)
    for line, row in rows:
        if len(row) < 2 or (exactly and len(row) > 2):
            hint = next((f" (separated by {name}?)" for sign, name in OTHER_SIGNS.items() if sign in row[0]), "")
            raise UserError(f"{path}:{line}: {len(row)} columns, expected 2: file name, value, with a comma{hint}")
        if "/" in row[0] or "\\" in row[0]:  # a name can come from two folders
            raise UserError(f"{path}:{line}: {row[0]} has a folder, expected the file's name alone")
    return rows


def read_lines(path: Path, what: str) -> list[tuple[int, list[str]]]:
    """(line, cells) of a csv file without blank lines. Raises UserError for an empty file, and for none."""
    existing_file(path, what)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: no csv file ({error})") from None
    rows = [(number, row) for number, row in rows if any(row)]
    if not rows:
        raise UserError(f"{path}: empty, expected a row for each test file")
    return rows


def scored_machines(folder: Path) -> list[Machine]:
    """The machines that a folder has score files for. Raises UserError where there is none."""
    existing_folder(folder, "scores")
    found = [match for path in folder.iterdir() if (match := SCORE_NAME.fullmatch(path.name))]
    if not found:
        raise UserError(f"{folder}: no score files (anomaly_score_<type>_id_<NN>.csv, ..._section_<NN>_test.csv)")
    return sorted(parse_machine(match["machine"]) for match in found)
