"""From scores to decisions: thresholds out of the scores of normal clips that training has not seen."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from common.run.errors import UserError

MAX_SKEW = 2.0  # that of an exponential distribution; single outliers would make it larger


def threshold(
    normal_scores: Sequence[float], quantile: float = 0.9, method: Literal["gamma", "empirical"] = "gamma"
) -> float:
    """The score that the share `quantile` of normal clips stays below.

    gamma: of a gamma distribution fitted to the scores, as in the baselines of 2020 to 2025. Scores may be negative
    (logits), so its start is fitted too: by the first three moments (Pearson's type III, mirrored for a negative skew).
    Raises UserError for fewer than two scores, and for a quantile of 0 or 1.
    """
    if not 0 < quantile < 1:
        raise UserError(f"decision quantile {quantile}, expected between 0 and 1 (both excluded)")
    scores = np.asarray(normal_scores, dtype=np.float64)
    if len(scores) < 2:
        raise UserError(f"{len(scores)} held-out normal clips, at least 2 are needed for a decision threshold")
    spread = float(scores.std())
    if method == "empirical" or spread <= 1e-9 * float(np.abs(scores).max()):  # (nearly) all scores equal
        return float(np.quantile(scores, quantile))
    from scipy import stats

    skew = np.clip(stats.skew((scores - scores.mean()) / spread), -MAX_SKEW, MAX_SKEW)
    return float(stats.pearson3.ppf(quantile, skew, loc=scores.mean(), scale=spread))


def decide(scores: Mapping[str, float], limit: float) -> dict[str, int]:
    """{file name: 1 where the score exceeds the threshold}."""
    return {name: int(score > limit) for name, score in scores.items()}
