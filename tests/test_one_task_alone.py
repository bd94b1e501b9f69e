"""Every task works where the other tasks are not: in a checkout, or an image, without their folders."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TASKS = sorted(path.parent.name for path in ROOT.glob("*/task.mk"))
MADE_HERE = {"runs", "data", "shared"}  # at the top

# `common` once, where no task is; then each task where no other is. Third-party packages, which take seconds, are
# loaded once.
IMPORT = """
import importlib, os, pkgutil, sys
for package in sys.argv[1:]:
    os.chdir(f"../{package}")
    for module in pkgutil.walk_packages([package], f"{package}."):
        importlib.import_module(module.name)
        print(module.name)
    for name in [name for name in sys.modules if package != "common" and name.partition(".")[0] == package]:
        del sys.modules[name]
"""


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copies of the checkout: `common` without tasks, and for each task one of its name without the others."""
    folder = tmp_path_factory.mktemp("alone")
    for kept in ("common", *TASKS):

        def left_out(at: str, names: list[str], kept: str = kept) -> set[str]:
            hidden = {name for name in names if name.startswith(".")} | {"__pycache__", "tests"}
            return hidden | (set(TASKS) - {kept}) | MADE_HERE if Path(at) == ROOT else hidden

        shutil.copytree(ROOT, folder / kept, ignore=left_out)
    return folder


@pytest.fixture(params=TASKS)
def alone(request: pytest.FixtureRequest, copies: Path) -> tuple[Path, str]:
    """(a copy of the checkout without the other tasks, the task)."""
    return copies / request.param, request.param


@pytest.fixture(scope="module")
def imported(copies: Path) -> set[str]:
    """Every module that can be imported where no other task is."""
    return set(run(copies / "common", sys.executable, "-c", IMPORT, "common", *TASKS).split())


def run(folder: Path, *words: str) -> str:
    clean = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHONPATH")}
    done = subprocess.run(words, cwd=folder, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout[-1000:]}{done.stderr[-2000:]}"
    return done.stdout


def test_every_target_can_be_planned(alone: tuple[Path, str]) -> None:
    """`make help` lists the own targets and no others; each can be planned, and names no task that is not there."""
    folder, task = alone
    targets = [line.split()[0] for line in run(folder, "make", "help").splitlines()]
    prefixes = {target.partition("-")[0] for target in targets if re.match(r"\w+-train$", target)}
    assert prefixes == {task.partition("_")[0]}
    for target in targets:
        planned = run(folder, "make", "-n", "-o", ".venv/.ready", target)
        called = [other for other in TASKS if other != task and re.search(rf"(-m |mypy .*){other}\b", planned)]
        assert called == [], f"{target}: {planned}"


def test_every_module_can_be_imported(alone: tuple[Path, str], imported: set[str]) -> None:
    folder, task = alone
    assert {"common.run.verbs", f"{task}.__main__", f"{task}.config"} <= imported
    files = {path.relative_to(folder) for top in ("common", task) for path in (folder / top).rglob("*.py")}
    names = {str(path.with_suffix("")).replace("/", ".").removesuffix(".__init__") for path in files}
    assert names - imported == {"common", task}
