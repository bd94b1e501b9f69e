"""Student or teacher: whose scores a run holds."""

from pathlib import Path
from typing import Literal

from common.run.errors import UserError
from common.run.results.store import recorded

Network = Literal["student", "teacher"]
# The network that is not submitted: its test scores lie in a folder of its name beside the others.
OTHER: dict[Network, Network] = {"student": "teacher", "teacher": "student"}


def scored_network(folder: Path) -> Network | None:
    """The network whose scores `predict` has stored in a run's folder; None where nothing says so."""
    network: Network | None = (recorded(folder, "predict") or {}).get("network")
    return network


def check_network(folder: Path, expected: Network) -> None:
    """Raise UserError where the stored scores of a run are those of the other network."""
    stored = scored_network(folder)
    if stored not in (None, expected):
        raise UserError(f"{folder / 'scores'}: those of the {stored}, expected the {expected}'s; `predict` makes them")
