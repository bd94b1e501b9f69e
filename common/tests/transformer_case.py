"""Small spectrogram transformers, and their states under the names of published files."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from common.encoders.transformer import MODELS, SpectrogramTransformer

FAMILIES = ["passt", "fpasst", "atst-f", "m2d", "asit"]
FRAME_FAMILIES = FAMILIES[1:]


def make(family: str, seed: int = 0, **options: Any) -> SpectrogramTransformer:
    torch.manual_seed(seed)
    encoder = MODELS[f"{family}-tiny"](**options)
    assert isinstance(encoder, SpectrogramTransformer)
    return encoder.eval()


def noise(encoder: SpectrogramTransformer, seconds: float, batch: int = 1, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(batch, round(seconds * encoder.sample_rate), generator=generator)


def published(encoder: SpectrogramTransformer) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The encoder's and the heads' part of the state, as the files call them."""
    body, heads = {}, {}
    for name, value in encoder.state_dict().items():
        if name.startswith(encoder.head_names):
            heads[name] = value
        elif encoder.config.mask_token:
            value = value.flatten(1) if name == "patch_embed.proj.weight" else value
            name = name.replace("patch_embed.proj", "patch_embed.patch_embed").replace("norm.", "norm_frame.")
            body[name.replace(".norm_frame.", ".norm.")] = value
        else:
            body[name] = value
    return body, heads


def spell(prefix: str, before_heads: str | None = "", **more: Tensor) -> Callable[..., dict[str, Tensor]]:
    def spelled(body: dict[str, Tensor], heads: dict[str, Tensor]) -> dict[str, Tensor]:
        state = {f"{prefix}{name}": value for name, value in body.items()}
        state |= {f"{before_heads}{name}": value for name, value in heads.items() if before_heads is not None}
        return state | {name.replace("__", "."): value for name, value in more.items()}

    return spelled
