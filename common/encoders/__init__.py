"""Pre-trained audio encoders: waveform in, frame and clip embeddings out.

encoder = encoders.create("atst-f", checkpoint="ATST-F_strong_1")
out = encoder(waveform)  # Output(frames, clip, logits, frame_logits)
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from common.run.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import torch

    from common.encoders.base import Encoder, Output

__all__ = ["Encoder", "Output", "create", "models", "names"]

# torch is loaded by what makes an encoder: help and typing errors answer at once.
FAMILIES = ("transformer", "beats", "mobilenet", "panns", "vggish", "yamnet", "cp_resnet")


def __getattr__(name: str) -> Any:
    if name in ("Encoder", "Output"):
        return getattr(import_module("common.encoders.base"), name)
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
    return sorted(models())


def create(
    name: str,
    checkpoint: str | Path | None = None,
    num_classes: int | Literal["published"] | None = "published",
    part: Literal["student", "teacher"] = "student",
    **options: Any,
) -> "Encoder":
    """An encoder in evaluation mode, with the weights of `checkpoint`; without one, those that an installed package
    carries where there are such (yamnet), random ones for all other models.

    checkpoint: a name of the catalogue in any case ("ATST-F_strong_1"; fetched at first use), a local file, or an
    address, which may end in `#sha256=...`. num_classes: "published", as many as the checkpoint has (without one, as
    the model was published with); None, no head; a number, a fresh head where the checkpoint has another one. part: of
    files with a student and a teacher. options: of the model's class. `encoder.checkpoint` says which file was loaded.
    `module:Name` as the name is an own class of `Encoder`, with a local file as its checkpoint.

    Raises UserError for an unknown name, a checkpoint of another model, and a file that cannot be had or doesn't fit.
    """
    if ":" in name:
        from common.encoders.own import create_own

        return create_own(name, checkpoint, num_classes, part, options)
    from common.encoders import checkpoints

    if name not in models():
        raise UserError(f"unknown encoder {name!r}{did_you_mean(name, models())}")
    make = models()[name]
    checkpoint = checkpoint or checkpoints.packaged_for(name)
    if checkpoint is None:
        encoder = make(**options) if num_classes == "published" else make(num_classes=num_classes, **options)
        encoder.name = name
        return encoder.eval()
    path, digest, entry = checkpoints.find(checkpoint, name)
    state = checkpoints.read_state(path, part)
    if num_classes == "published":
        num_classes = _classes(make, state, options)
    encoder = make(num_classes=num_classes, **options)
    encoder.name = name
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
