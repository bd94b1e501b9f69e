"""Throughput of every stage on this machine, and how near whole training comes to the compute-bound limit."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from common.run.benchmark import decode_rate, rate_of, show_training_rates, step_rate, training_rate
from common.run.processes import working_device
from common.run.training import quiet
from common.run.verbs import Run
from task6_retrieval.config import SAMPLE_RATE
from task6_retrieval.data.batches import clip_loader
from task6_retrieval.data.prepare import prepare
from task6_retrieval.data.sets import CaptionedClips, numbered
from task6_retrieval.training.system import RetrievalSystem
from task6_retrieval.training.train import MONITOR, RetrievalData, build

OFFICIAL_CAPTIONS = 19_195  # of Clotho's development split
BATCHES_IN_MEMORY = 8


def benchmark(run: Run, seconds: float) -> Mapping[str, Any]:
    """Measure each stage for about `seconds`; prints a table and returns rates by stage."""
    quiet()
    prepare(run.config, workers=1)
    system, data = build(run)
    batches = list(itertools.islice(data.train_dataloader(), BATCHES_IN_MEMORY))
    clips, size = data.training[0], len(batches[0].clip)
    window = round(run.config.data.window_seconds * SAMPLE_RATE)
    rates = {"decode (pack, one process)": decode_rate(clips.pack, clips.rows, size, window, seconds)}
    rates |= _embedding(system, data, seconds)
    return show_training_rates(
        run,
        rates,
        lambda: _step(system, batches, size, seconds / 2),
        lambda: _training(run, seconds / 2),
        batch=size,
        clips=f"pairs; clips of {clips.seconds.mean():.1f} s on average",
    )


def _embedding(system: RetrievalSystem, data: RetrievalData, seconds: float) -> dict[str, float]:
    """Clips and captions that the encoders have not seen before, a second."""
    network, device = system.network.to(working_device()).eval(), torch.device(working_device())
    of = next(iter(clip_loader(data.validation, data.config)))
    audio, lengths, texts = of.audio.to(device), of.seconds.to(device), data.validation.pairs()[1][:64]
    with torch.inference_mode():
        heard = rate_of(lambda: network.clips(audio, lengths, of.keywords).cpu(), len(lengths), seconds / 2)
        read = rate_of(lambda: network.sentence_encoder.tokens(texts).values.cpu(), len(texts), seconds / 2)
    network.train()
    return {"embed clips": heard, "embed captions": read}


def _step(system: RetrievalSystem, batches: list[Any], size: int, seconds: float) -> float:
    system.log_dict = lambda *args, **named: None  # type: ignore[method-assign]
    system.on_fit_start()
    return step_rate(system, batches, size, seconds)


def _training(run: Run, seconds: float) -> float:
    """Pairs a second of whole training in epochs of Clotho's length.

    What is done once an epoch (checkpoints, metrics) would weigh too much on the few clips of the toy.
    """
    system, data = build(run)
    times = -(-OFFICIAL_CAPTIONS // sum(len(of.pairs()[1]) for of in data.training))
    data.training = numbered([_repeated(of, times) for of in data.training])
    if system.teacher_audio is not None:
        system.teacher_audio = system.teacher_audio.repeat(times, 1, 1)
    return training_rate(run, system, data, MONITOR, "max", seconds)


def _repeated(of: CaptionedClips, times: int) -> CaptionedClips:
    return replace(
        of,
        clips=of.clips * times,
        captions=of.captions * times,
        keywords=of.keywords * times,
        rows=np.tile(of.rows, times),
    )
