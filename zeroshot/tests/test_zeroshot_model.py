"""Compatibility forms, the closed form against a hand-computed one, losses by hand."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from common.augment import Mix
from zeroshot.config import Config, EncoderConfig, ModelConfig
from zeroshot.model.compatibility import Factored, Projected, build_compatibility, eszsl
from zeroshot.model.networks import build_network
from zeroshot.training.losses import class_loss, tagging_loss, warp_loss


def test_closed_form_by_hand() -> None:
    """X = 2, 0; Y = +1 -1, -1 +1; S = 1, 3: (4 + 1)^-1 (2 (1 - 3)) (10 + 2)^-1."""
    audio, labels, classes = (
        torch.tensor([[2.0], [0.0]]),
        torch.tensor([[1, -1], [-1, 1]]),
        torch.tensor([[1.0], [3.0]]),
    )
    weight = eszsl(audio, labels, classes, gamma=1.0, lam=2.0)
    assert weight.dtype == torch.float64
    assert weight.item() == pytest.approx(-4 / 5 / 12, abs=1e-15)


@pytest.mark.parametrize("dim", [5, 40])
def test_closed_form_is_the_minimum_of_its_objective(dim: int) -> None:
    """|XWS' - Y|^2 + g |WS'|^2 + l |XW|^2 + g l |W|^2; Romera-Paredes & Torr 2015, equation 3."""
    torch.manual_seed(0)
    x, s = torch.randn(30, dim).double(), torch.randn(4, 3).double()
    y = torch.randn(30, 4).sign().double()
    gamma, lam = 2.0, 0.5
    weight = eszsl(x, y, s, gamma, lam).requires_grad_()
    fit = (x @ weight @ s.T - y).square().sum() + gamma * (weight @ s.T).square().sum()
    (fit + lam * (x @ weight).square().sum() + gamma * lam * weight.square().sum()).backward()
    assert weight.grad is not None
    assert weight.grad.abs().max() < 1e-10


@pytest.mark.parametrize("kind", ["projected", "bilinear", "factored", "eszsl"])
def test_forms_score_every_class(kind: str) -> None:
    maps = build_compatibility(ModelConfig(compatibility=kind, dim=8), "bce", 6, 5)  # type: ignore[arg-type]
    scores = maps(torch.randn(3, 6), torch.randn(4, 5))
    assert scores.shape == (3, 4)
    one = maps(torch.randn(3, 6), torch.randn(1, 5))
    assert one.shape == (3, 1)


def test_projected_is_a_scaled_cosine_with_a_limit() -> None:
    config = ModelConfig(dim=8)
    maps = Projected(6, 5, config, None)
    audio, classes = torch.randn(3, 6), torch.randn(4, 5)
    cosines = F.cosine_similarity(maps.audio(audio)[:, None], maps.classes(classes)[None], dim=-1)
    assert torch.allclose(maps(audio, classes), cosines / 0.07, atol=1e-5)
    assert torch.allclose(maps(2 * audio, 3 * classes), maps(audio, classes), atol=1e-4)
    with torch.no_grad():
        maps.log_scale.fill_(math.log(1e4))
    assert maps(audio, classes).abs().max() <= config.scale_limit
    assert Projected(6, 5, config, -10.0)(audio, classes).mean() < -5


def test_factored_rank() -> None:
    maps = Factored(6, 5, 2)
    scores = maps(torch.randn(9, 6), torch.randn(8, 5))
    assert torch.linalg.matrix_rank(scores, atol=1e-4) <= 2


def test_network_standardises_and_a_trained_encoder_gets_gradients() -> None:
    config = Config(encoder=EncoderConfig(name="panns-tiny", finetune=True), loss="softmax")
    network = build_network(config, None, 5)
    scores = network(torch.randn(2, 32000), torch.randn(3, 5))
    scores.sum().backward()
    assert scores.shape == (2, 3)
    assert all(p.grad is not None for p in network.encoder.fc1.parameters())  # type: ignore[union-attr]
    embeddings = torch.randn(50, 32) * 3 + 7
    network.standardise_by(embeddings)
    assert torch.allclose(network.standardised(embeddings).mean(dim=0), torch.zeros(32), atol=1e-5)
    assert torch.allclose(network.standardised(embeddings).std(dim=0, correction=0), torch.ones(32), atol=1e-5)
    embeddings[:, 0], embeddings[:, 1] = 0.0, 0.1  # constant, but for rounding
    embeddings[::2, 1] += 1e-8
    network.standardise_by(embeddings)
    assert network.standardised(embeddings + 1.0)[:, :2].abs().max() < 1.1


def test_tagging_loss_is_the_mean_over_judged_pairs() -> None:
    scores, targets = torch.randn(4, 3), torch.rand(4, 3).round()
    judged = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
    expected = F.binary_cross_entropy_with_logits(scores[judged > 0], targets[judged > 0])
    assert torch.allclose(tagging_loss(scores, targets, judged), expected)
    changed = torch.where(judged > 0, scores, torch.randn(4, 3))
    assert torch.allclose(tagging_loss(changed, targets, judged), expected)
    assert tagging_loss(scores, targets, torch.zeros(4, 3)) == 0


def test_class_loss_mixes_the_losses_of_both_labels() -> None:
    scores, labels = torch.randn(2, 3), torch.tensor([0, 2])
    mix = Mix(torch.tensor([0.75, 1.0]), torch.tensor([1, 0]))
    logs = scores.log_softmax(dim=1)
    expected = -(0.75 * logs[0, 0] + 0.25 * logs[0, 2] + logs[1, 2]) / 2
    assert torch.allclose(class_loss(scores, labels, mix), expected)


def test_warp_by_hand() -> None:
    """Label 0 with 1: violations 1 + 0.5 - 1 = 0.5 and 1 + 2 - 1 = 2, rank 2, beta 1.5; the other clip has none."""
    scores = torch.tensor([[1.0, 0.5, 2.0, -3.0], [5.0, 1.0, 0.0, 0.0]])
    targets = torch.tensor([[1.0, 0, 0, 0], [1, 0, 0, 0]])
    assert warp_loss(scores, targets).item() == pytest.approx((1.5 / 2 * 2.5) / 2)
    # A second label of the first clip: 2 is no violation any more, and label 2 itself has none above 1 + F - 2.
    both = torch.tensor([[1.0, 0, 1, 0], [1, 0, 0, 0]])
    assert warp_loss(scores, both).item() == pytest.approx((1.0 * 0.5 + 0.0) / 2)


def test_losses_of_half_precision_are_computed_in_single_precision() -> None:
    scores = torch.randn(4, 3)
    labels = torch.tensor([0, 1, 2, 0])
    assert class_loss(scores.half(), labels).dtype == torch.float32
    assert warp_loss(scores.half(), F.one_hot(labels, 3).float()).dtype == torch.float32
    assert np.isfinite(tagging_loss(scores.half() * 1000, torch.ones(4, 3)).item())
