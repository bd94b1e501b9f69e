"""Packs of clips: writing, going on after a stop, reading, damage."""

import errno
import io
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from common.audio import packing, packs, reading, shards
from common.run import hdf5
from common.run.errors import UserError
from common.tests.helpers import partial_name

Sources = list[tuple[str, Path]]


def make_sources(folder: Path, clips: int = 7, suffix: str = "wav", sample_rate: int = 16000) -> Sources:
    """Noise of different lengths, names with letters beyond ASCII."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(clips)
    sources = []
    for i in range(clips):
        path = folder / f"{i}.{suffix}"
        soundfile.write(path, rng.uniform(-0.9, 0.9, 2000 + 100 * i), sample_rate)
        sources.append((f"Vögel/鳥 {i}", path))
    return sources


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return make_sources(tmp_path / "audio")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fails(action: Callable[[], Any], *parts: str) -> None:
    with pytest.raises(UserError) as caught:
        action()
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


@settings(deadline=None, max_examples=12)
@given(st.lists(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=60), min_size=1, max_size=5), st.data())
def test_round_trip_within_one_step(waveforms: list[list[float]], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        listed = []
        for i, samples in enumerate(waveforms):
            path = Path(folder) / f"{i}.wav"
            soundfile.write(path, np.array(samples, dtype=np.float32), 16000, subtype="FLOAT")
            listed.append((str(i), path))
        packing.write_pack(Path(folder) / "pack", listed, 16000, clips_per_shard=2)
        pack = packs.open_pack(Path(folder) / "pack", 16000)
        assert pack.lengths.tolist() == [len(samples) for samples in waveforms]
        for i, samples in enumerate(waveforms):
            assert np.abs(pack.read(i) - np.array(samples, dtype=np.float32)).max() <= 1 / 32768
            start = data.draw(st.integers(0, len(samples)))
            frames = data.draw(st.integers(0, 70))
            np.testing.assert_array_equal(pack.read(i, start, frames), pack.read(i)[start : start + frames])


@pytest.mark.parametrize("compression", [None, "lzf", "gzip"])
def test_16_bit_files_come_back_exactly(tmp_path: Path, sources: Sources, compression: Any) -> None:
    report = packing.write_pack(tmp_path / "p", sources, 16000, clips_per_shard=3, compression=compression)
    pack = packs.open_pack(tmp_path / "p")
    assert (report.clips, report.shards_written, report.shards_kept, report.skipped) == (7, 3, 0, ())
    assert report.seconds == sum(2000 + 100 * i for i in range(7)) / 16000
    assert (len(pack), pack.sample_rate, pack.storage) == (7, 16000, "pcm16")
    assert list(pack.names) == [name for name, _ in sources]
    assert pack.names[2:4] == [sources[2][0], sources[3][0]]
    assert pack.names[-1] == sources[6][0]
    assert pack.verify() == []
    for i, (name, path) in enumerate(sources):
        assert pack.index_of(name) == i
        assert name in pack
        np.testing.assert_array_equal(pack.read(i), reading.read(path)[0])
    assert "no such clip" not in pack
    fails(lambda: pack.index_of("no such clip"), "no such clip", str(tmp_path / "p"))


def test_windows_of_many_clips(tmp_path: Path, sources: Sources) -> None:
    packing.write_pack(tmp_path / "p", sources, 16000, clips_per_shard=2)
    pack = packs.open_pack(tmp_path / "p")
    numbers, starts = [6, 0, 3, 0], [100, 0, 2300, 1990]
    windows = pack.read_many(numbers, starts, 1500)
    assert windows.shape == (4, 1500)
    assert windows.dtype == np.float32
    for window, number, start in zip(windows, numbers, starts, strict=True):
        expected = pack.read(number)[start : start + 1500]
        np.testing.assert_array_equal(window[: len(expected)], expected)
        assert not window[len(expected) :].any()
    np.testing.assert_array_equal(pack.read_many(numbers, 5, 10)[1], pack.read(0, 5, 10))
    out = np.full(2500, 9, dtype=np.float32)
    assert pack.read_into(1, out, 100) == 2000
    assert not out[2000:].any()
    with pytest.raises(IndexError, match="0 to 6"):
        pack.read(7)
    with pytest.raises(IndexError):
        pack.read(-1)
    with pytest.raises(ValueError, match="beyond"):
        pack.read(0, 2001)
    with pytest.raises(ValueError, match="negative"):
        pack.read_many([0], -1, 5)


def test_few_shards_stay_open(tmp_path: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "_OPEN_SHARDS", 2)
    packing.write_pack(tmp_path / "p", sources, 16000, clips_per_shard=1)
    pack = packs.open_pack(tmp_path / "p")
    for i in [0, 1, 2, 0, 3, 6, 5, 0]:
        np.testing.assert_array_equal(pack.read(i), reading.read(sources[i][1])[0])
    links = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert sum(str(tmp_path) in link and link.endswith(".h5") for link in links) == 2


def test_resampled_at_packing_like_load(tmp_path: Path) -> None:
    listed = make_sources(tmp_path / "audio", 2, "flac", 44100)
    packing.write_pack(tmp_path / "p", listed, 16000)
    pack = packs.open_pack(tmp_path / "p")
    expected = reading.load(listed[1][1], 16000)
    assert json.loads((tmp_path / "p/pack.json").read_text())["resampling"] == "soxr_hq"
    assert pack.length(1) == len(expected)
    assert np.abs(pack.read(1) - np.clip(expected, -1, 1)).max() <= 1 / 32768
    fails(lambda: packs.open_pack(tmp_path / "p", 32000), "16000 Hz", "32000 Hz", "prepare")


def test_a_pack_of_another_resampling_is_made_anew(tmp_path: Path) -> None:
    listed = make_sources(tmp_path / "audio", 2, "flac", 44100)
    packing.write_pack(tmp_path / "p", listed, 16000)
    record = tmp_path / "p/pack.json"
    record.write_text(record.read_text().replace("soxr_hq", "hann"))
    fails(lambda: packs.open_pack(tmp_path / "p"), "pack.json", "resampled by hann", "soxr_hq", "prepare again")
    packing.write_pack(tmp_path / "p", listed, 16000)
    assert len(packs.open_pack(tmp_path / "p")) == 2


@pytest.mark.parametrize("suffix", ["wav", "mp3", "ogg"])
def test_encoded_pack_holds_the_files(tmp_path: Path, suffix: str) -> None:
    listed = make_sources(tmp_path / "audio", 5, suffix, 32000)
    report = packing.write_pack(tmp_path / "p", listed, 16000, "encoded", clips_per_shard=2)
    pack = packs.open_pack(tmp_path / "p")
    assert report.seconds == pack.lengths.sum() / 16000
    for i, (_, path) in enumerate(listed):
        expected = reading.load(path, 16000)
        np.testing.assert_array_equal(pack.read(i), expected)
        assert pack.length(i) == len(expected)
        np.testing.assert_array_equal(pack.read(i, 300, 200), expected[300:500])
    assert pack.read_many([4, 1], [0, 700], 600).shape == (2, 600)
    with h5py.File(tmp_path / "p" / "00000.h5") as file:
        assert file["encoded"][1].tobytes() == listed[1][1].read_bytes()
    assert pack.verify() == []


def test_more_processes_make_the_same_pack(tmp_path: Path, sources: Sources) -> None:
    seen: list[tuple[int, int]] = []
    packing.write_pack(tmp_path / "one", sources, 16000, clips_per_shard=2)
    packing.write_pack(
        tmp_path / "two", sources, 16000, clips_per_shard=2, workers=2, progress=lambda *x: seen.append(x)
    )
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert seen[0] == (0, 7)
    assert seen[-1] == (7, 7)
    broken = tmp_path / "broken.wav"
    broken.write_text("text")
    fails(lambda: packing.write_pack(tmp_path / "two", [*sources, ("b", broken)], 16000, workers=2), str(broken))


@pytest.mark.parametrize("storage", ["pcm16", "encoded"])
def test_stopped_packing_goes_on(
    tmp_path: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch, storage: Any
) -> None:
    packing.write_pack(tmp_path / "whole", sources, 16000, storage, clips_per_shard=2)
    prepare = shards._prepare

    def stop(source: Path, chosen: shards.Settings) -> Any:
        if Path(source) == sources[5][1]:
            raise KeyboardInterrupt
        return prepare(source, chosen)

    monkeypatch.setattr(shards, "_prepare", stop)
    with pytest.raises(KeyboardInterrupt):
        packing.write_pack(tmp_path / "p", sources, 16000, storage, clips_per_shard=2)
    assert sorted(contents(tmp_path / "p")) == ["00000.h5", "00001.h5"]
    fails(lambda: packs.open_pack(tmp_path / "p"), "pack.json", "prepare")
    monkeypatch.undo()
    (tmp_path / "p" / partial_name("00002", 999999999, ".h5")).write_bytes(b"of a process that was killed")
    alive = tmp_path / "p" / partial_name("00003", os.getppid(), ".h5")
    alive.write_bytes(b"of one that still runs")
    before = (tmp_path / "p" / "00000.h5").stat().st_mtime_ns
    report = packing.write_pack(tmp_path / "p", sources, 16000, storage, clips_per_shard=2)
    assert (report.shards_kept, report.shards_written) == (2, 2)
    assert (tmp_path / "p" / "00000.h5").stat().st_mtime_ns == before
    alive.unlink()
    assert contents(tmp_path / "p") == contents(tmp_path / "whole")


def test_packing_again_makes_only_what_changed(tmp_path: Path, sources: Sources) -> None:
    folder = tmp_path / "p"

    def pack(listed: Sources, sample_rate: int = 16000) -> tuple[int, int]:
        report = packing.write_pack(folder, listed, sample_rate, clips_per_shard=2)
        assert [path for path in folder.iterdir() if path.name.startswith(".")] == []
        assert packs.open_pack(folder).verify() == []
        return report.shards_kept, report.shards_written

    assert pack(sources) == (0, 4)
    first = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert pack(sources) == (4, 0)
    assert first == {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    soundfile.write(sources[2][1], np.full(50, 0.25), 16000)
    assert pack(sources) == (3, 1)
    assert packs.open_pack(folder).read(2).tolist() == [0.25] * 50
    (folder / "00000.h5").write_bytes((folder / "00000.h5").read_bytes()[:3000])
    assert pack(sources) == (3, 1)
    (folder / "00003.h5").write_text("something else")
    assert pack(sources) == (3, 1)
    (folder / "names.npy").unlink()
    assert pack(sources) == (4, 0)
    assert pack(sources[:3]) == (1, 1)
    assert sorted(path.name for path in folder.glob("*.h5")) == ["00000.h5", "00001.h5"]
    assert pack(sources[:3], 8000) == (0, 2)


def test_broken_sources_stop_or_are_reported(tmp_path: Path, sources: Sources) -> None:
    broken, missing = tmp_path / "broken.wav", tmp_path / "missing.wav"
    broken.write_text("no audio")
    listed = [*sources[:3], ("broken", broken), ("missing", missing), *sources[3:]]
    fails(lambda: packing.write_pack(tmp_path / "p", listed, 16000, clips_per_shard=3), str(broken))
    for _ in range(2):  # a kept shard reports the same
        report = packing.write_pack(tmp_path / "p", listed, 16000, clips_per_shard=3, on_error="skip")
        assert [name for name, _ in report.skipped] == ["broken", "missing"]
        assert str(broken) in report.skipped[0][1]
        assert "not found" in report.skipped[1][1]
        pack = packs.open_pack(tmp_path / "p")
        assert list(pack.names) == [name for name, _ in sources]
        np.testing.assert_array_equal(pack.read(4), reading.read(sources[4][1])[0])
    fails(lambda: packing.write_pack(tmp_path / "p", listed, 16000, clips_per_shard=3), str(broken))
    soundfile.write(missing, np.zeros(9), 16000)
    report = packing.write_pack(tmp_path / "p", listed, 16000, clips_per_shard=3, on_error="skip")
    assert [name for name, _ in report.skipped] == ["broken"]
    fails(
        lambda: packing.write_pack(tmp_path / "q", [("broken", broken)], 16000, on_error="skip"),
        "none of 1",
        str(broken),
    )


def test_a_shard_of_broken_sources_only(tmp_path: Path, sources: Sources) -> None:
    broken = tmp_path / "broken.wav"
    broken.touch()
    listed = [("a", broken), ("b", broken), *sources]
    packing.write_pack(tmp_path / "p", listed, 16000, clips_per_shard=2, on_error="skip")
    pack = packs.open_pack(tmp_path / "p")
    assert len(pack) == 7
    np.testing.assert_array_equal(pack.read(0), reading.read(sources[0][1])[0])


def test_wrong_lists_and_choices(tmp_path: Path, sources: Sources) -> None:
    folder = tmp_path / "p"
    fails(lambda: packing.write_pack(folder, [], 16000), "no audio files")
    twice = [*sources, (sources[1][0], sources[2][1])]
    fails(lambda: packing.write_pack(folder, twice, 16000), sources[1][0], str(sources[1][1]), str(sources[2][1]))
    fails(lambda: packing.write_pack(folder, [("", sources[0][1])], 16000), "name")
    storage: Any = "pcm"
    fails(lambda: packing.write_pack(folder, sources, 16000, storage), "did you mean 'pcm16'")
    assert not folder.exists()
    folder.write_text("a file")
    fails(lambda: packing.write_pack(folder, sources, 16000), str(folder), "is a file")


def test_clipped_samples_are_counted(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([0.0, 1.5, -1.25, 1.0, -1.0]), 16000, subtype="FLOAT")
    for _ in range(2):
        report = packing.write_pack(tmp_path / "p", [("a", tmp_path / "a.wav")], 16000)
        assert report.clipped_samples == 2
    assert packs.open_pack(tmp_path / "p").read(0).tolist() == [0, 32767 / 32768, -1, 32767 / 32768, -1]


def test_full_disk_leaves_no_half_files(tmp_path: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    class SmallDisk(io.FileIO):
        def write(self, data: Any) -> int:
            if self.tell() + len(data) > 9000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    folder = tmp_path / "p"
    packing.write_pack(folder, sources[:2], 16000, clips_per_shard=2)
    kept = contents(folder)["00000.h5"]
    opened = lambda path, mode, **_: SmallDisk(path, "w+") if mode == "wb+" else open(path, mode)  # noqa: E731, SIM115
    monkeypatch.setattr(hdf5, "open", opened, raising=False)
    fails(lambda: packing.write_pack(folder, sources, 16000, clips_per_shard=2), "no space left", "00001.h5")
    assert contents(folder).keys() == {"00000.h5", "index.npy", "names.npy", "lookup.npy"}
    monkeypatch.undo()

    def short(file: Any, table: np.ndarray, **_: Any) -> None:
        raise OSError("7 requested and 3 written")

    monkeypatch.setattr(np.lib.format, "write_array", short)
    fails(lambda: packing.write_pack(folder, sources, 16000, clips_per_shard=2), "no space left", str(folder))
    monkeypatch.undo()
    assert packing.write_pack(folder, sources, 16000, clips_per_shard=2).shards_kept == 4
    assert contents(folder)["00000.h5"] == kept


def test_full_disk_does_not_crash_hdf5(tmp_path: Path, sources: Sources) -> None:
    """With a real limit on file sizes, in a process of its own, because HDF5 would end it with a segmentation fault."""
    code = f"""
import resource
from common.audio import packing
from common.run import hdf5
from common.run.errors import UserError
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    packing.write_pack({str(tmp_path / "p")!r}, {[(name, str(path)) for name, path in sources]!r}, 16000)
except UserError as error:
    print(error)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "no space left" in done.stdout
    assert list((tmp_path / "p").iterdir()) == []


def test_damage_is_named(tmp_path: Path, sources: Sources) -> None:
    folder = tmp_path / "p"
    packing.write_pack(folder, sources, 16000, clips_per_shard=3)
    shard, content = folder / "00001.h5", (folder / "00001.h5").read_bytes()
    with h5py.File(shard) as file:
        place = file["samples"].id.get_chunk_info(0).byte_offset
    flipped = bytearray(content)
    flipped[place] ^= 1
    shard.write_bytes(flipped)
    assert [line.split(":")[0] for line in packs.open_pack(folder).verify()] == [str(shard)]
    shard.unlink()
    fails(lambda: packs.open_pack(folder), str(shard), "not found", "prepare")
    assert packing.write_pack(folder, sources, 16000, clips_per_shard=3).shards_written == 1
    assert shard.read_bytes() == content
    shard.write_bytes(content[:-100])
    fails(lambda: packs.open_pack(folder), str(shard), "damaged", "prepare")
    shard.write_bytes(b"x" * len(content))
    fails(lambda: packs.open_pack(folder).read(3), str(shard), "prepare")
    shard.write_bytes(content)
    (folder / "lookup.npy").write_bytes(b"x" * 90)
    fails(lambda: packs.open_pack(folder), "lookup.npy", "prepare")
    packing.write_pack(folder, sources, 16000, clips_per_shard=3)
    np.save(folder / "lookup.npy", np.load(folder / "lookup.npy") + np.array([[0], [100]], np.uint64))
    fails(lambda: packs.open_pack(folder).index_of(sources[0][0]), "lookup.npy", "prepare")
    np.save(folder / "index.npy", np.full_like(np.load(folder / "index.npy"), -5))
    fails(lambda: packs.open_pack(folder).read(2), "index.npy", "prepare")
    np.save(folder / "index.npy", np.zeros(7))
    fails(lambda: packs.open_pack(folder), "index.npy", "prepare")


def test_a_shard_that_is_shorter_than_the_index_says(tmp_path: Path, sources: Sources) -> None:
    folder = tmp_path / "p"
    packing.write_pack(folder, sources, 16000)
    index = np.load(folder / "index.npy")
    index["start"][6] += 10**6
    np.save(folder / "index.npy", index)
    pack = packs.open_pack(folder)
    fails(lambda: pack.read(6), "00000.h5", "prepare")
    assert [line.split(":")[0] for line in pack.verify()] == [str(folder / "index.npy")]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"version": 99}, "99"),
        ({"format": "a picture"}, "not the description of a pack"),
        ({"storage": "pcm8"}, "do not fit"),
        ({"clips": 8}, "do not fit"),
        ({"shards": None}, "do not fit"),
        ({"sample_rate": 0}, "do not fit"),
    ],
)
def test_foreign_descriptions(tmp_path: Path, sources: Sources, change: dict[str, Any], part: str) -> None:
    path = tmp_path / "p" / "pack.json"
    packing.write_pack(tmp_path / "p", sources, 16000)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    fails(lambda: packs.open_pack(tmp_path / "p"), str(path), part, "prepare")
    assert packing.write_pack(tmp_path / "p", sources, 16000).clips == 7
    assert packs.open_pack(tmp_path / "p").verify() == []


def test_not_a_pack(tmp_path: Path) -> None:
    fails(lambda: packs.open_pack(tmp_path / "none"), "not found", "prepare")
    fails(lambda: packs.open_pack(tmp_path), "pack.json", "prepare")
    (tmp_path / "a.hdf").write_text("text")
    fails(lambda: packs.open_pack(tmp_path / "a.hdf"), "a.hdf", "HDF5")
    with h5py.File(tmp_path / "b.hdf", "w") as file:
        file["mp3"] = [1]
    fails(lambda: packs.open_pack(tmp_path / "b.hdf"), "b.hdf", "audio_name")


def test_names_with_the_same_hash(tmp_path: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "hash_names", lambda names: np.full(len(names), 5, dtype=np.uint64))
    monkeypatch.setattr(packs, "hash_names", shards.hash_names)
    packing.write_pack(tmp_path / "p", sources, 16000)
    pack = packs.open_pack(tmp_path / "p")
    assert pack.indices_of([name for name, _ in sources]).tolist() == list(range(7))
    fails(lambda: pack.index_of("another"), "another")


def checksum(pack: packs.Pack, i: int) -> tuple[int, float, int]:
    return os.getpid(), float(np.abs(pack.read(i)).sum()), pack.index_of(pack.names[i])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_many_processes_read_one_pack(tmp_path: Path, sources: Sources, method: str) -> None:
    packing.write_pack(tmp_path / "p", sources, 16000, clips_per_shard=2)
    pack = packs.open_pack(tmp_path / "p")
    expected = [checksum(pack, i)[1] for i in range(7)]  # files are open here when the others start
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as executor:
        results = list(executor.map(checksum, [pack] * 28, list(range(7)) * 4))
    assert [result[1] for result in results] == expected * 4
    assert [result[2] for result in results] == list(range(7)) * 4
    assert os.getpid() not in {result[0] for result in results}
    assert len(pickle.dumps(pack)) < 5000


def community_pack(path: Path, listed: Sources, names: Any) -> Path:
    with h5py.File(path, "w") as file:
        mp3 = file.create_dataset("mp3", (len(listed),), h5py.vlen_dtype(np.uint8))
        for i, (_, source) in enumerate(listed):
            mp3[i] = np.frombuffer(source.read_bytes(), dtype=np.uint8)
        file["audio_name"] = names
        file["target"] = np.zeros((len(listed), 66), dtype=np.uint8)
    return path


@pytest.mark.parametrize("fixed", [True, False])
def test_community_packs_are_read_alike(tmp_path: Path, fixed: bool) -> None:
    listed = make_sources(tmp_path / "audio", 6, "mp3", 32000)
    names: Any = [f"eval_segments/Yab-_.{i}.mp3" for i in range(6)]
    path = community_pack(tmp_path / "eval_mp3.hdf", listed, np.array(names, dtype="S") if fixed else names)
    pack = packs.open_pack(path)
    assert (len(pack), pack.sample_rate, pack.storage) == (6, 32000, "encoded")
    assert list(pack.names) == [f"Yab-_.{i}" for i in range(6)]
    assert pack.index_of("Yab-_.4") == 4
    assert pack.lengths.tolist() == [2000 + 100 * i for i in range(6)]
    np.testing.assert_array_equal(pack.read(3, 50, 500), reading.read(listed[3][1])[0][50:550])
    resampled = pickle.loads(pickle.dumps(packs.open_pack(path, 16000)))
    assert resampled.length(3) == 1150
    np.testing.assert_array_equal(resampled.read(3), reading.load(listed[3][1], 16000))
    assert resampled.read_many([5, 0], 100, 1300).shape == (2, 1300)
    assert pack.verify() == []
    with pytest.raises(ValueError, match="beyond"):
        pack.read(0, 2001)


def test_community_pack_with_a_broken_clip(tmp_path: Path) -> None:
    listed = make_sources(tmp_path / "audio", 3, "mp3", 32000)
    listed[1][1].write_bytes(b"not an mp3" * 50)
    pack = packs.open_pack(community_pack(tmp_path / "a.h5", listed, ["Ya.mp3", "Yb.mp3", "Yc.mp3"]))
    fails(lambda: pack.read(1), "a.h5", "Yb")
    assert len(pack.verify()) == 1
    (tmp_path / "c.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:4000])
    fails(lambda: packs.open_pack(tmp_path / "c.h5"), "c.h5", "damaged")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["mp3"] = np.zeros(3)
        file["audio_name"] = ["a", "b"]
    fails(lambda: packs.open_pack(tmp_path / "b.h5"), "b.h5", "3 clips", "2 names")


def test_memory_script_runs_the_real_reader() -> None:
    command = [
        sys.executable,
        "-m",
        "tests.tools.pack_memory",
        "--clips",
        "3000",
        "--sampled",
        "100",
        "--workers",
        "0",
    ]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "names looked up" in done.stdout
