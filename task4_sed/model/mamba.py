"""Mamba-2 in plain torch, on any device: the state-space recurrence as a scan over chunks.

Dao & Gu, "Transformers are SSMs: generalized models and efficient algorithms through structured state space duality",
ICML 2024, sections 6 and 7. Parameter names are those of its published module.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHUNK = 64  # steps whose products are one matrix
STATE, KERNEL, EXPANSION = 64, 3, 2
TIME_STEPS = (1e-3, 0.1)  # initial ones, log-uniform


def chunked_scan(x: Tensor, log_decay: Tensor, into: Tensor, out: Tensor, chunk: int = CHUNK) -> Tensor:
    """h_t = exp(log_decay_t) h_{t-1} + into_t x_t^T, y_t = out_t h_t, from h = 0, for each head.

    x (batch, steps, heads, width), log_decay (batch, steps, heads), at most 0, into and out (batch, steps, state),
    shared by the heads -> y like x. Within a chunk a masked matrix product, between chunks a state is carried. Equals
    the loop over steps but for rounding; Dao & Gu 2024, section 6.
    """
    steps, chunk = x.shape[1], min(chunk, x.shape[1])
    missing = -steps % chunk
    x, into, out, log_decay = (
        F.pad(value, (0, 0) * (value.dim() - 2) + (0, missing)).unflatten(1, (-1, chunk))
        for value in (x, into, out, log_decay)
    )
    total = log_decay.cumsum(dim=2).transpose(2, 3)  # (batch, chunks, heads, chunk)
    span = total[..., :, None] - total[..., None, :]
    causal = torch.ones(chunk, chunk, dtype=torch.bool, device=x.device).tril()
    decay = span.masked_fill(~causal, float("-inf")).exp()
    x = x.transpose(2, 3)  # (batch, chunks, heads, chunk, width)
    y = ((out @ into.transpose(2, 3))[:, :, None] * decay) @ x
    to_end = (total[..., -1:] - total).exp()[..., None]
    added = into.transpose(2, 3)[:, :, None] @ (to_end * x)  # (batch, chunks, heads, state, width)
    kept = total[..., -1].exp()[..., None, None]
    state, before = torch.zeros_like(added[:, 0]), []
    for number in range(added.shape[1]):
        before.append(state)
        state = kept[:, number] * state + added[:, number]
    y = y + total.exp()[..., None] * (out[:, :, None] @ torch.stack(before, dim=1))
    return y.transpose(2, 3).flatten(1, 2)[:, :steps]


class Mamba2(nn.Module):
    """(batch, steps, dim) -> the same shape, causal; without the gated norm. Dao & Gu 2024, section 7."""

    def __init__(self, dim: int, head_dim: int, state: int = STATE, kernel: int = KERNEL) -> None:
        super().__init__()
        self.inner, self.head_dim, self.state = EXPANSION * dim, head_dim, state
        heads = self.inner // head_dim
        mixed = self.inner + 2 * state
        low, high = (torch.tensor(value).log() for value in TIME_STEPS)
        first = (low + (high - low) * torch.rand(heads)).exp()
        self.dt_bias = nn.Parameter(first + (-torch.expm1(-first)).log())  # softplus gives `first`
        self.A_log = nn.Parameter(torch.empty(heads).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(heads))
        self.in_proj = nn.Linear(dim, self.inner + mixed + heads, bias=False)
        self.conv1d = nn.Conv1d(mixed, mixed, kernel, padding=kernel - 1, groups=mixed)
        self.out_proj = nn.Linear(self.inner, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        steps = x.shape[1]
        gate, mixed, dt = self.in_proj(x).split((self.inner, self.conv1d.in_channels, len(self.D)), dim=-1)
        mixed = F.silu(self.conv1d(mixed.transpose(1, 2))[..., :steps].transpose(1, 2))
        value, into, out = mixed.split((self.inner, self.state, self.state), dim=-1)
        value, dt = value.unflatten(-1, (-1, self.head_dim)), F.softplus(dt + self.dt_bias)
        y = chunked_scan(value * dt[..., None], -dt * self.A_log.exp(), into, out) + self.D[:, None] * value
        return self.out_proj(y.flatten(2) * F.silu(gate))


class MambaStack(nn.Module):
    """Layers x + LayerNorm(Mamba-2(x)), in float32 also under autocast."""

    def __init__(self, dim: int, layers: int) -> None:
        super().__init__()
        head_dim = 32 if dim == 128 else 64
        self.layers = nn.ModuleList(nn.Sequential(Mamba2(dim, head_dim), nn.LayerNorm(dim)) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
            for layer in self.layers:
                x = x + layer(x)
        return x
