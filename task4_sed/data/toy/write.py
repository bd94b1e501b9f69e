"""Writes the toy data set: every set of the official layout, whole or not at all."""

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from common.audio.reading import write_wav
from common.run.errors import UserError
from common.run.files import write_rows
from common.run.processes import all_done
from common.toy import Progress, Signal, Size, check_size, counter, key, write_once
from task4_sed.data.annotations import Event, write_durations, write_soft, write_strong, write_weak
from task4_sed.data.classes import CLIP_SECONDS, DESED_CLASSES, SAMPLE_RATE
from task4_sed.data.layout import EXCLUSION_LISTS, SETS
from task4_sed.data.maestro import cut, window_name, windows
from task4_sed.data.toy.clips import Bank, deck, desed_clip, maestro_recording
from task4_sed.data.toy.sounds import SCENES

SCENE_NAMES = tuple(SCENES)
FORMAT = 2  # to be raised when the same seed gives other files than before


@dataclass(frozen=True)
class Sizes:
    """Clips per set, recordings per scene and their length in seconds."""

    clips: dict[str, int]
    shared: int  # clips of strong, weak and unlabeled each that are also in external_strong_train
    recordings: dict[str, int]
    seconds: dict[str, tuple[float, float]]
    hop: float
    variants: dict[str, int]


SIZES: dict[Size, Sizes] = {
    "toy": Sizes(
        clips={
            "synth_train": 120,
            "synth_val": 40,
            "weak": 60,
            "unlabeled": 60,
            "strong": 60,
            "external_strong_train": 20,
            "external_strong_val": 20,
            "devtest": 60,
            "eval_public": 12,
            "eval24": 20,
        },
        shared=2,
        recordings={"maestro_train": 3, "maestro_val": 2},
        seconds={"maestro_train": (21.0, 28.0), "maestro_val": (21.0, 28.0)},
        hop=5.0,
        variants={"train": 16, "validation": 6, "test": 8},
    ),
    "tiny": Sizes(
        clips={
            "synth_train": 8,
            "synth_val": 4,
            "weak": 9,
            "unlabeled": 9,
            "strong": 5,
            "external_strong_train": 4,
            "external_strong_val": 2,
            "devtest": 6,
            "eval_public": 2,
            "eval24": 4,
        },
        shared=1,
        recordings={"maestro_train": 2, "maestro_val": 1},
        seconds={"maestro_train": (13.0, 16.0), "maestro_val": (18.0, 20.0)},
        hop=5.0,
        variants={"train": 2, "validation": 1, "test": 2},
    ),
}

# Sets whose sounds come from the bank of another part than train.
BANKS = {"synth_val": "validation", "external_strong_val": "validation", "devtest": "test", "maestro_val": "test"} | {
    "eval_public": "test",
    "eval24": "test",
}
SHARING = ("strong", "weak", "unlabeled")

Made = tuple[list[Event], float]  # events and seconds of a clip
CLIPS_OF_A_PART = 10
PARTS_WORTH_A_PROCESS = 20  # starting one takes as long as making some of them


def write_toy(
    root: str | Path,
    seed: int = 0,
    size: Size = "toy",
    hop: float | None = None,
    progress: Progress | None = None,
    workers: int = 1,
) -> None:
    """Write the toy data set to `root`: all sets of `task4_sed.data.layout` under their official paths, 16-kHz wavs.

    The same seed, size and hop (seconds between MAESTRO windows; the official protocol has 1, the toy 5) always give
    the same bytes. Everything is written to a temporary folder that is renamed at the end. Does nothing where `root`
    is already this data set; raises UserError where something else is in its place. `progress(done, total)` counts
    audio files; `workers` processes make them.
    """
    check_size(size, seed, SIZES)
    hop = SIZES[size].hop if hop is None else float(hop)
    if not 0.1 <= hop <= CLIP_SECONDS:
        raise UserError(f"hop {hop:g} s of the MAESTRO windows is outside 0.1 to {CLIP_SECONDS:g} s")
    identity = {"format": FORMAT, "seed": seed, "size": size, "hop": hop}
    write_once(root, identity, lambda folder: _Writer(folder, seed, SIZES[size], hop).write(progress, workers))


@lru_cache(maxsize=4)
def _bank(seed: int, part: str, variants: int) -> Bank:
    """One for all clips that a process makes."""
    return Bank(seed, part, variants)


@dataclass
class _Writer:
    """Writes the sets below `root`; every part of a set depends on the seed and its own name alone."""

    root: Path
    seed: int
    sizes: Sizes
    hop: float

    def write(self, progress: Progress | None, workers: int) -> None:
        names = {name: self._names(name) for name in self.sizes.clips}
        recordings = {name: self._recordings(name) for name in self.sizes.recordings}
        parts: list[tuple[Any, ...]] = [
            (self, name, first, of_set[first : first + CLIPS_OF_A_PART])
            for name, of_set in names.items()
            for first in range(0, len(of_set), CLIPS_OF_A_PART)
        ]
        parts += [part for name, of_set in recordings.items() for part in self._maestro_parts(name, of_set)]
        cut_windows = sum(len(windows(s, self.hop)) for of_set in recordings.values() for s in of_set.values())
        count = counter(sum(self.sizes.clips.values()) + cut_windows, progress)
        workers = min(workers, 1 + len(parts) // PARTS_WORTH_A_PROCESS)
        made = all_done(_make, parts, workers, show=lambda clips: [count() for _ in clips])
        clips: dict[str, dict[str, Made]] = {}
        for (_, name, *_), of_part in zip(parts, made, strict=True):
            clips.setdefault(name, {}).update(of_part)
        for name, of_set in clips.items():
            self._write_tables(name, of_set)
        durations = {f"{name}.wav": s for of_set in recordings.values() for name, s in of_set.items()}
        write_durations(self.root / SETS["maestro_train"].durations[0], durations)
        for name, path in EXCLUSION_LISTS.items():
            # Real lists also name clips that are not there.
            gone = self._youtube_name(np.random.default_rng(key(self.seed, "gone", name)), "devtest")
            write_rows(self.root / path, ("filename",), [(n,) for n in [*names[name][-self.sizes.shared :], gone]])

    def _write_tables(self, name: str, clips: dict[str, Made]) -> None:
        layout = SETS[name]
        events = {file: of_clip for file, (of_clip, _) in clips.items()}
        if layout.kind == "soft":
            write_soft(self.root / layout.annotation[0], events)
            return
        if layout.kind == "strong":
            write_strong(self.root / layout.annotation[0], events)
        elif layout.kind == "weak":
            labels = {file: sorted({e.label for e in of_clip}) for file, of_clip in events.items()}
            write_weak(self.root / layout.annotation[0], labels)
        if layout.durations:
            write_durations(self.root / layout.durations[0], {file: seconds for file, (_, seconds) in clips.items()})

    def bank(self, name: str) -> Bank:
        part = BANKS.get(name, "train")
        return _bank(self.seed, part, self.sizes.variants[part])

    def write_clip(self, name: str, file: str, sound: Signal) -> None:
        write_wav(self.root / SETS[name].audio[0] / file, sound, SAMPLE_RATE)

    # ---------------------------------------------------------------------------------------------- DESED

    def _names(self, name: str) -> list[str]:
        count = self.sizes.clips[name]
        if name.startswith("synth"):
            return [f"{number}.wav" for number in range(count)]
        rng = np.random.default_rng(key(self.seed, "names", name))
        if name == "eval24":
            maestro = [window_name(f"{SCENE_NAMES[i % 5]}_{60 + i:02d}", 5.0, 15.0) for i in range(count // 2)]
            return [*maestro, *(self._youtube_name(rng, name) for _ in range(count - len(maestro)))]
        own = [self._youtube_name(rng, name) for _ in range(count)]
        if name == "external_strong_train":
            shared = [n for other in SHARING for n in self._names(other)[-self.sizes.shared :]]
            return [*shared, *own[len(shared) :]]
        return own

    @staticmethod
    def _youtube_name(rng: np.random.Generator, name: str) -> str:
        letters = string.ascii_letters + string.digits + "-_"
        video = "".join(letters[i] for i in rng.integers(len(letters), size=11))
        start = 10 * int(rng.integers(0, 40))
        if name == "eval_public":  # has another form than the rest of DESED
            return f"{video}_{start}_{start + 10}.wav"
        return f"Y{video}_{start:.3f}_{start + 10:.3f}.wav"

    def _desed(self, name: str, index: int) -> tuple[Signal, list[Event]]:
        """Clip `index` of a set. Each set begins with clips that hold every class; a few clips have no event."""
        if name == "external_strong_train" and index < len(SHARING) * self.sizes.shared:
            other = SHARING[index // self.sizes.shared]
            return self._desed(other, self.sizes.clips[other] - self.sizes.shared + index % self.sizes.shared)
        count = self.sizes.clips[name]
        cards = deck(np.random.default_rng(key(self.seed, "deck", name)), DESED_CLASSES, 2 * count)
        rng = np.random.default_rng(key(self.seed, "clip", name, index))
        real = not name.startswith("synth")
        # A weak set is chosen for its labels: no clip there is without.
        certain = [] if real and name != "weak" and index % 25 == 24 else cards[2 * index : 2 * index + 2]
        seconds = round(rng.uniform(8, 10), 2) if real and index % 15 == 14 else CLIP_SECONDS
        return desed_clip(rng, self.bank(name), certain, seconds)

    def desed_part(self, name: str, first: int, files: Sequence[str]) -> dict[str, Made]:
        """Make some clips of a set, from number `first` on."""
        made: dict[str, Made] = {}
        for index, file in enumerate(files, first):
            if name == "eval24" and not file.startswith("Y"):
                sound, events = self._eval24_window(index)
            else:
                sound, events = self._desed(name, index)
            self.write_clip(name, file, sound)
            made[file] = (events, len(sound) / SAMPLE_RATE)
        return made

    def _eval24_window(self, index: int) -> tuple[Signal, list[Event]]:
        scene = SCENE_NAMES[index % 5]
        rng = np.random.default_rng(key(self.seed, "clip", "eval24", index))
        return maestro_recording(rng, self.bank("eval24"), scene, deck(rng, SCENES[scene][1], 4), CLIP_SECONDS)

    # -------------------------------------------------------------------------------------------- MAESTRO

    def _recordings(self, name: str) -> dict[str, float]:
        """The recordings of a set, scene by scene, and their seconds; train and test share one numbering."""
        rng = np.random.default_rng(key(self.seed, "recordings", name))
        first = 0 if name == "maestro_train" else self.sizes.recordings["maestro_train"]
        numbers = range(first, first + self.sizes.recordings[name])
        lengths = self.sizes.seconds[name]
        return {f"{scene}_{n:02d}": round(rng.uniform(*lengths), 1) for scene in SCENE_NAMES for n in numbers}

    def _maestro_parts(self, name: str, recordings: dict[str, float]) -> Iterator[tuple[Any, ...]]:
        """A recording each, with its events' classes: those of a scene are dealt out to its recordings in turn."""
        cards: dict[str, list[str]] = {}
        for scene in SCENE_NAMES:
            rng = np.random.default_rng(key(self.seed, "deck", name, scene))
            cards[scene] = deck(rng, SCENES[scene][1], 20 * self.sizes.recordings[name])
        for recording, seconds in recordings.items():
            yield self, name, recording, seconds, [cards[recording[:-3]].pop(0) for _ in range(round(seconds / 2.2))]

    def maestro_part(self, name: str, recording: str, seconds: float, labels: Sequence[str]) -> dict[str, Made]:
        """Make a recording and cut it into windows."""
        made: dict[str, Made] = {}
        rng = np.random.default_rng(key(self.seed, "recording", recording))
        sound, events = maestro_recording(rng, self.bank(name), recording[:-3], labels, seconds)
        for start, end in windows(seconds, self.hop):
            file = window_name(recording, start, end)
            self.write_clip(name, file, sound[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)])
            made[file] = (cut(events, start, end), end - start)
        return made


def _make(writer: _Writer, name: str, *part: Any) -> dict[str, Made]:
    return writer.maestro_part(name, *part) if name in writer.sizes.recordings else writer.desed_part(name, *part)
