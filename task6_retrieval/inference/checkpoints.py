"""Checkpoints of trainings -> networks."""

from pathlib import Path

from common.run.checkpoints import checkpoint_of, read_checkpoint, training_of
from common.run.config import load_config
from common.run.errors import UserError
from common.run.verbs import Run
from task6_retrieval.config import Config
from task6_retrieval.model.networks import DualEncoder, build_network, load_weights

RECIPES = Path(__file__).parents[1] / "recipes"


def load_network(run: Run) -> DualEncoder:
    """The network of a finished run, in evaluation mode. Raises UserError where its training is not finished."""
    path, digest = checkpoint_of(run.folder)
    return load_weights(build_network(run.config), path, digest)


def load_file(path: Path) -> tuple[DualEncoder, Config]:
    """The network of one checkpoint, and the recipe that `train` stored beside it.

    Raises UserError for any other file, and for one without its recipe.
    """
    config = load_config(Config, RECIPES, str(training_of(path) / "config.yaml"))
    if "retrieval" not in read_checkpoint(path):
        raise UserError(f"{path}: not a checkpoint of this task")
    return load_weights(build_network(config), path), config
