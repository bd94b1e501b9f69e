"""`runs`: what is trained; and what only looks like it."""

import dataclasses
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from common.run.results.store import record
from common.run.training import claim, locked
from common.run.verbs import Run, Task, main, open_run

TASKS = ("task1_asc", "task2_anomaly", "task4_sed", "task6_retrieval", "qbv")
EVALUATED: dict[str, dict[str, Any]] = {
    "task1_asc": {"toy": True, "rank_score": 0.392, "rank_interval": [0.336, 0.445]},
    "task2_anomaly": {
        "toy": True,
        "parts": {
            "dev_test": {"first_shot": False, "figures": {"mean": 0.819}, "intervals": {"mean": [0.779, 0.853]}},
        },
    },
    "task4_sed": {
        "data": "toy",
        "sets": {"maestro_val": {}, "devtest": {"median": {"psds1": 0.175}}},
        "intervals": {"psds1": {"low": 0.11, "high": 0.26}},
    },
    "task6_retrieval": {
        "data": "toy",
        "sets": {"clotho_evaluation": {"map@10": 0.209, "intervals": {"map@10": [0.158, 0.271]}}},
    },
    "qbv": {
        "protocol": "coarse",
        "toy": True,
        "system": "trained",
        "systems": {"trained": {"mrr": 0.31, "interval": [0.27, 0.36], "folds": dict.fromkeys(("0", "1", "2"), 0.31)}},
    },
}
FIGURES = {
    "task1_asc": ("rank score", "development-test", pytest.approx(39.2)),
    "task2_anomaly": ("mean of AUC and pAUC", "development", 0.819),
    "task4_sed": ("PSDS1", "devtest", 0.175),
    "task6_retrieval": ("mAP@10 (%)", "clotho_evaluation", pytest.approx(20.9)),
    "qbv": ("MRR, 3 folds", "coarse", 0.31),
}
KWH = {"task1_asc": 0.0005, "qbv": 0.0003}  # of a run of several trainings


def task_of(name: str) -> Task:
    task: Task = import_module(f"{name}.__main__").TASK
    return task


def trainings(run: Run) -> list[Run]:
    """The trainings that a run of the toy recipe begins with."""
    parts = {
        "task1_asc": [f"split{split}" for split in (5, 10, 25, 50, 100)],
        "task4_sed": ["."],
        "task6_retrieval": ["."],
        "qbv": ["fold0", "fold1", "fold2"],
    }
    return [
        dataclasses.replace(run, folder=run.folder / part) for part in parts.get(run.task.name, ["machines/fan_id_00"])
    ]


def begin(name: str, recipe: str = "toy", number: int = 1, settings: tuple[str, ...] = ()) -> Run:
    run = open_run(task_of(name), recipe, settings, number)
    if name == "task2_anomaly":
        claim(run)
    if name == "qbv":
        record(run.folder, "parts", {"trainings": [of.folder.name for of in trainings(run)]})
    return run


def train(run: Run, evaluated: bool = False) -> Run:
    for training in trainings(run):
        claim(training)
        record(training.folder, "train", {"kwh": 0.0001})
    if run.task.name == "task2_anomaly":
        record(run.folder, "train", {"kwh": 0.0001})
    if evaluated:
        record(run.folder, "evaluate" if run.task.name == "task2_anomaly" else "test", EVALUATED[run.task.name])
    return run


def interrupt(run: Run, epochs: int) -> None:
    training = trainings(run)[-1]
    claim(training)
    rows = [f"{epoch}.0,{epoch}.0" for epoch in range(epochs)]
    (training.folder / "metrics.csv").write_text("\n".join(["epoch,step", *rows]) + "\n")


def listed(name: str, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[dict[str, Any], str]:
    assert main(task_of(name), ["runs", "--json", *words]) == 0
    text, _, last = capsys.readouterr().out.rstrip("\n").rpartition("\n")
    return json.loads(last), text


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", TASKS)
def test_states_figures_settings(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    train(begin(name), evaluated=True)
    train(begin(name, number=2, settings=("seed=7", "trainer.max_epochs=3")))
    interrupt(begin(name, number=10), epochs=2)
    found, table = listed(name, capsys)
    assert found["others"] == {}
    first, second, third = found["runs"]
    assert [of["run"] for of in found["runs"]] == [1, 2, 10]
    assert [of["state"] for of in found["runs"]] == ["evaluated", "trained", "interrupted"]
    figure = first["figure"]
    assert (figure["metric"], figure["set"], figure["value"]) == FIGURES[name]
    assert figure["low"] < figure["value"] < figure["high"]
    assert "not comparable" in figure["caveat"]
    assert "(toy)" in table
    assert (second["figure"], third["figure"], third["epoch"]) == (None, None, 2)
    assert third["epochs"] == open_run(task_of(name), "toy").config.trainer.max_epochs
    assert (first["settings"], second["settings"], third["settings"]) == ({}, {"trainer.max_epochs": 3}, {})
    assert first["kwh"] == pytest.approx(KWH.get(name, 0.0001))
    assert third["kwh"] is None
    assert all(of["date"][:2] == "20" for of in found["runs"])


def test_one_that_trains_now_is_not_interrupted(capsys: pytest.CaptureFixture[str]) -> None:
    run = begin("task4_sed")
    interrupt(run, epochs=1)
    with locked(run.folder):
        assert listed("task4_sed", capsys)[0]["runs"][0]["state"] == "training"
    assert listed("task4_sed", capsys)[0]["runs"][0]["state"] == "interrupted"
    with locked(run.folder):  # looking at it has left the lock free
        pass


def test_the_split_and_the_machine_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    interrupt(begin("task1_asc"), epochs=4)
    run = listed("task1_asc", capsys)[0]["runs"][0]
    assert (run["part"], run["epoch"], run["settings"]) == ("split100", 4, {})
    interrupt(begin("task2_anomaly"), epochs=0)
    assert listed("task2_anomaly", capsys)[0]["runs"][0]["part"] == "machines/fan_id_00"


def test_one_split_has_its_own_figure(capsys: pytest.CaptureFixture[str]) -> None:
    run = begin("task1_asc", settings=("data.splits=[25]",))
    part = dataclasses.replace(run, folder=run.folder / "split25")
    claim(part)
    record(part.folder, "train", {"kwh": 0.0})
    record(part.folder, "test", {"macro_accuracy": 0.28, "intervals": {"macro_accuracy": None}})
    record(run.folder, "test", {"toy": False, "rank_score": None, "rank_interval": None})
    (found,) = listed("task1_asc", capsys)[0]["runs"]
    assert found["figure"]["metric"] == "macro accuracy, 25 %"
    assert (found["figure"]["value"], found["figure"]["low"], found["figure"]["caveat"]) == (
        pytest.approx(28),
        None,
        None,
    )
    assert found["settings"] == {"data.splits": [25]}


def test_recipes_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Found by the name of their runs; a recipe that changed after training shows; one that has gone is said."""
    (tmp_path / "my-ideas").mkdir()
    recipe = tmp_path / "my-ideas" / "wide.yaml"
    recipe.write_text("extends: toy\nmodel: {rnn_hidden: 24}\n")
    (tmp_path / "gone.yaml").write_text("extends: toy\n")
    for file in ("my-ideas/wide.yaml", "gone.yaml"):
        train(begin("task4_sed", recipe=file))
    recipe.write_text("extends: toy\nmodel: {rnn_hidden: 32}\n")
    (tmp_path / "gone.yaml").unlink()
    found, table = listed("task4_sed", capsys)
    assert {of["recipe"]: of["settings"] for of in found["runs"]} == {
        "gone": None,
        "my-ideas-wide": {"model.rnn_hidden": 24},
    }
    assert "no valid recipe file" in table


def test_broken_and_foreign_folders_are_listed_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for recipe in ("toy", "baseline", "recordings", "toy_encoder"):
        train(begin("task4_sed", recipe=recipe))
    runs = tmp_path / "runs" / "task4_sed"
    (runs / "baseline" / "run1" / "results.json").write_text("{")
    (runs / "recordings" / "run1" / "config.yaml").write_text("a: [")
    (runs / "toy_encoder" / "run1" / "config.yaml").write_text("# task1_asc, recipe toy, training 1\na: 1\n")
    (runs / "notes" / "run1").mkdir(parents=True)
    (runs / "photos").mkdir()
    record(
        train(begin("task4_sed", recipe="recordings_yamnet")).folder,
        "test",
        {"data": "toy", "sets": {"a set of another kind": {}}},
    )
    found, table = listed("task4_sed", capsys)
    assert [of["recipe"] for of in found["runs"]] == ["toy"]
    reasons = {Path(folder).relative_to("runs/task4_sed").as_posix(): why for folder, why in found["others"].items()}
    strange = ("baseline/run1", "recordings/run1", "toy_encoder/run1", "recordings_yamnet/run1")
    assert reasons.keys() == {*strange, "notes/run1", "photos"}
    assert "results.json:1: not valid JSON" in reasons["baseline/run1"]
    assert "config.yaml: not valid YAML" in reasons["recordings/run1"]
    assert reasons["toy_encoder/run1"] == "a run of task1_asc"
    assert "no config.yaml" in reasons["notes/run1"]
    assert reasons["photos"] == "no run<N> in it"
    assert reasons["recordings_yamnet/run1"].startswith("cannot be read (KeyError")
    assert "not listed: runs/task4_sed/photos: no run<N> in it" in table


def test_an_ensemble_has_results_alone(capsys: pytest.CaptureFixture[str]) -> None:
    record(Path("runs/task2_anomaly/both/run1"), "evaluate", EVALUATED["task2_anomaly"])
    (found,) = listed("task2_anomaly", capsys)[0]["runs"]
    assert (found["recipe"], found["state"], found["settings"]) == ("both", "evaluated", {})


def test_a_folder_of_runs_and_one_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claimed = open_run(task_of("task4_sed"), "toy", folder=tmp_path / "short")
    train(claimed)
    found, _ = listed("task4_sed", capsys, "--run-dir", str(tmp_path / "short"))
    assert [(of["recipe"], of["run"]) for of in found["runs"]] == [("toy", 1)]
    assert main(task_of("task4_sed"), ["runs"]) == 1
    assert capsys.readouterr().err == "error: runs/task4_sed: folder of runs (`train` makes it) not found\n"


@pytest.mark.parametrize("name", TASKS)
def test_no_tensors(name: str) -> None:
    train(begin(name), evaluated=True)
    heavy = ("torch", "lightning", "pandas", "scipy", "matplotlib", "sklearn", "librosa")
    code = (
        f"import sys; from common.run.verbs import main; from {name}.__main__ import TASK; main(TASK, ['runs']); "
        f"print([module for module in {heavy} if module in sys.modules])"
    )
    root = str(Path(__file__).resolve().parents[1])
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r}); {code}"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"
