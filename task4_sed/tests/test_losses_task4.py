"""Task 4's losses: hand-computed batches, masks, empty blocks."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from common.augment import Mix
from common.run.errors import UserError
from task4_sed.data.classes import CLASSES, DESED_CLASSES
from task4_sed.training.losses import (
    Blocks,
    LossWeights,
    StrongWeak,
    Targets,
    baseline_loss,
    interpolated,
    stage1_loss,
    stage2_ict_loss,
    stage2_mean_teacher_loss,
    weak_from_strong,
)

CLASS_COUNT, FRAMES = len(CLASSES), 4
WEIGHTS = LossWeights(2.0, 3.0, 4.0, 5.0, 6.0, 0.0)


def scores(size: int, value: float | None = None, seed: int = 0) -> StrongWeak:
    generator = torch.Generator().manual_seed(seed)
    strong = torch.rand(size, CLASS_COUNT, FRAMES, generator=generator)
    weak = torch.rand(size, CLASS_COUNT, generator=generator)
    if value is not None:
        strong, weak = torch.full_like(strong, value), torch.full_like(weak, value)
    return StrongWeak(strong.requires_grad_(), weak.requires_grad_())


def targets(size: int, valid: int = CLASS_COUNT, **rest: Tensor) -> Targets:
    mask = torch.zeros(size, CLASS_COUNT, dtype=torch.bool)
    mask[:, :valid] = True
    strong = torch.ones(size, CLASS_COUNT, FRAMES)
    return Targets(strong, weak_from_strong(strong), mask, **rest)


def mix(size: int) -> Mix:
    return Mix(torch.ones(size), torch.arange(size))


LOSSES: dict[str, Callable[..., Any]] = {
    "stage1": lambda student, teacher, labels, blocks: stage1_loss(student, teacher, labels, blocks, WEIGHTS, 100),
    "mean_teacher": lambda student, teacher, labels, blocks: stage2_mean_teacher_loss(
        student, teacher, labels, blocks, WEIGHTS, 100
    ),
    "ict": lambda student, teacher, labels, blocks: stage2_ict_loss(
        student, teacher, labels, blocks, WEIGHTS, 100, mix(blocks.size)
    ),
    "ict_apart": lambda student, teacher, labels, blocks: stage2_ict_loss(
        *(student, teacher, labels, blocks, WEIGHTS, 100, mix(blocks.size)),
        maestro_apart=True,
        exclude_maestro_weak_ssl=True,
    ),
    "baseline": lambda student, teacher, labels, blocks: baseline_loss(
        student, teacher, labels, blocks, 100, warmup=1000
    ),
}


def test_blocks() -> None:
    blocks = Blocks(maestro=2, strong=1, synth=0, weak=3, unlabeled=4)
    assert blocks.size == 10
    assert blocks.slices["weak"] == slice(3, 6)
    assert blocks.slices["synth"] == slice(3, 3)
    assert blocks.groups == (3, 3, 4)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    "blocks", [Blocks(2, 2, 2, 2, 2), Blocks(), Blocks(unlabeled=3), Blocks(maestro=2), Blocks(0, 2, 0, 1, 0)]
)
def test_any_block_may_be_empty(name: str, blocks: Blocks) -> None:
    student, teacher = scores(blocks.size), scores(blocks.size, seed=1)
    total, terms = LOSSES[name](student, teacher, targets(blocks.size), blocks)
    total.backward()
    assert total.isfinite()
    assert student.strong.grad is not None
    assert student.strong.grad.isfinite().all()
    assert teacher.strong.grad is None, "no gradient may reach the teacher"
    assert all(term.isfinite() and term.ndim == 0 and not term.requires_grad for term in terms.values())


@pytest.mark.parametrize("name", LOSSES)
def test_a_wrong_batch_size_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a batch of 4 clips"):
        LOSSES[name](scores(4), scores(4), targets(4), Blocks(1, 1, 1, 1, 1))


def test_stage1_by_hand() -> None:
    blocks = Blocks(1, 1, 1, 1, 1)
    log2 = math.log(2)
    total, terms = stage1_loss(
        scores(5, 0.5), scores(5, 0.75), targets(5), blocks, WEIGHTS, step=7000, warmup=14000, ssl_limit=2.0
    )
    assert terms["maestro"] == pytest.approx(log2)
    assert total.item() == pytest.approx(5 * ((2 + 3 + 4 + 5) * log2 + 6 * 0.5 * 2 * 0.0625), rel=1e-5)
    late, _ = stage1_loss(scores(5, 0.5), scores(5, 0.75), targets(5), blocks, WEIGHTS, step=10**6)
    assert (late - total).item() == pytest.approx(5 * 6 * 1.5 * 2 * 0.0625, rel=1e-4)


def test_masked_classes_count_in_the_mean() -> None:
    blocks = Blocks(strong=2)
    full = stage1_loss(scores(2, 0.5), scores(2, 0.5), targets(2), blocks, WEIGHTS, 0)[1]["strong"]
    part = stage1_loss(scores(2, 0.5), scores(2, 0.5), targets(2, valid=10), blocks, WEIGHTS, 0)[1]["strong"]
    assert (part / full).item() == pytest.approx(10 / CLASS_COUNT, rel=1e-5)


def test_pseudo_labels() -> None:
    blocks = Blocks(1, 1, 1, 1, 1)
    weights = LossWeights(2.0, 3.0, 4.0, 5.0, 0.0, 0.5)
    pseudo = torch.full((5, CLASS_COUNT, FRAMES), 0.5)
    total, terms = stage1_loss(scores(5, 0.5), scores(5), targets(5, pseudo=pseudo), blocks, weights, 0)
    log2 = math.log(2)
    assert terms["pseudo_desed"] == pytest.approx(log2)
    assert total.item() == pytest.approx(5 * (14 * log2 + 0.5 * (12 + 2) * log2), rel=1e-5)
    with pytest.raises(UserError, match="but the batch has no pseudo labels"):
        stage1_loss(scores(5), scores(5), targets(5), blocks, weights, 0)


def test_maestro_can_leave_the_weak_consistency() -> None:
    blocks = Blocks(maestro=2, unlabeled=2)
    student, teacher = scores(4, 0.5), scores(4, 0.5)
    with torch.no_grad():
        teacher.weak[:2] = 1.0
    for loss in (stage1_loss, stage2_mean_teacher_loss):
        assert loss(student, teacher, targets(4), blocks, WEIGHTS, 9)[1]["ssl_weak"] > 0
        without = loss(student, teacher, targets(4), blocks, WEIGHTS, 9, exclude_maestro_weak_ssl=True)
        assert without[1]["ssl_weak"] == 0


def test_unmasked_predictions_replace_the_student_in_the_consistency() -> None:
    blocks = Blocks(unlabeled=2)
    student, unmasked = scores(2, 0.0), scores(2, seed=3)
    total, terms = stage1_loss(student, unmasked, targets(2), blocks, WEIGHTS, 9, ssl_student=unmasked)
    assert terms["ssl_strong"] == terms["ssl_weak"] == 0
    assert total == 0


def test_ict_vanishes_where_the_student_interpolates() -> None:
    blocks = Blocks(2, 1, 1, 3, 3)
    teacher = scores(10, seed=2)
    lam = torch.linspace(0.5, 1.0, 10)
    perm = torch.tensor([1, 2, 3, 0, 6, 4, 5, 9, 8, 7])
    draws = Mix(lam, perm)
    student = interpolated(teacher, draws)
    by_hand = lam[4] * teacher.weak[4] + (1 - lam[4]) * teacher.weak[6]
    assert torch.allclose(student.weak[4], by_hand)
    terms = stage2_ict_loss(student, teacher, targets(10), blocks, WEIGHTS, 270, draws)[1]
    assert all(terms[f"ict_{name}"] == 0 for name in ("strong", "maestro", "weak", "unlabeled"))


def test_ict_by_hand() -> None:
    blocks = Blocks(1, 1, 1, 1, 1)
    weights = LossWeights(0.0, 0.0, 0.0, 0.0, 6.0)
    total, _ = stage2_ict_loss(scores(5, 0.5), scores(5, 0.75), targets(5), blocks, weights, 135, mix(5))
    error = 0.0625 + 0.0625 / 2
    assert total.item() == pytest.approx(6 * 0.5 * error / 8, rel=1e-5)


def test_ict_without_maestro_looks_at_classes_of_desed_only() -> None:
    blocks = Blocks(maestro=2)
    student, teacher = scores(2, 0.5), scores(2, 0.5)
    with torch.no_grad():
        teacher.weak[:, len(DESED_CLASSES) :] = 1.0
        aliases = [CLASSES.index("people talking"), CLASSES.index("cutlery and dishes")]
        teacher.weak[:, aliases] = 0.5
    terms = stage2_ict_loss(student, teacher, targets(2), blocks, WEIGHTS, 9, mix(2))[1]
    assert terms["ict_strong"] > 0
    terms = stage2_ict_loss(student, teacher, targets(2), blocks, WEIGHTS, 9, mix(2), exclude_maestro_weak_ssl=True)[1]
    assert terms["ict_strong"] == 0


def test_ict_without_maestro_looks_at_all_of_other_classes() -> None:
    student, teacher = (StrongWeak(*(part[:, :3] for part in scores(2, 0.5))) for _ in range(2))
    with torch.no_grad():
        teacher.weak[:, 2] = 1.0
    found = stage2_ict_loss(
        *(student, teacher, Targets(*(part[:, :3] for part in targets(2)[:3])), Blocks(strong=2), WEIGHTS, 9, mix(2)),
        exclude_maestro_weak_ssl=True,
        classes=("dog", "rain", "rooster"),
    )[1]
    assert found["ict_strong"] == pytest.approx(0.25 / 3 / 2)


def test_mean_teacher_by_hand() -> None:
    blocks = Blocks(1, 1, 1, 1, 1)
    total, _ = stage2_mean_teacher_loss(scores(5, 0.5), scores(5, 0.75), targets(5), blocks, WEIGHTS, 1000)
    log2 = math.log(2)
    assert total.item() == pytest.approx((2 + 3 + 4) / 3 * log2 + 5 / 2 * log2 + 6 * 1.5 * 0.0625, rel=1e-5)


def test_baseline_by_hand() -> None:
    blocks = Blocks(1, 1, 1, 1, 1)
    student, teacher = scores(5, 0.5), scores(5, 0.75)
    with torch.no_grad():
        teacher.strong[0] = 0.0  # MAESTRO is no part of the consistency
        teacher.weak[0] = 0.0
    total, _ = baseline_loss(student, teacher, targets(5), blocks, step=50, warmup=50)
    assert total.item() == pytest.approx(2 * math.log(2) + 2.0 * 2 * 0.0625, rel=1e-5)
    early, _ = baseline_loss(student, teacher, targets(5), blocks, step=0, warmup=50)
    assert early.item() == pytest.approx(2 * math.log(2) + 2.0 * math.exp(-5) * 2 * 0.0625, rel=1e-5)
