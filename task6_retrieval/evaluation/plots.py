"""Plots of a run: recall and ranks, the queries that went best and worst, training.

Numbers in, matplotlib Figure out; `draw_run` writes them all.
"""

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from common.run.plots import (
    CHANCE,
    COLOURS,
    TEXT_GREY,
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
from task6_retrieval.evaluation.evaluate import OwnAnswers
from task6_retrieval.metrics import recall

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 40  # of the recall curve
RANKS_UP_TO = (1, 5, 10, 20, 50, 100, 500)  # ends of the bars of ranks
MOST_QUERIES = 8  # best, and as many worst
DRAWS = 300
MONITOR = "val/map@10"


def draw_run(run: Run, answers: OwnAnswers, note: str | None) -> None:
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


def recall_and_ranks(answers: OwnAnswers, title: str, note: str | None) -> "Figure":
    """R@k over k with its 95 % interval over clips; and the share of queries by rank; both beside chance."""
    clips = answers.clips
    with style():
        figure = new_figure(8.0, 3.4, note)
        left, right = figure.subplots(1, 2)
        _recall(left, answers, clips)
        _ranks(right, answers, clips)
        marks = [handle("own, 95 % interval (none at 100 %)", color=COLOURS[0]), handle("chance", **CHANCE)]
        title_and_legend(figure, title, marks)
    return figure


def _recall(axes: "Axes", answers: OwnAnswers, clips: int) -> None:
    at = np.unique(np.round(np.geomspace(1, clips, min(POINTS, clips))).astype(int))
    found = np.stack([recall(answers.ranks, k, answers.counts) for k in at])
    low, high = bootstrap_interval(
        lambda w: found @ w / w.sum(), found.shape[1], DRAWS, groups=answers.groups, share=True
    )
    axes.plot(at, 100 * found.mean(axis=1), color=COLOURS[0])
    axes.fill_between(at, 100 * low, 100 * high, color=COLOURS[0], alpha=0.2, linewidth=0)
    axes.plot(at, 100 * at / clips, **CHANCE)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlim(1, max(clips, 2))
    axes.set_ylim(0, 100)
    axes.set_xlabel("k")
    axes.set_ylabel("R@k (%)")
    axes.grid(True)


def _ranks(axes: "Axes", answers: OwnAnswers, clips: int) -> None:
    ends = [0, *(end for end in RANKS_UP_TO if end < clips), clips]
    shares = 100 * np.histogram(answers.best, bins=np.array(ends) + 0.5)[0] / len(answers.best)
    axes.bar(range(len(shares)), shares, color=COLOURS[0])
    for place, (before, end) in enumerate(pairwise(ends)):
        guessed = 100 * (end - before) / clips
        axes.plot([place - 0.45, place + 0.45], [guessed, guessed], **CHANCE)
    names = [str(end) if end == before + 1 else f"{before + 1}–{end}" for before, end in pairwise(ends)]
    axes.set_xticks(range(len(shares)), names)
    axes.set_xlabel(f"rank of the clip that is meant (median {np.median(answers.best):g})")
    axes.set_ylabel("queries (%)")
    axes.grid(True, axis="y")


def best_and_worst(answers: OwnAnswers, title: str, note: str | None) -> "Figure":
    """Ranks of the clips' best queries that lead by most over the next clip, and of those that went worst."""
    best, worst = best_and_worst_queries(answers)
    shown, clips = [*best, *worst], answers.clips
    names = wrapped([answers.truth.queries[i] for i in shown], 60)
    lines = sum(name.count("\n") + 1 for name in names)
    with style():
        figure = new_figure(8.0, 1.4 + 0.1 * len(shown) + 0.13 * lines, note)
        axes = figure.subplots()
        colours = [COLOURS[0]] * len(best) + [COLOURS[1]] * len(worst)
        axes.barh(range(len(shown)), answers.best[shown], color=colours)
        for row, i in enumerate(shown):
            rank, first = answers.best[i], answers.first[i]
            text = f" {rank}" if rank == 1 else f" {rank}, first: {first}"
            axes.annotate(text, (rank, row), va="center", fontsize=7, color=TEXT_GREY)
        axes.set_yticks(range(len(shown)), names)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlim(0, 1.5 * clips)
        axes.set_xlabel(f"rank of the clip that is meant, of {clips}")
        axes.grid(True, axis="x")
        title_and_legend(figure, title)
    return figure


def best_and_worst_queries(answers: OwnAnswers) -> tuple[list[int], list[int]]:
    """Numbers of queries, of each clip one at most: first ranks by their lead over the second clip; last ranks."""
    top = np.sort(answers.scores.matrix, axis=1)[:, -2:]
    order = np.lexsort((top[:, 0] - top[:, -1], answers.best))
    found = []
    for queries in (order, order[::-1]):
        of_clip = dict[int, int]()
        for i in queries.tolist():
            of_clip.setdefault(int(answers.groups[i]), i)
        found.append(list(of_clip.values())[: min(MOST_QUERIES, len(of_clip) // 2)])
    return found[0], found[1]
