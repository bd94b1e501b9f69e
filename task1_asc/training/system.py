"""Training of a scene classifier: front end, augmentation, optimiser, schedule; no file access.

The baseline of DCASE 2024 Task 1 (Schmid et al. 2024); knowledge distillation and the schedule by epochs are those of
the CP-JKU systems of 2022 and 2023 (Schmid et al.).
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from common.augment import (
    Mix,
    coin,
    draw_mix,
    draw_roll,
    draw_spec_mask,
    freq_mixstyle,
    mixup,
    roll,
    spec_mask,
)
from common.run.errors import UserError
from common.run.imports import apply_own, try_own
from common.run.training import gather_in_order
from common.schedules import half_cosine, ramp_up_down
from task1_asc.config import AugmentConfig, Config, OptimizerConfig
from task1_asc.data.batches import Batch
from task1_asc.data.classes import DEVICE_GROUPS, DEVICES, SCENES
from task1_asc.data.impulses import record_on_devices
from task1_asc.metrics import Parts, clip_losses, official_keys, scene_metrics, top_scene
from task1_asc.model.front_end import front_end
from task1_asc.training.losses import scene_loss

PARTS = Parts(SCENES, DEVICES, DEVICE_GROUPS)


def check_masks(config: AugmentConfig, mels: int, frames: int) -> None:
    """Raises UserError for masks that are wider than the spectrogram."""
    for name, size in (("frequency_mask", mels), ("time_mask", frames)):
        if (widest := getattr(config, name)) > size:
            raise UserError(f"augment.{name}: {widest} is more than the front end has ({size})")


def rate_factor(config: OptimizerConfig, steps: int, epochs: int) -> Callable[[int], float]:
    """The learning rate's factor at step (cosine) or epoch (hold_ramp) n of a training of so many steps.

    Raises UserError for a warm-up that is longer than the training.
    """
    if config.schedule == "hold_ramp":
        return lambda epoch: ramp_up_down(
            epoch, config.warmup_epochs, config.hold_until_epoch, config.ramp_epochs, config.last_factor
        )
    share = config.warmup_share
    warmup = config.warmup_steps if share is None else round(share * steps)
    if warmup > steps:
        raise UserError(
            f"optimizer.warmup_steps: {warmup} steps of warm-up, but {epochs} epochs have {steps} steps; "
            "optimizer.warmup_share=0.1 takes a share of them"
        )
    return lambda step: half_cosine(step, warmup, steps)


class SceneSystem(LightningModule):
    """A network that gives logits (batch, classes) for log-mel (batch, 1, mel, frames), and its training.

    labels, devices: (clips,) of the validation clips, in the order of `Batch.row`. teacher: (clips, classes) logits for
    the training clips in that order. impulses: (responses, samples) of recording devices.
    """

    teacher: Tensor | None
    impulses: Tensor | None

    def __init__(
        self,
        config: Config,
        network: nn.Module,
        steps_per_epoch: int,
        labels: np.ndarray,
        devices: np.ndarray,
        teacher: Tensor | None = None,
        impulses: Tensor | None = None,
    ) -> None:
        super().__init__()
        if config.channels_last:
            convert_conv2d_weight_memory_format(network, torch.channels_last)
        self.config, self.network, self.steps_per_epoch = config, network, steps_per_epoch
        self.front_end = front_end(config.front_end, config.data.sample_rate)
        size = self.front_end.num_mels, self.front_end.num_frames(config.data.sample_rate)
        check_masks(config.augment, *size)
        try_own(config.augment.own, *size)
        self.labels, self.devices = labels, devices
        self.register_buffer("teacher", teacher, persistent=False)
        self.register_buffer("impulses", impulses, persistent=False)
        self.predicted: list[tuple[Tensor, Tensor]] = []
        self.rate_factor()  # says at once when the warm-up does not fit

    def networks(self) -> list[nn.Module]:
        """The networks that torch.compile may compile."""
        return [self.network]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch."""
        mel, mix = self.augmented(batch)
        distill = self.config.distill
        teacher = None if self.teacher is None else self.teacher[batch.row]
        weight = 1.0 if teacher is None else distill.label_weight
        loss = scene_loss(self.network(mel), batch.label, teacher, mix, weight, distill.temperature)
        self.log("train/loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(mel), sync_dist=True)
        return loss

    def augmented(self, batch: Batch) -> tuple[Tensor, Mix | None]:
        """Log-mel (batch, 1, mel, frames) in the published order: device response, roll, masks, MixStyle, mixup.

        Own functions (`augment.own`) come last: they get what the network would.
        """
        config, x = self.config.augment, batch.waveform
        if self.impulses is not None:
            x = record_on_devices(x, batch.device, self.impulses, config.impulse_response_probability)
        largest = round(config.roll_seconds * self.config.data.sample_rate)
        if largest:
            x = roll(x, draw_roll(len(x), largest, x.device))
        mel = self.masked_log_mel(x)[:, None]
        if coin(config.mixstyle_probability):
            mel = freq_mixstyle(mel, draw_mix([len(mel)], config.mixstyle_beta, mel.device, folded=False))
        mix = None
        if coin(config.mixup_probability):
            mix = draw_mix([len(mel)], config.mixup_beta, mel.device)
            mel = mixup(mel, mix)
        return apply_own(config.own, mel[:, 0])[:, None], mix

    def masked_log_mel(self, waveform: Tensor) -> Tensor:
        """Waveforms (batch, samples) -> log-mel (batch, mel, frames) with masks.

        The front end of 2024 masks before the logarithm, those of 2022 and 2023 between logarithm and normalisation.
        """
        setting = self.front_end.setting
        jitter = self.front_end.draw_jitter() if setting.filterbank == "kaldi" else None
        mel = self.front_end.mel(waveform, jitter)
        if setting.filterbank != "kaldi":
            return self.front_end.compress(self._masked(mel, 0.0))
        return self._masked(self.front_end.compress(mel), -setting.mean / setting.scale)

    def _masked(self, x: Tensor, value: float) -> Tensor:
        config = self.config.augment
        masks = len(x) if config.masks == "per_clip" else 1
        for axis, widest in ((-2, config.frequency_mask), (-1, config.time_mask)):
            if widest:
                x = spec_mask(x, draw_spec_mask((masks,), x.device), widest, axis, value=value)
        return x

    def rate_factor(self) -> Callable[[int], float]:
        """The schedule for the steps of this training."""
        epochs = self.config.trainer.max_epochs
        return rate_factor(self.config.optimizer, self.steps_per_epoch * epochs, epochs)

    def configure_optimizers(self) -> Any:
        """AdamW or Adam; weight decay on all parameters, as published."""
        if self._trainer is not None:  # several processes share the clips of an epoch: fewer steps
            steps = int(self.trainer.estimated_stepping_batches)
            self.steps_per_epoch = max(1, steps // self.config.trainer.max_epochs)
        config = self.config.optimizer
        kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
        optimizer = kind(self.network.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate_factor())
        interval = "step" if config.schedule == "cosine" else "epoch"
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": interval}}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect logits; they leave the device once, at the end."""
        self.predicted.append((batch.row, self.network(self.front_end(batch.waveform)[:, None])))

    def on_validation_epoch_end(self) -> None:
        """Accuracy and loss: overall, per scene, device and group, under the names of the baseline's log."""
        rows, logits = gather_in_order(self.predicted, self.trainer.world_size)
        self.predicted.clear()
        metrics = validation_metrics(logits, self.labels[rows], self.devices[rows])
        self.log_dict({name: value for name, value in metrics.items() if value is not None}, sync_dist=False)


class QuantizeSystem(SceneSystem):
    """Training of a prepared network; observers and batch norms are frozen in the last epochs.

    Observers look at training batches only: validation must not change the ranges.
    """

    def on_train_epoch_start(self) -> None:
        """Freeze where it is time."""
        from torch.ao.nn.intrinsic.qat import freeze_bn_stats
        from torch.ao.quantization import disable_observer, enable_observer

        frozen = self.current_epoch >= self.config.trainer.max_epochs - self.config.quantize.freeze_epochs
        self.network.apply(disable_observer if frozen else enable_observer)
        if frozen:
            self.network.apply(freeze_bn_stats)

    def on_validation_epoch_start(self) -> None:
        """Ranges as they are."""
        from torch.ao.quantization import disable_observer

        self.network.apply(disable_observer)


def validation_metrics(logits: np.ndarray, labels: np.ndarray, devices: np.ndarray) -> dict[str, float | None]:
    """Official keys (`val/macro_avg_acc`, `val/loss.s1`, ...) without the counts of clips; logits (clips, classes)."""
    probabilities = torch.from_numpy(logits).double().softmax(dim=-1).numpy()
    metrics = scene_metrics(PARTS, labels, top_scene(logits), clip_losses(probabilities, labels), devices)
    return {
        name: v for name, v in official_keys(metrics, "val").items() if not name.startswith(("val/cnt", "val/count"))
    }


def steps_of(clips: int, batch: int, accumulate: int = 1) -> int:
    """Optimiser steps of an epoch; the last, smaller batch counts."""
    return math.ceil(math.ceil(clips / batch) / accumulate)
