"""Embeddings of a frozen encoder, computed once for every clip of a data set and read by all trainings after that."""

import io
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from filelock import FileLock
from numpy.lib import format as npy

from common.run.files import sha256
from common.run.progress import progress
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


class Stored:
    """Embeddings (clips of a pack, dim, steps) float16 in a file; read in pieces, may be pickled and forked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._array: np.ndarray | None = None

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Those of the clips at `rows` of the pack, (rows, dim, steps)."""
        if self._array is None:
            self._array = np.load(self.path, mmap_mode="r")
        return self._array[rows]

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_array": None}


def store(of: ClipSet, folder: Path, embedder: Embedder, batch: int) -> Stored:
    """The stored embeddings of the first 10 s of all clips in the pack of a data set; computes what is missing.

    The file's name says which encoder and which pack it is of. A computation that was killed goes on where it stood.
    """
    folder = folder / f"{embedder.config.name}-{embedder.key}"
    path = folder / f"{of.name}-{sha256(of.pack.path / 'pack.json')[:12]}.npy"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{of.name}.lock"):  # several processes of one training
            if not path.is_file():
                partial = path.with_suffix(".unfinished")
                _compute(of, partial, embedder, batch)
                os.replace(partial, path)
    return Stored(path)


def _compute(of: ClipSet, path: Path, embedder: Embedder, batch: int) -> None:
    """Append clips to a .npy file that has the header of the whole; its size tells how many it holds."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    clips = len(of.pack)
    shape = embedder(torch.zeros(1, CLIP_SAMPLES, device=device)).shape[1:]
    header = io.BytesIO()
    npy.write_array_header_1_0(header, {"descr": "<f2", "fortran_order": False, "shape": (clips, *shape)})
    size = len(header.getvalue())
    with open(path, "ab") as file:
        there = file.seek(0, io.SEEK_END)
        done = max(there - size, 0) // (2 * shape.numel())
        file.truncate(size + done * 2 * shape.numel() if there >= size else 0)
        if there < size:
            file.write(header.getvalue())
        with progress(f"embeddings {of.name}", clips, done=done) as advance:
            for first in range(done, clips, batch):
                rows = np.arange(first, min(first + batch, clips))
                waveform = torch.from_numpy(of.pack.read_many(rows, 0, CLIP_SAMPLES)).to(device)
                file.write(embedder(waveform).half().cpu().contiguous().numpy().data)
                advance(len(rows))
        file.flush()
        os.fsync(file.fileno())
