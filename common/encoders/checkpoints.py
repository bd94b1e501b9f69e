"""Published checkpoints: the catalogue, reading files safely, bringing their names to those of an encoder, loading.

`catalogue.csv` has one row per published file. Nothing that a file holds is executed.
"""

import hashlib
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

from torch import Tensor

from common.encoders import packaged
from common.run.checkpoints import UnreadableError, bare, in_front, read_content, without_front
from common.run.download import checked, fetch
from common.run.errors import UserError, did_you_mean
from common.run.files import existing_file, read_rows

if TYPE_CHECKING:
    from common.encoders.base import Encoder

CATALOGUE = Path(__file__).with_name("catalogue.csv")
COLUMNS = ("name", "model", "file", "address", "sha256", "classes", "licence", "source")
SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".zip")
HEADS = ("strong_head.", "weak_head.")
# Where files keep the names and tensors, beside other things.
STATES = ("state_dict", "model", "model_state_dict")
SYSTEM = "network.encoder."  # where a training of frame-level detection has it, beside a sequence model
DEEPEST = 8  # dictionaries in each other
SHOWN = 3
Part = Literal["student", "teacher"]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A published file. models: names that it fits, none for systems that only hold an encoder among other things.

    address: empty where the file can only be fetched by hand; source: page and remarks.
    """

    name: str
    models: tuple[str, ...]
    file: str
    address: str
    sha256: str
    classes: int | None
    licence: str
    source: str


@cache
def catalogue() -> dict[str, Checkpoint]:
    """All published files by name."""
    rows = read_rows(CATALOGUE, COLUMNS)
    return {
        row["name"]: Checkpoint(
            *(row["name"], tuple(row["model"].split()), row["file"], row["address"], row["sha256"]),
            *(int(row["classes"]) if row["classes"] else None, row["licence"], row["source"]),
        )
        for row in rows
    }


def cached(name: str) -> Path:
    """Where a file lies: `$DCASE_CACHE/checkpoints`, or `~/.cache/dcase-systems/checkpoints`.

    `name`: a file's name, or an address, whose file lies in a folder of its own.
    """
    folder = Path(os.environ.get("DCASE_CACHE") or "~/.cache/dcase-systems").expanduser() / "checkpoints"
    if "://" not in name:
        return folder / name
    file = unquote(urlsplit(name).path).rpartition("/")[2]
    if not file or file in (".", ".."):
        raise UserError(f"{name}: an address that names no file")
    return folder / hashlib.sha256(name.encode()).hexdigest()[:12] / file


def find(checkpoint: str | Path, model: str) -> tuple[Path, str, Checkpoint | None]:
    """`locate`, of the weights of `model`. Raises UserError for a name of another model, too."""
    entry = entry_of(checkpoint)
    if entry is not None and model not in entry.models:
        those = ", ".join(entry.models) or "none of these models: it is a whole system"
        raise UserError(f"checkpoint {entry.name} is for {those}, not for {model}")
    return locate(checkpoint)


def entry_of(checkpoint: str | Path) -> Checkpoint | None:
    """What the catalogue knows under that name, in any case."""
    by_name = {name.casefold(): entry for name, entry in catalogue().items()}
    return None if isinstance(checkpoint, Path) else by_name.get(checkpoint.casefold())


def locate(checkpoint: str | Path) -> tuple[Path, str, Checkpoint | None]:
    """A name of the catalogue (in any case), an address or a local file -> local path, its SHA-256, catalogue entry.

    Fetches what is not there yet. An address may end in `#sha256=...`. Raises UserError for an unknown name, a missing
    file, a failed download, and a file with another SHA-256 than it should have.
    """
    text = str(checkpoint)
    if re.match(r"https?://", text):
        address, _, expected = text.partition("#sha256=")
        path = cached(address)
        return path, fetch(address, path, expected), None
    if (entry := entry_of(checkpoint)) is not None:
        return *have(entry), entry
    path = Path(checkpoint)
    if not path.exists() and isinstance(checkpoint, str) and not path.suffix.startswith(SUFFIXES):
        names = [name.casefold() for name in catalogue()]
        raise UserError(f"unknown checkpoint {text!r}, and no such file{did_you_mean(text.casefold(), names)}")
    return path, checked(existing_file(path, "checkpoint")), None


def have(entry: Checkpoint) -> tuple[Path, str]:
    """Path and SHA-256 of a published file, fetched where it is not there yet, or of an installed package."""
    if entry.address.startswith(packaged.SCHEME):
        return packaged.find(entry.address, entry.sha256), entry.sha256
    path = cached(entry.file)
    return path, fetch(entry.address, path, entry.sha256, entry.source)


def packaged_for(model: str) -> str | None:
    """The checkpoint of a model that a package of the index carries, by name; None for most models."""
    entries = (entry for entry in catalogue().values() if entry.address.startswith(packaged.SCHEME))
    return next((entry.name for entry in entries if model in entry.models), None)


def read_state(path: str | Path, part: Part = "student") -> dict[str, Tensor]:
    """Names and tensors of a checkpoint (.safetensors, torch.save's, ONNX in a .zip), without what is around them.

    part: which one where a file holds a student and a teacher. Raises UserError for a missing, empty, damaged or
    foreign file, and for one that would have to run code.
    """
    path = existing_file(path, "checkpoint")
    try:
        content = packaged.read_onnx(path) if path.suffix == ".zip" else read_content(path)
    except UnreadableError as error:
        raise UserError(f"{path}: {error}") from None
    state = _of_part(_unwrapped(content, part, path), part)
    state = {name.removeprefix(SYSTEM): of for name, of in state.items() if name.startswith(SYSTEM)} or state
    if not state:
        raise UserError(f"{path}: holds no tensors, expected a checkpoint")
    return state


def _unwrapped(content: Any, part: Part, path: Path) -> dict[str, Tensor]:
    for _ in range(DEEPEST):
        if not isinstance(content, Mapping):
            raise UserError(f"{path}: holds a {type(content).__name__}, expected a state dict")
        inner = next((key for key in (part, f"sed_{part}", *STATES) if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = content[inner]
    else:
        raise UserError(f"{path}: more than {DEEPEST} dictionaries in each other, expected a state dict")
    if content and not any(isinstance(value, Tensor) for value in content.values()):
        keys = ", ".join(str(key) for key in list(content)[:8])
        known = ", ".join((part, *STATES))
        raise UserError(f"{path}: no weights at the top or under {known}; found the keys {keys}")
    return bare(content)


def _of_part(state: dict[str, Tensor], part: Part) -> dict[str, Tensor]:
    """Without the other one's tensors, where both stand side by side."""
    words = {name: name.removesuffix(without_front(name)).split(".") for name in state}
    if not any(part in of for of in words.values()):
        return state
    other = "teacher" if part == "student" else "student"
    return {name: value for name, value in state.items() if other not in words[name]}


def without_sequence(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without the sequence model between encoder and heads (`seq_model.*`) that some files have."""
    return {name: value for name, value in state.items() if not without_front(name).startswith("seq_model.")}


def encoder_alone(state: Mapping[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """The same without heads either, which are on the features of the sequence model; it is said."""
    kept = without_sequence(state)
    if len(kept) == len(state):
        return kept
    log.warning("%s: its sequence model and the heads on it are left out", path)
    return {name: value for name, value in kept.items() if not without_front(name).startswith(HEADS)}


def strip_prefix(state: Mapping[str, Tensor], prefixes: Sequence[str], anchor: str) -> dict[str, Tensor]:
    """Names of an encoder without what stands before them in a file.

    The first of `prefixes`, behind whatever wrappers, for which `anchor` is in `state` is taken off. Heads
    (`strong_head.*`, `weak_head.*`) lose their wrappers; all other names stay, and all where no prefix fits.
    """
    state = bare(state)
    for prefix in prefixes:
        wrappers = in_front(state, prefix + anchor)
        if wrappers is not None:
            return {_stripped(name, wrappers + prefix): value for name, value in state.items()}
    return state


def _stripped(name: str, start: str) -> str:
    head = without_front(name)
    return head if head.startswith(HEADS) else name.removeprefix(start)


def load(encoder: "Encoder", state: Mapping[str, Tensor], path: str | Path) -> None:
    """Load the weights of a published file, in the encoder's precision; `path` is for messages.

    Every name and shape has to agree; but batch counters may be missing, a head of another number of classes is left
    out, and a head that the file lacks stays as it is: both are said in the log. Raises UserError for all else.
    """
    found, own = encoder.canonical(state), encoder.state_dict()
    # Those of the class count too: a model without head may keep a hidden layer of it apart from `head_names`.
    heads = {name for name in {**found, **own} if name.startswith(encoder.head_names + type(encoder).head_names)}
    counters = {name for name in {**found, **own} if name.endswith("num_batches_tracked")}
    # Without a head in the encoder, that of the file is not wanted; with other classes, not usable.
    dropped = {n for n in heads & found.keys() if n not in own or _other_classes(found[n], own[n])}
    missing = own.keys() - found.keys() - heads - counters
    unexpected = found.keys() - own.keys() - dropped - counters
    misshapen = {n for n in (own.keys() & found.keys()) - dropped if own[n].shape != found[n].shape}
    problems = [
        _some("missing", missing),
        _some("unexpected", unexpected),
        _some("of another shape", {f"{n} {tuple(found[n].shape)}, not {tuple(own[n].shape)}" for n in misshapen}),
    ]
    if any(problems):
        raise UserError(f"{path}: does not fit {encoder.name}: {'; '.join(filter(None, problems))}")
    fresh = (heads & own.keys()) - counters - (found.keys() - dropped)
    if fresh:
        of_file = found.get(encoder.head_weight)
        why = "no head" if of_file is None else f"a head of {len(of_file)} classes"
        names = ", ".join(sorted(fresh))
        log.warning("%s: has %s for %s: %s start untrained", path, why, encoder.name, names)
    encoder.load_state_dict({n: value for n, value in found.items() if n in own and n not in dropped}, strict=False)


def _other_classes(one: Tensor, other: Tensor) -> bool:
    return one.dim() > 0 and one.shape != other.shape and one.shape[1:] == other.shape[1:]


def _some(what: str, names: set[str]) -> str:
    shown = ", ".join(sorted(names)[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    return f"{len(names)} {what} ({shown})" if names else ""
