"""AudioSet-strong on disk -> batches: whole clips of 10 s, drawn uniformly or by how rare their sounds are."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from common.audio.coverage import open_packed, packs_of, root_of
from common.audio.loading import Requests, ShuffledSampler, sequential_loader, share_of, turn_of
from common.audio.packs import Pack, open_pack
from common.run.errors import UserError
from task4_sed.config import Config, DataConfig
from task4_sed.data.audioset import (
    FRAMES,
    StrongLabels,
    output_classes,
    read_clip_durations,
    read_strong_labels,
    scored_classes,
)
from task4_sed.data.batches import Batch, Heard, WavMix, wave_mixed
from task4_sed.data.classes import CLIP_SECONDS, SAMPLE_RATE
from task4_sed.data.embeddings import CLIP_SAMPLES
from task4_sed.data.pseudo import StoredLogits
from task4_sed.data.sets import first_existing

Part = Literal["train", "eval"]
# Below data.root; of the tables the first that is there, of the packs all, else the folder that `prepare` packs.
TABLES: dict[Part, tuple[str, ...]] = {
    part: (f"audioset_{part}_strong.tsv", f"audioset_{part}_strong.csv") for part in ("train", "eval")
}
PACKS: dict[Part, tuple[str, ...]] = {
    "train": ("balanced_train_segments_mp3.hdf", "unbalanced_train_segments_mp3.hdf"),
    "eval": ("eval_segments_mp3.hdf",),
}
AUDIO: dict[Part, str] = {"train": "audio/train", "eval": "audio/eval"}
DURATIONS = "eval_durations.csv"


@dataclass(frozen=True)
class StrongSet:
    """Labelled clips whose audio is there. where: (clips, 2) pack and row; durations: (clips,) seconds.

    figure: the main one; scored: the classes that it is of. published: as in the evaluation of AudioSet-strong, clips
    without events do not count, and what is found after a clip's end does. own: so many clips at the end are only
    labelled for the classes after AudioSet-strong's.
    """

    labels: StrongLabels
    packs: tuple[Pack, ...]
    where: np.ndarray
    durations: np.ndarray
    name: str = "audioset_eval"
    scored: tuple[str, ...] = field(default_factory=scored_classes)
    figure: str = "psds1_macro"
    published: bool = True
    own: int = 0

    def __len__(self) -> int:
        return len(self.labels.clips)

    def names(self) -> Sequence[str]:
        """Of the clips, in their order."""
        return self.labels.clips


def load_strong(config: DataConfig, part: Part) -> StrongSet:
    """The clips of a part. Raises UserError for a missing or wrong table, and where no labelled clip has audio."""
    root = root_of(config)
    table = table_of(root, part)
    labels, packs = read_strong_labels(table), open_packs(config, root, part)
    kept, where = located(labels.clips, packs)
    if not len(kept):
        raise UserError(f"{root}: no audio of the clips in {table.name}")
    listed = root / DURATIONS
    seconds = read_clip_durations(listed) if part == "eval" and listed.is_file() else {}
    labels = labels.chosen(kept)
    durations = np.array([seconds.get(name, CLIP_SECONDS) for name in labels.clips])
    return StrongSet(labels, packs, where[kept], durations)


def table_of(root: Path, part: Part) -> Path:
    """The strong labels of a part; UserError where there are none."""
    found = first_existing(root, TABLES[part])
    if found is None:
        raise UserError(f"{root / TABLES[part][0]}: labels of AudioSet-strong not found")
    return found


def located(clips: Sequence[str], packs: Sequence[Pack]) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the clips that are in a pack (found,); pack and row of each clip (clips, 2), -1 where in none."""
    where, position = np.full((len(clips), 2), -1), {name: clip for clip, name in enumerate(clips)}
    for number, pack in enumerate(packs):  # two million names go by, those of the labelled clips are kept
        for row, name in enumerate(pack.names):
            if (clip := position.get(name)) is not None:
                where[clip] = number, row
    return np.flatnonzero(where[:, 0] >= 0), where


def open_packs(config: DataConfig, root: Path, part: Part) -> tuple[Pack, ...]:
    """The packs of mp3 files that the community hands on, or the one that `prepare` made of a folder."""
    there = [root / name for name in PACKS[part] if (root / name).is_file()]
    if there:
        return tuple(open_pack(path, SAMPLE_RATE) for path in there)
    return (open_packed(packs_of(config) / f"audioset_{part}"),)


class StrongClips(Dataset[Batch]):
    """Whole batches of 10-s clips from their start. pseudo: logits of teachers, by the names of the clips; one without
    has its labels in their place. mixing: `WavMix` with any clip of the set."""

    def __init__(self, clips: StrongSet, pseudo: StoredLogits | None = None, mixing: WavMix | None = None) -> None:
        self.clips, self.pseudo, self.mixing = clips, pseudo, mixing
        if pseudo is not None and pseudo.strong.shape[1] != FRAMES:
            raise UserError(f"{pseudo.path}: {pseudo.strong.shape[1]} frames a clip, expected {FRAMES}")
        self.pseudo_rows = None if pseudo is None else pseudo_rows(pseudo, clips.labels.clips)

    def __len__(self) -> int:
        return len(self.clips.labels.clips)

    def __getitems__(self, requests: Requests) -> Batch:
        """The batch of the requested clips, in their order."""
        position, seeds = requests.T
        heard = self.heard(position)
        if self.mixing is not None:
            heard = wave_mixed(heard, self.mixing, seeds, len(self), lambda clips, _: self.heard(clips))
        valid = torch.ones(heard.targets.shape[:2], dtype=torch.bool)
        return Batch(heard.waveform, heard.targets, valid, torch.from_numpy(position), None, heard.pseudo)

    def heard(self, positions: np.ndarray) -> Heard:
        """Some clips as they are."""
        waveform = np.empty((len(positions), CLIP_SAMPLES), np.float32)
        of_pack, rows = self.clips.where[positions].T
        for number in np.unique(of_pack):
            here = of_pack == number
            waveform[here] = self.clips.packs[number].read_many(rows[here], 0, CLIP_SAMPLES)
        targets = torch.from_numpy(self.clips.labels.targets(positions))
        is_own = torch.from_numpy(positions >= len(self) - self.clips.own)
        targets[is_own, : len(output_classes())] = torch.nan  # not known
        return Heard(torch.from_numpy(waveform), targets, self._pseudo(positions, targets))

    def _pseudo(self, positions: np.ndarray, targets: torch.Tensor) -> torch.Tensor | None:
        if self.pseudo is None or self.pseudo_rows is None:
            return None
        rows, found = self.pseudo_rows[positions], targets[:, : len(self.pseudo.classes)].clone()
        there = np.flatnonzero(rows >= 0)
        logits = torch.from_numpy(self.pseudo.read(rows[there]))
        found[there] = logits.float().sigmoid().transpose(1, 2)
        return found


def pseudo_rows(pseudo: StoredLogits, clips: Iterable[str]) -> np.ndarray:
    """The row of each clip (clips,), -1 where there is none; names with or without "Y" before the id.

    Raises UserError where no clip has one.
    """
    position, clips = pseudo.position, iter(clips)
    first = next(clips)
    found = (position.get(clip, position.get(clip[1:], -1)) for clip in chain([first], clips))
    rows = np.fromiter(found, np.int64)
    if (rows < 0).all():
        raise UserError(f"{pseudo.path}: no logits of any training clip, {first!r} first")
    return rows


class DrawSampler(ShuffledSampler):
    """`draws` of a set's `size` clips an epoch, anew in each one, otherwise as `ShuffledSampler`.

    Without weights every clip as often as another, no clip twice before all were drawn. With weights (size,) in
    proportion to them, with or without replacement. Raises UserError for more draws than clips without.
    """

    def __init__(
        self,
        size: int,
        draws: int,
        batch: int,
        seed: int,
        epoch: Callable[[], int],
        rank: int = 0,
        ranks: int = 1,
        weights: np.ndarray | None = None,
        replacement: bool = True,
    ) -> None:
        if weights is not None and not replacement and draws > size:
            raise UserError(f"data.draws: {draws} without replacement, but there are only {size} clips")
        super().__init__(draws, batch, seed, epoch, rank, ranks)
        self.size, self.replacement = size, replacement
        self.weights = None if weights is None else weights / weights.sum()

    def order(self, random: np.random.Generator) -> NDArray[np.int64]:
        """See the class."""
        if self.weights is None:
            rounds = [random.permutation(self.size) for _ in range(-(-self.clips // self.size))]
            return np.concatenate(rounds)[: self.clips]
        return random.choice(self.size, self.clips, self.replacement, self.weights)


def drawn(data: Any, config: Config, seed: int, trainer: Any, weights: np.ndarray | None = None) -> DrawSampler:
    """A recipe's draws of a set, the share of this process of a Lightning Trainer."""
    turn, again = turn_of(trainer), config.data.sampler != "balanced_without_replacement"
    batch = share_of(config.data.batch, turn.ranks, config.trainer.divide_batch)
    return DrawSampler(len(data), config.data.draws, batch, seed, *turn, weights=weights, replacement=again)


def in_order(data: Any, config: Config, trainer: Any = None) -> DataLoader[Batch]:
    """All clips of a set in their order, the share of this process of a Lightning Trainer."""
    _, rank, ranks = turn_of(trainer)
    return sequential_loader(data, len(data), config.data.eval_batch, config.data.workers, rank, ranks)
