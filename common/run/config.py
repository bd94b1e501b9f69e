"""Recipes: YAML files and `key=value` overrides -> a typed dataclass, with errors that name file, line and key."""

import functools
import math
import os.path
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml

from common.run.errors import UserError, brief, did_you_mean
from common.run.imports import Own, check_sources, find, sources
from common.run.yaml_lines import NotYamlError, dotted, read_yaml

C = TypeVar("C")


class Origin(str):
    """Where a setting was written: a recipe, its line and key, or an override. folder: of the recipe."""

    folder: Path = Path()


Origins = dict[str, Origin]  # by key

FINITE = sys.float_info.max
OVERRIDE = re.compile(r"^[A-Za-z_]\w*(\.\w+)*=")
EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)e[-+]?\d+", re.ASCII | re.IGNORECASE)


def in_range(default: Any = MISSING, low: float = float("-inf"), high: float = float("inf")) -> Any:
    """A dataclass field with a default, or a function that makes it, all of whose numbers must lie in [low, high]."""
    metadata = {"range": (low, high)}
    if default is not MISSING and callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def load_config(kind: type[C], recipes: Path, recipe: str, overrides: Sequence[str] = ()) -> C:
    """The recipe (a name in the folder `recipes`, or the path of a yaml file) with `a.b=value` overrides, as `kind`.

    A recipe may begin with `extends: NAME_OR_PATH`; its mappings are merged into those of that recipe, or of several,
    `extends: [NAME, NAME]`, of which the later one holds where both have a setting. Raises UserError for unknown keys,
    wrong types, and numbers out of range, and for own modules that cannot be imported.
    """
    values, origins = _read_recipe(find_recipe(recipes, recipe), recipes)
    for override in overrides:
        _apply_override(values, origins, override)
    recorded = _build(dict[str, str], values.pop("sources", {}), "sources", origins)  # in the config of a run
    config: C = _build(kind, values, "", origins)
    if recorded:
        check_sources(config, recorded, _where("sources", origins).folder)
    return config


def config_of(kind: type[C], values: Mapping[str, Any], at: str, folder: Path | None = None) -> C:
    """A plain config (`config_dict`) as `kind`; its own modules lie in `folder` (default: the working directory).

    Raises UserError, with `at` before it, where it does not fit, and where an own module is not the recorded one.
    """
    own = {key: _origin(key, folder) for key in values} if folder else {}
    try:
        recorded = _build(dict[str, str], values.get("sources", {}), "sources", {})
        config: C = _build(kind, {key: of for key, of in values.items() if key != "sources"}, "", own)
        check_sources(config, recorded, folder)
    except UserError as error:
        raise UserError(f"{at}: {error}") from None
    return config


def find_recipe(recipes: Path, recipe: str) -> Path:
    """The file of a recipe that is given by name or by path."""
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml"):
        if not os.path.isfile(path):  # False for names that are too long, too
            raise UserError(f"{path}: recipe not found")
        return path
    named = recipes / f"{recipe}.yaml"
    if not os.path.isfile(named):
        raise UserError(f"no recipe {recipe!r}{did_you_mean(recipe, [p.stem for p in recipes.glob('*.yaml')])}")
    return named.relative_to(Path.cwd()) if named.is_relative_to(Path.cwd()) else named


def config_dict(config: Any) -> dict[str, Any]:
    """A config as plain lists and mappings, for YAML and JSON; `sources` has the hashes of its own modules."""
    plain: dict[str, Any] = _plain(asdict(config))
    return plain | ({"sources": own} if (own := sources(config)) else {})


def dump(plain: Mapping[str, Any]) -> str:
    """A plain config as YAML; loading it again gives the same config."""
    return yaml.safe_dump(plain, sort_keys=False, width=120)


def changes(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """{dotted key: (old value, new value)} of what differs between two plain configs."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in dict.fromkeys([*old, *new]):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found |= changes(a, b, f"{prefix}{key}.")
        elif a != b:
            found[f"{prefix}{key}"] = (a, b)
    return found


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """`key: old there, new now` for every key whose value differs between two plain configs."""
    return [f"{key}: {a} there, {b} now" for key, (a, b) in changes(old, new).items()]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path | Own) else value


def _read_recipe(path: Path, recipes: Path) -> tuple[dict[str, Any], Origins]:
    """The settings of a recipe and of those that it extends; of several the later one holds."""
    layers: list[tuple[Path, dict[str, Any], Origins]] = []  # the newest first
    left: list[tuple[Path, frozenset[Path]]] = [(path, frozenset())]
    while left:
        path, below = left.pop()
        if path.resolve() in below:
            raise UserError(f"{path}: extends itself")
        own, origins = _read_file(path)
        layers.append((path, own, origins))
        for parent in _names(own.pop("extends", None), origins):
            beside = Path(parent).suffix in (".yaml", ".yml")
            found = find_recipe(recipes, str(path.parent / parent) if beside else parent)
            left.append((found, below | {path.resolve()}))
    _, values, origins = layers.pop()
    for path, own, newer in reversed(layers):
        try:
            values = _merge(values, own)
        except RecursionError:
            raise UserError(f"{path}: a group of settings contains itself, or too many others") from None
        origins |= newer
    return values, origins


def _names(extends: Any, origins: Origins) -> list[str]:
    names = extends if isinstance(extends, list) else [] if extends is None else [extends]
    if not all(isinstance(name, str) for name in names):
        raise UserError(f"{origins['extends']}: expected the name of a recipe, or a list of names")
    return names


def _read_file(path: Path) -> tuple[dict[str, Any], Origins]:
    try:
        values, keys = read_yaml(path.read_text(encoding="utf-8"))
    except (NotYamlError, UnicodeDecodeError) as error:
        line = f":{error.line}" if isinstance(error, NotYamlError) and error.line else ""
        raise UserError(f"{path}{line}: not valid YAML ({error})") from None
    if not isinstance(values, dict | None):
        raise UserError(f"{path}:1: expected a mapping of settings")
    origins: Origins = {}
    for key, at in keys:
        name = dotted(key)
        if name in origins:  # YAML would silently take the last one
            raise UserError(f"{path}:{at}: {name}: is there twice")
        origins[name] = _origin(f"{path}:{at}: {' '.join(name.split())}", path.parent)
    return values or {}, origins


def _merge(base: dict[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in new.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return merged


def _apply_override(values: dict[str, Any], origins: Origins, override: str) -> None:
    key, text = override.split("=", 1)
    shown = " ".join(override[:200].split()) + ("..." if len(override) > 200 else "")
    try:
        value, _ = read_yaml(text)
    except NotYamlError:
        raise UserError(f"{shown}: the value is not valid YAML") from None
    target = values
    *parents, last = key.split(".")
    for parent in parents:
        group = {} if target.get(parent) is None else target[parent]
        if not isinstance(group, dict):
            raise UserError(f"{shown}: {parent} is not a group of settings")
        target[parent] = target = dict(group)  # a copy: an alias of it keeps its value
    target[last] = value
    for inner in [name for name in origins if name.startswith(f"{key}.")]:
        del origins[inner]
    origins[key] = _origin(shown, Path.cwd())


def _origin(text: str, folder: Path) -> Origin:
    origin = Origin(text)
    origin.folder = folder
    return origin


def _where(key: str, origins: Origins) -> Origin:
    """Where `key`, or the group around it, was written; the key itself where it was not."""
    parts = key.split(".")
    for n in range(len(parts), 0, -1):
        origin = origins.get(".".join(parts[:n]))
        if origin:
            return origin if n == len(parts) else _origin(f"{origin}: {key}", origin.folder)
    return _origin(key, Path.cwd())


def _build(kind: Any, value: Any, key: str, origins: Origins, default: Any = None) -> Any:
    """What is written at a key as a `kind`: groups become dataclasses, pydantic checks the leaves."""
    options = typing.get_args(kind) if _is_union(kind) else (kind,)
    if value is None:
        if types.NoneType not in options:
            raise UserError(f"{_where(key, origins)}: is empty, expected {_name(kind)}")
        return None
    for option in options:
        if is_dataclass(option):
            return _build_group(option, value, key, origins, default)
        item = typing.get_args(option)[0] if typing.get_origin(option) is list else None
        if (is_dataclass(item) or item is Own) and isinstance(value, list):
            return [_build(item, one, key, origins) for one in value]
    if Own in options and isinstance(value, str) and ":" in value:
        try:
            return find(value, (at := _where(key, origins)).folder)
        except UserError as error:
            raise UserError(f"{at}: {error}") from None
    from pydantic import ValidationError

    try:
        return _check(kind)(value)
    except ValidationError:
        shown = brief(value) if isinstance(value, str) else repr(brief(value))
        raise UserError(f"{_where(key, origins)}: is {shown}, expected {_name(kind)}") from None


def _build_group(group: Any, value: Any, key: str, origins: Origins, default: Any) -> Any:
    """The dataclass `group`; settings that are not written are those of the group's default, where it has one."""
    if not isinstance(value, Mapping):
        raise UserError(f"{_where(key, origins)}: is {brief(value)}, expected a group of settings")
    hints = typing.get_type_hints(group)
    known = {f.name: f for f in fields(group)}
    parts = {}
    for name, item in value.items():
        inner = f"{key}.{name}" if key else str(name)
        if name not in known:
            raise UserError(f"{_where(inner, origins)}: unknown setting{did_you_mean(str(name), known)}")
        setting = known[name]
        below = getattr(default, name, setting.default_factory() if callable(setting.default_factory) else None)
        parts[name] = _build(hints[name], item, inner, origins, below)
        _check_range(setting, parts[name], inner, origins)
    for f in known.values():
        if default is None and f.default is MISSING and f.default_factory is MISSING and f.name not in value:
            raise UserError(f"{_where(key, origins) or 'recipe'}: setting {f.name!r} is missing")
    try:
        return group(**parts) if default is None else replace(default, **parts)
    except UserError as error:  # of the config's own checks: `key: what is wrong`
        at, _, wrong = str(error).partition(": ")
        raise UserError(f"{_where(at, origins)}: {wrong}") from None


def _check_range(setting: Field[Any], value: Any, key: str, origins: Origins) -> None:
    if "range" not in setting.metadata or value is None:
        return
    low, high = setting.metadata["range"]
    for number in _numbers_in(value):
        if not low <= number <= high or math.isinf(number):
            span = f"{low:g} or more" if high in (math.inf, FINITE) else f"{low:g} to {high:g}"
            if abs(number) == math.inf:
                span = f"a finite number, {span}"
            raise UserError(f"{_where(key, origins)}: is {number:g}, expected {span}")


def _numbers_in(value: Any) -> Iterator[float]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _numbers_in(item)
    else:
        yield value


@functools.cache
def _check(kind: Any) -> Callable[[Any], Any]:
    from pydantic import ConfigDict, TypeAdapter  # verbs without a recipe do not need it

    return TypeAdapter(_as_yaml(kind), config=ConfigDict(strict=True)).validate_python


def _as_yaml(kind: Any) -> Any:
    """A type as pydantic has to check it, strictly, but for what YAML writes in another way."""
    from pydantic import BeforeValidator, Field, Strict

    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is int:
        return Annotated[int, Field(gt=-(2**64), lt=2**64)]  # Python does not even print any longer one
    if kind is float:  # YAML 1.1 takes 1e-4 for a text
        return Annotated[float, BeforeValidator(lambda x: float(x) if _is_exponent(x) else x)]
    if kind is Path:
        return Annotated[Path, Strict(False)]
    if kind is Own:
        return Annotated[str, Field(pattern=":")]
    if origin is Literal:  # 1 == 1.0 == True
        same = [type(choice) for choice in arguments]
        return Annotated[kind, BeforeValidator(lambda x: x if type(x) in same else None)]
    if _is_union(kind):
        return typing.Union[tuple(_as_yaml(a) for a in arguments)]  # noqa: UP007
    if origin in (list, dict, tuple):
        checked = origin[tuple(a if a is ... else _as_yaml(a) for a in arguments)]
        return Annotated[checked, Strict(False)] if origin is tuple else checked
    return kind


def _is_exponent(value: Any) -> bool:
    return isinstance(value, str) and bool(EXPONENT.fullmatch(value))


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def _name(kind: Any) -> str:
    """A type as people write it: `int or null`, `list['mean' or 'max']`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind in (types.NoneType, ...):
        return "null" if kind is types.NoneType else "..."
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if kind is Own:
        return "module:Name"
    if _is_union(kind):
        return " or ".join(map(_name, arguments))
    inside = f"[{', '.join(map(_name, arguments))}]" if arguments else ""
    return f"{(origin or kind).__name__}{inside}"
