"""Average precision of clip labels."""

from collections.abc import Callable

import numpy as np


def average_precisions(scores: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """How often each clip counts (clips,) -> average precision of each class (classes,), NaN without a positive clip.

    scores, labels: (clips, classes). The area under precision and recall in steps, ties counted together, as in
    scikit-learn.
    """
    ranked = []
    for of_class, label in zip(scores.T, np.asarray(labels, bool).T, strict=True):
        order = np.argsort(-of_class, kind="stable").astype(np.int32)
        falling, hits = -of_class[order], np.flatnonzero(label[order])
        last = np.searchsorted(falling, falling[hits], side="right") - 1  # clip with the score of each hit
        ranked.append((order, hits, last, np.searchsorted(hits, last, side="right") - 1))

    def of_weights(weights: np.ndarray) -> np.ndarray:
        found = np.full(len(ranked), np.nan)
        for number, (order, hits, last, last_hit) in enumerate(ranked):
            counted = weights[order]
            of_hits = counted[hits]
            if of_hits.any():
                precision = np.cumsum(of_hits)[last_hit] / np.maximum(np.cumsum(counted)[last], 1)
                found[number] = precision @ of_hits / of_hits.sum()
        return found

    return of_weights
