"""A small transformer over audio tokens and, in mid-level fusion, metadata tokens (Primus & Widmer 2024)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.run.errors import UserError
from task6_retrieval.config import SequenceConfig
from task6_retrieval.model.audio import Tokens, mean_of


def sinusoids(length: int, dim: int) -> Tensor:
    """(length, dim): sine on even, cosine on odd channels, base 10,000; Vaswani et al. 2017, section 3.5."""
    rate = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
    angle = torch.arange(length)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :dim]


class SequenceModel(nn.Module):
    """Audio tokens (batch, tokens, audio dim), metadata tokens (batch, texts' tokens, dim) -> clips (batch, dim).

    In the order metadata, learned token, audio; what is read is the learned token's output.
    """

    positions: Tensor

    def __init__(self, config: SequenceConfig, audio_dim: int) -> None:
        super().__init__()
        self.config, dim = config, config.dim
        self.audio_token = nn.Parameter(0.04 * torch.randn(1, 1, dim))
        self.audio_output_projection = nn.Linear(audio_dim * config.group, dim)
        self.position_scale = nn.Parameter(torch.ones(1))
        self.register_buffer("positions", sinusoids(config.max_length, dim), persistent=False)
        self.audio_sequence = nn.ModuleList(
            nn.TransformerEncoderLayer(
                dim, config.heads, config.feed_forward, config.dropout, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(config.layers)
        )

    def forward(self, audio: Tokens, metadata: Tokens | None = None) -> Tensor:
        """Raises UserError for more audio tokens than there are positions."""
        values, heard = self._grouped(audio)
        x = self.audio_output_projection(values)
        first = self.audio_token.expand(len(x), -1, -1)
        if self.config.mean != "none":
            counted = heard if self.config.mean == "heard" else torch.ones_like(heard)
            first = first + mean_of(x, counted)[:, None]
        if self.config.positions:
            if x.shape[1] > len(self.positions):
                raise UserError(
                    f"model.sequence.max_length: {len(self.positions)} positions, but a clip has {x.shape[1]} tokens"
                )
            x = x + self.position_scale * self.positions[: x.shape[1]]
            x = F.dropout(x, self.config.position_dropout, self.training)
        parts, learned = [Tokens(first, torch.ones_like(heard[:, :1])), Tokens(x, heard)], 0
        if metadata is not None:
            parts, learned = [metadata, *parts], metadata.values.shape[1]
        x, valid = (torch.cat(of, dim=1) for of in zip(*parts, strict=True))
        for layer in self.audio_sequence:
            x = layer(x, src_key_padding_mask=~valid)
        if self.config.readout == "mean":
            return mean_of(x, valid)
        return x[:, 0 if self.config.readout == "first" else learned]

    def _grouped(self, audio: Tokens) -> Tokens:
        """`group` neighbours as one token, which counts when any of them does."""
        group, (values, heard) = self.config.group, audio
        missing = -values.shape[1] % group
        values, heard = F.pad(values, (0, 0, 0, missing)), F.pad(heard, (0, missing))
        return Tokens(values.unflatten(1, (-1, group)).flatten(2), heard.unflatten(1, (-1, group)).any(dim=2))
