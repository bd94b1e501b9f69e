"""Batches: every caption with its clip once an epoch in random order, or every clip once, in order."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from common.audio.arrays import ClipArrays
from common.audio.loading import Requests, ShuffledSampler, sequential_loader, share_of, training_loader
from task6_retrieval.config import SAMPLE_RATE, Config, DataConfig
from task6_retrieval.data.sets import CaptionedClips, IntArray


class Batch(NamedTuple):
    """Clips of a batch, with one caption each.

    audio: (batch, samples) float32 at 32 kHz, as many whole segments as the longest clip needs, zeros after a clip's
    end; or stored embeddings (batch, steps, dim) float16, zeros after a clip's last. seconds: (batch,) float32, of the
    clip within the window. captions, keywords: a text each. clip: (batch,) int64, the clip's number.
    """

    audio: Tensor
    seconds: Tensor
    captions: list[str]
    clip: Tensor
    keywords: list[str]

    def on(self, device: torch.device) -> "Batch":
        """The same with its tensors there."""
        audio, seconds, clip = (of.to(device, non_blocking=True) for of in (self.audio, self.seconds, self.clip))
        return self._replace(audio=audio, seconds=seconds, clip=clip)


def segments_of(seconds: NDArray[np.floating], segment_seconds: float) -> IntArray:
    """How many segments clips of these lengths have, at least one. A thousandth of a sample is rounding."""
    return np.maximum(np.ceil(seconds / segment_seconds - 1e-6), 1).astype(np.int64)


class ClipDataset(Dataset[Batch]):
    """Loads whole batches of (clip, window, caption) out of several sets.

    stored: embeddings of all of the sets by their names; they are of whole clips, so that nothing is cropped then.
    """

    def __init__(
        self, sets: Sequence[CaptionedClips], config: DataConfig, random_crop: bool, stored: Mapping[str, ClipArrays]
    ) -> None:
        self.sets, self.stored, self.random_crop = list(sets), dict(stored), random_crop
        self.window = round(config.window_seconds * SAMPLE_RATE)
        self.segment = round(config.segment_seconds * SAMPLE_RATE)
        # Of every clip of all sets: its set, its row and samples in that set's pack, its number, its keywords.
        self.part = np.repeat(np.arange(len(sets)), [len(of) for of in sets])
        self.rows = np.concatenate([of.rows for of in sets])
        self.lengths = np.concatenate([np.asarray(of.pack.lengths)[of.rows] for of in sets])
        self.numbers = np.concatenate([of.first + np.arange(len(of)) for of in sets])
        self.keywords = [of for clips in sets for of in clips.keywords]
        parts = [self._items(of, config.test_crop) for of in sets]
        firsts = np.cumsum([0, *map(len, sets)])[:-1]
        # (items, 2): clip of all sets, start of the window
        moved = [items + np.array([first, 0]) for first, (items, _) in zip(firsts, parts, strict=True)]
        self.items = np.concatenate(moved)
        self.captions = [caption for _, captions in parts for caption in captions]
        self.probability = config.variants_probability if random_crop else 0.0
        self.variants = [
            of.variants.get((name, number), ())
            for of in (sets if self.probability else ())
            for name, captions in zip(of.clips, of.captions, strict=True)
            for number in range(len(captions))
        ]

    def _items(self, of: CaptionedClips, test_crop: str) -> tuple[IntArray, list[str]]:
        """Training: every caption. Else every window of every clip, with the clip's first caption, if any."""
        if self.random_crop:
            clips, captions = of.pairs()
            return np.column_stack([clips, np.zeros_like(clips)]), captions
        lengths = np.asarray(of.pack.lengths)[of.rows]
        crop = "centre" if self.stored else test_crop
        items = [(clip, start) for clip, n in enumerate(lengths) for start in crops(int(n), self.window, crop)]
        return np.array(items, np.int64).reshape(-1, 2), ["".join(of.captions[clip][:1]) for clip, _ in items]

    def __len__(self) -> int:
        return len(self.items)

    def __getitems__(self, requests: Requests) -> Batch:
        """The batch of the requested items, in their order."""
        item, draw = requests.T
        clip, start = self.items[item].T
        length = self.lengths[clip]
        if self.random_crop:
            start = draw % (np.maximum(length - self.window, 0) + 1)
        heard = np.minimum(length - start, self.window)
        audio = self._embeddings(clip) if self.stored else self._waveforms(clip, start, int(heard.max()))
        return Batch(
            torch.from_numpy(audio),
            torch.from_numpy((heard / SAMPLE_RATE).astype(np.float32)),
            [self._caption(i, d) for i, d in requests.tolist()],
            torch.from_numpy(self.numbers[clip]),
            [self.keywords[number] for number in clip.tolist()],
        )

    def _caption(self, item: int, draw: int) -> str:
        """The caption, or at random one of its variants."""
        if self.probability and (variants := self.variants[item]):
            random = np.random.default_rng(draw)
            if random.random() < self.probability:
                return variants[random.integers(len(variants))]
        return self.captions[item]

    def _waveforms(self, clip: IntArray, start: IntArray, longest: int) -> NDArray[np.float32]:
        audio = np.zeros((len(clip), -(-longest // self.segment) * self.segment), np.float32)
        width = min(audio.shape[1], self.window)
        for number, here, rows in self._by_set(clip):
            audio[here, :width] = self.sets[number].pack.read_many(rows, start[here], width)
        return audio

    def _embeddings(self, clip: IntArray) -> NDArray[np.float16]:
        read = [(here, self.stored[self.sets[number].name], rows) for number, here, rows in self._by_set(clip)]
        longest = max(int(arrays.sizes[rows].max()) for _, arrays, rows in read)
        audio = np.zeros((len(clip), longest, *read[0][1].rows.shape[1:]), np.float16)
        for here, arrays, rows in read:
            of, step = np.nonzero(np.arange(longest) < arrays.sizes[rows, None])
            audio[here[of], step] = np.asarray(arrays.rows)[arrays.starts[rows][of] + step]
        return audio

    def _by_set(self, clip: IntArray) -> Iterator[tuple[int, IntArray, IntArray]]:
        """Each set of a batch, where its clips stand in it, and their rows: one bulk read per set."""
        for number in np.unique(self.part[clip]):
            here = np.flatnonzero(self.part[clip] == number)
            yield int(number), here, self.rows[clip[here]]


def crops(length: int, window: int, how: str) -> list[int]:
    """First samples of the windows of a clip in tests: its middle, or side by side (grid), the last at its end."""
    room = max(length - window, 0)
    if how == "centre":
        return [room // 2]
    return [*range(0, room, window), room] if room else [0]


def train_loader(
    sets: Sequence[CaptionedClips],
    config: Config,
    seed: int,
    epoch: Callable[[], int] = lambda: 0,
    rank: int = 0,
    ranks: int = 1,
    stored: Mapping[str, ClipArrays] | None = None,
    divided: bool = False,
) -> DataLoader[Batch]:
    """Shuffled batches of `data.batch` captions of all sets (`divided`: of all ranks together, else of each)."""
    data = ClipDataset(sets, config.data, True, stored or {})
    batch = share_of(config.data.batch, ranks, divided)
    sampler = ShuffledSampler(len(data), batch, seed, epoch, rank, ranks, config.data.drop_last)
    return training_loader(data, sampler, config.data.workers)


def clip_loader(
    clips: CaptionedClips,
    config: Config,
    rank: int = 0,
    ranks: int = 1,
    stored: Mapping[str, ClipArrays] | None = None,
) -> DataLoader[Batch]:
    """Every clip once, in order; with `data.test_crop` grid every window of it, one after the other."""
    data = ClipDataset([clips], config.data, False, stored or {})
    return sequential_loader(data, len(data), config.data.eval_batch, config.data.workers, rank, ranks)
