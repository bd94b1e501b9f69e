"""Stored logits of networks, read clip by clip: pseudo labels of a training, members of an ensemble."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.run.errors import UserError, did_you_mean
from task4_sed.data.hdf5 import data_set, open_hdf5, texts

if TYPE_CHECKING:
    import h5py

CLIPS_AT_ONCE = 1024  # that are asked for NaN


def stem(clip: str) -> str:
    """The name of a clip in such files: without ".wav"."""
    return clip.removesuffix(".wav")


@dataclass(frozen=True)
class StoredLogits:
    """Logits of many clips, matched by name; never masked by class.

    strong: (clips, frames, classes) float16 or float32, mapped from the file where it is stored in one piece. weak:
    (clips, classes), where the file has them. position: {name without ".wav": row}.
    """

    path: Path
    strong: np.ndarray
    weak: np.ndarray | None
    position: dict[str, int]

    @staticmethod
    def open(path: str | Path, classes: Sequence[str]) -> "StoredLogits":
        """A file of `filenames` (clips), `strong_logits` (clips, frames, classes), `weak_logits` and `classes` if any.

        Raises UserError for files that are missing, cut off, of other classes, or that hold a name twice or NaN.
        """
        path = Path(path)
        with open_hdf5(path, "stored logits") as file:
            names = [stem(name) for name in texts(file, "filenames")]
            strong = _logits(file, "strong_logits", 3)
            weak = _logits(file, "weak_logits", 2) if "weak_logits" in file else None
            found = texts(file, "classes") if "classes" in file else None
        _check_classes(path, found, classes)
        for key, logits in {"strong_logits": strong, "weak_logits": weak}.items():
            if logits is None:
                continue
            if len(logits) != len(names):
                raise UserError(f"{path}: {key} has {len(logits)} clips, but filenames {len(names)}")
            if logits.shape[-1] != len(classes):
                raise UserError(f"{path}: {key} has {logits.shape[-1]} classes, expected {len(classes)}")
            for start in range(0, len(names), CLIPS_AT_ONCE):
                part = logits[start : start + CLIPS_AT_ONCE]
                wrong = ~np.isfinite(part.reshape(len(part), -1)).all(axis=1)
                if wrong.any():
                    raise UserError(f"{path}: {key} of {names[start + int(wrong.argmax())]!r} has NaN or infinity")
        position = {name: row for row, name in enumerate(names)}
        if len(position) < len(names):
            twice = next(name for row, name in enumerate(names) if position[name] != row)
            raise UserError(f"{path}: filenames has {twice!r} twice")
        return StoredLogits(path, strong, weak, position)

    def rows(self, clips: Sequence[str]) -> np.ndarray:
        """The row of each clip, named with or without ".wav": (clips,). UserError where the file is of other clips."""
        missing = [clip for clip in clips if stem(clip) not in self.position]
        if missing:
            hint = did_you_mean(stem(missing[0]), list(self.position)[:1000])
            raise UserError(
                f"{self.path}: no logits of {len(missing)} of {len(clips)} clips, {missing[0]!r} first{hint}"
            )
        return np.array([self.position[stem(clip)] for clip in clips])

    def row(self, clip: str) -> np.ndarray:
        """Frame logits of one clip, (frames, classes)."""
        return self.strong[self.rows([clip])[0]]


def _check_classes(path: Path, found: Sequence[str] | None, classes: Sequence[str]) -> None:
    if found is None:  # published files: the order is that of the challenge
        return
    if len(found) != len(classes):
        raise UserError(f"{path}: logits of {len(found)} classes, expected {len(classes)}")
    for number, (theirs, ours) in enumerate(zip(found, classes, strict=True), 1):
        if theirs != ours:
            raise UserError(f"{path}: class {number} is {theirs!r}, expected {ours!r}")


def _logits(file: "h5py.File", key: str, dims: int) -> np.ndarray:
    found = data_set(file, key, dims, "f")
    offset = found.id.get_offset()
    if offset is None or not found.size or found.dtype.byteorder == ">":
        return found[()]
    return np.memmap(file.filename, found.dtype, "r", offset, found.shape)
