"""What `predict` stored of a run, and the scores that it gives: arrays on disk, no network."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from common.run.verbs import Run
from task6_retrieval.data.teachers import Embeddings, embeddings_file, read_embeddings


@dataclass(frozen=True)
class Scores:
    """Similarity of every query to every clip; clips by name, queries each once.

    matrix: (queries, clips) float32, cosines.
    """

    queries: tuple[str, ...]
    clips: tuple[str, ...]
    matrix: NDArray[np.float32]

    def of(self, queries: Sequence[str]) -> "Scores":
        """The rows of these queries, in their order, as often as they stand there."""
        row = {query: number for number, query in enumerate(self.queries)}
        return replace(self, queries=tuple(queries), matrix=self.matrix[[row[query] for query in queries]])


def stored(run: Run, name: str) -> Embeddings:
    """A run's vectors of a data set. Raises UserError where `predict` has not written them."""
    return read_embeddings(embeddings_file(run.folder, name))


def scores_of(run: Run, name: str) -> Scores:
    """Cosines of all texts and clips that a run has stored of a data set."""
    of = stored(run, name)
    sentence, audio = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (of.sentence, of.audio))
    return Scores(of.texts, tuple(clip.removeprefix(f"{name}/") for clip in of.clips), sentence @ audio.T)
