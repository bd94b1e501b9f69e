"""Median filter over frames, one length per class, as in the DCASE 2024 Task 4 baseline."""

from collections.abc import Mapping

import numpy as np

from common.run.errors import UserError, did_you_mean
from task4_sed.metrics.types import ClipScores, ScoreSet


def median_filter(scores: ScoreSet, frames: Mapping[str, int]) -> ScoreSet:
    """Scores after a median filter of `frames[class]` frames, reflected at the borders of the clip.

    Raises UserError for a class of the scores that has no length, or a length below 1.
    """
    for name in scores.classes:
        if name not in frames:
            raise UserError(f"median filter: no length for class {name!r}{did_you_mean(name, frames)}")
        if frames[name] < 1:
            raise UserError(f"median filter: length {frames[name]} of {name}, expected at least 1 frame")
    lengths = np.array([frames[name] for name in scores.classes])

    def filtered(clip: ClipScores) -> ClipScores:
        found = clip.scores.T.copy()
        for length in np.unique(lengths).tolist():
            found[lengths == length] = running_median(found[lengths == length], length)
        return ClipScores(clip.edges, found.T)

    return ScoreSet(scores.classes, {name: filtered(clip) for name, clip in scores.clips.items()})


def running_median(rows: np.ndarray, length: int) -> np.ndarray:
    """Median filter of `length` frames along each of (rows, frames), reflected with the edge value twice.

    Of an even number of values the upper one in the middle: frames i - length / 2 to i + length / 2 - 1.
    """
    from scipy import ndimage

    frames, before = rows.shape[1], length // 2
    padded = np.pad(rows, ((0, 0), (before, length - 1 - before)), mode="symmetric")
    # One row of all of them: scipy's filter of one axis is ten times as fast as that of two.
    found = ndimage.median_filter(padded.reshape(-1), size=length)
    return found.reshape(padded.shape)[:, before : before + frames]
