"""Events of a sound that goes on: every half second the last 10 s are heard, and the newest region of them counts.

Memory does not grow. Sources: 16-bit PCM from a pipe, or a microphone through the optional package sounddevice.
"""

import json
import sys
import time
from collections.abc import Iterable, Iterator
from typing import IO, Any, NamedTuple

import numpy as np
import torch

from common.audio.reading import Waveform, resampled
from common.audio.recordings import rechunked
from common.run.errors import UserError
from task4_sed.data.classes import SAMPLE_RATE
from task4_sed.inference.detectors import Detector
from task4_sed.inference.labels import Labels
from task4_sed.inference.spool import sigmoid

REGION_SECONDS = 0.5  # to the next whole frame
READ = 1 << 16  # bytes at once, at most
INT16 = 32768.0


class Change(NamedTuple):
    """An event begins (offset is None), or has ended. Times in seconds; score: its mean so far; peak: its highest."""

    label: str
    mid: str | None
    onset: float
    offset: float | None
    score: float
    peak: float


def pcm(source: IO[bytes]) -> Iterator[Waveform]:
    """16-bit little-endian mono samples as they come, (samples,) in [-1, 1). A lone last byte is left out and said."""
    read = getattr(source, "read1", source.read)  # what is there, without waiting for more
    rest = b""
    while data := read(READ):
        data = rest + data
        whole = len(data) // 2 * 2
        rest = data[whole:]
        if whole:
            yield np.frombuffer(data[:whole], "<i2").astype(np.float32) / INT16
    if rest:
        print("the input ends within a sample: its last byte is left out", file=sys.stderr)


def microphone(name: str | None, rate: int) -> Iterator[Waveform]:
    """What a microphone (None: the usual one) hears. Raises UserError without the package, and without the device."""
    try:
        import sounddevice
    except ImportError:
        raise UserError(
            "the microphone needs the package sounddevice (`pip install sounddevice`); `-` hears 16-bit PCM of a pipe"
        ) from None
    except OSError as error:
        raise UserError(
            f"the microphone needs the library PortAudio ({error}); `-` hears 16-bit PCM of a pipe"
        ) from None
    try:
        with sounddevice.RawInputStream(samplerate=rate, channels=1, dtype="int16", device=name) as device:
            while True:
                data, late = device.read(rate // 10)
                if late:
                    print("the microphone was faster than this machine: some sound is lost", file=sys.stderr)
                yield np.frombuffer(data, np.int16).astype(np.float32) / INT16
    except (sounddevice.PortAudioError, ValueError) as error:
        raise UserError(f"microphone {name or 'by default'}: {error}") from None


def regions(detector: Detector, labels: Labels, blocks: Iterable[Waveform]) -> Iterator[np.ndarray]:
    """Scores (frames, labels) of one region after the other, from samples at 16 kHz as they come.

    Each is the end of a window whose last sample is the region's; before the first sample there is silence. The last
    region may have fewer frames.
    """
    step = round(detector.frame_seconds * SAMPLE_RATE)
    size = max(1, round(REGION_SECONDS / detector.frame_seconds)) * step
    window = np.zeros(detector.window_samples // step * step, np.float32)
    behind = np.zeros(detector.window_samples - len(window), np.float32)
    for piece in rechunked(blocks, size):
        window = np.concatenate((window[size:], piece, np.zeros(size - len(piece), np.float32)))
        heard = torch.from_numpy(np.concatenate((window, behind)))
        logits = detector.logits(heard[None])[0, -size // step :].cpu().numpy()
        yield sigmoid(labels(logits[: -(-len(piece) // step)]))


class Follower:
    """Changes between frames of scores, frame by frame."""

    def __init__(self, labels: Labels, frame_seconds: float, threshold: float, low: float) -> None:
        self.labels, self.frame_seconds, self.threshold, self.low = labels, frame_seconds, threshold, low
        self.frame = 0  # frames heard
        self.onset = np.full(len(labels.names), -1)  # first frame of the open events
        self.total, self.peak = np.zeros(len(labels.names)), np.zeros(len(labels.names))

    def __call__(self, scores: np.ndarray) -> Iterator[Change]:
        """Of the next frames (frames, labels): what has begun and ended there, in the order of time."""
        for frame in scores:
            open_, active = self.onset >= 0, frame > np.where(self.onset >= 0, self.low, self.threshold)
            yield from self._end(open_ & ~active)
            self.onset[active & ~open_] = self.frame
            self.total = np.where(open_, self.total, 0) + frame
            self.peak = np.maximum(np.where(open_, self.peak, 0), frame)
            self.frame += 1
            for index in np.flatnonzero(active & ~open_).tolist():
                yield self._change(index, None)

    def finish(self, seconds: float) -> Iterator[Change]:
        """The end of what is still open, with the sound that has lasted so long."""
        yield from self._end(self.onset >= 0, seconds)

    def _end(self, which: np.ndarray, latest: float = np.inf) -> Iterator[Change]:
        for index in np.flatnonzero(which).tolist():
            change = self._change(index, min(self.frame * self.frame_seconds, latest))
            self.onset[index] = -1
            yield change

    def _change(self, index: int, offset: float | None) -> Change:
        first, mids = int(self.onset[index]), self.labels.mids
        onset, end = round(first * self.frame_seconds, 3), None if offset is None else round(offset, 3)
        mean, peak = float(self.total[index]) / (self.frame - first), float(self.peak[index])
        return Change(
            self.labels.names[index], mids[index] if mids else None, onset, end, round(mean, 4), round(peak, 4)
        )


def show_stream(
    detector: Detector,
    labels: Labels,
    blocks: Iterable[Waveform],
    rate: int,
    threshold: float,
    low: float | None = None,
    as_json: bool = False,
) -> dict[str, Any]:
    """Print a line for each event of samples at `rate` Hz that begins or ends; Ctrl-C is an end as that of the samples.

    threshold, low: scores above which an event begins and goes on (default: the threshold). Returns what was heard,
    the count of events and the real-time factor: seconds of work for a second of sound.
    """
    heard, waited, events, begun, source = 0, 0.0, 0, time.perf_counter(), iter(blocks)

    def counted() -> Iterator[Waveform]:
        nonlocal heard, waited
        block: Waveform | None = np.empty(0, np.float32)
        while block is not None:
            yield block
            start = time.perf_counter()
            try:
                block = next(source, None)
            finally:
                waited += time.perf_counter() - start
            heard += 0 if block is None else len(block)

    def show(changes: Iterable[Change]) -> None:
        nonlocal events
        for change in changes:
            events += change.offset is not None
            print(json.dumps(change._asdict()) if as_json else line(change), flush=True)

    follower = Follower(labels, detector.frame_seconds, threshold, threshold if low is None else low)
    try:
        for scores in regions(detector, labels, resampled(counted(), rate, SAMPLE_RATE)):
            show(follower(scores))
    except KeyboardInterrupt:
        print(file=sys.stderr)
    seconds = heard / rate
    show(follower.finish(seconds))
    factor = (time.perf_counter() - begun - waited) / seconds if seconds else None
    if not as_json:
        said = "" if factor is None else f", real-time factor {factor:.3f}"
        print("; ".join(filter(None, (f"{seconds:.1f} s heard, {events} events{said}", detector.note))))
    return {"model": detector.name, "seconds": seconds, "events": events, "factor": factor, "note": detector.note}


def line(change: Change) -> str:
    """`     2.04            begins  Speech  0.91`, `     2.04 -     4.00  ended   Speech  0.85`: seconds, score."""
    until, what = (" " * 11, "begins") if change.offset is None else (f"-{change.offset:9.2f} ", "ended ")
    return f"{change.onset:9.2f} {until} {what}  {change.label}  {change.score:.2f}"
