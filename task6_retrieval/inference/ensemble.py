"""Ensembles: the weighted mean of systems' cosines, stored as a run that has predicted."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from common.audio.coverage import made_of, root_of
from common.run.errors import UserError
from common.run.files import alone
from common.run.results.ensembles import members, record_ensemble, trainings_of
from common.run.results.store import recorded
from common.run.verbs import Run
from task6_retrieval.config import CHALLENGE
from task6_retrieval.data.layout import challenge_of
from task6_retrieval.inference.outputs import Scores, scores_of, write_stored


def join(run: Run, names: Sequence[str], weights: Sequence[float] | None = None) -> Run:
    """Make `run.folder` the ensemble of the runs of its number of some recipes or folders: as a run that predicted.

    scores/<set>.npz: mean cosines of the validation, test and challenge set; config.yaml: the settings of `run`, by
    which it is evaluated; results.json: members, weights, energy of their trainings. Raises UserError.
    """
    joined, data = members(run, names), run.config.data
    sets = dict.fromkeys([data.validation, data.test, *([CHALLENGE] if challenge_of(data) else [])])
    found = {name: ensemble([scores_of(member, name) for member in joined], weights) for name in sets}
    run = replace(run, recipe=run.folder.parent.name)
    trained = [recorded(of.folder, "train") or {} for member in joined for of in trainings_of(member)]
    about = {"data": made_of(root_of(data)), "kwh": sum(of.get("kwh") or 0.0 for of in trained)}
    about["energy_measured"] = all(of.get("energy_measured") for of in trained)
    with alone(run.folder, "ensemble", run.folder):
        for name, scores in found.items():
            write_stored(run, name, scores)
        record_ensemble(run, joined, {"weights": list(weights) if weights else None, **about})
    return run


def ensemble(parts: Sequence[Scores], weights: Sequence[float] | None = None) -> Scores:
    """The mean of several systems' matrices, matched by queries and clips in the order of the first.

    weights: of each part (default: equal), at least 0 and not all 0; their sum does not matter. Raises UserError for
    other weights, and for parts of other queries or clips.
    """
    if not parts:
        raise UserError("ensemble: no system, expected at least one")
    shares = np.ones(len(parts)) if weights is None else np.asarray(weights, np.float64)
    if len(shares) != len(parts) or not np.isfinite(shares).all() or (shares < 0).any() or not shares.any():
        given = " ".join(f"{share:g}" for share in shares)
        raise UserError(f"--weights: {given}, expected one for each of {len(parts)} systems, 0 or more, not all 0")
    first = parts[0]
    total = np.zeros(first.matrix.shape)
    for part, share in zip(parts, shares / shares.sum(), strict=True):
        rows = _places(first.queries, part.queries, "queries")
        columns = _places(first.clips, part.clips, "clips")
        total += share * part.matrix[np.ix_(rows, columns)]
    return Scores(first.queries, first.clips, total.astype(np.float32))


def _places(wanted: Sequence[str], there: Sequence[str], what: str) -> list[int]:
    place = {name: number for number, name in enumerate(there)}
    if foreign := sorted(set(wanted) ^ place.keys()):
        raise UserError(f"ensemble: systems of different {what}, {foreign[0]!r} stands in only one of them")
    return [place[name] for name in wanted]
