"""The file that `embed` writes, .npz or .h5, and what is done of it until it is whole. Loads no torch.

It has `names`, `seconds` (recordings,), `embeddings` (rows, dim) float32 and `about` (JSON; in .h5 an attribute): a row
for each recording, or its frames, those of recording i from `starts[i]` to `starts[i + 1]`.
"""

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from common.audio.recordings import Recording
from common.run.errors import UserError
from common.run.files import existing_file, existing_folder, read_json, remove_partials, write_json, write_then_rename
from common.run.hdf5 import new_hdf5

SUFFIXES = (".npz", ".h5")
ABOUT = "about"
ROWS = 4096  # copied at once
Rows = NDArray[np.float32]


def check_out(out: Path) -> None:
    """Raise UserError where the file cannot be written, or is somebody else's."""
    if out.suffix not in SUFFIXES:
        raise UserError(f"--out: {out}, expected a name that ends in {' or '.join(SUFFIXES)}")
    if out.parent.exists():
        existing_folder(out.parent)
    if out.exists() and not _is_own(existing_file(out, "file for the embeddings")):
        raise UserError(f"{out}: is there and not of an earlier `embed`; name another file with --out")


def _is_own(path: Path) -> bool:
    import h5py

    try:
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                return f"{ABOUT}.npy" in archive.namelist()
        with h5py.File(path, "r") as file:
            return ABOUT in file.attrs
    except (OSError, zipfile.BadZipFile):
        return False


class Unfinished:
    """The recordings that are done, in a folder beside `out`, for the next call with the same `about`."""

    def __init__(self, out: Path, about: Mapping[str, Any], dim: int) -> None:
        self.out, self.about, self.dim = out, about, dim
        self.folder = out.with_name(f".{out.name}.unfinished")
        mark = self.folder / f"{ABOUT}.json"
        if not mark.is_file() or read_json(mark) != json.loads(json.dumps(about)):
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            write_json(mark, about)
        remove_partials(self.folder)
        self.done: dict[str, Path] = {}  # {name: its part without suffix}

    def has(self, name: str, file: Path) -> bool:
        """Whether a recording, the file as it is now, is done. Raises UserError where it is none."""
        found = existing_file(file, "audio file").stat()
        key = f"{os.path.abspath(file)}\0{found.st_size}\0{found.st_mtime_ns}"
        self.done[name] = self.folder / hashlib.sha256(os.fsencode(key)).hexdigest()[:24]
        return self.done[name].with_suffix(".json").is_file()

    def add(self, name: str, rows: Iterable[Rows], recording: Recording) -> None:
        """Write the rows of a recording as they come; it says at the end how long it was."""
        with write_then_rename(self.done[name].with_suffix(".f4")) as partial, open(partial, "wb") as file:
            for some in rows:
                file.write(np.ascontiguousarray(some, "<f4").tobytes())
        write_json(self.done[name].with_suffix(".json"), {"seconds": recording.seconds})

    def finish(self, frames: bool) -> dict[str, Any]:
        """Write the file, whole or not at all, and remove the folder; returns names and shape."""
        names = list(self.done)
        parts = [np.memmap(of.with_suffix(".f4"), "<f4", "r").reshape(-1, self.dim) for of in self.done.values()]
        seconds = [float(read_json(of.with_suffix(".json"))["seconds"]) for of in self.done.values()]
        starts = np.cumsum([0, *map(len, parts)])
        arrays = {"names": np.array(names), "seconds": np.array(seconds)} | ({"starts": starts} if frames else {})
        write = _write_npz if self.out.suffix == ".npz" else _write_h5
        write(self.out, arrays, self.about, parts, (int(starts[-1]), self.dim))
        shutil.rmtree(self.folder, ignore_errors=True)
        return {"out": str(self.out), "names": names, "shape": [int(starts[-1]), self.dim]}


def _some(parts: Sequence[Rows]) -> Iterator[Rows]:
    """All rows, a few thousand at a time."""
    for part in parts:
        for start in range(0, len(part), ROWS):
            yield part[start : start + ROWS]


def _write_npz(
    path: Path, arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any], parts: Sequence[Rows], shape: Any
) -> None:
    """As np.savez, but the rows are never in memory together."""
    with write_then_rename(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name, array in {**arrays, ABOUT: np.array(json.dumps(about))}.items():
            with archive.open(f"{name}.npy", "w") as file:
                npy.write_array(file, array, allow_pickle=False)
        with archive.open("embeddings.npy", "w", force_zip64=True) as file:
            npy.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
            for rows in _some(parts):
                file.write(rows.tobytes())


def _write_h5(
    path: Path, arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any], parts: Sequence[Rows], shape: Any
) -> None:
    import h5py

    with new_hdf5(path) as (file, check):
        file.attrs[ABOUT] = json.dumps(about)
        for name, array in arrays.items():
            file[name] = array.astype(h5py.string_dtype()) if array.dtype.kind == "U" else array
        dataset, start = file.create_dataset("embeddings", shape, "<f4"), 0
        for rows in _some(parts):
            dataset[start : start + len(rows)] = rows
            start += len(rows)
            check()
