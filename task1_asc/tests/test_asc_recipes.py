"""The published recipes at their own front ends and 44.1 kHz: an epoch of the smallest split of the tiny data."""

from pathlib import Path

import pytest

from common.run.config import load_config
from common.run.verbs import main
from task1_asc.__main__ import TASK
from task1_asc.config import SPLITS, Config
from task1_asc.data.layout import read_split
from task1_asc.deployment.complexity import counts_of
from task1_asc.inference.scores import read_outputs

FEW = ("trainer.max_epochs=1", "trainer.accelerator=cpu", "energy.enabled=false", "data.workers=0", "data.splits=[5]")

MADE_UP = "augment.impulse_responses=synthetic"


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    ("recipe", "overrides"),
    [
        ("baseline", ["optimizer.warmup_share=0.5"]),
        ("cp_resnet_teacher", [MADE_UP]),
        ("passt_teacher", [MADE_UP, "model.encoder=passt-tiny", "model.checkpoint=null"]),
        ("cp_mobile_int8", [MADE_UP, "distill.teachers=[]", "quantize.epochs=2", "quantize.freeze_epochs=1"]),
    ],
)
def test_published_recipes_train_and_predict(
    tiny_root: Path, tmp_path: Path, recipe: str, overrides: list[str]
) -> None:
    usual = ["--recipe", recipe, "--run-dir", str(tmp_path), f"data.root={tiny_root}", *FEW, *overrides]
    for verb in ("prepare", "train", "predict"):
        assert main(TASK, [verb, *usual]) == 0
    outputs = read_outputs(tmp_path / "run1" / "split5" / "predictions" / "test.csv")
    assert outputs.probabilities is not None
    assert outputs.probabilities.shape == (len(read_split(tiny_root, "test")), 10)


@pytest.mark.parametrize(
    ("recipe", "parameters", "size", "macs"),
    [
        ("baseline", 61_148, 122_296, 29_419_156),
        ("cp_mobile", 39_868, 79_736, 8_433_836),
        ("cp_mobile_int8", 126_952, 126_952, 28_893_268),
        ("cp_resnet_teacher", 127_684, 4 * 127_684, 28_840_396),
    ],
)
def test_published_sizes(recipe: str, parameters: int, size: int, macs: int) -> None:
    config = load_config(Config, TASK.recipes, recipe)
    assert counts_of(config) == {"parameters": parameters, "bytes": size, "macs": macs}


@pytest.mark.parametrize(
    ("recipe", "batch", "epochs", "optimizer", "lr", "weight_decay"),
    [
        ("baseline", 256, 150, "adamw", 5e-3, 1e-4),
        ("cp_mobile", 256, 150, "adam", 9e-4, 1e-4),
        ("cp_resnet_teacher", 256, 150, "adam", 1e-3, 1e-3),
        ("passt_teacher", 80, 25, "adam", 1e-5, 1e-3),
    ],
)
def test_published_settings(
    recipe: str, batch: int, epochs: int, optimizer: str, lr: float, weight_decay: float
) -> None:
    config = load_config(Config, TASK.recipes, recipe)
    assert (config.data.batch, config.trainer.max_epochs) == (batch, epochs)
    of = config.optimizer
    assert (of.name, of.lr, of.weight_decay) == (optimizer, lr, weight_decay)
    assert config.data.splits == list(SPLITS)
    assert config.checkpoint == "last"
    assert config.data.cropped == recipe.endswith("_teacher")  # teachers hear windows, students the clips
