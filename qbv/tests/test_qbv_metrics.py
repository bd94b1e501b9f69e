"""Ranks and figures by hand, against counting over all orders of ties, and the published ones on given numbers."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qbv.metrics import class_reciprocal, harmonic, means_by, mrr_bounds, ndcg, over_folds, random_mrr, ranks_of

SMALL = st.lists(st.integers(0, 3), min_size=2, max_size=6)


def test_by_hand() -> None:
    scores = np.array([[0.9, 0.1, 0.5], [0.2, 0.3, 0.1], [0.1, 0.4, 0.3]])
    ranks = ranks_of(scores, [0, 0, 0])
    assert ranks.expected.tolist() == [1, 2, 3]
    assert ranks.reciprocal() == pytest.approx([1, 1 / 2, 1 / 3])
    assert ranks.recall(1).tolist() == [1, 0, 0]
    assert ranks.recall(2).tolist() == [1, 1, 0]
    assert mrr_bounds(ranks) == pytest.approx((11 / 18, 11 / 18))


@given(SMALL, st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_ties_are_the_mean_over_all_orders(values: list[int], place: int) -> None:
    target = place % len(values)
    ranks = ranks_of(np.array([values], float), [target])
    found, first, firsts = [], [], []
    for order in permutations(range(len(values))):
        by_rank = sorted(order, key=lambda item: -values[item])  # stable: ties as in `order`
        rank = by_rank.index(target) + 1
        found.append(1 / rank)
        first.append(rank <= 1)
        firsts.append(rank <= 2)
    assert ranks.reciprocal()[0] == pytest.approx(np.mean(found))
    assert ranks.recall(1)[0] == pytest.approx(np.mean(first))
    assert ranks.recall(2)[0] == pytest.approx(np.mean(firsts))
    assert mrr_bounds(ranks) == pytest.approx((min(found), max(found)))


@given(SMALL, st.data())
@settings(max_examples=60, deadline=None)
def test_ndcg_and_class_figure_with_ties_are_the_mean_over_all_orders(values: list[int], data: st.DataObject) -> None:
    relevant = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    relevant[data.draw(st.integers(0, len(values) - 1))] = True
    gains, reciprocals = [], []
    for order in permutations(range(len(values))):
        by_rank = sorted(order, key=lambda item: -values[item])
        hits = [rank for rank, item in enumerate(by_rank, 1) if relevant[item]]
        ideal = sum(1 / np.log2(rank + 1) for rank in range(1, len(hits) + 1))
        gains.append(sum(1 / np.log2(rank + 1) for rank in hits) / ideal)
        reciprocals.append(sum(1 / rank for rank in hits) / sum(1 / rank for rank in range(1, len(hits) + 1)))
    scores = np.array([values], float)
    assert ndcg(scores, relevant[None])[0] == pytest.approx(np.mean(gains))
    assert class_reciprocal(scores, relevant[None])[0] == pytest.approx(np.mean(reciprocals))


@given(st.integers(2, 30), st.integers(1, 8), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_what_does_not_change_the_order_does_not_change_the_ranks(items: int, queries: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    scores, target = random.normal(size=(queries, items)), random.integers(items, size=queries)
    ranks, order = ranks_of(scores, target), random.permutation(items)
    assert (ranks_of(np.exp(scores), target).better == ranks.better).all()
    assert (ranks_of(scores[:, order], np.argsort(order)[target]).better == ranks.better).all()
    assert (ranks.expected >= 1).all()
    assert (ranks.expected <= items).all()


def test_a_random_ranking() -> None:
    assert random_mrr(53) == pytest.approx(0.085979, abs=5e-7)
    assert random_mrr(52) == pytest.approx(0.087270, abs=5e-7)
    assert random_mrr(10) == pytest.approx(0.292897, abs=5e-7)
    assert harmonic([0, 1, 2]).tolist() == [0, 1, 1.5]
    all_tied = ranks_of(np.zeros((1, 53)), [7])
    assert all_tied.reciprocal()[0] == pytest.approx(random_mrr(53))


@pytest.mark.parametrize(
    ("scores", "target", "said"),
    [
        ([[0.0, np.nan]], [0], "not finite"),
        ([[0.0, 1.0]], [2], "targets from 2 to 2"),
        ([[0.0, 1.0]], [-1], "targets from -1"),
        ([[0.0, 1.0]], [0, 1], "shape"),
        ([0.0, 1.0], [0], "shape"),
    ],
)
def test_wrong_arguments(scores: list, target: list, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ranks_of(np.array(scores), target)


def test_means() -> None:
    assert means_by(["b", "a", "b"], [1.0, 0.5, 0.0]) == {"b": 0.5, "a": 0.5}
    mean, deviation = over_folds({"fold0": {"mrr": 0.2}, "fold1": {"mrr": 0.4}}, "mrr")
    assert (mean, deviation) == pytest.approx((0.3, 0.1))  # of the population: not 0.141
