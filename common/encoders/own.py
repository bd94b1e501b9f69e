"""An own encoder by import path: a class of `Encoder` in a file beside the recipe, or in the working directory."""

import inspect
from pathlib import Path
from typing import Any, Literal

import torch

from common.encoders import checkpoints
from common.encoders.base import Encoder
from common.run.errors import UserError
from common.run.files import sha256
from common.run.imports import as_own, check_shape, load, make, tried

NEEDED = ("embedding_dim", "clip_dim", "step_rate")


def create_own(
    name: str,
    checkpoint: str | Path | None,
    num_classes: int | Literal["published"] | None,
    part: Literal["student", "teacher"],
    options: dict[str, Any],
) -> Encoder:
    """`create` for `module:Name`. Its class gets `options`, and `num_classes` where it asks for it and one is given.

    checkpoint: a local file; None: the weights that the class makes. A second of silence is tried. Raises UserError for
    what is no class of `Encoder`, lacks one of NEEDED, or gives embeddings of other shapes than it says.
    """
    own = as_own(name)
    if not (inspect.isclass(found := load(own)) and issubclass(found, Encoder)):
        raise UserError(f"{own.file}: {own} is no class of common.encoders.Encoder")
    encoder = make(own, options, {} if num_classes == "published" else {"num_classes": num_classes})
    assert isinstance(encoder, Encoder)
    encoder.name, encoder.options = str(own), options
    if missing := [name for name in NEEDED if not hasattr(encoder, name)]:
        raise UserError(f"{own.file}: {own} has no {missing[0]}, which every encoder says of itself")
    out = tried(own, encoder, torch.zeros(1, encoder.sample_rate))
    frames, clip = getattr(out, "frames", None), getattr(out, "clip", None)
    steps = frames.shape[1] if isinstance(frames, torch.Tensor) and frames.dim() == 3 else 1
    check_shape(own, frames, (1, steps, encoder.embedding_dim), "frames (batch, frames, embedding_dim)")
    check_shape(own, clip, (1, encoder.clip_dim), "clip (batch, clip_dim)")
    if checkpoint is not None:
        path = Path(checkpoint)
        checkpoints.load(encoder, checkpoints.read_state(path, part), path)
        encoder.checkpoint = {"name": path.stem, "file": path.name, "sha256": sha256(path)}
    return encoder.eval()
