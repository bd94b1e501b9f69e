"""Sequence models between a frame-wise encoder and its heads: (batch, steps, dim) -> (batch, steps, features).

Kinds and parameter names are those of Schmid et al. 2025 (BiGRU) and Morocutti et al. 2025 (all others).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from task4_sed.config import SequenceConfig
from task4_sed.model.graph import gru_operator, scan_by_doubling
from task4_sed.model.mamba import MambaStack

THETA = 10_000.0  # of the rotary embedding
DILATIONS = (1, 2, 4, 8, 16)


class RMSNorm(nn.Module):
    """x / |x| * sqrt(dim) * gamma, over the last axis."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) * x.shape[-1] ** 0.5 * self.gamma


class Rotary(nn.Module):
    """Rotation of neighbouring pairs of (batch, heads, steps, dim) by their position; Su et al. 2021."""

    freqs: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("freqs", THETA ** (-torch.arange(0, dim, 2) / dim))

    def forward(self, x: Tensor) -> Tensor:
        angle = torch.arange(x.shape[-2], device=x.device)[:, None] * self.freqs.float()
        sin, cos = angle.sin().to(x.dtype), angle.cos().to(x.dtype)
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(batch, steps, heads * dim) -> (batch, heads, steps, dim)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class Attention(nn.Module):
    """Normed self-attention with rotary positions, each head's output gated; Morocutti et al. 2025."""

    def __init__(self, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.pos_encoding, self.norm = Rotary(dim // heads), RMSNorm(dim)
        self.to_qkv, self.to_gates = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, heads)
        self.to_out = nn.Sequential(nn.Linear(dim, dim, bias=False), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        query, key, value = (split_heads(part, self.heads) for part in self.to_qkv(x).chunk(3, dim=-1))
        query, key = self.pos_encoding(query), self.pos_encoding(key)
        dropout = self.dropout if self.training else 0.0
        heard = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        heard = heard * self.to_gates(x).sigmoid().transpose(1, 2)[..., None]
        return self.to_out(heard.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """RMS norm and two layers, four times as wide in between."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        wide, narrow = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.net = nn.Sequential(RMSNorm(dim), wide, nn.GELU(), nn.Dropout(dropout), narrow, nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class AttentionStack(nn.Module):
    """Layers of attention alone."""

    def __init__(self, dim: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Attention(dim, heads, dropout) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x)
        return x


class TransformerStack(nn.Module):
    """Attention and feed-forward in turn, a norm at the end."""

    def __init__(self, dim: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList((Attention(dim, heads, dropout), FeedForward(dim, dropout))) for _ in range(layers)
        )
        self.norm = RMSNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            for part in cast(nn.ModuleList, layer):
                x = x + part(x)
        return self.norm(x)


class MinGRU(nn.Module):
    """h_t = (1 - s(z_t)) h_{t-1} + s(z_t) g(u_t) from h = 0, all steps at once; Feng et al. 2024, appendix B.

    u, z = Linear(x), g(u) = u + 0.5 from 0 on, else s(u), s the sigmoid.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.to_hidden_and_gate = nn.Linear(dim, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden, gate = self.to_hidden_and_gate(x).float().chunk(2, dim=-1)
        if torch.onnx.is_in_onnx_export():  # ONNX has no logcumsumexp
            new = torch.where(hidden >= 0, hidden + 0.5, hidden.sigmoid())
            return scan_by_doubling((-gate).sigmoid(), gate.sigmoid() * new)
        log_new = torch.where(hidden >= 0, (hidden.relu() + 0.5).log(), -F.softplus(-hidden)) - F.softplus(-gate)
        kept = -F.softplus(gate).cumsum(dim=1)
        return (kept + (log_new - kept).logcumsumexp(dim=1)).exp().to(x.dtype)


class BothWays(nn.Module):
    """A minimal GRU in each direction, joined by a linear layer."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.forward_minGRU, self.backward_minGRU = MinGRU(dim, dim), MinGRU(dim, dim)
        self.to_out = nn.Linear(2 * dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        backward = self.backward_minGRU(x.flip(1)).flip(1)
        return self.to_out(torch.cat((self.forward_minGRU(x), backward), dim=-1))


class Hybrid(nn.Module):
    """Minimal GRUs beside attention without positions: the mean of both, each head normed."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv, self.rnn = nn.Linear(dim, 3 * dim, bias=False), BothWays(dim)
        self.rnn_out_norm, self.attn_out_norm = RMSNorm(dim // heads), RMSNorm(dim // heads)
        self.to_out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (split_heads(part, self.heads) for part in self.to_qkv(x).chunk(3, dim=-1))
        heard = F.scaled_dot_product_attention(query, key, value)
        recurrent = split_heads(self.rnn(x), self.heads)
        mean = 0.5 * (self.rnn_out_norm(recurrent) + self.attn_out_norm(heard))
        return self.to_out(mean.transpose(1, 2).flatten(2))


class HybridStack(nn.Module):
    """Hybrid layers and feed-forward layers in turn, a norm at the end."""

    def __init__(self, dim: int, layers: int, heads: int) -> None:
        super().__init__()

        def feed_forward() -> nn.Module:
            return nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

        self.layers = nn.ModuleList(
            nn.ModuleList((RMSNorm(dim), Hybrid(dim, heads), RMSNorm(dim), feed_forward())) for _ in range(layers)
        )
        self.norm = RMSNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            norm, mixer, norm_after, feed_forward = cast(nn.ModuleList, layer)
            x = x + mixer(norm(x))
            x = x + feed_forward(norm_after(x))
        return self.norm(x)


class ConvolutionBlock(nn.Module):
    """Two causal, dilated convolutions around a residual; Bai et al. 2018, section 3."""

    def __init__(self, dim: int, dilation: int, dropout: float) -> None:
        super().__init__()

        def convolution() -> nn.Module:
            return weight_norm(nn.Conv1d(dim, dim, 3, padding=2 * dilation, dilation=dilation))

        parts = (nn.Identity(), nn.ReLU(), nn.Dropout(dropout))
        self.net = nn.Sequential(convolution(), *parts, convolution(), *parts)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in self.net:
            y = layer(y)[..., : x.shape[-1]]  # what a padded convolution gives after the last step sees the future
        return F.relu(x + y)


class ConvolutionStack(nn.Module):
    """Stacks of dilated convolutions, each within one more residual."""

    def __init__(self, dim: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleDict({"network": nn.Sequential(*(ConvolutionBlock(dim, d, dropout) for d in DILATIONS))})
            for _ in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        for layer in self.layers:
            x = x + cast(nn.ModuleDict, layer)["network"](x)
        return x.transpose(1, 2)


class Recurrent(nn.Module):
    """A bidirectional GRU: (batch, steps, inputs) -> (batch, steps, 2 dim)."""

    def __init__(self, inputs: int, dim: int, layers: int) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, dim, layers, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        return gru_operator(self.gru, x) if torch.onnx.is_in_onnx_export() else self.gru(x)[0]


def initialise(module: nn.Module) -> None:
    """Weights N(0, 0.02), biases 0, as published for attention and transformers."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def sequence_model(config: SequenceConfig, inputs: int) -> tuple[nn.Sequential, int]:
    """The sequence model on `inputs` features, and the features that it gives."""
    dim, layers = config.dim, config.layers
    if config.kind == "gru":
        return nn.Sequential(Recurrent(inputs, dim, layers)), 2 * dim
    heads = config.num_heads
    dropout = config.dropout if config.dropout is not None else 0.2 if config.kind in ("tf", "tcn") else 0.0
    make: Mapping[str, Callable[[], nn.Module]] = {
        "attn": partial(AttentionStack, dim, layers, heads, dropout),
        "tf": partial(TransformerStack, dim, layers, heads, dropout),
        "hybrid": partial(HybridStack, dim, layers, heads),
        "mamba": partial(MambaStack, dim, layers),
        "tcn": partial(ConvolutionStack, dim, layers, dropout),
    }
    before: list[nn.Module] = [nn.Linear(inputs, dim) if inputs != dim else nn.Identity()]
    if config.kind == "mamba":
        before.append(nn.LayerNorm(dim))
    model = nn.Sequential(*before, make[config.kind]())
    return model.apply(initialise) if config.kind in ("attn", "tf") else model, dim
