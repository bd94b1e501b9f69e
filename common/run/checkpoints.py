"""Checkpoints of trained runs: found, verified, read without running code, filled into networks."""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from common.run.errors import UserError
from common.run.files import existing_file, sha256
from common.run.results.store import read_results


def checkpoint_of(folder: Path) -> tuple[Path, str]:
    """The model of the finished training in `folder` and the SHA-256 that training recorded. Raises UserError."""
    recorded = read_results(folder) if (folder / "results.json").is_file() else {}
    if "checkpoint" not in recorded:
        raise UserError(f"{folder}: no finished training; `train` makes one")
    values = recorded["checkpoint"]["values"]
    return folder / values["file"], values["sha256"]


def read_checkpoint(path: str | Path, expected_sha256: str | None = None) -> Mapping[str, Any]:
    """The content of a checkpoint file: tensors and plain values, never code.

    Raises UserError for a file that is missing, damaged (its SHA-256 differs from the expected one), or none.
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
    return content


def network_state(content: Mapping[str, Any], prefix: str, path: Path) -> dict[str, Tensor]:
    """The state dict of the network that a system holds as `prefix`. Raises UserError where there is none."""
    whole = content.get("state_dict")
    if not isinstance(whole, Mapping):
        raise UserError(f"{path}: not a checkpoint of a training: no state_dict in it")
    named = {name.replace("_orig_mod.", ""): value for name, value in whole.items()}  # torch.compile's wrapper
    part = {name.removeprefix(f"{prefix}."): value for name, value in named.items() if name.startswith(f"{prefix}.")}
    if not part:
        tops = sorted({name.split(".")[0] for name in named})
        raise UserError(f"{path}: no {prefix} in it; its keys start with {', '.join(tops[:5])}")
    return part


def fill(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """`network` with the weights of `state`, in evaluation mode.

    Raises UserError where names are missing, unexpected or misshapen.
    """
    own = network.state_dict()
    missing, unexpected = own.keys() - state.keys(), state.keys() - own.keys()
    wrong = sorted(name for name in own.keys() & state.keys() if own[name].shape != state[name].shape)
    problems = [
        f"{len(names)} {what} ({_some(sorted(names))})"
        for names, what in ((missing, "keys missing"), (unexpected, "keys unexpected"))
        if names
    ]
    if wrong:
        name = wrong[0]
        shapes = f"{name} is {tuple(state[name].shape)}, expected {tuple(own[name].shape)}"
        problems.append(f"{len(wrong)} misshapen ({shapes})")
    if problems:
        raise UserError(f"{path}: checkpoint of another model: {'; '.join(problems)}")
    network.load_state_dict(dict(state))
    return network.eval()


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
