"""AUC and pAUC against scikit-learn on real and random scores, the other metrics against their definitions."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hmean
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score, roc_curve

from task2_anomaly.evaluation.evaluate import evaluate
from task2_anomaly.evaluation.truth import read_truth_2020
from task2_anomaly.metrics import (
    SMALLEST,
    auc,
    harmonic_mean,
    partial_auc,
    precision_recall_f1,
    ranking,
    roc,
    top_normals_auc,
    weighted_areas,
)

few = settings(max_examples=60, deadline=None)


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels with both classes, and scores of which some are equal."""
    labels = np.array([0, 1, *draw(st.lists(st.integers(0, 1), max_size=40))])
    values = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6))
    return labels, np.array(draw(st.lists(values, min_size=len(labels), max_size=len(labels))))


def test_real_score_files_against_scikit_learn(shared: Path) -> None:
    data = shared / "data" / "dcase2020_task2"
    truths = read_truth_2020(data / "eval_data_list.csv")
    teams = sorted((data / "teams").iterdir())
    count = 0
    for team in teams:
        result = evaluate(team, truths)
        assert not result.problems
        for machine in result.machines:
            assert machine.auc == pytest.approx(roc_auc_score(machine.labels, machine.scores), abs=1e-12)
            official = roc_auc_score(machine.labels, machine.scores, max_fpr=0.1)
            assert machine.pauc == pytest.approx(official, abs=1e-12)
            count += 1
    assert count == len(teams) * len(truths) >= 72


@given(scored(), st.sampled_from([0.05, 0.1, 0.3, 1.0]))
@few
def test_random_scores_against_scikit_learn(case: tuple[np.ndarray, np.ndarray], max_fpr: float) -> None:
    labels, scores = case
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    expected = roc_auc_score(labels, scores, max_fpr=None if max_fpr == 1 else max_fpr)
    assert partial_auc(labels, scores, max_fpr) == pytest.approx(expected, abs=1e-9)
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(roc(labels, scores), (fpr, tpr))


@given(scored(), st.integers(0, 2**32 - 1))
@few
def test_weights_are_repetitions(case: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    labels, scores = case
    weights = np.random.default_rng(seed).multinomial(len(labels), np.full(len(labels), 1 / len(labels)))
    areas = weighted_areas(labels, scores)
    repeated = np.repeat(labels, weights), np.repeat(scores, weights)
    expected = [np.nan if value is None else value for value in (auc(*repeated), partial_auc(*repeated))]
    np.testing.assert_allclose(areas(weights), expected, atol=1e-12)
    np.testing.assert_allclose(areas(np.ones(len(labels))), (auc(*case), partial_auc(*case)), atol=1e-12)


@given(scored())
@few
def test_invariants(case: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = case
    ranks = np.unique(scores, return_inverse=True)[1]
    assert auc(labels, ranks**3) == auc(labels, scores)  # only the order counts
    assert partial_auc(labels, ranks**3) == pytest.approx(partial_auc(labels, scores))
    assert auc(labels, -scores) == pytest.approx(1 - (auc(labels, scores) or 0), abs=1e-12)
    assert 9 / 19 - 1e-12 <= (partial_auc(labels, scores) or 0) <= 1


def test_by_hand() -> None:
    labels, perfect = [0] * 10 + [1] * 5, np.arange(15)
    assert (auc(labels, perfect), partial_auc(labels, perfect)) == (1.0, 1.0)
    assert auc(labels, -perfect) == 0.0
    assert partial_auc(labels, -perfect) == pytest.approx(9 / 19)
    assert (auc(labels, np.ones(15)), partial_auc(labels, np.ones(15))) == (0.5, pytest.approx(0.5))
    # One normal of ten above everything: the ROC starts at (0.1, 0).
    assert auc([0] * 10 + [1] * 5, [99, *perfect[1:]]) == pytest.approx(0.9)
    assert partial_auc([0] * 10 + [1] * 5, [99, *perfect[1:]]) == pytest.approx(9 / 19)
    # Anomalies 3 and 1 against normals 2 and 0: three of four pairs.
    assert auc([1, 1, 0, 0], [3, 1, 2, 0]) == 0.75


@pytest.mark.parametrize("labels", [[], [0, 0], [1, 1]])
def test_one_class_is_not_zero_but_undefined(labels: list[int]) -> None:
    scores = list(range(len(labels)))
    assert auc(labels, scores) is None
    assert partial_auc(labels, scores) is None
    assert top_normals_auc(labels, scores) is None


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1], [1.0], "as many"),
        ([[0, 1]], [[1.0, 2.0]], "as many"),
        ([0, 1], [1.0, float("nan")], "NaN"),
        ([0, 1], [1.0, float("inf")], "infinity"),
        ([0, 2], [1.0, 2.0], "labels other than"),
    ],
)
def test_wrong_arrays(labels: list, scores: list, message: str) -> None:
    for metric in (auc, partial_auc, top_normals_auc, weighted_areas):
        with pytest.raises(ValueError, match=message):
            metric(labels, scores)


@given(scored(), st.sampled_from([0.1, 0.3, 0.5]))
@few
def test_formula_of_the_paper(case: tuple[np.ndarray, np.ndarray], max_fpr: float) -> None:
    labels, scores = case
    normals, anomalies = sorted(scores[labels == 0], reverse=True), scores[labels == 1]
    count = int(round(max_fpr * 10) * len(normals) // 10)
    wins = [a > n for n, a in product(normals[:count], anomalies)]
    expected = None if not count else pytest.approx(np.mean(wins))
    assert top_normals_auc(labels, scores, max_fpr) == expected


def test_share_of_normals_is_not_rounded_down() -> None:
    labels, scores = [0] * 100 + [1], [*range(100), 71.5]  # of 29 normals, 71 to 99, one is below
    assert top_normals_auc(labels, scores, 0.29) == pytest.approx(1 / 29)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
@few
def test_decisions(pairs: list[tuple[int, int]]) -> None:
    labels, decisions = zip(*pairs, strict=True)
    expected = precision_recall_fscore_support(labels, decisions, average="binary", zero_division=0.0)[:3]
    assert precision_recall_f1(labels, decisions) == pytest.approx(expected)


@given(st.lists(st.floats(1e-3, 1), min_size=1, max_size=12))
@few
def test_harmonic_mean(values: list[float]) -> None:
    assert harmonic_mean(values) == pytest.approx(hmean(values))
    assert harmonic_mean([*values, 0.0]) == pytest.approx((len(values) + 1) * SMALLEST)


def test_ranking_by_hand() -> None:
    # Ranks of the values: (1, 2.5), (2, 1), (3, 2.5); the equal ones share the mean rank.
    assert ranking({"a": [0.9, 0.5], "b": [0.8, 0.6], "c": [0.7, 0.5]}) == {"a": 1.75, "b": 1.5, "c": 2.75}
