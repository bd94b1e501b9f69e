"""Checkpoints of trainings -> networks."""

from dataclasses import replace
from pathlib import Path

from common.run.checkpoints import checkpoint_of, training_of
from common.run.config import load_config
from common.run.verbs import Run
from qbv.config import Config
from qbv.model.networks import DualEncoder, load_weights

RECIPES = Path(__file__).parents[1] / "recipes"


def load_part(part: Run) -> DualEncoder:
    """The network of a finished training (of a fold), in evaluation mode. Raises UserError where it is not finished."""
    path, digest = checkpoint_of(part.folder)
    return load_weights(_empty(part.config), path, digest)


def load_file(path: Path, digest: str | None = None) -> tuple[DualEncoder, Config]:
    """The network of one checkpoint, and the recipe that `train` stored beside it; digest: its SHA-256, where known.

    Raises UserError for any other file, and for one without its recipe.
    """
    config = load_config(Config, RECIPES, str(training_of(path) / "config.yaml"))
    return load_weights(_empty(config), path, digest), config


def _empty(config: Config) -> DualEncoder:
    """The network of a recipe, whose weights are about to be replaced: no published file is needed."""
    return DualEncoder(replace(config.model, checkpoint="random"))
