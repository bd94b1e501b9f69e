"""Own networks, encoders and augmentations by import path: `my_module:Name` in a recipe, `my_module.py` beside it.

An own module is one file. Its text goes with the setting wherever that goes, into worker processes and into the
folders of runs, so that what runs is what was read with the recipe; its hash is part of what identifies a run. A
module that is not beside the recipe is looked for on sys.path; of an installed one only the hash is kept.
"""

import ast
import hashlib
import importlib
import inspect
import os.path
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from common.run.errors import UserError, did_you_mean
from common.run.yaml_lines import read_yaml

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")
DIGITS = 16  # of a SHA-256 that are kept
INSTALLED = {Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")}
LONGEST = 200  # characters of a signature or a message of somebody's code


class Own(str):
    """`module:Name`, the value of a setting. text: source of the file; None: it is installed."""

    file: str = ""
    text: str | None = None
    digest: str = ""

    @property
    def key(self) -> str:
        """The name under which a run keeps the source (`my_module.py`), or that of an installed module."""
        module = self.partition(":")[0]
        return module if self.text is None else f"{module}.py"


def find(value: str, folder: Path, alone: bool = True) -> Own:
    """The module of `module:Name`, in `folder` or else on sys.path; it is read, not yet run.

    alone: it may import no other file beside it, which a run would not carry. Raises UserError.
    """
    module, _, name = value.partition(":")
    parts = module.split(".")
    if not (name.isidentifier() and all(part.isidentifier() for part in parts)):
        raise UserError(f"is {value!r}, expected module:Name, e.g. my_module:Net")
    bases = [Path(place, *parts) for place in (str(folder), *sys.path)]
    files = (file for base in bases for file in (base.with_suffix(".py"), base / "__init__.py"))
    file = next((file for file in files if os.path.isfile(file)), None)  # False for names that are too long, too
    if file is None:
        raise UserError(f"no module {module!r} in {folder.absolute()} or among the installed ones")
    own, content = Own(value), file.read_bytes()
    own.file, own.digest = str(file), hashlib.sha256(content).hexdigest()[:DIGITS]
    if file.name == f"{module}.py" and file.parent not in INSTALLED:
        try:
            own.text = content.decode()
        except UnicodeDecodeError:
            raise UserError(f"{file}: cannot be imported, it is not UTF-8") from None
        if alone:
            _check_alone(own)
    return own


def _check_alone(own: Own) -> None:
    """Raise UserError where a module imports another file beside it."""
    for root, line in imported_names(own):
        if root != own.partition(":")[0] and Path(own.file).with_name(f"{root}.py").is_file():
            raise UserError(f"{own.file}:{line}: imports {root}, a file beside it; an own module is one file")


def imported_names(own: Own) -> list[tuple[str, int]]:
    """(first part of a module's name, line) of everything that an own module imports."""
    try:
        nodes = list(ast.walk(ast.parse(own.text or "")))
    except (SyntaxError, ValueError, RecursionError):
        return []  # told when it is imported
    names = [(alias.name, node.lineno) for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [(node.module, node.lineno) for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return [(name.partition(".")[0], line) for name, line in names]


def as_own(value: str) -> Own:
    """A value from Python, without a source: its module is looked for in the working directory first."""
    return value if isinstance(value, Own) else find(value, Path.cwd())


def load(value: str) -> Any:
    """What `module:Name` names.

    Raises UserError, one line, where the module cannot be imported or has no such name.
    """
    own = as_own(value)
    name = own.partition(":")[2]
    module = _imported(own)
    if not hasattr(module, name):
        choices = [key for key, of in vars(module).items() if callable(of) and not key.startswith("_")]
        raise UserError(f"{own.file} has no {name!r}{did_you_mean(name, choices)}")
    return getattr(module, name)


def _imported(own: Own) -> ModuleType:
    module = own.partition(":")[0]
    unique = module if own.text is None else f"{module}_{own.digest}"  # several versions in one process
    if unique in sys.modules:
        return sys.modules[unique]
    try:
        if own.text is None:
            return importlib.import_module(module)
        made = sys.modules[unique] = ModuleType(unique)
        made.__file__ = own.file
        exec(compile(own.text, own.file, "exec"), made.__dict__)
        return made
    except (Exception, SystemExit) as error:
        sys.modules.pop(unique, None)
        if isinstance(error, ModuleNotFoundError) and error.name:
            raise UserError(f"{module}: imports {error.name!r}, which is not installed") from None
        raise UserError(f"{module}: cannot be imported, {said(error, own)}") from None


def said(error: BaseException, value: str) -> str:
    """An exception of somebody's code in one line, with where it was raised."""
    own = as_own(value)
    at: str | int | None = error.lineno if isinstance(error, SyntaxError) else None
    for frame in traceback.extract_tb(error.__traceback__):
        at = frame.lineno if Path(frame.filename).name == Path(own.file).name else at
    text = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())[:LONGEST]
    return f"{type(error).__name__}: {text}" + (f" ({own.file}:{at})" if at else "")


def check_class(group: str, key: str, value: str, arguments: Mapping[str, Any], offered: Iterable[str]) -> None:
    """Raise UserError (`<group>.<key>: ...`) unless `value` is a torch.nn.Module class that takes these arguments.

    offered: names of what the task gives by itself where the class asks for it.
    """
    at = f"{group}.{key}"
    if ":" not in value:
        if arguments:
            raise UserError(f"{group}.arguments: are those of an own network, {key}: my_module:Net, not of {value}")
        return
    with _at(at):
        takes = _parameters(_module_class(value))
    shown = f"{value} takes ({', '.join(map(str, takes.values()))})"[:LONGEST]
    open_ended = any(of.kind is of.VAR_KEYWORD for of in takes.values())
    for name in arguments:
        if name not in takes and not open_ended:
            raise UserError(f"{group}.arguments.{name}: unknown argument{did_you_mean(name, takes)}; {shown}")
    needed = [
        of.name
        for of in takes.values()
        if of.default is of.empty and of.kind not in (of.VAR_KEYWORD, of.VAR_POSITIONAL)
    ]
    if missing := [name for name in needed if name not in {*arguments, *offered}]:
        raise UserError(f"{at}: {group}.arguments has no {missing[0]!r}; {shown}")


def check_functions(key: str, values: str | Sequence[str]) -> None:
    """Raise UserError (`<key>: ...`) where a value, one or a list, does not name a function."""
    with _at(key):
        for value in _listed(values):
            if not callable(found := load(value)) or inspect.isclass(found):
                raise UserError(f"{value} is a {type(found).__name__}, expected a function")


@contextmanager
def _at(key: str) -> Iterator[None]:
    """Errors inside begin with the key of the setting."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{key}: {error}") from None


def _module_class(value: str) -> "type[nn.Module]":
    found = load(value)
    bases = {(of.__module__, of.__name__) for of in getattr(found, "__mro__", ())}
    if ("torch.nn.modules.module", "Module") not in bases:  # torch is not imported for this question
        what = f"class {found.__name__}" if inspect.isclass(found) else type(found).__name__
        raise UserError(f"{value} is a {what}, expected a class of torch.nn.Module")
    of: type[nn.Module] = found
    return of


def _parameters(of: type) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(of).parameters)


def given(value: str, arguments: Mapping[str, Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """What the class of an own network gets: its arguments, and of `offered` what it asks for."""
    takes = _parameters(_module_class(value))
    return {name: of for name, of in offered.items() if name in takes} | dict(arguments)


def make(value: str, arguments: Mapping[str, Any], offered: Mapping[str, Any]) -> "nn.Module":
    """An own network from its class; of `offered` it gets what it asks for. Raises UserError where its code fails."""
    of, taken = _module_class(value), given(value, arguments, offered)
    try:
        return of(**taken)
    except Exception as error:
        raise UserError(f"{value}: cannot be made, {said(error, value)}") from None


def tried(value: str, network: "nn.Module", *inputs: "Tensor | None") -> Any:
    """What an own network gives for an example, in evaluation mode, without a trace in the random numbers.

    Lazy layers take their sizes from it. Raises UserError where the network fails.
    """
    import torch

    training = network.training
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            return network.eval()(*inputs)
        except Exception as error:
            shapes = " and ".join(str(tuple(of.shape)) for of in inputs if of is not None)
            raise UserError(f"{value}: fails for input {shapes}, {said(error, value)}") from None
        finally:
            network.train(training)


def check_shape(value: str, found: Any, expected: tuple[int, ...], axes: str) -> None:
    """Raise UserError where an own network or function gives anything but a tensor of this shape."""
    shape = tuple(found.shape) if hasattr(found, "shape") else f"a {type(found).__name__}"
    if shape != expected:
        raise UserError(f"{as_own(value).file}: {value} gives {shape}, expected {expected}: {axes}")


def _listed(values: str | Sequence[str]) -> Sequence[str]:
    return [values] if isinstance(values, str) else values


def try_own(values: str | Sequence[str], mels: int, frames: int) -> None:
    """`apply_own` for silence, before a training, without a trace in the random numbers."""
    import torch

    with torch.random.fork_rng(devices=[]):
        apply_own(values, torch.zeros(2, mels, frames))


def apply_own(values: str | Sequence[str], spectrogram: "Tensor") -> "Tensor":
    """Log-mel (batch, mel, frames) after own functions of it, one after the other.

    Raises UserError where one fails, or gives another shape or type than it got.
    """
    for value in _listed(values):
        try:
            found = load(value)(spectrogram)
        except Exception as error:
            raise UserError(f"{value}: fails, {said(error, value)}") from None
        check_shape(value, found, tuple(spectrogram.shape), "(batch, mel, frames) as it got")
        if found.dtype != spectrogram.dtype:
            raise UserError(
                f"{as_own(value).file}: {value} gives {found.dtype}, expected {spectrogram.dtype} as it got"
            )
        spectrogram = found
    return spectrogram


def owns(value: Any) -> Iterator[Own]:
    """All import paths in a config."""
    if isinstance(value, Own):
        yield value
    elif is_dataclass(value):
        yield from (own for of in fields(value) for own in owns(getattr(value, of.name)))
    elif isinstance(value, Mapping | list | tuple):
        yield from (own for of in (value.values() if isinstance(value, Mapping) else value) for own in owns(of))


def sources(config: Any) -> dict[str, str]:
    """{file or installed module: hash} of the own modules of a config; UserError for two files of one name."""
    found: dict[str, str] = {}
    for own in owns(config):
        if found.setdefault(own.key, own.digest) != own.digest:
            raise UserError(f"{own.file}: another file of that name is named, too; a run keeps both in one folder")
    return found


def check_sources(config: Any, recorded: Mapping[str, str], folder: Path | None) -> None:
    """Raise UserError where a source in a run's folder (None: anywhere) is not the one that training recorded."""
    for own in owns(config):
        if folder in (None, Path(own.file).parent) and own.digest != (expected := recorded.get(own.key, own.digest)):
            raise UserError(f"{own.file}: its hash is {own.digest}, training recorded {expected}: it has changed since")


def as_stored(config: T, folder: Path) -> T:
    """A config with the sources that a run's folder keeps, to which its weights belong; UserError for changed ones."""
    if not any((folder / own.key).is_file() for own in owns(config)):
        return config
    stored: T = mapped(config, lambda own: find(own, folder) if (folder / own.key).is_file() else own)
    recorded, _ = read_yaml((folder / "config.yaml").read_text(encoding="utf-8"))
    check_sources(stored, recorded.get("sources", {}), folder)
    return stored


def mapped(config: Any, change: Callable[[Own], Own]) -> Any:
    """A config with other import paths."""
    if isinstance(config, Own):
        return change(config)
    if isinstance(config, list):
        return [mapped(item, change) for item in config]
    if is_dataclass(config) and not isinstance(config, type) and any(owns(config)):
        return replace(config, **{of.name: mapped(getattr(config, of.name), change) for of in fields(config)})
    return config
