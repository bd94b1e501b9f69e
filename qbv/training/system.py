"""The training of a dual encoder: augmentation, loss over all processes, optimiser, validation; no file access."""

from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from common.augment import (
    MaskDraw,
    Mix,
    coin,
    draw_mix,
    draw_roll,
    draw_spec_mask,
    freq_mixstyle,
    roll,
    spec_mask,
)
from common.encoders.base import Encoder
from common.frontends import Jitter
from common.losses import gathered
from common.run.training import gather_in_order
from common.schedules import half_cosine, ramp_up_down
from qbv.config import AugmentConfig, Config, OptimizerConfig
from qbv.data.batches import Batch, Clips
from qbv.metrics import ranks_of
from qbv.model.networks import DualEncoder
from qbv.training.losses import pair_loss

MONITOR = "val/mrr"


class Draws(NamedTuple):
    """What is random about the spectrograms of one side of a batch; None: it is left as it is."""

    jitter: Jitter | None = None
    frequency: MaskDraw | None = None
    time: MaskDraw | None = None
    mix: Mix | None = None


class DualSystem(LightningModule):
    """A dual encoder on batches of pairs. targets: of the validation imitations, (imitations,)."""

    def __init__(self, config: Config, network: DualEncoder, steps_per_epoch: int, targets: Any = None) -> None:
        super().__init__()
        self.config, self.steps_per_epoch, self.targets = config, steps_per_epoch, targets
        self.network = network.train()
        self.embedded: tuple[list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]] = ([], [])

    def networks(self) -> list[nn.Module]:
        """The networks that torch.compile may compile."""
        encoders = dict.fromkeys((self.network.imitation_encoder, self.network.recording_encoder))
        return [layer for encoder in encoders for layer in getattr(encoder, "features", ())]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch, that of all processes together."""
        loss = self.loss(*self.vectors(batch), batch)
        self.log("train/loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(batch.number))
        return loss

    def vectors(self, batch: Batch, draws: tuple[Draws, Draws] | None = None) -> tuple[Tensor, Tensor]:
        """Embeddings (batch, dim) of imitations and recordings, changed at random; draws: how, of both sides."""
        config = self.config.augment
        imitation, recording = batch.imitation, batch.recording
        if config.roll_samples:
            imitation = roll(imitation, draw_roll(len(imitation), config.roll_samples, imitation.device))
            if config.roll_recordings:
                recording = roll(recording, draw_roll(len(recording), config.roll_samples, recording.device))

        def features(of: Draws | None) -> Any:
            return lambda encoder, waveform: changed_mel(encoder, waveform, config, of)

        first, second = draws or (None, None)
        return self.network.imitations(imitation, features(first)), self.network.recordings(recording, features(second))

    def loss(self, imitation: Tensor, recording: Tensor, batch: Batch) -> Tensor:
        """The recipe's loss of embeddings (batch, dim) of all processes."""
        of = (gathered(x) for x in (imitation, recording, batch.concept, batch.number, batch.match))
        return pair_loss(self.config.loss, self.network, *of)

    def configure_optimizers(self) -> Any:
        """Adam or AdamW over everything that trains, with the rate of every epoch or step."""
        if self._trainer is not None:
            self.steps_per_epoch = int(self.trainer.estimated_stepping_batches) // self.config.trainer.max_epochs
        config, steps = self.config.optimizer, max(self.steps_per_epoch, 1)
        kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        optimizer = kind(trained, lr=config.lr, weight_decay=config.weight_decay)
        by_epoch = config.schedule == "ramp"

        def factor(step: int) -> float:
            return learning_rate(config, step if by_epoch else step / steps) / config.lr if config.lr else 0.0

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        interval = "epoch" if by_epoch else "step"
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": interval}}

    def validation_step(self, batch: Clips, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Embed imitations (loader 0) and recordings (loader 1); they leave the device at the end."""
        embed = (self.network.imitations, self.network.recordings)[dataloader_idx]
        self.embedded[dataloader_idx].append((batch.row, embed(batch.audio)))

    def on_validation_epoch_end(self) -> None:
        """MRR of the validation imitations among all recordings that train."""
        (_, imitations), (_, recordings) = (gather_in_order(of, self.trainer.world_size) for of in self.embedded)
        for of in self.embedded:
            of.clear()
        both = (torch.from_numpy(of).to(self.device) for of in (imitations, recordings))
        ranks = ranks_of(self.network.similarities(*both).float().cpu().numpy(), self.targets)
        self.log(MONITOR, float(ranks.reciprocal().mean()), sync_dist=False)


def draw(mel: Tensor, config: AugmentConfig) -> Draws:
    """Masks and MixStyle of a batch of spectrograms (batch, mel, frames); the mel range is drawn before."""
    size, device = len(mel), mel.device
    frequency, time = (
        draw_spec_mask((size,), device) if widest else None for widest in (config.frequency_mask, config.time_mask)
    )
    mixed = config.mixstyle_probability > 0 and coin(config.mixstyle_probability)
    mix = draw_mix([size], config.mixstyle_alpha, device, folded=False) if mixed else None
    return Draws(None, frequency, time, mix)


def changed_mel(encoder: Encoder, waveform: Tensor, config: AugmentConfig, draws: Draws | None = None) -> Tensor:
    """Mel (batch, mel, frames) of waveforms (batch, samples), changed as `draws` say, or at random as the recipe does.

    Masks hold 0 of the logarithm, as the pre-trained networks know them; MixStyle comes after the normalisation.
    """
    front_end, setting = encoder.front_end, encoder.front_end.setting
    moves = config.mel_jitter and setting.filterbank == "kaldi"
    jitter = draws.jitter if draws else front_end.draw_jitter() if moves else None
    mel = encoder.mel(waveform) if jitter is None else front_end(waveform, jitter)
    draws = draws or draw(mel, config)
    silent = -setting.mean / setting.scale
    for axis, mask, widest in ((-2, draws.frequency, config.frequency_mask), (-1, draws.time, config.time_mask)):
        if mask is not None:
            mel = spec_mask(mel, mask, widest, axis, value=silent)
    return mel if draws.mix is None else freq_mixstyle(mel[:, None], draws.mix)[:, 0]


def learning_rate(config: OptimizerConfig, epoch: float) -> float:
    """The rate at an epoch, for `cosine` a fractional one."""
    if config.schedule == "ramp":
        ramp = (config.warmup_epochs, config.hold_until_epoch, config.ramp_epochs, config.last_factor)
        return config.lr * ramp_up_down(epoch, *ramp)
    end = config.warmup_epochs + config.cosine_epochs
    return config.min_lr + (config.lr - config.min_lr) * half_cosine(epoch, config.warmup_epochs, end)
