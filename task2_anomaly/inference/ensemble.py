"""Ensembles of score files, clip by clip, aligned by file name."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.stats import rankdata

from common.run.errors import UserError
from task2_anomaly.data.classes import Machine
from task2_anomaly.inference.scores import read_scores, score_file, scored_machines, write_scores

# Sub-folder of a run's scores with those of held-out normal training clips.
NORMAL = "normal"
Method = Literal["median", "mean", "rank", "zscore"]


def _rank_average(table: np.ndarray) -> np.ndarray:
    """Ranks within each member, 0 to 1: needs the other test clips, which the challenge's rules forbid."""
    return (rankdata(table, axis=1) / table.shape[1]).mean(axis=0)


COMBINE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "median": lambda table: np.median(table, axis=0),
    "mean": lambda table: table.mean(axis=0),
    "zscore": lambda table: table.mean(axis=0),
    "rank": _rank_average,
}


def combine(
    members: Sequence[Mapping[str, float]],
    method: Method = "median",
    normals: Sequence[Sequence[float]] | None = None,
    sources: Sequence[object] | None = None,
) -> dict[str, float]:
    """{file name: score} of several members with the same names.

    zscore: mean of scores standardised by `normals`, the scores of training clips under each member. `sources` name
    the members in messages. Raises UserError where members disagree about the files, or where `normals` are missing.
    """
    names = list(members[0])
    sources = sources or [f"member {number}" for number in range(1, len(members) + 1)]
    for member, source in zip(members[1:], sources[1:], strict=True):
        if foreign := sorted(member.keys() ^ members[0].keys()):
            raise UserError(f"ensemble: {foreign[0]} stands in only one of {source} and {sources[0]}")
    table = np.array([[member[name] for name in names] for member in members])
    if method == "zscore":
        if normals is None or len(normals) != len(members):
            raise UserError("ensemble: zscore needs the scores of normal training clips of every member")
        moments = [(np.mean(of), np.std(of) or 1.0) for of in normals]
        table = np.stack([(row - mean) / deviation for row, (mean, deviation) in zip(table, moments, strict=True)])
    return dict(zip(names, map(float, COMBINE[method](table)), strict=True))


def combine_folders(folders: Sequence[Path], out: Path, method: Method = "median") -> list[Machine]:
    """Score files of every machine of `folders` combined into `out`; folders must have the same machines."""
    if len(folders) < 2:
        raise UserError(f"ensemble: {len(folders)} folder, at least 2 are needed")
    machines = scored_machines(folders[0])
    for folder in folders[1:]:
        if scored_machines(folder) != machines:
            raise UserError(f"ensemble: {folder} and {folders[0]} have score files of different machines")
    for machine in machines:
        paths = [folder / score_file(machine) for folder in folders]
        members = [read_scores(path) for path in paths]
        normals = None
        if method == "zscore":  # predict stores the scores of held-out normal training clips beside the test scores
            normals = [list(read_scores(folder / NORMAL / score_file(machine)).values()) for folder in folders]
        write_scores(out / score_file(machine), combine(members, method, normals, paths))
    return machines
