"""Data sets and split files -> pairs of packed imitations and recordings: what trains, validates and is tested."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from common.audio.coverage import open_packed
from common.audio.packs import Pack
from common.run.errors import UserError, brief
from qbv.config import SAMPLE_RATE, DataConfig
from qbv.data.layout import TESTED, TRAINING, IntArray, Listing, place_of, read_listing
from qbv.data.splits import META, TEST, TRAIN, VAL, Meta, Split, fold_folder, needed_table, read_meta, read_split

KINDS = ("imitations", "recordings")


@dataclass(frozen=True)
class Sounds:
    """Some sounds of a pack, by name."""

    names: tuple[str, ...]
    pack: Pack
    rows: IntArray  # (sounds,) position in the pack

    def __len__(self) -> int:
        return len(self.names)

    def take(self, positions: Sequence[int] | IntArray) -> "Sounds":
        """Those at some positions."""
        kept = np.asarray(positions, np.int64)
        return replace(self, names=tuple(self.names[i] for i in kept), rows=self.rows[kept])


@dataclass(frozen=True)
class Pairs:
    """Imitations, recordings, and what each imitates.

    trials: (recordings,) a query is compared with the recordings of the trial that its right one is in. negatives:
    (imitations,) a recording that is no match, -1 where there is none.
    """

    imitations: Sounds
    recordings: Sounds
    targets: IntArray  # (imitations,) position of the recording
    concepts: tuple[str, ...]  # (recordings,)
    trials: IntArray
    negatives: IntArray

    def __len__(self) -> int:
        return len(self.imitations)

    @property
    def labels(self) -> IntArray:
        """(imitations,) number of the concept, in order of names."""
        found: IntArray = np.unique(self.concepts, return_inverse=True)[1][self.targets]
        return found


def pack_folder(data: DataConfig, name: str) -> Path:
    """Where the packs of a data set lie."""
    return Path(data.packs) / name if data.packs else place_of(data, name) / "packed"


def splits_folder(data: DataConfig) -> Path:
    """Where the split files of the protocol lie."""
    return Path(data.splits) if data.splits else place_of(data, TRAINING[data.protocol]) / "splits"


def load_pairs(data: DataConfig, name: str) -> Pairs:
    """A data set, as much of it as is packed. Raises UserError where `prepare` has not run, or nothing is there.

    An imitation without its recording is left out.
    """
    listing, folder = read_listing(data, name), pack_folder(data, name)
    imitations, recordings = (
        _sounds(names, folder / kind)
        for kind, names in zip(KINDS, (listing.imitations, listing.recordings), strict=True)
    )
    place = {name: number for number, name in enumerate(recordings.names)}
    target = dict(zip(listing.imitations, listing.targets.tolist(), strict=True))
    of = [place.get(listing.recordings[target[name]], -1) for name in imitations.names]
    kept = [number for number, recording in enumerate(of) if recording >= 0]
    if not kept:
        raise UserError(f"{listing.source}: none of its pairs is packed; `prepare` lists what is missing")
    concept = dict(zip(listing.recordings, listing.concepts, strict=True))
    concepts = tuple(concept[name] for name in recordings.names)
    return Pairs(
        imitations.take(kept),
        recordings,
        np.array([of[i] for i in kept], np.int64),
        concepts,
        np.zeros(len(recordings), np.int64),
        np.full(len(kept), -1, np.int64),
    )


def _sounds(names: Sequence[str], folder: Path) -> Sounds:
    pack = open_packed(folder, SAMPLE_RATE)
    position = {name: row for row, name in enumerate(pack.names)}
    there = tuple(name for name in names if name in position)
    return Sounds(there, pack, np.array([position[name] for name in there], np.int64))


def chosen(pairs: Pairs, imitations: Sequence[str], all_recordings: bool = False) -> Pairs:
    """The pairs of some imitations by name, those that are packed, in the order given, and the recordings of these.

    Raises UserError where none is packed.
    """
    place = {name: number for number, name in enumerate(pairs.imitations.names)}
    kept = np.array([place[name] for name in imitations if name in place], np.int64)
    if not len(kept):
        path = pairs.imitations.pack.path
        raise UserError(f"{path}: none of {len(imitations)} imitations is packed, such as {brief(imitations[0])}")
    used = np.arange(len(pairs.recordings)) if all_recordings else np.unique(pairs.targets[kept])
    return replace(
        pairs,
        imitations=pairs.imitations.take(kept),
        recordings=pairs.recordings.take(used),
        targets=np.searchsorted(used, pairs.targets[kept]),
        concepts=tuple(pairs.concepts[i] for i in used),
        trials=pairs.trials[used],
        negatives=np.full(len(kept), -1, np.int64),
    )


# ------------------------------------------------------------------------------------------------------- the protocols


def split_of(data: DataConfig, name: str) -> Split:
    """A split file of the recipe's (first) fold, or of the fine protocol."""
    folder = splits_folder(data)
    return read_split(needed_table(fold_folder(folder, data.folds[0]) if data.protocol == "coarse" else folder, name))


def training_pairs(data: DataConfig, negatives: bool = False) -> tuple[Pairs, Pairs]:
    """What trains, and what validates: of coarse those of the first fold of `data.folds`, of qvim its development set.

    Validation is against the recordings that train. negatives: with those of meta.csv. Raises UserError for split files
    that name what the data set has not.
    """
    if data.protocol == "qvim":
        return load_pairs(data, TRAINING["qvim"]), load_pairs(data, TESTED["qvim"])
    listing, whole = read_listing(data, TRAINING[data.protocol]), load_pairs(data, TRAINING[data.protocol])
    train, validation = (_part(whole, listing, split_of(data, name)) for name in (TRAIN, VAL))
    if negatives:
        train = with_negatives(train, read_meta(needed_table(splits_folder(data), META)))
    return train, validation


def _part(whole: Pairs, listing: Listing, split: Split) -> Pairs:
    check_names(split, listing)
    return chosen(whole, split.imitations)


def check_names(split: Split, listing: Listing) -> None:
    """Raise UserError for the first imitation of a split file that the data set does not have."""
    known = set(listing.imitations)
    if foreign := [name for name in split.imitations if name not in known]:
        raise UserError(f"{split.path}: {brief(foreign[0])} is none of the imitations of {listing.source}")


def with_negatives(pairs: Pairs, meta: Meta) -> Pairs:
    """`pairs` with the negatives of meta.csv, as far as they train: what is unseen in training stays unseen."""
    place = {name: number for number, name in enumerate(pairs.recordings.names)}
    negatives = [place.get(meta.negative.get(name, ""), -1) for name in pairs.imitations.names]
    return replace(pairs, negatives=np.array(negatives, np.int64))


def pairs_of_test(data: DataConfig) -> Pairs:
    """Queries and recordings that are tested: of coarse those of the first fold of `data.folds`.

    Raises UserError where the right recording of a query is not packed, and for imitations that the data set has not.
    """
    name = TESTED[data.protocol]
    listing, whole = read_listing(data, name), load_pairs(data, name)
    if data.protocol == "coarse":
        split = split_of(data, TEST)
        found = _part(whole, listing, split)
        _right_ones(listing, split.imitations, found)
        return found
    _right_ones(listing, listing.imitations, whole)
    return in_trials(whole) if data.protocol == "fine" else whole


def in_trials(pairs: Pairs) -> Pairs:
    """Queries against the recordings of their class alone; classes of one recording have none."""
    trials = np.unique(pairs.concepts, return_inverse=True)[1].astype(np.int64)
    contest = np.bincount(trials)[trials[pairs.targets]] > 1
    names = [pairs.imitations.names[i] for i in np.flatnonzero(contest)]
    return chosen(replace(pairs, trials=trials), names, all_recordings=True)


def _right_ones(listing: Listing, imitations: Sequence[str], packed: Pairs) -> None:
    """A query whose right recording is missing is an error: it has no rank."""
    target = dict(zip(listing.imitations, listing.targets.tolist(), strict=True))
    wanted, there = {listing.recordings[target[name]] for name in imitations}, set(packed.recordings.names)
    if gone := sorted(wanted - there):
        raise UserError(
            f"{packed.recordings.pack.path}: recording {brief(gone[0])} is not packed ({len(gone)} are missing), but "
            "queries of the test imitate it; `prepare` lists what is missing"
        )
