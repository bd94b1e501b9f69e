"""Writes toy data sets in the form of HEAR: DCASE 2016 Task 2 (sounds of an office) and MAESTRO (notes of a piano)."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from common.audio.reading import write_wav
from common.run.files import write_json, write_rows
from common.toy import (
    Progress,
    Signal,
    background,
    band,
    chain,
    counter,
    decay,
    fade,
    falling_harmonics,
    glide,
    hit,
    key,
    limit_peak,
    noise,
    tone,
    train_of,
    unit,
    voice,
    write_toy_set,
)
from task4_sed.data.annotations import Event
from task4_sed.data.classes import SAMPLE_RATE
from task4_sed.data.hear import AUDIO, FOLDS, METADATA, SPLITS, VOCABULARY
from task4_sed.data.toy.clips import Bank, compose, deck

FORMAT = 1  # to be raised when the same seed gives other files than before
# {size: (seconds of a file, {split: files})}
SIZES: dict[str, tuple[float, Mapping[str, int]]] = {
    "dcase2016": (120.0, {"train": 10, "valid": 3, "test": 4}),
    "dcase2016_tiny": (24.0, {"train": 2, "valid": 1, "test": 2}),
    "maestro": (120.0, dict.fromkeys(FOLDS, 2)),
    "maestro_tiny": (24.0, dict.fromkeys(FOLDS, 1)),
}
VARIANTS = 12
EVERY = 3.5  # seconds from event to event in an office
PITCHES, SOUNDING = tuple(range(21, 109)), (45, 52, 57, 61, 64, 69, 73, 76)  # of a piano, and those that are played
BEFORE = 0.15  # least seconds between two notes of a pitch


def _hits(rng: np.random.Generator, rate: int, low: float, high: float, t60: float, per_second: float) -> Signal:
    """A few knocks of one thing."""
    root = rng.uniform(low, high)
    grains = [hit(rng, rate, [root, 1.6 * root, 2.3 * root], t60, 0.4) for _ in range(2)]
    return train_of(rng, grains, rng.uniform(0.5, 0.9), rate, per_second, 0.3, 2.0)


def _bursts(rng: np.random.Generator, rate: int, low: float, high: float, seconds: float, count: int) -> Signal:
    """Breath or friction: noise that begins at once and dies away."""
    return chain([fade(noise(rng, seconds, rate, band(low, high)), rate, 0.01, 0.7 * seconds) for _ in range(count)])


def _phone(rng: np.random.Generator, rate: int) -> Signal:
    ring = fade(tone(glide(rng, 0.08, rate, [rng.uniform(1300, 1700)]), rate, [1, 0, 0.4]), rate, 0.005, 0.01)
    return train_of(rng, [ring], rng.uniform(0.8, 1.6), rate, 11.0, 0.0, 0.0)


OFFICE: dict[str, Callable[[np.random.Generator, int], Signal]] = {
    "clearthroat": lambda rng, rate: voice(rng, 0.5, rate, rng.uniform(60, 80), 0.8, 8.0),
    "cough": partial(_bursts, low=500, high=2500, seconds=0.3, count=2),
    "doorslam": lambda rng, rate: hit(rng, rate, [rng.uniform(60, 110), 190, 340], 0.7, 1.5),
    "drawer": partial(_bursts, low=150, high=700, seconds=0.8, count=1),
    "keyboard": partial(_hits, low=1800, high=2600, t60=0.03, per_second=9.0),
    "keys": partial(_hits, low=3800, high=5200, t60=0.3, per_second=16.0),
    "knock": partial(_hits, low=180, high=320, t60=0.09, per_second=5.0),
    "laughter": lambda rng, rate: voice(rng, 1.2, rate, rng.uniform(260, 360), 1.2, 6.0, 0.5),
    "pageturn": partial(_bursts, low=2500, high=7000, seconds=0.5, count=1),
    "phone": _phone,
    "speech": lambda rng, rate: voice(rng, rng.uniform(1.0, 2.0), rate, rng.uniform(100, 200)),
}


def write_toy_hear(root: str | Path, seed: int = 0, size: str = "dcase2016", progress: Progress | None = None) -> None:
    """Write a toy data set to `root`, 16-kHz wavs; the same seed and size always give the same bytes.

    Whole or not at all. Does nothing where `root` is already this data set; raises UserError where something else is in
    its place. `progress(done, total)` counts audio files.
    """
    write_toy_set(root, lambda folder: _write(folder, seed, size, progress), FORMAT, seed, size, SIZES)


def _write(root: Path, seed: int, size: str, progress: Progress | None) -> None:
    seconds, splits = SIZES[size]
    office = tuple(splits) == SPLITS
    count = counter(sum(splits.values()), progress)
    for split, files in splits.items():
        listed: dict[str, list[dict[str, Any]]] = {}
        bank = Bank(seed, split, VARIANTS, sources=OFFICE)
        for number in range(files):
            rng = np.random.default_rng(key(seed, size, split, number))
            sound, events = _scene(rng, bank, seconds) if office else _piece(rng, seconds)
            name = f"{split}_{number:02d}.wav"
            write_wav(root / AUDIO[0] / split / name, sound, SAMPLE_RATE)
            listed[name] = [
                {"label": e.label, "start": round(1000 * e.onset, 1), "end": round(1000 * e.offset, 1)} for e in events
            ]
            count()
        write_json(root / f"{split}.json", listed)
    labels = tuple(OFFICE) if office else tuple(map(str, PITCHES))
    write_rows(root / VOCABULARY, ("idx", "label"), list(enumerate(labels)))
    name = "dcase2016_task2" if office else "maestro"
    about = {"task_name": name, "version": "toy", "embedding_type": "event", "sample_duration": seconds}
    write_json(root / METADATA, about)


def _scene(rng: np.random.Generator, bank: Bank, seconds: float) -> tuple[Signal, list[Event]]:
    labels = deck(rng, tuple(OFFICE), int(seconds / EVERY))
    sound, placed = compose(rng, bank, background(rng, seconds, SAMPLE_RATE), labels)
    return sound, [of.event for of in placed]


def _piece(rng: np.random.Generator, seconds: float) -> tuple[Signal, list[Event]]:
    sound = background(rng, seconds, SAMPLE_RATE) * np.float32(0.002)
    free, events, now = dict.fromkeys(SOUNDING, 0.0), list[Event](), 0.3
    while now < seconds - 1.0:
        pitch, length = int(rng.choice(SOUNDING)), rng.uniform(0.25, 0.9)
        if free[pitch] <= now:
            hertz = np.full(round(length * SAMPLE_RATE), 440 * 2 ** ((pitch - 69) / 12))
            note = tone(hertz, SAMPLE_RATE, falling_harmonics(8, -8)) * decay(len(hertz), SAMPLE_RATE, 3 * length)
            start = round(now * SAMPLE_RATE)
            sound[start : start + len(note)] += np.float32(rng.uniform(0.05, 0.1)) * fade(
                unit(note), SAMPLE_RATE, 0.003, 0.02
            )
            events.append(Event(now, now + length, str(pitch)))
            free[pitch] = now + length + BEFORE
        now = round(now + rng.uniform(0.1, 0.5), 4)
    return limit_peak(sound), events
