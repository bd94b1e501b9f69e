"""The official layouts of ESC-50, AudioSet and OpenMIC-2018, and their readers: what the tables say, without audio.

ESC-50: audio/, meta/esc50.csv; or, as of ESC-10, meta.csv with the same columns. AudioSet: class_labels_indices.csv,
ontology.json, <part>.csv for its three parts as published, audio/<part>/<YouTube id>.* (a `Y` before the id is fine).
OpenMIC: openmic-2018.npz, class-map.json, partitions/split01_{train,test}.csv, audio/<three digits>/<key>.ogg.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from common.audio.audioset import read_labels, segments
from common.audio.recordings import SUFFIXES
from common.run.errors import UserError, did_you_mean
from common.run.files import Row, existing_file, existing_folder, read_json, read_rows
from common.run.pickles import read_pickle
from zeroshot.config import Layout

ESC_COLUMNS = ("filename", "fold", "category", "src_file")
AUDIOSET_PARTS = ("balanced_train_segments", "unbalanced_train_segments", "eval_segments")  # clip folds 1, 2, 3
OPENMIC_PARTS = ("train", "test")  # clip folds 1, 2
RELEVANT = 0.5  # OpenMIC: a relevance above is a positive label

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Listed:
    """The clips of a data set's tables."""

    names: tuple[str, ...]
    files: tuple[Path, ...]
    classes: tuple[str, ...]  # columns of labels
    labels: BoolArray  # (clips, classes)
    judged: BoolArray  # (clips, classes): OpenMIC's labels are partial
    folds: IntArray  # (clips,)
    sources: NDArray[np.str_]  # (clips,) recording that a clip is cut from
    single: bool  # one label for each clip
    test_folds: tuple[int, ...]  # the data set's own test part; () where it has none


def read_listed(root: str | Path, layout: Layout) -> Listed:
    """The tables of a data set. Raises UserError for what is missing or malformed (file, line)."""
    folder = existing_folder(root, "data set")
    return {"esc50": read_esc50, "audioset": read_audioset, "openmic": read_openmic}[layout](folder)


def read_classes(root: str | Path, layout: Layout) -> tuple[str, ...]:
    """The classes alone, in their order: ESC-50's of its table by target, AudioSet's 527, OpenMIC's 20."""
    folder = existing_folder(root, "data set")
    if layout == "audioset":
        return tuple(read_labels(folder).values())
    return _class_map(folder) if layout == "openmic" else _esc_classes(_esc_rows(folder))


# ---------------------------------------------------------------------------------------------------------- ESC-50


def read_esc50(root: Path) -> Listed:
    """ESC-50 or a part of it; the classes are those that have clips, ordered by `target` where there is one."""
    rows = _esc_rows(root)
    classes = _esc_classes(rows)
    lines: dict[str, str] = {}
    for row in rows:
        name = row["filename"]
        if not name or "/" in name or name in lines:
            raise UserError(
                f"{row.at}: filename {name!r}, expected the name of a file in audio/ that no other line has"
            )
        lines[name] = row.at
    labels = np.zeros((len(rows), len(classes)), bool)
    labels[np.arange(len(rows)), [classes.index(row["category"]) for row in rows]] = True
    names = tuple(row["filename"] for row in rows)
    return Listed(
        names,
        tuple(root / "audio" / name for name in names),
        classes,
        labels,
        np.broadcast_to(np.True_, labels.shape),
        np.array([_whole(row, "fold") for row in rows]),
        np.array([row["src_file"] or row["filename"] for row in rows]),
        single=True,
        test_folds=(),
    )


def _esc_rows(root: Path) -> list[Row]:
    path = next((p for p in (root / "meta" / "esc50.csv", root / "meta.csv") if p.is_file()), None)
    if path is None:
        raise UserError(f"{root / 'meta' / 'esc50.csv'}: table not found, and no meta.csv in {root}")
    rows = read_rows(path, ESC_COLUMNS)
    for row in rows:
        if not row["category"].strip():
            raise UserError(f"{row.at}: category is empty")
    if not rows:
        raise UserError(f"{path}: no clip, expected a line for each")
    return rows


def _esc_classes(rows: Sequence[Row]) -> tuple[str, ...]:
    place = {row["category"]: _whole(row, "target") if row.get("target") else 0 for row in rows}
    return tuple(sorted(place, key=lambda name: (place[name], name)))


def _whole(row: Row, column: str) -> int:
    value = row.number(column)
    if value != int(value) or value < 0:
        raise UserError(f"{row.at}: {column} is {row[column]!r}, expected a number such as 1")
    return int(value)


# ---------------------------------------------------------------------------------------------------------- AudioSet


def read_audioset(root: Path) -> Listed:
    """Those of the three parts whose tables are there; parts count as clip folds 1 to 3."""
    names = read_labels(root)
    column = {mid: number for number, mid in enumerate(names)}
    clips: list[str] = []
    files: list[Path] = []
    folds: list[int] = []
    pairs: list[tuple[int, int]] = []
    for fold, part in enumerate(AUDIOSET_PARTS, 1):
        if not (root / f"{part}.csv").is_file():
            continue
        there = _by_id(root / "audio" / part)
        for at, video, mids in segments(root / f"{part}.csv"):
            if (unknown := next((mid for mid in mids if mid not in column), None)) is not None:  # it may be empty
                raise UserError(f"{at}: unknown label {unknown!r}{did_you_mean(unknown, column)}")
            pairs += [(len(clips), column[mid]) for mid in mids]
            files.append(there.get(video) or root / "audio" / part / f"{video}.wav")
            clips.append(f"{part}/{video}")
            folds.append(fold)
    if not clips:
        raise UserError(f"{root / AUDIOSET_PARTS[0]}.csv: table not found, nor those of the other parts")
    labels = np.zeros((len(clips), len(column)), bool)
    labels[tuple(np.array(pairs).T)] = True
    return Listed(
        tuple(clips),
        tuple(files),
        tuple(names.values()),
        labels,
        np.broadcast_to(np.True_, labels.shape),
        np.array(folds),
        np.array([name.partition("/")[2] for name in clips]),
        single=False,
        test_folds=(3,),
    )


def _by_id(folder: Path) -> dict[str, Path]:
    """{YouTube id: file} of a folder; an id has eleven characters."""
    files = (path for path in (folder.iterdir() if folder.is_dir() else ()) if path.suffix.lower() in SUFFIXES)
    return {path.stem[1:] if len(path.stem) == 12 and path.stem[0] == "Y" else path.stem: path for path in files}


# ---------------------------------------------------------------------------------------------------------- OpenMIC


def read_openmic(root: Path) -> Listed:
    """OpenMIC-2018; only keys of one of the two partitions. A label is positive above a relevance of 0.5."""
    classes = _class_map(root)
    keys, relevance, judged = _openmic_arrays(root / "openmic-2018.npz", len(classes))
    row = {key: number for number, key in enumerate(keys)}
    names: list[str] = []
    folds: list[int] = []
    for fold, part in enumerate(OPENMIC_PARTS, 1):
        path = root / "partitions" / f"split01_{part}.csv"
        for number, key in enumerate(_lines(path), 1):
            if key not in row:
                raise UserError(f"{path}:{number}: key {key!r} is not in openmic-2018.npz")
            names.append(key)
            folds.append(fold)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{root / 'partitions'}: key {twice!r} stands there twice")
    order = [row[name] for name in names]
    return Listed(
        tuple(names),
        tuple(root / "audio" / name[:3] / f"{name}.ogg" for name in names),
        classes,
        (relevance[order] > RELEVANT) & judged[order],
        judged[order],
        np.array(folds),
        np.array([name.partition("_")[0] for name in names]),
        single=False,
        test_folds=(2,),
    )


def _class_map(root: Path) -> tuple[str, ...]:
    path = root / "class-map.json"
    content = read_json(path)
    if not isinstance(content, dict) or sorted(map(str, content.values())) != sorted(map(str, range(len(content)))):
        raise UserError(f"{path}: expected a mapping of class names to the numbers from 0 on")
    return tuple(sorted(content, key=lambda name: int(content[name])))


def _openmic_arrays(path: Path, classes: int) -> tuple[list[str], NDArray[np.float64], BoolArray]:
    """Keys, relevance and mask. Raises UserError for a damaged file, other shapes, or values beyond 0 to 1."""
    try:
        with zipfile.ZipFile(existing_file(path, "archive of labels")) as stored:
            relevance, judged, keys = (_array(stored, name) for name in ("Y_true", "Y_mask", "sample_key"))
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}: not readable as openmic-2018.npz ({type(error).__name__}: {error})") from None
    if (
        relevance.shape != (len(keys), classes)
        or judged.shape != relevance.shape
        or len(set(keys.tolist())) < len(keys)
    ):
        shapes = f"Y_true {relevance.shape}, Y_mask {judged.shape}, sample_key {keys.shape}"
        raise UserError(f"{path}: {shapes}; expected (clips, {classes}) twice and a key of its own for each clip")
    relevance = relevance.astype(np.float64)
    if not ((relevance >= 0) & (relevance <= 1)).all():
        raise UserError(f"{path}: Y_true has values beyond 0 to 1, or none")
    return [str(key) for key in keys.tolist()], relevance, judged.astype(bool)


def _array(stored: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with stored.open(f"{name}.npy") as file:
        version = npy.read_magic(file)
        shape, _, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(file)
        if dtype.hasobject:
            return np.asarray(read_pickle(file, f"{stored.filename}: {name}"))
        return np.frombuffer(file.read(), dtype).reshape(shape)


def _lines(path: Path) -> list[str]:
    try:
        text = existing_file(path, "list of clips").read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8") from None
    return [line.strip() for line in text.splitlines() if line.strip()]
