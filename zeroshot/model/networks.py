"""A recipe's network: audio encoder, standardised embedding, compatibility with class vectors."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from common.run.checkpoints import fill, network_state, read_checkpoint
from zeroshot.config import DICTIONARIES, Config, EncoderConfig
from zeroshot.model.compatibility import build_compatibility

if TYPE_CHECKING:
    from common.encoders import Encoder

LEAST_VARIATION = 1e-5  # of its largest value: a number that varies less is constant but for rounding


class ZeroShotNetwork(nn.Module):
    """Scores F (batch, classes) of audio against any class vectors (classes, d_t).

    encoder: of recipes that train it; else the audio is embeddings already. audio_mean, audio_scale (d_a,): of the
    training clips' embeddings, where the recipe standardises.
    """

    audio_mean: Tensor
    audio_scale: Tensor

    def __init__(self, encoder: "Encoder | None", compatibility: nn.Module, audio_dim: int) -> None:
        super().__init__()
        self.encoder, self.compatibility = encoder, compatibility
        self.register_buffer("audio_mean", torch.zeros(audio_dim))
        self.register_buffer("audio_scale", torch.ones(audio_dim))

    def embed(self, audio: Tensor) -> Tensor:
        """Waveforms (batch, samples), or embeddings (batch, d_a), -> standardised embeddings (batch, d_a)."""
        return self.standardised(audio if self.encoder is None else self.encoder(audio).clip)

    def standardised(self, embeddings: Tensor) -> Tensor:
        """(batch, d_a), less the training clips' mean, in their standard deviations."""
        return (embeddings - self.audio_mean) / self.audio_scale

    def standardise_by(self, embeddings: Tensor) -> None:
        """Take mean and standard deviation from these training embeddings (clips, d_a).

        What never varies is not scaled: the same number moves a little in other clips.
        """
        mean, scale = embeddings.double().mean(dim=0), embeddings.double().std(dim=0, correction=0)
        varies = scale > LEAST_VARIATION * embeddings.abs().amax(dim=0)
        self.audio_mean.copy_(mean)
        self.audio_scale.copy_(torch.where(varies, scale, 1.0))

    def forward(self, audio: Tensor, classes: Tensor) -> Tensor:
        """Audio as `embed` takes it, class vectors (classes, d_t) -> (batch, classes)."""
        scores: Tensor = self.compatibility(self.embed(audio), classes)
        return scores


def trained_encoder(config: EncoderConfig) -> "Encoder":
    """The encoder of a recipe that trains it, without classes of its own."""
    from common import encoders
    from common.encoders.transformer import Patchout

    if config.name in DICTIONARIES:
        from zeroshot.model.dictionary import Dictionary

        return Dictionary(bands=config.name == "dictionary-bands")

    options: dict[str, Any] = {}
    if any(config.patchout):
        frequency, time = config.patchout
        options["patchout"] = Patchout(time=time, frequency=frequency)
    return encoders.create(config.name, config.checkpoint, num_classes=None, **options)


def build_network(config: Config, audio_dim: int | None, class_dim: int) -> ZeroShotNetwork:
    """The network of a recipe with new maps, in training mode.

    audio_dim: of the embeddings that go in; None where the recipe trains the encoder.
    """
    encoder = trained_encoder(config.encoder) if config.encoder.finetune else None
    if encoder is not None:
        audio_dim = encoder.clip_dim
    assert audio_dim is not None
    compatibility = build_compatibility(config.model, config.loss, audio_dim, class_dim)
    return ZeroShotNetwork(encoder, compatibility, audio_dim).train()


def load_network(config: Config, path: Path, expected_sha256: str | None = None) -> ZeroShotNetwork:
    """The network of a checkpoint of this task, in evaluation mode. Raises UserError for any other file."""
    state = network_state(read_checkpoint(path, expected_sha256), "network", path)
    maps = {name: value.shape for name, value in state.items() if name.startswith("compatibility.")}
    weight = maps.get("compatibility.weight") or maps.get("compatibility.classes.weight") or torch.Size((1, 1))
    audio_dim = len(state["audio_mean"]) if "audio_mean" in state else 1
    encoder = replace(config.encoder, checkpoint=None)
    network = build_network(replace(config, encoder=encoder), audio_dim, weight[1])
    fill(network, state, path)
    return network
