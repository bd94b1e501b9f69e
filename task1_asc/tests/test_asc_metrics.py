"""Metrics against cases counted by hand and against brute force."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from task1_asc.config import SPLITS
from task1_asc.data.classes import DEVICE_GROUPS, DEVICES, SCENES
from task1_asc.metrics import (
    SMALLEST_PROBABILITY,
    Parts,
    clip_losses,
    clip_sums,
    confusion,
    figures,
    flat,
    official_keys,
    over_seeds,
    rank_score,
    scene_metrics,
    top_scene,
    tree,
)

PARTS = Parts(SCENES, DEVICES, DEVICE_GROUPS)
# Six clips: three of airport (two right), two of bus (one right), one tram (right); devices a, a, s1, b, s6, unknown.
LABELS = np.array([0, 0, 0, 1, 1, 9])
PREDICTED = np.array([0, 0, 1, 1, 2, 9])
LOSSES = np.array([0.1, 0.2, 1.5, 0.4, 2.0, 0.3])
OF_DEVICES = np.array([0, 0, 3, 1, 8, -1])


@pytest.fixture
def metrics() -> dict:
    return scene_metrics(PARTS, LABELS, PREDICTED, LOSSES, OF_DEVICES)


def test_figures_counted_by_hand(metrics: dict) -> None:
    assert metrics["macro_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert metrics["accuracy"] == pytest.approx(4 / 6)
    assert metrics["log_loss"] == pytest.approx(4.5 / 6)
    assert metrics["clips"] == 6
    assert metrics["classes"]["airport"] == {
        "accuracy": pytest.approx(2 / 3),
        "log_loss": pytest.approx(0.6),
        "clips": 3,
    }
    assert metrics["devices"]["a"] == {"accuracy": 1.0, "log_loss": pytest.approx(0.15), "clips": 2}
    assert metrics["devices"]["s6"]["accuracy"] == 0.0


def test_groups_pool_their_clips(metrics: dict) -> None:
    assert metrics["groups"]["real"] == {"accuracy": 1.0, "log_loss": pytest.approx(0.7 / 3), "clips": 3}
    two_of_a = scene_metrics(PARTS, np.array([0, 0, 0]), np.array([0, 0, 1]), None, np.array([0, 0, 1]))
    assert two_of_a["groups"]["real"]["accuracy"] == pytest.approx(2 / 3)  # the mean of a and b would be 1/2


def test_what_is_not_there_is_none(metrics: dict) -> None:
    assert metrics["classes"]["park"] == {"accuracy": None, "log_loss": None, "clips": 0}
    assert metrics["devices"]["c"] == {"accuracy": None, "log_loss": None, "clips": 0}
    without = scene_metrics(PARTS, LABELS, PREDICTED)
    assert without["log_loss"] is None
    assert without["classes"]["airport"]["log_loss"] is None
    assert all(of["clips"] == 0 for of in (without["devices"] | without["groups"]).values())
    json.dumps(without, allow_nan=False)
    empty = scene_metrics(PARTS, np.array([], int), np.array([], int), np.array([]), np.array([], int))
    assert empty["macro_accuracy"] is empty["accuracy"] is empty["log_loss"] is None


def test_ties_go_to_the_lowest_index() -> None:
    probabilities = np.zeros((2, 10))
    probabilities[0, [3, 7]] = 0.5
    probabilities[1] = 0.1
    assert top_scene(probabilities).tolist() == [3, 0]


def test_log_loss_is_natural_and_finite() -> None:
    probabilities = np.full((2, 10), 0.1)
    probabilities[1] = 0
    losses = clip_losses(probabilities, np.array([4, 4]))
    assert losses[0] == pytest.approx(math.log(10))
    assert losses[1] == pytest.approx(-math.log(SMALLEST_PROBABILITY))


def test_official_names(metrics: dict) -> None:
    keys = official_keys(metrics, "val")
    assert keys["val/macro_avg_acc"] == metrics["macro_accuracy"]
    assert keys["val/loss.s6"] == 2.0
    assert keys["val/cnt.airport"] == 3
    assert (keys["val/acc.unseen"], keys["val/lloss.unseen"], keys["val/count.unseen"]) == (0.0, 2.0, 1)
    assert len(keys) == 3 + 3 * (len(SCENES) + len(DEVICES) + len(DEVICE_GROUPS))


def test_rank_score_is_the_mean_of_all_five_splits() -> None:
    published = dict(zip(SPLITS, (42.40, 45.29, 50.29, 53.19, 56.99), strict=True))
    assert rank_score(published) == pytest.approx(49.632)
    assert rank_score(published | {25: None}) is None
    assert rank_score({100: 56.99}) is None


def test_over_seeds(metrics: dict) -> None:
    other = scene_metrics(PARTS, LABELS, LABELS, LOSSES, OF_DEVICES)
    joined = over_seeds([metrics, other])
    assert joined["accuracy"].mean == pytest.approx(5 / 6)
    assert joined["accuracy"].spread == pytest.approx((1 - 4 / 6) / math.sqrt(2))
    assert joined["classes/bus/accuracy"].runs == 2
    assert "classes/park/accuracy" not in joined
    assert over_seeds([metrics])["accuracy"].spread is None


def test_confusion_counts_true_scenes_in_rows() -> None:
    counts = confusion(LABELS, PREDICTED, len(SCENES))
    assert counts.sum() == 6
    assert (counts[0, 0], counts[0, 1], counts[1, 2], counts[9, 9]) == (2, 1, 1, 1)


def test_tree_and_flat_name_every_part() -> None:
    numbers = list(range(1 + 2 * len(PARTS.names())))
    paths = flat(tree(numbers, PARTS))
    assert sorted(paths.values()) == numbers
    assert paths["groups/unseen/log_loss"] == numbers[-1]


clip = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(-1, 8), st.integers(0, 3), st.floats(0.0, 9.0))


@given(st.lists(clip, min_size=1, max_size=30))
@settings(max_examples=30, deadline=None)
def test_weights_are_repeated_clips(clips: list) -> None:
    labels, predicted, devices, weights, losses = (np.array(column) for column in zip(*clips, strict=True))
    sums = np.tensordot(weights, clip_sums(PARTS, labels, predicted, losses, devices), 1)
    again = [np.repeat(of, weights) for of in (labels, predicted, losses, devices)]
    expected = flat(scene_metrics(PARTS, *again))
    found = flat(tree(figures(sums, len(SCENES)).tolist(), PARTS))
    for path, value in found.items():
        assert (None if math.isnan(value) else value) == pytest.approx(expected[path]), path


@given(st.lists(clip, min_size=1, max_size=30))
@settings(max_examples=30, deadline=None)
def test_macro_accuracy_by_brute_force(clips: list) -> None:
    of_scene: dict[int, list[bool]] = {}
    for label, predicted, *_ in clips:
        of_scene.setdefault(label, []).append(label == predicted)
    expected = sum(sum(right) / len(right) for right in of_scene.values()) / len(of_scene)
    labels, predictions = (np.array(column) for column in list(zip(*clips, strict=True))[:2])
    assert scene_metrics(PARTS, labels, predictions)["macro_accuracy"] == pytest.approx(expected)
