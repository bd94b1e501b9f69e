"""The tables of recipes in the READMEs: every file, nothing else, and the numbers that stand there are the files'."""

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from common.run.config import load_config
from common.run.verbs import Task

ROOT = Path(__file__).resolve().parents[1]
TASKS = sorted(path.parent.name for path in ROOT.glob("*/task.mk"))
WORDS = {"tenth": 0.1, "two": 2, "five": 5, "six": 6, "ten": 10}
YEARS = r"\b(of |in |to )?20\d\d\b"  # of a challenge


def parameters(config: Any) -> list[int]:
    from task1_asc.deployment.complexity import counts_of

    return [counts_of(config)["parameters"]]


def blocks(config: Any) -> list[int]:
    return [block.batch for block in config.data.blocks.named().values()]


def left_out(config: Any) -> list[int]:
    from zeroshot.data.vectors import attributes_of, read_attributes

    return [config.split.leave_out, len(read_attributes(attributes_of(config)))]


def of_esc50(config: Any) -> list[int]:
    """Classes that train, choose the epoch, and are tested."""
    from zeroshot.data.classes import ESC50_FOLDS

    tested, validation = len(ESC50_FOLDS[0]), config.split.validation
    classes = sum(map(len, ESC50_FOLDS))
    return [classes - validation - tested, validation, tested] if config.split.folds == len(ESC50_FOLDS) else [0]


# {task: {what a table says: what the recipe has}}; a match's groups are numbers, or words for them.
CLAIMS: dict[str, dict[str, Callable[[Any], list[Any]]]] = {
    "task1_asc": {
        r"([\d,]+) parameters": parameters,
        r"(\d+) epochs for each of (\w+) splits": lambda c: [c.trainer.max_epochs, len(c.data.splits)],
        r"the (\d+) % split": lambda c: c.data.splits,
        r"(\d+) epochs more": lambda c: [c.finetune.epochs],
        r"half precision": lambda c: [] if c.precision == "float16" else [c.precision],
        r"to int(8)": lambda c: [int(c.precision.removeprefix("int"))] if c.quantize.epochs else [0],
        r"by those (\w+)": lambda c: [len(c.distill.teachers)],
    },
    "task2_anomaly": {
        r"(\d+) channels, BCE": lambda c: [c.model.base_channels] if c.loss.name == "bce" else [0],
        r"on (\w+) frames": lambda c: [import_module("task2_anomaly.model.networks").window_frames(c)],
        r"for each ID": lambda c: [] if c.data.network_per == "machine" else [0],
        r"for each type: every window once an epoch, the last (tenth)": lambda c: (
            [c.data.validation_split] if (c.data.network_per, c.data.windows) == ("type", "every") else [0]
        ),
    },
    "task4_sed": {
        r"(\d+) mel bands": lambda c: [c.model.num_mels],
        r"(\d+) CNN blocks up to (\d+) channels": lambda c: [len(c.model.channels), max(c.model.channels)],
        r"(\d+) x GRU (\d+)": lambda c: [c.model.rnn_layers, c.model.rnn_hidden],
        r"on (\d+) features": lambda c: [c.model.fusion_dim],
        r"GRU of (\d+)": lambda c: [c.sequence.dim],
        r"^(\d+) clips$": lambda c: [c.data.batch],
        r"^(\d+), (\d+), (\d+), (\d+), (\d+)$": blocks,
        r"^(\d+)$": lambda c: [c.trainer.max_epochs],
        r"^(0\.\d+)$": lambda c: [c.optimizer.lr],
    },
    "task6_retrieval": {
        r"batch (\d+)": lambda c: [c.data.batch],
        r"^(0\.\d+)$": lambda c: [c.model.tau],
        r"^(\d+)$": lambda c: [c.trainer.max_epochs],
        r"stage (\d)": lambda c: [2 if c.distill.teachers else 1],
        r"three teachers": lambda c: [] if len(c.distill.teachers) == 3 else [len(c.distill.teachers)],
    },
    "qbv": {
        r"(\d+) epochs": lambda c: [c.trainer.max_epochs],
        r"every imitation (\d) times": lambda c: [c.data.passes],
        r"(\d+) folds": lambda c: [len(c.data.folds)],
    },
    "zeroshot": {
        r"(\w+) class folds": lambda c: [c.split.folds],
        r"all of ESC-(50)": lambda c: [50] if (c.data.layout, c.data.training.layout) == ("esc50", "audioset") else [0],
        r"within ESC-(50): (\d+) classes train, (\d+) choose the epoch, (\d+) are tested": lambda c: [50, *of_esc50(c)],
        r"choices of (\w+) of (\w+) classes": left_out,
        r"all classes in (\w+) folds": lambda c: [c.split.folds],
    },
}
AS = re.compile(r"(?:as )?`(\w+)`(?: and .*)?")


def task_of(name: str) -> Task:
    task: Task = import_module(f"{name}.__main__").TASK
    return task


def config_of(task: str, recipe: str) -> Any:
    return load_config(task_of(task).config, task_of(task).recipes, recipe)


def rows(task: str) -> list[list[str]]:
    """Cells of the rows of the table whose first column is "recipe"."""
    found: list[list[str]] = []
    inside = False
    for line in (ROOT / task / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        inside = bool(cells) and (inside or cells[0] == "recipe")
        if inside and cells[0] not in ("recipe", "---"):
            found.append(cells)
    return found


def names(cell: str) -> list[str]:
    """Recipes that a cell names: `a`, `b_01` to `b_03`."""
    found = re.findall(r"`(\w+)`", cell)
    for stem, first, last in re.findall(r"`(\w+?)(\d+)` to `\w+?(\d+)`", cell):
        found += [f"{stem}{number:0{len(first)}d}" for number in range(int(first) + 1, int(last))]
    return found


def number(text: str) -> float:
    return float(WORDS.get(text, text.replace(",", "")))


@pytest.mark.parametrize("task", TASKS)
def test_every_recipe_has_its_row_and_every_row_its_recipe(task: str) -> None:
    named = [name for first, *_ in rows(task) for name in names(first)]
    assert sorted(named) == sorted(path.stem for path in (ROOT / task / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("task", TASKS)
def test_numbers_are_those_of_the_recipes(task: str) -> None:
    wrong, checked = [], 0
    for first, *cells in rows(task):
        recipes = [(name, config_of(task, name)) for name in names(first)]
        for cell in cells:
            rest = cell
            for pattern, value in CLAIMS[task].items():
                for match in re.finditer(pattern, cell):
                    said = [number(group) for group in match.groups()]
                    wrong += [f"{name}: {match[0]}: {value(c)}" for name, c in recipes if said != value(c)]
                    rest, checked = rest.replace(match[0], ""), checked + 1
            if unchecked := re.findall(r"\d+", re.sub(rf"`[^`]*`|{YEARS}", "", rest)):
                wrong.append(f"{first}: {cell}: nothing checks {', '.join(unchecked)}")
    assert wrong == []
    assert checked > 3


def test_as_another_recipe_means_the_same_numbers() -> None:
    """Task 4: "as `baseline`" and "`recordings` and YAMNet's frames"."""
    described = {name: cells for first, *cells in rows("task4_sed") for name in names(first)}
    checked = 0
    for name, cells in described.items():
        for column, cell in enumerate(cells):
            if (same := AS.fullmatch(cell)) and same[1] in described:
                for pattern, value in CLAIMS["task4_sed"].items():
                    if re.search(pattern, described[same[1]][column]):
                        assert value(config_of("task4_sed", name)) == value(config_of("task4_sed", same[1])), (
                            name,
                            cell,
                        )
                        checked += 1
    assert checked > 5
