"""HDF5 files that appear whole or not at all, also where the disk is full; data sets that are mapped, not read."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.run.files import write_then_rename

if TYPE_CHECKING:
    import h5py


@contextmanager
def new_hdf5(path: str | Path) -> Iterator[tuple["h5py.File", Callable[[], None]]]:
    """An HDF5 file that appears whole or not at all, and a check that raises when it could not be written."""
    import h5py

    with write_then_rename(path) as partial, open(partial, "wb+", buffering=0) as raw:
        disk = _Disk(raw)
        with h5py.File(disk, "w", libver=("earliest", "v110")) as file:
            yield file, disk.check
        disk.check()


def mapped(found: "h5py.Dataset") -> np.ndarray:
    """All of a data set of numbers: mapped from the file where it lies there in one piece, else read."""
    offset = found.id.get_offset()
    if offset is None or not found.size or found.dtype.byteorder == ">":
        return found[()]
    return np.memmap(found.file.filename, found.dtype, "r", offset, found.shape)


class _Disk(io.RawIOBase):
    """The file under an HDF5 file. After a failed write it swallows the rest and keeps the exception for `check`.

    HDF5 must not see the failure: with the disk full it can neither write nor close, and crashes the process later.
    """

    def __init__(self, file: io.FileIO) -> None:
        super().__init__()
        self._file = file
        self._failure: BaseException | None = None

    def check(self) -> None:
        """Raise what went wrong."""
        if self._failure is not None:
            raise self._failure

    def write(self, data: Any) -> int:
        try:
            rest = memoryview(data)
            while self._failure is None and len(rest):
                rest = rest[self._file.write(rest) :]
        except BaseException as error:
            self._failure = error
        return len(data)

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(buffer)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def truncate(self, size: int | None = None) -> int:
        try:
            return self._file.truncate(size)
        except BaseException as error:
            self._failure = self._failure or error
            return size or 0
