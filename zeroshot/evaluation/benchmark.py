"""Throughput of every stage on this machine; parameters and multiply-accumulates of a recipe's network."""

import itertools
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from common.audio.coverage import root_of
from common.audio.reading import load
from common.run.benchmark import decode_rate, files_rate, rate_of, show_training_rates, step_rate, training_rate
from common.run.complexity import matrix_macs, size_of
from common.run.results.tables import print_table
from common.run.training import quiet
from common.run.verbs import Run
from zeroshot.config import STATISTICS, Config
from zeroshot.data.batches import train_loader
from zeroshot.data.embeddings import clip_samples, create_encoder, embedder
from zeroshot.data.prepare import prepare
from zeroshot.data.sets import DataSets
from zeroshot.data.splits import class_splits
from zeroshot.data.vectors import attributes_of, class_vectors, read_attributes
from zeroshot.model.compatibility import build_compatibility
from zeroshot.training.system import TRAIN_LOSS
from zeroshot.training.train import build

BATCHES_IN_MEMORY = 8


def benchmark(run: Run, seconds: float) -> Mapping[str, Any]:
    """Measure each stage for about `seconds`; prints a table and returns clips per second by stage."""
    quiet()
    prepare(run.config, workers=1)
    split, by_class = class_splits(run.config)[0], class_vectors(run.config)
    system, data = build(run, split, by_class, DataSets(run.config))
    data.parts, data.validation = _without_validation(data.parts), None
    clips = data.parts.train
    loader = train_loader(clips, run.config, run.seed, embeddings=data.training)
    batches = list(itertools.islice(loader, BATCHES_IN_MEMORY))
    size, samples = len(batches[0].row), clip_samples(run.config)
    folder = root_of(run.config.data.training or run.config.data)
    paths = [path for name in clips.names if (path := folder / "audio" / name).is_file()]
    rates = {"decode (pack, one process)": decode_rate(clips.pack, clips.rows, size, samples, seconds)}
    if paths:
        read = partial(load, sample_rate=run.config.data.sample_rate)
        rates["decode (audio files, one process)"] = files_rate(read, paths, seconds)
    if data.training is not None:
        few = clips.pack.read_many(clips.rows[:4], 0, samples)
        embed = embedder(run.config)
        rates["embeddings (once for a data set)"] = rate_of(lambda: embed(few), len(few), seconds / 2)
    return show_training_rates(
        run,
        rates,
        lambda: step_rate(system, batches, size, seconds / 2),
        lambda: _training(run, split, by_class, seconds / 2),
        batch=size,
        clips=f"clips of {run.config.data.clip_seconds:g} s",
    )


def _without_validation(parts: Any) -> Any:
    from dataclasses import replace

    return replace(parts, validation=None)


def _training(run: Run, split: Any, by_class: Any, seconds: float) -> float:
    system, data = build(run, split, by_class, DataSets(run.config))
    data.parts = _without_validation(data.parts)
    return training_rate(run, system, data, TRAIN_LOSS, "min", seconds)


def complexity(run: Run) -> Mapping[str, Any]:
    """Print and return parameters, bytes and MACs of encoder and maps, for one clip and one class; needs no data."""
    config, samples = run.config, clip_samples(run.config)
    found: dict[str, tuple[int, int, int]] = {}
    if config.encoder.name == STATISTICS:
        dim = embedder(config).dim
    else:
        encoder = create_encoder(config.encoder, config.data.sample_rate)
        mel = encoder.mel(torch.zeros(1, samples))
        found["audio encoder"] = (*size_of(encoder.parameters()), matrix_macs(lambda: encoder.from_mel(mel)))
        dim = encoder.clip_dim
    class_dim = _class_dim(config)
    maps = build_compatibility(config.model, config.loss, dim, class_dim).eval()
    audio, of_class = torch.zeros(1, dim), torch.zeros(1, class_dim)
    found["maps"] = (*size_of(maps.parameters()), matrix_macs(lambda: maps(audio, of_class)))
    rows = [[name, *(f"{value:,}" for value in of)] for name, of in found.items()]
    how = "trained" if config.encoder.finetune else "frozen"
    note = f"a clip of {config.data.clip_seconds:g} s and one class; without front end and class encoder; encoder {how}"
    print_table(f"recipe {run.recipe}", ["part", "parameters", "bytes", "MACs"], rows, note)
    return {name: dict(zip(("parameters", "bytes", "macs"), of, strict=True)) for name, of in found.items()}


def _class_dim(config: Config) -> int:
    """Numbers of a class vector; of tfidf at most."""
    if config.texts.encoder in ("tfidf", "random"):
        return config.texts.dims
    if config.texts.encoder == "attributes":
        return len(next(iter(read_attributes(attributes_of(config)).values())))
    from common.encoders import text

    return text.create(config.texts.encoder).dim
