"""The mean-teacher system of the DCASE 2024 Task 4 baseline: losses, augmentation, optimiser; no file access."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from common.augment import (
    Mix,
    coin,
    draw_beta,
    draw_filter_augment,
    draw_frame_shift,
    draw_mix,
    filter_augment,
    fold,
    freq_mixstyle,
    mixup,
    mixup_soft_labels,
    roll,
    scaled_shift,
)
from common.run.imports import apply_own, sources, try_own
from common.run.training import gather_in_order
from common.schedules import ramp_hold_quarter_cosine
from task4_sed.config import Config
from task4_sed.data.batches import CLIP_SAMPLES, Batch
from task4_sed.model.embedder import Embedder, check_weights
from task4_sed.model.networks import build_network, front_end
from task4_sed.training.losses import Blocks, Targets, baseline_loss, weak_from_strong
from task4_sed.training.validation import Validator, objective


class Inputs(NamedTuple):
    """Linear mel (batch, mel, frames) and, beside an encoder, embeddings (batch, dim, steps)."""

    mel: Tensor
    embeddings: Tensor | None


class SedSystem(LightningModule):
    """Student and teacher network on batches of five blocks (see `Blocks`)."""

    def __init__(
        self,
        config: Config,
        classes: Sequence[str],
        steps_per_epoch: int,
        validators: Mapping[str, Validator],
        embedder: Embedder | None = None,
    ) -> None:
        super().__init__()
        self.embedder = embedder
        self.config, self.classes, self.steps_per_epoch = config, tuple(classes), steps_per_epoch
        self.front_end = front_end(config.model)
        try_own(config.augment.own, config.model.num_mels, self.front_end.num_frames(CLIP_SAMPLES))
        # `create` gives encoders in evaluation mode, and Lightning leaves modes as they are.
        self.student = build_network(config.model, embedder).train()
        self.teacher = deepcopy(self.student).requires_grad_(False)
        self.blocks = Blocks(**{name: block.batch for name, block in config.data.blocks.named().items()})
        self.validators = dict(validators)
        self.predicted: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {}
        self.updates = 0  # optimiser steps that the teacher has followed

    def networks(self) -> list[nn.Module]:
        """The networks that torch.compile may compile."""
        return [self.student, self.teacher]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch."""
        inputs = Inputs(self.front_end.mel(batch.waveform), self.embeddings(batch))
        (mel, embeddings), strong, weak = self._augmented(inputs, batch.targets)
        student_mel, teacher_mel = self._filtered(mel)
        own = self.config.augment.own
        student = self.student(apply_own(own, self.front_end.compress(student_mel)), embeddings, batch.valid)
        with torch.no_grad():  # the teacher stays in training mode: own batch statistics, own dropout
            teacher = self.teacher(apply_own(own, self.front_end.compress(teacher_mel)), embeddings, batch.valid)
        ramp = int(self.config.loss.consistency_ramp_epochs * self.steps_per_epoch)
        loss, terms = baseline_loss(
            student,
            teacher,
            Targets(strong, weak, batch.valid),
            self.blocks,
            self.schedule_step,
            warmup=ramp,
            ssl_weight=self.config.loss.consistency_weight,
        )
        named = {f"train/{name}": value for name, value in terms.items()}
        logged = {"train/loss": loss.detach(), **named}
        self.log_dict(logged, on_step=False, on_epoch=True, batch_size=self.blocks.size, sync_dist=True)
        return loss

    @property
    def schedule_step(self) -> int:
        """Where the schedules stand in this step: the published counter is 1 in the first one."""
        return self.global_step + (self.config.optimizer.first_step == "full")

    def embeddings(self, batch: Batch) -> Tensor | None:
        """The encoder's sequence (batch, dim, steps): stored, or computed here; None without an encoder."""
        if batch.embeddings is not None:
            return batch.embeddings.to(batch.waveform.dtype)
        return None if self.embedder is None else self.embedder(batch.waveform)

    def _augmented(self, inputs: Inputs, strong: Tensor) -> tuple[Inputs, Tensor, Tensor]:
        """Inputs, strong and weak targets after shift, mixup and MixStyle (of the mel)."""
        config = self.config.augment
        if config.frame_shift:
            inputs, strong = self._shifted(inputs, strong)
        weak = weak_from_strong(strong)
        if coin(config.mixup_probability):
            inputs, strong, weak = self._mixed(inputs, strong, weak)
        if coin(config.mixstyle_probability):
            style = draw_mix(self.blocks.groups, config.mixstyle_beta, strong.device)
            mel = freq_mixstyle(inputs.mel[:, None], style, per_channel=True)[:, 0].clamp(min=0)
            inputs = inputs._replace(mel=mel)
        return inputs, strong, weak

    def _mixed(self, inputs: Inputs, strong: Tensor, weak: Tensor) -> tuple[Inputs, Tensor, Tensor]:
        """Inputs, strong and weak targets of mixed clips. Features and labels share the draw."""
        config, (mel, embeddings) = self.config.augment, inputs
        mixes = [self._draw_mix(strong.device)]
        if embeddings is not None and config.mixup_embeddings == "own":
            mixes.append(self._draw_mix(strong.device))
        mel = mixup(mel, mixes[0])
        embeddings = None if embeddings is None else mixup(embeddings, mixes[-1])
        for mix in mixes:
            strong, weak = mixup_soft_labels(strong, mix), mixup_soft_labels(weak, mix)
        return Inputs(mel, embeddings), strong, weak_from_strong(strong) if config.mixup_weak == "hard" else weak

    def _shifted(self, inputs: Inputs, strong: Tensor) -> tuple[Inputs, Tensor]:
        """Inputs and targets, moved in time by the same seconds; MAESTRO stays."""
        mel, embeddings = inputs
        frames = mel.shape[-1]
        shift = draw_frame_shift(len(mel), frames, self.config.augment.frame_shift, mel.device)
        shift[: self.blocks.maestro] = 0
        if embeddings is not None:
            bands = self.embedder.bands if self.embedder else 1  # those of one moment stay together
            moved = scaled_shift(shift, frames * bands / embeddings.shape[-1]) * bands
            embeddings = roll(embeddings, moved)
        strong = roll(strong, scaled_shift(shift, frames // strong.shape[-1]))
        return Inputs(roll(mel, shift), embeddings), strong

    def _filtered(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """The student's and the teacher's input, each through its own random filter."""
        if not coin(self.config.augment.filter_probability):
            return mel, mel
        first, second = (draw_filter_augment(len(mel), mel.shape[1], mel.device) for _ in range(2))
        return filter_augment(mel, first), filter_augment(mel, second)

    def _draw_mix(self, device: torch.device) -> Mix:
        """Partners within MAESTRO, within the strong blocks and within Weak, one coefficient for each of them.

        Unlabeled clips are not mixed.
        """
        groups = (self.blocks.maestro, self.blocks.strong + self.blocks.synth, self.blocks.weak)
        lam, perm, start = [], [], 0
        for size in groups:
            one = fold(draw_beta(1, self.config.augment.mixup_beta, device))
            lam.append(one.expand(size))
            perm.append(torch.randperm(size, device=device) + start)
            start += size
        rest = self.blocks.unlabeled
        return Mix(
            torch.cat([*lam, torch.ones(rest, device=device)]),
            torch.cat([*perm, torch.arange(start, start + rest, device=device)]),
        )

    def on_train_start(self) -> None:
        """A resumed training: the teacher has followed all steps so far."""
        self.updates = self.global_step

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What is needed to rebuild the network without the recipe."""
        model = self.config.model
        about = {"classes": list(self.classes), "model": {**asdict(model), "kind": str(model.kind)}}
        if own := sources(self.config):
            about["sources"] = own
        checkpoint["sed"] = about | ({"encoder": self.embedder.about()} if self.embedder else {})

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A resumed training goes on beside the same encoder."""
        about = checkpoint["sed"].get("encoder")
        if self.embedder is not None and about is not None:
            check_weights(self.embedder, about["sha256"], "checkpoints/last.ckpt")

    def on_before_zero_grad(self, optimizer: torch.optim.Optimizer) -> None:
        """Published order: move the teacher before every optimiser step, after the (first) forward pass for it."""
        if self.config.loss.teacher_moves == "before_step":
            self.follow(min(1 - 1 / (self.global_step + 2), self.config.loss.teacher_decay))

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Move the teacher after every optimiser step."""
        if self.config.loss.teacher_moves == "after_step" and self.global_step != self.updates:
            self.updates = self.global_step
            self.follow(min(1 - 1 / self.global_step, self.config.loss.teacher_decay))

    def follow(self, decay: float) -> None:
        """Move the teacher's parameters towards the student's; its batch statistics stay its own."""
        move_average(self.teacher, self.student, decay)

    def configure_optimizers(self) -> Any:
        """Adam with the baseline's schedule, per step."""
        if self._trainer is not None:  # several processes share the clips of an epoch: fewer steps
            self.steps_per_epoch = int(self.trainer.estimated_stepping_batches) // self.config.trainer.max_epochs
        config, steps = self.config.optimizer, self.steps_per_epoch
        optimizer = torch.optim.Adam(self.student.parameters(), lr=config.lr)
        total = steps * self.config.trainer.max_epochs

        late = config.first_step == "full"

        def factor(step: int) -> float:  # `step` optimiser steps are done
            if late and step == 0:
                return 1.0
            return ramp_hold_quarter_cosine(
                step + late,
                config.warmup_epochs * steps,
                config.constant_until_epoch * steps,
                total,
                config.final_lr / config.lr if config.lr else 0.0,
            )

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Collect the student's probabilities; they leave the device once, at the end."""
        prediction = self.student(self.front_end(batch.waveform), self.embeddings(batch), batch.valid)
        name = list(self.validators)[dataloader_idx]
        self.predicted.setdefault(name, []).append((batch.clip, prediction.strong, prediction.weak))

    def on_validation_epoch_end(self) -> None:
        """Metrics of every validation set, and their sum that selects the checkpoint."""
        metrics: dict[str, float] = {}
        for name, validate in self.validators.items():
            _, strong, weak = gather_in_order(self.predicted.pop(name, []), self.trainer.world_size)
            metrics |= {f"val/{name}/{metric}": value for metric, value in validate(strong, weak).items()}
        metrics["val/objective"] = objective(metrics, self.config.validation)
        self.log_dict({name: float(np.nan_to_num(value)) for name, value in metrics.items()}, sync_dist=False)


def move_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """average <- decay x average + (1 - decay) x network, parameters only: buffers stay as they are.

    Tarvainen and Valpola 2017 (mean teacher).
    """
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
