"""Two own systems against each other: differences of their figures, by a paired bootstrap over the test items.

Both systems heard the same items, so every draw takes the same items for both: what is easy or hard for both cancels
out. A system of several runs has the mean of their figures. Efron & Tibshirani 1993, chapters 8 and 12.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from common.run.config import config_of, find_recipe
from common.run.errors import UserError
from common.run.files import write_json, write_rows
from common.run.folders import printable
from common.run.plots import COLOURS, new_figure, save, style, title_and_legend
from common.run.results.comparison import Caveat
from common.run.results.intervals import bootstrap_interval, mean_spread
from common.run.results.listing import RUN, Layout
from common.run.results.runs import trainings
from common.run.results.store import recorded
from common.run.results.tables import format_value, print_table
from common.run.verbs import Run, Task, open_run, run_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWS = 1000


class Metric(NamedTuple):
    """A figure: its title, and the decimals that it is shown with."""

    title: str
    decimals: int = 3


@dataclass(frozen=True)
class Part:
    """The figures of one run on one test set, as functions of how often each item counts.

    unit: what is drawn ("clips"); items: their names; truth: `fingerprint` of what is true of them; figures: weights
    (items,) -> (metrics,); units: independent items that each figure rests on (metrics,).
    """

    set: str
    unit: str
    items: tuple[str, ...]
    truth: str
    metrics: tuple[Metric, ...]
    figures: Callable[[np.ndarray], np.ndarray]
    units: np.ndarray


@dataclass(frozen=True)
class System:
    """One or several runs of one recipe."""

    name: str
    runs: tuple[Run, ...]


class Difference(NamedTuple):
    """A figure of two systems, mean and spread over their runs, and B's minus A's with its 95 % interval."""

    set: str
    metric: Metric
    a: float | None
    b: float | None
    a_spread: float | None
    b_spread: float | None
    difference: float | None
    low: float | None
    high: float | None
    unit: str
    items: int


def fingerprint(truth: Iterable[object]) -> str:
    """One word for what is true of a test set; the order does not count."""
    return hashlib.sha256("\n".join(sorted(map(repr, truth))).encode("utf-8", "surrogateescape")).hexdigest()


def differences(a: Sequence[Part], b: Sequence[Part], names: tuple[str, str], draws: int = DRAWS) -> list[Difference]:
    """B's figures minus A's on one test set, of which each system has a part a run.

    The items of all parts are the same, in any order. Raises UserError where they, or what is true of them, are not.
    """
    first = a[0]
    for part, name in [*((part, names[0]) for part in a), *((part, names[1]) for part in b)]:
        if other := set(first.items) ^ set(part.items):
            raise UserError(f"{first.set}: {min(other)} is among the {first.unit} of only one of {names[0]} and {name}")
        if part.truth != first.truth:
            raise UserError(f"{first.set}: {names[0]} and {name} were not evaluated against the same labels")
    means = [_mean(first.items, parts) for parts in (a, b)]

    def both(weights: np.ndarray) -> np.ndarray:
        return means[1](weights) - means[0](weights)

    ones = np.ones(len(first.items), dtype=np.int64)
    low, high = bootstrap_interval(both, len(ones), draws, units=first.units)
    single = [np.array([part.figures(ones[: len(part.items)]) for part in parts]) for parts in (a, b)]
    found = []
    for index, metric in enumerate(first.metrics):
        of_a, of_b = (mean_spread(values[:, index]) for values in single)
        pair = (_known(of_a.mean), _known(of_b.mean), _known(of_a.spread), _known(of_b.spread))
        ends = (_known(of_b.mean - of_a.mean), _known(low[index]), _known(high[index]))
        found.append(Difference(first.set, metric, *pair, *ends, first.unit, len(ones)))
    return found


def _known(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else float(value)


def _mean(items: Sequence[str], parts: Sequence[Part]) -> Callable[[np.ndarray], np.ndarray]:
    """Mean figures of several runs for weights of `items`, whatever order each run has them in."""
    at = {item: index for index, item in enumerate(items)}
    orders = [np.array([at[item] for item in part.items]) for part in parts]
    return lambda weights: np.mean(
        [of.figures(weights[order]) for of, order in zip(parts, orders, strict=True)], axis=0
    )


def compare_systems(
    asked: Sequence[Run], names: Sequence[str], layout: Layout, parts_of: Callable[[Run], list[Part]]
) -> dict[str, Any]:
    """Print and write the difference between two systems: recipes, folders of runs, or single run folders.

    asked: the runs of the command line, whose numbers count. Writes comparison.csv, .json and .png into the folder
    against_<first> beside the runs of the second. Raises UserError for systems that cannot be compared.
    """
    task, numbers = asked[0].task, [run.number for run in asked]
    if len(names) != 2:
        raise UserError(f"--runs-of: {len(names)} named, expected two recipes or run folders")
    if asked[0] != open_run(task, task.default_recipe, number=numbers[0]):
        raise UserError("--runs-of: goes without --recipe, --run-dir and settings; runs keep those of their training")
    a, b = (_system(task, layout, name, numbers) for name in names)
    caveat = _check(layout, a, b)
    if a.name == b.name:
        a, b = (replace(of, name=str(of.runs[0].folder)) for of in (a, b))
    parts_a, parts_b = ([parts_of(run) for run in system.runs] for system in (a, b))
    figures = {
        tuple(_names(of)): system.name for of, system in [*((of, b) for of in parts_b), *((of, a) for of in parts_a)]
    }
    if len(figures) > 1:
        described = "; ".join(f"{name}: {', '.join(of)}" for of, name in figures.items())
        raise UserError(f"--runs-of: not the same test sets ({described}); evaluate both on the same ones")
    found = [
        difference
        for *of_a, of_b in zip(*parts_a, zip(*parts_b, strict=True), strict=True)
        for difference in differences(of_a, of_b, (a.name, b.name))
    ]
    return _report(a, b, found, caveat)


def _names(parts: Sequence[Part]) -> list[str]:
    return [f"{part.set} {metric.title}" for part in parts for metric in part.metrics]


def _system(task: Task, layout: Layout, name: str, numbers: Sequence[int]) -> System:
    """The runs of a recipe, or of a folder, with these numbers; or the one run of its own folder."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or (task.recipes / f"{name}.yaml").is_file() or not path.is_dir():
        find_recipe(task.recipes, name)  # says which there are
        called = run_name(task.recipes, name)
        return System(called, _open(task, layout, Path("runs") / task.name / called, numbers, name))
    if number := RUN.fullmatch(path.name):
        return System("/".join(path.parts[-2:]), _open(task, layout, path.parent, [int(number[1])]))
    return System(path.name, _open(task, layout, path, numbers))


def _open(
    task: Task, layout: Layout, folder: Path, numbers: Sequence[int], recipe: str | None = None
) -> tuple[Run, ...]:
    """Evaluated runs, with the settings that they were trained with. UserError says what is to be done before."""
    runs = []
    for number in numbers:
        run = folder / f"run{number}"
        if not layout.trainings(run):
            how = f": python -m {task.name} train --recipe {recipe} --runs {number}" if recipe else ""
            raise UserError(f"{run}: no trained run there{how}")
        settings = layout.settings(run)
        if settings.task != task.name:
            raise UserError(f"{run}: a run of {settings.task}")
        if recorded(run, layout.test) is None:
            words = f"--recipe {recipe or settings.recipe}{'' if recipe else f' --run-dir {folder}'} --runs {number}"
            raise UserError(f"{run}: not evaluated yet: python -m {task.name} evaluate {words}")
        values = {**settings.values, "seed": settings.values["seed"] - number + 1}
        runs.append(
            Run(task, settings.recipe, number, run, config_of(task.config, values, str(run), layout.trainings(run)[0]))
        )
    return tuple(runs)


def _check(layout: Layout, a: System, b: System) -> Caveat | None:
    """Why the figures of both must not be compared with others. Raises UserError where it is not the same."""
    folders = [{run.folder.resolve(): run.folder for run in system.runs} for system in (a, b)]
    if both := folders[0].keys() & folders[1].keys():
        raise UserError(f"{folders[0][min(both)]}: is in both systems, expected two different ones")
    runs = [*a.runs, *b.runs]
    figures = [layout.figure(run.folder, recorded(run.folder, layout.test) or {}) for run in runs]
    first, *others = [(run, figure.caveat) for run, figure in zip(runs, figures, strict=True)]
    for run, caveat in others:
        if caveat != first[1]:
            data = [of.mark if of else "real" for of in (first[1], caveat)]
            raise UserError(f"{first[0].folder} and {run.folder}: evaluated on other data ({data[0]}, {data[1]})")
    return first[1]


def _report(a: System, b: System, found: Sequence[Difference], caveat: Caveat | None) -> dict[str, Any]:
    """The table on the terminal, and the files."""
    title = f"{b.name} minus {a.name}" + (f" ({caveat.text})" if caveat else "")
    drawn = ", ".join(dict.fromkeys(f"{of.items:,} {of.unit} ({of.set})" for of in found))
    seeds = "runs are averaged" if len(a.runs) + len(b.runs) > 2 else "a single training of each"
    note = f"[ ]: 95 %, paired bootstrap, {DRAWS:,} draws of {drawn}, the same for both; "
    note += f"{seeds}: nothing about other seeds"
    columns = ["figure", *(f"{of.name}, {trainings(len(of.runs))}" for of in (a, b)), "difference"]
    rows = []
    for of in found:
        value = partial(format_value, decimals=of.metric.decimals)
        pair = [value(of.a, spread=of.a_spread), value(of.b, spread=of.b_spread)]
        rows.append([f"{of.metric.title}, {of.set}", *pair, value(of.difference, of.low, of.high, signed=True)])
    print_table(title, columns, rows, note)
    out = b.runs[0].folder.parent / f"against_{a.name.replace('/', '_')}"
    table = [{**of._asdict(), "metric": of.metric.title} for of in found]
    result = {
        "a": _described(a),
        "b": _described(b),
        "caveat": caveat and caveat.text,
        "draws": DRAWS,
        "differences": table,
    }
    write_json(out / "comparison.json", result)
    write_rows(out / "comparison.csv", list(table[0]), [list(of.values()) for of in table])
    save(_figure(found, title, note), out / "comparison.png")
    print(f"{printable(out)}: comparison.csv, comparison.json, comparison.png")
    return {**result, "out": str(out)}


def _described(system: System) -> dict[str, Any]:
    return {"name": system.name, "runs": [str(run.folder) for run in system.runs]}


def _figure(found: Sequence[Difference], title: str, note: str) -> "Figure":
    """A point a figure with its interval, and the line where there is no difference."""
    with style():
        figure = new_figure(6.2, 1.6 + 0.3 * len(found), "\n".join(wrap(note, 90)))
        axes = figure.subplots()
        axes.axvline(0, color="black", linewidth=0.8)
        for row, of in enumerate(found):
            if of.difference is not None:
                axes.plot([of.difference], [row], marker="o", markersize=5, color=COLOURS[0])
            if of.low is not None and of.high is not None:
                axes.plot([of.low, of.high], [row, row], color=COLOURS[0], marker="|")
        axes.set_yticks(range(len(found)), [f"{of.metric.title}, {of.set}" for of in found])
        axes.set_ylim(len(found) - 0.5, -0.5)
        axes.set_xlabel("difference, with its 95 % interval")
        axes.grid(True, axis="x")
        title_and_legend(figure, title)
    return figure
