"""Losses of Task 2: scores of normal clips against scores of proxy outliers, and the auxiliary classification's head.

Sources: P. Primus, technical report of DCASE 2020 Task 2 (BCE and AUC, its table of variants); K. Wilkinghoff,
"Sub-Cluster AdaCos" (IJCNN 2021). Anomaly scores are logits, higher for outliers; all compute in float32.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.losses import full_precision


@full_precision
def outlier_bce(normal: Tensor, outlier: Tensor) -> Tensor:
    """Mean binary cross entropy with logits, target 0 for `normal` and 1 for `outlier`, any shapes.

    Loss "BCE" of the technical report, and that of the workshop paper.
    """
    scores = torch.cat((normal.flatten(), outlier.flatten()))
    target = torch.cat((torch.zeros_like(normal).flatten(), torch.ones_like(outlier).flatten()))
    return F.binary_cross_entropy_with_logits(scores, target)


@full_precision
def outlier_auc(normal: Tensor, outlier: Tensor) -> Tensor:
    """Minus the smoothed area under the ROC curve: mean over all pairs of sigmoid(outlier - normal), any shapes.

    Loss "AUC" of the technical report.
    """
    return -(outlier.flatten()[:, None] - normal.flatten()).sigmoid().mean()


@full_precision
def neyman_pearson(normal: Tensor, outlier: Tensor, rho: float = 0.2) -> Tensor:
    """Smoothed false-positive minus true-positive rate at the threshold that `rho` of the normal scores pass.

    Of the submission's code; its report does not use it.
    """
    rank = max(1, int((1.0 - rho) * normal.numel()))
    threshold = normal.detach().flatten().kthvalue(rank).values
    return (normal - threshold).sigmoid().mean() - (outlier - threshold).sigmoid().mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "bce": outlier_bce,
    "auc": outlier_auc,
    "neyman_pearson": neyman_pearson,
}


@full_precision
def mixed_cross_entropy(logits: Tensor, label: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """Cross entropy of mixed waveforms: logits (batch, classes), both labels (batch,), share of the first (batch,).

    Zhang et al. 2018 (mixup).
    """
    own, others = (F.cross_entropy(logits, of, reduction="none") for of in (label, other))
    return (share * own + (1 - share) * others).mean()


class SubclusterHead(nn.Module):
    """Cosines to several trainable centres per class, joined by log-sum-exp: sub-cluster AdaCos with a fixed scale.

    Wilkinghoff 2021. Vectors (batch, dim) -> logits (batch, classes).
    """

    def __init__(self, dim: int, classes: int, centres: int = 16) -> None:
        super().__init__()
        self.centres = nn.Parameter(nn.init.xavier_uniform_(torch.empty(classes, centres, dim)))
        self.scale = math.sqrt(2) * math.log(max(2, classes * centres - 1))

    def forward(self, x: Tensor) -> Tensor:
        cosines = torch.einsum("bd,ckd->bck", F.normalize(x, dim=-1), F.normalize(self.centres, dim=-1))
        return torch.logsumexp(self.scale * cosines, dim=-1)
