"""Figures by hand, by scikit-learn and by chance; intervals over classes; rank correlation."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

from zeroshot.metrics import (
    class_interval,
    classification,
    generalised,
    over_splits,
    rank_correlation,
    stacking_gamma,
    tagging,
)

RANDOM = np.random.default_rng(0)


def test_classification_is_the_mean_of_recalls() -> None:
    scores, labels = RANDOM.standard_normal((200, 7)), RANDOM.integers(0, 7, 200)
    found = classification([f"c{i}" for i in range(7)], scores, labels)
    assert found["accuracy"] == pytest.approx(balanced_accuracy_score(labels, scores.argmax(axis=1)))
    assert np.array(found["confusion"]).sum() == 200
    third = [np.argsort(-scores[labels == i], axis=1)[:, :3] == i for i in range(7)]
    assert found["top-3"] == pytest.approx(np.mean([of.any(axis=1).mean() for of in third]))


def test_a_class_without_clips_is_left_out_and_few_classes_have_no_top_three() -> None:
    found = classification(["a", "b", "c"], np.array([[2.0, 1, 0], [0, 1, 2]]), np.array([0, 1]))
    assert found["accuracy"] == 0.5
    assert found["top-3"] is None
    assert found["classes"]["c"] == {"recall": None, "clips": 0}


def test_tagging_counts_judged_pairs_only() -> None:
    scores, truth = RANDOM.standard_normal((300, 4)), RANDOM.random((300, 4)) < 0.2
    judged = RANDOM.random((300, 4)) < 0.5
    truth[:, 3] = False
    found = tagging(list("abcd"), scores, truth, judged)
    rows = judged[:, 1]
    assert found["classes"]["b"]["AP"] == pytest.approx(average_precision_score(truth[rows, 1], scores[rows, 1]))
    masked = average_precision_score(truth[:, 1], scores[:, 1], sample_weight=judged[:, 1].astype(float))
    assert found["classes"]["b"]["AP"] == pytest.approx(masked)
    assert found["classes"]["b"]["ROC-AUC"] == pytest.approx(roc_auc_score(truth[rows, 1], scores[rows, 1]))
    assert found["without positives"] == 1
    assert found["mAP"] == pytest.approx(np.mean([found["classes"][n]["AP"] for n in "abc"]))
    assert found["prevalence"] == pytest.approx(
        np.mean([(truth & judged)[:, i].sum() / judged[:, i].sum() for i in range(3)])
    )


def test_average_precision_of_scores_that_say_nothing_is_the_prevalence() -> None:
    truth = RANDOM.random((20_000, 1)) < 0.1
    found = tagging(["a"], RANDOM.random((20_000, 1)), truth)
    assert found["mAP"] == pytest.approx(found["prevalence"], abs=0.01)


def test_generalised_by_hand() -> None:
    scores = np.array([[3.0, 0, 0], [0, 3, 2.5], [0, 2, 1], [0, 1, 2]])  # two seen classes, the last one unseen
    labels, seen = np.array([0, 1, 2, 2]), np.array([True, True, False])
    plain = generalised(scores, labels, seen)
    assert (plain["seen"], plain["unseen"]) == (1.0, 0.5)
    assert plain["harmonic mean"] == pytest.approx(2 / 3)
    stacked = generalised(scores, labels, seen, 1.1)
    assert (stacked["seen"], stacked["unseen"]) == (0.5, 1.0)
    with pytest.raises(ValueError, match="seen and of unseen"):
        generalised(scores[:2], labels[:2], seen)


def test_gamma_makes_up_for_a_bias_towards_seen_classes() -> None:
    labels = RANDOM.integers(0, 6, 600)
    seen = np.arange(6) < 3
    scores = RANDOM.standard_normal((600, 6)) + 2 * np.eye(6)[labels] + 4 * seen
    gamma = stacking_gamma(scores, labels, seen)
    assert gamma == pytest.approx(4, abs=1)
    assert (
        generalised(scores, labels, seen, gamma)["harmonic mean"]
        > 0.5
        > generalised(scores, labels, seen)["harmonic mean"]
    )


def test_interval_draws_classes_with_all_their_splits() -> None:
    names = [f"c{i}" for i in range(20)]
    of_class = dict(zip(names, RANDOM.uniform(0.3, 0.9, 20), strict=True))
    pairs = [{a: of_class[a], b: of_class[b]} for a in names for b in names if a < b]
    assert over_splits(pairs) == pytest.approx(np.mean(list(of_class.values())))
    low, high = class_interval(pairs)  # type: ignore[misc]
    error = np.std(list(of_class.values())) / np.sqrt(20)
    assert low < over_splits(pairs) < high
    assert high - low > 3 * error  # as of 20 classes, not of 190 pairs
    assert class_interval([{name: of_class[name] for name in names[:9]}]) is None


def test_rank_correlation() -> None:
    distances = np.linspace(0, 1, 40)
    names = [f"c{i}" for i in range(40)]
    falling = rank_correlation(distances, 1 - distances + 0.2 * RANDOM.standard_normal(40), names)
    assert falling["rho"] < -0.6
    low, high = falling["interval"]
    assert -1 <= low < falling["rho"] < high < 0
    low, high = rank_correlation(distances, RANDOM.standard_normal(40), names)["interval"]
    assert low < 0 < high
    assert rank_correlation([1, 1, 1], [1, 2, 3], list("abc"))["rho"] is None
    few = rank_correlation(np.tile(distances[:3], 10), np.tile([1, 2, 3], 10), names[:3] * 10)
    assert few["interval"] is None  # thirty points, but three classes
