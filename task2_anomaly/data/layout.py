"""The official layout on disk and its file names: 2020, and the first-shot editions.

2020: `dev_data/<type>/{train,test}` and `eval_data/<type>/{train,test}` with `normal_id_00_00000000.wav`,
`anomaly_id_...`, and unlabelled `id_01_00000000.wav`. First-shot: the same folders (also below `raw/`) with
`section_00_source_train_normal_0000_<attributes>.wav` and unlabelled `section_00_0000.wav`.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from common.run.errors import UserError
from common.run.files import existing_folder
from common.run.verbs import Run
from task2_anomaly.config import DataConfig
from task2_anomaly.data.classes import TYPES, Machine, parse_machine, proxy_types

Part = Literal["dev_train", "dev_test", "eval_train", "eval_test"]
PARTS: tuple[Part, ...] = ("dev_train", "dev_test", "eval_train", "eval_test")
TRAIN_PARTS: tuple[Part, ...] = ("dev_train", "eval_train")
TEST_PARTS: tuple[Part, ...] = ("dev_test", "eval_test")
NAME_2020 = re.compile(r"(?:(?P<label>normal|anomaly)_)?id_(?P<id>\d{2})_\d{8}\.wav")
NAME_FIRST_SHOT = re.compile(
    r"section_(?P<id>\d{2})_(?:(?P<domain>source|target)_)?(?:(?:train|test)_)?(?:(?P<label>normal|anomaly)_)?"
    r"\d{4}(?:_(?P<attributes>.*))?\.wav"
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


def root_of(config: DataConfig) -> Path:
    """The data set's folder. Raises UserError where the recipe names none or it is not there."""
    if config.root is None:
        raise UserError("data.root: no data set named; data.root=DIR names the folder with dev_data and eval_data")
    return existing_folder(Path(config.root), "data set (data.root)")


def packs_of(config: DataConfig) -> Path:
    """Where the packed audio lies."""
    return Path(config.packs) if config.packs else root_of(config) / "packed"


def folder_of(root: Path, part: Part, kind: str) -> Path | None:
    """The folder of a part of a machine type, None where it is not there."""
    data, piece = f"{part.split('_')[0]}_data", part.split("_")[1]
    return next((p for p in (root / data / kind / piece, root / data / "raw" / kind / piece) if p.is_dir()), None)


def types_of(root: Path) -> list[str]:
    """Machine types that are there, in the challenge's order. Raises UserError where there is none."""
    found = {
        path.name
        for data in ("dev_data", "eval_data")
        for base in (root / data, root / data / "raw")
        if base.is_dir()
        for path in base.iterdir()
        if path.is_dir() and path.name != "raw"
    }
    if not found:
        raise UserError(f"{root}: no machine types, expected folders such as dev_data/fan/train")
    return [kind for kind in TYPES if kind in found] + sorted(found - set(TYPES))


def clips_of(folder: Path) -> dict[int, list[Clip]]:
    """{ID: clips by name} of a folder of wav files. Raises UserError for a name that does not fit."""
    found: dict[int, list[Clip]] = {}
    for path in sorted(folder.glob("*.wav")):
        clip = parse_clip(path.name)
        found.setdefault(clip.id, []).append(clip)
    return found


def pack_of(config: DataConfig, part: Part, machine: Machine) -> Path:
    """The pack of a machine's clips of one part."""
    return packs_of(config) / f"{part}_{machine}"


def packed(config: DataConfig, parts: tuple[Part, ...]) -> list[tuple[Part, Machine]]:
    """What `prepare` has packed. Raises UserError where there is nothing."""
    packs = packs_of(config)
    found = [
        (part, parse_machine(path.name.removeprefix(f"{part}_")))
        for part in parts
        for path in (packs.glob(f"{part}_*") if packs.is_dir() else ())
        if (path / "pack.json").is_file()
    ]
    if not found:
        raise UserError(f"{packs}: nothing packed yet; `prepare` checks and packs the data set")
    order = {kind: number for number, kind in enumerate(TYPES)}
    return sorted(found, key=lambda item: (order.get(item[1].type, len(order)), item[1], item[0]))


def machines_of(config: DataConfig) -> list[Machine]:
    """The machines to train: those with training clips that `data.machines` names. Raises UserError for others."""
    there = list(dict.fromkeys(machine for _, machine in packed(config, TRAIN_PARTS)))
    if config.machines is None:
        return there
    chosen = [m for m in there if str(m) in config.machines or m.type in config.machines]
    known = {str(m) for m in there} | {m.type for m in there}
    for name in config.machines:
        if name not in known:
            raise UserError(f"data.machines: no machine {name!r} here; there are {', '.join(map(str, there))}")
    return chosen


def training_pack(config: DataConfig, machine: Machine) -> Path:
    """Normal clips of a machine, of the development or of the additional training set."""
    for part in TRAIN_PARTS:
        path = pack_of(config, part, machine)
        if (path / "pack.json").is_file():
            return path
    raise UserError(f"{packs_of(config)}: no training clips of {machine}; `prepare` packs the data set")


def proxy_packs(config: DataConfig, machine: Machine) -> list[Path]:
    """Packs of the proxy outliers of a machine: training clips of other machines, AudioSet or scenes.

    Development and evaluation IDs alike; never the machine itself. Raises UserError where there are none.
    """
    if config.proxies in ("audioset", "scenes"):
        path = packs_of(config) / config.proxies
        if not (path / "pack.json").is_file():
            raise UserError(f"{path}: not packed; data.{config.proxies}=DIR names the folder, `prepare` packs it")
        return [path]
    others = packed(config, TRAIN_PARTS)
    if machine.section and config.proxies == "all":  # there: all machine types of the edition
        kinds: tuple[str, ...] = tuple(other.type for _, other in others)
    else:
        kinds = proxy_types(machine.type, config.proxies)
    found = [pack_of(config, part, other) for part, other in others if other.type in kinds and other != machine]
    if not found:
        raise UserError(f"data.proxies: {config.proxies} has no clips for {machine} in this data set")
    return found


def of_machine(run: Run, machine: Machine) -> Run:
    """The part of a run that belongs to one machine. Energy is measured for the run as a whole."""
    data = replace(run.config.data, machines=[str(machine)])
    config = replace(run.config, data=data, energy=replace(run.config.energy, enabled=False))
    return replace(run, folder=run.folder / "machines" / str(machine), config=config)
