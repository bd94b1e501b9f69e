"""A system of several steps: what each of them took and reached, as a table and a picture, also half-way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.run.energy import energy_text
from common.run.errors import UserError, did_you_mean
from common.run.files import read_rows
from common.run.plots import GREY, OWN_COLOUR, TEXT_GREY, new_figure, save, style, title_and_legend
from common.run.progress import clock
from common.run.results.comparison import Caveat
from common.run.results.intervals import mean_spread
from common.run.results.listing import Figure, Layout
from common.run.results.store import FILE_NAME, read_results
from common.run.results.tables import format_value, print_table, write_table
from common.run.verbs import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMN, ROW, WIDTH, HEIGHT = 1.75, 1.05, 1.4, 0.76  # inches: from box to box, and a box


@dataclass(frozen=True)
class Step:
    """A step: its runs, what training and prediction took (None where not measured), mean figures with their spread."""

    name: str
    reads: tuple[str, ...]
    done: bool
    runs: int
    seconds: float | None
    kwh: float | None
    figures: tuple[tuple[Figure, float | None], ...]

    @property
    def reached(self) -> list[str]:
        """The figures with their names: `PSDS1 0.201 ± 0.023`."""
        return [
            f"{of.metric} {format_value(of.value, spread=spread, decimals=of.decimals)}" for of, spread in self.figures
        ]

    @property
    def caveat(self) -> Caveat | None:
        """Why the figures must not be compared with published ones."""
        return self.figures[0][0].caveat if self.figures else None


def show_pipeline(task: Task, layout: Layout, words: Sequence[str], out: Path) -> Mapping[str, Any]:
    """Table of the steps `NAME/FILE[:READS,...]`, as make names them, and pipeline.csv and .png in `out`.

    NAME/FILE, below runs/<task>, is there when the step is done; READS are names of earlier steps. Raises UserError
    for a step that reads one that is not there.
    """
    steps = [read_step(Path("runs") / task.name, layout, word) for word in words]
    names = [step.name for step in steps]
    for place, step in enumerate(steps):
        if missing := [name for name in step.reads if name not in names[:place]]:
            raise UserError(f"{step.name} reads {missing[0]!r}, no step before it{did_you_mean(missing[0], names)}")
    title = f"{out}: {sum(step.done for step in steps)} of {len(steps)} steps done"
    caveat = next((step.caveat for step in steps if step.caveat), None)
    note = caveat.text if caveat else None
    kwh = [step.kwh for step in steps if step.kwh is not None]
    rows = [_row(step) for step in steps]
    print_table(title, ["step", "state", "trainings", "time", "energy", "figures"], rows, note)
    if kwh:
        print(f"all steps: {energy_text(sum(kwh))}")
    columns = ["step", "reads", "done", "trainings", "seconds", "kwh", "metric", "set", "value", "spread", "note"]
    write_table(out / "pipeline.csv", columns, [row for step in steps for row in _csv(step)])
    with style():
        save(_picture(steps, title, note), out / "pipeline.png")
    print(f"{out}: pipeline.csv, pipeline.png")
    return {
        "steps": [
            {**vars(step), "figures": [{**of.plain(), "spread": spread} for of, spread in step.figures]}
            for step in steps
        ]
    }


def read_step(root: Path, layout: Layout, word: str) -> Step:
    """What the folders of a step's runs say."""
    path, _, reads = word.partition(":")
    name = path.partition("/")[0]
    folders = sorted(folder for folder in (root / name).glob("run[1-9]*") if (folder / FILE_NAME).is_file())
    results = [{key: of["values"] for key, of in read_results(folder).items()} for folder in folders]
    tested = [
        layout.figures(folder, of[layout.test])
        for folder, of in zip(folders, results, strict=True)
        if layout.test in of
    ]
    seconds, kwh = _cost(root / name)
    if seconds is None:  # energy was not measured
        seconds = sum(values.get("train", {}).get("seconds_of_last_session", 0.0) for values in results) or None
    return Step(
        name,
        tuple(filter(None, reads.split(","))),
        (root / path).exists(),
        len(folders),
        seconds,
        kwh,
        tuple(map(_mean, zip(*tested, strict=True))),
    )


def _mean(figures: Sequence[Figure]) -> tuple[Figure, float | None]:
    """Of the same figure of several runs."""
    known = [of.value for of in figures if of.value is not None]
    mean = mean_spread(known) if known else None
    return figures[0]._replace(value=mean and mean.mean, low=None, high=None), mean and mean.spread


def _cost(folder: Path) -> tuple[float | None, float | None]:
    """Seconds and kWh of all phases of all runs."""
    rows = [
        row
        for file in sorted(folder.glob("run*/**/codecarbon/emissions_*.csv"))
        for row in read_rows(file, ("duration", "energy_consumed"))
    ]
    if not rows:
        return None, None
    return sum(row.number("duration") for row in rows), sum(row.number("energy_consumed") for row in rows)


def _row(step: Step) -> list[str]:
    state = "done" if step.done else "begun" if step.runs else "open"
    mark = f" ({step.caveat.mark})" if step.caveat else ""
    return [step.name, state, str(step.runs or ""), *_costs(step), ", ".join(step.reached) + mark]


def _costs(step: Step) -> list[str]:
    return [
        "" if step.seconds is None else clock(step.seconds),
        "" if step.kwh is None else energy_text(step.kwh),
    ]


def _csv(step: Step) -> list[list[str]]:
    """A row for each figure, one where there is none."""
    costs = ["" if value is None else str(value) for value in (step.seconds, step.kwh)]
    begin = [step.name, " ".join(step.reads), str(step.done).lower(), str(step.runs), *costs]
    figures = [
        [of.metric, of.set, *("" if v is None else str(v) for v in (of.value, spread))] for of, spread in step.figures
    ]
    note = step.caveat.text if step.caveat else ""
    return [[*begin, *figure, note] for figure in figures or [[""] * 4]]


def _picture(steps: Sequence[Step], title: str, note: str | None) -> Any:
    """Boxes from left to right, each behind all that it reads; dashed where a step is not done."""
    column: dict[str, int] = {}
    for step in steps:
        column[step.name] = max((column[name] + 1 for name in step.reads), default=0)
    names = [[step for step in steps if column[step.name] == at] for at in range(max(column.values(), default=0) + 1)]
    height = max(map(len, names))
    at = {
        step.name: (COLUMN * x, ROW * (0.5 * (len(those) - 1) - y))
        for x, those in enumerate(names)
        for y, step in enumerate(those)
    }
    figure = new_figure(COLUMN * len(names), ROW * height + 0.9, note)
    axes = figure.add_subplot()
    axes.set(
        xlim=(-0.55 * COLUMN, COLUMN * (len(names) - 0.45)), ylim=(-0.55 * ROW * height, 0.55 * ROW * height), aspect=1
    )
    axes.axis("off")
    of = {step.name: step.reads for step in steps}
    for step in steps:
        for name in step.reads:
            if not any(name in of[between] for between in step.reads):  # that one's arrow says it
                _arrow(axes, at[name], at[step.name])
        _box(axes, step, *at[step.name])
    title_and_legend(figure, title)
    return figure


def _arrow(axes: "Axes", begin: tuple[float, float], end: tuple[float, float]) -> None:
    to, come = (end[0] - WIDTH / 2, end[1]), (begin[0] + WIDTH / 2, begin[1])
    axes.annotate("", to, come, arrowprops={"arrowstyle": "-|>", "color": GREY, "linewidth": 0.8, "shrinkA": 0})


def _box(axes: "Axes", step: Step, x: float, y: float) -> None:
    from matplotlib.patches import Rectangle

    colour = OWN_COLOUR if step.done else GREY
    line = "-" if step.done else (0, (4, 2))
    axes.add_patch(
        Rectangle((x - WIDTH / 2, y - HEIGHT / 2), WIDTH, HEIGHT, facecolor="white", edgecolor=colour, linestyle=line)
    )
    text = "\n".join(filter(None, [", ".join(filter(None, _costs(step))), *step.reached]))
    axes.text(x, y + 0.2, _two_lines(step.name), ha="center", va="center", fontsize=6.5, fontweight="bold")
    axes.text(x, y - 0.15, text, ha="center", va="center", fontsize=6, color=TEXT_GREY)


def _two_lines(name: str, width: int = 22) -> str:
    """A name too long for a box, broken at the last `_` that leaves a line."""
    cut = name.rfind("_", 0, width) + 1 if len(name) > width else 0
    return f"{name[:cut]}\n{name[cut:]}" if cut else name
