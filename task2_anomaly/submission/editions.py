"""What the evaluation sets of the editions consist of."""

from collections.abc import Collection, Mapping
from typing import Literal

from common.audio.packs import open_pack
from task2_anomaly.config import Config
from task2_anomaly.data.classes import EVALUATOR_ORDER, Machine
from task2_anomaly.data.sets import machines_of, pack_of, packed

Edition = Literal["2020", "first-shot"]
# Names of a machine's test files; a number: so many, numbered from 0; None: not known.
Files = int | Collection[str] | None
Expected = Mapping[Machine, Files]
Names = Mapping[Machine, frozenset[str] | None]

# Clips of 2020 by ID, in ascending order: counts of the published ground truth.
_IDS = dict.fromkeys(("fan", "pump", "slider", "valve"), (1, 3, 5)) | {"ToyCar": (5, 6, 7), "ToyConveyor": (4, 5, 6)}
_CLIPS = {
    "fan": (426, 458, 458),
    "pump": (216, 213, 348),
    "slider": (278, 278, 278),
    "valve": (220, 220, 500),
    "ToyCar": (515, 515, 515),
    "ToyConveyor": (555, 555, 555),
}
EVALUATION: dict[Machine, int] = {
    Machine(kind, number): clips
    for kind in EVALUATOR_ORDER
    for number, clips in zip(_IDS[kind], _CLIPS[kind], strict=True)
}
# Machine types of the first-shot evaluation sets; each has section 00.
FIRST_SHOT_TYPES = {
    2023: ("ToyDrone", "ToyNscale", "ToyTank", "Vacuum", "bandsaw", "grinder", "shaker"),
    2024: (
        *("3DPrinter", "AirCompressor", "BrushlessMotor", "HairDryer", "HoveringDrone"),
        *("RoboticArm", "Scanner", "ToothBrush", "ToyCircuit"),
    ),
    2025: (
        *("AutoTrash", "BandSealer", "CoffeeGrinder", "HomeCamera"),
        *("Polisher", "ScrewFeeder", "ToyPet", "ToyRCCar"),
    ),
}


def expected_names(edition: Edition, expected: Expected | None, found: Collection[Machine]) -> Names:
    """The evaluation set: as given, else the challenge's; of the first-shot editions the one most like `found`."""
    if expected is None and edition == "2020":
        expected = EVALUATION
    elif expected is None:
        types = {machine.type for machine in found}
        year = max(FIRST_SHOT_TYPES, key=lambda y: len(types & set(FIRST_SHOT_TYPES[y])))
        expected = dict.fromkeys((Machine(kind, 0, section=True) for kind in FIRST_SHOT_TYPES[year]), None)
    return {machine: _names(machine, files) for machine, files in expected.items()}


def _names(machine: Machine, files: Files) -> frozenset[str] | None:
    if isinstance(files, int):
        return frozenset(f"id_{machine.id:02d}_{number:08d}.wav" for number in range(files))
    return None if files is None else frozenset(files)


def expected_files(config: Config) -> dict[Machine, list[str]]:
    """Names of the evaluation test files of every machine that the recipe names. Raises UserError without data."""
    chosen = set(machines_of(config.data))
    there = [machine for _, machine in packed(config.data, ("eval_test",)) if machine in chosen]
    return {machine: list(open_pack(pack_of(config.data, "eval_test", machine)).names) for machine in there}


def edition_of(config: Config) -> Edition:
    """The form of submission of the recipe's edition."""
    return "2020" if config.data.edition == 2020 else "first-shot"
