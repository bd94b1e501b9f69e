"""Trained splits: their networks, classes and texts, found in a run or by the path of a checkpoint."""

from dataclasses import dataclass
from pathlib import Path

from common.run.checkpoints import checkpoint_of
from common.run.config import load_config
from common.run.errors import UserError
from common.run.files import existing_file
from common.run.results.runs import network_note
from common.run.verbs import Run
from zeroshot.config import CLASSES, Config, closed_stage, of_split
from zeroshot.data.texts import Texts
from zeroshot.data.vectors import of_plain
from zeroshot.inference.scores import read_split
from zeroshot.model.networks import ZeroShotNetwork, load_network

RECIPES = Path(__file__).parents[1] / "recipes"


@dataclass(frozen=True)
class Trained:
    """The network of a class split; its classes by role and their texts; note: what must stand beside its answers."""

    network: ZeroShotNetwork
    config: Config
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    texts: Texts
    note: str | None


def load_split(run: Run, name: str) -> Trained:
    """Of a split of a run. Raises UserError where its training is not finished."""
    part = of_split(run, name)
    network = load_network(part.config, *checkpoint_of(closed_stage(part).folder))
    return _with_classes(network, part.config, part.folder)


def load_file(path: Path) -> Trained:
    """Of a checkpoint that lies where training wrote it. Raises UserError for one without its recipe and classes."""
    existing_file(path, "checkpoint")
    folder = next((of for of in path.resolve().parents[:3] if (of / CLASSES).is_file()), None)
    if folder is None:
        raise UserError(f"{path}: no {CLASSES} of its training in the folders above it")
    config = load_config(Config, RECIPES, str(existing_file(folder / "config.yaml", "recipe of the training")))
    return _with_classes(load_network(config, path), config, folder)


def _with_classes(network: ZeroShotNetwork, config: Config, folder: Path) -> Trained:
    found = read_split(folder)
    train, val, test = (tuple(found[role]) for role in ("train", "val", "test"))
    claim = f"{config.encoder.name}: {config.encoder.claim}"
    note = "; ".join(filter(None, (claim, network_note(folder))))
    return Trained(network, config, train, val, test, of_plain(found["texts"]), note)
