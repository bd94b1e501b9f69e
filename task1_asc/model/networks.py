"""A recipe's network: made anew, or filled with the weights of a checkpoint."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from common.run.checkpoints import network_state, read_checkpoint
from common.run.errors import UserError, did_you_mean
from common.run.imports import Own, as_stored, check_shape, make, tried
from task1_asc.config import Config, ModelConfig
from task1_asc.model.cp_mobile import CPMobile
from task1_asc.model.teachers import cp_resnet, passt

KINDS: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "baseline": lambda config: CPMobile(config, response_norm=False),
    "cp_mobile": lambda config: CPMobile(config, response_norm=True),
    "cp_resnet": cp_resnet,
    "passt": passt,
}


def build_network(config: ModelConfig) -> nn.Module:
    """The network of a recipe, in training mode: log-mel (batch, in_channels, mel, frames) -> logits (batch, classes).

    An own one (`model.kind: my_module:Net`) is made from its class with `model.arguments`, and `num_classes` where it
    asks for it. Raises UserError for settings that make no network.
    """
    if isinstance(config.kind, Own):
        return make(config.kind, config.arguments, {"num_classes": config.num_classes}).train()
    if config.kind not in KINDS:
        raise UserError(f"model.kind: no architecture {config.kind!r}{did_you_mean(config.kind, KINDS)}")
    if config.kind in ("cp_resnet", "passt") and config.in_channels != 1:
        raise UserError(f"model.in_channels: is {config.in_channels}, but {config.kind} takes 1")
    return KINDS[config.kind](config).train()


def check_own(config: ModelConfig, network: nn.Module, example: Tensor) -> None:
    """Raise UserError where an own network doesn't give logits for log-mel (1, channels, mel, frames)."""
    if isinstance(config.kind, Own):
        two = torch.cat((example, example))
        logits = tried(config.kind, network, two)
        check_shape(config.kind, logits, (2, config.num_classes), "logits (batch, classes)")


def new_network(config: Config, folder: Path | None = None) -> nn.Module:
    """The network without pre-trained weights, to be filled with those of a checkpoint.

    folder: of the training, whose copy of an own network's source counts.
    """
    model = config.model if folder is None else as_stored(config.model, folder)
    return build_network(replace(model, checkpoint=None))


def load_weights(network: nn.Module, path: Path, expected_sha256: str | None = None) -> nn.Module:
    """Fill a network with the weights of one of this task's checkpoints. Raises UserError for any other file."""
    state = network_state(read_checkpoint(path, expected_sha256), "network", path)
    try:
        network.load_state_dict(state)  # observers of quantisation take shapes of their own
    except RuntimeError as error:
        raise UserError(f"{path}: no checkpoint of this recipe's network ({str(error).splitlines()[0]})") from None
    return network
