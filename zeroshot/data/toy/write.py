"""Writes the embedded data set, whole or not at all."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from common.audio.reading import write_wav
from common.run.files import write_rows
from common.toy import Progress, Size, counter, key, write_toy_set
from zeroshot.data.splits import ClassSplit, write_split
from zeroshot.data.toy.sounds import COLUMNS, WORDS, Attributes, record

FORMAT = 1  # to be raised when the same seed gives other files than before
FOLDS = 5
HELD_OUT = "click"  # the source of the test classes


@dataclass(frozen=True)
class Sizes:
    """What there is of everything."""

    rate: int
    seconds: float
    rhythms: int  # of each source and contour
    clips: int  # of each class and fold
    validation: int  # classes


SIZES: dict[Size, Sizes] = {"toy": Sizes(16000, 2.0, 4, 2, 6), "tiny": Sizes(8000, 1.0, 1, 1, 2)}


def write_toy(root: str | Path, seed: int = 0, size: Size = "toy", progress: Progress | None = None) -> None:
    """Write the embedded data set to `root`: ESC-50's layout, descriptions.csv, attributes.csv, near.csv, far.csv.

    48 classes of 10 clips of 2 s (tiny: 12 of 5 of 1 s). Both splits test the same classes, those of one source, and
    train on equally many: near hears that source in other classes, far never. The same seed and size always give the
    same bytes. Does nothing where `root` is already this data set; raises UserError where something else is in its
    place. `progress(done, total)` counts clips.
    """
    write_toy_set(root, lambda folder: _write(folder, seed, SIZES[size], progress), FORMAT, seed, size, SIZES)


def classes_of(sizes: Sizes) -> list[Attributes]:
    """Every source with every contour, in some or all rhythms; registers and rooms are shared out at random."""
    random = np.random.default_rng(0)
    sources, rhythms, contours, registers, rooms = (list(values) for values in WORDS.values())
    found = []
    for (s, source), (c, contour), n in product(enumerate(sources), enumerate(contours), range(sizes.rhythms)):
        place = int(random.integers(4))
        found.append(Attributes(source, rhythms[(s + c + n) % 4], contour, registers[place % 2], rooms[place // 2]))
    return found


def splits_of(classes: Sequence[Attributes], sizes: Sizes) -> tuple[ClassSplit, ClassSplit]:
    """The near and the far split: the same test and validation classes, equally many training classes."""
    random = np.random.default_rng(1)
    alike = [of.name for of in classes if of.source == HELD_OUT]
    others = [of.name for of in classes if of.source != HELD_OUT]
    order = [alike[i] for i in random.permutation(len(alike))]
    rest = [others[i] for i in random.permutation(len(others))]
    val, rest = rest[: sizes.validation], rest[sizes.validation :]
    test, familiar = order[len(alike) // 3 :], order[: len(alike) // 3]
    near = (*familiar, *rest[len(familiar) :])
    split = ClassSplit("near", near, tuple(val), tuple(test), reasons=dict.fromkeys(test, f"source {HELD_OUT}"))
    return split, replace(split, name="far", train=tuple(rest))


def _write(root: Path, seed: int, sizes: Sizes, progress: Progress | None) -> None:
    classes = classes_of(sizes)
    count = counter(len(classes) * FOLDS * sizes.clips, progress)
    rows = []
    for (target, of), fold, number in product(enumerate(classes), range(1, FOLDS + 1), range(sizes.clips)):
        source = f"{100000 + target * 100 + fold * 10 + number}"
        name = f"{fold}-{source}-A-{target}.wav"
        random = np.random.default_rng(key(seed, of.name, fold, number))
        write_wav(root / "audio" / name, record(random, of, sizes.seconds, sizes.rate), sizes.rate)
        rows.append((name, fold, target, of.name, False, source, "A"))
        count()
    columns = ("filename", "fold", "target", "category", "esc10", "src_file", "take")
    write_rows(root / "meta" / "esc50.csv", columns, sorted(rows))
    texts = [(of.name, text) for of in classes for text in of.texts()]
    write_rows(root / "descriptions.csv", ("class", "text"), texts)
    write_rows(root / "attributes.csv", ("class", *COLUMNS), [(of.name, *of.numbers()) for of in classes])
    for split in splits_of(classes, sizes):
        write_split(root / f"{split.name}.csv", split)
