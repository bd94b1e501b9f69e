"""MobileNetV3 on log-mel: the taggers `mn*` of EfficientAT and the frame-wise `frame_mn*`, from one table of blocks.

Sources: Howard et al. 2019; Schmid, Koutini, Widmer, "Efficient large-scale audio tagging via
transformer-to-CNN knowledge distillation" (2023); the frame-wise strides from "Effective pre-training of audio
transformers for sound event detection" (Schmid et al. 2024).
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models._utils import _make_divisible
from torchvision.ops.misc import Conv2dNormActivation

from common.encoders.base import Encoder, FrameEncoder, Output, resample_frames
from common.encoders.checkpoints import strip_prefix
from common.frontends import SETTINGS, MelSetting

Stride = int | tuple[int, int]  # (frequency, time)

AUDIOSET_CLASSES = 527
STRONG_CLASSES = 447
HIDDEN = 1280
DROPOUT = 0.2
ANCHOR = "features.0.0.weight"
BatchNorm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)


class Block(NamedTuple):
    """An inverted residual at width 1."""

    kernel: int
    expanded: int
    outputs: int
    squeeze: bool
    activation: Callable[..., nn.Module]


STEM = 16
BLOCKS = (
    Block(3, 16, 16, False, nn.ReLU),
    Block(3, 64, 24, False, nn.ReLU),
    Block(3, 72, 24, False, nn.ReLU),
    Block(5, 72, 40, True, nn.ReLU),
    Block(5, 120, 40, True, nn.ReLU),
    Block(5, 120, 40, True, nn.ReLU),
    Block(3, 240, 80, False, nn.Hardswish),
    Block(3, 200, 80, False, nn.Hardswish),
    Block(3, 184, 80, False, nn.Hardswish),
    Block(3, 184, 80, False, nn.Hardswish),
    Block(3, 480, 112, True, nn.Hardswish),
    Block(3, 672, 112, True, nn.Hardswish),
    Block(5, 672, 160, True, nn.Hardswish),
    Block(5, 960, 160, True, nn.Hardswish),
    Block(5, 960, 160, True, nn.Hardswish),
)
# 128 bands end as one band, 4 frames as one step.
FREQUENCY_STRIDES = (1, 2, 2, 1, 1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 2)
FRAME_STRIDES: tuple[Stride, ...] = tuple((f, 2 if i == 1 else 1) for i, f in enumerate(FREQUENCY_STRIDES))


def clip_strides(s0: int = 2, s1: int = 2, s2: int = 2, s3: int = 2) -> tuple[Stride, ...]:
    """Strides of the 15 blocks of a tagger: four of them reduce the map."""
    return (1, s0, 1, s1, 1, 1, s2, 1, 1, 1, 1, 1, s3, 1, 1)


def scaled(channels: float) -> int:
    """Channels rounded to a multiple of 8, at least 8, never down by more than 10 %."""
    return _make_divisible(channels, 8)


class SqueezeExcitation(nn.Module):
    """A gate per channel from the mean over frequency and time. A sigmoid, unlike torchvision's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = scaled(channels // 4)
        gate: OrderedDict[str, nn.Module] = OrderedDict()
        gate["fc1"], gate["relu"] = nn.Linear(channels, squeezed), nn.ReLU()
        gate["fc2"], gate["sigmoid"] = nn.Linear(squeezed, channels), nn.Sigmoid()
        self.conc_se_layers = nn.ModuleList([nn.Sequential(gate)])

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conc_se_layers[0](x.mean(dim=(2, 3)))[..., None, None]


class InvertedResidual(nn.Module):
    """1x1 up, depthwise k x k, gate, 1x1 down, on (batch, channels, frequency, time)."""

    def __init__(self, inputs: int, block: Block, width: float, stride: Stride) -> None:
        super().__init__()
        expanded, outputs = scaled(block.expanded * width), scaled(block.outputs * width)
        conv = partial(Conv2dNormActivation, norm_layer=BatchNorm)
        layers: list[nn.Module] = []
        if expanded != inputs:
            layers.append(conv(inputs, expanded, 1, activation_layer=block.activation))
        layers.append(
            conv(expanded, expanded, block.kernel, stride, groups=expanded, activation_layer=block.activation)
        )
        if block.squeeze:
            layers.append(SqueezeExcitation(expanded))
        layers.append(conv(expanded, outputs, 1, activation_layer=None))
        self.block = nn.Sequential(*layers)
        self.residual = stride in (1, (1, 1)) and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.residual else self.block(x)


def make_features(width: float, strides: Sequence[Stride], blocks: Sequence[Block] = BLOCKS) -> nn.Sequential:
    """Stem, blocks and last 1x1 convolution, initialised as for training from scratch."""
    conv = partial(Conv2dNormActivation, norm_layer=BatchNorm, activation_layer=nn.Hardswish)
    channels = [scaled(STEM * width), *(scaled(block.outputs * width) for block in blocks)]
    layers: list[nn.Module] = [conv(1, channels[0], 3, 2)]
    for inputs, block, stride in zip(channels[:-1], blocks, strides, strict=True):
        layers.append(InvertedResidual(inputs, block, width, stride))
    layers.append(conv(channels[-1], 6 * channels[-1], 1))
    # Channels last is about a tenth faster on a CPU for one clip, a quarter in batches and in training.
    return convert_conv2d_weight_memory_format(nn.Sequential(*layers).apply(initialise), torch.channels_last)


def fold_norms(network: nn.Module) -> None:
    """Batch norms become a part of the convolutions before them: for evaluation, a fifth faster on a CPU."""
    for layer in network.modules():
        if isinstance(layer, Conv2dNormActivation):
            layer[0], layer[1] = fuse_conv_bn_eval(layer[0], layer[1]), nn.Identity()


def initialise(module: nn.Module) -> None:
    """Random weights of a convolution or a linear layer, as published."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)


def frame_stride(strides: Sequence[Stride]) -> int:
    """Mel frames per step, the stem's stride of 2 included."""
    return 2 * math.prod(stride if isinstance(stride, int) else stride[1] for stride in strides)


class MobileNet(Encoder):
    """Clip-wise MobileNetV3: `clip` is the global average of the last map, before the classifier.

    head: "mlp", one hidden layer on the average; "fully_convolutional", classes at each point of the map, averaged.
    strides: of each block; `frames` are the last map averaged over frequency, one per `step_rate`.
    """

    block_names = r"features\.(\d+)\."
    head_names = ("classifier.",)

    def __init__(
        self,
        num_classes: int | None = AUDIOSET_CLASSES,
        width: float = 1.0,
        head: Literal["mlp", "fully_convolutional"] = "mlp",
        strides: Sequence[Stride] = clip_strides(),
        blocks: Sequence[Block] = BLOCKS,
        front_end: str | MelSetting = "mel_32k",
    ) -> None:
        super().__init__(front_end)
        self.features = make_features(width, strides, blocks)
        self.embedding_dim = self.clip_dim = last_channels(width, blocks)
        self.step_rate = self.front_end.setting.frame_rate / frame_stride(strides)
        self.head_kind = head
        self.head_weight = "classifier.5.weight" if head == "mlp" else "classifier.0.weight"
        if head == "mlp" and num_classes:
            # Other classes keep the hidden layer, as in the published fine-tuning.
            self.after_blocks, self.head_names = ("classifier.2.",), ("classifier.5.",)
        self.classifier = self._classifier(num_classes, scaled(HIDDEN * width)) if num_classes else None

    def _classifier(self, num_classes: int, hidden: int) -> nn.Sequential:
        dim = self.clip_dim
        if self.head_kind == "fully_convolutional":
            layers = nn.Sequential(nn.Conv2d(dim, num_classes, 1, bias=False), nn.BatchNorm2d(num_classes))
        else:
            last = nn.Linear(hidden, num_classes)
            named = {"2": nn.Linear(dim, hidden), "3": nn.Hardswish(), "4": nn.Dropout(DROPOUT), "5": last}
            layers = nn.Sequential(OrderedDict(named))
        return layers.apply(initialise)

    @classmethod
    def canonical(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return strip_prefix(state, ("",), ANCHOR)

    def from_mel(self, mel: Tensor, frames: int | None = None) -> Output:
        x = through_all(self, self.features, mel)
        clip, sequence = x.mean(dim=(2, 3)), x.mean(dim=2).transpose(1, 2)
        logits = None
        if self.classifier is not None:
            logits = self.classifier(clip) if self.head_kind == "mlp" else self.classifier(x).mean(dim=(2, 3))
        return Output(sequence if frames is None else resample_frames(sequence, frames), clip, logits, None)


class FrameMobileNet(FrameEncoder):
    """Frame-wise MobileNetV3: 128 bands end as one, time keeps every fourth frame (25 a second)."""

    block_names = r"features\.(\d+)\."
    after_blocks = ()

    def __init__(
        self,
        num_classes: int | None = STRONG_CLASSES,
        width: float = 1.0,
        head: Literal["linear", "attention"] = "linear",
        strides: Sequence[Stride] = FRAME_STRIDES,
        blocks: Sequence[Block] = BLOCKS,
        front_end: str | MelSetting = "mel_16k_symmetric_7000",
    ) -> None:
        super().__init__(front_end, last_channels(width, blocks), num_classes, head)
        self.features = make_features(width, strides, blocks)
        self.step_rate = self.front_end.setting.frame_rate / frame_stride(strides)

    @classmethod
    def canonical(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return strip_prefix(state, ("model.frame_mn.", "frame_mn.", "model.fmn.", ""), ANCHOR)

    def sequence(self, mel: Tensor) -> Tensor:
        return through_all(self, self.features, mel).mean(dim=2).transpose(1, 2)


def last_channels(width: float, blocks: Sequence[Block]) -> int:
    """Channels after the last convolution of a network of that width factor."""
    return 6 * scaled(blocks[-1].outputs * width)


def through_all(encoder: Encoder, layers: nn.Sequential, mel: Tensor) -> Tensor:
    """(batch, mel, frames) -> the last map (batch, channels, frequency, steps)."""
    x = mel[:, None]
    for layer in layers:
        x = encoder.through(layer, x)
    return x


def _hop(milliseconds: int) -> MelSetting:
    return replace(SETTINGS["mel_32k"], hop=32 * milliseconds)


def _mels(bands: int) -> MelSetting:
    return replace(SETTINGS["mel_32k"], num_mels=bands)


TINY = (BLOCKS[0], BLOCKS[1], BLOCKS[3])
MODELS: dict[str, Callable[..., Encoder]] = {
    **{
        f"mn{round(10 * width):02d}": partial(MobileNet, width=width)
        for width in (0.1, 0.2, 0.4, 0.5, 1.0, 2.0, 3.0, 4.0)
    },
    **{f"mn10-hop{ms}": partial(MobileNet, front_end=_hop(ms)) for ms in (5, 15, 20, 25)},
    **{f"mn10-mels{bands}": partial(MobileNet, front_end=_mels(bands)) for bands in (40, 64, 256)},
    "mn10-fc": partial(MobileNet, head="fully_convolutional"),
    "mn10-fc-s2221": partial(MobileNet, head="fully_convolutional", strides=clip_strides(2, 2, 2, 1)),
    "mn10-fc-s2211": partial(MobileNet, head="fully_convolutional", strides=clip_strides(2, 2, 1, 1)),
    **{f"frame_mn{round(10 * width):02d}": partial(FrameMobileNet, width=width) for width in (0.4, 0.6, 1.0, 2.0, 3.0)},
    "mn-tiny": partial(MobileNet, width=0.1, strides=(2, 2, 2), blocks=TINY),
    "frame_mn-tiny": partial(FrameMobileNet, width=0.1, strides=((4, 2), (4, 1), (4, 1)), blocks=TINY),
}
