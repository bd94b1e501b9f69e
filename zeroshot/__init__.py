"""Zero-shot audio tagging and classification by class descriptions (Primus & Widmer, EUSIPCO 2022)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def classify(
    recording: "str | Path | np.ndarray",
    classes: Sequence[str] | Mapping[str, str | Sequence[str]],
    checkpoint: str | Path | None = None,
    sample_rate: int | None = None,
) -> dict[str, float]:
    """{class: score} of a recording, the best first: `zeroshot.classify("x.wav", classes=["dog bark", "rain"])`.

    recording: an audio file of any length, rate and number of channels, or an array (samples,) in [-1, 1] at
    `sample_rate` Hz. classes: names, or {name: description or descriptions}. checkpoint: of a training
    (`.../run1/fold1/checkpoints/best.ckpt`); None: the encoders that the environment carries, nothing trained.
    Raises UserError for fewer than two classes, two that are alike, and what cannot be read.
    """
    from zeroshot.inference.predict import classify

    return classify(recording, classes, checkpoint, sample_rate)
