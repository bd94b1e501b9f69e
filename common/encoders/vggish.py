"""VGGish (Hershey et al. 2017) and the M-VGGish features for vocal imitations (Kim and Pardo 2019), 16 kHz."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from common.encoders.base import Encoder, Output, resample_frames
from common.encoders.checkpoints import strip_prefix
from common.run.errors import UserError

EXAMPLE_FRAMES = 96  # 0.96 s
SEGMENT_SECONDS = 2
# "M": max pooling by 2.
LAYERS = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M")


def make_features(layers: Sequence[int | str]) -> nn.Sequential:
    """3x3 convolutions with bias and ReLU, max pooling."""
    modules: list[nn.Module] = []
    inputs = 1
    for layer in layers:
        if isinstance(layer, int):
            # Not in place: M-VGGish reads what goes into the last ReLUs.
            modules += [nn.Conv2d(inputs, layer, 3, padding=1), nn.ReLU()]
            inputs = layer
        else:
            modules.append(nn.MaxPool2d(2))
    # Channels last is up to a quarter faster on a CPU.
    return convert_conv2d_weight_memory_format(nn.Sequential(*modules), torch.channels_last)


class VGGish(Encoder):
    """`frames` are embeddings of examples of 0.96 s that follow each other, `clip` is their mean. No classes.

    Frames that don't fill the last example are dropped, as published.
    """

    block_names = r"features\.(\d+)\."
    after_blocks = ("embeddings.",)
    shortest = EXAMPLE_FRAMES

    def __init__(
        self,
        num_classes: int | None = None,
        layers: Sequence[int | str] = LAYERS,
        hidden: int = 4096,
        dim: int = 128,
    ) -> None:
        if num_classes is not None:
            raise UserError(f"vggish has no classes, num_classes must be None, not {num_classes}")
        super().__init__("vggish")
        self.features = make_features(layers)
        channels = [layer for layer in layers if isinstance(layer, int)]
        reduction = 2 ** (len(layers) - len(channels))
        flat = channels[-1] * (EXAMPLE_FRAMES // reduction) * (self.front_end.num_mels // reduction)
        sizes = (flat, hidden, hidden, dim)
        self.embeddings = nn.Sequential()
        for inputs, outputs in pairwise(sizes):
            self.embeddings.extend((nn.Linear(inputs, outputs), nn.ReLU()))
        self.embedding_dim = self.clip_dim = dim
        self.step_rate = self.front_end.setting.frame_rate / EXAMPLE_FRAMES

    @classmethod
    def canonical(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return strip_prefix(state, ("",), "features.0.weight")

    @staticmethod
    def examples(mel: Tensor, length: int = EXAMPLE_FRAMES) -> Tensor:
        """(batch, mel, frames) -> (batch, examples, length, mel): whole examples that follow each other."""
        count = mel.shape[2] // length
        return mel[..., : count * length].transpose(1, 2).unflatten(1, (count, length))

    def from_mel(self, mel: Tensor, frames: int | None = None) -> Output:
        examples = self.examples(mel)
        x = self.through(self.features, examples.flatten(0, 1)[:, None])  # (batch x examples, channels, 6, 4)
        x = self.embeddings(x.permute(0, 2, 3, 1).flatten(1)).unflatten(0, examples.shape[:2])
        return Output(x if frames is None else resample_frames(x, frames), x.mean(dim=1), None, None)

    def similarity_features(self, waveform: Tensor) -> Tensor:
        """M-VGGish: waveforms (batch, samples) -> (batch, 196608), to be compared by cosine.

        Means over segments of two examples of what the last two convolutions give before their ReLU. Silence fills
        the waveform up to an even number of seconds, so that at least one whole segment stands for every two of them;
        the published rule, the same where it works, cuts examples of other lengths or fails elsewhere.
        """
        waveform = F.pad(waveform, (0, -waveform.shape[-1] % (SEGMENT_SECONDS * self.sample_rate)))
        self.check(waveform)
        segments = self.examples(self.mel(waveform), 2 * EXAMPLE_FRAMES)
        *_, before_last, last = (i for i, layer in enumerate(self.features) if isinstance(layer, nn.Conv2d))
        x = self.features[: before_last + 1](segments.flatten(0, 1)[:, None])
        y = self.features[before_last + 1 : last + 1](x)
        both = torch.cat([z.permute(0, 2, 3, 1).flatten(1) for z in (x, y)], dim=1)
        return both.unflatten(0, segments.shape[:2]).mean(dim=1)


TINY = (4, "M", 8, "M", 8, 8, "M", 16, 16, "M")
MODELS: dict[str, Callable[..., Encoder]] = {
    "vggish": VGGish,
    "vggish-tiny": partial(VGGish, layers=TINY, hidden=32, dim=16),
}
