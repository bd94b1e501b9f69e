"""The losses of the dual encoder over the batches of all processes."""

import torch.nn.functional as F
from torch import Tensor

from common.losses import bce, full_precision, nt_xent, pair_bce
from qbv.model.networks import DualEncoder


@full_precision
def softmax_loss(imitation: Tensor, recording: Tensor, number: Tensor, temperature: Tensor | float) -> Tensor:
    """Cross entropy of imitations (batch, dim) over the recordings (batch, dim), imitation -> recording only.

    Pairs of the same imitation `number` (batch,) are positive, all others negative, also those of one concept. The mean
    is over positive pairs. A temperature counts by its size. Baseline of QVIM 2025.
    """
    size = temperature.abs() if isinstance(temperature, Tensor) else abs(temperature)
    logits = F.normalize(imitation, dim=-1) @ F.normalize(recording, dim=-1).T / size
    return -logits.log_softmax(dim=1)[number[:, None] == number].mean()


def pair_loss(
    kind: str,
    network: DualEncoder,
    imitation: Tensor,
    recording: Tensor,
    concept: Tensor,
    number: Tensor,
    match: Tensor,
) -> Tensor:
    """A recipe's `loss` of embeddings (batch, dim) of all processes; concept, number, match (batch,) as in `Batch`."""
    if kind == "nt_xent":
        return nt_xent(imitation, recording, concept, network.temperature)
    if kind == "softmax":
        return softmax_loss(imitation, recording, number, network.temperature)
    if network.comparison is None:
        return pair_bce(imitation, recording, match)
    return bce(network.match(imitation, recording), match)
