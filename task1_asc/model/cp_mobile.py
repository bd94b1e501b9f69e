"""The baseline of 2024 and 2025, and CP-Mobile of 2023: inverted bottlenecks on log-mel.

Sources: Schmid et al., "Data-efficient low-complexity acoustic scene classification in the DCASE 2024 challenge"
(arXiv 2405.10018), and the technical report of Schmid et al. for DCASE 2023 Task 1 (CP-Mobile). Parameter names are
those of the published code.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models._utils import _make_divisible
from torchvision.ops.misc import Conv2dNormActivation

from common.run.errors import UserError, did_you_mean
from task1_asc.config import ModelConfig

GRN_EPSILON = 1e-6
STEM_STRIDE = 4  # of both axes, in two convolutions


class BlockPlan(NamedTuple):
    """One inverted bottleneck: channels in, inside and out; stride (frequency, time)."""

    stage: str
    name: str
    inputs: int
    expanded: int
    outputs: int
    stride: tuple[int, int]


def plan(config: ModelConfig) -> list[BlockPlan]:
    """The blocks of a baseline or CP-Mobile network. The stem gives the first one's inputs from a quarter of them.

    Raises UserError (`model.<key>: ...`) for a stage without blocks, channels below 1, or a block that is not there.
    """
    for key in ("base_channels", "channels_multiplier", "expansion_rate"):
        if getattr(config, key) <= 0:
            raise UserError(f"model.{key}: is {getattr(config, key):g}, expected more than 0")
    if min(config.blocks) < 1:
        raise UserError(f"model.blocks: {list(config.blocks)}, expected 1 or more in each of the three stages")
    names = [f"b{number}" for number in range(1, sum(config.blocks) + 1)]
    for key in ("strides", "expanded"):
        for name in getattr(config, key):
            if name not in names:
                raise UserError(f"model.{key}: no block {name!r}{did_you_mean(name, names)}")
    base = inputs = _make_divisible(config.base_channels, 8)
    blocks: list[BlockPlan] = []
    for stage, count in enumerate(config.blocks):
        outputs = _make_divisible(base * config.channels_multiplier**stage, 8)
        for _ in range(count):
            name = names[len(blocks)]
            expanded = config.expanded.get(name) or _make_divisible(inputs * config.expansion_rate, 8)
            stride = config.strides.get(name, (1, 1))
            blocks.append(BlockPlan(f"s{stage + 1}", name, inputs, expanded, outputs, stride))
            inputs = outputs
    return blocks


class GlobalResponseNorm(nn.Module):
    """x + gamma * x * (norm of a channel / mean norm of the channels) + beta; gamma and beta are scalars, first 0.

    Woo et al. 2023, "ConvNeXt V2", there with a gamma and a beta for each channel; as scalars in CP-Mobile.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))
        self.beta = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, mel, frames) -> the same shape."""
        norm = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)
        share = norm / (norm.mean(dim=1, keepdim=True) + GRN_EPSILON)
        return self.gamma * (x * share) + self.beta + x


class Block(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 projection, plus the input where the channels stay; [GRN]; ReLU.

    (batch, inputs, mel, frames) -> (batch, outputs, mel / stride, frames / stride). The inverted bottleneck of Sandler
    et al. 2018, "MobileNetV2", section 3.3, with a ReLU after the sum.
    """

    def __init__(self, of: BlockPlan, response_norm: bool) -> None:
        super().__init__()
        self.block = nn.Sequential(
            Conv2dNormActivation(of.inputs, of.expanded, 1),
            Conv2dNormActivation(of.expanded, of.expanded, 3, of.stride, groups=of.expanded),
            Conv2dNormActivation(of.expanded, of.outputs, 1, activation_layer=None),
        )
        self.shortcut: nn.Module | None = None
        if of.inputs == of.outputs:
            self.shortcut = nn.Identity() if of.stride == (1, 1) else nn.AvgPool2d(3, of.stride, padding=1)
        self.response_norm = GlobalResponseNorm() if response_norm else nn.Identity()
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.block(x)
        if self.shortcut is not None:
            y = y + self.shortcut(x)
        return self.activation(self.response_norm(y))


class CPMobile(nn.Module):
    """The baseline, and with `response_norm` CP-Mobile: log-mel (batch, in_channels, mel, frames) of any size ->
    logits (batch, classes).

    Schmid et al. 2024 (arXiv 2405.10018), the baseline system; CP-Mobile: technical report for DCASE 2023 Task 1.
    """

    def __init__(self, config: ModelConfig, response_norm: bool) -> None:
        super().__init__()
        blocks = plan(config)
        base = blocks[0].inputs
        self.in_c = nn.Sequential(
            Conv2dNormActivation(config.in_channels, base // STEM_STRIDE, 3, 2),
            Conv2dNormActivation(base // STEM_STRIDE, base, 3, 2),
        )
        stages = nn.Sequential()
        for of in blocks:
            if not hasattr(stages, of.stage):
                stages.add_module(of.stage, nn.Sequential())
            stages.get_submodule(of.stage).add_module(of.name, Block(of, response_norm))
        self.stages = stages
        self.feed_forward = nn.Sequential(
            nn.Conv2d(blocks[-1].outputs, config.num_classes, 1, bias=False), nn.BatchNorm2d(config.num_classes)
        )
        for module in self.modules():  # batch norms begin as the identity by themselves
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.feed_forward(self.stages(self.in_c(x))).mean(dim=(2, 3))
