"""How long searching takes, in how much memory, and how much of the exact answer a graph gives: synthetic vectors."""

import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.run.errors import UserError
from common.run.numbers import unit_rows
from common.run.results.tables import print_table
from common.search.exact import similarities
from common.search.graph import Graph, grow

LATENT, NOISE = 32, 0.3  # of the vectors: dimensions that vary, and the share in all others
HITS = 10
BLOCK = 50_000
ASKED = 1 << 20  # seed of the queries


def made(rows: int, dim: int, seed: int = 0) -> Iterator[NDArray[np.float32]]:
    """Unit vectors (block, dim) that lie, as those of networks do, near a space of few dimensions."""
    basis = np.random.default_rng(0).standard_normal((LATENT, dim), np.float32) / np.float32(LATENT**0.5)
    for block, first in enumerate(range(0, rows, BLOCK)):
        random, count = np.random.default_rng((seed, block)), min(BLOCK, rows - first)
        latent = random.standard_normal((count, LATENT), np.float32) @ basis
        yield unit_rows(latent + np.float32(NOISE) * random.standard_normal((count, dim), np.float32))


def measure(rows: int, dim: int, queries: int, exact: bool = False) -> dict[str, Any]:
    """Medians over single searches; build time, size and memory of the graph, and its share of the true ten best.

    Raises UserError where the graph needs a package that is not installed.
    """
    if min(rows, dim, queries) < 1:
        raise UserError("benchmark: --rows, --dim and --queries are at least 1")
    asked = next(made(queries, dim, ASKED))[:queries]
    with tempfile.TemporaryDirectory(prefix="search-") as folder:
        at = Path(folder)
        with open(at / "vectors.f2", "wb") as file:
            for block in made(rows, dim):
                block.astype("<f2").tofile(file)
        vectors = np.memmap(at / "vectors.f2", "<f2", "r", shape=(rows, dim))
        truth, milliseconds = [], []
        for query in asked:
            start = time.perf_counter()
            scores = similarities(query[None], vectors)[0]
            best = np.argpartition(scores, -min(HITS, rows))[-min(HITS, rows) :]
            milliseconds.append(1e3 * (time.perf_counter() - start))
            truth.append(set(best.tolist()))
        found: dict[str, Any] = {"rows": rows, "dim": dim, "queries": len(asked), "cores": os.cpu_count()}
        found |= {"exact_ms": float(np.median(milliseconds)), "exact_fastest_ms": min(milliseconds)}
        found["exact_gb"] = vectors.nbytes / 1e9
        return found if exact else found | _of_graph(at / "graph.usearch", vectors, asked, truth)


def _of_graph(
    path: Path, vectors: NDArray[np.float16], asked: NDArray[np.float32], truth: list[set[int]]
) -> dict[str, Any]:
    before, start = _peak(), time.perf_counter()
    grow(path, vectors)
    built, memory = time.perf_counter() - start, _peak() - before
    graph = Graph.open(path, vectors.shape[1], len(vectors))
    assert graph is not None
    milliseconds, shares = [], []
    for query, best in zip(asked, truth, strict=True):
        start = time.perf_counter()
        rows = graph.candidates(query, min(4 * HITS, len(vectors)))
        scores = vectors[rows].astype(np.float32) @ query
        near = set(rows[np.argsort(-scores)[:HITS]].tolist())
        milliseconds.append(1e3 * (time.perf_counter() - start))
        shares.append(len(near & best) / len(best))
    size = {"build_s": built, "build_gb": memory, "graph_gb": path.stat().st_size / 1e9}
    speed = {"graph_ms": float(np.median(milliseconds)), "graph_fastest_ms": min(milliseconds)}
    return {**size, **speed, f"recall@{HITS}": float(np.mean(shares))}


def _peak() -> float:
    """Of this process' memory, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def show(found: dict[str, Any]) -> None:
    """Print the figures as a table."""
    rows = [["exact", "0", *_cells(found, "exact"), "1"]]
    note = "fastest: what a core can do that nobody else uses"
    if "build_s" in found:
        rows.append(["graph", f"{found['build_s']:.0f}", *_cells(found, "graph"), f"{found[f'recall@{HITS}']:.3f}"])
        note += f"; at most {found['build_gb']:.2f} GB more while the graph grew"
    title = f"{found['rows']:,} vectors of {found['dim']} dimensions, {found['queries']} searches"
    columns = ("search", "build (s)", "file (GB)", "median (ms)", "fastest (ms)", f"recall@{HITS}")
    print_table(title, columns, rows, note=note)


def _cells(found: dict[str, Any], of: str) -> list[str]:
    return [f"{found[f'{of}_gb']:.2f}", f"{found[f'{of}_ms']:.1f}", f"{found[f'{of}_fastest_ms']:.1f}"]
