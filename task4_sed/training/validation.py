"""Validation metrics during training: arrays of probabilities in, named numbers out."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from task4_sed.config import ValidationConfig
from task4_sed.data.annotations import Event
from task4_sed.data.classes import (
    CLIP_SECONDS,
    FRAME_SECONDS,
    MAESTRO_SCORED_CLASSES,
    median_frames,
    scored_classes,
)
from task4_sed.data.sets import ClipSet
from task4_sed.metrics.detections import detections_above_thresholds, detections_of_scores
from task4_sed.metrics.f1 import intersection_f1, weak_f1
from task4_sed.metrics.filters import median_filter
from task4_sed.metrics.maestro import (
    CONFIDENCE_THRESHOLD,
    overlap_add,
    recording_events,
    segments_of_recordings,
)
from task4_sed.metrics.psds import PSDS1, psds, psds_statistics
from task4_sed.metrics.segments import (
    Segments,
    best_segment_f1,
    mean_of_defined,
    segment_auroc,
    segments_of_scores,
)
from task4_sed.metrics.truth import Truth, truth_arrays
from task4_sed.metrics.types import ClipScores, ScoreSet, clip_name

# strong (clips, classes, frames) and weak (clips, classes) probabilities of a set's clips, in their order
Validator = Callable[[np.ndarray, np.ndarray], dict[str, float]]


def validators(sets: Sequence[ClipSet], config: ValidationConfig, classes: Sequence[str]) -> dict[str, Validator]:
    """One validator per validation set, by the kind of its labels."""
    made: dict[str, Validator] = {}
    for of in sets:
        if of.layout.kind == "weak":
            made[of.name] = _weak(of, classes, classes if config.as_published else scored_classes(classes))
        elif of.layout.kind == "soft":
            made[of.name] = _maestro_windows(of, classes) if config.as_published else _maestro(of, classes)
        else:
            made[of.name] = _strong(of, classes, config)
    return made


def objective(metrics: Mapping[str, float], config: ValidationConfig) -> float:
    """Sum of the metrics that the recipe names, over all sets that have them; NaN counts as 0."""
    return sum(np.nan_to_num(value) for name, value in metrics.items() if name.split("/")[-1] in config.objective)


def score_set(names: Sequence[str], strong: np.ndarray, classes: Sequence[str]) -> ScoreSet:
    """Probabilities (clips, classes, frames) as scores on the frame grid."""
    edges = np.arange(strong.shape[2] + 1) * FRAME_SECONDS
    of_clip = {
        clip_name(name): ClipScores(edges, p.T.astype(np.float64)) for name, p in zip(names, strong, strict=True)
    }
    return ScoreSet(tuple(classes), of_clip)


def _weak(of: ClipSet, classes: Sequence[str], chosen: Sequence[str]) -> Validator:
    """Macro F1 over the `chosen` classes; one without clips counts as 0."""
    columns = [tuple(classes).index(name) for name in chosen]
    targets = np.array([[name in of.weak[clip] for name in chosen] for clip in of.clips])

    def validate(strong: np.ndarray, weak: np.ndarray) -> dict[str, float]:
        return {"weak_f1": weak_f1(weak[:, columns], targets, chosen).macro}

    return validate


def _strong(of: ClipSet, classes: Sequence[str], config: ValidationConfig) -> Validator:
    chosen = scored_classes(classes)
    durations = {clip_name(c): of.durations.get(c, CLIP_SECONDS) for c in of.clips if of.truth[c]}
    events = {clip_name(clip): events for clip, events in of.truth.items()}
    truth = _with_events(events, durations, chosen)

    def validate(strong: np.ndarray, weak: np.ndarray) -> dict[str, float]:
        scores = median_filter(score_set(of.clips, strong, classes), median_frames(classes))
        found = detections_of_scores(scores, truth.clips, truth.classes)
        values = {
            "intersection_f1": intersection_f1(detections_above_thresholds(found, [0.5] * len(found)), truth).macro
        }
        if "psds1" in config.objective:
            values["psds1"] = psds(psds_statistics(found, truth, PSDS1)).value
        return values

    return validate


def _with_events(
    events: Mapping[str, Sequence[Event]], durations: Mapping[str, float], classes: Sequence[str]
) -> Truth:
    """The truth over the classes that have events: the metrics are not defined for the others."""
    present = {event.label for of_clip in events.values() for event in of_clip}
    return truth_arrays(events, durations, [name for name in classes if name in present])


def _maestro(of: ClipSet, classes: Sequence[str]) -> Validator:
    merged = recording_events({clip_name(clip): of.truth[clip] for clip in of.clips}, MAESTRO_SCORED_CLASSES)
    recordings = {clip_name(clip).rsplit("-", 2)[0] for clip in of.clips}
    durations = {clip_name(name): d for name, d in of.durations.items() if clip_name(name) in recordings}
    truth = _with_events(merged, durations, MAESTRO_SCORED_CLASSES)

    def validate(strong: np.ndarray, weak: np.ndarray) -> dict[str, float]:
        scores = median_filter(score_set(of.clips, strong, classes), median_frames(classes))
        return _segment_metrics(segments_of_recordings(overlap_add(scores, durations, truth.classes), truth))

    return validate


def _maestro_windows(of: ClipSet, classes: Sequence[str]) -> Validator:
    """As published: each window with events on its own, to the end of the last one, a second's largest score."""
    events = {
        clip_name(clip): [
            event
            for event in of.truth[clip]
            if event.confidence > CONFIDENCE_THRESHOLD and event.label in MAESTRO_SCORED_CLASSES
        ]
        for clip in of.clips
    }
    durations = {name: max(event.offset for event in found) for name, found in events.items() if found}
    truth = _with_events(events, durations, MAESTRO_SCORED_CLASSES)

    def validate(strong: np.ndarray, weak: np.ndarray) -> dict[str, float]:
        scores = median_filter(score_set(of.clips, strong, classes), median_frames(classes))
        return _segment_metrics(segments_of_scores(scores, truth))

    return validate


def _segment_metrics(segments: Segments) -> dict[str, float]:
    f1, _ = best_segment_f1(segments)
    return {"segment_f1": f1.macro, "mpauc": mean_of_defined(segment_auroc(segments, max_fpr=0.1))}
