"""A system of QVIM 2025 (AES AIMLA): its name, its notebook, and what that downloads.

Public of the form are the notebook's name, its interface, its rules and similarities.json. The text of the organisers'
template is not here: what surrounds the two TODO cells stands for it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.run.errors import UserError
from common.run.submission.meta import SystemMeta

SYSTEMS = 3  # of a team
LABEL = re.compile(rf"(?P<team>\w[\w.-]*)_(?P<number>[1-{SYSTEMS}])", re.ASCII)
PLACES = ("ROOT_PATH", "DATA_PATH")
MARK = "TODO"  # in the cells that a team fills
OUTPUT = ".similarities.json"
NOTES = "dcase_systems"  # key of a notebook's metadata: MRR on the development set, ...

PATHS = """from pathlib import Path

ROOT_PATH = Path(".")  # where files may be written
DATA_PATH = Path("qvim-dev")  # DEV Dataset.csv, Items, Queries"""
FETCH = """# TODO: installs and downloads
%pip install --quiet numpy onnxruntime soundfile soxr
import hashlib
import urllib.request
import zipfile

archive = ROOT_PATH / "{label}.zip"
if not archive.is_file():
    urllib.request.urlretrieve("{download}/{label}.zip", archive)
if hashlib.sha256(archive.read_bytes()).hexdigest() != "{sha256}":
    raise RuntimeError(f"{{archive}}: not the file that was packed")
with zipfile.ZipFile(archive) as packed:
    packed.extractall(ROOT_PATH / "{label}")"""
MODEL = """# TODO: the model
{source}

QVIMModel.folder = ROOT_PATH / "{label}"
QVIMModel.seconds, QVIMModel.padding = {seconds!r}, {padding!r}"""
EVALUATE = """import csv
import json

with open(DATA_PATH / "DEV Dataset.csv", encoding="utf-8-sig", newline="") as table:
    next(table)  # a title
    rows = list(csv.DictReader(table))
items, queries, target = {}, {}, {}
for row in rows:
    folder, item = row["Class"].strip(), row["Items"].strip()
    items[item] = DATA_PATH / "Items" / folder / item
    for query in filter(None, (row[f"Query {number}"].strip() for number in (1, 2, 3))):
        queries[query], target[query] = DATA_PATH / "Queries" / folder / query, item
similarities = QVIMModel().compute_similarities(items, queries)
ranks = [1 + sum(score > of[target[query]] for score in of.values()) for query, of in similarities.items()]
print("MRR", sum(1 / rank for rank in ranks) / len(ranks))
(ROOT_PATH / "output").mkdir(exist_ok=True)
(ROOT_PATH / "output" / "similarities.json").write_text(json.dumps(similarities))"""


def label_problem(label: str) -> str | None:
    """What is wrong with a system's label, or None."""
    if LABEL.fullmatch(label):
        return None
    return f"{label!r} is not of the form <team>_<n>, n from 1 to {SYSTEMS}"


@dataclass(frozen=True)
class NotebookSystem(SystemMeta):
    """What a notebook says. download, sha256: where <label>.zip will lie, and what it is; mrr: on the development set;
    data: what the network was trained on ("toy", "official")."""

    download: str
    sha256: str
    seconds: float
    padding: str
    mrr: float
    data: str


def notebook_text(system: NotebookSystem) -> str:
    """The notebook (nbformat 4), its model a module of this room that stands alone."""
    source = Path(__file__).with_name("model_cell.py").read_text(encoding="utf-8").strip()
    about = {"label": system.label, "download": system.download.rstrip("/"), "sha256": system.sha256}
    fetch = FETCH.format(**about)
    model = MODEL.format(source=source, label=system.label, seconds=system.seconds, padding=system.padding)
    authors = ", ".join(f"{of.firstname} {of.lastname}" for of in system.authors)
    toy = "" if system.data != "toy" else "\n\nTrained and tested on toy data: no submission to a challenge."
    cells = [_cell("markdown", f"# {system.name}\n\n{authors}. Submission {system.label}.{toy}")]
    cells += [_cell("code", of) for of in (PATHS, fetch, model, EVALUATE)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notes = {"label": system.label, "mrr": system.mrr, "data": system.data}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}, NOTES: notes}
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 4}, indent=1) + "\n"


def _cell(kind: str, source: str) -> dict[str, Any]:
    code: dict[str, Any] = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return {"cell_type": kind, "metadata": {}, "source": source.splitlines(keepends=True), **code}


@dataclass(frozen=True)
class Notebook:
    """Cells of a notebook, (kind, text) each, and what this software noted in it."""

    cells: tuple[tuple[str, str], ...]
    notes: Mapping[str, Any]


def read_notebook(text: str) -> Notebook:
    """A notebook of nbformat 4. Raises UserError, without the file's name, for any other text."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"not valid JSON ({' '.join(str(error).split())[:100]})") from None
    cells = content.get("cells") if isinstance(content, dict) else None
    if not isinstance(cells, list) or not cells or content.get("nbformat") != 4:
        raise UserError("no notebook of nbformat 4 with cells")
    found = []
    for number, cell in enumerate(cells, 1):
        kind, source = (cell.get("cell_type"), cell.get("source")) if isinstance(cell, dict) else (None, None)
        lines = [source] if isinstance(source, str) else source
        if not isinstance(kind, str) or not isinstance(lines, list) or not all(isinstance(of, str) for of in lines):
            raise UserError(f"cell {number} has no cell_type or source")
        found.append((kind, "".join(lines)))
    metadata = content.get("metadata")
    notes = metadata.get(NOTES) if isinstance(metadata, dict) else None
    return Notebook(tuple(found), notes if isinstance(notes, dict) else {})
