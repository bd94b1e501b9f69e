"""Metrics of sound event detection: arrays in, numbers out; numpy only."""

from task4_sed.metrics.detections import (
    Detections,
    detections_above_thresholds,
    detections_at_points,
    detections_of_intervals,
    detections_of_scores,
)
from task4_sed.metrics.f1 import F1, best_collar_f1, collar_f1, intersection_f1, weak_f1
from task4_sed.metrics.maestro import overlap_add, recording_events, segments_of_recordings, window_of
from task4_sed.metrics.psds import (
    PSDS1,
    PSDS2,
    Curve,
    PsdsParameters,
    PsdsResult,
    PsdsStatistics,
    psds,
    psds_statistics,
)
from task4_sed.metrics.segments import (
    Segments,
    best_segment_f1,
    mean_of_defined,
    roc_area,
    roc_curve,
    segment_auroc,
    segment_f1,
    segment_targets,
    segments_of_scores,
)
from task4_sed.metrics.truth import Truth, merge_intervals, truth_arrays

__all__ = [
    "F1",
    "PSDS1",
    "PSDS2",
    "Curve",
    "Detections",
    "PsdsParameters",
    "PsdsResult",
    "PsdsStatistics",
    "Segments",
    "Truth",
    "best_collar_f1",
    "best_segment_f1",
    "collar_f1",
    "detections_above_thresholds",
    "detections_at_points",
    "detections_of_intervals",
    "detections_of_scores",
    "intersection_f1",
    "mean_of_defined",
    "merge_intervals",
    "overlap_add",
    "psds",
    "psds_statistics",
    "recording_events",
    "roc_area",
    "roc_curve",
    "segment_auroc",
    "segment_f1",
    "segment_targets",
    "segments_of_recordings",
    "segments_of_scores",
    "truth_arrays",
    "weak_f1",
    "window_of",
]
