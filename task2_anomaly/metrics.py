"""Metrics of anomalous sound detection: arrays in, numbers out.

Labels are 0 (normal) and 1 (anomaly), scores are higher for anomalies. A metric that is not defined (only one class
is there) is None.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]
MAX_FPR = 0.1
LOWEST_PAUC = 9 / 19  # standardised, up to MAX_FPR, of the worst possible scores
# The official evaluators of the first-shot editions replace values below it before the harmonic mean.
SMALLEST = float(np.finfo(float).eps)


def auc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float | None:
    """Area under the ROC: the share of (anomaly, normal) pairs in the right order, ties count a half.

    The AUC of all editions (Koizumi et al. 2020, evaluation metrics).
    """
    y, s = _checked(labels, scores)
    anomalies, normals = int(y.sum()), int((1 - y).sum())
    if not anomalies or not normals:
        return None
    from scipy.stats import rankdata

    ranks = rankdata(s)
    return float((ranks[y == 1].sum() - anomalies * (anomalies + 1) / 2) / (anomalies * normals))


def roc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Scores, Scores]:
    """False and true positive rates (points,) over all distinct thresholds, from (0, 0) to (1, 1)."""
    y, s = _checked(labels, scores)
    order = np.argsort(-s, kind="stable")
    y, s = y[order], s[order]
    last = np.append(np.flatnonzero(np.diff(s)), len(s) - 1)  # of each run of equal scores
    true = np.cumsum(y)[last]
    false = 1 + last - true
    return np.append(0.0, false / false[-1]), np.append(0.0, true / true[-1])


def partial_auc(labels: npt.ArrayLike, scores: npt.ArrayLike, max_fpr: float = MAX_FPR) -> float | None:
    """Area under the ROC up to `max_fpr`, standardised (McClish 1989): 0.5 is chance, 1 is perfect.

    This is the official pAUC of all editions; the formula of the task's paper is `top_normals_auc`.
    """
    y, s = _checked(labels, scores)
    if not 0 < y.sum() < len(y):
        return None
    return standardised_area(*roc(y, s), max_fpr)


def standardised_area(fpr: Scores, tpr: Scores, max_fpr: float = MAX_FPR) -> float:
    """McClish's partial area of an ROC (points,) that begins at (0, 0), cut at `max_fpr` between two points."""
    stop = int(np.searchsorted(fpr, max_fpr, side="right"))
    x = np.append(fpr[:stop], max_fpr)
    t = np.append(tpr[:stop], np.interp(max_fpr, fpr[stop - 1 : stop + 1], tpr[stop - 1 : stop + 1]))
    area = float(np.trapezoid(t, x))
    chance = max_fpr**2 / 2
    return 0.5 * (1 + (area - chance) / (max_fpr - chance))


def weighted_areas(
    labels: npt.ArrayLike, scores: npt.ArrayLike, max_fpr: float = MAX_FPR
) -> Callable[[np.ndarray], tuple[float, float]]:
    """AUC and pAUC as a function of the clips' weights (clips,), for a bootstrap: sorted once, then sums only.

    With weights of one they are `auc` and `partial_auc`; NaN where a class has no weight.
    """
    y, s = _checked(labels, scores)
    order = np.argsort(-s, kind="stable")
    y, s = y[order], s[order]
    first = np.append(0, np.flatnonzero(np.diff(s)) + 1)  # of each run of equal scores

    def areas(weights: np.ndarray) -> tuple[float, float]:
        w = weights[order]
        true, false = (np.append(0.0, np.add.reduceat(w * (y == label), first).cumsum()) for label in (1, 0))
        if not true[-1] or not false[-1]:
            return float("nan"), float("nan")
        tpr, fpr = true / true[-1], false / false[-1]
        return float(np.trapezoid(tpr, fpr)), standardised_area(fpr, tpr, max_fpr)

    return areas


def top_normals_auc(labels: npt.ArrayLike, scores: npt.ArrayLike, max_fpr: float = MAX_FPR) -> float | None:
    """Anomalies against the share `max_fpr` of highest normals, ties lose: the pAUC as the task's paper writes it.

    Koizumi et al. 2020, evaluation metrics. Chance is about max_fpr / 2. No ranking and no published table uses it.
    """
    y, s = _checked(labels, scores)
    normals, anomalies = np.sort(s[y == 0])[::-1], np.sort(s[y == 1])
    count = int(max_fpr * len(normals) + 1e-9)  # 0.29 * 100 is a little less than 29
    if not count or not len(anomalies):
        return None
    below = np.searchsorted(anomalies, normals[:count], side="right")  # anomalies that do not exceed each normal
    return float(1.0 - below.mean() / len(anomalies))


def precision_recall_f1(labels: npt.ArrayLike, decisions: npt.ArrayLike) -> tuple[float, float, float]:
    """Of the anomalies; 0 where nothing was decided or nothing is to be found."""
    y, d = np.asarray(labels) == 1, np.asarray(decisions) == 1
    hits = float((y & d).sum())
    precision = hits / d.sum() if d.any() else 0.0
    recall = hits / y.sum() if y.any() else 0.0
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return float(precision), float(recall), float(f1)


def arithmetic_mean(values: Sequence[float]) -> float:
    """Plain mean."""
    return float(np.mean(values))


def harmonic_mean(values: Sequence[float]) -> float:
    """Harmonic mean with values below the machine epsilon raised to it, as the official evaluators have it."""
    x = np.maximum(np.asarray(values, dtype=np.float64), SMALLEST)
    return float(len(x) / (1.0 / x).sum())


def ranking(systems: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The mean rank of each system over its values (higher is better), ties share their mean rank: lower is better.

    The ranking of 2020: the values are the AUC and pAUC of the six machine types, averaged over their IDs.
    """
    from scipy.stats import rankdata

    table = np.array(list(systems.values()), dtype=np.float64)  # (systems, values)
    ranks = rankdata(-table, axis=0)
    return dict(zip(systems, map(float, ranks.mean(axis=1)), strict=True))


def _checked(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Labels, Scores]:
    y: Any = np.asarray(labels, dtype=np.int64)
    s: Any = np.asarray(scores, dtype=np.float64)
    if not np.isin(y, (0, 1)).all():
        raise ValueError("labels other than 0 and 1")
    if y.shape != s.shape or y.ndim != 1:
        raise ValueError(f"{y.shape} labels and {s.shape} scores, expected as many of both")
    if not np.isfinite(s).all():
        raise ValueError("scores with NaN or infinity")
    return y, s
