"""AudioSet's ontology: descriptions of its 632 nodes, ancestors and descendants, and distances in edges."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.run.errors import UserError, did_you_mean
from common.run.files import read_json
from zeroshot.config import Config, DataConfig, Layout
from zeroshot.data.classes import counterparts


@dataclass(frozen=True)
class Ontology:
    """Nodes by display name; a node may have several parents."""

    path: Path
    descriptions: Mapping[str, str]
    children: Mapping[str, tuple[str, ...]]
    parents: dict[str, tuple[str, ...]] = field(init=False)

    def __post_init__(self) -> None:
        parents: dict[str, tuple[str, ...]] = dict.fromkeys(self.children, ())
        for name, below in self.children.items():
            for child in below:
                parents[child] += (name,)
        object.__setattr__(self, "parents", parents)

    def descendants(self, name: str) -> set[str]:
        """All nodes below."""
        return _reached(self.children, self.known(name))

    def ancestors(self, name: str) -> set[str]:
        """All nodes above."""
        return _reached(self.parents, self.known(name))

    def relatives(self, names: Iterable[str]) -> set[str]:
        """Ancestors and descendants of any of these, without themselves."""
        names = set(names)
        return {relative for name in names for relative in self.ancestors(name) | self.descendants(name)} - names

    def known(self, name: str) -> str:
        """The name; UserError for one that is no node."""
        if name not in self.children:
            raise UserError(f"{self.path}: no class {name!r}{did_you_mean(name, self.children)}")
        return name

    def distances(self, names: Iterable[str]) -> dict[str, int]:
        """{node: edges to the nearest of `names`}; nodes that no edges lead to are not in it."""
        found = {self.known(name): 0 for name in names}
        waiting = deque(found)
        while waiting:
            name = waiting.popleft()
            for other in (*self.children[name], *self.parents[name]):
                if other not in found:
                    found[other] = found[name] + 1
                    waiting.append(other)
        return found


def _reached(edges: Mapping[str, tuple[str, ...]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = set(edges[waiting.pop()]) - found
        found |= new
        waiting += new
    return found - {start}


def read_ontology(path: str | Path) -> Ontology:
    """The ontology as published. Raises UserError for other content, a name twice, a child that is not there."""
    path, nodes = Path(path), read_json(path)
    if not isinstance(nodes, list) or not all(
        isinstance(n, dict) and {"id", "name", "child_ids"} <= set(n) for n in nodes
    ):
        raise UserError(f"{path}: expected a list of nodes with id, name, description and child_ids")
    names = {node["id"]: node["name"] for node in nodes}
    if len(names) < len(nodes) or len(set(names.values())) < len(nodes):
        raise UserError(f"{path}: an id or a name stands there twice")
    for node in nodes:
        if (unknown := next((child for child in node["child_ids"] if child not in names), None)) is not None:
            raise UserError(f"{path}: {node['name']} has the child {unknown!r}, which is no node")
    return Ontology(
        path,
        {node["name"]: str(node.get("description", "")) for node in nodes},
        {node["name"]: tuple(names[child] for child in node["child_ids"]) for node in nodes},
    )


def find_ontology(config: DataConfig) -> Ontology | None:
    """That of `data.ontology`, else of the folder of AudioSet, where there is one."""
    if config.ontology:
        return read_ontology(config.ontology)
    roots = [of.root for of in (config.training, config) if of is not None and of.root and of.layout == "audioset"]
    path = next((path for root in roots if (path := Path(root) / "ontology.json").is_file()), None)
    return None if path is None else read_ontology(path)


def needed_ontology(config: DataConfig, why: str) -> Ontology:
    """The same; UserError where there is none."""
    found = find_ontology(config)
    if found is None:
        raise UserError(
            f"{why} needs AudioSet's ontology.json: put it into the folder of AudioSet or set data.ontology"
        )
    return found


def ontology_distances(config: Config, training: Sequence[str], test: Sequence[str]) -> list[int | None] | None:
    """Edges from each test class to the nearest training class; None for a class without counterpart in AudioSet.

    None for all where there is no ontology.
    """
    ontology = find_ontology(config.data)
    if ontology is None:
        return None
    of = (config.data.training or config.data).layout
    edges = ontology.distances(node for name in training for node in _nodes(of, name))
    found = [[edges[node] for node in _nodes(config.data.layout, name) if node in edges] for name in test]
    return [min(of_class, default=None) for of_class in found]


def _nodes(layout: Layout, name: str) -> tuple[str, ...]:
    return (name,) if layout == "audioset" else counterparts(layout).get(name, ())
