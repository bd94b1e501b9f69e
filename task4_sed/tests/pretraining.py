"""What tests of pre-training share: the settings of a tiny training, and its data."""

from collections.abc import Callable
from pathlib import Path

from common.run.config import load_config
from task4_sed.__main__ import TASK
from task4_sed.config import Config
from task4_sed.data.prepare import prepare, write_toy_data

STEPS = (
    *("data.batch=4", "data.draws=8", "data.eval_batch=4", "optimizer.warmup_steps=1", "trainer.max_epochs=2"),
    *("trainer.check_val_every_n_epoch=1", "trainer.accelerator=cpu", "energy.enabled=false"),
)
TINY = ("data.toy=audioset_tiny", *STEPS)
Configure = Callable[..., Config]


def prepared(root: Path, recipe: str, *settings: str) -> list[str]:
    """Write and pack the data of a recipe below `root`; names of its sets."""
    config = load_config(Config, TASK.recipes, recipe, [*settings, f"data.root={root}"])
    write_toy_data(config.data)
    sets = prepare(config, workers=1)["sets"]
    assert all(counts["missing"] == 0 for counts in sets.values())
    return list(sets)
