"""Writing a submission from stored score files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.run.errors import UserError
from common.run.submission.archive import Content, build_zip
from common.run.submission.rules import placeholder_report, report_file
from task2_anomaly.inference.scores import decision_file, score_file, scored_machines
from task2_anomaly.submission.editions import EVALUATION, Edition, Expected, expected_of, names_of
from task2_anomaly.submission.meta import SubmissionMeta, meta_yaml
from task2_anomaly.submission.meta_check import SYSTEMS, check_meta, label_problem
from task2_anomaly.submission.table_check import passing_table

TOP = "task2"
# Stands in the metadata of a made-up report, by which the validator knows it.


@dataclass(frozen=True)
class System:
    """One system of a team: its meta data and the folder of its score (and decision) files."""

    meta: SubmissionMeta
    scores: Path


def package_2020(
    out: Path, systems: Sequence[System], report: Path | None = None, expected: Expected = EVALUATION
) -> Path:
    """Write the submission of one team as a .zip, whole or not at all; returns its path.

    report: the technical report as PDF; None: a page that says it is a placeholder. expected: machines and test files
    of the evaluation set. Raises UserError for meta data or scores that the challenge would not take.
    """
    return _package(out, systems, report, "2020", expected)


def package_first_shot(
    out: Path, systems: Sequence[System], report: Path | None = None, expected: Expected | None = None
) -> Path:
    """The same for the first-shot editions: scores and decisions of every machine type.

    expected: None: the evaluation set of the edition whose machine types the first system has.
    """
    return _package(out, systems, report, "first-shot", expected)


def _package(
    out: Path, systems: Sequence[System], report: Path | None, edition: Edition, expected: Expected | None
) -> Path:
    if out.suffix != ".zip":
        raise UserError(f"{out}: expected a name that ends in .zip")
    if not 1 <= len(systems) <= SYSTEMS:
        raise UserError(f"{out}: {len(systems)} systems to package, expected 1 to {SYSTEMS}")
    content: dict[str, Content] = {}
    for system in systems:
        folder = f"{TOP}/{system.meta.label}"
        if f"{folder}/{system.meta.label}.meta.yaml" in content:
            raise UserError(f"{system.meta.label}: two systems have this label")
        content[f"{folder}/{system.meta.label}.meta.yaml"] = _passing_meta(system.meta, edition)
        content |= {f"{folder}/{path.name}": path for path in _passing_tables(system.scores, edition, expected)}
    teams = {system.meta.label.rpartition("_")[0] for system in systems}
    if len(teams) > 1:
        raise UserError(f"{out}: systems of different teams: {', '.join(sorted(teams))}")
    name = f"{TOP}/{teams.pop()}.technical_report.pdf"
    first = systems[0].meta
    authors = [f"{a.firstname} {a.lastname}" for a in first.authors]
    content[name] = report_file(report) if report else placeholder_report(first.name, first.label, authors)
    return build_zip(out, content)


def _passing_meta(meta: SubmissionMeta, edition: Edition) -> str:
    if wrong := label_problem(meta.label):
        raise UserError(f"submission.label {wrong}")
    if meta.edition != edition:
        raise UserError(f"{meta.label}: meta data of edition {meta.edition}, expected {edition}")
    text = meta_yaml(meta)
    for found in check_meta(text, meta.label, "meta data", edition):
        if found.severity == "error":
            raise UserError(f"meta data of {meta.label}: {found.message}")
    return text


def _passing_tables(folder: Path, edition: Edition, expected: Expected | None) -> list[Path]:
    """The score (and decision) files of a system."""
    found = []
    for machine, files in expected_of(edition, expected, scored_machines(folder)).items():
        names, scores = names_of(machine, files), folder / score_file(machine)
        values = passing_table(scores, "score", machine, names)
        found.append(scores)
        if edition == "first-shot":
            decisions = folder / decision_file(machine)
            passing_table(decisions, "decision", machine, values.keys())
            found.append(decisions)
    return found
