"""The tables "paper, equation or section | file:function" of the READMEs: every name is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PLACE = re.compile(r"`([\w/]+\.py):([\w.]+)`")  # a path from the README's folder or from the checkout's


def places(readme: Path) -> list[tuple[int, str, str]]:
    """Line, path and name of everything that the rows of a README's tables point to."""
    lines = enumerate(readme.read_text(encoding="utf-8").splitlines(), start=1)
    return [(number, *found) for number, line in lines if line.startswith("|") for found in PLACE.findall(line)]


def names_of(path: Path) -> set[str]:
    """Functions, classes, their methods, and constants at the top level of a module."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{of.name}" for of in node.body if isinstance(of, ast.FunctionDef)}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


FOLDERS = [ROOT / "common", ROOT / "docker", *(path.parent for path in sorted(ROOT.glob("*/task.mk")))]
READMES = [ROOT / "README.md", *(readme for folder in FOLDERS for readme in sorted(folder.rglob("README.md")))]
WITH_TABLES = [readme for readme in READMES if readme.parent.parent == ROOT and readme.parent.name != "docker"]


@pytest.mark.parametrize("readme", WITH_TABLES, ids=lambda readme: readme.parent.name)
def test_there_is_a_table(readme: Path) -> None:
    assert len(places(readme)) > 10


@pytest.mark.parametrize("readme", READMES, ids=lambda readme: str(readme.relative_to(ROOT)))
def test_every_name_exists(readme: Path) -> None:
    wrong = []
    for number, path, name in places(readme):
        file = next((of for of in (readme.parent / path, ROOT / path) if of.is_file()), None)
        if file is None or name not in names_of(file):
            wrong.append(f"{readme.relative_to(ROOT)}:{number}: no {name} in {path}")
    assert wrong == []
