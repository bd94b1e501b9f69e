"""DESED for frame-wise networks: clips with strong and weak labels in one form, frames of 40 ms."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from common.audio.coverage import root_of
from task4_sed.config import Config, DataConfig
from task4_sed.data.annotations import Event
from task4_sed.data.audioset import StrongLabels
from task4_sed.data.classes import CLIP_SECONDS, scored_classes
from task4_sed.data.framewise import StrongSet
from task4_sed.data.labels import EventTable
from task4_sed.data.layout import Part
from task4_sed.data.pseudo import stem
from task4_sed.data.sets import classes_of, load_set


def desed_classes(config: DataConfig) -> tuple[str, ...]:
    """The ten, or those of a data set of its own."""
    return scored_classes(classes_of(root_of(config)))


def desed_set(config: Config, part: Literal["eval"]) -> StrongSet:
    """The clips that such a recipe is tested on: its first test set."""
    return load_desed(config.data, config.test_sets[:1], "test")


def load_desed(config: DataConfig, names: Sequence[str], part: Part) -> StrongSet:
    """The clips of some data sets, one set after the other; a weak label holds for the whole clip."""
    classes, sets = desed_classes(config), [load_set(config, name, part) for name in names]
    events = [
        [e for e in of.truth[clip] if e.label in classes]
        + [Event(0.0, CLIP_SECONDS, label) for label in of.weak.get(clip, ())]
        for of in sets
        for clip in of.clips
    ]
    clips = tuple(stem(clip) for of in sets for clip in of.clips)
    where = [np.column_stack((np.full(len(of.rows), number), of.rows)) for number, of in enumerate(sets)]
    durations = [of.durations.get(clip, CLIP_SECONDS) for of in sets for clip in of.clips]
    labels = StrongLabels(clips, classes, EventTable.build(events, classes))
    packs = tuple(of.pack for of in sets)
    return StrongSet(
        labels, packs, np.concatenate(where), np.array(durations), names[0], classes, figure="psds1", published=False
    )
