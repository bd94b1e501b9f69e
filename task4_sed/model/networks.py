"""A recipe's network: its settings for the data and the encoder that it gets, and the front end before it."""

from dataclasses import replace

from common.frontends import SETTINGS, LogMel
from common.run.errors import UserError
from task4_sed.config import ModelConfig
from task4_sed.model.embedder import Embedder


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
