"""Clips with classes of one's own, to train beside AudioSet-strong: a folder with

classes.csv (two columns without header, identifier and name, as AudioSet's lists have them), train_strong.tsv and
eval_strong.tsv (columns as AudioSet-strong's; segment_id is the name of a clip), audio/train and audio/eval.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from common.audio.coverage import open_packed
from common.run.errors import UserError
from common.run.files import csv_lines, existing_file
from task4_sed.config import Config, DataConfig, OwnClipsConfig
from task4_sed.data.audioset import CLIP_SECONDS, StrongLabels, audioset_classes, output_classes, read_strong_labels
from task4_sed.data.classes import SAMPLE_RATE
from task4_sed.data.framewise import Part, StrongSet, load_strong, located
from task4_sed.data.labels import EventTable

CLASSES = "classes.csv"


def own_classes(root: Path) -> dict[str, str]:
    """{identifier: name}, in their order. Raises UserError (file, line) for what is malformed, twice, or AudioSet's."""
    taken = {text for of in audioset_classes() for text in (of.mid, of.name)}
    found: dict[str, str] = {}
    for line, fields in csv_lines(existing_file(root / CLASSES, "list of own classes")):
        if not fields:
            continue
        if len(fields) != 2 or not all(field.strip() for field in fields):
            raise UserError(f"{root / CLASSES}:{line}: expected an identifier and a name")
        mid, name = (field.strip() for field in fields)
        if {mid, name} & taken:
            raise UserError(f"{root / CLASSES}:{line}: {mid}, {name}: one of AudioSet-strong's, or there twice")
        taken |= {mid, name}
        found[mid] = name
    if not found:
        raise UserError(f"{root / CLASSES}: no class, expected a line for each")
    return found


def framewise_classes(config: DataConfig) -> tuple[str, ...]:
    """The 447 outputs, and after them the own classes of the recipe."""
    return (*output_classes(), *(own_classes(Path(config.own.root)).values() if config.own else ()))


def read_own(root: Path, part: Part) -> StrongLabels:
    """The table of a part, with events by columns of all classes."""
    own = own_classes(root)
    return read_strong_labels(root / f"{part}_strong.tsv", (*output_classes(), *own.values()), own)


def pack_of(root: Path, part: Part) -> Path:
    """Where `prepare` packs the audio of a part."""
    return root / "packed" / part


def load_own(own: OwnClipsConfig, part: Part) -> StrongSet:
    """The clips of a part whose audio is there. Raises UserError where there are none."""
    root = Path(own.root)
    labels, packs = read_own(root, part), (open_packed(pack_of(root, part), SAMPLE_RATE),)
    kept, where = located(labels.clips, packs)
    if not len(kept):
        raise UserError(f"{root}: no audio of the clips in {part}_strong.tsv")
    return StrongSet(labels.chosen(kept), packs, where[kept], np.full(len(kept), CLIP_SECONDS))


def with_own(strong: StrongSet, own: StrongSet) -> StrongSet:
    """Both, AudioSet's clips first. Those count as without the own classes; of the own clips only these are known."""
    first, second, events = strong.labels.events, own.labels.events, len(strong.labels.events.onset)
    columns = ("onset", "offset", "label", "confidence")
    joined = (np.concatenate((getattr(first, name), getattr(second, name))) for name in columns)
    table = EventTable(np.concatenate((first.start, second.start[1:] + events)), *joined)
    labels = StrongLabels((*strong.labels.clips, *own.labels.clips), own.labels.classes, table)
    where = np.concatenate((strong.where, own.where + np.array([len(strong.packs), 0])))
    durations = np.concatenate((strong.durations, own.durations))
    return replace(
        strong, labels=labels, packs=strong.packs + own.packs, where=where, durations=durations, own=len(own.where)
    )


def own_weights(weights: np.ndarray | None, clips: StrongSet, share: float) -> np.ndarray:
    """Weights of all clips (clips,) of which the own ones, alike among themselves, have `share`."""
    others = len(clips.where) - clips.own
    weights = np.ones(others) if weights is None else weights[:others]
    return np.concatenate(((1 - share) * weights / weights.sum(), np.full(clips.own, share / clips.own)))


def framewise_set(config: Config, part: Part) -> StrongSet:
    """AudioSet-strong's clips of a part, and the own ones of the recipe."""
    strong = load_strong(config.data, part)
    return strong if config.data.own is None else with_own(strong, load_own(config.data.own, part))


def own_part(clips: StrongSet) -> StrongSet:
    """The same, to be scored by the own classes, hence on own clips alone."""
    return replace(clips, scored=clips.labels.classes[len(output_classes()) :])
