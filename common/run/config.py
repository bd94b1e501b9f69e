"""Recipes: YAML files and `key=value` overrides -> a typed dataclass, with errors that name file, line and key."""

import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from common.run.errors import UserError, did_you_mean

C = TypeVar("C")

OVERRIDE = re.compile(r"^[A-Za-z_]\w*(\.\w+)*=")


def in_range(default: Any = MISSING, low: float = float("-inf"), high: float = float("inf")) -> Any:
    """A dataclass field whose number, or every number of whose list, must lie in [low, high]."""
    return field(default=default, metadata={"range": (low, high)})


@dataclass(frozen=True)
class _Origin:
    """Where a value was written: a recipe and its line, or an override on the command line."""

    text: str


def load_config(kind: type[C], recipes: Path, recipe: str, overrides: Sequence[str] = ()) -> C:
    """The recipe (a name in the folder `recipes`, or the path of a yaml file) with `a.b=value` overrides, as `kind`.

    A recipe may begin with `extends: NAME_OR_PATH`; its mappings are merged into those of that recipe. Raises
    UserError for unknown keys, wrong types, and numbers out of range.
    """
    values, origins = _read_recipe(find_recipe(recipes, recipe), recipes, ())
    for override in overrides:
        _apply_override(values, origins, override)
    _check_shape(kind, values, "", origins)
    config = _instantiate(kind, values, origins)
    _check_ranges(config, "", origins)
    return config


def find_recipe(recipes: Path, recipe: str) -> Path:
    """The file of a recipe that is given by name or by path."""
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UserError(f"{path}: recipe not found")
        return path
    named = recipes / f"{recipe}.yaml"
    if not named.is_file():
        raise UserError(f"no recipe {recipe!r}{did_you_mean(recipe, [p.stem for p in recipes.glob('*.yaml')])}")
    return named.relative_to(Path.cwd()) if named.is_relative_to(Path.cwd()) else named


def config_dict(config: Any) -> dict[str, Any]:
    """A config as plain lists and mappings, for YAML and JSON."""
    plain: dict[str, Any] = _plain(asdict(config))
    return plain


def dump(plain: Mapping[str, Any]) -> str:
    """A plain config as YAML; loading it again gives the same config."""
    return yaml.safe_dump(plain, sort_keys=False, width=120)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """`key: old there, new now` for every key whose value differs between two plain configs."""
    found = []
    for key in dict.fromkeys([*old, *new]):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}: {a} there, {b} now")
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _read_recipe(path: Path, recipes: Path, seen: tuple[Path, ...]) -> tuple[dict[str, Any], dict[str, _Origin]]:
    if path.resolve() in seen:
        raise UserError(f"{path}: extends itself")
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not valid YAML ({getattr(error, 'problem', None) or error})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}:1: expected a mapping of settings")
    origins: dict[str, _Origin] = {}
    for key, at in _lines(node, ""):
        if key in origins:  # YAML would silently take the last one
            raise UserError(f"{path}:{at}: {key}: is there twice")
        origins[key] = _Origin(f"{path}:{at}: {key}")
    parent = values.pop("extends", None)
    if parent is None:
        return values, origins
    if not isinstance(parent, str):
        raise UserError(f"{origins['extends'].text}: expected the name of a recipe")
    base = find_recipe(recipes, str(path.parent / parent) if Path(parent).suffix in (".yaml", ".yml") else parent)
    inherited, older = _read_recipe(base, recipes, (*seen, path.resolve()))
    return _merge(inherited, values), {**older, **origins}


def _lines(node: yaml.Node | None, prefix: str) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            yield name, key.start_mark.line + 1
            yield from _lines(value, f"{name}.")


def _merge(base: dict[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in new.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return merged


def _apply_override(values: dict[str, Any], origins: dict[str, _Origin], override: str) -> None:
    key, text = override.split("=", 1)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"{override}: the value is not valid YAML") from None
    target = values
    *parents, last = key.split(".")
    for parent in parents:
        if target.get(parent) is None:
            target[parent] = {}
        target = target[parent]
        if not isinstance(target, dict):
            raise UserError(f"{override}: {parent} is not a group of settings")
    target[last] = value
    origins[key] = _Origin(override)


def _where(key: str, origins: Mapping[str, _Origin]) -> str:
    """Where `key`, or the group around it, was written; the key itself where it was not."""
    parts = key.split(".")
    for n in range(len(parts), 0, -1):
        origin = origins.get(".".join(parts[:n]))
        if origin:
            return origin.text if n == len(parts) else f"{origin.text}: {key}"
    return key


def _check_shape(kind: Any, value: Any, key: str, origins: Mapping[str, _Origin]) -> None:
    """Groups where groups belong, and no unknown key; leaves are checked by jsonargparse."""
    options = [a for a in typing.get_args(kind) if a is not types.NoneType] if _is_union(kind) else [kind]
    if value is None:
        if kind is not types.NoneType and types.NoneType not in (typing.get_args(kind) or ()):
            raise UserError(f"{_where(key, origins)}: is empty, expected {_name(kind)}")
        return
    if typing.get_origin(kind) is list and isinstance(value, list):
        for item in value:
            _check_shape(typing.get_args(kind)[0], item, key, origins)
    group = next((o for o in options if is_dataclass(o)), None)
    if group is not None:
        if not isinstance(value, Mapping):
            raise UserError(f"{_where(key, origins)}: is {value!r}, expected a group of settings")
        hints = typing.get_type_hints(group)
        known = [f.name for f in fields(group)]
        for name, item in value.items():
            inner = f"{key}.{name}" if key else str(name)
            if name not in known:
                raise UserError(f"{_where(inner, origins)}: unknown setting{did_you_mean(str(name), known)}")
            _check_shape(hints[name], item, inner, origins)
        for f in fields(group):
            if f.default is MISSING and f.default_factory is MISSING and f.name not in value:
                raise UserError(f"{_where(key, origins) or 'recipe'}: setting {f.name!r} is missing")


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")


def _instantiate(kind: type[C], values: dict[str, Any], origins: Mapping[str, _Origin]) -> C:
    import jsonargparse  # takes a third of a second; verbs without a recipe do not need it

    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", type=kind)
    try:
        config: C = parser.instantiate_classes(parser.parse_object({"config": values})).config
    except UserError as error:  # of a config's own checks: `key: what is wrong`
        key, _, wrong = str(error).partition(": ")
        raise UserError(f"{_where(key, origins)}: {wrong}") from None
    except Exception as error:
        raise UserError(_type_error(str(error), origins)) from None
    return config


def _type_error(message: str, origins: Mapping[str, _Origin]) -> str:
    keys = [key for key in re.findall(r'key "([\w.]+)"', message) if key != "config"]
    key = ".".join(keys).removeprefix("config.")
    one = r"Expected a (?P<kind>.+?)\. Got value: (?P<value>.*)"
    several = r"Union subtypes\s+Subtypes: \[(?P<kind>.+?)\]\s+Errors:[\s\S]*Given value: (?P<value>.*)"
    got = re.search(one, message) or re.search(several, message)
    if not key or not got:
        return " ".join(message.split())
    expected = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", got["kind"]).replace("typing.", "")
    expected = expected.replace(", NoneType", " or null")
    return f"{_where(key, origins)}: is {got['value']!r}, expected {expected}"


def _check_ranges(config: Any, prefix: str, origins: Mapping[str, _Origin]) -> None:
    for f in fields(config):
        value, key = getattr(config, f.name), f"{prefix}{f.name}"
        if is_dataclass(value):
            _check_ranges(value, f"{key}.", origins)
        elif "range" in f.metadata and value is not None:
            low, high = f.metadata["range"]
            for number in value if isinstance(value, list | tuple) else (value,):
                if not low <= number <= high:
                    raise UserError(f"{_where(key, origins)}: is {number:g}, expected {_span(low, high)}")


def _span(low: float, high: float) -> str:
    if high == float("inf"):
        return f"{low:g} or more"
    return f"{low:g} to {high:g}"
