"""The teachers: CP-ResNet and PaSST, with the log-mel of a recipe in and logits of scenes out.

Source: Schmid et al., technical reports for DCASE 2022 and 2023 Task 1.
"""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from task1_asc.config import ModelConfig

if TYPE_CHECKING:
    from common.encoders.base import Encoder


class MelTeacher(nn.Module):
    """An encoder of `common.encoders` with a head for the scenes: (batch, 1, mel, frames) -> logits (batch, classes).

    The log-mel is that of the encoder's own front end. In training rows and columns of patches are left out.
    """

    def __init__(self, encoder: "Encoder") -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        logits = self.encoder.from_mel(x[:, 0]).logits
        assert logits is not None  # made with a head
        return logits


def cp_resnet(config: ModelConfig) -> nn.Module:
    """CP-ResNet from scratch, `base_channels` wide."""
    from common.encoders.cp_resnet import CPResNet, scene_config

    return CPResNet(scene_config(channels=config.base_channels), config.num_classes)


def passt(config: ModelConfig) -> nn.Module:
    """An encoder of `common.encoders` with the weights of `checkpoint` and a new head."""
    from common import encoders
    from common.encoders.transformer import Patchout

    frequency, time = config.patchout
    patchout = Patchout(time=time, frequency=frequency)
    encoder = encoders.create(
        config.encoder, config.checkpoint or encoders.RANDOM, config.num_classes, patchout=patchout
    )
    return MelTeacher(encoder)
