"""Training losses of the DCASE 2024 Task 4 systems: winner's stages 1 and 2 (Schmid et al. 2024), organisers' baseline.

A batch is five consecutive blocks (`Blocks`). Predictions and labels of classes that a clip is not labelled for are 0
and still count in every mean: the loss of a clip is scaled by its share of valid classes, and the published weights
rely on that. `student` is a prediction made with the class mask; which teacher prediction (masked or not) goes into
the consistency terms is the caller's choice. Every loss gives the total and its unweighted terms, detached.
"""

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from common.augment import Mix, mixup
from common.losses import bce, mse
from common.run.errors import UserError
from common.schedules import exponential_ramp, linear_ramp
from task4_sed.config import LossWeights
from task4_sed.data.classes import CLASSES
from task4_sed.data.labels import valid_classes

STAGE1_FACTOR = 5.0  # multiplies the whole loss of stage 1
ICT_DIVISOR = 8.0  # between the consistency of mixed and of other batches: as published, it looks accidental


class Scores(Protocol):
    """Anything with strong (batch, classes, frames) and weak (batch, classes) probabilities."""

    @property
    def strong(self) -> Tensor: ...

    @property
    def weak(self) -> Tensor: ...


class StrongWeak(NamedTuple):
    """Probabilities or targets: strong (batch, classes, frames), weak (batch, classes)."""

    strong: Tensor
    weak: Tensor


class Blocks(NamedTuple):
    """Clips of each kind in a batch, in the order in which they stand there; any may be 0."""

    maestro: int = 0
    strong: int = 0
    synth: int = 0
    weak: int = 0
    unlabeled: int = 0

    @property
    def size(self) -> int:
        """Clips in a batch."""
        return sum(self)

    @property
    def framewise(self) -> int:
        """Clips with labels per frame: MAESTRO, real strong and synthetic."""
        return self.maestro + self.strong + self.synth

    @property
    def slices(self) -> dict[str, slice]:
        """Where each block stands: {"maestro": ..., "strong": ..., "synth": ..., "weak": ..., "unlabeled": ...}."""
        found, start = {}, 0
        for name, size in zip(self._fields, self, strict=True):
            found[name] = slice(start, start + size)
            start += size
        return found

    @property
    def groups(self) -> tuple[int, int, int]:
        """Sizes of the groups within which clips are mixed: frame-wise labelled, weak, unlabeled."""
        return (self.framewise, self.weak, self.unlabeled)


class Targets(NamedTuple):
    """Labels of a batch, mixed as the input was.

    strong (batch, classes, frames) and weak (batch, classes) in [0, 1]; class_mask (batch, classes) bool, the classes
    that each clip is labelled for; pseudo (batch, classes, frames): stored predictions of an ensemble.
    """

    strong: Tensor
    weak: Tensor
    class_mask: Tensor
    pseudo: Tensor | None = None


Terms = dict[str, Tensor]


def weak_from_strong(strong: Tensor) -> Tensor:
    """Clip labels (batch, classes) of frame labels (batch, classes, frames): 1 where any frame is above 0."""
    return (strong > 0).any(dim=-1).to(strong.dtype)


def _detached(terms: Mapping[str, Tensor]) -> Terms:
    return {name: value.detach() for name, value in terms.items()}


def _check(student: Scores, blocks: Blocks) -> None:
    if len(student.strong) != blocks.size:
        raise ValueError(f"a batch of {len(student.strong)} clips does not hold {blocks}")


def _supervised(student: Scores, targets: Targets, blocks: Blocks) -> Terms:
    """BCE of each labelled block."""
    mask = targets.class_mask.to(student.strong.dtype)
    strong, labels = student.strong * mask[..., None], targets.strong * mask[..., None]
    at = blocks.slices
    terms = {name: bce(strong[at[name]], labels[at[name]]) for name in ("maestro", "strong", "synth")}
    terms["weak"] = bce((student.weak * mask)[at["weak"]], (targets.weak * mask)[at["weak"]])
    return terms


def _pseudo(student: Scores, targets: Targets, blocks: Blocks, weights: LossWeights) -> tuple[Tensor | float, Terms]:
    """Weighted BCE against pseudo labels, and its terms; nothing where the weight is 0."""
    if weights.pseudo == 0.0:
        return 0.0, {}
    if targets.pseudo is None:
        raise UserError(f"loss weight pseudo is {weights.pseudo:g}, but the batch has no pseudo labels; set it to 0")
    mask = targets.class_mask.to(student.strong.dtype)[..., None]
    strong, pseudo = student.strong * mask, targets.pseudo * mask
    maestro = bce(strong[: blocks.maestro], pseudo[: blocks.maestro])
    desed = bce(strong[blocks.maestro :], pseudo[blocks.maestro :])
    weighted = desed * (weights.strong + weights.synth + weights.weak) + maestro * weights.maestro
    return weights.pseudo * weighted, {"pseudo_maestro": maestro, "pseudo_desed": desed}


def stage1_loss(
    student: Scores,
    teacher: Scores,
    targets: Targets,
    blocks: Blocks,
    weights: LossWeights,
    step: int,
    *,
    ssl_student: Scores | None = None,
    exclude_maestro_weak_ssl: bool = False,
    warmup: int = 14000,
    ssl_limit: float = 2.0,
) -> tuple[Tensor, Terms]:
    """Schmid et al. 2024, stage 1: frozen encoder, mean-teacher consistency on all clips, pseudo labels in iteration 2.

    `ssl_student` replaces the student in the consistency terms (its prediction without a class mask, together with
    an unmasked teacher). `step` counts optimiser steps.
    """
    _check(student, blocks)
    terms = _supervised(student, targets, blocks)
    consistent = ssl_student or student
    first = blocks.maestro if exclude_maestro_weak_ssl else 0
    terms["ssl_strong"] = mse(consistent.strong, teacher.strong.detach())
    terms["ssl_weak"] = mse(consistent.weak[first:], teacher.weak.detach()[first:])
    supervised = (
        weights.maestro * terms["maestro"]
        + weights.strong * terms["strong"]
        + weights.synth * terms["synth"]
        + weights.weak * terms["weak"]
    )
    ssl = weights.ssl * linear_ramp(step, warmup, ssl_limit) * (terms["ssl_strong"] + terms["ssl_weak"])
    pseudo, pseudo_terms = _pseudo(student, targets, blocks, weights)
    return STAGE1_FACTOR * (supervised + ssl + pseudo), _detached(terms | pseudo_terms)


def _stage2_supervised(student: Scores, targets: Targets, blocks: Blocks, weights: LossWeights) -> tuple[Tensor, Terms]:
    terms = _supervised(student, targets, blocks)
    framewise = (
        weights.maestro * terms["maestro"] + weights.strong * terms["strong"] + weights.synth * terms["synth"]
    ) / 3.0
    pseudo, pseudo_terms = _pseudo(student, targets, blocks, weights)
    return framewise + weights.weak * terms["weak"] / 2.0 + pseudo, terms | pseudo_terms


def stage2_mean_teacher_loss(
    student: Scores,
    teacher: Scores,
    targets: Targets,
    blocks: Blocks,
    weights: LossWeights,
    step: int,
    *,
    ssl_student: Scores | None = None,
    exclude_maestro_weak_ssl: bool = False,
    warmup: int = 270,
) -> tuple[Tensor, Terms]:
    """Schmid et al. 2024, stage 2 on a batch that was not mixed: consistency with the teacher on all clips."""
    _check(student, blocks)
    total, terms = _stage2_supervised(student, targets, blocks, weights)
    consistent = ssl_student or student
    first = blocks.maestro if exclude_maestro_weak_ssl else 0
    terms["ssl_strong"] = mse(consistent.strong, teacher.strong.detach())
    terms["ssl_weak"] = mse(consistent.weak[first:], teacher.weak.detach()[first:])
    weight = weights.ssl * linear_ramp(step, warmup)
    return total + weight * (terms["ssl_strong"] + terms["ssl_weak"] / 2.0), _detached(terms)


@cache  # what a host copies to a GPU it waits for
def _desed_valid(classes: tuple[str, ...], device: torch.device) -> Tensor:
    """Indices of the classes that DESED clips are labelled for: its own and two aliases; or all of other classes."""
    valid = valid_classes("strong", classes, desed_to_maestro=True, training=True)
    return torch.from_numpy(valid.nonzero()[0]).to(device)


def interpolated(teacher: Scores, mix: Mix) -> StrongWeak:
    """The teacher's predictions of unmixed clips, mixed as the student's input was; no gradient.

    Verma et al. 2019 (interpolation consistency training).
    """
    strong, weak = (mixup(part.detach(), mix).clamp(0.0, 1.0) for part in (teacher.strong, teacher.weak))
    return StrongWeak(strong, weak)


def stage2_ict_loss(
    student: Scores,
    teacher: Scores,
    targets: Targets,
    blocks: Blocks,
    weights: LossWeights,
    step: int,
    mix: Mix,
    *,
    ssl_student: Scores | None = None,
    exclude_maestro_weak_ssl: bool = False,
    maestro_apart: bool = False,
    warmup: int = 270,
    divisor: float = ICT_DIVISOR,
    classes: tuple[str, ...] = CLASSES,
) -> tuple[Tensor, Terms]:
    """Schmid et al. 2024, stage 2 on a mixed batch: interpolation consistency (Verma et al. 2019).

    `mix` holds the coefficients and partners of the whole batch (`blocks.groups`, or MAESTRO on its own with
    `maestro_apart`); the student saw the mixed clips, the teacher the clean ones, with the class mask AFTER mixing.
    `exclude_maestro_weak_ssl` takes the weak part of the joint group on the classes of DESED only, and drops
    MAESTRO's own where it is mixed apart.
    """
    _check(student, blocks)
    total, terms = _stage2_supervised(student, targets, blocks, weights)
    wanted, consistent = interpolated(teacher, mix), ssl_student or student

    def error(clips: slice, among: Tensor | None = None, weak: bool = True) -> Tensor:
        strong_error = mse(consistent.strong[clips], wanted.strong[clips])
        if not weak:
            return strong_error
        ours, theirs = consistent.weak[clips], wanted.weak[clips]
        if among is not None:
            ours, theirs = ours[:, among], theirs[:, among]
        return strong_error + mse(ours, theirs) / 2.0

    if maestro_apart:
        terms["ict_maestro"] = error(slice(0, blocks.maestro), weak=not exclude_maestro_weak_ssl)
        terms["ict_strong"] = error(slice(blocks.maestro, blocks.framewise))
    else:
        among = _desed_valid(classes, consistent.weak.device) if exclude_maestro_weak_ssl else None
        terms["ict_strong"] = terms["ict_maestro"] = error(slice(0, blocks.framewise), among)
    terms["ict_weak"] = error(blocks.slices["weak"])
    terms["ict_unlabeled"] = error(blocks.slices["unlabeled"])
    mean = (terms["ict_strong"] + terms["ict_maestro"] + terms["ict_weak"] + terms["ict_unlabeled"]) / 4.0
    return total + weights.ssl * linear_ramp(step, warmup) * mean / divisor, _detached(terms)


def baseline_loss(
    student: Scores,
    teacher: Scores,
    targets: Targets,
    blocks: Blocks,
    step: int,
    *,
    warmup: int,
    ssl_weight: float = 2.0,
) -> tuple[Tensor, Terms]:
    """Organisers' baseline: frame-wise BCE, weak BCE, and mean-teacher consistency on all clips but MAESTRO.

    The consistency weight, among the terms as `ssl_weight`, rises exponentially over `warmup` optimiser steps (50
    epochs).
    """
    _check(student, blocks)
    mask = targets.class_mask.to(student.strong.dtype)
    framewise, weak, desed = slice(0, blocks.framewise), blocks.slices["weak"], slice(blocks.maestro, None)
    terms = {
        "strong": bce((student.strong * mask[..., None])[framewise], (targets.strong * mask[..., None])[framewise]),
        "weak": bce((student.weak * mask)[weak], (targets.weak * mask)[weak]),
        "ssl_strong": mse(student.strong[desed], teacher.strong.detach()[desed]),
        "ssl_weak": mse(student.weak[desed], teacher.weak.detach()[desed]),
    }
    weight = ssl_weight * exponential_ramp(step, warmup)
    total = terms["strong"] + terms["weak"] + weight * (terms["ssl_strong"] + terms["ssl_weak"])
    return total, _detached(terms) | {"ssl_weight": total.new_full((), weight)}
