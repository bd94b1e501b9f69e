"""Losses over processes, random draws, schedules, trainings that stop and go on."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from common.run.config import load_config
from common.run.errors import UserError
from common.run.results.store import read_results
from common.run.training import LAST
from common.run.verbs import Run
from common.tests.two_processes import check_two_processes
from qbv.__main__ import TASK
from qbv.config import SAMPLE_RATE, AugmentConfig, Config, of_fold
from qbv.data.batches import Batch
from qbv.inference.checkpoints import load_file, load_part
from qbv.model.networks import DualEncoder
from qbv.training.system import DualSystem, changed_mel, learning_rate
from qbv.training.train import train_run

RECIPES, TINY = Path(__file__).parents[1] / "recipes", str(Path(__file__).with_name("tiny.yaml"))


def system(*overrides: str) -> DualSystem:
    torch.manual_seed(0)
    config = load_config(Config, RECIPES, TINY, ["augment.roll_samples=0", *overrides])
    made = DualSystem(config, DualEncoder(config.model), 10)
    made.log = lambda *_, **__: None  # type: ignore[method-assign]
    return made


def batch(size: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(1)
    audio = 0.1 * torch.randn(2, size, SAMPLE_RATE // 2, generator=generator)
    return Batch(audio[0], audio[1], torch.arange(size) // 2, torch.arange(size), torch.arange(size) % 2)


def gradients(of: DualSystem, given: Batch) -> dict[str, Tensor]:
    of.zero_grad()
    loss = of.training_step(given, 0)
    loss.backward()
    return {"loss": loss.detach()} | {n: p.grad.clone() for n, p in of.named_parameters() if p.grad is not None}


LOSSES = (
    ["loss=nt_xent", "model.temperature_trained=true"],
    ["loss=softmax", "model.temperature_trained=true"],
    ["loss=bce", "model.similarity=network", "model.dropout=0"],
)


def test_two_processes_with_half_a_batch_give_loss_and_gradients_of_the_whole(tmp_path: Path) -> None:
    def found(overrides: list[str], part: slice) -> dict[str, Tensor]:
        made = system(*overrides).eval()  # batch norms see one process
        return gradients(made, Batch(*(of[part] for of in batch())))

    work = {overrides[0]: partial(found, overrides) for overrides in LOSSES}
    check_two_processes(work, 8, tmp_path, 1e-3, 1e-6, 1e-4)


def test_recordings_of_one_concept_are_negatives_only_in_the_challenge() -> None:
    given = batch()
    other = given._replace(recording=given.recording[[1, 0, *range(2, 8)]])  # those of the first concept change places
    changed = {}
    for loss in ("nt_xent", "softmax"):
        made = system(f"loss={loss}").eval()
        with torch.no_grad():
            vectors = made.vectors(given)
            alone = made.loss(vectors[0][[0, 2, 4]], vectors[1][[0, 2, 4]], Batch(*(x[[0, 2, 4]] for x in given)))
            both = made.loss(vectors[0][[0, 0, 2]], vectors[1][[0, 1, 2]], Batch(*(x[[0, 1, 2]] for x in other)))
        changed[loss] = (float(alone), float(both))
    assert changed["nt_xent"][0] == pytest.approx(changed["softmax"][0])  # three concepts: the same loss
    assert changed["nt_xent"][1] < changed["softmax"][1]


def test_augmentation() -> None:
    encoder = DualEncoder(system().config.model).imitation_encoder
    audio = batch().imitation
    plain = changed_mel(encoder, audio, AugmentConfig(mel_jitter=False))
    assert torch.equal(plain, encoder.mel(audio))
    torch.manual_seed(0)
    masked = changed_mel(encoder, audio, AugmentConfig(mel_jitter=False, frequency_mask=30, time_mask=20))
    touched = (masked - plain).abs() > 1e-6
    assert 0 < touched.float().mean() < 0.7
    setting = encoder.front_end.setting
    assert masked[touched].unique().tolist() == pytest.approx([-setting.mean / setting.scale])
    torch.manual_seed(0)
    mixed = changed_mel(encoder, audio, AugmentConfig(mel_jitter=False, mixstyle_probability=1.0))
    assert not torch.allclose(mixed, plain)
    torch.testing.assert_close(mixed.mean(), plain.mean(), atol=0.2, rtol=0)
    moved = changed_mel(encoder, audio, AugmentConfig(mel_jitter=True))
    assert not torch.allclose(moved, plain)


def test_learning_rates_of_the_published_schedules() -> None:
    coarse, challenge = (load_config(Config, RECIPES, name).optimizer for name in ("coarse_doubled", "qvim2025"))
    factors = [0.06005, 0.2865, 1, 1, 1, 0.85716, 0.71431, 0.57147, 0.42863, 0.28579, 0.14294, *[0.0001] * 4]
    found = [learning_rate(coarse, epoch) / coarse.lr for epoch in range(15)]
    assert found == pytest.approx(factors, abs=6e-6)
    wanted = {0.0: 1e-4, 0.5: 2e-4, 1.0: 3e-4, 4.5: 2e-4, 8.0: 1e-4, 14.0: 1e-4}
    for epoch, rate in wanted.items():
        assert learning_rate(challenge, epoch) == pytest.approx(rate)


def test_one_group_of_the_optimiser_without_what_does_not_train() -> None:
    made = system()
    optimizer = made.configure_optimizers()["optimizer"]
    assert len(optimizer.param_groups) == 1
    counted = sum(p.numel() for p in optimizer.param_groups[0]["params"])
    assert counted == sum(p.numel() for p in made.network.parameters()) - 1  # the temperature


# --- whole trainings


def run_of(folder: Path, config: Config) -> Run:
    return Run(TASK, "toy", 1, folder / "toy" / "run1", config)


def test_folds_at_once_are_as_one_after_the_other(tiny: Callable[..., Config], tmp_path: Path) -> None:
    config = tiny()
    one, other = run_of(tmp_path / "one", config), run_of(tmp_path / "other", config)
    found = train_run(one)
    assert list(found["parts"]) == ["fold0", "fold1"]
    train_run(other, folds=[1])
    assert not (other.folder / "fold0").exists()
    train_run(other, jobs=2)
    for fold in (0, 1):
        states = [load_part(of_fold(run, fold)).state_dict() for run in (one, other)]
        for name, value in states[0].items():
            torch.testing.assert_close(states[1][name], value, rtol=1e-5, atol=1e-6, msg=name)
    with pytest.raises(UserError, match=r"--folds: no fold 5 in the recipe, it has 0, 1"):
        train_run(one, folds=[5])
    with pytest.raises(UserError, match=r"--folds: data.protocol=fine has none"):
        train_run(run_of(tmp_path, tiny("data.protocol=fine")), folds=[0])


def test_a_training_goes_on_where_it_stopped(tiny: Callable[..., Config], tmp_path: Path, monkeypatch: Any) -> None:
    config = tiny("data.folds=[0]")
    whole, stopped, plain = (
        run_of(tmp_path / "whole", config),
        run_of(tmp_path / "stopped", config),
        DualSystem.training_step,
    )
    train_run(whole)

    def failing(self: DualSystem, given: Batch, number: int) -> Tensor:
        if self.current_epoch == 1 and number == 1:
            raise RuntimeError("power cut")
        return plain(self, given, number)

    with monkeypatch.context() as patch:
        patch.setattr(DualSystem, "training_step", failing)
        with pytest.raises(RuntimeError, match="power cut"):
            train_run(stopped)
    train_run(stopped)
    networks = [load_file(run.folder / "fold0" / LAST)[0] for run in (whole, stopped)]
    for name, value in networks[0].state_dict().items():
        torch.testing.assert_close(networks[1].state_dict()[name], value, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.protocol=fine", "loss=bce", "model.similarity=network", "model.shared=true"],
        ["data.protocol=qvim", "loss=softmax", "optimizer.name=adamw", "optimizer.schedule=cosine"],
        ["data.folds=[1]", "loss=bce", "data.padding=repeat", "checkpoint=best"],
    ],
)
def test_every_kind_of_recipe_trains(overrides: list[str], packed: Callable[..., Config], tmp_path: Path) -> None:
    run = run_of(tmp_path, packed(*overrides))
    train_run(run)
    part = of_fold(run, 1) if run.config.data.protocol == "coarse" else run
    values = read_results(part.folder)["train"]["values"]
    assert values["epochs"] == 2
    assert values["data"] == "toy"
    assert 0 < values["best"]["val/mrr"] <= 1
    assert "train/loss" in (part.folder / "metrics.csv").read_text()


def test_checkpoints_of_others_are_refused(tiny: Callable[..., Config], tmp_path: Path) -> None:
    run = run_of(tmp_path, tiny("data.folds=[0]"))
    with pytest.raises(UserError, match=r"fold0: no finished training"):
        load_part(of_fold(run, 0))
    torch.save({"x": torch.zeros(1)}, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match=r"x.ckpt: no config.yaml of its training"):
        load_file(tmp_path / "x.ckpt")
    train_run(run)
    torch.save({"state_dict": {"network.other": torch.zeros(1)}}, run.folder / "fold0" / "other.ckpt")
    with pytest.raises(UserError, match=r"other.ckpt: checkpoint of another model"):
        load_file(run.folder / "fold0" / "other.ckpt")


def test_statistics_of_a_network_from_scratch_keep_up() -> None:
    """With the momentum of pre-trained networks what is tested is not what was trained."""
    assert load_config(Config, RECIPES, "coarse").model.norm_momentum is None
    distance = {}
    for momentum in (0.01, 0.1):
        made, given = system(f"model.norm_momentum={momentum}"), batch()
        with torch.no_grad():
            for _ in range(80):
                made.vectors(given)
            trained = made.vectors(given)[0]
            tested = made.eval().vectors(given)[0]
        distance[momentum] = float((trained - tested).abs().max())
    assert distance[0.1] < 0.2 * distance[0.01]
