"""What `runs` and `compare --runs-of` read of this task's runs."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from common.run.results.comparison import CAVEATS
from common.run.results.listing import Figure, Layout
from common.run.results.paired import Metric, Part, compare_systems, fingerprint
from common.run.results.runs import kept
from common.run.verbs import Run
from task4_sed.data.layout import SETS
from task4_sed.evaluation.evaluate import processed_inputs, psds_by_name
from task4_sed.evaluation.figures import MAX_FPR, segments_of, truth_of
from task4_sed.evaluation.inputs import Inputs
from task4_sed.evaluation.report import MPAUC, TestSet, boxes_of, csebbs_of, filter_of, open_test_set, shown_boxes
from task4_sed.metrics.psds import psds
from task4_sed.metrics.segments import mean_of_defined, segment_auroc


def main_figure(folder: Path, values: Mapping[str, Any]) -> Figure:
    """PSDS1 of the first test set with strong labels, median-filtered; of a run without any, mpAUC."""
    return _figures(values)[0]


def further_figures(folder: Path, values: Mapping[str, Any]) -> list[Figure]:
    """mpAUC beside PSDS1."""
    return _figures(values)[1:]


def _figures(values: Mapping[str, Any]) -> list[Figure]:
    found = []
    if figure := values.get("figure"):
        found.append(Figure(**figure, caveat=CAVEATS.get(values["data"])))
    if macro := kept(values, ("audioset_eval", "psds1_macro")):
        low, high = (kept(values, ("intervals", "psds1_macro", end)) for end in ("low", "high"))
        found.append(Figure("PSDS1", "audioset_eval", macro, low, high, CAVEATS.get(values["data"])))
    for soft, metric, key in ((False, "PSDS1", "psds1"), (True, "mpAUC", MPAUC)):
        if name := next((of for of in values["sets"] if (SETS[of].kind == "soft") == soft), None):
            low, high = (kept(values, ("intervals", metric.lower(), end)) for end in ("low", "high"))
            value = kept(values, ("sets", name, "median", key))
            found.append(Figure(metric, name, value, low, high, CAVEATS.get(values["data"])))
    return found or [Figure("PSDS1", "", None, caveat=CAVEATS.get(values["data"]))]


LAYOUT = Layout(test="test", figure=main_figure, beside=further_figures)


def parts_of(run: Run) -> list[Part]:
    """A run's figures on its test sets, as functions of the weights of what is drawn."""
    parts: list[Part] = run.config.system.does("compare --runs-of")(run)
    return parts


def challenge_parts(run: Run) -> list[Part]:
    """Threshold-free ones, by clips, of MAESTRO by recordings."""
    tests = [open_test_set(run, name) for name in run.config.test_sets]
    return [(_soft if test.soft else _strong)(run, test) for test in tests]


def _strong(run: Run, test: TestSet) -> Part:
    inputs, filtered = processed_inputs(*test.files(), filter_of(run.config), None, allow_missing=True)
    boxes = psds_by_name(*processed_inputs(*test.files(), False, csebbs_of(run), allow_missing=True))["psds1"]
    statistics = [*psds_by_name(inputs, filtered).values(), boxes]
    metrics = (Metric("PSDS1"), Metric("PSDS2"), Metric(f"PSDS1 {shown_boxes(boxes_of(run.config, test.name))}"))

    def figures(weights: np.ndarray) -> np.ndarray:
        return np.array([psds(of, weights.astype(np.float64)).value for of in statistics])

    return Part(test.name, "clips", *_truth(inputs), metrics, figures, _units(inputs, metrics))


def _soft(run: Run, test: TestSet) -> Part:
    inputs, filtered = processed_inputs(*test.files(), filter_of(run.config), None, allow_missing=True)
    assert filtered is not None
    segments, metrics = segments_of(inputs, filtered, truth_of(inputs)), (Metric("mpAUC"),)

    def figures(weights: np.ndarray) -> np.ndarray:
        return np.array([mean_of_defined(segment_auroc(segments, MAX_FPR, "step", weights.astype(np.float64)))])

    return Part(test.name, "recordings", *_truth(inputs), metrics, figures, _units(inputs, metrics))


def _truth(inputs: Inputs) -> tuple[tuple[str, ...], str]:
    """Clips in the order of the weights, and a word for what is to be found in them."""
    events = {
        name: sorted((e.label, e.onset, e.offset) for e in inputs.events.get(name, ())) for name in inputs.durations
    }
    return truth_of(inputs).clips, fingerprint(
        (name, seconds, events[name]) for name, seconds in inputs.durations.items()
    )


def _units(inputs: Inputs, metrics: tuple[Metric, ...]) -> np.ndarray:
    return np.full(len(metrics), len(inputs.durations))


compare_two = partial(compare_systems, layout=LAYOUT, parts_of=parts_of)
