"""Metrics of ranked recordings: similarities in, ranks and figures out. Figures are shares in [0, 1]. No files.

Equal similarities rank in random order: every figure is the expectation over all orders of the tied items; where that
differs, `mrr_bounds` says what the best and the worst order give. Sources: Greif et al. 2024; QVIM 2025, evaluation.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def harmonic(numbers: ArrayLike) -> Floats:
    """H(n) = 1 + 1/2 + ... + 1/n of whole numbers n >= 0."""
    n = np.asarray(numbers, np.int64)
    table = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, int(n.max(initial=0)) + 1))])
    found: Floats = table[n]
    return found


def random_mrr(items: int) -> float:
    """Expected reciprocal rank of one right item among so many in random order, H(n) / n."""
    return float(harmonic(items)) / items


class Ranks:
    """Rank of the right item of every query: 1 + `better` .. 1 + `better` + `tied`, (queries,) each."""

    def __init__(self, better: Ints, tied: Ints) -> None:
        self.better, self.tied = better, tied

    def __len__(self) -> int:
        return len(self.better)

    @property
    def expected(self) -> Floats:
        """Mean rank, (queries,)."""
        return 1 + self.better + self.tied / 2

    def reciprocal(self) -> Floats:
        """Expected 1 / rank, (queries,)."""
        found: Floats = (harmonic(self.better + self.tied + 1) - harmonic(self.better)) / (self.tied + 1)
        return found

    def recall(self, k: int) -> Floats:
        """Chance that the rank is at most k, (queries,)."""
        return np.clip((k - self.better) / (self.tied + 1), 0.0, 1.0)


def ranks_of(similarities: NDArray[np.floating], target: ArrayLike) -> Ranks:
    """Ranks of the right items `target` (queries,) by similarities (queries, items), higher is better.

    Raises ValueError for what is not finite, and for targets that are no items.
    """
    right, scores = np.asarray(target, np.int64), np.asarray(similarities)
    if scores.ndim != 2 or right.shape != scores.shape[:1]:
        raise ValueError(f"similarities of shape {scores.shape} for targets of shape {right.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("similarities that are not finite")
    if len(right) and (right.min() < 0 or right.max() >= scores.shape[1]):
        raise ValueError(f"targets from {right.min()} to {right.max()}, expected 0 to {scores.shape[1] - 1}")
    own = np.take_along_axis(scores, right[:, None], axis=1)
    return Ranks((scores > own).sum(axis=1), (scores == own).sum(axis=1) - 1)


def mrr_bounds(ranks: Ranks) -> tuple[float, float]:
    """MRR where ties go against, and where they go for the right items."""
    return float((1.0 / (1 + ranks.better + ranks.tied)).mean()), float((1.0 / (1 + ranks.better)).mean())


def ndcg(similarities: NDArray[np.floating], relevant: NDArray[np.bool_]) -> Floats:
    """NDCG of whole rankings by similarities, relevant (queries, items), with gain 1 and discount 1 / log2(rank + 1).

    (queries,); every query needs a relevant item. QVIM 2025: relevant are the items of the right one's class.
    """
    scores, discounts = np.asarray(similarities), 1.0 / np.log2(np.arange(2, np.shape(similarities)[1] + 2))
    ideal = np.cumsum(discounts)[relevant.sum(axis=1) - 1]
    order = np.argsort(-scores, axis=1, kind="stable")
    found = np.empty(len(scores))
    for row, (by_rank, of_item) in enumerate(zip(order, relevant, strict=True)):
        values = scores[row, by_rank]
        block = np.cumsum(np.concatenate([[0], values[1:] != values[:-1]]))  # items of equal similarity
        mean = np.bincount(block, discounts) / np.bincount(block)
        found[row] = mean[block][of_item[by_rank]].sum()
    return found / ideal


def class_reciprocal(similarities: NDArray[np.floating], relevant: NDArray[np.bool_]) -> Floats:
    """Sum of 1 / rank over the relevant items over what the ideal ranking has, (queries,). QVIM 2025, notebook."""
    found = np.empty(len(similarities))
    for row, (scores, of_item) in enumerate(zip(similarities, relevant, strict=True)):
        items = np.flatnonzero(of_item)
        ranks = ranks_of(np.broadcast_to(scores, (len(items), len(scores))), items)
        found[row] = ranks.reciprocal().sum()
    counts = relevant.sum(axis=1)
    return found / harmonic(counts)


def means_by(groups: Sequence[str], values: ArrayLike) -> dict[str, float]:
    """Mean of values (queries,) of every group, in order of first appearance."""
    names, members = np.unique(np.asarray(groups), return_inverse=True)
    means = np.bincount(members, np.asarray(values, np.float64)) / np.bincount(members)
    found = dict(zip(names.tolist(), means.tolist(), strict=True))
    return {name: found[name] for name in dict.fromkeys(groups)}


def over_folds(folds: Mapping[str, Mapping[str, Any]], metric: str) -> tuple[float, float]:
    """Plain mean over folds, and the population's standard deviation, as published."""
    values = [fold[metric] for fold in folds.values()]
    return float(np.mean(values)), float(np.std(values))
