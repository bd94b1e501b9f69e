"""Interrupted at any moment, the same command goes on: Ctrl-C here, kill -9 in tests.tools.kill_test."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from common.run import verbs
from common.run.callbacks import Checkpoint
from common.run.files import read_rows
from task4_sed.__main__ import TASK
from tests.tools.compare_trees import differences
from tests.tools.kill_test import Timing, kill_moments, main, parse_step, share_out

RECIPE = Path(__file__).parent.parent / "task4_sed" / "tests" / "tiny.yaml"
PATIENCE = 120.0  # seconds
# What a shell starts in the background, tests too, ignores Ctrl-C.
AS_IN_A_TERMINAL = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('task4_sed', run_name='__main__', alter_sys=True)"
)


def words(folder: Path, verb: str, *settings: str) -> list[str]:
    usual = ["--recipe", str(RECIPE), "--run-dir", str(folder / "runs"), f"data.root={folder / 'data'}"]
    return [verb, *usual, *settings]


def run(folder: Path, verb: str, *settings: str) -> int:
    return verbs.main(TASK, words(folder, verb, *settings))


@contextmanager
def started(arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A verb in a process group of its own, as a shell starts it; gone at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", AS_IN_A_TERMINAL, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)


def stacks(process: subprocess.Popen[str]) -> str:
    """What a process and all of its group were doing; ends them."""
    os.killpg(process.pid, signal.SIGABRT)
    return process.communicate(timeout=PATIENCE)[1]


def interrupt(command: list[str], when: Callable[[], object]) -> tuple[int, list[str]]:
    """Ctrl-C, which a terminal sends to the whole group, as soon as `when()`: exit code, lines without progress."""
    with started(command) as process:
        wait_for(when, process)
        os.killpg(process.pid, signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            pytest.fail(f"did not end after Ctrl-C:\n{stacks(process)}")
    return process.returncode, [line for line in errors.splitlines() if " · " not in line]


def test_ctrl_c_in_training(tmp_path: Path) -> None:
    settings = ["trainer.max_epochs=3", "data.workers=1"]  # the signal reaches the loader's process too
    assert run(tmp_path, "prepare") == 0
    last, metrics = tmp_path / "runs/run1/checkpoints/last.ckpt", tmp_path / "runs/run1/metrics.csv"
    code, lines = interrupt(words(tmp_path, "train", *settings), last.exists)
    assert (code, lines) == (130, ["interrupted; the same command goes on from here"])
    assert not list(tmp_path.rglob("*.partial*"))
    before = read_rows(metrics, ("epoch",))
    assert 1 <= len(before) < 3
    assert run(tmp_path, "train", *settings) == 0
    assert [row["epoch"] for row in read_rows(metrics, ("epoch",))] == ["1.0", "2.0", "3.0"]
    assert read_rows(metrics, ("epoch",))[: len(before)] == before


@pytest.mark.parametrize(
    "when", [".data.*.partial/**/*.wav", pytest.param("data/packed/devtest/pack.json", marks=pytest.mark.slow)]
)
def test_ctrl_c_in_prepare(when: str, tmp_path: Path) -> None:
    code, lines = interrupt(words(tmp_path, "prepare"), lambda: any(tmp_path.glob(when)))
    assert (code, lines) == (130, ["interrupted; the same command goes on from here"])
    assert not list(tmp_path.rglob("*.partial*"))
    assert run(tmp_path, "prepare") == 0
    assert (tmp_path / "data/packed/coverage.json").exists()


def test_a_moved_run_folder_knows_its_best_checkpoint(tmp_path: Path) -> None:
    old, new = (Checkpoint(tmp_path / name, filename="best", monitor="score", mode="max") for name in ("old", "new"))
    old.best_model_path = old.kth_best_model_path = str(tmp_path / "old" / "best.ckpt")
    old.best_model_score = old.kth_value = torch.tensor(0.7)
    old.best_k_models = {old.best_model_path: old.best_model_score}
    new.load_state_dict(old.state_dict())
    assert new.best_k_models == {str(tmp_path / "new" / "best.ckpt"): torch.tensor(0.7)}
    assert new.best_model_path == new.kth_best_model_path == str(tmp_path / "new" / "best.ckpt")
    assert new.dirpath == str(tmp_path / "new")
    trainer = Trainer(accelerator="cpu", devices=1, logger=False, enable_progress_bar=False)
    assert not new.check_monitor_top_k(trainer, torch.tensor(0.6))
    assert new.check_monitor_top_k(trainer, torch.tensor(0.8))


@pytest.mark.slow
def test_killed_chain_gives_what_the_undisturbed_one_gives(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    work = tmp_path / "work"
    arguments = ["--task", "task4_sed", "--recipe", str(RECIPE), "trainer.max_epochs=6"]
    code = main([*arguments, "--kills", "10", "--seed", "0", "--work", str(work)])
    out = capfd.readouterr().out
    assert code == 0, out
    assert "verdict: 10 kills" in out


# ------------------------------------------------------------------------------------------------- the tool's own parts


def test_kills_are_shared_out_by_largest_remainder() -> None:
    steps = [parse_step(text) for text in ("prepare:2", "train:5", "predict", "evaluate --no-plots:1", "package:0")]
    assert steps[3].words == ("evaluate", "--no-plots")
    assert share_out(9, steps) == [2, 5, 1, 1, 0]
    assert share_out(10, steps) == [2, 6, 1, 1, 0]
    assert sum(share_out(7, steps)) == 7


def test_kill_moments_spread_over_the_work_and_half_of_them_wait_for_a_write() -> None:
    timing = Timing(first_write=4.0, last_write=24.0, end=25.0)
    assert timing.work == 20.0
    for seed in range(20):
        moments = kill_moments(5, timing.work, random.Random(seed))
        lives = [seconds for seconds, _ in moments]
        assert all(life >= 0 for life in lives)
        assert sum(lives) <= 20.0
        assert [sum(lives[: i + 1]) // 4.0 for i in range(5)] == [0, 1, 2, 3, 4]
        assert sum(waits for _, waits in moments) in (2, 3)


def test_differences_are_named(tmp_path: Path) -> None:
    left, right = tmp_path / "left", tmp_path / "right"
    for side, value, when in ((left, 1, 3), (right, 2, 4)):
        (side / "run").mkdir(parents=True)
        (side / "run" / "a.json").write_text(f'{{"recorded": {when}, "values": [0, {{"x": NaN, "y": 1}}]}}')
        (side / "run" / "b.json").write_text(f'{{"values": [0, {{"x": {value}}}]}}')
        (side / "run" / "c.csv").write_text(f"h\n{value}\n")
        (side / "run" / f"{side.name}.txt").write_text("")
    found, compared = differences(left, right)
    assert compared == 3
    assert found == [
        "run/left.txt: only in left",
        "run/right.txt: only in right",
        "run/b.json: values[1].x is 1 there, 2 here",
        "run/c.csv: line 2 is b'1' there, b'2' here",
    ]
