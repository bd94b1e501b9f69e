"""Detectors that tests know all about."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from common.audio.reading import Waveform
from task4_sed.data.classes import FRAME_SECONDS
from task4_sed.inference.detectors import Detector
from task4_sed.inference.predict import Predictor
from task4_sed.inference.stitch import Grid, grid_of, stitched


def detector_of(predictor: Predictor) -> Detector:
    """A CRNN's."""
    hear = lambda windows: predictor.logits(windows)  # noqa: E731 (as it is when it is called)
    return Detector("crnn", predictor.classes, None, 10.0, FRAME_SECONDS, None, None, predictor.device, hear)


def fake(hear: Callable[[Tensor], Tensor], classes: Iterable[str] = ("a", "b"), mids: bool = True) -> Detector:
    """Frames of 40 ms in 10 s: `hear` gives (batch, 250, classes)."""
    names = tuple(classes)
    known = tuple(f"/m/{name.casefold().replace(' ', '_')}" for name in names) if mids else None
    return Detector("fake", names, known, 10.0, 0.04, None, "0" * 64, torch.device("cpu"), hear)


def logits_of(detector: Detector, blocks: Iterable[Waveform], grid: Grid | None = None, batch: int = 8) -> np.ndarray:
    """All logits (frames, classes) of one recording."""
    pieces = list(stitched(detector, [(0, blocks)], grid or grid_of(detector), batch=batch))
    assert [piece.last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    return np.concatenate([piece.logits for piece in pieces])
