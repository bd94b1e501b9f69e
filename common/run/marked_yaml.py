"""A YAML file that remembers the line of every key, for checks that name file and line."""

import reprlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from common.run.errors import did_you_mean
from common.run.submission.violations import Violation

MISSING = object()
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same in C: ten times faster, not in every build
Key = tuple[str | int, ...]
# What PyYAML raises: its own errors, and others for ill-formed tagged values such as `!!bool x`.
UNREADABLE = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError)


def dotted(key: Key) -> str:
    """A key as people write it: `submission.authors[0].email`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).lstrip(".")


@dataclass
class MarkedYaml:
    """A parsed file, the line of each of its keys, and the violations found in it so far."""

    file: str
    root: Any = None
    lines: dict[Key, int] = field(default_factory=dict)
    found: list[Violation] = field(default_factory=list)

    def report(self, key: Key, rule: str, message: str, severity: Literal["error", "warning"] = "error") -> None:
        """Note a violation on the line of a key, or of the nearest key above it that is there."""
        self.found.append(Violation(self.file, self.line(key), rule, message, severity))

    def line(self, key: Key) -> int:
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key, 1)

    def get(self, *key: str | int) -> Any:
        """The value at a key, else MISSING."""
        value: Any = self.root
        for part in key:
            in_mapping = isinstance(value, dict) and part in value
            if not in_mapping and not (isinstance(value, list) and isinstance(part, int) and part < len(value)):
                return MISSING
            value = value[part]
        return value

    def require(self, key: Key, good: Callable[[Any], bool], expected: str) -> Any:
        """The value at a key; a missing or ill-typed one is reported, and MISSING returned."""
        value = self.get(*key)
        if value is MISSING:
            parent = self.get(*key[:-1])
            hint = did_you_mean(str(key[-1]), map(str, parent)) if isinstance(parent, dict) and parent else ""
            self.report(key, "meta-missing", f"no {dotted(key)}, expected {expected}{hint}")
        elif not good(value):
            kind = "null" if value is None else f"{type(value).__name__} {reprlib.repr(value)}"
            self.report(key, "meta-type", f"{dotted(key)} is {kind}, expected {expected}")
            return MISSING
        return value


def read_marked(text: str, file: str) -> MarkedYaml:
    """Parse a mapping; where it is none, `root` is None and `found` says why. `file` is for the messages."""
    marked = MarkedYaml(file)
    try:
        node = yaml.compose(text, LOADER)
        root = yaml.load(text, LOADER)
    except UNREADABLE as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or " ".join(str(error).split())[:200]
        line = mark.line + 1 if mark else 1
        # libyaml does not name the character
        tab = "cannot start any token" in problem and "\t" in "".join(text.splitlines()[line - 1 : line])
        hint = ", a tab where blanks are needed" if tab else ""
        marked.found.append(Violation(file, line, "meta-syntax", f"not valid YAML: {problem}{hint}"))
        return marked
    if node is None or not isinstance(root, dict):
        marked.found.append(Violation(file, 1, "meta-syntax", "no mapping at the top"))
        return marked
    marked.root = root
    _walk(node, (), marked, set())
    return marked


def _walk(node: yaml.Node, key: Key, marked: MarkedYaml, done: set[int]) -> None:
    if id(node) in done:  # an alias; nested ones could make this endless
        return
    done.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            below, line = (*key, str(name.value)), name.start_mark.line + 1
            if below in marked.lines:
                message = f"{dotted(below)} is there twice (first on line {marked.lines[below]})"
                marked.found.append(Violation(marked.file, line, "meta-duplicate", message))
            marked.lines[below] = line
            _walk(value, below, marked, done)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            marked.lines[*key, index] = item.start_mark.line + 1
            _walk(item, (*key, index), marked, done)
