"""A data set and a class split -> clips to train on, to validate by and to test on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.audio import coverage
from common.audio.coverage import open_packed, root_of
from common.audio.packs import Pack
from common.run.errors import UserError
from zeroshot.config import Config, DataConfig, TrainingDataConfig
from zeroshot.data.layout import BoolArray, IntArray, Listed, read_listed
from zeroshot.data.splits import ClassSplit

PACK = "clips"  # all clips of a data set


@dataclass(frozen=True)
class Clips:
    """Some clips of one pack, with labels of some classes."""

    names: tuple[str, ...]
    classes: tuple[str, ...]
    labels: BoolArray  # (clips, classes)
    judged: BoolArray  # (clips, classes): whether somebody listened for this class (OpenMIC); else all True
    folds: IntArray  # (clips,)
    sources: NDArray[np.str_]  # (clips,) recording that a clip is cut from
    pack: Pack
    rows: IntArray  # (clips,) position in the pack
    single: bool  # one label for each clip

    def __len__(self) -> int:
        return len(self.names)

    @property
    def targets(self) -> IntArray:
        """(clips,) column of the one label. ValueError where clips have none or several."""
        if not self.single or not (self.labels.sum(axis=1) == 1).all():
            raise ValueError("clips without exactly one label")
        return self.labels.argmax(axis=1)

    def take(self, chosen: NDArray[np.generic]) -> "Clips":
        """The chosen clips: (n,) positions or (clips,) True and False."""
        index = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        return replace(
            self,
            names=tuple(self.names[i] for i in index),
            labels=self.labels[index],
            judged=self.judged[index],
            folds=self.folds[index],
            sources=self.sources[index],
            rows=self.rows[index],
        )

    def columns(self, classes: Sequence[str]) -> "Clips":
        """The same clips with labels of these classes, False for one that the data set does not have."""
        place = {name: number for number, name in enumerate(self.classes)}
        index = np.array([place.get(name, -1) for name in classes], np.int64)
        labels, judged = self.labels[:, index] & (index >= 0), self.judged[:, index] | (index < 0)
        return replace(self, classes=tuple(classes), labels=labels, judged=judged)


@dataclass(frozen=True)
class Parts:
    """What a class split makes of the data."""

    split: ClassSplit
    train: Clips  # columns: split.train
    validation: Clips | None  # columns: split.val; None without validation classes
    test: Clips  # columns: split.test; one label for each clip: only clips of these classes, else all clips of the test
    seen: Clips | None  # clips of training classes that are not trained on; columns: split.train
    barred: dict[str, int]  # clips that could have been trained on, but for the split


def packs_of(place: DataConfig | TrainingDataConfig, sample_rate: int) -> Path:
    """The folder of the packed audio, one for each sample rate."""
    return coverage.packs_of(place) / str(sample_rate)


def load_clips(place: DataConfig | TrainingDataConfig, sample_rate: int) -> tuple[Clips, tuple[int, ...]]:
    """All packed clips of a data set, and the folds of its own test part. Raises UserError where none is packed."""
    listed = read_listed(root_of(place), place.layout)
    pack = open_packed(packs_of(place, sample_rate) / PACK, sample_rate)
    return _packed(listed, pack), listed.test_folds


def _packed(listed: Listed, pack: Pack) -> Clips:
    row = {name: number for number, name in enumerate(pack.names)}
    kept = np.array([name in row for name in listed.names])
    rows = np.array([row.get(name, -1) for name in listed.names])
    clips = Clips(
        *(listed.names, listed.classes, listed.labels, listed.judged, listed.folds, listed.sources),
        *(pack, rows, listed.single),
    )
    return clips if kept.all() else clips.take(kept)


class DataSets:
    """The packed clips of a recipe's data sets, read once for all its splits."""

    def __init__(self, config: Config) -> None:
        self.config, rate = config, config.data.sample_rate
        self.test, self.own = load_clips(config.data, rate)
        of = config.data.training
        self.training, self.training_own = (self.test, self.own) if of is None else load_clips(of, rate)

    def parts(self, split: ClassSplit) -> Parts:
        """The clips of a split. Raises UserError for a class without clips, and where nothing is left to train on."""
        source, clips = self.training, self.test.columns(split.test)
        kept_back = np.isin(source.folds, [*self.training_own, *self.config.data.generalised_folds])
        held, related, tested, val, trains = (
            source.columns(sorted(names)).labels.any(axis=1)
            for names in (split.held, split.relatives, split.held - set(split.val), split.val, split.train)
        )
        test = clips.take(np.isin(clips.folds, self.own) if self.own else np.any(clips.labels, axis=1))
        can_be_seen = self.config.data.training is None and kept_back.any()
        parts = Parts(
            split,
            source.take(trains & ~held & ~related & ~kept_back).columns(split.train),
            source.take(val & ~tested & ~kept_back).columns(split.val) if split.val else None,
            test,
            source.take(kept_back & trains).columns(split.train) if can_be_seen else None,
            {
                "labels": int((trains & ~kept_back & held).sum()),
                "relatives": int((trains & ~kept_back & ~held & related).sum()),
            },
        )
        for part, of in (("training", parts.train), ("validation", parts.validation), ("test", test)):
            if of is not None:
                _check_there(f"{self.config.data.root}: split {split.name}", part, of)
        return parts


def load_parts(config: Config, split: ClassSplit) -> Parts:
    """The clips of one split; of many, `DataSets` reads the tables once."""
    return DataSets(config).parts(split)


def _check_there(at: str, part: str, of: Clips) -> None:
    """UserError: of one label for each clip every class needs clips; of several, one class at least."""
    empty = [name for name, there in zip(of.classes, np.any(of.labels, axis=0).tolist(), strict=True) if not there]
    if empty and (of.single or len(empty) == len(of.classes)):
        more = f" (and of {len(empty) - 1} more classes)" if len(empty) > 1 else ""
        raise UserError(f"{at}: no {part} clip of {empty[0]!r}{more} is packed; `prepare` says why")
