"""Cosines of a few queries and all vectors of a file, which need not fit into memory."""

import numpy as np
from numpy.typing import NDArray

ROWS = 4096  # in float32 at once: they stay in the cache of a core


def similarities(queries: NDArray[np.float32], vectors: NDArray[np.float16]) -> NDArray[np.float32]:
    """Queries (q, dim) and vectors (n, dim), both of unit length -> (q, n). torch widens float16 ten times as fast
    as NumPy."""
    import torch

    found = torch.empty((len(queries), len(vectors)))
    asked = torch.from_numpy(np.ascontiguousarray(queries))
    for start in range(0, len(vectors), ROWS):
        part = torch.from_numpy(np.array(vectors[start : start + ROWS]))  # a copy: torch wants what is writable
        found[:, start : start + ROWS] = asked @ part.float().T
    return found.numpy()
