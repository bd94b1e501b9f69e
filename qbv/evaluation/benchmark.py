"""Throughput of every stage on this machine; parameters and multiply-accumulates of a recipe's encoders."""

import itertools
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.audio.reading import write_wav
from common.run.benchmark import (
    decode_rate,
    hardware,
    rate_of,
    show_training_rates,
    step_rate,
    times_in_turns,
    training_rate,
)
from common.run.complexity import matrix_macs, size_of
from common.run.processes import working_device
from common.run.results.tables import print_table
from common.run.training import quiet
from common.run.verbs import Run
from common.search import Encoder
from common.search.index import BATCH, Index
from common.search.index import build as build_index
from qbv.config import SAMPLE_RATE, TRAINED, Config, parts_of
from qbv.data.batches import samples_of
from qbv.data.prepare import prepare
from qbv.inference.search import Voice
from qbv.model.networks import DualEncoder
from qbv.model.systems import build_system
from qbv.training.system import MONITOR
from qbv.training.train import build

BATCHES_IN_MEMORY = 4
SOUNDS = 4  # that a system hears at once
FASTEST = "fastest: what the machine can do that nobody else uses"
HITS, LEAST = 10, 5  # hits of a list, searches that are timed at least


def benchmark(run: Run, seconds: float, library: int) -> Mapping[str, Any]:
    """Measure each stage for about `seconds`; prints tables and returns pairs or sounds per second by stage.

    And, under `answer_ms`, the time from an imitation's file to its ranked list among so many recordings.
    """
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
    answers = _answers(part, system.network, library, seconds)
    system, data = build(part)
    found = show_training_rates(
        part,
        rates,
        lambda: step_rate(system, batches, size, seconds / 2),
        lambda: training_rate(part, *build(part), MONITOR, "max", seconds / 2),
        batch=size,
        clips=f"pairs of {config.data.seconds:g} s",
    )
    return {**found, "answer_ms": answers}


def _answers(part: Run, network: DualEncoder, recordings: int, seconds: float) -> dict[str, dict[str, float]]:
    """Median and fastest ms from a file to its ranked list by each system: an imitation of 5 s, vectors of noise."""
    config: Config = part.config
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="library-") as folder:
        random, asked = np.random.default_rng(0), Path(folder) / "imitation.wav"
        write_wav(asked, 0.1 * random.standard_normal(5 * 44_100), 44_100)
        (Path(folder) / "library").mkdir()
        for number in range(recordings):
            (Path(folder) / "library" / f"{number}.wav").write_text(str(number))
        for name in config.comparison.systems:
            of = build_system(name, config, part.seed, network, working_device())
            voice = Voice(of, name, name, "", ())
            build_index(Path(folder) / "library", _Noise(voice), Path(folder) / "index")
            index = Index.open(Path(folder) / "library", voice.key, Path(folder) / "index")
            (times,) = times_in_turns([partial(_answer, index, voice, asked)], seconds / 4, LEAST)
            found[name] = {"median": 1e3 * float(np.median(times)), "fastest": 1e3 * min(times)}
            shutil.rmtree(Path(folder) / "index")
    rows = [[name, *(f"{value:.0f}" for value in of.values())] for name, of in found.items()]
    title, note = f"from an imitation to its list, {recordings:,} recordings", f"{hardware()}; {FASTEST}"
    print_table(title, ["system", "median (ms)", "fastest (ms)"], rows, note)
    return found


def _answer(index: Index, voice: Voice, asked: Path) -> None:
    index.search(voice.query(asked), HITS)


class _Noise(Encoder):
    """In place of an encoder: vectors of noise as long as its own, for files that are none."""

    has_text, quality = False, ""

    def __init__(self, of: Voice) -> None:
        self.key, self.title, self.window, self.command = of.key, of.title, of.window, of.command
        self.noise = np.random.default_rng(0).standard_normal((BATCH, of.dim), np.float32)

    @property
    def dim(self) -> int:
        """Of the vectors."""
        return self.noise.shape[1]

    def sounds(self, paths: Sequence[Path]) -> Iterator[np.ndarray]:
        """(1, dim) for each file."""
        return (row[None] for row in self.noise[: len(paths)])


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
