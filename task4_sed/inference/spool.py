"""Frame logits of one recording, kept on the disk: what comes of them needs memory for some classes or frames only."""

import io
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

VALUES = 1 << 22  # float64 that are in memory at once


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities float64; in the form of a tanh, without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64))))


class Spool:
    """Logits (frames, classes), added piece by piece; in an unnamed file in `folder` that ends with it (None: memory).

    peaks: the highest score of each class so far.
    """

    def __init__(self, classes: int, folder: Path | None = None) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self.file: IO[bytes] = io.BytesIO() if folder is None else tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self.classes, self.frames = classes, 0
        self.highest = np.full(classes, -np.inf)

    def add(self, logits: np.ndarray) -> None:
        """Some more frames (frames, classes), float32."""
        self.file.write(np.ascontiguousarray(logits, np.float32).tobytes())
        self.frames += len(logits)
        if len(logits):
            self.highest = np.maximum(self.highest, logits.max(axis=0))

    @property
    def peaks(self) -> np.ndarray:
        """The highest score of each class (classes,)."""
        return sigmoid(self.highest)

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Logits (some frames, classes) float32, in order."""
        stop = self.frames if stop is None else stop
        rows = max(1, VALUES // 8 // self.classes)
        for first in range(start, stop, rows):
            count = min(rows, stop - first)
            self.file.seek(4 * first * self.classes)
            read = self.file.read(4 * count * self.classes)
            yield np.frombuffer(read, np.float32).reshape(count, self.classes)
        self.file.seek(0, io.SEEK_END)

    def columns(self, which: Sequence[int]) -> np.ndarray:
        """Scores (frames, chosen classes) float64."""
        return np.concatenate([sigmoid(block[:, which]) for block in self.blocks()])

    def shares(self, which: Sequence[int]) -> Iterator[Sequence[int]]:
        """The classes in shares whose columns fit into memory."""
        size = max(1, VALUES // max(1, self.frames))
        yield from (which[first : first + size] for first in range(0, len(which), size))

    def pooled(self, start: int, stop: int, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Frames joined by their maximum until at most `most` are left: first frames (n,), scores (n, classes)."""
        step = max(1, -(-(stop - start) // most))
        first, at = np.arange(start, stop, step), 0
        found = np.full((len(first), self.classes), -np.inf)
        for block in self.blocks(start, stop):
            groups, begins = np.unique(np.arange(at, at + len(block)) // step, return_index=True)
            found[groups] = np.maximum(found[groups], np.maximum.reduceat(block, begins))
            at += len(block)
        return first, sigmoid(found)
