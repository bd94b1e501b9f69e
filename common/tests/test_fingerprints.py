"""Frozen outputs of every encoder on seeded weights and a made-up sound: no model changes unnoticed.

The numbers were frozen while every family met the fixtures of the official systems. After a change that is meant:
`python -m common.tests.test_fingerprints` writes them anew (all, or those of the models named behind it).
"""

import functools
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from common import encoders
from common.frontends import LogMel
from common.run.files import write_text

FROZEN = Path(__file__).with_name("fingerprints.json")
SEED = 2024
SECONDS = 2.0
TOLERANCE = 1e-4  # of the output's root mean square
TABLE = 1_000_003  # prime: no two rows of a weight begin at the same place of it
# Those that the fixtures pin by themselves; the others differ from them in sizes only.
PINNED = (
    *("passt", "fpasst", "atst-f", "m2d", "asit", "beats", "frame_mn06", "frame_mn10", "mn04", "mn10", "mn40"),
    *(
        "mn10-fc-s2221",
        "panns-cnn10",
        "panns-cnn14",
        "vggish",
        "yamnet",
        "cp-resnet-normal-64",
        "cp-resnet-a-bit-larger-128",
    ),
    "cp-resnet-asc22",
)


@functools.cache
def normal_numbers() -> Tensor:
    rng = np.random.Generator(np.random.PCG64(SEED))
    return torch.from_numpy(rng.standard_normal(TABLE, dtype=np.float64)).float()


def seeded(name: str, like: Tensor) -> Tensor:
    """Numbers that the name alone decides: a table of normal ones, read from the place that its checksum names."""
    count = like.numel()
    start = zlib.crc32(name.encode()) % TABLE
    numbers = normal_numbers().roll(-start).repeat(-(-count // TABLE))[:count].reshape(like.shape)
    if like.dim() > 1:
        fan_in = count / len(like) if len(like) > 1 else 100.0  # tables of positions and tokens: 0.1
        return numbers * (2.0 / fan_in) ** 0.5 if like.dim() == 4 else numbers / fan_in**0.5
    around_one = name.endswith(("weight", "running_var"))
    return 1.0 + 0.1 * numbers if around_one else 0.1 * numbers


def sound(sample_rate: int) -> Tensor:
    """A rising tone, beeps and a little noise: (1, samples)."""
    time = np.arange(round(SECONDS * sample_rate)) / sample_rate
    rising = 0.3 * np.sin(2 * np.pi * (200 + 500 * time) * time)
    beeps = 0.1 * np.sin(2 * np.pi * 2100 * time) * (np.sin(2 * np.pi * 3 * time) > 0)
    noise = 0.02 * normal_numbers()[: len(time)].numpy()
    return torch.from_numpy((rising + beeps + noise).astype(np.float32))[None]


def build(name: str) -> encoders.Encoder:
    """The model with seeded weights; built without memory first, since filling it twice takes longer than the test."""
    with torch.device("meta"):
        encoder = encoders.models()[name]()
    encoder.to_empty(device="cpu")
    encoder.front_end = LogMel(encoder.front_end.setting)
    persistent = encoder.state_dict()
    assert all(n in persistent or n.startswith("front_end.") for n, _ in encoder.named_buffers())
    stats = torch.tensor((-7.1, 4.2))
    encoder.load_state_dict(
        {
            n: stats if n == "norm_stats" else seeded(n, v) if v.is_floating_point() else torch.zeros_like(v)
            for n, v in persistent.items()
        }
    )
    return encoder.eval()


def fingerprint(name: str) -> dict[str, dict[str, Any]]:
    """Shape, root mean square and a few numbers of each output."""
    encoder = build(name)
    with torch.inference_mode():
        out = encoder(sound(encoder.sample_rate))
    found = {}
    for field, value in out._asdict().items():
        if value is not None:
            flat = value.flatten().double()
            places = sorted({0, len(flat) // 5, len(flat) // 3, len(flat) // 2, len(flat) - 1})
            numbers = [round(v, 7) for v in flat[places].tolist()]
            found[field] = {"shape": list(value.shape), "rms": round(flat.square().mean().sqrt().item(), 7)}
            found[field]["values"] = numbers
    return found


def frozen() -> dict[str, Any]:
    return json.loads(FROZEN.read_text(encoding="utf-8"))


def cases() -> list[Any]:
    quick = [name for name in encoders.names() if name.endswith("-tiny") or name in PINNED]
    others = [pytest.param(name, marks=pytest.mark.slow) for name in encoders.names() if name not in quick]
    return [*quick, *others]


@pytest.mark.parametrize("name", cases())
def test_fingerprint(name: str) -> None:
    expected, found = frozen()[name], fingerprint(name)
    assert found.keys() == expected.keys()
    for field, of in expected.items():
        assert found[field]["shape"] == of["shape"], field
        near = TOLERANCE * of["rms"]
        assert found[field]["rms"] == pytest.approx(of["rms"], abs=near), field
        assert found[field]["values"] == pytest.approx(of["values"], abs=near), field


def test_all_models_are_frozen() -> None:
    assert sorted(frozen()) == encoders.names()
    assert set(PINNED) <= set(encoders.names())


def test_fingerprints_see_small_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tanh in place of the error function in GELU is far beyond the tolerance."""
    from torch.nn import functional

    expected = fingerprint("beats-tiny")["frames"]
    exact = functional.gelu
    monkeypatch.setattr(functional, "gelu", lambda x: exact(x, approximate="tanh"))
    changed = fingerprint("beats-tiny")["frames"]
    assert np.abs(np.subtract(changed["values"], expected["values"])).max() > TOLERANCE * expected["rms"]


def main(names: list[str]) -> None:
    found = frozen() if FROZEN.exists() else {}
    found |= {name: fingerprint(name) for name in names or encoders.names()}
    lines = [f"{json.dumps(name)}: {json.dumps(found[name])}" for name in encoders.names() if name in found]
    write_text(FROZEN, "{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
