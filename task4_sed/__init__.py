"""DCASE 2024 Task 4: sound event detection with heterogeneous labels (DESED and MAESTRO)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def detect(
    recording: "str | Path | np.ndarray",
    checkpoint: str | Path,
    sample_rate: int | None = None,
    threshold: float = 0.5,
    csebbs: str | None = None,
) -> list[dict[str, Any]]:
    """Sound events in a recording of any length: {"onset", "offset", "event_label", "confidence"}, times in seconds.

    recording: a file of any rate and number of channels, or an array (samples,) with its `sample_rate` in Hz.
    checkpoint: of a training, or a folder that `export` wrote.
    threshold: least confidence, 0 to 1. csebbs: parameters of the bounding boxes as in `predict --csebbs`; None: those
    tuned for the run that the checkpoint lies in, else the default.
    Raises UserError for a file that is not audio, and a checkpoint that is none.
    """
    from task4_sed.inference.detect import detect_in

    return detect_in(recording, checkpoint, sample_rate, threshold, csebbs)
