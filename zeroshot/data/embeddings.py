"""Embeddings of clips by a frozen encoder, computed once for a pack and kept beside it."""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.audio.arrays import store
from common.audio.recordings import Recording, rechunked
from common.run.errors import UserError
from common.run.processes import working_device
from zeroshot.config import STATISTICS, Config, EncoderConfig
from zeroshot.data import statistics
from zeroshot.data.sets import Clips

Embed = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # (clips, samples) -> (clips, dim)
BATCH = 16
RANDOM_WEIGHTS_SEED = 0


def create_encoder(config: EncoderConfig, sample_rate: int) -> Any:
    """The network of common.encoders, without a head. Raises UserError for another sample rate than its own."""
    import torch

    from common import encoders

    with torch.random.fork_rng(devices=[]):  # from scratch the same weights in every process
        torch.manual_seed(RANDOM_WEIGHTS_SEED)
        encoder = encoders.create(config.name, config.checkpoint, num_classes=None)
    if encoder.sample_rate != sample_rate:
        raise UserError(f"data.sample_rate: {sample_rate} Hz, but {config.name} hears {encoder.sample_rate} Hz")
    return encoder


class Embedder:
    """A frozen encoder: waveforms (clips, samples) at `sample_rate` Hz -> (clips, dim) float32.

    `key` names it and its weights. samples: of a clip; longer ones are cut, shorter ones padded with silence. network:
    a trained one in place of the recipe's.
    """

    def __init__(self, config: EncoderConfig, sample_rate: int, samples: int, network: Any = None) -> None:
        self.name, self.sample_rate, self.samples = config.name, sample_rate, samples
        self._network: Any = None
        if config.name == STATISTICS:
            self.dim, self.key = statistics.DIM, "statistics"
            self._compute: Embed = statistics.Statistics(sample_rate)
            return
        network = create_encoder(config, sample_rate) if network is None else network
        self._network = network.freeze().to(working_device())
        self.dim, self.key = self._network.clip_dim, f"{config.name}-{_fingerprint(self._network)}"
        self._compute = self._forward

    def __call__(self, waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._compute(waveforms)

    def _forward(self, waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            device = next(self._network.parameters()).device
            return self._network(torch.from_numpy(waveforms).to(device)).clip.float().cpu().numpy()

    def of_clips(self, clips: Clips) -> NDArray[np.float32]:
        """(clips, dim). Those of the whole pack are computed at the first call, beside the pack."""
        folder = clips.pack.path.parent / "embeddings" / f"{self.key}-{self.samples}"
        title = f"embeddings ({self.name})"
        kept = store(clips.pack, folder, self._rows, BATCH, samples=self.samples, dtype="<f4", title=title)
        return np.asarray(kept.rows[kept.starts[clips.rows]], np.float32)

    def _rows(self, waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
        return self(waveforms)[:, None]

    def of_recording(self, recording: str | Path | np.ndarray, sample_rate: int | None = None) -> NDArray[np.float32]:
        """(dim,): the mean over windows of `data.clip_seconds`, by their share. Raises UserError as `Recording`."""
        total, heard = np.zeros(self.dim), 0
        for piece in rechunked(Recording(recording, self.sample_rate, sample_rate), self.samples):
            for window in piece if piece.ndim == 2 else piece[None]:
                total += len(window) * self(np.pad(window, (0, self.samples - len(window)))[None])[0]
                heard += len(window)
        return (total / heard).astype(np.float32)


@lru_cache(maxsize=1)
def _embedder(name: str, checkpoint: str | None, sample_rate: int, samples: int) -> Embedder:
    return Embedder(EncoderConfig(name, checkpoint), sample_rate, samples)


def embedder(config: Config, network: Any = None) -> Embedder:
    """That of a recipe; the last one is kept, so that its weights are read once for all splits.

    network: an encoder that was trained.
    """
    if network is not None:
        return Embedder(config.encoder, config.data.sample_rate, clip_samples(config), network)
    return _embedder(config.encoder.name, config.encoder.checkpoint, config.data.sample_rate, clip_samples(config))


def embedded(clips: Clips, config: Config) -> NDArray[np.float32]:
    """Embeddings of clips by the recipe's frozen encoder, (clips, dim)."""
    return embedder(config).of_clips(clips)


def embed_recording(
    recording: str | Path | np.ndarray, config: Config, sample_rate: int | None = None
) -> NDArray[np.float32]:
    """That of one recording of any length, (dim,)."""
    return embedder(config).of_recording(recording, sample_rate)


def clip_samples(config: Config) -> int:
    """Samples of a clip as it is heard: longer ones are cut, shorter ones padded with silence."""
    return round(config.data.clip_seconds * config.data.sample_rate)


def _fingerprint(network: Any) -> str:
    """Of the weights: equal ones give equal embeddings."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)};".encode())
        digest.update(value.cpu().contiguous().numpy().data)
    return digest.hexdigest()[:12]
