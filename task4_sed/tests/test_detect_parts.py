"""The verb `detect`: parts and channels of files, samples that are no numbers, tags, tracks, embeddings."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from common.audio.recordings import find_recordings
from common.run.errors import UserError
from common.run.files import read_rows
from task4_sed.config import Format
from task4_sed.evaluation.plots import draw_events
from task4_sed.inference.detect import detect_files
from task4_sed.inference.detectors import load_detector
from task4_sed.inference.events import Detection
from task4_sed.inference.formats import write_tracks
from task4_sed.inference.options import Options
from task4_sed.inference.scores import read_logits
from task4_sed.tests.test_detect import CLASSES, DETECTOR, RATE, recording, told, write

__all__ = ["recording"]  # a fixture


def test_tags_are_the_highest_and_the_mean_score(recording: Path, tmp_path: Path) -> None:
    detect_files(DETECTOR, find_recordings([recording]), tmp_path, Options(("tags", "npz")))
    rows = read_rows(tmp_path / "a.tags.tsv", ("event_label", "max", "mean", "mid"))
    with np.load(tmp_path / "a.npz") as arrays:
        scores = dict(zip(CLASSES, arrays["scores"].astype(float).T, strict=True))
    assert [row["event_label"] for row in rows] == sorted(CLASSES, key=lambda name: -scores[name].max())
    for row in rows:
        of = scores[row["event_label"]]
        assert (row.number("max"), row.number("mean")) == (
            pytest.approx(of.max(), abs=1e-3),
            pytest.approx(of.mean(), abs=1e-3),
        )
        assert row["mid"].startswith("/m/")


def test_tracks_of_an_earlier_call_go(recording: Path, tmp_path: Path) -> None:
    folder = tmp_path / "o" / "tracks" / "a"
    for labels in (("Loud", "Quiet"), ("Quiet",)):
        detect_files(DETECTOR, find_recordings([recording]), tmp_path / "o", Options(("tracks",), labels=labels))
    assert {path.name for path in folder.iterdir()} == {"Loud.txt", "Quiet.txt"}, "not a class of this call"
    detect_files(DETECTOR, find_recordings([recording]), tmp_path / "o", Options(("tracks",), top=1))
    assert {path.name for path in folder.iterdir()} == {"Loud.txt"}


def test_names_of_classes_that_are_none_of_files(tmp_path: Path) -> None:
    write_tracks(tmp_path, [Detection(0, 1, "AC/DC", 0.5), Detection(1, 2, "AC:DC", 0.5)], ())
    assert (tmp_path / "AC_DC.txt").read_text().count("\n") == 2


def test_a_part_of_a_file(recording: Path, tmp_path: Path) -> None:
    """As if the part were a file, but for times: those of the whole file, but in scores to be evaluated."""
    samples, _ = soundfile.read(recording, dtype="float32")
    (tmp_path / "cut").mkdir()
    soundfile.write(tmp_path / "cut" / "a.wav", samples[round(2.2 * RATE) : 12 * RATE], RATE, subtype="FLOAT")
    formats: tuple[Format, ...] = ("scores", "npz", "h5", "png")
    cut, part = tmp_path / "1", tmp_path / "2"
    detect_files(DETECTOR, find_recordings([tmp_path / "cut" / "a.wav"]), cut, Options(formats), draw_events)
    options = Options(formats, start=2.2, end=12.0)
    detect_files(DETECTOR, find_recordings([recording]), part, options, draw_events)
    assert told(part)["duration"] == told(cut)["duration"] == 9.8
    assert told(part)["settings"]["start"] == 2.2
    expected = [
        {**e, "onset": round(e["onset"] + 2.2, 3), "offset": round(e["offset"] + 2.2, 3)} for e in told(cut)["events"]
    ]
    assert told(part)["events"] == expected
    assert [(e["event_label"], e["onset"], e["offset"]) for e in expected if e["event_label"] == "Loud"] == [
        ("Loud", 3.0, 5.0)
    ]
    assert (part / "scores" / "a.tsv").read_text() == (cut / "scores" / "a.tsv").read_text()
    assert read_logits(part / "a.h5").durations == pytest.approx(9.8)
    with np.load(part / "a.npz") as later, np.load(cut / "a.npz") as of_cut:
        np.testing.assert_allclose(later["edges"], of_cut["edges"] + 2.2)
    assert (part / "a.png").is_file()
    with pytest.raises(UserError, match=r"a\.wav: lasts 14\.01 s, expected more than --start 20"):
        detect_files(DETECTOR, find_recordings([recording]), part, Options(("json",), start=20.0))


def test_samples_that_are_not_finite_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples, _ = soundfile.read(write(tmp_path / "a.wav", (3.0, 0.02), (2.0, 0.3)), dtype="float32")
    zeros = samples.copy()
    samples[[800, 40_000]], zeros[[800, 40_000]] = (np.nan, np.inf), 0
    for name, values in (("bad", samples), ("zero", zeros)):
        soundfile.write(tmp_path / f"{name}.wav", values, RATE, subtype="FLOAT")
    detect_files(
        DETECTOR, find_recordings([tmp_path / "bad.wav", tmp_path / "zero.wav"]), tmp_path / "o", Options(("npz",))
    )
    assert told(tmp_path / "o", "bad")["events"] == told(tmp_path / "o", "zero")["events"]
    assert "note" not in told(tmp_path / "o", "zero")
    assert told(tmp_path / "o", "bad")["note"] == "2 samples are not finite, the first (NaN) at 0.0500 s: heard as 0"
    assert "bad.wav: 2 samples are not finite" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"bad\.wav: 2 samples are not finite, the first \(NaN\) at 0\.0500 s"):
        detect_files(DETECTOR, find_recordings([tmp_path / "bad.wav"]), tmp_path / "p", Options(("npz",), mend=False))


def test_each_channel_apart(tmp_path: Path) -> None:
    for name, steps in (("l", (2.0, 0.3)), ("r", (2.0, 0.02))):
        write(tmp_path / f"{name}.wav", steps)
    sides = [soundfile.read(tmp_path / f"{name}.wav", dtype="float32")[0] for name in "lr"]
    soundfile.write(tmp_path / "s.wav", np.stack(sides, axis=1), RATE, subtype="FLOAT")
    formats: tuple[Format, ...] = ("tsv", "raven", "npz", "png")
    out = tmp_path / "out"
    options = Options(formats, channels=True, merged=tmp_path / "all.tsv", resume=True)
    found = detect_files(DETECTOR, find_recordings([tmp_path / "s.wav"]), out, options, draw_events)
    apart = detect_files(
        DETECTOR, find_recordings([tmp_path / "l.wav", tmp_path / "r.wav"]), tmp_path / "o", Options(("json",))
    )
    assert list(found["files"].values()) == list(apart["files"].values())
    assert list(found["files"]) == [f"{tmp_path}/s.wav channel {number}" for number in (1, 2)]
    assert {path.name for path in out.glob("*.tsv")} == {"s-ch1.tsv", "s-ch2.tsv"}
    assert (told(out, "s-ch2")["channel"], told(out, "s-ch2")["file"]) == (2, f"{tmp_path}/s.wav")
    rows = read_rows(tmp_path / "all.tsv", ("filename", "channel", "onset"))
    assert {(row["filename"], row["channel"], row["event_label"]) for row in rows} == {
        (f"{tmp_path}/s.wav", "1", "Dog; bark"),
        (f"{tmp_path}/s.wav", "1", "Loud"),
        (f"{tmp_path}/s.wav", "2", "Quiet"),
    }
    raven = list(csv.DictReader(io.StringIO((out / "s-ch2.selections.txt").read_text()), delimiter="\t"))
    assert [row["Channel"] for row in raven] == ["2"]
    assert (
        detect_files(DETECTOR, find_recordings([tmp_path / "s.wav"]), out, options, draw_events)["audio_seconds"] == 0
    )


def test_embeddings(recording: Path, tmp_path: Path) -> None:
    detector = load_detector(["random:frame_mn-tiny"], "cpu")
    detect_files(detector, find_recordings([recording]), tmp_path, Options(("embeddings", "npz")))
    assert detector.embed is not None
    with np.load(tmp_path / "a.embeddings.npz") as arrays, np.load(tmp_path / "a.npz") as scores:
        frames, edges = arrays["frames"].astype(float), arrays["edges"]
        np.testing.assert_array_equal(edges, scores["edges"])
        with_them = scores["scores"]
    waveform, _ = soundfile.read(recording, dtype="float32")
    first = detector.embed(torch.from_numpy(waveform[None, : 10 * RATE]))[1][0, :100]
    np.testing.assert_allclose(frames[:100], first.detach().numpy(), atol=1e-3)
    assert len(frames) == 351
    detect_files(detector, find_recordings([recording]), tmp_path, Options(("npz",)))
    with np.load(tmp_path / "a.npz") as scores:
        np.testing.assert_array_equal(scores["scores"], with_them)
    with pytest.raises(UserError, match="--formats embeddings: fake gives none"):
        detect_files(DETECTOR, find_recordings([recording]), tmp_path, Options(("embeddings",)))
