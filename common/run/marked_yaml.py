"""A YAML file that remembers the line of every key, for checks that name file and line."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from common.run.errors import brief, did_you_mean
from common.run.submission.violations import Violation
from common.run.yaml_lines import Key, NotYamlError, dotted, read_yaml

MISSING = object()


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
            kind = "null" if value is None else f"{type(value).__name__} {brief(value)}"
            self.report(key, "meta-type", f"{dotted(key)} is {kind}, expected {expected}")
            return MISSING
        return value


def read_marked(text: str, file: str) -> MarkedYaml:
    """Parse a mapping; where it is none, `root` is None and `found` says why. `file` is for the messages."""
    marked = MarkedYaml(file)
    try:
        root, keys = read_yaml(text)
    except NotYamlError as error:
        line = error.line or 1
        # libyaml does not name the character
        tab = "cannot start any token" in error.problem and "\t" in "".join(text.splitlines()[line - 1 : line])
        hint = ", a tab where blanks are needed" if tab else ""
        marked.found.append(Violation(file, line, "meta-syntax", f"not valid YAML: {error.problem}{hint}"))
        return marked
    if not isinstance(root, dict):
        marked.found.append(Violation(file, 1, "meta-syntax", "no mapping at the top"))
        return marked
    marked.root = root
    for key, line in keys:
        if key in marked.lines and isinstance(key[-1], str):
            message = f"{dotted(key)} is there twice (first on line {marked.lines[key]})"
            marked.found.append(Violation(file, line, "meta-duplicate", message))
        marked.lines[key] = line
    return marked
