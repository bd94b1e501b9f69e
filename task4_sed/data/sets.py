"""A data set in its official layout -> its clips: names, packed audio, events, valid classes, and its split."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.audio.coverage import open_packed, packs_of, root_of
from common.audio.packs import Pack
from common.run.errors import UserError, did_you_mean
from common.run.files import read_rows
from task4_sed.config import DataConfig
from task4_sed.data import annotations
from task4_sed.data.annotations import Event
from task4_sed.data.classes import CLASSES
from task4_sed.data.labels import EventTable, aliases_for, valid_classes, with_aliases
from task4_sed.data.layout import CLASSES_FILE, EXCLUSION_LISTS, SETS, Part, SetLayout

# The scenes in the order in which the official inner split of MAESTRO draws its random numbers.
MAESTRO_SCENES = ("cafe_restaurant", "city_center", "grocery_store", "metro_station", "residential_area")


@dataclass(frozen=True)
class ClipSet:
    """Some clips of one data set, ready to be batched."""

    name: str
    layout: SetLayout
    clips: tuple[str, ...]  # file names
    pack: Pack
    rows: np.ndarray  # (clips,) position of each clip in the pack
    events: EventTable
    truth: Mapping[str, Sequence[Event]]  # the annotation as it is on disk, without aliases
    weak: Mapping[str, Sequence[str]]
    durations: Mapping[str, float]
    valid: np.ndarray  # (classes,) bool


def classes_of(root: Path) -> tuple[str, ...]:
    """The classes of a data set: its own list, or the 27 of DESED and MAESTRO."""
    listed = root / CLASSES_FILE
    if not listed.is_file():
        return CLASSES
    names = tuple(row["event_label"] for row in read_rows(listed, ("event_label",)))
    if not names or not all(names) or len(set(names)) != len(names):
        raise UserError(f"{listed}: expected at least one class, each once")
    return names


def first_existing(root: Path, candidates: Sequence[str]) -> Path | None:
    """The first of the candidate paths that exists below `root`."""
    return next((root / path for path in candidates if (root / path).exists()), None)


@dataclass(frozen=True)
class Annotation:
    """What the tables of one data set say."""

    events: Mapping[str, Sequence[Event]]
    weak: Mapping[str, Sequence[str]]
    durations: Mapping[str, float]

    @property
    def clips(self) -> list[str]:
        """Every file that the tables name, in their order."""
        return [*self.events, *self.weak]


def read_annotation(root: Path, layout: SetLayout, classes: Sequence[str]) -> Annotation:
    """Read and check a data set's tables; UserError where one is missing or wrong."""
    durations_file = first_existing(root, layout.durations)
    durations = annotations.read_durations(durations_file) if durations_file else {}
    if layout.kind == "unlabeled":
        return Annotation({}, {}, durations)
    table = first_existing(root, layout.annotation)
    if table is None:
        raise UserError(f"{root / layout.annotation[0]}: annotation of {layout.name} not found")
    if layout.kind == "weak":
        return Annotation({}, annotations.read_weak(table, classes), durations)
    if layout.kind == "soft":  # durations are those of whole recordings
        return Annotation(annotations.read_soft(table, classes), {}, durations)
    events = annotations.read_strong(table, classes, durations)
    return Annotation({**{name: [] for name in durations}, **events}, {}, durations)


def load_set(config: DataConfig, name: str, part: Part) -> ClipSet:
    """The clips of a data set that belong to a part (train, validation, test)."""
    if name not in SETS:
        raise UserError(f"unknown data set {name!r}{did_you_mean(name, SETS)}")
    layout, root = SETS[name], root_of(config)
    if part not in layout.parts:
        raise UserError(f"data set {name} has no {part} part; it is for {', '.join(layout.parts)}")
    classes = classes_of(root)
    annotation = read_annotation(root, layout, classes)
    pack = open_packed(packs_of(config) / name)
    packed = list(pack.names)
    position = {clip: i for i, clip in enumerate(packed)}
    # The split is drawn over all that the table lists, so that it does not depend on what is missing here.
    listed = (
        annotation.clips if layout.kind in ("strong", "weak") else list(dict.fromkeys([*packed, *annotation.clips]))
    )
    excluded = _excluded(config, root, layout, part)
    clips = [clip for clip in split(layout, listed, part) if clip in position and clip not in excluded]
    if not clips:
        raise UserError(f"{root}: no audio of data set {name} ({part}) is there; `prepare` lists what is missing")
    training = part == "train"
    aliases = aliases_for(layout.kind, classes, config.desed_to_maestro, training)
    return ClipSet(
        name,
        layout,
        tuple(clips),
        pack,
        np.array([position[clip] for clip in clips]),
        EventTable.build((with_aliases(_events(annotation, clip), aliases) for clip in clips), classes),
        {clip: annotation.events.get(clip, []) for clip in clips},
        {clip: annotation.weak[clip] for clip in clips if clip in annotation.weak},
        annotation.durations,
        valid_classes(layout.kind, classes, config.desed_to_maestro, training, config.maestro_dog),
    )


def _events(annotation: Annotation, clip: str) -> list[Event]:
    """A weak label holds, as far as anybody knows, for the whole clip."""
    weak = [Event(0.0, float("inf"), label) for label in annotation.weak.get(clip, ())]
    return [*annotation.events.get(clip, ()), *weak]


def _excluded(config: DataConfig, root: Path, layout: SetLayout, part: Part) -> frozenset[str]:
    """Clips of the training sets that also occur in external or evaluation data."""
    if not config.exclude_overlapping or part == "test" or layout.name not in EXCLUSION_LISTS:
        return frozenset()
    lists = [root / path for path in EXCLUSION_LISTS.values() if (root / path).is_file()]
    return frozenset(name for path in lists for name in annotations.read_names(path))


def split(layout: SetLayout, clips: Sequence[str], part: Part) -> list[str]:
    """The clips of one part, where a set is divided: Weak at random 9 : 1, MAESTRO by recordings of each scene."""
    if len(layout.parts) == 1:
        return list(clips)
    if layout.kind == "weak":
        training = weak_training_clips(clips)
    else:
        training = maestro_training_recordings(recording_of(clip) for clip in clips)
    key = recording_of if layout.kind == "soft" else str
    return [clip for clip in clips if (key(clip) in training) == (part == "train")]


def weak_training_clips(clips: Sequence[str]) -> set[str]:
    """The official 90 %: pandas' sample with seed 42 over the rows as they stand in the table."""
    import pandas as pd

    return set(pd.Series(list(clips)).sample(frac=0.9, random_state=42))


def maestro_training_recordings(recordings: Iterable[str]) -> set[str]:
    """The official inner split: per scene, shuffled by numpy's legacy generator with seed 42, the first 90 %."""
    random = np.random.RandomState(42)
    names = sorted(set(recordings))
    chosen: set[str] = set()
    scenes = [*MAESTRO_SCENES, *sorted({scene_of(name) for name in names} - set(MAESTRO_SCENES))]
    for scene in scenes:
        of_scene = [name for name in names if scene_of(name) == scene]
        random.shuffle(of_scene)
        chosen.update(of_scene[: int(0.9 * len(of_scene))])
    return chosen


def recording_of(window: str) -> str:
    """`cafe_restaurant_00-000100-001100.wav` -> `cafe_restaurant_00`."""
    return window.rsplit("-", 2)[0]


def scene_of(recording: str) -> str:
    """`cafe_restaurant_00` -> `cafe_restaurant`."""
    return recording.rsplit("_", 1)[0]
