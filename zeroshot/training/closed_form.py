"""The two constants of the closed form, chosen on training classes alone."""

from itertools import combinations, product

import torch
from torch import Tensor

from zeroshot.metrics import over_splits

GAMMAS, LAMBDAS = (10.0, 100.0, 1000.0, 10000.0), (0.1, 1.0, 10.0)
MOST_CHOICES = 50  # of classes that are left out; more are thinned out evenly


def choose_constants(audio: Tensor, targets: Tensor, classes: Tensor, left_out: int) -> tuple[float, float, float]:
    """(gamma, lambda, accuracy): the pair of a grid with the best mean accuracy on training classes that are left out.

    audio (clips, d_a), targets (clips,) rows of classes (k, d_t). Every choice of `left_out` of the k classes takes the
    place of unseen ones once; the test classes are never looked at.
    """
    choices = list(combinations(range(len(classes)), left_out))
    choices = choices[:: -(-len(choices) // MOST_CHOICES)]
    found: dict[tuple[float, float], list[dict[str, float]]] = {pair: [] for pair in product(GAMMAS, LAMBDAS)}
    kernel = audio.double() @ audio.double().T
    for choice in choices:
        inside = torch.tensor([index not in choice for index in range(len(classes))])
        trains = inside[targets]
        signs = 2.0 * (targets[trains][:, None] == inside.nonzero().T) - 1.0
        scores = _scores(kernel, trains, signs, classes[inside].double(), classes[~inside].double())
        for pair, of in scores.items():
            right = torch.tensor(choice)[of.argmax(dim=1)] == targets[~trains]
            recalls = {str(index): right[targets[~trains] == index].double().mean().item() for index in choice}
            found[pair].append(recalls)
    gamma, lam = max(found, key=lambda pair: over_splits(found[pair]))
    return gamma, lam, over_splits(found[gamma, lam])


def _scores(
    kernel: Tensor, trains: Tensor, signs: Tensor, seen: Tensor, unseen: Tensor
) -> dict[tuple[float, float], Tensor]:
    """What `eszsl` gives for the clips that do not train, (clips, unseen classes), for every pair of the grid.

    kernel (clips, clips): products X X^T; (X^T X + gamma I)^-1 X^T = X^T (X X^T + gamma I)^-1, so that one
    decomposition serves all pairs, and its size is the number of clips.
    """
    values, vectors = torch.linalg.eigh(kernel[trains][:, trains])
    reached, inner = kernel[~trains][:, trains] @ vectors, vectors.T @ signs.double() @ seen
    right = {
        lam: torch.linalg.solve(seen.T @ seen + lam * torch.eye(seen.shape[1], dtype=seen.dtype), unseen.T)
        for lam in LAMBDAS
    }
    return {
        (gamma, lam): reached @ (inner / (values.clamp(min=0) + gamma)[:, None]) @ right[lam]
        for gamma, lam in product(GAMMAS, LAMBDAS)
    }
