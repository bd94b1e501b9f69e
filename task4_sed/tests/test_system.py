"""The mean-teacher system: teacher, augmentation, losses, schedule, validation."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from common.run.training import gather_in_order
from common.run.verbs import Run
from task4_sed.__main__ import TASK
from task4_sed.config import Config, ValidationConfig
from task4_sed.data.batches import Batch
from task4_sed.data.classes import CLASSES
from task4_sed.data.sets import load_set
from task4_sed.model.crnn import Prediction
from task4_sed.training.system import Inputs, SedSystem, move_average
from task4_sed.training.train import build, train_run
from task4_sed.training.validation import objective, validators

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log")  # steps are called without a Trainer

Configure = Callable[..., Config]

PLAIN = (
    *("augment.mixup_probability=0", "augment.frame_shift=0"),
    *("augment.mixstyle_probability=0", "augment.filter_probability=0"),
)


@pytest.fixture(scope="module")
def tiny(tiny: Configure) -> Configure:
    """With a short window, which costs a quarter of the time."""
    return lambda *overrides: tiny("model.fft=512", *overrides)


def run_of(folder: Path, config: Config, number: int = 1) -> Run:
    return Run(TASK, "tiny", number, folder, config)


def batches_of(config: Config, seed: int = 42) -> tuple[SedSystem, list[Batch]]:
    system, data = build(config, seed)
    return system, list(data.train_dataloader())


def copies(network: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


# --- teacher


def test_initial_weights_depend_on_the_seed_alone(tiny: Configure) -> None:
    first, again, other = (copies(build(tiny(), seed)[0].student) for seed in (42, 42, 43))
    assert all(map(torch.equal, first, again))
    assert not all(map(torch.equal, first, other))


def test_the_teacher_begins_as_the_student_and_has_no_gradient(tiny: Configure) -> None:
    system, _ = build(tiny(), 42)
    assert all(map(torch.equal, copies(system.student), copies(system.teacher)))
    assert not any(parameter.requires_grad for parameter in system.teacher.parameters())


def test_move_average_moves_parameters_and_no_buffers() -> None:
    average, network = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    with torch.no_grad():
        average.weight.copy_(torch.tensor([1.0, 2.0]))
        network.weight.copy_(torch.tensor([3.0, 6.0]))
        network.running_mean.fill_(9.0)  # type: ignore[union-attr]
    move_average(average, network, 0.75)
    assert average.weight.tolist() == [1.5, 3.0]
    assert average.running_mean.tolist() == [0.0, 0.0]  # type: ignore[union-attr]
    assert network.weight.tolist() == [3.0, 6.0]


class Watch:
    """Student and teacher after every batch of a training."""

    def __init__(self, system: SedSystem) -> None:
        self.steps: list[int] = []
        self.student: list[list[Tensor]] = []
        self.teacher: list[list[Tensor]] = [copies(system.teacher)]
        self.rates: list[float] = []
        after = system.on_train_batch_end

        def watched(*arguments: Any) -> None:
            after(*arguments)
            self.steps.append(system.global_step)
            self.student.append(copies(system.student))
            self.teacher.append(copies(system.teacher))
            self.rates.append(system.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]

        system.on_train_batch_end = watched  # type: ignore[method-assign]


def watched_training(folder: Path, config: Config, monkeypatch: pytest.MonkeyPatch) -> tuple[SedSystem, Watch]:
    found: list[tuple[SedSystem, Watch]] = []

    def watching(config: Config, seed: int) -> Any:
        system, data = build(config, seed)
        found.append((system, Watch(system)))
        return system, data

    monkeypatch.setattr("task4_sed.training.train.build", watching)
    train_run(run_of(folder, config))
    return found[0]


def follows(teacher: list[Tensor], before: list[Tensor], student: list[Tensor], decay: float) -> bool:
    pairs = zip(teacher, before, student, strict=True)
    return all(torch.allclose(t, decay * b + (1 - decay) * s, rtol=1e-5, atol=1e-7) for t, b, s in pairs)


def test_every_step_moves_the_teacher_as_the_formula_says(
    tiny: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """min(1 - 1 / (k + 1), decay) with k optimiser steps before: first a copy, then their mean, then the decay."""
    system, seen = watched_training(
        tmp_path, tiny("loss.teacher_decay=0.6", "optimizer.lr=0.05", "optimizer.warmup_epochs=0"), monkeypatch
    )
    assert seen.steps == [1, 2, 3, 4, 5, 6]
    decays = [0.0, 1 / 2, 0.6, 0.6, 0.6, 0.6]
    for k, decay in enumerate(decays):
        assert follows(seen.teacher[k + 1], seen.teacher[k], seen.student[k], decay)
    assert not follows(seen.teacher[3], seen.teacher[2], seen.student[2], 2 / 3)  # the limit counts already
    means = [network.cnn.cnn.batchnorm0.running_mean for network in (system.student, system.teacher)]
    assert not torch.equal(*means)  # own statistics: the teacher stays in training mode


def test_as_published_the_teacher_moves_before_the_step(
    tiny: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """min(1 - 1 / (n + 1), decay) before step n; the first step has the full rate, step n that of n."""
    published = ("loss.teacher_moves=before_step", "optimizer.first_step=full", "trainer.accumulate_grad_batches=2")
    settings = ("loss.teacher_decay=0.7", "optimizer.lr=0.05", "optimizer.warmup_epochs=1", "trainer.max_epochs=3")
    started: list[float] = []
    begin = SedSystem.on_train_batch_start

    def starting(system: SedSystem, *arguments: Any) -> None:
        begin(system, *arguments)
        started.append(system.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]

    monkeypatch.setattr(SedSystem, "on_train_batch_start", starting)
    _, seen = watched_training(tmp_path, tiny(*published, *settings), monkeypatch)
    assert seen.steps == [0, 1, 2, 2, 3, 4, 4, 5, 6]  # 2 steps an epoch of 3 batches
    begins = [0, 2, 3, 5, 6, 8]  # the batch with which a step begins: the teacher moves after its forward pass
    assert all(map(torch.equal, seen.teacher[0], seen.teacher[1]))  # both begin alike
    for n, batch in enumerate(begins[1:], start=2):
        assert follows(seen.teacher[batch + 1], seen.teacher[batch], seen.student[batch - 1], min(1 - 1 / (n + 1), 0.7))
    for batch in {1, 4, 7}:
        assert all(map(torch.equal, seen.teacher[batch], seen.teacher[batch + 1]))
    warmup = math.exp(-5 * (1 - 2 / 2) ** 2)
    assert started[:3] == pytest.approx([0.05, 0.05, 0.05 * warmup])


def test_accumulated_gradients_are_one_step(tiny: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """3 batches an epoch, 2 of them a step, the third one too: 2 steps an epoch, and the schedule knows it."""
    config = tiny("trainer.accumulate_grad_batches=2", "optimizer.warmup_epochs=0", "optimizer.constant_until_epoch=1")
    system, seen = watched_training(tmp_path, config, monkeypatch)
    assert seen.steps == [0, 1, 2, 2, 3, 4]
    assert system.steps_per_epoch == 2
    moved = [not all(map(torch.equal, a, b)) for a, b in zip(seen.teacher, seen.teacher[1:], strict=False)]
    # the very first step copies the student, which has moved
    assert moved == [False, True, True, False, True, True]
    rate = config.optimizer.lr
    expected = [rate, rate, rate, rate, rate * math.cos(math.pi / 4), config.optimizer.final_lr]
    assert seen.rates == pytest.approx(expected)


def test_accumulated_gradients_are_the_mean(tiny: Configure) -> None:
    system, batches = batches_of(tiny(*PLAIN, "model.dropout=0"))
    gradients = []
    for batch in batches[:2]:
        system.student.zero_grad()
        system.training_step(batch, 0).backward()
        gradients.append([p.grad.clone() for p in system.student.parameters() if p.grad is not None])
    system.student.zero_grad()
    for batch in batches[:2]:
        (system.training_step(batch, 0) / 2).backward()  # as Lightning divides it
    mean = [p.grad for p in system.student.parameters() if p.grad is not None]
    for first, second, both in zip(*gradients, mean, strict=True):
        torch.testing.assert_close(both, (first + second) / 2, rtol=1e-4, atol=1e-6)


# --- mixing


def test_clips_are_mixed_within_their_block(tiny: Configure) -> None:
    blocks = [f"data.blocks.{name}.batch={n}" for name, n in (("maestro", 3), ("strong", 2), ("synth", 2), ("weak", 4))]
    system, _ = build(tiny(*blocks), 42)
    torch.manual_seed(0)
    groups = [range(3), range(3, 7), range(7, 11), range(11, 12)]  # MAESTRO, both strong blocks, Weak, Unlabeled
    strong_partners = set()
    for _ in range(50):
        mix = system._draw_mix(torch.device("cpu"))
        assert len(mix.lam) == len(mix.perm) == 12
        for group in groups:
            assert sorted(mix.perm[group.start : group.stop].tolist()) == list(group)
            lam = mix.lam[group.start : group.stop]
            assert (lam == lam[0]).all()
            assert 0.5 <= lam[0] <= 1
        assert mix.lam[11] == 1
        assert len({float(mix.lam[group.start]) for group in groups}) > 1
        strong_partners |= {(i, int(mix.perm[i])) for i in (3, 4)}
    assert any(partner in (5, 6) for _, partner in strong_partners)  # real and synthetic clips mix


class Constant(nn.Module):
    """Front end whose mel spectrogram is the first sample of each clip, everywhere."""

    def mel(self, waveform: Tensor) -> Tensor:
        return waveform[:, :1, None].expand(-1, 4, 8)

    def compress(self, mel: Tensor) -> Tensor:
        return mel


class Fixed(nn.Module):
    """A network that predicts what it is told and remembers what it saw."""

    def __init__(self, strong: Tensor, weak: Tensor) -> None:
        super().__init__()
        self.strong, self.weak = strong, weak
        self.seen: list[Tensor] = []

    def forward(
        self, features: Tensor, embeddings: Tensor | None = None, class_mask: Tensor | None = None
    ) -> Prediction:
        self.seen.append(features)
        return Prediction(self.strong, self.weak, self.strong, self.strong)


def test_inputs_and_labels_share_the_draw(tiny: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    import task4_sed.training.system as module

    system, _ = build(tiny(*PLAIN, "augment.mixup_probability=1", "augment.mixup_beta=1"), 42)
    size = system.blocks.size
    level = torch.linspace(0.1, 0.9, size)  # of clip i, in its waveform and in its labels
    level[2:4] = 0.0
    batch = Batch(
        level[:, None].expand(-1, 160),
        level[:, None, None].expand(-1, 27, 5),
        torch.ones(size, 27, dtype=torch.bool),
        torch.arange(size),
    )
    network = Fixed(torch.full((size, 27, 5), 0.5), torch.full((size, 27), 0.5))
    system.front_end, system.student, system.teacher = Constant(), network, network  # type: ignore[assignment]
    targets, mixes = [], []
    loss, draw = module.baseline_loss, system._draw_mix

    def spying(student: Any, teacher: Any, given: Any, *rest: Any, **named: Any) -> Any:
        targets.append(given)
        return loss(student, teacher, given, *rest, **named)

    def drawing(device: torch.device) -> Any:
        mixes.append(draw(device))
        return mixes[-1]

    monkeypatch.setattr(module, "baseline_loss", spying)
    monkeypatch.setattr(system, "_draw_mix", drawing)
    torch.manual_seed(3)
    system.training_step(batch, 0)
    ((lam, perm),), (mixed,) = mixes, targets  # one draw
    assert torch.equal(*network.seen)  # student and teacher hear the same
    heard = network.seen[0][:, 0, 0]
    torch.testing.assert_close(heard, lam * level + (1 - lam) * level[perm])
    torch.testing.assert_close(mixed.strong, heard[:, None, None].expand(-1, 27, 5))
    weak = (level > 0).float()  # labels of the clip before mixing
    torch.testing.assert_close(mixed.weak, (lam * weak + (1 - lam) * weak[perm])[:, None].expand(-1, 27))
    assert not torch.allclose(heard, level)
    assert heard[-1] == level[-1]  # unlabeled


def test_a_shift_moves_the_labels_with_the_input_and_leaves_maestro(tiny: Configure) -> None:
    system, _ = build(tiny(*PLAIN, "augment.frame_shift=0.25"), 42)
    size, frames = system.blocks.size, 20
    strong = torch.zeros(size, 27, frames)
    strong[..., 3] = 1  # one frame with an event in every clip; four frames of mel for each frame of labels
    mel = strong.repeat_interleave(4, dim=-1)[:, :5]
    torch.manual_seed(1)
    (shifted, _), moved, weak = system._augmented(Inputs(mel, None), strong)
    centre = (shifted[:, 0] * torch.arange(4 * frames)).sum(-1) / 4  # of the 4 frames, where they did not wrap around
    starts = []
    for clip in range(size):
        (place,) = moved[clip, 0].nonzero()[:, 0].tolist()
        starts.append(place)
        wrapped = shifted[clip, 0, 0] == shifted[clip, 0, -1] == 1
        assert wrapped or abs(float(centre[clip]) - (4 * place + 1.5)) <= 2
    assert starts[:2] == [3, 3]
    assert len(set(starts[2:])) > 2
    assert (weak == 1).all()


def test_student_and_teacher_hear_through_different_filters(tiny: Configure) -> None:
    for probability in (0, 1):
        system, batches = batches_of(tiny(*PLAIN, f"augment.filter_probability={probability}"))
        network = Fixed(torch.full((9, 27, 156), 0.5), torch.full((9, 27), 0.5))
        system.student = system.teacher = network  # type: ignore[assignment]
        system.training_step(batches[0], 0)
        assert torch.equal(*network.seen) == (probability == 0)
        assert all(bool(torch.isfinite(seen).all()) for seen in network.seen)


def test_without_mixup_a_batch_stays_as_it_is(tiny: Configure) -> None:
    system, batches = batches_of(tiny(*PLAIN))
    network = Fixed(torch.full((9, 27, 156), 0.5), torch.full((9, 27), 0.5))
    features = system.front_end(batches[0].waveform)
    system.student = system.teacher = network  # type: ignore[assignment]
    system.training_step(batches[0], 0)
    torch.testing.assert_close(network.seen[0], features)


# --- losses and optimiser


def logged(system: SedSystem, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    values: dict[str, float] = {}
    monkeypatch.setattr(system, "log_dict", lambda named, **_: values.update({k: float(v) for k, v in named.items()}))
    return values


@pytest.mark.parametrize(("clip", "differs"), [(0, False), (1, False), (2, True), (5, True), (6, True), (8, True)])
def test_consistency_is_of_all_clips_but_maestro(
    tiny: Configure, monkeypatch: pytest.MonkeyPatch, clip: int, differs: bool
) -> None:
    system, batches = batches_of(tiny(*PLAIN))
    values = logged(system, monkeypatch)
    strong, weak = torch.full((9, 27, 156), 0.5), torch.full((9, 27), 0.5)
    other_strong, other_weak = strong.clone(), weak.clone()
    other_strong[clip] += 0.25
    other_weak[clip] += 0.25
    system.student = Fixed(strong, weak)  # type: ignore[assignment]
    system.teacher = Fixed(other_strong, other_weak)  # type: ignore[assignment]
    loss = system.training_step(batches[0], 0)
    expected = 0.25**2 / 7 if differs else 0.0  # one of 7 clips
    assert values["train/ssl_strong"] == pytest.approx(expected)
    assert values["train/ssl_weak"] == pytest.approx(expected)
    ramp = math.exp(-5)  # step 0
    total = values["train/strong"] + values["train/weak"] + 2 * ramp * 2 * expected
    assert float(loss) == pytest.approx(total, rel=1e-5)
    assert values["train/loss"] == pytest.approx(total, rel=1e-5)


def test_the_loss_falls_on_a_repeated_batch(tiny: Configure) -> None:
    system, batches = batches_of(tiny(*PLAIN, "model.dropout=0"))
    mel = system.front_end.mel(batches[0].waveform)
    system.front_end.mel = lambda waveform: mel  # type: ignore[method-assign]
    optimizer = torch.optim.Adam(system.student.parameters(), lr=2e-2)
    losses = []
    for _ in range(20):
        loss = system.training_step(batches[0], 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_the_schedule_by_hand(tiny: Configure) -> None:
    """3 steps an epoch: rise until step 6, 1 until step 12, then a quarter of a cosine until step 24."""
    settings = ("optimizer.warmup_epochs=2", "optimizer.constant_until_epoch=4", "trainer.max_epochs=8")
    system, _ = build(tiny(*settings, "optimizer.lr=0.5", "optimizer.final_lr=0.001"), 42)
    made = system.configure_optimizers()
    factor = made["lr_scheduler"]["scheduler"].lr_lambdas[0]
    assert made["lr_scheduler"]["interval"] == "step"
    expected = {0: math.exp(-5), 3: math.exp(-1.25), 6: 1.0, 12: 1.0, 18: math.sqrt(0.5), 24: 0.002, 99: 0.002}
    assert {step: factor(step) for step in expected} == pytest.approx(expected)
    assert made["optimizer"].param_groups[0]["lr"] == pytest.approx(0.5 * math.exp(-5))
    trained = {id(parameter) for group in made["optimizer"].param_groups for parameter in group["params"]}
    assert trained == {id(parameter) for parameter in system.student.parameters()}


def test_a_rate_of_0(tiny: Configure) -> None:
    system, _ = build(tiny("optimizer.lr=0"), 42)
    assert system.configure_optimizers()["optimizer"].param_groups[0]["lr"] == 0


# --- validation


def test_parts_of_all_processes_come_in_the_order_of_the_clips_and_each_once() -> None:
    def part(*clips: int) -> tuple[Tensor, Tensor, Tensor]:
        number = torch.tensor(clips)
        return number, number.float()[:, None, None].expand(-1, 2, 3), number.float()[:, None] * 10

    _, strong, weak = gather_in_order([part(2, 0), part(3), part(1), part(2, 0)], world_size=1)
    assert strong[:, 0, 0].tolist() == [0, 1, 2, 3]
    assert weak[:, 0].tolist() == [0, 10, 20, 30]


def test_the_objective_is_the_sum_of_what_the_recipe_names() -> None:
    metrics = {"val/a/psds1": 0.25, "val/b/psds1": 0.5, "val/a/intersection_f1": 9.0, "val/m/mpauc": float("nan")}
    config = ValidationConfig(objective=["psds1", "mpauc"])
    assert objective(metrics, config) == 0.75
    assert objective({**metrics, "val/m/mpauc": 0.125}, config) == 0.875
    assert objective({}, config) == 0


def test_the_truth_as_scores_is_a_perfect_validation(tiny: Configure) -> None:
    config = tiny("validation.objective=[weak_f1, intersection_f1, segment_f1, psds1, mpauc]")
    sets = [load_set(config.data, name, "validation") for name in config.validation.sets]
    of = validators(sets, config.validation, CLASSES)
    found = {}
    for clips in sets:
        everything = np.arange(len(clips.clips))
        strong = clips.events.targets(everything, np.zeros(len(everything)), 27, 156)
        right = of[clips.name](strong, (strong > 0).any(axis=2).astype(np.float32))
        wrong = of[clips.name](np.zeros_like(strong), np.zeros(strong.shape[:2], np.float32))
        assert right.keys() == wrong.keys()
        assert all(right[name] > wrong[name] for name in right)
        found |= {f"{clips.name}/{name}": value for name, value in right.items()}
    weak = sets[config.validation.sets.index("weak")].weak
    present = {label for labels in weak.values() for label in labels}
    assert found.pop("weak/weak_f1") == pytest.approx(len(present) / 10)  # a class without clips counts as 0
    assert set(found) == {
        *(
            f"{name}/{metric}"
            for name in ("synth_val", "external_strong_val")
            for metric in ("intersection_f1", "psds1")
        ),
        *("maestro_train/segment_f1", "maestro_train/mpauc"),
    }
    assert min(found.values()) > 0.9, found
