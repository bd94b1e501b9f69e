"""The audio side: clips in segments through a pre-trained encoder, and the mean over what is no padding."""

import math
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.transforms import Resample

from common.encoders import create
from common.encoders.base import Encoder
from common.encoders.transformer import Patchout
from common.run.checkpoints import weights_sha256
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
    """Waveforms (batch, samples) at 32 kHz, or the stored tokens of whole segments (batch, tokens, dim), -> `Tokens`.

    Every segment is encoded by itself. Raises UserError for segments longer than the encoder takes and for patchout of
    an encoder without.
    """

    def __init__(self, config: AudioConfig, segment_seconds: float) -> None:
        super().__init__()
        self.config, self.segment_seconds = config, segment_seconds
        options = {"patchout": Patchout(*config.patchout)} if any(config.patchout) else {}
        encoder = create(config.encoder, config.checkpoint, num_classes=None, part=config.part, **options)
        if encoder.longest is not None and segment_seconds > encoder.longest:
            raise UserError(
                f"data.segment_seconds: {segment_seconds:g} s, but {config.encoder} takes {encoder.longest:g} s at once"
            )
        self.encoder = encoder.freeze() if config.frozen else encoder
        self.dim = encoder.clip_dim if config.tokens == "clip" else encoder.embedding_dim
        rate = encoder.sample_rate
        self.resample = nn.Identity() if rate == SAMPLE_RATE else Resample(SAMPLE_RATE, rate)

    def forward(self, audio: Tensor, seconds: Tensor, features: Features | None = None) -> Tokens:
        """seconds: (batch,) of each clip, without padding. features: makes the mel in place of the encoder."""
        if audio.dim() == 3:
            return Tokens(audio.float(), heard(seconds, audio.shape[1], self.segment_seconds / self.tokens_per_segment))
        segments, encoded = cut_segments(audio, seconds, self.segment_seconds)
        if not self.config.skip_padding:
            encoded = torch.ones_like(encoded)
        found = self.encode(segments[encoded], features)
        tokens = found.new_zeros(*encoded.shape, *found.shape[1:])
        tokens[encoded] = found
        tokens = tokens.flatten(1, 2)
        return Tokens(tokens, heard(seconds, tokens.shape[1], self.segment_seconds / found.shape[1]))

    @cached_property
    def tokens_per_segment(self) -> int:
        """Steps of a segment's sequence; 1 where one vector stands for it."""
        if self.config.tokens == "clip":
            return 1
        training, silence = self.training, torch.zeros(1, round(self.segment_seconds * SAMPLE_RATE))
        with torch.no_grad():
            steps = self.eval().encode(silence.to(next(self.encoder.parameters()).device)).shape[1]
        self.train(training)
        return steps

    @property
    def key(self) -> str:
        """Names what comes out of a frozen encoder: the weights, and what of a segment is taken."""
        weights = weights_sha256(self.encoder)[:12]
        return f"{self.config.encoder}-{self.config.tokens}-{self.segment_seconds:g}s-{weights}"

    def encode(self, segments: Tensor, features: Features | None = None) -> Tensor:
        """Segments (segments, samples) at 32 kHz -> (segments, tokens of one, dim)."""
        waveform = self.resample(segments)
        mel = self.encoder.mel(waveform) if features is None else features(self.encoder, waveform)
        out = self.encoder.from_mel(mel, self.encoder.num_frames(waveform.shape[1]))
        return out.clip[:, None] if self.config.tokens == "clip" else out.frames


def cut_segments(audio: Tensor, seconds: Tensor, segment_seconds: float) -> tuple[Tensor, Tensor]:
    """Waveforms (batch, samples) -> segments (batch, count, samples of one), the last one padded with zeros; and True
    (batch, count) for those that begin before the end of each clip, of which there is at least one.
    """
    size = round(segment_seconds * SAMPLE_RATE)
    count = math.ceil(audio.shape[1] / size)
    padded = F.pad(audio, (0, count * size - audio.shape[1]))
    return padded.unflatten(1, (count, size)), heard(seconds, count, segment_seconds)


def heard(seconds: Tensor, tokens: int, token_seconds: float) -> Tensor:
    """True (batch, tokens) for the tokens that begin before the end of each clip; at least one."""
    filled = (seconds.double() / token_seconds - ROUNDING).ceil().clamp(1, tokens)
    return torch.arange(tokens, device=seconds.device) < filled[:, None]


def mean_of(values: Tensor, valid: Tensor) -> Tensor:
    """(batch, tokens, dim), (batch, tokens) -> mean over valid tokens (batch, dim)."""
    weight = valid[..., None].to(values.dtype)
    return (values * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)
