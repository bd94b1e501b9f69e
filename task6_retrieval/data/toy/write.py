"""Writes the embedded data set in Clotho's layout, whole or not at all."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.audio.reading import write_wav
from common.run.files import write_rows
from common.toy import Progress, Signal, Size, counter, fade, key, limit_peak, mix_at_snr, write_toy_set
from task6_retrieval.data.toy.sounds import Event, Scene, ambience, draw_scene

FORMAT = 2  # to be raised when the same seed gives other files than before
SNR_DB = (8.0, 20.0)
LEVEL_DBFS = (-45.0, -35.0)  # RMS of the backgrounds
EVENT_SECONDS = 0.7  # room for one event; no event is longer
CAPTION_COLUMNS = ("file_name", *(f"caption_{number}" for number in range(1, 6)))
METADATA_COLUMNS = (
    "file_name", "keywords", "sound_id", "sound_link", "start_end_samples", "manufacturer", "license",
)  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """Clips of the splits (the last one is an evaluation set of the challenge), variants of every event's sound in
    each, Hz.
    """

    clips: dict[str, int]
    variants: int
    rate: int


SIZES: dict[Size, Sizes] = {
    "toy": Sizes({"development": 300, "validation": 60, "evaluation": 100, "challenge": 50}, 12, 16_000),
    "tiny": Sizes({"development": 10, "validation": 5, "evaluation": 6, "challenge": 11}, 1, 8_000),
}


def write_toy(root: str | Path, seed: int = 0, size: Size = "toy", progress: Progress | None = None) -> None:
    """Write the embedded data set to `root`: development, validation and evaluation with captions and keywords,
    and in challenge/ an evaluation set: one caption a clip, in an order and under names that say nothing.

    Mono wavs of 16 bit, 16 kHz (tiny: 8 kHz). The same seed and size always give the same bytes; no two clips of a
    split have the same scene. Does nothing where `root` is already this data set; raises UserError where something
    else is in its place. `progress(done, total)` counts clips.
    """
    write_toy_set(root, lambda folder: _write(folder, seed, SIZES[size], progress), FORMAT, seed, size, SIZES)


def _write(root: Path, seed: int, sizes: Sizes, progress: Progress | None) -> None:
    count = counter(sum(sizes.clips.values()), progress)
    for split in sizes.clips:
        bank, captions, metadata, hidden = Bank(seed, split, sizes), [], [], split == "challenge"
        audio = root / split / "retrieval_audio" if hidden else root / split
        for number, scene in enumerate(scenes_of(seed, split, sizes)):
            rng = np.random.default_rng(key(seed, "clip", split, number))
            heard = f"{' and '.join(event.keyword for event, _ in scene.events)} "
            name = f"{'' if hidden else heard}{number:03d}.wav"
            write_wav(audio / name, clip(rng, bank, scene), sizes.rate)
            captions.append((name, *scene.captions(rng)))
            metadata.append((name, scene.keywords, f"{split[0]}{number}", "", "", "toy", "MIT"))
            count()
        if hidden:
            order = np.random.default_rng(key(seed, "queries")).permutation(len(captions))
            write_rows(root / split / "retrieval_captions.csv", ("caption",), ([captions[i][1]] for i in order))
            write_rows(root / split / "retrieval_audio_metadata.csv", METADATA_COLUMNS, metadata)
            continue
        write_rows(root / f"clotho_captions_{split}.csv", CAPTION_COLUMNS, captions)
        write_rows(root / f"clotho_metadata_{split}.csv", METADATA_COLUMNS, metadata)


def scenes_of(seed: int, split: str, sizes: Sizes) -> Iterator[Scene]:
    """The scenes of a split, all different."""
    rng, seen = np.random.default_rng(key(seed, "scenes", split)), set[Scene]()
    while len(seen) < sizes.clips[split]:
        scene = draw_scene(rng)
        if scene not in seen:
            seen.add(scene)
            yield scene


@dataclass
class Bank:
    """Variants of every event's sound, made when first asked for; each split has its own ones."""

    seed: int
    split: str
    sizes: Sizes
    _sounds: dict[tuple[str, int], Signal] = field(default_factory=dict)

    def draw(self, rng: np.random.Generator, event: Event) -> Signal:
        """A random variant (samples,), RMS of 1."""
        variant = int(rng.integers(self.sizes.variants))
        if (event.keyword, variant) not in self._sounds:
            source = np.random.default_rng(key(self.seed, "bank", self.split, event.keyword, variant))
            sound = event.make(source, self.sizes.rate)[: round(EVENT_SECONDS * self.sizes.rate)]
            self._sounds[event.keyword, variant] = fade(sound, self.sizes.rate, 0.0, 0.01)
        return self._sounds[event.keyword, variant]


def clip(rng: np.random.Generator, bank: Bank, scene: Scene) -> Signal:
    """A scene as sound (samples,), up to 6 s: each event in a slot of its own, a little pause between kinds."""
    rate, events = bank.sizes.rate, [event for event, count in scene.events for _ in range(count)]
    pauses = rng.uniform(0.05, 0.25, len(events))
    seconds = round(min(0.3 + float(np.sum(EVENT_SECONDS + pauses)) + rng.uniform(0.1, 0.6), 6.0), 2)
    ground = ambience(rng, seconds, rate, scene.ambience) * np.float32(10 ** (rng.uniform(*LEVEL_DBFS) / 20))
    mixture, now = ground.copy(), 0.2
    for event, pause in zip(events, pauses, strict=True):
        mix_at_snr(mixture, ground, bank.draw(rng, event), round(now * rate), rng.uniform(*SNR_DB))
        now += EVENT_SECONDS + pause
    return limit_peak(mixture)
