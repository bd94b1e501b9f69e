"""The system from Python, and how little the verbs load."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import task2_anomaly
from common.run.errors import UserError
from common.run.files import read_rows
from common.run.results.comparison import TOY
from common.run.results.runs import TOY_NETWORK, network_note
from common.run.submission.archive import build_zip
from common.run.submission.measure import mark
from common.run.verbs import Run, main, open_run
from common.tests.helpers import loaded_by, mixed_folder, run_examples
from task2_anomaly.__main__ import TASK
from task2_anomaly.config import Config
from task2_anomaly.data.sets import is_toy
from task2_anomaly.evaluation.report import compare_runs, evaluate_run
from task2_anomaly.inference.predict import predict_files, predict_run
from task2_anomaly.inference.scores import read_flags, read_scores
from task2_anomaly.submission import validate as validating
from task2_anomaly.training.train import train_run

FOLDER = Path(__file__).resolve().parents[1]
RECIPE = """
extends: {tiny}
data: {{root: {root}, machines: [fan_id_00, fan_id_01]}}
trainer: {{max_epochs: 1}}
"""


@pytest.fixture(scope="module")
def trained(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: recording.wav, mine.yaml, and two machines trained and predicted where the README says."""
    place = tmp_path_factory.mktemp("place")
    (place / "mine.yaml").write_text(RECIPE.format(tiny=FOLDER / "tests" / "tiny.yaml", root=tiny_root))
    clip = next((tiny_root / "dev_data" / "fan" / "test").glob("anomaly_id_00_*.wav"))
    shutil.copy(clip, place / "recording.wav")
    run = run_in(place)
    train_run(run, jobs=1, restart=False)
    predict_run(run)
    return place


def run_in(place: Path) -> Run:
    return open_run(TASK, str(place / "mine.yaml"), folder=place / "runs" / "task2_anomaly" / "toy")


@pytest.fixture
def place(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained)
    return trained


MACHINE = "runs/task2_anomaly/toy/run1/machines/fan_id_00"


def test_judge_is_what_predict_says(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["recording.wav", "--machine", "fan_id_00", "--recipe", "mine.yaml", "--run-dir", "runs/task2_anomaly/toy"]
    assert main(TASK, ["predict", *words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["note"] == TOY_NETWORK
    found = task2_anomaly.judge("recording.wav", checkpoint=MACHINE)
    assert found["threshold"] == said["threshold"]
    assert found["score"] == said["files"]["recording.wav"]["score"]
    assert found["anomalous"] == said["files"]["recording.wav"]["anomalous"] == (found["score"] > found["threshold"])
    assert task2_anomaly.judge("recording.wav", f"{MACHINE}/checkpoints/last.ckpt") == found
    samples, rate = soundfile.read("recording.wav")
    assert task2_anomaly.judge(samples, MACHINE, sample_rate=rate) == found


def test_an_exported_folder_judges_as_its_run(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine, folder = ["--recipe", "mine.yaml", "--run-dir", "runs/task2_anomaly/toy"], tmp_path / "fan"
    evaluate_run(run_in(place), plots=False)
    assert main(TASK, ["export", "--machine", "fan_id_00", "--out", str(folder), *mine]) == 0
    assert task2_anomaly.judge("recording.wav", folder) == task2_anomaly.judge("recording.wav", MACHINE)
    with pytest.raises(UserError, match="is of fan_id_00, not of fan_id_01"):
        task2_anomaly.judge("recording.wav", folder, machine="fan_id_01")
    card = json.loads((folder / "config.json").read_text())
    assert card["data"] == "toy"
    assert card["metrics"]
    assert str(place) not in json.dumps(card)
    (folder / "config.json").write_text(json.dumps({**card, "network": {"machine": "fan_id_00"}}))
    with pytest.raises(UserError, match="'threshold' is missing"):
        task2_anomaly.judge("recording.wav", folder)
    for words, said in (([], "export needs --machine"), (["--machine", "fan_id_1"], "did you mean 'fan_id_01'")):
        capsys.readouterr()
        assert main(TASK, ["export", *words, *mine]) == 1
        assert said in capsys.readouterr().err
    assert not (run_in(place).folder / "export").exists()


def test_toys_are_told_by_what_lies_on_disk(
    trained: Path, tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the recipe says: marked in tables, results and answers, without rank and difference."""
    run = run_in(trained)
    run = replace(run, config=replace(run.config, data=replace(run.config.data, toy=None)))
    assert is_toy(run.config.data)
    found = evaluate_run(run, plots=False)
    assert found["toy"] is True
    compare_runs([run])
    shown = capsys.readouterr().out
    assert "development set (toy data, not comparable)" in shown
    rows = read_rows(run.folder.parent / "comparison.csv", ("result", "rank", "difference", "note"))
    own = [row for row in rows if row["result"] == "own"]
    assert {(row["rank"], row["difference"], row["note"]) for row in own} == {("", "", TOY.text)}
    answer = predict_files(run, [trained / "recording.wav"], "fan_id_00")
    assert answer["note"] == TOY_NETWORK
    assert TOY_NETWORK in capsys.readouterr().out
    # What training has recorded stays true without the marker; packs without their data set say it too.
    packs, data = tiny_root / "packed", run.config.data
    assert is_toy(replace(data, root=None, packs=str(packs)))
    assert is_toy(replace(data, root=str(tmp_path), packs=str(packs)))
    assert not is_toy(replace(data, root=str(tmp_path), packs=str(tmp_path)))
    assert network_note(trained / MACHINE) == TOY_NETWORK


def test_a_folder_is_heard_as_far_as_it_can_be(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = mixed_folder(tmp_path / "in")
    mine = ["--machine", "fan_id_00", "--recipe", "mine.yaml", "--run-dir", "runs/task2_anomaly/toy", "--json"]
    mine += ["--out", str(tmp_path / "found")]
    assert main(TASK, ["predict", str(tmp_path / "in"), *mine]) == 1
    out, err = capsys.readouterr()
    said = json.loads(out.splitlines()[-1])
    assert {Path(file).name for file in said["files"]} == names
    found = tmp_path / "found"
    assert {path.stem for path in found.glob("*.json")} == {path.stem for path in found.glob("*.tsv")}
    assert len(list(found.glob("*.json"))) == len(names)
    scores = read_scores(found / "scores" / "anomaly_score_fan_id_00.csv")
    named = {Path(file).name.replace("\\", "_"): of for file, of in said["files"].items()}
    assert scores == {name: pytest.approx(of["score"]) for name, of in named.items()}
    decisions = read_flags(found / "scores" / "decision_result_fan_id_00.csv", "decision")
    assert decisions == {name: of["anomalous"] for name, of in named.items()}
    assert {Path(file).name for file in said["skipped"]} == {"broken.wav", "gone.flac"}
    assert "error: 2 of 10 files cannot be read, the first: " in err.splitlines()[-1]
    assert main(TASK, ["predict", str(tmp_path / "in" / "broken.wav"), *mine]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["files"] == {}


def test_a_long_recording_is_scored_minute_by_minute(place: Path) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 16_000 * 150).astype(np.float32)
    scores = [task2_anomaly.judge(part, MACHINE, 16_000)["score"] for part in (samples[:960_000], samples[960_000:])]
    found = task2_anomaly.judge(samples, MACHINE, 16_000)
    assert found["score"] == pytest.approx((60 * scores[0] + 90 * scores[1]) / 150)


def test_what_an_archive_is_measured_by(
    place: Path, tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the challenge's evaluation set, also where a toy one is at hand; the archive of a toy run by that."""
    measured: list[Any] = []
    monkeypatch.setattr(validating, "validate", lambda path, edition, expected, *_: measured.append(expected) or [])
    foreign, own = (build_zip(tmp_path / f"{name}.zip", {"x": b""}) for name in ("foreign", "own"))
    mark(own, "toy")
    for more, by_toy, said in (
        ([str(foreign)], False, "the challenge's evaluation set (2020)"),
        ([str(own)], True, f"the evaluation set of {tiny_root} (toy data)"),
        ([str(foreign), "--measure", "recipe"], True, f"the evaluation set of {tiny_root} (toy data)"),
        ([str(own), "--measure", "challenge"], False, "the challenge's evaluation set (2020)"),
        ([str(own), "--edition", "first-shot"], False, "the challenge's evaluation set (first-shot)"),
    ):
        assert main(TASK, ["validate", *more, "--recipe", "mine.yaml"]) == 0
        assert capsys.readouterr().out.splitlines()[0].startswith(f"{more[0]}: measured by {said}")
        expected = measured.pop()
        assert (expected is not None) == by_toy
        assert not by_toy or all(expected.values())
    words = ["validate", str(own), "--recipe", "mine.yaml", f"data.root={tmp_path / 'nowhere'}"]
    assert main(TASK, words) == 1
    assert "own.zip: `package` measured it by the toy data it was packed from: data.root=DIR" in capsys.readouterr().err


def test_judge_by_the_second_system(tiny: Callable[..., Config], place: Path, tmp_path: Path) -> None:
    """By what training has stored alone."""
    settings = ("model.kind=embedding", "embedding.encoder=beats-tiny", "data.machines=[fan_id_00]")
    run = Run(TASK, "tiny", 1, tmp_path / "run1", tiny(*settings))
    with pytest.raises(UserError, match="fan_id_00: no finished training; `train` makes one"):
        predict_run(run)
    train_run(run, jobs=1, restart=False)
    found = task2_anomaly.judge("recording.wav", tmp_path / "run1" / "machines" / "fan_id_00")
    predict_run(run)
    assert found == task2_anomaly.judge("recording.wav", tmp_path / "run1" / "machines" / "fan_id_00")
    assert found["anomalous"] == (found["score"] > found["threshold"])
    (tmp_path / "run1" / "machines" / "fan_id_00" / "normal.npz").write_bytes(b"none")
    with pytest.raises(UserError, match=r"normal\.npz: no embeddings of normal clips .*; `train` makes them"):
        predict_run(run)


@pytest.mark.parametrize(
    ("recording", "checkpoint", "options", "message"),
    [
        ("nothing.wav", MACHINE, {}, "nothing.wav"),
        ("recording.wav", "nothing", {}, "settings of the training of nothing"),
        ("recording.wav", "recording.wav", {}, "settings of the training of recording.wav"),
        ("recording.wav", "runs/task2_anomaly/toy/run1", {}, "not the folder of one machine"),
        (np.zeros(100), MACHINE, {}, "sample_rate: an array needs it"),
        (np.zeros((1, 100)), MACHINE, {"sample_rate": 8000}, r"\(1, 100\), expected \(samples,\)"),
        (np.full(100, np.nan), MACHINE, {"sample_rate": 8000}, "finite"),
        (np.zeros(0), MACHINE, {"sample_rate": 16000}, "recording: too short"),
    ],
)
def test_judge_says_what_is_wrong(
    place: Path, recording: Any, checkpoint: str, options: dict[str, int], message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        task2_anomaly.judge(recording, checkpoint, **options)
    assert "\n" not in str(error.value)


def test_readme_example(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_examples(FOLDER / "README.md", "task2_anomaly.judge(")
    assert capsys.readouterr().out.split()[0] in ("True", "False")


def test_light_start(place: Path) -> None:
    (place / "bad.zip").write_bytes(b"no archive")
    mine = ["--recipe", "mine.yaml", "--run-dir", "runs/task2_anomaly/toy"]
    light = [
        ["--help"],
        ["train", "--help"],
        ["trian"],
        ["train", "--recipe", "toi"],
        ["train", "--recipe", "mine.yaml", "data.proxies=same_mike"],
        ["validate", "bad.zip", *mine],
    ]
    heavier = [
        ["evaluate", *mine, "--no-plots"],
        ["compare", *mine],
        ["predict", *mine],
        ["predict", "recording.wav", "--machine", "fan_id_00", *mine],
        ["complexity", *mine],
    ]
    found = loaded_by("task2_anomaly", light + heavier)
    assert [code for code, _ in found] == [0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert [loaded for _, loaded in found[: len(light)]] == [set()] * len(light)
    evaluated, compared, *predicted = [loaded for _, loaded in found[len(light) :]]
    assert evaluated <= {"scipy"}
    assert compared <= {"scipy", "matplotlib"}  # draws
    assert all(loaded <= {"torch", "torchinfo", "scipy", "matplotlib"} for loaded in predicted)
