"""Files of scores: readers and writers.

Three forms on disk: a folder with one <clip>.tsv per clip (onset, offset, one column per class), a single .tsv that
also has a filename column, and an HDF5 file with the logits of one frame grid. Clips are always matched by name.
"""

import os
import shutil
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from common.run.errors import UserError, did_you_mean
from common.run.files import Row, existing_file, partial_name, read_rows, write_then_rename
from common.run.numbers import number
from task4_sed.data.classes import CLASSES, FRAME_SECONDS
from task4_sed.metrics.types import TIME_DECIMALS, ClipScores, ScoreSet, clip_name

# Folders beside a run's scores, and what a metric gives for nothing: their scores.
FLOORS = {"untrained": "untrained network", "constant": "constant prior"}
# Significant digits of scores in text files: more than float32 holds.
_SCORE_FORMAT = "%.9g"


@dataclass(frozen=True)
class StoredLogits:
    """Logits of clips on one frame grid, sorted by name.

    names: clip names without ".wav"; logits: (clips, frames, classes) float16 or float32, as stored;
    frame_seconds: length of a frame; durations: (clips,) seconds, or None where the file has none.
    """

    names: tuple[str, ...]
    logits: np.ndarray
    classes: tuple[str, ...]
    frame_seconds: float
    durations: np.ndarray | None = None


def read_scores(path: str | Path) -> ScoreSet:
    """Scores from a folder of <clip>.tsv files, one .tsv with a filename column, or an HDF5 file of logits.

    Rows must follow one another without gaps, starting at 0. A score of -inf is allowed: it is never active.
    Raises UserError with file and line for everything else that isn't scores.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    existing_file(path, "score file or folder")
    if path.suffix in (".h5", ".hdf5"):
        stored = read_logits(path)
        durations = None if stored.durations is None else stored.durations.tolist()
        return from_logits(stored.names, stored.logits, stored.classes, stored.frame_seconds, durations)
    return _read_table(path)


def _read_folder(folder: Path) -> ScoreSet:
    files = sorted(file for file in folder.glob("*.tsv") if not file.name.startswith("."))
    if not files:
        raise UserError(f"{folder}: no .tsv file, expected one <clip>.tsv per clip")
    header: list[str] = []
    clips: dict[str, ClipScores] = {}
    for file in files:
        try:
            text = existing_file(file, "score file").read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise UserError(f"{file}: not a text file in UTF-8") from None
        first_line, _, body = text.partition("\n")
        fields = first_line.rstrip("\r").split("\t")
        if not header:
            _check_header(file, fields, ("onset", "offset"))
            header = fields
            columns = [i for i, name in enumerate(header) if name not in ("onset", "offset")]
            times = header.index("onset"), header.index("offset")
        elif fields != header:
            raise UserError(
                f"{file}:1: the columns differ from those of {files[0].name}: {_difference(header, fields)}"
            )
        name = clip_name(file.name)
        if name in clips:
            raise UserError(f"{file}: a second file for clip {name}")
        values = _numbers(body, len(header))
        clip = None if values is None else _clip(values[:, times[0]], values[:, times[1]], values[:, columns])
        if clip is None:  # something is wrong: go through it line by line
            clip = _clip_of_rows(file, read_rows(file, ("onset", "offset")), [header[i] for i in columns])
        clips[name] = clip
    return ScoreSet(tuple(header[i] for i in columns), clips)


def _read_table(path: Path) -> ScoreSet:
    rows = read_rows(path, ("filename", "onset", "offset"))
    if not rows:
        raise UserError(f"{path}: no rows, expected scores")
    header = list(rows[0])
    _check_header(path, header, ("filename", "onset", "offset"))
    classes = [name for name in header if name not in ("filename", "onset", "offset")]
    columns = ["onset", "offset", *classes]
    of_clip: dict[str, list[Row]] = {}
    last = None
    for row in rows:
        name = clip_name(row["filename"])
        if not name:
            raise UserError(f"{row.at}: empty filename")
        if name != last and name in of_clip:
            raise UserError(f"{row.at}: {row['filename']} was already listed, expected its rows one after another")
        of_clip.setdefault(name, []).append(row)
        last = name
    clips = {}
    for name, listed in of_clip.items():
        try:
            values = np.array([[number(row[column]) for column in columns] for row in listed])
        except ValueError:
            clip = None
        else:
            clip = _clip(values[:, 0], values[:, 1], values[:, 2:])
        clips[name] = _clip_of_rows(path, listed, classes) if clip is None else clip
    return ScoreSet(tuple(classes), clips)


def _check_header(file: Path, header: Sequence[str], needed: Sequence[str]) -> None:
    if list(header) == [""]:
        raise UserError(f"{file}: empty, expected a header line with {', '.join(needed)} and the classes")
    for column in needed:
        if column not in header:
            raise UserError(f"{file}:1: no column {column!r}{did_you_mean(column, header)}")
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise UserError(f"{file}:1: column {repeated[0]!r} is there twice")
    if len(header) == len(needed):
        raise UserError(f"{file}:1: no class column after {', '.join(needed)}")


def _difference(expected: Sequence[str], found: Sequence[str]) -> str:
    missing, extra = [c for c in expected if c not in found], [c for c in found if c not in expected]
    if missing:
        return f"no column {missing[0]!r}{did_you_mean(missing[0], extra) if extra else ''}"
    return f"unexpected column {extra[0]!r}" if extra else "another order"


def _numbers(body: str, columns: int) -> np.ndarray | None:
    """The table below the header as (rows, columns) float64; None where it isn't a full table of numbers."""
    rows = body.count("\n") + (bool(body) and not body.endswith("\n"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # numpy < 2.3 warns where later ones raise
            values = np.fromstring(body, sep=" ")
    except (ValueError, DeprecationWarning):
        return None
    if rows == 0 or values.size != rows * columns or body.count("\t") != rows * (columns - 1):
        return None
    return values.reshape(rows, columns)


def _clip(onsets: np.ndarray, offsets: np.ndarray, scores: np.ndarray) -> ClipScores | None:
    """The clip, or None where a time or score is not as it should be."""
    edges = np.append(onsets, offsets[-1:])
    on, off = np.round(onsets, TIME_DECIMALS), np.round(offsets, TIME_DECIMALS)
    good = bool(
        np.isfinite(edges).all()
        and on[0] == 0
        and (on[1:] == off[:-1]).all()
        and (off > on).all()
        and not np.isnan(scores).any()
        and not (scores == np.inf).any()
    )
    return ClipScores(edges, np.ascontiguousarray(scores)) if good else None


def _score(row: Row, column: str) -> float:
    return -np.inf if row[column].strip().lower() in ("-inf", "-infinity") else row.number(column)


def _clip_of_rows(path: Path, rows: Sequence[Row], classes: Sequence[str]) -> ClipScores:
    """The slow way: the same checks as `_clip`, but naming the line."""
    if not rows:
        raise UserError(f"{path}: no rows, expected scores")
    end = 0.0
    scores = []
    for i, row in enumerate(rows):
        onset, offset = row.number("onset"), row.number("offset")
        if round(offset, TIME_DECIMALS) <= round(onset, TIME_DECIMALS):
            raise UserError(f"{row.at}: offset {offset:g} is not after onset {onset:g}")
        difference = round(onset, TIME_DECIMALS) - round(end, TIME_DECIMALS)
        if difference and i == 0:
            raise UserError(f"{row.at}: the first onset is {onset:g}, expected 0")
        if difference:
            what = "a gap after" if difference > 0 else "rows overlap or are not sorted: it is before"
            raise UserError(f"{row.at}: onset {onset:g}, {what} the previous offset {end:g}")
        end = offset
        scores.append([_score(row, column) for column in classes])
    edges = np.array([row.number("onset") for row in rows] + [end])
    return ClipScores(edges, np.array(scores, dtype=np.float64))


def score_table(classes: Sequence[str], clip: ClipScores) -> str:
    """The text of <clip>.tsv."""
    header = "\t".join(("onset", "offset", *classes)) + "\n"
    line = "\t".join([_SCORE_FORMAT] * (2 + len(classes))) + "\n"
    table = np.column_stack((clip.edges[:-1], clip.edges[1:], clip.scores))
    return header + "".join([line % tuple(row) for row in table.tolist()])


def write_scores_folder(folder: str | Path, scores: ScoreSet) -> None:
    """Write one <clip>.tsv per clip, the whole folder or nothing.

    An existing folder is replaced if it holds nothing but .tsv files, else UserError.
    """
    folder = Path(folder)
    if folder.exists() and (
        not folder.is_dir() or any(entry.is_dir() or entry.suffix != ".tsv" for entry in folder.iterdir())
    ):
        raise UserError(f"{folder}: is there and holds more than score files; name another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(partial_name(folder.name))
    partial.mkdir()
    try:
        for name, clip in scores.clips.items():
            (partial / f"{name}.tsv").write_text(score_table(scores.classes, clip), encoding="utf-8")
        if folder.exists():
            replaced = partial.with_name(f"{partial.name}.replaced")
            os.rename(folder, replaced)
            os.rename(partial, folder)
            shutil.rmtree(replaced)
        else:
            os.rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_logits(
    path: str | Path,
    names: Sequence[str],
    logits: np.ndarray,
    classes: Sequence[str],
    frame_seconds: float = FRAME_SECONDS,
    durations: Mapping[str, float] | Sequence[float] | None = None,
) -> None:
    """Store logits (clips, frames, classes) as HDF5, sorted by name, whole or not at all.

    `strong_logits` keeps float16 where given so, else float32; `filenames` are stems as bytes. `durations` are seconds,
    by name or in the order of `names`. Raises UserError for repeated names, ValueError for shapes that don't fit.
    """
    import h5py

    stems = [clip_name(name) for name in names]
    if logits.ndim != 3 or logits.shape[0] != len(stems) or logits.shape[2] != len(classes):
        raise ValueError(f"logits {logits.shape} do not fit {len(stems)} names and {len(classes)} classes")
    order = _name_order(path, stems)
    if isinstance(durations, Mapping):
        by_stem = {clip_name(name): seconds for name, seconds in durations.items()}
        durations = [by_stem[stem] for stem in stems]
    dtype = np.float16 if logits.dtype == np.float16 else np.float32
    with write_then_rename(path) as partial, h5py.File(partial, "w") as file:
        file["strong_logits"] = np.asarray(logits, dtype=dtype)[order]
        file["filenames"] = np.array([stems[i].encode() for i in order], dtype=f"S{_longest(stems)}")
        file["classes"] = np.array([name.encode() for name in classes], dtype=f"S{_longest(classes)}")
        file.attrs["frame_seconds"] = frame_seconds
        if durations is not None:
            file["durations"] = np.asarray(durations, dtype=np.float64)[order]


def _name_order(path: str | Path, stems: Sequence[str]) -> list[int]:
    order = sorted(range(len(stems)), key=stems.__getitem__)
    for first, second in pairwise(order):
        if stems[first] == stems[second]:
            raise UserError(f"{path}: clip {stems[first]} is there twice")
    return order


def _longest(names: Iterable[str]) -> int:
    return max((len(name.encode()) for name in names), default=1) or 1


def read_logits(path: str | Path) -> StoredLogits:
    """Read stored logits; sorted by name, whatever the order in the file.

    A file without `classes` holds the 27 classes in the challenge's order, one without `frame_seconds` frames of
    64 ms: the form in which the challenge's systems exchange predictions. Raises UserError for anything else.
    """
    import h5py

    path = existing_file(path, "HDF5 file of logits")
    try:
        with h5py.File(path, "r") as file:
            for key in ("strong_logits", "filenames"):
                if key not in file:
                    raise UserError(f"{path}: no data set {key!r}{did_you_mean(key, file.keys())}")
            logits = file["strong_logits"][()]
            names = [_text(name) for name in file["filenames"][()]]
            classes = tuple(_text(name) for name in file["classes"][()]) if "classes" in file else CLASSES
            durations = file["durations"][()] if "durations" in file else None
            frame_seconds = float(file.attrs.get("frame_seconds", FRAME_SECONDS))
    except UserError:
        raise
    except Exception as error:  # HDF5 has many ways to be damaged
        said = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: not a readable HDF5 file, or cut off ({said})") from None
    if logits.ndim != 3 or logits.dtype.kind != "f":
        raise UserError(f"{path}: strong_logits is {logits.dtype} {logits.shape}, expected (clips, frames, classes)")
    if logits.shape[0] != len(names) or logits.shape[2] != len(classes):
        raise UserError(
            f"{path}: strong_logits {logits.shape} does not fit {len(names)} filenames and {len(classes)} classes"
        )
    stems = [clip_name(name) for name in names]
    order = _name_order(path, stems)
    if order != list(range(len(stems))):
        logits = logits[order]
        durations = None if durations is None else durations[order]
    return StoredLogits(tuple(stems[i] for i in order), logits, classes, frame_seconds, durations)


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def from_logits(
    names: Sequence[str],
    logits: np.ndarray,
    classes: Sequence[str],
    frame_seconds: float = FRAME_SECONDS,
    durations: Mapping[str, float] | Sequence[float] | None = None,
) -> ScoreSet:
    """Scores sigmoid(logits) of (clips, frames, classes); NaN raises UserError with the clip.

    Where `durations` (seconds, by name or in the order of `names`) are given, frames past the end of a clip are left
    out and the last frame ends with the clip.
    """
    clips = {}
    edges = np.arange(logits.shape[1] + 1) * frame_seconds
    by_stem = {clip_name(n): d for n, d in durations.items()} if isinstance(durations, Mapping) else None
    for i, name in enumerate(names):
        stem = clip_name(name)
        of_clip = np.asarray(logits[i], dtype=np.float64)
        if np.isnan(of_clip).any():
            raise UserError(f"{stem}: logits are not a number (NaN)")
        # tanh form: no overflow for large negative logits
        scores = 0.5 * (1 + np.tanh(0.5 * of_clip))
        if durations is None:
            clips[stem] = ClipScores(edges, scores)
            continue
        duration = by_stem[stem] if by_stem is not None else durations[i]  # type: ignore[index]
        frames = max(1, min(len(of_clip), int(np.ceil(round(duration / frame_seconds, 6)))))
        own = edges[: frames + 1].copy()
        own[-1] = min(own[-1], duration)
        clips[stem] = ClipScores(own, scores[:frames])
    return ScoreSet(tuple(classes), clips)


def stored_scores(path: Path) -> ScoreSet:
    """Probabilities that `predict` stored for a set."""
    return read_scores(existing_file(path, "scores (`predict` makes them)"))
