"""Front ends, augmentation, losses and schedules of the training system, and that training is repeatable."""

import csv
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from common.audio.impulses import SYNTHETIC_RESPONSES
from common.augment import Mix
from common.run.config import load_config
from common.run.errors import UserError
from common.run.results.store import read_results
from common.run.training import LAST, constants, gather_in_order
from common.run.verbs import Run
from task1_asc.__main__ import TASK
from task1_asc.config import AugmentConfig, Config, FrontEndConfig, ModelConfig, OptimizerConfig, of_split
from task1_asc.data.batches import Batch
from task1_asc.model.front_end import front_end
from task1_asc.model.networks import build_network
from task1_asc.training.losses import scene_loss
from task1_asc.training.system import (
    SceneSystem,
    check_masks,
    rate_factor,
    steps_of,
    validation_metrics,
)
from task1_asc.training.train import build, train_run

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
QUIET = AugmentConfig(roll_seconds=0, frequency_mask=0, mixstyle_probability=0)


def recipe(name: str, *overrides: str) -> Config:
    return load_config(Config, RECIPES, name, list(overrides))


def system_of(config: Config, impulses: Tensor | None = None) -> SceneSystem:
    torch.manual_seed(0)
    return SceneSystem(config, build_network(config.model), 3, np.zeros(1, int), np.zeros(1, int), impulses=impulses)


def noise(clips: int, rate: int) -> Batch:
    generator = torch.Generator().manual_seed(1)
    waveform = 0.1 * torch.randn(clips, rate, generator=generator)
    return Batch(waveform, torch.arange(clips) % 10, torch.arange(clips) % 9, torch.arange(clips))


# ----------------------------------------------------------------------------------------------------------- front end


@pytest.mark.parametrize(
    ("name", "rate", "shape"),
    [
        ("baseline", 44100, (256, 65)),
        ("cp_mobile", 32000, (256, 64)),
        ("cp_resnet_teacher", 32000, (256, 43)),
        ("passt_teacher", 32000, (128, 100)),
    ],
)
def test_published_input_shapes(name: str, rate: int, shape: tuple[int, int]) -> None:
    """The systems of 2023 load their audio resampled, that of 2024 resamples in its front end."""
    config = recipe(name)
    assert config.data.sample_rate == rate
    for samples in (rate, 44100):
        assert front_end(config.front_end, samples)(torch.zeros(2, samples)).shape == (2, *shape)


def test_front_end_resamples_only_what_needs_it() -> None:
    setting = FrontEndConfig()
    assert front_end(setting, 44100).resample is not None
    assert front_end(setting, 32000).resample is None
    assert front_end(setting, 32000).num_frames(32000) == front_end(setting, 44100).num_frames(44100) == 65


def test_front_end_errors() -> None:
    with pytest.raises(UserError, match=r"front_end\.setting: no front end 'asc_2042'; did you mean 'asc_2024'"):
        front_end(FrontEndConfig("asc_2042"), 44100)
    with pytest.raises(UserError, match=r"front_end\.fmax_range: the mel range of asc_2024 is fixed"):
        front_end(FrontEndConfig(fmax_range=1000), 44100)
    with pytest.raises(UserError, match=r"augment\.frequency_mask: 48 is more than the front end has \(40\)"):
        check_masks(AugmentConfig(), 40, 65)
    with pytest.raises(UserError, match=r"augment\.time_mask: 70 is more"):
        check_masks(AugmentConfig(time_mask=70), 256, 65)


# -------------------------------------------------------------------------------------------------------- augmentation


def test_without_augmentation_the_front_end_is_all(tiny: Callable[..., Config]) -> None:
    config = replace(tiny(), augment=QUIET)
    system, batch = system_of(config), noise(3, 32000)
    mel, mix = system.augmented(batch)
    assert mix is None
    torch.testing.assert_close(mel, system.front_end(batch.waveform)[:, None], rtol=0, atol=0)


@pytest.mark.parametrize(("name", "silence"), [("baseline", math.log(1e-5)), ("cp_mobile", 4.5 / 5)])
def test_masked_cells_have_the_published_value(name: str, silence: float) -> None:
    config = recipe(name, "model.base_channels=8", "distill.teachers=[]", "optimizer.warmup_share=0.1")
    rate = config.data.sample_rate
    config = replace(config, augment=replace(QUIET, frequency_mask=48, time_mask=20))
    system, batch = system_of(config), noise(16, rate)
    torch.manual_seed(3)
    mel = system.augmented(batch)[0][:, 0]
    masked = torch.isclose(mel, torch.tensor(silence), atol=1e-5)
    bands, frames = masked.all(dim=2).sum(dim=1), masked.all(dim=1).sum(dim=1)
    assert bands.max() < 48
    assert frames.max() < 20
    assert len(set(bands.tolist())) > 5  # each clip has its own mask
    for of_clip in masked.all(dim=2):
        rows = of_clip.nonzero()[:, 0]
        assert len(rows) == 0 or rows[-1] - rows[0] + 1 == len(rows)


@pytest.mark.parametrize(
    ("name", "per_batch"), [("baseline", False), ("cp_mobile", True), ("cp_resnet_dir", True), ("passt_mixstyle", True)]
)
def test_the_systems_of_2023_have_one_mask_for_a_batch(name: str, per_batch: bool) -> None:
    config = recipe(name, "optimizer.warmup_share=0.1", "augment.time_mask=20")
    assert config.augment.masks == ("per_batch" if per_batch else "per_clip")
    config = replace(config, model=ModelConfig(base_channels=8))
    system, shape = system_of(config), (16, system_of(config).front_end.num_mels, 40)
    torch.manual_seed(3)
    for _ in range(5):
        masked = system._masked(torch.ones(shape), 0.0) == 0
        assert bool((masked == masked[0]).all()) == per_batch
        bands, frames = masked[0].all(dim=1).sum(), masked[0].all(dim=0).sum()
        assert bands < 48
        assert frames < 20


def test_channels_last_is_the_same_training(tiny: Callable[..., Config]) -> None:
    batch, steps = noise(8, 32000), {}
    for last in (False, True):
        system = system_of(replace(tiny(f"channels_last={last}"), augment=QUIET))
        (convolution,) = (of for name, of in system.network.named_parameters() if name == "in_c.1.0.weight")
        assert convolution.is_contiguous(memory_format=torch.channels_last) == last
        with patch.object(SceneSystem, "log"):
            loss = system.training_step(batch, 0)
        loss.backward()
        assert convolution.grad is not None
        steps[last] = (loss.detach(), convolution.grad)
    torch.testing.assert_close(steps[True][0], steps[False][0], rtol=1e-4, atol=0)
    error = (steps[True][1] - steps[False][1]).norm() / steps[False][1].norm()
    assert error < 0.02


def test_nothing_that_stays_the_same_goes_to_the_other_processes(tiny: Callable[..., Config]) -> None:
    system = system_of(tiny(), torch.ones(2, 8))
    kept = set(constants(system))
    assert {"impulses", "front_end.bank", "front_end.window"} <= kept
    assert {name for name, _ in system.named_buffers()} - kept == {
        f"network.{name}" for name, _ in system.network.named_buffers()
    }
    assert not kept & {name for name, _ in system.named_parameters()}


def test_roll_is_circular_and_bounded(tiny: Callable[..., Config]) -> None:
    """A burst moves by at most a tenth of a second."""
    config = replace(tiny(), augment=replace(QUIET, roll_seconds=0.1))
    system, waveform = system_of(config), torch.zeros(64, 32000)
    waveform[:, 15000:17000] = noise(64, 2000).waveform
    torch.manual_seed(0)
    batch = noise(64, 32000)._replace(waveform=waveform)
    loudest = system.augmented(batch)[0][:, 0].mean(dim=1).argmax(dim=1)
    assert (loudest - 10).abs().max() <= 3  # frames of 50 ms
    assert len(set(loudest.tolist())) >= 3


def test_device_responses_reach_device_a_only(tiny: Callable[..., Config]) -> None:
    augment = replace(QUIET, impulse_response_probability=1.0)
    config = replace(tiny(), augment=augment)
    batch = noise(18, 32000)
    impulses = torch.tensor([[0.0, 0.5, 0.25]])
    changed = (
        system_of(config, impulses).augmented(batch)[0] != system_of(replace(config, augment=QUIET)).augmented(batch)[0]
    )
    assert changed.flatten(1).any(dim=1).tolist() == (batch.device == 0).tolist()


def test_mixup_mixes_mel_and_reports_its_draw(tiny: Callable[..., Config]) -> None:
    config = replace(tiny(), augment=replace(QUIET, mixup_probability=1.0))
    system, batch = system_of(config), noise(6, 32000)
    mel, mix = system.augmented(batch)
    assert mix is not None
    plain = system.front_end(batch.waveform)[:, None]
    lam = mix.lam[:, None, None, None]
    torch.testing.assert_close(mel, lam * plain + (1 - lam) * plain[mix.perm])
    assert (mix.lam >= 0.5).all()


# -------------------------------------------------------------------------------------------------------------- losses


def test_distillation_by_hand() -> None:
    """0.02 CE + 0.98 T^2 KL / classes, as published."""
    student, teacher = torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([[0.5, 2.0, 0.0]])
    p, q = (
        np.exp(x / 2) / np.exp(x / 2).sum()
        for x in (teacher[0].numpy().astype(float), student[0].numpy().astype(float))
    )
    entropy = -math.log(math.exp(1) / (math.exp(1) + 1 + math.exp(-1)))
    expected = 0.02 * entropy + 0.98 * 4 * (p * np.log(p / q)).sum() / 3
    loss = scene_loss(student, torch.tensor([0]), teacher, None, 0.02, 2.0)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_loss_without_teacher_is_cross_entropy() -> None:
    logits, labels = torch.randn(5, 10), torch.arange(5)
    torch.testing.assert_close(scene_loss(logits, labels), torch.nn.functional.cross_entropy(logits, labels))


@given(lam=st.floats(0, 1), weight=st.floats(0, 1))
@settings(deadline=None, max_examples=10)
def test_mixup_mixes_both_terms(lam: float, weight: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, teacher = (torch.randn(4, 10, generator=generator) for _ in range(2))
    labels, perm = torch.tensor([0, 1, 2, 3]), torch.tensor([1, 2, 3, 0])
    mixed = scene_loss(logits, labels, teacher, Mix(torch.full((4,), lam), perm), weight, 2.0)
    own = scene_loss(logits, labels, teacher, None, weight, 2.0)
    other = scene_loss(logits, labels[perm], teacher[perm], None, weight, 2.0)
    torch.testing.assert_close(mixed, lam * own + (1 - lam) * other)


def test_agreeing_teacher_leaves_nothing_to_learn() -> None:
    logits = torch.randn(4, 10, requires_grad=True)
    loss = scene_loss(logits, torch.zeros(4, dtype=torch.long), logits.detach(), None, 0.0, 2.0)
    loss.backward()
    assert abs(loss.item()) < 1e-6
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-6


# ----------------------------------------------------------------------------------------------------------- schedules


def test_published_learning_rates() -> None:
    """Split 5 of the baseline: 150 epochs of 28 steps."""
    factor = rate_factor(OptimizerConfig(), 4200, 150)
    published = {0: 0.0, 1: 2.5e-6, 1000: 2.5e-3, 2000: 5e-3, 3100: 2.5e-3, 4199: 2.549e-9}
    for step, lr in published.items():
        assert 5e-3 * factor(step) == pytest.approx(lr, rel=1e-3, abs=1e-15)


def test_published_steps_of_an_epoch() -> None:
    clips = (6_980, 13_960, 34_900, 69_800, 139_620)
    assert [steps_of(n, 256) for n in clips] == [28, 55, 137, 273, 546]
    assert steps_of(6_980, 256, accumulate=4) == 7


def test_schedule_by_epochs() -> None:
    """CP-Mobile of 2023: warm-up 14, hold until 50, ramp-down 84 to 0.005."""
    factor = rate_factor(recipe("cp_mobile").optimizer, 1, 150)
    assert factor(0) == pytest.approx(math.exp(-5 * (1 - 0.5 / 14) ** 2))
    assert factor(7) == pytest.approx(math.exp(-5 * 0.25))
    assert factor(14) == factor(50) == 1
    assert factor(92) == pytest.approx((1 + 0.005) / 2)
    assert factor(134) == factor(149) == pytest.approx(0.005)


def test_warm_up_must_fit() -> None:
    with pytest.raises(UserError, match=r"optimizer\.warmup_steps: 2000 steps of warm-up, but 3 epochs have 84 steps"):
        rate_factor(OptimizerConfig(), 84, 3)
    share = rate_factor(OptimizerConfig(warmup_share=0.25), 84, 3)
    assert share(21) == 1
    assert share(20) == pytest.approx(20 / 21)


@pytest.mark.parametrize(("schedule", "interval"), [("cosine", "step"), ("hold_ramp", "epoch")])
@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_optimizer_decays_all_parameters(tiny: Callable[..., Config], schedule: str, interval: str, name: str) -> None:
    config = tiny(f"optimizer.name={name}", f"optimizer.schedule={schedule}", "optimizer.weight_decay=0.5")
    system = system_of(config)
    found = system.configure_optimizers()
    (group,) = found["optimizer"].param_groups
    assert type(found["optimizer"]).__name__.lower() == name
    assert group["weight_decay"] == 0.5
    assert len(group["params"]) == len(list(system.network.parameters()))
    assert found["lr_scheduler"]["interval"] == interval


# ---------------------------------------------------------------------------------------------------------- validation


def test_validation_metrics_by_hand() -> None:
    logits = np.full((4, 10), -20.0, np.float32)
    logits[[0, 1, 2, 3], [0, 0, 1, 5]] = 20.0
    labels, devices = np.array([0, 1, 1, 5]), np.array([0, 0, 6, 1])
    metrics = validation_metrics(logits, labels, devices)
    assert metrics["val/macro_avg_acc"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert metrics["val/acc.a"] == 0.5
    assert metrics["val/acc.unseen"] == 1
    assert metrics["val/acc.c"] is None
    assert not [name for name in metrics if "cnt" in name or "count" in name]


def test_gathering_sorts_and_drops_doubles() -> None:
    parts = [(torch.tensor([3, 1]), torch.tensor([[3.0], [1.0]])), (torch.tensor([0, 1]), torch.tensor([[0.0], [1.0]]))]
    rows, logits = gather_in_order(parts, 1)
    assert rows.tolist() == [0, 1, 3]
    assert logits[:, 0].tolist() == [0, 1, 3]


# ------------------------------------------------------------------------------------------------------------ training


def run_in(folder: Path, config: Config) -> Run:
    return Run(TASK, "tiny", 1, folder / "run1", config)


def test_same_seed_same_network(tiny: Callable[..., Config], tmp_path: Path) -> None:
    run = of_split(run_in(tmp_path, tiny()), 5)
    first, second = (build(run, 5)[0].network.state_dict() for _ in range(2))
    other = build(replace(run, number=2), 5)[0].network.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["in_c.0.0.weight"], other["in_c.0.0.weight"])


def test_interrupted_training_ends_as_an_uninterrupted_one(
    tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny("data.splits=[25]", "augment.mixup_probability=0.5")
    runs = [run_in(tmp_path / name, config) for name in ("whole", "broken")]
    train_run(runs[0])

    def stop(self: SceneSystem) -> None:
        if self.current_epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(SceneSystem, "on_train_epoch_start", stop)
        with pytest.raises(KeyboardInterrupt):
            train_run(runs[1])
    train_run(runs[1])
    states = [torch.load(run.folder / "split25" / LAST, weights_only=True)["state_dict"] for run in runs]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    rows = [list(csv.DictReader((run.folder / "split25" / "metrics.csv").open())) for run in runs]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 4
    losses = [float(row["train/loss"]) for row in rows[0]]
    assert losses[-1] < losses[0]


def test_responses_are_named_and_recorded(tiny: Callable[..., Config], tmp_path: Path) -> None:
    some = ("augment.impulse_response_probability=0.5", "data.splits=[5]", "trainer.max_epochs=1")
    run = run_in(tmp_path, tiny(*some))
    with pytest.raises(UserError, match=r"augment\.impulse_responses: not set, .* or synthetic for made-up ones"):
        train_run(run)
    assert not run.folder.exists()
    run = run_in(tmp_path, tiny(*some, "augment.impulse_responses=synthetic"))
    train_run(run)
    recorded = read_results(run.folder / "split5")["train"]["values"]
    assert recorded["impulse_responses"] == {"from": "synthetic", "count": SYNTHETIC_RESPONSES}
    assert recorded["config"]["augment"]["impulse_responses"] == "synthetic"


def test_warm_up_is_refused_before_anything_is_written(tiny: Callable[..., Config], tmp_path: Path) -> None:
    run = run_in(tmp_path, tiny("optimizer.warmup_share=null"))
    with pytest.raises(UserError, match=r"optimizer\.warmup_steps"):
        train_run(run)
    assert not run.folder.exists()
