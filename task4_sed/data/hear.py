"""Data sets in the form of the HEAR benchmark: DCASE 2016 Task 2 and MAESTRO 5 h (Turian et al. 2022).

`<root>/{train,valid,test}.json`, or `fold00.json` to `fold04.json`: {file: [{"label", "start", "end"}, ...]} in ms;
`<root>/16000/<split>/<file>`; `labelvocabulary.csv` (idx, label); `task_metadata.json`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from common.audio.coverage import cover, open_packed, pack, packs_of, root_of
from common.audio.coverage import verify as verify_packs
from common.audio.loading import Requests
from common.audio.packs import Pack
from common.run.errors import UserError, brief, did_you_mean
from common.run.files import existing_file, read_json, read_rows, remove_partials, write_json
from common.run.results.tables import print_table
from task4_sed.config import Config, DataConfig
from task4_sed.data.audioset import FRAME_SECONDS, FRAMES
from task4_sed.data.batches import Batch, Heard, WavMix, wave_mixed
from task4_sed.data.classes import SAMPLE_RATE
from task4_sed.data.embeddings import CLIP_SAMPLES
from task4_sed.data.sets import first_existing

Part = Literal["train", "valid", "test"]
SPLITS: tuple[Part, ...] = ("train", "valid", "test")
FOLDS = tuple(f"fold{number:02d}" for number in range(5))
AUDIO = ("16000", "48000")  # the first that is there
METADATA, VOCABULARY, PACK = "task_metadata.json", "labelvocabulary.csv", "files"
FRAME_MS, FRAME_SAMPLES = 1000 * FRAME_SECONDS, round(FRAME_SECONDS * SAMPLE_RATE)
CROPS = 12  # of a file in an epoch
LATE_MS = 1e-4  # a frame whose centre is so much after an event's end belongs to it
TOLERANCE_MS = 100.0  # that an event may end after its file
FILES_WORTH_A_PROCESS = 40


class HearEvent(NamedTuple):
    """Times in ms."""

    label: str
    start: float
    end: float


Split = Mapping[str, Sequence[HearEvent]]


def hear_classes(config: DataConfig) -> tuple[str, ...]:
    """Those of the vocabulary, in its order. Raises UserError where that is not complete."""
    path = root_of(config) / VOCABULARY
    rows = read_rows(path, ("idx", "label"))
    named = {int(row.number("idx")): row["label"] for row in rows}
    if not rows or sorted(named) != list(range(len(rows))) or len(set(named.values())) < len(rows):
        raise UserError(f"{path}: expected idx 0, 1, ... and a label of its own in each row")
    return tuple(named[number] for number in range(len(rows)))


def task_name(root: Path) -> str:
    """What the data set calls itself. Raises UserError for one of clips instead of events."""
    path = root / METADATA
    content = read_json(path)
    kind = content.get("embedding_type", "event") if isinstance(content, dict) else brief(content)
    if kind != "event":
        raise UserError(f"{path}: embedding_type is {kind!r}, expected 'event': labels with times")
    return str(content.get("task_name", root.name))


def split_names(root: Path) -> tuple[str, ...]:
    """The tables of a data set: three parts, or five folds."""
    return FOLDS if any(root.glob("fold*.json")) else SPLITS


def splits_of(root: Path, part: Part, fold: int) -> tuple[str, ...]:
    """The tables that a part is made of. Of folds number `fold` tests, the next one validates, the others train."""
    if split_names(root) == SPLITS:
        return (part,)
    order = [FOLDS[(fold + step) % len(FOLDS)] for step in range(len(FOLDS))]
    return {"test": (order[0],), "valid": (order[1],), "train": tuple(sorted(order[2:]))}[part]


def fold_of(config: Config, seed: int) -> int:
    """The fold that a training with that seed is tested on."""
    return config.data.fold if config.data.fold is not None else (seed - config.seed) % len(FOLDS)


def read_split(path: Path, classes: Sequence[str]) -> dict[str, list[HearEvent]]:
    """{file: events} of a table. Raises UserError, with file and event, for unknown labels and impossible times."""
    content = read_json(existing_file(path, f"split (there should be {'.json, '.join(split_names(path.parent))}.json)"))
    if not isinstance(content, dict) or not content or not all(isinstance(of, list) for of in content.values()):
        raise UserError(f'{path}: expected {{"<file>.wav": [events], ...}}')
    return {
        file: [_event(f"{path}: {file}: event {number}", event, classes) for number, event in enumerate(of, 1)]
        for file, of in content.items()
    }


def _event(at: str, event: Any, classes: Sequence[str]) -> HearEvent:
    if not isinstance(event, dict) or not {"label", "start", "end"} <= event.keys():
        raise UserError(f"{at}: {brief(event)}, expected label, start and end")
    label, times = str(event["label"]), (event["start"], event["end"])
    if label not in classes:
        raise UserError(f"{at}: label {label!r} is not in {VOCABULARY}{did_you_mean(label, classes)}")
    if (
        not all(isinstance(time, int | float) and math.isfinite(time) for time in times)
        or not 0 <= times[0] <= times[1]
    ):
        raise UserError(f"{at}: {brief(times[0])} to {brief(times[1])}, expected times in ms, in order, from 0 on")
    return HearEvent(label, *map(float, times))


def prepare_hear(config: Config, workers: int, verify: bool) -> dict[str, Any]:
    """Check the tables and pack the audio; print and return how many files and events there are.

    Raises UserError for wrong tables, and for files without audio.
    """
    root, packs, classes = root_of(config.data), packs_of(config.data), hear_classes(config.data)
    name = task_name(root)
    remove_partials(packs)
    splits = {split: read_split(root / f"{split}.json", classes) for split in split_names(root)}
    audio = first_existing(root, AUDIO) or root / AUDIO[0]
    listed = [(f"{split}/{file}", audio / split / file) for split, of in splits.items() for file in of]
    found = pack(cover(listed), packs / PACK, SAMPLE_RATE, workers, FILES_WORTH_A_PROCESS)
    rows = [[split, str(len(of)), str(sum(map(len, of.values())))] for split, of in splits.items()]
    print_table(f"{name}, data set {root}: {len(classes)} classes", ["split", "files", "events"], rows)
    if lacking := (*found.missing, *found.broken):
        raise UserError(
            f"{audio / lacking[0]}: no audio that can be read, but it is listed (of {len(lacking)} the first)"
        )
    if verify:
        verify_packs([packs / PACK])
    summary = {"root": str(root), "sets": {PACK: found.counts()}}
    write_json(packs / "coverage.json", summary)
    return summary


@dataclass(frozen=True)
class HearSet:
    """Files of a part and what is to be heard in them.

    rows: (files,) in the pack. frames: (files,) of 40 ms, whole ones. targets: (classes, frames) bool of each file.
    events: {file: {class: (onset, offset) in seconds}}.
    """

    name: str
    files: tuple[str, ...]
    classes: tuple[str, ...]
    pack: Pack
    rows: np.ndarray
    frames: np.ndarray
    targets: tuple[np.ndarray, ...]
    events: dict[str, dict[str, list[tuple[float, float]]]]


def load_hear(config: DataConfig, part: Part, fold: int) -> HearSet:
    """The files of a part. Raises UserError for wrong tables, times beyond the file and files without audio."""
    root, classes = root_of(config), hear_classes(config)
    name, found = task_name(root), open_packed(packs_of(config) / PACK, SAMPLE_RATE)
    listed = {
        f"{split}/{file}": events
        for split in splits_of(root, part, fold)
        for file, events in read_split(root / f"{split}.json", classes).items()
    }
    for file in listed:
        if file not in found:
            raise UserError(f"{found.path}: no audio of {file}, which is listed; `prepare` packs it")
    rows = found.indices_of(list(listed))
    lengths = np.asarray(found.lengths)[rows]
    for (file, events), length in zip(listed.items(), lengths * (1000 / SAMPLE_RATE), strict=True):
        for number, event in enumerate(events, 1):
            if event.start > length or event.end > length + TOLERANCE_MS:
                at = f"{root / file.partition('/')[0]}.json: {file.partition('/')[2]}: event {number}"
                raise UserError(f"{at}: {event.start:g} to {event.end:g} ms, but the file ends at {length:g} ms")
    frames = lengths // FRAME_SAMPLES
    targets = tuple(frame_targets(of, classes, count) for of, count in zip(listed.values(), frames, strict=True))
    by_class = {
        file: {label: [(e.start / 1000, e.end / 1000) for e in events if e.label == label] for label in labels}
        for file, events in listed.items()
        for labels in [sorted({event.label for event in events})]
    }
    return HearSet(name, tuple(listed), classes, found, rows, frames, targets, by_class)


def frame_targets(events: Sequence[HearEvent], classes: Sequence[str], frames: int) -> np.ndarray:
    """(classes, frames) bool: a frame counts where its centre lies in an event. Turian et al. 2022."""
    targets = np.zeros((len(classes), frames), dtype=bool)
    times = (np.arange(frames) + 0.5) * FRAME_MS
    column = {label: number for number, label in enumerate(classes)}
    for event in events:
        first, end = np.searchsorted(times, (event.start, event.end + LATE_MS))
        targets[column[event.label], first:end] = True
    return targets


class HearClips(Dataset[Batch]):
    """Batches of 10-s pieces: of every file CROPS random ones that begin with a frame, or in order all there are.

    mixing: `WavMix` with any random piece.
    """

    def __init__(self, of: HearSet, random: bool, mixing: WavMix | None = None) -> None:
        self.of, self.random, self.mixing = of, random, mixing
        pieces = np.full(len(of.files), CROPS) if random else pieces_of(of.frames)
        self.file = np.repeat(np.arange(len(of.files)), pieces)
        self.start = (np.arange(len(self.file)) - np.repeat(np.cumsum(pieces) - pieces, pieces)) * FRAMES

    def __len__(self) -> int:
        return len(self.file)

    def __getitems__(self, requests: Requests) -> Batch:
        """The batch of the requested pieces, in their order."""
        position, seeds = requests.T
        heard = self.heard(position, seeds)
        if self.mixing is not None:
            heard = wave_mixed(heard, self.mixing, seeds, len(self), self.heard)
        valid = torch.ones(heard.targets.shape[:2], dtype=torch.bool)
        return Batch(heard.waveform, heard.targets, valid, torch.from_numpy(position), None)

    def heard(self, positions: np.ndarray, seeds: np.ndarray) -> Heard:
        """Some pieces as they are."""
        of, files = self.of, self.file[positions]
        room = np.maximum(of.frames[files] - FRAMES, 0)
        start = seeds % (room + 1) if self.random else self.start[positions]
        waveform = of.pack.read_many(of.rows[files], start * FRAME_SAMPLES, CLIP_SAMPLES)
        targets = np.zeros((len(files), len(of.classes), FRAMES), np.float32)
        for row, (file, first) in enumerate(zip(files, start, strict=True)):
            active = of.targets[file][:, first : first + FRAMES]
            targets[row, :, : active.shape[1]] = active
        return Heard(torch.from_numpy(waveform), torch.from_numpy(targets), None)


def pieces_of(frames: np.ndarray) -> np.ndarray:
    """Pieces of 10 s that files of so many frames (files,) are heard in."""
    return np.maximum(-(-frames // FRAMES), 1)


def joined(pieces: np.ndarray, frames: np.ndarray) -> list[np.ndarray]:
    """What was found in all pieces (pieces, 250, classes), in order -> of each file (frames, classes)."""
    ends = np.cumsum(pieces_of(frames))
    of_files = np.split(pieces, ends[:-1])
    return [of.reshape(-1, of.shape[-1])[:count] for of, count in zip(of_files, frames, strict=True)]
