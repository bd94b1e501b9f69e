"""What `runs` and `compare --runs-of` read of this task's runs."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from common.run.results.comparison import CAVEATS
from common.run.results.listing import Figure, Layout
from common.run.results.paired import Metric, Part, compare_systems, fingerprint
from common.run.verbs import Run
from task6_retrieval.evaluation.evaluate import Answers
from task6_retrieval.evaluation.report import TITLES, answers_by_set


def main_figure(folder: Path, values: Mapping[str, Any]) -> Figure:
    """mAP@10 on the test set (%)."""
    name, of = next(iter(values["sets"].items()))
    low, high = (None if end is None else 100 * end for end in of["intervals"]["map@10"])
    return Figure("mAP@10 (%)", name, 100 * of["map@10"], low, high, CAVEATS[values["data"]], decimals=2)


LAYOUT = Layout(test="test", figure=main_figure)


def parts_of(run: Run) -> list[Part]:
    """A run's figures (%) on its test set, and of 2025, as functions of the weights of clips with their captions."""
    return [part_of(name, answers) for name, answers in answers_by_set(run).items()]


def part_of(name: str, answers: Answers) -> Part:
    """Sums over the queries of each clip are all that a draw of clips needs."""
    shares = answers.shares()
    clips = sorted({name for names in answers.truth.relevant for name in names})  # the order of `groups`
    sums = np.stack([np.bincount(shares.groups, of) for of in shares.values.values()])
    counts = np.bincount(shares.groups, shares.weights)

    def figures(weights: np.ndarray) -> np.ndarray:
        return np.asarray(100 * (sums @ weights) / (counts @ weights))

    metrics = tuple(Metric(f"{TITLES[metric]} (%)", 2) for metric in shares.values)
    truth = fingerprint(zip(answers.truth.queries, answers.truth.relevant, strict=True))
    return Part(name, "clips", tuple(clips), truth, metrics, figures, np.full(len(metrics), len(clips)))


compare_two = partial(compare_systems, layout=LAYOUT, parts_of=parts_of)
