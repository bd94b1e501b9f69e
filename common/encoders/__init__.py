"""Pre-trained audio encoders: waveform in, frame and clip embeddings out.

encoder = encoders.create("atst-f", checkpoint="ATST-F_strong_1")
out = encoder(waveform)  # Output(frames, clip, logits, frame_logits)
"""

import inspect
import logging
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from common.run.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import torch

    from common.encoders.base import Encoder, Output
    from common.encoders.exported import export

__all__ = ["RANDOM", "Encoder", "Output", "create", "export", "find", "models", "names"]

log = logging.getLogger(__name__)
RANDOM = "random"
PARTS = {"Encoder": "base", "Output": "base", "export": "exported"}  # of this face: where they are
# torch is loaded by what makes an encoder: help and typing errors answer at once. Module -> its models.
FAMILIES: dict[str, tuple[str, ...]] = {
    "transformer": (
        *("passt", "passt-l", "passt-s12", "passt-s14", "passt-s16", "passt-hop100", "passt-hop160", "passt-20s"),
        *("passt-30s", "passt-fsd50k", "passt-fsd50k-s16", "passt-openmic", "passt-tiny", "fpasst", "fpasst-tiny"),
        *("atst-f", "atst-f-tiny", "m2d", "m2d-tiny", "asit", "asit-tiny"),
    ),
    "beats": ("beats", "beats-tiny"),
    "mobilenet": (
        *("mn01", "mn02", "mn04", "mn05", "mn10", "mn20", "mn30", "mn40", "mn10-hop5", "mn10-hop15", "mn10-hop20"),
        *("mn10-hop25", "mn10-mels40", "mn10-mels64", "mn10-mels256", "mn10-fc", "mn10-fc-s2221", "mn10-fc-s2211"),
        *("frame_mn04", "frame_mn06", "frame_mn10", "frame_mn20", "frame_mn30", "mn-tiny", "frame_mn-tiny"),
    ),
    "panns": ("panns-cnn10", "panns-cnn14", "panns-tiny"),
    "vggish": ("vggish", "vggish-tiny"),
    "yamnet": ("yamnet", "yamnet-whole", "yamnet-tiny"),
    "cp_resnet": (
        *("cp-resnet", "cp-resnet-very-small-64", "cp-resnet-very-small-128", "cp-resnet-a-bit-smaller-64"),
        *("cp-resnet-a-bit-smaller-128", "cp-resnet-normal-64", "cp-resnet-normal-128", "cp-resnet-a-bit-larger-64"),
        *("cp-resnet-a-bit-larger-128", "cp-resnet-normal-16", "cp-resnet-asc22", "cp-resnet-tiny"),
    ),
}


def __getattr__(name: str) -> Any:
    if name in PARTS:
        return getattr(import_module(f"common.encoders.{PARTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def models() -> "dict[str, Callable[..., Encoder]]":
    """All models: a name -> what makes one with random weights, given num_classes and options of the family."""
    found: dict[str, Callable[..., Encoder]] = {}
    for family in FAMILIES:
        found |= import_module(f"common.encoders.{family}").MODELS
    return found


def names() -> list[str]:
    """Names that `create` knows."""
    return sorted(name for of in FAMILIES.values() for name in of)


def is_folder(name: str | Path) -> bool:
    """Whether a folder is meant rather than a model, which may have a folder of its name."""
    return str(name).casefold() not in map(str.casefold, names()) and Path(name).is_dir()


def find(name: str) -> str:
    """The model of a name in any case ("BEATs"). Raises UserError for any other name. Loads nothing."""
    by_name = {known.casefold(): known for known in names()}
    if name.casefold() not in by_name:
        raise UserError(f"unknown encoder {name!r}{did_you_mean(name.casefold(), by_name)}")
    return by_name[name.casefold()]


def create(
    name: str | Path,
    checkpoint: str | Path | None = None,
    num_classes: int | Literal["published"] | None = "published",
    part: Literal["student", "teacher"] = "student",
    **options: Any,
) -> "Encoder":
    """An encoder in evaluation mode, with the weights of `checkpoint`; without one, those that an installed package
    carries where there are such (yamnet), random ones for all other models, which is said.

    name: a model in any case, a folder that `export` wrote, or `module:Name`, an own class of `Encoder` (checkpoint:
    a local file). checkpoint: a name of the catalogue in any case ("ATST-F_strong_1"; fetched at first use), a local
    file, an address, which may end in `#sha256=...`, or "random". num_classes: "published", as many as the checkpoint
    has (without one, as the model was published with); None, no head; a number, a fresh head where the checkpoint has
    another one. part: of files with a student and a teacher. options: of the model's class. `encoder.checkpoint` says
    which file was loaded.

    Raises UserError for an unknown name, a checkpoint of another model, and a file that cannot be had or doesn't fit.
    """
    if isinstance(name, str) and ":" in name and not is_folder(name):
        from common.encoders.own import create_own

        return create_own(name, None if checkpoint == RANDOM else checkpoint, num_classes, part, options)
    from common.encoders import checkpoints

    if checkpoint is None and is_folder(name):
        from common.encoders.exported import read_exported

        network, weights = read_exported(Path(name))
        encoder = create(network.model, weights, num_classes, **(network.options | options))
        encoder.checkpoint = {**(encoder.checkpoint or {}), "name": Path(name).resolve().name}
        return encoder
    name = find(str(name))
    make = models()[name]
    parameters = inspect.signature(make).parameters
    passed_on = any(of.kind is of.VAR_KEYWORD for of in parameters.values())  # to a class that these do not show
    for option in () if passed_on else set(options) - set(parameters):
        raise UserError(f"{name}: a model without the option {option}")
    if checkpoint is None:
        checkpoint = checkpoints.packaged_for(name)
        if checkpoint is None and not name.endswith("-tiny"):
            log.warning("%s: its weights are random: no checkpoint is named", name)
    if checkpoint in (None, RANDOM):
        encoder = make(**options) if num_classes == "published" else make(num_classes=num_classes, **options)
        encoder.name, encoder.options = name, options
        return encoder.eval()
    path, digest, entry = checkpoints.find(checkpoint, name)
    state = checkpoints.encoder_alone(checkpoints.read_state(path, part), path)
    if num_classes == "published":
        num_classes = _classes(make, state, options)
    encoder = make(num_classes=num_classes, **options)
    encoder.name, encoder.options = name, options
    checkpoints.load(encoder, state, path)
    encoder.checkpoint = {"name": entry.name if entry else path.stem, "file": path.name, "sha256": digest}
    return encoder.eval()


def _classes(make: "Callable[..., Encoder]", state: "dict[str, torch.Tensor]", options: dict[str, Any]) -> int | None:
    """Classes of the head in a file; None where it has none."""
    import torch

    with torch.device("meta"):
        model = make(**options)
    weight = model.canonical(state).get(model.head_weight)
    return None if weight is None else len(weight)
