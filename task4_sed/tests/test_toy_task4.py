"""The toy data set: official layout, valid labels that agree with the audio, the same bytes for the same seed."""

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from common.run.errors import UserError
from common.tests.helpers import fingerprint
from task4_sed.data.annotations import Event, read_durations, read_names, read_soft, read_strong, read_weak
from task4_sed.data.classes import CLASSES, DESED_CLASSES, MAESTRO_CLASSES, MAESTRO_SCORED_CLASSES, SAMPLE_RATE
from task4_sed.data.layout import EXCLUSION_LISTS, SETS
from task4_sed.data.toy.sounds import SCENES, SOURCES
from task4_sed.data.toy.write import write_toy

DESED_NAME = re.compile(r"Y[\w-]{11}_\d+\.\d{3}_\d+\.\d{3}\.wav")
NAMES = {
    "synth_train": re.compile(r"\d+\.wav"),
    "synth_val": re.compile(r"\d+\.wav"),
    "eval_public": re.compile(r"[\w-]{11}_\d+_\d+\.wav"),
    "maestro_train": re.compile(r"[a-z]+_[a-z]+_\d\d-\d{6}-\d{6}\.wav"),
    "maestro_val": re.compile(r"[a-z]+_[a-z]+_\d\d-\d{6}-\d{6}\.wav"),
}
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toy") / "tiny"
    write_toy(root, seed=3, size="tiny")
    return root


def audio_of(root: Path, name: str) -> dict[str, Path]:
    return {path.name: path for path in (root / SETS[name].audio[0]).glob("*.wav")}


def labels_of(root: Path, name: str) -> dict[str, list[Event]]:
    layout = SETS[name]
    read = read_soft if layout.kind == "soft" else read_strong
    durations = read_durations(root / layout.durations[0]) if layout.kind == "strong" and layout.durations else None
    return read(root / layout.annotation[0], CLASSES, durations)


@pytest.mark.parametrize("name", SETS)
def test_every_set_is_there_at_16_khz_under_official_names(tiny: Path, name: str) -> None:
    clips = audio_of(tiny, name)
    assert clips
    pattern = NAMES.get(name, DESED_NAME)
    for file, path in clips.items():
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (SAMPLE_RATE, 1, "PCM_16")
        assert 0 < info.duration <= 10.0
        assert name == "eval24" or pattern.fullmatch(file), file


@pytest.mark.parametrize("name", [name for name, layout in SETS.items() if layout.kind in ("strong", "soft")])
def test_strong_and_soft_labels_are_valid_and_name_the_clips(tiny: Path, name: str) -> None:
    events, clips = labels_of(tiny, name), audio_of(tiny, name)
    assert set(events) <= set(clips)
    assert name.startswith("external") or set(events) == set(clips)  # both external sets share a folder
    for file, of_clip in events.items():
        assert all(e.offset <= soundfile.info(clips[file]).duration + 1e-3 for e in of_clip)
        for label in {e.label for e in of_clip}:
            same = sorted((e.onset, e.offset) for e in of_clip if e.label == label)
            gap = 0.0 if SETS[name].kind == "soft" else 0.199
            assert all(second[0] - first[1] >= gap for first, second in itertools.pairwise(same))


def test_weak_labels_and_durations_fit_the_clips(tiny: Path) -> None:
    weak = read_weak(tiny / SETS["weak"].annotation[0], DESED_CLASSES)
    assert set(weak) == set(audio_of(tiny, "weak"))
    assert all(weak.values())
    for name, layout in SETS.items():
        if layout.durations and layout.kind != "soft":
            clips = audio_of(tiny, name)
            for file, seconds in read_durations(tiny / layout.durations[0]).items():
                assert soundfile.info(clips[file]).duration == pytest.approx(seconds, abs=1e-3)


def test_every_class_occurs_where_it_is_trained_and_scored(tiny: Path) -> None:
    assert set(SOURCES) == set(CLASSES)
    for name in ("synth_train", "devtest"):
        assert {e.label for of_clip in labels_of(tiny, name).values() for e in of_clip} == set(DESED_CLASSES)
    scored = {e.label for of_clip in labels_of(tiny, "maestro_val").values() for e in of_clip if e.confidence > 0.5}
    assert set(MAESTRO_SCORED_CLASSES) <= scored
    soft = [e for of_clip in labels_of(tiny, "maestro_train").values() for e in of_clip]
    assert {e.label for e in soft} <= set(MAESTRO_CLASSES)
    assert any(e.confidence < 0.5 for e in soft)


def test_exclusion_lists_name_clips_that_external_strong_has_too(tiny: Path) -> None:
    external = audio_of(tiny, "external_strong_train")
    for name, path in EXCLUSION_LISTS.items():
        clips = audio_of(tiny, name)
        excluded = set(read_names(tiny / path))
        shared = excluded & set(clips)
        assert shared
        assert excluded - shared  # real lists also name what is not there
        assert len(clips) - len(shared) >= 4
        for file in shared:
            assert external[file].read_bytes() == clips[file].read_bytes()


@pytest.mark.parametrize("name", ["synth_train", "devtest"])
def test_clips_are_louder_inside_of_events_than_outside(tiny: Path, name: str) -> None:
    clips, louder = audio_of(tiny, name), []
    for file, events in labels_of(tiny, name).items():
        waveform, _ = soundfile.read(clips[file], dtype="float32")
        inside = np.zeros(len(waveform), bool)
        for e in events:
            inside[round(e.onset * SAMPLE_RATE) : round(e.offset * SAMPLE_RATE)] = True
        if inside.any() and (~inside).sum() > SAMPLE_RATE // 2:
            power = np.square(waveform, dtype=np.float64)
            louder.append(10 * np.log10(power[inside].mean() / power[~inside].mean()))
    assert len(louder) >= 3
    assert min(louder) > 3  # the quietest event lies 5 dB above the background, on average


def test_same_seed_same_bytes_other_seed_other_bytes(tiny: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    write_toy(tmp_path / "again", seed=3, size="tiny", progress=lambda done, total: calls.append((done, total)))
    again = fingerprint(tmp_path / "again")
    assert again == fingerprint(tiny)
    count = sum(name.endswith(".wav") for name in again)
    # The two external sets share a folder; every file is counted once.
    assert calls == [(number, count) for number in range(1, count + 1)]
    write_toy(tmp_path / "other", seed=4, size="tiny")
    other = fingerprint(tmp_path / "other")
    synthetic = f"{SETS['synth_train'].audio[0]}/0.wav"
    assert other[synthetic] != again[synthetic]


def test_a_complete_set_is_left_alone_and_anything_else_refused(tiny: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tiny.rglob("*")}
    write_toy(tiny, seed=3, size="tiny")
    assert before == {path: path.stat().st_mtime_ns for path in tiny.rglob("*")}
    with pytest.raises(UserError, match="seed=3, now 5"):
        write_toy(tiny, seed=5, size="tiny")
    occupied = tmp_path / "occupied"
    occupied.mkdir()
    (occupied / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"no toy\.json"):
        write_toy(occupied, size="tiny")
    assert [path.name for path in occupied.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": "huge"}, "'huge'.*known: toy, tiny"),
        ({"seed": -1}, "seed -1"),
        ({"hop": 0.0}, "hop 0"),
    ],
)
def test_bad_arguments_are_named(tmp_path: Path, arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        write_toy(tmp_path / "toy", **arguments)
    assert not list(tmp_path.iterdir())


def test_a_crash_leaves_nothing_behind(tmp_path: Path) -> None:
    def crash(done: int, total: int) -> None:
        if done == 5:
            raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError):
        write_toy(tmp_path / "toy", size="tiny", progress=crash)
    assert not list(tmp_path.iterdir())


def test_killed_and_started_again_gives_the_same_set(tiny: Path, tmp_path: Path) -> None:
    call = f"from task4_sed.data.toy.write import write_toy; write_toy({str(tmp_path / 'toy')!r}, seed=3, size='tiny')"
    process = subprocess.Popen([sys.executable, "-c", call], cwd=REPOSITORY)
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("*.wav")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "toy").exists()
    write_toy(tmp_path / "toy", seed=3, size="tiny")
    assert fingerprint(tmp_path / "toy") == fingerprint(tiny)
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]  # what the killed one left is gone


def test_windows_agree_with_their_recording(tiny: Path) -> None:
    """Rows of overlapping windows tell the same about a second, and their samples are the same."""
    seconds: dict[tuple[str, float, str], float] = {}
    durations = read_durations(tiny / SETS["maestro_val"].durations[0])
    for file, events in labels_of(tiny, "maestro_val").items():
        recording, start, end = file.removesuffix(".wav").rsplit("-", 2)
        assert int(end) / 100 <= durations[f"{recording}.wav"] + 1e-6
        assert recording.rsplit("_", 1)[0] in SCENES
        for e in events:
            at = (recording, round(e.onset + int(start) / 100, 3), e.label)
            assert seconds.setdefault(at, e.confidence) == e.confidence
    clips = audio_of(tiny, "maestro_val")
    first = next(file for file in sorted(clips) if file.endswith("-000000-001000.wav"))
    one, _ = soundfile.read(clips[first], dtype="int16")
    two, _ = soundfile.read(clips[first.replace("-000000-001000", "-000500-001500")], dtype="int16")
    np.testing.assert_array_equal(one[5 * SAMPLE_RATE :], two[: 5 * SAMPLE_RATE])
