"""Writing a submission of 2024 from stored outputs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.run.errors import UserError
from common.run.submission.archive import Content, build_zip
from common.run.submission.rules import placeholder_report, report_file
from task1_asc.config import SPLITS
from task1_asc.submission.meta import SubmissionMeta, meta_yaml
from task1_asc.submission.meta_check import check_meta, label_problem
from task1_asc.submission.output_check import EVALUATION_FILES, passing_output

# Stands in the metadata of a made-up report, by which the validator knows it.


@dataclass(frozen=True)
class System2024:
    """One system of a team: its meta data and the output file of each split."""

    meta: SubmissionMeta
    outputs: Mapping[int, Path]


def package_2024(
    out: Path,
    systems: Sequence[System2024],
    report: Path | None = None,
    files: int | Collection[str] = EVALUATION_FILES,
) -> Path:
    """Write the submission of one team as a .zip, whole or not at all; returns its path.

    report: the technical report as PDF; None: a page that says it is a placeholder. files: of the evaluation set, as
    `validate` takes them. Raises UserError for meta data or outputs that the challenge would not take.
    """
    if out.suffix != ".zip":
        raise UserError(f"{out}: expected a name that ends in .zip")
    if not systems:
        raise UserError(f"{out}: no system to package")
    content: dict[str, Content] = {}
    teams = set()
    for system in systems:
        label = system.meta.label
        if wrong := label_problem(label):
            raise UserError(f"submission.label {wrong}")
        text = meta_yaml(system.meta)
        for found in check_meta(text, label, "meta data"):
            if found.severity == "error":
                raise UserError(f"meta data: {found.message}")
        folder = f"task1/{label}"
        if f"{folder}/{label}.meta.yaml" in content:
            raise UserError(f"{label}: two systems have this label")
        content[f"{folder}/{label}.meta.yaml"] = text
        for split in SPLITS:
            if split not in system.outputs:
                raise UserError(f"{label}: no output of split {split}, expected all of {', '.join(map(str, SPLITS))}")
            content[f"{folder}/{label}.output.split_{split}.csv"] = passing_output(system.outputs[split], files)
        teams.add(label.rpartition("_")[0])
    if len(teams) > 1:
        raise UserError(f"{out}: systems of different teams: {', '.join(sorted(teams))}")
    name = f"task1/{teams.pop()}.technical_report.pdf"
    first = systems[0].meta
    authors = [f"{a.firstname} {a.lastname}" for a in first.authors]
    content[name] = report_file(report) if report else placeholder_report(first.name, first.label, authors)
    return build_zip(out, content)
