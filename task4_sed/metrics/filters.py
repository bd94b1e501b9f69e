"""Median filter over frames, one length per class, as in the DCASE 2024 Task 4 baseline."""

from collections.abc import Mapping

import numpy as np

from common.run.errors import UserError, did_you_mean
from task4_sed.metrics.types import ClipScores, ScoreSet


def median_filter(scores: ScoreSet, frames: Mapping[str, int]) -> ScoreSet:
    """Scores after a median filter of `frames[class]` frames, reflected at the borders of the clip.

    Raises UserError for a class of the scores that has no length, or a length below 1.
    """
    from scipy import ndimage

    for name in scores.classes:
        if name not in frames:
            raise UserError(f"median filter: no length for class {name!r}{did_you_mean(name, frames)}")
        if frames[name] < 1:
            raise UserError(f"median filter: length {frames[name]} of {name}, expected at least 1 frame")
    lengths = [frames[name] for name in scores.classes]

    def filtered(clip: ClipScores) -> ClipScores:
        columns = [ndimage.median_filter(clip.scores[:, i], size=length) for i, length in enumerate(lengths)]
        return ClipScores(clip.edges, np.stack(columns, axis=1))

    return ScoreSet(scores.classes, {name: filtered(clip) for name, clip in scores.clips.items()})
