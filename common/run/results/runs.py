"""Own figures: what the runs of one recipe keep in results.json, mean and spread over them, beside published ones."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from common.run.errors import UserError
from common.run.files import existing_file
from common.run.results.comparison import Baseline, Caveat, MetricColumn, OwnValue, compare
from common.run.results.intervals import MeanSpread, mean_spread
from common.run.results.store import FILE_NAME, read_results, recorded

Keys = tuple[Hashable, ...]
TOY_NETWORK = "trained on toy sounds: says nothing about real recordings"


class Place(NamedTuple):
    """Where the results of a run keep a figure, and its 95 % interval ((low, high) or {"low", "high"}), by keys."""

    value: Keys
    interval: Keys = ()


def section_of(folder: Path, section: str, missing: str) -> dict[str, Any]:
    """Values of a section of a run's results.json; UserError that says `missing` where there is none."""
    path = existing_file(folder / FILE_NAME, "results (`train` makes them)")
    sections = read_results(folder)
    if section not in sections:
        raise UserError(f"{path}: {missing}")
    values: dict[str, Any] = sections[section]["values"]
    return values


def network_note(folder: Path) -> str | None:
    """What must stand beside the answers of the network that was trained in `folder`: whether on toy sounds.

    Training records what its data were made of ("data" of the section "train"). None for anything but a toy.
    """
    data = (recorded(folder, "train") or {}).get("data")
    return TOY_NETWORK if data == "toy" else None


def quality(
    folder: Path,
    metric: str,
    value: float | None,
    interval: tuple[float | None, float | None] = (None, None),
    about: str = "",
) -> str:
    """How good the network that was trained in `folder` is, for people: a figure of its own test set and `about` it.

    value: None where nobody has asked `evaluate`. Toy data are called so.
    """
    figure = "Not measured on its own test set; `evaluate` does that"
    if value is not None:
        low, high = interval
        ends = f" [{low:.3f}, {high:.3f}]" if low is not None else ""
        figure = f"{metric} {value:.3f}{ends} on its own test set{about}"
    note = network_note(folder)
    return f"{figure}{f'; {note}' if note else ''}."


def kept(results: Mapping[Any, Any], keys: Keys) -> Any:
    """What stands in nested mappings under `keys`; None where there is no such key."""
    value: Any = results
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def trainings(number: int) -> str:
    """`1 training`, `2 trainings`."""
    return f"{number} training{'s' if number > 1 else ''}"


def scaled(mean: MeanSpread, scale: float = 100.0) -> OwnValue:
    """Mean and spread over runs, times `scale` (default: a share in per cent)."""
    return OwnValue(scale * mean.mean, spread=None if mean.spread is None else scale * mean.spread, runs=mean.runs)


def own_values(
    runs: Sequence[Mapping[Any, Any]], places: Mapping[str, Place], scale: float = 1.0
) -> dict[str, OwnValue]:
    """Own figures {"<set>/<metric>": mean and spread over `runs`}, of a single run with its interval.

    places: of every figure in a run's results; one that a run lacks is left out. scale: what figures are times.
    """
    found = {}
    for name, place in places.items():
        values = [kept(run, place.value) for run in runs]
        if any(value is None for value in values):
            continue
        found[name] = scaled(mean_spread(values), scale)
        interval = kept(runs[0], place.interval) if place.interval and len(runs) == 1 else None
        if interval is not None:
            low, high = (interval["low"], interval["high"]) if isinstance(interval, Mapping) else interval
            if low is not None and high is not None:  # null in results.json where a draw was not defined
                found[name] = OwnValue(found[name].value, scale * low, scale * high)
    return found


def beside_published(
    folders: Sequence[Path],
    recipe: str,
    own: Mapping[str, OwnValue],
    columns: Sequence[MetricColumn],
    baselines: Sequence[Baseline],
    *,
    title: str,
    caveat: Caveat | None,
    reference: str | None,
    shown: int | None = None,
) -> dict[str, dict[str, float | None]]:
    """Rank the figures of the runs in `folders` among the published ones; prints the table.

    Writes comparison.csv, .md and .png beside the runs' folders. shown: how many columns, from the first, terminal and
    picture have (None: all). Returns {"<set>/<metric>": {"value", "low", "high", "spread"}} of the own ones.
    """
    comparison = compare(
        {own_system(recipe, len(folders)): own}, baselines, columns, caveat=caveat, reference=reference, title=title
    )
    replace(comparison, columns=comparison.columns[:shown]).print(whole=folders[0].parent / "comparison.csv")
    comparison.save(folders[0].parent, pictured=shown)
    return {key: {"value": v.value, "low": v.low, "high": v.high, "spread": v.spread} for key, v in own.items()}


def own_system(recipe: str, number: int) -> str:
    """What own results are called among the published systems."""
    return f"{recipe} (own, {trainings(number)})"
