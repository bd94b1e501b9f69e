"""Prediction: windows of recordings of any length, rates and channels, data sets, and events in files."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from common.audio.recordings import Recording, Recordings, find_recordings, short_names
from common.run.errors import UserError
from common.run.files import read_rows
from common.tests.helpers import mixed_folder
from task4_sed.config import Config, ModelConfig
from task4_sed.data.annotations import Event, read_soft
from task4_sed.data.batches import CLIP_SAMPLES
from task4_sed.data.classes import CLASSES
from task4_sed.data.layout import SETS
from task4_sed.data.sets import load_set
from task4_sed.evaluation.plots import draw_events
from task4_sed.inference.checkpoints import Loaded
from task4_sed.inference.detect import OF_PREDICT, detect_files
from task4_sed.inference.detectors import Detector
from task4_sed.inference.events import events_of
from task4_sed.inference.options import Options
from task4_sed.inference.postprocess.csebbs import CsebbsParameters
from task4_sed.inference.predict import Predictor, log_mel, predict_set
from task4_sed.inference.scores import read_logits, read_scores
from task4_sed.metrics.types import ClipScores, ScoreSet
from task4_sed.model.crnn import CRNN
from task4_sed.tests.detectors import detector_of, logits_of

Configure = Callable[..., Config]
FRAME, HOP = 1024, 78  # samples of a frame, frames between windows
SMALL = ModelConfig(
    num_mels=16, fft=512, channels=(4, 4), pooling=((2, 4), (2, 4)), rnn_hidden=4, rnn_layers=1, embedding_dim=None
)  # fmt: skip


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.manual_seed(0)
    return Predictor(Loaded(CRNN(SMALL).eval(), CLASSES), device="cpu", batch=2)


@pytest.fixture(scope="module")
def detector(predictor: Predictor) -> Detector:
    return detector_of(predictor)


def options(threshold: float = 0.5, pictures: bool = False) -> Options:
    """As of `predict FILES`."""
    formats = tuple(name for name in OF_PREDICT if pictures or name != "png")
    return Options(formats=formats, threshold=threshold, csebbs="default")


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


# --- windows


def test_ten_seconds_are_one_window(predictor: Predictor, detector: Detector) -> None:
    """So that a clip has the same scores as a file and within its data set."""
    waveform = noise(CLIP_SAMPLES)
    single = predictor.logits(torch.from_numpy(waveform)[None])[0].numpy()
    found = logits_of(detector, [waveform])
    assert found.shape == (156, 27)
    np.testing.assert_allclose(found, single, rtol=1e-6)


@pytest.mark.parametrize(
    ("seconds", "frames"),
    [
        (0.0, 1),
        (0.001, 1),
        (0.1, 2),
        (0.5, 8),
        (9.9, 155),
        (10.0, 156),
        (10.1, 158),
        (15.0, 235),
        (15.1, 236),
        (30.0, 469),
    ],
)
def test_frames_of_a_recording(detector: Detector, seconds: float, frames: int) -> None:
    """To its end, but for the 16 ms that a window of 10 s has after its last frame; at least one."""
    waveform = noise(round(seconds * 16_000))
    found = logits_of(detector, [waveform])
    assert found.shape == (frames, 27)
    assert np.isfinite(found).all()
    assert -FRAME / 4 <= frames * FRAME - len(waveform) < FRAME or not len(waveform)


class Level:
    """Stands for a network: the logit of a frame is the mean of its samples plus a part of its place in the window."""

    def __init__(self, predictor: Predictor, monkeypatch: pytest.MonkeyPatch, slope: float) -> None:
        self.batches: list[int] = []

        def logits(waveform: torch.Tensor) -> torch.Tensor:
            assert waveform.shape[1] == CLIP_SAMPLES
            self.batches.append(len(waveform))
            frames = waveform[:, : 156 * FRAME].reshape(len(waveform), 156, FRAME).mean(dim=2)
            return (frames + slope * torch.arange(156))[..., None].expand(-1, -1, 27)

        monkeypatch.setattr(predictor, "logits", logits)


@pytest.mark.parametrize("frames", [1, 156, 157, 234, 235, 400])
def test_every_frame_of_a_long_recording_is_its_own(
    predictor: Predictor, detector: Detector, monkeypatch: pytest.MonkeyPatch, frames: int
) -> None:
    fake = Level(predictor, monkeypatch, slope=0.0)
    waveform = np.repeat(np.arange(frames, dtype=np.float32), FRAME)
    found = logits_of(detector, [waveform], batch=2)
    np.testing.assert_allclose(found[:, 5], np.arange(frames), rtol=1e-5)
    windows = 1 + max(0, -(-(frames - 156) // HOP))
    assert sum(fake.batches) == windows
    assert max(fake.batches) <= 2


TRIANGLE = np.minimum(np.arange(156) + 0.5, 155.5 - np.arange(156))


def test_where_windows_overlap_the_weighted_mean_counts(
    predictor: Predictor, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    Level(predictor, monkeypatch, slope=1.0)
    found = logits_of(detector, [np.zeros(300 * FRAME, np.float32)])[:, 0]
    sums, weights = np.zeros(300), np.zeros(300)
    for start in (0, 78, 144):  # the last one ends with the recording
        sums[start : start + 156] += TRIANGLE * np.arange(156)
        weights[start : start + 156] += TRIANGLE
    np.testing.assert_allclose(found, sums / weights, rtol=1e-6)


def test_two_windows_of_a_network_are_averaged(predictor: Predictor, detector: Detector) -> None:
    waveform = noise(CLIP_SAMPLES + HOP * FRAME)
    both = np.stack([waveform[:CLIP_SAMPLES], waveform[HOP * FRAME :]])
    first, second = predictor.logits(torch.from_numpy(both)).numpy()
    found = logits_of(detector, [waveform])
    weight = TRIANGLE[78:, None] / (TRIANGLE[78:] + TRIANGLE[:78])[:, None]
    np.testing.assert_allclose(found[:78], first[:78], rtol=1e-5)
    np.testing.assert_allclose(found[78:156], weight * first[78:] + (1 - weight) * second[:78], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[156:234], second[78:], rtol=1e-5)


# --- files


def test_rates_and_channels(detector: Detector, tmp_path: Path) -> None:
    time = np.arange(32_000) / 16_000
    tone = 0.3 * np.sin(2 * np.pi * 440 * time).astype(np.float32)
    soundfile.write(tmp_path / "mono.wav", tone, 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "stereo.flac", np.stack([tone, tone], axis=1), 16_000)
    soundfile.write(tmp_path / "slow.wav", tone[::2], 8_000, subtype="FLOAT")
    found = {}
    for name in ("mono.wav", "stereo.flac", "slow.wav"):
        recording = Recording(tmp_path / name, 16_000)
        logits = logits_of(detector, recording)
        assert recording.samples == 32_000
        assert logits.shape == (32, 27)
        found[name] = logits
    np.testing.assert_allclose(found["stereo.flac"], found["mono.wav"], atol=5e-3)
    assert not np.array_equal(found["slow.wav"], found["mono.wav"])


def test_files_and_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("b.wav", "sub/a.FLAC", "notes.txt", "c.mp3"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "empty").mkdir()
    other = tmp_path / "d.any"
    found = short_names(find_recordings([tmp_path / "in", other]).files)
    assert list(found.values()) == ["b", "c", "a", "d"]
    assert list(found)[-1] == other
    assert capsys.readouterr().err == f"{tmp_path / 'in'}: 1 file of another kind left out: notes.txt\n"
    with pytest.raises(UserError, match=r"empty: no audio in this folder \(\.wav, "):
        find_recordings([tmp_path / "empty"])
    again = find_recordings([tmp_path / "in", tmp_path / "in" / "b.wav"])
    assert again.files.count(tmp_path / "in" / "b.wav") == 1


def test_a_folder_is_heard_as_far_as_it_can_be(detector: Detector, tmp_path: Path) -> None:
    names = mixed_folder(tmp_path / "in")
    recordings = find_recordings([tmp_path / "in"])
    with pytest.raises(UserError, match="2 of 10 files cannot be read") as error:
        detect_files(detector, recordings, tmp_path / "out", options())
    assert error.value.result is not None
    found = error.value.result["files"]
    assert {Path(file).name for file in found} == names
    assert "x.wav/f.FLAC" in found  # the path below the folder that was named
    assert {Path(file).name for file in error.value.result["skipped"]} == {"broken.wav", "gone.flac"}
    assert set(read_scores(tmp_path / "out" / "scores").clips) == stems(tmp_path)
    assert len(list((tmp_path / "out").glob("*.json"))) == len(names)


def stems(place: Path) -> set[str]:
    return {path.stem for path in (place / "out").glob("*.json")}


def test_blocks_of_any_size_give_the_same(predictor: Predictor, detector: Detector) -> None:
    waveform = noise(35 * 16_000)
    expected = logits_of(detector, [waveform])
    for size in (1_000, 79_872, 160_000, 200_001):
        blocks = np.split(waveform, np.arange(size, len(waveform), size))
        np.testing.assert_array_equal(logits_of(detector, blocks), expected)
    np.testing.assert_array_equal(
        log_mel(predictor.front_end, np.split(waveform, 7)), log_mel(predictor.front_end, [waveform])
    )


def test_the_picture_of_a_long_recording_is_joined_to_columns(predictor: Predictor) -> None:
    quiet, loud = noise(150 * 16_000), noise(150 * 16_000)
    loud[75 * 16_000 :] *= 10
    short, long = (log_mel(predictor.front_end, [x]) for x in (quiet[: 100 * 16_000], loud))
    assert long.shape[0] == short.shape[0]
    assert long.shape[1] == pytest.approx(1.5 * short.shape[1] / 16, rel=0.02)
    half = long.shape[1] // 2
    assert long[:, half + 5 :].mean() > long[:, : half - 5].mean()


# --- data sets


def test_a_data_set(tiny: Configure, predictor: Predictor, detector: Detector, tmp_path: Path) -> None:
    config = tiny("data.eval_batch=4")
    assert predict_set(predictor, config, "devtest", tmp_path) == 6
    stored = read_logits(tmp_path / "devtest.h5")
    clips = load_set(config.data, "devtest", "test")
    assert list(stored.names) == sorted(Path(clip).stem for clip in clips.clips)
    assert (stored.classes, stored.frame_seconds, stored.logits.shape) == (CLASSES, 0.064, (6, 156, 27))
    root = Path(str(config.data.root))
    for name, logits, seconds in zip(stored.names, stored.logits, stored.durations, strict=True):
        path = root / SETS["devtest"].audio[0] / f"{name}.wav"
        recording = Recording(path, 16_000)
        of_file = logits_of(detector, recording)
        assert seconds == pytest.approx(recording.seconds)
        np.testing.assert_allclose(logits[: len(of_file)], of_file, rtol=1e-4, atol=1e-5)


def test_a_validation_set_is_its_validation_part(tiny: Configure, predictor: Predictor, tmp_path: Path) -> None:
    config = tiny()
    predict_set(predictor, config, "weak", tmp_path)
    clips = load_set(config.data, "weak", "validation").clips
    assert list(read_logits(tmp_path / "weak.h5").names) == sorted(Path(clip).stem for clip in clips)


def test_a_network_of_other_classes(tiny: Configure, tmp_path: Path) -> None:
    network = CRNN(ModelConfig(**{**SMALL.__dict__, "num_classes": 2})).eval()
    other = Predictor(Loaded(network, ("Gong", "Kazoo")), device="cpu")
    with pytest.raises(UserError, match=r"the checkpoint's classes \(Gong, Kazoo, \.\.\.\) are not those of devtest"):
        predict_set(other, tiny(), "devtest", tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- events


def test_events_of_a_clip_are_boxes_above_the_threshold() -> None:
    scores = np.full((20, 2), 0.01)
    scores[5:15, 0] = 0.9
    scores[5:15, 1] = 0.4
    clip = ClipScores(np.arange(21) * 0.064, scores)
    found = events_of(ScoreSet(("A", "B"), {"clip": clip}), CsebbsParameters(), 0.5)
    assert [(e.label, e.onset, e.offset) for e in found] == [("A", 0.32, 0.96)]
    assert found[0].confidence == pytest.approx(0.9)
    everything = events_of(ScoreSet(("A", "B"), {"clip": clip}), CsebbsParameters(), 0.0)
    assert {e.label for e in everything} == {"A", "B"}
    assert everything == sorted(everything, key=lambda e: (e.onset, e.label))


def test_what_is_written_for_a_file(detector: Detector, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", noise(1_600), 16_000)
    soundfile.write(tmp_path / "long.wav", noise(25 * 8_000), 8_000)
    out, recordings = tmp_path / "out", Recordings([tmp_path / "short.wav", tmp_path / "long.wav"])
    found = detect_files(detector, recordings, out, options(0.3, pictures=True), draw_events)["files"]
    assert set(found) == {str(tmp_path / "short.wav"), str(tmp_path / "long.wav")}
    found = {Path(file).stem: events for file, events in found.items()}
    assert {path.name for path in out.iterdir()} == {
        "scores",
        *(f"{name}.{suffix}" for name in ("short", "long") for suffix in ("tsv", "json", "txt", "png")),
    }
    for name, seconds in (("short", 0.1), ("long", 25.0)):
        about = json.loads((out / f"{name}.json").read_text())
        assert (about["file"], about["duration"]) == (str(tmp_path / f"{name}.wav"), seconds)
        assert about["events"] == found[name]
        columns = ("filename", "onset", "offset", "event_label", "confidence")
        rows = read_rows(out / f"{name}.tsv", columns)
        assert [{**row, "filename": ""} for row in rows] == [
            {"filename": "", **{key: str(value) for key, value in event.items()}} for event in found[name]
        ]
        labels = (out / f"{name}.txt").read_text().splitlines()
        assert len(labels) == len(rows)
        assert all(event["offset"] <= seconds + 1e-9 and event["confidence"] >= 0.3 for event in found[name])
    assert found["long"]
    events = read_soft(out / "long.tsv", CLASSES)  # the project's own tables read it
    first = {"label" if k == "event_label" else k: v for k, v in found["long"][0].items()}
    assert first.pop("peak") >= first["confidence"]
    assert events["long.wav"][0] == Event(**first)
    stored = read_scores(out / "scores")
    assert set(stored.clips) == {"short", "long"}
    assert stored.clips["short"].edges.tolist() == [0.0, 0.064, 0.1]
    assert stored.clips["long"].scores.shape == (391, 27)
    logits = logits_of(detector, Recording(tmp_path / "long.wav", 16_000))
    np.testing.assert_allclose(stored.clips["long"].scores, 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_what_lies_in_out_of_other_files_stays(detector: Detector, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "scores").mkdir(parents=True)
    own = {"mine.tsv": "onset\toffset\n", "scores/mine.tsv": "x", "scores/notes.txt": "y"}
    for name, text in own.items():
        (out / name).write_text(text)
    for name, seed in (("a", 1), ("b", 2), ("a", 3)):  # a is replaced
        soundfile.write(tmp_path / f"{name}.wav", noise(16_000, seed), 16_000)
        detect_files(detector, Recordings([tmp_path / f"{name}.wav"]), out, options())
    assert {name: (out / name).read_text() for name in own} == own
    assert sorted(path.name for path in out.iterdir() if path.stem in "ab") == [
        f"{name}.{suffix}" for name in "ab" for suffix in ("json", "tsv", "txt")
    ]
    (out / "scores" / "mine.tsv").unlink()
    stored = read_scores(out / "scores").clips
    assert set(stored) == {"a", "b"}
    logits = logits_of(detector, Recording(tmp_path / "a.wav", 16_000))
    np.testing.assert_allclose(stored["a"].scores, 1 / (1 + np.exp(-logits)), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "text"), [("a.tsv", "onset\toffset\n"), ("a.txt", "0\t1\tmine\n"), ("a.json", "{}"), ("a.json", "5")]
)
def test_a_table_of_somebody_else_is_not_touched(detector: Detector, tmp_path: Path, name: str, text: str) -> None:
    """`--out` may be the folder of the recordings, with their own annotation beside them."""
    soundfile.write(tmp_path / "a.wav", noise(16_000), 16_000)
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=rf"{name}: is there and not of an earlier `predict`"):
        detect_files(detector, Recordings([tmp_path / "a.wav"]), tmp_path, options())
    assert (tmp_path / name).read_text() == text
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a.wav", name])


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_a_threshold_out_of_range(threshold: float) -> None:
    with pytest.raises(UserError, match=r"--threshold is .*, expected 0 to 1"):
        options(threshold)


def test_a_broken_file_leaves_nothing_half_written(detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("not audio")
    recordings = find_recordings([tmp_path / "a.wav"])
    with pytest.raises(UserError, match=r"a\.wav: not readable") as error:
        detect_files(detector, recordings, tmp_path / "out", options())
    assert error.value.result is not None
    assert error.value.result["files"] == {}
    assert not list(tmp_path.glob("out/*"))
