"""A recipe's network: its settings for the data and the encoder that it gets, and the front end before it."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from common.frontends import SETTINGS, LogMel
from common.run.errors import UserError
from common.run.imports import Own, check_shape, make, tried
from task4_sed.config import OFFERED, ModelConfig
from task4_sed.model.crnn import CRNN, Prediction, predict
from task4_sed.model.embedder import SAMPLE_RATE, Embedder

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


def build_network(config: ModelConfig) -> CRNN | OwnNetwork:
    """The network of a recipe: log-mel, embeddings, class mask -> `Prediction`. UserError for an own one that fails."""
    return OwnNetwork(config) if isinstance(config.kind, Own) else CRNN(config)


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
