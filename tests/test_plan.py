"""The plan: the same rooms and files in every task, few entries at the top of common, no circles, no re-exports."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TASKS = sorted(path.parent.name for path in ROOT.glob("*/task.mk"))
PACKAGES = ("common", *TASKS)
ENTRIES = {
    *("README.md", "task.mk", "baselines.csv", "recipes", "__init__.py", "__main__.py", "py.typed", "config.py"),
    *("data", "model", "training", "inference", "evaluation", "submission", "tests"),
}
OPTIONAL = {"downloads.csv", "systems.py"}  # where the data sets come from; who does what, where recipes differ in kind
NO_CHALLENGE = {"zeroshot"}  # nothing to submit: no room for it
METRICS = ({"metrics"}, {"metrics.py"})  # a room, or the one file that it needs
OWN_ROOMS = {"task1_asc": {"deployment"}, "task2_anomaly": {"studies"}}
ROLES = {
    "data": ("classes", "layout", "prepare", "sets", "batches", "toy/write"),
    "model": ("networks",),
    "training": ("system", "losses", "train"),
    "inference": ("checkpoints", "predict", "scores"),
    "evaluation": ("evaluate", "report", "runs", "plots", "benchmark"),
    "submission": ("meta", "rules", "tables", "package", "validate"),
}
COMMON = {
    *("README.md", "__init__.py", "py.typed", "tests"),
    *("frontends.py", "losses.py", "augment.py", "schedules.py", "toy.py", "encoders", "audio", "search", "run"),
}
# Public faces: what they have is made when it is asked for.
FACES = {"common/encoders/__init__.py", *(f"{task}/__init__.py" for task in TASKS)}


def entries(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name != "__pycache__"}


def sources() -> Iterator[Path]:
    """Modules of the packages, without tests."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "tests" not in path.relative_to(ROOT).parts:
                yield path


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("task", TASKS)
def test_rooms_of_a_task(task: str) -> None:
    found = entries(ROOT / task)
    assert found & {"metrics", "metrics.py"} in METRICS
    rooms = ENTRIES - {"submission"} if task in NO_CHALLENGE else ENTRIES
    assert found - {"metrics", "metrics.py"} - OPTIONAL == rooms | OWN_ROOMS.get(task, set())


@pytest.mark.parametrize("task", TASKS)
def test_the_same_role_has_the_same_file_name(task: str) -> None:
    rooms = {room: of for room, of in ROLES.items() if not (room == "submission" and task in NO_CHALLENGE)}
    files = [ROOT / task / room / f"{role}.py" for room, roles in rooms.items() for role in roles]
    assert [str(path.relative_to(ROOT)) for path in files if not path.is_file()] == []


@pytest.mark.parametrize("room", [f"{task}/{room}" for task, rooms in OWN_ROOMS.items() for room in sorted(rooms)])
def test_a_room_of_its_own_says_why(room: str) -> None:
    if not (ROOT / room).is_dir():
        pytest.skip(f"no {room} here")
    said = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text(encoding="utf-8")))
    assert said
    assert "room" in said


def test_top_level_of_common() -> None:
    found = entries(ROOT / "common")
    assert found <= COMMON
    assert COMMON - found <= {"search"}  # comes with the first index
    assert len(found - {"README.md", "__init__.py", "py.typed", "tests"}) < 12


def test_every_part_of_the_harness_has_its_line() -> None:
    harness = ROOT / "common" / "run"
    said = ast.get_docstring(ast.parse((harness / "__init__.py").read_text(encoding="utf-8"))) or ""
    named = {line.split()[0] for line in said.splitlines()[1:] if line}
    parts = {path.stem for path in harness.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert named == parts - {"__init__"}


def defines(tree: ast.Module) -> bool:
    """Whether a module has anything of its own beside its docstring and imports."""
    docstring_or_import = (ast.Import, ast.ImportFrom, ast.Expr)
    exported = [n for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"]
    return any(not isinstance(node, docstring_or_import) and node not in exported for node in tree.body)


def test_no_module_only_exports_again() -> None:
    wrong = []
    for path in sources():
        tree, place = ast.parse(path.read_text(encoding="utf-8")), str(path.relative_to(ROOT))
        imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        if imports and not defines(tree) and place not in FACES:
            wrong.append(place)
    assert wrong == []


def imports(path: Path, modules: set[str]) -> set[str]:
    """Modules of the project that a file imports, wherever in the file, for type checkers alone included; all exist."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: a relative import"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules else str(node.module) for name in inside}
    missing = {name for name in found - modules if name.split(".")[0] in PACKAGES}
    assert missing == set(), path
    return found & modules


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected groups of two or more; Tarjan 1972."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(edges[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1:
                groups.append(sorted(group))

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return groups


def test_circles_are_found() -> None:
    edges = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": set(), "f": {"a"}}
    assert circles(edges) == [["a", "b", "c"]]
    assert circles(edges | {"c": {"d"}}) == []


def test_no_import_circles() -> None:
    modules = {name_of(path): path for path in sources()}
    assert len(modules) > 50
    edges = {name: imports(path, set(modules)) - {name} for name, path in modules.items()}
    assert circles(edges) == []
