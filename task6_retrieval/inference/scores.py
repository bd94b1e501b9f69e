"""Stored outputs of retrieval in the challenge's forms: the ten best clips of each query, or its score of every clip.

2022 to 2024: a csv with header, `caption` and ten file names in the order of their ranks. 2025: a csv with header,
the query and one column for each file name, cells are scores (higher is better).
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.run.errors import UserError, brief, did_you_mean
from common.run.files import csv_lines, existing_file, write_rows

BEST = 10  # names in a row of the first form


@dataclass(frozen=True)
class Outputs:
    """What a file says of its queries, line by line; clips are positions in the gallery.

    best: (queries, names of a row), in order of rank; or scores: (queries, clips of the gallery) float64.
    """

    path: Path
    queries: tuple[str, ...]
    lines: tuple[int, ...]  # of the file, (queries,)
    best: NDArray[np.int64] | None = None
    scores: NDArray[np.float64] | None = None


class Gallery:
    """Names of clips -> their positions: exactly, else without regard to blanks around the name."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._loose = {name.strip(): number for number, name in enumerate(names)}
        self._exact = {name: number for number, name in enumerate(names)}

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self._exact or name.strip() in self._loose)

    def __len__(self) -> int:
        return len(self.names)

    def position(self, name: str) -> int | None:
        """Position of a clip, or None."""
        return self._exact.get(name, self._loose.get(name.strip()))


def read_outputs(path: str | Path, gallery: Gallery | None) -> tuple[Outputs, Gallery]:
    """A file of either form, and its gallery; gallery None: not known, the names in the file are taken for it.

    Raises UserError (file, line) for another number of fields than the header, no query, unknown or repeated files,
    and scores that are no finite numbers.
    """
    path = existing_file(path, "csv of rankings or scores")
    lines = _lines(path)
    _, header = next(lines)
    if len(header) < 2:
        raise UserError(f"{path}:1: {len(header)} column, expected the caption and {BEST} file names, or all scores")
    first = next(lines, None)
    if first is None:
        raise UserError(f"{path}: no query, expected a line for each")
    is_scores = _is_number(first[1][1]) or any(gallery is not None and name in gallery for name in header[1:])
    rows: Iterable[tuple[int, list[str]]] = chain([first], lines)
    if gallery is None and is_scores:
        gallery = Gallery(list(dict.fromkeys(header[1:])))
    elif gallery is None:
        rows = list(rows)
        gallery = Gallery(sorted({name for _, row in rows for name in row[1:]}))
    return _read(path, header, rows, gallery, is_scores), gallery


def _read(
    path: Path, header: Sequence[str], rows: Iterable[tuple[int, list[str]]], gallery: Gallery, is_scores: bool
) -> Outputs:
    columns = _positions(header[1:], gallery, f"{path}:1") if is_scores else []
    if is_scores and len(columns) < len(gallery):
        gone = next(name for number, name in enumerate(gallery.names) if number not in set(columns))
        raise UserError(f"{path}:1: scores of {len(columns)} of {len(gallery)} clips, no column {gone!r}")
    queries, numbers, values = [], [], []
    for number, row in rows:
        at = f"{path}:{number}"
        queries.append(row[0])
        numbers.append(number)
        values.append(_numbers(row[1:], header[1:], at) if is_scores else _positions(row[1:], gallery, at))
    if not is_scores:
        return Outputs(path, tuple(queries), tuple(numbers), best=np.array(values, np.int64))
    scores = np.empty((len(values), len(columns)))
    scores[:, columns] = values
    return Outputs(path, tuple(queries), tuple(numbers), scores=scores)


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, fields), the header first; blank lines are left out."""
    header = 0
    for line, row in csv_lines(path):
        header = header or len(row)
        if row and len(row) != header:
            raise UserError(f"{path}:{line}: {len(row)} columns, expected {header} as in the header")
        if row:
            yield line, row
    if not header:
        raise UserError(f"{path}: empty, expected a header line")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(fields: Sequence[str], names: Sequence[str], at: str) -> NDArray[np.float64]:
    try:
        values = np.array(fields, np.float64)
        wrong = int(np.argmin(np.isfinite(values)))
        good = bool(np.isfinite(values).all())
    except ValueError:
        good, wrong = False, next(i for i, text in enumerate(fields) if not _is_number(text))
    if not good:
        raise UserError(f"{at}: the score of {names[wrong]} is {brief(fields[wrong])}, expected a finite number")
    return values


def _positions(names: Sequence[str], gallery: Gallery, at: str) -> list[int]:
    found: list[int] = []
    for name in names:
        position = gallery.position(name)
        if position is None:
            raise UserError(f"{at}: unknown file {brief(name)}{did_you_mean(name, gallery.names)}")
        found.append(position)
    if len(set(found)) < len(found):
        twice = next(number for place, number in enumerate(found) if number in found[:place])
        raise UserError(f"{at}: {brief(gallery.names[twice])} is there twice, expected every file once")
    return found


def write_best(
    path: str | Path,
    queries: Sequence[str],
    names: Sequence[str],
    scores: NDArray[np.floating],
    header: str = "file_name_{}",
) -> None:
    """The form of 2022 to 2024 out of scores (queries, clips); equal scores in the order of `names`."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :BEST]
    columns = ("caption", *(header.format(number) for number in range(1, BEST + 1)))
    write_rows(path, columns, ([query, *(names[i] for i in row)] for query, row in zip(queries, order, strict=True)))


def write_scores(
    path: str | Path, queries: Sequence[str], names: Collection[str], scores: NDArray[np.floating]
) -> None:
    """The form of 2025: the scores (queries, clips) themselves, shortest digits that give the same number again."""
    rows = ([query, *map(repr, row)] for query, row in zip(queries, scores.tolist(), strict=True))
    write_rows(path, ("index", *names), rows)
