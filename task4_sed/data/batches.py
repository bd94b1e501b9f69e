"""Batches: five blocks of clips in a fixed order for training, plain sequences of clips for evaluation."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from common.audio.arrays import ClipArrays
from common.audio.loading import Requests, sequential_loader
from common.run.errors import UserError
from common.run.seeds import mix_seed
from task4_sed.config import Config
from task4_sed.data.classes import SAMPLE_RATE
from task4_sed.data.embeddings import CLIP_SAMPLES
from task4_sed.data.labels import frames_of
from task4_sed.data.pseudo import StoredLogits
from task4_sed.data.sets import ClipSet


class Batch(NamedTuple):
    """Clips of a batch.

    waveform: (batch, samples) float32 at 16 kHz. targets: (batch, classes, frames), 0 to 1. valid: (batch, classes)
    bool, the classes that the clip is labelled for. clip: (batch,) int64, position within its set. embeddings:
    (batch, dim, steps) float16, where they are stored. pseudo: (batch, classes, frames) float32, pseudo labels.
    """

    waveform: torch.Tensor
    targets: torch.Tensor
    valid: torch.Tensor
    clip: torch.Tensor
    embeddings: torch.Tensor | None = None
    pseudo: torch.Tensor | None = None


class ClipDataset(Dataset[Batch]):
    """Loads whole batches of clips out of several sets, 10 s each: longer ones are cropped, shorter ones padded.

    stored: embeddings of all of the sets, by their names; pseudo: logits of all of their clips. Both are of the first
    10 s, so that nothing is cropped at random then. Raises UserError for clips without logits.
    """

    def __init__(
        self,
        sets: Sequence[ClipSet],
        random_crop: bool,
        stored: Mapping[str, ClipArrays] | None = None,
        pseudo: StoredLogits | None = None,
    ) -> None:
        self.sets, self.stored, self.pseudo = list(sets), dict(stored or {}), pseudo
        self.ends = np.cumsum([len(of.clips) for of in self.sets])
        self.random_crop = random_crop and not self.stored and pseudo is None
        self.num_classes = len(self.sets[0].valid)
        self.frames = frames_of(CLIP_SAMPLES)
        if pseudo is not None and pseudo.strong.shape[1] != self.frames:
            raise UserError(f"{pseudo.path}: {pseudo.strong.shape[1]} frames a clip, expected {self.frames}")
        if pseudo is not None:
            self.pseudo_rows = np.concatenate([pseudo.rows(of.clips) for of in self.sets])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitems__(self, requests: Requests) -> Batch:
        """The batch of the requested clips, in their order; positions go through the sets one after the other."""
        position, seeds = requests.T
        part = np.searchsorted(self.ends, position, side="right")
        clip = position - np.concatenate(([0], self.ends))[part]
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
                found = self.stored[of.name].rows[rows]
                embeddings = np.empty((size, *found.shape[1:]), found.dtype) if embeddings is None else embeddings
                embeddings[here] = found
        batch = Batch(*(torch.from_numpy(array) for array in (waveform, targets, valid, clip)))
        if embeddings is not None:
            batch = batch._replace(embeddings=torch.from_numpy(embeddings))
        if self.pseudo is not None:
            logits = torch.from_numpy(self.pseudo.strong[self.pseudo_rows[position]])
            batch = batch._replace(pseudo=logits.float().sigmoid().transpose(1, 2))
        return batch

    def _starts(self, lengths: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """First sample of each crop: random in training, 0 elsewhere."""
        room = np.maximum(lengths - CLIP_SAMPLES, 0)
        return (seeds % (room + 1)).astype(np.int64) if self.random_crop else np.zeros(len(room), np.int64)


class BlockSampler(Sampler[Requests]):
    """Batches of consecutive blocks, each shuffled anew every epoch. `sizes`: clips of each block, `batch`: of a batch.

    An epoch ends when the first block has no whole share left; the other blocks meet other clips in the next epoch.
    Across `ranks` processes the clips of a step are shared out without overlap.
    """

    def __init__(
        self, sizes: Sequence[int], batch: Sequence[int], seed: int, epoch: Callable[[], int], rank: int = 0,
        ranks: int = 1,
    ) -> None:  # fmt: skip
        self.sizes, self.batch = list(sizes), list(batch)
        self.seed, self.epoch, self.rank, self.ranks = seed, epoch, rank, ranks
        self.steps = min(of // (size * ranks) for of, size in zip(self.sizes, self.batch, strict=True) if size)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Requests]:
        epoch, first, blocks = self.epoch(), 0, []
        for number, (clips, size) in enumerate(zip(self.sizes, self.batch, strict=True)):
            random = np.random.default_rng(mix_seed(self.seed, epoch, number))
            order = random.permutation(clips)[: self.steps * size * self.ranks]
            drawn = np.column_stack([first + order, random.integers(0, 2**31, len(order))])
            blocks.append(drawn.reshape(self.steps, self.ranks, size, 2)[:, self.rank])
            first += clips
        yield from np.concatenate(blocks, axis=1)


def eval_loader(
    clips: ClipSet, config: Config, rank: int = 0, ranks: int = 1, stored: Mapping[str, ClipArrays] | None = None
) -> DataLoader[Batch]:
    """Every clip of a set in order, cropped at 0."""
    data = ClipDataset([clips], random_crop=False, stored=stored)
    return sequential_loader(data, len(data), config.data.eval_batch, config.data.workers, rank, ranks)
