"""Tokens of a frozen audio encoder, computed once for every clip of a data set and read by all trainings after that."""

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.audio import arrays
from common.audio.arrays import ClipArrays
from task6_retrieval.config import SAMPLE_RATE
from task6_retrieval.data.batches import segments_of
from task6_retrieval.data.sets import CaptionedClips


class Tower(Protocol):
    """A frozen encoder: segments (segments, samples) at 32 kHz -> (segments, tokens_per_segment, dim)."""

    segment_seconds: float

    @property
    def key(self) -> str:
        """Names what comes out: equal keys, equal tokens."""

    @property
    def tokens_per_segment(self) -> int: ...

    def encode(self, segments: Tensor) -> Tensor: ...


def store(of: CaptionedClips, folder: Path, tower: Tower, batch: int, device: torch.device) -> ClipArrays:
    """Tokens of the whole segments of all clips in a data set's pack, rows (tokens, dim) float16. Computes what is
    missing; the folder's name says which encoder they are of.
    """
    size = round(tower.segment_seconds * SAMPLE_RATE)

    def embed(waveform: NDArray[np.float32]) -> NDArray[np.floating]:
        padded = np.pad(waveform, ((0, 0), (0, -waveform.shape[1] % size))).reshape(-1, size)
        with torch.inference_mode():
            found = tower.encode(torch.from_numpy(padded).to(device)).float().cpu().numpy()
        return found.reshape(len(waveform), -1, found.shape[-1])

    sizes = segments_of(np.asarray(of.pack.lengths) / SAMPLE_RATE, tower.segment_seconds) * tower.tokens_per_segment
    return arrays.store(of.pack, folder / tower.key, embed, batch, sizes=sizes, title=f"embeddings {of.name}")
