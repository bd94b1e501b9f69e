"""Plots of anomalous sound detection: ROC with the partial area, histograms of scores, machines, proxy sets.

Numbers in, matplotlib Figure out; write one with `common.run.plots.save`. `draw` writes those of a scored test set.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.run.plots import COLOURS, TEXT_GREY, new_figure, save, style, title_and_legend
from task2_anomaly.data.classes import Machine
from task2_anomaly.evaluation.evaluate import MachineResult, SystemResult
from task2_anomaly.metrics import MAX_FPR, roc

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NORMAL, ANOMALY = COLOURS[0], COLOURS[1]
TYPES_PER_ROW = 3


def draw(
    folder: Path,
    result: SystemResult,
    limits: Mapping[Machine, float] | None = None,
    table: tuple[Sequence[str], Sequence[str], np.ndarray] | None = None,
    note: str | None = None,
) -> None:
    """Write roc.png, scores.png and, of a `table` (machines, metrics, their figures), machines.png."""
    save(roc_curves(result, note), folder / "roc.png")
    save(score_histograms(result, limits, note), folder / "scores.png")
    if table is not None:
        save(heat_map(*table, note=note), folder / "machines.png")


def roc_curves(result: SystemResult, note: str | None = None) -> "Figure":
    """A column per machine type, a curve per ID: the whole ROC, below it the part that the pAUC measures, shaded."""
    kinds = result.types()
    columns = min(TYPES_PER_ROW, len(kinds))
    rows = math.ceil(len(kinds) / columns)
    with style():
        figure = new_figure(3.1 * columns + 0.5, 5.0 * rows + 0.5, note)
        grid = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[3, 2] * rows)
        for index in range(rows * columns):
            whole, part = grid[2 * (index // columns) : 2 * (index // columns) + 2, index % columns]
            if index >= len(kinds):
                whole.remove()
                part.remove()
                continue
            for number, of in enumerate(r for r in result.of_type(kinds[index]) if r.auc is not None):
                _curve(whole, part, of, COLOURS[number % len(COLOURS)])
            _finish(whole, part, kinds[index])
        title_and_legend(figure, f"ROC of each machine; below: false positive rate up to {MAX_FPR:g}, area shaded")
    return figure


def _curve(whole: "Axes", part: "Axes", of: MachineResult, colour: str) -> None:
    fpr, tpr = roc(of.labels, of.scores)
    kind = "section" if of.machine.section else "id"
    whole.plot(fpr, tpr, color=colour, label=f"{kind} {of.machine.id:02d}: AUC {of.auc:.3f}, pAUC {of.pauc:.3f}")
    inside = fpr < MAX_FPR
    x = np.append(fpr[inside], MAX_FPR)
    y = np.append(tpr[inside], np.interp(MAX_FPR, fpr, tpr))
    part.plot(x, y, color=colour)
    part.fill_between(x, y, color=colour, alpha=0.12, linewidth=0)


def _finish(whole: "Axes", part: "Axes", kind: str) -> None:
    whole.set_title(kind, loc="left", weight="bold")
    whole.axvspan(0, MAX_FPR, color="#EEEEEE", zorder=0)
    for axes, end in ((whole, 1.0), (part, MAX_FPR)):
        axes.plot([0, end], [0, end], color=TEXT_GREY, linewidth=0.8, linestyle=(0, (2, 2)))
        axes.set_xlim(0, end)
        axes.set_ylim(0, 1.02)
        axes.grid(True)
        axes.set_ylabel("true positive rate")
    part.set_xlabel("false positive rate")
    if whole.get_legend_handles_labels()[0]:
        whole.legend(loc="lower right", fontsize=7.5, handlelength=1.2, frameon=True, edgecolor="none", framealpha=0.85)


def score_histograms(
    result: SystemResult, limits: Mapping[Machine, float] | None = None, note: str | None = None
) -> "Figure":
    """Densities of the scores of normal and anomalous clips: a row per machine type, a panel per ID.

    Where no type has several IDs, the types stand side by side. limits: decision thresholds, drawn as lines.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    rows = [result.of_type(kind) for kind in result.types()]
    if all(len(row) == 1 for row in rows):
        starts = range(0, len(rows), TYPES_PER_ROW)
        rows = [[of for row in rows[start : start + TYPES_PER_ROW] for of in row] for start in starts]
    columns = max(map(len, rows))
    with style():
        figure = new_figure(max(2.3 * columns, 4.6), 1.55 * len(rows) + 0.9, note)
        grid = figure.subplots(len(rows), columns, squeeze=False)
        for panels, row in zip(grid, rows, strict=True):
            for axes, of in zip(panels, row, strict=False):
                _histogram(axes, of, (limits or {}).get(of.machine))
            for axes in panels[len(row) :]:
                axes.remove()
        for axes in grid[-1]:
            axes.set_xlabel("score")
        handles: list = [
            Patch(color=NORMAL, alpha=0.55, label="normal"),
            Patch(color=ANOMALY, alpha=0.55, label="anomaly"),
        ]
        if limits:
            handles.append(Line2D([], [], color="black", linewidth=1, linestyle="--", label="decision threshold"))
        title_and_legend(figure, "scores of the test clips", handles)
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
        axes.axvline(limit, color="black", linewidth=1, linestyle="--")
    axes.set_title(f"{of.machine.type} {of.machine.id:02d}", loc="left")
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=5)


def heat_map(machines: Sequence[str], metrics: Sequence[str], values: np.ndarray, note: str | None = None) -> "Figure":
    """A row per machine, a column per metric, its value in each cell; lines part the machine types.

    values: (machines, metrics), NaN where not defined.
    """
    with style():
        figure = new_figure(1.9 + 0.95 * len(metrics), 1.2 + 0.235 * len(machines), note)
        axes = figure.subplots()
        axes.imshow(np.ma.masked_invalid(values), cmap="Blues", vmin=0.4, vmax=1.0, aspect="auto")
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
        title_and_legend(figure, "results of each machine")
    return figure


def proxy_bars(
    path: Path, values: Mapping[str, Sequence[float]], metric: str = "mean AUC", note: str | None = None
) -> None:
    """Write a picture of variations, e.g. proxy sets, {name: a value per seed}: mean, standard deviation, seeds."""
    with style():
        figure = new_figure(6.4, 1.1 + 0.36 * len(values), note)
        axes = figure.subplots()
        lowest = min(min(of) for of in values.values())
        for row, of in enumerate(values.values()):
            mean = float(np.mean(of))
            axes.barh(row, mean, height=0.7, color=COLOURS[5])
            if len(of) > 1:
                spread = float(np.std(of, ddof=1))
                ends = [mean - spread, mean + spread]
                axes.plot(ends, [row, row], color="black", linewidth=1.2, marker="|", markersize=7)
                axes.plot(of, [row] * len(of), linestyle="none", marker="o", markersize=3.5, color=COLOURS[0])
            axes.annotate(f"{mean:.3f}", (max(*of, mean), row), (8, 0), textcoords="offset points", va="center", size=8)
        axes.set_yticks(range(len(values)), [name.replace("_", " ") for name in values])
        axes.set_ylim(len(values) - 0.45, -0.55)
        axes.set_xlim(min(0.5, math.floor(10 * lowest) / 10), 1.0)
        axes.axvline(0.5, color=TEXT_GREY, linewidth=0.8, linestyle=(0, (2, 2)))
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(metric)
        axes.grid(True, axis="x")
        title_and_legend(figure, f"{path.stem} (bar: mean over seeds, line: standard deviation, points: seeds)")
    save(figure, path)
