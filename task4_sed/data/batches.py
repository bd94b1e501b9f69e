"""Batches: five blocks of clips in a fixed order for training, plain sequences of clips for evaluation."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from common.audio.arrays import ClipArrays
from common.audio.loading import Requests, sequential_loader
from common.augment import fold, mix_pair, wavmix
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


@dataclass(frozen=True)
class WavMix:
    """Clips mixed, with `probability` each, with any clip of their own data set; Schmid et al. 2024.

    The louder part stays the clip's own, Beta(beta, beta) of it; frame and pseudo labels follow. sets: which of the
    data set's have it.
    """

    probability: float
    beta: float
    sets: Sequence[bool]


class Heard(NamedTuple):
    """Some clips of a set: waveform (clips, samples); targets and pseudo labels (clips, classes, frames)."""

    waveform: torch.Tensor
    targets: torch.Tensor
    pseudo: torch.Tensor | None


class ClipDataset(Dataset[Batch]):
    """Loads whole batches of clips out of several sets, 10 s each: longer ones are cropped, shorter ones padded.

    stored: embeddings of all of the sets, by their names; pseudo: logits of all of their clips. Both are of the first
    10 s, so that nothing is cropped at random then. mixing: WavMix. Raises UserError for clips without logits.
    """

    def __init__(
        self,
        sets: Sequence[ClipSet],
        random_crop: bool,
        stored: Mapping[str, ClipArrays] | None = None,
        pseudo: StoredLogits | None = None,
        mixing: WavMix | None = None,
    ) -> None:
        self.sets, self.stored, self.pseudo, self.mixing = list(sets), dict(stored or {}), pseudo, mixing
        self.ends = np.cumsum([len(of.clips) for of in self.sets])
        self.random_crop = random_crop and not self.stored and pseudo is None
        self.num_classes = len(self.sets[0].valid)
        self.frames = frames_of(CLIP_SAMPLES)
        if pseudo is not None and pseudo.strong.shape[1] != self.frames:
            raise UserError(f"{pseudo.path}: {pseudo.strong.shape[1]} frames a clip, expected {self.frames}")
        if pseudo is not None:
            self.pseudo_rows = [pseudo.rows(of.clips) for of in self.sets]

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitems__(self, requests: Requests) -> Batch:
        """The batch of the requested clips, in their order; positions go through the sets one after the other."""
        position, seeds = requests.T
        part = np.searchsorted(self.ends, position, side="right")
        clip = position - np.concatenate(([0], self.ends))[part]
        size = len(requests)
        waveform = torch.empty(size, CLIP_SAMPLES)
        targets = torch.empty(size, self.num_classes, self.frames)
        pseudo = None if self.pseudo is None else torch.empty_like(targets)
        valid = np.empty((size, self.num_classes), bool)
        embeddings = None
        for number in np.unique(part):  # one bulk read per set, not per clip
            here, of = np.flatnonzero(part == number), self.sets[number]
            heard = self._heard(number, clip[here], seeds[here])
            if self.mixing is not None and self.mixing.sets[number]:
                hear = partial(self._heard, number)
                heard = wave_mixed(heard, self.mixing, seeds[here], len(of.clips), hear)
            waveform[here], targets[here] = heard.waveform, heard.targets
            if pseudo is not None and heard.pseudo is not None:
                pseudo[here] = heard.pseudo
            valid[here] = of.valid
            if self.stored:
                found = self.stored[of.name].rows[of.rows[clip[here]]]
                embeddings = np.empty((size, *found.shape[1:]), found.dtype) if embeddings is None else embeddings
                embeddings[here] = found
        beside = None if embeddings is None else torch.from_numpy(embeddings)
        return Batch(waveform, targets, torch.from_numpy(valid), torch.from_numpy(clip), beside, pseudo)

    def _heard(self, number: int, clips: np.ndarray, seeds: np.ndarray) -> Heard:
        of = self.sets[number]
        rows = of.rows[clips]
        starts = self._starts(np.asarray(of.pack.lengths)[rows], seeds)
        waveform = torch.from_numpy(of.pack.read_many(rows, starts, CLIP_SAMPLES))
        targets = torch.from_numpy(of.events.targets(clips, starts / SAMPLE_RATE, self.num_classes, self.frames))
        if self.pseudo is None:
            return Heard(waveform, targets, None)
        logits = torch.from_numpy(self.pseudo.read(self.pseudo_rows[number][clips]))
        return Heard(waveform, targets, logits.float().sigmoid().transpose(1, 2))

    def _starts(self, lengths: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """First sample of each crop: random in training, 0 elsewhere."""
        room = np.maximum(lengths - CLIP_SAMPLES, 0)
        return (seeds % (room + 1)).astype(np.int64) if self.random_crop else np.zeros(len(room), np.int64)


def wave_mixed(
    heard: Heard, mixing: WavMix, seeds: np.ndarray, clips: int, hear: Callable[[np.ndarray, np.ndarray], Heard]
) -> Heard:
    """The clips after WavMix with any of `clips`, heard by position and random number.

    The draws are those of their own random numbers (batch,): the same after an interruption.
    """
    random, count = np.random.default_rng(seeds), len(seeds)
    lam = fold(torch.from_numpy(random.beta(mixing.beta, mixing.beta, count))).float()
    lam[torch.from_numpy(random.random(count) >= mixing.probability)] = 1.0
    partners = random.integers(clips, size=count)
    chosen = np.flatnonzero(lam < 1.0)  # of numpy: a tensor of one index takes a dimension away from arrays
    if not len(chosen):
        return heard
    other, lam = hear(partners[chosen], random.integers(0, 2**31, count)[chosen]), lam[chosen]
    heard.waveform[chosen] = wavmix(heard.waveform[chosen], other.waveform, lam)
    heard.targets[chosen] = mix_pair(heard.targets[chosen], other.targets, lam)
    if heard.pseudo is not None and other.pseudo is not None:
        heard.pseudo[chosen] = mix_pair(heard.pseudo[chosen], other.pseudo, lam)
    return heard


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
