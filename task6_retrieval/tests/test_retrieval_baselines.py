"""The published figures that are shipped with the task."""

import re
from pathlib import Path

import pytest

import task6_retrieval
from common.run.files import read_rows
from common.run.results.comparison import read_baselines

FILE = Path(task6_retrieval.__file__).parent / "baselines.csv"


def test_figures_are_shares_and_say_whether_they_are_verified() -> None:
    assert len(read_baselines(FILE)) > 40
    for row in read_rows(FILE, ("year", "verified")):
        assert 0 < row.number("value") < 1
        assert (row["verified"] == "no") == (row["source"] in ("from memory", "second-hand")), row.at


def test_figures_are_those_of_the_specification(shared: Path) -> None:
    specification = shared / "specs" / "task6_retrieval.md"
    if not specification.is_file():
        pytest.skip(f"no {specification}")
    stated = {float(number) for number in re.findall(r"\d+\.\d+", specification.read_text(encoding="utf-8"))}
    for entry in read_baselines(FILE):
        assert entry.value is not None
        assert {entry.value, round(100 * entry.value, 6)} & stated, entry
