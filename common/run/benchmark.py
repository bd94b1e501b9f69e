"""Rates on this machine: decoding, repeated work, a training step on tensors in memory, whole training by Lightning.

Other work on the machine must not pass for a difference: what is compared takes turns.
"""

import itertools
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from common.run.processes import working_device
from common.run.results.environment import environment
from common.run.results.tables import print_table
from common.run.verbs import Run

WARM_UP_STEPS = 3
TURNS = 7


def hardware() -> str:
    """Processor and threads, as the notes of tables name them."""
    return f"{environment().get('cpu')}, {torch.get_num_threads()} threads"


def synchronize() -> None:
    """Wait for what the GPU still computes, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def rate_of(work: Callable[[], Any], count: float, seconds: float) -> float:
    """Items a second of repeated `work` on `count` items, for `seconds`, after one call that is not counted."""
    work()
    calls, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        work()
        calls += 1
    return calls * count / (time.perf_counter() - start)


def times_in_turns(works: Sequence[Callable[[], Any]], seconds: float, turns: int) -> list[list[float]]:
    """Seconds of every call of each work, a first one left out: `turns` or more calls, `seconds` or more for each."""
    times: list[list[float]] = [[] for _ in works]
    for work in works:
        work()
    synchronize()
    while len(times[0]) < turns or min(map(sum, times)) < seconds:
        for work, taken in zip(works, times, strict=True):
            start = time.perf_counter()
            work()
            synchronize()
            taken.append(time.perf_counter() - start)
    return times


def decode_rate(pack: Any, rows: np.ndarray, size: int, samples: int, seconds: float) -> float:
    """Clips a second of random batches out of a pack, `samples` from each clip's start, in one process."""
    random, starts = np.random.default_rng(0), np.zeros(size, np.int64)
    return rate_of(lambda: pack.read_many(random.choice(rows, size), starts, samples), size, seconds / 4)


def files_rate(read: Callable[[Path], Any], paths: Iterable[Path], seconds: float) -> float:
    """The same of whole files that `read` decodes (and resamples): what every epoch would cost without packs."""
    files = itertools.cycle(paths)
    return rate_of(lambda: read(next(files)), 1, seconds / 4)


def step_rate(
    system: Any, batches: Sequence[Any], count: float, seconds: float, after: Callable[[], Any] | None = None
) -> float:
    """Items a second of the whole step (`training_step`, backward, clipping, optimiser) without loader, logs, Trainer.

    In the recipe's precision, the optimiser after as many batches as it accumulates. count: items of a batch. after:
    what follows the optimiser's step.
    """
    from lightning.fabric.utilities import move_data_to_device

    device = torch.device(working_device())
    system = system.to(device).train()
    system.log = lambda *args, **named: None
    on_device = itertools.cycle([move_data_to_device(batch, device) for batch in batches])
    optimizer = system.configure_optimizers()["optimizer"]
    config = system.config.trainer
    clip, numbers = config.gradient_clip_val, itertools.count(1)
    precision = torch.bfloat16 if config.precision.startswith("bf16") else torch.float16

    def step() -> None:
        with torch.autocast(device.type, precision, enabled=config.precision.endswith("-mixed")):
            loss = system.training_step(next(on_device), 0)
        loss.backward()
        if next(numbers) % config.accumulate_grad_batches == 0:
            if clip:
                torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], clip)
            optimizer.step()
            optimizer.zero_grad()
            if after is not None:
                after()
        synchronize()

    for _ in range(WARM_UP_STEPS):
        step()
    return rate_of(step, count, seconds)


def training_rate(run: Run, system: Any, data: Any, monitor: str, mode: Literal["max", "min"], seconds: float) -> float:
    """Clips a second of whole training by Lightning, loader, logs and checkpoints included, validation not.

    Batches have their clips in the first field, (batch, ...). The clock runs from the end of the warm-up.
    """
    from lightning.pytorch.callbacks import LambdaCallback

    from common.run.training import build_trainer

    never = 10**6
    config = replace(run.config.trainer, max_epochs=never, check_val_every_n_epoch=never)
    ends: list[float] = []
    clips: list[int] = []

    def clock(trainer: Any, system: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        ends.append(time.perf_counter())
        clips.append(len(batch[0]))
        over = len(ends) > WARM_UP_STEPS and ends[-1] - ends[WARM_UP_STEPS - 1] > seconds
        trainer.should_stop = trainer.should_stop or over

    with tempfile.TemporaryDirectory() as folder:
        callback = LambdaCallback(on_train_batch_end=clock)
        trainer = build_trainer(replace(run, folder=Path(folder)), config, [callback], monitor, mode)
        trainer.fit(system, data)
    return sum(clips[WARM_UP_STEPS:]) * trainer.world_size / (ends[-1] - ends[WARM_UP_STEPS - 1])


def show_training_rates(
    run: Run,
    rates: Mapping[str, float],
    step: Callable[[], float],
    whole: Callable[[], float],
    batch: int,
    clips: str,
) -> dict[str, Any]:
    """Measure step and whole training, in turns, and print their medians below `rates`, all in clips a second.

    batch: clips of a batch; clips: what they are. Returns clips_per_second, share_of_step (of whole training), batch.
    """
    turns = np.array([(step(), whole()) for _ in range(TURNS)])
    medians = np.median(turns, axis=0)
    found = dict(rates) | {"training step, tensors in memory": float(medians[0]), "whole training": float(medians[1])}
    share = float(np.median(turns[:, 1] / turns[:, 0]))
    rows = [[stage, f"{rate:,.1f}"] for stage, rate in found.items()]
    rows.append(["whole training / step in memory", f"{share:.2f}"])
    note = f"{hardware()}; batches of {batch} {clips}"
    print_table(f"throughput of recipe {run.recipe}", ["stage", "clips/s"], rows, note=note)
    return {"clips_per_second": found, "share_of_step": share, "batch": batch}
