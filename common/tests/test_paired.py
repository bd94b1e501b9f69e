"""Differences of two systems by a paired bootstrap: by hand, in any order of the items, refusals."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.run.errors import UserError
from common.run.results.intervals import MIN_UNITS, bootstrap_interval
from common.run.results.paired import Metric, Part, differences, fingerprint

ITEMS = tuple(f"clip{number:02d}" for number in range(12))
A = [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
B = [1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 0, 0]  # one clip worse, four better
NAMES = ("first", "second")


def accuracy(correct: Sequence[float]) -> Callable[[np.ndarray], np.ndarray]:
    right = np.array(correct, dtype=np.float64)
    return lambda weights: np.array([weights @ right / weights.sum()])


def part(correct: Sequence[float], items: Sequence[str] = ITEMS, **changed: Any) -> Part:
    values = {"set": "test", "unit": "clips", "truth": "same", "metrics": (Metric("accuracy"),)}
    return Part(**values | changed, items=tuple(items), figures=accuracy(correct), units=np.array([len(items)]))


def test_by_hand() -> None:
    (found,) = differences([part(A)], [part(B)], NAMES, draws=20_000)
    assert (found.a, found.b, found.difference) == (0.5, 9 / 12, 0.25)
    # Of the differences 0 (7 times), 1 (4 times), -1 (once): mean 1/4, mean square 5/12, so variance 5/12 - 1/16.
    error = ((5 / 12 - 1 / 16) / 12) ** 0.5
    reach = 2.200985 * error  # Student's t with 11 degrees of freedom
    assert found.low == pytest.approx(0.25 - reach, abs=0.02 * reach)
    assert found.high == pytest.approx(0.25 + reach, abs=0.02 * reach)
    assert (found.a_spread, found.b_spread, found.unit, found.items) == (None, None, "clips", 12)


def test_what_both_find_hard_cancels_out() -> None:
    """The interval is half of what two systems would have that heard different clips."""
    better = [*A[:6], 1, *A[7:]]
    (found,) = differences([part(A)], [part(better)], NAMES)
    ends = [bootstrap_interval(lambda weights, of=of: float(accuracy(of)(weights)[0]), 12) for of in (A, better)]
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low < np.hypot(*(high - low for low, high in ends)) / 2


def test_runs_are_averaged() -> None:
    (found,) = differences([part(A), part([*A[:6], 1, 1, 1, *A[9:]])], [part(B)], NAMES)
    assert found.a == pytest.approx((0.5 + 0.75) / 2)
    assert found.a_spread == pytest.approx(0.25 / 2**0.5)
    assert found.difference == pytest.approx(0.75 - 0.625)


def test_the_same_outputs_differ_by_nothing() -> None:
    (found,) = differences([part(A)], [part(A)], NAMES)
    assert (found.difference, found.low, found.high) == (0.0, None, None)


def test_no_interval_of_few_items() -> None:
    few = ITEMS[: MIN_UNITS - 1]
    (found,) = differences([part(A[: len(few)], few)], [part(B[: len(few)], few)], NAMES)
    assert (found.low, found.high) == (None, None)


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(12)), st.permutations(range(12)))
def test_runs_are_paired_by_name_whatever_their_order(of_a: list[int], of_b: list[int]) -> None:
    def ordered(correct: list[int], order: list[int]) -> Part:
        return part([correct[i] for i in order], [ITEMS[i] for i in order])

    (found,) = differences([part(A), ordered(B, of_a)], [ordered(B, of_b)], NAMES, draws=50)
    (expected,) = differences([part(A), part(B)], [part(B)], NAMES, draws=50)
    assert found[2:9] == pytest.approx(expected[2:9])


def test_other_items_are_refused() -> None:
    with pytest.raises(UserError, match=r"^test: clip11 is among the clips of only one of first and second$"):
        differences([part(A)], [part(B[:-1], ITEMS[:-1])], NAMES)


def test_other_labels_are_refused() -> None:
    with pytest.raises(UserError, match=r"^test: first and second were not evaluated against the same labels$"):
        differences([part(A)], [part(B, truth="another")], NAMES)


def test_what_is_true_has_no_order() -> None:
    assert fingerprint([("a", 1), ("b", 0)]) == fingerprint([("b", 0), ("a", 1)]) != fingerprint([("a", 0), ("b", 1)])
