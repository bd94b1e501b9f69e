"""What `runs` and `compare --runs-of` read of this task's runs."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from common.audio.coverage import root_of
from common.run.results.comparison import caveat_of
from common.run.results.listing import Figure, Layout, Settings, read_settings
from common.run.results.paired import Metric, Part, compare_systems, fingerprint
from common.run.results.runs import kept, section_of
from common.run.results.store import CONFIG
from common.run.verbs import Run
from task1_asc.config import SPLITS
from task1_asc.data.classes import SCENES
from task1_asc.data.layout import split_file
from task1_asc.evaluation.evaluate import read_truth, sums_by_segment
from task1_asc.evaluation.report import DEVELOPMENT, NO_TEST
from task1_asc.inference.scores import predictions_file, read_outputs
from task1_asc.metrics import figures

SPLIT = "split{}"


def splits_of(folder: Path) -> list[int]:
    """The training splits whose training has begun in a run's folder."""
    return [split for split in SPLITS if (folder / SPLIT.format(split) / CONFIG).is_file()]


def settings_of(folder: Path) -> Settings:
    """Those of the largest split, with all the splits that are there."""
    splits = splits_of(folder)
    found = read_settings(folder / SPLIT.format(splits[-1]))
    values = {**found.values, "data": {**(found.values.get("data") or {}), "splits": splits}}
    return Settings(found.task, found.recipe, values)


def main_figure(folder: Path, of_run: Mapping[str, Any]) -> Figure:
    """The rank score of a run with all five splits; else the macro accuracy of the largest one (%)."""
    metric, of_set, value, interval = "rank score", DEVELOPMENT, of_run["rank_score"], of_run["rank_interval"]
    if value is None:
        split = splits_of(folder)[-1]
        of_split = section_of(folder / SPLIT.format(split), "test", NO_TEST)
        metric, value = f"macro accuracy, {split} %", of_split["macro_accuracy"]
        interval = kept(of_split, ("intervals", "macro_accuracy"))
    value, low, high = (None if of is None else 100 * of for of in (value, *(interval or (None, None))))
    return Figure(metric, of_set, value, low, high, caveat_of([of_run]), decimals=2)


LAYOUT = Layout(
    test="test",
    figure=main_figure,
    parts=tuple(SPLIT.format(split) + stage for split in SPLITS for stage in ("", "/devices/*", "/int8")),
    settings=settings_of,
    growing=("data.splits",),
)


def parts_of(run: Run) -> list[Part]:
    """A run's macro accuracies (%) as functions of the weights of the test list's segments."""
    splits = run.config.data.splits
    truth = read_truth(split_file(root_of(run.config.data), "test"))
    sums = [sums_by_segment(read_outputs(predictions_file(run.folder, split, "test")), truth) for split in splits]
    ranked = len(splits) == len(SPLITS)
    metrics = [Metric(f"macro accuracy, {split} % (%)", 2) for split in splits]

    def macro(weights: np.ndarray) -> np.ndarray:
        found = np.array([100 * figures(np.tensordot(weights, of, 1), len(SCENES))[0] for of in sums])
        return np.append(found, found.mean()) if ranked else found

    clips = np.array(truth.names)
    segments = tuple(str(min(clips[truth.segments == number])) for number in np.unique(truth.segments))
    known = fingerprint(zip(truth.names, truth.labels.tolist(), strict=True))
    metrics += [Metric("rank score (%)", 2)] if ranked else []
    units = np.full(len(metrics), len(segments))
    return [Part(DEVELOPMENT, "segments", segments, known, tuple(metrics), macro, units)]


compare_two = partial(compare_systems, layout=LAYOUT, parts_of=parts_of)
