"""Anybody's similarities or embeddings against a truth: ranks, figures with intervals.

figures(matrix, truth, within=False, group="concept") -> Figures
evaluate_files(files, ground_truth, within=False, group="concept", out=None) -> dict      `evaluate --scores FILE ...`
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.run.errors import UserError, brief
from common.run.files import write_json
from common.run.results.intervals import bootstrap_interval
from common.run.results.tables import format_value, print_table
from qbv.inference.scores import Truth, aligned, read_similarities, read_truth
from qbv.metrics import Ranks, class_reciprocal, means_by, mrr_bounds, ndcg, random_mrr, ranks_of

RECALL_AT = (1, 2)
SHOWN = ("mrr", "r@1", "r@2", "ndcg", "class mrr")
NOTE = "[ ]: 95 % interval, bootstrap over {}s; none for fewer than ten. chance: a random ranking"


@dataclass(frozen=True)
class Figures:
    """values: for results.json; reciprocal (queries,), concepts: of the queries that were ranked, for intervals."""

    values: dict[str, Any]
    reciprocal: NDArray[np.float64]
    concepts: tuple[str, ...]


def figures(
    matrix: NDArray[np.floating], truth: Truth, within: bool = False, group: str = "concept", source: str = "scores"
) -> Figures:
    """Figures of similarities (queries, items) in the truth's order; equal ones count as in random order.

    within: a query is ranked among the items of the right one's concept, MRR is the mean over concepts of the mean over
    queries; else among all, the mean over queries. Queries without another item to rank are left out and counted;
    `r@k as published` counts them as not found. NDCG and class MRR (relevant: all items of the right one's concept)
    where concepts have several items. group: what intervals draw, concept or imitator. Raises UserError.
    """
    groups = _groups(truth, within, group)
    concept_of_item = np.unique(truth.concepts, return_inverse=True)[1]
    compared = concept_of_item[None] == concept_of_item[truth.targets][:, None]
    if not within:
        compared = np.ones_like(compared)
    ranked = np.flatnonzero(compared.sum(axis=1) > 1)
    if not len(ranked):
        raise UserError(f"{source}: no query has two items to choose from")
    wrong = compared & ~np.isfinite(matrix)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        pair = f"query {brief(truth.queries[row])} and item {brief(truth.items[column])}"
        raise UserError(f"{source}: no finite similarity of {pair}")
    ranks, sizes = _ranks(matrix, truth, compared, ranked)
    concepts = tuple(truth.concepts[truth.targets[row]] for row in ranked)
    reciprocal, by_concept = ranks.reciprocal(), means_by(concepts, ranks.reciprocal())
    found: dict[str, Any] = {
        "mrr": float(np.mean(list(by_concept.values())) if within else reciprocal.mean()),
        **{f"r@{k}": float(ranks.recall(k).mean()) for k in RECALL_AT},
        "mrr over queries": float(reciprocal.mean()),
        "chance": float(np.mean([random_mrr(size) for size in sizes])),
        "queries": len(ranked),
        "items": len(truth.items),
        "left out": len(truth.queries) - len(ranked),
        **{f"r@{k} as published": float(ranks.recall(k).sum() / len(truth.queries)) for k in RECALL_AT},
        "mrr by concept": by_concept,
        "found by rank": [float(ranks.recall(k).mean()) for k in range(1, int(sizes.max()) + 1)],
    }
    low, high = mrr_bounds(ranks)
    if low < high:
        found["mrr of the worst and best order of ties"] = [low, high]
    if not within and len(set(truth.concepts)) < len(truth.concepts):
        relevant = concept_of_item[None] == concept_of_item[truth.targets][:, None]
        for name, values in (("ndcg", ndcg(matrix, relevant)), ("class mrr", class_reciprocal(matrix, relevant))):
            found |= {name: float(values.mean()), f"{name} interval": _interval(values, groups, within)}
    found["interval"] = _interval(reciprocal, [groups[row] for row in ranked], within)
    return Figures(found, reciprocal, concepts)


def _ranks(
    matrix: NDArray[np.floating], truth: Truth, compared: NDArray[np.bool_], ranked: NDArray[np.int64]
) -> tuple[Ranks, NDArray[np.int64]]:
    """Ranks of the right items among those compared, and how many these are, (ranked,) each."""
    better, tied = np.empty(len(ranked), np.int64), np.empty(len(ranked), np.int64)
    for place, row in enumerate(ranked):
        among, target = compared[row], truth.targets[row]
        one = ranks_of(matrix[row, among][None], [int(among[:target].sum())])
        better[place], tied[place] = one.better[0], one.tied[0]
    return Ranks(better, tied), compared[ranked].sum(axis=1)


def _groups(truth: Truth, within: bool, group: str) -> Sequence[str]:
    """What each query belongs to, for intervals."""
    if group == "concept":
        return [truth.concepts[target] for target in truth.targets]
    if within:
        raise UserError("--group: means over concepts are drawn by concept")
    if truth.imitators is None:
        raise UserError(f"{truth.path}: --group imitator needs a column imitator, filled in for every query")
    return truth.imitators


def _interval(values: NDArray[np.float64], groups: Sequence[str], within: bool) -> list[float | None]:
    """95 % interval of a mean over queries whose groups are drawn, or of the mean over groups."""
    if within:
        values, groups = np.array(list(means_by(groups, values).values())), list(dict.fromkeys(groups))
    return interval(lambda w: float(values @ w / w.sum()), np.array(groups))


def interval(statistic: Callable[[np.ndarray], float], groups: NDArray[Any], share: bool = True) -> list[float | None]:
    """95 % interval of a figure (a share from 0 to 1?) over groups of items; [None, None] where they are too few."""
    ends = bootstrap_interval(statistic, len(groups), groups=groups, share=share)
    return [None if np.isnan(end) else float(end) for end in ends]


def evaluate_files(
    files: Sequence[Path], ground_truth: Path, within: bool = False, group: str = "concept", out: Path | None = None
) -> dict[str, Any]:
    """Figures of files of similarities or embeddings; prints the table. With `out` also results.json there."""
    truth = read_truth(ground_truth)
    results = {
        str(path): figures(aligned(read_similarities(path), truth, path), truth, within, group, str(path)).values
        for path in files
    }
    show(str(ground_truth), results, NOTE.format(group))
    if out is not None:
        write_json(out / "results.json", results)
    return results


def show(title: str, results: Mapping[str, Mapping[str, Any]], note: str) -> None:
    """Print a row for each system or fold."""
    columns = [name for name in SHOWN if all(name in of for of in results.values())]
    rows = []
    for name, of in results.items():
        numbers = f"{of['queries']:,}", f"{of['items']:,}"
        rows.append([name, *cells(of, columns), format_value(of["chance"], decimals=4), *numbers])
    ties = [name for name, of in results.items() if "mrr of the worst and best order of ties" in of]
    left = sorted({of["left out"] for of in results.values()} - {0})
    more = [f"equal similarities in {ties[0]}: expected figures" if ties else ""]
    more += [f"queries with nothing to choose from, left out: {', '.join(map(str, left))}" if left else ""]
    heads = ["", *(column.upper() for column in columns), "chance", "queries", "items"]
    print_table(title, heads, rows, "; ".join(filter(None, (note, *more))))


def cells(of: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    """Figures of a result, those with an interval with it."""
    found = []
    for name in columns:
        low, high = of.get("interval" if name == "mrr" else f"{name} interval", (None, None))
        found.append(format_value(of[name], low, high, decimals=4))
    return found
