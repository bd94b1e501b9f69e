"""Plots of anomalous sound detection: ROC with the partial area, histograms of scores, machines, proxy sets.

Numbers in, matplotlib Figure out; write one with `common.run.plots.save`. `draw` writes those of a scored test set.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.run.plots import (
    CHANCE,
    COLOURS,
    LIMIT,
    OWN_COLOUR,
    PAGE,
    SPREAD,
    TRUTH_COLOUR,
    balanced,
    chance_line,
    handle,
    new_figure,
    save,
    style,
    title_and_legend,
    wrapped,
)
from common.run.results.comparison import MIN_RUNS
from task2_anomaly.data.classes import Machine
from task2_anomaly.evaluation.evaluate import MachineResult, SystemResult
from task2_anomaly.metrics import MAX_FPR, roc

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NORMAL, ANOMALY = COLOURS[2], TRUTH_COLOUR
CHANCE_AREA = 0.5  # of AUC and standardised pAUC
TYPES_PER_ROW = 3
PAUC_GREY = "#EEEEEE"


def draw(
    folder: Path,
    result: SystemResult,
    limits: Mapping[Machine, float] | None = None,
    table: tuple[Sequence[str], Sequence[str], np.ndarray] | None = None,
    note: str | None = None,
    about: str = "",
) -> None:
    """Write roc.png, scores.png and, of a `table` (machines, metrics, their figures), machines.png.

    about: set, recipe and run, for the titles.
    """
    save(roc_curves(result, note, about), folder / "roc.png")
    save(score_histograms(result, limits, note, about), folder / "scores.png")
    if table is not None:
        save(heat_map(*table, note=note, about=about), folder / "machines.png")


def _title(what: str, about: str) -> str:
    return "\n".join(filter(None, (what, about)))


def roc_curves(result: SystemResult, note: str | None = None, about: str = "") -> "Figure":
    """A column per machine type, a curve per ID: the whole ROC, below it the part that the pAUC measures, shaded."""
    from matplotlib.patches import Patch

    kinds = result.types()
    columns = balanced(len(kinds), TYPES_PER_ROW)
    rows = math.ceil(len(kinds) / columns)
    with style():
        lines = max(len(result.of_type(kind)) for kind in kinds)
        figure = new_figure(max(PAGE / 3 * columns, 4.6), (4.4 + 0.17 * lines) * rows + 0.9, note)
        grid = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[3, 2] * rows)
        for index in range(rows * columns):
            whole, part = grid[2 * (index // columns) : 2 * (index // columns) + 2, index % columns]
            if index >= len(kinds):
                whole.remove()
                part.remove()
                continue
            for number, of in enumerate(r for r in result.of_type(kinds[index]) if r.auc is not None):
                _curve(whole, part, of, number)
            _finish(whole, part, kinds[index], leftmost=index % columns == 0)
        grey = Patch(color=PAUC_GREY, label=f"false positive rates up to {MAX_FPR:g}, enlarged below: the pAUC's part")
        title_and_legend(figure, _title("ROC of each machine", about), [handle("chance", **CHANCE), grey])
    return figure


def _curve(whole: "Axes", part: "Axes", of: MachineResult, number: int) -> None:
    colour = COLOURS[number % len(COLOURS)]
    line = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))[number % 4]  # equal curves hide each other
    fpr, tpr = roc(of.labels, of.scores)
    kind = "section" if of.machine.section else "id"
    whole.plot(
        fpr,
        tpr,
        color=colour,
        linestyle=line,
        label=f"{kind} {of.machine.id:02d}: AUC {of.auc:.3f}, pAUC {of.pauc:.3f}",
    )
    inside = fpr < MAX_FPR
    x = np.append(fpr[inside], MAX_FPR)
    y = np.append(tpr[inside], np.interp(MAX_FPR, fpr, tpr))
    part.plot(x, y, color=colour, linestyle=line)
    part.fill_between(x, y, color=colour, alpha=0.12, linewidth=0)


def _finish(whole: "Axes", part: "Axes", kind: str, leftmost: bool) -> None:
    whole.set_title(kind, loc="left", weight="bold")
    whole.axvspan(0, MAX_FPR, color=PAUC_GREY, zorder=0)
    for axes, end in ((whole, 1.0), (part, MAX_FPR)):
        axes.plot([0, end], [0, end], **CHANCE)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlim(0, end)
        axes.set_ylim(0, 1.02)
        axes.grid(True)
        axes.set_ylabel("true positive rate" if leftmost else "")
        axes.set_xlabel("false positive rate")
    if whole.get_legend_handles_labels()[0]:  # below the panel: curves may lie anywhere in it
        below: Any = {"loc": "upper left", "bbox_to_anchor": (0, -0.22), "borderaxespad": 0, "borderpad": 0}
        whole.legend(fontsize=7.5, handlelength=2, **below)


def score_histograms(
    result: SystemResult, limits: Mapping[Machine, float] | None = None, note: str | None = None, about: str = ""
) -> "Figure":
    """Shares of the normal and of the anomalous clips by score: a row per machine type, a panel per ID.

    Where no type has several IDs, the types stand side by side. limits: decision thresholds, drawn as lines.
    """
    from matplotlib.patches import Patch

    rows = [result.of_type(kind) for kind in result.types()]
    if all(len(row) == 1 for row in rows):
        width = balanced(len(rows), TYPES_PER_ROW)
        rows = [[of for row in rows[start : start + width] for of in row] for start in range(0, len(rows), width)]
    columns = max(map(len, rows))
    with style():
        figure = new_figure(min(max(2.3 * columns, 4.6), PAGE), 1.45 * len(rows) + 0.9, note)
        grid = figure.subplots(len(rows), columns, squeeze=False)
        for panels, row in zip(grid, rows, strict=True):
            for axes, of in zip(panels, row, strict=False):
                _histogram(axes, of, (limits or {}).get(of.machine))
            for axes in panels[len(row) :]:
                axes.remove()
        for axes in grid[-1]:
            axes.set_xlabel("score (high: anomalous)")
        for axes in grid[:, 0]:
            axes.set_ylabel("share of clips")
        handles: list[Artist] = [
            Patch(color=NORMAL, alpha=0.55, label="normal"),
            Patch(color=ANOMALY, alpha=0.55, label="anomaly"),
        ]
        if limits:
            handles.append(handle("decision threshold", **LIMIT))
        title_and_legend(figure, _title("scores of normal and of anomalous test clips", about), handles)
    return figure


def _histogram(axes: "Axes", of: MachineResult, limit: float | None) -> None:
    ends = [*of.scores, *([] if limit is None else [limit])]
    low, high = min(ends), max(ends)
    bins = list(np.linspace(low, high, 31) if high > low else np.linspace(low - 0.5, high + 0.5, 31))
    for label, colour in ((0, NORMAL), (1, ANOMALY)):
        scores = of.scores[of.labels == label]
        if len(scores):
            shares = np.full(len(scores), 1 / len(scores))
            axes.hist(scores, bins, weights=shares, color=colour, alpha=0.55, histtype="stepfilled", edgecolor=colour)
    if limit is not None:
        axes.axvline(limit, **LIMIT)
    axes.set_title(f"{of.machine.type} {of.machine.id:02d}", loc="left")
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=3)
    axes.xaxis.set_major_formatter(lambda score, _: f"{score:.3g}")


def heat_map(
    machines: Sequence[str], metrics: Sequence[str], values: np.ndarray, note: str | None = None, about: str = ""
) -> "Figure":
    """A row per machine, a column per metric, its value in each cell, shaded above chance; lines part the types.

    values: (machines, metrics), NaN where not defined.
    """
    with style():
        figure = new_figure(max(2.9 + 0.95 * len(metrics), 4.8), 1.6 + 0.235 * max(len(machines), 5), note)
        axes = figure.subplots()
        image = axes.imshow(np.ma.masked_invalid(values), cmap="Blues", vmin=CHANCE_AREA, vmax=1.0, aspect="auto")
        bar = figure.colorbar(image, ax=axes, fraction=0.06, pad=0.02, ticks=[CHANCE_AREA, 0.75, 1])
        bar.ax.set_yticklabels(["chance\nor less", "0.75", "1"])
        bar.outline.set_visible(False)
        for (row, column), value in np.ndenumerate(values):
            text = "n/a" if np.isnan(value) else f"{value:.3f}"
            axes.text(column, row, text, ha="center", va="center", size=8, color="white" if value > 0.78 else "black")
        kinds = [machine.partition("_")[0] for machine in machines]
        for row in range(1, len(machines)):
            changes = kinds[row] != kinds[row - 1]
            axes.axhline(row - 0.5, color="black" if changes else "white", linewidth=0.9)
        axes.set_xticks(range(len(metrics)), metrics)
        axes.set_yticks(range(len(machines)), [re.sub("_id_|_section_", " ", machine) for machine in machines])
        axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
        axes.spines[:].set_visible(False)
        title_and_legend(figure, _title(f"{', '.join(metrics)} of each machine", about))
    return figure


def proxy_bars(
    path: Path,
    values: Mapping[str, Sequence[float]],
    metric: str = "mean AUC",
    note: str | None = None,
    about: str = "",
) -> None:
    """Write a picture of variations, e.g. proxy sets, {name: a value per seed}: mean, seeds, standard deviation.

    The deviation only of MIN_RUNS seeds or more.
    """
    save(variation_bars(values, metric, _title(f"{metric} of each variation: {path.stem}", about), note), path)


def variation_bars(
    values: Mapping[str, Sequence[float]], metric: str = "mean AUC", title: str = "", note: str | None = None
) -> "Figure":
    """The picture of `proxy_bars`."""
    from matplotlib.patches import Patch

    seeds: Any = {"linestyle": "none", "marker": "o", "markersize": 3.5, "color": "black"}
    with style():
        figure = new_figure(6.4, 1.4 + 0.3 * len(values), note)
        axes = figure.subplots()
        for row, of in enumerate(values.values()):
            mean, ends = float(np.mean(of)), [*of]
            axes.barh(row, mean, height=0.7, color=OWN_COLOUR, alpha=0.75)
            if len(of) >= MIN_RUNS:
                spread = float(np.std(of, ddof=1))
                ends += [mean - spread, mean + spread]
                axes.plot(ends[-2:], [row, row], **SPREAD)
            if len(of) > 1:
                axes.plot(of, [row] * len(of), **seeds)
            axes.annotate(f"{mean:.3f}", (max(ends), row), (8, 0), textcoords="offset points", va="center", size=8)
        axes.set_yticks(range(len(values)), wrapped(name.replace("_", " ") for name in values))
        axes.set_ylim(len(values) - 0.45, -0.55)
        axes.set_xlim(0, 1)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(metric)
        axes.grid(True, axis="x")
        most = max(map(len, values.values()))
        handles: list[Artist] = [
            Patch(color=OWN_COLOUR, alpha=0.75, label="mean over seeds" if most > 1 else "one seed")
        ]
        handles += [handle("a seed", **seeds)] if most > 1 else []
        handles += [handle("standard deviation", **SPREAD)] if most >= MIN_RUNS else []
        title_and_legend(figure, title, [*handles, chance_line(axes, CHANCE_AREA)])
    return figure
