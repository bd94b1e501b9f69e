"""Writes the embedded data set in the official layout, whole or not at all."""

import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.run.files import write_rows
from common.toy import Progress, Signal, Size, counter, key, limit_peak, write_toy_set
from task1_asc.data.classes import DEVICES, PARTS_PER_SEGMENT, SAMPLE_RATE, SCENES, TRAIN_DEVICES
from task1_asc.data.layout import EVALUATION_FOLDERS, META_COLUMNS, ClipName, write_list
from task1_asc.data.splits import make
from task1_asc.data.toy.sounds import Bank, make_device, record_moment

FORMAT = 2  # to be raised when the same seed gives other files than before
FULL_SCALE = 2**23 - 1  # 24-bit samples


@dataclass(frozen=True)
class Sizes:
    """What there is of everything, per scene and city where not said otherwise."""

    rate: int
    cities: tuple[str, ...]
    train_locations: int  # one recording moment at each, on device a; every second one on another device as well
    test_segments: int  # per scene, each on another device, at one location per city
    evaluation: tuple[int, int]  # clips in all of 2024 and of 2025
    variants: int  # of every sound source, for training and for test


# Official clips have 132 kB: 900 of them are what an embedded data set can bear, 400 of 8 kHz what a test can.
SIZES: dict[Size, Sizes] = {
    "toy": Sizes(SAMPLE_RATE, ("lisbon", "vienna"), 2, 3, (20, 10), 4),
    "tiny": Sizes(8000, ("lisbon",), 2, 1, (4, 4), 1),
}


def write_toy(root: str | Path, seed: int = 0, size: Size = "toy", progress: Progress | None = None) -> None:
    """Write the embedded data set to `root`: development set, split lists, and both evaluation sets inside it.

    Wavs of 24 bit, mono, 44.1 kHz (tiny: 8 kHz), in parts of one second. The same seed and size always give the same
    bytes. Does nothing where `root` is already this data set; raises UserError where something else is in its place.
    `progress(done, total)` counts segments.
    """
    write_toy_set(root, lambda folder: _Writer(folder, seed, SIZES[size], progress).write(), FORMAT, seed, size, SIZES)


def segments_of_training(sizes: Sizes) -> list[ClipName]:
    """First parts of the training segments: every moment on device a, every second one on another device too."""
    moments = [
        ClipName(scene, f"{city}-{1000 + _number(sizes, s, c, n)}", str(40000 + _number(sizes, s, c, n)), 0, "a")
        for s, scene in enumerate(SCENES)
        for c, city in enumerate(sizes.cities)
        for n in range(sizes.train_locations)
    ]
    others = TRAIN_DEVICES[1:]
    copies = [m._replace(device=others[i % len(others)]) for i, m in enumerate(moments[::2])]
    return sorted([*moments, *copies])


def segments_of_test(sizes: Sizes) -> list[ClipName]:
    """First parts of the test segments: all nine devices, a scene on devices of all groups, some simultaneous."""
    found = []
    for s, scene in enumerate(SCENES):
        for k in range(sizes.test_segments):
            c = k % len(sizes.cities)
            number = _number(sizes, s, c, sizes.train_locations)
            device = DEVICES[(s + 3 * k) % len(DEVICES)]
            found.append(ClipName(scene, f"{sizes.cities[c]}-{1000 + number}", str(40000 + number), 0, device))
    return sorted(found)


def _number(sizes: Sizes, scene: int, city: int, location: int) -> int:
    """A number for every location; the last one of a scene and city is the test's."""
    return (scene * len(sizes.cities) + city) * (sizes.train_locations + 1) + location


class _Writer:
    def __init__(self, root: Path, seed: int, sizes: Sizes, progress: Progress | None) -> None:
        self.root, self.seed, self.sizes, self.progress = root, seed, sizes, progress
        self.devices = {name: make_device(name, seed, sizes.rate) for name in DEVICES}
        self.banks = {
            part: Bank(seed, part, sizes.variants, sizes.rate, float(PARTS_PER_SEGMENT)) for part in ("train", "test")
        }

    def write(self) -> None:
        train, test = segments_of_training(self.sizes), segments_of_test(self.sizes)
        self.count = counter(len(train) + len(test) + sum(self.sizes.evaluation), self.progress)
        training = [clip for segment in train for clip in self._segment("train", segment)]
        testing = [clip for segment in test for clip in self._segment("test", segment)]
        clips = sorted([*training, *testing], key=lambda clip: (clip.recording, clip.part))
        rows = ((clip.filename, clip.scene, clip.location, clip.device) for clip in clips)
        write_rows(self.root / "meta.csv", META_COLUMNS, rows, "\t")
        setup = self.root / "evaluation_setup"
        write_list(setup / "fold1_train.csv", training)
        write_list(setup / "fold1_evaluate.csv", testing)
        write_rows(setup / "fold1_test.csv", ("filename",), ((clip.filename,) for clip in testing), "\t")
        make(self.root, self.root / "splits", self.seed)
        self._evaluation(EVALUATION_FOLDERS[0], self.sizes.evaluation[0], with_device=False)
        self._evaluation(EVALUATION_FOLDERS[1], self.sizes.evaluation[1], with_device=True)

    def _segment(self, part: str, first: ClipName) -> list[ClipName]:
        """Write the ten clips of a segment."""
        parts = [first._replace(part=number) for number in range(PARTS_PER_SEGMENT)]
        self._write_clips([self.root / clip.filename for clip in parts], self._sound(part, first, PARTS_PER_SEGMENT))
        return parts

    def _evaluation(self, name: str, clips: int, with_device: bool) -> None:
        """Numbered clips of all scenes in a new city; 2025 names the devices that are known from training."""
        folder, rows = self.root / name, []
        for number in range(clips):
            device = DEVICES[number % len(DEVICES)]
            moment = ClipName(SCENES[number % len(SCENES)], f"amsterdam-{number}", name, 0, device)
            self._write_clips([folder / "audio" / f"{number}.wav"], self._sound("test", moment, 1))
            rows.append((f"audio/{number}.wav", device if device in TRAIN_DEVICES else "unknown"))
        columns = ("filename", "device_id")[: 1 + with_device]
        for table in ("meta.csv", "evaluation_setup/fold1_test.csv"):
            write_rows(folder / table, columns, (row[: len(columns)] for row in rows), "\t")

    def _sound(self, part: str, segment: ClipName, seconds: int) -> Signal:
        """What a device records of a moment; simulated devices get what device a recorded."""
        rate, moment = self.sizes.rate, key(self.seed, *segment.moment)
        place = np.random.default_rng(key(self.seed, "place", segment.location))
        sound = record_moment(np.random.default_rng(moment), place, self.banks[part], segment.scene, seconds)
        if segment.device.startswith("s"):
            sound = self.devices["a"].record(np.random.default_rng([*moment, *key("a")]), sound, rate)
        own_noise = np.random.default_rng([*moment, *key(segment.device)])
        return self.devices[segment.device].record(own_noise, sound, rate)

    def _write_clips(self, paths: Sequence[Path], sound: Signal) -> None:
        """Cut a sound into clips of one second."""
        rate = self.sizes.rate
        values = np.rint(limit_peak(sound) * FULL_SCALE).astype("<i4")
        samples = values.view(np.uint8).reshape(-1, 4)[:, :3]  # the lower three bytes of each
        for number, path in enumerate(paths):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "wb") as target, wave.open(target, "wb") as file:  # so that a full disk is its own error
                file.setparams((1, 3, rate, rate, "NONE", ""))
                file.writeframes(samples[number * rate : (number + 1) * rate].tobytes())
        self.count()
