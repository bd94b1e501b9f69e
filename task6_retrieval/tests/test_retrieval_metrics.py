"""Ranks, precision and recall: by hand, by another way of counting, and in blocks."""

import numpy as np
import pytest

from task6_retrieval.metrics import (
    average_precision,
    padded,
    query_values,
    ranks_of_embeddings,
    ranks_of_scores,
    recall,
    retrieval_metrics,
    score_blocks,
    sign_flip_test,
)

SCORES = np.array([[0.9, 0.1, 0.5, 0.5], [0.2, 0.8, 0.8, 0.1], [0.3, 0.3, 0.3, 0.3]])


def test_worked_example() -> None:
    ranks = ranks_of_scores(SCORES, padded([[2], [1, 2], [3]]))
    assert ranks.tolist() == [[2, 0], [1, 2], [4, 0]]
    assert average_precision(ranks, 10).tolist() == [0.5, 1.0, 0.25]
    figures = retrieval_metrics(ranks)
    assert figures["map@10"] == pytest.approx(0.583333, abs=1e-6)
    assert figures["r@1"] == pytest.approx(1 / 6)
    assert figures["r@5"] == 1.0


def test_the_divisor_is_the_number_of_relevant_clips_also_beyond_k() -> None:
    ranks = np.array([[1, 2, 3]])
    assert average_precision(ranks, 2)[0] == pytest.approx(2 / 3)
    assert recall(ranks, 1)[0] == pytest.approx(1 / 3)
    assert average_precision([[1, 0]], 10, counts=[4])[0] == pytest.approx(1 / 4)  # three are not among the best


def test_ranks_agree_with_a_stable_sort() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 5, (40, 30)) / 8
    relevant = np.stack([rng.choice(30, 4, replace=False) for _ in range(40)])
    order = np.argsort(-scores, axis=1, kind="stable")
    places = np.argsort(order, axis=1) + 1
    assert np.array_equal(ranks_of_scores(scores, relevant), np.take_along_axis(places, relevant, axis=1))


@pytest.mark.parametrize("value", [np.nan])
def test_scores_that_are_no_numbers_are_refused(value: float) -> None:
    scores = SCORES.copy()
    scores[1, 3] = value
    with pytest.raises(ValueError, match="query 1"):
        ranks_of_scores(scores, [0, 0, 0])


@pytest.mark.parametrize("clips", [70_000, 50])
def test_blocks_give_what_the_whole_gives(clips: int) -> None:
    rng = np.random.default_rng(1)
    queries, items = rng.normal(size=(23, 4)), rng.normal(size=(clips, 4)).astype(np.float16)
    relevant = rng.integers(0, clips, 23)
    whole = ranks_of_scores(queries.astype(np.float32) @ items.astype(np.float32).T, relevant)
    found = ranks_of_embeddings(queries, items, relevant, block_bytes=5 * 4 * clips)
    assert np.abs(found - whole).max() <= 1  # the last digit of a product may differ
    sizes = [len(scores) for _, scores in score_blocks(queries, items, 5 * 4 * clips)]
    assert sizes == [5, 5, 5, 5, 3]


def test_figures_beyond_what_a_file_ranks_are_left_out() -> None:
    assert set(query_values([[1], [0]], [1, 1], depth=10)) == {"map@10", "r@1", "r@5", "r@10"}
    assert "map@16" in query_values([[1]])


def test_sign_flips() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 5)
    assert sign_flip_test(rng.normal(0, 1, 300), groups) > 0.05
    assert sign_flip_test(rng.normal(1, 1, 300), groups) < 0.001
    # Five captions of one clip that agree are one observation, not five.
    same = np.repeat(rng.normal(0.3, 1, 60), 5)
    assert sign_flip_test(same, groups) > 5 * sign_flip_test(same, np.arange(300))
