"""Packed clips by machine and part: which there are, which serve as proxies, which are held out from training."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.audio.coverage import made_of, packs_of
from common.run.errors import UserError
from common.run.files import read_json
from common.run.verbs import Run
from task2_anomaly.config import DataConfig
from task2_anomaly.data.classes import TYPES, Machine, parse_machine, proxy_types
from task2_anomaly.data.layout import TRAIN_PARTS, Part

HELD_OUT_SEED = 2020  # the same clips in every training, so that ensembles can be normalised by them


def data_of(config: DataConfig) -> str:
    """ "toy", "recordings" (own ones) or "official": by what lies on disk, whatever the recipe says.

    A marker is in `data.root`; beside packs without it, `prepare` has noted it.
    """
    found = made_of(Path(config.root)) if config.root is not None and Path(config.root).is_dir() else "official"
    noted = packs_of(config) / "coverage.json"
    if found != "official" or not noted.is_file():
        return found
    summary = read_json(noted)
    return str(summary.get("made_of") or ("toy" if summary.get("toy") else "official"))


def is_toy(config: DataConfig) -> bool:
    """Whether the data set is the embedded one."""
    return data_of(config) == "toy"


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
        kinds = proxy_types(machine.type, config.proxies, tuple(dict.fromkeys(other.type for _, other in others)))
    found = [pack_of(config, part, other) for part, other in others if other.type in kinds and other != machine]
    if not found:
        raise UserError(f"data.proxies: {config.proxies} has no clips for {machine} in this data set")
    return found


def together(config: DataConfig, machine: Machine) -> list[Machine]:
    """The machines that share a network with `machine`, itself among them: see `DataConfig.network_per`."""
    if config.network_per == "machine":
        return [machine]
    part = part_of(config, machine)
    return [other for of, other in packed(config, (part,)) if other.type == machine.type]


def part_of(config: DataConfig, machine: Machine) -> Part:
    """The part that a machine's training clips belong to. Raises UserError where there are none."""
    path = training_pack(config, machine)
    return next(part for part in TRAIN_PARTS if path == pack_of(config, part, machine))


def of_machine(run: Run, machine: Machine) -> Run:
    """The part of a run that belongs to the network of a machine, which is trained on one device.

    Energy is measured for the run as a whole.
    """
    data, trainer = run.config.data, run.config.trainer
    name = str(machine)
    if data.network_per == "type":
        name = f"{machine.type}_{part_of(data, machine).removesuffix('_train')}"
    data = replace(data, machines=[str(other) for other in together(data, machine)])
    trainer = replace(trainer, devices=one_device(trainer.devices), num_nodes=1, strategy="auto")
    energy = replace(run.config.energy, enabled=False)
    config = replace(run.config, data=data, trainer=trainer, energy=energy)
    return replace(run, folder=run.folder / "machines" / name, config=config)


def one_device(devices: int | str) -> int | str:
    """What `trainer.devices` comes to for a network that takes one: a device named by its number stays that one."""
    return devices if isinstance(devices, str) and re.fullmatch(r"[0-9]+,", devices) else 1


def training_rows(clips: int, held_out: float) -> npt.NDArray[np.int64]:
    """Normal training clips that training sees, ascending."""
    return np.setdiff1d(np.arange(clips), held_out_rows(clips, held_out) if held_out else [])


def held_out_rows(clips: int, held_out: float) -> npt.NDArray[np.int64]:
    """Those held out for thresholds and normalisation, ascending: the share `held_out`, two at least; for 0 all."""
    if not held_out:
        return np.arange(clips)
    count = max(2, round(held_out * clips))  # a threshold needs two scores
    return np.sort(np.random.default_rng(HELD_OUT_SEED).permutation(clips)[:count])
