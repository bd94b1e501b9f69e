"""A graph of near neighbours over the rows of an index, for libraries of millions; by usearch, the extra `millions`.

HNSW (Malkov & Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small
World graphs", 2018). Its vectors are of 8 bits: it names candidates, whose cosines are computed from the index's own.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.run.errors import UserError
from common.run.files import write_then_rename
from common.run.progress import progress

LINKS, EXPANSION = 16, 64  # of a node; candidates for them while the graph grows
WIDTH = 256  # candidates of a search: the more, the surer and slower
AT_ONCE = 10_000  # rows
SAVED = 200_000  # rows after which it is written: what a kill may cost
FILE = "graph.usearch"


def library() -> Any:
    """usearch. Raises UserError where it is not installed."""
    try:
        import usearch.index
    except ImportError:
        raise UserError('a graph of near neighbours needs the extra `millions`, pip install ".[millions]"') from None
    return usearch.index


def _empty(dim: int) -> Any:
    settings = {"connectivity": LINKS, "expansion_add": EXPANSION, "expansion_search": WIDTH}
    return library().Index(ndim=dim, metric="cos", dtype="i8", enable_key_lookups=False, **settings)


def _known(path: Path, dim: int, rows: int, view: bool) -> Any | None:
    """The graph in a file; None where it is damaged, of other vectors or of more rows than there are."""
    graph = _empty(dim)
    try:
        (graph.view if view else graph.load)(path)
    except Exception:  # whatever the library raises for a file that is none
        return None
    graph.expansion_search = WIDTH  # a file does not keep it
    return graph if graph.ndim == dim and 0 < len(graph) <= rows else None


def grow(path: Path, vectors: NDArray[np.float16]) -> None:
    """Bring the graph in a file up to date: rows (n, dim) are only ever appended. Raises UserError as `library`."""
    rows, dim = vectors.shape
    graph = (_known(path, dim, rows, view=False) if path.exists() else None) or _empty(dim)
    done = len(graph)
    with progress("graph", rows, "vectors", done=done) as advance:
        for first in range(done, rows, AT_ONCE):
            part = np.asarray(vectors[first : first + AT_ONCE], np.float32)
            graph.add(np.arange(first, first + len(part)), part)
            advance(len(part))
            if (len(graph) // AT_ONCE) % (SAVED // AT_ONCE) == 0 or len(graph) == rows:
                with write_then_rename(path) as partial:
                    graph.save(partial)


class Graph:
    """A graph that is asked; the file is mapped, not read."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph

    @classmethod
    def open(cls, path: Path, dim: int, rows: int) -> "Graph | None":
        """None where it is absent, does not have all rows, or usearch is not installed: then every row is compared."""
        if not path.is_file():
            return None
        try:
            graph = _known(path, dim, rows, view=True)
        except UserError:
            return None
        return cls(graph) if graph is not None and len(graph) == rows else None

    def candidates(self, query: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Rows that are near a query (dim,), at most `count`."""
        self.graph.expansion_search = max(WIDTH, count)
        return np.asarray(self.graph.search(query, count).keys, np.int64)
