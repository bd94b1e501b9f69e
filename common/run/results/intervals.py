"""Uncertainty of a figure: bootstrap over the test items, spread over independent runs."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, overload

import numpy as np

# A percentile of the few draws that happen to be defined would look more certain than it is.
MIN_DEFINED_DRAWS = 0.5


class MeanSpread(NamedTuple):
    """Mean over `runs` independent runs and their sample standard deviation (None for a single run)."""

    mean: float
    spread: float | None
    runs: int


@overload
def bootstrap_interval(
    statistic: Callable[[np.ndarray], float],
    n: int,
    draws: int = ...,
    seed: int = ...,
    level: float = ...,
    groups: np.ndarray | None = ...,
) -> tuple[float, float]: ...
@overload
def bootstrap_interval(
    statistic: Callable[[np.ndarray], np.ndarray],
    n: int,
    draws: int = ...,
    seed: int = ...,
    level: float = ...,
    groups: np.ndarray | None = ...,
) -> tuple[np.ndarray, np.ndarray]: ...
def bootstrap_interval(
    statistic: Callable[[np.ndarray], Any],
    n: int,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    groups: np.ndarray | None = None,
) -> tuple[Any, Any]:
    """Percentile bootstrap interval (low, high) of a statistic over n items; the same seed gives the same interval.

    `statistic` takes the weights (n,), int64: how often each item is drawn (all ones: the sample itself). It returns
    a number or an array, e.g. one value per class; low and high have that form. Weights instead of resampled data
    allow statistics that are sums over items to be computed from per-item counts.

    `groups` (n,): items with equal entries are drawn together (cluster bootstrap), for items that are not
    independent, such as clips cut from one recording. The total of the weights then varies with the groups' sizes.

    Draws where the statistic is NaN (e.g. a class without positives) are left out; where they are more than half of
    the draws the interval is NaN. Raises ValueError for impossible arguments. Efron & Tibshirani 1993, chapter 13.
    """
    if n < 1 or draws < 1 or not 0 < level < 1:
        raise ValueError(f"n {n} and draws {draws} must be positive, level {level} between 0 and 1")
    if groups is None:
        members = np.arange(n)
    elif np.shape(groups) == (n,):
        members = np.unique(groups, return_inverse=True)[1]
    else:
        raise ValueError(f"groups has shape {np.shape(groups)}, expected ({n},)")

    rng = np.random.default_rng(seed)
    clusters = int(members.max()) + 1
    chances = np.full(clusters, 1 / clusters)
    drawn = np.stack([np.asarray(statistic(rng.multinomial(clusters, chances)[members])) for _ in range(draws)])
    defined = ~np.isnan(drawn)
    enough = defined.mean(axis=0) >= MIN_DEFINED_DRAWS
    # All-NaN columns would only warn; they become NaN anyway.
    safe = np.where(enough, drawn, 0.0)
    bounds = np.nanquantile(safe, [(1 - level) / 2, (1 + level) / 2], axis=0)
    low, high = np.where(enough, bounds, np.nan)
    return (float(low), float(high)) if drawn.ndim == 1 else (low, high)


def mean_spread(values: Sequence[float] | np.ndarray) -> MeanSpread:
    """Mean and sample standard deviation (n - 1) of a figure over independent runs; ValueError without any value."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"values of shape {array.shape}, expected one value per run")
    spread = float(array.std(ddof=1)) if array.size > 1 else None
    return MeanSpread(float(array.mean()), spread, array.size)
