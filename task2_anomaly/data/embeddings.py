"""Embeddings of packed clips, computed once for an encoder and kept in the run's folder."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from common.audio import arrays
from common.audio.packs import open_pack
from common.run.verbs import Run
from task2_anomaly.data.classes import Machine
from task2_anomaly.data.layout import Part
from task2_anomaly.data.sets import pack_of


class Embeds(Protocol):
    """What is needed of an encoder: `key` differs where its vectors differ."""

    key: str

    def vectors(self, waveform: np.ndarray) -> np.ndarray:
        """Waveforms (batch, samples) at 16 kHz -> (batch, dim)."""


def embeddings_of(run: Run, embedder: Embeds, part: Part, machine: Machine) -> NDArray[np.float64]:
    """(clips, dim) of a machine's pack, computed when they are not there or the pack has changed."""
    stored = arrays.store(
        open_pack(pack_of(run.config.data, part, machine)),
        run.folder / "embeddings" / embedder.key,
        lambda waveform: embedder.vectors(waveform)[:, None],
        run.config.data.eval_batch,
        dtype="<f8",
    )
    return stored.rows[stored.starts]
