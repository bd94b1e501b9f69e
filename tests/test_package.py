"""`pip install .`: a package that works from any folder, without the checkout."""

import ast
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TASKS = sorted(path.parent.name for path in ROOT.glob("*/task.mk"))
PACKAGES = ["common", *TASKS]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, unpacked into a folder of its own."""
    wheels, target = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source")  # building writes beside the source
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    code = (
        "import os, sys; from setuptools import build_meta; os.chdir(sys.argv[1]); build_meta.build_wheel(sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", code, source, wheels], capture_output=True, check=True)
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def run(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A module of the installed package, from a folder that is not the checkout."""
    environment = {"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin", "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_wheel_has_recipes_tables_and_types_and_no_tests(installed: Path) -> None:
    there = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    assert not [name for name in there if "/tests/" in name or name.startswith("tests/")]
    for package in PACKAGES:
        wanted = [
            *(ROOT / package).glob("recipes/*.yaml"),
            *(path for kind in ("csv", "css", "js") for path in (ROOT / package).glob(f"**/*.{kind}")),
            ROOT / package / "py.typed",
        ]
        for path in wanted:
            if "tests" not in path.parts:
                assert str(path.relative_to(ROOT)) in there, path.name


@pytest.mark.parametrize("task", [TASKS[-1], *(pytest.param(task, marks=pytest.mark.slow) for task in TASKS[:-1])])
def test_toy_data_from_elsewhere(task: str, installed: Path, tmp_path: Path) -> None:
    tiny = str(ROOT / task / "tests" / "tiny.yaml")  # extends a recipe of the package
    done = run(installed, tmp_path, task, "prepare", "--recipe", tiny, "data.root=toy")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "toy").is_dir()
    (entry,) = (PROJECT["scripts"][name] for name in PROJECT["scripts"] if name == task)
    module, _, function = entry.partition(":")
    assert module == f"{task}.__main__"
    assert f"def {function}(" in (installed / task / "__main__.py").read_text(encoding="utf-8")


def test_encoders_from_elsewhere(installed: Path, tmp_path: Path) -> None:
    code = """
        import torch
        from common.encoders import create
        print(create("mn-tiny")(torch.zeros(1, 32000)).clip.shape)
    """
    (tmp_path / "use.py").write_text(textwrap.dedent(code), encoding="utf-8")
    done = run(installed, tmp_path, "use")
    assert done.returncode == 0, done.stderr
    assert "torch.Size([1, " in done.stdout


@pytest.mark.parametrize("name", [*TASKS, "common.encoders"])
def test_version(name: str, installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, name, "--version")
    assert re.fullmatch(r"dcase-systems \d+\.\d+\.\d+\n", done.stdout), done.stderr


def third_party() -> Iterator[tuple[str, str]]:
    """(file, package) of every import of the code that is shipped."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "tests" in path.parts:
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [node.module] if isinstance(node, ast.ImportFrom) else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                yield from ((str(path.relative_to(ROOT)), str(name).split(".")[0]) for name in names if name)


def test_everything_imported_is_declared() -> None:
    declared = {re.split(r"[\[<>=~!; ]", line)[0].lower().replace("_", "-") for line in PROJECT["dependencies"]}
    optional = {
        re.split(r"[\[<>=~!; ]", line)[0] for lines in PROJECT["optional-dependencies"].values() for line in lines
    }
    provided = packages_distributions()
    own = {*PACKAGES, *sys.stdlib_module_names}
    for file, name in third_party():
        known = {found.lower().replace("_", "-") for found in provided.get(name, [name])}
        assert name in own or known & declared or name in optional, f"{file}: {name} is not in pyproject.toml"
