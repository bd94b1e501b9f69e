"""Embeddings of packed clips, computed once for an encoder and kept in the run's folder."""

from typing import Protocol

import numpy as np

from common.audio.packs import Pack, open_pack
from common.run.files import write_then_rename
from common.run.verbs import Run
from task2_anomaly.data.classes import Machine
from task2_anomaly.data.layout import Part, pack_of


class Embeds(Protocol):
    """What is needed of an encoder: `key` differs where its vectors differ."""

    key: str

    def vectors(self, waveform: np.ndarray) -> np.ndarray:
        """Waveforms (batch, samples) at 16 kHz -> (batch, dim)."""


def embeddings_of(run: Run, embedder: Embeds, part: Part, machine: Machine) -> np.ndarray:
    """(clips, dim) of a machine's pack, computed when they are not there or the pack is newer."""
    pack = pack_of(run.config.data, part, machine)
    path = run.folder / "embeddings" / embedder.key / f"{part}_{machine}.npy"
    if not path.is_file() or path.stat().st_mtime_ns < (pack / "pack.json").stat().st_mtime_ns:
        found = _embed(open_pack(pack), embedder, run.config.data.eval_batch)
        with write_then_rename(path) as partial, partial.open("wb") as file:
            np.save(file, found)
    return np.asarray(np.load(path))


def _embed(pack: Pack, embedder: Embeds, batch: int) -> np.ndarray:
    """Clips of one length together."""
    lengths = np.asarray(pack.lengths)
    rows, found = [], []
    for length in np.unique(lengths):
        alike = np.flatnonzero(lengths == length)
        for chosen in np.split(alike, range(batch, len(alike), batch)):
            rows.append(chosen)
            found.append(embedder.vectors(pack.read_many(chosen, 0, int(length))))
    return np.concatenate(found)[np.argsort(np.concatenate(rows))]
