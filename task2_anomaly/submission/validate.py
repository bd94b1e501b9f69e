"""Checking a whole submission: layout, meta files, every row of scores and decisions."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from pathlib import Path
from typing import Any

from common.audio.coverage import made_of
from common.run.folders import entries
from common.run.marked_yaml import read_marked
from common.run.submission.archive import Limits
from common.run.submission.measure import OwnData
from common.run.submission.rules import META_BYTES, check_meta_file, check_reports, opened, team_folder
from common.run.submission.violations import Findings, Measure, Violation, judge_archives
from common.run.verbs import Run
from task2_anomaly.config import Config
from task2_anomaly.data.classes import Machine, parse_machine
from task2_anomaly.inference.scores import SCORE_NAME, decision_file, score_file
from task2_anomaly.submission.editions import Edition, Expected, Names, edition_of, expected_files, expected_names
from task2_anomaly.submission.rules import SYSTEMS, TASK, Results, check_meta, label_problem
from task2_anomaly.submission.tables import What, check_table

TABLE = re.compile(r"(?:anomaly_score|decision_result)_.*\.csv")
SHORT_ID = re.compile(r"(?P<start>.*_(?:id|section)_)(?P<id>[0-9])(?P<end>(?:_test)?\.csv)")
COMPARED = 50  # systems that are compared with each other


@dataclass
class _Check(Findings):
    """What the rules need, and what was found so far."""

    edition: Edition
    expected: Expected | None
    counted: int | None
    results: Mapping[str, Results]


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
    with opened(path, limits, check) as (folder, _):
        _check_package(folder, check)
    return check.found


def validate_archives(
    run: Run,
    files: Sequence[Path],
    edition: Edition | None = None,
    counted: int | None = None,
    results: Mapping[str, Results] | None = None,
    measure: Measure | None = None,
) -> Mapping[str, Any]:
    """List every violation of every archive; UserError at the end where there was an error.

    measure: by the evaluation set of the challenge, or of the recipe's data; None: as `common.run.submission.measure`
    says.
    """
    config: Config = run.config
    named, edition = edition, edition or edition_of(config)
    here = config.data.root is not None and Path(config.data.root).is_dir() and edition == edition_of(config)
    there = expected_files(config) if here else {}
    own = OwnData(config.data.root, made_of, fits=bool(there))

    def expected(path: Path) -> Expected | None:
        return there if own.measures(path, measure) else None

    return judge_archives(
        files,
        lambda path: validate(path, edition, expected(path), counted, results),
        lambda path: own.told(path, measure, f"the challenge's evaluation set ({edition})", refused=named is None),
    )


def _check_package(root: Path, check: _Check) -> None:
    if (there := team_folder(root, TASK, check)) is None:
        return
    top, systems = there
    if len(systems) > SYSTEMS:
        check.report(TASK, "system-count", f"{len(systems)} systems, expected at most {SYSTEMS}")
    scored = {folder.name: _check_system(folder, check) for folder in systems}
    _compare_systems(top, scored, check)
    check_reports(top, TASK, systems, check)


def _check_system(folder: Path, check: _Check) -> dict[Machine, dict[str, float]]:
    """Check a system's folder; returns its scores."""
    label, shown = folder.name, f"{TASK}/{folder.name}"
    if wrong := label_problem(label):
        check.report(shown, "label", wrong)
    there = [parse_machine(m["machine"]) for path in entries(folder) if (m := SCORE_NAME.fullmatch(path.name))]
    expected = expected_names(check.edition, check.expected, there)
    meta = folder / f"{label}.meta.yaml"
    tables = {score_file(machine) for machine in expected}
    if check.edition == "first-shot":
        tables |= {decision_file(machine) for machine in expected}
    for entry in entries(folder):
        if entry != meta and entry.name not in tables:
            _check_stray(entry, shown, label, check)
    # The first-shot editions are developed on other machine types than they are evaluated on.
    types = {machine.type for machine in expected} if check.edition == "2020" else None
    own = (check.edition, types, check.counted, check.results.get(label))
    check_meta_file(meta, shown, check, lambda text, file: check_meta(text, label, file, *own))
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
        check.warn(f"{shown}/{name}", "stray", "unexpected")


def _check_tables(folder: Path, shown: str, expected: Names, check: _Check) -> dict[Machine, dict[str, float]]:
    scored = {}
    for machine, names in expected.items():
        scores = _read_table(folder / score_file(machine), shown, "score", machine, names, check)
        if scores is not None:
            scored[machine] = scores
        if check.edition == "first-shot":
            others = names or (scores or {}).keys() or None
            _read_table(folder / decision_file(machine), shown, "decision", machine, others, check)
    return scored


def _read_table(
    path: Path, shown: str, what: What, machine: Machine, names: Collection[str] | None, check: _Check
) -> dict[str, float] | None:
    """Check one file; its values, None where it is missing."""
    if not path.is_file():
        check.report(f"{shown}/{path.name}", f"{what}-missing", "missing")
        return None
    if (data := check.content(path, f"{shown}/{path.name}")) is None:
        return None
    found, values = check_table(data, f"{shown}/{path.name}", what, machine, names)
    check.found.extend(found)
    return values


def _compare_systems(top: Path, scored: Mapping[str, Mapping[Machine, Mapping[str, float]]], check: _Check) -> None:
    """Systems that were copied, or whose development results were."""
    metas = {label: top / label / f"{label}.meta.yaml" for label in scored}
    results = {
        label: read_marked(path.read_bytes().decode(errors="replace"), label).get("results", "development_dataset")
        for label, path in islice(metas.items(), COMPARED)
        if path.is_file() and path.stat().st_size <= META_BYTES
    }
    for other, label in combinations(islice(scored, COMPARED), 2):
        if scored[label] and scored[label] == scored[other]:
            check.warn(f"{TASK}/{label}", "system-identical", f"the same scores as {other}")
        elif isinstance(results.get(label), dict) and results[label] == results.get(other):
            wrong = f"the same development results as {other}, but other scores"
            check.warn(f"{TASK}/{label}/{label}.meta.yaml", "meta-results-copied", wrong)
