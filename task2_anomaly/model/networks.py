"""The network of a recipe."""

import torch
from torch import nn

from common.encoders.cp_resnet import CPResNet, task2_config
from common.run.errors import UserError
from common.run.imports import Own, check_shape, make, tried
from task2_anomaly.config import Config, ModelConfig
from task2_anomaly.model.autoencoder import (
    CONTEXT,
    CONV_FRAMES,
    ConvAutoencoder,
    DenseAutoencoder,
    FirstShotAutoencoder,
)


def window_frames(config: Config) -> int:
    """Frames that the network of a recipe takes."""
    kind = config.model.kind
    return config.data.snippet_frames if config.model.classifies else CONV_FRAMES if kind == "ae_conv" else CONTEXT


def build_network(config: ModelConfig, num_mels: int) -> nn.Module:
    """An untrained network: a classifier (CP-ResNet, Koutini et al. 2021, or an own one) or an autoencoder.

    A classifier takes (batch, 1, mel, frames), gives (batch, 1) logits, higher for anomalies; CP-ResNet begins with 0.
    An own one (`model.kind: my_module:Net`) is made from its class with `model.arguments`, and `num_mels` where it asks
    for it. An autoencoder takes and gives (batch, mel, frames). Raises UserError for bands that do not fit.
    """
    if isinstance(config.kind, Own):
        return make(config.kind, config.arguments, {"num_mels": num_mels})
    if config.kind == "classifier":
        return CPResNet(task2_config(config.kernels, config.base_channels), outputs=1)
    if config.kind == "ae_firstshot":
        return FirstShotAutoencoder(num_mels)
    if config.kind == "ae_conv":
        if num_mels % 8:
            raise UserError(f"front_end.num_mels: {num_mels} bands, model.kind=ae_conv needs a multiple of 8")
        return ConvAutoencoder(num_mels)
    return DenseAutoencoder(num_mels, config.kind)


def check_own(config: ModelConfig, network: nn.Module, num_mels: int, frames: int) -> None:
    """Raise UserError where an own network doesn't give a logit for log-mel (batch, 1, mel, frames)."""
    if isinstance(config.kind, Own):
        logits = tried(config.kind, network, torch.zeros(2, 1, num_mels, frames))
        check_shape(config.kind, logits, (2, 1), "logits (batch, 1), higher for anomalies")
