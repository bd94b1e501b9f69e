"""AudioSet's clip labels on disk -> batches: of the packs of mp3 files one bit per class and clip, else of the
tables of segments, whose audio `prepare` packs."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from common.audio.audioset import read_labels, segments
from common.audio.coverage import open_packed, packs_of, root_of
from common.audio.loading import Requests
from common.audio.packs import AudioSetPack, Pack
from common.run.errors import UserError, did_you_mean
from task4_sed.config import DataConfig
from task4_sed.data.batches import Batch
from task4_sed.data.classes import SAMPLE_RATE
from task4_sed.data.embeddings import CLIP_SAMPLES
from task4_sed.data.framewise import PACKS, DrawSampler, Part, pseudo_rows
from task4_sed.data.pseudo import StoredLogits

SEGMENTS: dict[Part, tuple[str, ...]] = {
    "train": ("balanced_train_segments.csv", "unbalanced_train_segments.csv"),
    "eval": ("eval_segments.csv",),
}
TAGS = 527  # classes of AudioSet
BLOCK = 8192  # clips whose labels are counted at once


@dataclass(frozen=True)
class WeakSet:
    """Clips of AudioSet by their packs, one after the other. bits: of each pack (clips, bytes) uint8, the labels of
    each clip as numpy.packbits has them."""

    classes: tuple[str, ...]
    packs: tuple[Pack, ...]
    bits: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return sum(len(of) for of in self.bits)

    def names(self) -> Iterator[str]:
        """Of the clips, in their order."""
        return chain.from_iterable(pack.names for pack in self.packs)

    def labels(self, clips: np.ndarray) -> np.ndarray:
        """Labels (clips, classes) of some clips, 0 or 1."""
        bits = np.empty((len(clips), self.bits[0].shape[1]), np.uint8)
        for number, here, rows in self._by_pack(clips):
            bits[here] = self.bits[number][rows]
        return np.unpackbits(bits, axis=1, count=len(self.classes))

    def weights(self) -> np.ndarray:
        """How often each clip (clips,) should be drawn: sum over its labels of 1000 / (100 + clips with that label).

        Schmid et al. 2023 (EfficientAT).
        """
        in_byte = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)  # labels of each value of a byte
        blocks = [of[start : start + BLOCK] for of in self.bits for start in range(0, len(of), BLOCK)]
        seen = sum(np.stack([np.bincount(of_byte, minlength=256) for of_byte in block.T]) for block in blocks)
        rarity = 1000.0 / (100.0 + np.asarray(seen) @ in_byte)
        rarity.flat[len(self.classes) :] = 0.0  # what fills the last byte
        shares = rarity @ in_byte.T  # (bytes, 256)
        return np.concatenate([shares[np.arange(len(shares)), block].sum(axis=1) for block in blocks])

    def read(self, clips: np.ndarray, samples: int) -> torch.Tensor:
        """The first samples (clips, samples) of some clips, shorter ones followed by silence."""
        waveform = np.empty((len(clips), samples), np.float32)
        for number, here, rows in self._by_pack(clips):
            waveform[here] = self.packs[number].read_many(rows, 0, samples)
        return torch.from_numpy(waveform)

    def _by_pack(self, clips: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Of each pack its number, which of the clips are in it (clips,), and their rows there."""
        starts = np.cumsum([0, *(len(of) for of in self.bits)])
        of_pack = np.searchsorted(starts, clips, side="right") - 1
        for number in np.unique(of_pack):
            here = of_pack == number
            yield number, here, clips[here] - starts[number]


def weak_classes(config: DataConfig) -> tuple[str, ...]:
    """Names of the classes; without a data set their number alone counts."""
    return tuple(map(str, range(TAGS))) if config.root is None else tuple(read_labels(root_of(config)).values())


def load_weak(config: DataConfig, part: Part) -> WeakSet:
    """The clips of a part. Raises UserError for missing or wrong tables and packs."""
    root = root_of(config)
    names = read_labels(root)
    files = [root / name for name in PACKS[part] if (root / name).is_file()]
    if files:
        packs = tuple(AudioSetPack(path, SAMPLE_RATE) for path in files)
        return WeakSet(tuple(names.values()), packs, tuple(pack.labels(len(names)) for pack in packs))
    pack = open_packed(packs_of(config) / f"audioset_weak_{part}", SAMPLE_RATE)
    clips, bits = read_segments(root, part, tuple(names))
    row = {clip: number for number, clip in enumerate(clips)}
    if (unknown := next((name for name in pack.names if name not in row), None)) is not None:
        raise UserError(f"{pack.path}: clip {unknown} is in no table of segments any more; run prepare again")
    return WeakSet(tuple(names.values()), (pack,), (bits[[row[name] for name in pack.names]],))


def read_segments(root: Path, part: Part, mids: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the clips ("Y" and YouTube id) that a part's tables of segments list, and their bits (clips, bytes).

    Raises UserError, with file and line, for unknown labels and a clip twice, and where no table is there.
    """
    column = {mid: number for number, mid in enumerate(mids)}
    position: dict[str, int] = {}
    clip_of, label_of = array("q"), array("q")
    for path in (root / name for name in SEGMENTS[part] if (root / name).is_file()):
        for at, video, labels in segments(path):
            if (unknown := next((mid for mid in labels if mid not in column), None)) is not None:
                raise UserError(f"{at}: unknown label {unknown!r}{did_you_mean(unknown, column)}")
            clip = len(position)
            if position.setdefault(f"Y{video}", clip) != clip:
                raise UserError(f"{at}: {video} stands there twice")
            clip_of.extend([clip] * len(labels))
            label_of.extend(column[mid] for mid in labels)
    if not position:
        raise UserError(f"{root / SEGMENTS[part][0]}: no packs of mp3 files, and no table of segments")
    bits, label = np.zeros((len(position), -(-len(mids) // 8)), np.uint8), np.asarray(label_of)
    np.bitwise_or.at(bits, (np.asarray(clip_of), label // 8), (128 >> label % 8).astype(np.uint8))
    return tuple(position), bits


class WeakClips(Dataset[Batch]):
    """Whole batches of 10-s clips from their start; targets (batch, classes, 1). teacher: clip logits by the names of
    the clips, pseudo labels; those of a clip without any are NaN."""

    def __init__(self, clips: WeakSet, teacher: StoredLogits | None = None) -> None:
        self.clips = clips
        self.rows = None if teacher is None else pseudo_rows(teacher, clips.names())
        self.teacher = None if teacher is None else replace(teacher, position={})  # two million names, found by now

    def __len__(self) -> int:
        return len(self.clips)

    def __getitems__(self, requests: Requests) -> Batch:
        """The batch of the requested clips, in their order."""
        position = requests[:, 0]
        targets = torch.from_numpy(self.clips.labels(position)).float()[..., None]
        valid = torch.ones(targets.shape[:2], dtype=torch.bool)
        pseudo = None
        if self.teacher is not None and self.rows is not None:
            rows, pseudo = self.rows[position], torch.full_like(targets, torch.nan)
            there = np.flatnonzero(rows >= 0)
            pseudo[there] = torch.from_numpy(self.teacher.read(rows[there])).float().sigmoid().transpose(1, 2)
        waveform = self.clips.read(position, CLIP_SAMPLES)
        return Batch(waveform, targets, valid, torch.from_numpy(position), None, pseudo)


class BesideWeak(Dataset[Batch]):
    """Batches of labelled clips, and after them waveforms of others, without labels. Those are asked for by positions
    beyond the labelled ones."""

    def __init__(self, labelled: Any, weak: WeakSet) -> None:
        self.labelled, self.weak = labelled, weak

    def __len__(self) -> int:
        return len(self.labelled) + len(self.weak)

    def __getitems__(self, requests: Requests) -> Batch:
        """The batch of the requested clips, in their order."""
        beyond = requests[:, 0] - len(self.labelled)
        batch: Batch = self.labelled.__getitems__(requests[beyond < 0])
        return batch._replace(waveform=torch.cat((batch.waveform, self.weak.read(beyond[beyond >= 0], CLIP_SAMPLES))))


class BesideSampler(Sampler[Requests]):
    """The batches of one sampler, each followed by one of another, whose positions begin at `first`."""

    def __init__(self, labelled: DrawSampler, weak: DrawSampler, first: int) -> None:
        self.labelled, self.weak, self.first = labelled, weak, first

    def __len__(self) -> int:
        return len(self.labelled)

    def __iter__(self) -> Iterator[Requests]:
        for labelled, weak in zip(self.labelled, self.weak, strict=True):
            yield np.concatenate((labelled, weak + np.array([self.first, 0])))
