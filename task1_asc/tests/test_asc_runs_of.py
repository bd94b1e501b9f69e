"""`compare --runs-of`: two own systems by their predictions for the test list."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.run.results.intervals import bootstrap_interval
from common.run.training import claim
from common.run.verbs import main, open_run
from task1_asc.__main__ import TASK
from task1_asc.config import SPLITS, of_split
from task1_asc.data.classes import SCENES
from task1_asc.evaluation.report import record_figures
from task1_asc.inference.scores import write_outputs
from task1_asc.tests.test_asc_report import NAMES, predictions

Make = Callable[..., Path]
Compare = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """An evaluated run with given skill: make("toy", 1, skill, splits) -> its folder; data sets by name."""
    monkeypatch.chdir(tmp_path)
    for name in ("other", "third", "fourth"):
        (tmp_path / f"{name}.yaml").write_text("extends: toy\n")

    def run(
        recipe: str, number: int, skill: float, splits: tuple[int, ...] = SPLITS, data: str = "data", toy: bool = True
    ) -> Path:
        truth = tmp_path / data / "splits" / "test.csv"
        truth.parent.mkdir(parents=True, exist_ok=True)
        shown = {
            name: SCENES[(SCENES.index(name.split("/")[1].split("-")[0]) + (data != "data")) % 10] for name in NAMES
        }
        rows = "".join(f"{name}\t{scene}\n" for name, scene in shown.items())
        truth.write_text("filename\tscene_label\n" + rows)
        settings = [f"data.splits=[{','.join(map(str, splits))}]", f"data.root={truth.parents[1]}"]
        of = open_run(TASK, recipe, settings, number)
        for split in splits:
            claim(of_split(of, split))
            path = of.folder / f"split{split}" / "predictions" / "test.csv"
            write_outputs(path, NAMES, predictions(1000 * number + split, skill))
        record_figures(of.folder, splits, truth, toy=toy, plots=False, draws=20)
        return of.folder

    return run


@pytest.fixture
def compare(capsys: pytest.CaptureFixture[str]) -> Compare:
    def of(*words: str) -> tuple[int, dict[str, Any], str]:
        capsys.readouterr()
        code = main(TASK, ["compare", "--json", *words])
        out, err = capsys.readouterr()
        return code, json.loads(out.splitlines()[-1]) if code == 0 else {}, out + err

    return of


def test_two_systems(make: Make, compare: Compare, tmp_path: Path) -> None:
    folders = make("toy", 1, 1.0), make("other.yaml", 1, 2.0)
    code, found, text = compare("--runs-of", "toy", "other.yaml")
    assert code == 0
    by_metric = {of["metric"]: of for of in found["differences"]}
    assert list(by_metric) == [*(f"macro accuracy, {split} % (%)" for split in SPLITS), "rank score (%)"]
    ranks = [json.loads((folder / "results.json").read_text())["test"]["values"]["rank_score"] for folder in folders]
    of_rank = by_metric["rank score (%)"]
    assert (of_rank["a"], of_rank["b"]) == (pytest.approx(100 * ranks[0]), pytest.approx(100 * ranks[1]))
    assert 0 < of_rank["low"] < of_rank["difference"] < of_rank["high"]
    assert (of_rank["unit"], of_rank["items"]) == ("segments", 90)
    assert "other minus toy (toy data, not comparable)" in text
    assert "draws of 90 segments (development-test), the same for both; a single training of each: nothing" in text
    out = tmp_path / "runs" / "task1_asc" / "other" / "against_toy"
    assert sorted(path.name for path in out.iterdir()) == ["comparison.csv", "comparison.json", "comparison.png"]
    stored = json.loads((out / "comparison.json").read_text())
    assert stored == {key: value for key, value in found.items() if key != "out"}
    with open(out / "comparison.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["difference"]) for row in rows] == [of["difference"] for of in found["differences"]]


def test_segments_are_drawn_as_for_the_figures_themselves(make: Make, compare: Compare) -> None:
    """Against a system that is always right the difference has the interval of the accuracy, on a plain scale."""
    make("toy", 1, 1.0, splits=(25,))
    make("other.yaml", 1, 50.0, splits=(25,))
    found = compare("--runs-of", "toy", "other.yaml")[1]["differences"][0]
    right = predictions(1025, 1.0).argmax(axis=1) == [SCENES.index(name.split("/")[1].split("-")[0]) for name in NAMES]
    order = np.argsort([name.replace(f"-{name.split('-')[4]}-", "-") for name in NAMES[::10]])  # segments by name
    by_segment, scene = right.reshape(90, 10).sum(axis=1)[order], np.repeat(np.arange(10), 9)[order]

    def macro(weights: np.ndarray) -> float:
        counts = np.bincount(scene, weights)
        return float(np.mean(np.bincount(scene, weights * by_segment)[counts > 0] / counts[counts > 0])) * 10

    low, high = bootstrap_interval(macro, 90)
    assert (found["low"], found["high"]) == (pytest.approx(100 - high), pytest.approx(100 - low))


def test_seeds_are_averaged_and_a_run_stands_alone(make: Make, compare: Compare) -> None:
    for number in (1, 2):
        make("toy", number, 1.0, splits=(5,))
        make("other.yaml", number, 1.2, splits=(5,))
    code, found, text = compare("--runs-of", "toy", "runs/task1_asc/other", "--runs", "1", "2")
    assert code == 0
    assert [len(found[name]["runs"]) for name in "ab"] == [2, 2]
    assert found["differences"][0]["a_spread"] > 0
    assert "runs are averaged: nothing about other seeds" in text
    code, found, _ = compare("--runs-of", "runs/task1_asc/toy/run1", "runs/task1_asc/toy/run2")
    assert (code, found["a"]["name"], found["b"]["name"]) == (0, "toy/run1", "toy/run2")


def test_the_same_predictions(make: Make, compare: Compare) -> None:
    make("toy", 1, 1.0, splits=(5,))
    make("other.yaml", 1, 1.0, splits=(5,))
    (found,) = compare("--runs-of", "toy", "other.yaml")[1]["differences"]
    assert (found["difference"], found["low"], found["high"]) == (0.0, None, None)


def test_what_cannot_be_compared(make: Make, compare: Compare, tmp_path: Path) -> None:
    make("toy", 1, 1.0, splits=(5,))

    def refused(*words: str) -> str:
        code, _, text = compare(*words)
        assert code == 1
        return text.splitlines()[-1]

    both = ("--runs-of", "toy", "other.yaml")
    train = (
        "error: runs/task1_asc/other/run1: no trained run there: python -m task1_asc train --recipe other.yaml --runs 1"
    )
    assert refused(*both) == train
    claim(of_split(open_run(TASK, "other.yaml", [f"data.root={tmp_path / 'data'}"]), 5))
    evaluate = "not evaluated yet: python -m task1_asc evaluate --recipe other.yaml --runs 1"
    assert refused(*both).endswith(evaluate)
    assert "run1: is in both systems" in refused("--runs-of", "toy", "runs/task1_asc/toy/run1")
    assert "expected two recipes or run folders" in refused("--runs-of", "toy")
    assert "no recipe 'toi'; did you mean 'toy'?" in refused("--runs-of", "toy", "toi")
    assert "goes without --recipe, --run-dir and settings" in refused(*both, "trainer.max_epochs=3")
    assert "goes without --recipe, --run-dir and settings" in refused(*both, "--recipe", "baseline")
    make("other.yaml", 1, 1.0, splits=(5, 10))
    assert "not the same test sets" in refused(*both)
    make("third.yaml", 1, 1.0, splits=(5,), toy=False)
    assert "evaluated on other data (toy, real)" in refused("--runs-of", "toy", "third.yaml")
    make("fourth.yaml", 1, 1.0, splits=(5,), data="others")
    assert "toy and fourth were not evaluated against the same labels" in refused("--runs-of", "toy", "fourth.yaml")
