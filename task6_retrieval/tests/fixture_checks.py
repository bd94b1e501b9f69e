"""The `task6_metrics` fixture: ranks and figures of given scores, as published and by the rule for ties."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from task6_retrieval.metrics import average_precision, ranks_of_scores, recall, retrieval_metrics
from task6_retrieval.tests import published_steps

Check = tuple[str, Any, Any, dict[str, float]]
EXACT: dict[str, float] = {}
SINGLE, DOUBLE = {"max": 1e-6}, {"max": 1e-12}
FIGURES = {"R@1": "r@1", "R@5": "r@5", "R@10": "r@10", "mAP@10": "map@10", "mAP@16": "map@16"}
SEVERAL = "several relevant "


def groups(io: Any) -> list[str]:
    return sorted({name.split("/")[0] for name in io.files})


def check(folder: Path, group: str, io: Any) -> Iterator[Check]:
    of = {name.removeprefix(f"{group}/"): io[name] for name in io.files if name.startswith(f"{group}/")}
    yield from _description(of) if "rank" in of else _scores(of)


def _scores(of: dict[str, Any]) -> Iterator[Check]:
    scores, owner = of["scores"], np.arange(len(of["scores"])) // (len(of["scores"]) // of["scores"].shape[1])
    single = ranks_of_scores(scores, owner)
    yield "rank_by_rule", single[:, 0], of["rank_by_rule"], EXACT
    several = ranks_of_scores(scores[of["query"]], of["relevant"])
    figures = {False: retrieval_metrics(single), True: retrieval_metrics(several)}
    for name, key in FIGURES.items():
        for prefix in ("", SEVERAL):
            if f"rule/{prefix}{name}" in of:
                yield f"rule {prefix}{name}", figures[bool(prefix)][key], of[f"rule/{prefix}{name}"], DOUBLE
    without_ties = all(len(np.unique(row)) == len(row) for row in scores)
    if without_ties:
        yield "rank_of_relevant", several, of["rank_of_relevant"], EXACT
        for k in (10, 16):
            published = of[f"e25/average_precision@{k}"]
            yield f"AP@{k}", average_precision(several, k), published, SINGLE
    for name, published in of.items():
        code, _, figure = name.partition("/")
        if code in ("b23", "d24", "e25") and figure.removeprefix(SEVERAL) in FIGURES:
            clips = (of["query"], of["relevant"]) if figure.startswith(SEVERAL) else (slice(None), owner[:, None])
            low, high = _bounds(scores[clips[0]], clips[1], figure.removeprefix(SEVERAL))
            yield name, np.clip(published, low, high), published, SINGLE
            if without_ties:
                yield name, high, published, SINGLE


def _bounds(scores: np.ndarray, relevant: np.ndarray, figure: str) -> tuple[float, float]:
    """A figure where ties go against the relevant clips, and for them."""
    numbers = np.arange(scores.shape[1])
    found = []
    for sign in (-1, 1):
        moved = np.empty(scores.shape)
        for row, (values, clips) in enumerate(zip(scores, relevant, strict=True)):
            moved[row] = np.argsort(np.lexsort((sign * np.isin(numbers, clips), values)))
        ranks = ranks_of_scores(moved, relevant)
        measure = average_precision if figure.startswith("mAP") else recall
        found.append(float(measure(ranks, int(figure.partition("@")[2])).mean()))
    return found[0], found[1]


def _description(of: dict[str, Any]) -> Iterator[Check]:
    """Every query has a gallery of its own: the clips with another caption of theirs as metadata."""
    captions = 5
    query = np.arange(len(of["scores"]))
    columns = np.arange(0, len(query), captions)[None] + ((query + 1) % captions)[:, None]
    ranks = ranks_of_scores(np.take_along_axis(of["scores"], columns, axis=1), query // captions)
    yield "rank", ranks[:, 0], of["rank"], EXACT
    figures = retrieval_metrics(ranks)
    for name, key in FIGURES.items():
        if f"c24/{name}" in of:
            yield f"c24 {name}", figures[key], of[f"c24/{name}"], SINGLE


CHECKERS = {"task6_metrics": (groups, check), **published_steps.CHECKERS}
