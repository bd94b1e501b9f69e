"""The challenge's output.csv: a scene and ten probabilities for every clip.

    write_outputs(path, names, probabilities (clips, 10)) -> None
    read_outputs(path) -> Outputs(names, labels, probabilities | None)

Tab-separated with a header: filename (without folder), scene_label, then a column per scene in the order of
SCENES. Source: DCASE 2024 Task 1, submission.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.run.errors import UserError, did_you_mean
from common.run.files import Row, alone, read_rows, write_then_rename
from task1_asc.data.classes import SCENES
from task1_asc.metrics import top_scene

COLUMNS = ("filename", "scene_label", *SCENES)
# Rows that are softmaxes in half precision sum to 1 within 1e-3.
SUM_TOLERANCE = 1e-2
# As many digits as tell any two float32 apart: the label stays the likeliest scene.
LINE = "%s\t%s" + "\t%.9g" * len(SCENES) + "\n"


@dataclass(frozen=True)
class Outputs:
    """Predictions of one system: names without folder, labels (clips,) int64 indices into SCENES, probabilities
    (clips, 10) float64 or None where the file has only labels."""

    names: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray | None


def clip_file(name: str) -> str:
    """A clip's file name as output files have it: `audio/0.wav` -> `0.wav`."""
    return name.rpartition("/")[2]


def predictions_file(run: Path, split: int, part: str) -> Path:
    """Where a run's folder has the predictions of a split's system on a part: test, evaluation."""
    return run / f"split{split}" / "predictions" / f"{part}.csv"


def write_outputs(path: str | Path, names: Sequence[str], probabilities: np.ndarray) -> None:
    """Write an output file, whole or not at all; the label of a clip is its likeliest scene.

    names: (clips,), folders are stripped; probabilities: (clips, 10). ValueError for other shapes, UserError for
    probabilities that are not finite.
    """
    rounded = np.asarray(probabilities, dtype=np.float32)
    if rounded.shape != (len(names), len(SCENES)):
        raise ValueError(f"probabilities of shape {rounded.shape}, expected ({len(names)}, {len(SCENES)})")
    bad = ~np.isfinite(rounded).all(axis=1)
    if bad.any():
        raise UserError(
            f"{path}: the probabilities of {names[int(bad.argmax())]} are not finite; did training diverge?"
        )
    labels = [SCENES[index] for index in top_scene(rounded)]
    with write_then_rename(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        file.write("\t".join(COLUMNS) + "\n")
        for name, label, row in zip(names, labels, rounded.tolist(), strict=True):
            file.write(LINE % (clip_file(name), label, *row))


def add_outputs(path: Path, names: Sequence[str], probabilities: np.ndarray) -> None:
    """Add rows to an output file of ours, or replace those of the same clips; without one, write it.

    Raises UserError for a name that is there twice, and where `path` is another table, which stays as it is.
    """
    added = {clip_file(name): row for name, row in zip(names, probabilities, strict=True)}
    if len(added) < len(names):
        raise UserError(f"{path}: two of the files have the same name; an output file tells clips by their names only")
    path.parent.mkdir(parents=True, exist_ok=True)
    with alone(path.parent, path.name, path):
        rows = own_outputs(path) | added
        write_outputs(path, list(rows), np.array(list(rows.values())))


def own_outputs(path: Path) -> dict[str, np.ndarray]:
    """{clip: probabilities} of the output file `path` that we wrote; empty where there is none.

    Raises UserError where `path` is anything else.
    """
    if not path.exists():
        return {}
    there = read_outputs(path)
    columns = list(read_rows(path, COLUMNS[:2], delimiter="\t")[0])
    if (
        there.probabilities is None
        or columns != list(COLUMNS)
        or (top_scene(there.probabilities) != there.labels).any()
    ):
        raise UserError(f"{path}: is there and not of an earlier `predict`; name another file with --out")
    return dict(zip(there.names, there.probabilities, strict=True))


def read_outputs(path: str | Path) -> Outputs:
    """Read anybody's output file. The probability columns may be absent as a whole; further columns are ignored.

    Raises UserError (`file:line: ...`) for a missing column, an unknown scene, a file named twice, a probability that
    is no number in [0, 1], a row that does not sum to 1 within 0.01, or no row at all.
    """
    rows = read_rows(path, COLUMNS[:2], delimiter="\t")
    if not rows:
        raise UserError(f"{path}: no rows below the header, expected one per clip")
    has_probabilities = any(scene in rows[0] for scene in SCENES)
    if has_probabilities and (missing := [scene for scene in SCENES if scene not in rows[0]]):
        raise UserError(f"{path}:1: no column {missing[0]!r}, expected all ten scenes or none of them")
    seen: dict[str, str] = {}
    labels = np.empty(len(rows), dtype=np.int64)
    for index, row in enumerate(rows):
        labels[index] = scene_index(row)
        name = clip_file(row["filename"])
        if name in seen:
            raise UserError(f"{row.at}: {name} already stands at {seen[name]}")
        seen[name] = row.at
    return Outputs(tuple(seen), labels, _probabilities(rows) if has_probabilities else None)


def scene_index(row: Row) -> int:
    """The index of a row's scene_label; UserError for an unknown one."""
    scene = row["scene_label"]
    if scene not in SCENES:
        raise UserError(f"{row.at}: unknown scene {scene!r}{did_you_mean(scene, SCENES)}")
    return SCENES.index(scene)


def _probabilities(rows: Sequence[Row]) -> np.ndarray:
    """(clips, 10) float64."""
    table = np.array([[row.number(scene) for scene in SCENES] for row in rows])
    outside = (table < 0) | (table > 1)
    if outside.any():
        at, scene = np.argwhere(outside)[0]
        raise UserError(f"{rows[at].at}: {SCENES[scene]} is {table[at, scene]:g}, expected a probability, 0 to 1")
    sums = table.sum(axis=1)
    wrong = np.abs(sums - 1) > SUM_TOLERANCE
    if wrong.any():
        at = int(wrong.argmax())
        raise UserError(f"{rows[at].at}: the probabilities sum to {sums[at]:.4g}, expected 1")
    return table
