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

IMPORT = """
import importlib, pkgutil, sys
for package in sys.argv[1:]:
    for module in pkgutil.walk_packages([package], f"{package}."):
        importlib.import_module(module.name)
        print(module.name)
"""


@pytest.fixture(scope="module", params=TASKS)
def alone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(a copy of the checkout without the other tasks, the task)."""
    folder = tmp_path_factory.mktemp("alone") / "checkout"
    others = {task for task in TASKS if task != request.param}

    def left_out(at: str, names: list[str]) -> set[str]:
        hidden = {name for name in names if name.startswith(".")} | {"__pycache__", "tests"}
        return hidden | others | MADE_HERE if Path(at) == ROOT else hidden

    shutil.copytree(ROOT, folder, ignore=left_out)
    return folder, request.param


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


def test_every_module_can_be_imported(alone: tuple[Path, str]) -> None:
    folder, task = alone
    imported = run(folder, sys.executable, "-c", IMPORT, "common", task).split()
    assert {"common.run.verbs", f"{task}.__main__", f"{task}.config"} <= set(imported)
    files = {path.relative_to(folder) for top in ("common", task) for path in (folder / top).rglob("*.py")}
    names = {str(path.with_suffix("")).replace("/", ".").removesuffix(".__init__") for path in files}
    assert names - set(imported) == {"common", task}
