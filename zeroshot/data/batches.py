"""Batches: clips or their embeddings, with labels; training clips in random order or drawn by class weights."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from common.audio.loading import Requests, ShuffledSampler, sequential_loader, share_of, training_loader
from common.run.seeds import mix_seed
from zeroshot.config import Config
from zeroshot.data.embeddings import clip_samples
from zeroshot.data.sets import Clips

OFFSET = 100.0  # PaSST's weights: 1000 / (clips of the class + 100)


class Batch(NamedTuple):
    """Clips of a batch."""

    audio: Tensor  # (batch, samples) float32 at data.sample_rate, or embeddings (batch, dim)
    labels: Tensor  # (batch, classes) float32
    judged: Tensor  # (batch, classes) float32, 0 where nobody listened for the class
    row: Tensor  # (batch,) int64, position of the clip in its `Clips`


class ClipDataset(Dataset[Batch]):
    """Loads whole batches. embeddings: (clips, dim) in place of waveforms."""

    def __init__(self, clips: Clips, config: Config, embeddings: NDArray[np.float32] | None = None) -> None:
        self.clips, self.samples, self.embeddings = clips, clip_samples(config), embeddings

    def __len__(self) -> int:
        return len(self.clips)

    def __getitems__(self, requests: Requests) -> Batch:
        """The batch of the requested clips, in their order."""
        row = requests[:, 0]
        if self.embeddings is None:
            audio = self.clips.pack.read_many(self.clips.rows[row], 0, self.samples)
        else:
            audio = self.embeddings[row]
        labels, judged = (np.asarray(of[row], np.float32) for of in (self.clips.labels, self.clips.judged))
        return Batch(*map(torch.from_numpy, (audio, labels, judged, row.copy())))


class BalancedSampler(ShuffledSampler):
    """An epoch of `size` clips drawn without replacement, by weights of their classes: rare classes come oftener."""

    def __init__(self, weights: NDArray[np.floating], size: int, *arguments: Any) -> None:
        super().__init__(min(size, len(weights)), *arguments)
        self.weights = weights / weights.sum()

    def __iter__(self) -> Iterator[Requests]:
        random = np.random.default_rng(mix_seed(self.seed, self.epoch(), 1))
        # The `clips` largest of random ** (1 / weight): Efraimidis and Spirakis 2006.
        keys = np.log(random.random(len(self.weights))) / np.maximum(self.weights, 1e-12)
        chosen = np.argsort(-keys)[: self.clips]
        for requests in super().__iter__():
            yield np.column_stack([chosen[requests[:, 0]], requests[:, 1]])


def class_weights(clips: Clips) -> NDArray[np.float64]:
    """(clips,): the sum over a clip's classes of 1000 / (clips of the class + 100). Only training classes count."""
    of_class = 1000.0 / (clips.labels.sum(axis=0) + OFFSET)
    return clips.labels @ of_class


def train_loader(
    clips: Clips,
    config: Config,
    seed: int,
    epoch: Callable[[], int] = lambda: 0,
    rank: int = 0,
    ranks: int = 1,
    embeddings: NDArray[np.float32] | None = None,
) -> DataLoader[Batch]:
    """Batches of `data.batch` clips per process; `epoch` is asked at the start of every iteration."""
    arguments = (share_of(config.data.batch, ranks, config.trainer.divide_batch), seed, epoch, rank, ranks)
    sampler = (
        BalancedSampler(class_weights(clips), config.data.epoch_clips or len(clips), *arguments)
        if config.data.balanced
        else ShuffledSampler(len(clips), *arguments)
    )
    return training_loader(ClipDataset(clips, config, embeddings), sampler, config.data.workers)


def eval_loader(
    clips: Clips, config: Config, rank: int = 0, ranks: int = 1, embeddings: NDArray[np.float32] | None = None
) -> DataLoader[Batch]:
    """Every clip in order, in batches of `data.eval_batch`."""
    data = ClipDataset(clips, config, embeddings)
    return sequential_loader(data, len(clips), config.data.eval_batch, config.data.workers, rank, ranks)
