"""Figures of several runs, beside published ones."""

from pathlib import Path

import pytest

from common.run.errors import UserError
from common.run.results.comparison import TOY, Baseline, MetricColumn
from common.run.results.runs import TOY_NETWORK, Place, beside_published, kept, network_note, own_values, section_of
from common.run.results.store import record

RUNS = [
    {"test": {"score": 0.5, "interval": [0.4, 0.6], "named": {"low": 0.3, "high": 0.9}}, "kwh": 2.0},
    {"test": {"score": 0.7, "interval": [0.6, 0.8]}},
]
PLACES = {
    "dev/score": Place(("test", "score"), ("test", "interval")),
    "dev/named": Place(("test", "score"), ("test", "named")),
    "dev/kwh": Place(("kwh",)),
}


def test_several_runs_have_a_spread_and_one_has_its_interval() -> None:
    found = own_values(RUNS, PLACES, scale=100)
    assert found.keys() == {"dev/score", "dev/named"}  # the second run has no kwh
    of = found["dev/score"]
    assert (of.value, of.spread, of.runs, of.low) == (pytest.approx(60), pytest.approx(100 * 0.02**0.5), 2, None)
    single = own_values(RUNS[:1], PLACES)
    assert [(v.value, v.low, v.high, v.spread) for v in single.values()] == [
        (0.5, 0.4, 0.6, None),
        (0.5, 0.3, 0.9, None),
        (2.0, None, None, None),
    ]


def test_an_interval_that_was_not_defined_is_none() -> None:
    runs = [{"test": {"score": 0.5, "interval": [None, None], "named": {"low": None, "high": 0.6}}}]
    found = own_values(runs, PLACES, scale=100)
    assert [(v.value, v.low, v.high) for v in found.values()] == [(50, None, None)] * 2


def test_what_is_kept_where() -> None:
    assert kept(RUNS[0], ("test", "named", "low")) == 0.3
    assert kept(RUNS[0], ("test", "score", "low")) is None
    assert kept(RUNS[0], ("nothing", "low")) is None


def test_missing_results_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"results.json: results \(`train` makes them\) not found"):
        section_of(tmp_path, "test", "no test results")
    record(tmp_path, "train", {"kwh": 1.0})
    with pytest.raises(UserError, match=r"results.json: no test results$"):
        section_of(tmp_path, "test", "no test results")
    assert section_of(tmp_path, "train", "") == {"kwh": 1.0}


def test_table_beside_published_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = [MetricColumn("score", "dev", "score"), MetricColumn("named", "dev", "hidden")]
    found = beside_published(
        [tmp_path / "runs" / "run1", tmp_path / "runs" / "run2"],
        "mine",
        own_values(RUNS, PLACES),
        columns,
        [Baseline("theirs", "dev", "score", 0.65, None, "paper")],
        title="Task",
        caveat=TOY,
        reference="theirs",
        shown=1,
    )
    assert found["dev/score"] == {
        "value": pytest.approx(0.6),
        "low": None,
        "high": None,
        "spread": pytest.approx(0.02**0.5),
    }
    printed = capsys.readouterr().out
    assert "mine (own, 2 trainings)" in printed
    assert "hidden" not in printed
    assert "hidden" in (tmp_path / "runs" / "comparison.md").read_text()
    assert (tmp_path / "runs" / "comparison.png").is_file()


def test_a_network_that_was_trained_on_toy_sounds_says_so(tmp_path: Path) -> None:
    assert network_note(tmp_path) is None
    for data, note in (("toy", TOY_NETWORK), ("official", None), ("recordings", None)):
        record(tmp_path, "train", {"data": data})
        assert network_note(tmp_path) == note
    record(tmp_path, "train", {"epochs": 3})
    assert network_note(tmp_path) is None
