"""Reading and writing of audio files."""

import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from common.audio import reading
from common.run.errors import UserError


def tone(seconds: float = 0.5, sample_rate: int = 16000, hertz: float = 440.0) -> np.ndarray:
    times = np.arange(int(seconds * sample_rate)) / sample_rate
    return (0.5 * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


def fails(path: Path | bytes, *parts: str) -> str:
    """Assert that reading is a one-line UserError that holds `parts`; returns it."""
    with pytest.raises(UserError) as caught:
        reading.read(path)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    if isinstance(path, Path):
        assert str(path) in message
    return message


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(-1.5, 1.5, width=32), min_size=1, max_size=200))
def test_written_wav_comes_back_within_one_step(samples: list[float]) -> None:
    waveform = np.array(samples, dtype=np.float32)
    buffer = io.BytesIO()
    soundfile.write(buffer, reading.to_pcm16(waveform), 16000, format="WAV", subtype="PCM_16")
    back, sample_rate = reading.read(buffer.getvalue())
    assert sample_rate == 16000
    assert back.dtype == np.float32
    assert np.abs(back - np.clip(waveform, -1, 1)).max() <= 1 / 32768


def test_write_wav_clips_and_keeps_pcm_values_exactly(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.wav"
    reading.write_wav(path, [2.0, 1.0, -1.0, -2.0, 1 / 32768, 0.0], 8000)
    back, _ = reading.read(path)
    assert back.tolist() == [32767 / 32768, 32767 / 32768, -1.0, -1.0, 1 / 32768, 0.0]
    assert reading.info(path) == reading.AudioInfo(8000, 1, 6, "WAV", "PCM_16")
    assert reading.info(path).seconds == 6 / 8000
    assert [item.name for item in path.parent.iterdir()] == ["a.wav"]


@pytest.mark.parametrize("waveform", [np.zeros((2, 3)), np.array([0.0, np.nan])])
def test_write_wav_refuses_what_is_no_waveform(tmp_path: Path, waveform: np.ndarray) -> None:
    with pytest.raises(ValueError):
        reading.write_wav(tmp_path / "a.wav", waveform, 16000)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("suffix", "tolerance"), [("wav", 4e-5), ("flac", 4e-5), ("ogg", 0.05), ("mp3", 0.05)])
def test_formats_from_path_and_from_bytes(tmp_path: Path, suffix: str, tolerance: float) -> None:
    path = tmp_path / f"Ton °.{suffix}"
    soundfile.write(path, tone(), 16000)
    waveform, sample_rate = reading.read(path)
    assert sample_rate == 16000
    assert waveform.shape == (8000,)
    assert np.abs(waveform - tone())[500:-500].max() < tolerance
    np.testing.assert_array_equal(reading.read(path.read_bytes())[0], waveform)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_window_is_the_part_of_the_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 40000), 16000)
    whole, _ = reading.read(path)
    for start, frames in [(0, 10), (12345, 1000), (39990, 10), (777, 500), (0, None), (20000, None)]:
        expected = whole[start:] if frames is None else whole[start : start + frames]
        np.testing.assert_array_equal(reading.read(path, start, frames)[0], expected)
    assert len(reading.read(path, 39000, 5000)[0]) == 1000
    with pytest.raises(UserError, match="40000"):
        reading.read(path, 40000)
    with pytest.raises(ValueError, match="negative"):
        reading.read(path, -1)


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.array([[0.5, 0.25], [-0.5, 0.5], [0.0, 1.0]]), 44100, subtype="FLOAT")
    waveform, sample_rate = reading.read(path)
    assert sample_rate == 44100
    assert waveform.tolist() == [0.375, 0.0, 0.5]
    assert waveform.ndim == 1


def test_resampling_keeps_a_tone(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(1.0, 8000), 8000, subtype="FLOAT")
    waveform = reading.load(path, 16000)
    assert waveform.shape == (16000,)
    assert np.abs(waveform - tone(1.0, 16000))[200:-200].max() < 5e-3


@pytest.mark.parametrize(
    ("from_rate", "to_rate"),
    [(44100, 16000), (44100, 32000), (32000, 16000), (44101, 16000), (11127, 16000), (8000, 44101), (192001, 16000)],
)
@pytest.mark.parametrize("samples", [1, 101, 30001])
def test_resampling_is_librosas(from_rate: int, to_rate: int, samples: int) -> None:
    import librosa

    waveform = np.random.default_rng(1).normal(0, 0.1, samples).astype(np.float32)
    ours = reading.resample(waveform, from_rate, to_rate)
    assert ours.dtype == np.float32
    assert len(ours) == reading.resampled_length(samples, from_rate, to_rate)
    expected = librosa.resample(waveform, orig_sr=from_rate, target_sr=to_rate)  # soxr_hq is its default
    np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_file_in_pieces_is_the_whole(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(1.0, 44100), 44100)
    whole, rate = reading.read(path)
    expected = reading.resample(whole, rate, 16000)
    monkeypatch.setattr(reading, "_BLOCK_VALUES", 5000)
    assert max(map(len, reading.blocks(path, 16000))) < 5000
    np.testing.assert_allclose(reading.load(path, 16000), expected, atol=1e-6)
    np.testing.assert_array_equal(reading.load(path.read_bytes(), rate), whole)


@pytest.mark.parametrize(("rate", "minutes"), [(44101, 10), (11127, 10), (192001, 2)])
def test_memory_for_rates_without_common_divisor_is_that_of_a_piece(tmp_path: Path, rate: int, minutes: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(rate * 60 * minutes, np.int16), rate)
    code = (
        "import resource, sys; from common.audio import reading\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak(); samples = sum(len(piece) for piece in reading.blocks(sys.argv[1], 16000))\n"
        "print(samples, (peak() - before) // 1024)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.wav")]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    samples, megabytes = map(int, out.split())
    assert samples == 16000 * 60 * minutes
    assert megabytes < 32


def test_not_found_and_folder(tmp_path: Path) -> None:
    fails(tmp_path / "none.wav", "not found")
    fails(tmp_path, "folder")


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    fails(tmp_path / "a.wav", "0 bytes")
    fails(b"", "0 bytes")


def test_no_samples(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 16000)
    fails(tmp_path / "a.wav", "no samples")


def test_text_with_an_audio_suffix(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("filename\tonset\toffset\n" * 9)
    fails(tmp_path / "a.wav", "wav, flac, ogg or mp3")


def test_header_that_ends_in_the_middle(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), 16000)
    head = (tmp_path / "a.wav").read_bytes()
    for size in (11, 20, 30, 40):
        (tmp_path / "b.wav").write_bytes(head[:size])
        fails(tmp_path / "b.wav")


@pytest.mark.parametrize(("channels", "subtype"), [(1, "PCM_16"), (2, "PCM_24"), (1, "FLOAT")])
def test_truncated_wav_says_what_is_there(tmp_path: Path, channels: int, subtype: str) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([tone()] * channels, axis=1), 16000, subtype=subtype)
    content = path.read_bytes()
    path.write_bytes(content[:9000])
    block = channels * {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}[subtype]
    there = (9000 - content.index(b"data") - 8) // block
    fails(path, "truncated", f"{there} samples", "8000")
    fails(path.read_bytes(), "truncated")


def test_truncated_flac(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 20000), 16000)
    path.write_bytes(path.read_bytes()[:9000])
    fails(path)


def test_wav_of_a_pipe_has_no_size_and_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(), 16000)
    content = bytearray(path.read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = struct.pack("<I", 0xFFFFFFFF)
    content[4:8] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(content)
    assert len(reading.read(path)[0]) == 8000


def test_rf64_is_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(), 16000, format="RF64", subtype="PCM_16")
    assert len(reading.read(path)[0]) == 8000
    path.write_bytes(path.read_bytes()[:-2000])
    fails(path, "truncated", "7000 samples", "8000")


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_samples_that_are_not_finite(tmp_path: Path, value: float, word: str) -> None:
    samples = tone()
    samples[4000] = samples[5000] = value
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    fails(tmp_path / "a.wav", word, "0.2500 s", "2 samples")
    assert len(reading.read(tmp_path / "a.wav", 0, 4000)[0]) == 4000
    with pytest.raises(UserError, match=r"0\.2500 s"):
        reading.read(tmp_path / "a.wav", 3990, 20)


def test_a_stopped_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.wav"
    reading.write_wav(path, tone(), 16000)
    before = path.read_bytes()

    write_bytes = Path.write_bytes

    def stopped(partial: Path, data: bytes) -> int:
        write_bytes(partial, b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", stopped)
    with pytest.raises(KeyboardInterrupt):
        reading.write_wav(path, tone(0.1), 16000)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_import_leaves_torch_out() -> None:
    code = "import sys, common.audio; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
