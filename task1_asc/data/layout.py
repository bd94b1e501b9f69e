"""The official layout of TAU Urban Acoustic Scenes 2022 Mobile and of the evaluation sets, and its readers.

<root>/audio/*.wav, meta.csv, evaluation_setup/; the challenge's split lists lie in <root>/splits/ or in <root>, as
.csv or .csv.gz. All tables are tab-separated with a header.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from common.run.errors import UserError, did_you_mean
from common.run.files import Row, existing_folder, read_rows, write_rows
from task1_asc.data.classes import DEVICES, SCENES

Split = int | Literal["test"]

META_COLUMNS = ("filename", "scene_label", "identifier", "source_label")
EVALUATION_FOLDERS = (
    "TAU-urban-acoustic-scenes-2024-mobile-evaluation",
    "TAU-urban-acoustic-scenes-2025-mobile-evaluation",
)
_NAME = re.compile(r"audio/([^-/]+)-([^-/]+-\d+)-(\d+)-(\d)-([^-/]+)\.wav")
_FORM = "audio/<scene>-<city>-<location>-<segment>-<part 0 to 9>-<device>.wav"
# What the data set itself calls the complete training list and the test list.
_OFFICIAL_FOLDS = {100: "evaluation_setup/fold1_train.csv", "test": "evaluation_setup/fold1_evaluate.csv"}


class ClipName(NamedTuple):
    """A clip of one second, taken apart; `location` is <city>-<number>, `segment` a number in digits."""

    scene: str
    location: str
    segment: str
    part: int
    device: str

    @property
    def filename(self) -> str:
        """The clip's name in every table, with its folder."""
        return f"audio/{self.scene}-{self.location}-{self.segment}-{self.part}-{self.device}.wav"

    @property
    def city(self) -> str:
        return self.location.split("-")[0]

    @property
    def moment(self) -> tuple[str, str, str]:
        """What was recorded; several devices may have recorded (or simulate) it."""
        return self[:3]

    @property
    def recording(self) -> tuple[str, str, str, str]:
        """The segment of ten seconds that the clip is a part of: a moment on one device."""
        return (*self[:3], self.device)


def parse_name(filename: str, at: str = "") -> ClipName:
    """`audio/airport-lisbon-1000-40000-0-a.wav` taken apart; UserError, with `at` before it, for any other form."""
    match = _NAME.fullmatch(filename)
    prefix = f"{at}: " if at else ""
    if match is None:
        raise UserError(f"{prefix}file name {filename!r} is not of the form {_FORM}")
    scene, location, segment, part, device = match.groups()
    if scene not in SCENES:
        raise UserError(f"{prefix}unknown scene {scene!r} in {filename!r}{did_you_mean(scene, SCENES)}")
    if device not in DEVICES:
        raise UserError(f"{prefix}unknown device {device!r} in {filename!r}{did_you_mean(device, DEVICES)}")
    return ClipName(scene, location, segment, int(part), device)


def read_meta(root: str | Path) -> list[ClipName]:
    """The clips of <root>/meta.csv in their order; UserError where its columns disagree with the file names."""
    rows = read_rows(Path(root) / "meta.csv", META_COLUMNS, "\t")
    clips = _parse(rows, unique=True)
    for row, clip in zip(rows, clips, strict=True):
        _agree(row, "identifier", clip.location)
        _agree(row, "source_label", clip.device)
    return clips


def read_list(path: str | Path, unique: bool = True) -> list[ClipName]:
    """The clips of a split list in their order; UserError for a name twice unless `unique` is False."""
    return _parse(read_rows(path, ("filename", "scene_label"), "\t"), unique)


def read_split(root: str | Path, split: Split) -> list[tuple[str, str]]:
    """(file name, scene) of the clips of a split: 5, 10, 25, 50, 100 or "test"."""
    return [(clip.filename, clip.scene) for clip in read_list(split_file(root, split))]


def split_candidates(root: str | Path, split: Split) -> list[Path]:
    """Where the list of a split may lie, best first."""
    name = "test" if split == "test" else f"split{split}"
    places = [Path(root) / "splits", Path(root)]
    found = [place / f"{name}{suffix}" for place in places for suffix in (".csv", ".csv.gz")]
    return [*found, Path(root) / _OFFICIAL_FOLDS[split]] if split in _OFFICIAL_FOLDS else found


def find_split(root: str | Path, split: Split) -> Path | None:
    """The list of a split, or None."""
    return next((path for path in split_candidates(root, split) if path.is_file()), None)


def split_file(root: str | Path, split: Split) -> Path:
    """The list of a split; UserError where there is none."""
    path = find_split(existing_folder(root, "data set"), split)
    if path is None:
        raise UserError(
            f"{split_candidates(root, split)[0]}: split list not found; `splits make` draws one, the challenge's are "
            "release `files` of its baseline"
        )
    return path


def write_list(path: str | Path, clips: Iterable[ClipName]) -> None:
    """Write a split list of the official form, whole or not at all."""
    rows = ((clip.filename, clip.scene) for clip in clips)
    write_rows(path, ("filename", "scene_label"), rows, "\t")


class Evaluation(NamedTuple):
    """An evaluation set; `devices` are None where the list has no device_id (2024), "unknown" is a legal one (2025)."""

    folder: Path
    names: tuple[str, ...]  # audio/<n>.wav
    devices: tuple[str, ...] | None


def read_evaluation(folder: str | Path) -> Evaluation:
    """The clips of evaluation_setup/fold1_test.csv in their order."""
    folder = existing_folder(folder, "evaluation set")
    rows = read_rows(folder / "evaluation_setup" / "fold1_test.csv", ("filename",), "\t")
    for row in rows:
        if not re.fullmatch(r"audio/\d+\.wav", row["filename"]):
            raise UserError(f"{row.at}: file name {row['filename']!r} is not of the form audio/<number>.wav")
    _no_duplicates(rows)
    if not rows or "device_id" not in rows[0]:
        return Evaluation(folder, tuple(row["filename"] for row in rows), None)
    for row in rows:
        if not row["device_id"]:
            raise UserError(f"{row.at}: device_id is empty, expected a device or unknown")
    return Evaluation(folder, tuple(row["filename"] for row in rows), tuple(row["device_id"] for row in rows))


def find_evaluation(root: str | Path, named: str | Path | None, edition: int | None = None) -> Path | None:
    """The named evaluation folder (UserError where it is not there), else an official one beside or in `root`.

    edition: only that of this year.
    """
    if named is not None:
        return existing_folder(named, "evaluation set")
    places = (Path(root).absolute().parent, Path(root))
    return next(
        (p / name for p in places for name in EVALUATION_FOLDERS if str(edition or "") in name and (p / name).is_dir()),
        None,
    )


def _parse(rows: Sequence[Row], unique: bool) -> list[ClipName]:
    clips = [parse_name(row["filename"], row.at) for row in rows]
    for row, clip in zip(rows, clips, strict=True):
        if row["scene_label"] not in SCENES:
            raise UserError(f"{row.at}: unknown scene {row['scene_label']!r}{did_you_mean(row['scene_label'], SCENES)}")
        _agree(row, "scene_label", clip.scene)
    if unique:
        _no_duplicates(rows)
    return clips


def _agree(row: Row, column: str, in_name: str) -> None:
    if row[column] != in_name:
        raise UserError(f"{row.at}: {column} is {row[column]!r}, but the file name says {in_name!r}")


def _no_duplicates(rows: Sequence[Row]) -> None:
    lines: dict[str, str] = {}
    for row in rows:
        if row["filename"] in lines:
            first = lines[row["filename"]].rsplit(":", 1)[-1]
            raise UserError(f"{row.at}: {row['filename']} stands in line {first} already")
        lines[row["filename"]] = row.at
