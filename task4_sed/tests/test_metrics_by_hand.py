"""Small cases whose values follow by hand, and the edges of the definitions."""

import numpy as np
import pytest

from common.run.errors import UserError
from task4_sed.data.annotations import Event
from task4_sed.metrics.detections import (
    detections_above_thresholds,
    detections_at_points,
    detections_of_intervals,
    detections_of_scores,
)
from task4_sed.metrics.f1 import collar_f1, intersection_f1, weak_f1
from task4_sed.metrics.maestro import overlap_add, recording_events, window_of
from task4_sed.metrics.psds import PSDS1, PsdsParameters, psds, psds_statistics
from task4_sed.metrics.segments import (
    best_segment_f1,
    mean_of_defined,
    roc_area,
    roc_curve,
    segment_auroc,
    segments_of_scores,
)
from task4_sed.metrics.truth import truth_arrays
from task4_sed.metrics.types import ClipScores, ScoreSet


def seconds(*scores: float) -> ScoreSet:
    return ScoreSet(("a",), {"x": ClipScores(np.arange(len(scores) + 1.0), np.array(scores)[:, None])})


def test_runs_over_all_thresholds() -> None:
    (found,) = detections_of_scores(seconds(0.4, 1.0, 0.6, 0.6, 1.0, 0.4), ["x"], ["a"])
    runs = sorted(zip(found.onset / 1e6, found.offset / 1e6, found.born, found.dies, strict=True))
    assert runs == [(0, 6, 0.4, -np.inf), (1, 2, 1.0, 0.6), (1, 5, 0.6, 0.4), (4, 5, 1.0, 0.6)]


def test_minus_infinity_is_never_active() -> None:
    (found,) = detections_of_scores(seconds(-np.inf, 0.5, -np.inf), ["x"], ["a"])
    assert list(zip(found.onset, found.offset, strict=True)) == [(1_000_000, 2_000_000)]


def test_psds_of_one_hour() -> None:
    """One of two events is found without false positives, the other after 25 of them: 0.5 for 25 / h, then 1."""
    hour = 3600.0
    truth = truth_arrays({"x": [Event(10, 20, "a"), Event(30, 40, "a")]}, {"x": hour}, ["a"])
    onset = np.array([10.0, 30.0, *range(100, 150, 2)])
    born = np.array([0.9, 0.1] + [0.5] * 25)
    detections = detections_of_intervals(np.zeros(27, int), onset, onset + np.where(onset < 50, 10, 1), born)
    result = psds(psds_statistics([detections], truth, PSDS1))
    assert result.value == pytest.approx((0.5 * 25 + 1.0 * 75) / 100)
    np.testing.assert_allclose(result.curve.efpr, [0, 25])
    np.testing.assert_allclose(result.curve.tpr, [0.5, 1])


def test_variance_penalty() -> None:
    """One class is found, the other is not: mean 0.5, standard deviation 0.5."""
    truth = truth_arrays({"x": [Event(0, 1, "a"), Event(0, 1, "b")]}, {"x": 10.0}, ["a", "b"])
    one = detections_of_intervals(np.zeros(1, int), np.zeros(1), np.ones(1), np.ones(1))
    none = detections_of_intervals(np.zeros(0, int), np.zeros(0), np.zeros(0), np.zeros(0))
    assert psds(psds_statistics([one, none], truth, PSDS1)).value == 0
    assert psds(psds_statistics([one, none], truth, PsdsParameters(alpha_st=0))).value == 0.5


def test_boxes_equal_their_scores() -> None:
    scores = seconds(-np.inf, 0.5, -np.inf, 0.25, 0.25, -np.inf)
    truth = truth_arrays({"x": [Event(1, 2, "a"), Event(3.2, 4.9, "a")]}, {"x": 6.0}, ["a"])
    boxes = detections_of_intervals(np.zeros(2, int), np.array([1.0, 3.0]), np.array([2.0, 5.0]), np.array([0.5, 0.25]))
    of_scores = psds(psds_statistics(detections_of_scores(scores, ["x"], ["a"]), truth, PSDS1))
    assert of_scores.value == psds(psds_statistics([boxes], truth, PSDS1)).value == 1.0


def test_operating_points_of_scores_and_of_tables_agree() -> None:
    random = np.random.default_rng(3)
    scores = seconds(*np.round(random.uniform(size=40), 3))
    truth = truth_arrays({"x": [Event(3, 6, "a"), Event(12, 20.5, "a")]}, {"x": 40.0}, ["a"])
    everything = detections_of_scores(scores, ["x"], ["a"])
    thresholds = [0.2, 0.5, 0.8]
    points = {
        t: {("x", "a"): list(zip(at.onset / 1e6, at.offset / 1e6, strict=True))}
        for t, at in ((t, everything[0].above(t)) for t in thresholds)
    }
    wide = PsdsParameters(0.5, 0.5, max_efpr=5000)
    from_scores = psds(psds_statistics(detections_above_thresholds(everything, thresholds), truth, wide))
    from_table = psds(psds_statistics(detections_at_points(points, ["x"], ["a"]), truth, wide))
    assert from_scores.value == from_table.value > 0
    assert from_scores.value <= psds(psds_statistics(everything, truth, wide)).value


def test_exactly_the_tolerated_part_counts() -> None:
    """0.448 of 0.64 s, at a place where floating point falls short of 0.7."""
    truth = truth_arrays({"x": [Event(8.5, 9.14, "a")]}, {"x": 10.0}, ["a"])
    part = detections_of_intervals(np.zeros(1, int), np.array([8.64]), np.array([9.088]), np.ones(1))
    assert intersection_f1([part], truth, 0.7, 0.7).macro == 1
    assert intersection_f1([part], truth, 0.7, 0.7, ratios=True).macro == 0


def test_touching_events_are_one() -> None:
    truth = truth_arrays({"x": [Event(2, 3, "a"), Event(0, 2, "a"), Event(5, 6, "b")]}, {"x": 10.0}, ["a"])
    assert (truth.onset.tolist(), truth.offset.tolist()) == ([0], [3_000_000])


def test_collar_matching_is_optimal() -> None:
    """The first detection fits both events, the second only the first event: both must be matched."""
    truth = truth_arrays({"x": [Event(1.0, 1.1, "a"), Event(1.15, 1.3, "a")]}, {"x": 10.0}, ["a"])
    on, off = np.array([1.05, 0.82]), np.array([1.2, 0.95])
    found = detections_of_intervals(np.zeros(2, int), on, off, np.ones(2))
    assert collar_f1([found], truth).macro == 1


def test_segment_scores_are_the_largest_that_overlap() -> None:
    scores = ScoreSet(("a",), {"x": ClipScores(np.array([0.0, 0.5, 1.5, 2.0]), np.array([[0.1], [0.7], [0.2]]))})
    truth = truth_arrays({"x": [Event(0.5, 1.0, "a")]}, {"x": 3.2}, ["a"])
    segments = segments_of_scores(scores, truth)
    assert segments.scores[:, 0].tolist() == [0.7, 0.7, 0, 0]
    assert segments.targets[:, 0].tolist() == [True, False, False, False]
    best, thresholds = best_segment_f1(segments)
    assert best.macro == pytest.approx(2 / 3)
    assert thresholds == {"a": 0.7}


def test_roc_areas_with_ties() -> None:
    """Points (0, 0), (0.5, 0.5), (1, 1): the staircase has 0.25, trapezoids 0.5."""
    fpr, tpr = roc_curve(np.array([0.9, 0.9, 0.1, 0.1]), np.array([True, False, True, False]))
    assert roc_area(fpr, tpr, rule="step") == 0.25
    assert roc_area(fpr, tpr, rule="linear") == 0.5
    assert roc_area(fpr, tpr, 0.1, "step") == 0
    assert roc_area(fpr, tpr, 0.1, "linear") == pytest.approx(0.05)
    assert roc_area(fpr, tpr, 0.5, "linear") == pytest.approx(0.25)


def test_area_of_a_class_that_is_always_there_is_undefined() -> None:
    truth = truth_arrays({"x": [Event(0, 3, "a")]}, {"x": 3.0}, ["a"])
    areas = segment_auroc(segments_of_scores(seconds(0.1, 0.2, 0.3), truth))
    assert np.isnan(areas["a"])
    assert mean_of_defined(areas | {"b": 0.5}) == 0.5


def test_weak_f1() -> None:
    scores = np.array([[0.9, 0.1], [0.6, 0.9], [0.2, 0.2]])
    result = weak_f1(scores, np.array([[1, 0], [0, 1], [1, 0]]), ["a", "b"])
    assert result.classes == {"a": 0.5, "b": 1.0}
    assert result.macro == 0.75
    assert result.micro == pytest.approx(4 / 6)


def test_overlap_add_means_over_windows() -> None:
    """Windows 0-2 s and 1-3 s with one frame of 1 s each; second 3 has no window."""
    edges = np.array([0.0, 1.0, 2.0])
    clips = {
        "r-000000-000200": ClipScores(edges, np.array([[0.2], [0.4]])),
        "r-000100-000300": ClipScores(edges, np.array([[0.8], [0.6]])),
    }
    added = overlap_add(ScoreSet(("a",), clips), {"r": 3.5}, ["a"])
    np.testing.assert_allclose(added["r"][:, 0], [0.2, 0.6, 0.6, 0])


def test_recording_events_are_shifted_and_merged() -> None:
    soft = {
        "r-000000-001000": [Event(8, 9, "a", 0.6), Event(9, 10, "a", 0.5), Event(1, 2, "b", 0.9)],
        "r-000500-001500": [Event(4, 5, "a", 0.7), Event(9, 10, "a", 0.9)],
    }
    assert recording_events(soft, ["a"]) == {"r": [Event(8, 10, "a"), Event(14, 15, "a")]}


@pytest.mark.parametrize("name", ["r", "r-000050-001050", "r-000200-000100", "r-0-1000"])
def test_names_that_are_no_windows(name: str) -> None:
    with pytest.raises(UserError, match=name):
        window_of(name)


def test_overlap_add_refuses_unknown_recordings_and_boxes() -> None:
    clip = ClipScores(np.array([0.0, 1.0]), np.array([[0.5]]))
    with pytest.raises(UserError, match="no duration of the recording r"):
        overlap_add(ScoreSet(("a",), {"r-000000-000100": clip}), {}, ["a"])
    boxed = ClipScores(clip.edges, np.array([[-np.inf]]))
    with pytest.raises(UserError, match="not finite"):
        overlap_add(ScoreSet(("a",), {"r-000000-000100": boxed}), {"r": 1.0}, ["a"])
