"""Machine types and IDs of DCASE 2020 Task 2, in the challenge's order; proxy sets as sets of machine types."""

import re
from typing import NamedTuple

from common.run.errors import UserError, did_you_mean
from task2_anomaly.config import ProxySet

# Alphabetical; the ground truth opens its blocks in the order of EVALUATOR_ORDER.
TYPES = ("fan", "pump", "slider", "ToyCar", "ToyConveyor", "valve")
EVALUATOR_ORDER = ("fan", "pump", "slider", "valve", "ToyCar", "ToyConveyor")
# The two recording set-ups ("microphones").
MIMII = ("fan", "pump", "slider", "valve")
TOY_ADMOS = ("ToyCar", "ToyConveyor")


class Machine(NamedTuple):
    """One machine: what one network is trained for. In the first-shot editions `id` is that of a section."""

    type: str
    id: int
    section: bool = False

    def __str__(self) -> str:
        return f"{self.type}_{'section' if self.section else 'id'}_{self.id:02d}"


def parse_machine(text: str) -> Machine:
    """`fan_id_00` or `fan_section_00` -> Machine. Raises UserError."""
    match = re.fullmatch(r"(\w+)_(id|section)_([0-9]+)", text)
    if match is None:
        raise UserError(f"{text!r} names no machine, expected <type>_id_<NN> or <type>_section_<NN>")
    return Machine(match[1], int(match[3]), match[2] == "section")


def proxy_types(target: str, proxies: ProxySet, types: tuple[str, ...] = TYPES) -> tuple[str, ...]:
    """Machine types of a complement proxy set for a machine of type `target`; its own ID is left out elsewhere.

    `types`: those that the data set has. Types that the challenge does not have were recorded with one set-up, their
    own. Raises UserError for a type that is in neither.
    """
    if target not in (*TYPES, *types):
        raise UserError(f"unknown machine type {target!r}{did_you_mean(target, TYPES)}")
    others = tuple(kind for kind in types if kind not in TYPES)
    own, other = (MIMII, TOY_ADMOS) if target in MIMII else (TOY_ADMOS, MIMII) if target in TYPES else (others, TYPES)
    chosen = {
        "same_mic_same_type": (target,),
        "same_mic_different_type": tuple(kind for kind in own if kind != target),
        "same_mic_all_types": own,
        "different_mic": other,
        "all": (*TYPES, *others),
    }.get(proxies, ())
    return tuple(kind for kind in chosen if kind in types)
