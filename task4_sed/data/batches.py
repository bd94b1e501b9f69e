"""Batches: five blocks of clips in a fixed order for training, plain sequences of clips for evaluation."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle, islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from common.run.seeds import mix_seed
from task4_sed.config import Config
from task4_sed.data.classes import SAMPLE_RATE
from task4_sed.data.embeddings import CLIP_SAMPLES, Stored
from task4_sed.data.labels import frames_of
from task4_sed.data.sets import ClipSet


class Batch(NamedTuple):
    """Clips of a batch.

    waveform: (batch, samples) float32 at 16 kHz. targets: (batch, classes, frames), 0 to 1. valid: (batch, classes)
    bool, the classes that the clip is labelled for. clip: (batch,) int64, position within its set. embeddings:
    (batch, dim, steps) float16, where they are stored.
    """

    waveform: torch.Tensor
    targets: torch.Tensor
    valid: torch.Tensor
    clip: torch.Tensor
    embeddings: torch.Tensor | None = None


class Request(NamedTuple):
    """One clip to load: position of its set, of the clip in the set, and the seed of its random crop."""

    part: int
    clip: int
    seed: int


class ClipDataset(Dataset[Batch]):
    """Loads whole batches of clips out of several sets, 10 s each: longer ones are cropped, shorter ones padded.

    stored: embeddings of all of the sets, by their names; they are of the first 10 s, so that nothing is cropped at
    random then.
    """

    def __init__(self, sets: Sequence[ClipSet], random_crop: bool, stored: Mapping[str, Stored] | None = None) -> None:
        self.sets, self.stored = list(sets), dict(stored or {})
        self.random_crop = random_crop and not self.stored
        self.num_classes = len(self.sets[0].valid)
        self.frames = frames_of(CLIP_SAMPLES)

    def __len__(self) -> int:
        return sum(len(of.clips) for of in self.sets)

    def __getitems__(self, requests: Sequence[Request]) -> Batch:
        """The batch of the requested clips, in their order."""
        part = np.array([request.part for request in requests])
        clip = np.array([request.clip for request in requests])
        seeds = np.array([request.seed for request in requests])
        size = len(requests)
        waveform = np.empty((size, CLIP_SAMPLES), np.float32)
        targets = np.empty((size, self.num_classes, self.frames), np.float32)
        valid = np.empty((size, self.num_classes), bool)
        embeddings = None
        for number in np.unique(part):  # one bulk read per set, not per clip
            here, of = np.flatnonzero(part == number), self.sets[number]
            rows, clips = of.rows[clip[here]], clip[here]
            starts = self._starts(np.asarray(of.pack.lengths)[rows], seeds[here])
            waveform[here] = of.pack.read_many(rows, starts, CLIP_SAMPLES)
            targets[here] = of.events.targets(clips, starts / SAMPLE_RATE, self.num_classes, self.frames)
            valid[here] = of.valid
            if self.stored:
                found = self.stored[of.name].read(rows)
                embeddings = np.empty((size, *found.shape[1:]), found.dtype) if embeddings is None else embeddings
                embeddings[here] = found
        batch = Batch(*(torch.from_numpy(array) for array in (waveform, targets, valid, clip)))
        return batch if embeddings is None else batch._replace(embeddings=torch.from_numpy(embeddings))

    def _starts(self, lengths: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """First sample of each crop: random in training, 0 elsewhere."""
        room = np.maximum(lengths - CLIP_SAMPLES, 0)
        return (seeds % (room + 1)).astype(np.int64) if self.random_crop else np.zeros(len(room), np.int64)


class BlockSampler(Sampler[list[Request]]):
    """Batches of five consecutive blocks. Each block draws from its own sets, shuffled anew every epoch.

    An epoch ends when the first block has no whole share left; the other blocks meet other clips in the next epoch.
    Across `ranks` processes the clips of a step are shared out without overlap. The order depends on (seed, epoch)
    alone.
    """

    def __init__(
        self, sizes: Sequence[Sequence[int]], batch: Sequence[int], seed: int, epoch: Callable[[], int], rank: int = 0,
        ranks: int = 1,
    ) -> None:  # fmt: skip
        self.pools = []
        first = 0
        for of_block in sizes:
            pool = [(first + k, clip) for k, size in enumerate(of_block) for clip in range(size)]
            self.pools.append(np.array(pool, np.int64).reshape(-1, 2))
            first += len(of_block)
        self.batch, self.seed, self.epoch, self.rank, self.ranks = list(batch), seed, epoch, rank, ranks
        self.steps = min(len(pool) // (size * ranks) for pool, size in zip(self.pools, self.batch, strict=True) if size)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Request]]:
        epoch = self.epoch()
        orders = []
        for number, (pool, size) in enumerate(zip(self.pools, self.batch, strict=True)):
            random = np.random.default_rng(mix_seed(self.seed, epoch, number))
            order = random.permutation(len(pool))[: self.steps * size * self.ranks]
            seeds = random.integers(0, 2**31, len(order))
            drawn = np.column_stack([pool[order], seeds]).reshape(self.steps, self.ranks, size, 3)
            orders.append(drawn[:, self.rank])
        for step in range(self.steps):
            yield [Request(*map(int, row)) for order in orders for row in order[step]]


class SequentialSampler(Sampler[list[Request]]):
    """Every clip of one set once, in order; across ranks each takes every ranks-th batch.

    All ranks have the same number of batches (their networks wait for each other in every one): the first ones again
    where there are too few.
    """

    def __init__(self, size: int, batch: int, rank: int = 0, ranks: int = 1) -> None:
        batches = [range(i, min(i + batch, size)) for i in range(0, size, batch)]
        share = -(-len(batches) // ranks)
        self.batches = list(islice(cycle(batches), rank, share * ranks, ranks))

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Request]]:
        for batch in self.batches:
            yield [Request(0, clip, 0) for clip in batch]


def as_it_is(batch: Any) -> Any:
    """Collation: the data set already makes whole batches."""
    return batch


def sequential_loader(
    clips: ClipSet, config: Config, rank: int = 0, ranks: int = 1, stored: Mapping[str, Stored] | None = None
) -> DataLoader[Batch]:
    """A loader over every clip of a set, cropped at 0."""
    return DataLoader(
        ClipDataset([clips], random_crop=False, stored=stored),
        batch_sampler=SequentialSampler(len(clips.clips), config.data.eval_batch, rank, ranks),
        collate_fn=as_it_is,
        num_workers=min(config.data.workers, 1),
        pin_memory=torch.cuda.is_available(),
    )
