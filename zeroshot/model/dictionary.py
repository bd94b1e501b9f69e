"""An audio encoder that is learnt in seconds, without labels and gradients: a dictionary of spectrogram patches.

Spherical k-means over whitened patches (Coates & Ng, "Learning feature representations with k-means", 2012), as Salamon
& Bello (2015) use it for urban sounds. For few clips: a network has too many weights to be trained on a few hundred.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.encoders.base import Encoder, Output, resample_frames
from common.frontends import MelSetting

FRONT_END = MelSetting(16000, 1024, 1024, 320, 64, 50.0, 8000.0, filterbank="slaney")
PATCH, STEP = 4, 2  # frames of 20 ms
WHITENED = 40  # directions of a patch that are kept
UNITS = 128
EPSILON = 0.01  # of the whitening, in units of the spectrogram's variance
THRESHOLD = 0.1  # cosine above which a unit answers
NEPER = 10 / math.log(10)  # dB of a natural logarithm of power
ACTIVE = 60.0  # dB below the loud frames of a clip; what is quieter does not count
LEVELS = (10.0, 20.0, 30.0, 40.0, 60.0)  # dB below them: how much of a clip is louder
MODULATIONS = (0.4, 25.0, 12)  # Hz from and to, bands between
LEAST_CONTRAST = 0.05  # standard deviation within a patch, below which nothing is learnt from it
PATCHES_OF_CLIP, ROUNDS = 60, 12


def summary(x: Tensor, active: Tensor) -> Tensor:
    """(batch, steps, dim) -> mean, standard deviation, mean absolute difference over active steps, (batch, 3 dim)."""
    both = (active[:, 1:] & active[:, :-1])[..., None].float()
    weight = active[..., None].float()
    mean = (x * weight).sum(dim=1) / weight.sum(dim=1)
    variance = ((x - mean[:, None]) ** 2 * weight).sum(dim=1) / weight.sum(dim=1)
    moved = (x.diff(dim=1).abs() * both).sum(dim=1) / both.sum(dim=1).clamp(min=1)
    return torch.cat([mean, variance.sqrt(), moved], dim=1)


def active_steps(loudness: Tensor) -> Tensor:
    """Which of (batch, steps), in natural logarithms of power, are near enough to the loud ones."""
    return loudness >= loudness.quantile(0.95, dim=1, keepdim=True) - ACTIVE / NEPER


def loudness_numbers(loudness: Tensor) -> Tensor:
    """Of (batch, steps): how much is loud, how it is spread and moves, and its modulation spectrum: (batch, 20)."""
    x = (loudness - loudness.quantile(0.95, dim=1, keepdim=True)).clamp(min=-ACTIVE / NEPER)
    louder = [(x > -level / NEPER).float().mean(dim=1) for level in LEVELS]
    window = torch.hann_window(x.shape[1], periodic=False, device=x.device)
    spectrum = torch.fft.rfft((x - x.mean(dim=1, keepdim=True)) * window).abs() ** 2
    hz = torch.arange(spectrum.shape[1]) * FRONT_END.frame_rate / x.shape[1]
    low, high, bands = MODULATIONS
    edges = low * (high / low) ** (torch.arange(bands + 1) / bands)
    inside = (hz[:, None] >= edges[:-1]) & (hz[:, None] < edges[1:])
    share = spectrum @ inside.float().to(x.device) / spectrum.sum(dim=1, keepdim=True).clamp(min=1e-9)
    moments = [x.mean(dim=1), x.std(dim=1), x.diff(dim=1).abs().mean(dim=1)]
    return torch.cat([torch.stack([*louder, *moments], dim=1), (share + 1e-4).log()], dim=1)


class Dictionary(Encoder):
    """`clip`: the `summary` of all units' answers, as square roots; bands: also that of the mel bands, and loudness."""

    name = "dictionary"
    level: Tensor
    spread: Tensor
    mean: Tensor
    whitening: Tensor
    units: Tensor

    def __init__(self, units: int = UNITS, bands: bool = False) -> None:
        super().__init__(FRONT_END)
        self.bands, mels = bands, FRONT_END.num_mels
        size = PATCH * mels
        shapes = {"level": (), "spread": (), "mean": (size,), "whitening": (size, WHITENED), "units": (units, WHITENED)}
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.ones(shape), requires_grad=False))
        more = 3 * mels + len(LEVELS) + 3 + MODULATIONS[2]
        self.embedding_dim, self.clip_dim = units, 3 * units + (more if bands else 0)
        self.step_rate = FRONT_END.frame_rate / STEP
        self.shortest = PATCH + STEP

    def _patches(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, mel, frames) -> patches without their mean (batch, patches, size), and that mean (batch, patches)."""
        x = (mel - self.level) / self.spread
        x = x.unfold(2, PATCH, STEP).permute(0, 2, 1, 3).flatten(2)
        loudness = x.mean(dim=2)
        return x - loudness[..., None], loudness * self.spread

    def _whitened(self, patches: Tensor) -> Tensor:
        return F.normalize((patches - self.mean) @ self.whitening, dim=-1)

    def from_mel(self, mel: Tensor, frames: int | None = None) -> Output:
        patches, loudness = self._patches(mel)
        answers = (self._whitened(patches) @ self.units.T - THRESHOLD).relu()
        parts = [summary(answers, active_steps(loudness)).sqrt()]
        if self.bands:
            loudness = mel.mean(dim=1)
            parts += [summary(mel.transpose(1, 2), active_steps(loudness)), loudness_numbers(loudness)]
        sequence = answers if frames is None else resample_frames(answers, frames)
        return Output(sequence, torch.cat(parts, dim=1), None, None)

    @torch.no_grad()
    def learn(self, mel: Tensor, seed: int = 0) -> None:
        """Learn the dictionary from log-mel spectrograms (clips, mel, frames); their labels are not asked for."""
        random = torch.Generator().manual_seed(seed)
        self.level.copy_(mel.mean())
        self.spread.copy_(mel.std())
        patches, _ = self._patches(mel)
        chosen = torch.rand(patches.shape[:2], generator=random).argsort(dim=1)[:, :PATCHES_OF_CLIP]
        sample = patches.gather(1, chosen[..., None].expand(-1, -1, patches.shape[2])).flatten(0, 1)
        sample = sample[sample.std(dim=1) > LEAST_CONTRAST]
        self.mean.copy_(sample.mean(dim=0))
        values, directions = torch.linalg.eigh((sample - self.mean).T.cov().double())
        whitening = directions[:, -WHITENED:] / (values[-WHITENED:].clamp(min=0) + EPSILON).sqrt()
        self.whitening.copy_(whitening)
        points = self._whitened(sample)
        self.units.copy_(points[torch.randperm(len(points), generator=random)[: len(self.units)]])
        for _ in range(ROUNDS):
            nearest = (points @ self.units.T).argmax(dim=1)
            sums = torch.zeros_like(self.units).index_add_(0, nearest, points)
            empty = torch.bincount(nearest, minlength=len(self.units)) == 0
            sums[empty] = points[torch.randint(len(points), (int(empty.sum()),), generator=random)]
            self.units.copy_(F.normalize(sums, dim=1))
