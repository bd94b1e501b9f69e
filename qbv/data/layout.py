"""The official layouts of the data sets, and their readers: what tables and folders say, without audio.

VimSketch: references/ (or sound_recordings/), vocal_imitations/, reference_file_names.csv and
    vocal_imitation_file_names.csv (a name a line, no header); <3-digit id>_<key>.wav, <5-digit id>_<key>.wav
VocalSketch: vocal_imitations/included/ (or without included/), `<label> - <id>.wav`; sound_recordings/, the label with
    underscores, or as sound_recordings.csv (sound_label, filename) has it
Vocal Imitation Set: vocal_imitations/included/, original_recordings/reference/<class>..._reference.wav,
    original_recordings/non_reference/<class>.../*.wav; the class is the first three characters
QVIM: `DEV Dataset.csv` (a title line, then Class, Items, Query 1, Query 2, Query 3), Items/<Class>/, Queries/<Class>/
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.run.errors import UserError, brief
from common.run.files import existing_file, existing_folder, read_rows
from common.run.folders import entries
from qbv.config import DataConfig
from qbv.data.classes import file_stem, numbered

IntArray = NDArray[np.int64]
QVIM_TABLE = "DEV Dataset.csv"
QVIM_QUERIES = ("Query 1", "Query 2", "Query 3")
# Name of a data set: the setting that says where it lies.
PLACES = {
    "vimsketch": "root",
    "vocalsketch": "vocal_sketch",
    "vocal_imitation_set": "vocal_imitation_set",
    "qvim": "qvim",
}
# Of a protocol: the data set that trains, and the one that is tested.
TRAINING = {"coarse": "vimsketch", "fine": "vocalsketch", "qvim": "vimsketch"}
TESTED = {"coarse": "vimsketch", "fine": "vocal_imitation_set", "qvim": "qvim"}


@dataclass(frozen=True)
class Listing:
    """Imitations and recordings of a data set by name; files need not exist."""

    name: str
    source: Path  # what was read, for messages
    imitations: tuple[str, ...]
    imitation_files: tuple[Path, ...]
    targets: IntArray  # (imitations,) position of the recording that each imitates
    recordings: tuple[str, ...]
    recording_files: tuple[Path, ...]
    concepts: tuple[str, ...]  # (recordings,)


def place_of(data: DataConfig, name: str) -> Path:
    """The folder of a data set. Raises UserError where the recipe names none, or it does not exist."""
    key = PLACES[name]
    folder = getattr(data, key)
    if folder is None:
        raise UserError(f"data.{key}: no data set named; data.{key}=DIR names the folder of {name}")
    if data.toy and not Path(folder).exists():
        raise UserError(f"{folder}: data set not found; `prepare` writes it")
    return existing_folder(folder, "data set")


def read_listing(data: DataConfig, name: str) -> Listing:
    """A data set by its name (one of PLACES). Raises UserError for what is missing or malformed (file, line)."""
    read = {
        "vimsketch": read_vimsketch,
        "vocalsketch": read_vocalsketch,
        "vocal_imitation_set": read_vocal_imitation_set,
        "qvim": read_qvim,
    }[name]
    return read(place_of(data, name))


def read_vimsketch(root: Path) -> Listing:
    """VimSketch by its two lists of names; the concept of a recording is its key."""
    table = root / "reference_file_names.csv"
    keys: dict[str, tuple[int, str]] = {}
    for at, name, key in _names(table):
        if key in keys:
            raise UserError(f"{at}: {brief(name)} has the key of {brief(keys[key][1])}, expected one recording each")
        keys[key] = (len(keys), name)
    imitations, targets = [], []
    for at, name, key in _names(root / "vocal_imitation_file_names.csv"):
        if key not in keys:
            raise UserError(f"{at}: {brief(name)} imitates no recording of {table.name}")
        imitations.append(name)
        targets.append(keys[key][0])
    _no_duplicates(imitations, root / "vocal_imitation_file_names.csv")
    folder = root / ("references" if (root / "references").is_dir() else "sound_recordings")
    recordings = tuple(name for _, name in keys.values())
    return Listing(
        *("vimsketch", table),
        tuple(imitations),
        tuple(root / "vocal_imitations" / name for name in imitations),
        np.array(targets, np.int64),
        recordings,
        tuple(folder / name for name in recordings),
        tuple(keys),
    )


def _names(path: Path) -> Iterable[tuple[str, str, str]]:
    """(file:line, name, key) of a list of names."""
    try:
        lines = existing_file(path, "list of file names").read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8") from None
    found = [(f"{path}:{number}", line.strip().strip('"')) for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise UserError(f"{path}: no name, expected one a line")
    for at, name in found:
        parts = numbered(name)
        if parts is None or "/" in name:
            raise UserError(f"{at}: {brief(name)}, expected <id>_<key>.wav")
        yield at, name, parts[1]


def read_vocalsketch(root: Path) -> Listing:
    """VocalSketch by its folder of accepted imitations; the concept of a recording is its label."""
    folder = next((root / of for of in ("vocal_imitations/included", "vocal_imitations") if (root / of).is_dir()), None)
    if folder is None:
        raise UserError(f"{root / 'vocal_imitations' / 'included'}: folder not found")
    names = _wavs(folder)
    labels = [name.rpartition(" - ")[0] for name in names]
    if "" in labels:
        raise UserError(f"{folder / names[labels.index('')]}: expected <label> - <id>.wav")
    table = root / "sound_recordings.csv"
    listed = {row["sound_label"]: row["filename"] for row in _recordings(table)} if table.is_file() else {}
    concepts = sorted(set(labels))
    recordings = tuple(listed.get(label, f"{file_stem(label)}.wav") for label in concepts)
    _no_duplicates(recordings, table)
    return Listing(
        *("vocalsketch", folder),
        tuple(names),
        tuple(folder / name for name in names),
        np.searchsorted(concepts, labels).astype(np.int64),
        recordings,
        tuple(root / "sound_recordings" / name for name in recordings),
        tuple(concepts),
    )


def _recordings(table: Path) -> Iterable[dict[str, str]]:
    for row in read_rows(table, ("sound_label", "filename"), ","):
        if not row["filename"].strip() or "/" in row["filename"]:
            raise UserError(f"{row.at}: filename {brief(row['filename'])}, expected a file in sound_recordings/")
        yield row


def read_vocal_imitation_set(root: Path) -> Listing:
    """The Vocal Imitation Set by its folders; the concept of a recording is its class, every class has a reference.

    Recordings: `<class>..._reference.wav`, and `<class folder>/<name>.wav` of the others.
    """
    folder = existing_folder(root / "original_recordings", "folder of recordings")
    references = {_class(name, folder): name for name in _wavs(folder / "reference")}
    others = existing_folder(folder / "non_reference", "folder of the other recordings")
    below = [f"{of.name}/{name}" for of in entries(others) if of.is_dir() for name in _wavs(of, some=False)]
    recordings = [*references.values(), *below]
    concepts = [*references, *(_class(name, others) for name in below)]
    imitated = root / "vocal_imitations" / "included"
    names, place = _wavs(imitated), {concept: number for number, concept in enumerate(references)}
    if foreign := next((name for name in names if _class(name, imitated) not in place), None):
        raise UserError(f"{imitated / foreign}: no reference of class {foreign[:3]} in {folder / 'reference'}")
    return Listing(
        *("vocal_imitation_set", root),
        tuple(names),
        tuple(imitated / name for name in names),
        np.array([place[name[:3]] for name in names], np.int64),
        tuple(recordings),
        tuple(folder / ("non_reference" if "/" in name else "reference") / name for name in recordings),
        tuple(concepts),
    )


def _class(name: str, folder: Path) -> str:
    if not re.match(r"[0-9]{3}", name):
        raise UserError(f"{folder / name}: expected a name that begins with its class, three digits")
    return name[:3]


def read_qvim(root: Path) -> Listing:
    """The development set of QVIM 2025; an item or query is known by its file name, items repeat over rows."""
    table = root / QVIM_TABLE
    items: dict[str, tuple[int, str]] = {}
    queries: dict[str, tuple[int, Path]] = {}
    for row in read_rows(table, ("Class", "Items", *QVIM_QUERIES), ",", titles=1):
        at, concept, item = row.at, row["Class"].strip(), row["Items"].strip()
        if not concept or not item:
            raise UserError(f"{at}: Class or Items is empty")
        number, of = items.setdefault(item, (len(items), concept))
        if of != concept:
            raise UserError(f"{at}: item {brief(item)} stands in class {brief(of)} already; names must be unique")
        for query in filter(None, (row[column].strip() for column in QVIM_QUERIES)):
            known = queries.setdefault(query, (number, root / "Queries" / concept / query))
            if known[0] != number:
                raise UserError(f"{at}: query {brief(query)} imitates another item already; names must be unique")
    if not queries:
        raise UserError(f"{table}: no query, expected at least one")
    return Listing(
        *("qvim", table),
        tuple(queries),
        tuple(path for _, path in queries.values()),
        np.array([number for number, _ in queries.values()], np.int64),
        tuple(items),
        tuple(root / "Items" / concept / item for item, (_, concept) in items.items()),
        tuple(concept for _, concept in items.values()),
    )


def _wavs(folder: Path, some: bool = True) -> list[str]:
    """Names of the wav files of a folder, in order; UserError for none where `some` are needed."""
    names = [path.name for path in entries(existing_folder(folder)) if path.suffix.lower() == ".wav"]
    if some and not names:
        raise UserError(f"{folder}: no .wav in it")
    return names


def _no_duplicates(names: Sequence[str], source: Path) -> None:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"{source}: {brief(twice[0])} stands there twice")
