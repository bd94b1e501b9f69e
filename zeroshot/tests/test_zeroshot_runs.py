"""`runs` lists what is trained; `compare --runs-of` subtracts two systems, paired over test classes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.run.results.paired import differences
from common.run.results.store import record
from common.run.training import claim
from common.run.verbs import main, open_run
from common.tests.helpers import loaded_by
from zeroshot.__main__ import TASK
from zeroshot.config import SPLITS, of_split
from zeroshot.evaluation.report import summary
from zeroshot.evaluation.runs import parts_of
from zeroshot.inference.scores import CONTROLS, TRUTH

CLASSES = [f"c{number:02}" for number in range(30)]
HARD = np.random.default_rng(0).uniform(0.1, 0.8, len(CLASSES))


def make(
    recipe: str, better: np.ndarray, truth: str = "clip,class,value\na,c00,1\n", encoder: str = "statistics"
) -> Path:
    """A run of two splits that is evaluated; the recall of each class is as hard as HARD, and `better`."""
    run, splits = open_run(TASK, recipe), {}
    for name, chosen in (("one", range(20)), ("two", range(10, 30))):
        part = of_split(run, name)
        claim(part)
        record(part.folder, "train", {"kwh": 0.5})
        (part.folder / TRUTH).parent.mkdir(parents=True, exist_ok=True)
        (part.folder / TRUTH).write_text(truth)
        classes = {CLASSES[i]: {"recall": float(HARD[i] + better[i])} for i in chosen}
        splits[name] = {"kind": "accuracy", "accuracy": 0.5, "chance": 0.05, "classes": classes, "generalised": None}
        splits[name]["controls"] = dict.fromkeys(CONTROLS, 0.05)
    record(run.folder, SPLITS, {"only": None, "trainings": ["one", "two"]})
    found = {"toy": True, "encoder": encoder, "claim": "zero-shot", "set": "toy"}
    record(run.folder, "test", summary(splits) | found)
    return run.folder


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.yaml").write_text("extends: toy\nloss: bce\n")


def result(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[dict[str, Any], str]:
    capsys.readouterr()
    assert main(TASK, [*words, "--json"]) == 0
    text = capsys.readouterr().out
    return json.loads(text.splitlines()[-1]), text


def test_pairing_removes_what_classes_have_in_common(capsys: pytest.CaptureFixture[str]) -> None:
    make("toy", np.zeros(30))
    make("other.yaml", 0.1 + 0.01 * np.random.default_rng(1).random(30), encoder="yamnet")
    found, text = result(capsys, "compare", "--runs-of", "toy", "other.yaml")
    (of,) = found["differences"]
    assert (of["metric"], of["unit"], of["items"]) == ("accuracy (%)", "test classes", 30)
    assert 9 < of["low"] < of["difference"] < of["high"] < 12
    assert "toy: statistics: zero-shot; toy data" in text
    assert "other: yamnet: zero-shot; toy data" in text


def test_the_difference_is_that_of_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    folders = make("toy", np.zeros(30)), make("other.yaml", np.linspace(0, 0.2, 30))
    a, b = (json.loads((folder / "results.json").read_text())["test"]["values"]["value"] for folder in folders)
    parts = [parts_of(open_run(TASK, recipe)) for recipe in ("toy", "other.yaml")]
    (of,) = differences(*parts, ("toy", "other"), draws=20)
    assert (of.a, of.b) == (pytest.approx(100 * a), pytest.approx(100 * b))


def test_other_truths_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    make("toy", np.zeros(30))
    make("other.yaml", np.zeros(30), truth="clip,class,value\na,c00,0\n")
    assert main(TASK, ["compare", "--runs-of", "toy", "other.yaml"]) == 1
    assert "were not evaluated against the same labels" in capsys.readouterr().err


def test_runs_says_what_is_trained_and_what_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    make("toy", np.zeros(30))
    other = make("other.yaml", np.zeros(30))
    record(other, SPLITS, {"only": None, "trainings": ["one", "two", "three"]})
    found, text = result(capsys, "runs")
    one, two = sorted(found["runs"], key=lambda run: run["recipe"] != "toy")
    assert (one["state"], two["state"]) == ("evaluated", "interrupted")
    assert (one["settings"], two["settings"]) == ({}, {})
    assert one["kwh"] == pytest.approx(1.0)
    assert one["figure"]["metric"] == "accuracy, 2 splits, zero-shot"
    assert one["figure"]["value"] == pytest.approx(100 * np.mean([HARD[:20].mean(), HARD[10:].mean()]))
    assert found["others"] == {}
    record(other, SPLITS, {"only": ["one"], "trainings": ["one"]})
    found, text = result(capsys, "runs")
    assert "split.only=['one']" in text


def test_a_list_of_runs_loads_nothing_heavy() -> None:
    make("toy", np.zeros(30))
    assert loaded_by("zeroshot", [["runs"]]) == [(0, set())]
