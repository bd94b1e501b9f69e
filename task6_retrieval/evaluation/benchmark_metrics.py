"""How long ranking takes at scale, and in how much memory: synthetic queries and clips."""

import resource
import sys
import time
from typing import Any

import numpy as np

from common.run.progress import progress
from task6_retrieval.metrics import ranks_of_scores, retrieval_metrics, score_blocks

NOISE = 0.5  # relative to the clip that a query is made of


def ranking_at_scale(queries: int, clips: int, dim: int, seed: int = 0) -> dict[str, Any]:
    """Rank random clips (clips, dim) for queries that are noisy copies of some; seconds and peak memory in GB."""
    rng = np.random.default_rng(seed)
    gallery = rng.standard_normal((clips, dim), dtype=np.float32).astype(np.float16)
    relevant = rng.integers(0, clips, queries)
    asked = gallery[relevant] + np.float32(NOISE) * rng.standard_normal((queries, dim), dtype=np.float32)
    start, ranks = time.perf_counter(), []
    with progress("rank", queries, "queries") as advance:
        for first, scores in score_blocks(asked, gallery):
            ranks.append(ranks_of_scores(scores, relevant[first : first + len(scores)]))
            advance(len(scores))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    figures = retrieval_metrics(np.concatenate(ranks))
    return {"queries": queries, "clips": clips, "dim": dim, "seconds": seconds, "peak_gb": peak / 1e9, **figures}


def show(result: dict[str, Any]) -> None:
    """Print one line."""
    print(
        f"{result['queries']:,} queries x {result['clips']:,} clips of {result['dim']} dimensions: "
        f"{result['seconds']:.1f} s, at most {result['peak_gb']:.2f} GB; mAP@10 {result['map@10']:.4f}"
    )
