"""The audio side: clips in segments through a pre-trained encoder, and the mean over what is no padding."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.transforms import Resample

from common.encoders import create
from common.encoders.base import Encoder
from common.encoders.transformer import Patchout
from common.run.errors import UserError
from task6_retrieval.config import SAMPLE_RATE, AudioConfig

# Waveforms (segments, samples) at the encoder's rate -> its mel, changed at random.
Features = Callable[[Encoder, Tensor], Tensor]
ROUNDING = 1e-6  # tokens: a clip that ends with a token must not count as one more


class Tokens(NamedTuple):
    """Vectors (batch, tokens, dim), and True (batch, tokens) where there is audio."""

    values: Tensor
    heard: Tensor


class AudioTower(nn.Module):
    """Waveforms (batch, samples) at 32 kHz, or stored vectors (batch, tokens, dim), -> `Tokens`.

    Every segment of `segment_seconds` is encoded by itself. Raises UserError for segments longer than the encoder takes
    and for patchout of an encoder without.
    """

    def __init__(self, config: AudioConfig, window_seconds: float) -> None:
        super().__init__()
        self.config, self.window_seconds = config, window_seconds
        options = {"patchout": Patchout(*config.patchout)} if any(config.patchout) else {}
        encoder = create(config.encoder, config.checkpoint, num_classes=None, part=config.part, **options)
        if encoder.longest is not None and config.segment_seconds > encoder.longest:
            raise UserError(
                f"model.audio.segment_seconds: {config.segment_seconds:g} s, but {config.encoder} takes "
                f"{encoder.longest:g} s at once"
            )
        self.encoder = encoder.freeze() if config.frozen else encoder
        self.dim = encoder.clip_dim if config.tokens == "clip" else encoder.embedding_dim
        rate = encoder.sample_rate
        self.resample = nn.Identity() if rate == SAMPLE_RATE else Resample(SAMPLE_RATE, rate)

    def forward(self, audio: Tensor, seconds: Tensor, features: Features | None = None) -> Tokens:
        """seconds: (batch,) how much of each clip is no padding. features: what makes the mel, instead of none at
        random. Stored vectors span the window of the recipe.
        """
        if audio.dim() == 3:
            return Tokens(audio, heard(seconds, audio.shape[1], self.window_seconds))
        size = round(self.config.segment_seconds * SAMPLE_RATE)
        count = math.ceil(audio.shape[1] / size)
        segments = F.pad(audio, (0, count * size - audio.shape[1])).unflatten(1, (count, size))
        chosen = heard(seconds, count, count * self.config.segment_seconds)
        encoded = chosen if self.config.skip_padding else torch.ones_like(chosen)
        found = self.encode(segments[encoded], features)
        tokens = found.new_zeros(*encoded.shape, *found.shape[1:])
        tokens[encoded] = found
        tokens = tokens.flatten(1, 2)
        return Tokens(tokens, heard(seconds, tokens.shape[1], count * self.config.segment_seconds))

    def encode(self, segments: Tensor, features: Features | None = None) -> Tensor:
        """Segments (segments, samples) at 32 kHz -> (segments, tokens of one, dim)."""
        waveform = self.resample(segments)
        mel = self.encoder.mel(waveform) if features is None else features(self.encoder, waveform)
        out = self.encoder.from_mel(mel, self.encoder.num_frames(waveform.shape[1]))
        return out.clip[:, None] if self.config.tokens == "clip" else out.frames


def heard(seconds: Tensor, tokens: int, span: float) -> Tensor:
    """True (batch, tokens) for the tokens that begin before the end of each clip; at least one. They last `span` s."""
    filled = (seconds.double() / span * tokens - ROUNDING).ceil().clamp(1, tokens)
    return torch.arange(tokens, device=seconds.device) < filled[:, None]


def mean_of(values: Tensor, valid: Tensor) -> Tensor:
    """(batch, tokens, dim), (batch, tokens) -> mean over valid tokens (batch, dim)."""
    weight = valid[..., None].to(values.dtype)
    return (values * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)
