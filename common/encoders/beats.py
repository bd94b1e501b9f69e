"""BEATs (Chen et al. 2023): a post-norm transformer with deep-norm and a gated relative position bias.

Tokens are 16 x 16 patches of the log-mel, time-major: token 8 t + f is band f of the step t of 160 ms. The relative
positions count tokens, not steps, as the published weights were trained.
"""

import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from common.encoders.base import Encoder, FrameEncoder, Output, resample_frames
from common.encoders.checkpoints import strip_prefix
from common.run.errors import UserError

PATCH = 16  # mel bands and frames
BUCKETS, FARTHEST = 320, 800  # of the relative positions; from `FARTHEST` tokens on all share one bucket
GATE_SIZE = 8
PREFIXES = tuple(
    f"{system}{encoder}"
    for encoder in ("", "beats.", "model.", "model.model.", "model.beats.")
    for system in ("", "as_model.", "net_strong.")
)
OLD_NAMES = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}


def relative_buckets(tokens: int, device: torch.device | str = "cpu") -> Tensor:
    """Bucket (2 tokens - 1,) of the distances key - query, from -(tokens - 1) to tokens - 1.

    Half of the buckets for each direction; in each a bucket per distance up to 79, then logarithmic ones.
    """
    one_way = BUCKETS // 2
    exact = one_way // 2
    distance = torch.arange(1 - tokens, tokens, device=device)
    near = distance.abs()
    ratio = (near.clamp(min=exact) / exact).log() / math.log(FARTHEST / exact)
    far = (exact + (ratio * (one_way - exact)).long()).clamp(max=one_way - 1)
    return one_way * (distance > 0) + torch.where(near < exact, near, far)


def relative_bias(table: nn.Embedding, tokens: int) -> Tensor:
    """The bias (heads, queries, keys) of a sequence.

    It depends on key - query alone, so that every row is a window of one list of 2 tokens - 1 values.
    """
    values = table(relative_buckets(tokens, table.weight.device))
    return values.unfold(0, tokens, 1).flip(0).transpose(0, 1)


class Attention(nn.Module):
    """Attention whose relative position bias is scaled by a gate of each query and head."""

    def __init__(self, dim: int, heads: int, table: nn.Embedding, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(dim, dim) for _ in range(4))
        self.relative_attention_bias = table  # the same module in all layers
        self.grep_linear = nn.Linear(dim // heads, GATE_SIZE)
        self.grep_a = nn.Parameter(torch.ones(1, heads, 1, 1))

    def gate(self, q: Tensor) -> Tensor:
        """Queries (batch, heads, tokens, head dim), not scaled -> (batch, heads, tokens, 1)."""
        a, b = self.grep_linear(q).unflatten(-1, (2, GATE_SIZE // 2)).sum(-1).sigmoid().chunk(2, dim=-1)
        return a * (b * self.grep_a - 1.0) + 2.0

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x (batch, tokens, dim), bias (heads, tokens, tokens) -> (batch, tokens, dim)."""
        projections = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for project in projections)
        mask = (self.gate(q) * bias).to(q.dtype)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Attention and feed-forward network, each added to its scaled input and normalised."""

    def __init__(
        self, dim: int, heads: int, hidden: int, residual_scale: float, table: nn.Embedding, dropout: float
    ) -> None:
        super().__init__()
        self.residual_scale = residual_scale
        self.self_attn = Attention(dim, heads, table, dropout)
        self.self_attn_layer_norm = nn.LayerNorm(dim)
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.final_layer_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.self_attn_layer_norm(self.residual_scale * x + self.dropout(self.self_attn(x, bias)))
        return self.final_layer_norm(self.residual_scale * x + self.dropout(self.fc2(F.gelu(self.fc1(x)))))


class Body(nn.Module):
    """What the published files call `encoder`: position convolution, norm and layers."""

    def __init__(
        self, dim: int, heads: int, hidden: int, layers: int, depth: int, position_width: int, dropout: float
    ) -> None:
        super().__init__()
        convolution = nn.Conv1d(dim, dim, position_width, padding=position_width // 2, groups=16)
        nn.init.normal_(convolution.weight, std=math.sqrt(4.0 / (position_width * dim)))
        self.pos_conv = nn.Sequential(weight_norm(convolution, dim=2))
        self.layer_norm = nn.LayerNorm(dim)
        table = nn.Embedding(BUCKETS, heads)
        scale = (2.0 * layers) ** 0.25
        self.layers = nn.ModuleList(Layer(dim, heads, hidden, scale, table, dropout) for _ in range(depth))

    def embed(self, x: Tensor) -> Tensor:
        """Tokens (batch, tokens, dim) with their convolutional position, normalised."""
        position = self.pos_conv(x.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2)
        return self.layer_norm(x + F.gelu(position))


class BEATs(FrameEncoder):
    """BEATs iter3+ base. `from_mel` takes (batch, 128, frames); the sequence has 8 tokens for each step of 160 ms.

    head "predictor": that of the files that Microsoft fine-tuned on AudioSet (527 classes), a linear map of every
    token whose mean over tokens is the clip's logits. Their classes are NOT in the order of class_labels_indices.csv.
    depth: only the first layers (Task 4 has found two less to be better); how deep-norm scales stays as it is.
    Dropout and `layer_drop`, the probability that a layer is left out for a batch, act in training only.
    """

    step_rate = 50.0
    tokens_per_step = 8
    # Attention grows with the square of the length. The weights saw 10 s, and know distances up to 16 s.
    longest: float | None = 30.0
    shortest = PATCH
    block_names = r"encoder\.layers\.(\d+)\."
    after_blocks: tuple[str, ...] = ()  # post-norm: the last layer ends with its own
    head_names = ("predictor.", "strong_head.", "weak_head.")

    def __init__(
        self,
        num_classes: int | None = 447,
        head: Literal["linear", "attention", "predictor"] = "linear",
        depth: int | None = None,
        dim: int = 768,
        layers: int = 12,
        heads: int = 12,
        hidden: int = 3072,
        patch_dim: int = 512,
        position_width: int = 128,
        dropout: float = 0.1,
        layer_drop: float = 0.05,
    ) -> None:
        depth = layers if depth is None else depth
        if not 1 <= depth <= layers:
            raise UserError(f"depth {depth}: the model has 1 to {layers} layers")
        predicts = head == "predictor"
        super().__init__("beats", dim, None if predicts else num_classes, "linear" if head == "predictor" else head)
        self.layer_drop, self.published_layers = layer_drop, layers
        self.patch_embedding = nn.Conv2d(1, patch_dim, PATCH, PATCH, bias=False)
        self.layer_norm = nn.LayerNorm(patch_dim)
        self.post_extract_proj = nn.Linear(patch_dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.encoder = Body(dim, heads, hidden, layers, depth, position_width, dropout)
        self.predictor = nn.Linear(dim, num_classes) if predicts and num_classes else None
        if predicts:
            self.head_weight = "predictor.weight"
        self._initialise((8.0 * layers) ** -0.25)

    def _initialise(self, gain: float) -> None:
        """From scratch as published; `gain` of deep-norm makes the branches smaller, the deeper the network is."""
        for name, module in self.named_modules():
            last = name.rpartition(".")[2]
            if isinstance(module, nn.Linear):
                if last in ("q_proj", "k_proj"):
                    nn.init.xavier_normal_(module.weight)
                elif last in ("v_proj", "out_proj", "fc1", "fc2"):
                    nn.init.xavier_normal_(module.weight, gain)
                else:
                    nn.init.normal_(module.weight, std=0.02)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        for name, parameter in self.named_parameters():
            if name.endswith(".bias"):
                nn.init.zeros_(parameter)

    def canonical(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Names of Microsoft's files, the AudioSet-strong models, and of Task 4 systems with an encoder inside."""
        renamed = {}
        for name, tensor in strip_prefix(state, PREFIXES, "patch_embedding.weight").items():
            stem, _, last = name.rpartition(".")
            block = re.match(self.block_names, name)
            if block and len(self.encoder.layers) <= int(block[1]) < self.published_layers:  # what it is cut by
                continue
            renamed[f"{stem}.{OLD_NAMES[last]}" if last in OLD_NAMES else name] = tensor
        return renamed

    def sequence(self, mel: Tensor) -> Tensor:
        """Normalised log-mel (batch, 128, frames) -> (batch, frames // 16 * 8, dim)."""
        patches = self.patch_embedding(mel.transpose(1, 2)[:, None]).flatten(2).transpose(1, 2)
        x = self.dropout(self.post_extract_proj(self.layer_norm(patches)))
        x = self.dropout(self.encoder.embed(x))
        first = cast(Layer, self.encoder.layers[0])
        bias = relative_bias(first.self_attn.relative_attention_bias, x.shape[1])
        for layer in self.encoder.layers:
            after = self.through(layer, x, bias)
            if self.training and self.layer_drop:
                # Computed all the same: no question that a GPU has to answer, and every parameter has a gradient.
                after = torch.where(torch.rand((), device=x.device) < self.layer_drop, x, after)
            x = after
        return x

    def from_mel(self, mel: Tensor, frames: int | None = None) -> Output:
        if self.predictor is None:
            return super().from_mel(mel, frames)
        sequence = self.sequence(mel)
        out = self.readout(sequence if frames is None else resample_frames(sequence, frames))
        return out._replace(logits=self.predictor(sequence.mean(dim=1)), frame_logits=self.predictor(out.frames))


MODELS: dict[str, Callable[..., Encoder]] = {
    "beats": BEATs,
    "beats-tiny": partial(BEATs, dim=48, layers=2, heads=4, hidden=96, patch_dim=32, position_width=32),
}
