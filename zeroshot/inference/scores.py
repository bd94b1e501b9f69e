"""Stored scores, own or anybody's: a .csv with a line for every clip and class: clip, class, score.

write_scores(path, Scores) -> None
read_scores(path) -> Scores(clips, classes, values (clips, classes))
read_split(folder) -> {"train", "val", "test": classes, "texts", "semantic", "edges": distances}
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.run.errors import UserError
from common.run.files import existing_file, read_json, write_rows
from zeroshot.config import CLASSES

COLUMNS = ("clip", "class", "score")
# In the folder of a split.
TEST, GENERALISED, TRUTH = "predictions/test.csv", "predictions/generalised.csv", "predictions/truth.csv"
GENERALISED_TRUTH = "predictions/generalised_truth.csv"
CONTROLS = ("random", "shuffled", "oracle")


def control_file(control: str) -> str:
    """Where a split's folder has the scores of a control."""
    return f"predictions/control_{control}.csv"


def read_split(folder: Path) -> dict[str, Any]:
    """What training stored of a split's classes. Raises UserError for a missing file or other content."""
    path = existing_file(folder / CLASSES, "classes of the split (`train` writes them)")
    found = read_json(path)
    if not isinstance(found, dict) or not {"train", "val", "test", "texts", "semantic", "edges"} <= found.keys():
        raise UserError(f"{path}: not the classes of a split")
    return found


@dataclass(frozen=True)
class Scores:
    """What a system gave every clip for every class: (clips, classes), larger is more likely."""

    clips: tuple[str, ...]
    classes: tuple[str, ...]
    values: NDArray[np.floating]

    def of(self, clips: tuple[str, ...], classes: tuple[str, ...], source: str) -> NDArray[np.floating]:
        """(clips, classes) of these, in their order. Raises UserError for one that has no score."""
        found = []
        for what, wanted, there in (("clip", clips, self.clips), ("class", classes, self.classes)):
            place = {name: index for index, name in enumerate(there)}
            if missing := [name for name in wanted if name not in place]:
                raise UserError(
                    f"{source}: no score of {what} {missing[0]} ({len(missing)} of {len(wanted)} have none)"
                )
            found.append([place[name] for name in wanted])
        return self.values[np.ix_(*found)]


def write_scores(path: Path, scores: Scores) -> None:
    """Write the file, whole or not at all. Raises UserError for scores that are not finite."""
    bad = ~np.isfinite(scores.values).all(axis=1)
    if bad.any():
        raise UserError(
            f"{path}: the scores of {scores.clips[int(bad.argmax())]} are not finite; did training diverge?"
        )
    pairs = zip(scores.clips, scores.values.tolist(), strict=True)
    lines = ((clip, name, f"{v:.7g}") for clip, row in pairs for name, v in zip(scores.classes, row, strict=True))
    write_rows(path, COLUMNS, lines)


def read_scores(path: Path) -> Scores:
    """Read a file; lines may stand in any order. Raises UserError for a missing column, a score that is no finite
    number, the same pair twice, and pairs that are missing."""
    import pandas as pd

    pairs = read_pairs(path, ("clip", "class"), ("score",))
    values = pd.to_numeric(pairs.table["score"], errors="coerce").to_numpy(np.float64)
    if not (finite := np.isfinite(values)).all():
        row = int(finite.argmin())
        raise UserError(f"{path}:{row + 2}: score is {pairs.table['score'][row]!r}, expected a finite number")
    found = np.full((len(pairs.clips), len(pairs.classes)), np.nan)
    found[pairs.rows, pairs.columns] = values
    if np.isnan(found).any():
        row, column = np.argwhere(np.isnan(found))[0]
        raise UserError(f"{path}: no score of class {pairs.classes[column]} for clip {pairs.clips[row]}")
    return Scores(pairs.clips, pairs.classes, found)


class Pairs(NamedTuple):
    """A table with a line for each pair of clip and class: the table, names, and the pair of each line by number."""

    table: Any
    clips: tuple[str, ...]
    classes: tuple[str, ...]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]


def read_pairs(path: Path, names: tuple[str, str], more: Sequence[str] = ()) -> Pairs:
    """A .csv whose columns `names` have clips and classes, as text. Raises UserError for a missing column, no rows, and
    the same pair twice."""
    import pandas as pd

    path = existing_file(path, "table")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a table ({' '.join(str(error).split())})") from None
    if missing := [name for name in (*names, *more) if name not in table]:
        raise UserError(f"{path}:1: no column {missing[0]!r}, expected {','.join((*names, *more))}")
    if table.empty:
        raise UserError(f"{path}: no rows below the header, expected one per clip and class")
    (rows, clips), (columns, classes) = (pd.factorize(table[name]) for name in names)
    if (twice := table.duplicated(list(names))).any():
        row = int(twice.to_numpy().argmax())
        pair = [table[name][row] for name in names]
        raise UserError(f"{path}:{row + 2}: {pair[1]} of {pair[0]} stands there a second time")
    return Pairs(table, tuple(clips), tuple(classes), rows, columns)
