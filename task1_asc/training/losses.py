"""The training loss: cross entropy, with a teacher also distillation."""

import torch.nn.functional as F
from torch import Tensor

from common.augment import Mix, mix_pair
from common.losses import full_precision


@full_precision
def scene_loss(
    logits: Tensor,
    labels: Tensor,
    teacher: Tensor | None = None,
    mix: Mix | None = None,
    label_weight: float = 1.0,
    temperature: float = 1.0,
) -> Tensor:
    """Cross entropy of logits (batch, classes) and labels (batch,), or that and the divergence from a teacher's logits.

    label_weight x CE + (1 - label_weight) x temperature^2 x KL(teacher || student), the KL as mean over clips AND
    classes, as published (a tenth of the true one). With mixup both terms are mixed. Sources: Hinton et al. 2015,
    section 2 (soft targets, factor temperature^2); Schmid et al., technical report for DCASE 2023 Task 1.
    """

    def of(partner: Tensor | slice) -> Tensor:
        loss = F.cross_entropy(logits, labels[partner], reduction="none")
        if teacher is None:
            return loss
        student, target = ((x / temperature).log_softmax(dim=-1) for x in (logits, teacher[partner]))
        divergence = F.kl_div(student, target, reduction="none", log_target=True).mean(dim=-1)
        return label_weight * loss + (1.0 - label_weight) * temperature**2 * divergence

    own = of(slice(None))
    return (own if mix is None else mix_pair(own, of(mix.perm), mix.lam)).mean()
