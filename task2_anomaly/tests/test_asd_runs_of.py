"""`compare --runs-of`: two own systems by their score files, for both kinds of editions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.run.results.listing import read_settings
from common.run.training import claim
from common.run.verbs import main, open_run
from task2_anomaly.__main__ import TASK
from task2_anomaly.evaluation import first_shot
from task2_anomaly.evaluation.evaluate import MachineResult, SystemResult, weighted
from task2_anomaly.evaluation.report import SETS, record_figures, truths_by_part
from task2_anomaly.evaluation.truth import as_section
from task2_anomaly.inference.scores import score_file, write_scores
from task2_anomaly.metrics import auc, partial_auc
from task2_anomaly.tests.test_asd_report import SECTIONS, truths_of

Make = Callable[..., Path]


@pytest.fixture
def make(tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """An evaluated run of a recipe: make("toy", 1, skill) -> its folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.yaml").write_text("extends: toy\n")

    def run(recipe: str, number: int, skill: float, *settings: str) -> Path:
        of = open_run(TASK, recipe, [f"data.root={tiny_root}", *settings], number)
        claim(of)
        truths, rng = truths_by_part(of.config), np.random.default_rng(number)
        for part, machines in truths.items():
            for truth in machines:
                scores = {name: skill * label + float(rng.normal()) for name, label in truth.labels.items()}
                write_scores(of.folder / "scores" / part / score_file(truth.machine), scores)
        record_figures(of.folder, truths, toy=True, plots=False, draws=10)
        return of.folder

    return run


def compare(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any], str]:
    capsys.readouterr()
    code = main(TASK, ["compare", "--json", "--runs-of", *words])
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1]) if code == 0 else {}, err


def test_differences_are_those_of_the_figures(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    folders = make("toy", 1, 0.5), make("other.yaml", 1, 2.0)
    code, found, _ = compare(capsys, "toy", "other.yaml")
    assert code == 0
    recorded = [json.loads((folder / "results.json").read_text())["evaluate"]["values"]["parts"] for folder in folders]
    names = {"mean of AUC and pAUC": "mean", "AUC": "auc", "pAUC": "pauc", "AUC fan": "auc/fan"}
    checked = 0
    for of in found["differences"]:
        part = next(part for part, title in SETS.items() if title == of["set"])
        if name := names.get(of["metric"]):
            values = [parts[part]["figures"][name] for parts in recorded]
            assert of["difference"] == pytest.approx(values[1] - values[0])
            assert of["items"] == recorded[0][part]["clips"]
            checked += 1
    assert checked >= 3


def test_other_machines_are_refused(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    make("toy", 1, 1.0)
    make("other.yaml", 1, 1.0, "data.machines=[fan]")
    code, _, error = compare(capsys, "toy", "other.yaml")
    assert code == 1
    assert "not the same test sets" in error or "of only one of toy and other" in error


def test_figures_of_weights_of_one_are_the_figures() -> None:
    truths = truths_of(SECTIONS)["dev_test"]
    rng = np.random.default_rng(0)
    sections = [(as_section(truth), rng.normal(size=len(truth.labels))) for truth in truths]
    values = [first_shot.section_values(of, scores, None) for of, scores in sections]
    ones = np.ones(sum(len(of.labels) for of, _ in sections), dtype=np.int64)
    assert first_shot.weighted(sections)(ones)[0] == pytest.approx(first_shot.official_score(values))
    # A clip that counts twice is there twice.
    twice = ones.copy()
    twice[0] = 2
    first, scores = sections[0]
    name = next(iter(first.labels))
    doubled = first._replace(
        labels={**first.labels, "again": first.labels[name]}, domains={**first.domains, "again": first.domains[name]}
    )
    again = [first_shot.section_values(doubled, np.append(scores, scores[0]), None), *values[1:]]
    assert first_shot.weighted(sections)(twice)[0] == pytest.approx(first_shot.official_score(again))


def test_machines_keep_their_order_of_clips() -> None:
    rng, results = np.random.default_rng(1), []
    for truth in truths_of({"dev_test": SECTIONS["dev_test"]})["dev_test"]:
        labels, scores = np.array(list(truth.labels.values())), rng.normal(size=len(truth.labels))
        results.append(MachineResult(truth.machine, auc(labels, scores), partial_auc(labels, scores), labels, scores))
    of = weighted(SystemResult("", results, {}))
    ones = np.ones(sum(len(r.labels) for r in results), dtype=np.int64)
    values = dict(zip(of.keys, of.figures(ones), strict=True))
    assert all(values[f"auc/{r.machine}"] == pytest.approx(r.auc) for r in results)


def test_settings_are_those_of_the_training(make: Make) -> None:
    folder = make("toy", 2, 1.0)
    assert read_settings(folder).values["seed"] == open_run(TASK, "toy").config.seed + 1
