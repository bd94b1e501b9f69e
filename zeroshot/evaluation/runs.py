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
from zeroshot.config import SPLITS
from zeroshot.evaluation.report import NO_TEST, note_of
from zeroshot.inference.scores import TRUTH
from zeroshot.metrics import over_splits

NOT_TRAINED = "no class splits; `train` names them"


def settings_of(folder: Path) -> Settings:
    """Those of a split that has begun, with the splits that the whole run was asked for."""
    found = read_settings(next(path.parent for path in sorted(folder.glob(f"*/{CONFIG}"))))
    only = section_of(folder, SPLITS, NOT_TRAINED)["only"]
    return Settings(found.task, found.recipe, {**found.values, "split": {**found.values["split"], "only": only}})


def finished(folder: Path) -> bool:
    """Whether every split that was asked for is trained."""
    asked = section_of(folder, SPLITS, NOT_TRAINED)["trainings"]
    return all(recorded(folder / name, "train") is not None for name in asked)


def main_figure(folder: Path, of_run: Mapping[str, Any]) -> Figure:
    """Accuracy or mAP of unseen classes, mean over splits (%)."""
    found = (of_run["value"], *(of_run["interval"] or (None, None)))
    value, low, high = (None if of is None else 100 * of for of in found)
    count = len(of_run["splits"])
    metric = f"{of_run['kind']}, {count} split{'s' if count > 1 else ''}, {of_run['claim']}"
    return Figure(metric, of_run["set"], value, low, high, TOY if of_run["toy"] else None, decimals=1)


LAYOUT = Layout(test="test", figure=main_figure, parts=("*", "*/closed_form"), settings=settings_of, finished=finished)


def parts_of(run: Run) -> list[Part]:
    """A run's accuracy or mAP (%), mean over its splits, as a function of the weights of the test classes."""
    of_run = section_of(run.folder, "test", NO_TEST)
    by_split = of_run["by split"]
    classes = tuple(sorted({name for of in by_split.values() for name in of}))
    truths = ((name, (run.folder / name / TRUTH).read_text(encoding="utf-8").splitlines()) for name in by_split)

    def mean(weights: np.ndarray) -> np.ndarray:
        of_class = dict(zip(classes, weights.tolist(), strict=True))
        return np.array([100 * over_splits(list(by_split.values()), of_class)])

    known = fingerprint((name, fingerprint(lines)) for name, lines in truths)
    metrics, units = (Metric(f"{of_run['kind']} (%)", 1),), np.array([len(classes)])
    return [Part(of_run["set"], "test classes", classes, known, metrics, mean, units)]


def compare_two(runs: Sequence[Run], names: Sequence[str]) -> dict[str, Any]:
    """`compare --runs-of`, and what must stand beside both systems' figures."""
    found = compare_systems(runs, names, LAYOUT, parts_of)
    for of in (found["a"], found["b"]):
        print(f"{of['name']}: {note_of(section_of(Path(of['runs'][0]), 'test', NO_TEST))}")
    return found
