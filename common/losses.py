"""Losses that train more than one system or stand apart from one: pure functions of tensors.

All compute in float32 (or in the float64 of their inputs), also under autocast.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

Args = ParamSpec("Args")


def _widen(value: Any) -> Any:
    half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
    return value.float() if half else value


def full_precision(loss: Callable[Args, Tensor]) -> Callable[Args, Tensor]:
    """Run a loss outside autocast, half-precision tensors widened to float32."""

    @wraps(loss)
    def widened(*args: Args.args, **kwargs: Args.kwargs) -> Tensor:
        values = (*args, *kwargs.values())
        device = next(value.device.type for value in values if isinstance(value, Tensor))
        with torch.autocast(device, enabled=False):
            return loss(*map(_widen, args), **{key: _widen(value) for key, value in kwargs.items()})

    return widened


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        ctx.size = len(x)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        return total.narrow(0, dist.get_rank() * ctx.size, ctx.size)


def gathered(x: Tensor) -> Tensor:
    """(batch, ...) of every process -> (processes * batch, ...), in their order; x itself where there is only one.

    The gradient is the sum of those that all processes have for the own part. Where each computes the same loss of the
    whole batch and gradients of parameters are averaged, as Lightning does, they are those of one process with the
    whole batch. All processes need batches of one size.
    """
    many = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    return _Gather.apply(x) if many else x


@full_precision
def bce(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross entropy of probabilities, logarithms clamped at -100; 0 for empty tensors.

    Entries of invalid classes that are 0 in both tensors add nothing to the sum but count in the mean.
    """
    if probabilities.numel() == 0:
        return probabilities.sum()
    return F.binary_cross_entropy(probabilities, targets.to(probabilities.dtype))


@full_precision
def mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error; 0 for empty tensors."""
    return prediction.sum() if prediction.numel() == 0 else F.mse_loss(prediction, target)


def _temperature(tau: Tensor | float) -> Tensor | float:
    """A trained temperature may turn negative; its size counts."""
    return tau.abs() if isinstance(tau, Tensor) else abs(tau)


def _cosines(a: Tensor, b: Tensor, eps: float = 1e-12) -> Tensor:
    """(n, dim), (m, dim) -> cosine similarity of every pair, (n, m)."""
    return F.normalize(a, dim=-1, eps=eps) @ F.normalize(b, dim=-1, eps=eps).T


@full_precision
def nt_xent(imitation: Tensor, recording: Tensor, labels: Tensor, temperature: Tensor | float = 0.07) -> Tensor:
    """Contrastive loss of pairs (batch, dim), (batch, dim), labels (batch,), imitation -> recording only.

    -mean_i ln(exp(cos(a_i, b_i) / t) / sum_j exp(cos(a_i, b_j) / t)); recordings j of the same class other than the own
    one are no negatives. Chen et al. 2020 (SimCLR), equation 1, adapted by Greif et al. 2024.
    """
    logits = _cosines(imitation, recording, eps=1e-6) / _temperature(temperature)
    others = ~torch.eye(len(labels), dtype=torch.bool, device=logits.device)
    logits = logits.masked_fill((labels[:, None] == labels) & others, float("-inf"))
    return -logits.log_softmax(dim=1).diagonal().mean()


@full_precision
def pair_bce(imitation: Tensor, recording: Tensor, matching: Tensor) -> Tensor:
    """Binary cross entropy of (1 + cosine) / 2 of pairs (batch, dim); `matching` (batch,) is 1 for true pairs.

    Greif et al. 2024.
    """
    similarity = F.cosine_similarity(imitation, recording, eps=1e-6)
    return bce(((1.0 + similarity) / 2.0).clamp(0.0, 1.0), matching)


@full_precision
def contrastive(audio: Tensor, sentence: Tensor, clip_id: Tensor, tau: Tensor | float) -> Tensor:
    """Symmetric contrastive loss of raw projections (batch, dim) and the ids of their clips (batch,).

    All pairs with equal ids are positive and weigh the same, so that clips with several captions weigh more.
    Primus et al. 2024.
    """
    logits = _cosines(audio, sentence) / _temperature(tau)
    positive = (clip_id[:, None] == clip_id).to(logits.dtype)
    both = logits.log_softmax(dim=0) + logits.log_softmax(dim=1)
    return -0.5 * (both * positive).sum() / positive.sum()


def mean_similarities(audio: Tensor, sentence: Tensor) -> Tensor:
    """Vectors of an ensemble (n, teachers, dim), (m, teachers, dim) -> mean cosine of every pair (n, m), in the
    precision of the vectors. Each teacher's vectors are normalised by themselves.
    """
    units, others = F.normalize(audio, dim=-1), F.normalize(sentence, dim=-1)
    return torch.einsum("imd,jmd->ij", units, others) / audio.shape[1]


@full_precision
def soft_contrastive(
    audio: Tensor, sentence: Tensor, similarities: Tensor, tau: Tensor | float, target_tau: Tensor | float
) -> Tensor:
    """Mean cross entropy of rows and columns of raw projections (batch, dim) against soft targets: the softmax of
    given similarities (batch, batch) / target_tau. Primus et al. 2024.
    """
    logits = _cosines(audio, sentence) / _temperature(tau)
    target = similarities / _temperature(target_tau)
    rows = (target.softmax(dim=1) * logits.log_softmax(dim=1)).sum(dim=1).mean()
    columns = (target.softmax(dim=0) * logits.log_softmax(dim=0)).sum(dim=0).mean()
    return -0.5 * (rows + columns)


@full_precision
def correspondence_distillation(
    audio: Tensor, sentence: Tensor, teacher_audio: Tensor, teacher_sentence: Tensor, tau: Tensor | float
) -> Tensor:
    """Cross entropy of rows and columns against the mean similarities of an ensemble; Primus et al. 2024.

    Raw projections (batch, dim) of the student, (batch, teachers, dim) of the teachers.
    """
    with torch.no_grad():
        similarities = mean_similarities(teacher_audio, teacher_sentence)
    return soft_contrastive(audio, sentence, similarities, tau, tau.detach() if isinstance(tau, Tensor) else tau)


@full_precision
def tagging_distillation(probabilities: Tensor, teacher: Tensor, lam: Tensor, perm: Tensor) -> Tensor:
    """Distillation of clip labels under mixup: probabilities and teacher (batch, classes), lam and perm (batch,).

    Per clip, lam x BCE against its teacher + (1 - lam) x BCE against its partner's. Schmid et al. 2023.
    """
    own = F.binary_cross_entropy(probabilities, teacher, reduction="none")
    partner = F.binary_cross_entropy(probabilities, teacher[perm], reduction="none")
    weight = lam[:, None]
    return (weight * own + (1.0 - weight) * partner).mean()


@full_precision
def frame_distillation(logits: Tensor, labels: Tensor, teacher_logits: Tensor, weight: float = 0.9) -> Tensor:
    """`weight` x BCE against the teacher + the rest against frame labels, all (batch, classes, frames).

    Schmid et al. 2024, Effective Pre-Training of Audio Transformers for Sound Event Detection.
    """
    soft = F.binary_cross_entropy_with_logits(logits, teacher_logits.sigmoid())
    return weight * soft + (1.0 - weight) * F.binary_cross_entropy_with_logits(logits, labels)
