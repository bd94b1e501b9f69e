"""Checking a whole submission: layout, meta files, every row of scores and decisions."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Literal

from common.run.marked_yaml import read_marked
from common.run.submission.archive import Limits, Violation, open_archive
from common.run.submission.rules import check_reports, entries
from task2_anomaly.data.classes import Machine, parse_machine
from task2_anomaly.inference.scores import SCORE_NAME, decision_file, score_file
from task2_anomaly.submission.editions import Edition, Expected, expected_of, names_of
from task2_anomaly.submission.meta_check import LABEL_FORM, SYSTEMS, Results, check_meta, label_problem
from task2_anomaly.submission.package import TOP
from task2_anomaly.submission.table_check import check_table

# Left by operating systems; nobody means them.
TABLE = re.compile(r"(?:anomaly_score|decision_result)_.*\.csv")
SHORT_ID = re.compile(r"(?P<start>.*_(?:id|section)_)(?P<id>\d)(?P<end>(?:_test)?\.csv)")


@dataclass
class _Check:
    """What the rules need, and what was found so far."""

    edition: Edition
    expected: Expected | None
    counted: int | None
    results: Mapping[str, Results]
    found: list[Violation] = field(default_factory=list)

    def report(self, file: str, rule: str, message: str, severity: Literal["error", "warning"] = "error") -> None:
        self.found.append(Violation(file, None, rule, message, severity))


def validate(
    path: str | Path,
    edition: Edition = "2020",
    expected: Expected | None = None,
    counted: int | None = None,
    results: Mapping[str, Results] | None = None,
    limits: Limits | None = None,
) -> list[Violation]:
    """Every rule that a submission breaks, with file and line; empty when it is valid.

    path: a .zip, .tar(.gz) or folder with the folder `task2`. expected: {machine: its test files}; None: the
    challenge's evaluation set. counted: parameters of all networks of a system. results: {label: {machine type:
    {metric: share}}}, own results on the development test set, to compare the meta files with. limits: what an archive
    may unpack to.

    Raises UserError where `path` can't be opened safely. Source: rules of DCASE 2020 and 2023 to 2025 Task 2.
    """
    check = _Check(edition, expected, counted, results or {})
    with open_archive(path, limits or Limits()) as folder:
        _check_package(folder, check)
    return check.found


def _check_package(root: Path, check: _Check) -> None:
    top = root / TOP
    if not top.is_dir() and root.name == TOP:  # the folder itself was named
        top = root
    for entry in entries(root) if top != root else ():
        if entry != top:
            check.report(entry.name, "stray", f"unexpected beside the folder {TOP!r}", "warning")
    if not top.is_dir():
        check.report(".", "layout", f"no folder {TOP!r} at the top, expected {TOP}/{LABEL_FORM}/")
        return
    systems = [entry for entry in entries(top) if entry.is_dir()]
    if not systems:
        check.report(TOP, "layout", f"no system in it, expected folders {LABEL_FORM}")
    if len(systems) > SYSTEMS:
        check.report(TOP, "system-count", f"{len(systems)} systems, expected at most {SYSTEMS}")
    scored = {folder.name: _check_system(folder, check) for folder in systems}
    _compare_systems(top, scored, check)
    check_reports(top, TOP, {folder.name.rpartition("_")[0] for folder in systems}, check.report)


def _check_system(folder: Path, check: _Check) -> dict[Machine, dict[str, float]]:
    """Check a system's folder; returns its scores."""
    label, shown = folder.name, f"{TOP}/{folder.name}"
    if wrong := label_problem(label):
        check.report(shown, "label", wrong)
    there = [parse_machine(m["machine"]) for path in entries(folder) if (m := SCORE_NAME.fullmatch(path.name))]
    expected = expected_of(check.edition, check.expected, there)
    meta = folder / f"{label}.meta.yaml"
    tables = {score_file(machine) for machine in expected}
    if check.edition == "first-shot":
        tables |= {decision_file(machine) for machine in expected}
    for entry in entries(folder):
        if entry != meta and entry.name not in tables:
            _check_stray(entry, shown, label, check)
    if meta.is_file():
        _check_meta_file(meta, shown, check, {machine.type for machine in expected})
    else:
        check.report(f"{shown}/{meta.name}", "meta-file", "missing")
    return _check_tables(folder, shown, expected, check)


def _check_stray(entry: Path, shown: str, label: str, check: _Check) -> None:
    """A file that is not expected: an error where it was meant for the challenge."""
    name = entry.name
    if short := SHORT_ID.fullmatch(name):
        right = f"{short['start']}{int(short['id']):02d}{short['end']}"
        check.report(f"{shown}/{name}", "table-name", f"number with one digit, expected {right}")
    elif entry.is_file() and SCORE_NAME.fullmatch(name):
        check.report(f"{shown}/{name}", "table-machine", "scores of a machine that is not in the evaluation set")
    elif entry.is_file() and TABLE.fullmatch(name) and (check.edition == "first-shot" or name.startswith("anomaly")):
        form = "section_<NN>_test.csv" if check.edition == "first-shot" else "id_<NN>.csv"
        check.report(f"{shown}/{name}", "table-name", f"expected anomaly_score_<type>_{form} of the evaluation set")
    elif name.endswith(".meta.yaml"):
        check.report(f"{shown}/{name}", "meta-name", f"expected {label}.meta.yaml")
    else:
        check.report(f"{shown}/{name}", "stray", "unexpected", "warning")


def _check_meta_file(path: Path, shown: str, check: _Check, types: set[str]) -> None:
    label = path.parent.name
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        check.report(f"{shown}/{path.name}", "encoding", "not text in UTF-8")
        return
    # The first-shot editions are developed on other machine types than they are evaluated on.
    of = types if check.edition == "2020" else None
    found = check_meta(text, label, f"{shown}/{path.name}", check.edition, of, check.counted, check.results.get(label))
    check.found.extend(found)


def _check_tables(folder: Path, shown: str, expected: Expected, check: _Check) -> dict[Machine, dict[str, float]]:
    scored = {}
    for machine, files in expected.items():
        names = names_of(machine, files)
        path = folder / score_file(machine)
        if path.is_file():
            found, scored[machine] = check_table(path.read_bytes(), f"{shown}/{path.name}", "score", machine, names)
            check.found.extend(found)
        else:
            check.report(f"{shown}/{path.name}", "score-missing", "missing")
        if check.edition == "2020":
            continue
        path = folder / decision_file(machine)
        if path.is_file():
            others = names or scored.get(machine, {}).keys() or None
            found, _ = check_table(path.read_bytes(), f"{shown}/{path.name}", "decision", machine, others)
            check.found.extend(found)
        else:
            check.report(f"{shown}/{path.name}", "decision-missing", "missing")
    return scored


def _compare_systems(top: Path, scored: Mapping[str, Mapping[Machine, Mapping[str, float]]], check: _Check) -> None:
    """Systems that were copied, or whose development results were."""
    metas = {label: top / label / f"{label}.meta.yaml" for label in scored}
    results = {
        label: read_marked(path.read_bytes().decode(errors="replace"), label).get("results", "development_dataset")
        for label, path in metas.items()
        if path.is_file()
    }
    for label, other in ((b, a) for a, b in combinations(scored, 2)):
        if scored[label] and scored[label] == scored[other]:
            check.report(f"{TOP}/{label}", "system-identical", f"the same scores as {other}", "warning")
        elif isinstance(results.get(label), dict) and results[label] == results.get(other):
            wrong = f"the same development results as {other}, but other scores"
            check.report(f"{TOP}/{label}/{label}.meta.yaml", "meta-results-copied", wrong, "warning")
