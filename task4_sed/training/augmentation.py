"""Augmentations of the winner's stages: all random draws of a step, then the step's inputs and targets out of them.

WavMix comes before: its partners are any clips of a data set, so the data set mixes them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from common.augment import (
    BandGains,
    ImpulseDraw,
    Mix,
    Span,
    Warp,
    coin,
    device_impulse,
    draw_device_impulse,
    draw_filter_augment,
    draw_frame_shift,
    draw_freq_warp,
    draw_mix,
    draw_time_mask,
    filter_augment,
    freq_mixstyle,
    freq_warp,
    mixup,
    mixup_class_mask,
    mixup_soft_labels,
    roll,
    scaled_shift,
    time_mask,
)
from common.frontends import MelSetting
from task4_sed.config import AugmentConfig
from task4_sed.training.losses import Blocks, Targets

Stage = Literal["stage1", "stage2"]
# Schmid et al. 2024. From `teacher` on only the student's input changes; in stage 1 both have the same, but for the
# filter.
ORDER: dict[Stage, tuple[str, ...]] = {
    "stage1": ("shift", "mix", "style", "mask", "filter"),
    "stage2": ("shift", "mask", "teacher", "mix", "style", "warp", "filter"),
}
WARPED = ("weak", "framewise", "unlabeled", "maestro")  # parts with a draw of their own, in the published order


class Draws(NamedTuple):
    """The random decisions of a step; None: not drawn. Of pairs the first is for the CNN's mel."""

    impulse: ImpulseDraw | None = None
    shift: Tensor | None = None
    mask: Span | None = None
    mix: Mix | None = None
    style: tuple[Mix, Mix] | None = None
    warp: Sequence[Warp] | None = None  # of the parts WARPED
    filter: tuple[BandGains, BandGains] | None = None  # stage 1: student, teacher; stage 2: CNN, encoder


class View(NamedTuple):
    """What a network gets: linear mel (batch, mel, frames) of the CNN; beside it the encoder's normalised log-mel, or
    stored embeddings (batch, dim, steps)."""

    mel: Tensor
    beside: Tensor | None


@dataclass(frozen=True)
class Clips:
    """A batch on its way; `teacher`: None as long as it is the student's input."""

    student: View
    teacher: View | None
    targets: Targets


class Augmenter:
    """Draws and applies what a recipe asks for. setting: the encoder's front end; None where it gets no mel."""

    def __init__(self, config: AugmentConfig, stage: Stage, blocks: Blocks, setting: MelSetting | None) -> None:
        self.config, self.stage, self.blocks, self.setting = config, stage, blocks, setting

    def draw(self, mel: tuple[int, int], frames: int, impulses: int, device: torch.device) -> Draws:
        """All draws of a step. mel: bands and frames of the CNN's; frames: of the labels; impulses: responses."""
        config, blocks, clips = self.config, self.blocks, self.blocks.size
        bands = mel[0], self.setting.num_mels if self.setting else mel[0]
        return Draws(
            impulse=draw_device_impulse(clips, impulses, config.impulse_probability, device) if impulses else None,
            shift=self._draw_shift(mel[1], device) if config.frame_shift else None,
            mask=draw_time_mask(frames, longest=config.time_mask_longest) if config.time_mask else None,
            mix=draw_mix(blocks.groups, config.mixup_beta, device) if coin(config.mixup_probability) else None,
            style=self._draw_style(device) if coin(config.mixstyle_probability) else None,
            warp=self._draw_warp() if coin(config.warp_probability) else None,
            filter=self._draw_filter(bands, device) if coin(config.filter_probability) else None,
        )

    def _draw_shift(self, frames: int, device: torch.device) -> Tensor:
        shift = draw_frame_shift(self.blocks.size, frames, self.config.frame_shift, device)
        shift[: self.blocks.maestro] = 0
        return shift

    def _draw_style(self, device: torch.device) -> tuple[Mix, Mix]:
        first, second = (draw_mix(self.blocks.groups, self.config.mixstyle_beta, device) for _ in range(2))
        return first, second

    def _draw_warp(self) -> list[Warp]:
        bands = self.setting.num_mels if self.setting else 1
        return [draw_freq_warp(bands) for _ in WARPED]

    def _draw_filter(self, bands: tuple[int, int], device: torch.device) -> tuple[BandGains, BandGains]:
        other = bands[0] if self.stage == "stage1" else bands[1]
        first, second = (draw_filter_augment(self.blocks.size, n, device) for n in (bands[0], other))
        return first, second

    def waveforms(self, waveform: Tensor, draws: Draws, impulses: Tensor | None) -> Tensor:
        """Waveforms (batch, samples) after device responses."""
        if draws.impulse is None or impulses is None:
            return waveform
        return device_impulse(waveform, impulses, draws.impulse, self.config.impulse_time_zero)

    def views(self, view: View, targets: Targets, draws: Draws) -> tuple[View, View, Targets]:
        """What student and teacher get, and their targets, step by step in the stage's ORDER."""
        clips = Clips(view, None, targets)
        for name in ORDER[self.stage]:
            clips = getattr(self, name)(clips, draws)
        return clips.student, clips.teacher or clips.student, clips.targets

    def shift(self, clips: Clips, draws: Draws) -> Clips:
        """Everything moved in time by the same seconds."""
        if draws.shift is None:
            return clips
        (mel, beside), targets, shift = clips.student, clips.targets, draws.shift
        frames = mel.shape[-1]

        def moved(x: Tensor | None) -> Tensor | None:
            return None if x is None else roll(x, scaled_shift(shift, frames / x.shape[-1]))

        of_labels = scaled_shift(shift, frames // targets.strong.shape[-1])
        strong = roll(targets.strong, of_labels)
        pseudo = None if targets.pseudo is None else roll(targets.pseudo, of_labels)
        student = View(roll(mel, shift), moved(beside))
        return Clips(student, clips.teacher, targets._replace(strong=strong, pseudo=pseudo))

    def mask(self, clips: Clips, draws: Draws) -> Clips:
        """A span of real strong and synthetic clips without sound and without labels; clip labels stay."""
        if draws.mask is None:
            return clips
        (mel, beside), targets, span = clips.student, clips.targets, draws.mask
        frames = targets.strong.shape[-1]

        def masked(x: Tensor, ratio: float = 1.0) -> Tensor:
            first, last = self.blocks.maestro, self.blocks.framewise
            return torch.cat((x[:first], time_mask(x[first:last], span, ratio), x[last:]))

        beside = None if beside is None else masked(beside, beside.shape[-1] / frames)
        pseudo = None if targets.pseudo is None else masked(targets.pseudo)
        student = View(masked(mel, mel.shape[-1] // frames), beside)
        return Clips(student, clips.teacher, targets._replace(strong=masked(targets.strong), pseudo=pseudo))

    def teacher(self, clips: Clips, draws: Draws) -> Clips:
        """From here on only the student's input changes."""
        return Clips(clips.student, clips.student, clips.targets)

    def mix(self, clips: Clips, draws: Draws) -> Clips:
        """Mixup within frame-wise labelled, weak and unlabeled clips."""
        if (mix := draws.mix) is None:
            return clips
        (mel, beside), targets = clips.student, clips.targets
        student = View(mixup(mel, mix), None if beside is None else mixup(beside, mix))
        mixed = Targets(
            mixup_soft_labels(targets.strong, mix),
            mixup_soft_labels(targets.weak, mix),
            mixup_class_mask(targets.class_mask, targets.strong, mix),
            None if targets.pseudo is None else mixup(targets.pseudo, mix),
        )
        return Clips(student, clips.teacher, mixed)

    def style(self, clips: Clips, draws: Draws) -> Clips:
        """MixStyle per band, of both inputs apart."""
        if draws.style is None:
            return clips
        mel, beside = clips.student
        mel = freq_mixstyle(mel[:, None], draws.style[0], per_channel=True)[:, 0]
        if beside is not None and self.setting is not None:
            beside = freq_mixstyle(beside[:, None], draws.style[1], per_channel=True)[:, 0]
        return Clips(View(mel, beside), clips.teacher, clips.targets)

    def warp(self, clips: Clips, draws: Draws) -> Clips:
        """Bands of the encoder's mel stretched, each part by its own draw."""
        beside = clips.student.beside
        if draws.warp is None or beside is None:
            return clips
        maestro, strong, synth, weak, _ = self.blocks.slices.values()
        drawn = dict(zip(WARPED, draws.warp, strict=True))
        first = beside[maestro]
        parts = (
            freq_warp(first, drawn["maestro"]) if self.config.warp_maestro and len(first) else first,
            freq_warp(beside[strong.start : synth.stop], drawn["framewise"]),
            freq_warp(beside[weak], drawn["weak"]),
            freq_warp(beside[weak.stop :], drawn["unlabeled"]),
        )
        return Clips(clips.student._replace(beside=torch.cat(parts)), clips.teacher, clips.targets)

    def filter(self, clips: Clips, draws: Draws) -> Clips:
        """FilterAugment. Stage 1: student and teacher apart. Stage 2: the student's two inputs."""
        if draws.filter is None:
            return clips
        (mel, beside), (first, second) = clips.student, draws.filter
        student = View(filter_augment(mel, first), beside)
        if self.stage == "stage1":
            return Clips(student, View(filter_augment(mel, second), beside), clips.targets)
        return Clips(View(student.mel, self._filtered(beside, second)), clips.teacher, clips.targets)

    def _filtered(self, beside: Tensor | None, draw: BandGains) -> Tensor | None:
        if beside is None or self.setting is None:
            return beside
        return filtered(beside, draw, self.setting, self.config.filter_encoder)


def filtered(mel: Tensor, draw: BandGains, setting: MelSetting, kind: Literal["added", "multiplied", "off"]) -> Tensor:
    """The gains on a normalised log-mel (batch, mel, frames): added there, or multiplied as published."""
    if kind == "off":
        return mel
    if kind == "multiplied":
        return filter_augment(mel, draw)
    # A gain in dB of a magnitude, in the logarithm that the front end takes of magnitude or power.
    unit = 20.0 / math.log(10.0) if setting.log == "db" else setting.exponent
    return mel + filter_augment(torch.ones_like(mel[..., :1]), draw).log() * (unit / setting.scale)
