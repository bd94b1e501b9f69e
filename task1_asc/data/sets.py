"""A data set in its official layout -> its clips: names, labels, devices, packed audio."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from common.audio import coverage
from common.audio.coverage import open_packed, root_of
from common.audio.packs import Pack
from common.run.errors import UserError, did_you_mean
from task1_asc.config import DataConfig
from task1_asc.data.classes import DEVICES, PARTS_PER_SEGMENT, SCENES, TRAIN_DEVICES
from task1_asc.data.layout import (
    ClipName,
    Split,
    find_evaluation,
    parse_name,
    read_evaluation,
    read_list,
    read_split,
    split_file,
)
from task1_asc.data.splits import draw_locations

Part = Literal["train", "validation", "test", "evaluation"]
IntArray = NDArray[np.int64]

# Which locations are held out does not depend on a training's seed, so that its runs can be compared.
HOLD_OUT_SEED = 2024


@dataclass(frozen=True)
class Clips:
    """Some clips of one pack, ready to be batched."""

    names: tuple[str, ...]  # as in the tables: audio/....wav
    labels: IntArray  # (clips,) index into SCENES, -1: unknown
    devices: IntArray  # (clips,) index into DEVICES, -1: unknown or none of them
    pack: Pack
    rows: IntArray  # (clips,) position of each clip in the pack
    segments: IntArray | None = None  # (clips, 10) positions of all parts of its segment, where windows are drawn

    def __len__(self) -> int:
        return len(self.names)


def packs_of(config: DataConfig) -> Path:
    """The folder of the packed audio, one for each sample rate."""
    return coverage.packs_of(config) / str(config.sample_rate)


def evaluation_folder(config: DataConfig) -> Path | None:
    """The evaluation set of a recipe, where there is one."""
    return find_evaluation(root_of(config), config.evaluation, config.edition)


def own_devices(config: DataConfig, split: int) -> list[str]:
    """The devices that get a network of their own: those that the split has clips of."""
    there = {parse_name(name).device for name, _ in read_split(root_of(config), split)}
    return [device for device in TRAIN_DEVICES if device in there]


def load_clips(config: DataConfig, part: Part, split: int | None = None) -> Clips:
    """The clips of a part; `split` (percent) says which training list, also for a validation part taken from it.

    Training and validation have only `config.devices`. Without `config.validation_share` the validation part is the
    test list, as published. With `config.cropped` training clips know their whole segments. Raises UserError for a
    list that is not there or wrong, for clips that are not packed, and where nothing is left.
    """
    if part == "evaluation":
        return _evaluation(config)
    clips = _listed(config, part, split)
    pack = open_packed(packs_of(config) / ("test" if _on_test_list(config, part) else "train"), config.sample_rate)
    names = tuple(clip.filename for clip in clips)
    rows = rows_of(pack, names)
    labels = np.array([SCENES.index(clip.scene) for clip in clips])
    devices = np.array([DEVICES.index(clip.device) for clip in clips])
    segments = _segments(clips, rows) if part == "train" and config.cropped else None
    return Clips(names, labels, devices, pack, rows, segments)


def rows_of(pack: Pack, names: Sequence[str]) -> IntArray:
    """Positions of clips in a pack; UserError for one that is not there."""
    try:
        return pack.indices_of(names)
    except UserError as error:
        raise UserError(f"{error}; `prepare` packs it, or says why it cannot") from None


def _on_test_list(config: DataConfig, part: Part) -> bool:
    return part == "test" or (part == "validation" and not config.validation_share)


def _listed(config: DataConfig, part: Part, split: int | None) -> list[ClipName]:
    """The clips of a part by the lists: held-out locations and devices taken into account."""
    name: Split | None = "test" if _on_test_list(config, part) else split
    if name is None:
        raise ValueError(f"part {part} needs a split")
    path = split_file(root_of(config), name)
    clips = read_list(path)
    if name != "test" and config.validation_share:
        random = np.random.default_rng([HOLD_OUT_SEED, name])
        held_out = draw_locations(clips, config.validation_share, random)
        clips = [clip for clip in clips if (clip.location in held_out) == (part == "validation")]
    devices = DEVICES if part == "test" or config.devices is None else config.devices
    for device in devices:
        if device not in DEVICES:
            raise UserError(f"data.devices: unknown device {device!r}{did_you_mean(device, DEVICES)}")
    kept = [clip for clip in clips if clip.device in devices]
    if not kept:
        raise UserError(f"{path}: none of its {len(clips)} clips is of data.devices {', '.join(devices)}")
    return kept


def _segments(clips: Sequence[ClipName], rows: IntArray) -> IntArray:
    """Rows of the ten parts of every clip's segment, (clips, 10); UserError where one is not in the list."""
    number = {recording: i for i, recording in enumerate(dict.fromkeys(clip.recording for clip in clips))}
    of_clip = np.array([number[clip.recording] for clip in clips])
    parts = np.full((len(number), PARTS_PER_SEGMENT), -1, np.int64)
    parts[of_clip, [clip.part for clip in clips]] = rows
    broken = np.flatnonzero((parts[of_clip] < 0).any(axis=1))
    if len(broken):
        raise UserError(f"data.cropped: not all ten parts of the segment of {clips[broken[0]].filename} are listed")
    return parts[of_clip]


def _evaluation(config: DataConfig) -> Clips:
    folder = evaluation_folder(config)
    if folder is None:
        root = root_of(config)
        raise UserError(f"no evaluation set of {config.edition} beside or in {root}; data.evaluation=DIR names one")
    listed, pack = read_evaluation(folder), open_packed(packs_of(config) / folder.name, config.sample_rate)
    known = {device: number for number, device in enumerate(DEVICES)}
    devices = [known.get(device, -1) for device in listed.devices or ["unknown"] * len(listed.names)]
    unlabelled = np.full(len(devices), -1)
    return Clips(listed.names, unlabelled, np.array(devices), pack, rows_of(pack, listed.names))
