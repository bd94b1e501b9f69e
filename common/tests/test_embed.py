"""Embeddings of anything that sounds: files, arrays, tensors, long recordings; the verb `embed` and its file."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import soundfile
import torch

import common
from common import encoders
from common.encoders import recordings
from common.encoders.__main__ import main
from common.encoders.base import PIECE
from common.run.errors import UserError

ROOT = Path(common.__file__).parents[1]
TINY = [name for name in encoders.names() if name.endswith("-tiny")]
NOISE = np.random.default_rng(0)


def noise(seconds: float, rate: int = 16_000) -> np.ndarray:
    return NOISE.normal(0, 0.1, round(seconds * rate)).astype(np.float32)


# --------------------------------------------------------------------------------------------------------------- names


def test_names_are_those_of_the_families() -> None:
    assert sorted(encoders.models()) == encoders.names()
    for family, names in encoders.FAMILIES.items():
        module = __import__(f"common.encoders.{family}", fromlist=["MODELS"])
        assert set(module.MODELS) == set(names)


def test_a_folder_of_a_models_name_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mn-tiny").mkdir()
    assert encoders.create("mn-tiny").name == "mn-tiny"


def test_names_in_any_case() -> None:
    assert encoders.create("BEATs-Tiny").name == "beats-tiny"
    assert encoders.find("PaSST") == "passt"
    with pytest.raises(UserError, match="unknown encoder 'Beets'; did you mean 'beats'"):
        encoders.create("Beets")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("embed x.wav --model yamnett --out x.npz", "unknown encoder 'yamnett'; did you mean 'yamnet'?"),
        ("embed x.wav --out x.csv", "--out: x.csv, expected a name that ends in .npz or .h5"),
        ("embed x.wav", "embed: --out"),
        ("embed --out x.npz", "embed: no files"),
        ("tags x.wav --model yamnett", "did you mean 'yamnet'?"),
        ("export --push me --out x", "--push: 'me', expected OWNER/NAME"),
        ("export", "export: --out FOLDER"),
    ],
)
def test_wrong_words_are_told_without_torch(words: str, said: str, tmp_path: Path) -> None:
    code = (
        "import sys; from common.encoders.__main__ import main; code = main(sys.argv[1:]); "
        "print('torch' in sys.modules); sys.exit(code)"
    )
    run: dict[str, Any] = {"cwd": tmp_path, "capture_output": True, "text": True, "env": {"PYTHONPATH": str(ROOT)}}
    done = subprocess.run([sys.executable, "-c", code, *words.split()], check=False, **run)
    assert done.returncode == 1, done.stderr
    assert done.stdout == "False\n"
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


# --------------------------------------------------------------------------------------------------------------- input


def test_random_weights_are_said(caplog: pytest.LogCaptureFixture) -> None:
    encoders.create("panns-tiny")
    encoders.create("mn01", checkpoint=encoders.RANDOM)
    assert not caplog.records
    encoders.create("mn01")
    assert [record.getMessage() for record in caplog.records] == [
        "mn01: its weights are random: no checkpoint is named"
    ]


def test_forms_of_input(tmp_path: Path) -> None:
    encoder, samples = encoders.create("mn-tiny"), noise(1.5, 32_000)
    soundfile.write(tmp_path / "x.wav", samples, 32_000, subtype="FLOAT")
    expected = encoder(torch.from_numpy(samples)[None]).clip[0]
    path = tmp_path / "x.wav"
    several = encoder.embed([path, str(path), samples], 32_000)
    assert len(several) == 3
    for out in (
        encoder.embed(path),
        encoder.embed(samples, 32_000),
        encoder.embed(samples.astype(np.float64), 32_000),
        encoder.embed(torch.from_numpy(samples), 32_000),
        *several,
    ):
        assert torch.equal(out.clip, expected)
    assert torch.equal(encoder(samples[None]).clip[0], expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: (x * 32768).astype(np.int16), "array of int16, expected floats in .*divided by 32768"),
        (lambda x: torch.from_numpy(x * 255).to(torch.uint8), "array of uint8, expected floats"),
        (lambda x: np.where(np.arange(len(x)) == 7, np.nan, x), "finite"),
        (lambda x: np.stack([x, x]), r"shape \(2, \d+\), expected \(samples,\)"),
    ],
)
def test_input_that_is_none(change: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        encoders.create("mn-tiny").embed(change(noise(1.0)), 16_000)


def test_integers_into_the_network() -> None:
    encoder = encoders.create("mn-tiny")
    with pytest.raises(UserError, match=r"type torch.int16, expected floats in .*divided by 32768"):
        encoder((noise(1.0)[None] * 32768).astype(np.int16))


def test_loud_samples_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    encoder = encoders.create("mn-tiny")
    encoder(np.full((1, 32_000), 1.4, np.float32))
    assert not caplog.records
    for _ in range(2):
        encoder(noise(1.0)[None] * 32768)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("mn-tiny: samples up to ")


# ------------------------------------------------------------------------------------------------------ long recordings


def test_patches_of_a_long_recording_are_those_of_one_pass() -> None:
    encoder = encoders.create("yamnet-tiny")
    for seconds in (PIECE + 0.01, PIECE + 0.5, 2.3 * PIECE):
        samples = noise(seconds)
        parts = list(encoder.pieces(samples, 16_000))
        whole, out = encoder(samples[None]), encoder.embed(samples, 16_000)
        assert len(parts) == (1 if seconds < PIECE + 0.1 else 2 if seconds < 2 * PIECE else 3)
        torch.testing.assert_close(out.frames, whole.frames[0])
        torch.testing.assert_close(out.clip, whole.clip[0])
        torch.testing.assert_close(out.logits, whole.logits[0])
        torch.testing.assert_close(out.frame_logits, whole.frame_logits[0])


@pytest.mark.parametrize("name", ["beats-tiny", "atst-f-tiny", "mn-tiny"])
def test_long_recordings_in_pieces(name: str) -> None:
    encoder = encoders.create(name)
    seconds = 2 * PIECE + 10.0
    samples = noise(seconds, encoder.sample_rate)
    parts = list(encoder.pieces(samples, encoder.sample_rate))
    assert len(parts) == 3
    out = encoder.embed(samples, encoder.sample_rate)
    assert len(out.frames) == sum(len(part.frames) for part in parts)
    if encoder.frame_rate:  # cut at ends of passes: nothing changes but the last pass, which is not filled up
        with torch.no_grad():
            whole = encoder(samples[None]).frames[0]
        assert len(out.frames) == len(whole) == round(encoder.frame_rate * seconds)
        before = round(encoder.frame_rate * 2 * PIECE)
        torch.testing.assert_close(out.frames[:before], whole[:before], atol=1e-4, rtol=1e-3)
    means = np.average([p.clip.numpy() for p in parts], axis=0, weights=[len(p.frames) for p in parts])
    np.testing.assert_allclose(out.clip.numpy(), means, rtol=1e-4, atol=1e-6)


# ---------------------------------------------------------------------------------------------------------------- verb


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for name, seconds, rate in (("a", 1.0, 44_100), ("b", 2 * PIECE, 8_000), ("é", 0.4, 16_000)):
        soundfile.write(f"in/{name}.wav", noise(seconds, rate), rate)
    return tmp_path


def stored(path: str) -> dict[str, Any]:
    if path.endswith(".npz"):
        with np.load(path) as found:
            return {**found, "about": json.loads(str(found["about"]))}
    with h5py.File(path) as file:
        found = {name: file[name][:] for name in file}
        return {**found, "names": file["names"].asstr()[:], "about": json.loads(file.attrs["about"])}


@pytest.mark.parametrize("suffix", ["npz", "h5"])
@pytest.mark.parametrize("frames", [False, True])
def test_embed(suffix: str, frames: bool, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["embed", "in", "--model", "YAMNet-tiny", "--out", f"x.{suffix}", *(["--frames"] if frames else [])]
    torch.manual_seed(3)
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    found = stored(f"x.{suffix}")
    torch.manual_seed(3)
    encoder = encoders.create("yamnet-tiny")
    outputs = {f"{name}.wav": encoder.embed(f"in/{name}.wav") for name in ("a", "b", "é")}
    assert list(found["names"]) == list(outputs) == told["names"]
    np.testing.assert_allclose(found["seconds"], [1.0, 2 * PIECE, 0.4])
    assert found["embeddings"].dtype == np.float32
    assert list(found["embeddings"].shape) == told["shape"]
    for i, out in enumerate(outputs.values()):
        rows = found["embeddings"][slice(*found["starts"][i : i + 2])] if frames else found["embeddings"][i]
        np.testing.assert_allclose(rows, (out.frames if frames else out.clip).numpy(), atol=1e-6)
    assert found["about"]["encoder"] == "yamnet-tiny"
    assert [path.name for path in sorted(folder.iterdir())] == ["in", f"x.{suffix}"]
    assert main(words) == 0  # its own file is replaced


def test_embed_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(encoders.create("mn-tiny").state_dict(), "mine.pt")
    words = ["embed", "in", "--model", "mn-tiny", "--checkpoint", "mine.pt", "--out"]
    assert main([*words, "whole.npz"]) == 0
    rows, done = recordings._rows, []

    def interrupted(encoder: Any, recording: Any, frames: bool) -> Any:
        if "b.wav" in recording.name:
            raise KeyboardInterrupt
        done.append(recording.name)
        return rows(encoder, recording, frames)

    monkeypatch.setattr(recordings, "_rows", interrupted)
    assert main([*words, "x.npz"]) == 130
    assert "goes on from here" in capsys.readouterr().err
    assert not Path("x.npz").exists()
    assert len(done) == 1
    monkeypatch.setattr(recordings, "_rows", lambda *of: done.append(of[1].name) or rows(*of))
    assert main([*words, "x.npz"]) == 0
    assert sorted(done) == ["in/a.wav", "in/b.wav", "in/é.wav"]
    whole, found = stored("whole.npz"), stored("x.npz")
    for key in ("names", "seconds", "embeddings"):
        np.testing.assert_array_equal(found[key], whole[key])


def test_other_weights_begin_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another encoder has left is not mixed in."""
    monkeypatch.setattr("common.encoders.embeddings._write_npz", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["embed", "in/a.wav", "--model", "mn-tiny", "--out", "x.npz"])
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    torch.manual_seed(1)
    assert main(["embed", "in/a.wav", "--model", "mn-tiny", "--out", "x.npz"]) == 0
    torch.manual_seed(1)
    np.testing.assert_array_equal(
        stored("x.npz")["embeddings"][0], encoders.create("mn-tiny").embed("in/a.wav").clip.numpy()
    )


def test_unreadable_files_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in/broken.wav").write_bytes(b"RIFF")
    words = ["embed", "in", "none.wav", "--model", "mn-tiny", "--out", "x.h5"]
    assert main(words) == 1
    err = capsys.readouterr().err
    assert "2 of 5 files cannot be read" in err
    assert list(stored("x.h5")["names"]) == ["a.wav", "b.wav", "é.wav"]
    assert main(["embed", "none.wav", "--model", "mn-tiny", "--out", "y.h5"]) == 1
    assert not Path("y.h5").exists()


def test_somebody_elses_file_stays(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("x.npz", a=np.ones(1))
    with h5py.File("x.h5", "w") as file:
        file["a"] = 1
    Path("y.npz").write_text("mine")
    Path("z.npz").mkdir()
    for name in ("x.npz", "x.h5", "y.npz", "z.npz", "y.npz/x.npz"):
        before = Path(name).stat().st_mtime_ns if Path(name).exists() else None
        assert main(["embed", "in/a.wav", "--model", "mn-tiny", "--out", name]) == 1
        assert name.split("/")[0] in capsys.readouterr().err
        assert before is None or Path(name).stat().st_mtime_ns == before
