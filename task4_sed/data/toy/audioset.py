"""Writes a toy AudioSet: its tables with real MIDs, strong and weak, and 10-s clips with the sounds of the toy data
set; clip logits of a made-up teacher; clips with a class of one's own."""

import pickle
import string
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from common.audio.audioset import LABEL_COLUMNS, LABELS
from common.audio.reading import write_wav
from common.run.files import write_rows, write_text
from common.toy import Progress, background, counter, key, write_toy_set
from task4_sed.data.annotations import Event
from task4_sed.data.audioset import COLUMNS, audioset_classes
from task4_sed.data.classes import CLIP_SECONDS, DESED_CLASSES, SAMPLE_RATE
from task4_sed.data.framewise import AUDIO, DURATIONS, TABLES, Part
from task4_sed.data.own import CLASSES
from task4_sed.data.tag_logits import INDEX
from task4_sed.data.toy.clips import Bank, compose, deck, desed_clip
from task4_sed.data.weak import SEGMENTS

NAMES = dict(
    zip(
        DESED_CLASSES,
        (
            *("Alarm", "Blender, food processor", "Cat", "Dishes, pots, and pans", "Dog"),
            *("Electric shaver, electric razor", "Frying (food)", "Water tap, faucet", "Speech", "Vacuum cleaner"),
        ),
        strict=True,
    )
)
SIZES: dict[str, dict[Part, int]] = {
    "audioset": {"train": 160, "eval": 60},
    "audioset_tiny": {"train": 10, "eval": 6},
}
OWN = "own"  # folder of the clips with a class of one's own
OWN_SIZES: dict[str, dict[Part, int]] = {
    "audioset": {"train": 64, "eval": 20},
    "audioset_tiny": {"train": 4, "eval": 3},
}
OWN_MID, OWN_NAME, OWN_SOUND = "/own/gate", "Gate of my garden", "brakes_squeaking"
TEACHER = "toy_logits.npy"
UNTAUGHT = 8  # of every so many training clips the teacher says nothing of one
VARIANTS: dict[Part, int] = {"train": 16, "eval": 8}
SHORT = 8  # every so many clips of the evaluation one is shorter than 10 s
FORMAT = 3  # to be raised when the same seed gives other files than before
Row = tuple[str, str, str, str]


def write_toy_audioset(
    root: str | Path, seed: int = 0, size: str = "audioset", progress: Progress | None = None
) -> None:
    """Write the toy data set to `root`, 16-kHz wavs in folders; the same seed and size always give the same bytes.

    Whole or not at all. Does nothing where `root` is already this data set; raises UserError where something else is in
    its place. `progress(done, total)` counts audio files.
    """
    write_toy_set(root, lambda folder: _write(folder, seed, size, progress), FORMAT, seed, size, SIZES)


def _write(root: Path, seed: int, size: str, progress: Progress | None) -> None:
    count = counter(sum(SIZES[size].values()) + sum(OWN_SIZES[size].values()), progress)
    mids = {of.name: of.mid for of in audioset_classes()}
    mid_of = {label: mids[name] for label, name in NAMES.items()}
    labels = [(number, mid_of[label], name) for number, (label, name) in enumerate(NAMES.items())]
    write_rows(root / LABELS, LABEL_COLUMNS, labels)
    for part, clips in SIZES[size].items():
        found = _write_clips(root, seed, part, clips, count)
        rows = [row for clip, events in found.items() for row in _rows(f"{clip}_30000", events, mid_of)]
        write_rows(root / TABLES[part][0], COLUMNS, rows)
        heard = {clip: sorted({mid_of[e.label] for e in events}) for clip, events in found.items() if events}
        _write_segments(root, part, heard)
        if part == "train":
            _write_teacher(root, seed, heard, list(mid_of.values()))
    _write_own(root / OWN, seed, OWN_SIZES[size], count)


def _rows(segment: str, events: list[Event], mid_of: Mapping[str, str]) -> list[Row]:
    return [(segment, f"{e.onset:.3f}", f"{e.offset:.3f}", mid_of[e.label]) for e in events]


def _write_clips(root: Path, seed: int, part: Part, clips: int, count: Callable[[], None]) -> dict[str, list[Event]]:
    """Events by the YouTube ids of the clips."""
    bank, found, durations = Bank(seed, part, VARIANTS[part]), dict[str, list[Event]](), []
    cards = deck(np.random.default_rng(key(seed, "deck", part)), DESED_CLASSES, 2 * clips)
    for index in range(clips):
        rng = np.random.default_rng(key(seed, "clip", part, index))
        letters = string.ascii_letters + string.digits + "-_"
        video = "".join(letters[i] for i in rng.integers(len(letters), size=11))
        seconds = round(rng.uniform(5, 9), 2) if part == "eval" and index % SHORT == SHORT - 1 else CLIP_SECONDS
        sound, found[video] = desed_clip(rng, bank, cards[2 * index : 2 * index + 2], seconds)
        write_wav(root / AUDIO[part] / f"Y{video}.wav", sound, SAMPLE_RATE)
        durations.append(f"Y{video},{len(sound) / SAMPLE_RATE:.2f}\n")
        count()
    if part == "eval":
        write_text(root / DURATIONS, "".join(durations))
    return found


def _write_segments(root: Path, part: Part, heard: Mapping[str, list[str]]) -> None:
    """Clip labels as released; of the training clips the first quarter is the balanced part."""
    clips, quarter = list(heard), len(heard) // 4
    shares = (clips,) if part == "eval" else (clips[:quarter], clips[quarter:])
    for name, share in zip(SEGMENTS[part], shares, strict=True):
        lines = [f'{clip}, 30.000, 40.000, "{",".join(heard[clip])}"\n' for clip in share]
        write_text(root / name, "# YTID, start_seconds, end_seconds, positive_labels\n" + "".join(lines))


def _write_teacher(root: Path, seed: int, heard: Mapping[str, list[str]], mids: list[str]) -> None:
    """Clip logits in the form in which PaSST's ensemble is published: the labels, less sure and with noise."""
    taught = [clip for number, clip in enumerate(heard) if number % UNTAUGHT]
    labels = np.array([[mid in heard[clip] for mid in mids] for clip in taught])
    noise = np.random.default_rng(key(seed, "teacher")).normal(0, 1, labels.shape)
    np.save(root / TEACHER, (6.0 * labels - 3.0 + noise).astype(np.float16))
    (root / INDEX).write_bytes(pickle.dumps({clip: row for row, clip in enumerate(taught)}))


def _write_own(root: Path, seed: int, sizes: Mapping[Part, int], count: Callable[[], None]) -> None:
    """Clips with the own class among other sounds, of which the tables say nothing."""
    for part, clips in sizes.items():
        bank, rows = Bank(seed, f"own {part}", VARIANTS[part]), list[Row]()
        for index in range(clips):
            rng, name = np.random.default_rng(key(seed, "own", part, index)), f"garden_{part}_{index:03d}"
            others = [str(label) for label in rng.choice(DESED_CLASSES, size=2, replace=False)]
            scene = background(rng, CLIP_SECONDS, SAMPLE_RATE)
            sound, placed = compose(rng, bank, scene, [OWN_SOUND, *others])
            write_wav(root / AUDIO[part] / f"{name}.wav", sound, SAMPLE_RATE)
            rows += _rows(name, [p.event for p in placed if p.event.label == OWN_SOUND], {OWN_SOUND: OWN_MID})
            count()
        write_rows(root / f"{part}_strong.tsv", COLUMNS, rows)
    write_text(root / CLASSES, f"{OWN_MID},{OWN_NAME}\n")
