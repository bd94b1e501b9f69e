"""Losses of scores F (batch, classes) over the training classes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from common.augment import Mix, mix_pair
from common.losses import full_precision


@full_precision
def tagging_loss(scores: Tensor, targets: Tensor, judged: Tensor | None = None) -> Tensor:
    """Binary cross entropy of sigmoid scores and targets, the mean over the judged pairs; all (batch, classes).

    PaSST's OpenMIC recipe divides by all pairs, judged or not; the intended mean is taken here.
    """
    loss = F.binary_cross_entropy_with_logits(scores, targets.to(scores.dtype), reduction="none")
    if judged is None:
        return loss.mean()
    weight = judged.to(loss.dtype)
    return (loss * weight).sum() / weight.sum().clamp(min=1.0)


@full_precision
def class_loss(scores: Tensor, labels: Tensor, mix: Mix | None = None) -> Tensor:
    """Softmax cross entropy with labels (batch,); with mixup the two clips' losses are mixed."""
    loss = F.cross_entropy(scores, labels, reduction="none")
    if mix is not None:
        loss = mix_pair(loss, F.cross_entropy(scores, labels[mix.perm], reduction="none"), mix.lam)
    return loss.mean()


@full_precision
def warp_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Ranking loss of the WARP family, mean over clips; as Xie & Virtanen 2019 use it, from memory.

    Of a positive pair (x, y): with violations v_c = max(0, 1 + F(x, c) - F(x, y)) over classes c that are not among the
    clip's own and r the number of v_c > 0: beta(r) / r * sum v_c, beta(r) = sum_{i <= r} 1/i, 0 for r = 0. Summed over
    a clip's labels. targets (batch, classes) are 0 or 1.
    """
    positive = targets > 0.5
    beta = F.pad(1.0 / torch.arange(1, scores.shape[1] + 1, device=scores.device), (1, 0)).cumsum(0).to(scores.dtype)
    clip, label = positive.nonzero(as_tuple=True)
    violations = (1.0 + scores[clip] - scores[clip, label][:, None]).clamp(min=0.0) * ~positive[clip]
    rank = (violations > 0).sum(dim=1)
    weight = beta[rank] / rank.clamp(min=1)
    return (weight * violations.sum(dim=1)).sum() / len(scores)
