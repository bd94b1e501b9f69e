"""Two folders that should hold the same work: every file compared by what it means, not by when it was made."""

import fnmatch
import json
import os
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Files that say when and how long, not what; caches whose name is a hash of that.
IGNORED_FILES = (
    "*/tensorboard/*",
    "*/codecarbon/*",
    "*.lock",
    "*/.locks/*",
    "*/packed/features/*",
    "*/packed/*/embeddings/*",
    "*.pdf",
    "*emissions*.csv",
    "*.log",
)
# Keys of JSON files, attributes of HDF5 files and entries of checkpoints of that kind. Hashes cover such entries;
# Lightning's current_score is the score of the last improvement in this session and is not read back.
IGNORED_KEYS = (
    *("recorded", "environment", "seconds", "seconds_of_last_session", "kwh", "sources", "sha256", "fingerprint"),
    "current_score",
)


def files_below(folder: Path) -> Iterator[str]:
    """Paths of all files below a folder, relative to it."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix()


def partials_below(folder: Path) -> list[str]:
    """Temporary files and folders (`.<name>.<pid>.partial...`) that lie below a folder, relative to it."""
    # os.walk, unlike rglob, does not mind folders that are renamed or removed meanwhile.
    found = (Path(at) / name for at, folders, files in os.walk(folder) for name in (*folders, *files))
    return sorted(path.relative_to(folder).as_posix() for path in found if fnmatch.fnmatch(path.name, ".*.partial*"))


def differences(
    left: Path,
    right: Path,
    ignored_files: Sequence[str] = IGNORED_FILES,
    ignored_keys: Collection[str] = IGNORED_KEYS,
) -> tuple[list[str], int]:
    """`file: what differs` for each file that is not the same in both folders, and the number of files compared.

    .json, .h5, .ckpt and .zip are compared by content without `ignored_keys`, everything else byte by byte. Numbers
    must be equal, NaN equals NaN. `ignored_files` are patterns of paths (of members of archives too).
    """
    names = [{name for name in files_below(side) if not _is_ignored(name, ignored_files)} for side in (left, right)]
    found = [f"{name}: only in {left.name}" for name in sorted(names[0] - names[1])]
    found += [f"{name}: only in {right.name}" for name in sorted(names[1] - names[0])]
    both = sorted(names[0] & names[1])
    for name in both:
        compare = _COMPARERS.get(Path(name).suffix, _compare_bytes)
        difference = compare(left / name, right / name, ignored_keys, ignored_files)
        if difference is not None:
            found.append(f"{name}: {difference}")
    return found, len(both)


def _is_ignored(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(f"/{name}", pattern) for pattern in patterns)


def _compare_bytes(left: Path, right: Path, keys: Collection[str], files: Sequence[str]) -> str | None:
    a, b = left.read_bytes(), right.read_bytes()
    return None if a == b else _first_line_that_differs(a, b)


def _first_line_that_differs(a: bytes, b: bytes) -> str:
    if len(a) > 1_000_000 or b"\0" in a[:1000]:
        return f"{len(a)} bytes there, {len(b)} here, or others"
    lines = a.splitlines(), b.splitlines()
    number = next((i for i, (x, y) in enumerate(zip(*lines, strict=False)) if x != y), min(map(len, lines)))
    shown = [repr(side[number][:80]) if number < len(side) else "nothing" for side in lines]
    return f"line {number + 1} is {shown[0]} there, {shown[1]} here"


def _compare_json(left: Path, right: Path, keys: Collection[str], files: Sequence[str]) -> str | None:
    a, b = (json.loads(path.read_text(encoding="utf-8")) for path in (left, right))
    return _compare_trees(a, b, keys)


def _compare_checkpoints(left: Path, right: Path, keys: Collection[str], files: Sequence[str]) -> str | None:
    import torch

    a, b = (torch.load(path, map_location="cpu", weights_only=True) for path in (left, right))
    return _compare_trees(a, b, keys)


def _compare_hdf5(left: Path, right: Path, keys: Collection[str], files: Sequence[str]) -> str | None:
    import h5py

    with h5py.File(left, "r") as a, h5py.File(right, "r") as b:
        return _compare_trees(_plain(a), _plain(b), keys)


def _plain(item: Any) -> Any:
    """An HDF5 file or group as nested mappings, with its attributes."""
    import h5py

    content = {key: _plain(value) for key, value in item.items()} if isinstance(item, h5py.Group) else item[()]
    return {"attributes": dict(item.attrs), "content": content}


def _compare_zips(left: Path, right: Path, keys: Collection[str], files: Sequence[str]) -> str | None:
    with zipfile.ZipFile(left) as a, zipfile.ZipFile(right) as b:
        names = [[name for name in side.namelist() if not _is_ignored(name, files)] for side in (a, b)]
        if names[0] != names[1]:
            return f"{len(names[0])} members there, {len(names[1])} here, or others"
        other = next((name for name in names[0] if a.read(name) != b.read(name)), None)
    return None if other is None else f"member {other} differs"


_COMPARERS: Mapping[str, Callable[[Path, Path, Collection[str], Sequence[str]], str | None]] = {
    ".json": _compare_json,
    ".ckpt": _compare_checkpoints,
    ".h5": _compare_hdf5,
    ".zip": _compare_zips,
}


def _compare_trees(a: Any, b: Any, ignored: Collection[str], at: str = "") -> str | None:
    """The first place where two trees of mappings, sequences, arrays and plain values differ."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        keys = [[key for key in side if key not in ignored] for side in (a, b)]
        if set(keys[0]) != set(keys[1]):
            return f"{at or 'top'} has the keys {sorted(map(str, set(keys[0]) ^ set(keys[1])))} on one side only"
        pairs = [(f"{at}.{key}".lstrip("."), a[key], b[key]) for key in keys[0]]
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        pairs = [(f"{at}[{i}]", x, y) for i, (x, y) in enumerate(zip(a, b, strict=True))]
    else:
        return None if _is_same(a, b) else f"{at} is {_shown(a)} there, {_shown(b)} here"
    return next((found for name, x, y in pairs if (found := _compare_trees(x, y, ignored, name))), None)


def _is_same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if not hasattr(a, "dtype"):
        return bool(a == b or (a != a and b != b))
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    # numpy's arrays and torch's tensors alike; NaN is what differs from itself.
    return bool(((a == b) | ((a != a) & (b != b))).all())


def _shown(value: Any) -> str:
    text = repr(value) if np.ndim(value) == 0 else f"an array {np.shape(value)}"
    return text if len(text) < 80 else text[:77] + "..."
