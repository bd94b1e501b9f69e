"""The arithmetic of deployment: copies of a network in half precision, or with weights rounded to it."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from common.run.errors import UserError


class HalfPrecision(nn.Module):
    """A copy of a network in evaluation mode whose weights, buffers and arithmetic are float16; logits are float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).half()
        self.eval()

    def forward(self, x: Tensor, device: Tensor | None = None) -> Tensor:
        logits: Tensor = self.network(x.half()) if device is None else self.network(x.half(), device)
        return logits.float()


def deployed(model: nn.Module, precision: str) -> nn.Module:
    """A copy of `model` for test and prediction, in evaluation mode; `model` stays as it is.

    In single precision convolutions compute channels last, on a CPU a third faster or more; half precision is not.
    precision: "float32"; "float16": `HalfPrecision`; "float16_weights": weights rounded to half precision, computed in
    single precision. Raises UserError for another one (int8 needs calibration or quantisation-aware training).
    """
    if precision == "float16":
        return HalfPrecision(model)
    if precision not in ("float32", "float16_weights"):
        raise UserError(f"precision: {precision!r} is no plain copy, expected float32, float16 or float16_weights")
    network = copy.deepcopy(model).eval()
    if precision == "float16_weights":
        network = network.half().float()
    convert_conv2d_weight_memory_format(network, torch.channels_last)
    return network
