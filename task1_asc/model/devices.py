"""The container of 2025: one network for each known recording device."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from common.run.errors import UserError, did_you_mean


class MultiDevice(nn.Module):
    """A general network, and a copy of it for each of `devices`. `known`: all devices, by whose numbers clips say
    theirs. Raises UserError for a device that is none of them. Source: baseline of DCASE 2025 Task 1."""

    def __init__(self, base: nn.Module, devices: Sequence[str], known: Sequence[str]) -> None:
        super().__init__()
        for device in devices:
            if device not in known:
                raise UserError(f"unknown device {device!r}{did_you_mean(device, known)}")
        self.numbers = {device: known.index(device) for device in devices}
        self.base_model = base
        self.device_models = nn.ModuleDict({device: copy.deepcopy(base) for device in devices})

    def for_device(self, device: str | None) -> nn.Module:
        """The network that scores clips of `device`: its own, else the general one."""
        if device is not None and device in self.device_models:
            return self.device_models[device]
        return self.base_model

    def forward(self, x: Tensor, device: Tensor | None = None) -> Tensor:
        """(batch, in_channels, mel, frames) -> logits (batch, classes), one pass for each device in the batch.

        device: (batch,) indices into `known`; any other number, or None for all: the general network. Best on the
        CPU: the sizes of the groups are then known without waiting for a GPU.
        """
        if device is None or len(x) == 0:
            return self.base_model(x)
        own = [device == number for number in self.numbers.values()]
        general = ~torch.stack(own).any(dim=0) if own else torch.ones_like(device, dtype=torch.bool)
        found, rows = [], []
        for network, member in zip((*self.device_models.values(), self.base_model), (*own, general), strict=True):
            chosen = member.nonzero()[:, 0].to(x.device)
            if len(chosen):
                rows.append(chosen)
                found.append(network(x[chosen]))
        return torch.cat(found)[torch.cat(rows).argsort()]
