"""The systems that are compared: the dual encoder, trained or frozen, and those without training of this task.

2DFT: Pishdadian et al. 2019. M-VGGish: Kim and Pardo 2019. Both as the baselines of Greif et al. 2024. YAMNet is
none of the papers' systems, but real at once.
"""

from dataclasses import replace
from typing import Protocol

import numpy as np
import soxr
import torch
import torch.nn.functional as F
from torch import Tensor

from common import encoders
from common.encoders.vggish import VGGish
from common.encoders.yamnet import YAMNet
from common.frontends import CqtSetting, cqt, half_two_dft
from qbv.config import SAMPLE_RATE, TRAINED, Config
from qbv.model.networks import DualEncoder


class System(Protocol):
    """Waveforms (batch, samples) at 32 kHz -> vectors (batch, dim), and what they say of each other.

    seconds: what of a sound it hears.
    """

    seconds: float

    def imitations(self, waveform: Tensor) -> Tensor: ...

    def recordings(self, waveform: Tensor) -> Tensor: ...

    def similarities(self, imitation: Tensor, recording: Tensor) -> Tensor:
        """Vectors (n, dim), (m, dim) -> (n, m), higher is more alike; silence is like nothing: 0, not NaN."""


class Network:
    """A dual encoder."""

    def __init__(self, network: DualEncoder, seconds: float, device: str = "cpu") -> None:
        self.network, self.seconds, self.device = network.eval().to(device), seconds, device

    def imitations(self, waveform: Tensor) -> Tensor:
        return self.network.imitations(waveform.to(self.device)).float()

    def recordings(self, waveform: Tensor) -> Tensor:
        return self.network.recordings(waveform.to(self.device)).float()

    def similarities(self, imitation: Tensor, recording: Tensor) -> Tensor:
        return self.network.similarities(imitation, recording).cpu()


class Fingerprint:
    """One vector for any sound, compared by cosine."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def vectors(self, waveform: Tensor) -> Tensor:
        """(batch, samples) at 32 kHz -> (batch, dim)."""
        raise NotImplementedError

    def imitations(self, waveform: Tensor) -> Tensor:
        return self.vectors(waveform)

    def recordings(self, waveform: Tensor) -> Tensor:
        return self.vectors(waveform)

    def similarities(self, imitation: Tensor, recording: Tensor) -> Tensor:
        return (F.normalize(imitation, dim=-1) @ F.normalize(recording, dim=-1).T).cpu()


class TwoDft(Fingerprint):
    """Magnitude of the 2-D Fourier transform of a constant-Q spectrogram, 63 bands at 8 kHz."""

    def vectors(self, waveform: Tensor) -> Tensor:
        return torch.from_numpy(two_dft_vectors(resampled(waveform.numpy(), CqtSetting().sample_rate)))


def two_dft_vectors(waveforms: np.ndarray) -> np.ndarray:
    """Waveforms (batch, samples) at 8 kHz -> (batch, bands x about half the frames) float32: the whole's cosines."""
    return half_two_dft(np.abs(cqt(waveforms))).reshape(len(waveforms), -1).astype(np.float32)


class MVGGish(Fingerprint):
    """The last two convolutions of VGGish before their ReLU, averaged over pieces of two seconds; 16 kHz."""

    def __init__(self, seconds: float, checkpoint: str | None, device: str = "cpu", model: str = "vggish") -> None:
        super().__init__(seconds)
        encoder = encoders.create(model, checkpoint)
        assert isinstance(encoder, VGGish)
        self.encoder, self.device = encoder.to(device), device

    def vectors(self, waveform: Tensor) -> Tensor:
        audio = torch.from_numpy(resampled(waveform.numpy(), self.encoder.sample_rate))
        return self.encoder.similarity_features(audio.to(self.device))


class Yamnet(Fingerprint):
    """YAMNet, a network on AudioSet, as published: the mean over its loud patches, of which the root is taken.

    Embeddings are positive, and few of their numbers large; the root lets the others count. Measured in the README.
    """

    def __init__(
        self, seconds: float, checkpoint: str | None = None, device: str = "cpu", model: str = "yamnet"
    ) -> None:
        super().__init__(seconds)
        encoder = encoders.create(model, checkpoint)
        assert isinstance(encoder, YAMNet)
        self.encoder, self.device = encoder.to(device), device

    def vectors(self, waveform: Tensor) -> Tensor:
        audio = torch.from_numpy(resampled(waveform.numpy(), self.encoder.sample_rate)).to(self.device)
        return self.encoder.active_mean(audio).sqrt()


class Random(Fingerprint):
    """Vectors of noise: what guessing gives."""

    def __init__(self, seconds: float, seed: int) -> None:
        super().__init__(seconds)
        self.generator = torch.Generator().manual_seed(seed)

    def vectors(self, waveform: Tensor) -> Tensor:
        return torch.randn(len(waveform), 64, generator=self.generator)


def resampled(waveforms: np.ndarray, rate: int) -> np.ndarray:
    """(batch, samples) at 32 kHz -> (batch, samples of the same time) at `rate` Hz, all at once."""
    found: np.ndarray = soxr.resample(waveforms.T, SAMPLE_RATE, rate, "HQ").T
    return np.ascontiguousarray(found)


def build_system(name: str, config: Config, seed: int, trained: DualEncoder | None, device: str) -> System:
    """A system by its name, one of config.SYSTEMS; trained: the network of the recipe's training.

    Raises UserError for weights that cannot be had.
    """
    seconds = config.comparison.seconds
    if name == TRAINED:
        assert trained is not None
        return Network(trained, config.data.seconds, device)
    if name == "frozen":
        torch.manual_seed(seed)
        return Network(DualEncoder(replace(config.model, head=None, frozen=False)), config.data.seconds, device)
    if name == "yamnet":
        return Yamnet(config.data.seconds, device=device)
    if name == "2dft":
        return TwoDft(seconds)
    if name == "m-vggish":
        return MVGGish(seconds, config.comparison.vggish_checkpoint, device)
    assert name == "random", name
    return Random(config.data.seconds, seed)
