"""Frame-level pre-training: an encoder, perhaps a sequence model, learn the frames of AudioSet-strong from its labels
and from stored logits of teachers (Schmid et al. 2025, section 3)."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from common.augment import (
    BandGains,
    Mix,
    Span,
    Warp,
    coin,
    draw_filter_augment,
    draw_frame_shift,
    draw_freq_warp,
    draw_mix,
    draw_time_mask,
    freq_mixstyle,
    freq_warp,
    mixup,
    mixup_soft_labels,
    roll,
    scaled_shift,
    time_mask,
)
from common.encoders.mobilenet import FrameMobileNet
from common.frontends import MelSetting
from common.losses import full_precision
from common.run.errors import UserError
from common.run.imports import apply_own
from common.run.training import folder_of, of_all_processes
from common.schedules import half_cosine
from task4_sed.config import AugmentConfig, Config, OptimizerConfig
from task4_sed.data.audioset import FRAME_SECONDS, FRAMES, output_classes
from task4_sed.data.batches import Batch
from task4_sed.data.framewise import StrongSet
from task4_sed.data.own import own_part
from task4_sed.metrics.psds import PSDS1
from task4_sed.metrics.segments import mean_of_defined
from task4_sed.metrics.streamed import ScoresOnDisk, Streamed, StreamedScores, streamed_metrics
from task4_sed.metrics.truth import Truth, truth_arrays
from task4_sed.model.framewise import FramewiseNetwork
from task4_sed.training.augmentation import filtered

MOMENTUM = 0.9


class Frames(NamedTuple):
    """Normalised log-mel (batch, mel, frames); targets and pseudo labels (batch, classes, label frames)."""

    mel: Tensor
    targets: Tensor
    pseudo: Tensor | None


class FrameDraws(NamedTuple):
    """The random decisions of a step; None: not drawn."""

    shift: Tensor | None = None
    mix: Mix | None = None
    style: Mix | None = None
    mask: Span | None = None
    filter: BandGains | None = None
    warp: Warp | None = None


def draw(
    config: AugmentConfig, mel: torch.Size, label_frames: int, device: torch.device, blocks: Sequence[int] | None = None
) -> FrameDraws:
    """All draws of a step on log-mel of that size (batch, mel, frames); all but the shift decide for a whole batch.

    blocks: clips that are mixed among themselves.
    """
    batch, bands, frames = mel
    blocks = [batch] if blocks is None else blocks
    return FrameDraws(
        shift=draw_frame_shift(batch, frames, config.frame_shift, device) if config.frame_shift else None,
        mix=draw_mix(blocks, config.mixup_beta, device) if coin(config.mixup_probability) else None,
        style=draw_mix(blocks, config.mixstyle_beta, device) if coin(config.mixstyle_probability) else None,
        mask=draw_time_mask(label_frames, longest=config.time_mask_longest) if config.time_mask else None,
        filter=draw_filter_augment(batch, bands, device) if coin(config.filter_probability) else None,
        warp=draw_freq_warp(bands) if coin(config.warp_probability) else None,
    )


def _shifted(x: Frames, draws: FrameDraws, config: AugmentConfig, setting: MelSetting) -> Frames:
    if draws.shift is None:
        return x
    of_labels = scaled_shift(draws.shift, x.mel.shape[-1] // x.targets.shape[-1])
    pseudo = None if x.pseudo is None else roll(x.pseudo, of_labels)
    return Frames(roll(x.mel, draws.shift), roll(x.targets, of_labels), pseudo)


def _mixed(x: Frames, draws: FrameDraws, config: AugmentConfig, setting: MelSetting) -> Frames:
    if draws.mix is None:
        return x
    pseudo = None if x.pseudo is None else mixup(x.pseudo, draws.mix)
    return Frames(mixup(x.mel, draws.mix), mixup_soft_labels(x.targets, draws.mix), pseudo)


def _styled(x: Frames, draws: FrameDraws, config: AugmentConfig, setting: MelSetting) -> Frames:
    if draws.style is None:
        return x
    return x._replace(mel=freq_mixstyle(x.mel[:, None], draws.style, per_channel=True)[:, 0])


def _masked(x: Frames, draws: FrameDraws, config: AugmentConfig, setting: MelSetting) -> Frames:
    if draws.mask is None:
        return x
    mel = time_mask(x.mel, draws.mask, x.mel.shape[-1] // x.targets.shape[-1])
    hidden = x.pseudo is not None and config.time_mask_pseudo
    pseudo = time_mask(x.pseudo, draws.mask) if hidden else x.pseudo  # type: ignore[arg-type]
    return Frames(mel, time_mask(x.targets, draws.mask), pseudo)


def _filtered(x: Frames, draws: FrameDraws, config: AugmentConfig, setting: MelSetting) -> Frames:
    if draws.filter is None:
        return x
    return x._replace(mel=filtered(x.mel, draws.filter, setting, config.filter_encoder))


def _warped(x: Frames, draws: FrameDraws, config: AugmentConfig, setting: MelSetting) -> Frames:
    return x if draws.warp is None else x._replace(mel=freq_warp(x.mel, draws.warp))


# In the published order; wave mixing comes before, in the data set.
STEPS: dict[str, Callable[[Frames, FrameDraws, AugmentConfig, MelSetting], Frames]] = {
    "frame_shift": _shifted,
    "mixup": _mixed,
    "mixstyle": _styled,
    "time_mask": _masked,
    "filter_augmentation": _filtered,
    "freq_warp": _warped,
}


@full_precision
def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | float = 1.0) -> Tensor:
    """Binary, the mean over all entries (batch, classes, ...); one whose target is NaN, unknown, adds nothing.

    weights: of the entries, in a shape that fits.
    """
    known = targets.isfinite()
    return F.binary_cross_entropy_with_logits(logits, targets.where(known, 0.0), known.to(logits.dtype) * weights)


def frame_loss(
    logits: Tensor, targets: Tensor, pseudo: Tensor | None, share: float, weights: Tensor | float = 1.0
) -> dict[str, Tensor]:
    """Terms "labels" and "distillation", and "loss", their sum with the weights 1 - share and share.

    All (batch, classes, frames); pseudo labels are probabilities, of the first classes or all. weights: of the
    labels (classes, 1). Schmid et al. 2025, section 3.3.
    """
    labels = cross_entropy(logits, targets, weights)
    if pseudo is None or not share:
        return {"labels": labels, "distillation": labels.new_zeros(()), "loss": labels}
    distillation = cross_entropy(logits[:, : pseudo.shape[1]], pseudo)
    loss = share * distillation + (1 - share) * labels
    return {"labels": labels, "distillation": distillation, "loss": loss}


def parameter_groups(network: FramewiseNetwork, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Groups of all trained parameters. lr for sequence model and heads; block i from the top, i = 1, 2, ..., of a
    transformer has encoder_lr x encoder_decay^i, of a MobileNet one power less, as published."""
    lr, decay = config.encoder_lr, config.encoder_decay
    if isinstance(network.encoder, FrameMobileNet) and decay:
        lr /= decay
    groups = network.encoder.parameter_groups(lr, decay, config.lr, config.weight_decay, ends=config.encoder_ends)
    sequence = list(network.seq_model.parameters()) if network.seq_model is not None else []
    for matrices in (True, False):
        chosen = [p for p in sequence if (p.dim() > 1) == matrices]
        if chosen:
            rate = config.lr if config.sequence_lr is None else config.sequence_lr
            groups.append({"params": chosen, "lr": rate, "weight_decay": config.weight_decay, "layer": "sequence"})
    for group in groups:
        if all(p.dim() <= 1 for p in group["params"]):
            group["weight_decay"] = config.vector_decay
    return groups


def warmup_of(config: OptimizerConfig, steps: int) -> int:
    """Steps of the warm-up. Raises UserError for one that is not shorter than a training of `steps`."""
    if config.warmup_as_run is not None:
        return config.warmup_as_run
    if config.warmup_steps >= steps:
        raise UserError(f"optimizer.warmup_steps: {config.warmup_steps}, but the training has {steps} steps")
    return config.warmup_steps


def optimizer_of(network: FramewiseNetwork, config: OptimizerConfig, steps: int) -> tuple[Any, Any]:
    """Optimiser over `parameter_groups`, and a schedule by step: linear warm-up, then half a cosine to 0."""
    groups, warmup = parameter_groups(network, config), warmup_of(config, steps)
    if config.algorithm == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=MOMENTUM)
    else:
        optimizer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.algorithm](groups, lr=config.lr)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: half_cosine(step, warmup, steps))


EDGES = np.arange(FRAMES + 1) * FRAME_SECONDS
# Logits (clips, frames, classes) of the validation clips, in their order -> named figures
Validate = Callable[[np.ndarray | ScoresOnDisk], dict[str, float]]


def validator(clips: StrongSet, median_frames: int) -> Validate:
    """`figures_of` these clips after a median filter, the main one first; `own_psds1` of own classes, on own clips."""
    truth, ended = strong_truth(clips), not clips.published
    own = strong_truth(own_part(clips)) if clips.own else None

    def validate(logits: np.ndarray | ScoresOnDisk) -> dict[str, float]:
        scores = StreamedScores(clips.labels.clips, clips.labels.classes, EDGES, lambda a, b: logits[a:b])
        figures = figures_of(streamed_metrics(scores, truth, PSDS1, median_frames, end_with_clip=ended))
        if own is not None:
            figures["own_psds1"] = streamed_metrics(scores, own, PSDS1, median_frames).psds.mean_of_classes
        return {clips.figure: figures[clips.figure]} | figures

    return validate


def strong_truth(clips: StrongSet) -> Truth:
    """Events of the classes that are scored and labelled in these clips; as published without clips that have none."""
    events, scored = clips.labels.by_clip(), set(clips.scored)
    present = sorted({event.label for of_clip in events.values() for event in of_clip} & scored)
    kept = {
        name: float(seconds)
        for (name, of_clip), seconds in zip(events.items(), clips.durations, strict=True)
        if not clips.published or any(event.label in scored for event in of_clip)
    }
    return truth_arrays(events, kept, present)


def figures_of(found: Streamed) -> dict[str, float]:
    """PSDS1 as the mean over classes and with the variance penalty, the mean ROC area, how many classes they are of."""
    return {
        "psds1_macro": found.psds.mean_of_classes,
        "psds1": found.psds.value,
        "mpauc": mean_of_defined(found.auroc),
        "classes": float(len(found.auroc)),
    }


class FramewiseSystem(LightningModule):
    """A network on batches of clips with frame labels; no file access."""

    head: Literal["linear", "attention"] = "linear"

    def __init__(
        self,
        config: Config,
        classes: Sequence[str],
        steps_per_epoch: int,
        network: FramewiseNetwork,
        validate: Validate | None = None,
    ) -> None:
        super().__init__()
        self.config, self.classes, self.steps_per_epoch = config, tuple(classes), steps_per_epoch
        self.network, self.validate = network, validate
        self.predicted: ScoresOnDisk | None = None
        if network.encoder.head_kind == "linear" and network.encoder.weak_head is not None:
            network.encoder.weak_head.requires_grad_(False)  # there for the published files, no loss reaches it

    def networks(self) -> list[nn.Module]:
        """The networks that torch.compile may compile."""
        return [self.network]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch."""
        terms = self.terms(batch)
        logged = {f"train/{name}": value.detach() for name, value in terms.items()}
        self.log_dict(logged, on_step=False, on_epoch=True, batch_size=len(batch.waveform), sync_dist=True)
        return terms["loss"]

    def weights(self) -> Tensor | float:
        """Of the labels of each class (classes, 1); 1 without own classes."""
        own = self.config.data.own
        if own is None:
            return 1.0
        beyond = torch.arange(len(self.classes), device=self.device) >= len(output_classes())
        return torch.where(beyond, own.weight, 1.0)[:, None]

    def blocks(self, clips: int) -> list[int]:
        """How many clips of a batch are of one kind, in their order."""
        return [clips]

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """The loss and its terms, with all random draws."""
        frames = Frames(self.mel(batch.waveform), batch.targets, batch.pseudo)
        blocks, device = self.blocks(len(batch.waveform)), batch.waveform.device
        draws = draw(self.config.augment, frames.mel.shape, batch.targets.shape[-1], device, blocks)
        return self.losses(self.augmented(frames, draws))

    def mel(self, waveform: Tensor) -> Tensor:
        """Log-mel of a training batch, in a random range where the front end has one."""
        front_end = self.network.encoder.front_end
        return front_end(waveform, front_end.draw_jitter() if front_end.setting.fmax_range > 1 else None)

    def answers(self, mel: Tensor) -> Tensor:
        """Log-mel -> logits (batch, frames, classes)."""
        logits = self.network(mel).frame_logits
        assert isinstance(logits, Tensor)
        return logits

    def augmented(self, frames: Frames, draws: FrameDraws) -> Frames:
        """Inputs and targets after all steps, and the recipe's own functions of the mel."""
        for step in STEPS.values():
            frames = step(frames, draws, self.config.augment, self.network.encoder.front_end.setting)
        return frames._replace(mel=apply_own(self.config.augment.own, frames.mel))

    def losses(self, frames: Frames) -> dict[str, Tensor]:
        """`frame_loss` of the network on augmented inputs."""
        logits = self.answers(frames.mel).transpose(1, 2)
        return frame_loss(logits, frames.targets, frames.pseudo, self.config.loss.distillation, self.weights())

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect the logits in half precision, as `predict` stores them; those of all processes in the first."""
        logits = self.answers(self.network.encoder.front_end(batch.waveform))
        if self.config.validation.loss:
            loss = cross_entropy(logits.transpose(1, 2), batch.targets)
            self.log("val/loss", loss, on_epoch=True, batch_size=len(logits), sync_dist=True)
        if self.predicted is None:
            self.predicted = ScoresOnDisk(None if self._trainer is None else folder_of(self.trainer))
        for clips, scores in of_all_processes((batch.clip.cpu().numpy(), logits.half().cpu().numpy())):
            if self.global_rank == 0:
                self.predicted.put(clips, scores)

    def on_validation_epoch_end(self) -> None:
        """Figures of the validation clips; the first of them selects the best checkpoint."""
        if self.validate is None:
            return
        figures = self.validate(self.predicted) if self.global_rank == 0 and self.predicted is not None else {}
        figures, self.predicted = self.trainer.strategy.broadcast(figures), None
        named = {f"val/{name}": value for name, value in figures.items()}
        self.log_dict(named | {"val/objective": next(iter(figures.values()))}, sync_dist=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What is needed to rebuild the network without the recipe."""
        config = self.config
        encoder = {} if config.encoder is None else {**asdict(config.encoder), "name": str(config.encoder.name)}
        sequence = None if config.sequence is None else asdict(config.sequence)
        checkpoint["framewise"] = {
            "classes": list(self.classes),
            "encoder": encoder,
            "sequence": sequence,
            "head": self.network.encoder.head_kind,
        }

    def configure_optimizers(self) -> Any:
        """See `optimizer_of`."""
        steps = self.steps_per_epoch * self.config.trainer.max_epochs
        if self._trainer is not None:
            steps = int(self.trainer.estimated_stepping_batches)
        optimizer, schedule = optimizer_of(self.network, self.config.optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
