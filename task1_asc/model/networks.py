"""A recipe's network: made anew, or filled with the weights of a checkpoint."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import nn

from common.run.checkpoints import network_state, read_checkpoint
from common.run.errors import UserError, did_you_mean
from task1_asc.config import Config, ModelConfig
from task1_asc.model.cp_mobile import CPMobile
from task1_asc.model.teachers import cp_resnet, passt

ARCHITECTURES: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "baseline": lambda config: CPMobile(config, response_norm=False),
    "cp_mobile": lambda config: CPMobile(config, response_norm=True),
    "cp_resnet": cp_resnet,
    "passt": passt,
}


def build_network(config: ModelConfig) -> nn.Module:
    """The network of a recipe, in training mode: log-mel (batch, in_channels, mel, frames) -> logits (batch, classes).

    Raises UserError for settings that make no network.
    """
    if config.architecture not in ARCHITECTURES:
        hint = did_you_mean(config.architecture, ARCHITECTURES)
        raise UserError(f"model.architecture: no architecture {config.architecture!r}{hint}")
    if config.architecture in ("cp_resnet", "passt") and config.in_channels != 1:
        raise UserError(f"model.in_channels: is {config.in_channels}, but {config.architecture} takes 1")
    return ARCHITECTURES[config.architecture](config).train()


def new_network(config: Config) -> nn.Module:
    """The network without pre-trained weights, to be filled with those of a checkpoint."""
    return build_network(replace(config.model, checkpoint=None))


def load_weights(network: nn.Module, path: Path, expected_sha256: str | None = None) -> nn.Module:
    """Fill a network with the weights of one of this task's checkpoints. Raises UserError for any other file."""
    state = network_state(read_checkpoint(path, expected_sha256), "network", path)
    try:
        network.load_state_dict(state)  # observers of quantisation take shapes of their own
    except RuntimeError as error:
        raise UserError(f"{path}: no checkpoint of this recipe's network ({str(error).splitlines()[0]})") from None
    return network
