"""Submissions of own runs to QVIM 2025: a notebook for each, and beside the archive what the notebooks download."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common.run.errors import UserError
from common.run.files import existing_file, sha256
from common.run.results.runs import section_of
from common.run.submission.archive import Content, build_zip
from common.run.submission.measure import mark
from common.run.submission.meta import identity
from common.run.submission.package import (
    check_name,
    described,
    labels_of,
    placeholder_report,
    refuse_errors,
    report_file,
    report_of,
    team_of,
)
from common.run.submission.rules import REPORT
from common.run.verbs import Run
from qbv.config import TRAINED, Config
from qbv.evaluation.report import NO_TEST
from qbv.inference.scores import file_of, read_similarities
from qbv.submission.meta import OUTPUT, SYSTEMS, NotebookSystem, label_problem, notebook_text
from qbv.submission.rules import check_notebook
from qbv.submission.validate import validate_files


def package_runs(runs: Sequence[Run], out: Path | None, report: Path | None) -> Mapping[str, Any]:
    """Build and validate the archive: of each run a notebook, and its similarities of the development set.

    <label>.zip, the networks, which the notebook fetches, is written beside it. No archive is written where a rule is
    broken. Raises UserError.
    """
    out = out or runs[0].folder.parent / "submission.zip"
    check_name(out)
    if (about := described(runs[0])) is None:
        return {}
    if wrong := label_problem(about.label):
        raise UserError(f"submission.label: {wrong}")
    labels, report = labels_of(runs, about, SYSTEMS), report_of(about, report)
    content: dict[str, Content] = {} if report is None else {f"{team_of(out, labels)}{REPORT}": report_file(report)}
    for run, label in zip(runs, labels, strict=True):
        system = _system(run, label, out.parent)
        text = notebook_text(system)
        refuse_errors(check_notebook(text, f"{label}.ipynb")[0])
        content |= {f"{label}.ipynb": text, f"{label}{OUTPUT}": _similarities(run)}
    content.setdefault(f"{team_of(out, labels)}{REPORT}", placeholder_report(system))
    build_zip(out, content)
    mark(out, system.data)
    print(f"{out}: {len(runs)} notebook{'s' if len(runs) > 1 else ''}; to be put below {system.download}: ", end="")
    print(", ".join(str(out.parent / f"{label}.zip") for label in labels))
    return validate_files(runs[0], [out])


def _system(run: Run, label: str, folder: Path) -> NotebookSystem:
    """What the notebook of a run says; <label>.zip is written. Raises UserError for what no notebook can do."""
    config: Config = run.config
    download = config.submission and config.submission.download
    if config.submission is None or not (download or "").startswith("https://"):
        raise UserError(
            f"submission.download: {download or 'null'}, expected the https address below which {label}.zip will lie"
        )
    if config.model.similarity != "cosine":
        raise UserError(f"model.similarity: {config.model.similarity}, but the notebook compares by cosine")
    own = section_of(run.folder, "test", NO_TEST)["systems"]
    if TRAINED not in own:
        raise UserError(f"comparison.systems: without {TRAINED!r}, which is what is submitted")
    from qbv.data.prepare import made_from
    from qbv.inference.checkpoints import load_part
    from qbv.inference.exported import write_encoders

    with TemporaryDirectory() as temporary:
        files = write_encoders(load_part(run), config.data.seconds, Path(temporary))
        packed = build_zip(folder / f"{label}.zip", {of["path"].name: of["path"] for of in files})
    return NotebookSystem(
        **{**identity(config.submission), "label": label},
        download=str(download),
        sha256=sha256(packed),
        seconds=config.data.seconds,
        padding=config.data.padding,
        mrr=own[TRAINED]["mrr"],
        data=made_from(config.data),
    )


def _similarities(run: Run) -> str:
    """Those of the development set, as the challenge's notebook stores them."""
    found = read_similarities(existing_file(run.folder / file_of(TRAINED), "similarities (`predict` writes them)"))
    rows = (dict(zip(found.items, row, strict=True)) for row in found.matrix.tolist())
    return json.dumps(dict(zip(found.queries, rows, strict=True)), indent=0)
