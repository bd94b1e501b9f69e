"""Numbers of the official code of the AudioSet-strong models, on weights and a waveform made by formulas."""

import importlib
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from common.encoders.transformer import SpectrogramTransformer
from common.tests.transformer_case import published, spell

# names, mel mean and std, mel [0, 0], [F / 2, 250], [F - 1, T - 1], strong mean and std, strong [class, frame]
OFFICIAL: dict[str, tuple[str, str, int, list[float], list[float]]] = {
    "atst-f": (
        *("transformer", "model.atst.", 142),
        [0.160413, 0.116053, 0.41695, 0.12402, 0.20551],
        [-0.076492, 0.953903, -0.06422, -0.20213, -0.25778],
    ),
    "beats": (
        *("beats", "model.model.", 254),
        [0.038714, 0.338467, -0.44162, -0.07016, 0.34497],
        [-0.024030, 0.935865, 0.47731, 0.32691, 0.19326],
    ),
    "fpasst": (
        *("transformer", "model.fpasst.", 163),
        [-0.116493, 0.711070, -2.32362, 0.05900, 0.72768],
        [-0.042456, 0.994700, -0.84611, -0.31321, 0.74322],
    ),
    "m2d": (
        *("transformer", "model.m2d.backbone.", 154),
        [-0.088276, 0.448129, 1.36478, -0.23174, -0.08963],
        [-0.044740, 0.974769, 1.35556, -0.96800, 1.12383],
    ),
    "asit": (
        *("transformer", "model.asit.", 154),
        [-0.057054, 0.390941, -0.75986, -0.23295, 0.36627],
        [-0.016334, 0.949386, 0.19406, -1.52876, -0.53356],
    ),
    "frame_mn06": (
        *("mobilenet", "model.frame_mn.", 266),
        [-0.116974, 0.711153, -2.32362, 0.05782, 0.72746],
        [0.068200, 2.521260, 0.40309, 0.54991, 0.26723],
    ),
    "frame_mn10": (
        *("mobilenet", "model.frame_mn.", 266),
        [-0.116974, 0.711153, -2.32362, 0.05782, 0.72746],
        [0.062243, 4.263110, 0.15999, 4.45670, -1.67565],
    ),
}


def hashed(count: int, index: int) -> np.ndarray:
    """(count,) numbers in [-1, 1) from integers."""
    h = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(1000003 * index)) * np.uint64(2654435761)
    h &= np.uint64(0xFFFFFFFF)
    h ^= h >> np.uint64(16)
    h = (h * np.uint64(2246822519)) & np.uint64(0xFFFFFFFF)
    h ^= h >> np.uint64(13)
    return h.astype(np.float64) / 2.0**31 - 1.0


def chirp() -> Tensor:
    t = np.arange(160000) / 16000
    x = 0.2 * np.sin(2 * np.pi * 440 * t) * ((t >= 2) & (t < 4))
    x += 0.1 * np.sin(2 * np.pi * (200 * t + 150 * t**2)) + 0.02 * hashed(len(t), 0)
    return torch.from_numpy(x.astype(np.float32))[None]


def hashed_state(own: dict[str, Tensor], gain: float) -> dict[str, Tensor]:
    state = {}
    for index, (name, value) in enumerate(sorted(own.items())):
        scale = 0.1 if value.dim() <= 1 else gain / math.sqrt(value[0].numel())
        x = torch.from_numpy((scale * hashed(value.numel(), index)).astype(np.float32)).reshape(value.shape)
        if name.endswith("running_var"):
            x = 1.0 + x.abs()
        elif (x.dim() == 1 and name.endswith(".weight")) or name.endswith(("grep_a", "original0")):
            x = 1.0 + x
        state[name] = x
    shared = [name for name in state if name.endswith("relative_attention_bias.weight")]
    for name in shared:  # one table under the names of all layers: the values of the last
        state[name] = state[max(shared, key=lambda other: int(other.split(".")[4]))]
    return state


def summary(x: Tensor, places: list[tuple[int, int]]) -> list[float]:
    return [float(x.mean()), float(x.std(correction=0)), *(float(x[place]) for place in places)]


def test_the_formulas() -> None:
    x = chirp()[0]
    np.testing.assert_allclose(x[[0, 1, 1000]], [0.0122901, 0.0207974, 0.0422749], atol=1e-7)
    assert float(x.std(correction=0)) == pytest.approx(0.0955749, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", OFFICIAL)
def test_official_numbers(name: str) -> None:
    module, prefix, names, mel_numbers, strong_numbers = OFFICIAL[name]
    encoder = importlib.import_module(f"common.encoders.{module}").MODELS[name]().eval()
    if isinstance(encoder, SpectrogramTransformer):
        body, heads = published(encoder)
    else:
        own = {name: value for name, value in encoder.state_dict().items() if "num_batches" not in name}
        heads = {name: value for name, value in own.items() if name.startswith(encoder.head_names)}
        body = {name: value for name, value in own.items() if name not in heads}
    body.pop("norm_stats", None)
    state = hashed_state(spell(prefix)(body, heads), 2.5 if module == "mobilenet" else 1.7)
    assert len(state) == names
    found = encoder.canonical(state)
    counters = {name: value for name, value in encoder.state_dict().items() if "num_batches" in name}
    encoder.load_state_dict(counters | found)
    with torch.inference_mode():
        mel = encoder.mel(chirp())
        out = encoder.from_mel(mel, frames=250)
    bands = mel.shape[1]
    np.testing.assert_allclose(summary(mel[0], [(0, 0), (bands // 2, 250), (bands - 1, -1)]), mel_numbers, atol=2e-5)
    strong = out.frame_logits[0].T
    np.testing.assert_allclose(summary(strong, [(0, 0), (100, 125), (446, 249)]), strong_numbers, atol=1e-3)
