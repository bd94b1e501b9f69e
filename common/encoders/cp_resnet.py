"""Receptive-field-regularised ResNets: anomaly detection (DCASE 2020 Task 2), scene student (DCASE 2022 Task 1).

Sources: Koutini et al., "Receptive field regularization techniques for audio classification and tagging with deep
convolutional neural networks" (2021); Primus et al., "Anomalous sound detection as a simple binary classification
problem" (2020); Schmid et al., technical report of DCASE 2022 Task 1.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from common.encoders.base import Encoder, Output, resample_frames
from common.encoders.checkpoints import strip_prefix
from common.frontends import MelSetting
from common.run.errors import UserError, did_you_mean

Kernels = tuple[tuple[int, int], ...]  # of the two convolutions of each block of a stage
Pool = tuple[int, int] | None  # (frequency, time)

STAGES = ("stage1", "stage2", "stage3")
STEM_KERNEL = 5


@dataclass(frozen=True)
class CPResNetConfig:
    """A network as data; each tuple of three has one entry per stage."""

    kernels: tuple[Kernels, Kernels, Kernels]
    channels: tuple[int, int, int]
    pools: tuple[Pool, ...]  # of stage 1: before its first block and after every block
    groups: tuple[int, int, int] = (1, 1, 1)
    batch_norm: bool = True

    def reduction(self, axis: int) -> int:
        """Mel bands per band (axis 0) or mel frames per step (axis 1) of the last map."""
        return 2 * math.prod(pool[axis] for pool in self.pools if pool)


# Kernels of the four blocks of stage 1; those of the other stages are 1.
TASK2_KERNELS: dict[str, Kernels] = {
    "very_small": ((3, 1), (3, 1), (3, 1), (1, 1)),
    "a_bit_smaller": ((3, 1), (3, 3), (3, 1), (3, 1)),
    "normal": ((3, 1), (3, 3), (3, 3), (3, 1)),
    "a_bit_larger": ((3, 1), (3, 3), (3, 3), (3, 3)),
}


def task2_config(setting: str = "normal", channels: int = 64, batch_norm: bool = True) -> CPResNetConfig:
    """Anomaly detection: blocks (4, 1, 2). Raises UserError for an unknown setting."""
    if setting not in TASK2_KERNELS:
        raise UserError(f"unknown CP-ResNet setting {setting!r}{did_you_mean(setting, TASK2_KERNELS)}")
    return CPResNetConfig(
        kernels=(TASK2_KERNELS[setting], ((1, 1),), ((1, 1), (1, 1))),
        channels=(channels, 2 * channels, 4 * channels),
        pools=(None, (2, 2), (2, 2), None, (2, 2)),
        batch_norm=batch_norm,
    )


def scene_config(
    rho: int = 8,
    channels: int = 32,
    blocks: tuple[int, int, int] = (2, 1, 1),
    cut: tuple[int, int, int] = (0, 0, 36),
    groups: tuple[int, int, int] = (1, 2, 1),
) -> CPResNetConfig:
    """Scene classification: the receptive field grows with `rho`, which makes 3x3 of one 1x1 convolution after another.

    cut: channels taken from each stage. The defaults are the student of the 2022 submission; with more channels it
    is the teacher of later systems.
    """

    def kernel(stage: int, block: int, conv: int) -> int:
        if stage == block == 0:
            return (3, 1)[conv]
        return 3 if rho >= 4 * stage + 2 * block + conv else 1

    stages = [tuple((kernel(s, b, 0), kernel(s, b, 1)) for b in range(count)) for s, count in enumerate(blocks)]
    widths = [channels * 2**stage - cut[stage] for stage in range(3)]
    pools: tuple[Pool, ...] = ((2, 2), (2, 1), (2, 1), *[None] * blocks[0])[: blocks[0] + 1]
    return CPResNetConfig((stages[0], stages[1], stages[2]), (widths[0], widths[1], widths[2]), pools, groups)


class BasicBlock(nn.Module):
    """conv, BN, ReLU, conv, BN, plus the input (1x1 conv, BN where the channels change), ReLU."""

    def __init__(self, inputs: int, outputs: int, kernels: tuple[int, int], groups: int, batch_norm: bool) -> None:
        super().__init__()
        conv, norm = partial(_convolution, groups=groups), partial(_norm, batch_norm=batch_norm)
        self.conv1, self.bn1 = conv(inputs, outputs, kernels[0]), norm(outputs)
        self.conv2, self.bn2 = conv(outputs, outputs, kernels[1]), norm(outputs)
        self.shortcut = nn.Sequential()
        if inputs != outputs:
            self.shortcut = nn.Sequential(OrderedDict(conv=conv(inputs, outputs, 1), bn=norm(outputs)))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def _convolution(inputs: int, outputs: int, kernel: int, groups: int = 1, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 3, groups=groups, bias=False)


def _norm(channels: int, batch_norm: bool) -> nn.Module:
    return nn.BatchNorm2d(channels) if batch_norm else nn.Identity()


class CPResNet(nn.Module):
    """Log-mel (batch, 1, mel, frames) of any size -> (batch, outputs). An untrained network answers 0."""

    def __init__(self, config: CPResNetConfig, outputs: int | None) -> None:
        super().__init__()
        self.config = config
        widths = config.channels
        norm = partial(_norm, batch_norm=config.batch_norm)
        self.in_c = nn.Sequential(_convolution(1, widths[0], STEM_KERNEL, stride=2), norm(widths[0]), nn.ReLU())
        for index, name in enumerate(STAGES):
            self.add_module(name, self._stage(index))
        self.feed_forward: nn.Sequential | None = None
        if outputs:
            self.feed_forward = nn.Sequential(_convolution(widths[-1], outputs, 1), norm(outputs))
        self._initialise()
        convert_conv2d_weight_memory_format(self, torch.channels_last)  # a quarter faster on a CPU

    def _stage(self, index: int) -> nn.Sequential:
        config = self.config
        inputs, outputs = config.channels[max(0, index - 1)], config.channels[index]
        pools = config.pools if index == 0 else (None,) * (1 + len(config.kernels[index]))
        stage: OrderedDict[str, nn.Module] = OrderedDict()
        if pools[0]:
            stage["pool0"] = nn.MaxPool2d(pools[0])
        for number, (kernels, pool) in enumerate(zip(config.kernels[index], pools[1:], strict=True), start=1):
            stage[f"block{number}"] = BasicBlock(inputs, outputs, kernels, config.groups[index], config.batch_norm)
            inputs = outputs
            if pool:
                stage[f"pool{number}"] = nn.MaxPool2d(pool)
        return nn.Sequential(stage)

    def _initialise(self) -> None:
        """Fixup with the network's own number of blocks: every residual branch and the output begin as 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        blocks = [module for module in self.modules() if isinstance(module, BasicBlock)]
        for block in blocks:
            kernel, outputs = block.conv1.kernel_size[0], block.conv1.out_channels
            nn.init.normal_(block.conv1.weight, std=len(blocks) ** -0.5 * math.sqrt(2 / (kernel**2 * outputs)))
            nn.init.zeros_(block.conv2.weight)
            for weight in block.shortcut.parameters():
                if weight.dim() > 1:
                    nn.init.normal_(weight, std=math.sqrt(2 / outputs))
        if self.feed_forward is not None:
            for weight in self.feed_forward[0].parameters():
                nn.init.zeros_(weight)

    def layers(self) -> list[nn.Module]:
        """What lies before the output, in order."""
        return [self.in_c, *(getattr(self, name) for name in STAGES)]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers():
            x = layer(x)
        return self.score(x)

    def score(self, x: Tensor) -> Tensor:
        """The last map (batch, channels, bands, steps) -> (batch, outputs)."""
        if self.feed_forward is None:
            raise ValueError("this CP-ResNet was built without outputs")
        return self.feed_forward(x).mean(dim=(2, 3))


class CPResNetEncoder(Encoder):
    """A CP-ResNet behind a front end; `encoder.network` is the network itself.

    `frames` are the last map averaged over frequency, `clip` its global average, `logits` the network's outputs.
    """

    block_names = r"network\.stage(\d+)\."
    head_names = ("network.feed_forward.",)
    head_weight = "network.feed_forward.0.weight"

    def __init__(self, config: CPResNetConfig, front_end: str | MelSetting, num_classes: int | None) -> None:
        super().__init__(front_end)
        self.network = CPResNet(config, num_classes)
        self.embedding_dim = self.clip_dim = config.channels[-1]
        self.shortest = config.reduction(1) + 1
        self.step_rate = self.front_end.setting.frame_rate / config.reduction(1)

    @classmethod
    def canonical(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        plain = strip_prefix(state, ("network.net.", "net.", "network.", ""), "in_c.0.weight")
        known = ("in_c.", *(f"{name}." for name in STAGES), "feed_forward.")
        return {f"network.{name}" if name.startswith(known) else name: value for name, value in plain.items()}

    def from_mel(self, mel: Tensor, frames: int | None = None) -> Output:
        x = mel[:, None]
        for layer in self.network.layers():
            x = self.through(layer, x)
        logits = None if self.network.feed_forward is None else self.network.score(x)
        sequence = x.mean(dim=2).transpose(1, 2)
        return Output(
            sequence if frames is None else resample_frames(sequence, frames), x.mean(dim=(2, 3)), logits, None
        )


def task2_encoder(
    setting: str = "normal",
    channels: int = 64,
    batch_norm: bool = True,
    num_classes: int | None = 1,
    front_end: str | MelSetting = "task2_workshop",
) -> CPResNetEncoder:
    """The network of `task2_config`; its logit is positive for anomalies."""
    return CPResNetEncoder(task2_config(setting, channels, batch_norm), front_end, num_classes)


def scene_encoder(
    num_classes: int | None = 10, front_end: str | MelSetting = "asc_2022_student", **options: Any
) -> CPResNetEncoder:
    """The network of `scene_config(**options)`."""
    return CPResNetEncoder(scene_config(**options), front_end, num_classes)


MODELS: dict[str, Callable[..., Encoder]] = {
    "cp-resnet": task2_encoder,
    **{
        f"cp-resnet-{setting.replace('_', '-')}-{channels}": partial(task2_encoder, setting, channels)
        for setting in TASK2_KERNELS
        for channels in (64, 128)
    },
    "cp-resnet-normal-16": partial(task2_encoder, channels=16),
    "cp-resnet-asc22": scene_encoder,
    "cp-resnet-tiny": partial(task2_encoder, channels=4),
}
