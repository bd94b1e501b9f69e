"""The constants of the closed form: the fast way to score a grid gives what the closed form itself gives."""

import numpy as np
import pytest
import torch

from zeroshot.model.compatibility import eszsl
from zeroshot.training import closed_form
from zeroshot.training.closed_form import GAMMAS, LAMBDAS, choose_constants


def separable(noise: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Clips (120, 40) whose embeddings are a linear image of their class's vector (12, 4), with noise."""
    random = np.random.default_rng(2)
    classes, targets = random.standard_normal((12, 4)), np.repeat(np.arange(12), 10)
    audio = classes[targets] @ random.standard_normal((4, 40)) + noise * random.standard_normal((120, 40))
    return torch.from_numpy(audio).float(), torch.from_numpy(classes).float(), torch.from_numpy(targets)


def test_the_grid_is_scored_as_by_the_closed_form() -> None:
    audio, classes, targets = separable(1.0)
    inside = torch.arange(12) % 5 != 2
    trains = inside[targets]
    signs = 2.0 * (targets[trains][:, None] == inside.nonzero().T) - 1.0
    kernel = audio.double() @ audio.double().T
    found = closed_form._scores(kernel, trains, signs, classes[inside].double(), classes[~inside].double())
    assert set(found) == {(gamma, lam) for gamma in GAMMAS for lam in LAMBDAS}
    for (gamma, lam), scores in found.items():
        weight = eszsl(audio[trains], signs, classes[inside], gamma, lam)
        assert torch.allclose(scores, audio[~trains].double() @ weight @ classes[~inside].double().T, atol=1e-8)


def test_what_can_be_told_apart_is_told_apart() -> None:
    audio, classes, targets = separable(0.1)
    gamma, lam, accuracy = choose_constants(audio, targets, classes, 2)
    assert (gamma in GAMMAS, lam in LAMBDAS) == (True, True)
    assert accuracy > 0.9
    random = np.random.default_rng(0)
    shuffled = classes[torch.from_numpy(random.permutation(12))]
    assert choose_constants(torch.from_numpy(random.standard_normal(audio.shape)).float(), targets, shuffled, 2)[
        2
    ] == pytest.approx(0.5, abs=0.25)
