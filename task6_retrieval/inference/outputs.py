"""What `predict` stored of a run, or joining runs to an ensemble: arrays on disk that give scores, no network."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.run.errors import UserError
from common.run.files import existing_file, read_arrays, write_arrays
from common.run.numbers import unit_rows
from common.run.results.ensembles import members_of
from common.run.verbs import Run
from task6_retrieval.data.teachers import embeddings_file, read_embeddings


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


def scores_file(run: Run, name: str) -> Path:
    """Where an ensemble has its scores of a data set."""
    return run.folder / "scores" / f"{name}.npz"


def write_stored(run: Run, name: str, of: Scores) -> None:
    """Store the scores of an ensemble, whole or not at all."""
    write_arrays(scores_file(run, name), queries=of.queries, clips=of.clips, matrix=of.matrix)


def scores_of(run: Run, name: str) -> Scores:
    """Cosines of all texts and clips that a run has stored of a data set. Raises UserError where it has not."""
    if members_of(run.folder):
        return _read(existing_file(scores_file(run, name), "scores of an ensemble (`evaluate --ensemble` makes them)"))
    of = read_embeddings(embeddings_file(run.folder, name))
    clips = tuple(clip.removeprefix(f"{name}/") for clip in of.clips)
    return Scores(of.texts, clips, unit_rows(of.sentence) @ unit_rows(of.audio).T)


def _read(path: Path) -> Scores:
    queries, clips, matrix = read_arrays(path, "scores of an ensemble", "queries", "clips", "matrix")
    if matrix.shape != (len(queries), len(clips)) or not np.isfinite(matrix).all():
        raise UserError(f"{path}: scores are no finite numbers of shape ({len(queries)}, {len(clips)})")
    return Scores(tuple(queries.tolist()), tuple(clips.tolist()), matrix)
