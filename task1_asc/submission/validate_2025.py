"""Checking an inference package of 2025 without running anything of it."""

import ast
import json
import re
import wave
from collections.abc import Collection
from pathlib import Path
from typing import Any

from common.run.submission.violations import Findings, Violation
from task1_asc.data.classes import CLIP_SAMPLES, MAX_BYTES, MAX_MACS, SAMPLE_RATE
from task1_asc.submission.rules import LAST_INDEX
from task1_asc.submission.tables import check_output

TEAM_FORM = "<Lastname>_<Institute>_task1"
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
    form = re.compile(r"[^_/\\]+_[^_/\\]+_task1")
    packages = sorted(path for path in (root / "pyproject.toml", *root.glob("*/pyproject.toml")) if path.is_file())
    packages = packages or sorted([*root.glob("setup.py"), *root.glob("*/setup.py")])
    if not packages:
        check.at(root, "layout", "no pyproject.toml or setup.py at the top or one folder below it")
        return check.found
    top = packages[0].parent
    teams = [path.parent for path in sorted(top.glob("*/__init__.py")) if form.fullmatch(path.parent.name)]
    if len(teams) != 1:
        check.at(top, "layout", f"{len(teams)} Python packages named {TEAM_FORM}, expected one")
        return check.found
    _check_team(check, teams[0])
    for module in _modules(check, teams[0]):
        _check_module(check, module)
        _check_checkpoint(check, teams[0], module.stem)
        _check_predictions(check, top / "predictions" / module.stem, files)
    return check.found


def _check_team(check: _Check, team: Path) -> None:
    for name in ("models", "resources", "ckpts"):
        if not (team / name).is_dir():
            check.at(team / name, "folder-missing", "missing")
    dummy = team / "resources" / "dummy.wav"
    if check.there(dummy, "resource-missing"):
        try:
            with wave.open(str(dummy)) as file:
                found = (file.getframerate(), file.getnframes(), file.getnchannels())
        except (wave.Error, EOFError) as error:
            check.at(dummy, "dummy", f"not a wav file ({error})")
        else:
            if found != (SAMPLE_RATE, CLIP_SAMPLES, 1):
                rate, frames, channels = found
                wrong = (
                    f"{frames} samples, {channels} channels at {rate} Hz, expected one second, mono, {SAMPLE_RATE} Hz"
                )
                check.at(dummy, "dummy", wrong)
    table = team / "resources" / "test.csv"
    if check.there(table, "resource-missing"):
        header = table.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip().split("\t")
        if "filename" not in header:
            check.at(table, "test-list", "no column 'filename', separated by tabs", 1)


def _modules(check: _Check, team: Path) -> list[Path]:
    modules = []
    for path in sorted(team.glob("*.py")):
        index = re.fullmatch(rf"{re.escape(team.name)}_([1-9][0-9]*)", path.stem)
        if index is None:
            continue
        if int(index[1]) > LAST_INDEX:
            check.at(path, "label-index", f"index {index[1]}, expected 1 to {LAST_INDEX}")
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
    imported = {a.asname or a.name for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names}
    for name, expected in FUNCTIONS.items():
        if name in imported and name not in defined:
            continue  # its parameters are elsewhere
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
                check.at(path, "complexity", f"{name} of device {device} is {value!r}, expected a whole number")
                continue
            numbers.append(value)
            if value > limit:
                check.at(path, "limit", f"{name} of device {device} is {value:,}, expected at most {limit:,}")
        if numbers and counted.get(f"max_{name}") != max(numbers):
            wrong = f"max_{name} is {counted.get(f'max_{name}')!r}, but the largest is {max(numbers):,}"
            check.at(path, "complexity", wrong)


def _read_json(check: _Check, path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        check.at(path, "json", f"not valid JSON ({error})", getattr(error, "lineno", None))
        return None
