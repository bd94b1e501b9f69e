"""The embedded data set: official layout, every scene and device, the same bytes for the same seed."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from common.audio.coverage import cover
from common.run.errors import UserError
from common.run.files import write_json
from common.tests.helpers import fingerprint
from common.toy import key
from task1_asc.data.classes import DEVICE_GROUPS, DEVICES, PARTS_PER_SEGMENT, SAMPLE_RATE, SCENES, TRAIN_DEVICES
from task1_asc.data.layout import (
    EVALUATION_FOLDERS,
    ClipName,
    read_evaluation,
    read_list,
    read_meta,
    read_split,
)
from task1_asc.data.splits import check_splits
from task1_asc.data.toy.sounds import SCENES as SOUNDS
from task1_asc.data.toy.sounds import SOURCES, Bank, make_device, record_moment
from task1_asc.data.toy.write import SIZES, segments_of_test, segments_of_training, write_toy


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toy") / "tiny"
    write_toy(root, seed=3, size="tiny")
    return root


def test_every_table_and_every_file(written: Path) -> None:
    meta = read_meta(written)
    assert cover((clip.filename, written / clip.filename) for clip in meta).missing == ()
    assert len(list((written / "audio").iterdir())) == len(meta)
    train, test = (read_list(written / "evaluation_setup" / f"fold1_{name}.csv") for name in ("train", "evaluate"))
    assert set(train) | set(test) == set(meta)
    assert read_split(written, 100) == [(clip.filename, clip.scene) for clip in train]
    assert read_split(written, "test") == [(clip.filename, clip.scene) for clip in test]
    report = check_splits(written, meta)
    assert report.missing == ()
    assert all(check.holds for check in report.checks)


def test_clips_are_a_second_of_24_bit_mono(written: Path) -> None:
    for path in [*sorted((written / "audio").iterdir())[::37], *written.glob("TAU*/audio/0.wav")]:
        info = soundfile.info(path)
        assert (info.channels, info.subtype, info.frames) == (1, "PCM_24", info.samplerate)
    samples = [soundfile.read(path)[0] for path in (written / "audio").iterdir()]
    levels = [float(np.sqrt(np.mean(np.square(x)))) for x in samples]
    assert min(levels) > 1e-4
    assert max(float(np.abs(x).max()) for x in samples) < 0.99  # nothing clips


def test_numbered_evaluation_sets(written: Path) -> None:
    for name, clips in zip(EVALUATION_FOLDERS, SIZES["tiny"].evaluation, strict=True):
        listed = read_evaluation(written / name)
        assert listed.names == tuple(f"audio/{number}.wav" for number in range(clips))
        assert cover((clip, written / name / clip) for clip in listed.names).missing == ()
        assert (listed.devices is None) == ("2024" in name)
        assert set(listed.devices or ()) <= {*TRAIN_DEVICES, "unknown"}


@pytest.mark.parametrize("size", SIZES)
def test_what_each_size_holds(size: str) -> None:
    sizes = SIZES[size]  # type: ignore[index]
    train, test = segments_of_training(sizes), segments_of_test(sizes)
    assert len({*train, *test}) == len(train) + len(test)
    assert {s.scene for s in train} == {s.scene for s in test} == set(SCENES)
    assert {s.device for s in train} == set(TRAIN_DEVICES)
    assert {s.device for s in test} == set(DEVICES)
    assert not {s.location for s in train} & {s.location for s in test}
    places = Counter((s.scene, s.city) for s in {s._replace(device="a") for s in (*train, *test)})
    assert set(places.values()) <= {2, 3}
    simultaneous = Counter(s.moment for s in train)
    assert max(simultaneous.values()) == 2  # device a, and another one now and then
    per_device = Counter(s.device for s in test)
    assert max(per_device.values()) - min(per_device.values()) <= 1
    assert len(train) >= 20  # else there is no split of 5 %
    clips = PARTS_PER_SEGMENT * (len(train) + len(test)) + sum(sizes.evaluation)
    assert clips * (3 * sizes.rate + 44) < {"toy": 125e6, "tiny": 10e6}[size]
    assert size == "tiny" or sizes.rate == SAMPLE_RATE


def test_the_same_seed_gives_the_same_bytes(written: Path, tmp_path: Path) -> None:
    write_toy(tmp_path / "again", seed=3, size="tiny")
    first, again = fingerprint(written), fingerprint(tmp_path / "again")
    assert first == again
    write_toy(tmp_path / "again", seed=3, size="tiny")  # does nothing
    assert fingerprint(tmp_path / "again") == again


def sounds(seed: int, scene: str = "tram", device: str = "a", place: int = 0) -> np.ndarray:
    bank = Bank(seed, "train", 1, 8000, 2.0)
    moment = record_moment(np.random.default_rng(seed), np.random.default_rng(place), bank, scene, 1.0)
    return make_device(device, 0, 8000).record(np.random.default_rng(1), moment, 8000)


def test_seeds_scenes_devices_and_places_sound_different() -> None:
    one = sounds(0)
    assert np.array_equal(one, sounds(0))
    for other in (sounds(1), sounds(0, scene="metro"), sounds(0, device="s4"), sounds(0, place=1)):
        assert len(other) == len(one) == 8000
        assert float(np.corrcoef(one, other)[0, 1]) < 0.999


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
def test_sources_last_and_are_finite(source) -> None:  # type: ignore[no-untyped-def]
    bank = Bank(0, "test", 2, 8000, 1.5)
    sound = bank.draw(np.random.default_rng(0), source)
    assert sound.shape == (12000,)
    assert sound.dtype == np.float32
    assert np.isfinite(sound).all()
    assert np.abs(sound).max() > 0.1


def test_scenes_use_known_sources() -> None:
    assert tuple(SOUNDS) == SCENES
    used = {source for of in SOUNDS.values() for source, _, _ in of.layers}
    assert used <= set(SOURCES)


def test_simulated_devices_compress_loud_sounds() -> None:
    noise = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    for device in DEVICES:
        of = make_device(device, 0, 8000)
        loud, soft = (of.record(np.random.default_rng(1), noise * level, 8000) for level in (0.3, 0.003))
        gain = 20 * np.log10(np.std(loud) / np.std(soft))
        assert gain == pytest.approx(40, abs=1) if device == "a" else gain < 39
    group = {device: make_device(device, 0, 8000).ratio for device in DEVICES}
    assert min(group[d] for name in ("seen", "unseen") for d in DEVICE_GROUPS[name]) > group["b"] > group["a"] == 1


def test_a_simulated_device_is_made_from_device_a(written: Path) -> None:
    """A copy of a moment follows the same loudness, second by second, as device a's recording of it."""
    recordings = {clip.recording for clip in read_meta(written)}
    moment = next(r[:3] for r in sorted(recordings) if r[3] == "s1" and (*r[:3], "a") in recordings)
    waves = {}
    for device in ("a", "s1"):
        paths = [written / ClipName(*moment, part, device).filename for part in range(10)]
        waves[device] = np.concatenate([soundfile.read(path)[0] for path in paths])
    spectra = [np.abs(np.fft.rfft(waves[device])) for device in ("a", "s1")]
    ratio = np.log(spectra[1] / spectra[0])[4000:20000]
    smooth = np.convolve(ratio, np.ones(200) / 200, "same")
    assert np.std(ratio - smooth) < 0.8 * np.std(
        np.log(spectra[0][4000:20000])
    )  # what remains is compression and noise


def test_words_as_seeds() -> None:
    assert key(1, "a") == key(1, "a") != key(1, "b")


def test_wrong_wishes(tmp_path: Path, written: Path) -> None:
    with pytest.raises(UserError, match="size 'huge' of the toy data set is unknown; known: toy, tiny"):
        write_toy(tmp_path / "x", size="huge")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="seed -1 of the toy data set is negative"):
        write_toy(tmp_path / "x", seed=-1)
    with pytest.raises(UserError, match=r"toy\.json: made with seed=3, now 4"):
        write_toy(written, seed=4, size="tiny")
    (tmp_path / "mine").mkdir()
    write_json(tmp_path / "mine" / "something.json", {})
    with pytest.raises(UserError, match=r"mine: exists and has no toy\.json"):
        write_toy(tmp_path / "mine", size="tiny")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_progress_counts_up_to_the_end(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    write_toy(tmp_path / "x", size="tiny", progress=lambda done, total: steps.append((done, total)))
    assert [done for done, _ in steps] == list(range(1, steps[-1][1] + 1))


def test_stopped_while_writing_nothing_stays(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            assert list(tmp_path.glob(".data.*.partial/audio/*.wav"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_toy(tmp_path / "data", size="tiny", progress=stop)
    assert list(tmp_path.iterdir()) == []
