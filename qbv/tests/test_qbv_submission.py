"""Submissions to QVIM 2025: the right one breaks no rule, and every fault put into one is found."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.run.submission.archive import build_zip
from common.run.submission.meta import Author
from common.run.submission.package import placeholder_report
from common.run.submission.violations import has_errors
from common.run.verbs import main
from qbv.__main__ import TASK
from qbv.inference.scores import Truth
from qbv.metrics import ranks_of
from qbv.submission.meta import NOTES, NotebookSystem, notebook_text, read_notebook
from qbv.submission.rules import RULES, check_notebook
from qbv.submission.validate import Check, Measure

QUERIES, ITEMS = tuple(f"q{n}.wav" for n in range(6)), tuple(f"i{n}.wav" for n in range(5))
TARGETS = np.arange(6) % 5
TRUTH = Truth(Path("DEV Dataset.csv"), QUERIES, TARGETS, ITEMS, ("a", "a", "b", "b", "c"), None)
SCORES = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
NOTEBOOK, TABLE, REPORT = "Team_1.ipynb", "Team_1.similarities.json", "Team.technical_report.pdf"
PATHS, FETCH, MODEL, EVALUATE = 1, 2, 3, 4  # places of cells
Content = dict[str, bytes]


def system(**other: Any) -> NotebookSystem:
    about: dict[str, Any] = {
        "label": "Team_1",
        "name": "A system",
        "abbreviation": "Sys",
        "authors": [Author("D", "J")],
    }
    about |= {"download": "https://files.team.org/x", "sha256": "0" * 64, "seconds": 10.0, "padding": "zeros"}
    about |= {"mrr": float(ranks_of(SCORES, TARGETS).reciprocal().mean()), "data": "official"}
    return NotebookSystem(**about | other)


def content() -> Content:
    rows = {query: dict(zip(ITEMS, map(float, row), strict=True)) for query, row in zip(QUERIES, SCORES, strict=True)}
    report = placeholder_report(system()).replace(b"placeholder for the technical report", b"report" * 6)
    return {NOTEBOOK: notebook_text(system()).encode(), TABLE: json.dumps(rows).encode(), REPORT: report}


def found(folder: Path, files: Content, template: bytes | None = None) -> set[tuple[str, str]]:
    """(file, rule) of everything that is broken."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    check = Check(Measure(TRUTH, "", read_notebook(template.decode()) if template else None))
    check.archive(folder)
    return {(of.file, of.rule) for of in check.found}


def test_a_right_submission(tmp_path: Path) -> None:
    assert found(tmp_path, content()) == set()
    assert found(tmp_path, content(), content()[NOTEBOOK]) == set()


# ------------------------------------------------------------------------------------------------------------- faults


Change = Callable[[Content], object]


def book(change: Callable[[dict[str, Any]], object]) -> Change:
    def of(files: Content) -> None:
        notebook = json.loads(files[NOTEBOOK])
        change(notebook)
        files[NOTEBOOK] = json.dumps(notebook).encode()

    return of


def added(code: str, cell: int = MODEL) -> Change:
    """Further code at the end of a cell."""
    return book(lambda of: of["cells"][cell]["source"].append(f"\n{code}"))


def replaced(old: str, new: str, cell: int) -> Change:
    def change(notebook: dict[str, Any]) -> None:
        text = "".join(notebook["cells"][cell]["source"])
        assert old in text
        notebook["cells"][cell]["source"] = [text.replace(old, new)]

    return book(change)


def table(change: Callable[[dict[str, Any]], object]) -> Change:
    def of(files: Content) -> None:
        rows = json.loads(files[TABLE])
        change(rows)
        files[TABLE] = json.dumps(rows).encode()

    return of


def text(name: str, old: bytes, new: bytes) -> Change:
    def change(files: Content) -> None:
        assert old in files[name]
        files[name] = files[name].replace(old, new, 1)

    return change


def renamed(old: str, new: str) -> Change:
    return lambda files: files.update({new: files.pop(old)})


def copied(*names: str) -> Change:
    return lambda files: files.update({name: files[NOTEBOOK] + b" " * n for n, name in enumerate(names, 1)})


FAULTS: list[tuple[Change, str, str]] = [
    # the archive
    (lambda files: files.pop(NOTEBOOK), ".", "layout"),
    (lambda files: files.pop(REPORT), ".", "report"),
    (lambda files: files.update({REPORT: b"text"}), REPORT, "report"),
    (lambda files: files.update({REPORT: placeholder_report(system())}), REPORT, "report-placeholder"),
    (lambda files: files.update({"notes.txt": b"x"}), "notes.txt", "stray"),
    (lambda files: files.update({"similarities.json": files[TABLE]}), "similarities.json", "stray"),
    (renamed(NOTEBOOK, "Team.ipynb"), "Team.ipynb", "label"),
    (renamed(NOTEBOOK, "Team_4.ipynb"), "Team_4.ipynb", "label"),
    (renamed(NOTEBOOK, "My Team_1.ipynb"), "My Team_1.ipynb", "label"),
    (copied("Team_2.ipynb", "Team_3.ipynb", "Team_4.ipynb"), ".", "system-count"),
    (copied("Other_2.ipynb"), ".", "team"),
    (copied("below/Team_1.ipynb"), NOTEBOOK, "label"),
    (lambda files: files.update({"Team_2.ipynb": files[NOTEBOOK]}), "Team_2.ipynb", "system-identical"),
    # the notebook
    (lambda files: files.update({NOTEBOOK: b"{"}), NOTEBOOK, "notebook"),
    (lambda files: files.update({NOTEBOOK: b"\xff" + files[NOTEBOOK]}), NOTEBOOK, "encoding"),
    (lambda files: files.update({NOTEBOOK: b"[" * 100_000}), NOTEBOOK, "notebook"),
    (book(lambda of: of.update(nbformat=3)), NOTEBOOK, "notebook"),
    (book(lambda of: of["cells"][1].pop("source")), NOTEBOOK, "notebook"),
    (book(lambda of: [of["cells"].pop(n) for n in (MODEL, FETCH)]), NOTEBOOK, "interface"),
    (book(lambda of: [of["cells"].pop(n) for n in (MODEL, FETCH)]), NOTEBOOK, "todo"),
    (replaced("class QVIMModel", "class Model", MODEL), NOTEBOOK, "interface"),
    (replaced("def compute_similarities", "def similarities", MODEL), NOTEBOOK, "interface"),
    (replaced("self, items: dict, queries: dict", "self, queries: dict, items: dict", MODEL), NOTEBOOK, "interface"),
    (replaced("queries: dict)", "queries: dict, model: str)", MODEL), NOTEBOOK, "interface"),
    (added("try:\n    pass\nexcept* ValueError:\n    pass"), NOTEBOOK, "python"),  # of 3.11
    (added("print 'x'"), NOTEBOOK, "python"),
    (added('ROOT_PATH = "."'), NOTEBOOK, "place"),
    (book(lambda of: [of["cells"].pop(n) for n in (EVALUATE, PATHS)]), NOTEBOOK, "place"),
    (added("import os\nos.chdir(ROOT_PATH)"), NOTEBOOK, "chdir"),
    (added("from os import chdir as go\ngo(ROOT_PATH)"), NOTEBOOK, "chdir"),
    (added("%cd models"), NOTEBOOK, "chdir"),
    (added("!pip install x && cd models"), NOTEBOOK, "chdir"),
    (added("!ls -l"), NOTEBOOK, "shell"),
    (added("files = !ls"), NOTEBOOK, "shell"),
    (added("if True:\n    !unzip model.zip"), NOTEBOOK, "shell"),
    (added("import subprocess as sp\nsp.run(['ls'])"), NOTEBOOK, "shell"),
    (added("import os\nos.system('ls')"), NOTEBOOK, "shell"),
    (added("get_ipython().system('ls')"), NOTEBOOK, "shell"),
    (book(lambda of: of["cells"][FETCH].update(source="%%bash\n# TODO\nls")), NOTEBOOK, "shell"),
    (added("!wget https://files.team.org/x.zip"), NOTEBOOK, "shell-download"),
    (added("!git clone https://github.com/team/system"), NOTEBOOK, "git-pinned"),
    (added("%pip install git+https://github.com/team/system"), NOTEBOOK, "git-pinned"),
    (added("%pip install git+https://github.com/team/system@main"), NOTEBOOK, "git-pinned"),
    (replaced("https://", "http://", FETCH), NOTEBOOK, "url-https"),
    (replaced("https://", "ftp://", FETCH), NOTEBOOK, "url-https"),
    (replaced("https://", "file:///", FETCH), NOTEBOOK, "url-https"),
    (replaced("files.team.org", "192.168.1.7", FETCH), NOTEBOOK, "url-public"),
    (replaced("files.team.org", "localhost:8000", FETCH), NOTEBOOK, "url-public"),
    (replaced("files.team.org", "me:secret@files.team.org", FETCH), NOTEBOOK, "url-public"),
    (replaced("files.team.org", "example.org", FETCH), NOTEBOOK, "url-placeholder"),
    (replaced("x/Team_1.zip", "x/Team_1.7z", FETCH), NOTEBOOK, "url-archive"),
    (replaced("x/Team_1.zip", "x/Team_1.rar?download=1", FETCH), NOTEBOOK, "url-archive"),
    (added('(ROOT_PATH / "output").mkdir()'), NOTEBOOK, "output"),
    (added('open(f"{ROOT_PATH}/output/x.json", "w")'), NOTEBOOK, "output"),
    (added('import os\nos.path.join(ROOT_PATH, "output")'), NOTEBOOK, "output"),
    (added('weights = "/home/me/model.onnx"'), NOTEBOOK, "path"),
    (added('weights = ROOT_PATH / ".."'), NOTEBOOK, "path"),
    (book(lambda of: of["metadata"][NOTES].update(mrr=0.99)), TABLE, "mrr"),
    # the similarities
    (lambda files: files.update({TABLE: b"{"}), TABLE, "json"),
    (lambda files: files.update({TABLE: b'{"a":' * 100_000}), TABLE, "json"),
    (lambda files: files.update({TABLE: b"\xff"}), TABLE, "encoding"),
    (lambda files: files.update({TABLE: b"[1]"}), TABLE, "table-form"),
    (table(lambda of: of.update({QUERIES[1]: [1.0]})), TABLE, "table-form"),
    (table(lambda of: of.pop(QUERIES[1])), TABLE, "query-missing"),
    (table(lambda of: of.update(x=of[QUERIES[1]])), TABLE, "query-unknown"),
    (text(TABLE, b'"q1.wav"', b'"q0.wav"'), TABLE, "query-twice"),
    (table(lambda of: of[QUERIES[2]].pop(ITEMS[3])), TABLE, "item-missing"),
    (table(lambda of: of[QUERIES[2]].update(x=1.0)), TABLE, "item-unknown"),
    (text(TABLE, b'"i1.wav"', b'"i0.wav"'), TABLE, "item-twice"),
    (table(lambda of: of[QUERIES[2]].update({ITEMS[3]: float("nan")})), TABLE, "value"),
    (table(lambda of: of[QUERIES[2]].update({ITEMS[3]: float("inf")})), TABLE, "value"),
    (table(lambda of: of[QUERIES[2]].update({ITEMS[3]: "0.5"})), TABLE, "value"),
    (table(lambda of: of[QUERIES[2]].update({ITEMS[3]: True})), TABLE, "value"),
    (table(lambda of: of[QUERIES[2]].update({ITEMS[3]: None})), TABLE, "value"),
    (table(lambda of: of[QUERIES[2]].update({ITEMS[3]: 10**400})), TABLE, "value"),
    (table(lambda of: of.update({QUERIES[2]: dict.fromkeys(ITEMS, 0.5)})), TABLE, "constant"),
]


@pytest.mark.parametrize(("change", "file", "rule"), FAULTS, ids=[f"{n}-{of[2]}" for n, of in enumerate(FAULTS)])
def test_faults(tmp_path: Path, change: Change, file: str, rule: str) -> None:
    files = content()
    change(files)
    assert (file, rule) in found(tmp_path, files)


RIGHT = (
    "%pip install --quiet torch",
    "!pip3 install torch && sudo apt-get -y install ffmpeg",
    "%pip install git+https://github.com/team/system@0123456789abcdef0123456789abcdef01234567",
    'url = "https://drive.google.com/uc?id=1a2b"\narchive = "https://files.team.org/x.tar.gz"',
    'found = model["output"]\nx = (7\n  % 2)',
    "%matplotlib inline",
    '"""Docs name http://localhost and /home/me."""',
)


@pytest.mark.parametrize("code", RIGHT)
def test_what_no_rule_forbids(tmp_path: Path, code: str) -> None:
    files = content()
    added(code)(files)
    assert found(tmp_path, files) == set()


def test_a_clone_with_its_commit_is_pinned(tmp_path: Path) -> None:
    files = content()
    added("!git clone https://github.com/team/system\n!git -C system checkout 0123456789abcdef")(files)
    assert {rule for _, rule in found(tmp_path, files)} == {"shell-download"}


def test_every_rule_of_the_table_has_a_fault() -> None:
    assert {rule.name for rule in RULES if rule.name} <= {rule for _, _, rule in FAULTS}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (book(lambda of: of["cells"].append(of["cells"][-1])), "cells"),
        (replaced("csv.DictReader", "csv.reader", EVALUATE), "cell-changed"),
        (book(lambda of: of["cells"][0].update(cell_type="raw")), "cell-changed"),
    ],
)
def test_only_the_cells_that_a_team_fills_may_change(tmp_path: Path, change: Change, rule: str) -> None:
    files = content()
    template = files[NOTEBOOK]
    change(files)
    assert found(tmp_path, files, template) == {(NOTEBOOK, rule)}
    assert rule not in {of.rule for of in check_notebook(files[NOTEBOOK].decode(), NOTEBOOK)[0]}


def test_cells_of_the_template_keep_their_place_where_the_mark_was_removed(tmp_path: Path) -> None:
    files = content()
    template = files[NOTEBOOK]
    for cell in (FETCH, MODEL):
        replaced("# TODO: ", "# ", cell)(files)
    assert found(tmp_path, files, template) == set()
    added("!ls")(files)
    assert found(tmp_path, files, template) == {(NOTEBOOK, "shell")}


def test_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    truth = [f"{q},{ITEMS[t]},{TRUTH.concepts[t]}" for q, t in zip(QUERIES, TARGETS, strict=True)]
    (tmp_path / "truth.csv").write_text("\n".join(["query,item,concept", *truth]))
    files = content()
    build_zip(tmp_path / "good.zip", dict(files))
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    words = ["--ground-truth", "truth.csv"]
    assert main(TASK, ["validate", "good.zip", NOTEBOOK, TABLE, *words]) == 0
    said = capsys.readouterr().out
    assert said.count("ok: no rule is broken") == 3
    assert f"MRR {system().mrr:.4f}" in said
    assert main(TASK, ["validate", "good.zip"]) == 0  # its names are not compared
    assert "names not compared" in capsys.readouterr().out
    table(lambda of: of.pop(QUERIES[1]))(files)
    build_zip(tmp_path / "bad.zip", dict(files))
    assert main(TASK, ["validate", "bad.zip", *words]) == 1
    out, err = capsys.readouterr()
    assert "[query-missing]" in out
    assert err == "error: bad.zip: not a valid submission\n"
    for wrong, message in (("report.pdf", "neither a folder"), ("no.zip", "not found"), ("x.ipynb", "x.ipynb")):
        if wrong != "no.zip":
            (tmp_path / wrong).write_bytes(b"text")
        assert main(TASK, ["validate", wrong]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert main(TASK, ["validate", NOTEBOOK, "--template", "x.ipynb"]) == 1
    assert "x.ipynb: not valid JSON" in capsys.readouterr().err


def test_a_warning_is_no_error() -> None:
    notebook = notebook_text(system(download="https://example.org/x", data="toy"))
    (one,) = check_notebook(notebook, NOTEBOOK)[0]
    assert not has_errors([one])
    assert "toy data: no submission to a challenge" in notebook
