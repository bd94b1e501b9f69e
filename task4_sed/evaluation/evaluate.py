"""Scores on disk against a ground truth: one's own or anybody's, in the challenge's formats."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.run.errors import UserError
from common.run.results.intervals import interval_of
from common.run.results.tables import print_table
from task4_sed.config import check_threshold
from task4_sed.data.classes import MEDIAN_FILTER_FRAMES, median_frames
from task4_sed.evaluation.figures import (
    MAX_FPR,
    PSDS_OF_POINTS,
    Figures,
    json_able,
    measured,
    point_figures,
    psds_statistics_of,
    score_figures,
    segments_of,
    truth_of,
)
from task4_sed.evaluation.inputs import Inputs, describe_inputs, load
from task4_sed.inference.postprocess.boxes import box_scores, make_boxes, number_of_boxes, parse_csebbs
from task4_sed.inference.postprocess.tuning import grid
from task4_sed.inference.scores import of_objects
from task4_sed.metrics.detections import detections_at_points, detections_of_scores
from task4_sed.metrics.filters import median_filter as filter_scores
from task4_sed.metrics.psds import PsdsStatistics, psds, psds_statistics
from task4_sed.metrics.segments import Segments, mean_of_defined, roc_curve, segment_auroc
from task4_sed.metrics.types import ScoreSet

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_THRESHOLD = 0.5
IN_MEMORY = Path("scores in memory")  # what messages call those that come as objects

# Metrics per class that fit on a screen.
CLASS_COLUMNS = {
    "psds1_single_class": "PSDS1",
    "psds2_single_class": "PSDS2",
    "intersection_f1_th0.5_dtc0.5_gtc0.5": "inters. F1",
    "collar_f1_th0.5_200ms_20pct": "collar F1",
    "segment_f1_th0.5_1s": "segment F1",
    "segment_pauroc_1s_maxfpr0.1_step": "segment pAUC",
    "intersection_f1_dtc0.5_gtc0.5_psds_eval": "inters. F1",
    "collar_f1_sed_eval_200ms_20pct": "collar F1",
    "segment_f1_sed_eval_1s": "segment F1",
}


def evaluate_files(
    scores: "str | Path | Mapping[str, pd.DataFrame]",
    ground_truth: str | Path,
    durations: str | Path,
    median_filter: bool | Mapping[str, int] = False,
    csebbs: str | None = None,
    threshold: float | None = None,
    allow_missing: bool = False,
    show_progress: bool = True,
    ruler: bool = True,
) -> dict[str, Any]:
    """Every metric that these files allow, as a JSON-able dictionary.

    scores: folder of <clip>.tsv, one .tsv with a filename column, an HDF5 file of logits, a table of detections with a
    threshold column, or score objects of sed_scores_eval ({clip: data frame}).
    ground_truth: strong labels (PSDS, F1, segments) or soft labels (segments of MAESTRO's scored classes, windows
    overlap-added). durations: of clips or recordings.
    median_filter: True for the challenge's lengths per class, or {class: frames}. csebbs: "default",
    "filter=0.64,abs=0.2,rel=inf", "tune", "tune:organisers", "tune:winner", or a table of parameters. threshold of the
    F1 scores: 0.5 unless given. ruler: take what it can compute from sed_scores_eval (seconds a thousand clips).

    Overall values stand flat under the metrics' names (F1: macro average, `<name>_micro` beside it; areas: mean), those
    of the classes in result["classes"][metric][class]. What was left out: result["dropped"] (lists) and
    result["notes"] (sentences). Undefined values are None. Where sed_scores_eval computed a value, result["ruler"] has
    that of the fast path, and how far they are apart at most. Raises UserError.
    """
    _check_options(threshold, csebbs)
    in_memory = None if isinstance(scores, str | Path) else of_objects(scores)
    named = Path(scores) if isinstance(scores, str | Path) else IN_MEMORY
    paths = {"scores": named, "ground_truth": Path(ground_truth), "durations": Path(durations)}
    inputs = load(**paths, allow_missing=allow_missing, in_memory=in_memory)
    result: dict[str, Any] = {"threshold": DEFAULT_THRESHOLD if threshold is None else threshold}
    if inputs.points is not None:
        if median_filter or csebbs:
            raise UserError(f"{scores}: detections at thresholds cannot be post-processed, give scores")
        result["kind"] = "operating_points"
        at = _operating_point(inputs, threshold)
        figures = point_figures(inputs, inputs.points, at)
    else:
        processed = _filtered(inputs, median_filter)
        result["kind"] = "recordings" if inputs.soft else "scores"
        if csebbs:
            result["kind"] = "boxes"
            processed = _boxed(inputs, processed, csebbs, bool(median_filter), show_progress, result)
        figures = score_figures(inputs, processed, result["threshold"])
        if ruler:
            result["ruler"] = measured(figures, inputs, processed, result["threshold"])
    return json_able(_with_figures(result, figures, inputs, paths))


def _check_options(threshold: float | None, csebbs: str | None) -> None:
    """Before anything is read: files can be large."""
    if threshold is not None:
        check_threshold(threshold)
    mode, _, name = (csebbs or "default").partition(":")
    if mode == "tune":
        grid(name or "default")
    elif csebbs:
        parse_csebbs(csebbs)


def _filtered(inputs: Inputs, median_filter: bool | Mapping[str, int]) -> ScoreSet:
    """The scores of the scored classes, median-filtered if asked for."""
    assert inputs.scores is not None
    columns = [inputs.scores.classes.index(name) for name in inputs.classes]
    clips = {
        name: replace(clip, scores=np.ascontiguousarray(clip.scores[:, columns]))
        for name, clip in inputs.scores.clips.items()
    }
    chosen = ScoreSet(inputs.classes, clips)
    if not median_filter:
        return chosen
    if median_filter is not True:
        return filter_scores(chosen, median_filter)
    frames = median_frames(inputs.classes)
    other = [name for name in inputs.classes if name not in MEDIAN_FILTER_FRAMES]
    if other:
        inputs.report.notes.append(
            f"median filter: no tuned length for {', '.join(other)}, {frames[other[0]]} frames taken"
        )
    return filter_scores(chosen, frames)


def _boxed(
    inputs: Inputs, scores: ScoreSet, csebbs: str, filtered: bool, show_progress: bool, result: dict[str, Any]
) -> ScoreSet:
    if inputs.soft:
        raise UserError(f"csebbs {csebbs!r}: MAESTRO's classes are not boxed; they are scored by 1-s means")
    if filtered:
        inputs.report.notes.append("cSEBBs were made from median-filtered scores; usually they take unfiltered ones")
    truth = truth_of(inputs)
    boxes, described, cross_validated = make_boxes(scores, truth, csebbs, show_progress)
    result["number_of_boxes"] = number_of_boxes(list(boxes.values()))
    result["csebbs"] = described
    if cross_validated is not None:
        result["psds1_cross_validated"] = cross_validated
        inputs.report.notes.append(
            "cSEBBs were tuned on the clips that are scored: compare systems by psds1_cross_validated"
        )
    return box_scores(boxes, truth)


def _operating_point(inputs: Inputs, threshold: float | None) -> float | None:
    """The threshold of the table at which F1 is taken; None where the default isn't among them."""
    assert inputs.points is not None
    wanted = DEFAULT_THRESHOLD if threshold is None else threshold
    nearest = min(sorted(inputs.points), key=lambda point: abs(point - wanted))
    if abs(nearest - wanted) < 1e-9:
        return nearest
    if threshold is not None:
        raise UserError(f"no operating point at threshold {threshold:g}; the nearest one is {nearest:g}")
    inputs.report.notes.append(f"no operating point at {wanted:g}, so no F1; the nearest one is {nearest:g}")
    return None


def _with_figures(
    result: dict[str, Any], figures: Figures, inputs: Inputs, paths: Mapping[str, Path]
) -> dict[str, Any]:
    result |= {
        "number_of_clips": len(inputs.durations),
        "number_of_events": int(truth_of(inputs).counts().sum()),
        "total_seconds": sum(inputs.durations.values()),
    }
    undefined = sorted({name for values in figures.classes.values() for name, v in values.items() if np.isnan(v)})
    inputs.report.drop(
        "undefined_areas", undefined, "{n} classes are active in every segment, so they have no ROC area: {names}"
    )
    return {
        **result,
        **figures.overall,
        "classes": figures.classes,
        "best_thresholds": figures.best_thresholds,
        "dropped": inputs.report.dropped,
        "notes": inputs.report.notes,
        "inputs": describe_inputs(**paths),
    }


def processed_inputs(
    scores: str | Path,
    ground_truth: str | Path,
    durations: str | Path,
    median_filter: bool | Mapping[str, int],
    csebbs: str | None,
    allow_missing: bool,
) -> tuple[Inputs, ScoreSet | None]:
    """What `evaluate_files` scores with these arguments; None in place of the scores for operating points."""
    inputs = load(Path(scores), Path(ground_truth), Path(durations), allow_missing)
    if inputs.points is not None:
        if median_filter or csebbs:
            raise UserError(f"{scores}: detections at thresholds cannot be post-processed, give scores")
        return inputs, None
    processed = _filtered(inputs, median_filter)
    if csebbs:
        processed = _boxed(inputs, processed, csebbs, bool(median_filter), False, {})
    return inputs, processed


def psds_by_name(inputs: Inputs, processed: ScoreSet | None) -> dict[str, PsdsStatistics]:
    """Statistics of psds1 and psds2 of what `processed_inputs` returns."""
    truth = truth_of(inputs)
    if processed is not None:
        return psds_statistics_of(detections_of_scores(processed, truth.clips, truth.classes), truth)
    detections = detections_at_points(inputs.points or {}, truth.clips, truth.classes)
    return {name: psds_statistics(detections, truth, p, ratios=True) for name, p in PSDS_OF_POINTS.items()}


def threshold_free_curves(
    scores: str | Path,
    ground_truth: str | Path,
    durations: str | Path,
    median_filter: bool | Mapping[str, int] = False,
    csebbs: str | None = None,
    allow_missing: bool = False,
) -> dict[str, dict[str, Any]]:
    """Curves to plot: PSD-ROC by metric name, and "segment_roc".

    {"psds1": {"area": value, "effective": (efpr, tpr), "classes": {class: (efpr, tpr)}, "areas": {class: value}}}; eFPR
    per hour, arrays (points,), staircases. "segment_roc": {"area": mean partial area, "classes": {class: (fpr, tpr)},
    "areas": {class: partial area}}; only this one for soft labels, and without it for operating points. Arguments and
    errors as in `evaluate`.
    """
    inputs, processed = processed_inputs(scores, ground_truth, durations, median_filter, csebbs, allow_missing)
    curves: dict[str, dict[str, Any]] = {}
    if not inputs.soft:
        for name, statistics in psds_by_name(inputs, processed).items():
            result = psds(statistics)
            curves[name] = {
                "area": result.value,
                "effective": (result.curve.efpr, result.curve.tpr),
                "classes": {key: (curve.efpr, curve.tpr) for key, curve in result.single_class_curves.items()},
                "areas": result.single_class,
            }
    if processed is not None:
        segments = segments_of(inputs, processed, truth_of(inputs))
        areas = segment_auroc(segments, MAX_FPR)
        curves["segment_roc"] = {
            "area": mean_of_defined(areas),
            "classes": {
                name: roc_curve(segments.scores[:, i], segments.targets[:, i])
                for i, name in enumerate(segments.classes)
            },
            "areas": areas,
        }
    return curves


def resample(
    statistics: Mapping[str, PsdsStatistics], segments: Segments | None, draws: int, seed: int
) -> dict[str, np.ndarray]:
    """Values (draws,) of each metric with clips, and recordings, drawn with replacement.

    statistics: by metric name, all over the same clips; segments: gives "mpauc", and with psds1 the sum "rank_score".
    """
    random = np.random.default_rng(seed)
    values: dict[str, list[float]] = {}
    for _ in range(draws):
        drawn: dict[str, float] = {}
        if statistics:
            count = len(next(iter(statistics.values())).durations)
            weights = random.multinomial(count, np.full(count, 1 / count)).astype(np.float64)
            drawn |= {name: psds(of_metric, weights).value for name, of_metric in statistics.items()}
        if segments is not None:
            count = int(segments.clip.max()) + 1
            weights = random.multinomial(count, np.full(count, 1 / count)).astype(np.float64)
            drawn["mpauc"] = mean_of_defined(segment_auroc(segments, MAX_FPR, "step", weights))
        if "psds1" in drawn and "mpauc" in drawn:
            drawn["rank_score"] = drawn["psds1"] + drawn["mpauc"]
        for name, value in drawn.items():
            values.setdefault(name, []).append(value)
    return {name: np.array(listed) for name, listed in values.items()}


def bootstrap_psds(
    scores: str | Path,
    ground_truth: str | Path,
    durations: str | Path,
    maestro: tuple[str | Path, str | Path, str | Path] | None = None,
    draws: int = 1000,
    seed: int = 0,
    median_filter: bool | Mapping[str, int] = False,
    csebbs: str | None = None,
    allow_missing: bool = False,
) -> dict[str, dict[str, float | None]]:
    """{metric: {"value", "low", "high"}}: values and 95 % intervals (`interval_of`) over clips drawn with replacement.

    psds1 and psds2 of the clips; with `maestro` (its scores, soft labels and durations; recordings are drawn) also
    mpauc and rank_score = psds1 + mpauc. `csebbs` as in `evaluate`; tuning happens once, before drawing.
    Raises UserError.
    """
    if draws < 1:
        raise UserError(f"bootstrap: {draws} draws, expected at least 1")
    inputs, processed = processed_inputs(scores, ground_truth, durations, median_filter, csebbs, allow_missing)
    if inputs.soft:
        raise UserError(f"{ground_truth}: soft labels have no PSDS; give them as `maestro`")
    statistics = psds_by_name(inputs, processed)
    values = {name: psds(of_metric).value for name, of_metric in statistics.items()}
    segments = None
    if maestro is not None:
        other, other_scores = processed_inputs(*maestro, median_filter, None, allow_missing)
        if not other.soft or other_scores is None:
            raise UserError(f"{maestro[1]}: expected soft labels (with a column confidence)")
        segments = segments_of(other, other_scores, truth_of(other))
        values["mpauc"] = mean_of_defined(segment_auroc(segments, MAX_FPR))
        values["rank_score"] = values["psds1"] + values["mpauc"]
    drawn = resample(statistics, segments, draws, seed)
    clips = len(next(iter(statistics.values())).durations)
    recordings = int(segments.clip.max()) + 1 if segments is not None else clips
    units = {"mpauc": recordings, "rank_score": min(clips, recordings)}
    found = {}
    for name, value in values.items():
        # The rank score is a sum of two shares.
        low, high = interval_of(value, drawn[name], units.get(name, clips), share=name != "rank_score")
        found[name] = json_able({"value": value, "low": low, "high": high})
    return found


def show_metrics(result: Mapping[str, Any]) -> None:
    """Print what `evaluate --scores` found: overall values, values per class, and what was left out."""
    overall = [
        [name, f"{value:.6f}" if isinstance(value, float) else str(value)]
        for name, value in result.items()
        if isinstance(value, int | float | str) or value is None
    ]
    print_table("overall", ["metric", "value"], overall)
    shown = {title: result["classes"][name] for name, title in CLASS_COLUMNS.items() if name in result["classes"]}
    labels = sorted({label for values in shown.values() for label in values})
    rows = [[label, *(_number(values.get(label)) for values in shown.values())] for label in labels]
    print_table("per class", ["class", *shown], rows, note="more of them in the JSON (--json)")
    for note in result["notes"]:
        print(f"note: {note}")
    if ruler := result.get("ruler"):
        names = ", ".join(
            name for name in ruler["fast_path"] if not name.endswith(("_micro", "_macro_mean_of_classes"))
        )
        print(f"measured with {ruler['library']}: {names}; the fast path differs by {ruler['largest_difference']:.1g}")


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
