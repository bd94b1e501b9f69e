"""Frame-level pre-training that was killed in the middle of an epoch ends as if it had not been."""

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from common.run.config import load_config
from common.run.training import BEST, LAST
from common.run.verbs import main
from task4_sed.__main__ import TASK
from task4_sed.config import Config
from task4_sed.data.audioset import FRAMES, output_classes
from task4_sed.data.framewise import load_strong
from task4_sed.data.prepare import prepare, write_toy_data
from task4_sed.tests.test_resume_task4 import differing

STEPS = 6  # of an epoch
EVERY = 2  # steps between checkpoints
SETTINGS = (
    *("data.toy=audioset_tiny", "data.batch=4", f"data.draws={4 * STEPS}", "data.eval_batch=4", "data.workers=2"),
    *("data.sampler=balanced", "loss.distillation=0.5", "sequence={kind: gru, dim: 8, layers: 1}"),
    *("augment.wavmix_probability=0.7", "augment.wavmix_beta=2.0", "augment.mixup_probability=0.5"),
    *("augment.mixstyle_probability=0.5", "augment.filter_probability=0.5", "augment.warp_probability=0.5"),
    *("optimizer.warmup_steps=1", "trainer.max_epochs=3", "trainer.check_val_every_n_epoch=1"),
    *("trainer.accelerator=cpu", "energy.enabled=false", f"trainer.checkpoint_steps={EVERY}"),
)
# The third step of the second epoch is its process's last.
KILLED = f"""
import os, signal, sys
from task4_sed.training.framewise import FramewiseSystem
from task4_sed.__main__ import TASK
from common.run.verbs import main

step = FramewiseSystem.training_step

def dying(self, batch, batch_idx):
    if (self.current_epoch, batch_idx) == (1, {EVERY + 1}):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_idx)

FramewiseSystem.training_step = dying
sys.exit(main(TASK, sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Of a student with random stored logits."""
    root = tmp_path_factory.mktemp("audioset")
    logits = root / "logits.h5"
    settings = [*SETTINGS, f"data.root={root / 'data'}", f"data.pseudo_labels={logits}"]
    config = load_config(Config, TASK.recipes, "toy_pretrain_student", settings)
    write_toy_data(config.data)
    prepare(config, workers=1)
    names = load_strong(config.data, "train").labels.clips
    with h5py.File(logits, "w") as file:
        file["filenames"] = [name.encode() for name in names]
        shape = (len(names), FRAMES, len(output_classes()))
        file["strong_logits"] = np.random.default_rng(0).normal(-3, 2, shape).astype(np.float16)
    return settings


def words(folder: Path, settings: list[str], *more: str) -> list[str]:
    return ["train", "--recipe", "toy_pretrain_student", "--run-dir", str(folder), *settings, *more]


def checkpoint(folder: Path, name: str = LAST) -> Mapping[str, Any]:
    return torch.load(folder / "run1" / name, map_location="cpu", weights_only=True)


@pytest.mark.parametrize("accumulated", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_within_an_epoch(settings: list[str], tmp_path: Path, accumulated: int) -> None:
    more = [f"trainer.accumulate_grad_batches={accumulated}", f"trainer.checkpoint_steps={EVERY // accumulated}"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(TASK, words(whole, settings, *more)) == 0
    died = subprocess.run([sys.executable, "-c", KILLED, *words(killed, settings, *more)], check=False)
    assert died.returncode == -signal.SIGKILL
    left = checkpoint(killed)
    assert (left["epoch"], left["global_step"]) == (1, (STEPS + EVERY) // accumulated)
    assert main(TASK, words(killed, settings, *more)) == 0
    for name in (BEST, LAST):
        ours, theirs = checkpoint(killed, name), checkpoint(whole, name)
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
            assert differing(ours[part], theirs[part], part) == []
    ours, theirs = ((folder / "run1" / "metrics.csv").read_text() for folder in (killed, whole))
    assert ours == theirs
