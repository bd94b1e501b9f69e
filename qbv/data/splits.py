"""The split files of the official experiments: which imitations train, validate and test; and counts over them.

Tab-separated with a header: filename (vocal_imitations/<name>), scene_label; meta.csv has also positive_pair and
negative_pair (sound_recordings/<name>). train and val name every imitation twice, once for each pair. Files may be
gzipped.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.run.errors import UserError, brief
from common.run.files import existing_folder, read_rows
from qbv.data.classes import FIRST_VOCAL_SKETCH_IMITATION, label_of, numbered

TRAIN, VAL, TEST, META = "train", "val", "test", "meta"


@dataclass(frozen=True)
class Split:
    """A split file: its imitations, each once in the order of its first line, and their labels; rows: its lines."""

    path: Path
    imitations: tuple[str, ...]
    labels: tuple[str, ...]
    rows: int


@dataclass(frozen=True)
class Meta:
    """meta.csv: {imitation: label}, its recording, and the one that is no match (bce); matches are left out there."""

    path: Path
    labels: Mapping[str, str]
    positive: Mapping[str, str]
    negative: Mapping[str, str]


def table(folder: Path, name: str) -> Path | None:
    """<name>.csv or <name>.csv.gz in a folder, or None."""
    return next((path for path in (folder / f"{name}.csv", folder / f"{name}.csv.gz") if path.is_file()), None)


def needed_table(folder: Path, name: str) -> Path:
    """The same; UserError where there is none."""
    found = table(existing_folder(folder, "folder of splits"), name)
    if found is None:
        raise UserError(f"{folder / name}.csv: split file not found")
    return found


def read_split(path: Path) -> Split:
    """A split file. Raises UserError (file, line) for an empty one, and an imitation with two labels."""
    labels: dict[str, str] = {}
    rows = read_rows(path, ("filename", "scene_label"), "\t")
    for row in rows:
        name = _base(row["filename"], row.at)
        if labels.setdefault(name, row["scene_label"]) != row["scene_label"]:
            raise UserError(f"{row.at}: {brief(name)} is {brief(row['scene_label'])}, a line before {labels[name]!r}")
    if not labels:
        raise UserError(f"{path}: no imitation, expected a line for each")
    return Split(path, tuple(labels), tuple(labels.values()), len(rows))


def read_meta(path: Path) -> Meta:
    """meta.csv. Raises UserError (file, line) for an imitation that stands twice."""
    labels: dict[str, str] = {}
    positive, negative = {}, {}
    for row in read_rows(path, ("filename", "scene_label", "positive_pair", "negative_pair"), "\t"):
        name = _base(row["filename"], row.at)
        if name in labels:
            raise UserError(f"{row.at}: {brief(name)} stands there a second time")
        labels[name], positive[name] = row["scene_label"], _base(row["positive_pair"], row.at)
        other = _base(row["negative_pair"], row.at)
        if other != positive[name]:
            negative[name] = other
    return Meta(path, labels, positive, negative)


def _base(path: str, at: str) -> str:
    name = path.rpartition("/")[2]
    if not name.strip():
        raise UserError(f"{at}: {brief(path)}, expected <folder>/<file>")
    return name


def fold_folder(splits: Path, fold: int) -> Path:
    """Where a fold's files are. Raises UserError for a fold that is not there."""
    there = folds_in(existing_folder(splits, "folder of splits"))
    if fold not in there:
        known = f"has {', '.join(map(str, there))}" if there else "has no fold<k>"
        raise UserError(f"data.folds: no fold {fold}, {splits} {known}")
    return splits / f"fold{fold}"


def folds_in(splits: Path) -> list[int]:
    """Numbers of the folds in a folder of splits, in order."""
    names = (re.fullmatch(r"fold([0-9]{1,4})", path.name) for path in splits.iterdir() if path.is_dir())
    return sorted(int(match[1]) for match in names if match)


# ------------------------------------------------------------------------------------------------------ counts, checks


def check_splits(folder: str | Path) -> dict[str, Any]:
    """Counts over split files, checked against each other.

    folder: of folds, of one fold, of the fine protocol (train and val, without test concepts), or with subfolders of
    these. Of the first fold {"fold", "train", "val", "test", ...}; all in "folds", the fine protocol's in "fine".
    Raises UserError where parts share imitations or a test concept trains, where labels differ from those of meta.csv
    or the names, and where nothing is found.
    """
    folder = existing_folder(folder, "folder of splits")
    folds, fine = [], None
    for place in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        if table(place, TRAIN) and re.fullmatch(r"fold[0-9]+", place.name):
            folds.append(_check_fold(place))
        elif table(place, TRAIN):
            fine = _check_fine(place)
        elif place != folder:
            folds += [_check_fold(place / f"fold{number}") for number in folds_in(place)]
    if not folds and fine is None:
        raise UserError(f"{folder}: no split files, expected fold<k>/train.csv, val.csv, test.csv, or train.csv")
    folds.sort(key=lambda of: int(of["fold"]))
    return {**(folds[0] if folds else {}), "folds": folds, **({"fine": fine} if fine else {})}


def _check_fold(folder: Path) -> dict[str, Any]:
    parts = {name: read_split(needed_table(folder, name)) for name in (TRAIN, VAL, TEST)}
    meta = table(folder.parent, META)
    _disjoint(list(parts.values()))
    for of in parts.values():
        _labels_fit(of, None if meta is None else read_meta(meta))
    train, val, test = (set(of.labels) for of in parts.values())
    if seen := sorted(test & (train | val)):
        raise UserError(f"{parts[TEST].path}: concept {seen[0]!r} is trained or validated on, too")
    return {
        "fold": int(folder.name.removeprefix("fold")),
        **{name: _counts(of, is_test=name == TEST) for name, of in parts.items()},
        "concepts_shared_by_train_and_test": len(train & test),
        "concepts_shared_by_train_and_val": len(train & val),
        "union_imitations": len({name for of in parts.values() for name in of.imitations}),
    }


def _check_fine(folder: Path) -> dict[str, Any]:
    parts = {name: read_split(path) for name in (TRAIN, VAL, TEST) if (path := table(folder, name))}
    _disjoint(list(parts.values()))
    meta = table(folder, META)
    found: dict[str, Any] = {name: _counts(of) for name, of in parts.items()}
    if meta is not None:
        of_meta = read_meta(meta)
        for name in (TRAIN, VAL):
            if name in parts:
                _labels_fit(parts[name], of_meta)
        found["negatives_that_match"] = len(of_meta.labels) - len(of_meta.negative)
    return found


def _disjoint(parts: Sequence[Split]) -> None:
    part_of: dict[str, Split] = {}
    for of in parts:
        for name in of.imitations:
            if part_of.setdefault(name, of) is not of:
                raise UserError(f"{of.path}: {brief(name)} stands in {part_of[name].path.name}, too")


def _labels_fit(of: Split, meta: Meta | None) -> None:
    for name, label in zip(of.imitations, of.labels, strict=True):
        parts = numbered(name)
        if parts is not None and label_of(parts[1]) != label:
            raise UserError(f"{of.path}: {brief(name)} is {label!r}, expected {label_of(parts[1])!r} as in its name")
        if meta is not None and meta.labels.get(name) != label:
            there = f"{label!r} here, {meta.labels[name]!r} there" if name in meta.labels else "not there"
            raise UserError(f"{of.path}: {brief(name)} differs from {meta.path.name}: {there}")


def _counts(of: Split, is_test: bool = False) -> dict[str, Any]:
    per_concept = Counter(of.labels).values()
    ids = [parts for name in of.imitations if (parts := numbered(name))]
    found: dict[str, Any] = {
        "rows": of.rows,
        "imitations": len(of.imitations),
        "concepts": len(per_concept),
        "reference_sounds": len({key for _, key in ids} if ids else set(of.labels)),
        "imitations_per_concept_min": min(per_concept),
        "imitations_per_concept_max": max(per_concept),
    }
    if ids:
        by_origin: dict[bool, list[str]] = {True: [], False: []}
        for number, key in ids:
            by_origin[number < FIRST_VOCAL_SKETCH_IMITATION].append(key)
        for origin, keys in zip(("vocal_imitation_set", "vocal_sketch"), by_origin.values(), strict=True):
            found |= {f"imitations_from_{origin}": len(keys), f"references_from_{origin}": len(set(keys))}
    found |= {"first_filename": f"vocal_imitations/{min(of.imitations)}"}
    found |= {"last_filename": f"vocal_imitations/{max(of.imitations)}"}
    if is_test:
        items = found["reference_sounds"]
        chance = round(sum(1 / rank for rank in range(1, items + 1)) / items, 6)
        found |= {"queries": len(of.imitations), "items": items, "mrr_of_a_random_ranking": chance}
    return found
