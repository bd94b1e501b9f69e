"""How well a sound fits a class: F(x, c) of audio embeddings phi (batch, d_a) and class vectors psi (classes, d_t).

None of the forms is known to be the paper's: of it only the abstract is public.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zeroshot.config import ModelConfig


class Bilinear(nn.Module):
    """F = phi^T W psi; Xie & Virtanen 2019."""

    def __init__(self, audio_dim: int, class_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(audio_dim, class_dim) / math.sqrt(audio_dim))

    def forward(self, audio: Tensor, classes: Tensor) -> Tensor:
        """(batch, d_a), (classes, d_t) -> (batch, classes)."""
        return audio @ self.weight @ classes.T


class Projected(nn.Module):
    """F = g cos(A phi, B psi) + b: a common space of `dim`; g = exp(t), limited, and b are learned.

    offset: the first b; None: there is none, since the softmax over classes would not see it.
    """

    def __init__(self, audio_dim: int, class_dim: int, config: ModelConfig, offset: float | None) -> None:
        super().__init__()
        dim, self.limit = config.dim, config.scale_limit
        self.audio = nn.Linear(audio_dim, dim, bias=False)
        self.classes = nn.Linear(class_dim, dim, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.scale)))
        self.bias = None if offset is None else nn.Parameter(torch.tensor(offset))

    def forward(self, audio: Tensor, classes: Tensor) -> Tensor:
        """(batch, d_a), (classes, d_t) -> (batch, classes)."""
        cosines = F.normalize(self.audio(audio), dim=-1) @ F.normalize(self.classes(classes), dim=-1).T
        scores = self.log_scale.exp().clamp(max=self.limit) * cosines
        return scores if self.bias is None else scores + self.bias


class Factored(nn.Module):
    """F = tanh(A phi)^T (B psi), of rank `dim`; after Xie, Räsänen & Virtanen 2021."""

    def __init__(self, audio_dim: int, class_dim: int, dim: int) -> None:
        super().__init__()
        self.audio = nn.Linear(audio_dim, dim, bias=False)
        self.classes = nn.Linear(class_dim, dim, bias=False)

    def forward(self, audio: Tensor, classes: Tensor) -> Tensor:
        """(batch, d_a), (classes, d_t) -> (batch, classes)."""
        return self.audio(audio).tanh() @ self.classes(classes).T


def build_compatibility(config: ModelConfig, loss: str, audio_dim: int, class_dim: int) -> nn.Module:
    """The recipe's form, with new weights; eszsl is bilinear."""
    if config.compatibility == "projected":
        return Projected(audio_dim, class_dim, config, config.bias if loss == "bce" else None)
    if config.compatibility == "factored":
        return Factored(audio_dim, class_dim, config.dim)
    return Bilinear(audio_dim, class_dim)


def eszsl(audio: Tensor, labels: Tensor, classes: Tensor, gamma: float, lam: float) -> Tensor:
    """W (d_a, d_t) of the bilinear form in closed form, float64; Romera-Paredes & Torr 2015.

    W = (X^T X + gamma I)^-1 X^T Y S (S^T S + lambda I)^-1 with X (clips, d_a), S (classes, d_t), and Y (clips, classes)
    of 1 and -1, 0 for a pair that nobody has judged. gamma, lam: ridge of audio and of class vectors, above 0.
    """
    x, y, s = audio.double(), labels.double(), classes.double()
    right = s.T @ s + lam * torch.eye(s.shape[1], dtype=s.dtype)
    if len(x) < x.shape[1]:  # the same by the smaller of two systems: X^T (X X^T + gamma I)^-1
        inner = x.T @ torch.linalg.solve(x @ x.T + gamma * torch.eye(len(x), dtype=x.dtype), y @ s)
    else:
        inner = torch.linalg.solve(x.T @ x + gamma * torch.eye(x.shape[1], dtype=x.dtype), x.T @ y @ s)
    return torch.linalg.solve(right, inner, left=False)
