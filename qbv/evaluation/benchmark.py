"""Throughput of every stage on this machine; parameters and multiply-accumulates of a recipe's encoders."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from common.run.benchmark import decode_rate, rate_of, show_training_rates, step_rate, training_rate
from common.run.complexity import matrix_macs, size_of
from common.run.processes import working_device
from common.run.results.tables import print_table
from common.run.training import quiet
from common.run.verbs import Run
from qbv.config import SAMPLE_RATE, TRAINED, Config, parts_of
from qbv.data.batches import samples_of
from qbv.data.prepare import prepare
from qbv.model.networks import DualEncoder
from qbv.model.systems import build_system
from qbv.training.system import MONITOR
from qbv.training.train import build

BATCHES_IN_MEMORY = 4
SOUNDS = 4  # that a system hears at once


def benchmark(run: Run, seconds: float) -> Mapping[str, Any]:
    """Measure each stage for about `seconds`; prints a table and returns pairs or sounds per second by stage."""
    quiet()
    part = next(iter(parts_of(run).values()))
    config: Config = part.config
    prepare(config, workers=1)
    system, data = build(part)
    batches = list(itertools.islice(data.train_dataloader(), BATCHES_IN_MEMORY))
    size, samples, sounds = len(batches[0].number), samples_of(config.data), data.training.imitations
    rates = {"decode imitations (pack, one process)": decode_rate(sounds.pack, sounds.rows, size, samples, seconds)}
    for name in config.comparison.systems:
        if name != "random":
            trained = system.network if name == TRAINED else None
            of = build_system(name, config, part.seed, trained, working_device())
            audio = torch.randn(SOUNDS, round(of.seconds * SAMPLE_RATE)) / 10
            with torch.inference_mode():
                rates[f"vectors, {name}"] = rate_of(partial(of.recordings, audio), SOUNDS, seconds / 4)
    system, data = build(part)
    return show_training_rates(
        part,
        rates,
        lambda: step_rate(system, batches, size, seconds / 2),
        lambda: training_rate(part, *build(part), MONITOR, "max", seconds / 2),
        batch=size,
        clips=f"pairs of {config.data.seconds:g} s",
    )


def complexity(run: Run) -> Mapping[str, Any]:
    """Print and return parameters, bytes and MACs of both encoders, for one sound each; needs no data."""
    config: Config = run.config
    network = DualEncoder(replace(config.model, checkpoint="random")).eval()
    waveform = network.resample(torch.zeros(1, samples_of(config.data)))
    sides = {"imitation encoder": network.imitation_encoder, "recording encoder": network.recording_encoder}
    found = {}
    for name, encoder in sides.items():
        mel = encoder.mel(waveform)
        found[name] = (*size_of(encoder.parameters()), matrix_macs(partial(encoder.from_mel, mel)))
    rows = [[name, *(f"{value:,}" for value in of)] for name, of in found.items()]
    note = f"a sound of {config.data.seconds:g} s; without front end; vectors of {network.dim} numbers"
    note += "; one encoder for both" if config.model.shared else ""
    print_table(f"recipe {run.recipe}", ["part", "parameters", "bytes", "MACs"], rows, note)
    return {name: dict(zip(("parameters", "bytes", "macs"), of, strict=True)) for name, of in found.items()}
