"""Embeddings of a frozen encoder, computed once for every clip of a data set and read by all trainings after that."""

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from common.audio import arrays
from common.audio.arrays import ClipArrays
from common.run.processes import working_device
from task4_sed.config import EncoderConfig
from task4_sed.data.classes import CLIP_SECONDS, SAMPLE_RATE
from task4_sed.data.sets import ClipSet

CLIP_SAMPLES = int(CLIP_SECONDS * SAMPLE_RATE)


class Embedder(Protocol):
    """A frozen encoder: waveforms (batch, samples) at 16 kHz -> embeddings (batch, dim, steps)."""

    config: EncoderConfig

    @property
    def key(self) -> str:
        """Names what comes out: equal keys, equal embeddings."""

    def __call__(self, waveform: torch.Tensor) -> torch.Tensor: ...


def store(of: ClipSet, folder: Path, embedder: Embedder, batch: int) -> ClipArrays:
    """Embeddings of the first 10 s of all clips in a data set's pack: rows (clips of the pack, dim, steps) float16.

    The folder's name says which encoder they are of. Computes what is missing.
    """
    device = working_device()

    def embed(waveform: NDArray[np.float32]) -> NDArray[np.floating]:
        return embedder(torch.from_numpy(waveform).to(device))[:, None].cpu().numpy()

    folder = folder / f"{embedder.config.name.replace(':', '.')}-{embedder.key}"
    return arrays.store(of.pack, folder, embed, batch, samples=CLIP_SAMPLES, title=f"embeddings {of.name}")
