"""What the ONNX exporter is given in place of operations that it would take step by step, or wrongly."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def gru_operator(gru: nn.GRU, x: Tensor) -> Tensor:
    """A bidirectional GRU without dropout, an operator a layer: (batch, steps, inputs) -> (batch, steps, 2 hidden)."""
    x = x.transpose(0, 1)
    settings: dict[str, Any] = {"hidden_size": gru.hidden_size, "direction": "bidirectional", "linear_before_reset": 1}
    for layer in range(gru.num_layers):
        into, hidden, *biases = (
            torch.stack([_gates(getattr(gru, f"{kind}_l{layer}{end}")) for end in ("", "_reverse")])
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        given, shape = (x, into, hidden, torch.cat(biases, dim=1)), (x.shape[0], 2, x.shape[1], gru.hidden_size)
        y = torch.onnx.ops.symbolic("GRU", given, settings, dtype=x.dtype, shape=shape)
        x = y.transpose(1, 2).flatten(2)
    return x.transpose(0, 1)


def _gates(weight: Tensor) -> Tensor:
    """torch has reset, update, new one below the other; ONNX update, reset, new."""
    reset, update, new = weight.chunk(3)
    return torch.cat((update, reset, new))


def scan_by_doubling(kept: Tensor, added: Tensor) -> Tensor:
    """h_t = kept_t h_{t-1} + added_t from h = 0 over (batch, steps, dim): steps joined two by two, then four, ..."""
    shift = 1
    while shift < added.shape[1]:
        added = added + kept * F.pad(added[:, :-shift], (0, 0, shift, 0))
        kept = kept * F.pad(kept[:, :-shift], (0, 0, shift, 0))
        shift *= 2
    return added
