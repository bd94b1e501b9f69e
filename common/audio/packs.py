"""Reading packs of clips: any window of any clip, from many processes, with little memory."""

import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import h5py
import numpy as np
import numpy.typing as npt

from common.audio.reading import RESAMPLING, Waveform, info, load, resampled_length
from common.audio.shards import (
    FORMAT,
    INDEX_DTYPE,
    TABLES,
    VERSION,
    Storage,
    decode_name,
    encode_name,
    hash_names,
    make_lookup,
    one_line,
    open_data,
)
from common.run.errors import UserError
from common.run.files import read_json, sha256
from common.run.hdf5 import mapped

_OPEN_SHARDS = 64  # opening one takes 0.1 ms, an open one holds a file descriptor and some 100 kB
_BLOCK = 65_536
_SCALE = np.float32(1 / 32768)

IntArray = npt.NDArray[np.int64]


def open_pack(path: str | Path, sample_rate: int | None = None) -> "Pack":
    """Open a pack: a folder that `write_pack` made, or one HDF5 file with `audio_name` and `mp3` (AudioSet packs).

    `sample_rate` in Hz: clips of a single file are resampled to it at reading (default: the rate of the first clip);
    for a folder it must be the rate that was packed. Raises UserError where the pack is missing, incomplete, damaged
    or something else, and says what to do.
    """
    path = Path(path)
    if path.is_file():
        return AudioSetPack(path, sample_rate)
    pack = FolderPack(path)
    if sample_rate not in (None, pack.sample_rate):
        raise UserError(f"{path}: packed at {pack.sample_rate} Hz, needed at {sample_rate} Hz; run prepare again")
    return pack


class Pack(ABC):
    """Clips by number, as float32 mono waveforms at `sample_rate` Hz.

    May be pickled and forked: every process opens the files itself when it first reads.
    """

    path: Path
    sample_rate: int
    storage: Storage

    def __init__(self) -> None:
        self._state: _State | None = None

    @abstractmethod
    def __len__(self) -> int:
        """Number of clips."""

    @property
    @abstractmethod
    def lengths(self) -> IntArray:
        """Samples of every clip, `(clips,)`."""

    @abstractmethod
    def length(self, i: int) -> int:
        """Samples of clip `i`."""

    @abstractmethod
    def verify(self) -> list[str]:
        """Read everything; one line for each damaged file or clip, none when all is well."""

    @property
    def names(self) -> "Names":
        """The clips' names, read when asked for."""
        return Names(len(self), self._encoded_names)

    def index_of(self, name: str) -> int:
        """Number of the clip called `name`. Raises UserError where there is none."""
        return int(self.indices_of([name])[0])

    def indices_of(self, names: Sequence[str]) -> IntArray:
        """Numbers `(names,)` of the clips with these names. Raises UserError for the first that is not there."""
        found = np.empty(len(names), dtype=np.int64)
        lookup = self._lookup()
        encoded = np.empty(len(names), dtype=object)
        encoded[:] = [encode_name(name) for name in names]
        hashes = hash_names(encoded)
        firsts = np.searchsorted(lookup[0], hashes)
        for row, (first, digest) in enumerate(zip(firsts, hashes, strict=True)):
            found[row] = self._match(encoded[row], int(first), digest, lookup)
        if (found < 0).any():
            missing = names[int(np.argmax(found < 0))]
            raise UserError(f"{self.path}: no clip {missing!r} among its {len(self)} clips")
        return found

    def __contains__(self, name: object) -> bool:
        try:
            return isinstance(name, str) and self.index_of(name) >= 0
        except UserError:
            return False

    def read(self, i: int, start: int = 0, frames: int | None = None) -> Waveform:
        """Clip `i` from sample `start`: `(frames,)`, fewer at its end. Raises ValueError for a start beyond the end."""
        self._check(i, start)
        if frames is not None and frames < 0:
            raise ValueError(f"frames {frames} must not be negative")
        return self._window(i, start, frames)

    def read_into(self, i: int, out: Waveform, start: int = 0) -> int:
        """Fill `out` `(frames,)` with clip `i` from sample `start`, then zeros; returns how many samples it had."""
        self._check(i, start)
        window = self._window(i, start, len(out))
        out[: len(window)] = window
        out[len(window) :] = 0
        return len(window)

    def read_many(self, indices: npt.ArrayLike, starts: npt.ArrayLike, frames: int) -> npt.NDArray[np.float32]:
        """Windows `(len(indices), frames)` of clips, zeros where a clip ends earlier; `starts` one or one per clip."""
        numbers = np.asarray(indices, dtype=np.int64)
        offsets = np.broadcast_to(np.asarray(starts, dtype=np.int64), numbers.shape)
        out = np.empty((len(numbers), frames), dtype=np.float32)
        for row in np.argsort(numbers, kind="stable").tolist():  # clips are numbered as they lie on disk
            self.read_into(int(numbers[row]), out[row], int(offsets[row]))
        return out

    def _check(self, i: int, start: int) -> None:
        if not 0 <= i < len(self):
            raise IndexError(f"{self.path}: clip {i}, expected 0 to {len(self) - 1}")
        if start < 0:
            raise ValueError(f"start {start} must not be negative")

    def _files(self) -> "_State":
        # A handle that was opened before a fork must not be shared with the parent: it has one file position.
        if self._state is None or self._state.pid != os.getpid():
            self._state = _State()
        return self._state

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_state": None}

    def _decode(self, i: int, encoded: bytes, start: int, frames: int | None) -> Waveform:
        name = f"{self.path}: clip {self.names[i]!r}"
        waveform = load(encoded, self.sample_rate, name)
        if start > len(waveform):
            raise ValueError(f"{name}: start {start} is beyond its {len(waveform)} samples")
        return waveform[start:] if frames is None else waveform[start : start + frames]

    def _match(self, name: bytes, first: int, digest: np.uint64, lookup: npt.NDArray[np.uint64]) -> int:
        while first < len(self) and lookup[0, first] == digest:
            candidate = int(lookup[1, first])
            if candidate >= len(self):
                raise UserError(f"{self.path / 'lookup.npy'}: names a clip that is not there; run prepare again")
            if self._encoded_names(candidate, candidate + 1)[0] == name:
                return candidate
            first += 1  # another name with the same hash
        return -1

    @abstractmethod
    def _window(self, i: int, start: int, frames: int | None) -> Waveform: ...

    @abstractmethod
    def _encoded_names(self, first: int, end: int) -> npt.NDArray[np.bytes_]: ...

    @abstractmethod
    def _lookup(self) -> npt.NDArray[np.uint64]: ...


class FolderPack(Pack):
    """A pack that `write_pack` made."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._record = _read_record(path)
        self.sample_rate = self._record["sample_rate"]
        self.storage = self._record["storage"]
        self._shards = [path / shard["file"] for shard in self._record["shards"]]
        for shard, file in zip(self._record["shards"], self._shards, strict=True):
            if not file.is_file():
                raise UserError(f"{file}: shard not found; run prepare again")
            size = file.stat().st_size
            if size != shard["bytes"]:
                raise UserError(f"{file}: {size} bytes, expected {shard['bytes']}: damaged; run prepare again")
        for name in TABLES:
            self._table(name)

    def __len__(self) -> int:
        return int(self._record["clips"])

    @property
    def lengths(self) -> IntArray:
        """Samples of every clip, `(clips,)`, memory-mapped."""
        lengths: IntArray = self._table("index.npy")["length"]
        return lengths

    def length(self, i: int) -> int:
        """Samples of clip `i`."""
        self._check(i, 0)
        return int(self._table("index.npy")["length"][i])

    def verify(self) -> list[str]:
        """Hash every file again; one line for each that is damaged."""
        expected = {shard["file"]: shard["sha256"] for shard in self._record["shards"]} | self._record["tables"]
        problems = []
        for name, digest in expected.items():
            if not (self.path / name).is_file():
                problems.append(f"{self.path / name}: not found; run prepare again")
            elif sha256(self.path / name) != digest:
                problems.append(f"{self.path / name}: damaged (another SHA-256); remove it and run prepare again")
        return problems

    def _window(self, i: int, start: int, frames: int | None) -> Waveform:
        shard, position, length = self._table("index.npy")[i].item()
        if position < 0 or length < 0:
            raise UserError(f"{self.path / 'index.npy'}: damaged, clip {i} has {length} samples; run prepare again")
        if start > length:
            raise ValueError(f"start {start} is beyond the {length} samples of clip {i}")
        frames = length - start if frames is None else min(frames, length - start)
        raw = self._raw(shard, position + start, frames) if self.storage == "pcm16" else self._raw(shard, position, 1)
        if self.storage == "encoded":
            return self._decode(i, raw[0].tobytes(), start, frames)
        return np.multiply(raw, _SCALE, dtype=np.float32)

    def _raw(self, shard: int, first: int, count: int) -> npt.NDArray[Any]:
        if not 0 <= shard < len(self._shards):
            raise UserError(f"{self.path / 'index.npy'}: names a shard {shard} that is not there; run prepare again")
        file = self._shards[shard]
        try:
            raw = self._files().read(file, first, count, lambda: open_data(file, self.storage))
        except (OSError, RuntimeError) as error:
            raise UserError(f"{file}: cannot be read ({one_line(error)}); run prepare again") from None
        if len(raw) != count:
            raise UserError(f"{file}: shorter than the index of the pack says: damaged; run prepare again")
        return raw

    def _table(self, name: str) -> npt.NDArray[Any]:
        tables = self._files().tables
        if name not in tables:
            path = self.path / name
            if not path.is_file():
                raise UserError(f"{path}: not found, the pack is not complete; run prepare again")
            try:
                # As plain array: indexing a memmap object is slower, the pages are the same.
                table = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
            except Exception as error:  # numpy reads the header as Python: any of its errors
                raise UserError(f"{path}: damaged ({one_line(error)}); run prepare again") from None
            is_index = name == "index.npy"
            if table.shape[-1:] != (len(self),) or (is_index and table.dtype != INDEX_DTYPE):
                raise UserError(f"{path}: not the table of this pack of {len(self)} clips; run prepare again")
            tables[name] = table
        return tables[name]

    def _encoded_names(self, first: int, end: int) -> npt.NDArray[np.bytes_]:
        return self._table("names.npy")[first:end]

    def _lookup(self) -> npt.NDArray[np.uint64]:
        return self._table("lookup.npy")


class AudioSetPack(Pack):
    """One HDF5 file with `audio_name` and `mp3` (each clip's encoded file), as the community packs AudioSet.

    A clip's name is its file's name without folder and extension. The file knows no lengths and has no sorted names:
    `lengths` opens every clip once, `index_of` hashes all names at its first call in a process.
    """

    def __init__(self, path: Path, sample_rate: int | None) -> None:
        super().__init__()
        self.path = path
        self.storage = "encoded"
        try:
            with h5py.File(path, "r") as file:
                missing = [key for key in ("audio_name", "mp3") if key not in file]
                if missing:
                    raise UserError(f"{path}: no data set {missing[0]!r}, expected audio_name and mp3")
                self._clips = len(file["mp3"])
                if len(file["audio_name"]) != self._clips:
                    raise UserError(f"{path}: {self._clips} clips, but {len(file['audio_name'])} names")
        except OSError as error:
            raise UserError(f"{path}: not an HDF5 file, or damaged ({one_line(error)})") from None
        if not self._clips:
            raise UserError(f"{path}: a pack without clips")
        self.sample_rate = sample_rate or info(self._encoded(0), f"{path}: clip 0").sample_rate

    def __len__(self) -> int:
        return self._clips

    @property
    def lengths(self) -> IntArray:
        """Samples of every clip, `(clips,)`, from the headers: reads the whole file at the first call in a process."""
        tables = self._files().tables
        if "lengths" not in tables:
            tables["lengths"] = np.array([self.length(i) for i in range(len(self))], dtype=np.int64)
        return tables["lengths"]

    def length(self, i: int) -> int:
        """Samples of clip `i` as its header says (an estimate where an mp3 has no Xing header)."""
        self._check(i, 0)
        header = info(self._encoded(i), f"{self.path}: clip {i}")
        return resampled_length(header.frames, header.sample_rate, self.sample_rate)

    def labels(self, classes: int) -> npt.NDArray[np.uint8]:
        """The clips' labels `(clips, bytes)`, a bit for each of `classes` as numpy.packbits has them (`target`).

        Mapped from the file where they lie in one piece: its processes share them. Raises UserError where the file has
        none, or of another number of classes.
        """
        try:
            with h5py.File(self.path, "r") as file:
                found = mapped(file["target"]) if "target" in file else None
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(f"{self.path}: cannot be read, damaged? ({one_line(error)})") from None
        expected = (len(self), -(-classes // 8))
        if found is None or found.dtype != np.uint8 or found.shape != expected:
            said = "no data set" if found is None else f"{found.dtype} {found.shape} in"
            raise UserError(f"{self.path}: {said} 'target', expected uint8 {expected}: labels of {classes} classes")
        return found

    def verify(self) -> list[str]:
        """Decode every clip; one line for each that cannot be."""
        problems = []
        for i in range(len(self)):
            try:
                self.read(i)
            except UserError as error:
                problems.append(str(error))
        return problems

    def _window(self, i: int, start: int, frames: int | None) -> Waveform:
        return self._decode(i, self._encoded(i), start, frames)

    def _encoded(self, i: int) -> bytes:
        encoded: bytes = self._slice("mp3", i, i + 1)[0].tobytes()
        return encoded

    def _slice(self, key: str, first: int, end: int) -> npt.NDArray[Any]:
        try:
            return self._files().read((self.path, key), first, end - first, lambda: _open_dataset(self.path, key))
        except (OSError, RuntimeError) as error:
            raise UserError(f"{self.path}: cannot be read, damaged? ({one_line(error)})") from None

    def _encoded_names(self, first: int, end: int) -> npt.NDArray[np.bytes_]:
        names = self._slice("audio_name", first, end).tolist()
        bare = [name.rsplit(b"/", 1)[-1] for name in names]
        return np.array([name.rsplit(b".", 1)[0] or name for name in bare], dtype=bytes)

    def _lookup(self) -> npt.NDArray[np.uint64]:
        tables = self._files().tables
        if "lookup" not in tables:
            starts = range(0, len(self), _BLOCK)
            tables["lookup"] = make_lookup(self._encoded_names(first, first + _BLOCK) for first in starts)
        return tables["lookup"]


class Names(Sequence[str]):
    """Names of clips as a sequence of text that does not hold them all at once."""

    def __init__(self, clips: int, fetch: Callable[[int, int], npt.NDArray[np.bytes_]]) -> None:
        self._clips = clips
        self._fetch = fetch

    def __len__(self) -> int:
        return self._clips

    @overload
    def __getitem__(self, i: int) -> str: ...

    @overload
    def __getitem__(self, i: slice) -> list[str]: ...

    def __getitem__(self, i: int | slice) -> str | list[str]:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(self._clips))]
        if not -self._clips <= i < self._clips:
            raise IndexError(f"name {i} of {self._clips}")
        return decode_name(self._fetch(i % self._clips, i % self._clips + 1)[0])

    def __iter__(self) -> Iterator[str]:
        for first in range(0, self._clips, _BLOCK):
            yield from map(decode_name, self._fetch(first, min(first + _BLOCK, self._clips)).tolist())


class _State:
    """What one process has open: tables, and the shards that it read last."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.tables: dict[str, npt.NDArray[Any]] = {}
        self._lock = threading.Lock()
        self._opened: OrderedDict[Any, tuple[h5py.File, h5py.Dataset]] = OrderedDict()

    def read(
        self, key: Any, first: int, count: int, opening: Callable[[], tuple[h5py.File, h5py.Dataset]]
    ) -> npt.NDArray[Any]:
        """`count` elements from `first` of the data set `key`, which `opening` opens where it is not open."""
        with self._lock:  # another thread must not close the file meanwhile
            if key not in self._opened:
                if len(self._opened) >= _OPEN_SHARDS:
                    self._opened.popitem(last=False)[1][0].close()
                self._opened[key] = opening()
            self._opened.move_to_end(key)
            raw: npt.NDArray[Any] = self._opened[key][1][first : first + count]
            return raw


def _open_dataset(path: Path, key: str) -> tuple[h5py.File, h5py.Dataset]:
    file = h5py.File(path, "r")
    return file, file[key]


def _read_record(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise UserError(f"{path}: pack not found; run prepare")
    if not (path / "pack.json").is_file():
        raise UserError(f"{path}: not a complete pack (no pack.json); run prepare again")
    record = read_json(path / "pack.json")
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise UserError(f"{path / 'pack.json'}: not the description of a pack; run prepare again")
    if record.get("version") != VERSION:
        raise UserError(
            f"{path / 'pack.json'}: format version {record.get('version')}, expected {VERSION}; run prepare again"
        )
    if record.get("resampling") != RESAMPLING:
        made = f"resampled by {record.get('resampling')}, expected {RESAMPLING}"
        raise UserError(f"{path / 'pack.json'}: {made}; run prepare again")
    try:
        is_sound = record["storage"] in ("pcm16", "encoded") and set(record["tables"]) == set(TABLES)
        is_sound &= int(record["sample_rate"]) > 0
        is_sound &= int(record["clips"]) == sum(shard["clips"] for shard in record["shards"])
        is_sound &= all({"file", "bytes", "sha256"} <= set(shard) for shard in record["shards"])
    except (KeyError, TypeError, ValueError):
        is_sound = False
    if not is_sound:
        raise UserError(f"{path / 'pack.json'}: entries are missing or do not fit together; run prepare again")
    return record
