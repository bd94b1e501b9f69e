"""Average precision of clip labels."""

import numpy as np


def average_precisions(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of each class (classes,), NaN without a positive clip; scores and labels (clips, classes).

    The area under precision and recall in steps, ties counted together, as in scikit-learn.
    """
    from sklearn.metrics import average_precision_score

    present = np.asarray(labels).any(axis=0)
    found = np.full(labels.shape[1], np.nan)
    found[present] = average_precision_score(labels[:, present], scores[:, present], average=None)
    return found
