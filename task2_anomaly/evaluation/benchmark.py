"""Rates of every stage on this machine."""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from common.encoders.cp_resnet import CPResNet
from common.run.benchmark import hardware, rate_of, step_rate
from common.run.errors import UserError
from common.run.processes import usable_cores
from common.run.results.tables import print_table
from common.run.verbs import Run
from task2_anomaly.config import SAMPLE_RATE, Config
from task2_anomaly.data.batches import Batch
from task2_anomaly.data.classes import Machine
from task2_anomaly.data.front_end import front_end
from task2_anomaly.data.prepare import prepare
from task2_anomaly.data.sets import machines_of
from task2_anomaly.inference.windows import plain_window_scores, repeated, window_scores
from task2_anomaly.training.train import build, each, train_machine

STEPS = 100  # of a training, about
ROUNDS = 3  # trainings of every process, after a first one


def benchmark(run: Run, seconds: float) -> Mapping[str, Any]:
    """Measure each stage for about `seconds`; prints a table and returns the figures."""
    if run.config.model.kind == "embedding":
        raise UserError(f"benchmark: see `python -m common.encoders benchmark {run.config.embedding.encoder}`")
    prepare(run.config, workers=1)
    machine = machines_of(run.config.data)[0]
    system, data = build(run, machine)
    batches = list(data.train_dataloader())
    ears, clips = front_end(run.config.front_end), torch.randn(8, 10 * SAMPLE_RATE)
    with torch.inference_mode():
        front_end_rate = rate_of(lambda: ears(clips), len(clips), seconds / 4)
    cores = usable_cores()
    alone = _trainings(run, machine, 1, len(batches))
    together = _trainings(run, machine, cores, len(batches)) if cores > 1 else alone
    figures: dict[str, float] = {
        "front end, clips of 10 s/s": front_end_rate,
        "step in memory, steps/s": step_rate(system, batches, 1, seconds),
        "trainings one by one, steps/s": alone,
        f"{cores} trainings at once, steps/s": together,
        "gain of several at once": together / alone,
    }
    if isinstance(system.network, CPResNet):
        figures |= _windows(run.config, system.network.cpu(), batches[0], seconds)
    rows = [[name, f"{value:,.2f}" if value > 0.001 else f"{value:.0e}"] for name, value in figures.items()]
    note = f"{hardware()}, each of several trainings has one"
    print_table(f"throughput of recipe {run.recipe}", ["stage", "figure"], rows, note=note)
    return figures


def _trainings(run: Run, machine: Machine, jobs: int, steps: int) -> float:
    """Steps a second of whole trainings, checkpoints included, once every process has ended its first one."""
    epochs = -(-STEPS // steps)
    trainer, energy = replace(run.config.trainer, max_epochs=epochs), replace(run.config.energy, enabled=False)
    with tempfile.TemporaryDirectory() as folder:
        config = replace(run.config, trainer=trainer, energy=energy)
        own = [replace(run, folder=Path(folder) / f"run{n}", config=config) for n in range(jobs * (1 + ROUNDS))]
        ends = []
        for _, problem in each(train_machine, [(of, machine) for of in own], jobs):
            if problem:
                raise UserError(problem)
            ends.append(time.perf_counter())
    return jobs * ROUNDS * epochs * steps / (ends[-1] - ends[jobs - 1])


@torch.inference_mode()
def _windows(config: Config, network: CPResNet, batch: Batch, seconds: float) -> dict[str, float]:
    """Clips of 10 s scored at hop 1, with and without shared feature maps, and the scores' largest difference."""
    for module in network.modules():  # an untrained network answers 0, whatever it computes
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean over all batches
    network.train()(torch.cat((batch.normal, batch.proxy))[:, None])
    network.eval()
    length = config.data.snippet_frames
    clip = repeated(batch.normal[:1], max(front_end(config.front_end).num_frames(10 * SAMPLE_RATE), length))
    plain = rate_of(lambda: plain_window_scores(network, clip, length), 1, seconds / 2)
    shared = rate_of(lambda: window_scores(network, clip, length), 1, seconds / 2)
    apart = (plain_window_scores(network, clip, length) - window_scores(network, clip, length)).abs().max()
    return {
        "scoring window by window, clips/s": plain,
        "scoring with shared windows, clips/s": shared,
        "factor of shared windows": shared / plain,
        "largest difference of a score": float(apart),
    }
