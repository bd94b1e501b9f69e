"""Figures of matched input, under the names of the metrics."""

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from task4_sed.evaluation.inputs import Inputs, Points
from task4_sed.metrics.detections import Detections, detections_at_points, detections_of_scores
from task4_sed.metrics.f1 import F1, best_collar_f1, collar_f1, intersection_f1
from task4_sed.metrics.maestro import overlap_add, segments_of_recordings
from task4_sed.metrics.psds import PSDS1, PSDS2, PsdsParameters, PsdsStatistics, psds, psds_statistics
from task4_sed.metrics.ruler import Ruler, SegmentRuler, version
from task4_sed.metrics.segments import (
    INTEGRATIONS,
    Segments,
    best_segment_f1,
    mean_of_defined,
    segment_auroc,
    segment_f1,
    segment_f1_of_detections,
    segments_of_scores,
)
from task4_sed.metrics.truth import Truth, truth_arrays
from task4_sed.metrics.types import ScoreSet

MAX_FPR = 0.1
RULER_TOLERANCE = 1e-6
PSDS_OF_SCORES = {"psds1": PSDS1, "psds2": PSDS2}
PSDS_OF_POINTS = {
    **PSDS_OF_SCORES,
    "psds_dtc0.7_gtc0.7_alpha_ct0_alpha_st0": PsdsParameters(alpha_st=0.0),
}


class Figures:
    """Collects values by metric: the overall one flat, those of the classes apart."""

    def __init__(self) -> None:
        self.overall: dict[str, float] = {}
        self.classes: dict[str, dict[str, float]] = {}
        self.best_thresholds: dict[str, dict[str, float]] = {}

    def add_f1(self, name: str, value: F1, thresholds: Mapping[str, float] | None = None) -> None:
        """Macro average as `name`, micro average as `name`_micro; with the thresholds where they were searched."""
        self.overall[name] = value.macro
        self.overall[f"{name}_micro"] = value.micro
        self.classes[name] = value.classes
        if thresholds is not None:
            self.best_thresholds[name] = dict(thresholds)

    def add_psds(self, name: str, value: float, classes: Mapping[str, float]) -> None:
        """The score as `name`, the mean of the single classes, and these."""
        self.overall[name] = value
        self.overall[f"{name}_macro_mean_of_classes"] = float(np.mean(list(classes.values())))
        self.classes[f"{name}_single_class"] = dict(classes)

    def add_areas(self, name: str, areas: Mapping[str, float]) -> None:
        """Mean over the classes as `name`, and these."""
        self.overall[name] = mean_of_defined(areas)
        self.classes[name] = dict(areas)


def truth_of(inputs: Inputs) -> Truth:
    """The matched truth as arrays."""
    return truth_arrays(inputs.events, inputs.durations, inputs.classes)


def segments_of(inputs: Inputs, scores: ScoreSet, truth: Truth) -> Segments:
    """One-second segments: windows are overlap-added to their recordings first."""
    if not inputs.windows:
        return segments_of_scores(scores, truth)
    return segments_of_recordings(overlap_add(scores, inputs.durations, inputs.classes), truth)


def psds_statistics_of(detections: list[Detections], truth: Truth) -> dict[str, PsdsStatistics]:
    """Statistics of psds1 and psds2 over all thresholds."""
    return {name: psds_statistics(detections, truth, p) for name, p in PSDS_OF_SCORES.items()}


def add_segment_figures(figures: Figures, segments: Segments, threshold: float) -> None:
    """F1 at the threshold and at the best ones; ROC areas, whole and up to a false positive rate of 0.1."""
    figures.add_f1(f"segment_f1_th{threshold:g}_1s", segment_f1(segments, threshold))
    figures.add_f1("segment_f1_best_threshold_per_class_1s", *best_segment_f1(segments))
    for rule in INTEGRATIONS:
        figures.add_areas(f"segment_auroc_1s_{rule}", segment_auroc(segments, None, rule))
        figures.add_areas(f"segment_pauroc_1s_maxfpr{MAX_FPR:g}_{rule}", segment_auroc(segments, MAX_FPR, rule))


def score_figures(inputs: Inputs, scores: ScoreSet, threshold: float) -> Figures:
    """All figures of scores: of MAESTRO's soft labels only those of segments."""
    figures, truth = Figures(), truth_of(inputs)
    add_segment_figures(figures, segments_of(inputs, scores, truth), threshold)
    if inputs.soft:
        return figures
    detections = detections_of_scores(scores, truth.clips, truth.classes)
    for name, parameters in PSDS_OF_SCORES.items():  # one after another: statistics are large
        result = psds(psds_statistics(detections, truth, parameters))
        figures.add_psds(name, result.value, result.single_class)
    above = [found.above(threshold) for found in detections]
    figures.add_f1(f"intersection_f1_th{threshold:g}_dtc0.5_gtc0.5", intersection_f1(above, truth))
    figures.add_f1(f"collar_f1_th{threshold:g}_200ms_20pct", collar_f1(above, truth))
    figures.add_f1("collar_f1_best_threshold_per_class", *best_collar_f1(detections, truth))
    return figures


def ruler_figures(inputs: Inputs, scores: ScoreSet, threshold: float) -> tuple[Figures, list[str]]:
    """Those figures of `score_figures` that sed_scores_eval can compute, and a sentence for each that it cannot."""
    figures, truth, against = Figures(), truth_of(inputs), {}
    segments = SegmentRuler(segments_of(inputs, scores, truth))
    if not (why := segments.reason_against(areas=False)):
        figures.add_f1(f"segment_f1_th{threshold:g}_1s", segments.f1(threshold))
    against["segment F1"] = why
    if not (why := segments.reason_against(areas=True)):
        figures.add_areas("segment_auroc_1s_step", segments.areas(None))
        figures.add_areas(f"segment_pauroc_1s_maxfpr{MAX_FPR:g}_step", segments.areas(MAX_FPR))
    against["segment ROC areas"] = why
    if not inputs.soft:
        ruler = Ruler(scores, truth)
        for name, parameters in PSDS_OF_SCORES.items():
            if not (why := ruler.reason_against(parameters)):
                figures.add_psds(name, *ruler.psds(parameters))
            against[name] = why
        if not (why := ruler.reason_against()):
            by_intersection, by_collars = ruler.f1(threshold)
            figures.add_f1(f"intersection_f1_th{threshold:g}_dtc0.5_gtc0.5", by_intersection)
            figures.add_f1(f"collar_f1_th{threshold:g}_200ms_20pct", by_collars)
        against["F1 by intersection and by collars"] = why
    return figures, [f"{name}: not computed with sed_scores_eval, {why}" for name, why in against.items() if why]


def measured(fast: Figures, inputs: Inputs, scores: ScoreSet, threshold: float) -> dict[str, Any]:
    """Put the figures of sed_scores_eval in place of the fast path's; what `results.json` says of both.

    Differences above RULER_TOLERANCE become notes of the report.
    """
    start = time.perf_counter()
    figures, notes = ruler_figures(inputs, scores, threshold)
    replaced = {name: fast.overall[name] for name in figures.overall}
    of_classes = {name: fast.classes[name] for name in figures.classes}
    pairs = [(name, value, replaced[name]) for name, value in figures.overall.items()]
    for metric, values in figures.classes.items():
        pairs += [(f"{metric} of {name}", value, of_classes[metric][name]) for name, value in values.items()]
    differences = [
        f"{name}: {value:.6f} with sed_scores_eval, {other:.6f} on the fast path"
        for name, value, other in pairs
        if abs(value - other) > RULER_TOLERANCE
    ]
    inputs.report.notes += notes + differences
    fast.overall |= figures.overall
    fast.classes |= figures.classes
    return {
        "library": version(),
        "fast_path": replaced,
        "fast_path_classes": of_classes,
        "largest_difference": max((abs(value - other) for _, value, other in pairs), default=0.0),
        "differences": differences,
        "seconds": round(time.perf_counter() - start, 2),
    }


def point_figures(inputs: Inputs, points: Points, threshold: float | None) -> Figures:
    """PSDS over the operating points, and F1 at one of them (None: no F1)."""
    figures, truth = Figures(), truth_of(inputs)
    detections = detections_at_points(points, truth.clips, truth.classes)
    for name, parameters in PSDS_OF_POINTS.items():
        result = psds(psds_statistics(detections, truth, parameters, ratios=True))
        figures.add_psds(name, result.value, result.single_class)
    if threshold is not None:
        at = [found.at(threshold) for found in detections]
        figures.add_f1("intersection_f1_dtc0.5_gtc0.5_psds_eval", intersection_f1(at, truth, ratios=True))
        figures.add_f1("collar_f1_sed_eval_200ms_20pct", collar_f1(at, truth))
        figures.add_f1("segment_f1_sed_eval_1s", segment_f1_of_detections(at, truth))
    return figures


def json_able(value: Any) -> Any:
    """Undefined values (NaN) as None, infinite ones as words, numpy numbers as Python's."""
    if isinstance(value, Mapping):
        return {str(key): json_able(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_able(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value
