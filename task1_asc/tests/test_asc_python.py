"""The system from Python, and how little the verbs load."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import task1_asc
from common.audio.reading import write_wav
from common.run.errors import UserError
from common.run.verbs import main
from common.tests.helpers import loaded_by, run_examples
from task1_asc.__main__ import TASK
from task1_asc.data.classes import SCENES
from task1_asc.inference.scores import write_outputs

FOLDER = Path(__file__).resolve().parents[1]
TINY = FOLDER / "tests" / "tiny.yaml"


@pytest.fixture
def place(untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder: recording.wav and the run, as the README speaks of them."""
    write_wav(tmp_path / "recording.wav", np.random.default_rng(1).normal(0, 0.1, 110_250), 44_100)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def predicted(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(TASK, ["predict", "recording.wav", "--recipe", str(TINY), "data.splits=[100]", "--json", *words]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])["files"]["recording.wav"]


@pytest.mark.parametrize("precision", [None, "float32"])
def test_classify_is_what_predict_says(
    place: Path, untrained: Path, precision: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    found = task1_asc.classify("recording.wav", checkpoint=untrained / "checkpoints/last.ckpt", precision=precision)
    words = ["--precision", precision] if precision else []
    assert found == predicted(capsys, "--run-dir", "runs/task1_asc/toy", *words)
    assert list(found["probabilities"]) == list(SCENES)
    assert sum(found["probabilities"].values()) == pytest.approx(1.0, abs=1e-3)
    assert found["scene"] == max(SCENES, key=found["probabilities"].__getitem__)
    assert found["seconds"] == pytest.approx(2.5)


def test_classify_an_array(place: Path, untrained: Path) -> None:
    import soundfile

    samples, rate = soundfile.read(place / "recording.wav")
    checkpoint = untrained / "checkpoints" / "last.ckpt"
    assert task1_asc.classify(samples, checkpoint, sample_rate=rate) == task1_asc.classify("recording.wav", checkpoint)


def test_classify_says_what_is_wrong(place: Path, untrained: Path) -> None:
    checkpoint = untrained / "checkpoints" / "last.ckpt"
    silence = np.zeros(100)
    for recording, path, options, message in (
        ("nothing.wav", checkpoint, {}, "nothing.wav"),
        ("recording.wav", "nothing.ckpt", {}, "nothing.ckpt: checkpoint not found"),
        ("recording.wav", "recording.wav", {}, "recording.wav: no config.yaml of its training"),
        ("recording.wav", checkpoint, {"precision": "int8"}, "precision: int8 needs quantisation-aware"),
        (silence, checkpoint, {}, "sample_rate: "),
        (silence[None], checkpoint, {"sample_rate": 8000}, r"\(1, 100\), expected \(samples,\)"),
        (silence + np.nan, checkpoint, {"sample_rate": 8000}, "finite"),
    ):
        with pytest.raises(UserError, match=message) as error:
            task1_asc.classify(recording, path, **options)
        assert "\n" not in str(error.value)


def test_readme_example(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_examples(FOLDER / "README.md", "task1_asc.classify(")
    assert capsys.readouterr().out.split()[0] in SCENES


def test_light_start(place: Path, untrained: Path) -> None:
    (place / "truth.csv").write_text("filename\tscene_label\naudio/0.wav\tbus\n", encoding="utf-8")
    write_outputs(place / "outputs.csv", ["0.wav"], np.full((1, 10), 0.1))
    (place / "bad.zip").write_bytes(b"no archive")
    tiny = ["--recipe", str(TINY), "data.splits=[100]", "--run-dir", "runs/task1_asc/toy"]
    light = [
        ["--help"],
        ["train", "--help"],
        ["trian"],
        ["train", "--recipe", "toi"],
        ["validate", "bad.zip", *tiny],
        ["evaluate", "--scores", "outputs.csv", "--ground-truth", "truth.csv"],
        ["compare", *tiny],
    ]
    heavier = [["predict", "recording.wav", *tiny], ["package", *tiny], ["complexity", *tiny]]
    found = loaded_by("task1_asc", light + heavier)
    assert [code for code, _ in found] == [0, 0, 1, 1, 1, 0, 1, 0, 1, 0]
    assert [loaded for _, loaded in found[: len(light)]] == [set()] * len(light)
    forbidden = {"lightning", "torchmetrics", "pandas", "sklearn", "matplotlib"}
    assert forbidden & {name for _, loaded in found for name in loaded} == set()
