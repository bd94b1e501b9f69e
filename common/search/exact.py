"""Cosines of a few queries and all vectors of a file, which need not fit into memory."""

import numpy as np
from numpy.typing import NDArray

VALUES = 4096 * 384  # in float32 at once: they stay in the cache of a core


def similarities(queries: NDArray[np.float32], vectors: NDArray[np.float16]) -> NDArray[np.float32]:
    """Queries (q, dim) and vectors (n, dim), both of unit length -> (q, n). torch widens float16 ten times as fast
    as NumPy."""
    import torch

    found = torch.empty((len(queries), len(vectors)))
    asked = torch.from_numpy(np.ascontiguousarray(queries))
    rows = max(1, VALUES // vectors.shape[1])
    for start in range(0, len(vectors), rows):
        part = torch.from_numpy(np.array(vectors[start : start + rows]))  # a copy: torch wants what is writable
        found[:, start : start + rows] = asked @ part.float().T
    return found.numpy()
