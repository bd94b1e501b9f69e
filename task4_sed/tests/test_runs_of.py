"""`compare --runs-of`: two own systems by their stored scores."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.run.training import claim
from common.run.verbs import main, open_run
from task4_sed.__main__ import TASK
from task4_sed.data.classes import FRAME_SECONDS, FRAMES_PER_CLIP
from task4_sed.data.layout import SETS
from task4_sed.data.sets import classes_of, read_annotation
from task4_sed.evaluation.report import MPAUC, evaluate_run
from task4_sed.inference.scores import write_logits
from task4_sed.tests.conftest import TINY

Make = Callable[..., Path]


@pytest.fixture
def make(tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """An evaluated run: make("toy", 1, skill) -> its folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(f"extends: {TINY}\n")

    def run(recipe: str, number: int, skill: float, *settings: str) -> Path:
        words = [f"data.root={tiny_root}", "postprocess.csebbs=default", *settings]
        of = open_run(TASK, recipe, words, number)
        claim(of)
        classes, rng = classes_of(tiny_root), np.random.default_rng(number)
        for name in of.config.test_sets:
            annotation = read_annotation(tiny_root, SETS[name], classes)
            logits = rng.normal(size=(len(annotation.events), FRAMES_PER_CLIP, len(classes)))
            for clip, events in zip(logits, annotation.events.values(), strict=True):
                for event in events:
                    at = slice(int(event.onset / FRAME_SECONDS), int(event.offset / FRAME_SECONDS) + 1)
                    clip[at, classes.index(event.label)] += skill
            write_logits(of.folder / "scores" / f"{name}.h5", list(annotation.events), logits, classes)
        evaluate_run(of, plots=False)
        return of.folder

    return run


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
