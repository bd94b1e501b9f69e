"""Ensembles of score files, clip by clip, aligned by file name."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from common.run.errors import UserError
from common.run.files import write_json
from task2_anomaly.data.classes import Machine
from task2_anomaly.data.layout import TEST_PARTS
from task2_anomaly.inference.scores import (
    NORMAL,
    decision_file,
    read_scores,
    score_file,
    scored_machines,
    write_decisions,
    write_scores,
)
from task2_anomaly.inference.thresholds import decide, threshold

ENSEMBLE = "ensemble.json"  # in the folder of an ensemble: its members and the method
Method = Literal["median", "mean", "rank", "zscore"]


def _rank_average(table: np.ndarray) -> np.ndarray:
    """Ranks within each member, 0 to 1: needs the other test clips, which the challenge's rules forbid."""
    from scipy.stats import rankdata

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

    median: systems 3 and 4 of Primus 2020. zscore: mean of scores standardised by `normals`, the scores of training
    clips under each member. `sources` name the members in messages. Raises UserError where members disagree about the
    files, or where `normals` are missing.
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


def combine_scores(folders: Sequence[Path], out: Path, method: Method, quantile: float = 0.9) -> Mapping[str, Any]:
    """An ensemble of score folders; or of runs, with decisions, which can be evaluated and packaged like a run."""
    parts = [part for part in TEST_PARTS if folders and (folders[0] / "scores" / part).is_dir()]
    for part in parts:
        members, scores = [folder / "scores" / part for folder in folders], out / "scores" / part
        machines = combine_folders(members, scores, method)
        for machine in machines if method != "rank" else ():  # ranks of normal clips and of test clips do not compare
            normal = _combined_normal([of / NORMAL / score_file(machine) for of in members], method)
            write_scores(scores / NORMAL / score_file(machine), normal)
            limit = threshold(list(normal.values()), quantile)
            write_decisions(scores / decision_file(machine), decide(read_scores(scores / score_file(machine)), limit))
    if not parts:
        machines = combine_folders(folders, out, method)
    about = {"members": [str(folder) for folder in folders], "method": method}
    write_json(out / ENSEMBLE, about)
    print(f"{out}: {len(machines)} machines, {method} of {len(folders)}")
    return {"out": str(out), "machines": [str(m) for m in machines], **about}


def _combined_normal(paths: Sequence[Path], method: Method) -> dict[str, float]:
    """Scores of the normal training clips that all members have held out."""
    members = [read_scores(path) for path in paths]
    common = set.intersection(*(set(member) for member in members))
    if not common:
        raise UserError(f"ensemble: {paths[0]} and the other members have no held-out clip in common")
    kept = [{name: score for name, score in member.items() if name in common} for member in members]
    return combine(kept, method, [list(member.values()) for member in members])
