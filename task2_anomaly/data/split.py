"""Which normal training clips are trained on, and which are held out for thresholds and normalisation."""

import numpy as np
import numpy.typing as npt

SEED = 2020  # the same clips in every training, so that ensembles can be normalised by them


def training_rows(clips: int, held_out: float) -> npt.NDArray[np.int64]:
    """Clips that training sees, ascending."""
    return np.setdiff1d(np.arange(clips), held_out_rows(clips, held_out) if held_out else [])


def held_out_rows(clips: int, held_out: float) -> npt.NDArray[np.int64]:
    """The share `held_out` of the clips but at least two, ascending; where nothing is held out, all of them."""
    if not held_out:
        return np.arange(clips)
    count = max(2, round(held_out * clips))  # a threshold needs two scores
    return np.sort(np.random.default_rng(SEED).permutation(clips)[:count])
