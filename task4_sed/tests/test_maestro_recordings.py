"""Whole recordings of MAESTRO and their windows, worked out by hand."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from common.run.config import load_config
from common.run.errors import UserError
from common.run.files import read_rows
from task4_sed.config import Config
from task4_sed.data import maestro
from task4_sed.data.annotations import Event, read_durations, read_soft
from task4_sed.data.classes import CLASSES
from task4_sed.data.layout import SETS
from task4_sed.data.maestro import cut, cut_recordings, recordings_of, windows
from task4_sed.data.prepare import prepare
from task4_sed.data.sets import load_set

TRAIN, VAL = (SETS[name] for name in ("maestro_train", "maestro_val"))
ROWS = "onset\toffset\tevent_label\tconfidence\n0\t1\tcar\t0.25\n9\t10\tcar\t0.6\n12\t13\tbirds_singing\t0.75\n"


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A root with a recording of 12.5 s at 44.1 kHz in each set: second n is a constant n / 100."""
    folder = tmp_path / maestro.FOLDER
    for name in ("city_center_02", "city_center_05"):
        for part in ("audio/city_center", "soft_labels/city_center"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        sound = np.repeat(np.arange(13) / 100, 44100)[: int(12.5 * 44100)]
        soundfile.write(folder / "audio" / "city_center" / f"{name}.wav", sound, 44100)
        (folder / "soft_labels" / "city_center" / f"{name}.txt").write_text(ROWS)
    return tmp_path


def test_windows_keep_the_shorter_end() -> None:
    assert windows(25.0, 5.0) == [(0, 10), (5, 15), (10, 20), (15, 25), (20, 25)]
    assert windows(12.5, 1.0) == [(0, 10), (1, 11), (2, 12), (3, 12.5)]
    assert windows(7.0, 5.0) == [(0, 7)]


def test_cut_clips_rows_to_the_window() -> None:
    rows = [Event(4.0, 5.0, "car", 0.6), Event(14.0, 15.0, "car", 0.8), Event(16.0, 17.0, "car", 0.9)]
    assert cut(rows, 4.5, 14.5) == [Event(0.0, 0.5, "car", 0.6), Event(9.5, 10.0, "car", 0.8)]


def test_the_official_split(shared: Path) -> None:
    rows = read_rows(shared / "data" / "sed" / "maestro_split" / "maestro_real_split.tsv", ("split", "recording"))
    for split, name in (("train", "maestro_train"), ("validation", "maestro_val")):
        assert recordings_of(name) == sorted(row["recording"] for row in rows if row["split"] == split)


def test_recordings_become_windows(whole: Path) -> None:
    cut_recordings(whole, 1, CLASSES, workers=1)
    names = ["000000-001000", "000100-001100", "000200-001200", "000300-001250"]
    files = sorted((whole / TRAIN.audio[0]).glob("*.wav"))
    assert [path.name for path in files] == [f"city_center_02-{name}.wav" for name in names]
    for start, path in enumerate(files):
        sound, rate = soundfile.read(path)
        assert (rate, len(sound)) == (16000, 160000 if start < 3 else 152000)
        middles = sound[8000 : len(sound) - 4000 : 16000]  # of the seconds, away from the steps between them
        np.testing.assert_allclose(middles, np.arange(start, start + len(middles)) / 100, atol=2e-4)
    assert read_soft(whole / VAL.annotation[0], CLASSES) == {
        "city_center_05-000000-001000.wav": [Event(0, 1, "car", 0.25), Event(9, 10, "car", 0.6)],
        "city_center_05-000100-001100.wav": [Event(8, 9, "car", 0.6)],
        "city_center_05-000200-001200.wav": [Event(7, 8, "car", 0.6)],
        "city_center_05-000300-001250.wav": [Event(6, 7, "car", 0.6), Event(9, 9.5, "birds_singing", 0.75)],
    }
    assert read_durations(whole / VAL.durations[0]) == {f"city_center_{n}.wav": 12.5 for n in ("02", "05")}


def test_windows_are_packed_and_loaded(whole: Path, tiny_root: Path) -> None:
    shutil.copytree(tiny_root, whole, dirs_exist_ok=True, ignore=shutil.ignore_patterns("packed"))  # the other sets
    for path in (*TRAIN.audio, *VAL.audio):
        shutil.rmtree(whole / path, ignore_errors=True)
    for path in (TRAIN.annotation[0], VAL.annotation[0], VAL.durations[0]):
        (whole / path).unlink()
    tiny = Path(__file__).parent / "tiny.yaml"
    config = load_config(Config, tiny.parents[1] / "recipes", str(tiny), [f"data.root={whole}", "data.maestro_hop=5"])
    found = prepare(config, workers=2)["sets"]["maestro_val"]
    assert (found["listed"], found["packed"]) == (2, 2)
    clips = load_set(config.data, "maestro_val", "test")
    assert clips.clips == ("city_center_05-000000-001000.wav", "city_center_05-000500-001250.wav")
    targets = clips.events.targets(np.array([1]), np.zeros(1), len(CLASSES), 156)[0]
    birds = targets[CLASSES.index("birds_singing")]
    assert (birds[int(7 / 0.064) : int(np.ceil(7.5 / 0.064))] == 0.75).all()
    assert (birds > 0).sum() == int(np.ceil(7.5 / 0.064)) - int(7 / 0.064)


def test_what_is_done_stays_and_what_is_missing_is_made(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = maestro.load

    def stopped(path: Path, rate: int) -> np.ndarray:
        if "city_center_05" in path.name:
            raise KeyboardInterrupt
        return load(path, rate)

    monkeypatch.setattr(maestro, "load", stopped)
    with pytest.raises(KeyboardInterrupt):
        cut_recordings(whole, 1, CLASSES, workers=1)
    assert len(list((whole / "audio").iterdir())) == 1
    (whole / TRAIN.annotation[0]).unlink()
    monkeypatch.setattr(maestro, "load", load)
    made = {path: path.stat().st_mtime_ns for path in (whole / TRAIN.audio[0]).iterdir()}
    cut_recordings(whole, 1, CLASSES, workers=1)
    assert made == {path: path.stat().st_mtime_ns for path in (whole / TRAIN.audio[0]).iterdir()}
    assert len(read_soft(whole / TRAIN.annotation[0])) == len(list((whole / VAL.audio[0]).glob("*.wav"))) == 4
    monkeypatch.setattr(maestro, "_recordings", pytest.fail)
    cut_recordings(whole, 1, CLASSES, workers=1)  # all is there
    with pytest.raises(UserError, match=r"windows\.json: made with hop=1, now 5"):
        cut_recordings(whole, 5, CLASSES, workers=1)


def test_windows_of_others_stay(whole: Path) -> None:
    others = whole / TRAIN.audio[1]
    others.mkdir(parents=True)
    (others / "city_center_02-000000-001000.wav").write_bytes(b"")
    cut_recordings(whole, 1, CLASSES, workers=1)
    assert not (whole / TRAIN.audio[0]).exists()
    assert not (whole / TRAIN.annotation[0]).exists()
    assert (whole / VAL.annotation[0]).is_file()


def test_a_table_of_another_hop_is_refused(whole: Path) -> None:
    cut_recordings(whole, 1, CLASSES, workers=1)
    shutil.rmtree(whole / TRAIN.audio[0])
    shutil.rmtree(whole / VAL.audio[0])
    with pytest.raises(UserError, match=r"maestro_real_train\.tsv: city_center_02-000100-001100\.wav is no window"):
        cut_recordings(whole, 5, CLASSES, workers=1)


def _rows(text: str) -> Callable[[Path, Path], object]:
    return lambda audio, table: table.write_text(text)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_rows("0\t1\tcar\t0.5\n13\t14\tcar\t0.5\n"), r"city_center_02\.txt:2: offset 14 is past the end"),
        (_rows("0\t1\tcars\t0.5\n"), r"city_center_02\.txt:1: unknown class 'cars'; did you mean 'car'"),
        (_rows("0\t1\tcar\n"), r"city_center_02\.txt:1: 3 fields, expected onset, offset, event_label, confidence"),
        (_rows("0\tx\tcar\t1\n"), r"city_center_02\.txt:1: offset is 'x', expected a number"),
        (_rows("0\t1\tcar\t1.5\n"), r"city_center_02\.txt:1: confidence 1\.5 is outside 0 to 1"),
        (lambda audio, table: audio.unlink(), r"city_center_02\.txt: its recording, \.wav, is not there"),
        (lambda audio, table: table.unlink(), r"city_center_02\.wav: its annotation, \.txt, is not there"),
        (lambda audio, table: audio.write_bytes(b"RIFF no audio"), r"city_center_02\.wav: not readable"),
        (lambda audio, table: audio.write_bytes(audio.read_bytes()[:9999]), r"city_center_02\.wav: truncated"),
        (lambda audio, table: table.write_bytes(b"\xff\xfe\x00"), r"city_center_02\.txt: not a text file in UTF-8"),
        (lambda audio, table: shutil.copy(audio, audio.parents[1]), r"city_center_02\.wav: is there twice"),
    ],
)
def test_wrong_input(whole: Path, harm: Callable[[Path, Path], object], message: str) -> None:
    table = next(whole.rglob("city_center_02.txt"))
    harm(next(whole.rglob("city_center_02.wav")), table)
    with pytest.raises(UserError, match=message) as caught:
        cut_recordings(whole, 1, CLASSES, workers=1)
    assert len(str(caught.value).splitlines()) == 1
    assert not (whole / "audio").exists()


def test_missing_recordings_are_named(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut_recordings(whole, 1, CLASSES, workers=1)
    assert ": 47 of 49 recordings are not there: cafe_restaurant_00, " in capsys.readouterr().out
