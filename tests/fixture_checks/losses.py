"""The `losses` fixture: values and gradients of every loss, factors of the schedules."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common import losses, schedules
from common.augment import Mix, fold, mixup_class_mask, mixup_soft_labels
from task1_asc.training.losses import scene_loss
from task2_anomaly.training.losses import neyman_pearson, outlier_auc, outlier_bce
from task4_sed.data.classes import CLASSES
from task4_sed.training.losses import (
    Blocks,
    LossWeights,
    StrongWeak,
    Targets,
    stage1_loss,
    stage2_ict_loss,
    stage2_mean_teacher_loss,
    weak_from_strong,
)

Inputs = dict[str, Tensor]


def masked(scores: StrongWeak, class_mask: Tensor) -> StrongWeak:
    return StrongWeak(scores.strong * class_mask[..., None], scores.weak * class_mask)


def predictions(x: Inputs) -> tuple[StrongWeak, StrongWeak, Blocks]:
    student = StrongWeak(x["student_strong"], x["student_weak"])
    teacher = StrongWeak(x["teacher_strong"], x["teacher_weak"])
    return student, teacher, Blocks(*x["batch_sizes"].tolist())


ITERATION_2 = LossWeights(0.5, 0.25, 0.12, 0.1, 0.1, 1.5)
STAGE_2 = LossWeights(12.0, 3.0, 0.25, 1.0, 60.0, 0.0)


def plain_targets(x: Inputs) -> Targets:
    return Targets(x["labels"], weak_from_strong(x["labels"]), x["valid_class_mask"], x["pseudo_strong"])


def stage1(x: Inputs) -> Tensor:
    student, teacher, blocks = predictions(x)
    mask = x["valid_class_mask"]
    return stage1_loss(masked(student, mask), masked(teacher, mask), plain_targets(x), blocks, ITERATION_2, step=9000)[
        0
    ]


def stage1_nomask(x: Inputs) -> Tensor:
    student, teacher, blocks = predictions(x)
    return stage1_loss(
        masked(student, x["valid_class_mask"]),
        teacher,
        plain_targets(x),
        blocks,
        ITERATION_2,
        step=40000,
        ssl_student=student,
        exclude_maestro_weak_ssl=True,
    )[0]


def stage2_meanteacher(x: Inputs) -> Tensor:
    student, teacher, blocks = predictions(x)
    mask = x["valid_class_mask"]
    return stage2_mean_teacher_loss(
        masked(student, mask), masked(teacher, mask), plain_targets(x), blocks, STAGE_2, step=135
    )[0]


def whole_batch_mix(x: Inputs, blocks: Blocks) -> Mix:
    lam, perm, start = [], [], 0
    for group, size in zip(("strong", "weak", "unlabeled"), blocks.groups, strict=True):
        lam.append(fold(x[f"draw_beta_{group}"]))
        perm.append(x[f"draw_perm_{group}"] + start)
        start += size
    return Mix(torch.cat(lam), torch.cat(perm))


def stage2_ict(x: Inputs, exclude: bool) -> Tensor:
    student, teacher, blocks = predictions(x)
    mix = whole_batch_mix(x, blocks)
    mask = mixup_class_mask(x["valid_class_mask"], x["labels"], mix)
    targets = Targets(mixup_soft_labels(x["labels"], mix), mixup_soft_labels(weak_from_strong(x["labels"]), mix), mask)
    return stage2_ict_loss(
        masked(student, mask),
        masked(teacher, mask),
        targets,
        blocks,
        STAGE_2,
        135,
        mix,
        exclude_maestro_weak_ssl=exclude,
    )[0]


def scene(x: Inputs, mixed_and_long: bool) -> Tensor:
    """The loss of 2022: the 1-s teacher has seen the mixed input, the 10-s teacher has not; no temperature^2."""
    logits, labels, temperature = x["student_logits"], x["labels"], float(x["temperature"])
    mix = Mix(x["lam"], x["perm"]) if mixed_and_long else None

    def divergence(teacher: Tensor, mix: Mix | None) -> Tensor:
        return scene_loss(logits, labels, teacher, mix, 0.0, temperature) / temperature**2

    loss = scene_loss(logits, labels, mix=mix) + 50.0 * divergence(x["teacher_logits"], None)
    return loss + 3.0 * divergence(x["teacher_long_logits"], mix) if mixed_and_long else loss


def split_scores(x: Inputs) -> tuple[Tensor, Tensor]:
    return x["scores"][x["outlier"] == 0], x["scores"][x["outlier"] == 1]


def retrieval(x: Inputs) -> Tensor:
    return losses.contrastive(x["audio"], x["sentence"], x["clip_id"], x["tau"])


LOSSES: dict[str, Callable[[Inputs], Tensor]] = {
    "qbv_ntxent": lambda x: losses.nt_xent(x["imitation"], x["recording"], x["labels"]),
    "qbv_bce": lambda x: losses.pair_bce(x["imitation"], x["recording"], x["target"]),
    "retrieval_contrastive": retrieval,
    "retrieval_contrastive_tau": retrieval,
    "retrieval_distill": lambda x: losses.correspondence_distillation(
        x["audio"], x["sentence"], x["teacher_audio"], x["teacher_sentence"], x["tau"]
    ),
    "task4_stage1": stage1,
    "task4_stage1_nomask": stage1_nomask,
    "task4_stage2_meanteacher": stage2_meanteacher,
    "task4_stage2_ict": lambda x: stage2_ict(x, exclude=False),
    "task4_stage2_ict_excl": lambda x: stage2_ict(x, exclude=True),
    "audioset_weak_distill": lambda x: losses.tagging_distillation(x["y_hat"], x["teacher"], x["lam"], x["perm"]),
    "audioset_strong_kd": lambda x: losses.frame_distillation(x["logits"], x["labels"], x["teacher_logits"]),
    "asc_2022_kd_mixup_long": lambda x: scene(x, mixed_and_long=True),
    "asc_2022_kd_t2": lambda x: scene(x, mixed_and_long=False),
    "task2_bce": lambda x: outlier_bce(*split_scores(x)),
    "task2_auc": lambda x: outlier_auc(*split_scores(x)),
    "task2_np": lambda x: neyman_pearson(*split_scores(x)),
    "task2_mse": lambda x: losses.mse(x["prediction"], x["observation"]),
}

# Epoch-wise unless the file names steps.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "schedule_qbv": lambda t: schedules.ramp_up_down(t, 2, 4, 7, 1e-4),
    "schedule_asc_2022": lambda t: schedules.ramp_up_down(t, 100, 250, 400, 0.005),
    "schedule_cosine_a": lambda t: schedules.half_cosine(t, 2000, 10000),
    "schedule_cosine_b": lambda t: schedules.half_cosine(t, 200, 3000),
}


def loss_and_gradients(group: str, io: Any) -> Iterator[tuple]:
    names = [name.split("/", 1)[1] for name in io.files if name.startswith(f"{group}/")]
    inputs = {name: torch.from_numpy(np.asarray(io[f"{group}/{name}"])) for name in names}
    wanted = [name.removeprefix("grad_") for name in names if name.startswith("grad_")]
    for name in wanted:
        inputs[name].requires_grad_()
    loss = LOSSES[group](inputs)
    loss.backward()
    yield "loss", loss.detach().numpy(), io[f"{group}/loss"], {"max": 0.0, "rel": 1e-5}
    for name in wanted:
        yield f"grad_{name}", inputs[name].grad.numpy(), io[f"{group}/grad_{name}"], {"max": 1e-6, "rel": 1e-4}


def factors(group: str, io: Any) -> Iterator[tuple]:
    expected = io[f"{group}/factor"]
    steps = io[f"{group}/step"] if f"{group}/step" in io.files else np.arange(len(expected))
    yield group, [SCHEDULES[group](float(step)) for step in steps], expected, {"max": 1e-7, "rel": 1e-5}


def class_order(io: Any) -> Iterator[tuple]:
    yield "classes", np.array(CLASSES), io["task4_classes"], {}


def check(folder: Path, group: str, io: Any) -> Iterator[tuple] | None:
    if group in LOSSES:
        return loss_and_gradients(group, io)
    if group in SCHEDULES:
        return factors(group, io)
    return class_order(io) if group == "task4_classes" else None


CHECKERS = {"losses": (lambda io: list(dict.fromkeys(name.split("/")[0] for name in io.files)), check)}
