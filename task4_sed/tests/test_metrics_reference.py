"""The metrics equal sed_scores_eval, on random scores with ties, clips without events, and single classes."""

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
from task4_sed.metrics.segments import best_segment_f1, segment_auroc, segment_f1, segments_of_scores
from task4_sed.metrics.truth import Truth, truth_arrays
from task4_sed.metrics.types import ClipScores, ScoreSet

few = settings(deadline=None, max_examples=40, derandomize=True)
seeds = st.integers(0, 2**32 - 1)


class Case:
    """Random scores and events in both forms."""

    def __init__(self, seed: int) -> None:
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
