"""Checking an inference package of 2025 without running anything of it."""

import ast
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from common.run.submission.violations import Findings, Violation
from task1_asc.data.classes import CLIP_SAMPLES, MAX_BYTES, MAX_MACS, SAMPLE_RATE
from task1_asc.submission.rules import LAST_INDEX
from task1_asc.submission.tables import check_output

TEAM_FORM = "<Lastname>_<Institute>_task1"
TEAM = re.compile(r"[^_/\\]+_[^/\\]+_task1")  # real ones have underscores in the institute
MODULE = re.compile(r".+_task1_([1-9][0-9]{0,8})")
TEST_DEVICES = ("a", "b", "c", *(f"s{number}" for number in range(1, 11)))
# The functions of a module with the parameters that must come first, in order.
FUNCTIONS = {
    "predict": ("file_paths", "device_ids", "model_file_path"),
    "load_model": ("model_file_path",),
    "load_inputs": ("file_paths", "device_ids", "model"),
    "get_model_for_device": ("model", "device_id"),
}
PREDICTIONS = ("complexity.json", "output.csv", "test_accuracy.json", "model_state_dict.pt")


class _Check(Findings):
    """What was found so far, by the paths of the files."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def at(self, path: Path, rule: str, message: str, line: int | None = None) -> None:
        self.report(path.relative_to(self.root).as_posix(), rule, message, line)

    def there(self, path: Path, rule: str) -> bool:
        """Whether a file is there; reported where it is not."""
        if not path.is_file():
            self.at(path, rule, "missing")
        return path.is_file()


def check_inference_package(root: Path, files: int | Collection[str]) -> list[Violation]:
    """All violations; `root` holds the package's folder or is it. `files` as of `validate`."""
    check = _Check(root)
    top = _top(check)
    for team in _teams(check, top):
        _check_team(check, team)
        for module in _modules(check, team):
            _check_module(check, module)
            _check_checkpoint(check, team, module.stem)
            _check_predictions(check, top / "predictions" / module.stem, files)
    return check.found


def _top(check: _Check) -> Path:
    """The folder of the installable package: where its pyproject.toml or setup.py is, else its Python packages."""
    places = [check.root, *sorted(path for path in check.root.glob("*") if path.is_dir())]
    for name in ("pyproject.toml", "setup.py"):
        if found := [place for place in places if (place / name).is_file()]:
            return found[0]
    check.at(check.root, "layout", "no pyproject.toml or setup.py at the top or one folder below it")
    return next((place for place in places if _python_packages(place)), check.root)


def _python_packages(top: Path) -> list[Path]:
    """Folders of Python packages, and what looks like one but for its __init__.py."""
    below = [path for pattern in ("*", "src/*") for path in sorted(top.glob(pattern)) if path.is_dir()]
    return [path for path in below if (path / "__init__.py").is_file() or any(map(_index, path.glob("*.py")))]


def _teams(check: _Check, top: Path) -> list[Path]:
    """The team's Python package, which is to be one; all there are where it is not clear which."""
    there = _python_packages(top)
    teams = [path for path in there if TEAM.fullmatch(path.name)] or there
    if len(teams) != 1 or not TEAM.fullmatch(teams[0].name):
        names = ", ".join(path.name for path in teams[:5]) or "none"
        check.at(top, "layout", f"Python packages found: {names}; expected one named {TEAM_FORM}")
    for team in teams:
        if TEAM.fullmatch(team.name) and team.name.count("_") > TEAM_FORM.count("_"):
            shown = team.relative_to(check.root).as_posix()
            check.warn(shown, "label", f"{team.name} has more than three parts, expected {TEAM_FORM}")
        if not (team / "__init__.py").is_file():
            check.at(team / "__init__.py", "layout", "missing: without it this is no Python package")
    return teams


def _index(module: Path) -> int | None:
    """The number of a system's module, <team>_<n>.py."""
    found = MODULE.fullmatch(module.stem)
    return None if found is None else int(found[1])


def _check_team(check: _Check, team: Path) -> None:
    for name in ("models", "resources", "ckpts"):
        if not (team / name).is_dir():
            check.at(team / name, "folder-missing", "missing")
    dummy = team / "resources" / "dummy.wav"
    if check.there(dummy, "resource-missing"):
        _check_dummy(check, dummy)
    table = team / "resources" / "test.csv"
    if check.there(table, "resource-missing"):
        header = table.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip().split("\t")
        if "filename" not in header:
            check.at(table, "test-list", "no column 'filename', separated by tabs", 1)


def _check_dummy(check: _Check, dummy: Path) -> None:
    import soundfile

    try:
        sound = soundfile.info(str(dummy))
    except soundfile.LibsndfileError as error:
        check.at(dummy, "dummy", f"not a wav file ({error})")
        return
    if (sound.samplerate, sound.frames, sound.channels) != (SAMPLE_RATE, CLIP_SAMPLES, 1):
        wrong = f"{sound.frames} samples, {sound.channels} channels at {sound.samplerate} Hz"
        check.at(dummy, "dummy", f"{wrong}, expected one second, mono, {SAMPLE_RATE} Hz")


def _modules(check: _Check, team: Path) -> list[Path]:
    """The systems' modules. Their names begin with the package's, unless that is a wrong one itself."""
    modules = []
    for path in sorted(team.glob("*.py")):
        index = _index(path)
        if index is None or (TEAM.fullmatch(team.name) and path.stem != f"{team.name}_{index}"):
            continue
        if index > LAST_INDEX:
            check.at(path, "label-index", f"index {index}, expected 1 to {LAST_INDEX}")
        modules.append(path)
    if not modules:
        check.at(team, "module-missing", f"no module {team.name}_<n>.py")
    return modules


def _check_module(check: _Check, path: Path) -> None:
    """The four functions and their parameters, from the source."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the last two: nested without end
        check.at(path, "module-syntax", f"not Python: {error or 'nested too deeply'}", getattr(error, "lineno", None))
        return
    defined = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    elsewhere = _made_elsewhere(tree)
    for name, expected in FUNCTIONS.items():
        if name not in defined and not elsewhere.isdisjoint((name, "*")):
            continue  # so are its parameters
        if name not in defined:
            check.at(path, "function-missing", f"no function {name}({', '.join(expected)})")
            continue
        arguments = defined[name].args
        names = tuple(argument.arg for argument in (*arguments.posonlyargs, *arguments.args))
        keywords = [argument.arg for argument in arguments.kwonlyargs]
        line = defined[name].lineno
        if names[: len(expected)] != expected:
            wrong = f"{name}({', '.join(names)}), expected {name}({', '.join(expected)})"
            check.at(path, "function-parameters", wrong, line)
        elif name == "predict" and arguments.kwarg is None and "use_cuda" not in (*names, *keywords):
            wrong = "predict takes no use_cuda, which the challenge's evaluation passes"
            check.at(path, "function-parameters", wrong, line)
        without_default = len(names) - len(arguments.defaults)
        if names[: len(expected)] == expected and "model_file_path" in expected[:without_default]:
            check.at(path, "function-parameters", f"{name}: model_file_path has no default, expected None", line)


def _made_elsewhere(tree: ast.Module) -> set[str]:
    """Names that a module imports or assigns; `*`: any."""
    names = {a.asname or a.name for node in tree.body if isinstance(node, ast.ImportFrom) for a in node.names}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def _check_checkpoint(check: _Check, team: Path, label: str) -> None:
    folder = team / "ckpts"
    if folder.is_dir() and not any(entry.is_file() and entry.stat().st_size for entry in folder.rglob("*")):
        check.at(folder, "checkpoint-missing", f"no checkpoint in it, expected that of {label}")


def _check_predictions(check: _Check, folder: Path, files: int | Collection[str]) -> None:
    for name in PREDICTIONS:
        check.there(folder / name, "prediction-missing")
    output = folder / "output.csv"
    if output.is_file():
        shown = output.relative_to(check.root).as_posix()
        check.found.extend(check_output(output.read_bytes(), shown, files, folder="audio/"))
    _check_complexity(check, folder / "complexity.json")
    accuracy = _read_json(check, folder / "test_accuracy.json")
    if accuracy is not None and not isinstance(accuracy, dict | int | float):
        check.at(folder / "test_accuracy.json", "accuracy", "expected an accuracy or several by name")


def _check_complexity(check: _Check, path: Path) -> None:
    counted = _read_json(check, path)
    if counted is None:
        return
    per_device = counted.get("per_device") if isinstance(counted, dict) else None
    if not isinstance(per_device, dict):
        check.at(path, "complexity", "no object per_device, expected {device: {MACs, Params}}")
        return
    for device in TEST_DEVICES:
        if device not in per_device:
            check.at(path, "complexity", f"no counts for device {device}")
    for name, limit in (("MACs", MAX_MACS), ("Params", MAX_BYTES)):
        numbers: list[int] = []
        for device, of in per_device.items():
            value: Any = of.get(name) if isinstance(of, dict) else None
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                check.at(path, "complexity", f"{name} of device {device} is {value!r:.60}, expected a whole number")
                continue
            numbers.append(value)
            if value > limit:
                check.at(path, "limit", f"{name} of device {device} is {value:,}, expected at most {limit:,}")
        if numbers and counted.get(f"max_{name}") != max(numbers):
            wrong = f"max_{name} is {counted.get(f'max_{name}')!r:.60}, but the largest is {max(numbers):,}"
            check.at(path, "complexity", wrong)


def _read_json(check: _Check, path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        check.at(path, "json", f"not valid JSON ({error})", getattr(error, "lineno", None))
        return None
