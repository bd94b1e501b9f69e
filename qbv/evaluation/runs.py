"""What `runs` and `compare --runs-of` read of this task's runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.run.results.comparison import TOY
from common.run.results.listing import Figure, Layout, Settings, read_settings
from common.run.results.paired import Metric, Part, compare_systems, fingerprint
from common.run.results.runs import section_of
from common.run.results.store import CONFIG, recorded
from common.run.verbs import Run
from qbv.config import PARTS
from qbv.evaluation.report import NO_TEST, SET

NOT_TRAINED = "no trainings; `train` names them"


def begun(folder: Path) -> list[Path]:
    """The folders of a run's trainings that have begun."""
    return [path.parent for path in (*sorted(folder.glob(f"fold*/{CONFIG}")), folder / CONFIG) if path.is_file()]


def settings_of(folder: Path) -> Settings:
    """Those of a training that has begun, with all folds of its recipe."""
    found = read_settings(begun(folder)[0])
    names = section_of(folder, PARTS, NOT_TRAINED)["trainings"]
    folds = [int(name.removeprefix("fold")) for name in names if name.startswith("fold")]
    data = {**found.values["data"], **({"folds": folds} if folds else {})}
    return Settings(found.task, found.recipe, {**found.values, "data": data})


def finished(folder: Path) -> bool:
    """Whether every training that was asked for has come to its end."""
    names = section_of(folder, PARTS, NOT_TRAINED)["trainings"]
    parts = [folder / name if name.startswith("fold") else folder for name in names]
    return all(recorded(part, "train") is not None for part in parts)


def main_figure(folder: Path, of_run: Mapping[str, Any]) -> Figure:
    """MRR of the trained system, of the coarse protocol the mean over folds."""
    found = of_run["systems"][of_run["system"]]
    count = len(found["folds"])
    metric = f"MRR, {count} folds" if count > 1 else "MRR"
    caveat = TOY if of_run["toy"] else None
    low, high = found["interval"]
    return Figure(metric, SET[of_run["protocol"]], found["mrr"], low, high, caveat, decimals=4)


LAYOUT = Layout(test="test", figure=main_figure, parts=("fold*",), settings=settings_of, finished=finished)


def parts_of_run(run: Run) -> list[Part]:
    """A run's MRR as a function of the weights of its concepts: their mean, of folds the mean over folds."""
    of_run = section_of(run.folder, "test", NO_TEST)
    by_fold = of_run["systems"][of_run["system"]]["mrr by fold and concept"]
    concepts = tuple(sorted(f"{fold} {concept}" for fold, of in by_fold.items() for concept in of))

    def mean(weights: np.ndarray) -> np.ndarray:
        weight = dict(zip(concepts, weights.tolist(), strict=True))
        return np.array([np.mean([_mean(of, {c: weight[f"{fold} {c}"] for c in of}) for fold, of in by_fold.items()])])

    metrics, units = (Metric("MRR, mean over concepts", 4),), np.array([len(concepts)])
    return [Part(SET[of_run["protocol"]], "concepts", concepts, fingerprint(concepts), metrics, mean, units)]


def _mean(values: Mapping[str, float], weights: Mapping[str, int]) -> float:
    total = sum(weights.values())
    return sum(values[c] * weights[c] for c in values) / total if total else float("nan")


def compare_two(runs: Sequence[Run], names: Sequence[str]) -> dict[str, Any]:
    """`compare --runs-of`: the second system minus the first, by a paired bootstrap over concepts."""
    return compare_systems(runs, names, LAYOUT, parts_of_run)
