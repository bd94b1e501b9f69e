"""Files of scores: readers and writers.

Three forms on disk: a folder with one <clip>.tsv per clip (onset, offset, one column per class), a single .tsv that
also has a filename column, and an HDF5 file with the logits of one frame grid. Clips are always matched by name.
"""

import os
import shutil
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.run.errors import UserError, did_you_mean
from common.run.files import Row, existing_file, partial_name, read_rows
from common.run.numbers import number
from task4_sed.data.classes import CLASSES, FRAME_SECONDS
from task4_sed.data.hdf5 import check_memory, data_set, is_hdf5, number_attribute, numbers, open_hdf5, texts
from task4_sed.data.pseudo import new_logits
from task4_sed.metrics.types import TIME_DECIMALS, ClipScores, ScoreSet, clip_name

if TYPE_CHECKING:
    import pandas as pd

# Folders beside a run's scores, and what a metric gives for nothing: their scores.
FLOORS = {"untrained": "untrained network", "constant": "constant prior"}
# Significant digits of scores in text files: more than float32 holds.
_SCORE_FORMAT = "%.9g"
# Bytes of memory for a byte of text: numbers; and fields that are looked at one by one.
_TEXT_FACTOR, TABLE_FACTOR = 3, 12
# Bytes for a logit: as read, sorted, and its score.
_CELL = 16


@dataclass(frozen=True)
class LogitSet:
    """Logits of clips on one frame grid in memory, sorted by name.

    names: clip names without ".wav"; logits: (clips, frames, classes) float16 or float32, as stored;
    frame_seconds: length of a frame, `stated` in the file or else 64 ms; durations: (clips,) seconds, or None where the
    file has none.
    """

    names: tuple[str, ...]
    logits: np.ndarray
    classes: tuple[str, ...]
    frame_seconds: float
    durations: np.ndarray | None = None
    stated: bool = True


def read_scores(path: str | Path) -> ScoreSet:
    """Scores from a folder of <clip>.tsv files, one .tsv with a filename column, or an HDF5 file of logits.

    Rows must follow one another without gaps, starting at 0. A score of -inf is allowed: it is never active.
    Raises UserError with file and line for everything else that isn't scores.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    existing_file(path, "score file or folder")
    return from_stored(read_logits(path)) if is_hdf5(path) else _read_table(path)


def from_stored(stored: LogitSet) -> ScoreSet:
    """Scores of stored logits."""
    durations = None if stored.durations is None else stored.durations.tolist()
    return from_logits(stored.names, stored.logits, stored.classes, stored.frame_seconds, durations)


def _read_folder(folder: Path) -> ScoreSet:
    files = _score_files(folder)
    header: list[str] = []
    clips: dict[str, ClipScores] = {}
    for file in files:
        try:
            text = existing_file(file, "score file").read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise UserError(f"{file}: not a text file in UTF-8") from None
        first_line, _, body = text.partition("\n")
        fields = first_line.rstrip("\r").split("\t")
        fields = [field.strip() for field in fields]
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
        if not name:
            raise UserError(f"{file}: expected <clip>.tsv")
        values = _numbers(body, len(header))
        clip = None if values is None else _clip(values[:, times[0]], values[:, times[1]], values[:, columns])
        if clip is None:  # something is wrong: go through it line by line
            rows = [_stripped(row) for row in read_rows(file, ())]
            clip = _clip_of_rows(file, rows, [header[i] for i in columns])
        clips[name] = clip
    return ScoreSet(tuple(header[i] for i in columns), clips)


def _score_files(folder: Path) -> list[Path]:
    """The .tsv files of a folder, sorted; UserError for anything of such a name that isn't a file of readable size."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    found = [entry for entry in entries if entry.suffix.lower() == ".tsv"]
    if not found:
        inner = [entry for entry in entries if entry.is_dir() and any(entry.glob("*.tsv"))]
        if inner:
            raise UserError(
                f"{folder}: holds {len(inner)} folders of scores ({inner[0].name}, ...), expected that of one system, "
                f"e.g. {inner[0]}"
            )
        raise UserError(f"{folder}: no .tsv file, expected one <clip>.tsv per clip")
    for file in found:
        if not file.is_file():  # a pipe or device might never end
            raise UserError(f"{file}: not a file, expected the scores of a clip")
    check_memory(f"{folder}: reading {len(found):,} files", _TEXT_FACTOR * sum(file.stat().st_size for file in found))
    return found


def _stripped(row: Row) -> Row:
    stripped = Row((column.strip(), text) for column, text in row.items())
    stripped.at = row.at
    return stripped


def _read_table(path: Path) -> ScoreSet:
    check_memory(f"{path}: reading it", TABLE_FACTOR * path.stat().st_size)
    rows = read_rows(path, ())
    if not rows:
        raise UserError(f"{path}: no rows, expected scores")
    _check_header(path, [name.strip() for name in rows[0]], ("filename", "onset", "offset"))
    rows = [_stripped(row) for row in rows]
    classes = [name for name in rows[0] if name not in ("filename", "onset", "offset")]
    columns = ["onset", "offset", *classes]
    of_clip: dict[str, list[Row]] = {}
    last = ""
    for row in rows:
        name, listed_as = clip_name(row["filename"]), row["filename"]
        if not name:
            raise UserError(f"{row.at}: empty filename")
        first = of_clip.setdefault(name, [])
        if first and first[0]["filename"] != listed_as:
            raise UserError(f"{row.at}: {first[0]['filename']} and {listed_as} have the same name, {name}")
        if name != last and first:
            raise UserError(f"{row.at}: {listed_as} was already listed, expected its rows one after another")
        first.append(row)
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


def _check_header(file: Path | str, header: Sequence[str], needed: Sequence[str]) -> None:
    if list(header) == [""]:
        raise UserError(f"{file}: empty, expected a header line with {', '.join(needed)} and the classes")
    other = next((sign for sign in ",;" if len(header) == 1 and sign in header[0]), None)
    if other:
        raise UserError(f"{file}:1: columns separated by {other!r}, expected '\\t'")
    if "" in header:
        raise UserError(f"{file}:1: column {list(header).index('') + 1} has no name")
    for column in needed:
        if column not in header:
            raise UserError(f"{file}:1: no column {column!r}{did_you_mean(column, header)}")
    repeated = sorted(name for name, count in Counter(header).items() if count > 1)
    if repeated:
        raise UserError(f"{file}:1: column {repeated[0]!r} is there twice")
    if len(header) == len(needed):
        raise UserError(f"{file}:1: no class column after {', '.join(needed)}")


def _difference(expected: Sequence[str], found: Sequence[str]) -> str:
    there, known = set(found), set(expected)
    missing, extra = [c for c in expected if c not in there], [c for c in found if c not in known]
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
    return -np.inf if row[column].strip().lower() in ("-inf", "-infinity") else _number(row, column)


def _number(row: Row, column: str) -> float:
    try:
        number(row[column])
    except ValueError:
        raise UserError(f"{row.at}: {column} is {row[column]!r}, expected a number") from None
    return row.number(column)


def _clip_of_rows(path: Path | str, rows: Sequence[Row], classes: Sequence[str]) -> ClipScores:
    """The slow way: the same checks as `_clip`, but naming the line."""
    if not rows:
        raise UserError(f"{path}: no rows, expected scores")
    end = 0.0
    scores = []
    for i, row in enumerate(rows):
        onset, offset = _number(row, "onset"), _number(row, "offset")
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


def as_objects(scores: ScoreSet) -> "dict[str, pd.DataFrame]":
    """Score objects as of sed_scores_eval: {clip: data frame of onset, offset (seconds) and a column per class}."""
    import pandas as pd

    columns = ["onset", "offset", *scores.classes]
    return {
        name: pd.DataFrame(np.column_stack((clip.edges[:-1], clip.edges[1:], clip.scores)), columns=columns)
        for name, clip in scores.clips.items()
    }


def of_objects(objects: "Mapping[str, pd.DataFrame]") -> ScoreSet:
    """The reverse of `as_objects`, of anybody's score objects, also of those that are read from disk one by one.

    Raises UserError, naming clip and row, for what a file of scores may not have either.
    """
    import pandas as pd

    header: list[str] = []
    clips: dict[str, ClipScores] = {}
    for key in objects.keys():  # noqa: SIM118 (those that are read one by one iterate over their values)
        table, at = objects[key], f"scores[{key!r}]"
        if not isinstance(table, pd.DataFrame):
            raise UserError(f"{at}: {type(table).__name__}, expected a data frame of onset, offset and the classes")
        columns = [str(column) for column in table.columns]
        if not header:
            _check_header(at, columns, ("onset", "offset"))
            header = columns
        elif columns != header:
            raise UserError(f"{at}: the columns differ from those of the first: {_difference(header, columns)}")
        name = clip_name(str(key))
        if not name or name in clips:
            raise UserError(f"{at}: {f'a second object for clip {name}' if name else 'expected the name of a clip'}")
        clips[name] = _clip_of_object(at, table.set_axis(columns, axis=1))
    if not clips:
        raise UserError("scores: no clips, expected {clip: data frame}")
    return ScoreSet(tuple(column for column in header if column not in ("onset", "offset")), clips)


def _clip_of_object(at: str, table: "pd.DataFrame") -> ClipScores:
    classes = [column for column in table.columns if column not in ("onset", "offset")]
    try:
        values = table[["onset", "offset", *classes]].to_numpy(np.float64)
    except (TypeError, ValueError):
        values = np.empty((0, 0))
    clip = _clip(values[:, 0], values[:, 1], values[:, 2:]) if len(values) else None
    if clip is not None:
        return clip
    rows = []
    for number_of_row, cells in enumerate(table.to_numpy(object).tolist()):
        rows.append(Row(zip(table.columns, map(str, cells), strict=True)))
        rows[-1].at = f"{at}, row {number_of_row}"
    return _clip_of_rows(at, rows, classes)


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
            _write_table(partial / f"{name}.tsv", clip, scores.classes)
        if folder.exists():
            replaced = partial.with_name(f"{partial.name}.replaced")
            os.rename(folder, replaced)
            os.rename(partial, folder)
            shutil.rmtree(replaced)
        else:
            os.rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_table(path: Path, clip: ClipScores, classes: Sequence[str]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write("\t".join(("onset", "offset", *classes)) + "\n")
        file.writelines(score_lines(clip.edges, clip.scores))


def score_lines(edges: np.ndarray, scores: np.ndarray) -> Iterator[str]:
    """Lines of a table of scores (frames, classes) between edges (frames + 1,) in seconds."""
    line = "\t".join([_SCORE_FORMAT] * (2 + scores.shape[1])) + "\n"
    times = zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    return (line % (*ends, *row.tolist()) for ends, row in zip(times, scores, strict=True))


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
    stems = [clip_name(name) for name in names]
    if logits.ndim != 3 or logits.shape[0] != len(stems) or logits.shape[2] != len(classes):
        raise ValueError(f"logits {logits.shape} do not fit {len(stems)} names and {len(classes)} classes")
    order = _name_order(path, stems)
    if isinstance(durations, Mapping):
        by_stem = {clip_name(name): seconds for name, seconds in durations.items()}
        durations = [by_stem[stem] for stem in stems]
    dtype = np.float16 if logits.dtype == np.float16 else np.float32
    ends = None if durations is None else np.asarray(durations, dtype=np.float64)[order]
    names = [stems[i] for i in order]
    with new_logits(path, names, logits.shape[1], classes, dtype, frame_seconds, ends) as append:
        append(logits[order])


def _name_order(path: str | Path, stems: Sequence[str]) -> list[int]:
    order = sorted(range(len(stems)), key=stems.__getitem__)
    for first, second in pairwise(order):
        if stems[first] == stems[second]:
            raise UserError(f"{path}: clip {stems[first]} is there twice")
    return order


def read_logits(path: str | Path) -> LogitSet:
    """Read stored logits; sorted by name, whatever the order in the file.

    A file without `classes` holds the 27 classes in the challenge's order, one without `frame_seconds` frames of
    64 ms: the form in which the challenge's systems exchange predictions. Raises UserError for anything else.
    """
    with open_hdf5(path, "HDF5 file of logits") as file:
        stored = data_set(file, "strong_logits", 3, "f")
        names = texts(file, "filenames")
        classes = tuple(texts(file, "classes")) if "classes" in file else CLASSES
        if stored.shape[0] != len(names) or stored.shape[2] != len(classes):
            raise UserError(
                f"{path}: strong_logits {stored.shape} does not fit {len(names)} filenames and {len(classes)} classes"
            )
        if 0 in stored.shape:
            raise UserError(f"{path}: strong_logits is empty: {stored.shape} clips, frames, classes")
        durations = numbers(file, "durations") if "durations" in file else None
        stated = number_attribute(file, "frame_seconds")
        stems = [clip_name(name) for name in names]
        order = _name_order(path, stems)
        check_memory(f"{path}: strong_logits {stored.shape}", _CELL * float(stored.size))
        logits = stored[()]
    _check_times(path, names, durations, stated)
    if twice := next((name for name in classes if classes.count(name) > 1), None):
        raise UserError(f"{path}: class {twice!r} is there twice")
    if order != list(range(len(stems))):
        logits = logits[order]
        durations = None if durations is None else durations[order]
    frame_seconds = FRAME_SECONDS if stated is None else stated
    return LogitSet(tuple(stems[i] for i in order), logits, classes, frame_seconds, durations, stated is not None)


def _check_times(path: str | Path, names: Sequence[str], durations: np.ndarray | None, stated: float | None) -> None:
    if stated is not None and not 0 < stated < np.inf:
        raise UserError(f"{path}: frame_seconds is {stated:g}, expected seconds above 0")
    if durations is None:
        return
    if len(durations) != len(names):
        raise UserError(f"{path}: {len(durations)} durations for {len(names)} filenames")
    for name, seconds in zip(names, durations.tolist(), strict=True):
        if not 0 < seconds < np.inf:
            raise UserError(f"{path}: the duration of {name} is {seconds:g}, expected seconds above 0")


def from_logits(
    names: Sequence[str],
    logits: np.ndarray,
    classes: Sequence[str],
    frame_seconds: float = FRAME_SECONDS,
    durations: Mapping[str, float] | Sequence[float] | None = None,
) -> ScoreSet:
    """Scores sigmoid(logits) of (clips, frames, classes); NaN and infinity raise UserError with the clip.

    Where `durations` (seconds, by name or in the order of `names`) are given, frames past the end of a clip are left
    out and the last frame ends with the clip.
    """
    clips = {}
    edges = np.arange(logits.shape[1] + 1) * frame_seconds
    by_stem = {clip_name(n): d for n, d in durations.items()} if isinstance(durations, Mapping) else None
    for i, name in enumerate(names):
        stem = clip_name(name)
        of_clip = np.asarray(logits[i], dtype=np.float64)
        if not np.isfinite(of_clip).all():
            raise UserError(f"{stem}: logits are {'not a number (NaN)' if np.isnan(of_clip).any() else 'infinite'}")
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
