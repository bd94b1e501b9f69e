"""Ensembles: the weighted mean of systems' cosines."""

from collections.abc import Sequence

import numpy as np

from common.run.errors import UserError
from task6_retrieval.inference.outputs import Scores


def ensemble(parts: Sequence[Scores], weights: Sequence[float] | None = None) -> Scores:
    """The mean of several systems' matrices, matched by queries and clips in the order of the first.

    weights: of each part (default: equal), at least 0 and not all 0; their sum does not matter. Raises UserError for
    other weights, and for parts of other queries or clips.
    """
    if not parts:
        raise UserError("ensemble: no system, expected at least one")
    shares = np.ones(len(parts)) if weights is None else np.asarray(weights, np.float64)
    if len(shares) != len(parts) or not np.isfinite(shares).all() or (shares < 0).any() or not shares.any():
        raise UserError(
            f"ensemble: weights {list(shares)}, expected one for each of {len(parts)}, 0 or more, not all 0"
        )
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
