"""The form of a pack on disk: shards of clips (HDF5), three tables and pack.json.

00000.h5 ...   `samples` int16, all clips one after the other, or `encoded`, each clip's file as it was;
               `names`, `lengths` (samples per clip), `skipped` (broken sources and why)
index.npy      per clip: shard, start (sample or row in the shard), length in samples
names.npy      per clip: its name, UTF-8
lookup.npy     row 0: hashes of the names, sorted; row 1: the clips that they belong to
pack.json      everything else, written last: without it the folder is not a pack
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import numpy.typing as npt

from common.audio.reading import RESAMPLING, blocks, explained, to_pcm16
from common.run.errors import UserError
from common.run.files import existing_file, sha256, write_then_rename
from common.run.hdf5 import new_hdf5

Storage = Literal["pcm16", "encoded"]
Compression = Literal["lzf", "gzip"]
Source = tuple[str, str | Path]

FORMAT = "clip pack"
VERSION = 1
INDEX_DTYPE = np.dtype([("shard", "<u4"), ("start", "<i8"), ("length", "<i8")])
TABLES = ("index.npy", "names.npy", "lookup.npy")
# 160,000 samples from a random place, page cache, one core: 8 k/s with chunks of 4,096, 23 k/s with 262,144, no gain
# beyond. Compressed chunks are decoded whole, so they are smaller.
_CHUNK, _COMPRESSED_CHUNK = 262_144, 16_384
_HASH_BLOCK = 65_536


@dataclass(frozen=True)
class Settings:
    """What every shard of a pack has in common; `sample_rate` in Hz."""

    sample_rate: int
    storage: Storage
    compression: Compression | None = None
    resampling: str = RESAMPLING


@dataclass(frozen=True)
class Shard:
    """What a shard says of itself: names as bytes `(clips,)`, lengths in samples `(clips,)`, sources left out."""

    fingerprint: str
    names: npt.NDArray[np.bytes_]
    lengths: npt.NDArray[np.int64]
    skipped: list[tuple[str, str]]
    clipped_samples: int


def fingerprint(sources: Sequence[Source], settings: Settings) -> str:
    """A hash of the settings and of the name, size and modification time of every source."""
    digest = hashlib.sha256(json.dumps([VERSION, asdict(settings)], sort_keys=True).encode())
    for name, path in sources:
        try:
            stat = Path(path).stat()
            state = (stat.st_size, stat.st_mtime_ns)
        except OSError:
            state = (-1, -1)
        digest.update(json.dumps([name, *state]).encode())
    return digest.hexdigest()


def write_shard(
    path: Path, sources: Sequence[Source], settings: Settings, source_fingerprint: str, skip_broken: bool
) -> None:
    """Decode `sources` into one shard, whole or not at all.

    Raises UserError for the first source that cannot be read, whatever a library says of it; with `skip_broken` these
    are left out and listed in the shard.
    """
    names: list[bytes] = []
    lengths: list[int] = []
    skipped: list[tuple[str, str]] = []
    clipped = 0
    with new_hdf5(path) as (file, check_disk):
        data = _create_data(file, settings)
        for name, source in sources:
            try:
                with explained(str(source)):
                    values, length, beyond = _prepare(source, settings)
            except UserError as error:
                if not skip_broken:
                    raise
                skipped.append((name, str(error)))
                continue
            end = data.shape[0]
            data.resize((end + (1 if settings.storage == "encoded" else length),))
            data[end if settings.storage == "encoded" else slice(end, None)] = values
            check_disk()
            names.append(encode_name(name))
            lengths.append(length)
            clipped += beyond
        file["names"] = np.array(names, dtype=bytes) if names else np.zeros(0, "S1")
        file["lengths"] = np.array(lengths, dtype=np.int64)
        file["skipped"] = np.frombuffer(json.dumps(skipped).encode(), dtype=np.uint8)
        file.attrs["fingerprint"] = source_fingerprint
        file.attrs["clipped_samples"] = clipped


def read_shard(path: Path, storage: Storage) -> Shard | None:
    """The tables of a shard, or None where the file is missing, damaged or no shard of this storage."""
    try:
        with h5py.File(path, "r") as file:
            shard = Shard(
                str(file.attrs["fingerprint"]),
                np.array(
                    file["names"][()].tolist() or np.zeros(0, "S1"), dtype=bytes
                ),  # plain, without h5py's metadata
                file["lengths"][()],
                [(name, reason) for name, reason in json.loads(file["skipped"][()].tobytes())],
                int(file.attrs["clipped_samples"]),
            )
            expected = int(shard.lengths.sum()) if storage == "pcm16" else len(shard.lengths)
            whole = file[_data_name(storage)].shape == (expected,) and len(shard.names) == len(shard.lengths)
            return shard if whole else None
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError):
        return None


def open_data(path: Path, storage: Storage) -> tuple[h5py.File, h5py.Dataset]:
    """Open a shard for reading. Raises UserError where it is missing, damaged or something else."""
    try:
        # Without compression no chunk is needed twice: a cache would only cost memory and a copy.
        file = h5py.File(path, "r", rdcc_nbytes=0)
        data = file[_data_name(storage)]
        if data.chunks and data.compression:
            file.close()
            file = h5py.File(path, "r", rdcc_nbytes=4 * 2 * _COMPRESSED_CHUNK)
            data = file[_data_name(storage)]
    except (OSError, KeyError, RuntimeError) as error:
        raise UserError(f"{path}: not a shard of a pack, or damaged ({one_line(error)}); run prepare again") from None
    return file, data


def write_tables(folder: Path, names: npt.NDArray[np.bytes_], index: npt.NDArray[Any]) -> dict[str, str]:
    """Write index.npy, names.npy, lookup.npy for `names` `(clips,)` and `index` `(clips,)`; returns their SHA-256."""
    for file_name, table in zip(TABLES, (index, names, make_lookup([names])), strict=True):
        with write_then_rename(folder / file_name) as partial, open(partial, "wb") as file:
            np.lib.format.write_array(file, table, allow_pickle=False)
    return {file_name: sha256(folder / file_name) for file_name in TABLES}


def make_lookup(blocks: Iterable[npt.NDArray[np.bytes_]]) -> npt.NDArray[np.uint64]:
    """`(2, clips)`: sorted hashes of all names of the blocks, and where each stands."""
    hashes = np.concatenate([hash_names(block) for block in blocks])
    order = np.argsort(hashes, kind="stable")
    return np.stack([hashes[order], order.astype(np.uint64)])


def hash_names(names: npt.NDArray[np.bytes_]) -> npt.NDArray[np.uint64]:
    """64-bit hashes `(clips,)` of encoded names."""
    hashes = np.empty(len(names), dtype="<u8")
    for first in range(0, len(names), _HASH_BLOCK):
        block = names[first : first + _HASH_BLOCK].tolist()
        joined = b"".join(hashlib.blake2b(name, digest_size=8).digest() for name in block)
        hashes[first : first + len(block)] = np.frombuffer(joined, dtype="<u8")
    return hashes


def encode_name(name: str) -> bytes:
    """UTF-8; bytes of file names that are no UTF-8 survive the way there and back."""
    return name.encode("utf-8", "surrogateescape")


def decode_name(name: bytes) -> str:
    """Inverse of `encode_name`."""
    return name.decode("utf-8", "surrogateescape")


def one_line(error: BaseException) -> str:
    """The first line of an exception's message."""
    return str(error).strip("'\"").splitlines()[0] if str(error) else type(error).__name__


def _data_name(storage: Storage) -> str:
    return "samples" if storage == "pcm16" else "encoded"


def _create_data(file: h5py.File, settings: Settings) -> h5py.Dataset:
    if settings.storage == "encoded":
        return file.create_dataset("encoded", (0,), h5py.vlen_dtype(np.uint8), maxshape=(None,), chunks=(256,))
    chunk = _COMPRESSED_CHUNK if settings.compression else _CHUNK
    return file.create_dataset(
        "samples", (0,), np.int16, maxshape=(None,), chunks=(chunk,), compression=settings.compression
    )


def _prepare(source: str | Path, settings: Settings) -> tuple[npt.NDArray[Any], int, int]:
    """What goes into the shard for one source, its length at the pack's rate, and how many samples were clipped."""
    if settings.storage == "encoded":
        encoded = existing_file(source, "audio file").read_bytes()
        length = sum(len(block) for block in blocks(encoded, settings.sample_rate, str(source)))
        return np.frombuffer(encoded, dtype=np.uint8), length, 0
    values: list[npt.NDArray[np.int16]] = []
    beyond = 0
    for block in blocks(source, settings.sample_rate):
        beyond += int(np.count_nonzero((block > 1) | (block < -1)))
        values.append(to_pcm16(block))
    waveform = np.concatenate(values)
    return waveform, len(waveform), beyond
