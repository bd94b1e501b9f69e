"""Metrics of zero-shot tagging and classification: arrays in, numbers out. Figures are shares in [0, 1].

    tagging(names, scores, truth, judged=None) -> dict          AP and ROC-AUC of every class, their means
    classification(names, scores, labels) -> dict               class-balanced accuracy, top-3, confusion
    generalised(scores, labels, seen, gamma) -> dict            seen and unseen accuracy, harmonic mean
    stacking_gamma(scores, labels, seen) -> float               calibrated stacking
    over_splits(splits) -> float                                mean over class splits of their classes' figures
    class_interval(splits) -> (low, high)     bootstrap over classes
    rank_correlation(distances, qualities, names) -> dict       Spearman's rho with its interval over classes

Nothing is NaN in what is returned as dict: what is not defined is None. Classes, not clips, are the sample of a
zero-shot figure: intervals draw test classes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.run.results.intervals import bootstrap_interval

TOP = 3
LEAST_FOR_TOP = 6  # classes from which on the first three say something
DRAWS = 1000
Array = NDArray[Any]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def average_precision(scores: Array, truth: Array, judged: Array | None = None) -> Array:
    """AP of every class, (clips, classes) -> (classes,); NaN without a positive clip among the judged ones.

    judged (clips, classes): which pairs count, as in OpenMIC; None: all.
    """
    return _by_class("average_precision_score", scores, truth, judged, both=False)


def roc_auc(scores: Array, truth: Array, judged: Array | None = None) -> Array:
    """Area under the ROC curve of every class, (clips, classes) -> (classes,); NaN without both kinds of clips."""
    return _by_class("roc_auc_score", scores, truth, judged, both=True)


def _by_class(name: str, scores: Array, truth: Array, judged: Array | None, both: bool) -> Array:
    from sklearn import metrics

    found = np.full(scores.shape[1], np.nan)
    for index in range(scores.shape[1]):
        rows = slice(None) if judged is None else judged[:, index].astype(bool)
        positive, of_class = truth[rows, index].astype(bool), scores[rows, index]
        if positive.any() and not (both and positive.all()):
            found[index] = getattr(metrics, name)(positive, of_class)
    return found


def tagging(names: Sequence[str], scores: Array, truth: Array, judged: Array | None = None) -> dict[str, Any]:
    """{"mAP", "ROC-AUC", "prevalence", "without positives", "clips", "classes": {name: the same and "positives"}}.

    scores, truth, judged: (clips, classes). Means over the classes that have positives; the mean prevalence among the
    scored clips is the AP of chance. Specification: AP and AUC as scikit-learn, OpenMIC's mask as weight.
    """
    judged = np.ones(truth.shape, bool) if judged is None else judged.astype(bool)
    positives, counted = (truth.astype(bool) & judged).sum(axis=0), judged.sum(axis=0)
    ap, auc = average_precision(scores, truth, judged), roc_auc(scores, truth, judged)
    classes = {
        name: {
            "AP": _number(ap[index]),
            "ROC-AUC": _number(auc[index]),
            "prevalence": float(positives[index] / counted[index]) if counted[index] else None,
            "positives": int(positives[index]),
            "clips": int(counted[index]),
        }
        for index, name in enumerate(names)
    }
    there = [of for of in classes.values() if of["positives"]]
    return {
        "mAP": _mean([of["AP"] for of in there]),
        "ROC-AUC": _mean([of["ROC-AUC"] for of in there]),
        "prevalence": _mean([of["prevalence"] for of in there]),
        "without positives": len(classes) - len(there),
        "clips": len(truth),
        "classes": classes,
    }


def confusion(labels: Array, predicted: Array, classes: int) -> Array:
    """(classes, classes) clips; rows are the true class."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def classification(names: Sequence[str], scores: Array, labels: Array) -> dict[str, Any]:
    """{"accuracy", "top-3", "chance", "clips", "confusion", "classes": {name: {"recall", "clips"}}}.

    scores (clips, classes), labels (clips,) their columns. Accuracy is the mean of the recalls of the classes that have
    clips; top-3 the same where there are at least six classes.
    """
    counts = confusion(labels, scores.argmax(axis=1), len(names))
    total = counts.sum(axis=1)
    recalls = [_number(counts[i, i] / total[i]) if total[i] else None for i in range(len(names))]
    better = (scores > scores[np.arange(len(labels)), labels][:, None]).sum(axis=1)
    first = [float((better[labels == i] < TOP).mean()) for i in range(len(names)) if total[i]]
    return {
        "accuracy": _mean(recalls),
        f"top-{TOP}": float(np.mean(first)) if len(names) >= LEAST_FOR_TOP else None,
        "chance": 1 / len(names),
        "clips": len(labels),
        "confusion": counts.tolist(),
        "classes": {name: {"recall": r, "clips": int(n)} for name, r, n in zip(names, recalls, total, strict=True)},
    }


def _balanced(right: Array, labels: Array) -> float:
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


def generalised(scores: Array, labels: Array, seen: Array, gamma: float = 0.0) -> dict[str, float]:
    """{"seen", "unseen": class-balanced accuracies over all classes, "harmonic mean", "gamma"}.

    scores (clips, classes) of seen and unseen classes, seen (classes,) bool; gamma is subtracted from the scores of
    seen classes (calibrated stacking, Chao et al. 2016). Raises ValueError without clips of both kinds.
    """
    of_seen = seen[labels]
    if of_seen.all() or not of_seen.any():
        raise ValueError("generalised figures need clips of seen and of unseen classes")
    right = (scores - gamma * seen).argmax(axis=1) == labels
    a, b = _balanced(right[of_seen], labels[of_seen]), _balanced(right[~of_seen], labels[~of_seen])
    return {"seen": a, "unseen": b, "harmonic mean": 2 * a * b / (a + b) if a + b else 0.0, "gamma": gamma}


def stacking_gamma(scores: Array, labels: Array, seen: Array) -> float:
    """The gamma with the best harmonic mean; to be asked on validation classes in the place of unseen ones.

    Only the order of the best seen against the best unseen class of each clip matters: gamma is tried between any two.
    """
    margins = np.unique(scores[:, seen].max(axis=1) - scores[:, ~seen].max(axis=1))
    tried = np.concatenate(([0.0], (margins[1:] + margins[:-1]) / 2))
    if len(tried) > DRAWS:
        tried = np.quantile(tried, np.linspace(0, 1, DRAWS))
    return float(max(tried, key=lambda gamma: generalised(scores, labels, seen, gamma)["harmonic mean"]))


def by_class(of: Mapping[str, Any]) -> dict[str, float]:
    """{class: its share of the main figure}, recall or AP, of one result; classes without clips are left out."""
    key = "recall" if of["kind"] == "accuracy" else "AP"
    return {name: one[key] for name, one in of["classes"].items() if one[key] is not None}


# ---------------------------------------------------------------- uncertainty, over classes


def _ends(low: float, high: float) -> tuple[float, float] | None:
    return None if math.isnan(low) or math.isnan(high) else (low, high)


def over_splits(splits: Sequence[Mapping[str, float]], weights: Mapping[str, float] | None = None) -> float:
    """Mean over class splits of the mean over their classes' figures; weights: of the classes, in a bootstrap."""
    means = []
    for of in splits:
        drawn = [1.0 if weights is None else weights[name] for name in of]
        if sum(drawn):
            means.append(np.average(list(of.values()), weights=drawn))
    return float(np.mean(means)) if means else math.nan


def class_interval(
    splits: Sequence[Mapping[str, float]], draws: int = DRAWS, seed: int = 0
) -> tuple[float, float] | None:
    """95 % interval of `over_splits`, bootstrap over classes, each drawn in all its splits; None for fewer than ten.

    splits: the figure of every test class of a split, a share.
    """
    names = sorted({name for of in splits for name in of})

    def mean(weights: Array) -> float:
        return over_splits(splits, dict(zip(names, weights.tolist(), strict=True)))

    return _ends(*bootstrap_interval(mean, len(names), draws, seed, share=True)) if names else None


def rank_correlation(
    distances: Sequence[float], qualities: Sequence[float], names: Sequence[str], draws: int = DRAWS, seed: int = 0
) -> dict[str, Any]:
    """{"rho": Spearman's, "interval": (low, high), "points", "classes"}: how quality goes with distance.

    A point for each class of each split; the bootstrap draws classes (names) with all their points. Its standard error
    is taken on Fisher's z, so that the interval stays within [-1, 1]. None where all distances or qualities are equal,
    or there are fewer than three points.
    """
    from scipy.stats import spearmanr

    x, y = np.asarray(distances, np.float64), np.asarray(qualities, np.float64)
    found: dict[str, Any] = {"rho": None, "interval": None, "points": len(x), "classes": len(set(names))}

    def z(weights: Array) -> float:
        rows = np.repeat(np.arange(len(x)), weights)
        if np.ptp(x[rows]) == 0 or np.ptp(y[rows]) == 0:
            return math.nan
        return float(np.arctanh(np.clip(spearmanr(x[rows], y[rows]).statistic, -0.9999, 0.9999)))

    of_all = z(np.ones(len(x), np.int64)) if len(x) > 2 else math.nan
    if math.isnan(of_all):
        return found
    ends = _ends(*bootstrap_interval(z, len(x), draws, seed, groups=np.asarray(names)))
    interval = None if ends is None else (math.tanh(ends[0]), math.tanh(ends[1]))
    return found | {"rho": math.tanh(of_all), "interval": interval}
