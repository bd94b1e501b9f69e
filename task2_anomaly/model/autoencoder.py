"""Autoencoders on windows of log-mel frames: the organisers' baselines and those of the workshop.

Sources: DCASE 2020 Task 2 baseline (Koizumi et al. 2020); Primus et al. 2020; first-shot baseline of DCASE 2023 to
2025 (Harada et al. 2023).
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

CONTEXT = 5  # frames
CODE = 8
WIDTH = 128
CONV_FRAMES = 32
# Batch norm of the Keras models: eps 1e-3 and a momentum that PyTorch calls 1 - momentum.
KERAS: dict[str, Any] = {"eps": 1e-3, "momentum": 0.01}


class Autoencoder(nn.Module):
    """Windows (batch, mel, frames) -> reconstructions of the same shape."""

    def residual(self, windows: Tensor) -> Tensor:
        """What the reconstruction misses, (batch, mel * frames)."""
        return (windows - self(windows)).flatten(1)


class DenseAutoencoder(Autoencoder):
    """On 5 frames. ae_workshop: three hidden layers a side, flattened by band; the others: four, frame by frame.

    Linear layers begin as in Keras (ae_organisers), as the workshop's, or as PyTorch has them (ae_firstshot).
    Koizumi et al. 2020; Primus et al. 2020; Harada et al. 2023.
    """

    def __init__(self, num_mels: int, kind: str) -> None:
        super().__init__()
        self.by_frame = kind != "ae_workshop"
        hidden = [WIDTH] * (4 if self.by_frame else 3)
        inputs = num_mels * CONTEXT
        norm: dict[str, Any] = KERAS if self.by_frame else {}
        self.encoder = _layers([inputs, *hidden, CODE], norm, last_is_plain=False)
        self.decoder = _layers([CODE, *hidden, inputs], norm, last_is_plain=True)
        if kind == "ae_firstshot":
            return
        for module in self.modules():
            if isinstance(module, nn.Linear):
                gain = 1.0 if self.by_frame else nn.init.calculate_gain("relu")
                nn.init.xavier_uniform_(module.weight, gain)
                nn.init.constant_(module.bias, 0.0 if self.by_frame else 0.01)

    def forward(self, windows: Tensor) -> Tensor:
        x = windows.transpose(1, 2) if self.by_frame else windows
        y = self.decoder(self.encoder(x.flatten(1))).unflatten(1, x.shape[1:])
        return y.transpose(1, 2) if self.by_frame else y


def _layers(sizes: Sequence[int], norm: dict[str, Any], last_is_plain: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(pairwise(sizes)):
        layers.append(nn.Linear(inputs, outputs))
        if not (last_is_plain and index == len(sizes) - 2):
            layers += [nn.BatchNorm1d(outputs, **norm), nn.ReLU()]
    return nn.Sequential(*layers)


class FirstShotAutoencoder(DenseAutoencoder):
    """The baseline of 2023 to 2025: the organisers' network, whose residuals can also be scored by Mahalanobis.

    `inverse` (2, mel, mel): inverse covariances of a frame's residuals in the source and in the target domain; the
    identity until `fit_covariance`.
    """

    inverse: Tensor

    def __init__(self, num_mels: int) -> None:
        super().__init__(num_mels, "ae_firstshot")
        self.num_mels = num_mels
        self.register_buffer("inverse", torch.eye(num_mels).repeat(2, 1, 1))

    @torch.no_grad()
    def fit_covariance(self, clips: Iterable[tuple[Tensor, Tensor]]) -> None:
        """From batches (residuals (clips, windows, mel, 5), of the target domain (clips,) bool) of training clips.

        Where a domain has no clips, its covariance is that of all.
        """
        count = torch.zeros(2, dtype=torch.float64)
        total, outer = torch.zeros(2, self.num_mels).double(), torch.zeros(2, self.num_mels, self.num_mels).double()
        for residuals, target in clips:
            frames = residuals.transpose(2, 3).flatten(1, 2).double().cpu()
            for domain, of in ((0, frames[~target.cpu()]), (1, frames[target.cpu()])):
                of = of.flatten(0, 1)
                count[domain] += len(of)
                total[domain] += of.sum(dim=0)
                outer[domain] += of.T @ of
        for domain in (0, 1):
            chosen = [domain] if count[domain] else [0, 1]
            n, mean = count[chosen].sum(), total[chosen].sum(dim=0) / count[chosen].sum()
            covariance = outer[chosen].sum(dim=0) / n - torch.outer(mean, mean)
            self.inverse[domain] = torch.linalg.pinv(covariance, hermitian=True)

    def mahalanobis(self, residuals: Tensor, published: bool) -> Tensor:
        """Scores (clips,) from residuals (clips, windows, mel, 5): the smaller of the two domains' distances.

        The mean over frames of their squared distance, per band. published: that of the clip's mean residual, which is
        what the organisers' code computes (and five times smaller: it divides the covariance by windows, not frames).
        """
        x = residuals.transpose(2, 3).flatten(1, 2)  # (clips, frames, mel)
        if published:
            x = x.mean(dim=1, keepdim=True)
        distances = torch.einsum("cfm,dmn,cfn->cdf", x, self.inverse, x).mean(dim=2)
        return distances.amin(dim=1) / (CONTEXT if published else self.num_mels)


class ConvAutoencoder(Autoencoder):
    """The workshop's convolutional autoencoder, which its paper does not report, on 32 frames.

    The bands must be a multiple of 8.
    """

    def __init__(self, num_mels: int, frames: int = CONV_FRAMES, width: int = 32, code: int = 16) -> None:
        super().__init__()
        self.shape = (width, num_mels // 8, frames // 8)
        inner = width * self.shape[1] * self.shape[2]
        self.input = nn.Sequential(nn.Conv2d(1, width, 1), nn.BatchNorm2d(width), nn.ReLU())
        for number in range(1, 7):
            self.add_module(f"block{number}", _ConvBlock(width))
        self.pre_prior = nn.Sequential(nn.Linear(inner, code))
        self.post_prior = nn.Sequential(nn.Linear(code, inner), nn.ReLU())
        self.output = nn.Conv2d(width, 1, 1)

    def encode(self, windows: Tensor) -> Tensor:
        """Windows (batch, mel, frames) -> codes (batch, code)."""
        x = self.input(windows[:, None])
        for number in (1, 2, 3):
            x = nn.functional.avg_pool2d(self.get_submodule(f"block{number}")(x), 2)
        return self.pre_prior(x.flatten(1))

    def forward(self, windows: Tensor) -> Tensor:
        x = self.post_prior(self.encode(windows)).unflatten(1, self.shape)
        for number in (4, 5, 6):
            x = self.get_submodule(f"block{number}")(nn.functional.interpolate(x, scale_factor=2.0))
        return self.output(x)[:, 0]


class _ConvBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        layers = [(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()) for _ in range(2)]
        self.block = nn.Sequential(*(layer for of in layers for layer in of))

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)
