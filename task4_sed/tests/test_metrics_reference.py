"""The metrics equal sed_scores_eval, on random scores with ties, clips without events, and single classes."""

from dataclasses import replace

import numpy as np
import pytest
import sed_scores_eval as reference
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sed_scores_eval.base_modules.scores import create_score_dataframe

from task4_sed.data.annotations import Event
from task4_sed.metrics.detections import detections_of_scores
from task4_sed.metrics.f1 import best_collar_f1, collar_f1, intersection_f1
from task4_sed.metrics.psds import PSDS1, PSDS2, PsdsParameters, psds, psds_statistics
from task4_sed.metrics.ruler import Ruler, SegmentRuler
from task4_sed.metrics.segments import best_segment_f1, segment_auroc, segment_f1, segments_of_scores
from task4_sed.metrics.truth import Truth, truth_arrays
from task4_sed.metrics.types import ClipScores, ScoreSet

few = settings(deadline=None, max_examples=40, derandomize=True)
seeds = st.integers(0, 2**32 - 1)


class Case:
    """Random scores and events in both forms."""

    def __init__(self, seed: int, instants: bool = False) -> None:
        random = np.random.default_rng(seed)
        self.classes = tuple("abc"[: random.integers(1, 4)])
        clips, self.events, self.durations = {}, {}, {}
        decimals = int(random.integers(1, 4))  # few decimals: many ties
        for i in range(int(random.integers(2, 6))):
            name, duration = f"clip{i}", float(np.round(random.uniform(4, 12), 2))
            frames = int(random.integers(1, 60))
            edges = np.round(np.append(0, np.cumsum(random.uniform(0.05, 0.4, frames))), 3)
            events = [] if i == 1 else self._events(random, duration)
            if i == 0:
                events = [Event(0.5, 1.7, name) for name in self.classes] + [e for e in events if e.onset > 2]
            if instants:
                events += self._instants(random, events, duration)
            scores = random.uniform(0, 0.5, (frames, len(self.classes)))
            for event in events:
                inside = (edges[:-1] < event.offset) & (edges[1:] > event.onset)
                scores[inside, self.classes.index(event.label)] += random.uniform(0.1, 0.5)
            clips[name] = ClipScores(edges, np.round(scores, decimals))
            self.events[name], self.durations[name] = events, duration
        self.scores = ScoreSet(self.classes, clips)
        self.tables = {n: create_score_dataframe(c.scores, c.edges, list(self.classes)) for n, c in clips.items()}
        self.tuples = {n: [(e.onset, e.offset, e.label) for e in listed] for n, listed in self.events.items()}

    def _events(self, random: np.random.Generator, duration: float) -> list[Event]:
        events = []
        for name in self.classes:
            borders = np.sort(np.round(random.uniform(0, duration, 2 * int(random.integers(0, 4))), 2))
            if len(np.unique(borders)) == len(borders):
                events += [Event(float(a), float(b), name) for a, b in borders.reshape(-1, 2)]
        return events

    def _instants(self, random: np.random.Generator, events: list[Event], duration: float) -> list[Event]:
        """Events of length 0 that touch no other of their class."""
        found = []
        for name in self.classes:
            at = float(np.round(random.uniform(0, duration), 1))
            if not any(event.label == name and event.onset <= at <= event.offset for event in events):
                found.append(Event(at, at, name))
        return found

    @property
    def truth(self) -> Truth:
        return truth_arrays(self.events, self.durations, self.classes)


def of_classes(values: object, classes: tuple[str, ...]) -> dict[str, float]:
    return {name: float(values[name]) for name in classes}  # type: ignore[index]


@few
@given(seeds, st.sampled_from([PSDS1, PSDS2, PsdsParameters(0.5, 0.6, 0.3, 1.0, 0.5, 2000.0)]))
def test_psds(seed: int, p: PsdsParameters) -> None:
    case = Case(seed)
    assume(p.cttc is None or len(case.classes) > 1)  # sed_scores_eval fails for cross triggers of a single class
    truth = case.truth
    found = psds(psds_statistics(detections_of_scores(case.scores, truth.clips, truth.classes), truth, p))
    value, single, _, _ = reference.intersection_based.psds(
        case.tables,
        case.tuples,
        case.durations,
        dtc_threshold=p.dtc,
        gtc_threshold=p.gtc,
        cttc_threshold=p.cttc,
        alpha_ct=p.alpha_ct,
        alpha_st=p.alpha_st,
        max_efpr=p.max_efpr,
    )
    assert found.value == pytest.approx(value, abs=1e-9)
    assert found.single_class == pytest.approx(of_classes(single, case.classes), abs=1e-9)


@few
@given(seeds, st.booleans(), st.booleans(), st.sampled_from([0.15, 0.3, 0.5]))
def test_the_ruler_is_the_fast_path(seed: int, instants: bool, boxes: bool, threshold: float) -> None:
    """Also for events of length 0, for scores of -inf outside of boxes, and names that the library itself refuses."""
    case = Case(seed, instants)
    names = dict(zip(case.classes, ("a\\b", "onset", "c c"), strict=False))
    events = {clip: [replace(e, label=names[e.label]) for e in listed] for clip, listed in case.events.items()}
    clips = {
        name: replace(clip, scores=np.where(clip.scores > 0.3, clip.scores, -np.inf)) if boxes else clip
        for name, clip in case.scores.clips.items()
    }
    scores = ScoreSet(tuple(names.values()), clips)
    truth = truth_arrays(events, case.durations, scores.classes)
    ruler, detections = Ruler(scores, truth), detections_of_scores(scores, truth.clips, truth.classes)
    for p in (PSDS1, PSDS2):
        if ruler.reason_against(p) is None:
            found = psds(psds_statistics(detections, truth, p))
            value, single = ruler.psds(p)
            assert found.value == pytest.approx(value, abs=1e-9)
            assert found.single_class == pytest.approx(single, abs=1e-9)
    above = [of_class.above(threshold) for of_class in detections]
    for expected, found in zip(
        ruler.f1(threshold), (intersection_f1(above, truth), collar_f1(above, truth)), strict=True
    ):
        assert found.classes == pytest.approx(expected.classes, abs=1e-9)
        assert (found.macro, found.micro) == pytest.approx((expected.macro, expected.micro), abs=1e-9)
    segments = segments_of_scores(scores, truth)
    measured = SegmentRuler(segments)
    if measured.reason_against(areas=True) is None:
        assert segment_f1(segments, threshold).classes == pytest.approx(measured.f1(threshold).classes, abs=1e-9)
        for max_fpr in (None, 0.1):
            assert segment_auroc(segments, max_fpr) == pytest.approx(measured.areas(max_fpr), abs=1e-9)


def test_the_ruler_says_what_it_cannot_measure() -> None:
    case = Case(1)
    only = truth_arrays(case.events, case.durations, case.classes[:1])
    ruler = Ruler(case.scores, only)
    assert ruler.reason_against(PSDS1) is None
    assert "two classes" in str(ruler.reason_against(PSDS2))
    long = {name: ClipScores(np.arange(5001.0), np.zeros((5000, len(case.classes)))) for name in case.scores.clips}
    assert "5,000 frames" in str(Ruler(ScoreSet(case.classes, long), case.truth).reason_against(PSDS1))
    silent = replace(segments_of_scores(case.scores, case.truth), targets=np.zeros((1, 2), bool))
    assert "no active segment" in str(SegmentRuler(silent).reason_against(areas=False))
    busy = replace(silent, targets=np.ones((1, 2), bool))
    assert SegmentRuler(busy).reason_against(areas=False) is None
    assert "no inactive segment" in str(SegmentRuler(busy).reason_against(areas=True))


@few
@given(seeds, st.sampled_from([0.15, 0.3, 0.5]))
def test_intersection_and_collar_f1(seed: int, threshold: float) -> None:
    case = Case(seed)
    truth = case.truth
    detections = detections_of_scores(case.scores, truth.clips, truth.classes)
    above = [of_class.above(threshold) for of_class in detections]
    expected = reference.intersection_based.fscore(
        case.tables, case.tuples, threshold, dtc_threshold=0.5, gtc_threshold=0.5
    )[0]
    found = intersection_f1(above, truth)
    assert found.classes == pytest.approx(of_classes(expected, case.classes), abs=1e-9)
    assert found.macro == pytest.approx(expected["macro_average"], abs=1e-9)
    assert found.micro == pytest.approx(expected["micro_average"], abs=1e-9)
    collars = {"onset_collar": 0.2, "offset_collar": 0.2, "offset_collar_rate": 0.2}
    expected = reference.collar_based.fscore(case.tables, case.tuples, threshold, **collars)[0]
    found = collar_f1(above, truth)
    assert found.classes == pytest.approx(of_classes(expected, case.classes), abs=1e-9)
    assert found.micro == pytest.approx(expected["micro_average"], abs=1e-9)
    expected = reference.collar_based.best_fscore(case.tables, case.tuples, **collars)[0]
    found, _ = best_collar_f1(detections, truth)
    assert found.classes == pytest.approx(of_classes(expected, case.classes), abs=1e-9)


@few
@given(seeds, st.sampled_from([0.15, 0.3, 0.5]), st.sampled_from([None, 0.1, 0.37]))
def test_segments(seed: int, threshold: float, max_fpr: float | None) -> None:
    case = Case(seed)
    segments = segments_of_scores(case.scores, case.truth)
    arguments = (case.tables, case.tuples, case.durations)
    expected = reference.segment_based.fscore(*arguments, threshold, segment_length=1.0)[0]
    found = segment_f1(segments, threshold)
    assert found.classes == pytest.approx(of_classes(expected, case.classes), abs=1e-9)
    assert found.micro == pytest.approx(expected["micro_average"], abs=1e-9)
    expected = reference.segment_based.best_fscore(*arguments, segment_length=1.0)[0]
    assert best_segment_f1(segments)[0].classes == pytest.approx(of_classes(expected, case.classes), abs=1e-9)
    if segments.targets.all(axis=0).any():  # no negative segment: no ROC
        return
    expected = reference.segment_based.auroc(*arguments, segment_length=1.0, max_fpr=max_fpr)[0]
    assert segment_auroc(segments, max_fpr) == pytest.approx(of_classes(expected, case.classes), abs=1e-9)


@few
@given(seeds)
def test_weights_are_repetitions_of_clips(seed: int) -> None:
    case = Case(seed)
    truth = case.truth
    weights = np.random.default_rng(seed).integers(0, 3, len(truth.clips)).astype(float)
    weights[0] = 1  # every class keeps an event
    names = [f"{name}*{k}" for name, n in zip(truth.clips, weights, strict=True) for k in range(int(n))]
    events = {name: case.events[name.split("*")[0]] for name in names}
    durations = {name: case.durations[name.split("*")[0]] for name in names}
    scores = ScoreSet(case.classes, {name: case.scores.clips[name.split("*")[0]] for name in names})
    repeated = truth_arrays(events, durations, case.classes)
    for p in (PSDS1, PsdsParameters(0.3, 0.3, 0.3, 0.5, 1.0, 2000.0)):
        once = psds_statistics(detections_of_scores(case.scores, truth.clips, truth.classes), truth, p)
        often = psds_statistics(detections_of_scores(scores, repeated.clips, repeated.classes), repeated, p)
        assert psds(once, weights).value == pytest.approx(psds(often).value, abs=1e-9)
    found = segment_auroc(segments_of_scores(case.scores, truth), 0.1, "step", weights)
    expected = segment_auroc(segments_of_scores(scores, repeated), 0.1)
    assert found == pytest.approx(expected, abs=1e-9, nan_ok=True)
