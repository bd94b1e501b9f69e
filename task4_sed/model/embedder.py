"""A pre-trained encoder beside the CNN: its sequence enters the CRNN as embeddings."""

import hashlib
from dataclasses import asdict, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from common.frontends import SETTINGS, Jitter, LogMel, MelSetting
from common.run.errors import UserError
from common.run.imports import owns
from task4_sed.config import EncoderConfig

if TYPE_CHECKING:
    from common.encoders import Encoder

SAMPLE_RATE = SETTINGS["task4_crnn"].sample_rate
# The winner of 2024 took 527 outputs of a linear layer that was left at its random initial weights.
PROJECTED_DIM = 527


class Embedder:
    """Waveforms (batch, samples) at 16 kHz -> embeddings (batch, dim, steps), without gradient, never random.

    Of an encoder that trains, a part of the network then, the encoder's mel (batch, mel, frames): see `TunedNetwork`.

    Not an nn.Module, so that its weights are no part of a system that holds it: not of its checkpoints (which name the
    encoder and carry its fingerprint instead), its optimiser, or what several processes synchronise. It follows its
    input to a device. Raises UserError for an encoder or a checkpoint that does not exist or does not fit.
    """

    def __init__(self, config: EncoderConfig, encoder: "Encoder | None" = None) -> None:
        from common.encoders import create  # takes a second, which only recipes with an encoder need

        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            encoder = encoder or create(config.name, config.checkpoint, num_classes=None, **config.options)
            self.projection: nn.Module = nn.Identity()
            if config.projection == "frozen":
                self.projection = nn.Linear(encoder.embedding_dim, PROJECTED_DIM).requires_grad_(False)
        if encoder.sample_rate != SAMPLE_RATE:
            raise UserError(
                f"encoder.name: {config.name} hears {encoder.sample_rate} Hz, expected one of {SAMPLE_RATE} Hz"
            )
        self.tokens_per_step = encoder.tokens_per_step
        if config.bands == "mean" and self.tokens_per_step == 1:
            raise UserError(f"encoder.bands: {config.name} has one embedding per time step, expected apart")
        if config.mel_range is not None:
            encoder.front_end = LogMel(_with_range(encoder.front_end.setting, config))
        encoder.checkpointing = config.checkpointing
        self.encoder = encoder if config.train else encoder.freeze()
        self.dim = PROJECTED_DIM if config.projection == "frozen" else encoder.embedding_dim
        self.device = torch.device("cpu")

    @torch.no_grad()
    def __call__(self, waveform: Tensor) -> Tensor:
        if self.device != waveform.device:
            self.device = waveform.device
            self.encoder.to(self.device)
            self.projection.to(self.device)
        mel = self.mel(waveform)
        return mel if self.config.train else self.embed(mel, self.encoder.even_frames(waveform.shape[-1]))

    def mel(self, waveform: Tensor, jitter: Jitter | None = None) -> Tensor:
        """Waveforms (batch, samples) -> the encoder's normalised log-mel (batch, mel, frames)."""
        return self.encoder.mel(waveform) if jitter is None else self.encoder.front_end(waveform, jitter)

    def draw_jitter(self) -> Jitter | None:
        """The mel range of a training batch; None where it is fixed or the encoder does not train."""
        setting = self.encoder.front_end.setting
        return self.encoder.front_end.draw_jitter() if self.config.train and setting.fmax_range > 1 else None

    def embed(self, mel: Tensor, even: int | None = None) -> Tensor:
        """Log-mel of `mel` -> embeddings (batch, dim, steps); `even`: that many steps."""
        return embed(self.encoder, self.projection, mel, self.averaged, even)

    @property
    def averaged(self) -> int:
        """Neighbouring steps of the encoder's sequence that become one, their mean."""
        return self.tokens_per_step if self.config.bands == "mean" else 1

    @property
    def bands(self) -> int:
        """Neighbouring steps of the embeddings that belong to one moment."""
        return self.tokens_per_step if self.config.bands == "apart" else 1

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over names and values of all weights, wherever they came from, and the source of an own encoder."""
        digest = hashlib.sha256("".join(own.digest for own in owns(self.config)).encode())
        for part in (self.encoder, self.projection):
            for name, value in sorted(part.state_dict().items()):
                digest.update(f"{name} {tuple(value.shape)} {value.dtype};".encode())
                digest.update(value.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    @property
    def key(self) -> str:
        """Names what comes out: the weights, and what is done with the bands."""
        return f"{self.config.bands}-{self.fingerprint[:12]}"

    def parameters(self) -> list[nn.Parameter]:
        """All of them, without gradient."""
        return [*self.encoder.parameters(), *self.projection.parameters()]

    def about(self) -> dict[str, Any]:
        """What a checkpoint says about its encoder; of one that trains its weights are in there."""
        settings = {**asdict(self.config), "name": str(self.config.name)}
        return {"settings": settings, "sha256": None if self.config.train else self.fingerprint}


def embed(encoder: "Encoder", projection: nn.Module, mel: Tensor, averaged: int = 1, even: int | None = None) -> Tensor:
    """Log-mel (batch, mel, frames) -> embeddings (batch, dim, steps), the mean of `averaged` neighbours each."""
    frames = encoder.from_mel(mel, even).frames
    if averaged > 1:
        frames = frames.unflatten(1, (-1, averaged)).mean(dim=2)
    return projection(frames).transpose(1, 2)


def _with_range(setting: MelSetting, config: EncoderConfig) -> MelSetting:
    low, high = config.mel_range or (1, 1)
    if setting.filterbank != "kaldi" or setting.framing == "kaldi":
        raise UserError(f"encoder.mel_range: the mel range of {config.name} is fixed, expected null")
    return replace(setting, fmin_range=low, fmax_range=high, fmax=setting.sample_rate / 2 - high / 2)


def check_weights(embedder: Embedder, expected: str | None, path: str) -> None:
    """Raise UserError where a network was trained beside other weights than those of `embedder`; None: not known."""
    if expected is not None and embedder.fingerprint != expected:
        config = embedder.config
        raise UserError(
            f"{path}: trained beside another encoder than {config.name} with {config.checkpoint or 'random weights'}: "
            f"its fingerprint is {embedder.fingerprint[:12]}, expected {expected[:12]}"
        )
