"""HDF5 files from anybody: plain arrays that lie in the file itself and fit into memory; UserError for all else."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.run.errors import UserError, did_you_mean
from common.run.files import existing_file

if TYPE_CHECKING:
    import h5py

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5")
_OFFSETS = (0, *(512 << i for i in range(8)))  # a user block may stand before the signature
_MAX_CHUNK = 1 << 30  # bytes; the library holds a whole one, however little of it is in the array


def is_hdf5(path: Path) -> bool:
    """Is the file HDF5, by its name or, whatever the name, by its signature?"""
    if path.suffix.lower() in _SUFFIXES:
        return True
    with open(path, "rb") as file:
        for offset in _OFFSETS:
            file.seek(offset)
            if file.read(len(_SIGNATURE)) == _SIGNATURE:
                return True
    return False


@contextmanager
def open_hdf5(path: str | Path, what: str) -> "Iterator[h5py.File]":
    """The open file; whatever the library has against it, now or in the block, is a UserError of one line."""
    import h5py

    path = existing_file(path, what)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (
        OSError,
        KeyError,
        RuntimeError,
        ValueError,
        TypeError,
        AttributeError,
        MemoryError,
        OverflowError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not a readable HDF5 file, or cut off ({reason})") from None


def data_set(file: "h5py.File", key: str, dims: int, kinds: str) -> "h5py.Dataset":
    """The data set `key` of `dims` dimensions, of numbers of one of numpy's `kinds` or of text ("S"); not read yet."""
    import h5py

    at = f"{file.filename}: {key}"
    link = file.get(key, getlink=True)
    if link is None:
        raise UserError(f"{file.filename}: no data set {key!r}{did_you_mean(key, file.keys())}")
    if not isinstance(link, h5py.HardLink):
        raise UserError(f"{at} is a link to another place, expected the data set itself")
    found = file[key]
    if not isinstance(found, h5py.Dataset):
        raise UserError(f"{at} is a {type(found).__name__.lower()}, expected a data set")
    if found.is_virtual or found.external:
        raise UserError(f"{at} lies in other files, expected it in this one")
    if found.ndim != dims or found.shape is None:
        raise UserError(f"{at} is {found.dtype} {found.shape}, expected {dims} dimension{'s' if dims > 1 else ''}")
    text = h5py.check_string_dtype(found.dtype) is not None
    if text != (kinds == "S") or not (text or found.dtype.kind in kinds):
        raise UserError(f"{at} is {found.dtype} {found.shape}, expected {'text' if kinds == 'S' else 'numbers'}")
    if found.chunks and int(np.prod(found.chunks, dtype=float)) * found.dtype.itemsize > _MAX_CHUNK:
        raise UserError(f"{at} is stored in chunks {found.chunks}, expected less than 1 GiB each")
    check_memory(at, float(np.prod(found.shape, dtype=float)) * found.dtype.itemsize)
    return found


def check_memory(what: str, needed: float) -> None:
    """UserError where `needed` bytes are more than this machine has free."""
    import psutil

    free = psutil.virtual_memory().available
    if needed > free:
        raise UserError(f"{what} needs about {needed / 2**30:,.1f} GiB of memory, {free / 2**30:,.1f} GiB are free")


def texts(file: "h5py.File", key: str) -> list[str]:
    """The words of a data set of text (n,), in UTF-8, without blanks around them."""
    words = [word.decode() if isinstance(word, bytes) else str(word) for word in data_set(file, key, 1, "S")[()]]
    words = [word.strip() for word in words]
    for word in words:
        if not word or "\0" in word:
            raise UserError(f"{file.filename}: {key} has the name {word!r}")
    return words


def numbers(file: "h5py.File", key: str) -> np.ndarray:
    """A data set of numbers (n,) as float64."""
    return np.asarray(data_set(file, key, 1, "fiu")[()], dtype=np.float64)


def number_attribute(file: "h5py.File", key: str) -> float | None:
    """An attribute of the file that is one number; None where there is none."""
    if key not in file.attrs:
        return None
    value: Any = np.asarray(file.attrs[key])
    if value.size != 1 or value.dtype.kind not in "fiu":
        raise UserError(f"{file.filename}: the attribute {key} is {value.dtype} {value.shape}, expected one number")
    return float(value.reshape(-1)[0])
