"""Soundscapes from isolated recordings: segmentation, parts of different recordings, labels that agree with audio."""

import csv
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from common import toy
from common.run.errors import UserError
from task4_sed.data.annotations import read_durations, read_strong, read_weak
from task4_sed.data.classes import SAMPLE_RATE
from task4_sed.data.layout import SETS
from task4_sed.data.recordings.build import from_recordings
from task4_sed.data.recordings.segments import active_regions, is_texture

CATEGORIES = ("beep", "hiss", "knock")
FORMATS = (("wav", 44100), ("flac", 16000), ("ogg", 22050))


def seconds_of(regions: list[tuple[int, int]]) -> list[tuple[float, float]]:
    return [(first / SAMPLE_RATE, last / SAMPLE_RATE) for first, last in regions]


def recording(category: str, seed: int, rate: int) -> np.ndarray:
    """Beeps of half a second in digital silence; a hiss all over; knocks over a faint noise."""
    rng = np.random.default_rng(seed)
    floor = 0.001 * toy.noise(rng, 4.0, rate)
    if category == "hiss":
        return 0.1 * toy.noise(rng, 4.0, rate, toy.band(2000, 5000))
    if category == "beep":
        beep = toy.fade(toy.tone(toy.glide(rng, 0.5, rate, [900 + 50 * seed]), rate), rate)
        return 0.2 * toy.scatter(4 * rate, [beep], [rate // 2, 2 * rate], np.ones(2))
    return floor + 0.1 * toy.train_of(rng, [toy.hit(rng, rate, [200, 500], 0.08)], 4.0, rate, 2.0)


def write_source(folder: Path, folds: int = 4) -> Path:
    (folder / "audio").mkdir(parents=True)
    rows = []
    for fold in range(1, folds + 1):
        for number, category in enumerate(CATEGORIES):
            suffix, rate = FORMATS[(fold + number) % 3]
            name = f"{fold}-{category}.{suffix}"
            sound = recording(category, 10 * fold + number, rate)
            stereo = np.stack([sound, sound], axis=1) if suffix == "wav" else sound
            soundfile.write(folder / "audio" / name, stereo, rate)
            rows.append((name, fold, number, category))
    write_meta(folder, rows)
    return folder


def write_meta(folder: Path, rows: list[tuple], header: tuple = ("filename", "fold", "target", "category")) -> None:
    with open(folder / "meta.csv", "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def fingerprint(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def used_in(out: Path) -> list[dict[str, str]]:
    with open(out / "sources.tsv", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_source(tmp_path_factory.mktemp("recordings") / "source")


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "set"
    from_recordings(source, out, clips=12, seed=7, workers=1)
    return out


# -------------------------------------------------------------------------------------------------------- segmentation


def test_events_in_silence_are_found_tightly() -> None:
    sound = recording("beep", 1, SAMPLE_RATE)
    assert not is_texture(sound, SAMPLE_RATE)
    regions = seconds_of(active_regions(sound, SAMPLE_RATE, texture=False))
    np.testing.assert_allclose(regions, [(0.5, 1.0), (2.0, 2.5)], atol=0.03)


def test_a_short_sound_of_constant_level_is_one_event() -> None:
    sound = np.sin(2 * np.pi * 500 / SAMPLE_RATE * np.arange(8000)).astype(np.float32)
    assert seconds_of(active_regions(sound, SAMPLE_RATE, texture=False)) == [(0.0, 0.5)]


def test_quiet_tails_and_noise_floors_are_not_part_of_an_event() -> None:
    rng = np.random.default_rng(0)
    sound = 0.01 * toy.noise(rng, 3.0, SAMPLE_RATE)
    sound[SAMPLE_RATE : SAMPLE_RATE + 8000] += toy.noise(rng, 0.5, SAMPLE_RATE)  # 40 dB above the floor
    sound[SAMPLE_RATE + 8000 : SAMPLE_RATE + 12000] += 0.03 * toy.noise(rng, 0.25, SAMPLE_RATE)
    regions = seconds_of(active_regions(sound, SAMPLE_RATE, texture=False))
    np.testing.assert_allclose(regions, [(1.0, 1.5)], atol=0.03)


def test_an_even_sound_is_a_texture_also_beside_digital_silence() -> None:
    sound = np.concatenate([np.zeros(8000), recording("hiss", 1, SAMPLE_RATE), np.zeros(8000)]).astype(np.float32)
    assert is_texture(sound, SAMPLE_RATE)
    np.testing.assert_allclose(seconds_of(active_regions(sound, SAMPLE_RATE, texture=True)), [(0.5, 4.5)], atol=0.03)


def test_a_series_of_impulses_is_one_event() -> None:
    sound = recording("knock", 1, SAMPLE_RATE)
    regions = seconds_of(active_regions(sound, SAMPLE_RATE, texture=False))
    assert len(regions) == 1
    assert regions[0][1] - regions[0][0] > 3.0


def test_silence_has_no_regions_and_an_offset_is_no_sound() -> None:
    assert active_regions(np.zeros(16000, np.float32), SAMPLE_RATE, texture=False) == []
    assert active_regions(np.full(16000, 0.3, np.float32), SAMPLE_RATE, texture=False) == []


# ------------------------------------------------------------------------------------------------------------ data set


def test_sets_have_the_official_layout_and_the_documented_sizes(built: Path) -> None:
    expected = {"synth_train": 12, "strong": 3, "weak": 3, "unlabeled": 6, "synth_val": 3, "devtest": 6}
    for name, count in expected.items():
        layout = SETS[name]
        clips = sorted((built / layout.audio[0]).glob("*.wav"))
        assert len(clips) == count
        for clip in clips:
            info = soundfile.info(clip)
            assert (info.samplerate, info.channels, info.frames) == (SAMPLE_RATE, 1, 10 * SAMPLE_RATE)
        names = {clip.name for clip in clips}
        if layout.durations:
            assert read_durations(built / layout.durations[0]) == dict.fromkeys(sorted(names), 10.0)
        if layout.kind == "strong":
            events = read_strong(built / layout.annotation[0], CATEGORIES, dict.fromkeys(names, 10.0))
            assert set(events) == names
            assert all(events.values())
        elif layout.kind == "weak":
            assert set(read_weak(built / layout.annotation[0], CATEGORIES)) == names
    assert (built / "classes.tsv").read_text().split() == ["event_label", *CATEGORIES]
    assert not (built / SETS["maestro_train"].audio[0]).exists()
    assert not (built / ".recordings").exists()


def test_parts_are_made_of_different_recordings_and_hold_every_class(built: Path) -> None:
    folds: dict[str, set[str]] = {}
    labels: dict[str, set[str]] = {}
    for row in used_in(built):
        folds.setdefault(row["set"], set()).add(row["recording"][0])
        labels.setdefault(row["set"], set()).add(row["event_label"])
    assert folds["devtest"] == {"4"}
    assert folds["synth_val"] == {"3"}
    for name in ("synth_train", "strong", "weak", "unlabeled"):
        assert folds[name] <= {"1", "2"}
    assert all(of_set == set(CATEGORIES) for of_set in labels.values())


def test_events_of_a_class_keep_apart_and_sources_repeat_the_labels(built: Path) -> None:
    rows = used_in(built)
    for name in ("synth_train", "devtest"):
        for clip, events in read_strong(built / SETS[name].annotation[0]).items():
            listed = [(float(r["onset"]), r["event_label"]) for r in rows if r["filename"] == clip]
            assert listed == [(e.onset, e.label) for e in events]
            for one in events:
                for two in events:
                    if one is not two and one.label == two.label:
                        assert max(one.onset, two.onset) - min(one.offset, two.offset) >= 0.199


def test_events_stand_out_where_their_labels_are(built: Path) -> None:
    differences = []
    for clip, events in read_strong(built / SETS["synth_train"].annotation[0]).items():
        waveform, _ = soundfile.read(built / SETS["synth_train"].audio[0] / clip)
        assert np.abs(waveform).max() < 1.0
        inside = np.zeros(len(waveform), bool)
        for e in events:
            inside[round(e.onset * SAMPLE_RATE) : round(e.offset * SAMPLE_RATE)] = True
        # Brown noise is strong where none of these sounds are.
        high = toy.filtered(waveform.astype(np.float32), SAMPLE_RATE, toy.band(150, 6000))
        differences.append(10 * np.log10(np.mean(high[inside] ** 2) / np.mean(high[~inside] ** 2)))
    assert min(differences) > 0.0
    assert np.median(differences) > 8.0


@pytest.mark.slow  # two new processes that load torch
def test_same_arguments_same_bytes_with_any_number_of_workers(source: Path, built: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    from_recordings(
        source, tmp_path / "set", clips=12, seed=7, workers=2, progress=lambda done, total: calls.append((done, total))
    )
    assert fingerprint(tmp_path / "set") == fingerprint(built)
    assert calls == [(number, 12 + 33) for number in range(1, 12 + 33 + 1)]


def test_another_part_alone_and_other_sizes(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    from_recordings(source, out, clips=8, seed=8, folds={"test": (2, 4)}, sets={"devtest": 5}, workers=1)
    assert {row["set"] for row in used_in(out)} == {"devtest"}
    assert {row["recording"][0] for row in used_in(out)} == {"2", "4"}
    assert len(read_strong(out / SETS["devtest"].annotation[0])) == 5
    assert not (out / SETS["synth_train"].audio[0]).exists()


def test_default_folds_that_are_not_there_leave_their_part_out(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", folds=3)
    from_recordings(source, tmp_path / "set", clips=2, workers=1)
    assert json.loads((tmp_path / "set/recordings.json").read_text())["folds"] == {"train": [1, 2], "validation": [3]}


def test_complete_set_is_left_alone_and_anything_else_refused(source: Path, built: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*")}
    from_recordings(source, built, clips=12, seed=7, workers=1)
    assert before == {path: path.stat().st_mtime_ns for path in built.rglob("*")}
    with pytest.raises(UserError, match="seed=7, now 9"):
        from_recordings(source, built, clips=12, seed=9, workers=1)


def test_a_crash_leaves_nothing_behind(source: Path, tmp_path: Path) -> None:
    def crash(done: int, total: int) -> None:
        if done == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        from_recordings(source, tmp_path / "set", clips=12, workers=1, progress=crash)
    assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------------------------------------------------- errors


def _no_meta(source: Path) -> None:
    (source / "meta.csv").unlink()


def _no_category_column(source: Path) -> None:
    write_meta(source, [("1-beep.flac", 1, "beep")], ("filename", "fold", "categroy"))


def _fold_in_words(source: Path) -> None:
    write_meta(source, [("1-beep.flac", "first", 0, "beep")])


def _listed_twice(source: Path) -> None:
    write_meta(source, [("1-beep.flac", 1, 0, "beep")] * 2)


def _audio_missing(source: Path) -> None:
    (source / "audio" / "2-hiss.wav").unlink()


def _audio_empty(source: Path) -> None:
    (source / "audio" / "2-hiss.wav").write_bytes(b"")


def _audio_broken(source: Path) -> None:
    (source / "audio" / "2-hiss.wav").write_bytes(b"not a sound")


def _audio_silent(source: Path) -> None:
    soundfile.write(source / "audio" / "2-hiss.wav", np.zeros(16000), 16000)


def _category_only_in_train(source: Path) -> None:
    with open(source / "meta.csv", "a") as file:
        file.write("1-purr.flac,1,9,purr\n")


def _nothing(source: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("spoil", "arguments", "message"),
    [
        (_no_meta, {}, r"meta\.csv: table not found"),
        (_no_category_column, {}, r"meta\.csv:1: no column 'category'.*categroy"),
        (_fold_in_words, {}, r"meta\.csv:2: fold is 'first'"),
        (_listed_twice, {}, r"meta\.csv:3: 1-beep\.flac is listed twice"),
        (_audio_missing, {}, r"2-hiss\.wav: listed in meta\.csv"),
        (_audio_empty, {}, r"2-hiss\.wav.*empty"),
        (_audio_broken, {}, r"2-hiss\.wav"),
        (_audio_silent, {}, r"2-hiss\.wav: silent"),
        (_category_only_in_train, {}, r"'purr' has no recordings for validation \(fold 3\)"),
        (_nothing, {"folds": {"test": (5,)}}, r"no fold 5 .*test.*1, 2, 3, 4"),
        (_nothing, {"folds": {"train": (1, 2), "test": (2,)}}, "fold 2 is in train and in test"),
        (_nothing, {"folds": {"tset": (2,)}}, "'tset'; did you mean 'test'"),
        (_nothing, {"folds": {}}, "no fold chosen"),
        (_nothing, {"clips": 0}, "clips is 0"),
        (_nothing, {"seed": -1}, "seed is -1"),
        (_nothing, {"sets": {"weka": 3}}, "'weka' .*did you mean 'weak'"),
        (_nothing, {"sets": {"weak": -3}}, "weak is -3"),
    ],
)
def test_bad_input_is_named_in_one_line_and_leaves_nothing(
    source: Path, tmp_path: Path, spoil: Callable[[Path], None], arguments: dict, message: str
) -> None:
    shutil.copytree(source, tmp_path / "source")
    spoil(tmp_path / "source")
    with pytest.raises(UserError, match=message) as caught:
        from_recordings(tmp_path / "source", tmp_path / "set", **{"clips": 4, "workers": 1} | arguments)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_real_recordings_give_events_where_the_file_has_energy(shared: Path, tmp_path: Path) -> None:
    """A set built from two classes of ESC-10: barks are short, rain is long."""
    with open(shared / "data/esc10/meta.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["category"] in ("dog", "rain") and row["fold"] in "14"]
    source = tmp_path / "source"
    source.mkdir()
    write_meta(source, [(r["filename"], r["fold"], r["target"], r["category"]) for r in rows])
    (source / "audio").symlink_to((shared / "data/esc10/audio").resolve())
    from_recordings(source, tmp_path / "set", clips=12, folds={"train": (1,), "test": (4,)}, workers=1)
    events = [e for of in read_strong(tmp_path / "set" / SETS["synth_train"].annotation[0]).values() for e in of]
    lengths = {label: np.median([e.offset - e.onset for e in events if e.label == label]) for label in ("dog", "rain")}
    assert lengths["dog"] < 1.5
    assert lengths["rain"] > 2.0
