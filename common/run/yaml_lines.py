"""YAML with the line of every key, for messages that name file and line."""

from collections.abc import Iterator
from typing import Any

import yaml

Key = tuple[str | int, ...]  # ("authors", 0, "name")
# What PyYAML raises: its own errors, and others for ill-formed tagged values such as `!!bool x`.
_UNREADABLE = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError)


_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C: ten times faster, not in every build


class _Loader(_SafeLoader):
    line: int | None = None  # of the value that is read at present: errors in values such as 2001-99-99 tell none

    def construct_scalar(self, node: yaml.ScalarNode) -> Any:
        self.line = node.start_mark.line + 1
        return super().construct_scalar(node)


class NotYamlError(Exception):
    """The text is not YAML: one line that says why, and the line of the text where that is known."""

    def __init__(self, problem: str, line: int | None) -> None:
        super().__init__(problem)
        self.problem, self.line = problem, line


def dotted(key: Key) -> str:
    """A key as people write it: `submission.authors[0].email`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).lstrip(".")


def read_yaml(text: str) -> tuple[Any, list[tuple[Key, int]]]:
    """What a text holds, and (key, line) of all entries of its mappings and lists, in their order there.

    A key that is there twice, of which YAML takes the last silently, is there twice in the list. Below an alias no
    keys are listed. Raises NotYamlError.
    """
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        keys = list(_keys(node))  # before the construction, which replaces `<<` by what it stands for
        return (None if node is None else loader.construct_document(node)), keys
    except _UNREADABLE as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or " ".join(str(error).split())[:200]
        raise NotYamlError(problem, mark.line + 1 if mark else loader and loader.line) from None


def _keys(root: yaml.Node | None) -> Iterator[tuple[Key, int]]:
    done: set[int] = set()  # nested aliases could make this endless
    waiting: list[tuple[Key, int, yaml.Node | None]] = [((), 1, root)]
    while waiting:
        key, line, node = waiting.pop()
        if key:
            yield key, line
        if id(node) in done:
            continue
        done.add(id(node))
        below: list[tuple[Key, int, yaml.Node | None]] = []
        if isinstance(node, yaml.MappingNode):
            below = [((*key, _text(name)), name.start_mark.line + 1, value) for name, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            below = [((*key, n), item.start_mark.line + 1, item) for n, item in enumerate(node.value)]
        waiting += reversed(below)


def _text(name: yaml.Node) -> str:
    return name.value if isinstance(name, yaml.ScalarNode) else "?"  # the construction refuses all other names
