"""Training: seeds, history, claims and locks of a folder, and that resuming gives what no interruption gives."""

import csv
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import LightningDataModule, LightningModule
from torch.utils.data import DataLoader, Dataset, TensorDataset

from common.audio.loading import ShuffledSampler, training_loader, turn_of
from common.run.callbacks import AtomicCheckpoints, History, SeedEveryStep, mix_seed
from common.run.energy import EnergyConfig
from common.run.errors import UserError
from common.run.files import read_json, sha256
from common.run.results.store import read_results
from common.run.settings import TrainerConfig
from common.run.training import BEST, LAST, claim, finished, fit, locked
from common.run.verbs import Run, Task

# --- seeds


def test_mix_seed_is_splitmix64() -> None:
    # the generator's first output for state 0, known from its reference implementation
    assert mix_seed(0) == 0xE220A8397B1DCDAF >> 1


@settings(deadline=None, max_examples=50)
@given(parts=st.lists(st.integers(-(2**70), 2**70), min_size=1, max_size=4), at=st.integers(0, 3))
def test_mix_seed_is_a_63_bit_number_that_any_part_changes(parts: list[int], at: int) -> None:
    seed = mix_seed(*parts)
    assert 0 <= seed < 2**63
    assert seed == mix_seed(*parts)
    other = list(parts)
    other[at % len(parts)] += 1
    assert mix_seed(*other) != seed
    assert mix_seed(*parts, 0) != seed


def test_mix_seed_has_no_collisions_in_a_training() -> None:
    seeds = {mix_seed(42, epoch, step, rank) for epoch in range(30) for step in range(30) for rank in range(4)}
    assert len(seeds) == 30 * 30 * 4


def draw(seed: int = 42, epoch: int = 3, step: int = 5, rank: int = 0) -> list[float]:
    trainer: Any = SimpleNamespace(current_epoch=epoch, global_rank=rank)
    SeedEveryStep(seed).on_train_batch_start(trainer, None, None, step)  # type: ignore[arg-type]
    return torch.rand(4).tolist()


def test_draws_depend_on_seed_epoch_step_and_rank_alone() -> None:
    first = draw()
    torch.manual_seed(1)
    torch.rand(100)
    assert draw() == first
    assert all(draw(**{name: 7}) != first for name in ("seed", "epoch", "step", "rank"))


# --- checkpoints and history


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    io_plugin, path = AtomicCheckpoints(), tmp_path / "checkpoints" / "last.ckpt"
    io_plugin.save_checkpoint({"epoch": 1}, path)
    before = sha256(path)
    with pytest.raises(Exception, match="pickle"):
        io_plugin.save_checkpoint({"epoch": 2, "bad": lambda: None}, path)
    assert sha256(path) == before
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert sorted(path.parent.iterdir()) == [path, path.with_name("last.ckpt.json")]
    check_hash(path)


def check_hash(path: Path) -> None:
    assert read_json(path.with_name(f"{path.name}.json")) == {"sha256": [sha256(path)]}


class Meter:
    """Counts flushes."""

    flushed = 0

    def flush(self) -> None:
        self.flushed += 1


def epoch_end(history: History, epoch: int, every: int = 1, zero: bool = True, **metrics: float) -> None:
    trainer: Any = SimpleNamespace(
        current_epoch=epoch,
        global_step=10 * (epoch + 1),
        callback_metrics={name.replace("_", "/"): torch.tensor(value) for name, value in metrics.items()},
        check_val_every_n_epoch=every,
        is_global_zero=zero,
    )
    history.on_train_epoch_end(trainer, None)  # type: ignore[arg-type]


def test_history_has_a_row_an_epoch_and_metrics_where_they_were_computed(tmp_path: Path) -> None:
    meter = Meter()
    history = History(tmp_path / "metrics.csv", meter)
    epoch_end(history, 0, 2, train_loss=0.5)
    epoch_end(history, 1, 2, train_loss=0.25, val_objective=0.75)
    epoch_end(history, 2, 2, train_loss=0.125, val_objective=0.75)  # left over from the epoch before
    assert (tmp_path / "metrics.csv").read_text() == (
        "epoch,step,train/loss,val/objective\n1.0,10.0,0.5,\n2.0,20.0,0.25,0.75\n3.0,30.0,0.125,\n"
    )
    assert meter.flushed == 3


def test_a_resumed_history_neither_loses_nor_doubles_rows(tmp_path: Path) -> None:
    whole, first = History(tmp_path / "a.csv", Meter()), History(tmp_path / "b.csv", Meter())
    for epoch in range(4):
        epoch_end(whole, epoch, val_x=float(epoch))
    for epoch in range(2):
        epoch_end(first, epoch, val_x=float(epoch))
    state = {"rows": [dict(row) for row in first.state_dict()["rows"]]}
    epoch_end(first, 2, val_x=2.0)  # written, but killed before its checkpoint was
    second = History(tmp_path / "b.csv", Meter())
    second.load_state_dict(state)
    for epoch in (2, 3):
        epoch_end(second, epoch, val_x=float(epoch))
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()
    assert state["rows"] == whole.rows[:2]
    second.load_state_dict({"rows": [{**row, "epoch": row["epoch"] - 1} for row in state["rows"]]})
    assert second.rows == whole.rows[:2]  # what an earlier version wrote counts from 0


def test_only_the_first_process_writes(tmp_path: Path) -> None:
    meter = Meter()
    history = History(tmp_path / "metrics.csv", meter)
    epoch_end(history, 0, zero=False, train_loss=1.0)
    assert history.rows == [{"epoch": 1.0, "step": 10.0, "train/loss": 1.0}]
    assert list(tmp_path.iterdir()) == []
    assert meter.flushed == 0


# --- a run's folder


@dataclass
class Settings:
    seed: int = 5
    width: int = 2
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    energy: EnergyConfig = field(default_factory=lambda: EnergyConfig(enabled=False))


TASK = Task("common", "A task", Settings, ())


def run_in(folder: Path, number: int = 1, **changes: Any) -> Run:
    config = replace(Settings(), **changes)
    return Run(TASK, "own", number, folder, config)


def test_claim_writes_the_config_with_the_seed_of_the_training(tmp_path: Path) -> None:
    claim(run_in(tmp_path / "run3", 3))
    written = yaml.safe_load((tmp_path / "run3" / "config.yaml").read_text())
    assert (written["seed"], written["width"], written["trainer"]["max_epochs"]) == (7, 2, 100)


def test_claim_accepts_the_same_settings_and_names_others(tmp_path: Path) -> None:
    claim(run_in(tmp_path))
    claim(run_in(tmp_path))
    with pytest.raises(UserError, match=r"other settings: width: 2 there, 3 now; --restart .* --run-dir"):
        claim(run_in(tmp_path, width=3))
    with pytest.raises(UserError, match=r"seed: 5 there, 6 now \(and 1 more\)"):
        claim(run_in(tmp_path, number=2, width=3))
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["width"] == 2


def test_settings_younger_than_a_run_have_their_defaults_there(tmp_path: Path) -> None:
    claim(run_in(tmp_path))
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())
    del written["trainer"]["threads"], written["width"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(written))
    with pytest.raises(UserError, match=r"other settings: width: 2 there, 3 now"):
        claim(run_in(tmp_path, width=3))
    claim(run_in(tmp_path))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**written, "gone": 1}))
    with pytest.raises(UserError, match=r"other settings: .*--restart"):
        claim(run_in(tmp_path))


def test_who_submits_a_run_does_not_make_it_another(tmp_path: Path) -> None:
    claim(run_in(tmp_path))
    path = tmp_path / "config.yaml"
    path.write_text(path.read_text() + "submission: {label: Other_Uni_task4_1}\n")
    claim(run_in(tmp_path))
    assert "submission" not in yaml.safe_load(path.read_text())


def test_restart_removes_what_the_old_run_made_and_nothing_else(tmp_path: Path) -> None:
    claim(run_in(tmp_path))
    for name in ("checkpoints", "codecarbon", "tensorboard", "scores", "plots"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").touch()
    for name in ("results.json", "metrics.csv", "notes.txt"):
        (tmp_path / name).touch()
    claim(run_in(tmp_path, width=3), restart=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "notes.txt"]
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["width"] == 3


HOLD = """
import sys, time
from filelock import FileLock
with FileLock(sys.argv[1], timeout=0):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process has the lock of the folder."""
    command = [sys.executable, "-c", HOLD, str(folder / ".lock")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_second_process_is_refused_and_kill_9_frees_the_folder(tmp_path: Path) -> None:
    with held(tmp_path) as process:
        with pytest.raises(UserError, match="another process is working on this run"), locked(tmp_path):
            pass
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with locked(tmp_path):
            pass


def test_a_second_training_in_this_folder_changes_nothing(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(UserError, match="another process"):
        train(tmp_path, epochs=1)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


# --- fit


class Line(LightningModule):
    """A line that is fitted to noisy points; validation gives the metrics of a script."""

    def __init__(self, scores: list[float], stop_at: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.line, self.scores, self.stop_at = torch.nn.Linear(1, 1), scores, stop_at

    def networks(self) -> list[torch.nn.Module]:
        return [self.line]

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        if self.current_epoch == self.stop_at and batch_idx == 1:
            raise KeyboardInterrupt
        (x,) = batch
        loss = (self.line(x) - 2 * x + 0.1 * torch.randn_like(x)).square().mean()
        self.log("train/loss", loss, on_epoch=True, on_step=False)
        return loss

    def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        self.log("val/objective", self.scores[self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.1)


class Points(LightningDataModule):
    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(TensorDataset(torch.linspace(-1, 1, 6)[:, None]), batch_size=2)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(TensorDataset(torch.zeros(1, 1)), batch_size=1)


class Values(Dataset[Any]):
    def __len__(self) -> int:
        return 9

    def __getitems__(self, requests: Any) -> list[torch.Tensor]:
        return [torch.from_numpy(requests[:, :1] / 9).float()]


class Shuffled(Points):
    """Values in another order in every epoch, from so many processes."""

    def __init__(self, workers: int) -> None:
        super().__init__()
        self.workers = workers

    def train_dataloader(self) -> DataLoader[Any]:
        sampler = ShuffledSampler(9, 2, 5, *turn_of(self.trainer))
        return training_loader(Values(), sampler, self.workers)


SCORES = [0.2, 0.8, 0.5, 0.6]


def train(
    folder: Path,
    epochs: int = 4,
    stop_at: int | None = None,
    restart: bool = False,
    system: LightningModule | None = None,
    open_ended: bool = False,
    data: LightningDataModule | None = None,
    **trainer: Any,
) -> LightningModule:
    config = TrainerConfig(max_epochs=epochs, **{"accelerator": "cpu", "devices": 1, **trainer})
    system, run = system or Line(SCORES, stop_at), run_in(folder, trainer=config)
    options: dict[str, Any] = {"restart": restart, "notes": {"data": "points"}, "open_ended": open_ended}
    fit(run, system, data or Points(), monitor="val/objective", batch_size=2, **options)
    return system


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that was not interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run1"
    train(folder)
    return folder


def test_a_training_leaves_its_files(whole: Path) -> None:
    assert finished(run_in(whole))
    section = read_results(whole)["train"]["values"]
    assert (section["epochs"], section["steps"], section["seed"], section["data"]) == (4, 12, 5, "points")
    assert (section["kwh"], section["energy_measured"]) == (0, False)
    assert section["best"] | {"epoch": 2, "val/objective": 0.8} == pytest.approx(section["best"])
    rows = list(csv.DictReader(io.StringIO((whole / "metrics.csv").read_text())))
    assert [float(row["val/objective"]) for row in rows] == pytest.approx(SCORES)
    assert [float(row["step"]) for row in rows] == [3, 6, 9, 12]
    assert sorted(path.name for path in (whole / "checkpoints").iterdir()) == [
        *("best.ckpt", "best.ckpt.json", "last.ckpt", "last.ckpt.json")
    ]
    for name in (BEST, LAST):
        check_hash(whole / name)
    assert list((whole / "tensorboard").glob("events*"))
    assert len(list((whole / "tensorboard").glob("events*.summary"))) == 1  # settings and best figure
    assert section["monitor"] == "val/objective"


def test_best_is_of_the_best_epoch_and_last_of_the_last(whole: Path) -> None:
    assert torch.load(whole / BEST, weights_only=True)["epoch"] == 1
    assert torch.load(whole / LAST, weights_only=True)["epoch"] == 3
    assert not same(weights(whole / BEST), weights(whole / LAST))


@pytest.mark.parametrize("stop_at", [0, 2, 3])
def test_interrupted_and_resumed_is_as_never_interrupted(whole: Path, tmp_path: Path, stop_at: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, stop_at=stop_at)
    assert not finished(run_in(tmp_path))
    train(tmp_path)
    for name in (BEST, LAST):
        assert same(weights(tmp_path / name), weights(whole / name))
    assert (tmp_path / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    ours, theirs = (read_results(folder)["train"]["values"] for folder in (tmp_path, whole))
    assert {**ours, "seconds_of_last_session": 0} == {**theirs, "seconds_of_last_session": 0}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("stop_at", "every"), [(0, 1), (2, 1), (2, None)])
def test_interrupted_within_an_epoch(tmp_path: Path, workers: int, stop_at: int, every: int | None) -> None:
    """It goes on from the checkpoint of the step, or else of the epoch before, with the clips that were left."""
    train(tmp_path / "whole", data=Shuffled(workers))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", stop_at=stop_at, data=Shuffled(workers), checkpoint_steps=every)
    left = torch.load(tmp_path / "stopped" / LAST, weights_only=True)
    assert left["global_step"] == 5 * stop_at + (every or 0)
    train(tmp_path / "stopped", data=Shuffled(workers), checkpoint_steps=every)
    for name in (BEST, LAST):
        assert same(weights(tmp_path / "stopped" / name), weights(tmp_path / "whole" / name))
    texts = [(tmp_path / folder / "metrics.csv").read_text() for folder in ("stopped", "whole")]
    assert texts[0] == texts[1]


def test_a_finished_training_is_left_as_it_is(tmp_path: Path) -> None:
    train(tmp_path, epochs=1)
    before = {name: sha256(tmp_path / name) for name in (BEST, LAST, "results.json", "metrics.csv")}
    train(tmp_path, epochs=1)
    assert {name: sha256(tmp_path / name) for name in before} == before
    with pytest.raises(UserError, match=r"trainer\.max_epochs: 1 there, 2 now"):
        train(tmp_path, epochs=2)
    train(tmp_path, epochs=2, restart=True)
    assert read_results(tmp_path)["train"]["values"]["epochs"] == 2


def test_validation_now_and_then(tmp_path: Path) -> None:
    train(tmp_path, epochs=3, check_val_every_n_epoch=2)
    assert read_results(tmp_path)["train"]["values"]["best"]["epoch"] == 2
    assert torch.load(tmp_path / BEST, weights_only=True)["epoch"] == 1
    rows = list(csv.DictReader(io.StringIO((tmp_path / "metrics.csv").read_text())))
    assert [row["val/objective"] != "" for row in rows] == [False, True, False]


def test_fewer_epochs_than_between_validations(tmp_path: Path) -> None:
    train(tmp_path, epochs=2, check_val_every_n_epoch=10)
    assert read_results(tmp_path)["train"]["values"]["best"]["epoch"] == 2


def test_an_average_of_the_weights_is_what_is_kept(whole: Path, tmp_path: Path) -> None:
    system = train(tmp_path, weight_average=0.9)
    kept = weights(tmp_path / BEST)
    assert kept.keys() == weights(whole / BEST).keys()
    assert not same(kept, weights(whole / BEST))
    assert same(system.state_dict(), weights(tmp_path / LAST))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", stop_at=2, weight_average=0.9)
    train(tmp_path / "stopped", weight_average=0.9)
    assert same(weights(tmp_path / "stopped" / BEST), kept)
    assert same(weights(tmp_path / "stopped" / LAST), weights(tmp_path / LAST))


def test_patience_ends_a_training(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores are best in the second epoch: one of four is left out with a patience of 1; also after a power cut."""
    train(tmp_path / "one", patience=1)
    values = read_results(tmp_path / "one")["train"]["values"]
    assert (values["epochs"], values["best"]["epoch"]) == (3, 2)
    assert same(weights(tmp_path / "one" / BEST), weights(whole / BEST))
    train(tmp_path / "two", patience=2)
    assert read_results(tmp_path / "two")["train"]["values"]["epochs"] == 4
    with monkeypatch.context() as patched:  # after the last checkpoint, before the results
        patched.setattr("common.run.training.record", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "cut", patience=1)
    train(tmp_path / "cut", patience=1)
    assert (tmp_path / "cut" / "metrics.csv").read_text() == (tmp_path / "one" / "metrics.csv").read_text()
    assert same(weights(tmp_path / "cut" / LAST), weights(tmp_path / "one" / LAST))


def test_accumulated_gradients_make_fewer_steps(tmp_path: Path) -> None:
    train(tmp_path, epochs=2, accumulate_grad_batches=2)
    assert read_results(tmp_path)["train"]["values"]["steps"] == 4  # two of 3 batches an epoch: the rest is a step too


def test_an_import_of_wandb_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wandb.py").write_text("import no_such_package_here")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(UserError, match=r"wandb does not import \(No module named 'no_such_package_here'\)"):
        train(tmp_path, epochs=1, wandb=True)


def test_every_strategy_and_accelerator_of_lightning_is_a_setting() -> None:
    from typing import get_args

    from lightning.pytorch.accelerators import AcceleratorRegistry
    from lightning.pytorch.strategies import StrategyRegistry

    from common.run.settings import STRATEGY, Accelerator

    assert [name for name in StrategyRegistry.available_strategies() if not STRATEGY.fullmatch(name)] == []
    assert AcceleratorRegistry.available_accelerators() <= set(get_args(Accelerator))


@pytest.mark.parametrize(
    "wrong",
    [{"devices": -3}, {"devices": 0}, {"devices": "1_0"}, {"devices": "a"}, {"strategy": "ddpx"}, {"strategy": ""}],
)
def test_what_only_the_trainer_would_refuse(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"trainer\.{next(iter(wrong))}: is "):
        TrainerConfig(**wrong)
    for devices in ("auto", -1, 1, "2", "0,1", "3,"):
        TrainerConfig(devices=devices)


def test_wandb_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"trainer\.wandb=true needs the package wandb"):
        train(tmp_path, epochs=1, wandb=True)
