"""Writes the embedded data sets, whole or not at all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.audio.reading import write_wav
from common.run.files import write_rows, write_text
from common.toy import Progress, Size, counter, key, write_toy_set
from qbv.data.classes import FIRST_VOCAL_SKETCH_IMITATION, FIRST_VOCAL_SKETCH_RECORDING, file_stem, label_of
from qbv.data.layout import QVIM_QUERIES, QVIM_TABLE
from qbv.data.toy.sounds import TIMBRES, Gesture, draw_gesture, draw_speaker, imitation, recording

FORMAT = 2  # to be raised when the same seed gives other files than before


@dataclass(frozen=True)
class Sizes:
    """What there is of everything; of each concept so many imitations, of which `val` validate."""

    rate: int
    seconds: float
    concepts: int
    imitations: int
    val: int
    folds: int
    speakers: int
    classes: int  # of the fine protocol's test
    recordings: int  # of each class
    queries: int  # of each class
    items: int  # of QVIM's test


SIZES: dict[Size, Sizes] = {
    "toy": Sizes(16_000, 2.0, 240, 6, 1, 3, 24, 24, 8, 6, 40),
    "tiny": Sizes(8_000, 1.0, 6, 4, 1, 2, 4, 3, 3, 2, 7),
}


class Concept(NamedTuple):
    """Something to imitate."""

    number: int
    timbre: str
    gesture: Gesture

    @property
    def label(self) -> str:
        """As VocalSketch names it."""
        return f"{self.timbre} ({self.number})"

    @property
    def stem(self) -> str:
        """As VimSketch's key has it."""
        return f"{self.number:03d}{self.timbre.capitalize()}"


class Maker:
    """Draws concepts and makes their sounds; all randomness comes from the seed and the words of each call."""

    def __init__(self, seed: int, sizes: Sizes, progress: Progress | None) -> None:
        self.seed, self.sizes = seed, sizes
        self.count = counter(sounds_of(sizes), progress)
        self.voices = [draw_speaker(self.random("speaker", n)) for n in range(sizes.speakers)]

    def random(self, *words: object) -> np.random.Generator:
        return np.random.default_rng(key(self.seed, *words))

    def concepts(self, part: str, count: int, timbres: Sequence[str] = TIMBRES) -> list[Concept]:
        """Concepts of a part, of each timbre equally many; folds go by number, so that each tests all timbres."""
        random, kinds = self.random("concepts", part), len(timbres)
        return [Concept(n, timbres[(n + n // kinds) % kinds], draw_gesture(random)) for n in range(count)]

    def record(self, path: Path, part: str, concept: Concept) -> None:
        sizes, random = self.sizes, self.random("recording", part, concept.number)
        self._write(path, recording(random, concept.gesture, concept.timbre, sizes.seconds, sizes.rate))

    def imitate(self, path: Path, part: str, concept: Concept, take: int) -> None:
        sizes, random = self.sizes, self.random("imitation", part, concept.number, take)
        speaker = self.voices[int(random.integers(len(self.voices)))]
        sound = imitation(random, concept.gesture, concept.timbre, speaker, sizes.seconds, sizes.rate)
        self._write(path, sound)

    def _write(self, path: Path, sound: np.ndarray) -> None:
        write_wav(path, sound, self.sizes.rate)
        self.count()


def sounds_of(sizes: Sizes) -> int:
    """Audio files of all four data sets."""
    pairs = sizes.concepts * (1 + sizes.imitations)
    return 2 * pairs + sizes.classes * (sizes.recordings + sizes.queries) + sizes.items * 4


def write_toy(root: str | Path, seed: int = 0, size: Size = "toy", progress: Progress | None = None) -> None:
    """Write the embedded data sets: VimSketch's layout with splits/ to `root`, below it vocal_sketch/ with splits/,
    vocal_imitation_set/ and qvim/.

    Mono wavs of 16 bit and 2 s (tiny: 1 s). The same seed and size always give the same bytes. No two data sets have a
    gesture in common. Does nothing where `root` is already this; raises UserError where something else is in its place.
    `progress(done, total)` counts files.
    """
    write_toy_set(root, lambda folder: _write(folder, Maker(seed, SIZES[size], progress)), FORMAT, seed, size, SIZES)


def _write(root: Path, make: Maker) -> None:
    _vimsketch(root, make)
    _vocal_sketch(root / "vocal_sketch", make)
    _vocal_imitation_set(root / "vocal_imitation_set", make)
    _qvim(root / "qvim", make)


# ------------------------------------------------------------------------------------------------------------ VimSketch


class Line(NamedTuple):
    """An imitation as the split files name it, its recording and label; take: which of its concept's it is."""

    imitation: str
    recording: str
    label: str
    concept: int
    take: int


def _vimsketch(root: Path, make: Maker) -> None:
    sizes, lines, names = make.sizes, list[Line](), list[str]()
    concepts = make.concepts("vimsketch", sizes.concepts)
    for of in concepts:
        late = of.number >= sizes.concepts // 2  # as if it came from VocalSketch
        first = FIRST_VOCAL_SKETCH_RECORDING - sizes.concepts // 2 if late else 1
        names.append(f"{first + of.number:03d}_{of.stem}.wav")
        make.record(root / "references" / names[-1], "vimsketch", of)
        before = FIRST_VOCAL_SKETCH_IMITATION - sizes.concepts // 2 * sizes.imitations if late else 1
        for take in range(sizes.imitations):
            name = f"{before + of.number * sizes.imitations + take:05d}_{of.stem}.wav"
            make.imitate(root / "vocal_imitations" / name, "vimsketch", of, take)
            lines.append(Line(name, names[-1], label_of(of.stem), of.number, take))
    write_text(root / "reference_file_names.csv", "".join(f"{name}\n" for name in names))
    write_text(root / "vocal_imitation_file_names.csv", "".join(f"{line.imitation}\n" for line in lines))
    _meta(root / "splits", lines, make.random("negatives", "vimsketch"))
    for fold in range(sizes.folds):
        rest = [line for line in lines if line.concept % sizes.folds != fold]
        _parts(root / "splits" / f"fold{fold}", rest, sizes.val)
        tested = [line for line in lines if line.concept % sizes.folds == fold]
        _table(root / "splits" / f"fold{fold}" / "test.csv", enumerate(tested))


def _meta(folder: Path, lines: Sequence[Line], random: np.random.Generator) -> None:
    rows = []
    for number, line in enumerate(lines):
        others = [other.recording for other in lines if other.concept != line.concept]
        pairs = [f"sound_recordings/{name}" for name in (line.recording, others[random.integers(len(others))])]
        rows.append((number, f"vocal_imitations/{line.imitation}", *pairs, line.label))
    columns = ("", "filename", "positive_pair", "negative_pair", "scene_label")
    write_rows(folder / "meta.csv", columns, rows, "\t")


def _parts(folder: Path, lines: Sequence[Line], val: int) -> None:
    """train.csv and val.csv, every imitation twice."""
    for name, takes in (("train", lambda take: take >= val), ("val", lambda take: take < val)):
        chosen = [line for line in lines if takes(line.take)]
        _table(folder / f"{name}.csv", ((number, line) for number, line in enumerate(chosen) for _ in (1, 2)))


def _table(path: Path, lines: "Iterator[tuple[int, Line]] | enumerate[Line]") -> None:
    rows = [(number, f"vocal_imitations/{line.imitation}", line.label) for number, line in lines]
    write_rows(path, ("", "filename", "scene_label"), rows, "\t")


# ------------------------------------------------------------------------------------- VocalSketch, Vocal Imitation Set


def _vocal_sketch(root: Path, make: Maker) -> None:
    sizes, lines, table = make.sizes, list[Line](), []
    for of in make.concepts("vocal_sketch", sizes.concepts):
        name = f"{file_stem(of.label)}.wav"
        table.append((of.number, of.label, of.number, name, "single_synthesizer"))
        make.record(root / "sound_recordings" / name, "vocal_sketch", of)
        for take in range(sizes.imitations):
            imitated = f"{of.label} - {10**15 + of.number * 1000 + take}.wav"
            make.imitate(root / "vocal_imitations" / "included" / imitated, "vocal_sketch", of, take)
            lines.append(Line(imitated, name, of.label, of.number, take))
    columns = ("id", "sound_label", "sound_label_id", "filename", "audio_concept_subset")
    write_rows(root / "sound_recordings.csv", columns, table)
    _meta(root / "splits", lines, make.random("negatives", "vocal_sketch"))
    _parts(root / "splits", lines, sizes.val)


def _vocal_imitation_set(root: Path, make: Maker) -> None:
    """Classes are timbres; their recordings differ in gesture alone, the first one is imitated."""
    sizes, audio = make.sizes, root / "original_recordings"
    for number in range(sizes.classes):
        timbre = TIMBRES[number % len(TIMBRES)]
        concepts, part = make.concepts(f"class {number}", sizes.recordings, (timbre,)), f"class {number}"
        stem = f"{number:03d}{timbre.capitalize()}"
        make.record(audio / "reference" / f"{stem}_reference.wav", part, concepts[0])
        for of in concepts[1:]:
            make.record(audio / "non_reference" / stem / f"{of.number}.wav", part, of)
        for take in range(sizes.queries):
            name = f"{stem} - {10**12 + take}.wav"
            make.imitate(root / "vocal_imitations" / "included" / name, part, concepts[0], take)


# ----------------------------------------------------------------------------------------------------------------- QVIM


def _qvim(root: Path, make: Maker) -> None:
    rows = []
    for of in make.concepts("qvim", make.sizes.items):
        item, folder = f"{of.stem}.wav", of.timbre.capitalize()
        make.record(root / "Items" / folder / item, "qvim", of)
        queries = [f"{of.stem}_{take}.wav" for take in range(len(QVIM_QUERIES))]
        for take, query in enumerate(queries):
            make.imitate(root / "Queries" / folder / query, "qvim", of, take)
        rows.append((of.label, folder, item, *queries))
    with_title = [("DEV Dataset", "", "", "", "", ""), ("Label", "Class", "Items", *QVIM_QUERIES), *rows]
    lines = (",".join(f'"{cell}"' if cell else "" for cell in row) for row in with_title)
    write_text(root / QVIM_TABLE, "\n".join(lines) + "\n")
