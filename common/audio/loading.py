"""Batches of clips: the order in which they are drawn, and loaders of whole batches.

What an epoch holds depends on (seed, epoch) alone, not on workers or earlier epochs. A data set for these loaders has
`__getitems__`, which makes the whole batch that a sampler's item asks for.
"""

import sys
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from common.run.errors import UserError
from common.run.processes import ignore_interruption, return_memory
from common.run.seeds import mix_seed

# (batch, 2) int64: positions of clips, and a random number for the window of each.
Requests = NDArray[np.int64]


class Turn(NamedTuple):
    """The epoch that a training is in, asked at the start of every iteration, and which of its processes this is."""

    epoch: Callable[[], int]
    rank: int
    ranks: int


def turn_of(trainer: Any) -> Turn:
    """That of a Lightning Trainer; epoch 0 of a single process where there is none."""
    if trainer is None:
        return Turn(lambda: 0, 0, 1)
    return Turn(lambda: trainer.current_epoch, trainer.global_rank, trainer.world_size)


def share_of(batch: int, ranks: int, divided: bool) -> int:
    """Clips of a batch that each of `ranks` processes takes: all, or with `trainer.divide_batch` its part.

    Raises UserError where they do not divide.
    """
    if not divided:
        return batch
    if batch % ranks:
        raise UserError(f"trainer.divide_batch: a batch of {batch} does not divide among {ranks} devices")
    return batch // ranks


class ShuffledSampler(Sampler[Any]):
    """Every clip once an epoch, shuffled anew; the last batch may be smaller, or with drop_last be left out.

    Across `ranks` processes the clips are shared out evenly: the first ones of the epoch come again where they do not
    divide.
    """

    def __init__(
        self,
        clips: int,
        batch: int,
        seed: int,
        epoch: Callable[[], int],
        rank: int = 0,
        ranks: int = 1,
        drop_last: bool = False,
    ) -> None:
        self.clips, self.batch, self.seed, self.epoch, self.rank, self.ranks = clips, batch, seed, epoch, rank, ranks
        self.share = -(-clips // ranks)
        self.steps = max(self.share // batch, 1) if drop_last else -(-self.share // batch)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Requests]:
        random = np.random.default_rng(mix_seed(self.seed, self.epoch()))
        drawn = np.column_stack([self.order(random), random.integers(0, 2**62, self.clips)])
        mine = np.resize(drawn, (self.share * self.ranks, 2))[self.rank :: self.ranks]
        yield from (mine[step * self.batch : (step + 1) * self.batch] for step in range(self.steps))

    def order(self, random: np.random.Generator) -> NDArray[np.int64]:
        """The positions of an epoch (clips,), in the order in which they are drawn."""
        return random.permutation(self.clips)


class SequentialSampler(Sampler[Any]):
    """Every clip once, in order, with 0 for its window; across ranks each takes every ranks-th batch.

    All ranks have the same number of batches (their networks wait for each other in every one): the first ones again
    where there are too few.
    """

    def __init__(self, clips: int, batch: int, rank: int = 0, ranks: int = 1) -> None:
        starts = range(0, clips, batch)
        share = -(-len(starts) // ranks)
        self.starts = list(islice(cycle(starts), rank, share * ranks, ranks))
        self.clips, self.batch = clips, batch

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[Requests]:
        for start in self.starts:
            position = np.arange(start, min(start + self.batch, self.clips))
            yield np.column_stack([position, np.zeros_like(position)])


def as_it_is(batch: Any) -> Any:
    """Collation: the data set already makes whole batches."""
    return batch


class _Rest(Sampler[Any]):
    """What a sampler draws in an epoch, without the first batches."""

    def __init__(self, whole: Any) -> None:
        self.whole, self.first = whole, 0

    def __len__(self) -> int:
        return len(self.whole)

    def __iter__(self) -> Iterator[Any]:
        return islice(self.whole, self.first, None)


class TrainingLoader(DataLoader[Any]):
    """A loader that can go on in the middle of an epoch: `first` batches of the next one that is begun are left out.

    An epoch begins with its first batch, not with `iter`: a resumed training asks for that before it knows the epoch.
    """

    batch_sampler: _Rest
    first = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self.batch_sampler.first, self.first = self.first, 0
        yield from super().__iter__()


def _processes(workers: int) -> dict[str, Any]:
    """Those of a loader (none: this one). Forked, also by a spawned process, they share its tables and all imports."""
    return {
        "num_workers": workers,
        "worker_init_fn": _start_loading,
        "multiprocessing_context": "fork" if workers and sys.platform == "linux" else None,
        "pin_memory": torch.cuda.is_available(),
        "collate_fn": as_it_is,
    }


def _start_loading(_: int) -> None:
    ignore_interruption()
    return_memory()


def training_loader(data: Dataset[Any], sampler: Sampler[Any], workers: int) -> DataLoader[Any]:
    """Batches as the sampler draws them, from `workers` processes that stay for the whole training (0: this one)."""
    return TrainingLoader(
        data,
        batch_sampler=_Rest(sampler),
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
        **_processes(workers),
    )


def sequential_loader(
    data: Dataset[Any], clips: int, batch: int, workers: int, rank: int = 0, ranks: int = 1
) -> DataLoader[Any]:
    """All clips in order, read ahead by one process where there are any workers."""
    return DataLoader(data, batch_sampler=SequentialSampler(clips, batch, rank, ranks), **_processes(min(workers, 1)))
