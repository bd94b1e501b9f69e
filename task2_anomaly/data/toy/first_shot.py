"""Writes a miniature of a first-shot edition: one section per machine type, two domains, hidden labels."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from common.run.files import write_text
from common.toy import Progress, Size, check_size, counter, key, write_once
from task2_anomaly.data.toy.sounds import KINDS, SET_UPS, Timbre, machine_sound, make_timbres, record
from task2_anomaly.data.toy.write import SIZES, write_clip

FORMAT = 1  # to be raised when the same seed gives other files than before
DEVELOPMENT, EVALUATION = ("fan", "ToyCar"), ("HoveringDrone", "RoboticArm")
TRUTH_FOLDERS = ("ground_truth_data", "ground_truth_domain", "ground_truth_attributes")
Domain = Literal["source", "target"]
DOMAINS: tuple[Domain, Domain] = ("source", "target")
# Operating conditions of a domain: the attribute `speed_<n>`, and the factor by which the machine runs faster.
SPEEDS: dict[Domain, tuple[tuple[int, float], ...]] = {"source": ((1, 1.0), (2, 0.92)), "target": ((3, 1.15),)}


@dataclass(frozen=True)
class Counts:
    """Training clips of each domain, and test clips of each domain and label."""

    source: int
    target: int
    test: int


COUNTS: dict[Size, Counts] = {"toy": Counts(40, 4, 8), "tiny": Counts(8, 2, 2)}


class Recording(NamedTuple):
    """One clip; `descriptive` is its name without suffix."""

    domain: Domain
    label: Literal["normal", "anomaly"]
    descriptive: str
    number: int


def write_first_shot_toy(root: str | Path, size: Size = "toy", seed: int = 0, progress: Progress | None = None) -> None:
    """Write the embedded first-shot data set: dev_data, eval_data and the three official folders of the ground truth.

    Two machine types for development and two others for evaluation, section 00 each; training has many clips of the
    source domain and few of the target domain; names carry the attributes, those of the evaluation's test clips are
    anonymous. Otherwise as `write.write_toy`.
    """
    check_size(size, seed, SIZES)
    identity = {"format": FORMAT, "edition": "first-shot", "seed": seed, "size": size}
    write_once(root, identity, lambda folder: _Writer(folder, seed, size, progress).write())


class _Writer:
    def __init__(self, root: Path, seed: int, size: Size, progress: Progress | None) -> None:
        self.root, self.seed = root, seed
        self.seconds, self.counts = SIZES[size].seconds, COUNTS[size]
        of_type = self.counts.source + self.counts.target + 4 * self.counts.test
        self.count = counter(of_type * (len(DEVELOPMENT) + len(EVALUATION)), progress)

    def write(self) -> None:
        for kind in (*DEVELOPMENT, *EVALUATION):
            hidden = kind in EVALUATION
            folder = self.root / ("eval_data" if hidden else "dev_data") / kind
            timbre = make_timbres(np.random.default_rng(key(self.seed, "first-shot", kind)), KINDS[kind], 1)[0]
            self._train(folder / "train", kind, timbre)
            self._test(folder / "test", kind, timbre, hidden)

    def _train(self, folder: Path, kind: str, timbre: Timbre) -> None:
        for domain, count in zip(DOMAINS, (self.counts.source, self.counts.target), strict=True):
            for n in range(count):
                clip = Recording(
                    domain, "normal", f"section_00_{domain}_train_normal_{n:04d}{_attributes(domain, n)}", n
                )
                self._clip(folder / f"{clip.descriptive}.wav", kind, timbre, clip, "train")

    def _test(self, folder: Path, kind: str, timbre: Timbre, hidden: bool) -> None:
        clips = [
            Recording(domain, label, f"section_00_{domain}_test_{label}_{n:04d}{_attributes(domain, n)}", n)
            for domain in DOMAINS
            for label in ("normal", "anomaly")
            for n in range(self.counts.test)
        ]
        order = np.random.default_rng(key(self.seed, "order", kind)).permutation(len(clips))
        rows = []
        for position, clip in enumerate(clips[i] for i in order):
            name = f"section_00_{position:04d}.wav" if hidden else f"{clip.descriptive}.wav"
            self._clip(folder / name, kind, timbre, clip, "test")
            rows.append((name, int(clip.label == "anomaly"), int(clip.domain == "target"), clip.descriptive))
        if hidden:
            for column, truth in enumerate(TRUTH_FOLDERS, start=1):
                path = self.root / truth / f"ground_truth_{kind}_section_00_test.csv"
                write_text(path, "".join(f"{row[0]},{row[column]}\n" for row in sorted(rows)))

    def _clip(self, path: Path, kind: str, timbre: Timbre, clip: Recording, part: str) -> None:
        rng = np.random.default_rng(key(self.seed, "first-shot", kind, part, clip.domain, clip.label, clip.number))
        _, factor = _speed(clip.domain, clip.number)
        timbre = replace(timbre, hz=timbre.hz * factor, rate=timbre.rate * factor)
        faults = timbre.kind.faults
        fault = faults[clip.number % len(faults)] if clip.label == "anomaly" else None
        set_up = SET_UPS["toyadmos" if kind.startswith("Toy") else "mimii"]
        write_clip(path, record(rng, set_up, machine_sound(rng, timbre, self.seconds, fault)))
        self.count()


def _speed(domain: Domain, number: int) -> tuple[int, float]:
    return SPEEDS[domain][number % len(SPEEDS[domain])]


def _attributes(domain: Domain, number: int) -> str:
    return f"_speed_{_speed(domain, number)[0]}"
