"""Checkpoints of this task -> networks: own ones, and the published CRNN checkpoints of the challenge's baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch

from common.errors import UserError
from common.files import existing_file, sha256
from task4_sed.classes import CLASSES
from task4_sed.config import EncoderConfig
from task4_sed.model import CRNN, ModelConfig

Which = Literal["student", "teacher"]


@dataclass(frozen=True)
class Loaded:
    """A network in evaluation mode, the classes of its outputs, and the encoder that belongs beside it.

    `fingerprint` is that of the encoder's weights, where the checkpoint knows it.
    """

    network: CRNN
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
    path = existing_file(path, "checkpoint")
    if expected_sha256 is not None and sha256(path) != expected_sha256:
        raise UserError(f"{path}: SHA-256 differs from the one recorded after training; the file is damaged or another")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = "not a file of tensors that torch.save wrote" if isinstance(error, UnpicklingError) else str(error)
        first = (reason.strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: not a readable checkpoint ({first[:120]})") from None
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: not a checkpoint, holds a {type(content).__name__}")
    state = _state(content, which, path)
    about = content.get("sed")
    if about is not None:
        config = _own_config(about, path)
    elif config is None:
        raise UserError(f"{path}: carries no model settings; give the recipe that it was trained with")
    classes = tuple(about["classes"]) if about else CLASSES
    network = CRNN(config)
    load_state(network, state, path)
    beside = about.get("encoder") if about else None
    if about is None:
        return Loaded(network.eval(), classes, encoder, None, str(path))
    if beside is None:
        return Loaded(network.eval(), classes, path=str(path))
    return Loaded(network.eval(), classes, _own_encoder(beside, encoder, path), beside["sha256"], str(path))


def _own_config(about: Any, path: Path) -> ModelConfig:
    """The settings that a checkpoint of this code carries."""
    try:
        return ModelConfig(**{key: _tuples(value) for key, value in about["model"].items()})
    except (TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: made by another version of this code ({error}); train again") from None


def _own_encoder(about: Any, recipe: EncoderConfig | None, path: Path) -> EncoderConfig:
    """The settings of the encoder that a checkpoint was trained beside."""
    try:
        own = EncoderConfig(**about["settings"])
    except (TypeError, KeyError) as error:
        raise UserError(f"{path}: made by another version of this code ({error}); train again") from None
    same = recipe is not None and recipe.name == own.name
    return replace(own, checkpoint=recipe.checkpoint) if recipe is not None and same else own


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def _state(content: Mapping[str, Any], which: Which, path: Path) -> dict[str, torch.Tensor]:
    """The network's state dict out of the wrappers that exist: Lightning's, and the baseline's sed_student."""
    published = content.get(f"sed_{which}")
    if isinstance(published, Mapping):
        return dict(published)
    whole = content.get("state_dict")
    if not isinstance(whole, Mapping):
        raise UserError(f"{path}: not a checkpoint of this task: neither state_dict nor sed_{which} in it")
    for prefix in (f"{which}.", f"sed_{which}."):
        # torch.compile puts a wrapper's name into the keys
        named = {k.replace("_orig_mod.", ""): v for k, v in whole.items()}
        part = {key.removeprefix(prefix): value for key, value in named.items() if key.startswith(prefix)}
        if part:
            return part
    raise UserError(f"{path}: no {which} in it; its keys start with {', '.join(sorted(_prefixes(whole))[:5])}")


def _prefixes(state: Mapping[str, Any]) -> set[str]:
    return {key.split(".")[0] for key in state}


def load_state(network: torch.nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Load a state dict; a UserError names the keys that are missing, unexpected or misshapen."""
    own = network.state_dict()
    missing, unexpected = own.keys() - state.keys(), state.keys() - own.keys()
    wrong = [k for k in own.keys() & state.keys() if own[k].shape != state[k].shape]
    problems = [
        f"{len(keys)} {what} ({_some(sorted(keys))})"
        for keys, what in ((missing, "keys missing"), (unexpected, "keys unexpected"))
        if keys
    ]
    if wrong:
        key = sorted(wrong)[0]
        problems.append(
            f"{len(wrong)} misshapen ({key} is {tuple(state[key].shape)}, expected {tuple(own[key].shape)})"
        )
    if problems:
        raise UserError(f"{path}: checkpoint of another model: {'; '.join(problems)}")
    network.load_state_dict(dict(state))


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
