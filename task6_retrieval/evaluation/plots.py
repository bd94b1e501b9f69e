"""Plots of a run: recall and ranks, the queries that went best and worst, training.

Numbers in, matplotlib Figure out; `draw_run` writes them all.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from common.run.plots import (
    COLOURS,
    TEXT_GREY,
    chance_line,
    handle,
    new_figure,
    read_metrics,
    save,
    style,
    title_and_legend,
    training_curves,
    wrapped,
)
from common.run.results.intervals import bootstrap_interval
from common.run.verbs import Run
from task6_retrieval.evaluation.report import Answers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 40  # of the recall curve
BINS = 24  # of the histogram of ranks
MOST_QUERIES = 8  # best, and as many worst
DRAWS = 300
MONITOR = "val/map@10"


def draw_run(run: Run, answers: Answers, note: str | None) -> None:
    """Write <run>/plots: recall.png, queries.png, and training.png where the run was trained here."""
    folder = run.folder / "plots"
    save(
        recall_and_ranks(answers, f"recall and ranks: {run.config.data.test}\n{run.title}", note), folder / "recall.png"
    )
    save(best_and_worst(answers, f"queries that went best and worst\n{run.title}", note), folder / "queries.png")
    metrics = run.folder / "metrics.csv"
    if metrics.is_file():
        curves = read_metrics(metrics)
        monitor = MONITOR if MONITOR in curves else None
        title = f"losses and validation metrics\n{run.title}"
        save(training_curves(curves, monitor=monitor, title=title, note=note), folder / "training.png")


def recall_and_ranks(answers: Answers, title: str, note: str | None) -> "Figure":
    """R@k over k with its 95 % interval over clips, beside chance; and how many queries have which rank."""
    clips = len(answers.scores.clips)
    with style():
        figure = new_figure(8.0, 3.4, note)
        left, right = figure.subplots(1, 2)
        _recall(left, answers, clips)
        edges = np.unique(np.round(np.geomspace(1, clips + 1, min(BINS, clips) + 1)))
        right.hist(answers.best, bins=edges.tolist(), color=COLOURS[0])
        median = float(np.median(answers.best))
        right.axvline(median, color="black", linestyle=":", linewidth=1)
        chance_line(right, (clips + 1) / 2)
        right.set_ylabel("queries")
        for axes, label in ((left, "k"), (right, "rank of the clip that is meant")):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.set_xlim(1, max(clips, 2))
            axes.set_xlabel(label)
            axes.grid(True)
        marks = [
            handle("recall, 95 % interval", color=COLOURS[0]),
            handle(f"median rank: {median:g}", color="black", linestyle=":", linewidth=1),
            chance_line(right, (clips + 1) / 2),
        ]
        title_and_legend(figure, title, marks)
    return figure


def _recall(axes: "Axes", answers: Answers, clips: int) -> None:
    at = np.unique(np.round(np.geomspace(1, clips, min(POINTS, clips))).astype(int))
    found = np.stack([((answers.ranks > 0) & (answers.ranks <= k)).sum(axis=1) / answers.counts for k in at])
    low, high = bootstrap_interval(
        lambda w: found @ w / w.sum(), found.shape[1], DRAWS, groups=answers.groups, share=True
    )
    axes.plot(at, 100 * found.mean(axis=1), color=COLOURS[0])
    axes.fill_between(at, 100 * low, 100 * high, color=COLOURS[0], alpha=0.2, linewidth=0)
    axes.plot(at, 100 * at / clips, color=TEXT_GREY, linestyle="--", linewidth=1)
    axes.set_ylim(0, 100)
    axes.set_ylabel("R@k (%)")


def best_and_worst(answers: Answers, title: str, note: str | None) -> "Figure":
    """The ranks of the queries that went best, by the lead over the next clip, and worst; what came first instead."""
    worst, best = worst_queries(answers)
    shown = [*best, *worst]
    names = wrapped([answers.truth.queries[i] for i in shown], 60)
    lines = sum(name.count("\n") + 1 for name in names)
    with style():
        figure = new_figure(8.0, 1.4 + 0.1 * len(shown) + 0.15 * lines, note)
        axes = figure.subplots()
        ranks = answers.best[shown]
        axes.barh(range(len(shown)), ranks, color=[COLOURS[0]] * len(best) + [COLOURS[1]] * len(worst))
        for row, i in enumerate(shown):
            first = "" if answers.best[i] == 1 else f"  first: {answers.first[i]}"
            axes.annotate(
                f" {answers.best[i]}{first}", (answers.best[i], row), va="center", fontsize=7, color=TEXT_GREY
            )
        axes.set_yticks(range(len(shown)), names)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlim(0, 1.6 * len(answers.scores.clips))
        axes.set_xlabel(f"rank of the clip that is meant, of {len(answers.scores.clips)}")
        axes.grid(True, axis="x")
        title_and_legend(figure, title)
    return figure


def worst_queries(answers: Answers) -> tuple[Sequence[int], Sequence[int]]:
    """Numbers of the queries with the last ranks; and of those that lead by most over the second clip."""
    count = min(MOST_QUERIES, len(answers.best) // 2)
    top = np.sort(answers.scores.matrix, axis=1)[:, -2:]
    order = np.lexsort((-(top[:, -1] - top[:, 0]), answers.best))
    return order[::-1][:count].tolist(), order[:count].tolist()
