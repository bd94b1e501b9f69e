"""Similarities of a run's test sets by its trained networks, and by the systems that they are compared with."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.run.checkpoints import checkpoint_of
from common.run.processes import working_device
from common.run.progress import progress
from common.run.results.store import record
from common.run.verbs import Run
from qbv.config import SAMPLE_RATE, TRAINED, Config, DataConfig, parts_of
from qbv.data.batches import sound_loader
from qbv.data.sets import Pairs, Sounds, pairs_of_test
from qbv.inference.checkpoints import load_part
from qbv.inference.scores import (
    EMBEDDINGS,
    TRUTH,
    Similarities,
    file_of,
    write_embeddings,
    write_similarities,
    write_truth,
)
from qbv.model.systems import System, build_system

LONGEST_VECTOR = 4096  # numbers; vectors of fingerprints, 50 times as long, are not kept


@dataclass(frozen=True)
class Compared:
    """What a system says of a test set: similarities, NaN across trials, and its vectors where they are short."""

    matrix: np.ndarray
    imitations: np.ndarray | None
    recordings: np.ndarray | None


def predict_run(run: Run) -> dict[str, Any]:
    """Store the similarities of every part of a run by every system of the recipe, a file each. Returns counts."""
    done = {}
    for name, part in parts_of(run).items():
        pairs = pairs_of_test(part.config.data)
        write_truth(
            part.folder / TRUTH, pairs.imitations.names, pairs.targets.tolist(), pairs.recordings.names, pairs.concepts
        )
        for system in part.config.comparison.systems:
            _predict(part, system, pairs)
        done[name] = {"queries": len(pairs), "items": len(pairs.recordings)}
        record(part.folder, "predict", done[name])
        print(f"{part.folder / 'predictions'}: {len(pairs)} queries, {len(pairs.recordings)} recordings")
    return done


def _predict(part: Run, name: str, pairs: Pairs) -> None:
    config: Config = part.config
    trained = load_part(part) if name == TRAINED else None
    system = build_system(name, config, part.seed, trained, working_device())
    found = compare(system, pairs, config.data, name)
    queries, items = pairs.imitations.names, pairs.recordings.names
    write_similarities(part.folder / file_of(name), Similarities(queries, items, found.matrix))
    if trained is not None and found.imitations is not None:
        model = checkpoint_of(part.folder)[1]
        write_embeddings(part.folder / EMBEDDINGS, queries, items, found.imitations, found.recordings, model)


@torch.inference_mode()
def compare(system: System, pairs: Pairs, data: DataConfig, title: str = "embed") -> Compared:
    """Every query against the recordings of its trial; vectors of one trial are in memory at once."""
    matrix = np.full((len(pairs), len(pairs.recordings)), np.nan, np.float32)
    trial_of_query, trials = pairs.trials[pairs.targets], np.unique(pairs.trials[pairs.targets])
    if len(trials) > 1:
        data = replace(data, workers=0)  # starting a process for each trial takes longer than reading it
    kept: dict[str, dict[int, np.ndarray]] = {"imitations": {}, "recordings": {}}
    with progress(title, len(pairs)) as advance:
        for trial in trials:
            rows, columns = np.flatnonzero(trial_of_query == trial), np.flatnonzero(pairs.trials == trial)
            items = torch.cat(
                [vectors for _, vectors in _vectors(system.recordings, pairs.recordings.take(columns), system, data)]
            )
            _keep(kept["recordings"], columns, items)
            for places, vectors in _vectors(system.imitations, pairs.imitations.take(rows), system, data):
                matrix[np.ix_(rows[places], columns)] = system.similarities(vectors, items).numpy()
                _keep(kept["imitations"], rows[places], vectors)
                advance(len(places))
    imitations, recordings = kept["imitations"], kept["recordings"]
    return Compared(matrix, _stacked(imitations, len(pairs)), _stacked(recordings, len(pairs.recordings)))


def _vectors(embed: Any, sounds: Sounds, system: System, data: DataConfig) -> Any:
    for clips in sound_loader(sounds, data, samples=round(system.seconds * SAMPLE_RATE)):
        yield clips.row.numpy(), embed(clips.audio)


def _keep(kept: dict[int, np.ndarray], rows: np.ndarray, vectors: Tensor) -> None:
    if vectors.shape[1] <= LONGEST_VECTOR:
        kept.update(zip(rows.tolist(), vectors.cpu().numpy(), strict=True))


def _stacked(kept: Mapping[int, np.ndarray], count: int) -> np.ndarray | None:
    """(count, dim), zeros where nothing was compared; None where nothing was kept."""
    if not kept:
        return None
    found = np.zeros((count, len(next(iter(kept.values())))), np.float32)
    for row, vector in kept.items():
        found[row] = vector
    return found
