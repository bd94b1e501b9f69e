"""A recipe's network: its settings for the data and the encoder that it gets, and the front end before it."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from common.encoders import RANDOM
from common.frontends import SETTINGS, LogMel
from common.run.errors import UserError
from common.run.imports import Own, check_shape, make, tried
from task4_sed.config import OFFERED, EncoderConfig, ModelConfig
from task4_sed.model.crnn import CRNN, Prediction, predict
from task4_sed.model.embedder import SAMPLE_RATE, Embedder, embed

FRAMES_PER_OUTPUT = 4  # frames of log-mel (16 ms) for one of the output (64 ms)
EMBEDDINGS_PER_SECOND = 25  # of the example that an own network is tried with; any number has to do


class OwnNetwork(nn.Module):
    """An own network with the face of the CRNN.

    Its class is made with `model.arguments`, and of num_classes, num_mels and embedding_dim (None without an encoder)
    with what it asks for. It takes log-mel (batch, mel, frames), beside an encoder also embeddings (batch, dim, steps),
    and gives logits (batch, classes, frames // 4), or a pair of them: logits and attention. The attention of a frame,
    its softmax over the classes, weighs its share in the clip's probability; without a second output the logits weigh.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.network = make(config.kind, config.arguments, {name: getattr(config, name) for name in OFFERED})
        frames, dim = front_end(config).num_frames(10 * SAMPLE_RATE), config.embedding_dim
        beside = [] if dim is None else [torch.zeros(2, dim, 10 * EMBEDDINGS_PER_SECOND)]
        found = tried(config.kind, self.network, torch.zeros(2, config.num_mels, frames), *beside)
        shape = (2, config.num_classes, frames // FRAMES_PER_OUTPUT)
        for logits in found if isinstance(found, tuple) else (found,):
            check_shape(config.kind, logits, shape, "logits (batch, classes, frames), a frame for four of log-mel")

    def forward(
        self, features: Tensor, embeddings: Tensor | None = None, class_mask: Tensor | None = None
    ) -> Prediction:
        """As `CRNN.forward`."""
        found = self.network(features) if embeddings is None else self.network(features, embeddings)
        logits, attention = found if isinstance(found, tuple) else (found, found)
        return predict(logits.float(), attention.float(), class_mask)


class TunedNetwork(nn.Module):
    """A CRNN (or an own network) and the encoder that trains with it.

    Takes the encoder's mel (batch, mel, frames) where a network beside a frozen encoder takes embeddings.
    """

    def __init__(self, crnn: CRNN | OwnNetwork, embedder: Embedder) -> None:
        super().__init__()
        self.config, self.averaged = crnn.config, embedder.averaged
        self.crnn, self.encoder, self.projection = crnn, embedder.encoder, embedder.projection

    def forward(self, features: Tensor, mel: Tensor, class_mask: Tensor | None = None) -> Prediction:
        """Log-mel (batch, mel, frames) of the CNN and of the encoder, class_mask as in `CRNN.forward`."""
        return self.crnn(features, embed(self.encoder, self.projection, mel, self.averaged), class_mask)

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state dict of the winner's checkpoints, the encoder's names behind `as_model.`, under names of here."""
        found, inside = {}, {}
        for name, value in state.items():
            part = name.removeprefix("as_model.")
            if part.startswith("head_linear_layer."):
                found[part.replace("head_linear_layer", "projection")] = value
            elif part != name:
                inside[part] = value
            else:
                found[f"crnn.{name}"] = value
        return found | {f"encoder.{name}": value for name, value in self.encoder.canonical(inside).items()}


Network = CRNN | OwnNetwork | TunedNetwork


def build_network(config: ModelConfig, embedder: Embedder | None = None) -> Network:
    """The network of a recipe: log-mel, embeddings, class mask -> `Prediction`. UserError for an own one that fails.

    With an encoder that trains it is a `TunedNetwork`.
    """
    network: CRNN | OwnNetwork = OwnNetwork(config) if isinstance(config.kind, Own) else CRNN(config)
    return TunedNetwork(network, embedder) if embedder is not None and embedder.config.train else network


def network_beside(config: ModelConfig, encoder: EncoderConfig | None) -> Network:
    """`build_network` for weights that come from a file: those of an encoder that trains are among them."""
    if encoder is None or not encoder.train:
        return build_network(config)
    return build_network(config, Embedder(replace(encoder, checkpoint=RANDOM)))


def front_end(config: ModelConfig) -> LogMel:
    """The log-mel of the CNN branch, with the recipe's window and number of bands."""
    setting = replace(SETTINGS["task4_crnn"], num_mels=config.num_mels, window=config.fft, fft=config.fft)
    return LogMel(setting)


def fitted(model: ModelConfig, embedder: Embedder | None, num_classes: int) -> ModelConfig:
    """The model for the classes and embeddings that it gets; UserError where the recipe says something else."""
    if embedder is None:
        if model.embedding_dim is not None:
            raise UserError(
                f"model.embedding_dim: is {model.embedding_dim}, but the recipe names no encoder; set it to null"
            )
        return replace(model, num_classes=num_classes)
    if model.embedding_dim not in (None, embedder.dim):
        raise UserError(
            f"model.embedding_dim: is {model.embedding_dim}, but encoder {embedder.config.name} gives {embedder.dim}"
        )
    return replace(model, embedding_dim=embedder.dim, num_classes=num_classes)
