"""Writes the toy data set: every set of the official layout, whole or not at all."""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.audio.reading import write_wav
from common.run.errors import UserError
from common.run.files import write_rows
from common.toy import Progress, Signal, Size, check_size, counter, key, write_once
from task4_sed.data.annotations import Event, write_durations, write_soft, write_strong, write_weak
from task4_sed.data.classes import CLIP_SECONDS, DESED_CLASSES, SAMPLE_RATE
from task4_sed.data.layout import EXCLUSION_LISTS, SETS
from task4_sed.data.toy.clips import Bank, cut, deck, desed_clip, maestro_recording, windows
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


def write_toy(
    root: str | Path,
    seed: int = 0,
    size: Size = "toy",
    hop: float | None = None,
    progress: Progress | None = None,
) -> None:
    """Write the toy data set to `root`: all sets of `task4_sed.data.layout` under their official paths, 16-kHz wavs.

    The same seed, size and hop (seconds between MAESTRO windows; the official protocol has 1, the toy 5) always give
    the same bytes. Everything is written to a temporary folder that is renamed at the end. Does nothing where `root`
    is already this data set; raises UserError where something else is in its place. `progress(done, total)` counts
    audio files.
    """
    check_size(size, seed, SIZES)
    hop = SIZES[size].hop if hop is None else float(hop)
    if not 0.1 <= hop <= CLIP_SECONDS:
        raise UserError(f"hop {hop:g} s of the MAESTRO windows is outside 0.1 to {CLIP_SECONDS:g} s")
    identity = {"format": FORMAT, "seed": seed, "size": size, "hop": hop}
    write_once(root, identity, lambda folder: _Writer(folder, seed, SIZES[size], hop, progress).write())


class _Writer:
    def __init__(self, root: Path, seed: int, sizes: Sizes, hop: float, progress: Progress | None) -> None:
        self.root, self.seed, self.sizes, self.hop = root, seed, sizes, hop
        self.banks = {part: Bank(seed, part, count) for part, count in sizes.variants.items()}
        # The lengths of the recordings are drawn first: they say how many windows there will be.
        self.recordings = {name: self._recordings(name) for name in sizes.recordings}
        cut_windows = sum(len(windows(s, hop)) for of_set in self.recordings.values() for s in of_set.values())
        self.count = counter(sum(sizes.clips.values()) + cut_windows, progress)

    def write(self) -> None:
        names = {name: self._names(name) for name in self.sizes.clips}
        for name, of_set in names.items():
            self._write_set(name, of_set)
        durations = {f"{name}.wav": s for of_set in self.recordings.values() for name, s in of_set.items()}
        write_durations(self.root / SETS["maestro_train"].durations[0], durations)
        for name in self.recordings:
            self._write_maestro(name)
        for name, path in EXCLUSION_LISTS.items():
            # Real lists also name clips that are not there.
            gone = self._youtube_name(np.random.default_rng(key(self.seed, "gone", name)), "devtest")
            write_rows(self.root / path, ("filename",), [(n,) for n in [*names[name][-self.sizes.shared :], gone]])

    # ---------------------------------------------------------------------------------------------- DESED

    def _names(self, name: str) -> list[str]:
        count = self.sizes.clips[name]
        if name.startswith("synth"):
            return [f"{number}.wav" for number in range(count)]
        rng = np.random.default_rng(key(self.seed, "names", name))
        if name == "eval24":
            maestro = [self._window_name(f"{SCENE_NAMES[i % 5]}_{60 + i:02d}", 5.0, 15.0) for i in range(count // 2)]
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
        return desed_clip(rng, self.banks[BANKS.get(name, "train")], certain, seconds)

    def _write_set(self, name: str, names: Sequence[str]) -> None:
        layout, events, durations = SETS[name], dict[str, list[Event]](), dict[str, float]()
        for index, file in enumerate(names):
            if name == "eval24" and not file.startswith("Y"):
                sound, events[file] = self._eval24_window(index)
            else:
                sound, events[file] = self._desed(name, index)
            durations[file] = len(sound) / SAMPLE_RATE
            self._write_clip(layout.audio[0], file, sound)
        if layout.kind == "strong":
            write_strong(self.root / layout.annotation[0], events)
        elif layout.kind == "weak":
            labels = {file: sorted({e.label for e in of_clip}) for file, of_clip in events.items()}
            write_weak(self.root / layout.annotation[0], labels)
        if layout.durations:
            write_durations(self.root / layout.durations[0], durations)

    def _eval24_window(self, index: int) -> tuple[Signal, list[Event]]:
        scene = SCENE_NAMES[index % 5]
        rng = np.random.default_rng(key(self.seed, "clip", "eval24", index))
        return maestro_recording(rng, self.banks["test"], scene, deck(rng, SCENES[scene][1], 4), CLIP_SECONDS)

    def _write_clip(self, folder: str, name: str, sound: Signal) -> None:
        write_wav(self.root / folder / name, sound, SAMPLE_RATE)
        self.count()

    # -------------------------------------------------------------------------------------------- MAESTRO

    def _recordings(self, name: str) -> dict[str, float]:
        """The recordings of a set, scene by scene, and their seconds; train and test share one numbering."""
        rng = np.random.default_rng(key(self.seed, "recordings", name))
        first = 0 if name == "maestro_train" else self.sizes.recordings["maestro_train"]
        numbers = range(first, first + self.sizes.recordings[name])
        lengths = self.sizes.seconds[name]
        return {f"{scene}_{n:02d}": round(rng.uniform(*lengths), 1) for scene in SCENE_NAMES for n in numbers}

    @staticmethod
    def _window_name(recording: str, start: float, end: float) -> str:
        return f"{recording}-{round(start * 100):06d}-{round(end * 100):06d}.wav"

    def _write_maestro(self, name: str) -> None:
        layout, rows = SETS[name], dict[str, list[Event]]()
        cards: dict[str, list[str]] = {}
        for scene in SCENE_NAMES:
            rng = np.random.default_rng(key(self.seed, "deck", name, scene))
            cards[scene] = deck(rng, SCENES[scene][1], 20 * self.sizes.recordings[name])
        for recording, seconds in self.recordings[name].items():
            scene, count = recording[:-3], round(seconds / 2.2)
            labels = [cards[scene].pop(0) for _ in range(count)]
            rng = np.random.default_rng(key(self.seed, "recording", recording))
            sound, events = maestro_recording(rng, self.banks[BANKS.get(name, "train")], scene, labels, seconds)
            for start, end in windows(seconds, self.hop):
                file = self._window_name(recording, start, end)
                samples = sound[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
                self._write_clip(layout.audio[0], file, samples)
                rows[file] = cut(events, start, end)
        write_soft(self.root / layout.annotation[0], rows)
