"""The verb `detect`: every format, pages and parts, parity, resuming, broken and empty files, memory."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

import task4_sed
from common.audio.recordings import find_recordings
from common.run.errors import UserError
from common.run.files import read_rows
from common.run.verbs import main
from task4_sed.__main__ import TASK
from task4_sed.evaluation.plots import draw_events
from task4_sed.inference.detect import detect_files
from task4_sed.inference.options import Options
from task4_sed.inference.scores import read_logits, read_scores
from task4_sed.metrics.filters import running_median
from task4_sed.tests.detectors import fake, logits_of
from task4_sed.tests.test_checkpoints import own
from task4_sed.tests.test_exported_task4 import leave_run

RATE, STEP, FRAMES = 16_000, 640, 250
CLASSES = ("Loud", "Quiet", "Dog; bark")
ALL = ("tsv", "csv", "json", "audacity", "raven", "tracks", "tags", "scores", "npz", "h5", "png", "svg")


def levels(windows: Tensor) -> Tensor:
    """Logits that follow the level of each frame: of 0.1 it is 0."""
    level = windows.reshape(len(windows), FRAMES, STEP).abs().mean(dim=2)
    loud = 40 * (level - 0.1)
    return torch.stack([loud, -loud, loud - 1], dim=2)


DETECTOR = fake(levels, CLASSES)


def write(path: Path, *steps: tuple[float, float]) -> Path:
    """Noise of (seconds, level), one after the other."""
    rng = np.random.default_rng(0)
    parts = [level * rng.choice([-1.0, 1.0], round(seconds * RATE)) for seconds, level in steps]
    soundfile.write(path, np.concatenate(parts), RATE, subtype="FLOAT")
    return path


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write(tmp_path / "a.wav", (3.0, 0.02), (2.0, 0.3), (9.01, 0.02))


def told(out: Path, name: str = "a") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / f"{name}.json").read_text())
    return found


def test_every_format_says_the_same(recording: Path, tmp_path: Path) -> None:
    out, options = tmp_path / "out", Options(ALL, merged=tmp_path / "all.csv", labels=("Loud", "Dog; bark"))
    answer = detect_files(DETECTOR, find_recordings([recording]), out, options, draw_events)
    (events,) = answer["files"].values()
    assert [(e["event_label"], e["onset"], e["offset"], e["mid"]) for e in events] == [
        ("Dog; bark", 3.0, 5.0, "/m/dog;_bark"),
        ("Loud", 3.0, 5.0, "/m/loud"),
    ]
    about = told(out)
    assert about["events"] == events
    assert (about["duration"], about["model"], about["checkpoint"]) == (14.01, "fake", "0" * 64)
    assert about["settings"]["rule"]["threshold"] == 0.2
    columns = ("filename", "onset", "offset", "event_label", "confidence", "peak", "mid")
    for path in (out / "a.tsv", out / "a.csv", tmp_path / "all.csv"):
        rows = read_rows(path, columns)
        assert [list(row) for row in rows] == [list(columns)] * 2
        assert [{k: v for k, v in row.items() if k != "filename"} for row in rows] == [
            {key: str(value) for key, value in event.items()} for event in events
        ]
    labels = [line.split("\t") for line in (out / "a.txt").read_text().splitlines()]
    assert labels[1] == ["3.000000", "5.000000", f"Loud {events[1]['confidence']:.2f}"]
    raven = list(csv.DictReader(io.StringIO((out / "a.selections.txt").read_text()), delimiter="\t"))
    assert [(row["Selection"], row["Begin Time (s)"], row["End Time (s)"], row["Annotation"]) for row in raven] == [
        ("1", "3.000000", "5.000000", "Dog; bark"),
        ("2", "3.000000", "5.000000", "Loud"),
    ]
    assert [(row["Score"], row["Peak"], row["MID"]) for row in raven] == [
        (str(e["confidence"]), str(e["peak"]), e["mid"]) for e in events
    ]
    assert (out / "a.png").stat().st_size > 10_000
    assert "<svg" in (out / "a.svg").read_text()
    assert {path.name for path in out.iterdir()} == {
        *("a.tsv", "a.csv", "a.json", "a.txt", "a.selections.txt", "a.npz", "a.h5", "a.png", "a.svg", "a.tags.tsv"),
        *("scores", "tracks"),
    }
    tracks = {path.name: path.read_text() for path in (out / "tracks" / "a").iterdir()}
    assert set(tracks) == {"Loud.txt", "Dog; bark.txt"}
    assert "".join(tracks[name] for name in ("Dog; bark.txt", "Loud.txt")) == (out / "a.txt").read_text()


def test_frame_scores_are_the_same_in_three_forms(recording: Path, tmp_path: Path) -> None:
    detect_files(DETECTOR, find_recordings([recording]), tmp_path, Options(("scores", "npz", "h5")))
    waveform, _ = soundfile.read(recording, dtype="float32")
    expected = 1 / (1 + np.exp(-logits_of(DETECTOR, [waveform])))
    assert len(expected) == 351
    stored = read_scores(tmp_path / "scores")
    assert stored.classes == CLASSES
    np.testing.assert_allclose(stored.clips["a"].scores, expected, atol=1e-6)
    assert stored.clips["a"].edges[[0, 1, -2, -1]] == pytest.approx([0, 0.04, 14.0, 14.01])
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["scores"].dtype == np.float16
        np.testing.assert_allclose(arrays["scores"], expected, atol=1e-3)
        np.testing.assert_allclose(arrays["edges"], stored.clips["a"].edges)
        assert (tuple(arrays["classes"]), tuple(arrays["mids"])) == (CLASSES, DETECTOR.mids)
    logits = read_logits(tmp_path / "a.h5")
    assert (logits.names, logits.classes, logits.frame_seconds) == (("a",), CLASSES, 0.04)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits.logits[0].astype(float))), expected, atol=1e-3)


def test_top_thresholds_and_groups(recording: Path, tmp_path: Path) -> None:
    def found(**options: Any) -> list[tuple[str, float, float]]:
        answer = detect_files(DETECTOR, find_recordings([recording]), tmp_path / "o", Options(("json",), **options))
        return [(e["event_label"], e["onset"], e["offset"]) for of in answer["files"].values() for e in of]

    quiet = [("Quiet", 0.0, 3.0), ("Quiet", 5.0, 14.01)]
    assert sorted(found(threshold=0.5)) == [("Dog; bark", 3.0, 5.0), ("Loud", 3.0, 5.0), *quiet]
    assert found(top=1) == [("Loud", 3.0, 5.0)]
    assert sorted(found(threshold=0.5, min_duration=2.5)) == quiet
    assert found(threshold=0.5, gap=2.0, labels=("/m/quiet",)) == [("Quiet", 0.0, 14.01)]
    assert found(csebbs="default", threshold=0.9, labels=("loud",)) == [("Loud", 3.0, 5.0)]
    (tmp_path / "g.csv").write_text("event_label,group\nLoud,Sound\nDog; bark,Sound\n")
    assert found(groups=tmp_path / "g.csv") == [("Sound", 3.0, 5.0)]
    (tmp_path / "t.csv").write_text("event_label,threshold\nLoud,1\nQuiet,1\n")
    assert found(per_class=tmp_path / "t.csv") == [("Dog; bark", 3.0, 5.0)]


def test_parity_is_what_the_published_script_does(tmp_path: Path) -> None:
    """By hand: chunks of 10 s, the last filled up with zeros; median over 9 frames; three thresholds; times cut."""
    path = write(tmp_path / "a.wav", (3.0, 0.02), (2.0, 0.3), (8.5, 0.06), (1.0, 0.2))
    detect_files(DETECTOR, find_recordings([path]), tmp_path / "out", Options(("tsv",), parity=True))
    waveform, _ = soundfile.read(path, dtype="float32")
    chunks = np.pad(waveform, (0, 2 * 160_000 - len(waveform))).reshape(2, 160_000)
    scores = 1 / (1 + np.exp(-levels(torch.from_numpy(chunks)).numpy().astype(np.float64).reshape(500, 3)))
    scores = running_median(scores.T, 9)
    seconds, expected = len(waveform) / RATE, []
    for threshold in (0.1, 0.2, 0.5):
        rows = []
        for name, row in zip(CLASSES, scores, strict=True):
            frame = 0
            while frame < 500:
                stop = frame
                while stop < 500 and row[stop] > threshold:
                    stop += 1
                if stop > frame:
                    rows.append((min(frame * 0.04, seconds), min(stop * 0.04, seconds), name))
                frame = max(stop, frame + 1)
        expected += [(threshold, *row) for row in sorted(rows, key=lambda row: (row[0], row[2]))]
    found = read_rows(tmp_path / "out" / "a.tsv", ("threshold", "onset", "offset", "event_label"))
    assert [(float(r["threshold"]), float(r["onset"]), float(r["offset"]), r["event_label"]) for r in found] == [
        (threshold, pytest.approx(on), pytest.approx(off), name) for threshold, on, off, name in expected
    ]
    assert [r for r in found if r["onset"] == r["offset"] == str(seconds)], "of what the padding would be"
    detect_files(DETECTOR, find_recordings([path]), tmp_path / "out", Options(("tsv",), parity=True, threshold=0.5))
    assert "threshold" not in read_rows(tmp_path / "out" / "a.tsv", ("onset",))[0]


def test_silent_short_and_loud_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "silent.wav", (12.0, 0.0))
    write(tmp_path / "short.wav", (0.009, 0.3))
    write(tmp_path / "loud.wav", (1.0, 1.0), (9.0, 0.02))
    (tmp_path / "broken.wav").write_text("no sound")
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"broken\.wav: not readable .*; the 3 others are done") as error:
        detect_files(DETECTOR, find_recordings([tmp_path]), out, Options(ALL), draw_events)
    assert error.value.result is not None
    assert {name: bool(events) for name, events in error.value.result["files"].items()} == {
        "loud.wav": True,
        "short.wav": False,
        "silent.wav": False,
    }
    assert (told(out, "silent")["note"], told(out, "short")["note"]) == ("silent", "shorter than 0.01 s")
    assert told(out, "loud")["note"] == "10 % of its samples at full scale: clipped?"
    assert f"{tmp_path}/loud.wav: 10 % of its samples at full scale" in capsys.readouterr().err
    for name, frames in (("silent", 300), ("short", 1)):
        assert (out / f"{name}.txt").read_text() == ""
        assert read_rows(out / f"{name}.tsv", ("filename", "event_label")) == []
        assert read_scores(out / "scores").clips[name].scores.shape == (frames, 3)
        assert (out / f"{name}.png").is_file()
    assert not list(out.glob("broken*"))


def test_resuming_hears_only_what_is_not_done(tmp_path: Path) -> None:
    heard: list[int] = []

    def hear(windows: Tensor) -> Tensor:
        heard.append(len(windows))
        return levels(windows)

    detector, out = fake(hear, CLASSES), tmp_path / "out"
    for name in "ab":
        write(tmp_path / f"{name}.wav", (1.0, 0.3))

    def call(formats: tuple[Any, ...] = ("tsv", "csv"), **options: Any) -> tuple[int, Any]:
        heard.clear()
        found = detect_files(
            detector,
            find_recordings([tmp_path / "a.wav", tmp_path / "b.wav"]),
            out,
            Options(formats, resume=True, **options),
        )["files"]
        return sum(heard), found

    first = call()
    assert first[0] == 2
    assert call() == (0, first[1])
    (out / "b.json").write_text(json.dumps({**told(out, "b"), "formats": None}))  # as an interruption leaves it
    assert call() == (1, first[1])
    write(tmp_path / "a.wav", (1.0, 0.02))
    assert call()[0] == 1, "another recording of the same name"
    (tmp_path / "g.csv").write_text("event_label,group\nLoud,Sound\n")
    assert [call(groups=tmp_path / "g.csv")[0] for _ in range(2)] == [2, 0]
    (tmp_path / "g.csv").write_text("event_label,group\nLoud,Sound\nQuiet,Sound\n")
    assert call(groups=tmp_path / "g.csv")[0] == 2
    assert [call(threshold=0.3)[0], call(threshold=0.3)[0], call(("tsv",), threshold=0.3)[0]] == [2, 0, 2]


def test_pages_parts_and_rows(recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, Any, Any, Any, Any]] = []

    def draw(path: Path, mel: np.ndarray, scores: Any, events: Any, **more: Any) -> None:
        draw_events(path, mel, scores, events, **more)
        drawn.append((path.name, mel, scores.clips["clip"], (more["rows"], more["title"], len(events)), more["truth"]))

    def pictures(**options: Any) -> list[tuple[str, Any, Any, Any, Any]]:
        drawn.clear()
        detect_files(DETECTOR, find_recordings([recording]), tmp_path / "o", Options(("png",), **options), draw)
        return drawn

    (whole,) = pictures(rows=2)
    assert (whole[0], whole[3]) == ("a.png", (2, "a.wav", 4))
    assert whole[2].scores.shape == (351, 3)
    pages = pictures(page=6.0)
    assert [page[0] for page in pages] == ["a-0-6.png", "a-6-12.png", "a-12-14.01.png"]
    assert [page[2].edges[[0, -1]].tolist() for page in pages] == [[0, 6], [6, 12], [12, 14.01]]
    assert pages[2][3] == (None, "a.wav, 0:12 to 0:14", 1)
    np.testing.assert_array_equal(np.concatenate([page[2].scores for page in pages]), whole[2].scores)
    (part,) = pictures(zoom=(2.0, 4.0))
    assert (part[0], part[2].scores.shape, part[3][2]) == ("a-2-4.png", (50, 3), 3)
    assert part[1].shape[1] == pytest.approx(2 * RATE / 256, abs=1)
    assert pictures(zoom=(20.0, 30.0)) == []
    (tmp_path / "truth.tsv").write_text(
        "filename\tonset\toffset\tevent_label\na.wav\t3\t4.9\tLoud\na.wav\t9\t9.5\tBird\n"
    )
    pages = pictures(page=6.0, truth=tmp_path / "truth.tsv")
    assert [[event.label for event in page[4]] for page in pages] == [["Loud"], ["Bird"], []]


def test_nothing_of_somebody_else_is_replaced(recording: Path, tmp_path: Path) -> None:
    (tmp_path / "a.selections.txt").write_text("mine")
    with pytest.raises(UserError, match=r"a\.selections\.txt: is there and not of an earlier"):
        detect_files(DETECTOR, find_recordings([recording]), tmp_path, Options(("raven",)))
    assert (tmp_path / "a.selections.txt").read_text() == "mine"


def test_networks_without_mids_have_boxes(recording: Path, tmp_path: Path) -> None:
    detector = fake(levels, CLASSES, mids=False)
    found = detect_files(detector, find_recordings([recording]), tmp_path, Options(("tsv",)))
    assert told(tmp_path)["settings"]["csebbs"] == "default"
    assert "mid" not in read_rows(tmp_path / "a.tsv", ("peak",))[0]
    assert found["files"][str(recording)] == told(tmp_path)["events"]
    detect_files(detector, find_recordings([recording]), tmp_path, Options(("tsv",), median=0.0))
    assert told(tmp_path)["settings"]["rule"]["median"] == 0.0


# ------------------------------------------------------------------------------------------------------------- verb


@pytest.fixture
def desk(recording: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(recording.parent)
    return recording.parent


def test_the_verb(desk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["detect", "a.wav", "--model", "yamnet", "--threshold", "0.3", "--formats", "tsv", "raven", "--json"]
    assert main(TASK, words) == 0
    shown = capsys.readouterr()
    answer = json.loads(shown.out.splitlines()[-1])
    assert set(answer["files"]) == {"a.wav"}
    assert "stand-in: YAMNet" in answer["note"]
    assert re.search(r"of audio in \d:\d\d, real-time factor 0\.\d{4}", shown.out)
    assert re.search(r"detect: 1/1 files .* · real-time factor [\d.]+ · a\.wav", shown.err)
    assert sorted(path.name for path in Path("predictions").iterdir()) == ["a.json", "a.selections.txt", "a.tsv"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.wav\n\n")))
    assert main(TASK, [*words[:1], "-", *words[2:]]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["files"] == answer["files"]
    assert main(TASK, [*words[:1], "[a-b].*av", *words[2:]]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["files"] == answer["files"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "yamnet"], "detect: no files"),
        (["a.wav"], "the following arguments are required: --model"),
        (["a.wav", "--model", "yamnett"], "'yamnett': no network that detects; did you mean 'yamnet'?"),
        (
            ["a.wav", "--model", "yamnet", "--labels", "Spech"],
            "--labels: unknown class 'Spech'; did you mean 'speech'?",
        ),
        (["a.wav", "--model", "yamnet", "--threshold", "2"], "--threshold is 2, expected 0 to 1"),
        (["a.wav", "--model", "yamnet", "--formats", "xml"], "invalid choice: 'xml'"),
        (["gone.txt", "--model", "yamnet"], "gone.txt: list of recordings not found"),
        (["gone.wav", "--model", "yamnet"], "gone.wav: audio file not found"),
        (["gone*.wav", "--model", "yamnet"], "gone*.wav: audio file not found"),
        (["a.wav", "--model", "yamnet", "--start", "-1"], "--start is -1, expected seconds of at least 0"),
        (["a.wav", "--model", "yamnet", "--start", "3", "--end", "2"], "--end is 2, expected seconds after 3"),
        (["a.wav", "--model", "yamnet", "--start", "20"], "a.wav: lasts 14.01 s, expected more than --start 20"),
        (["a.wav", "--model", "frame_mn06", "--weights", "gone"], "gone: folder of published checkpoints not found"),
        (["a.wav", "--model", "yamnet", "--threads", "0"], "--threads is 0, expected at least 1"),
        (
            ["a.wav", "--model", "yamnet", "--precision", "float16", "--device", "cpu"],
            "--precision float16 is for a GPU",
        ),
        (["a.wav", "--model", "yamnet", "--out", "a.wav"], "--out: a.wav is a file"),
    ],
)
def test_the_verb_says_what_is_wrong(
    desk: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(TASK, ["detect", *words]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert not list(Path("predictions").glob("*"))


MEMORY = """
import re, sys
from pathlib import Path
from common.audio.recordings import find_recordings
from task4_sed.inference.detect import detect_files
from task4_sed.inference.options import Options
from task4_sed.tests.test_detect import DETECTOR
options = Options(("tsv", "npz", "h5"))
detect_files(DETECTOR, find_recordings([Path(sys.argv[1])]), Path(sys.argv[2]), options)
print(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is told by /proc")
def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    minute, peaks = write(tmp_path / "a.wav", (30.0, 0.02), (30.0, 0.3)), []
    for minutes in (2, 90):
        path = tmp_path / f"{minutes}.flac"
        with soundfile.SoundFile(path, "w", RATE, 1) as file:
            for _ in range(minutes):
                file.write(soundfile.read(minute, dtype="float32")[0])
        words = [sys.executable, "-c", MEMORY, str(path), str(tmp_path / "out")]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.splitlines()[-1]) // 1024)
    assert peaks[1] < peaks[0] + 50, "MB; 90 minutes of samples are 345"


def test_one_line_of_python_is_the_same_code(desk: Path) -> None:
    best = leave_run(desk, own())
    found = task4_sed.detect("a.wav", model=best, threshold=0.1)
    assert main(TASK, ["detect", "a.wav", "--model", str(best), "--threshold", "0.1", "--formats", "json"]) == 0
    assert told(Path("predictions"))["events"] == found
