"""Steps of a system, whole and half-way: what they took and reached."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from common.run.errors import UserError
from common.run.files import write_rows
from common.run.results.comparison import TOY
from common.run.results.listing import Figure, Layout
from common.run.results.pipeline import show_pipeline
from common.run.results.store import record
from common.run.verbs import Task

TASK = Task("any", "Any", dict, ())


def figure(folder: Path, values: Mapping[str, Any]) -> Figure:
    return Figure("mAP", "test", values["map"], caveat=TOY)


def beside(folder: Path, values: Mapping[str, Any]) -> list[Figure]:
    return [Figure("R@1", "test", values["map"] / 2)]


LAYOUT = Layout(test="test", figure=figure, beside=beside)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two finished trainings of `first`, one of `second` that has no metrics yet."""
    monkeypatch.chdir(tmp_path)
    for name, number, values in (("first", 1, 0.2), ("first", 2, 0.4), ("second", 1, None)):
        folder = tmp_path / "runs" / "any" / name / f"run{number}"
        record(folder, "train", {"seconds_of_last_session": 5.0})
        if values is not None:
            record(folder, "test", {"map": values})
            columns = ["run_id", "duration", "energy_consumed"]
            write_rows(folder / "codecarbon" / "emissions_training.csv", columns, [["a", 60.0, 0.001], ["b", 3, 0.001]])
            write_rows(folder / "codecarbon" / "emissions_test.csv", columns, [["a", 7.0, 0.0005]])
    (tmp_path / "runs" / "any" / "first" / ".evaluated").touch()
    return tmp_path


WORDS = ["first/.evaluated", "labels/logits.h5:first", "second/.evaluated:first,labels"]


def test_half_way(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Energy and time of all runs and phases, the mean of the figures; what is not there is open."""
    steps = show_pipeline(TASK, LAYOUT, WORDS, runs / "out")["steps"]
    assert [(of["name"], of["done"], of["runs"]) for of in steps] == [
        ("first", True, 2),
        ("labels", False, 0),
        ("second", False, 1),
    ]
    assert steps[0]["seconds"] == pytest.approx(140)
    assert steps[0]["kwh"] == pytest.approx(0.005)
    assert [of["value"] for of in steps[0]["figures"]] == pytest.approx([0.3, 0.15])
    assert (steps[2]["seconds"], steps[2]["kwh"], steps[2]["figures"]) == (5.0, None, [])
    said = capsys.readouterr().out
    assert "1 of 3 steps done" in said
    assert "mAP 0.300 ± 0.141, R@1 0.150 ± 0.071 (toy)" in said
    assert "all steps: 5.00 Wh" in said
    with open(runs / "out" / "pipeline.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["reads"] for row in rows] == ["", "", "first", "first labels"]
    assert [row["metric"] for row in rows] == ["mAP", "R@1", "", ""]
    assert rows[0]["note"] == "toy data, not comparable"
    assert (runs / "out" / "pipeline.png").read_bytes().startswith(b"\x89PNG")


def test_a_finished_step_changes_the_picture(runs: Path) -> None:
    show_pipeline(TASK, LAYOUT, WORDS, runs / "out")
    before = (runs / "out" / "pipeline.png").read_bytes()
    (runs / "runs" / "any" / "labels").mkdir()
    (runs / "runs" / "any" / "labels" / "logits.h5").touch()
    assert show_pipeline(TASK, LAYOUT, WORDS, runs / "out")["steps"][1]["done"]
    assert (runs / "out" / "pipeline.png").read_bytes() != before


@pytest.mark.parametrize("words", [["a/x:b"], ["a/x:b", "b/x"], ["a/x:a"]])
def test_a_step_reads_earlier_ones_only(runs: Path, words: list[str]) -> None:
    with pytest.raises(UserError, match=r"^a reads '.', no step before it"):
        show_pipeline(TASK, LAYOUT, words, runs / "out")
