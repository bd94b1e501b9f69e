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
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import Callback, LightningModule, Trainer

from common.audio.coverage import root_of
from common.audio.reading import load
from common.run.results.environment import environment
from common.run.results.tables import print_table
from common.run.training import build_trainer, quiet
from common.run.verbs import Run
from task4_sed.data.batches import CLIP_SAMPLES, Batch
from task4_sed.data.classes import SAMPLE_RATE
from task4_sed.data.prepare import prepare
from task4_sed.data.sets import first_existing
from task4_sed.training.system import SedSystem
from task4_sed.training.train import build

BATCHES_IN_MEMORY = 8
WARM_UP_STEPS = 3
TURNS = 7


def benchmark(run: Run, seconds: float) -> Mapping[str, Any]:
    """Measure each stage for about `seconds`; prints a table and returns clips per second by stage."""
    quiet()
    prepare(run.config, workers=1)
    system, data = build(run.config, run.seed)
    loader = data.train_dataloader()
    batches = list(itertools.islice(loader, BATCHES_IN_MEMORY))
    size = len(batches[0].waveform)
    clips = data.training[0] or next(sets for sets in data.training if sets)
    rates = {
        "decode (pack, one process)": _decode_pack(clips[0], size, seconds),
        "decode (wav files, one process)": _decode_files(run, clips[0], seconds),
        "front end": _front_end(system, batches, seconds),
    }
    if system.embedder is not None and batches[0].embeddings is None:
        rates["encoder"] = rate_of(lambda: system.embeddings(batches[0]), size, seconds / 2)
    # In turns, and the medians: other work on the machine must not pass for a difference between the two.
    turns = [(_steps(system, batches, seconds / 2), _training(run, seconds / 2)) for _ in range(TURNS)]
    rates["training step, tensors in memory"] = float(np.median([step for step, _ in turns]))
    rates["whole training"] = float(np.median([whole for _, whole in turns]))
    share = rates["whole training"] / rates["training step, tensors in memory"]
    rows = [[stage, f"{rate:,.1f}"] for stage, rate in rates.items()]
    rows.append(["whole training / step in memory", f"{share:.2f}"])
    hardware = environment()
    note = f"{hardware.get('cpu')}, {torch.get_num_threads()} threads; batches of {size} ten-second clips"
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


def _decode_pack(of: Any, size: int, seconds: float) -> float:
    random = np.random.default_rng(0)
    starts = np.zeros(size, np.int64)
    return rate_of(lambda: of.pack.read_many(random.choice(of.rows, size), starts, CLIP_SAMPLES), size, seconds / 4)


def _decode_files(run: Run, of: Any, seconds: float) -> float:
    folder = first_existing(root_of(run.config.data), of.layout.audio)
    if folder is None:
        return float("nan")
    paths = itertools.cycle([folder / name for name in of.clips])
    return rate_of(lambda: load(next(paths), SAMPLE_RATE), 1, seconds / 4)


def _front_end(system: SedSystem, batches: list[Batch], seconds: float) -> float:
    with torch.inference_mode():
        return rate_of(lambda: system.front_end(batches[0].waveform), len(batches[0].waveform), seconds / 2)


def _steps(system: SedSystem, batches: list[Batch], seconds: float) -> float:
    """The whole step (front end, augmentation, both networks, backward, optimiser, teacher) without loader or logs."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    system = system.to(device).train()
    on_device = itertools.cycle([move_data_to_device(batch, device) for batch in batches])
    optimizer = system.configure_optimizers()["optimizer"]

    def step() -> None:
        loss = system.training_step(next(on_device), 0)
        optimizer.zero_grad()
        loss.backward()
        clip = system.config.trainer.gradient_clip_val
        if clip:
            torch.nn.utils.clip_grad_norm_(system.student.parameters(), clip)
        optimizer.step()
        system.follow(0.99)
        if device.type == "cuda":
            torch.cuda.synchronize()

    for _ in range(WARM_UP_STEPS):
        step()
    return rate_of(step, len(batches[0].waveform), seconds)


class _Clock(Callback):
    """Times whole training, from the first step after the warm-up on; ends it when the time is over."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.steps, self.start, self.end = seconds, 0, 0.0, 0.0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self.steps += 1
        self.end = time.perf_counter()
        if self.steps == WARM_UP_STEPS:
            self.start = self.end
        elif self.steps > WARM_UP_STEPS and self.end - self.start > self.seconds:
            trainer.should_stop = True


def _training(run: Run, seconds: float) -> float:
    """Clips a second of `fit`: loader, logs and checkpoints included, validation not."""
    never = 10**6
    config = replace(run.config.trainer, max_epochs=never, check_val_every_n_epoch=never)
    system, data = build(run.config, run.seed)
    clock = _Clock(seconds)
    with tempfile.TemporaryDirectory() as folder:
        elsewhere = replace(run, folder=Path(folder))
        trainer = build_trainer(elsewhere, config, [clock], "val/objective", "max")
        trainer.fit(system, data)
    return (clock.steps - WARM_UP_STEPS) * sum(data.batch) * trainer.world_size / (clock.end - clock.start)
