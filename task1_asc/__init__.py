"""Task 1: data-efficient low-complexity acoustic scene classification (DCASE 2024 and 2025)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from task1_asc.config import Precision


def classify(
    recording: "str | Path | np.ndarray",
    checkpoint: str | Path,
    sample_rate: int | None = None,
    precision: "Precision | None" = None,
) -> dict[str, Any]:
    """The scene of a recording: {"seconds": float, "scene": name, "probabilities": {name: share}}, as `predict FILE`.

    recording: an audio file of any length, rate and number of channels, or an array (samples,) in [-1, 1] at
    `sample_rate` Hz. checkpoint: of a training (`.../split100/checkpoints/last.ckpt`), its int8 network
    (`.../split100/int8/network_int8.pt`), or a folder that `export --format folder` wrote.
    precision: float32, float16, float16_weights or int8 (default: the recipe's).
    Raises UserError for what cannot be read.
    """
    from task1_asc.inference.predict import classify

    return classify(recording, checkpoint, sample_rate, precision)
