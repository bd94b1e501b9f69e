"""Check anybody's archive, notebook or similarities for QVIM 2025."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.run.errors import UserError
from common.run.files import existing_file
from common.run.folders import below
from common.run.submission.archive import is_archive
from common.run.submission.measure import packed_from
from common.run.submission.rules import PLACEHOLDER, is_pdf, opened
from common.run.submission.violations import Findings, Violation, has_errors, judge_archives
from common.run.verbs import Run
from qbv.config import DataConfig
from qbv.evaluation.evaluate import figures
from qbv.inference.scores import Truth, aligned, read_similarities, read_truth
from qbv.submission.meta import OUTPUT, SYSTEMS, Notebook, label_problem, read_notebook
from qbv.submission.rules import check_notebook
from qbv.submission.tables import check_similarities

STORED = "similarities.json"
MRR_DECIMALS = 4


@dataclass(frozen=True)
class Measure:
    """What is compared: the truth of the development set and where it is from; the organisers' notebook."""

    truth: Truth | None
    source: str
    template: Notebook | None


def validate_files(
    run: Run, files: Sequence[Path], ground_truth: Path | None = None, template: Path | None = None
) -> Mapping[str, Any]:
    """Every violation of each archive, folder, .ipynb or .json; UserError at the end where there was an error."""
    given = None if template is None else _template(template)

    def measure(path: Path) -> Measure:
        return Measure(*_truth(run.config.data, path, ground_truth), given)

    def find(path: Path) -> list[Violation]:
        check = Check(measure(path))
        if path.is_dir() or is_archive(path):
            with opened(path, None, check) as (root, _):
                check.archive(root)
        else:
            check.file(existing_file(path, "archive, .ipynb or .json"), path.name)
        return check.found

    def measured_by(path: Path) -> str:
        cells = "" if given is None else f" and the cells of {template}"
        toy = packed_from(path)
        return f"the public rules, {measure(path).source}{cells}" + (
            f"; packed from {toy} data, no submission" * bool(toy)
        )

    return judge_archives(files, find, measured_by)


def _template(path: Path) -> Notebook:
    try:
        return read_notebook(existing_file(path, "notebook").read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise UserError(f"{path}: not text in UTF-8") from None
    except UserError as error:
        raise UserError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None


def _truth(data: DataConfig, path: Path, ground_truth: Path | None) -> tuple[Truth | None, str]:
    """What similarities are measured by: the recipe's development set where it is what the archive was made of."""
    if ground_truth is not None:
        return read_truth(ground_truth), f"names of {ground_truth}"
    if data.qvim is not None and Path(data.qvim).is_dir():
        from common.audio.coverage import made_of
        from qbv.data.layout import read_qvim

        made = "toy" if data.toy else made_of(Path(data.qvim))
        if made == (packed_from(path) or "official"):
            of = read_qvim(Path(data.qvim))
            truth = Truth(of.source, of.imitations, of.targets, of.recordings, of.concepts, None)
            return truth, f"names of {of.source} ({made} data)"
    return None, "names not compared (data.qvim or --ground-truth names the data)"


@dataclass
class Check(Findings):
    """Everything that is wrong with a submission."""

    measure: Measure

    def archive(self, root: Path) -> None:
        """A team's notebooks, similarities and report, wherever they lie."""
        files = {str(path.relative_to(root)): path for path in below(root) if path.is_file()}
        notebooks = {name: path for name, path in files.items() if path.suffix == ".ipynb"}
        reports = {name: path for name, path in files.items() if path.suffix.lower() == ".pdf"}
        tables = {name: path for name, path in files.items() if path.name.endswith(STORED)}
        for name in files.keys() - notebooks.keys() - reports.keys() - tables.keys():
            self.warn(name, "stray", "unexpected")
        claimed = {path.name.removesuffix(".ipynb"): self.notebook(path, name) for name, path in notebooks.items()}
        self._systems(notebooks)
        for name, path in tables.items():
            label = path.name.removesuffix(OUTPUT)
            if label not in claimed:
                self.warn(name, "stray", f"similarities of no notebook, expected <label>{OUTPUT}")
            self.similarities(path, name, claimed.get(label))
        self._reports(reports)

    def file(self, path: Path, shown: str) -> None:
        """A notebook or similarities alone. Raises UserError for anything else."""
        if path.suffix == ".ipynb":
            self.notebook(path, shown)
        elif path.suffix == ".json":
            self.similarities(path, shown, None)
        else:
            raise UserError(f"{path}: neither a folder, .zip or .tar archive, nor .ipynb or .json")

    def notebook(self, path: Path, shown: str) -> float | None:
        """Check a notebook; the MRR that it claims, where it does."""
        label = path.name.removesuffix(".ipynb")
        if wrong := label_problem(label):
            self.report(shown, "label", wrong)
        if (data := self.content(path, shown)) is None:
            return None
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            self.report(shown, "encoding", "not text in UTF-8")
            return None
        found, notebook = check_notebook(text, shown, self.measure.template)
        self.found += found
        mrr = None if notebook is None else notebook.notes.get("mrr")
        return float(mrr) if isinstance(mrr, int | float) and not isinstance(mrr, bool) else None

    def similarities(self, path: Path, shown: str, claimed: float | None) -> None:
        """Check similarities; with a truth print their MRR, which must be what the notebook claims."""
        truth = self.measure.truth
        if (data := self.content(path, shown)) is None:
            return
        queries, items = (None, None) if truth is None else (truth.queries, truth.items)
        found = check_similarities(data, shown, queries, items)
        self.found += found
        if truth is None or has_errors(found):
            return
        values = figures(aligned(read_similarities(path), truth, shown), truth, source=shown).values
        print(f"{shown}: MRR {values['mrr']:.4f}, chance {values['chance']:.4f}")
        if claimed is not None and round(abs(claimed - values["mrr"]), MRR_DECIMALS):
            self.report(shown, "mrr", f"MRR is {values['mrr']:.4f}, the notebook says {claimed:.4f}")

    def _systems(self, notebooks: Mapping[str, Path]) -> None:
        if not notebooks:
            self.report(".", "layout", "no notebook in it, expected <team>_<n>.ipynb")
        if len(notebooks) > SYSTEMS:
            self.report(".", "system-count", f"{len(notebooks)} notebooks, expected at most {SYSTEMS}")
        if len(teams := sorted({path.stem.rpartition("_")[0] for path in notebooks.values()})) > 1:
            self.report(".", "team", f"systems of different teams: {', '.join(teams)}")
        digests: dict[bytes, str] = {}
        names = [path.name for path in notebooks.values()]
        for name, path in notebooks.items():
            if names.count(path.name) > 1:
                self.report(name, "label", "two notebooks have this name")
            digest = hashlib.sha256(self.content(path, name) or b"").digest()
            if (same := digests.setdefault(digest, name)) != name:
                self.warn(name, "system-identical", f"the same notebook as {same}")

    def _reports(self, reports: Mapping[str, Path]) -> None:
        if not reports:
            self.report(".", "report", "no technical report (.pdf)")
        if len(reports) > 1:
            self.warn(".", "report", f"{len(reports)} PDF files, expected one technical report")
        for name, path in reports.items():
            if not is_pdf(path):
                self.report(name, "report", "not a PDF file")
            elif PLACEHOLDER.encode() in (self.content(path, name) or b""):
                self.warn(name, "report-placeholder", "a placeholder, expected the technical report")
