"""Runs side by side have the numbers of runs one after another; failures are named, what changes numbers is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from common.run.errors import UserError
from common.run.training import BEST
from common.run.verbs import Run, main, open_run
from task4_sed.__main__ import TASK
from task4_sed.training.runs import train_runs

TINY = str(Path(__file__).parent / "tiny.yaml")


def runs_of(root: Path, folder: Path, *settings: str) -> list[Run]:
    words = [f"data.root={root}", "trainer.max_epochs=1", *settings]
    return [open_run(TASK, TINY, words, number, folder) for number in (1, 2)]


def weights(run: Run) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(run.folder / BEST, weights_only=True)["state_dict"]
    return state


@pytest.mark.end_to_end
def test_the_same_numbers_side_by_side(tiny_root: Path, tmp_path: Path) -> None:
    words = ["--recipe", TINY, "--runs", "1", "2", f"data.root={tiny_root}", "trainer.max_epochs=1"]
    both = runs_of(tiny_root, tmp_path / "both", "trainer.threads=1")
    code = main(TASK, ["train", *words, "trainer.threads=1", "--jobs", "2", "--run-dir", str(tmp_path / "both")])
    assert code == 0
    threads = torch.get_num_threads()
    alone = runs_of(tiny_root, tmp_path / "alone", "trainer.threads=1")
    try:
        found = train_runs(alone, jobs=1, restart=False)
    finally:
        torch.set_num_threads(threads)
    assert [(of["run"], of["epochs"]) for of in found] == [(1, 1), (2, 1)]
    for one, other in zip(both, alone, strict=True):
        assert (one.folder / "metrics.csv").read_text() == (other.folder / "metrics.csv").read_text()
        expected = weights(other)
        assert all(torch.equal(value, expected[name]) for name, value in weights(one).items())


def test_threads_must_be_named(tiny_root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--jobs: 2 trainings side by side on CPUs need trainer\.threads=N"):
        train_runs(runs_of(tiny_root, tmp_path), jobs=2, restart=False)


def test_several_devices_are_one_training_s(tiny_root: Path, tmp_path: Path) -> None:
    runs = runs_of(tiny_root, tmp_path, "trainer.devices=2", "trainer.threads=1")
    with pytest.raises(UserError, match=r"--jobs: 2, expected 1 for trainings on several devices"):
        train_runs(runs, jobs=2, restart=False)


def test_a_failure_does_not_stop_the_others(tiny_root: Path, tmp_path: Path) -> None:
    runs = runs_of(tiny_root, tmp_path)
    (runs[0].folder).mkdir(parents=True)
    (runs[0].folder / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(UserError, match=r"run1: holds a run with other settings"):
        train_runs(runs, jobs=1, restart=False)
    assert (runs[1].folder / BEST).is_file()
