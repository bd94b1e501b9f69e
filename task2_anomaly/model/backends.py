"""How far an embedding is from normal: nearest neighbours, Gaussian mixture, Mahalanobis distance.

A back end is fitted on the normal training clips of one machine. Where these come from two domains (first-shot
editions), a clip is scored by the nearer of the two.
"""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from common.run.errors import UserError
from common.run.files import write_arrays
from task2_anomaly.config import EmbeddingConfig

Vectors = npt.NDArray[np.float64]
Distance = Callable[[Vectors], Vectors]
SMOTE_NEIGHBOURS = 2
NORMAL_CLIPS = "normal.npz"  # in a machine's folder of a run


class Normal(NamedTuple):
    """Embeddings of one machine's normal training clips: those that a back end learns from, and those held out."""

    vectors: Vectors  # (clips, dim)
    target: npt.NDArray[np.bool_]  # (clips,), of the target domain
    held_out: Vectors  # (clips, dim)
    names: list[str]  # of the held-out clips


def write_normal(path: Path, normal: Normal) -> None:
    """Store them as .npz: numbers and names, no code."""
    write_arrays(path, **normal._asdict())


def read_normal(path: Path) -> Normal:
    """What `write_normal` has stored. Raises UserError for a damaged file."""
    try:
        with np.load(path) as stored:
            vectors, target, held_out, names = (stored[name] for name in Normal._fields)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: no embeddings of normal clips ({error}); `train` makes them") from None
    return Normal(vectors, target, held_out, names.tolist())


def nearest(of: EmbeddingConfig, normal: Vectors, seed: int) -> Distance:
    """Mean cosine distance to the nearest neighbours: (clips, dim) -> (clips,), as of all back ends."""
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=min(of.neighbours, len(normal)), metric="cosine").fit(normal)
    return lambda vectors: index.kneighbors(vectors)[0].mean(axis=1)


def mixture(of: EmbeddingConfig, normal: Vectors, seed: int) -> Distance:
    """Minus the log-likelihood under a mixture of Gaussians with diagonal covariances, per dimension."""
    from sklearn.mixture import GaussianMixture

    components = min(of.components, len(normal))
    model = GaussianMixture(components, covariance_type="diag", reg_covar=1e-4, random_state=seed).fit(normal)
    return lambda vectors: -model.score_samples(vectors) / vectors.shape[1]


def mahalanobis(of: EmbeddingConfig, normal: Vectors, seed: int) -> Distance:
    """Squared distance under a shrunken covariance (Ledoit & Wolf 2004), per dimension."""
    from sklearn.covariance import LedoitWolf

    model = LedoitWolf().fit(normal)
    return lambda vectors: model.mahalanobis(vectors) / vectors.shape[1]


BACKENDS: dict[str, Callable[[EmbeddingConfig, Vectors, int], Distance]] = {
    "knn": nearest,
    "gmm": mixture,
    "mahalanobis": mahalanobis,
}


def smote(vectors: Vectors, count: int, seed: int) -> Vectors:
    """(count, dim): the given vectors, and random points between them and their neighbours (Chawla et al. 2002).

    `vectors` as they are, where there are `count` of them already, or fewer than two.
    """
    if count <= len(vectors) or len(vectors) < 2:
        return vectors
    from sklearn.neighbors import NearestNeighbors

    random = np.random.default_rng(seed)
    near = NearestNeighbors(n_neighbors=min(SMOTE_NEIGHBOURS + 1, len(vectors))).fit(vectors).kneighbors(vectors)[1]
    chosen = random.integers(0, len(vectors), count - len(vectors))
    partner = near[chosen, random.integers(1, near.shape[1], len(chosen))]
    share = random.random((len(chosen), 1))
    return np.concatenate((vectors, vectors[chosen] + share * (vectors[partner] - vectors[chosen])))


def fit(of: EmbeddingConfig, normal: Vectors, target: npt.NDArray[np.bool_], seed: int) -> Distance:
    """A machine's back end from embeddings (clips, dim) of its normal training clips; `target`: their domain.

    Raises UserError where there are too few.
    """
    if len(normal) < 2:
        raise UserError(
            f"{len(normal)} normal training clips, at least 2 are needed for embedding.backend={of.backend}"
        )
    build: Any = BACKENDS[of.backend]
    if not target.any() or target.all():
        return build(of, normal, seed)
    source = normal[~target]
    few = normal[target]
    if of.smote:
        few = smote(few, round(of.smote * len(source)), seed)
    parts = [build(of, source, seed)] + ([build(of, few, seed)] if len(few) > 1 else [])
    return lambda vectors: np.min([distance(vectors) for distance in parts], axis=0)
