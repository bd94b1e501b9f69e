"""Metrics class by class equal those of all classes at once; HEAR's figures equal sed_eval's."""

import numpy as np
import pytest
import sed_eval
from dcase_util.containers import MetaDataContainer
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from common.run.errors import UserError
from task4_sed.data.annotations import Event
from task4_sed.metrics import streamed
from task4_sed.metrics.detections import detections_of_scores
from task4_sed.metrics.filters import median_filter, running_median
from task4_sed.metrics.hear import hear_events, onset_f1, segment_error_rate
from task4_sed.metrics.psds import PSDS2, PsdsParameters, psds, psds_statistics
from task4_sed.metrics.segments import segment_auroc, segments_of_scores
from task4_sed.metrics.streamed import StreamedScores, streamed_metrics
from task4_sed.metrics.truth import Truth, truth_arrays
from task4_sed.metrics.types import ClipScores, ScoreSet

few = settings(deadline=None, max_examples=30, derandomize=True)
FRAMES, STEP = 25, 0.4


def case(seed: int, clips: int, classes: int) -> tuple[np.ndarray, Truth, tuple[str, ...], tuple[str, ...]]:
    """Scores with many ties, clips of different lengths and without events, one class more than is scored."""
    random = np.random.default_rng(seed)
    names = tuple(f"clip{number}" for number in range(clips))
    labels = tuple(f"class {number}" for number in range(classes + 1))
    scores = np.round(random.normal(size=(clips, FRAMES, classes + 1)), 1)
    durations = {name: float(np.round(random.uniform(4, 10.5), 2)) for name in names}
    events: dict[str, list[Event]] = {}
    for name, duration in durations.items():
        count = int(random.integers(0, 4))
        onsets = random.uniform(0, duration - 0.5, count)
        ends = np.minimum(onsets + random.uniform(0.3, 4, count), duration)
        chosen = random.choice(labels, count)
        events[name] = [Event(*event) for event in zip(onsets.tolist(), ends.tolist(), chosen.tolist(), strict=True)]
        for event in events[name]:
            inside = slice(int(event.onset / STEP), int(np.ceil(event.offset / STEP)))
            scores[names.index(name), inside, labels.index(event.label)] += 1.0
    return scores, truth_arrays(events, durations, labels[:classes]), names, labels


@few
@given(
    st.integers(0, 10_000), st.integers(2, 12), st.integers(1, 4), st.integers(1, 6), st.sampled_from([30, 200, 2000])
)
def test_one_class_at_a_time_equals_all_at_once(seed: int, clips: int, classes: int, median: int, limit: int) -> None:
    scores, truth, names, labels = case(seed, clips, classes)
    edges = np.arange(FRAMES + 1) * STEP
    asked: list[tuple[int, int]] = []

    def read(start: int, stop: int) -> np.ndarray:
        asked.append((start, stop))
        return scores[start:stop].astype(np.float16)

    parameters = PsdsParameters(max_efpr=float(limit))
    weights = np.random.default_rng(seed).multinomial(clips, np.full(clips, 1 / clips), 3).astype(float)
    weights = weights[weights @ truth.durations > 0]
    streamed.CLIPS_AT_ONCE, before = 5, streamed.CLIPS_AT_ONCE
    try:
        found = streamed_metrics(
            StreamedScores(names, labels, edges, read), truth, parameters, median, 0.1, weights=list(weights)
        )
    finally:
        streamed.CLIPS_AT_ONCE = before
    assert all(stop - start <= 5 for start, stop in asked)
    half = scores.astype(np.float16).astype(float)
    whole = ScoreSet(labels, {name: ClipScores(edges, half[row]) for row, name in enumerate(names)})
    whole = median_filter(whole, dict.fromkeys(labels, median))
    statistics = psds_statistics(detections_of_scores(whole, truth.clips, truth.classes), truth, parameters)
    expected = psds(statistics)
    assert found.psds.value == pytest.approx(expected.value, abs=1e-12)
    assert found.psds.single_class == pytest.approx(expected.single_class, abs=1e-12)
    drawn = [psds(statistics, of) for of in weights]
    np.testing.assert_allclose(found.draws[:, 0], [of.mean_of_classes for of in drawn], atol=1e-12)
    np.testing.assert_allclose(found.draws[:, 1], [of.value for of in drawn], atol=1e-7)  # of sums of squares
    areas = segment_auroc(segments_of_scores(whole, truth), 0.1)
    assert found.auroc == pytest.approx(areas, abs=1e-12, nan_ok=True)


def test_scores_may_end_with_the_clip() -> None:
    scores = np.full((2, FRAMES, 1), -3.0)
    scores[0, 2:5], scores[1, 20:23] = 1.0, 2.0  # the second one lies after the end of its clip
    events = {"a": [Event(0.8, 2.0, "x")], "b": []}
    truth = truth_arrays(events, {"a": 10.0, "b": 5.0}, ("x",))
    of_file = StreamedScores(("a", "b"), ("x",), np.arange(FRAMES + 1) * STEP, lambda a, b: scores[a:b])
    strict = PsdsParameters(max_efpr=100.0)
    assert streamed_metrics(of_file, truth, strict).psds.mean_of_classes == 0.0
    assert streamed_metrics(of_file, truth, strict, end_with_clip=True).psds.mean_of_classes == 1.0


def test_missing_scores_are_named() -> None:
    truth = truth_arrays({"a": [Event(0, 1, "x")]}, {"a": 10.0}, ("x",))
    edges = np.arange(FRAMES + 1) * STEP
    empty = np.zeros((1, FRAMES, 1))
    with pytest.raises(UserError, match="no scores of clip 'a'"):
        streamed_metrics(StreamedScores(("b",), ("x",), edges, lambda a, b: empty), truth)
    with pytest.raises(UserError, match="no scores of class 'x'"):
        streamed_metrics(StreamedScores(("a",), ("y",), edges, lambda a, b: empty), truth)
    with pytest.raises(ValueError, match="cross triggers"):
        streamed_metrics(StreamedScores(("a",), ("x",), edges, lambda a, b: empty), truth, PSDS2)


@few
@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(1, 30), st.integers(1, 14))
def test_running_median_equals_scipy_row_by_row(seed: int, rows: int, frames: int, length: int) -> None:
    values = np.round(np.random.default_rng(seed).normal(size=(rows, frames)), 1).astype(np.float32)
    np.testing.assert_array_equal(running_median(values, length), ndimage.median_filter(values, size=(1, length)))


def intervals(random: np.random.Generator, most: int) -> list[tuple[float, float]]:
    borders = np.unique(np.round(random.uniform(0.001, 20, 2 * int(random.integers(0, most))), 3))
    borders = borders[: len(borders) // 2 * 2]
    return [(float(on), float(off)) for on, off in borders.reshape(-1, 2)]


@few
@given(st.integers(0, 10_000))
def test_figures_of_hear_equal_sed_eval(seed: int) -> None:
    random = np.random.default_rng(seed)
    files, labels = [f"{number}.wav" for number in range(3)], ["a", "b", "c"]
    truth = {file: {label: intervals(random, 8) for label in labels} for file in files}
    truth[files[0]]["a"].append((21.0, 22.0))
    found = {
        file: {
            label: [(max(0.0, on + random.normal(0, 0.2)), off + 0.5) for on, off in of] for label, of in own.items()
        }
        for file, own in truth.items()
    }
    found[files[1]] = {}
    found[files[2]]["b"] = intervals(random, 8)

    def listed(side: dict, file: str) -> MetaDataContainer:
        rows = [
            {"filename": file, "onset": on, "offset": off, "event_label": label}
            for label, of in side[file].items()
            for on, off in of
        ]
        return MetaDataContainer(rows)

    by_event = sed_eval.sound_event.EventBasedMetrics(labels, evaluate_onset=True, evaluate_offset=False, t_collar=0.2)
    by_segment = sed_eval.sound_event.SegmentBasedMetrics(labels, time_resolution=1.0)
    for file in files:
        for metric in (by_event, by_segment):
            metric.evaluate(reference_event_list=listed(truth, file), estimated_event_list=listed(found, file))
    expected = by_event.results_overall_metrics()["f_measure"]
    numbers = [np.nan_to_num(expected[name]) for name in ("f_measure", "precision", "recall")]
    np.testing.assert_allclose(onset_f1(found, truth, 0.2), numbers, atol=1e-9)
    rate = by_segment.results_overall_metrics()["error_rate"]["error_rate"]
    assert segment_error_rate(found, truth) == pytest.approx(rate, abs=1e-9)


def test_hear_events_are_from_centre_to_centre() -> None:
    times = (np.arange(8) + 0.5) * 40.0
    scores = np.array([[0, 1, 1, 1, 0, 0, 1, 0], [0.5, 0.5, 0.5, 0.6, 0, 0, 0, 0]])
    assert hear_events(scores, times, median_ms=40, min_ms=80) == [[(0.06, 0.14)], []]
    assert hear_events(scores, times, median_ms=40, min_ms=0) == [[(0.06, 0.14), (0.26, 0.26)], [(0.14, 0.14)]]
