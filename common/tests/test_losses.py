"""Losses and schedules: hand-computed cases and limits."""

import math

import pytest
import torch

from common import losses, schedules


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(5)


def test_bce_by_hand() -> None:
    probabilities, targets = torch.tensor([0.5, 0.0, 1.0]), torch.tensor([1.0, 0.0, 0.0])
    assert losses.bce(probabilities, targets) == pytest.approx((math.log(2) + 0 + 100) / 3)
    assert losses.bce(torch.zeros(0, 3), torch.zeros(0, 3)) == 0
    assert losses.mse(torch.zeros(0, 3), torch.zeros(0, 3)) == 0


def test_losses_run_in_float32_under_autocast() -> None:
    audio, sentence, ids = torch.randn(6, 16), torch.randn(6, 16), torch.tensor([0, 0, 1, 2, 3, 3])
    expected = losses.contrastive(audio, sentence, ids, 0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(losses.contrastive(audio, sentence, ids, 0.05), expected)
        half = losses.bce(torch.rand(3, 4).bfloat16(), torch.ones(3, 4))
    assert half.dtype == torch.float32


def test_nt_xent_ignores_other_recordings_of_the_class() -> None:
    imitation, recording = torch.randn(4, 8), torch.randn(4, 8)
    labels = torch.tensor([0, 0, 1, 2])
    loss = losses.nt_xent(imitation, recording, labels)
    changed = recording.clone()
    changed[1] = torch.randn(8)  # a negative of clips 2 and 3 only, and the positive of clip 1
    first = losses.nt_xent(imitation[[0, 2, 3]], recording[[0, 2, 3]], labels[[0, 2, 3]])
    again = losses.nt_xent(imitation[[0, 2, 3]], changed[[0, 2, 3]], labels[[0, 2, 3]])
    assert first == again
    assert loss != losses.nt_xent(imitation, changed, labels)
    assert losses.nt_xent(imitation[:2], recording[:2], torch.tensor([3, 3])) == pytest.approx(0.0, abs=1e-6)


def test_contrastive_is_lowest_for_matching_pairs() -> None:
    units = torch.eye(5)
    ids = torch.arange(5)
    right, wrong = losses.contrastive(units, units, ids, 0.05), losses.contrastive(units, units.roll(1, 0), ids, 0.05)
    assert right < 1e-6 < wrong
    tau = torch.tensor(-0.05, requires_grad=True)
    losses.contrastive(torch.randn(5, 4), torch.randn(5, 4), ids, tau).backward()
    assert tau.grad is not None
    assert tau.grad.isfinite()


def test_distillation_from_itself_is_the_entropy() -> None:
    audio, sentence = torch.randn(5, 8), torch.randn(5, 8)
    own = losses.correspondence_distillation(audio, sentence, audio[:, None], sentence[:, None], 0.5)
    other = losses.correspondence_distillation(-audio, sentence, audio[:, None], sentence[:, None], 0.5)
    assert own < other


def test_frame_distillation_weights() -> None:
    logits, labels, teacher = torch.zeros(1, 2, 3), torch.ones(1, 2, 3), torch.zeros(1, 2, 3)
    assert losses.frame_distillation(logits, labels, teacher) == pytest.approx(math.log(2))
    plain = losses.frame_distillation(logits + 2, labels, teacher, weight=0.0)
    assert plain == pytest.approx(math.log1p(math.exp(-2.0)), rel=1e-5)


def test_schedules_at_their_corners() -> None:
    assert schedules.exponential_ramp(0, 50) == pytest.approx(math.exp(-5))
    assert schedules.exponential_ramp(50, 50) == schedules.exponential_ramp(80, 50) == 1.0
    assert schedules.linear_ramp(9000, 14000, 2.0) == pytest.approx(9 / 14)
    assert schedules.linear_ramp(10**6, 14000, 2.0) == 2.0
    assert schedules.half_cosine(0, 10, 100) == 0.0
    assert schedules.half_cosine(10, 10, 100) == 1.0
    assert schedules.half_cosine(55, 10, 100) == pytest.approx(0.5)
    assert schedules.half_cosine(200, 10, 100) == 0.0
    assert schedules.ramp_up_down(100, 2, 4, 7, 1e-4) == 1e-4
    assert schedules.ramp_hold_quarter_cosine(60, 50, 100, 300) == 1.0
    assert schedules.ramp_hold_quarter_cosine(200, 50, 100, 300) == pytest.approx(math.cos(math.pi / 4))
    assert schedules.ramp_hold_quarter_cosine(400, 50, 100, 300, 1e-5) == 1e-5
