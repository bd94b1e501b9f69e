"""Trainings of the tiny recipe: resumed is uninterrupted; mixed precision, compiled, two processes."""

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

from common.run.files import read_json, read_rows, sha256, write_json
from common.run.results.store import read_results
from common.run.training import BEST, LAST
from common.run.verbs import Run
from task4_sed.__main__ import TASK
from task4_sed.config import Config
from task4_sed.data.batches import Batch
from task4_sed.data.classes import CLASSES
from task4_sed.inference.checkpoints import load_network
from task4_sed.training.system import SedSystem
from task4_sed.training.train import train_run

Configure = Callable[..., Config]


@pytest.fixture(scope="module")
def tiny(tiny: Configure) -> Configure:
    """With a short window, which costs a quarter of the time."""
    return lambda *overrides: tiny("model.fft=512", *overrides)


def run_of(folder: Path, config: Config, number: int = 1) -> Run:
    return Run(TASK, "tiny", number, folder, config)


class StopError(Exception):
    """The process ends here."""


def stopped_training(folder: Path, config: Config, epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until the second step of `epoch`."""
    step = SedSystem.training_step

    def dying(self: SedSystem, batch: Batch, batch_idx: int) -> Tensor:
        if (self.current_epoch, batch_idx) == (epoch, 1):
            raise StopError
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patched:
        patched.setattr(SedSystem, "training_step", dying)
        with pytest.raises(StopError):
            train_run(run_of(folder, config))


def checkpoint(path: Path) -> Mapping[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True)


def differing(first: Any, second: Any, where: str = "") -> list[str]:
    """Where two nested structures differ; tensors bit by bit."""
    if isinstance(first, Tensor) or isinstance(second, Tensor):
        return [] if torch.equal(first, second) else [where]
    if isinstance(first, Mapping):
        assert first.keys() == second.keys(), where
        return [at for key in first for at in differing(first[key], second[key], f"{where}/{key}")]
    if isinstance(first, list | tuple):
        assert len(first) == len(second), where
        return [at for i, pair in enumerate(zip(first, second, strict=True)) for at in differing(*pair, f"{where}/{i}")]
    return [] if first == second else [f"{where}: {first} {second}"]


@pytest.fixture(scope="module")
def whole(tiny: Configure, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three epochs at once."""
    run = run_of(tmp_path_factory.mktemp("whole") / "run1", tiny("trainer.max_epochs=3"))
    train_run(run)
    return run


@pytest.mark.parametrize("epoch", [1, 2])
def test_resumed_is_uninterrupted(whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    run = run_of(tmp_path / "run1", whole.config)
    stopped_training(run.folder, run.config, epoch, monkeypatch)
    assert checkpoint(run.folder / LAST)["epoch"] == epoch - 1
    train_run(run)
    assert (run.folder / "metrics.csv").read_text() == (whole.folder / "metrics.csv").read_text()
    for name in (BEST, LAST):
        ours, theirs = checkpoint(run.folder / name), checkpoint(whole.folder / name)
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step", "sed"):
            assert differing(ours[part], theirs[part]) == []
    ours, theirs = (read_results(of.folder)["train"]["values"] for of in (run, whole))
    assert (ours["best"], ours["steps"], ours["epochs"]) == (theirs["best"], 9, 3)


def test_another_run_has_another_seed(whole: Run, tmp_path: Path) -> None:
    train_run(run_of(tmp_path, replace(whole.config, trainer=replace(whole.config.trainer, max_epochs=1)), number=2))
    assert read_results(tmp_path)["train"]["values"]["seed"] == whole.seed + 1
    second, first = (read_rows(folder / "metrics.csv", ("train/loss",))[0] for folder in (tmp_path, whole.folder))
    assert second["train/loss"] != first["train/loss"]


def test_what_a_training_writes(whole: Run) -> None:
    rows = read_rows(whole.folder / "metrics.csv", ("epoch", "step", "train/loss", "val/objective"))
    assert [(row.number("epoch"), row.number("step")) for row in rows] == [(1, 3), (2, 6), (3, 9)]
    names = set(rows[0])
    assert {"train/strong", "train/weak", "train/ssl_strong", "train/ssl_weak"} <= names
    assert {"val/weak/weak_f1", "val/synth_val/psds1", "val/maestro_train/mpauc"} <= names
    for row in rows:
        parts = [
            row.number(f"val/{of}") for of in ("synth_val/psds1", "external_strong_val/psds1", "maestro_train/mpauc")
        ]
        assert row.number("val/objective") == pytest.approx(sum(parts), abs=1e-6)
    values = read_results(whole.folder)["train"]["values"]
    assert (values["classes"], values["data"]) == (list(CLASSES), "toy")
    best = max(rows, key=lambda row: row.number("val/objective"))
    assert values["best"]["epoch"] == best.number("epoch") == checkpoint(whole.folder / BEST)["epoch"] + 1


def test_killed_after_the_last_epoch(whole: Run, tmp_path: Path) -> None:
    """All that is missing is the section that says so: it is written without training again."""
    run = run_of(tmp_path / "run1", whole.config)
    shutil.copytree(whole.folder, run.folder)
    sections = read_json(run.folder / "results.json")
    known = sections.pop("train")["values"]
    write_json(run.folder / "results.json", sections)
    before = sha256(run.folder / BEST)
    train_run(run)
    values = read_results(run.folder)["train"]["values"]
    assert {**values, "seconds_of_last_session": 0} == {**known, "seconds_of_last_session": 0}
    assert sha256(run.folder / BEST) == before == read_results(run.folder)["checkpoint"]["values"]["sha256"]
    assert (run.folder / "metrics.csv").read_text() == (whole.folder / "metrics.csv").read_text()


# --- precision, compiler, processes


class Gradients(Callback):
    """Whether every gradient is finite."""

    finite: bool | None = None

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        found = [p.grad for p in pl_module.student.parameters() if p.grad is not None]
        self.finite = bool(found) and all(bool(torch.isfinite(g).all()) for g in found)


def test_a_step_in_mixed_precision(tiny: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import common.run.training as training

    watch = Gradients()
    built = training.build_trainer
    monkeypatch.setattr(
        training, "build_trainer", lambda run, config, callbacks, *rest: built(run, config, [*callbacks, watch], *rest)
    )
    train_run(run_of(tmp_path, tiny("trainer.precision=bf16-mixed", "trainer.max_epochs=1")))
    assert watch.finite
    (row,) = read_rows(tmp_path / "metrics.csv", ("train/loss",))
    assert all(math.isfinite(row.number(name)) for name in row)
    assert {value.dtype for value in checkpoint(tmp_path / LAST)["state_dict"].values()} <= {torch.float32, torch.int64}


@pytest.mark.slow
def test_compiled_networks_learn_the_same_and_load_the_same(tiny: Configure, tmp_path: Path, whole: Run) -> None:
    train_run(run_of(tmp_path, tiny("trainer.compile=true", "trainer.max_epochs=1")))
    compiled, plain = (read_rows(folder / "metrics.csv", ("train/loss",)) for folder in (tmp_path, whole.folder))
    assert compiled[0].number("train/loss") == pytest.approx(plain[0].number("train/loss"), rel=1e-3)
    load_network(tmp_path / BEST, "student")
    load_network(tmp_path / BEST, "teacher")


@pytest.mark.slow
def test_two_processes(tiny: Configure, tmp_path: Path) -> None:
    """Data parallel on the CPU: half the steps, one set of files, finite results."""
    config = tiny()
    command = [
        *(sys.executable, "-m", "task4_sed", "train", "--recipe", "task4_sed/tests/tiny.yaml"),
        *("--run-dir", str(tmp_path), f"data.root={config.data.root}"),
        *("trainer.devices=2", "trainer.strategy=ddp", "data.blocks.strong.batch=1", "trainer.max_epochs=2"),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=TASK.recipes.parent.parent,
                           env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    rows = read_rows(tmp_path / "run1" / "metrics.csv", ("step", "val/objective"))
    assert [row.number("step") for row in rows] == [1, 2]  # 7 clips of Weak, 2 processes with 2 each
    assert read_results(tmp_path / "run1")["train"]["values"]["steps"] == 2
    load_network(tmp_path / "run1" / BEST, "student")
