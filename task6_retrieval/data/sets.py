"""A data set in its official layout -> its clips: names, captions, keywords, packed audio."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from common.audio.coverage import open_packed, packs_of
from common.audio.packs import Pack
from common.run.errors import UserError
from task6_retrieval.config import SAMPLE_RATE, DataConfig
from task6_retrieval.data.captions import read_variants
from task6_retrieval.data.layout import needed

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class CaptionedClips:
    """Some clips of one data set, ready to be batched. A clip is known by (set, name): sets share names."""

    name: str  # of the set
    clips: tuple[str, ...]  # as in the tables
    captions: tuple[tuple[str, ...], ...]  # (clips,), at least one each, or none in the challenge
    keywords: tuple[str, ...]  # (clips,), joined by `;`, empty where there are none
    pack: Pack
    rows: IntArray  # (clips,) position of each clip in the pack
    variants: Mapping[tuple[str, int], tuple[str, ...]] = field(default_factory=dict)  # (clip, caption): other wordings
    first: int = 0  # number of the first clip, where several sets are numbered through

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def seconds(self) -> NDArray[np.float64]:
        """(clips,)"""
        return np.asarray(self.pack.lengths)[self.rows] / self.pack.sample_rate

    def pairs(self) -> tuple[IntArray, list[str]]:
        """All captions, clip by clip in their order: the clip (captions,) as its position here, and the text."""
        numbers = np.repeat(np.arange(len(self)), [len(of) for of in self.captions])
        return numbers, [caption for of in self.captions for caption in of]

    def fitting(self) -> list[list[int]]:
        """For each caption of `pairs`, the clips that have it, as positions here: several have one of a template."""
        numbers, texts = self.pairs()
        having: dict[str, dict[int, None]] = defaultdict(dict)
        for number, text in zip(numbers.tolist(), texts, strict=True):
            having[text][number] = None
        return [list(having[text]) for text in texts]


def load_set(config: DataConfig, name: str) -> CaptionedClips:
    """The clips of a set that are packed. Raises UserError where there are none, or `prepare` has not run."""
    listing, pack = needed(config, name), open_packed(packs_of(config) / name, SAMPLE_RATE)
    position = {clip: row for row, clip in enumerate(pack.names)}
    clips = [clip for clip in listing.clips if clip.name in position]
    if not clips:
        raise UserError(f"{listing.table}: none of its clips is packed; `prepare` lists what is missing")
    return CaptionedClips(
        name,
        tuple(clip.name for clip in clips),
        tuple(clip.captions for clip in clips),
        tuple(clip.keywords for clip in clips),
        pack,
        np.array([position[clip.name] for clip in clips]),
    )


def numbered(sets: Sequence[CaptionedClips]) -> list[CaptionedClips]:
    """The sets with their clips numbered through, so that no two clips of a training have the same number."""
    firsts = np.cumsum([0, *map(len, sets)])
    return [replace(of, first=int(first)) for of, first in zip(sets, firsts[:-1], strict=True)]


def training_sets(config: DataConfig) -> list[CaptionedClips]:
    """The sets that a recipe trains on, numbered through, with other wordings of their captions where it has any."""
    sets = [load_set(config, name) for name in dict.fromkeys(config.train)]
    if config.variants is None:
        return numbered(sets)
    known = read_variants(config.variants)
    of_set: dict[str, dict[tuple[str, int], tuple[str, ...]]] = defaultdict(dict)
    for (split, clip, number), variants in known.items():
        of_set[f"clotho_{split}"][clip, number] = variants
    return numbered([replace(of, variants=of_set.get(of.name, {})) for of in sets])
