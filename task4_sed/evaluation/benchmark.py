"""Throughput of every stage on this machine, and how near whole training comes to the compute-bound limit."""

import itertools
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from common.audio.coverage import root_of
from common.audio.reading import load
from common.run.benchmark import decode_rate, files_rate, rate_of, show_training_rates, step_rate, training_rate
from common.run.training import quiet
from common.run.verbs import Run
from task4_sed.data.batches import CLIP_SAMPLES
from task4_sed.data.classes import SAMPLE_RATE
from task4_sed.data.prepare import prepare
from task4_sed.data.sets import first_existing
from task4_sed.training.train import build

BATCHES_IN_MEMORY = 8


def benchmark(run: Run, seconds: float) -> Mapping[str, Any]:
    """Measure each stage for about `seconds`; prints a table and returns clips per second by stage."""
    quiet()
    prepare(run.config, workers=1)
    system, data = build(run.config, run.seed)
    batches = list(itertools.islice(data.train_dataloader(), BATCHES_IN_MEMORY))
    size = len(batches[0].waveform)
    clips = (data.training[0] or next(sets for sets in data.training if sets))[0]
    folder = first_existing(root_of(run.config.data), clips.layout.audio)
    paths = [folder / name for name in clips.clips] if folder else []
    with torch.inference_mode():
        front_end = rate_of(lambda: system.front_end(batches[0].waveform), size, seconds / 2)
    read = partial(load, sample_rate=SAMPLE_RATE)
    rates = {
        "decode (pack, one process)": decode_rate(clips.pack, clips.rows, size, CLIP_SAMPLES, seconds),
        "decode (wav files, one process)": files_rate(read, paths, seconds) if paths else float("nan"),
        "front end": front_end,
    }
    if system.embedder is not None and batches[0].embeddings is None:
        rates["encoder"] = rate_of(lambda: system.embeddings(batches[0]), size, seconds / 2)
    return show_training_rates(
        run,
        rates,
        lambda: step_rate(system, batches, size, seconds / 2, after=lambda: system.follow(0.99)),
        lambda: training_rate(run, *build(run.config, run.seed), "val/objective", "max", seconds / 2),
        batch=size,
        clips="ten-second clips",
    )
