"""Batches: every training imitation with its recording, in random order; or every sound once, in order."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from common.audio.loading import Requests, ShuffledSampler, sequential_loader, share_of, training_loader
from qbv.config import SAMPLE_RATE, Config, DataConfig
from qbv.data.sets import Pairs, Sounds


class Batch(NamedTuple):
    """Pairs of a batch: imitation, recording (batch, samples) float32 at 32 kHz; concept, imitation number and whether
    it is a match, (batch,) int64.
    """

    imitation: Tensor
    recording: Tensor
    concept: Tensor
    number: Tensor
    match: Tensor


class Clips(NamedTuple):
    """Sounds in order: audio (batch, samples) float32 at 32 kHz, row (batch,) int64."""

    audio: Tensor
    row: Tensor


def samples_of(data: DataConfig) -> int:
    """Samples of what is heard of every sound."""
    return round(data.seconds * SAMPLE_RATE)


def read(sounds: Sounds, positions: NDArray[np.int64], samples: int, padding: str) -> Tensor:
    """Beginnings (positions, samples) of sounds; shorter ones end in zeros, or are repeated."""
    rows = sounds.rows[positions]
    audio = sounds.pack.read_many(rows, 0, samples)
    if padding == "repeat":
        for of, row in zip(audio, rows, strict=True):
            length = sounds.pack.length(int(row))
            if 0 < length < samples:
                of[:] = np.resize(of[:length], samples)
    return torch.from_numpy(audio)


class PairDataset(Dataset[Batch]):
    """Loads whole batches. Items: every imitation with its recording, `data.passes` times; for the loss of pairs every
    one with its recording and, where there is one, with its negative.
    """

    def __init__(self, pairs: Pairs, config: Config) -> None:
        self.pairs, self.data = pairs, config.data
        own = np.tile(np.arange(len(pairs)), config.data.passes)
        self.imitation, self.recording = own, pairs.targets[own]
        if config.loss == "bce":
            with_negative = np.flatnonzero(pairs.negatives >= 0)
            self.imitation = np.concatenate([np.arange(len(pairs)), with_negative])
            self.recording = np.concatenate([pairs.targets, pairs.negatives[with_negative]])
        self.match = (pairs.targets[self.imitation] == self.recording).astype(np.int64)
        self.label = np.unique(pairs.concepts, return_inverse=True)[1]

    def __len__(self) -> int:
        return len(self.imitation)

    def __getitems__(self, requests: Requests) -> Batch:
        """The batch of the requested items, in their order."""
        item = requests[:, 0]
        imitation, recording = self.imitation[item], self.recording[item]
        samples, padding = samples_of(self.data), self.data.padding
        return Batch(
            read(self.pairs.imitations, imitation, samples, padding),
            read(self.pairs.recordings, recording, samples, padding),
            torch.from_numpy(self.label[recording]),
            torch.from_numpy(imitation),
            torch.from_numpy(self.match[item]),
        )


class SoundDataset(Dataset[Clips]):
    """Loads whole batches of sounds."""

    def __init__(self, sounds: Sounds, samples: int, padding: str) -> None:
        self.sounds, self.samples, self.padding = sounds, samples, padding

    def __len__(self) -> int:
        return len(self.sounds)

    def __getitems__(self, requests: Requests) -> Clips:
        """The batch of the requested sounds, in their order."""
        rows = requests[:, 0]
        return Clips(read(self.sounds, rows, self.samples, self.padding), torch.from_numpy(rows.copy()))


def train_loader(
    pairs: Pairs, config: Config, seed: int, epoch: Callable[[], int] = lambda: 0, rank: int = 0, ranks: int = 1
) -> DataLoader[Batch]:
    """Shuffled batches of `data.batch` pairs for each process, or with trainer.divide_batch for all together."""
    dataset = PairDataset(pairs, config)
    batch = share_of(config.data.batch, ranks, config.trainer.divide_batch)
    return training_loader(dataset, ShuffledSampler(len(dataset), batch, seed, epoch, rank, ranks), config.data.workers)


def sound_loader(
    sounds: Sounds, data: DataConfig, rank: int = 0, ranks: int = 1, samples: int | None = None
) -> DataLoader[Clips]:
    """Every sound once, in order; samples: what is heard of each, if not what the recipe says."""
    dataset = SoundDataset(sounds, samples or samples_of(data), data.padding)
    return sequential_loader(dataset, len(dataset), data.eval_batch, data.workers, rank, ranks)
