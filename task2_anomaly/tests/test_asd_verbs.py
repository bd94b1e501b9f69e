"""Every verb from data to archive, as the command line calls them, on the tiny data sets."""

import csv
import json
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import task2_anomaly
from common.run import processes
from common.run.verbs import Run, main
from task2_anomaly.__main__ import TASK
from task2_anomaly.config import Config
from task2_anomaly.data.classes import Machine
from task2_anomaly.evaluation import benchmark
from task2_anomaly.training import train

TINY = Path(__file__).with_name("tiny.yaml")
SHOWN = {verb.__name__ for verb in TASK.verbs}
SUBMISSION = """
extends: {tiny}
data: {{root: {root}, machines: [fan, ToyCar]}}
trainer: {{max_epochs: 1}}
"""


class Place:
    """A user's folder; `call` runs a verb on a recipe there and gives its JSON."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], recipe: str) -> None:
        self.folder, self.capsys, self.called = folder, capsys, set[str]()
        self.recipe = folder / "mine.yaml"
        self.recipe.write_text(recipe)

    def call(self, verb: str, *words: object) -> dict[str, Any]:
        code, out, err = self.try_(verb, *words, "--json")
        assert code == 0, err
        self.called.add(verb)
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found

    def try_(self, verb: str, *words: object) -> tuple[int, str, str]:
        code = main(TASK, [verb, "--recipe", str(self.recipe), *map(str, words)])
        return code, *self.capsys.readouterr()

    def refused(self, verb: str, *words: object) -> str:
        """The one line that says why."""
        code, _, err = self.try_(verb, *words)
        assert code == 1
        lines = [line for line in err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1
        return lines[0]


@pytest.mark.end_to_end
def test_every_verb(
    tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    place = Place(tmp_path, capsys, SUBMISSION.format(tiny=TINY, root=tiny_root))
    runs = tmp_path / "runs" / "task2_anomaly" / "mine"

    assert place.call("prepare")["missing"] == []
    assert place.refused("predict").endswith("no finished training; `train` makes one")
    assert place.call("complexity")["parameters"] == 2446
    trained = place.call("train", "--runs", 1, 2, "--jobs", 1)["runs"]
    assert [of["machines"] for of in trained] == [8, 8]
    predicted = place.call("predict", "--runs", 1, 2)["runs"]
    assert predicted[0]["clips"] == {"dev_test": 36, "eval_test": 12}
    found = place.call("evaluate", "--runs", 1, 2, "--no-plots")["runs"]
    assert found[0]["parts"]["dev_test"]["figures"] != found[1]["parts"]["dev_test"]["figures"]
    compared = place.call("compare", "--runs", 1, 2)
    figures = [of["parts"]["eval_test"]["figures"]["auc"] for of in found]
    assert compared["comparison"]["evaluation/auc"]["value"] == pytest.approx(sum(figures) / 2)
    for name in ("comparison.csv", "comparison.png", "report.md", "coverage.json"):
        assert (runs / name).is_file()

    place.call("package", "--runs", 1, 2)
    with zipfile.ZipFile(runs / "submission.zip") as archive:
        names = archive.namelist()
    for machine in ("fan_id_01", "ToyCar_id_05"):
        for number in (1, 2):
            assert f"task2/Toy_Embedded_task2_{number}/anomaly_score_{machine}.csv" in names
    assert len(names) == 2 * 3 + 1
    place.call("validate", runs / "submission.zip")
    # Without the tiny data set, and with the challenge's evaluation set in its place.
    elsewhere = ("validate", runs / "submission.zip", "data.root=null")
    assert "--measure challenge" in place.refused(*elsewhere)
    assert "not a valid submission" in place.refused(*elsewhere, "--measure", "challenge")

    own = {number: runs / f"run{number}" / "scores" / "eval_test" for number in (1, 2)}
    truth = tiny_root / "eval_data_list.csv"
    problem = place.refused("evaluate", "--scores", own[1], "--ground-truth", truth)
    assert problem.endswith("valve_id_01.csv: scores not found (2 machines were not scored)")
    mine = tmp_path / "truth.csv"  # without the types that were not trained
    blocks = re.split(r"(?m)^(?=\w+$)", truth.read_text())
    mine.write_text("".join(block for block in blocks if block.startswith(("fan", "ToyCar"))))
    result = place.call("evaluate", "--scores", own[1], "--ground-truth", mine, "--out", tmp_path / "result.csv")
    assert result["auc"] == pytest.approx(figures[0])
    assert (tmp_path / "result.csv").read_text().startswith("fan\nid,AUC,pAUC\n01,")
    other = tmp_path / "other"
    place.call("ensemble", own[1], own[2], "--out", other, "--method", "mean")
    assert place.call("evaluate", "--scores", own[1], other, "--ground-truth", mine)["mean_rank"].keys() == {
        "eval_test",
        "other",
    }
    both = tmp_path / "runs" / "both"
    for method in ("rank", "zscore", "median"):
        place.call("ensemble", runs / "run1", runs / "run2", "--out", both / "run1", "--method", method)
    place.call("evaluate", "--run-dir", both)
    assert (both / "run1" / "plots" / "dev_test").is_dir()
    (shown,) = (both / "run1" / "tensorboard").glob("*.summary")
    assert b"dev_test/scores" in shown.read_bytes()
    place.call("package", "--run-dir", both)
    with zipfile.ZipFile(both / "submission.zip") as archive:
        meta = archive.read("task2/Toy_Embedded_task2_1/Toy_Embedded_task2_1.meta.yaml").decode()
    assert "ensemble_method_subsystem_count: 2" in meta
    assert f"total_parameters: {2 * 2 * 2446}" in meta

    clips = sorted((tiny_root / "dev_data" / "fan" / "test").glob("*_id_00_*.wav"))
    judged = place.call("predict", *clips, "--machine", "fan_id_00", "--out", tmp_path / "found")["files"]
    with (runs / "run1" / "scores" / "dev_test" / "anomaly_score_fan_id_00.csv").open() as file:
        stored = {name: float(score) for name, score in csv.reader(file)}
    assert {Path(file).name: pytest.approx(of["score"], abs=1e-4) for file, of in judged.items()} == stored
    assert "needs --machine" in place.refused("predict", clips[0])
    assert "no machine 'fan_id_09' here" in place.refused("predict", clips[0], "--machine", "fan_id_09")

    grid = place.call(
        "grid", "data.machines=[fan_id_00]", *outside(tiny_root), "--jobs", 1, "--studies", "outside", "--seeds", 3
    )
    assert set(grid["auc"]) == {"outside/audioset", "outside/scenes"}
    place.call("export", "--machine", "fan_id_00", "--out", tmp_path / "mine")
    again = task2_anomaly.judge(clips[0], checkpoint=tmp_path / "mine")
    assert again["score"] == pytest.approx(stored[clips[0].name], abs=1e-4)
    capsys.readouterr()
    assert main(TASK, ["runs", "--run-dir", str(runs), "--json"]) == 0
    assert [of["run"] for of in json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]] == [1, 2]
    place.called.add("runs")
    monkeypatch.setattr(benchmark, "STEPS", 2)
    figures = place.call("benchmark", "--seconds", 0.02, "data.machines=[fan]")
    assert figures["largest difference of a score"] < 1e-3
    assert place.called == SHOWN


def outside(root: Path) -> list[str]:
    return [f"data.audioset={root / 'audioset'}", f"data.scenes={root / 'scenes'}"]


def test_runs_are_sent_to_other_processes_without_the_verbs(
    tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In `python -m task2_anomaly` these belong to __main__, which no other process has."""
    run = Run(replace(TASK, verbs=(lambda run: None,)), "tiny", 1, tmp_path, tiny())
    monkeypatch.setattr(processes, "worker_pool", lambda workers, gpus: ThreadPoolExecutor(workers))
    sent = []
    items = [(run, Machine("fan", number)) for number in (0, 2)]
    found = list(train.each(lambda own, machine: sent.append(pickle.loads(pickle.dumps(own))), items, jobs=2))
    assert sorted(found) == [(item, None) for item in items]
    assert [(own.task.name, own.config) for own in sent] == [("task2_anomaly", run.config)] * 2


@pytest.mark.slow
def test_trainings_in_processes_of_their_own(tiny_root: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(SUBMISSION.format(tiny=TINY, root=tiny_root))
    words = ["train", "--recipe", recipe, "--run-dir", tmp_path / "runs", "--jobs", 2, "--json"]
    command = [sys.executable, "-m", "task2_anomaly", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["machines"] == 8


FIRST_SHOT = """
extends: toy_firstshot
data: {toy: tiny}
trainer: {max_epochs: 1, accelerator: cpu}
energy: {enabled: false}
"""


@pytest.mark.end_to_end
def test_a_first_shot_edition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    place = Place(tmp_path, capsys, FIRST_SHOT)
    runs, root = tmp_path / "runs" / "task2_anomaly" / "mine", tmp_path / "data" / "task2_anomaly" / "toy_firstshot"
    assert "data set not found" in place.refused("train")
    place.call("prepare")
    assert place.call("train", "--jobs", 1)["machines"] == 4
    scores = {}
    for residuals in ("squared", "mahalanobis", "mahalanobis_published"):
        place.call("predict", f"scoring.residuals={residuals}")
        scores[residuals] = (runs / "run1/scores/eval_test/anomaly_score_RoboticArm_section_00_test.csv").read_text()
    assert len(set(scores.values())) == 3
    assert "needs model.kind=ae_firstshot" in place.refused(
        "predict", "scoring.residuals=mahalanobis", "model.kind=ae_conv"
    )
    figures = place.call("evaluate", "--no-plots")["parts"]["eval_test"]["figures"]
    place.call("compare")
    place.call("package")
    place.call("validate", runs / "submission.zip", "--edition", "first-shot")
    own = runs / "run1" / "scores" / "eval_test"
    found = place.call("evaluate", "--scores", own, "--ground-truth", root, "--out", tmp_path / "result.csv")
    assert found["official_score"] == pytest.approx(figures["official_score"])
    assert (tmp_path / "result.csv").read_text().startswith("HoveringDrone\nsection,AUC (all),AUC (source)")
    (own / "decision_result_RoboticArm_section_00_test.csv").unlink()
    assert "decision_result_RoboticArm_section_00_test.csv" in place.refused(
        "evaluate", "--scores", own, "--ground-truth", root
    )
