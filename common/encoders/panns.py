"""PANNs: CNN10 and CNN14 on 64 mel bands (Kong et al., "PANNs: large-scale pretrained audio neural networks", 2020)."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from common.encoders.base import Encoder, Output, resample_frames
from common.encoders.checkpoints import strip_prefix
from common.run.errors import UserError

AUDIOSET_CLASSES = 527
BLOCK_DROPOUT, HEAD_DROPOUT = 0.2, 0.5
STFT_TABLES = tuple(f"spectrogram_extractor.stft.conv_{part}.weight" for part in ("real", "imag"))
MEL_TABLE = "logmel_extractor.melW"
MEL_SHAPE = (513, 64)


class ConvBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and ReLU, average pooling, dropout."""

    def __init__(self, inputs: int, outputs: int, pool: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        if self.pool > 1:
            x = F.avg_pool2d(x, self.pool)
        return F.dropout(x, BLOCK_DROPOUT, self.training)


class PANNs(Encoder):
    """`clip` is the layer before the classes ("embedding"), `frames` the last map averaged over frequency.

    channels, pools: output channels and pooling factor of each block; dim: size of the embedding. Logits are those
    before the sigmoid of the published `clipwise_output`.
    """

    block_names = r"conv_block(\d+)\."
    after_blocks = ("fc1.",)
    head_names = ("fc_audioset.",)
    head_weight = "fc_audioset.weight"

    def __init__(
        self,
        channels: Sequence[int],
        pools: Sequence[int],
        dim: int,
        num_classes: int | None = AUDIOSET_CLASSES,
    ) -> None:
        super().__init__("panns")
        self.bn0 = nn.BatchNorm2d(self.front_end.num_mels)
        self.num_blocks, reduction = len(channels), 1
        for index, (inputs, outputs, pool) in enumerate(zip((1, *channels), channels, pools, strict=False), start=1):
            self.add_module(f"conv_block{index}", ConvBlock(inputs, outputs, pool))
            reduction *= pool
        convert_conv2d_weight_memory_format(self, torch.channels_last)  # CPU: CNN10 is a fifth faster, CNN14 the same
        self.fc1 = nn.Linear(channels[-1], dim)
        self.fc_audioset = nn.Linear(dim, num_classes) if num_classes else None
        self.embedding_dim, self.clip_dim = channels[-1], dim
        self.shortest = reduction
        self.step_rate = self.front_end.setting.frame_rate / reduction

    @classmethod
    def canonical(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The frozen tables of the published front end are left out; UserError if they are of another front end."""
        found = strip_prefix(state, ("",), "bn0.weight")
        for table in STFT_TABLES:
            found.pop(table, None)
        bank = found.pop(MEL_TABLE, None)
        if bank is not None and tuple(bank.shape) != MEL_SHAPE:
            raise UserError(f"{MEL_TABLE}: shape {tuple(bank.shape)}, expected {MEL_SHAPE}: PANNs at 32 kHz")
        return found

    def from_mel(self, mel: Tensor, frames: int | None = None) -> Output:
        x = self.bn0(mel[..., None]).transpose(1, 3)  # (batch, 1, frames, mel)
        for index in range(1, self.num_blocks + 1):
            x = self.through(getattr(self, f"conv_block{index}"), x)
        x = x.mean(dim=3)  # (batch, channels, steps)
        pooled = F.dropout(x.amax(dim=2) + x.mean(dim=2), HEAD_DROPOUT, self.training)
        clip = F.relu(self.fc1(pooled))
        logits = None
        if self.fc_audioset is not None:
            logits = self.fc_audioset(F.dropout(clip, HEAD_DROPOUT, self.training))
        sequence = x.transpose(1, 2)
        return Output(sequence if frames is None else resample_frames(sequence, frames), clip, logits, None)


MODELS: dict[str, Callable[..., Encoder]] = {
    "panns-cnn10": partial(PANNs, (64, 128, 256, 512), (2, 2, 2, 2), 512),
    "panns-cnn14": partial(PANNs, (64, 128, 256, 512, 1024, 2048), (2, 2, 2, 2, 2, 1), 2048),
    "panns-tiny": partial(PANNs, (4, 8, 16), (2, 4, 4), 32),
}
