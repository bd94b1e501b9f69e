"""The embedded data sets: official layouts, real faults, two set-ups, the same bytes for the same seed."""

import os
import signal
import subprocess
import sys
import time
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from common.run.errors import UserError
from common.run.files import write_json
from common.tests.helpers import fingerprint
from common.toy import key
from task2_anomaly.data.classes import EVALUATOR_ORDER, TYPES, Machine
from task2_anomaly.data.layout import clips_of, folder_of, parse_clip, types_of
from task2_anomaly.data.toy import sounds
from task2_anomaly.data.toy.first_shot import COUNTS, DEVELOPMENT, EVALUATION, write_first_shot_toy
from task2_anomaly.data.toy.sounds import KINDS, RATE, SET_UPS, Fault, machine_sound, make_timbres, record
from task2_anomaly.data.toy.write import AUDIOSET, MACHINES, SIZES, timbres, write_toy
from task2_anomaly.evaluation.truth import read_truth_2020, read_truth_first_shot

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toy") / "tiny"
    write_toy(root, "tiny", seed=3)
    return root


@pytest.fixture(scope="module")
def first_shot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("first_shot") / "tiny"
    write_first_shot_toy(root, "tiny", seed=3)
    return root


def test_layout_of_2020(written: Path) -> None:
    sizes = SIZES["tiny"]
    assert set(types_of(written)) == set(MACHINES) <= set(TYPES)
    for kind, ids in MACHINES.items():
        for data, numbers in (("dev", ids.development), ("eval", ids.evaluation)):
            train, test = (clips_of(folder_of(written, f"{data}_{p}", kind)) for p in ("train", "test"))  # type: ignore[arg-type]
            assert set(train) == set(test) == set(numbers)
            for number in numbers:
                assert [clip.label for clip in train[number]] == [0] * sizes.train
                labels = [clip.label for clip in test[number]]
                hidden = [None] * (sizes.normal + sizes.anomalous)
                assert labels == (hidden if data == "eval" else [1] * sizes.anomalous + [0] * sizes.normal)


def test_labels_of_the_evaluation_set(written: Path) -> None:
    truths = read_truth_2020(written / "eval_data_list.csv")
    order = [kind for kind in EVALUATOR_ORDER if kind in MACHINES]
    assert [truth.machine for truth in truths] == [
        Machine(kind, n) for kind in order for n in MACHINES[kind].evaluation
    ]
    for machine, labels in ((truth.machine, truth.labels) for truth in truths):
        there = {path.name for path in (written / "eval_data" / machine.type / "test").iterdir()}
        assert set(labels) == there
        assert sum(labels.values()) == SIZES["tiny"].anomalous
        assert list(labels.values()) != sorted(labels.values())  # names do not give the labels away
    rows = [line.split(",") for line in (written / "eval_data_list.csv").read_text().splitlines() if "," in line]
    assert all(parse_clip(name).label == int(label) and parse_clip(other).label is None for other, name, label in rows)


def test_clips(written: Path, first_shot: Path) -> None:
    for path in [*written.rglob("*.wav"), *first_shot.rglob("*.wav")]:
        with wave.open(str(path)) as file:
            assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16000)
        sound = soundfile.read(path)[0]
        assert 1e-3 < np.sqrt(np.mean(sound**2)) < 0.3
        assert np.abs(sound).max() < 0.999  # nothing clips


def test_proxies_from_outside(written: Path) -> None:
    assert {path.name for path in (written / "audioset").iterdir()} == set(AUDIOSET)
    assert len(list((written / "scenes").glob("*.wav"))) == SIZES["tiny"].outside
    assert len(list((written / "audioset").rglob("*.wav"))) == len(AUDIOSET) * SIZES["tiny"].outside


@pytest.mark.parametrize("size", SIZES)
def test_what_each_size_weighs(size: str) -> None:
    sizes = SIZES[size]  # type: ignore[index]
    assert len(MACHINES) == 4
    assert all((len(of.development), len(of.evaluation)) == (3, 1) for of in MACHINES.values())
    clips = 16 * (sizes.train + sizes.normal + sizes.anomalous)
    outside = (len(AUDIOSET) + 1) * sizes.outside
    weight = clips * (2 * RATE * sizes.seconds + 44) + outside * (2 * RATE * sizes.outside_seconds + 44)
    assert weight < {"toy": 100e6, "tiny": 8e6}[size]
    assert sizes.anomalous >= 3  # each fault at least once


def test_the_same_seed_gives_the_same_bytes(written: Path, first_shot: Path, tmp_path: Path) -> None:
    for write, first in ((write_toy, written), (write_first_shot_toy, first_shot)):
        again = tmp_path / first.parent.name
        write(again, "tiny", seed=3)
        assert fingerprint(again) == fingerprint(first)
        before = (again / "toy.json").stat().st_mtime_ns
        write(again, "tiny", seed=3)  # does nothing
        assert (again / "toy.json").stat().st_mtime_ns == before
    other = timbres(4)
    assert all(other[machine] != timbre for machine, timbre in timbres(3).items())


def test_ids_of_a_type_share_its_ranges_and_differ_inside_them() -> None:
    for seed in range(5):
        of = timbres(seed)
        for kind, ids in MACHINES.items():
            numbers = (*ids.development, *ids.evaluation)
            for name, low, high in (("hz", *KINDS[kind].hz), ("rate", *KINDS[kind].rate)):
                values = sorted(getattr(of[Machine(kind, n)], name) for n in numbers)
                steps = np.diff(np.log(values)) / np.log(high / low)
                assert low < values[0] < values[-1] < high
                assert steps.min() > 0.15  # of the range


def heard(kind: str, fault: Fault | None, part: str) -> list[np.ndarray]:
    """Clips of a machine of which only one part sounds, 2 s each, with and without a strong fault."""
    alone = KINDS[kind]._replace(**{"rotation": 0.0, "air": 0.0, "strokes": 0.0, part: 1.0}, sweep=0.0)
    timbre = make_timbres(np.random.default_rng(1), alone, 4)[0]
    return [machine_sound(np.random.default_rng(n), timbre, 2.0, fault) for n in range(10)]


def spectrum(sound: np.ndarray) -> np.ndarray:
    """Power in bins of 0.5 Hz, (16000,)."""
    return np.abs(np.fft.rfft(sound[: 2 * RATE] * np.hanning(2 * RATE)))[:16000] ** 2


def of_kinds(fault: Fault) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("kind", [kind for kind, of in KINDS.items() if fault in of.faults])


@pytest.fixture
def severe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sounds, "SEVERITY", (0.7, 0.9))


@pytest.mark.usefixtures("severe")
@of_kinds("harmonics")
def test_a_faulty_rotation_has_another_speed(kind: str) -> None:
    hz = make_timbres(np.random.default_rng(1), KINDS[kind], 4)[0].hz

    def off(sound: np.ndarray) -> float:
        """Share of the energy that is farther than 3 % from every harmonic of the machine."""
        harmonic = np.arange(1, 16000) / 2 / hz
        nearest = np.maximum(np.round(harmonic), 1)
        return float(spectrum(sound)[1:][np.abs(harmonic / nearest - 1) > 0.03].sum() / spectrum(sound).sum())

    assert max(map(off, heard(kind, None, "rotation"))) < 0.05
    assert np.median([*map(off, heard(kind, "harmonics", "rotation"))]) > 0.3


@pytest.mark.usefixtures("severe")
@of_kinds("rub")
def test_rubbing_fills_the_gaps_between_harmonics(kind: str) -> None:
    def gaps(sound: np.ndarray) -> float:
        return float(np.median(spectrum(sound)[1000:6000]) / spectrum(sound).sum())

    assert min(map(gaps, heard(kind, "rub", "rotation"))) > 100 * max(map(gaps, heard(kind, None, "rotation")))


@pytest.mark.usefixtures("severe")
@of_kinds("clicks")
def test_clicks_stand_out(kind: str) -> None:
    def crest(sound: np.ndarray) -> float:
        return float(np.abs(sound).max() / np.sqrt(np.mean(sound**2)))

    assert np.median([*map(crest, heard(kind, "clicks", "air"))]) > 1.3 * np.median(
        [*map(crest, heard(kind, None, "air"))]
    )


@pytest.mark.usefixtures("severe")
@of_kinds("strokes")
def test_missing_strokes_leave_gaps(kind: str) -> None:
    def energy(sound: np.ndarray) -> np.ndarray:
        return np.mean(sound[: 2 * RATE].reshape(100, -1) ** 2, axis=1)

    def ringing(clips: list[np.ndarray]) -> float:
        """Share of the time that a stroke rings."""
        return float(np.mean([np.mean(energy(clip) > 0.01 * energy(clip).max()) for clip in clips]))

    assert ringing(heard(kind, "strokes", "strokes")) < 0.7 * ringing(heard(kind, None, "strokes"))


def test_a_wrong_recording_set_up_is_plain_to_hear() -> None:
    """Without any learning: the share of energy above 4.5 kHz tells the set-ups apart."""
    timbre = make_timbres(np.random.default_rng(0), KINDS["fan"], 4)[0]
    high: dict[str, list[float]] = {}
    for name, set_up in SET_UPS.items():
        for n in range(10):
            rng = np.random.default_rng(n)
            power = spectrum(record(rng, set_up, machine_sound(rng, timbre, 2.0)))
            high.setdefault(name, []).append(float(10 * np.log10(power[9000:].sum() / power.sum())))
    assert min(high["mimii"]) > max(high["toyadmos"]) + 3


def test_first_shot_layout(first_shot: Path) -> None:
    counts = COUNTS["tiny"]
    assert set(types_of(first_shot)) == {*DEVELOPMENT, *EVALUATION}
    for kind in (*DEVELOPMENT, *EVALUATION):
        data = "dev" if kind in DEVELOPMENT else "eval"
        train, test = (clips_of(folder_of(first_shot, f"{data}_{p}", kind)) for p in ("train", "test"))  # type: ignore[arg-type]
        assert set(train) == set(test) == {0}
        assert [(c.domain, c.label) for c in train[0]] == [("source", 0)] * counts.source + [
            ("target", 0)
        ] * counts.target
        assert {(c.section, c.domain, c.attributes) for c in train[0]} == {
            *((True, "source", "speed_1"), (True, "source", "speed_2"), (True, "target", "speed_3"))
        }
        hidden = kind in EVALUATION
        assert len(test[0]) == 4 * counts.test
        assert all((c.label is None, c.domain is None, c.attributes == "") == (hidden,) * 3 for c in test[0])


def test_first_shot_ground_truth(first_shot: Path) -> None:
    sections = read_truth_first_shot(first_shot)
    assert [section.type for section in sections] == sorted(EVALUATION)
    for of in sections:
        assert set(of.labels) == {path.name for path in (first_shot / "eval_data" / of.type / "test").iterdir()}
        assert len(of.descriptive) == len(of.labels) == 4 * COUNTS["tiny"].test
        for descriptive, name in of.descriptive.items():
            clip = parse_clip(f"{descriptive}.wav")
            assert (clip.label, clip.domain) == (of.labels[name], ("source", "target")[of.domains[name]])
        assert list(of.labels.values()) != sorted(of.labels.values())


@pytest.mark.parametrize("write", [write_toy, write_first_shot_toy])
def test_wrong_wishes(tmp_path: Path, written: Path, first_shot: Path, write) -> None:  # type: ignore[no-untyped-def]
    own, other = (written, first_shot) if write is write_toy else (first_shot, written)
    with pytest.raises(UserError, match="size 'huge' of the toy data set is unknown; known: toy, tiny"):
        write(tmp_path / "x", "huge")
    with pytest.raises(UserError, match="seed -1 of the toy data set is negative"):
        write(tmp_path / "x", "tiny", seed=-1)
    with pytest.raises(UserError, match=r"toy\.json: made with seed=3, now 4"):
        write(own, "tiny", seed=4)
    with pytest.raises(UserError, match=r"toy\.json: made with edition="):
        write(other, "tiny", seed=3)
    (tmp_path / "mine").mkdir()
    write_json(tmp_path / "mine" / "something.json", {})
    with pytest.raises(UserError, match=r"mine: exists and has no toy\.json"):
        write(tmp_path / "mine", "tiny")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("write", [write_toy, write_first_shot_toy])
def test_progress_counts_up_to_the_end(tmp_path: Path, write) -> None:  # type: ignore[no-untyped-def]
    steps: list[tuple[int, int]] = []
    write(tmp_path / "x", "tiny", progress=lambda done, total: steps.append((done, total)))
    assert [done for done, _ in steps] == list(range(1, steps[-1][1] + 1))


def test_killed_while_writing_nothing_stays_and_the_next_call_writes_all(tmp_path: Path) -> None:
    root = tmp_path / "data"
    code = f"from task2_anomaly.data.toy.write import write_toy; write_toy({str(root)!r}, size='toy')"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".data.*.partial/dev_data/fan/train/*.wav")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(tmp_path.glob(".data.*.partial/dev_data/fan/train/*.wav"))
    assert not root.exists()
    write_toy(root, size="tiny")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_words_as_seeds() -> None:
    assert key(1, "a") == key(1, "a") != key(1, "b")
    assert key(Machine("fan", 0)) == key("fan_id_00")
