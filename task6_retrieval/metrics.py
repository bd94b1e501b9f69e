"""Metrics of retrieval: scores or embeddings in, ranks, numbers out. Figures are shares in [0, 1]. No files.

`relevant`: the relevant clips of each query, (queries,) or (queries, most of one query), -1 where there are fewer.
Ranks count from 1; 0: no clip, or one that a list of the best does not have. Equal scores rank by clip number: rank =
1 + clips with a higher score + clips with the same score and a smaller number. Source: DCASE 2025 Task 6, evaluation.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ranks = NDArray[np.int64]
RECALL_AT = (1, 5, 10)
MAP_AT = (10, 16)  # what the editions up to 2024, and that of 2025, rank by
BLOCK_BYTES = 512 << 20  # of the scores that are in memory at once
CLIPS_AT_ONCE = 1 << 12  # their products stay in the cache


def _relevant(relevant: ArrayLike) -> Ranks:
    array = np.asarray(relevant, dtype=np.int64)
    return array[:, None] if array.ndim == 1 else array


def ranks_of_scores(scores: NDArray[np.floating], relevant: ArrayLike) -> Ranks:
    """Ranks (queries, relevant) by scores (queries, clips), higher is better. Raises ValueError for scores of NaN."""
    wanted = _relevant(relevant)
    ranks = np.zeros(wanted.shape, np.int64)
    if len(scores) != len(wanted):
        raise ValueError(f"{len(scores)} rows of scores for {len(wanted)} queries")
    for query, (row, clips) in enumerate(zip(scores, wanted, strict=True)):
        if np.isnan(row.max()):
            raise ValueError(f"the scores of query {query} are not all numbers")
        for place, clip in enumerate(clips):
            if clip >= 0:
                before = np.count_nonzero(row[:clip] >= row[clip])
                ranks[query, place] = 1 + before + np.count_nonzero(row[clip + 1 :] > row[clip])
    return ranks


def ranks_of_embeddings(
    queries: NDArray[np.floating], clips: NDArray[np.floating], relevant: ArrayLike, block_bytes: int = BLOCK_BYTES
) -> Ranks:
    """Ranks (queries, relevant) by dot products of queries (queries, dim) and clips (clips, dim).

    Only `block_bytes` of the scores exist at once. Either may be memory-mapped and of float16: products are float32.
    """
    wanted = _relevant(relevant)
    blocks = score_blocks(queries, clips, block_bytes)
    return np.concatenate([ranks_of_scores(scores, wanted[first : first + len(scores)]) for first, scores in blocks])


def score_blocks(
    queries: NDArray[np.floating], clips: NDArray[np.floating], block_bytes: int = BLOCK_BYTES
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """(first query, its and the next ones' scores (some, clips)); the array is overwritten by the next block."""
    size = min(max(1, block_bytes // (4 * max(len(clips), 1))), len(queries))
    scores = np.empty((size, len(clips)), np.float32)
    for first in range(0, len(queries), size):
        block = np.asarray(queries[first : first + size], np.float32)
        for start in range(0, len(clips), CLIPS_AT_ONCE):
            end = min(start + CLIPS_AT_ONCE, len(clips))
            part = np.asarray(clips[start:end], np.float32)
            np.matmul(block, part.T, out=scores[: len(block), start:end])
        yield first, scores[: len(block)]


def average_precision(ranks: ArrayLike, k: int, counts: ArrayLike | None = None) -> NDArray[np.float64]:
    """AP@k of every query, (queries,): precision at the ranks of its relevant clips up to k, over their number.

    ranks: (queries, relevant). counts (queries,): how many clips are relevant, where ranks of 0 stand for some of
    them too (default: all ranks that are not 0). The divisor is their number, also where it exceeds k.
    """
    return _precision(_relevant(ranks), k).sum(axis=1) / _counted(ranks, counts)


def recall(ranks: ArrayLike, k: int, counts: ArrayLike | None = None) -> NDArray[np.float64]:
    """R@k of every query, (queries,): the share of its relevant clips with a rank up to k. As `average_precision`."""
    return _found(_relevant(ranks), k).sum(axis=1) / _counted(ranks, counts)


def _counted(ranks: ArrayLike, counts: ArrayLike | None) -> NDArray[np.float64]:
    number = np.count_nonzero(_relevant(ranks), axis=1) if counts is None else np.asarray(counts)
    return np.maximum(number, 1).astype(np.float64)


def _found(ranks: Ranks, k: int) -> NDArray[np.float64]:
    return ((ranks > 0) & (ranks <= k)).astype(np.float64)


def _precision(ranks: Ranks, k: int) -> NDArray[np.float64]:
    """The precision at each rank up to k, else 0; (queries, relevant)."""
    found = _found(ranks, k)
    order = np.where(found > 0, ranks, np.iinfo(np.int64).max).argsort(axis=1, kind="stable").argsort(axis=1)
    return np.where(found > 0, (1 + order) / np.maximum(ranks, 1), 0.0)


def query_values(ranks: ArrayLike, counts: ArrayLike | None = None, depth: int | None = None) -> dict[str, np.ndarray]:
    """{"map@10": AP@10 of every query (queries,), "r@1": ..., ...}; depth: the ranks that are known, if not all."""
    known = np.inf if depth is None else depth
    values = {f"map@{k}": average_precision(ranks, k, counts) for k in MAP_AT if k <= known}
    return values | {f"r@{k}": recall(ranks, k, counts) for k in RECALL_AT if k <= known}


def clip_values(ranks: ArrayLike, depth: int | None = None) -> dict[str, np.ndarray]:
    """What each relevant clip gives to `query_values`: (queries, relevant), whose sum over its number is the value."""
    known, of = np.inf if depth is None else depth, _relevant(ranks)
    values = {f"map@{k}": _precision(of, k) for k in MAP_AT if k <= known}
    return values | {f"r@{k}": _found(of, k) for k in RECALL_AT if k <= known}


def retrieval_metrics(ranks: ArrayLike, counts: ArrayLike | None = None, depth: int | None = None) -> dict[str, float]:
    """Means over queries of `query_values`."""
    return {name: float(values.mean()) for name, values in query_values(ranks, counts, depth).items()}


def chance(counts: ArrayLike, clips: int) -> dict[str, float]:
    """The figures of `retrieval_metrics` that random rankings of `clips` clips have on average.

    counts (queries,): the relevant clips of each query. Each place has one of n relevant clips with the probability
    n / clips; then every place before it has one of the others with (n - 1) / (clips - 1).
    """
    others = (np.asarray(counts, np.float64).mean() - 1) / max(clips - 1, 1)
    found = {}
    for k in MAP_AT:
        places = np.arange(1, min(k, clips) + 1)
        found[f"map@{k}"] = float(((1 + (places - 1) * others) / places).sum() / clips)
    return found | {f"r@{k}": min(k, clips) / clips for k in RECALL_AT}


def padded(relevant: Sequence[Sequence[int]]) -> Ranks:
    """Lists of relevant clips as (queries, most of one query), -1 where there are fewer."""
    most = max((len(of_query) for of_query in relevant), default=0)
    array = np.full((len(relevant), max(most, 1)), -1, np.int64)
    for row, of_query in zip(array, relevant, strict=True):
        row[: len(of_query)] = of_query
    return array


def sign_flip_test(differences: ArrayLike, groups: ArrayLike, draws: int = 10_000, seed: int = 0) -> float:
    """Two-sided p value of a mean difference between two systems, (queries,), under random signs of each group.

    groups (queries,): queries of one clip, which are not independent. Randomisation test: Good 2005, chapter 3.
    """
    members = np.unique(np.asarray(groups), return_inverse=True)[1]
    sums = np.bincount(members, np.asarray(differences, np.float64))
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), (draws, len(sums)))
    reached = np.count_nonzero(np.abs(signs @ sums) >= np.abs(sums.sum()) - 1e-12)
    return (1 + reached) / (1 + draws)
