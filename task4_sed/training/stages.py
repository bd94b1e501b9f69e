"""The winner's stages 1 and 2 (Schmid et al. 2024): a CRNN beside a transformer, frozen first, then trained with it."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from common.run.imports import apply_own
from common.schedules import half_cosine, linear_ramp
from task4_sed.config import OptimizerConfig
from task4_sed.data.batches import Batch
from task4_sed.model.crnn import Prediction
from task4_sed.model.networks import Network, TunedNetwork
from task4_sed.training.augmentation import Augmenter, Draws, Stage, View
from task4_sed.training.losses import (
    Targets,
    Terms,
    stage1_loss,
    stage2_ict_loss,
    stage2_mean_teacher_loss,
    weak_from_strong,
)
from task4_sed.training.system import SedSystem


class StagedSystem(SedSystem):
    """`SedSystem` with the losses, augmentations and optimiser of a stage; impulses: (responses, length) or None."""

    def __init__(self, *given: Any, impulses: Tensor | None = None) -> None:
        super().__init__(*given)
        config, embedder = self.config, self.embedder
        self.stage = cast(Stage, config.loss.kind)
        hears = embedder is not None and not embedder.config.cache
        setting = embedder.encoder.front_end.setting if embedder is not None and hears else None
        self.augmenter = Augmenter(config.augment, self.stage, self.blocks, setting)
        self.impulses: Tensor | None
        self.register_buffer("impulses", impulses, persistent=False)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch."""
        clips, samples = batch.waveform.shape
        mel = self.front_end.num_mels, self.front_end.num_frames(samples)
        impulses = 0 if self.impulses is None else len(self.impulses)
        draws = self.augmenter.draw(mel, batch.targets.shape[-1], impulses, batch.waveform.device)
        loss, terms = self.losses(*self.inputs(batch, draws), draws)
        logged = {"train/loss": loss.detach()} | {f"train/{name}": value for name, value in terms.items()}
        self.log_dict(logged, on_step=False, on_epoch=True, batch_size=clips, sync_dist=True)
        return loss

    def inputs(self, batch: Batch, draws: Draws) -> tuple[View, View, Targets]:
        """What student and teacher hear, and the targets."""
        targets = Targets(batch.targets, weak_from_strong(batch.targets), batch.valid, batch.pseudo)
        waveform = self.augmenter.waveforms(batch.waveform, draws, self.impulses)
        if batch.embeddings is not None or self.embedder is None:
            beside = self.embeddings(batch)
        else:
            beside = self.embedder.mel(waveform, self.embedder.draw_jitter())
        return self.augmenter.views(View(self.front_end.mel(waveform), beside), targets, draws)

    def losses(self, student: View, teacher: View, targets: Targets, draws: Draws) -> tuple[Tensor, Terms]:
        """Both passes, and the stage's loss with its terms."""
        mask = targets.class_mask
        consistent = mask if self.config.loss.ssl_class_mask else None
        beside = self.embedded(student)
        ours = self.predict(self.student, student.mel, beside, mask)
        with torch.no_grad():  # the teacher stays in training mode: own batch statistics, own dropout
            same = teacher.beside is student.beside
            theirs = self.predict(self.teacher, teacher.mel, beside if same else self.embedded(teacher), consistent)
        config, step = self.config.loss, self.global_step
        options: dict[str, Any] = {
            "ssl_student": None if config.ssl_class_mask else ours.unmasked(),
            "exclude_maestro_weak_ssl": not config.ssl_maestro_weak,
            "warmup": config.ssl_warmup_steps,
        }
        if self.stage == "stage1":
            loss, terms = stage1_loss(ours, theirs, targets, self.blocks, config.weights, step, **options)
        elif draws.mix is None:
            loss, terms = stage2_mean_teacher_loss(ours, theirs, targets, self.blocks, config.weights, step, **options)
        else:
            options |= {"divisor": config.ict_divisor, "classes": self.classes}
            loss, terms = stage2_ict_loss(
                ours, theirs, targets, self.blocks, config.weights, step, draws.mix, **options
            )
        return loss, terms | {"ssl_weight": loss.new_full((), self.ssl_weight(step))}

    def ssl_weight(self, step: int) -> float:
        """Weight of the consistency after so many optimiser steps."""
        config = self.config.loss
        return config.weights.ssl * linear_ramp(step, config.ssl_warmup_steps, 2.0 if self.stage == "stage1" else 1.0)

    def embedded(self, view: View) -> Tensor | None:
        """What stands beside the CNN's mel, after a frozen encoder."""
        embedder = self.embedder
        if view.beside is None or embedder is None or embedder.config.train or self.augmenter.setting is None:
            return view.beside
        with torch.no_grad():
            return embedder.embed(view.beside)

    def predict(self, network: Network, mel: Tensor, beside: Tensor | None, class_mask: Tensor | None) -> Prediction:
        """A network's pass over linear mel and what stands beside it."""
        features = apply_own(self.config.augment.own, self.front_end.compress(mel))
        return network(features, beside, class_mask)

    def on_before_zero_grad(self, optimizer: torch.optim.Optimizer) -> None:
        """As in `SedSystem`, and the order of the published stages."""
        if self.config.loss.teacher_moves == "before_step_copy":
            self.follow(min(1 - 1 / (self.global_step + 1), self.config.loss.teacher_decay))
        else:
            super().on_before_zero_grad(optimizer)

    def configure_optimizers(self) -> Any:
        """AdamW over `parameter_groups`; warm-up and half a cosine over all steps."""
        config, total = self.config.optimizer, self.steps_per_epoch * self.config.trainer.max_epochs
        if self._trainer is not None:
            total = int(self.trainer.estimated_stepping_batches)
        groups = parameter_groups(self.student, config)
        optimizer = torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: half_cosine(step, config.warmup_steps, total)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def parameter_groups(network: Network, config: OptimizerConfig) -> list[dict[str, Any]]:
    """All trained parameters: CNN; GRU, fusion and heads; the encoder's layers from the top, each with its rate.

    The i-th layer of the encoder (final norm, last block, ..., first block, embeddings) has encoder_lr x
    encoder_decay^i. Raises RuntimeError where a parameter would be forgotten or taken twice.
    """
    crnn: nn.Module = network.crnn if isinstance(network, TunedNetwork) else network
    cnn = [parameter for name, parameter in crnn.named_parameters() if name.startswith("cnn.")]
    ours = {id(parameter) for parameter in cnn}
    rest = [parameter for parameter in crnn.parameters() if id(parameter) not in ours]
    groups: list[dict[str, Any]] = [
        {"params": cnn, "lr": config.lr if config.cnn_lr is None else config.cnn_lr, "layer": "cnn"},
        {"params": rest, "lr": config.lr, "layer": "rnn"},
    ]
    if isinstance(network, TunedNetwork) and any(p.requires_grad for p in network.encoder.parameters()):
        layers = network.encoder.parameter_groups(config.encoder_lr, config.encoder_decay, ends="apart")
        groups += [{**group, "weight_decay": config.weight_decay} for group in layers]  # as published, vectors too
    groups = [group for group in groups if group["params"]]
    _check_groups(network, groups)
    return groups


def _check_groups(network: nn.Module, groups: Sequence[Mapping[str, Any]]) -> None:
    taken = [id(parameter) for group in groups for parameter in group["params"]]
    trained = {id(p): name for name, p in network.named_parameters() if p.requires_grad}
    forgotten = [name for key, name in trained.items() if key not in set(taken)]
    if forgotten or len(set(taken)) < len(taken):
        raise RuntimeError(f"parameter groups: {forgotten[:3]} forgotten, {len(taken) - len(set(taken))} taken twice")
