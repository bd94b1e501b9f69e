"""Throughput of every stage on this machine, and how near whole training comes to the compute-bound limit."""

import itertools
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from common.audio.reading import load
from common.run.results.environment import environment
from common.run.results.tables import print_table
from common.run.training import build_trainer, quiet
from common.run.verbs import Run
from task1_asc.config import Config
from task1_asc.data.batches import Batch, train_loader
from task1_asc.data.prepare import prepare
from task1_asc.data.sets import Clips, root_of
from task1_asc.training.system import SceneSystem
from task1_asc.training.train import MONITOR, build

OFFICIAL_CLIPS = 139_620  # of the 100 % split
BATCHES_IN_MEMORY = 8
WARM_UP_STEPS = 3
TURNS = 7


def benchmark(run: Run, seconds: float) -> Mapping[str, Any]:
    """Measure each stage for about `seconds`; prints a table and returns clips per second by stage."""
    quiet()
    prepare(run.config, workers=1)
    split = max(run.config.data.splits)
    system, data = build(run, split)
    batches = list(itertools.islice(train_loader(data.training, run.config, run.seed), BATCHES_IN_MEMORY))
    size = len(batches[0].row)
    rates = {
        "decode (pack, one process)": _decode_pack(data.training, size, seconds),
        "decode (wav files, one process)": _decode_files(run.config, data.training, seconds),
        "front end": _front_end(system, batches[0], seconds),
    }
    # In turns, and the medians: other work on the machine must not pass for a difference between the two.
    turns = [(_steps(system, batches, seconds / 2), _training(run, split, seconds / 2)) for _ in range(TURNS)]
    rates["training step, tensors in memory"] = float(np.median([step for step, _ in turns]))
    rates["whole training"] = float(np.median([whole for _, whole in turns]))
    share = float(np.median([whole / step for step, whole in turns]))
    rows = [[stage, f"{rate:,.1f}"] for stage, rate in rates.items()]
    rows.append(["whole training / step in memory", f"{share:.2f}"])
    note = f"{environment().get('cpu')}, {torch.get_num_threads()} threads; batches of {size} one-second clips"
    print_table(f"throughput of recipe {run.recipe}", ["stage", "clips/s"], rows, note=note)
    return {"clips_per_second": rates, "share_of_step": share, "batch": size}


def rate_of(work: Callable[[], Any], clips: int, seconds: float) -> float:
    """Clips a second of repeated `work` over `clips` clips, after one call that is not counted."""
    work()
    calls, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        work()
        calls += 1
    return calls * clips / (time.perf_counter() - start)


def _decode_pack(clips: Clips, size: int, seconds: float) -> float:
    """Random batches out of the pack."""
    random = np.random.default_rng(0)
    samples = clips.pack.sample_rate
    return rate_of(lambda: clips.pack.read_many(random.choice(clips.rows, size), 0, samples), size, seconds / 4)


def _decode_files(config: Config, clips: Clips, seconds: float) -> float:
    """The same clips as wav files, resampled where the pack is: what every epoch would cost without packing."""
    root = root_of(config.data)
    paths = itertools.cycle([root / name for name in np.random.default_rng(0).permutation(clips.names)])
    return rate_of(lambda: load(next(paths), config.data.sample_rate), 1, seconds / 4)


def _front_end(system: SceneSystem, batch: Batch, seconds: float) -> float:
    with torch.inference_mode():
        return rate_of(lambda: system.front_end(batch.waveform), len(batch.row), seconds / 2)


def _steps(system: SceneSystem, batches: list[Batch], seconds: float) -> float:
    """The whole step (front end, augmentation, network, backward, optimiser) without loader or logs."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    system = system.to(device).train()
    on_device = itertools.cycle([Batch(*(tensor.to(device) for tensor in batch)) for batch in batches])
    optimizer = system.configure_optimizers()["optimizer"]

    def step() -> None:
        loss = system.training_step(next(on_device), 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    for _ in range(WARM_UP_STEPS):
        step()
    return rate_of(step, len(batches[0].row), seconds)


def _repeated(clips: Clips, times: int) -> Clips:
    """The same clips so many times."""
    segments = None if clips.segments is None else np.tile(clips.segments, (times, 1))
    labels, devices, rows = (np.tile(of, times) for of in (clips.labels, clips.devices, clips.rows))
    return Clips(clips.names * times, labels, devices, clips.pack, rows, segments)


class _Clock(Callback):
    """Times whole training, from the first step after the warm-up on; ends it when the time is over."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.steps, self.clips, self.start, self.end = seconds, 0, 0, 0.0, 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self.steps += 1
        self.end = time.perf_counter()
        if self.steps == WARM_UP_STEPS:
            self.start = self.end
        elif self.steps > WARM_UP_STEPS:
            self.clips += len(batch.row)
            trainer.should_stop = trainer.should_stop or self.end - self.start > self.seconds


def _training(run: Run, split: int, seconds: float) -> float:
    """Clips a second of `fit`, loader and logs included, validation not, in epochs of the official length.

    What is done once an epoch (checkpoints, metrics) would weigh too much on the few clips of the toy.
    """
    never = 10**6
    config = replace(run.config.trainer, max_epochs=never, check_val_every_n_epoch=never)
    system, data = build(run, split)
    times = -(-OFFICIAL_CLIPS // len(data.training))
    data.training = _repeated(data.training, times)
    if system.teacher is not None:
        system.teacher = system.teacher.repeat(times, 1)
    clock = _Clock(seconds)
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(replace(run, folder=Path(folder)), config, [clock], MONITOR, "max")
        trainer.fit(system, data)
    return clock.clips * trainer.world_size / (clock.end - clock.start)
