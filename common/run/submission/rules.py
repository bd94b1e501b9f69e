"""What the archives of several challenges have in common: labels, names in the meta file, the technical report."""

import io
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common.run.errors import UserError
from common.run.files import existing_file
from common.run.marked_yaml import MISSING, MarkedYaml

MAX_ABBREVIATION = 10  # characters
REPORT = ".technical_report.pdf"
PLACEHOLDER = "placeholder for the technical report"
# What file managers leave behind.
IGNORED = {"__MACOSX", ".DS_Store", "Thumbs.db"}


def label_form(task: str) -> str:
    """The form of a label, for messages."""
    return f"<Lastname>_<Institute>_{task}_<n>"


def label_problem(label: str, task: str, most: int) -> str | None:
    """What is wrong with a system's label (`task`: "task1", ...; `most`: the highest index), or None."""
    parts = label.split("_")
    if len(parts) != 4:
        return f"{label!r} has {len(parts)} parts, expected the 4 of {label_form(task)}"
    if not all(parts) or parts[2] != task or not re.fullmatch(r"[1-9]\d*", parts[3]):
        return f"{label!r} is not of the form {label_form(task)}"
    if int(parts[3]) > most:
        return f"{label!r} has index {parts[3]}, expected 1 to {most}"
    return None


def is_number(value: Any) -> bool:
    """A finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_count(value: Any) -> bool:
    """A whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def is_text(value: Any) -> bool:
    """Text that is not blank."""
    return isinstance(value, str) and bool(value.strip())


def is_words(value: Any) -> bool:
    """Null, text or a list of texts."""
    return value is None or is_text(value) or (isinstance(value, list) and bool(value) and all(map(is_text, value)))


def check_names(meta: MarkedYaml, label: str) -> None:
    """Label, name and abbreviation of a system in the folder `label`."""
    given = meta.require(("submission", "label"), is_text, "the name of the system's folder")
    if given is not MISSING and given != label:
        meta.report(("submission", "label"), "meta-label", f"submission.label is {given!r}, expected {label!r}")
    meta.require(("submission", "name"), is_text, "text")
    abbreviation = meta.require(("submission", "abbreviation"), is_text, "text")
    if isinstance(abbreviation, str) and len(abbreviation) > MAX_ABBREVIATION:
        wrong = f"abbreviation {abbreviation!r} has {len(abbreviation)} characters, expected at most {MAX_ABBREVIATION}"
        meta.report(("submission", "abbreviation"), "meta-abbreviation", wrong)


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, by name."""
    return [entry for entry in sorted(folder.iterdir()) if entry.name not in IGNORED]


def report_file(report: Path) -> Path:
    """The given report; UserError where it is no PDF."""
    with open(existing_file(report, "technical report"), "rb") as file:
        if b"%PDF-" not in file.read(1024):
            raise UserError(f"{report}: not a PDF file, expected the technical report")
    return report


def placeholder_report(name: str, label: str, authors: Sequence[str]) -> bytes:
    """A page with the system's name that says what it is; the same input gives the same bytes.

    authors: first and last names.
    """
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.27, 11.69))  # A4
    lines = [name, ", ".join(authors), f"Submission {label}"]
    for index, line in enumerate(lines):
        figure.text(0.1, 0.9 - 0.03 * index, line, size=16 if index == 0 else 11, parse_math=False)
    figure.text(0.1, 0.76, f"This page is a {PLACEHOLDER}.", size=11, style="italic", color="#555555")
    buffer = io.BytesIO()
    # No date: equal content, equal bytes.
    with PdfPages(buffer, metadata={"Subject": PLACEHOLDER, "CreationDate": None}) as pdf:
        pdf.savefig(figure)
    return buffer.getvalue()


def check_reports(top: Path, task: str, teams: set[str], report: Callable[..., None]) -> None:
    """The technical report in the folder `task`; `report(file, rule, message, severity)` notes a violation."""
    files = [entry for entry in entries(top) if entry.is_file()]
    reports = [entry for entry in files if entry.name.endswith(REPORT)]
    for entry in files:
        if entry not in reports:
            report(f"{task}/{entry.name}", "stray", "unexpected file", "warning")
    if len(teams) > 1:
        report(task, "team", f"systems of different teams: {', '.join(sorted(teams))}")
    if not reports:
        report(f"{task}/{min(teams, default=f'<Lastname>_<Institute>_{task}')}{REPORT}", "report", "missing")
    for entry in reports:
        shown, data = f"{task}/{entry.name}", entry.read_bytes()
        if b"%PDF-" not in data[:1024]:
            report(shown, "report", "not a PDF file")
        elif PLACEHOLDER.encode() in data:
            report(shown, "report-placeholder", "a placeholder, expected the technical report", "warning")
        if entry.name.removesuffix(REPORT) not in teams:
            report(shown, "report-name", f"expected {min(teams, default='')}{REPORT}")
