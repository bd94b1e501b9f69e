"""A teacher that hears what the student hears, and clips of AudioSet without frame labels ("advanced KD").

Morocutti et al. 2025, Exploring Performance-Complexity Trade-Offs in Sound Event Detection Models.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from common.frontends import LogMel
from common.run.errors import UserError
from task4_sed.config import AugmentConfig, OnlineTeacherConfig
from task4_sed.data.audioset import output_classes
from task4_sed.data.batches import Batch
from task4_sed.model.framewise import FRAMES, named_network
from task4_sed.training.framewise import STEPS, Frames, FramewiseSystem, cross_entropy, draw, frame_loss

BOTH = ("frame_shift", "mixup")  # what changes the mel of both, by the same draws; all else is the student's alone


class OnlineTeacher:
    """A frozen network, no part of the system that holds it (see `Embedder`). Follows its input to a device."""

    def __init__(self, name: str, classes: Sequence[str]) -> None:
        """Raises UserError where its classes are not the first of the student's `classes`, or AudioSet-strong's."""
        network, own = named_network(name)
        own, head = output_classes() if own is None else own, network.encoder.strong_head
        if own != tuple(classes[: len(own)]) or head is None or head.out_features != len(own):
            raise UserError(f"teacher.checkpoint: {name} has other classes than the first {len(own)} of the student")
        self.network = network.requires_grad_(False)

    @property
    def front_end(self) -> LogMel:
        """Waveforms -> its own log-mel."""
        return self.network.encoder.front_end

    @torch.no_grad()
    def __call__(self, mel: Tensor) -> Tensor:
        """Log-mel (batch, mel, frames) -> probabilities (batch, classes, 250)."""
        logits = self.network.to(mel.device)(mel).frame_logits
        assert logits is not None
        return logits.float().sigmoid().transpose(1, 2)


class TaughtSystem(FramewiseSystem):
    """`FramewiseSystem` with an `OnlineTeacher`. Clips of a batch beyond its targets have none: the teacher's answers
    alone count there."""

    def __init__(self, *given: Any, teacher: OnlineTeacher) -> None:
        super().__init__(*given)
        assert self.config.teacher is not None
        self.settings: OnlineTeacherConfig = self.config.teacher
        self.teacher = teacher

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """Loss and its terms: 1 - share of the labels' and share of both distillations, `weak_share` of the second."""
        config, strong = self.config, len(batch.targets)
        mel, theirs = self.mel(batch.waveform), self.teacher.front_end.to(batch.waveform.device)(batch.waveform)
        frames, pseudo = self.heard_by_both(mel[:strong], theirs[:strong], batch.targets, config.augment)
        if strong == len(mel):
            return self.losses(frames._replace(pseudo=pseudo))
        beta, probability = self.settings.weak_mixup_beta, self.settings.weak_mixup_probability
        augment = replace(config.augment, mixup_beta=beta, mixup_probability=probability)
        nothing = mel.new_zeros(len(mel) - strong, 1, FRAMES)
        beside, weak_pseudo = self.heard_by_both(mel[strong:], theirs[strong:], nothing, augment)
        logits = self.answers(torch.cat((frames.mel, beside.mel))).transpose(1, 2)
        found = frame_loss(logits[:strong], frames.targets, pseudo, config.loss.distillation, self.weights())
        weak = cross_entropy(logits[strong:, : weak_pseudo.shape[1]], weak_pseudo)
        distillation = torch.lerp(found["distillation"], weak, self.settings.weak_share)
        loss = torch.lerp(found["labels"], distillation, config.loss.distillation)
        return {**found, "distillation_weak": weak, "loss": loss}

    def heard_by_both(
        self, mel: Tensor, theirs: Tensor, targets: Tensor, augment: AugmentConfig
    ) -> tuple[Frames, Tensor]:
        """The student's augmented inputs with their targets, and what the teacher says of the same audio."""
        draws = draw(augment, mel.shape, FRAMES, mel.device)
        other, setting = Frames(theirs, targets, None), self.teacher.front_end.setting
        for name in BOTH:
            other = STEPS[name](other, draws, augment, setting)
        return self.augmented(Frames(mel, targets, None), draws), self.teacher(other.mel)
