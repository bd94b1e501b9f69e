"""A network over recordings of any length: windows that overlap, their logits made one sequence without seams.

Windows begin every few seconds, on the grid of frames. Where they overlap, a frame has the mean of their logits with
triangular weights: the most in the middle of a window, next to nothing at its ends, so that none comes or goes with a
step. The last window ends with the recording; only a recording that is shorter than a window is filled up.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from common.audio.reading import Waveform
from common.audio.recordings import rechunked
from common.run.errors import UserError
from task4_sed.data.classes import SAMPLE_RATE
from task4_sed.inference.detectors import Detector

HOP_SECONDS = 5.0
BATCH = 8  # windows that a network hears at once
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Grid:
    """Where windows lie. window, step: samples of a window and of a frame at 16 kHz; hop: frames between windows.

    filled: windows follow each other to the end, the last one filled up with silence, as in the published script; its
    frames past the recording's end are there.
    """

    window: int
    step: int
    hop: int
    filled: bool = False

    @property
    def frames(self) -> int:
        """Frames of a window."""
        return self.window // self.step

    def total(self, samples: int) -> int:
        """Frames of a recording, at least one: to its end, or to that of the only window if that comes before."""
        if samples <= self.window:
            return max(1, min(self.frames, -(-samples // self.step)))
        return -(-(samples - self.window) // self.step) + self.frames


def grid_of(detector: Detector, hop_seconds: float = HOP_SECONDS, as_published: bool = False) -> Grid:
    """The whole frames that are nearest to a hop, a window at most; as published: a window."""
    step = round(detector.frame_seconds * SAMPLE_RATE)
    frames = detector.window_samples // step
    hop = frames if as_published else min(max(1, round(hop_seconds / detector.frame_seconds)), frames)
    return Grid(detector.window_samples, step, hop, as_published)


class Window(NamedTuple):
    """Samples of a window, its first frame in the recording, and of the last one the frames of the whole recording."""

    samples: Waveform
    first: int
    total: int | None


def windows(blocks: Iterable[Waveform], grid: Grid) -> Iterator[Window]:
    """The windows of a recording at 16 kHz, with the memory of about two of them."""
    buffer, begin, first = np.empty(0, np.float32), 0, 0  # the samples from `begin` on; frame of the next window
    for piece in rechunked(blocks, grid.hop * grid.step):
        buffer = np.concatenate((buffer, piece))
        # One window is kept back: what comes last is only known at the end.
        while begin + len(buffer) > first * grid.step + grid.window:
            at = first * grid.step - begin
            yield Window(buffer[at : at + grid.window], first, None)
            buffer, begin, first = buffer[at:], begin + at, first + grid.hop
    total = first + grid.frames if grid.filled else grid.total(begin + len(buffer))
    last = total - grid.frames if first else 0
    samples = buffer[last * grid.step - begin :][: grid.window]
    yield Window(np.pad(samples, (0, grid.window - len(samples))), last, total)


class Seam:
    """The weighted mean of windows that come in order, given out as far as no later window reaches."""

    def __init__(self, frames: int, columns: int) -> None:
        place = np.arange(frames) + 0.5
        self.weights = np.minimum(place, frames - place)[:, None]  # triangular
        self.first = 0  # frame of the first row of the sums
        self.sums = np.zeros((0, columns + 1))  # the last column: of the weights

    def add(self, logits: np.ndarray, first: int, total: int | None) -> np.ndarray:
        """A window's logits (frames, classes) -> what is done by then, (some frames, classes) float32."""
        new = self.weights * np.pad(logits, ((0, 0), (0, 1)), constant_values=1.0)
        done, shared = np.split(self.sums, [first - self.first])
        new[: len(shared)] += shared
        if total is not None:
            done = np.concatenate((done, new))[: total - self.first]
        self.first, self.sums = first, new
        return (done[:, :-1] / done[:, -1:]).astype(np.float32)


class Piece(NamedTuple):
    """Logits (frames, classes) that follow those before of the same recording; whether they are its last."""

    key: Any
    logits: np.ndarray
    last: bool


def stitched(
    detector: Detector,
    recordings: Iterable[tuple[Key, Iterable[Waveform]]],
    grid: Grid,
    skipping: Callable[[Key], AbstractContextManager[Any]] = nullcontext,
    batch: int = BATCH,
) -> Iterator[Piece]:
    """Logits of recordings at 16 kHz, piece by piece in their order; batches of windows go across recordings.

    skipping: the context in which each of them is read; what it swallows ends a recording before its last piece.
    """
    waiting = _all_windows(recordings, grid, skipping)
    seam: Seam | None = None
    while chosen := list(islice(waiting, batch)):
        heard = detector.logits(torch.from_numpy(np.stack([window.samples for _, window in chosen]))).cpu().numpy()
        if not np.isfinite(heard).all():
            raise UserError(f"{detector.name}: gives logits that are not finite")
        for (key, window), logits in zip(chosen, heard.astype(np.float64), strict=True):
            if seam is None or window.first == 0:  # another recording begins
                seam = Seam(grid.frames, logits.shape[1])
            yield Piece(key, seam.add(logits, window.first, window.total), window.total is not None)


def _all_windows(
    recordings: Iterable[tuple[Key, Iterable[Waveform]]],
    grid: Grid,
    skipping: Callable[[Key], AbstractContextManager[Any]],
) -> Iterator[tuple[Key, Window]]:
    for key, blocks in recordings:
        with skipping(key):
            for window in windows(blocks, grid):
                yield key, window
