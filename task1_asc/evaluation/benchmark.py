"""Throughput of every stage on this machine, and how near whole training comes to the compute-bound limit."""

import itertools
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from common.audio.coverage import root_of
from common.audio.reading import load
from common.run.benchmark import decode_rate, files_rate, rate_of, show_training_rates, step_rate, training_rate
from common.run.training import quiet
from common.run.verbs import Run
from task1_asc.data.batches import train_loader
from task1_asc.data.prepare import prepare
from task1_asc.data.sets import Clips
from task1_asc.training.train import MONITOR, build

OFFICIAL_CLIPS = 139_620  # of the 100 % split
BATCHES_IN_MEMORY = 8


def benchmark(run: Run, seconds: float) -> Mapping[str, Any]:
    """Measure each stage for about `seconds`; prints a table and returns clips per second by stage."""
    quiet()
    prepare(run.config, workers=1)
    split = max(run.config.data.splits)
    system, data = build(run, split)
    clips = data.training
    batches = list(itertools.islice(train_loader(clips, run.config, run.seed), BATCHES_IN_MEMORY))
    size = len(batches[0].row)
    paths = [root_of(run.config.data) / name for name in np.random.default_rng(0).permutation(clips.names)]
    with torch.inference_mode():
        front_end = rate_of(lambda: system.front_end(batches[0].waveform), size, seconds / 2)
    read = partial(load, sample_rate=run.config.data.sample_rate)
    rates = {
        "decode (pack, one process)": decode_rate(clips.pack, clips.rows, size, clips.pack.sample_rate, seconds),
        "decode (wav files, one process)": files_rate(read, paths, seconds),
        "front end": front_end,
    }
    return show_training_rates(
        run,
        rates,
        lambda: step_rate(system, batches, size, seconds / 2),
        lambda: _training(run, split, seconds / 2),
        batch=size,
        clips="one-second clips",
    )


def _repeated(clips: Clips, times: int) -> Clips:
    """The same clips so many times."""
    segments = None if clips.segments is None else np.tile(clips.segments, (times, 1))
    labels, devices, rows = (np.tile(of, times) for of in (clips.labels, clips.devices, clips.rows))
    return Clips(clips.names * times, labels, devices, clips.pack, rows, segments)


def _training(run: Run, split: int, seconds: float) -> float:
    """Clips a second of whole training in epochs of the official length.

    What is done once an epoch (checkpoints, metrics) would weigh too much on the few clips of the toy.
    """
    system, data = build(run, split)
    times = -(-OFFICIAL_CLIPS // len(data.training))
    data.training = _repeated(data.training, times)
    if system.teacher is not None:
        system.teacher = system.teacher.repeat(times, 1)
    return training_rate(run, system, data, MONITOR, "max", seconds)
