"""Checkpoints of this task -> networks: own ones, and the published CRNN checkpoints of the challenge's baseline."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from common.encoders import RANDOM
from common.run.checkpoints import checkpoint_of as checkpoint_in
from common.run.checkpoints import fill, network_state, read_checkpoint
from common.run.errors import UserError
from common.run.files import existing_file
from common.run.imports import find
from common.run.verbs import Run
from task4_sed.config import EncoderConfig, ModelConfig
from task4_sed.data.classes import CLASSES
from task4_sed.model.networks import Network, TunedNetwork, network_beside

Which = Literal["student", "teacher"]


def checkpoint_of(run: Run, checkpoint: Path | None) -> tuple[Path, str | None]:
    """The given checkpoint, or the run's best one with the SHA-256 that training recorded."""
    if checkpoint is not None:
        return existing_file(checkpoint, "checkpoint"), None
    return checkpoint_in(run.folder, ", --checkpoint FILE takes another")


@dataclass(frozen=True)
class Loaded:
    """A network in evaluation mode, the classes of its outputs, and the encoder that belongs beside it.

    `fingerprint` is that of the encoder's weights, where the checkpoint knows it.
    """

    network: Network
    classes: tuple[str, ...]
    encoder: EncoderConfig | None = None
    fingerprint: str | None = None
    path: str = ""


def load_network(
    path: str | Path,
    which: Which,
    config: ModelConfig | None = None,
    expected_sha256: str | None = None,
    encoder: EncoderConfig | None = None,
) -> Loaded:
    """The student or teacher of a checkpoint.

    Own checkpoints carry the settings of their model and encoder; for published ones `config` and `encoder` give them.
    An own checkpoint's encoder is looked for where `encoder` has it, if that is the same model. Raises UserError for a
    file that is not a checkpoint, is damaged (its SHA-256 differs), or is of another model (names the keys).
    """
    path = Path(path)
    content = read_checkpoint(path, expected_sha256)
    state = network_state(content, (which, f"sed_{which}"), path)
    about = content.get("sed")
    if about is not None:
        config = _own_config(about, path)
    elif config is None:
        raise UserError(f"{path}: carries no model settings; give the recipe that it was trained with")
    classes = tuple(about["classes"]) if about else CLASSES
    beside = about.get("encoder") if about else None
    if about is not None and beside is not None:
        encoder = _own_encoder(beside, about.get("sources", {}), encoder, path)
    elif about is not None:
        encoder = None
    network = network_beside(config, encoder)
    if about is None and isinstance(network, TunedNetwork):
        state = network.from_published(state)
    fill(network, state, path)
    if encoder is not None and encoder.train:
        encoder = replace(encoder, checkpoint=RANDOM)  # its weights are the network's
    return Loaded(network, classes, encoder, beside and beside["sha256"], str(path))


def has_network(path: Path, which: Which) -> bool:
    """Whether a checkpoint holds the student, or the teacher: published ones may have one of them only."""
    content = read_checkpoint(path)
    names = [*content, *(content.get("state_dict") or ())]
    return any(name.split(".")[0] in (which, f"sed_{which}") for name in names)


def _own_config(about: Any, path: Path) -> ModelConfig:
    """The settings that a checkpoint of this code carries."""
    try:
        config = ModelConfig(**{key: _tuples(value) for key, value in about["model"].items()})
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: made by another version of this code ({error}); train again") from None
    return replace(config, kind=_with_source(config.kind, about.get("sources", {}), path))


def _with_source(value: Any, sources: Mapping[str, str], path: Path) -> Any:
    """An import path in a checkpoint, with the source that lies beside the checkpoint or in the folder of its run."""
    if ":" not in value:
        return value
    file = f"{value.partition(':')[0]}.py"
    folders = path.absolute().parents[:2]
    own = find(value, next((folder for folder in folders if (folder / file).is_file()), folders[0]))
    if own.digest != (expected := sources.get(own.key)):
        raise UserError(f"{own.file}: its hash is {own.digest}, but {path} was trained with {expected}")
    return own


def _own_encoder(about: Any, sources: Mapping[str, str], recipe: EncoderConfig | None, path: Path) -> EncoderConfig:
    """The settings of the encoder that a checkpoint was trained beside."""
    try:
        own = EncoderConfig(**about["settings"])
        own = replace(own, name=_with_source(own.name, sources, path))
    except (TypeError, KeyError) as error:
        raise UserError(f"{path}: made by another version of this code ({error}); train again") from None
    same = recipe is not None and recipe.name == own.name
    return replace(own, checkpoint=recipe.checkpoint) if recipe is not None and same else own


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
