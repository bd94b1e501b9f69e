"""Recordings that a person names: found, heard block by block, skipped and listed where they cannot be read."""

import io
import os
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from common.audio import reading
from common.audio.coverage import Coverage, pack
from common.audio.packs import open_pack
from common.audio.recordings import Recording, beginning, find_recordings, rechunked, resampled, short_names
from common.run.errors import UserError
from common.run.files import read_rows

SECOND = (0.1 * np.sin(np.arange(16_000) / 9)).astype(np.float32)


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32)


def without_length(path: Path) -> Path:
    """A FLAC as a stream writes it: its header leaves the number of samples open."""
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the 36 bits end the second half of STREAMINFO
    content[22:26] = bytes(4)
    path.write_bytes(content)
    return path


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 50), max_size=12), st.integers(1, 40), st.integers(1, 40))
def test_pieces_are_the_same_samples(sizes: list[int], size: int, least: int) -> None:
    samples = np.arange(sum(sizes), dtype=np.float32)
    pieces = list(rechunked(np.split(samples, np.cumsum(sizes)[:-1]) if sizes else [], size, least))
    np.testing.assert_array_equal(np.concatenate([samples[:0], *pieces]), samples)
    assert all(len(piece) == size for piece in pieces[:-1])
    assert len(pieces) < 2 or least <= len(pieces[-1]) < size + least
    np.testing.assert_array_equal(np.concatenate([samples[:0], *beginning(pieces, 7)]), samples[:7])


@pytest.mark.parametrize(("from_rate", "to_rate"), [(44_100, 16_000), (8_000, 16_000), (11_025, 16_000)])
def test_blocks_are_resampled_as_the_whole(from_rate: int, to_rate: int) -> None:
    waveform = noise(int(23.4 * from_rate))
    expected = reading.resample(waveform, from_rate, to_rate)
    for blocks in ([waveform], np.split(waveform, 17 * np.arange(1, 2000))):
        np.testing.assert_allclose(np.concatenate(list(resampled(blocks, from_rate, to_rate))), expected, atol=1e-6)


@pytest.mark.parametrize("suffix", ["flac", "wav", "ogg", "mp3", "aif", "au", "caf", "w64", "opus"])
def test_a_file_is_heard_as_it_is_read(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"x.{suffix}"
    form = {"aif": ("AIFF", "PCM_16"), "opus": ("OGG", "OPUS")}.get(suffix, (suffix.upper(), None))
    soundfile.write(path, np.stack([noise(48_000), noise(48_001)[1:]], axis=1), 16_000, form[1], format=form[0])
    whole, _ = reading.read(path)
    monkeypatch.setattr(reading, "_BLOCK_VALUES", 10_000)
    recording = Recording(path, 16_000)
    for _ in range(2):
        blocks = list(recording)
        assert len(blocks) > 5
        np.testing.assert_array_equal(np.concatenate(blocks), whole)
        assert (recording.samples, recording.seconds) == (len(whole), len(whole) / 16_000)


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    with soundfile.SoundFile(tmp_path / "x.wav", "w", 44_100, 1) as file:
        for _ in range(300):
            file.write(np.zeros(44_100, np.float32))
    next(iter(Recording(tmp_path / "x.wav", 16_000)))  # imports
    tracemalloc.start()
    recording = Recording(tmp_path / "x.wav", 16_000)
    assert sum(len(block) for block in recording) == recording.samples == 300 * 16_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300 * 44_100 * 4 / 2, "less than half of the samples"


def test_a_flac_of_unknown_length(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    soundfile.write(path, noise(70_000), 16_000)
    expected, _ = reading.read(path)
    without_length(path)
    assert soundfile.info(path).frames > 2**40
    for source in (path, path.read_bytes()):
        np.testing.assert_array_equal(reading.read(source)[0], expected)
        np.testing.assert_array_equal(reading.read(source, 69_000, 300)[0], expected[69_000:69_300])
        assert reading.info(source).frames == 70_000
    with pytest.raises(UserError, match="no samples at or after sample 70000"):
        reading.read(path, 70_000)
    done = pack(Coverage((("x", path),), ()), tmp_path / "packed", 16_000, 1, 100)
    assert (done.counts()["broken"], open_pack(tmp_path / "packed").length(0)) == (0, 70_000)


def test_the_reported_flac_of_unknown_length(shared: Path) -> None:
    for path in sorted((shared / "data" / "cases").glob("01*/*.flac")):
        recording = Recording(path, 16_000)
        assert sum(len(block) for block in recording) == len(reading.load(path, 16_000)) > 0


def test_whatever_a_library_raises_is_a_broken_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "good.wav", SECOND, 16_000)
    soundfile.write(tmp_path / "slow.wav", SECOND, 3)
    soundfile.write(tmp_path / "odd.wav", SECOND, 15_999)
    stream = soxr.ResampleStream

    def fails(from_rate: int, *others: object) -> object:
        if from_rate == 15_999:
            raise MemoryError("out of it\nquite")
        return stream(from_rate, *others)

    monkeypatch.setattr(soxr, "ResampleStream", fails)
    name = os.fsdecode(b"caf\xe9.wav")
    (tmp_path / name).write_bytes(b"no audio")
    sources = tuple((file, tmp_path / file) for file in ("good.wav", "odd.wav", "slow.wav", name))
    pack(Coverage(sources, ()), tmp_path / "packed", 16_000, 1, 100)
    assert list(open_pack(tmp_path / "packed").names) == ["good.wav"]
    rows = {row["filename"]: row["reason"] for row in read_rows(tmp_path / "packed.broken.tsv", ("filename", "reason"))}
    assert rows.keys() == {"odd.wav", "slow.wav", r"caf\xe9.wav"}
    assert rows["odd.wav"].endswith("odd.wav: cannot be read (MemoryError: out of it quite)")
    assert "sample rate is 3 Hz, expected 1,000 to" in rows["slow.wav"]
    with pytest.raises(UserError, match=r"odd\.wav: cannot be read \(MemoryError"):
        reading.load(tmp_path / "odd.wav", 16_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What lies in a person's folder."""
    place = tmp_path / "in"
    (place / "x.wav").mkdir(parents=True)
    (place / "__MACOSX").mkdir()
    for name in ("a.WAV", "x.wav/b.aif", "c.opus", "d.w64", os.fsdecode(b"caf\xe9.flac"), "e.mp3"):
        (place / name).touch()
    for name in ("._a.wav", ".DS_Store", "__MACOSX/b.wav", "Thumbs.db", "notes.txt"):
        (place / name).touch()
    os.mkfifo(place / "pipe.wav")
    (place / "gone.flac").symlink_to("nowhere")
    return place


def test_what_is_found_in_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = find_recordings([folder])
    names = [os.fsencode(path.relative_to(folder)) for path in found.files]
    assert names == [b"a.WAV", b"c.opus", b"caf\xe9.flac", b"d.w64", b"e.mp3", b"x.wav/b.aif"]
    assert {Path(file).name for file in found.skipped} == {"pipe.wav", "gone.flac"}
    assert capsys.readouterr().err == f"{folder}: 1 file of another kind left out: notes.txt\n"
    assert [*found.names().values()][-2:] == ["e.mp3", "x.wav/b.aif"]  # from the folder that was named
    twice = find_recordings([folder / "x.wav", folder / "x.wav" / ".." / "x.wav" / "b.aif"])
    assert set(twice.names().values()) == {"b.aif", str(folder / "x.wav" / ".." / "x.wav" / "b.aif")}
    (folder / "more").mkdir()
    with pytest.raises(UserError, match=r"more: no audio in this folder"):
        find_recordings([folder / "more"])
    both = find_recordings([folder / "a.WAV", folder / "more", folder / "a.WAV"])
    assert (both.files, len(both.skipped)) == ([folder / "a.WAV"], 1)


def test_all_that_soundfile_reads_is_found(tmp_path: Path) -> None:
    kinds = {name.lower() for name in soundfile.available_formats()} - {"raw"}
    for kind in (*kinds, "aif", "opus", "AIFC", "snd"):
        (tmp_path / f"x.{kind}").touch()
    assert len(find_recordings([tmp_path]).files) == len(kinds) + 4


def test_what_is_skipped_is_listed_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / f"{name}.wav" for name in "abc"]
    for file in files:
        file.touch()
    found = find_recordings([tmp_path])
    assert found.finish({"n": 3}) == {"n": 3}
    with found.skipping(files[0]):
        reading.read(files[0])
    with pytest.raises(UserError, match=r"a\.wav: empty file .*; the 2 others are done") as error:
        found.finish({"n": 2})
    assert error.value.result == {"n": 2, "skipped": found.skipped}
    for file in files[1:]:
        with found.skipping(file):
            reading.read(file)
    with pytest.raises(UserError, match=r"3 of 3 files cannot be read, the first: .*a\.wav"):
        found.finish({})
    assert capsys.readouterr().err.count("skipped: ") == 3
    with pytest.raises(OSError), found.skipping(files[0]):  # a full disk is no fault of the file
        raise OSError


def test_names_are_as_short_as_they_can_be() -> None:
    files = [Path(name) for name in ("p/a.wav", "p/b.wav", "p/b.aif", "p/q/c.wav", "p/r/c.wav", "p/q-c.wav")]
    assert list(short_names(files).values()) == ["a", "b.wav", "b.aif", "q-c.wav", "r-c.wav", "q-c"]
    assert list(short_names([Path("x.wav"), Path("y.wav")]).values()) == ["x", "y"]


@pytest.mark.parametrize(
    ("array", "rate", "message"),
    [
        (SECOND, None, "an array needs it"),
        (SECOND[None], 16_000, r"\(1, 16000\), expected \(samples,\)"),
        (SECOND * np.nan, 8_000, "finite"),
    ],
)
def test_arrays_that_are_no_recording(array: np.ndarray, rate: int | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Recording(array, 16_000, rate)


def test_an_array_is_heard_as_a_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", SECOND, 8_000, subtype="FLOAT")
    of_file, of_array = Recording(tmp_path / "x.wav", 16_000), Recording(SECOND, 16_000, 8_000)
    np.testing.assert_array_equal(of_file.waveform(), of_array.waveform())


def test_lists_of_recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "in/b.flac", "in/c d.ogg"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    (tmp_path / "list.TXT").write_bytes(b"in\r\n\n a.wav \n\xff.wav\n")
    expected = [Path("in/b.flac"), Path("in/c d.ogg"), Path("a.wav"), Path(os.fsdecode(b"\xff.wav"))]
    assert find_recordings([Path("list.TXT"), Path("a.wav")]).files == expected
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.wav\nin\n")))
    assert find_recordings([Path("-")]).files == [Path("a.wav"), *expected[:2]]
    with pytest.raises(UserError, match=r"gone\.txt: list of recordings not found"):
        find_recordings([Path("gone.txt")])
