"""Scores of clips: piecewise constant in time, one column per class."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ClipScores:
    """Scores of one clip.

    edges: (frames + 1,) float64, seconds, strictly increasing; row i of the scores holds on [edges[i], edges[i + 1]).
    scores: (frames, classes) float64.
    """

    edges: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class ScoreSet:
    """Scores of many clips: {clip name without ".wav": ClipScores}, columns in the order of `classes`."""

    classes: tuple[str, ...]
    clips: dict[str, ClipScores]
