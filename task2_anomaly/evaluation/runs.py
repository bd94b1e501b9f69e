"""What `runs` and `compare --runs-of` read of this task's runs."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from common.run.errors import UserError
from common.run.results.comparison import caveat_of
from common.run.results.listing import Figure, Layout
from common.run.results.paired import Metric, Part, compare_systems, fingerprint
from common.run.results.runs import kept
from common.run.results.store import recorded
from common.run.verbs import Run
from task2_anomaly.evaluation import first_shot
from task2_anomaly.evaluation.evaluate import SystemResult, evaluate, weighted
from task2_anomaly.evaluation.report import SECTION, SETS, truths_by_part
from task2_anomaly.evaluation.truth import Truth, as_section


def main_figure(folder: Path, values: Mapping[str, Any]) -> Figure:
    """The mean of AUC and pAUC (2020) or the official score, of the development set where it is there."""
    part, of = next(iter(values["parts"].items()))
    metric = "official_score" if of["first_shot"] else "mean"
    low, high = kept(of, ("intervals", metric)) or (None, None)
    title = "official score" if of["first_shot"] else "mean of AUC and pAUC"
    return Figure(title, SETS[part], kept(of, ("figures", metric)), low, high, caveat_of([values]), 4)


def is_trained(folder: Path) -> bool:
    """Whether all networks are; frozen embeddings have none, but the normal clips of each machine."""
    return recorded(folder, "train") is not None or any(folder.glob("machines/*/normal.npz"))


LAYOUT = Layout(test=SECTION, figure=main_figure, parts=("machines/*",), finished=is_trained)


def parts_of(run: Run) -> list[Part]:
    """A run's figures on the test sets that have labels, as functions of the weights of all machines' clips."""
    found = []
    for part, truths in truths_by_part(run.config).items():
        if truths:
            result = evaluate(run.folder / "scores" / part, truths)
            if result.problems:
                raise UserError(next(iter(result.problems.values())))
            domains = all(truth.domains for truth in truths)
            found.append((_of_sections if domains else _of_machines)(SETS[part], result, truths))
    return found


def _of_machines(name: str, result: SystemResult, truths: Sequence[Truth]) -> Part:
    """2020: means over IDs and types, and the AUC of each type."""
    of = weighted(result)
    shown = {"mean": "mean of AUC and pAUC", "auc": "AUC", "pauc": "pAUC"} | {
        f"auc/{k}": f"AUC {k}" for k in result.types()
    }
    rows = np.array([of.keys.index(key) for key in shown])
    by_machine = {truth.machine: truth for truth in truths}
    items, known = _clips([by_machine[r.machine] for r in of.machines])
    metrics = tuple(Metric(title, 4) for title in shown.values())
    return Part(name, "clips", items, known, metrics, lambda weights: of.figures(weights)[rows], of.units[rows])


def _of_sections(name: str, result: SystemResult, truths: Sequence[Truth]) -> Part:
    """From 2021 on: the official score."""
    items, known = _clips(truths)
    scores = {r.machine: r.scores for r in result.machines}
    score = first_shot.weighted([(as_section(truth), scores[truth.machine]) for truth in truths])
    return Part(name, "clips", items, known, (Metric("official score", 4),), score, np.array([len(items)]))


def _clips(truths: Sequence[Truth]) -> tuple[tuple[str, ...], str]:
    """Clips of all machines in the order of the weights, and a word for their labels and domains."""
    named = [
        (f"{of.machine}/{name}", label, (of.domains or {}).get(name))
        for of in truths
        for name, label in of.labels.items()
    ]
    return tuple(name for name, *_ in named), fingerprint(named)


compare_two = partial(compare_systems, layout=LAYOUT, parts_of=parts_of)
