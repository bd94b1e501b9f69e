"""Arrays computed from clips, once, and kept on disk: spectrograms and embeddings of packs, logits by clip name.

`<folder>/<pack>-<hash of its pack.json>.npy` has the rows of all clips one after the other, shorter clips first. The
caller's folder says what was computed; arrays of the pack as it was before are removed.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar, cast

import numpy as np
from filelock import FileLock
from numpy.lib import format as npy
from numpy.typing import NDArray

from common.audio.packs import IntArray, Pack
from common.run.errors import UserError
from common.run.files import existing_file, sha256, write_arrays
from common.run.progress import progress

A = TypeVar("A")
# Waveforms (clips, samples) of one length -> (clips, rows of a clip, ...).
Compute = Callable[[NDArray[np.float32]], NDArray[np.floating]]


class ClipArrays:
    """Clip i has `sizes[i]` of the rows, from `starts[i]` on. Memory-mapped; may be pickled and forked."""

    def __init__(self, path: Path, starts: IntArray, sizes: IntArray) -> None:
        self.path, self.starts, self.sizes = path, starts, sizes
        self._rows: NDArray[Any] | None = None

    @property
    def rows(self) -> NDArray[Any]:
        """(rows of all clips, ...)."""
        if self._rows is None:
            self._rows = np.load(self.path, mmap_mode="r")
        return self._rows

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rows": None}


def store(
    pack: Pack,
    folder: Path,
    compute: Compute,
    batch: int,
    *,
    samples: int | None = None,
    sizes: IntArray | None = None,
    dtype: str = "<f2",
    title: str | None = None,
) -> ClipArrays:
    """The arrays of all clips of a pack; computes what is missing, `batch` clips of one length at once.

    samples: only so many first ones of every clip are heard, 0 beyond its end; None: all of them. sizes: rows of each
    clip (clips,), default 1. Several processes may ask for the same arrays: one computes, the others wait. A
    computation that was killed goes on where it stood. Raises UserError for values that `dtype` cannot hold.
    """
    name = pack.path.name
    path = folder / f"{name}-{sha256(pack.path / 'pack.json')[:12]}.npy"
    lengths = np.asarray(pack.lengths) if samples is None else np.full(len(pack), samples)
    sizes = np.ones(len(pack), np.int64) if sizes is None else sizes
    order = np.argsort(lengths, kind="stable")
    starts = np.empty(len(pack), np.int64)
    starts[order] = np.cumsum(sizes[order]) - sizes[order]
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{name}.lock"):
            if not path.is_file():
                unfinished = path.with_suffix(".unfinished")
                with open(unfinished, "ab+") as file:
                    _append(file, pack, compute, batch, order, lengths[order], sizes[order], dtype, title)
                os.replace(unfinished, path)
                _remove_older(path, name)
    return ClipArrays(path, starts, sizes)


def _append(
    file: BinaryIO,
    pack: Pack,
    compute: Compute,
    batch: int,
    order: IntArray,
    lengths: IntArray,
    sizes: IntArray,
    dtype: str,
    title: str | None,
) -> None:
    """Append clips to a .npy file that has the header of the whole; its size tells how many it holds."""
    ends = np.cumsum(sizes)
    done = _clips_in(file, ends, np.dtype(dtype))
    with progress(title, len(order), done=done) if title else nullcontext() as advance:
        while done < len(order):
            last = min(done + batch, int(np.searchsorted(lengths, lengths[done], side="right")))
            found = compute(pack.read_many(order[done:last], 0, int(lengths[done])))
            with np.errstate(over="ignore"):
                values = np.ascontiguousarray(found, dtype)
            for clip, of in zip(order[done:last], values, strict=True):
                if not np.isfinite(of).all():
                    raise UserError(f"{pack.path}: {pack.names[int(clip)]} gives values that are not finite in {dtype}")
            if not done:
                shape = (int(ends[-1]), *values.shape[2:])
                npy.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
            file.write(values.data)
            if advance:
                advance(last - done)
            done = last
    file.flush()
    os.fsync(file.fileno())


def _clips_in(file: BinaryIO, ends: IntArray, dtype: np.dtype[Any]) -> int:
    """Whole clips that a file holds; what else it has is cut off."""
    there = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        npy.read_magic(file)
        shape, _, _ = npy.read_array_header_1_0(file)
    except ValueError:  # empty, or killed within the header
        file.truncate(0)
        return 0
    row = dtype.itemsize * int(np.prod(shape[1:]))
    done = int(np.searchsorted(ends, (there - file.tell()) // row, side="right"))
    file.truncate(file.tell() + int(ends[done - 1]) * row if done else 0)
    return done


def _remove_older(path: Path, name: str) -> None:
    older = re.compile(rf"{re.escape(name)}-[0-9a-f]{{12}}\.(npy|unfinished)")
    for file in path.parent.iterdir():
        if older.fullmatch(file.name) and file != path:
            file.unlink()


@dataclass(frozen=True)
class NamedLogits(Generic[A]):
    """Logits of named clips, which may come from another machine: (clips, classes) float16; about: whose they are."""

    path: Path
    names: tuple[str, ...]
    logits: NDArray[np.float16]
    about: A

    def of(self, names: Sequence[str]) -> NDArray[np.float16]:
        """(clips, classes) of these clips, in their order. Raises UserError for clips that are not there."""
        rows = {name: row for row, name in enumerate(self.names)}
        if missing := [name for name in names if name not in rows]:
            raise UserError(
                f"{self.path}: no logits for {len(missing)} of {len(names)} clips, the first is {missing[0]}"
            )
        return self.logits[[rows[name] for name in names]]


def write_logits(path: Path, names: Sequence[str], logits: NDArray[Any], about: Any) -> None:
    """Store (clips, classes) and the dataclass `about`, whole or not at all.

    Raises UserError for what float16 cannot hold.
    """
    with np.errstate(over="ignore"):
        half = logits.astype(np.float16)
    if not np.isfinite(half).all():
        raise UserError(f"{path}: the teacher's logits are not finite in half precision; did its training diverge?")
    write_arrays(path, names=names, logits=half, about=json.dumps(asdict(about)))


def read_logits(path: Path, classes: int, about: type[A]) -> NamedLogits[A]:
    """What `write_logits` stored. Raises UserError for a missing file or any other content: what is no finite number,
    a clip that stands twice.
    """
    existing_file(path, "teacher's logits (`teach` makes them)")
    try:
        with np.load(path, allow_pickle=False) as stored:
            names, logits = tuple(stored["names"].tolist()), stored["logits"]
            whose = about(**json.loads(str(stored["about"])))
            kinds = {field.name: type(getattr(whose, field.name)) is field.type for field in fields(cast(Any, whose))}
    except Exception as error:
        raise UserError(f"{path}: no teacher's logits ({type(error).__name__}: {error})") from None
    if wrong := [name for name, right in kinds.items() if not right]:
        raise UserError(f"{path}: no teacher's logits ({wrong[0]} is {getattr(whose, wrong[0])!r})")
    if logits.shape != (len(names), classes):
        raise UserError(f"{path}: logits of shape {logits.shape}, expected ({len(names)}, {classes})")
    if logits.dtype.kind != "f":
        raise UserError(f"{path}: logits of type {logits.dtype}, expected floating point numbers")
    if bad := [name for name, finite in zip(names, np.isfinite(logits).all(axis=1), strict=True) if not finite]:
        raise UserError(f"{path}: the logits of {len(bad)} clips are not finite, the first is {bad[0]}")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"{path}: {len(twice)} clips stand there more than once, the first is {twice[0]}")
    return NamedLogits(path, names, logits, whose)
