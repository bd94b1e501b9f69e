"""Plots: MRR of systems by concept, how often the right recording is among the first, embeddings in a plane.

Numbers in, matplotlib Figure out; write one with `common.run.plots.save`. `draw_run` writes those of a run.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from common.run.plots import COLOURS, TEXT_GREY, class_bars, new_figure, save, style, title_and_legend
from common.run.verbs import Run
from qbv.config import parts_of
from qbv.inference.scores import EMBEDDINGS, TRUTH, Truth, read_truth

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CONCEPTS = 60  # in a picture


def draw_run(run: Run, results: Mapping[str, Any], note: str | None) -> None:
    """Write found.png, concepts.png, and embeddings.png of the first part where vectors are stored."""
    folder, systems = run.folder / "plots", results["systems"]
    curves = {name: of["found by rank"] for name, of in systems.items()}
    save(found_curves(curves, f"right recording found, {run.title}", note), folder / "found.png")
    by_concept = {
        f"{concept}": value
        for of in systems[results["system"]]["mrr by fold and concept"].values()
        for concept, value in of.items()
    }
    shown = dict(sorted(by_concept.items(), key=lambda pair: -pair[1])[:MOST_CONCEPTS])
    bars = {"MRR": [(value, None, None) for value in shown.values()]}
    save(class_bars(list(shown), bars, "MRR", f"MRR by concept, {run.title}", note), folder / "concepts.png")
    part = next(iter(parts_of(run).values()))
    if (part.folder / EMBEDDINGS).is_file():
        truth = read_truth(part.folder / TRUTH)
        with np.load(part.folder / EMBEDDINGS) as stored:
            figure = plane(
                stored["query"], stored["item"], stored["queries"].tolist(), stored["items"].tolist(), truth, note
            )
        save(figure, folder / "embeddings.png")


def found_curves(curves: Mapping[str, Sequence[float]], title: str, note: str | None) -> "Figure":
    """Share of queries whose right recording is among the first k, a curve for each system."""
    with style():
        figure = new_figure(6.0, 4.0, note)
        axes = figure.subplots()
        lines = []
        for index, (name, curve) in enumerate(curves.items()):
            ranks = np.arange(1, len(curve) + 1)
            lines += axes.plot(ranks, 100 * np.asarray(curve), color=COLOURS[index % len(COLOURS)], label=name)
        axes.set_xlabel("recordings listened to")
        axes.set_ylabel("queries with the right one among them (%)")
        axes.set_ylim(0, 101)
        title_and_legend(figure, title, lines)
    return figure


def plane(
    query: np.ndarray, item: np.ndarray, queries: Sequence[str], items: Sequence[str], truth: Truth, note: str | None
) -> "Figure":
    """Unit vectors of queries (queries, dim) and items (items, dim) along the two directions in which they differ most.

    Dots: imitations, in the colour of their concept where that is one of the first; squares: recordings.
    """
    from common.run.numbers import unit_rows

    vectors = unit_rows(np.concatenate([query, item]))
    centred = vectors - vectors.mean(axis=0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:2]
    at = centred @ directions.T
    concept_of_item = dict(zip(truth.items, truth.concepts, strict=True))
    right = {name: truth.concepts[target] for name, target in zip(truth.queries, truth.targets, strict=True)}
    concepts = [right.get(name, "") for name in queries] + [concept_of_item.get(name, "") for name in items]
    shown = list(dict.fromkeys(concepts[: len(queries)]))[: len(COLOURS)]
    with style():
        figure = new_figure(6.4, 5.2, note)
        axes = figure.subplots()
        handles = []
        for concept in [None, *shown]:
            mine = np.array([of == concept if concept is not None else of not in shown for of in concepts])
            colour = TEXT_GREY if concept is None else COLOURS[shown.index(concept)]
            alpha = 0.25 if concept is None else 0.8
            for first, last, marker in ((0, len(queries), "o"), (len(queries), len(at), "s")):
                here = np.flatnonzero(mine[first:last]) + first
                size = 12 if marker == "o" else 45
                drawn = axes.scatter(
                    at[here, 0],
                    at[here, 1],
                    s=size,
                    marker=marker,
                    color=colour,
                    alpha=alpha,
                    label=concept or "others",
                )
            handles.append(drawn)
        axes.set_xlabel("first direction")
        axes.set_ylabel("second direction")
        title_and_legend(figure, "imitations (dots) and recordings (squares)", handles)
    return figure
