"""Writes the embedded data set in the official layout of 2020, whole or not at all."""

import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.run.files import write_text
from common.toy import (
    BACKGROUNDS,
    Progress,
    Signal,
    Size,
    background,
    counter,
    engine,
    glide,
    key,
    noise,
    train_of,
    voice,
    write_toy_set,
)
from task2_anomaly.data.classes import MIMII, Machine
from task2_anomaly.data.toy.sounds import KINDS, RATE, SET_UPS, SetUp, Timbre, machine_sound, make_timbres, record

FORMAT = 1  # to be raised when the same seed gives other files than before


class Ids(NamedTuple):
    """Official numbers of the machines of a type that are here."""

    development: tuple[int, ...]
    evaluation: tuple[int, ...]


MACHINES: dict[str, Ids] = {
    "fan": Ids((0, 2, 4), (1,)),
    "valve": Ids((0, 2, 4), (1,)),
    "ToyCar": Ids((1, 2, 3), (5,)),
    "ToyConveyor": Ids((1, 2, 3), (4,)),
}


@dataclass(frozen=True)
class Sizes:
    """Clips of a machine and of the proxies from outside, and their lengths in seconds."""

    seconds: float
    train: int
    normal: int  # of a test set
    anomalous: int
    outside: int  # clips of each class of audioset/, and of scenes/
    outside_seconds: float


# The longer ones of outside leave room for a snippet and 50 frames to choose it from.
SIZES: dict[Size, Sizes] = {
    "toy": Sizes(2.4, 40, 16, 18, 6, 4.0),
    "tiny": Sizes(1.15, 6, 3, 3, 1, 2.8),
}


def write_toy(root: str | Path, size: Size = "toy", seed: int = 0, progress: Progress | None = None) -> None:
    """Write the embedded data set to `root`: dev_data, eval_data, eval_data_list.csv; audioset and scenes as proxies.

    Wavs of 16 bit, mono, 16 kHz. The same seed and size always give the same bytes. Does nothing where `root` is
    already this data set; raises UserError where something else is in its place. `progress(done, total)` counts files.
    """
    write_toy_set(root, lambda folder: _Writer(folder, seed, SIZES[size], progress).write(), FORMAT, seed, size, SIZES)


def timbres(seed: int) -> dict[Machine, Timbre]:
    """Every machine of the data set."""
    found: dict[Machine, Timbre] = {}
    for kind, ids in MACHINES.items():
        rng = np.random.default_rng(key(seed, "timbres", kind))
        numbers = (*ids.development, *ids.evaluation)
        found |= {
            Machine(kind, n): t for n, t in zip(numbers, make_timbres(rng, KINDS[kind], len(numbers)), strict=True)
        }
    return found


def set_up_of(kind: str) -> SetUp:
    """Where a machine type is recorded."""
    return SET_UPS["mimii" if kind in MIMII else "toyadmos"]


def write_clip(path: Path, sound: Signal) -> None:
    """A 16-bit wav; the folder is a temporary one, so that the file itself need not appear at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as target, wave.open(target, "wb") as file:  # so that a full disk is its own error
        file.setparams((1, 2, RATE, len(sound), "NONE", ""))
        file.writeframes(np.rint(sound * 32767).astype("<i2").tobytes())


class _Writer:
    def __init__(self, root: Path, seed: int, sizes: Sizes, progress: Progress | None) -> None:
        self.root, self.seed, self.sizes = root, seed, sizes
        of_machine = sizes.train + sizes.normal + sizes.anomalous
        outside = (len(AUDIOSET) + 1) * sizes.outside
        machines = sum(len(of.development) + len(of.evaluation) for of in MACHINES.values())
        self.count = counter(of_machine * machines + outside, progress)

    def write(self) -> None:
        lines: list[str] = []
        of = timbres(self.seed)
        for kind, ids in MACHINES.items():
            lines.append(kind)
            for number in ids.development:
                self._machine(Machine(kind, number), of[Machine(kind, number)], self.root / "dev_data" / kind)
            for number in ids.evaluation:
                machine = Machine(kind, number)
                lines += self._machine(machine, of[machine], self.root / "eval_data" / kind, hidden=True)
        write_text(self.root / "eval_data_list.csv", "".join(f"{line}\n" for line in lines))
        self._outside()

    def _machine(self, machine: Machine, timbre: Timbre, folder: Path, hidden: bool = False) -> list[str]:
        """Train and test clips of a machine; returns the rows of eval_data_list.csv where the labels are hidden."""
        sizes, id_ = self.sizes, f"id_{machine.id:02d}"
        for n in range(sizes.train):
            self._clip(folder / "train" / f"normal_{id_}_{n:08d}.wav", machine, timbre, "train", n)
        names = [(f"normal_{id_}_{n:08d}.wav", n) for n in range(sizes.normal)]
        names += [(f"anomaly_{id_}_{n:08d}.wav", n) for n in range(sizes.anomalous)]
        order = np.random.default_rng(key(self.seed, "order", machine)).permutation(len(names))
        rows = []
        for position, index in enumerate(order if hidden else range(len(names))):
            name, number = names[index]
            shown = f"{id_}_{position:08d}.wav" if hidden else name
            label = name.partition("_")[0]
            self._clip(folder / "test" / shown, machine, timbre, label, number)
            rows.append(f"{shown},{name},{int(label == 'anomaly')}")
        return rows

    def _clip(self, path: Path, machine: Machine, timbre: Timbre, what: str, number: int) -> None:
        rng = np.random.default_rng(key(self.seed, machine, what, number))
        faults = timbre.kind.faults
        fault = faults[number % len(faults)] if what == "anomaly" else None
        sound = machine_sound(rng, timbre, self.sizes.seconds, fault)
        self._write(path, record(rng, set_up_of(machine.type), sound))

    def _outside(self) -> None:
        """Proxies from elsewhere, with nothing of the two set-ups."""
        seconds = self.sizes.outside_seconds
        for number in range(self.sizes.outside):
            for name, make in AUDIOSET.items():
                rng = np.random.default_rng(key(self.seed, "audioset", name, number))
                sound = make(rng, seconds) + 0.1 * background(rng, seconds, RATE)
                self._write(self.root / "audioset" / name / f"{number:04d}.wav", (0.05 * sound).astype(np.float32))
            rng = np.random.default_rng(key(self.seed, "scene", number))
            sound = np.sum([rng.uniform(0.2, 1) * background(rng, seconds, RATE, b) for b in BACKGROUNDS], axis=0)
            self._write(self.root / "scenes" / f"scene-{number:04d}.wav", (0.03 * sound).astype(np.float32))

    def _write(self, path: Path, sound: Signal) -> None:
        write_clip(path, sound)
        self.count()


AUDIOSET: dict[str, Callable[[np.random.Generator, float], Signal]] = {
    "Engine": lambda rng, s: engine(rng, glide(rng, s, RATE, list(rng.uniform(30, 120, 3)), wobble=0.05), RATE),
    "Speech": lambda rng, s: voice(rng, s, RATE, rng.uniform(100, 240)),
    "Tick": lambda rng, s: train_of(rng, [noise(rng, 0.02, RATE)], s, RATE, rng.uniform(1, 8)),
    "Wind": lambda rng, s: background(rng, s, RATE, "brown"),
}
