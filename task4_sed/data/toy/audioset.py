"""Writes a toy AudioSet-strong: its tables with real MIDs, and 10-s clips with the sounds of the toy data set."""

import string
from pathlib import Path

import numpy as np

from common.audio.reading import write_wav
from common.run.files import write_rows
from common.toy import Progress, check_size, counter, key, write_once
from task4_sed.data.audioset import COLUMNS, audioset_classes
from task4_sed.data.classes import CLIP_SECONDS, DESED_CLASSES, SAMPLE_RATE
from task4_sed.data.framewise import AUDIO, DURATIONS, TABLES, Part
from task4_sed.data.toy.clips import Bank, deck, desed_clip

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
VARIANTS: dict[Part, int] = {"train": 16, "eval": 8}
SHORT = 8  # every so many clips of the evaluation one is shorter than 10 s
FORMAT = 1  # to be raised when the same seed gives other files than before


def write_toy_audioset(
    root: str | Path, seed: int = 0, size: str = "audioset", progress: Progress | None = None
) -> None:
    """Write the toy data set to `root`, 16-kHz wavs in folders; the same seed and size always give the same bytes.

    Whole or not at all. Does nothing where `root` is already this data set; raises UserError where something else is in
    its place. `progress(done, total)` counts audio files.
    """
    check_size(size, seed, SIZES)
    identity = {"format": FORMAT, "seed": seed, "size": size}
    write_once(root, identity, lambda folder: _write(folder, seed, SIZES[size], progress))


def _write(root: Path, seed: int, sizes: dict[Part, int], progress: Progress | None) -> None:
    mids = {of.name: of.mid for of in audioset_classes()}
    count = counter(sum(sizes.values()), progress)
    for part, clips in sizes.items():
        bank, rows, durations = Bank(seed, part, VARIANTS[part]), [], []
        cards = deck(np.random.default_rng(key(seed, "deck", part)), DESED_CLASSES, 2 * clips)
        for index in range(clips):
            rng = np.random.default_rng(key(seed, "clip", part, index))
            letters = string.ascii_letters + string.digits + "-_"
            video = "".join(letters[i] for i in rng.integers(len(letters), size=11))
            seconds = round(rng.uniform(5, 9), 2) if part == "eval" and index % SHORT == SHORT - 1 else CLIP_SECONDS
            sound, events = desed_clip(rng, bank, cards[2 * index : 2 * index + 2], seconds)
            write_wav(root / AUDIO[part] / f"Y{video}.wav", sound, SAMPLE_RATE)
            rows += [(f"{video}_30000", f"{e.onset:.3f}", f"{e.offset:.3f}", mids[NAMES[e.label]]) for e in events]
            durations.append(f"Y{video},{len(sound) / SAMPLE_RATE:.2f}\n")
            count()
        write_rows(root / TABLES[part][0], COLUMNS, rows)
        if part == "eval":
            (root / DURATIONS).write_text("".join(durations), encoding="utf-8")
