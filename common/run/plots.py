"""Plots in one style: training curves, bars per class, bars per system. matplotlib is imported where it is needed.

Every function returns a matplotlib Figure that belongs to no window and no global state; `save` writes it as .png.
`note` (e.g. "toy data, not comparable") stands at the foot of the figure.
"""

import csv
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from common.run.errors import UserError, did_you_mean
from common.run.files import existing_file, write_then_rename
from common.run.numbers import number

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

# Okabe & Ito's colours, told apart with every common colour blindness; their yellow is too pale for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")
GREY = "#8C8C8C"
TEXT_GREY = "#555555"
# The same colour for the same role in every task.
OWN_COLOUR = COLOURS[0]
PUBLISHED_COLOUR = "#B5B5B5"
PUBLISHED_MARK = "#7A7A7A"  # lines and marks need more contrast than bars
TRUTH_COLOUR = COLOURS[1]  # what is annotated: events, anomalies
LIMIT: dict[str, Any] = {"color": "black", "linewidth": 1.1, "linestyle": (0, (5, 2))}  # thresholds, limits
CHANCE: dict[str, Any] = {"color": TEXT_GREY, "linewidth": 1.0, "linestyle": (0, (1, 1.5))}
SPREAD: dict[str, Any] = {"color": "black", "linewidth": 1.0, "marker": "|", "markersize": 4}
SPREAD_TEXT = "95 % interval, or standard deviation over trainings"
DPI = 150
PAGE = 8.0  # inches: wider pictures are too small to read in a column of text

# A figure and the ends of its interval; None where not available.
Bar = tuple[float | None, float | None, float | None]

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "figure.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": TEXT_GREY,
    "axes.axisbelow": True,
    "xtick.color": TEXT_GREY,
    "ytick.color": TEXT_GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 3.5,
    "svg.hashsalt": "",  # names of parts are the same every time
    "text.parse_math": False,  # names of classes and systems may hold a dollar sign
}


@contextmanager
def style() -> Iterator[None]:
    """The project's style, whatever the user's matplotlibrc says; the former settings come back afterwards."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def new_figure(width: float, height: float, note: str | None = None) -> "Figure":
    """An empty figure of `width` by `height` inches whose layout leaves room for note, title and legend."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    if note:
        # A sup-label, not a text: the layout keeps room for it.
        figure.supxlabel(
            textwrap.fill(note, int(11.5 * width)),
            x=0.99,
            ha="right",
            fontsize=8.5,
            fontstyle="italic",
            color=TEXT_GREY,
        )
    return figure


def title_and_legend(figure: "Figure", title: str, handles: "Sequence[Artist]" = (), columns: int = 4) -> None:
    """Put the title, and a legend of `handles` in at most `columns` below it, above everything that the figure shows.

    The lines of the title are wrapped at the figure's width; the figure grows by what title and legend have more than a
    line.
    """
    width = figure.get_figwidth()
    title = "\n".join(textwrap.fill(line, int(11 * width)) for line in title.split("\n"))
    more = 0.17 * title.count("\n")
    if handles:
        # The title as the legend's own title: the layout would draw a figure title and an outside legend in one place.
        widths = [0.55 + 0.065 * len(str(handle.get_label())) for handle in handles]
        fitting = len(handles) if sum(widths) <= width else int(width / max(widths))
        columns = max(1, min(columns, fitting))
        more += 0.19 * (math.ceil(len(handles) / columns) - 1)
        place: Any = {"loc": "outside upper left", "ncols": columns, "alignment": "left"}
        bold: Any = {"weight": "bold", "size": STYLE["figure.titlesize"]}
        figure.legend(handles=handles, title=title or None, title_fontproperties=bold, **place)
    elif title:
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    figure.set_figheight(figure.get_figheight() + more)


def wrapped(names: Iterable[str], width: int = 30) -> list[str]:
    """Names for an axis, in as many lines as they need."""
    return [textwrap.fill(name, width) for name in names]


def _line_height(names: Iterable[str]) -> float:
    """What the longest of wrapped names takes, inches."""
    return 0.06 + 0.14 * max((name.count("\n") + 1 for name in names), default=1)


def balanced(count: int, most: int) -> int:
    """Columns, at most `most`, that fill as many rows as `count` panels need evenly."""
    return math.ceil(count / math.ceil(count / most))


def handle(label: str, **drawn: Any) -> "Line2D":
    """The legend's entry of a line or mark."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **drawn)


def chance_line(axes: "Axes", at: float, along: Literal["x", "y"] = "x") -> "Line2D":
    """Draw what guessing gives, a line across the axis of the figures; returns the legend's entry."""
    (axes.axvline if along == "x" else axes.axhline)(at, zorder=0.5, **CHANCE)
    return handle("chance", **CHANCE)


def spread_apart(positions: Sequence[float], gap: float, low: float = -math.inf, high: float = math.inf) -> list[float]:
    """Ascending positions from low to high, moved as little as needed to be `gap` apart; a crowd keeps its centre."""
    crowds: list[tuple[float, int]] = []  # centre, members
    for position in positions:
        centre, members = position, 1
        while crowds and centre - gap * (members - 1) / 2 < crowds[-1][0] + gap * (crowds[-1][1] - 1) / 2 + gap:
            before, count = crowds.pop()
            centre = (centre * members + before * count) / (members + count)
            members += count
        crowds.append((centre, members))
    spread = [centre + gap * (i - (members - 1) / 2) for centre, members in crowds for i in range(members)]
    above = [max(position, low + gap * i) for i, position in enumerate(spread)]
    return [min(position, high - gap * (len(above) - 1 - i)) for i, position in enumerate(above)]


def kilohertz(axes: "Axes", low: float, high: float) -> None:
    """Octaves of a mel axis in Hz, from `low` to `high`, told in kHz."""
    ticks = [hz for hz in (500, 1000, 2000, 4000, 8000, 16000) if low <= hz <= high * 1.06]
    axes.set_yticks(ticks, [f"{hz / 1000:g}" for hz in ticks])
    axes.set_yticks([], minor=True)
    axes.set_ylabel("frequency (kHz)")


def save(figure: "Figure", path: str | Path) -> None:
    """Write a figure as .png or .svg, whole or not at all, without metadata: equal figures give equal files.

    Raises UserError for another suffix.
    """
    path = Path(path)
    if path.suffix not in (".png", ".svg"):
        raise UserError(f"{path}: plots are written as .png or .svg")
    said = {"Software": None} if path.suffix == ".png" else {"Date": None}
    with style(), write_then_rename(path) as partial:
        figure.savefig(partial, format=path.suffix[1:], dpi=DPI, metadata=said)


# ---------------------------------------------------------------- training curves


def read_metrics(path: str | Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Curves {name: (epochs (n,), values (n,))} from the metrics.csv of Lightning's CSVLogger.

    A curve has one point per epoch, the mean of that epoch's rows (per-step losses); empty fields are no points, nan
    is one (a diverged loss). Raises UserError for a missing file, a missing column epoch, or a field that is no number.
    """
    path = existing_file(path, "metrics file")
    points: dict[str, dict[float, list[float]]] = {}
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            if "epoch" not in (rows.fieldnames or ()):
                raise UserError(f"{path}:1: no column 'epoch'; expected the metrics.csv of a training run")
            for row in rows:
                at = f"{path}:{rows.line_num}"
                if None in row or None in row.values():
                    raise UserError(f"{at}: another number of fields than the header")
                if not row["epoch"]:
                    continue  # e.g. a test after the training
                epoch = _number(at, "epoch", row["epoch"])
                for name, text in row.items():
                    if text and name not in ("epoch", "step"):
                        points.setdefault(name, {}).setdefault(epoch, []).append(_number(at, name, text))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a table of metrics ({error})") from None
    curves = {}
    for name, by_epoch in points.items():
        epochs = sorted(by_epoch)
        curves[name] = np.array(epochs), np.array([np.mean(by_epoch[epoch]) for epoch in epochs])
    return curves


def _number(at: str, column: str, text: str) -> float:
    try:
        return number(text)
    except ValueError:
        raise UserError(f"{at}: {column} is {text!r}, expected a number") from None


def training_curves(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    monitor: str | None = None,
    mode: Literal["min", "max"] = "max",
    title: str = "",
    note: str | None = None,
) -> "Figure":
    """Small multiples of `read_metrics` curves over epochs: names that end alike ("train/loss", "val/loss") share one.

    `monitor` names the curve whose best epoch is marked in every panel, its own panel comes first. Learning rates
    ("lr-...") share the last panel. Raises UserError without any curve or for an unknown monitor.
    """
    if not curves:
        raise UserError("no metrics to plot; the metrics.csv has no values")
    if monitor is not None and monitor not in curves:
        raise UserError(f"unknown metric {monitor!r}{did_you_mean(monitor, curves)}")
    panels: dict[str, list[str]] = {}
    for name in sorted(curves, key=lambda name: (name.startswith("lr-"), name != monitor, _panel(name))):
        panels.setdefault(_panel(name), []).append(name)
    prefixes = sorted({_series(name) for name in curves if not name.startswith("lr-")})
    colours = {prefix: COLOURS[index % len(COLOURS)] for index, prefix in enumerate(prefixes)}
    best = None if monitor is None else _best(*curves[monitor], mode)

    columns = min(3, len(panels))
    lines = math.ceil(len(panels) / columns)
    with style():
        figure = new_figure(max(PAGE / 3 * columns, 4.5), 1.8 * lines + 0.9, note)
        grid = figure.subplots(lines, columns, squeeze=False, sharex=True).ravel()
        for axes, (panel, names) in zip(grid, panels.items(), strict=False):
            for name in names:
                _curve(axes, *curves[name], colour=colours.get(_series(name), GREY))
            axes.set_title(panel.replace("_", " "), loc="left")
            if best is not None:
                axes.axvline(best[0], color="black", linestyle=":", linewidth=1)
        for axes in grid[len(panels) :]:
            axes.remove()
        for axes in grid[max(len(panels) - columns, 0) : len(panels)]:
            axes.set_xlabel("epoch")
            axes.tick_params(labelbottom=True)
        if best is not None:
            grid[0].plot(*best, marker="o", markersize=6, color="black", markerfacecolor="none", linestyle="none")
        title_and_legend(figure, title, _curves_legend(colours, best, monitor), columns + 2)
    return figure


def _panel(name: str) -> str:
    return "learning rate" if name.startswith("lr-") else name.rpartition("/")[2]


def _series(name: str) -> str:
    return name.rpartition("/")[0].replace("/", " ")


def _best(epochs: np.ndarray, values: np.ndarray, mode: Literal["min", "max"]) -> tuple[float, float] | None:
    """Epoch and value of the best point; None when every value is NaN."""
    if np.isnan(values).all():
        return None
    index = int(np.nanargmax(values) if mode == "max" else np.nanargmin(values))
    return float(epochs[index]), float(values[index])


def _curve(axes: "Axes", epochs: np.ndarray, values: np.ndarray, colour: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.plot(epochs, values, color=colour, marker="o" if len(epochs) <= 20 else None)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.4g}")
    if axes.dataLim.ymin >= 0:
        axes.set_ylim(bottom=max(axes.get_ylim()[0], 0.0))
    axes.grid(True)


def _curves_legend(colours: Mapping[str, str], best: tuple[float, float] | None, monitor: str | None) -> "list[Line2D]":
    handles = [handle(prefix, color=colour) for prefix, colour in colours.items() if prefix]
    if best is not None:
        ring: Any = {"marker": "o", "markersize": 6, "markerfacecolor": "none"}
        label = f"best epoch: {best[0]:g} ({monitor} {best[1]:.4g})"
        handles.append(handle(label, color="black", linestyle=":", linewidth=1, **ring))
    return handles


# ---------------------------------------------------------------- bars


def class_bars(
    classes: Sequence[str],
    series: Mapping[str, Sequence[Bar]],
    xlabel: str,
    title: str = "",
    note: str | None = None,
    limits: tuple[float, float] | None = (0.0, 1.0),
) -> "Figure":
    """Horizontal bars per class, one colour per series; each bar is (value, low, high), None where not available.

    `limits` of the value axis; None: from the data. Raises ValueError when a series has another length than `classes`.
    """
    _check_lengths(classes, series)
    count = len(series)
    thickness = 0.8 / max(count, 1)
    with style():
        figure = new_figure(6.2, 0.9 + len(classes) * max(0.17 * count + 0.1, _line_height(classes)), note)
        axes = figure.subplots()
        positions = np.arange(len(classes), dtype=float)
        for index, bars in enumerate(series.values()):
            offset = (index - (count - 1) / 2) * thickness
            colours = [COLOURS[index % len(COLOURS)]] * len(classes)
            _bars(axes, positions + offset, bars, colours, thickness * 0.92)
        _finish_bars(axes, classes, xlabel)
        if limits is not None:
            axes.set_xlim(*limits)
        handles: list[Artist] = [*(_patches(series) if count > 1 else ())]
        if any(bar[1] is not None and not math.isnan(bar[1]) for bars in series.values() for bar in bars):
            handles.append(handle(SPREAD_TEXT, **SPREAD))
        title_and_legend(figure, title, handles)
    return figure


class Panel(NamedTuple):
    """How a metric is compared: panels of one unit share their axis, those of one group (and unit) a row."""

    group: str = ""
    unit: str = ""
    chance: float | None = None  # what guessing gives


MAX_PUBLISHED = 12


def comparison_bars(
    systems: Sequence[str],
    own: Sequence[bool],
    metrics: Mapping[str, Sequence[Bar]],
    title: str = "",
    note: str | None = None,
    panels: Mapping[str, Panel] | None = None,
) -> "Figure":
    """Horizontal bars of published (grey) and own (blue) systems, a panel per metric, in the given order.

    Each bar is (value, low, high), None where not available. A row of panels shows the systems with a figure in any of
    them, of many published ones the first MAX_PUBLISHED. Raises ValueError when lengths differ.
    """
    from matplotlib.patches import Patch

    _check_lengths(systems, {**metrics, "own": own})
    panels = {name: (panels or {}).get(name, Panel(unit=name)) for name in metrics}
    rows = [(names, _shown(own, [metrics[name] for name in names])) for names in _panel_rows(panels)]
    columns, left_out = max(len(names) for names, _ in rows), len(own) - len({i for _, of in rows for i in of})
    note = "; ".join(
        filter(
            None, (f"{left_out} more system{'s' if left_out > 1 else ''} in comparison.csv" if left_out else "", note)
        )
    )
    names_of = [wrapped((systems[i] for i in of), 36) for _, of in rows]
    heights = [max(0.22, _line_height(of)) * len(of) + 0.6 for of in names_of]
    with style():
        figure = new_figure(PAGE, sum(heights) + 0.9, note)
        grid = figure.add_gridspec(len(rows), columns, height_ratios=heights)
        for line, (names, chosen) in enumerate(rows):
            first = None
            for column, name in enumerate(names):
                axes = figure.add_subplot(grid[line, column], sharey=first)
                bars = [metrics[name][i] for i in chosen]
                colours = [OWN_COLOUR if own[i] else PUBLISHED_COLOUR for i in chosen]
                _bars(axes, np.arange(len(chosen), dtype=float), bars, colours, 0.72)
                _finish_bars(axes, names_of[line], "\n".join(wrapped(name.split("\n"), 80 // columns)))
                if (chance := panels[name].chance) is not None:
                    chance_line(axes, chance)
                axes.tick_params(labelleft=first is None)
                first = first or axes
            for label, i in zip(first.get_yticklabels() if first else (), chosen, strict=True):
                label.set_fontweight("bold" if own[i] else "normal")
        drawn = dict(zip([name for names, _ in rows for name in names], figure.axes, strict=True))
        _share_limits(drawn, metrics, panels)
        kinds = {"own": OWN_COLOUR, "published": PUBLISHED_COLOUR} if any(own) else {"published": PUBLISHED_COLOUR}
        handles: list[Artist] = [Patch(color=colour, label=kind) for kind, colour in kinds.items()]
        if any(bar[1] is not None for bars in metrics.values() for bar in bars):
            handles.append(handle(SPREAD_TEXT, **SPREAD))
        if any(panel.chance is not None for panel in panels.values()):
            handles.append(handle("chance", **CHANCE))
        title_and_legend(figure, title, handles)
    return figure


def _panel_rows(panels: Mapping[str, Panel]) -> list[list[str]]:
    """Metrics of one group and unit in rows of at most three panels; four stay together."""
    alike: dict[tuple[str, str], list[str]] = {}
    for name, panel in panels.items():
        alike.setdefault((panel.group, panel.unit if panel.group else ""), []).append(name)
    rows = []
    for of in alike.values():
        width = 4 if len(of) == 4 else balanced(len(of), 3)
        rows += [of[start : start + width] for start in range(0, len(of), width)]
    return rows


def _shown(own: Sequence[bool], panels: Sequence[Sequence[Bar]]) -> list[int]:
    """Places of the own systems and of the first published ones that have a figure in any of the panels."""
    known = [i for i in range(len(own)) if any(panel[i][0] is not None for panel in panels)]
    published = [i for i in known if not own[i]][:MAX_PUBLISHED]
    return [i for i in known if own[i] or i in published] or list(range(len(own)))


def _share_limits(
    axes: "Mapping[str, Axes]", metrics: Mapping[str, Sequence[Bar]], panels: Mapping[str, Panel]
) -> None:
    """Bars begin at zero; panels of one unit end at the same value, with room for the figures beside the bars."""
    for name, of in axes.items():
        alike = [metrics[other] for other in axes if panels[other].unit == panels[name].unit]
        ends = [x for bars in alike for bar in bars for x in bar if x is not None and not math.isnan(x)]
        of.set_xlim(min([0.0, *ends]), 1.25 * max([0.0, *ends]) or 1.0)


def _patches(names: Iterable[str]) -> "list[Patch]":
    from matplotlib.patches import Patch

    return [Patch(color=COLOURS[index % len(COLOURS)], label=name) for index, name in enumerate(names)]


def _check_lengths(names: Sequence[str], values: Mapping[str, Sequence[object]]) -> None:
    for name, of in values.items():
        if len(of) != len(names):
            raise ValueError(f"{name} has {len(of)} values, expected {len(names)}")


def _bars(axes: "Axes", positions: np.ndarray, bars: Sequence[Bar], colours: Sequence[str], thickness: float) -> None:
    for position, (value, low, high), colour in zip(positions, bars, colours, strict=True):
        if value is None or math.isnan(value):
            _bar_text(axes, 0.0, position, "n/a")
            continue
        axes.barh(position, value, height=thickness, color=colour)
        tip = value
        if low is not None and high is not None and not (math.isnan(low) or math.isnan(high)):
            axes.plot([low, high], [position, position], **SPREAD)
            tip = max(value, high)
        _bar_text(axes, tip, position, _short(value))


def _short(value: float) -> str:
    """About three digits, large numbers with a prefix: 0.512, 1.52, 54.0, 1.11M."""
    from matplotlib.ticker import EngFormatter

    if abs(value) >= 1000:
        return EngFormatter(places=2, sep="")(value)
    if 1e-9 < abs(value) < 0.01:
        return f"{value:.2g}"
    return f"{value:.{3 if abs(value) < 1 else 2 if abs(value) < 10 else 1}f}"


def _bar_text(axes: "Axes", x: float, y: float, text: str) -> None:
    look: Any = {"fontsize": 7, "color": TEXT_GREY, "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.5}}
    axes.annotate(text, (x, y), xytext=(4, 0), textcoords="offset points", va="center", **look)


def _finish_bars(axes: "Axes", names: Sequence[str], xlabel: str) -> None:
    from matplotlib.ticker import EngFormatter

    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.45, -0.55)  # the first name on top
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(xlabel)
    axes.grid(True, axis="x")
    axes.margins(x=0.22)
    if axes.dataLim.xmax >= 10_000:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
