"""`compare --runs-of`: two own systems by their stored scores."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from common.run.verbs import Run, main
from task4_sed.__main__ import TASK
from task4_sed.evaluation.report import MPAUC, evaluate_run

Make = Callable[..., Path]


@pytest.fixture
def make(predicted: Callable[..., Run]) -> Make:
    """An evaluated run: make("one.yaml", 1, skill) -> its folder."""

    def made(recipe: str, number: int, skill: float, *settings: str) -> Path:
        run = predicted(recipe, number, skill, "postprocess.csebbs=default", *settings)
        evaluate_run(run, plots=False)
        return run.folder

    return made


def compare(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Mapping[str, Any], str]:
    capsys.readouterr()
    code = main(TASK, ["compare", "--json", "--runs-of", *words])
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1]) if code == 0 else {}, out + err


def test_differences_are_those_of_the_figures(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    folders = make("one.yaml", 1, 1.0), make("two.yaml", 1, 4.0)
    code, found, _ = compare(capsys, "one.yaml", "two.yaml")
    assert code == 0
    recorded = [json.loads((folder / "results.json").read_text())["test"]["values"]["sets"] for folder in folders]
    places = {
        "PSDS1": ("devtest", "median", "psds1"),
        "PSDS2": ("devtest", "median", "psds2"),
        "PSDS1 cSEBBs": ("devtest", "csebbs", "psds1"),
        "mpAUC": ("maestro_val", "median", MPAUC),
    }
    assert [of["metric"] for of in found["differences"]] == list(places)
    for of in found["differences"]:
        name, variant, metric = places[of["metric"]]
        values = [sets[name][variant][metric] for sets in recorded]
        assert (of["a"], of["b"]) == (pytest.approx(values[0], abs=1e-6), pytest.approx(values[1], abs=1e-6))
        assert of["unit"] == ("recordings" if name == "maestro_val" else "clips")


def test_other_test_sets_are_refused(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    make("one.yaml", 1, 1.0)
    make("two.yaml", 1, 1.0, "test_sets=[devtest]")
    code, _, text = compare(capsys, "one.yaml", "two.yaml")
    assert code == 1
    assert "error: --runs-of: not the same test sets (" in text
