"""The encoder package as its users meet it: models by name, the table, the benchmark, wrong waveforms."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import common
from common import encoders
from common.encoders.__main__ import main
from common.encoders.speed import PlainAttention, plain
from common.encoders.table import describe
from common.run.errors import UserError

TINY = [name for name in encoders.names() if name.endswith("-tiny")]
# (parameters, multiply-accumulates of a 10 s clip); README of EfficientAT, and the papers' counts for the frame-wise.
PUBLISHED = {
    "mn04": (983_599, 110.6e6),
    "mn10": (4_876_831, 541.1e6),
    "mn20": (17_909_287, 2.06e9),
    "mn40": (68_427_303, 8.03e9),
    "frame_mn06": (1_615_022, 440.9e6),
    "frame_mn10": (3_830_798, 1055e6),
}


def waveform(encoder: encoders.Encoder, seconds: float = 2.0, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(batch, round(seconds * encoder.sample_rate), generator=generator)


# -------------------------------------------------------------------------------------------------------------- models


def test_every_family_has_a_tiny_model() -> None:
    assert (
        sorted(
            f"{family}-tiny"
            for family in (
                *(
                    "passt",
                    "fpasst",
                    "atst-f",
                    "m2d",
                    "asit",
                    "beats",
                    "frame_mn",
                    "mn",
                    "panns",
                    "vggish",
                    "yamnet",
                    "cp-resnet",
                ),
            )
        )
        == TINY
    )


@pytest.mark.parametrize("name", TINY)
def test_outputs_have_the_promised_shapes(name: str) -> None:
    encoder = encoders.create(name)
    assert encoder.name == name
    assert encoder.checkpoint is None
    assert not encoder.training
    with torch.inference_mode():
        out = encoder(waveform(encoder, 3.0))
        again = encoder(waveform(encoder, 3.0), frames=7)
    expected = encoder.num_frames(3 * encoder.sample_rate) or out.frames.shape[1]
    assert out.frames.shape == (2, expected, encoder.embedding_dim)
    assert out.clip.shape == (2, encoder.clip_dim)
    assert again.frames.shape == (2, 7, encoder.embedding_dim)
    if out.frame_logits is not None and out.logits is not None:
        assert out.frame_logits.shape == (2, expected, out.logits.shape[1])
    assert all(value is None or bool(value.isfinite().all()) for value in (*out, *again))
    head = dict(encoder.named_parameters()).get(encoder.head_weight)
    assert (head is None) == (out.logits is None)
    assert head is None or out.logits is None or len(head) == out.logits.shape[1]


@pytest.mark.parametrize("name", [name for name in TINY if name != "vggish-tiny"])
def test_number_of_classes(name: str) -> None:
    for num_classes in (None, 1, 6):
        encoder = encoders.create(name, num_classes=num_classes)
        logits = encoder(waveform(encoder)).logits
        assert (None if logits is None else logits.shape) == (None if num_classes is None else (2, num_classes))


@pytest.mark.parametrize("name", TINY)
def test_wrong_waveforms(name: str) -> None:
    encoder = encoders.create(name)
    good = waveform(encoder)
    broken = good.clone()
    broken[1, 100] = float("nan")
    endless = good.clone()
    endless[0, 5] = float("inf")
    wrong = {
        r"shape \(\d+,\), expected \(batch, samples\)": good[0],
        r"shape \(2, 1, \d+\), expected \(batch, samples\)": good[:, None],
        "type torch.int16, expected floats": (good * 32767).short(),
        "an empty batch": good[:0],
        "0.000 s at .* is too short": good[:, :0],
        "0.010 s at .* is too short": good[:, : encoder.sample_rate // 100],
        "holds NaN or infinity": broken,
        "holds NaN or infinity$": endless,
    }
    for message, given in wrong.items():
        with pytest.raises(UserError, match=message) as error:
            encoder(given)
        assert str(error.value).startswith(f"{name}: ")
        assert "\n" not in str(error.value)
    needed = max(1, encoder.shortest)
    shortest = next(n for n in range(good.shape[1]) if encoder.front_end.num_frames(n) >= needed)
    assert encoder(good[:, :shortest]).clip.isfinite().all()
    assert encoder(good.double()).clip.isfinite().all()


# --------------------------------------------------------------------------------------------------------------- table


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_counts_agree_with_published_ones(name: str) -> None:
    parameters, macs = PUBLISHED[name]
    found = describe(name)
    assert found["parameters"] == parameters
    assert found["macs"] == pytest.approx(macs, rel=2e-3)


def test_attention_is_counted() -> None:
    """ATST-Frame by hand: patches, then in each block qkv, output, MLP, and scores and mixing for all pairs."""
    tokens, dim, depth, classes = 250, 768, 12, 447
    patches, block = tokens * 64 * 4 * dim, tokens * dim * dim * (3 + 1 + 8) + 2 * tokens**2 * dim
    heads = (tokens + 1) * dim * classes
    found = describe("atst-f")
    assert found["macs"] == patches + depth * block + heads
    assert found == found | {"frame_rate": 25.0, "sample_rate": 16000, "longest": 10.0, "embedding_dim": dim}
    assert "ATST-F_strong_1" in found["checkpoints"]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the tiny models."""
    some = {name: encoders.models()[name] for name in TINY}
    monkeypatch.setattr("common.encoders.table.models", lambda: some)


def test_table(few: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    found = json.loads(last)
    assert sorted(found) == TINY
    row = next(line for line in lines if "vggish-tiny" in line)
    assert f"{found['vggish-tiny']['parameters']:,}" in row
    assert f"{found['vggish-tiny']['macs'] / 1e9:.3f}" in row


def test_wrong_words(capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["benchmrk"], "error: unknown verb 'benchmrk'; did you mean 'benchmark'?"),
        (["benchmark", "beat"], "error: unknown encoder 'beat'; did you mean 'beats'?"),
    ):
        assert main(words) == 1
        assert capsys.readouterr().err.strip() == message


# ----------------------------------------------------------------------------------------------------------- benchmark


@pytest.mark.parametrize("name", TINY)
def test_plain_blocks_give_the_same(name: str) -> None:
    """So that the benchmark compares like with like; torchvision's gate is another function, at the same cost."""
    encoder = encoders.create(name)
    other = plain(encoder)
    with torch.inference_mode():
        expected, found = encoder(waveform(encoder)), other(waveform(encoder))
    if not name.endswith("mn-tiny"):
        torch.testing.assert_close(found.frames, expected.frames, rtol=1e-4, atol=1e-4)
    fused = [m for m in other.modules() if getattr(m, "fused_attn", False)]
    assert not fused
    assert any(isinstance(m, PlainAttention) for m in other.modules()) == (name == "beats-tiny")
    assert not any(isinstance(m, PlainAttention) for m in encoder.modules())


def test_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "beats-tiny", "mn-tiny", "--seconds", "0.01", "--json"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    found = json.loads(last)
    assert list(found) == ["beats-tiny", "mn-tiny"]
    for of in found.values():
        assert of.keys() == {"batch 1", "batch 8"}
        assert all(0 < value < 60_000 for times in of.values() for value in times.values())
    assert any("beats-tiny" in line for line in lines)


# ------------------------------------------------------------------------------------------------------------- package


def test_importing_the_package_loads_no_family() -> None:
    """timm and torchvision take seconds; base and checkpoints are imported by all."""
    code = "import common.encoders, sys; print([m for m in ('timm', 'torchvision', 'lightning') if m in sys.modules])"
    root = Path(common.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DCASE_CACHE", str(tmp_path))
    file = tmp_path / "checkpoints" / "mn10_im.pt"
    file.parent.mkdir()
    file.write_bytes(b"weights")
    assert main(["fetch", "mn10_im", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found == {"mn10_im": {"file": str(file), "sha256": hashlib.sha256(b"weights").hexdigest()}}
    assert main(["fetch", "mn10_imm"]) == 1
    assert "mn10_im" in capsys.readouterr().err
