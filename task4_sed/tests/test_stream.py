"""Events of a sound that goes on: the same as of windows scored one by one, whatever the pieces in which it comes."""

import io
import json
import sys
import tracemalloc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from common.audio.reading import to_pcm16
from common.run.errors import UserError
from common.run.verbs import main
from task4_sed.__main__ import TASK
from task4_sed.inference import stream
from task4_sed.inference.detectors import Detector, load_detector
from task4_sed.inference.labels import labels_of

FRAME, FRAMES = 640, 250
RATE = 16_000


def loudness(windows: Tensor) -> Tensor:
    """Logits (batch, 250, 2) of which the scores are the frames' level and its opposite."""
    level = windows.unflatten(1, (FRAMES, FRAME)).abs().amax(dim=2).clamp(1e-6, 1 - 1e-6)
    return torch.stack((level, 1 - level), dim=2).logit()


def ears(hear: Any = loudness, frame_seconds: float = 0.04, window_seconds: float = 10.0) -> Detector:
    classes, mids = ("Loud", "Quiet"), ("/m/1", "/m/2")
    return Detector("ears", classes, mids, window_seconds, frame_seconds, None, None, torch.device("cpu"), hear)


def bursts(seconds: float) -> np.ndarray:
    """Noise that is loud in some tenths of a second."""
    random = np.random.default_rng(3)
    gain = np.repeat(random.choice([0.02, 0.9], round(10 * seconds)), RATE // 10)
    return (gain * random.uniform(-1, 1, len(gain))).astype(np.float32)


def changes(detector: Detector, blocks: Any, threshold: float = 0.5, low: float | None = None) -> list[Any]:
    heard = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal heard
        for block in blocks:
            heard += len(block)
            yield block

    labels = labels_of(detector.classes, detector.mids)
    follower = stream.Follower(labels, detector.frame_seconds, threshold, threshold if low is None else low)
    found = [change for scores in stream.regions(detector, labels, counted()) for change in follower(scores)]
    return found + list(follower.finish(heard / RATE))


def in_pieces(samples: np.ndarray, seed: int = 0) -> Iterator[np.ndarray]:
    random = np.random.default_rng(seed)
    while len(samples):
        size = int(random.integers(1, 20_000))
        yield samples[:size]
        samples = samples[size:]


def by_loop(detector: Detector, samples: np.ndarray, region: int) -> np.ndarray:
    """Scores of the newest region of every window, each cut out of the whole."""
    step = round(detector.frame_seconds * RATE)
    size, whole = region * step, -(-len(samples) // (region * step)) * region * step
    padded = np.pad(samples, (detector.window_samples, whole - len(samples)))
    found = []
    for end in range(size, whole + 1, size):
        window = padded[end : end + detector.window_samples]
        found.append(detector.logits(torch.from_numpy(window)[None])[0, -region:].sigmoid().numpy())
    return np.concatenate(found)[: -(-len(samples) // step)]


@pytest.mark.parametrize("seconds", [0.3, 12.0, 25.5])
def test_regions_are_the_ends_of_windows(seconds: float) -> None:
    detector, samples = load_detector(["random:frame_mn-tiny"], "cpu"), bursts(seconds)[:-17]
    labels = labels_of(detector.classes, detector.mids)
    found = np.concatenate(list(stream.regions(detector, labels, in_pieces(samples))))
    np.testing.assert_allclose(found, by_loop(detector, samples, 12), atol=1e-6)
    again = np.concatenate(list(stream.regions(detector, labels, in_pieces(samples, seed=1))))
    assert np.array_equal(found, again)


def test_events_of_a_pipe_are_those_of_a_loop() -> None:
    samples = bursts(31.0)
    pipe = io.BytesIO(to_pcm16(samples).astype("<i2").tobytes())
    found = changes(ears(), stream.pcm(pipe))
    active = by_loop(ears(), samples, 12)[:, 0] > 0.5
    edges = np.flatnonzero(np.diff(np.pad(active.astype(int), 1)))
    expected = [(round(0.04 * a, 3), round(0.04 * b, 3)) for a, b in edges.reshape(-1, 2).tolist()]
    assert len(expected) > 20
    ended = [change for change in found if change.offset is not None]
    assert [(c.onset, c.offset) for c in ended if c.label == "Loud"] == expected
    begun = [(c.label, c.onset) for c in found if c.offset is None]
    assert sorted(begun) == sorted((c.label, c.onset) for c in ended)
    assert all(c.mid == {"Loud": "/m/1", "Quiet": "/m/2"}[c.label] and 0.5 < c.score <= c.peak for c in ended)


def test_what_is_open_ends_with_the_sound() -> None:
    loud = np.full(RATE * 2 + 100, 0.9, np.float32)
    (begun, ended) = changes(ears(), [loud])
    assert (begun.onset, begun.offset) == (0.0, None)
    assert (ended.onset, ended.offset) == (0.0, 2.006)
    assert changes(ears(), []) == []


def test_an_event_goes_on_above_the_lower_threshold() -> None:
    level = np.repeat(np.float32([0.1, 0.9, 0.4, 0.9, 0.1]), FRAME)
    assert [c.offset for c in changes(ears(), [level]) if c.label == "Loud"] == [None, 0.08, None, 0.16]
    held = [c for c in changes(ears(), [level], low=0.3) if c.label == "Loud"]
    assert [(c.onset, c.offset) for c in held] == [(0.04, None), (0.04, 0.16)]
    assert held[1].peak == pytest.approx(0.9, abs=1e-4)
    assert held[1].score == pytest.approx(2.2 / 3, abs=1e-4)


class Drops(io.RawIOBase):
    """A pipe that gives what is there: a few bytes, an odd number of them."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, size: int = -1) -> bytes:
        piece, self.data = self.data[:3], self.data[3:]
        return piece


def test_partial_reads_and_half_a_sample(capsys: pytest.CaptureFixture[str]) -> None:
    samples = np.arange(-500, 500, dtype="<i2")
    assert np.array_equal(np.concatenate(list(stream.pcm(Drops(samples.tobytes())))), samples / np.float32(32768))
    assert capsys.readouterr().err == ""
    heard = np.concatenate(list(stream.pcm(Drops(samples.tobytes() + b"\1"))))
    assert len(heard) == len(samples)
    assert "its last byte is left out" in capsys.readouterr().err
    assert list(stream.pcm(io.BytesIO(b"\1"))) == []


def test_frames_that_share_no_window_evenly() -> None:
    """As those of the challenge's CRNN: 156 of 64 ms in 10 s."""

    def hear(windows: Tensor) -> Tensor:
        assert windows.shape[1] == 160_000
        level = windows[:, : 156 * 1024].unflatten(1, (156, 1024)).abs().amax(dim=2).clamp(1e-6, 1 - 1e-6)
        return torch.stack((level, 1 - level), dim=2).logit()

    level = np.repeat(np.float32([0.1, 0.9, 0.9, 0.1, 0.9]), 1024)
    found = [c for c in changes(ears(hear, 0.064), [level]) if c.label == "Loud" and c.offset is not None]
    assert [(c.onset, c.offset) for c in found] == [(0.064, 0.192), (0.256, 0.32)]


def test_memory_does_not_grow() -> None:
    block = bursts(1.0)

    def peak(seconds: int) -> int:
        tracemalloc.start()
        for _ in stream.regions(ears(), labels_of(("Loud", "Quiet"), None), (block for _ in range(seconds))):
            pass
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(2)
    assert peak(400) < 1.1 * peak(40)


def run_verb(words: list[str], data: bytes, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    return main(TASK, ["stream", *words])


def test_verb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    data = to_pcm16(bursts(3.0)).tobytes()
    words = ["-", "--model", "random:frame_mn-tiny", "--threshold", "0.5", "--device", "cpu"]
    assert run_verb(words, data, monkeypatch) == 0
    said = capsys.readouterr().out.splitlines()
    assert "3.0 s heard" in said[-1]
    assert "real-time factor" in said[-1]
    assert "random weights" in said[-1]
    assert run_verb([*words, "--json"], data, monkeypatch) == 0
    *events, summary = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(events) == len(said) - 1
    assert summary["seconds"] == 3.0
    assert summary["events"] == sum(event["offset"] is not None for event in events) > 0
    assert run_verb([*words, "--rate", "48000", "--json"], data, monkeypatch) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["seconds"] == 1.0
    assert run_verb([*words, "--labels", "speech", "/m/0bt9lr", "--json"], data, monkeypatch) == 0
    *chosen, _ = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert chosen == [event for event in events if event["label"] in ("Speech", "Dog")]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["recording.wav"], "`detect` takes files"),
        (["-", "--rate", "0"], "--rate: 0"),
        (["-", "--threshold", "2"], "threshold"),
        (["-", "--threshold", "0.5", "--low", "0.6"], "--low is 0.6"),
        (["-", "--microphone", "desk"], "--microphone goes without"),
    ],
)
def test_wrong_words(
    words: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb([*words, "--model", "random:frame_mn-tiny"], b"", monkeypatch) == 1
    assert says in capsys.readouterr().err


def test_ctrl_c_is_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> Iterator[np.ndarray]:
        yield np.full(RATE, 0.9, np.float32)
        raise KeyboardInterrupt

    result = stream.show_stream(ears(), labels_of(("Loud", "Quiet"), None), interrupted(), RATE, 0.5)
    assert result["events"] == 1
    assert "0.96  ended   Loud" in capsys.readouterr().out


class Microphone:
    """What sounddevice offers of it."""

    PortAudioError = RuntimeError

    def __init__(self, samples: np.ndarray, broken: bool = False) -> None:
        self.samples, self.broken = samples, broken

    def RawInputStream(self, **options: Any) -> Any:  # noqa: N802
        assert (options["channels"], options["dtype"]) == (1, "int16")
        if self.broken:
            raise RuntimeError("Error querying device -1")
        return self

    def __enter__(self) -> "Microphone":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, count: int) -> tuple[bytes, bool]:
        if not len(self.samples):
            raise KeyboardInterrupt
        piece, self.samples = self.samples[:count], self.samples[count:]
        return piece.tobytes(), False


def test_microphone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", Microphone(to_pcm16(np.full(RATE, 0.9, np.float32))))
    assert main(TASK, ["stream", "--model", "random:frame_mn-tiny", "--json", "--device", "cpu"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["seconds"] == 1.0
    monkeypatch.setitem(sys.modules, "sounddevice", Microphone(np.zeros(0), broken=True))
    with pytest.raises(UserError, match="microphone by default: Error querying device"):
        next(stream.microphone(None, RATE))
    monkeypatch.setitem(sys.modules, "sounddevice", None)  # as where it is not installed
    with pytest.raises(UserError, match="needs the package sounddevice"):
        next(stream.microphone(None, RATE))
