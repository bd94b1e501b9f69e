"""Checkpoint files: found in runs, read without running code, taken out of wrappers, filled into networks."""

import hashlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.run.errors import UserError
from common.run.files import existing_file, sha256
from common.run.results.store import recorded
from common.run.verbs import Run

# Words that wrappers put into the names of a network: parallel and averaged ones, compiled ones, anywhere; frameworks
# and distillation, in front.
INSIDE = ("module", "_orig_mod")
IN_FRONT = ("model", "net", "student", "teacher")
_FRONT = rf"(?:(?:{'|'.join(IN_FRONT)})\.)*"


def checkpoint_of(folder: Path, or_else: str = "") -> tuple[Path, str]:
    """The model of the finished training in `folder` and the SHA-256 that training recorded. Raises UserError.

    or_else: what else a user can do where there is none, for the message.
    """
    values = recorded(folder, "checkpoint")
    if values is None:
        raise UserError(f"{folder}: no finished training; `train` makes one{or_else}")
    for key in ("file", "sha256"):
        if not isinstance(values.get(key), str):
            raise UserError(f"{folder / 'results.json'}: checkpoint.{key} is {values.get(key)!r}, expected text")
    return folder / values["file"], values["sha256"]


def training_of(path: Path) -> Path:
    """The folder of the training that wrote a checkpoint. Raises UserError where its recipe is not there."""
    existing_file(path, "checkpoint")
    folder = next((of for of in path.resolve().parents[:2] if (of / "config.yaml").is_file()), None)
    if folder is None:
        raise UserError(f"{path}: no config.yaml of its training beside it or in the folder above")
    return folder


class UnreadableError(ValueError):
    """A file that is no checkpoint, and why."""


def read_content(path: Path) -> Any:
    """What a .safetensors file, or one that torch.save wrote, holds: tensors and plain values, never code.

    Raises UnreadableError.
    """
    if path.stat().st_size == 0:
        raise UnreadableError("empty file, expected a checkpoint")
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise UnreadableError(f"not a whole .safetensors file ({_one_line(error)})") from None


def _read_torch(path: Path) -> Any:
    try:
        modern = zipfile.is_zipfile(path)
    except zipfile.BadZipFile as error:  # it looks at the end of the file, which may be damaged, too
        raise UnreadableError(f"damaged ({_one_line(error)})") from None
    with open(path, "rb") as file:
        head = file.read(24)
    if not modern and head[:4] == b"PK\3\4":
        raise UnreadableError("the end is missing: copy or download it again")
    if head.startswith(b"version https://git-lfs"):
        raise UnreadableError("not a checkpoint but a pointer of Git LFS to one: `git lfs pull` fetches it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on foreign files, which fail or load
            return torch.load(path, map_location="cpu", weights_only=True, mmap=modern)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        if code is None:
            raise UnreadableError("not a checkpoint that torch.save has written") from None
        why = f"holds Python code ({code[1]}) beside weights; if you trust it, save its state_dict alone"
        raise UnreadableError(f"not read: it {why}") from None
    except Exception as error:  # a damaged file fails anywhere in torch
        raise UnreadableError(f"not a checkpoint, or damaged ({_one_line(error)})") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def read_checkpoint(path: str | Path, expected_sha256: str | None = None) -> Mapping[str, Any]:
    """The content of a checkpoint file: tensors and plain values, never code.

    Raises UserError for a file that is missing, damaged (its SHA-256 differs from the expected one), or none.
    """
    path = existing_file(path, "checkpoint")
    if expected_sha256 is not None and sha256(path) != expected_sha256:
        raise UserError(f"{path}: SHA-256 differs from the one recorded after training; the file is damaged or another")
    try:
        content = read_content(path)
    except UnreadableError as error:
        raise UserError(f"{path}: not a readable checkpoint ({error})") from None
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: not a checkpoint, holds a {type(content).__name__}")
    return content


def bare(state: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The tensors of a state dict, their names without the words of parallel, averaged and compiled networks."""
    named = {
        ".".join(word for word in str(name).split(".") if word not in INSIDE): value
        for name, value in state.items()
        if isinstance(value, Tensor)
    }
    named.pop("n_averaged", None)  # a counter of torch's AveragedModel
    return named


def in_front(state: Mapping[str, Tensor], start: str) -> str | None:
    """What frameworks put before `start` in the names of a state dict, the least of it; None: no name has `start`.

    A student's before a teacher's.
    """
    pattern = re.compile(rf"({_FRONT}?){re.escape(start)}")
    found = {match[1] for match in map(pattern.match, state) if match}
    return min(found, key=lambda words: ("teacher." in words, words.count("."), words), default=None)


def without_front(name: str) -> str:
    """A name without all that frameworks put in front."""
    return name[len(re.match(_FRONT, name)[0]) :]  # type: ignore[index]


def network_state(content: Mapping[str, Any], names: str | Sequence[str], path: Path) -> dict[str, Tensor]:
    """The state dict of the network that a system holds under one of `names`, in whatever wrappers it was saved.

    A file of weights alone is that network's own. Raises UserError where there is none.
    """
    names = (names,) if isinstance(names, str) else names
    nested = next((content[name] for name in names if isinstance(content.get(name), Mapping)), None)
    if nested is not None:
        return bare(nested)
    whole = content.get("state_dict")
    state = bare(whole if isinstance(whole, Mapping) else content)
    if not state and whole is None:
        raise UserError(f"{path}: not a checkpoint of this task: neither state_dict nor {names[-1]} in it")
    for name in names:
        before = in_front(state, f"{name}.")
        if before is not None:
            start = f"{before}{name}."
            return {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}
    if whole is None:
        return {without_front(key): value for key, value in state.items()}
    tops = sorted({str(key).split(".")[0] for key in state})
    raise UserError(f"{path}: no {names[0]} in it; its keys start with {', '.join(tops[:5])}")


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


def weights_sha256(module: nn.Module, about: str = "") -> str:
    """SHA-256 over names and values of all weights, wherever they came from, and over `about`."""
    digest = hashlib.sha256(about.encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype};".encode())
        digest.update(value.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def start_of(run: Run, start: str) -> Path:
    """The folder of a recipe's finished training of the same number, with which a run begins. Raises UserError."""
    folder = run.folder.parent.parent / start / run.folder.name
    if recorded(folder, "checkpoint") is None:
        make = f"make {run.task.name.partition('_')[0]}-train RECIPE={start}"
        raise UserError(f"start: {folder} has no finished training; first: {make}")
    return folder
