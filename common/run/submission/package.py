"""Writing the archive of a team: meta files, files of the systems, technical report."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.run.errors import UserError
from common.run.files import existing_file
from common.run.settings import SubmissionConfig
from common.run.submission.archive import Content, build_zip
from common.run.submission.meta import SystemMeta
from common.run.submission.rules import PLACEHOLDER, REPORT, is_pdf
from common.run.submission.violations import Violation
from common.run.verbs import Run


@dataclass(frozen=True)
class Packed:
    """One system: its meta data and its files {name in its folder: content}."""

    meta: SystemMeta
    text: str  # of the meta file
    files: Mapping[str, Content]


def build_submission(out: Path, systems: Iterable[Packed], report: Content | None = None, folder: str = "") -> Path:
    """Write the submission of one team as a .zip, whole or not at all; returns its path.

    report: the technical report, a PDF on disk or its content; None: a page that says it is a placeholder. folder: what
    stands before all names ("task1/"). UserError for no system, a label that is there twice, or more than one team.
    """
    check_name(out)
    content: dict[str, Content] = {}
    metas: list[SystemMeta] = []
    for system in systems:
        metas.append(system.meta)
        at = f"{folder}{system.meta.label}"
        content[f"{at}/{system.meta.label}.meta.yaml"] = system.text
        content |= {f"{at}/{name}": of for name, of in system.files.items()}
    team = team_of(out, [meta.label for meta in metas])
    if isinstance(report, Path):
        report = report_file(report)
    content[f"{folder}{team}{REPORT}"] = placeholder_report(metas[0]) if report is None else report
    return build_zip(out, content)


def check_name(out: Path) -> None:
    """UserError where an archive's name does not end in .zip."""
    if out.suffix != ".zip":
        raise UserError(f"{out}: expected a name that ends in .zip")


def team_of(out: Path, labels: Sequence[str]) -> str:
    """The one team of some systems; UserError for none, a label that is there twice, or several teams."""
    if not labels:
        raise UserError(f"{out}: no system to package")
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise UserError(f"{twice[0]}: two systems have this label")
    teams = {label.rpartition("_")[0] for label in labels}
    if len(teams) > 1:
        raise UserError(f"{out}: systems of different teams: {', '.join(sorted(teams))}")
    return teams.pop()


def refuse_errors(found: Iterable[Violation], where: str | None = None) -> None:
    """UserError for the first violation that is an error. where: what is wrong; None: file and line."""
    for violation in found:
        if violation.severity == "error":
            line = "" if violation.line is None else f":{violation.line}"
            raise UserError(f"{where or violation.file + line}: {violation.message}")


def passing_meta(meta: SystemMeta, wrong_label: str | None, found: Iterable[Violation]) -> None:
    """UserError for a label (wrong_label: what is wrong with it) or meta data (found: its violations) with errors."""
    if wrong_label:
        raise UserError(f"meta data: submission.label {wrong_label}")
    refuse_errors(found, f"meta data of {meta.label}")


def report_file(report: Path) -> Path:
    """The given report; UserError where it is no PDF."""
    if not is_pdf(existing_file(report, "technical report")):
        raise UserError(f"{report}: not a PDF file, expected the technical report")
    return report


def placeholder_report(meta: SystemMeta) -> bytes:
    """A page with the system's name that says what it is; the same input gives the same bytes."""
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.27, 11.69))  # A4
    authors = ", ".join(f"{author.firstname} {author.lastname}" for author in meta.authors)
    for index, line in enumerate((meta.name, authors, f"Submission {meta.label}")):
        figure.text(0.1, 0.9 - 0.03 * index, line, size=16 if index == 0 else 11, parse_math=False)
    figure.text(0.1, 0.76, f"This page is a {PLACEHOLDER}.", size=11, style="italic", color="#555555")
    buffer = io.BytesIO()
    # No date: equal content, equal bytes.
    with PdfPages(buffer, metadata={"Subject": PLACEHOLDER, "CreationDate": None}) as pdf:
        pdf.savefig(figure)
    return buffer.getvalue()


def described(run: Run) -> SubmissionConfig | None:
    """What a recipe says of its submission; where it says nothing, that is printed."""
    about: SubmissionConfig | None = run.config.submission
    if about is None:
        embedded = sorted(run.task.recipes.glob("toy*.yaml"))
        example = next((path.name for path in embedded if "\nsubmission:" in path.read_text(encoding="utf-8")), "")
        print(
            f"recipe {run.recipe} says nothing about `submission`: nothing to submit; label, name, abbreviation and "
            f"authors stand there in a recipe of your own that extends it, as in {run.task.name}/recipes/{example}"
        )
    return about


def labels_of(runs: Sequence[Run], about: SubmissionConfig, most: int) -> list[str]:
    """A label for each run as a system of its own: the recipe's, numbered from 1. UserError for more than `most`."""
    if len(runs) > most:
        raise UserError(f"a team may submit {most} systems, but --runs names {len(runs)}")
    return [f"{about.label.rpartition('_')[0]}_{number}" for number in range(1, len(runs) + 1)]


def report_of(about: SubmissionConfig, report: Path | None) -> Path | None:
    """The technical report that was named, else the recipe's."""
    return report or (Path(about.technical_report) if about.technical_report else None)
