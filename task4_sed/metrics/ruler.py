"""The ruler: figures as sed_scores_eval, the field's own library, computes them.

It goes through every threshold of every clip in Python, so final figures are taken with it; validation, tuning,
bootstrap and large sets take the same metrics from the numpy code beside this file.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np

from task4_sed.metrics.f1 import COLLAR_OF_LENGTH, COLLAR_SECONDS, F1
from task4_sed.metrics.psds import PsdsParameters
from task4_sed.metrics.segments import Segments
from task4_sed.metrics.truth import MICROSECONDS, Truth
from task4_sed.metrics.types import ScoreSet

# sed_scores_eval holds (thresholds, detections) of a clip and class at once, about 5 x frames^2 x 8 bytes.
MAX_FRAMES = 3000
# Cells of these matrices over all clips, classes and, for cross triggers, pairs of classes: minutes of work.
MAX_WORK = 3e10
# Clips, or segments, times classes: about 0.1 ms and 2 us each.
MAX_CLIPS_X_CLASSES, MAX_SEGMENTS_X_CLASSES = 200_000, 5_000_000


def library() -> ModuleType:
    """sed_scores_eval; imported late, it takes more than a second."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pkg_resources, which dcase_util imports
        import sed_scores_eval
    return sed_scores_eval


def version() -> str:
    """Name and version of the library."""
    from importlib.metadata import version as version_of

    return f"sed_scores_eval {version_of('sed_scores_eval')}"


@dataclass(frozen=True)
class Ruler:
    """Clips to measure: scores of the classes of `truth`, for each of its clips."""

    scores: ScoreSet
    truth: Truth

    def _tables(self, threshold: float | None = None) -> dict[str, Any]:
        """{clip: data frame of onset, offset and a column per class}, named by number: the library refuses some names.

        With a threshold: 1 where a score exceeds it, else 0. They give the same detections at 0.5, and the library has
        one threshold to go through in place of all.
        """
        create = library().base_modules.scores.create_score_dataframe
        columns = [self.scores.classes.index(name) for name in self.truth.classes]
        names, tables = _labels(self.truth.classes), {}
        for name in self.truth.clips:
            clip = self.scores.clips[name]
            scores = clip.scores[:, columns]
            values = scores if threshold is None else (scores > threshold).astype(float)
            tables[name] = create(values, clip.edges, names)
        return tables

    @cached_property
    def events(self) -> dict[str, list[tuple[float, float, str]]]:
        """{clip: (onset, offset, class)}, seconds; those of one class neither touch nor overlap."""
        truth, labels = self.truth, _labels(self.truth.classes)
        found: dict[str, list[tuple[float, float, str]]] = {name: [] for name in truth.clips}
        times = (truth.onset / MICROSECONDS).tolist(), (truth.offset / MICROSECONDS).tolist()
        for clip, label, onset, offset in zip(truth.clip.tolist(), truth.label.tolist(), *times, strict=True):
            found[truth.clips[clip]].append((onset, offset, labels[label]))
        return found

    @cached_property
    def durations(self) -> dict[str, float]:
        """{clip: seconds}."""
        return dict(zip(self.truth.clips, self.truth.durations.tolist(), strict=True))

    def reason_against(self, p: PsdsParameters | None = None) -> str | None:
        """Why it cannot measure this PSDS, or without one F1, here (None: it can), as the end of a sentence."""
        frames = np.array([len(self.scores.clips[name].scores) for name in self.truth.clips], dtype=float)
        classes = len(self.truth.classes)
        too_many = f"{len(frames):,} clips with {classes} classes are too many"
        if len(frames) * classes > MAX_CLIPS_X_CLASSES:
            return too_many
        if p is None:
            return None
        if frames.max(initial=0) > MAX_FRAMES:
            return f"a clip has {int(frames.max()):,} frames, more than {MAX_FRAMES:,}"
        if float((frames**2).sum()) * classes * (1 if p.cttc is None else classes) > MAX_WORK:
            return too_many
        if p.cttc is not None and (classes == 1 or not self.truth.seconds().sum(axis=0).all()):
            return "cross triggers need two classes or more, each with an event longer than 0 s"
        return None

    def psds(self, p: PsdsParameters) -> tuple[float, dict[str, float]]:
        """The score and those of the single classes."""
        value, single, *_ = library().intersection_based.psds(
            *(self._tables(), self.events, self.durations),
            dtc_threshold=p.dtc,
            gtc_threshold=p.gtc,
            cttc_threshold=p.cttc,
            alpha_ct=p.alpha_ct,
            alpha_st=p.alpha_st,
            max_efpr=p.max_efpr,
        )
        return float(value), _by_class(self.truth.classes, single)

    def f1(self, threshold: float, dtc: float = 0.5, gtc: float = 0.5) -> tuple[F1, F1]:
        """Intersection-based and collar-based F1 of scores > threshold."""
        tables, ruler = self._tables(threshold), library()
        collars = {"onset_collar": COLLAR_SECONDS, "offset_collar": COLLAR_SECONDS}
        collars["offset_collar_rate"] = COLLAR_OF_LENGTH
        by_intersection = ruler.intersection_based.fscore(
            tables, self.events, 0.5, dtc_threshold=dtc, gtc_threshold=gtc
        )
        by_collars = ruler.collar_based.fscore(tables, self.events, 0.5, **collars)
        return _f1(self.truth.classes, by_intersection[0]), _f1(self.truth.classes, by_collars[0])


@dataclass(frozen=True)
class SegmentRuler:
    """Segments to measure; clips are handed over as their segments of one second."""

    segments: Segments

    @cached_property
    def _inputs(self) -> tuple[dict[str, Any], dict[str, list[tuple[float, float, str]]], dict[str, float]]:
        create = library().base_modules.scores.create_score_dataframe
        segments, tables, events, durations = self.segments, {}, {}, {}
        for clip in np.unique(segments.clip).tolist():
            rows = np.flatnonzero(segments.clip == clip)
            name, edges = str(clip), np.arange(len(rows) + 1, dtype=float)
            labels = _labels(segments.classes)
            tables[name] = create(segments.scores[rows], edges, labels)
            events[name] = [
                (float(on), float(off), label)
                for i, label in enumerate(labels)
                for on, off in _runs(segments.targets[rows, i])
            ]
            durations[name] = float(len(rows))
        return tables, events, durations

    def reason_against(self, areas: bool) -> str | None:
        """Why it cannot measure F1, or ROC areas, here (None: it can), as the end of a sentence."""
        if self.segments.targets.size > MAX_SEGMENTS_X_CLASSES:
            return "{:,} segments with {} classes are too many".format(*self.segments.targets.shape)
        if not self.segments.targets.any(axis=0).all():
            return "a class has no active segment"
        if areas and self.segments.targets.all(axis=0).any():
            return "a class has no inactive segment"
        return None

    def f1(self, threshold: float) -> F1:
        """F1 over segments with score > threshold."""
        found = library().segment_based.fscore(*self._inputs, threshold, segment_length=1.0)[0]
        return _f1(self.segments.classes, found)

    def areas(self, max_fpr: float | None) -> dict[str, float]:
        """ROC area of each class, a staircase, up to `max_fpr` and divided by it."""
        found = library().segment_based.auroc(*self._inputs, segment_length=1.0, max_fpr=max_fpr)[0]
        return _by_class(self.segments.classes, found)


def _runs(active: np.ndarray) -> list[tuple[int, int]]:
    """First index and index after the last of each run of True in (n,)."""
    change = np.flatnonzero(np.diff(np.concatenate(([0], active.astype(np.int8), [0]))))
    return [(int(first), int(stop)) for first, stop in change.reshape(-1, 2)]


def _labels(classes: Sequence[str]) -> list[str]:
    return [str(i) for i in range(len(classes))]


def _by_class(classes: Sequence[str], found: Mapping[str, float]) -> dict[str, float]:
    return {name: float(found[label]) for name, label in zip(classes, _labels(classes), strict=True)}


def _f1(classes: Sequence[str], found: Mapping[str, float]) -> F1:
    return F1(_by_class(classes, found), float(found["macro_average"]), float(found["micro_average"]))
