"""Training losses of both stages over the batches of all processes (Primus et al. 2023, 2024)."""

from typing import NamedTuple

import torch
from torch import Tensor

from common.losses import contrastive, mean_similarities, soft_contrastive
from task6_retrieval.config import DistillConfig


class Pairs(NamedTuple):
    """Raw projections of clips and of their captions (batch, dim), and the clips' numbers (batch,)."""

    audio: Tensor
    sentence: Tensor
    clip: Tensor


class Teachers(NamedTuple):
    """What teachers say of the same batch: vectors of its clips and captions (batch, teachers, dim)."""

    audio: Tensor
    sentence: Tensor


def retrieval_loss(
    pairs: Pairs, tau: Tensor, config: DistillConfig, teachers: Teachers | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The total, and its terms unweighted. Without teachers it is that of stage 1; with them that of stage 2."""
    supervised = contrastive(pairs.audio, pairs.sentence, pairs.clip, tau)
    terms = {"supervised": supervised.detach()}
    if teachers is None:
        return supervised, terms
    target_tau: Tensor | float = tau if config.tau_through_targets else tau.detach()
    similarities = similarities_of(teachers, config.half_precision)
    distilled = soft_contrastive(pairs.audio, pairs.sentence, similarities, tau, config.tau or target_tau)
    weight = config.supervised_weight
    if config.supervised_weight_squared and config.weight > 0:
        weight = weight**2
    total = config.weight * distilled
    if weight:  # at 0 a loss that is not finite must not reach the total
        total = total + weight * supervised
    return total, terms | {"distilled": distilled.detach()}


def similarities_of(teachers: Teachers, half: bool = False) -> Tensor:
    """Mean cosine over teachers of every clip and caption, (batch, batch); half: computed in float16."""
    with torch.no_grad(), torch.autocast(teachers.audio.device.type, enabled=False):
        return mean_similarities(*(of.half() if half else of.float() for of in teachers)).float()
