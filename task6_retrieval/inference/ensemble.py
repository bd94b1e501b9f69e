"""Ensembles: the weighted mean of systems' cosines, stored as a run that has predicted."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from common.audio.coverage import made_of, root_of
from common.run.errors import UserError
from common.run.files import alone
from common.run.results.ensembles import members, record_ensemble, trainings_of
from common.run.results.store import recorded
from common.run.verbs import Run
from task6_retrieval.config import CHALLENGE
from task6_retrieval.data.layout import challenge_of, needed
from task6_retrieval.inference.outputs import Scores, scores_of, write_stored
from task6_retrieval.metrics import average_precision, ranks_of_scores

SELECTED = 20  # rounds of ensemble selection


def join(run: Run, names: Sequence[str], weights: Sequence[float] | None = None) -> Run:
    """Make `run.folder` the ensemble of the runs of its number of some recipes or folders: as a run that predicted.

    weights: None: equal; empty: those that `select` finds on the validation set. scores/<set>.npz: mean cosines of the
    validation, test and challenge set; config.yaml: the settings of `run`, by which it is evaluated; results.json:
    members, weights, energy of their trainings. Raises UserError.
    """
    joined, data = members(run, names), run.config.data
    sets = dict.fromkeys([data.validation, data.test, *([CHALLENGE] if challenge_of(data) else [])])
    parts = {name: [scores_of(member, name) for member in joined] for name in sets}
    if weights is not None and not weights:
        clips = needed(data, data.validation).clips
        weights = select(parts[data.validation], {text: clip.name for clip in clips for text in clip.captions})
        print(f"weights that {data.validation} chose: {', '.join(map('{} {:g}'.format, names, weights))}")
    found = {name: ensemble(of, weights) for name, of in parts.items()}
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
    total = sum(share * _matched(part, first) for part, share in zip(parts, shares / shares.sum(), strict=True))
    return Scores(first.queries, first.clips, np.asarray(total, np.float32))


def select(parts: Sequence[Scores], clip_of: Mapping[str, str]) -> list[float]:
    """Weights of systems by ensemble selection: again and again the one joins whose joining gives the best mAP@10.

    clip_of: the clip that is right for each query. The weights of the best of SELECTED rounds; how often each was
    taken. Source: Caruana, Niculescu-Mizil, Crew & Ksikes 2004, section 2.1.
    """
    first = parts[0]
    place = {clip: number for number, clip in enumerate(first.clips)}
    rows = [row for row, query in enumerate(first.queries) if clip_of.get(query) in place]
    right = [place[clip_of[first.queries[row]]] for row in rows]
    matrices = [_matched(part, first)[rows].astype(np.float64) for part in parts]
    total, taken, best = np.zeros_like(matrices[0]), [0.0] * len(parts), (-1.0, [1.0] * len(parts))
    for _ in range(SELECTED):
        figures = [float(average_precision(ranks_of_scores(total + of, right), 10).mean()) for of in matrices]
        chosen = int(np.argmax(figures))
        total += matrices[chosen]
        taken[chosen] += 1
        best = max(best, (figures[chosen], list(taken)), key=lambda of: of[0])
    return best[1]


def _matched(part: Scores, to: Scores) -> NDArray[np.float32]:
    """Its matrix with the queries and clips of another one, in the order of that."""
    return part.matrix[np.ix_(_places(to.queries, part.queries, "queries"), _places(to.clips, part.clips, "clips"))]


def _places(wanted: Sequence[str], there: Sequence[str], what: str) -> list[int]:
    place = {name: number for number, name in enumerate(there)}
    if foreign := sorted(set(wanted) ^ place.keys()):
        raise UserError(f"ensemble: systems of different {what}, {foreign[0]!r} stands in only one of them")
    return [place[name] for name in wanted]
