"""Plots of scene classification: confusion matrix, accuracy per device, against training data, against complexity.

Numbers in, matplotlib Figure out; write one with `common.run.plots.save`. `draw` writes those of scored systems.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from common.run.plots import (
    CHANCE,
    LIMIT,
    OWN_COLOUR,
    PAGE,
    PUBLISHED_COLOUR,
    PUBLISHED_MARK,
    SPREAD,
    SPREAD_TEXT,
    TEXT_GREY,
    Bar,
    chance_line,
    handle,
    new_figure,
    save,
    spread_apart,
    style,
    title_and_legend,
    wrapped,
)
from task1_asc.config import SPLITS
from task1_asc.data.classes import DEVICE_GROUPS, DEVICES, MAX_BYTES, MAX_MACS, SCENES

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHANCE_ACCURACY = 100 / len(SCENES)
# The sets, in the order in which they are drawn; each has axes of its own.
SET_NAMES = {
    "development-test": "development test set 2024",
    "evaluation": "evaluation set 2024",
    "evaluation 2025": "evaluation set 2025",
    "evaluation 2023": "evaluation set 2023",
}


class Point(NamedTuple):
    """A system in the picture of accuracy (%) against complexity; None: not known."""

    system: str
    parameters: int | None
    macs: int | None
    accuracy: float | None
    set: str
    own: bool


def draw(
    folder: Path,
    results: Mapping[str, Mapping[str, Any]],
    note: str | None = None,
    published: Mapping[str, Sequence[float | None]] | None = None,
    system: str = "",
) -> None:
    """Write confusion_<name>.png for each result of `evaluate_outputs`, and devices.png for all of them.

    published: accuracy of the published baseline on each of DEVICES by the same names. system: for the titles.
    """
    for name, of in results.items():
        title = f"confusion of scenes: test clips, macro accuracy {100 * of['macro_accuracy']:.1f} %\n"
        title += ", ".join(filter(None, (system, _panel_title(name))))
        save(confusion_matrix(np.array(of["confusion"]), title, note), folder / f"confusion_{name}.png")
    own = {name: [_device_bar(of, device) for device in DEVICES] for name, of in results.items()}
    if any(bar[0] is not None for bars in own.values() for bar in bars):
        title = "accuracy on the recordings of each device" + (f"\n{system}" if system else "")
        save(device_accuracy(own, published, title, note), folder / "devices.png")


def _device_bar(result: Mapping[str, Any], device: str) -> Bar:
    ends = result["intervals"]["devices"][device]["accuracy"] or (None, None)
    return result["devices"][device]["accuracy"], *ends


def confusion_matrix(counts: np.ndarray, title: str = "", note: str | None = None) -> "Figure":
    """Row-normalised: of the clips of each scene, the share (%) taken for each scene.

    counts: (scenes, scenes) clips, rows are the true scene. A scene without clips has an empty row.
    """
    total = counts.sum(axis=1, keepdims=True)
    shares = 100 * counts / np.maximum(total, 1)
    names = [scene.replace("_", " ") for scene in SCENES]
    with style():
        figure = new_figure(6.4, 5.6, note)
        axes = figure.subplots()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        for (row, column), share in np.ndenumerate(shares):
            if total[row, 0] and (share >= 0.5 or row == column):
                colour = "white" if share > 60 else "black"
                weight = "bold" if row == column else "normal"
                axes.text(column, row, f"{share:.0f}", ha="center", va="center", color=colour, weight=weight, size=8)
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
        axes.set_xticks(np.arange(0.5, len(names) - 1), minor=True)
        axes.set_yticks(np.arange(0.5, len(names) - 1), minor=True)
        axes.grid(True, which="minor", color="white", linewidth=1)
        axes.tick_params(which="both", length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("taken for")
        axes.set_ylabel("true scene")
        bar = figure.colorbar(image, ax=axes, fraction=0.045, pad=0.02, ticks=range(0, 101, 25))
        bar.set_label("share of the scene's clips (%)")
        bar.outline.set_visible(False)
        title_and_legend(figure, title)
    return figure


def device_accuracy(
    own: Mapping[str, Sequence[Bar]],
    published: Mapping[str, Sequence[float | None]] | None = None,
    title: str = "",
    note: str | None = None,
) -> "Figure":
    """Accuracy on every device, a panel per system (training split): own bars beside the published baseline's.

    own: {name: a (value, low, high) for each of DEVICES}, shares; published: {name: values}, shares. Lines part the
    groups: real devices, simulated ones seen in training, simulated ones only in the test set.
    """
    from matplotlib.patches import Patch

    thickness = 0.4 if published else 0.7
    intervals = any(ends is not None for bars in own.values() for _, *ends in bars if ends[0] is not None)
    with style():
        figure = new_figure(max(1.1 + (PAGE - 1.1) / 5 * len(own), 4.2), 4.4, note)
        grid = figure.subplots(1, len(own), sharey=True, sharex=True, squeeze=False)[0]
        for axes, (name, bars) in zip(grid, own.items(), strict=True):
            for position, bar in enumerate(bars):
                _horizontal_bar(axes, position - (thickness / 2 if published else 0), bar, OWN_COLOUR, thickness)
            for position, value in enumerate((published or {}).get(name, ())):
                _horizontal_bar(axes, position + thickness / 2, (value, None, None), PUBLISHED_COLOUR, thickness)
            _finish_devices(axes, "\n".join(wrapped([_panel_title(name)], 18)))
        grid[0].set_yticks(range(len(DEVICES)), DEVICES)
        _name_groups(grid[-1])
        handles: list[Artist] = [Patch(color=OWN_COLOUR, label="own")]
        handles += [Patch(color=PUBLISHED_COLOUR, label="published baseline")] if published else []
        handles += [handle("95 % interval", **SPREAD)] if intervals else []
        title_and_legend(figure, title, [*handles, handle("chance", **CHANCE)])
    return figure


def _panel_title(name: str) -> str:
    split = name.removeprefix("split")
    return f"trained on {split} %" if split.isdecimal() else name


def _horizontal_bar(axes: "Axes", position: float, bar: Bar, colour: str, thickness: float) -> None:
    value, low, high = bar
    if value is None:
        axes.annotate(
            "n/a", (0, position), xytext=(3, 0), textcoords="offset points", va="center", size=7, color=TEXT_GREY
        )
        return
    axes.barh(position, 100 * value, height=thickness * 0.94, color=colour)
    if low is not None and high is not None:
        axes.plot([100 * low, 100 * high], [position, position], **SPREAD)


def _finish_devices(axes: "Axes", title: str) -> None:
    axes.set_title(title, loc="left")
    axes.set_ylim(len(DEVICES) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xticks(range(0, 101, 50))
    axes.set_xlabel("accuracy (%)")
    axes.grid(True, axis="x")
    axes.tick_params(axis="y", length=0)
    chance_line(axes, CHANCE_ACCURACY)
    for border in np.cumsum([len(of) for of in DEVICE_GROUPS.values()])[:-1]:
        axes.axhline(border - 0.5, color=TEXT_GREY, linewidth=0.6, linestyle=(0, (1, 2)))


def _name_groups(axes: "Axes") -> None:
    """The groups' names at the right edge."""
    start = 0
    for name, of in DEVICE_GROUPS.items():
        place = (1.03, start + (len(of) - 1) / 2)
        axes.annotate(
            name, place, xycoords=("axes fraction", "data"), rotation=90, ha="left", va="center", color=TEXT_GREY
        )
        start += len(of)


def against_training_data(
    own: Mapping[str, Mapping[int, Bar]],
    published: Mapping[str, Mapping[int, Bar]],
    title: str = "macro accuracy against the share of the training data\ndevelopment test set 2024",
    note: str | None = None,
) -> "Figure":
    """Macro accuracy (%) over the share of the training data, a line per system: {system: {split: value, low, high}}.

    The share is drawn on a logarithmic axis; each line has its system's name at its end.
    """
    spread = any(low is not None for points in own.values() for _, low, _ in points.values())
    with style():
        figure = new_figure(PAGE, 4.6, note)
        axes = figure.subplots()
        ends: dict[str, tuple[float, float, str]] = {}
        for systems, colour, weight in ((published, PUBLISHED_MARK, 1.2), (own, OWN_COLOUR, 2.2)):
            for index, (system, points) in enumerate(systems.items()):
                drawn = sorted((split, bar) for split, bar in points.items() if bar[0] is not None)
                x, y = [split for split, _ in drawn], [bar[0] or 0.0 for _, bar in drawn]
                style_of = _line_style(index) if systems is published else "-"
                axes.plot(x, y, color=colour, linewidth=weight, linestyle=style_of, marker="o", markersize=2.5 + weight)
                for split, (_, low, high) in drawn:
                    if low is not None and high is not None:
                        axes.plot([split, split], [low, high], color=colour, linewidth=1, marker="_", markersize=5)
                ends[system] = (x[-1], y[-1], colour)
        axes.set_xscale("log")
        axes.set_xticks(SPLITS, [f"{split} %" for split in SPLITS])
        axes.minorticks_off()
        axes.set_xlim(4.4, 112)
        axes.set_xlabel("share of the training data")
        axes.set_ylabel("macro accuracy (%)")
        axes.set_ylim(bottom=0)
        axes.grid(True)
        _accuracy_axis(axes)
        handles: list[Artist] = [chance_line(axes, CHANCE_ACCURACY, "y")]
        _label_ends(axes, ends)
        lines = {"own": (own, OWN_COLOUR, 2.2), "published": (published, PUBLISHED_MARK, 1.2)}
        known = [handle(name, color=colour, linewidth=w, marker="o") for name, (of, colour, w) in lines.items() if of]
        known += [handle(SPREAD_TEXT, color=OWN_COLOUR, marker="_", linewidth=1)] if spread else []
        title_and_legend(figure, title, [*known, *handles])
    return figure


def _line_style(index: int) -> Any:
    return ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (8, 3)))[index % 5]


def _label_ends(axes: "Axes", ends: Mapping[str, tuple[float, float, str]]) -> None:
    """Names to the right of the axes at the heights of the lines' ends, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    gap = (high - low) * 0.052
    names = sorted(ends, key=lambda name: ends[name][1])
    places = spread_apart([ends[name][1] for name in names], gap)
    for name, place in zip(names, places, strict=True):
        x, y, colour = ends[name]
        weight = "bold" if colour == OWN_COLOUR else "normal"
        text_colour = colour if colour == OWN_COLOUR else "#444444"
        axes.annotate(
            name, (x, y), xytext=(1.03, place), textcoords=("axes fraction", "data"), va="center", size=8,
            color=text_colour, weight=weight, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": "#BBBBBB", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4},
        )  # fmt: skip


def against_complexity(
    points: Sequence[Point], title: str = "macro accuracy against complexity", note: str | None = None
) -> "Figure":
    """Macro accuracy (%) over parameters and over MACs, with the challenge's limits; own systems in colour.

    A row of two panels for each set: figures of different sets must not be compared. The names stand between the
    panels, with a line to each system's mark in both. The memory limit of 128,000 bytes is a number of parameters for
    each precision: both are drawn.
    """
    shown = sorted((p for p in points if p.accuracy is not None), key=lambda p: p.accuracy or 0.0)
    present = {point.set for point in shown}
    sets = [*(name for name in SET_NAMES if name in present), *sorted(present - SET_NAMES.keys())]
    rows = [[point for point in shown if point.set == name] for name in sets]
    heights = [0.7 + 0.19 * max(len(of), 4) for of in rows]
    with style():
        figure = new_figure(PAGE, sum(heights) + 1.2, note)
        grid = figure.subplots(len(rows), 2, squeeze=False, sharex="col", sharey="row", height_ratios=heights)
        for (left, right), name, of in zip(grid, sets, rows, strict=True):
            _complexity_row(left, right, of)
            left.set_title(SET_NAMES.get(name, name), loc="left", weight="bold")
        below = (
            (grid[-1, 0], "parameters (thousands)", [MAX_BYTES / 1e3, *((p.parameters or 0) / 1e3 for p in shown)]),
            (grid[-1, 1], "MACs per clip (millions)", [MAX_MACS / 1e6, *((p.macs or 0) / 1e6 for p in shown)]),
        )
        for axes, xlabel, counts in below:
            axes.set_xlim(0, 1.12 * max(counts))
            axes.set_xlabel(xlabel)
        marks: Any = {"linestyle": "none", "marker": "o"}
        kinds = {True: ("own", OWN_COLOUR, 8), False: ("published", PUBLISHED_MARK, 5.5)}
        known = [kinds[own] for own in (True, False) if any(p.own == own for p in shown)]
        handles = [handle(name, color=colour, markersize=size, **marks) for name, colour, size in known]
        handles += [handle("limit of the challenge (of parameters: with 16 and 8 bit)", **LIMIT)]
        if any(point.own for point in shown):
            handles.append(handle("chance", **CHANCE))
        title_and_legend(figure, title, handles)
    return figure


def _complexity_row(left: "Axes", right: "Axes", points: Sequence[Point]) -> None:
    """The two panels of one set."""
    for point in points:
        colour, size, order = (OWN_COLOUR, 9, 4) if point.own else (PUBLISHED_MARK, 5.5, 3)
        for axes, count, unit in ((left, point.parameters, 1e3), (right, point.macs, 1e6)):
            if count is not None and point.accuracy is not None:
                axes.plot(count / unit, point.accuracy, "o", color=colour, markersize=size, zorder=order)
    for axes in (left, right):
        axes.grid(True)
        axes.margins(y=0.15)
    for bytes_each, name in ((2, "16 bit"), (1, "8 bit")):
        _limit(left, MAX_BYTES / bytes_each / 1e3, name)
    _limit(right, MAX_MACS / 1e6, "")
    left.set_ylabel("macro\naccuracy (%)")
    if any(point.own for point in points):
        left.set_ylim(bottom=0)
        for axes in (left, right):
            chance_line(axes, CHANCE_ACCURACY, "y")
    _accuracy_axis(left)
    right.tick_params(labelleft=False)
    _name_points(left, right, points)


def _name_points(left: "Axes", right: "Axes", points: Sequence[Point]) -> None:
    """Names, ascending with the accuracy, between the panels, each with a line to its marks on both sides."""
    low, high = left.get_ylim()
    gap = (high - low) / max(len(points) + 1, 5)
    heights = spread_apart([point.accuracy or 0.0 for point in points], gap, low + gap / 2, high - gap / 2)
    leader: Any = {"arrowstyle": "-", "color": "#C4C4C4", "linewidth": 0.7, "shrinkA": 2, "shrinkB": 3}
    leader |= {"relpos": (0.0, 0.5)}
    for point, height in zip(points, heights, strict=True):
        text: Any = {"textcoords": ("axes fraction", "data"), "va": "center", "annotation_clip": False, "zorder": 2}
        text |= {
            "size": 8,
            "color": OWN_COLOUR if point.own else "#444444",
            "weight": "bold" if point.own else "normal",
        }
        y = point.accuracy or 0.0
        if point.parameters:
            left.annotate(point.system, (point.parameters / 1e3, y), (1.03, height), arrowprops=leader, **text)
        else:
            left.annotate(point.system, (1.03, height), (1.03, height), xycoords=("axes fraction", "data"), **text)
        if point.macs:
            right.annotate("", (point.macs / 1e6, y), (-0.02, height), arrowprops=leader, **text)


def _accuracy_axis(axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def _limit(axes: "Axes", x: float, name: str) -> None:
    axes.axvline(x, zorder=1, **LIMIT)
    if name:
        axes.annotate(
            name, (x, 0), xycoords=("data", "axes fraction"), xytext=(3, 3), textcoords="offset points", rotation=90,
            ha="left", va="bottom", size=7.5, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip
