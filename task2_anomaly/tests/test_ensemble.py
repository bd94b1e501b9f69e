"""Ensembles of score files, and thresholds for decisions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from common.run.errors import UserError
from task2_anomaly.data.classes import Machine
from task2_anomaly.inference.ensemble import COMBINE, combine, combine_folders
from task2_anomaly.inference.scores import NORMAL, read_scores, score_file, write_scores
from task2_anomaly.inference.thresholds import decide, threshold

FAN, VALVE = Machine("fan", 1), Machine("valve", 5)
MEMBERS = [{"a": 1.0, "b": -2.0, "c": 5.0}, {"c": 50.0, "b": 30.0, "a": 20.0}, {"b": 0.0, "a": 3.0, "c": 4.0}]


# ---------------------------------------------------------------------------------------------------------- ensembles


def test_methods_by_hand() -> None:
    assert combine(MEMBERS) == {"a": 3.0, "b": 0.0, "c": 5.0}
    assert combine(MEMBERS, "mean") == pytest.approx({"a": 8.0, "b": 28 / 3, "c": 59 / 3})
    assert combine(MEMBERS, "rank") == pytest.approx({"a": 5 / 9, "b": 4 / 9, "c": 1.0})
    normals = [[0.0, 2.0], [10.0, 30.0], [7.0, 7.0]]  # deviations 1, 10, and none
    expected = {"a": (0.0 + 0.0 - 4.0) / 3, "b": (-3.0 + 1.0 - 7.0) / 3, "c": (4.0 + 3.0 - 3.0) / 3}
    assert combine(MEMBERS, "zscore", normals) == pytest.approx(expected)


@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_median_of_any_number_of_members_in_any_order(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = [f"{number}.wav" for number in range(9)]
    table = rng.normal(size=(count, 9))
    orders = [rng.permutation(9) for _ in range(count)]
    members = [{names[i]: float(row[i]) for i in order} for row, order in zip(table, orders, strict=True)]
    found = combine(members)
    assert [found[name] for name in names] == pytest.approx(np.median(table, axis=0))
    shuffled = combine([members[i] for i in rng.permutation(count)])
    assert shuffled == pytest.approx(found)


@pytest.mark.parametrize("method", list(COMBINE))
def test_equal_members_keep_the_order(method: str) -> None:
    normals = [[0.0, 1.0, 2.0]] * 3
    found = combine([MEMBERS[0]] * 3, method, normals)
    assert sorted(found, key=found.__getitem__) == ["b", "a", "c"]


def test_members_must_agree() -> None:
    with pytest.raises(UserError, match="c stands in only one of member 2 and member 1"):
        combine([MEMBERS[0], {"a": 1.0, "b": 2.0}])
    for normals in (None, [[0.0, 1.0]]):
        with pytest.raises(UserError, match="zscore needs the scores of normal training clips of every member"):
            combine(MEMBERS, "zscore", normals)


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Three members with scores of two machines and of held-out normal clips."""
    for number, member in enumerate(MEMBERS):
        for machine in (FAN, VALVE):
            write_scores(tmp_path / f"m{number}" / score_file(machine), member)
            write_scores(tmp_path / f"m{number}" / NORMAL / score_file(machine), {"x": number, "y": number + 2.0})
    return [tmp_path / f"m{number}" for number in range(3)]


def test_folders(folders: list[Path], tmp_path: Path) -> None:
    assert combine_folders(folders, tmp_path / "out") == [FAN, VALVE]
    assert read_scores(tmp_path / "out" / score_file(VALVE)) == combine(MEMBERS)
    combine_folders(folders, tmp_path / "z", "zscore")
    expected = combine(MEMBERS, "zscore", [[n, n + 2.0] for n in range(3)])
    assert read_scores(tmp_path / "z" / score_file(FAN)) == pytest.approx(expected)


def _without_machine(folders: list[Path]) -> None:
    (folders[1] / score_file(VALVE)).unlink()


def _without_clip(folders: list[Path]) -> None:
    write_scores(folders[2] / score_file(FAN), {"a": 1.0, "b": 1.0})


def _without_normals(folders: list[Path]) -> None:
    (folders[2] / NORMAL / score_file(FAN)).unlink()


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (_without_machine, "m1 and .*m0 have score files of different machines"),
        (_without_clip, r"c stands in only one of .*m2.anomaly_score_fan_id_01\.csv and .*m0"),
        (_without_normals, r"m2.normal.anomaly_score_fan_id_01\.csv: scores not found"),
        (lambda folders: folders.clear(), "0 folder, at least 2"),
        (lambda folders: folders.append(folders[0] / "none"), "none: scores not found"),
    ],
)
def test_wrong_folders(
    folders: list[Path], tmp_path: Path, break_it: Callable[[list[Path]], None], message: str
) -> None:
    break_it(folders)
    with pytest.raises(UserError, match=message):
        combine_folders(folders, tmp_path / "out", "zscore")


# --------------------------------------------------------------------------------------------------------- thresholds


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.95])
@pytest.mark.parametrize(("shape", "start", "scale"), [(2.0, 0.0, 1.0), (5.0, -40.0, 3.0), (30.0, 0.01, 1e-4)])
def test_gamma_quantile_of_gamma_scores(shape: float, start: float, scale: float, quantile: float) -> None:
    scores = start + stats.gamma.rvs(shape, scale=scale, size=4000, random_state=1)
    limit = threshold(list(scores), quantile)
    assert (scores < limit).mean() == pytest.approx(quantile, abs=0.02)
    expected = start + stats.gamma.ppf(quantile, shape, scale=scale)
    assert limit == pytest.approx(expected, abs=0.1 * scores.std())


@pytest.mark.parametrize("distribution", [stats.norm(), stats.logistic(-5, 2), stats.gumbel_l(), stats.gamma(3)])
def test_share_of_false_alarms(distribution: Any) -> None:
    """On average over draws of 90 held-out clips, about a tenth of all normal clips lies above the threshold."""
    limits = [threshold(list(distribution.rvs(90, random_state=seed))) for seed in range(60)]
    assert np.mean(distribution.cdf(limits)) == pytest.approx(0.9, abs=0.015)


def test_gamma_fit_is_smoother_than_the_empirical_quantile() -> None:
    limits = {}
    for method in ("gamma", "empirical"):
        drawn = [np.random.default_rng(seed).gamma(3.0, size=40) for seed in range(60)]
        limits[method] = np.std([threshold(list(scores), 0.95, method) for scores in drawn])
    assert limits["gamma"] < limits["empirical"]


@given(
    st.lists(st.floats(-50, 50), min_size=2, max_size=30), st.floats(0.05, 0.99), st.floats(0.1, 10), st.floats(-9, 9)
)
@settings(max_examples=40, deadline=None)
def test_thresholds_move_with_the_scores(scores: list[float], quantile: float, scale: float, shift: float) -> None:
    limit = threshold(scores, quantile)
    assert np.isfinite(limit)
    moved = threshold([scale * score + shift for score in scores], quantile)
    spread = scale * (max(scores) - min(scores))
    assert moved == pytest.approx(scale * limit + shift, abs=1e-6 * spread + 1e-6)


def test_empirical_quantile_and_equal_scores() -> None:
    assert threshold([1.0, 2.0, 3.0, 4.0, 5.0], 0.5, "empirical") == 3.0
    for value in (0.0, 0.1, -7.3, 1e9):
        assert threshold([value] * 7) == pytest.approx(value)
    assert decide({"a": 1.0, "b": 1.1, "c": 0.0}, 1.0) == {"a": 0, "b": 1, "c": 0}


def test_wrong_thresholds() -> None:
    for scores in ([], [1.0]):
        with pytest.raises(UserError, match="at least 2 are needed"):
            threshold(scores)
    for quantile in (0.0, 1.0, 1.5):
        with pytest.raises(UserError, match="expected between 0 and 1"):
            threshold([1.0, 2.0], quantile)
