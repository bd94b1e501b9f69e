"""results.json of a run: one section per verb, each with the time and the environment it was made in."""

import dataclasses
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from common.run.errors import UserError
from common.run.files import alone, read_json, write_json
from common.run.results.environment import environment

FILE_NAME, CONFIG = "results.json", "config.yaml"  # in every run's folder


def record(run_dir: str | Path, section: str, values: Mapping[str, Any]) -> None:
    """Write `values` as `section` ("train", "test", ...) of run_dir/results.json; other sections stay.

    A section of that name is replaced as a whole, so numbers of two runs never stand side by side. The file is
    written whole or not at all, by one process at a time. NaN becomes null (not available); infinity is a ValueError.
    Raises UserError when an existing results.json cannot be read.
    """
    path = Path(run_dir) / FILE_NAME
    new = {
        "recorded": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": environment(),
        "values": _plain(values),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with alone(path.parent, "results", path):  # another verb may be about to write its own section
        sections = read_results(run_dir) if path.exists() else {}
        write_json(path, {**sections, section: new})


class Recorded(dict[str, Any]):
    """What was read of a results.json; a key that is missing is its reader's UserError, not a bug."""

    file: Path

    def __missing__(self, key: str) -> Any:
        raise UserError(f"{self.file}: no {key!r} where it is looked for; damaged, or of another version")


def _recorded(value: Any, file: Path) -> Any:
    if isinstance(value, list):
        return [_recorded(item, file) for item in value]
    if not isinstance(value, dict):
        return value
    found = Recorded({key: _recorded(item, file) for key, item in value.items()})
    found.file = file
    return found


def read_results(run_dir: str | Path) -> dict[str, dict[str, Any]]:
    """Sections {name: {"recorded", "environment", "values"}} of run_dir/results.json.

    Raises UserError for a missing file, malformed JSON, or a section without values; and later where a key of the
    values is looked for that is not there.
    """
    path = Path(run_dir) / FILE_NAME
    sections = read_json(path)
    if not isinstance(sections, dict):
        raise UserError(f"{path}: a {type(sections).__name__}, expected an object of sections")
    for name, section in sections.items():
        if not isinstance(section, dict) or not isinstance(section.get("values"), dict):
            raise UserError(f"{path}: section {name!r} has no object 'values'")
    try:
        found: dict[str, dict[str, Any]] = _recorded(sections, path)
    except RecursionError:
        raise UserError(f"{path}: nested too deeply for results") from None
    return found


def recorded(run_dir: str | Path, section: str) -> dict[str, Any] | None:
    """Values of a section of run_dir/results.json; None where it, or the file, is not there. Raises UserError else."""
    if not (Path(run_dir) / FILE_NAME).is_file():
        return None
    found = read_results(run_dir).get(section)
    values: dict[str, Any] | None = found and found["values"]
    return values


def _plain(value: Any) -> Any:
    """`value` in JSON's own types."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a {type(value).__name__} cannot stand in {FILE_NAME}")
