"""What holds everywhere in the code: who may import whom, short files, a lock without addresses."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

TASKS = ("task1_asc", "task2_anomaly", "task4_sed", "task6_retrieval", "qbv", "zeroshot")
LONGEST_FILE = 500
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def sources(root: Path) -> Iterator[Path]:
    """The Python files of the project."""
    for folder in ("common", "tests", *TASKS):
        yield from sorted((root / folder).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """First parts of the names of all modules that a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def requirements(root: Path) -> dict[str, list[str]]:
    """{`name==version; marker`: hashes} of the lock."""
    found: dict[str, list[str]] = {}
    text = (root / "requirements.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            requirement, *hashes = line.split("--hash=")
            found[requirement.strip()] = [value.strip() for value in hashes]
    return found


def test_import_contracts(root: Path, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("lint-imports")
    command = [program, "--config", root / "pyproject.toml", "--no-cache", "--no-logo"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


def test_every_task_has_a_contract(root: Path) -> None:
    config = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    there = {task for task in TASKS if (root / task / "__init__.py").is_file()}
    assert there
    assert there <= set(config["root_packages"])
    forbidden = {name for contract in config["contracts"] if "common" in contract.get("source_modules", ())
                 for name in contract["forbidden_modules"]}  # fmt: skip
    assert there <= forbidden


def test_no_task_imports_another_and_common_imports_none(root: Path) -> None:
    wrong = [
        f"{path.relative_to(root)} imports {name}"
        for path in sources(root)
        for own in [path.relative_to(root).parts[0]]
        if own != "tests"
        for name in sorted(imported(path) & set(TASKS))
        if name != own
    ]
    # Tests of a tool in common may name a task; its code may not.
    assert [line for line in wrong if not line.startswith("common/tests/")] == []


def test_no_long_files(root: Path) -> None:
    files = list(sources(root))
    assert len(files) > 50
    long = {
        str(path.relative_to(root)): n for path in files if (n := len(path.read_bytes().splitlines())) > LONGEST_FILE
    }
    assert long == {}


def test_lock_pins_and_hashes_everything(root: Path) -> None:
    lock = requirements(root)
    assert len(lock) > 50
    for requirement, hashes in lock.items():
        assert re.fullmatch(r"[\w.\[\]-]+==[\w.+!]+( ; .+)?", requirement), requirement
        assert hashes, f"{requirement}: no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), requirement


def test_lock_has_what_the_project_asks_for(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["dev"], *extras["ears"]]
    locked = {re.split(r"[\[=]", requirement)[0].lower().replace("_", "-") for requirement in requirements(root)}
    names = {match.group().lower().replace("_", "-") for line in asked if (match := NAME.match(line))}
    assert len(names) > 20
    assert names <= locked


@pytest.mark.parametrize("name", ["requirements.txt", "pyproject.toml"])
def test_no_addresses_of_registries(root: Path, name: str) -> None:
    lines = (root / name).read_text(encoding="utf-8").lower().splitlines()
    text = "\n".join(line for line in lines if "--no-emit-index-url" not in line)  # the command that made the lock
    for forbidden in ("://", "http:", "https:", "pypi.", "pythonhosted", "index-url", "find-links", "@ git", "@ file"):
        assert forbidden not in text, f"{name} names {forbidden}"
