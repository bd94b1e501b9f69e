"""Stored logits of networks, read clip by clip: pseudo labels of a training, members of an ensemble."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.run.errors import UserError, did_you_mean
from common.run.hdf5 import mapped, new_hdf5
from task4_sed.data.classes import CLASSES, FRAME_SECONDS
from task4_sed.data.hdf5 import data_set, number_attribute, numbers, open_hdf5, texts

CLIPS_AT_ONCE = 256  # that are averaged; of 15 teachers on AudioSet-strong about a GB


def stem(clip: str) -> str:
    """The name of a clip in such files: without ".wav", or ".mp3" as in those of AudioSet."""
    return clip.removesuffix(".wav").removesuffix(".mp3")


@dataclass(frozen=True)
class StoredLogits:
    """Logits of many clips, matched by name; never masked by class.

    strong: (clips, frames, classes) float16 or float32, mapped from the file where it is stored in one piece.
    position: {name without ".wav": row}. durations: (clips,) seconds, or None. runs: folders of the runs that made it,
    where the file says so.
    """

    path: Path
    strong: np.ndarray
    classes: tuple[str, ...]
    position: dict[str, int]
    durations: np.ndarray | None
    frame_seconds: float
    runs: tuple[str, ...]

    @staticmethod
    def open(path: str | Path, classes: Sequence[str] | None = None) -> "StoredLogits":
        """A file of `filenames` (clips), `strong_logits` (clips, frames, classes), and `classes` if any.

        Raises UserError for files that are missing, cut off, of other `classes` (None: any), or that hold a name twice.
        The logits are not looked at yet: of AudioSet-strong they are 22 GB.
        """
        path = Path(path)
        with open_hdf5(path, "stored logits (`predict --logits` and `pseudo_labels` make them)") as file:
            names = [stem(name) for name in texts(file, "filenames")]
            strong = mapped(data_set(file, "strong_logits", 3, "f"))
            found = tuple(texts(file, "classes")) if "classes" in file else None
            durations = numbers(file, "durations") if "durations" in file else None
            frame_seconds = number_attribute(file, "frame_seconds")
            runs = tuple(texts(file, "runs")) if "runs" in file else ()
        expected = tuple(found or CLASSES) if classes is None else tuple(classes)
        _check_classes(path, found, expected)
        _check_logits(path, strong, names, expected)
        position = {name: row for row, name in enumerate(names)}
        if len(position) < len(names):
            twice = next(name for row, name in enumerate(names) if position[name] != row)
            raise UserError(f"{path}: filenames has {twice!r} twice")
        if durations is not None and len(durations) != len(names):
            raise UserError(f"{path}: durations has {len(durations)} clips, but filenames {len(names)}")
        return StoredLogits(path, strong, expected, position, durations, frame_seconds or FRAME_SECONDS, runs)

    def rows(self, clips: Sequence[str]) -> np.ndarray:
        """The row of each clip, named with or without ".wav": (clips,). UserError where the file is of other clips."""
        missing = [clip for clip in clips if stem(clip) not in self.position]
        if missing:
            hint = did_you_mean(stem(missing[0]), list(self.position)[:1000])
            raise UserError(
                f"{self.path}: no logits of {len(missing)} of {len(clips)} clips, {missing[0]!r} first{hint}"
            )
        return np.array([self.position[stem(clip)] for clip in clips])

    def read(self, rows: np.ndarray | slice) -> np.ndarray:
        """Frame logits of some rows, (rows, frames, classes). Raises UserError where they have NaN or infinity."""
        found = self.strong[rows]
        wrong = ~np.isfinite(found.reshape(len(found), -1)).all(axis=1)
        if wrong.any():
            row = np.arange(len(self.strong))[rows][int(wrong.argmax())]
            name = next((repr(name) for name, of in self.position.items() if of == row), f"row {row}")
            raise UserError(f"{self.path}: strong_logits of {name} has NaN or infinity")
        return found

    def row(self, clip: str) -> np.ndarray:
        """Frame logits of one clip, (frames, classes)."""
        return self.read(self.rows([clip]))[0]


def _check_classes(path: Path, found: Sequence[str] | None, classes: Sequence[str]) -> None:
    if found is None:  # published files: the order is that of the challenge
        return
    if len(found) != len(classes):
        raise UserError(f"{path}: logits of {len(found)} classes, expected {len(classes)}")
    for number, (theirs, ours) in enumerate(zip(found, classes, strict=True), 1):
        if theirs != ours:
            raise UserError(f"{path}: class {number} is {theirs!r}, expected {ours!r}")


def _check_logits(path: Path, logits: np.ndarray, names: Sequence[str], classes: Sequence[str]) -> None:
    if len(logits) != len(names):
        raise UserError(f"{path}: strong_logits has {len(logits)} clips, but filenames {len(names)}")
    if logits.shape[-1] != len(classes):
        raise UserError(f"{path}: strong_logits has {logits.shape[-1]} classes, expected {len(classes)}")


@contextmanager
def new_logits(
    path: str | Path,
    stems: Sequence[str],
    frames: int,
    classes: Sequence[str],
    dtype: Any = np.float16,
    frame_seconds: float = FRAME_SECONDS,
    durations: np.ndarray | None = None,
    runs: Sequence[str] = (),
) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield append(logits (some clips, frames, classes)), which takes the clips in the order of `stems`.

    The file has the form that `StoredLogits` reads and appears whole, after the last clip, or not at all.
    """
    with new_hdf5(path) as (file, check):
        strong = file.create_dataset("strong_logits", (len(stems), frames, len(classes)), dtype)
        for key, words in {"filenames": stems, "classes": classes, "runs": runs}.items():
            if words or key != "runs":
                file[key] = np.array([word.encode() for word in words], dtype=f"S{_longest(words)}")
        file.attrs["frame_seconds"] = frame_seconds
        if durations is not None:
            file["durations"] = np.asarray(durations, dtype=np.float64)
        done = 0

        def append(logits: np.ndarray) -> None:
            nonlocal done
            strong[done : done + len(logits)] = np.asarray(logits, dtype)
            done += len(logits)
            check()

        yield append
        if done != len(stems):
            raise ValueError(f"{path}: logits of {done} clips, expected {len(stems)}")


def _longest(names: Iterable[str]) -> int:
    return max((len(name.encode()) for name in names), default=1) or 1


def average(files: Sequence[Path], out: Path, dtype: Any, runs: Sequence[str] = ()) -> int:
    """Write the mean of the logits in `files`, of the same clips in any order, sorted by name; returns their number.

    Read and written by 256 clips at once. Raises UserError for files of other classes, clips, frames or durations.
    """
    first = StoredLogits.open(files[0])
    others = [StoredLogits.open(file, first.classes) for file in files[1:]]
    names = sorted(first.position)
    order = first.rows(names)
    durations = None if first.durations is None else first.durations[order]
    for other in others:
        if foreign := first.position.keys() ^ other.position.keys():
            where = first.path if min(foreign) in first.position else other.path
            raise UserError(f"{other.path}: not the clips of {first.path}, {min(foreign)!r} is only in {where}")
        for what, ours, theirs in (
            ("frames a clip", first.strong.shape[1], other.strong.shape[1]),
            ("seconds a frame", first.frame_seconds, other.frame_seconds),
        ):
            if ours != theirs:
                raise UserError(f"{other.path}: {theirs:g} {what}, expected {ours:g} as in {first.path}")
        ends = None if other.durations is None else other.durations[other.rows(names)]
        if durations is not None and ends is not None and (ends != durations).any():
            raise UserError(
                f"{other.path}: {names[int((ends != durations).argmax())]} has another duration in {first.path}"
            )
    frames = first.strong.shape[1]
    with new_logits(out, names, frames, first.classes, dtype, first.frame_seconds, durations, runs) as append:
        for start in range(0, len(names), CLIPS_AT_ONCE):
            chosen = names[start : start + CLIPS_AT_ONCE]
            append(np.stack([part.read(part.rows(chosen)) for part in (first, *others)]).mean(axis=0, dtype=np.float64))
    return len(names)
