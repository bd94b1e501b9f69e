"""The official layout on disk and its file names: 2020, and the editions from 2021 on (sections, two domains).

2020: `dev_data/<type>/{train,test}` and `eval_data/<type>/{train,test}` with `normal_id_00_00000000.wav`,
`anomaly_id_...`, and unlabelled `id_01_00000000.wav`. From 2021 on: the same folders (also below `raw/`; in 2021
`source_test` and `target_test` in place of `test`) with `section_00_source_train_normal_0000_<attributes>.wav` and
unlabelled `section_00_0000.wav`, in 2022 `section_03_test_0000.wav`, in 2021 `section_03_source_test_0000.wav`.
"""

import re
from pathlib import Path
from typing import Literal, NamedTuple

from common.run.errors import UserError
from common.run.folders import entries, is_clutter
from task2_anomaly.data.classes import TYPES

Part = Literal["dev_train", "dev_test", "eval_train", "eval_test"]
PARTS: tuple[Part, ...] = ("dev_train", "dev_test", "eval_train", "eval_test")
TRAIN_PARTS: tuple[Part, ...] = ("dev_train", "eval_train")
TEST_PARTS: tuple[Part, ...] = ("dev_test", "eval_test")
DOMAINS = ("source", "target")
NAME_2020 = re.compile(r"(?:(?P<label>normal|anomaly)_)?id_(?P<id>[0-9]{2})_[0-9]{8}\.wav")
NAME_FIRST_SHOT = re.compile(
    r"section_(?P<id>[0-9]{2})_(?:(?P<domain>source|target)_)?(?:(?:train|test)_)?(?:(?P<label>normal|anomaly)_)?"
    r"[0-9]{4}(?:_(?P<attributes>.*))?\.wav"
)
# Where a part can be had: Zenodo record and the archive of a machine type.
SOURCES: dict[Part, tuple[str, str]] = {
    "dev_train": ("3678171", "dev_data_{}.zip"),
    "dev_test": ("3678171", "dev_data_{}.zip"),
    "eval_train": ("3727685", "eval_data_train_{}.zip"),
    "eval_test": ("3841772", "eval_data_test_{}.zip"),
}


class Clip(NamedTuple):
    """What a file name says. id: machine ID or, of first-shot editions, section; label None: unlabelled.

    domain: source or target, None where the name does not say.
    """

    name: str
    id: int
    label: int | None
    domain: str | None
    attributes: str
    section: bool = False


def parse_clip(name: str) -> Clip:
    """Raises UserError for a name of neither form."""
    match = NAME_2020.fullmatch(name)
    if match:
        return Clip(name, int(match["id"]), _label(match["label"]), None, "")
    match = NAME_FIRST_SHOT.fullmatch(name)
    if match:
        return Clip(name, int(match["id"]), _label(match["label"]), match["domain"], match["attributes"] or "", True)
    raise UserError(
        f"{name}: no clip of this task, expected normal_id_<NN>_<8 digits>.wav, anomaly_id_..., id_... or section_..."
    )


def _label(text: str | None) -> int | None:
    return None if text is None else int(text == "anomaly")


def folder_of(root: Path, part: Part, kind: str) -> Path | None:
    """The folder of a part of a machine type, None where it is not there."""
    data, piece = f"{part.split('_')[0]}_data", part.split("_")[1]
    return next((p for p in (root / data / kind / piece, root / data / "raw" / kind / piece) if p.is_dir()), None)


def folders_of(root: Path, part: Part, kind: str) -> list[Path]:
    """The folders of a part of a machine type: one; of the tests of 2021 one for each domain; none where it is not."""
    whole = folder_of(root, part, kind)
    if whole is not None or part not in TEST_PARTS:
        return [] if whole is None else [whole]
    data = f"{part.split('_')[0]}_data"
    bases = (root / data / kind, root / data / "raw" / kind)
    return [path for base in bases for domain in DOMAINS if (path := base / f"{domain}_test").is_dir()]


def types_of(root: Path) -> list[str]:
    """Machine types that are there, in the challenge's order. Raises UserError where there is none."""
    found = {
        path.name
        for data in ("dev_data", "eval_data")
        for base in (root / data, root / data / "raw")
        if base.is_dir()
        for path in entries(base)
        if path.is_dir() and path.name != "raw"
    }
    if not found:
        raise UserError(f"{root}: no machine types, expected folders such as dev_data/fan/train")
    return [kind for kind in TYPES if kind in found] + sorted(found - set(TYPES))


def clips_of(folder: Path) -> dict[int, list[Clip]]:
    """{ID: clips by name} of a folder of wav files. Raises UserError for a name that does not fit."""
    found: dict[int, list[Clip]] = {}
    for path in (path for path in sorted(folder.glob("*.wav")) if not is_clutter(path.name)):
        clip = parse_clip(path.name)
        found.setdefault(clip.id, []).append(clip)
    return found
