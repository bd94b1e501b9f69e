"""Throughput of every stage on this machine, how near whole training comes to the compute-bound limit, and sizes."""

import itertools
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.audio.coverage import root_of
from common.audio.reading import load
from common.run.benchmark import decode_rate, files_rate, rate_of, show_training_rates, step_rate, training_rate
from common.run.config import load_config
from common.run.training import quiet
from common.run.verbs import Run
from task4_sed.config import Config
from task4_sed.data.batches import CLIP_SAMPLES
from task4_sed.data.classes import CLASSES, SAMPLE_RATE
from task4_sed.data.labels import frames_of
from task4_sed.data.prepare import prepare, write_toy_data
from task4_sed.data.pseudo import new_logits, stem
from task4_sed.data.sets import first_existing, load_set
from task4_sed.evaluation.complexity import network_complexity
from task4_sed.training.data import SedData
from task4_sed.training.system import SedSystem
from task4_sed.training.train import build

BATCHES_IN_MEMORY = 8
WEAK_CLIPS = 1420  # for training, in the official data: an epoch of the winner's recipes ends with them


def benchmark(run: Run, seconds: float) -> Mapping[str, Any]:
    """Measure each stage for about `seconds`, and count; prints tables, returns both.

    Of a recipe that names no data set the rates are those of `in_miniature`; the counts are always its own.
    """
    quiet()
    small = in_miniature(run)
    write_toy_data(small.config.data)
    prepare(small.config, workers=1)
    with tempfile.TemporaryDirectory() as folder:
        if small is not run and small.config.data.pseudo_labels is not None:
            small.config.data.pseudo_labels = str(Path(folder) / "logits.h5")
            _write_noise(small.config, Path(small.config.data.pseudo_labels))
        rates = _rates(small, seconds, copied=small is not run)
    memory, whole = (rate / rates["batch"] for rate in list(rates["clips_per_second"].values())[-2:])
    print(f"{memory:.2g} such batches a second in memory, {whole:.2g} in training")
    return rates | {"counts": network_complexity(run)}


def in_miniature(run: Run) -> Run:
    """The run where its recipe names data; else its batches and settings, on data and networks of its toy recipe."""
    own: Config = run.config
    name = f"toy_{run.recipe}"
    if own.data.root is not None or not (run.task.recipes / f"{name}.yaml").is_file():
        return run
    toy = load_config(Config, run.task.recipes, name)
    config = replace(
        own,
        data=replace(toy.data, blocks=own.data.blocks, pseudo_labels=own.data.pseudo_labels),
        model=toy.model,
        encoder=own.encoder and toy.encoder and replace(own.encoder, name=toy.encoder.name, checkpoint=None),
        augment=replace(own.augment, impulse_responses=toy.augment.impulse_responses),
        trainer=replace(own.trainer, precision=toy.trainer.precision),
    )
    print(f"no data.root: rates of the networks and data of {name}, in batches of {run.recipe}")
    return replace(run, config=config)


def _write_noise(config: Config, path: Path) -> None:
    sets = {name for block in config.data.blocks.named().values() if block.batch for name in block.sets}
    clips = sorted({stem(clip) for name in sets for clip in load_set(config.data, name, "train").clips})
    noise = np.random.default_rng(0).standard_normal((len(clips), frames_of(CLIP_SAMPLES), len(CLASSES)), np.float32)
    with new_logits(path, clips, noise.shape[1], CLASSES) as append:
        append(noise)


def _rates(run: Run, seconds: float, copied: bool) -> dict[str, Any]:
    def made() -> tuple[SedSystem, SedData]:
        system, data = build(run.config, run.seed)
        if copied:  # epochs as long as they really are
            copies = -(-WEAK_CLIPS // sum(len(of.clips) for of in data.training[3]))
            data.training = [sets * copies for sets in data.training]
        return system, data

    system, data = made()
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
        named = "front end of the encoder" if run.config.encoder.train else "encoder"
        rates[named] = rate_of(lambda: system.embeddings(batches[0]), size, seconds / 2)
    return show_training_rates(
        run,
        rates,
        lambda: step_rate(system, batches, size, seconds / 2, after=lambda: system.follow(0.99)),
        lambda: training_rate(run, *made(), "val/objective", "max", seconds / 2),
        batch=size,
        clips="ten-second clips",
    )
