"""The README's tables of published figures: every row's words make a config and a network of the size it says."""

import functools
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from common.encoders import models
from common.encoders.checkpoints import catalogue
from common.run.config import load_config
from common.run.results.comparison import read_baselines
from task4_sed.config import Config, SequenceConfig
from task4_sed.model.framewise import FramewiseNetwork
from task4_sed.model.networks import build_network

FOLDER = Path(__file__).parents[1]
FIGURE = re.compile(r"\d+\.\d+")
KINDS = {"RNN": "gru", "TF": "tf", "ATT": "attn", "MAMBA": "mamba"}
Row = dict[str, str]


@functools.cache
def tables() -> dict[str, list[Row]]:
    """Rows of the section's tables by the first column's head."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    section = re.split(r"\n##", text.split("### The published rows\n")[1])[0]
    found: dict[str, list[Row]] = {}
    head: list[str] = []
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if cells and not head:
            head = cells
            found[head[0]] = []
        elif cells and set(cells) != {"---"}:
            found[head[0]].append(dict(zip(head, cells, strict=True)))
        head = head if cells else []
    return found


def words(cell: str) -> list[str]:
    return [word for code in re.findall(r"`([^`]*)`", cell) for word in code.split()]


def students_and_teachers() -> Iterator[tuple[str, list[str]]]:
    backbones = {row["backbone"]: row for row in tables()["backbone"]}
    for row in tables()["row"]:
        recipe, *more = words(row["words"])
        for name, of in backbones.items():
            assert FIGURE.fullmatch(row[name])
            yield recipe, [*more, *words(of["words"]), *words(of[f"{row['step 2']} step 2"])]


def sequences() -> Iterator[tuple[str, list[str]]]:
    for row in tables()["`sequence.dim`"]:
        for head, figure in list(row.items())[1:]:
            assert FIGURE.fullmatch(figure)
            kind, layers = head.split(":")
            dim = row["`sequence.dim`"]
            yield "pretrain_teacher", [f"sequence={{kind: {KINDS[kind]}, dim: {dim}, layers: {layers}}}"]


def small() -> Iterator[tuple[str, list[str]]]:
    for row in tables()["model"]:
        of_model = words(row["words"])
        recipe, more = (of_model[0], of_model[1:]) if "=" not in of_model[0] else ("pretrain_small", of_model)
        dim = f"sequence.dim={row['`sequence.dim`']}"
        for head, figure in list(row.items())[4:]:
            if FIGURE.fullmatch(figure):
                yield recipe, [*more, *words(head), *([] if head == "`sequence=null`" else [dim])]


def downstream() -> Iterator[tuple[str, list[str]]]:
    for row in tables()["encoder"]:
        for recipe, figure in list(row.items())[2:]:
            assert FIGURE.fullmatch(figure)
            yield recipe.strip("`"), words(row["words"])


def beside_the_crnn() -> Iterator[list[str]]:
    for row in tables()["encoder beside the CRNN"]:
        assert FIGURE.fullmatch(row["`pretrain_desed_crnn`"])
        yield words(row["words"])


@functools.cache
def network_of(encoder: str, sequence: SequenceConfig | None, depth: int | None = None) -> FramewiseNetwork:
    options = {} if depth is None else {"depth": depth}
    with torch.device("meta"):
        return FramewiseNetwork(models()[encoder](num_classes=None, **options), 447, sequence)  # type: ignore[arg-type]


def size(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def config_of(recipe: str, overrides: list[str]) -> Config:
    config: Config = load_config(Config, FOLDER / "recipes", recipe, [*overrides, "data.root=x"])
    assert config.encoder is not None
    assert config.encoder.checkpoint is not None
    assert config.encoder.name in catalogue()[config.encoder.checkpoint].models, config.encoder
    return config


@pytest.mark.parametrize(("recipe", "overrides"), [*students_and_teachers(), *small()])
def test_rows_are_recipes_with_overrides(recipe: str, overrides: list[str]) -> None:
    config = config_of(recipe, overrides)
    assert config.encoder is not None
    network = network_of(config.encoder.name, config.sequence)
    assert network.encoder.strong_head is not None
    assert (network.seq_model is None) == (config.sequence is None)
    assert config.data.batch * config.trainer.accumulate_grad_batches == 256


@pytest.mark.parametrize(("recipe", "overrides"), list(downstream()))
def test_rows_of_fine_tuning_are_recipes_with_overrides(recipe: str, overrides: list[str]) -> None:
    config = config_of(recipe, overrides)
    assert config.encoder is not None
    assert config.encoder.train == (not recipe.endswith("_frozen"))
    assert config.loss.kind == "framewise"


@pytest.mark.parametrize(("recipe", "overrides"), list(sequences()))
def test_sequence_models_on_atst(recipe: str, overrides: list[str]) -> None:
    config = config_of(recipe, overrides)
    assert config.sequence is not None
    assert config.encoder is not None
    network = network_of(config.encoder.name, config.sequence)
    width = config.sequence.dim * (2 if config.sequence.kind == "gru" else 1)
    assert network.encoder.strong_head is not None
    assert network.encoder.strong_head.in_features == width


@pytest.mark.parametrize("overrides", list(beside_the_crnn()))
def test_rows_beside_the_crnn(overrides: list[str]) -> None:
    config = config_of("pretrain_desed_crnn", overrides)
    assert config.encoder is not None
    encoder = network_of(config.encoder.name, None, config.encoder.depth).encoder
    assert len([layer for layer in encoder.layers() if layer.startswith("block")]) == (config.encoder.depth or 12)
    assert encoder.embedding_dim == config.model.embedding_dim
    published = read_baselines(FOLDER / "baselines.csv")
    parameters = [of.value for of in published if (of.system, of.metric) == ("Baseline_task4a_2", "parameters")]
    with torch.device("meta"):
        assert [size(build_network(replace(config.model, num_classes=10)))] == parameters


def test_every_published_figure_stands_there() -> None:
    every = (students_and_teachers(), sequences(), downstream(), small(), beside_the_crnn())
    assert [len(list(rows)) for rows in every] == [8 * 5, 4 * 10, 15 * 6, 5 + 3 * 8 + 1, 2 * 4]


def test_sizes_are_those_of_the_tables() -> None:
    checked = 0
    for row in tables()["backbone"] + tables()["model"]:
        said = row["parameters, with the heads"].replace(",", "")
        named = [word.partition("=")[2] for word in words(row["words"]) if word.startswith("encoder.name=")]
        if said and named:
            assert size(network_of(named[0], None)) == int(said), row
            checked += 1
    assert checked == 10


def test_the_teachers_gru_has_its_published_size() -> None:
    config = config_of("pretrain_teacher", [])
    seq_model = network_of("atst-f", config.sequence).seq_model
    assert seq_model is not None
    assert round(size(seq_model) / 1e5) == 1101
