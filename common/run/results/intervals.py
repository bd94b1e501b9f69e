"""Uncertainty of a figure: bootstrap over the test items, spread over independent runs.

The interval is the figure plus and minus Student's t times its bootstrap standard error, for shares (accuracy, AUC,
PSDS) on the scale of their logits. So it contains its figure and stays within the shares' range. Percentiles of the
draws do neither where few items decide: items drawn twice are ties, which move all draws of a partial AUC to one side.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

# A percentile of the few draws that happen to be defined would look more certain than it is.
MIN_DEFINED_DRAWS = 0.5
# Independent items (of a class, where the figure compares two): from fewer the spread itself is hardly known.
MIN_UNITS = 10


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
    share: bool = ...,
    units: int | None = ...,
    floor: float = ...,
) -> tuple[float, float]: ...
@overload
def bootstrap_interval(
    statistic: Callable[[np.ndarray], np.ndarray],
    n: int,
    draws: int = ...,
    seed: int = ...,
    level: float = ...,
    groups: np.ndarray | None = ...,
    share: bool | np.ndarray = ...,
    units: int | np.ndarray | None = ...,
    floor: float | np.ndarray = ...,
) -> tuple[np.ndarray, np.ndarray]: ...
def bootstrap_interval(
    statistic: Callable[[np.ndarray], Any],
    n: int,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    groups: np.ndarray | None = None,
    share: bool | np.ndarray = False,
    units: int | np.ndarray | None = None,
    floor: float | np.ndarray = 0.0,
) -> tuple[Any, Any]:
    """Interval (low, high) of a statistic over n items by `interval_of`; the same seed gives the same interval.

    `statistic` takes the weights (n,), int64: how often each item is drawn (all ones: the sample itself). It returns
    a number or an array, e.g. one value per class; low and high have that form. Weights instead of resampled data
    allow statistics that are sums over items to be computed from per-item counts. `share`: it lies between `floor` and
    1; of an array, which of its values. `units`: the independent items that a value rests on, where these are not all
    (e.g. those of one class).

    `groups` (n,): items with equal entries are drawn together (cluster bootstrap), for items that are not
    independent, such as clips cut from one recording. The total of the weights then varies with the groups' sizes.

    Raises ValueError for impossible arguments. Efron & Tibshirani 1993, chapters 6 and 12.
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
    value = np.asarray(statistic(np.ones(n, dtype=np.int64)), dtype=np.float64)
    drawn = np.stack([np.asarray(statistic(rng.multinomial(clusters, chances)[members])) for _ in range(draws)])
    low, high = interval_of(value, drawn, clusters if units is None else units, share, level, floor)
    return (float(low), float(high)) if value.ndim == 0 else (low, high)


def interval_of(
    value: npt.ArrayLike,
    drawn: np.ndarray,
    units: int | np.ndarray,
    share: bool | np.ndarray = False,
    level: float = 0.95,
    floor: float | np.ndarray = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Interval (low, high) of a figure (...) from its bootstrap draws (draws, ...) over `units` independent items.

    The figure -+ t standard errors, t with units - 1 degrees of freedom (Efron & Tibshirani 1993, chapter 12). Where
    `share` is set, on the logit scale, the standard error by the delta method (Pepe 2003, section 5.2, for the AUC),
    and not below `floor`, the least that it can be. NaN below MIN_UNITS, where more than half of the draws are
    undefined, and where the draws do not differ or a share is at one of its ends: the sample then says nothing about
    the spread. Draws that are NaN are left out.
    """
    value, drawn = np.asarray(value, dtype=np.float64), np.asarray(drawn, dtype=np.float64)
    defined = ~np.isnan(drawn)
    enough = defined.mean(axis=0) >= MIN_DEFINED_DRAWS
    # All-NaN columns would only warn; they become NaN anyway.
    error = np.nanstd(np.where(enough, drawn, 0.0), axis=0)
    share, units = np.broadcast_to(share, value.shape), np.broadcast_to(units, value.shape)
    inside = ~share | ((value > floor) & (value < 1))
    known = enough & inside & (error > 1e-12 * np.maximum(1.0, np.abs(value))) & (units >= MIN_UNITS)
    if not known.any():
        return np.full(value.shape, np.nan), np.full(value.shape, np.nan)
    from scipy.special import stdtrit  # here: most of the commands that bring this module need no interval

    p = np.where(share & inside, value, 0.5)
    reach = stdtrit(np.maximum(units - 1, 1), (1 + level) / 2) * error
    exponent = np.minimum(np.where(share, reach / (p * (1 - p)), 0.0), 300)  # shares near an end: [0, 1], no overflow
    odds, factor = p / (1 - p), np.exp(exponent)
    low = np.where(share, np.maximum(1 / (1 + factor / odds), floor), value - reach)
    high = np.where(share, 1 / (1 + 1 / (odds * factor)), value + reach)
    return np.where(known, low, np.nan), np.where(known, high, np.nan)


def mean_spread(values: Sequence[float] | np.ndarray) -> MeanSpread:
    """Mean and sample standard deviation (n - 1) of a figure over independent runs; ValueError without any value."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"values of shape {array.shape}, expected one value per run")
    spread = float(array.std(ddof=1)) if array.size > 1 else None
    return MeanSpread(float(array.mean()), spread, array.size)
