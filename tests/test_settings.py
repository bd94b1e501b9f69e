"""Settings that no machine can do anything with are refused with file and line, before any work."""

from importlib import import_module
from pathlib import Path

import pytest

from common.run.config import load_config
from common.run.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
WRONG = {
    "task1_asc": [
        ("data: {workers: 100000}", "data.workers: is 100000, expected 0 to 128"),
        ("model: {base_channels: 0}", "model.base_channels: is 0, expected 1 or more"),
        ("model: {strides: {b3: [0, 1]}}", "model.strides: is 0, expected 1 or more"),
        ("model: {blocks: [1, -1, 1]}", "model.blocks: is -1, expected 0 or more"),
        ("front_end: {hop: 0}", "front_end.hop: is 0, expected 1 or more"),
        ("optimizer: {lr: .inf}", "optimizer.lr: is inf, expected a finite number, 0 or more"),
    ],
    "task2_anomaly": [
        ("model: {base_channels: 0}", "model.base_channels: is 0, expected 1 or more"),
        ("optimizer: {lr: .inf}", "optimizer.lr: is inf, expected a finite number, 0 or more"),
    ],
    "task4_sed": [
        ("data: {workers: 129}", "data.workers: is 129, expected 0 to 128"),
        ("model: {rnn_hidden: 0}", "model.rnn_hidden: is 0, expected 1 or more"),
        ("model: {dropout: 2}", "model.dropout: 2 is outside 0 to 1"),
        ("model: {channels: [0, 4, 4], pooling: [[1, 2], [1, 2], [1, 2]]}", "model.channels: is 0, expected 1 or more"),
        ("loss: {consistency_weight: .inf}", "loss.consistency_weight: is inf, expected a finite number, 0 or more"),
    ],
    "qbv": [
        ("data: {folds: [0, 0]}", "data.folds: [0, 0], expected at least one fold, each once"),
        ("data: {workers: 129}", "data.workers: is 129, expected 0 to 128"),
        ("data: {seconds: 0}", "data.seconds: is 0, expected 0.1 or more"),
        ("model: {width: 9}", "model.width: is 9, expected 0.1 to 4"),
        ("model: {dropout: 2}", "model.dropout: is 2, expected 0 to 1"),
        ("model: {similarity: network}", "model.similarity: network is trained by loss=bce"),
        ("comparison: {systems: [2dtf]}", "comparison.systems: unknown system '2dtf'; did you mean '2dft'"),
        ("optimizer: {lr: .inf}", "optimizer.lr: is inf, expected a finite number, 0 or more"),
        ("submission: {label: a_1, name: a, abbreviation: a, authors: []}", "submission: a system of QVIM 2025 is"),
    ],
    "zeroshot": [
        ("model: {dim: 0}", "model.dim: is 0, expected 1 or more"),
        ("split: {leave_out: 1}", "split.leave_out: is 1, expected 2 or more"),
        ("optimizer: {lr: .inf}", "optimizer.lr: is inf, expected a finite number, 0 or more"),
    ],
}
EVERYWHERE = [
    ("trainer: {devices: -3}", "trainer.devices: is -3, expected auto, how many"),
    ("trainer: {accelerator: gpux}", "trainer.accelerator: is 'gpux', expected 'auto' or 'cpu' or 'gpu'"),
    ("trainer: {strategy: ddpx}", "trainer.strategy: is 'ddpx', expected auto, ddp, fsdp"),
    ("seed: 99999999999", "seed: is 1e+11, expected 0 to 2.14748e+09"),
    ("seed: 2001-99-99", "not valid YAML (month must be in 1..12)"),
    ("seed: !!int x", "not valid YAML (invalid literal"),
    ("seed: " + "9" * 5000, "not valid YAML (Exceeds the limit"),
    ("seed: 0x" + "f" * 5000, "seed: is 'a number of thousands of digits', expected int"),
    ("data: &a {packs: *a}", "data.packs: is "),
    ("data: " + "[" * 100_000, "not valid YAML (exceeded maximum nesting depth)"),
]


@pytest.mark.parametrize(
    ("task", "text", "said"),
    [(task, *case) for task, cases in WRONG.items() for case in [*cases, *EVERYWHERE]],
    ids=lambda value: value[:40],
)
def test_a_setting_that_cannot_be(task: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(f"extends: toy\n{text}\n")
    with pytest.raises(UserError) as error:
        load_config(import_module(f"{task}.config").Config, ROOT / task / "recipes", str(tmp_path / "r.yaml"))
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'r.yaml'}:2: {said}"), message
    assert "\n" not in message


def test_a_chain_of_1500_recipes(tmp_path: Path) -> None:
    for number in range(1500):
        (tmp_path / f"{number}.yaml").write_text(f"extends: {number + 1}.yaml\n")
    (tmp_path / "1500.yaml").write_text("extends: toy\nseed: 7\n")
    config = import_module("task4_sed.config").Config
    recipes = ROOT / "task4_sed" / "recipes"
    assert load_config(config, recipes, str(tmp_path / "0.yaml")).seed == 7
    (tmp_path / "1500.yaml").write_text("extends: 0.yaml\n")
    with pytest.raises(UserError, match="extends itself"):
        load_config(config, recipes, str(tmp_path / "0.yaml"))


@pytest.mark.parametrize(("order", "seed"), [("a, b", 2), ("b, a", 1)])
def test_of_several_recipes_the_later_one_holds(tmp_path: Path, order: str, seed: int) -> None:
    """Each with what it extends itself; what one of them alone says stays."""
    (tmp_path / "a.yaml").write_text("extends: below.yaml\nseed: 1\n")
    (tmp_path / "below.yaml").write_text("extends: toy\ndata: {eval_batch: 5}\n")
    (tmp_path / "b.yaml").write_text("seed: 2\ndata: {workers: 3}\n")
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"extends: [{', '.join(f'{name}.yaml' for name in order.split(', '))}]\n")
    config, recipes = import_module("task4_sed.config").Config, ROOT / "task4_sed" / "recipes"
    read = load_config(config, recipes, str(recipe))
    assert (read.seed, read.data.eval_batch, read.data.workers) == (seed, 5, 3 if seed == 2 else 0)
    (tmp_path / "b.yaml").write_text("seed: many\n")
    if seed == 2:
        with pytest.raises(UserError, match=r"b\.yaml:1: seed: is 'many'"):
            load_config(config, recipes, str(recipe))
    else:  # hidden by that of the later one
        assert load_config(config, recipes, str(recipe)).seed == 1


@pytest.mark.parametrize("text", ["[r.yaml]", "[toy, b.yaml]", "[toy, 3]", "{toy: 1}"])
def test_what_cannot_be_extended(tmp_path: Path, text: str) -> None:
    (tmp_path / "b.yaml").write_text("extends: r.yaml\n")
    (tmp_path / "r.yaml").write_text(f"extends: {text}\n")
    config, recipes = import_module("task4_sed.config").Config, ROOT / "task4_sed" / "recipes"
    with pytest.raises(UserError, match=r"r\.yaml: extends itself|r\.yaml:1: extends: expected the name of a recipe"):
        load_config(config, recipes, str(tmp_path / "r.yaml"))
