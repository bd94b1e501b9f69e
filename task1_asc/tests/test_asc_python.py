"""The system from Python, and how little the verbs load."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import task1_asc
from common.audio.reading import write_wav
from common.run.config import load_config
from common.run.errors import UserError
from common.run.results.store import record
from common.run.submission.archive import build_zip
from common.run.submission.measure import mark
from common.run.verbs import main
from common.tests.helpers import loaded_by, mixed_folder, run_examples
from task1_asc.__main__ import TASK
from task1_asc.config import Config
from task1_asc.data.classes import SCENES
from task1_asc.inference.checkpoints import load_file
from task1_asc.inference.scores import read_outputs, write_outputs
from task1_asc.submission import validate as validating
from task1_asc.submission.tables import EVALUATION_FILES

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


def test_an_exported_folder_classifies_as_its_run(
    place: Path, untrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(untrained, "train", {"data": "toy"})
    record(untrained, "test", {"toy": True, "accuracy": 0.5, "scenes": {"bus": 0.1}})
    run = ["--recipe", str(TINY), "--run-dir", "runs/task1_asc/toy", f"data.root={place}", "data.splits=[100]"]
    assert main(TASK, ["export", "--format", "folder", "--out", "mine", "--licence", "mit", *run]) == 0
    assert "mine: model.safetensors" in capsys.readouterr().out
    card = json.loads(Path("mine/config.json").read_text())
    assert card["system"] == "task1_asc"
    assert card["data"] == "toy"
    assert card["metrics"] == {"accuracy": 0.5}
    assert card["config"]["data"]["root"] == place.name  # nobody's folders
    assert str(place) not in Path("mine/config.json").read_text()
    for precision in (None, "float32"):
        expected = task1_asc.classify("recording.wav", untrained / "checkpoints" / "last.ckpt", precision=precision)
        assert task1_asc.classify("recording.wav", "mine", precision=precision) == expected
    for precision, changed, message in (
        ("int8", {}, "int8 needs quantisation-aware training"),
        (None, {"seed": "x"}, "seed: is 'x'"),
    ):
        Path("mine/config.json").write_text(json.dumps({**card, "config": {**card["config"], **changed}}))
        with pytest.raises(UserError, match=message):
            task1_asc.classify("recording.wav", "mine", precision=precision)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--push me/x", "go with --format folder"),
        ("--format folder --precision int8", "go with --format onnx"),
        ("--format folder --public", "--public goes with --push"),
        ("--format folder --out .", "no earlier export"),
        ("--format folder --split 7", "--split: 7"),
    ],
)
def test_wrong_words_of_export(words: str, said: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(TASK, ["export", *words.split(), "--recipe", str(TINY)]) == 1
    assert said in capsys.readouterr().err


def test_a_folder_is_heard_as_far_as_it_can_be(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = mixed_folder(place / "in")
    words = ["predict", "in", "--recipe", str(TINY), "data.splits=[100]", "--json", "--out", "scenes"]
    words += ["--run-dir", "runs/task1_asc/toy"]
    assert main(TASK, words) == 1
    out, err = capsys.readouterr()
    said = json.loads(out.splitlines()[-1])
    assert {Path(file).name for file in said["files"]} == names
    assert {Path(file).name for file in said["skipped"]} == {"broken.wav", "gone.flac"}
    assert err.splitlines()[-1].startswith("error: 2 of 10 files cannot be read, the first: in/gone.flac: ")
    table = place / "scenes" / "scores" / "output.csv"
    assert sorted(read_outputs(table).names) == sorted(names)
    (place / "in" / "x.wav" / "a.aif").write_bytes((place / "in" / "a.aif").read_bytes())
    assert main(TASK, ["predict", "in/a.aif", "in/x.wav", *words[2:]]) == 0
    assert set(read_outputs(table).names) == {*names, "x.wav-a.aif"}  # those of before stay


def test_a_long_recording_is_the_mean_of_its_seconds(place: Path, untrained: Path) -> None:
    checkpoint, settings = untrained / "checkpoints" / "last.ckpt", untrained / "config.yaml"
    settings.write_text(re.sub(r"eval_batch: \d+", "eval_batch: 8", settings.read_text()))  # more seconds than that
    _, config = load_file(checkpoint)
    rate = config.data.sample_rate
    assert config.data.eval_batch == 8
    samples = np.random.default_rng(2).normal(0, 0.1, int(rate * (config.data.eval_batch + 2.5))).astype(np.float32)
    found = task1_asc.classify(samples, checkpoint, sample_rate=rate)
    starts = [*range(0, len(samples) - rate, rate), len(samples) - rate]
    alone = [task1_asc.classify(samples[s : s + rate], checkpoint, sample_rate=rate)["probabilities"] for s in starts]
    for scene, share in found["probabilities"].items():
        assert share == pytest.approx(np.mean([of[scene] for of in alone]), abs=1e-6)
    assert found["seconds"] == len(samples) / rate


def test_what_an_archive_is_measured_by(
    place: Path, tiny_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the challenge's evaluation set, also where a toy one is at hand; the archive of a toy run by that."""
    measured: list[Any] = []
    monkeypatch.setattr(validating, "validate", lambda path, edition, files, counted: measured.append(files) or [])
    foreign, own = (build_zip(place / f"{name}.zip", {"x": b""}) for name in ("foreign", "own"))
    mark(own, "toy")
    words = ["--recipe", str(TINY), f"data.root={tiny_root}"]
    toy = read_evaluation_names(tiny_root)
    for more, expected, said in (
        ([str(foreign)], EVALUATION_FILES, "measured by the challenge's evaluation set of 2024"),
        ([str(own)], toy, f"measured by the evaluation set of {tiny_root} (toy data)"),
        ([str(foreign), "--measure", "recipe"], toy, f"measured by the evaluation set of {tiny_root} (toy data)"),
        ([str(own), "--measure", "challenge"], EVALUATION_FILES, "measured by the challenge's"),
        ([str(foreign), "--edition", "2025"], EVALUATION_FILES, "measured by the challenge's evaluation set of 2025"),
    ):
        assert main(TASK, ["validate", *more, *words]) == 0
        assert capsys.readouterr().out.splitlines()[0].startswith(f"{more[0]}: {said}")
        assert measured.pop() == expected
    assert main(TASK, ["validate", str(own), *words[:2], f"data.root={place / 'nowhere'}"]) == 1
    assert "own.zip: `package` measured it by the toy data it was packed from: data.root=DIR" in capsys.readouterr().err


def read_evaluation_names(root: Path) -> list[str]:
    config = load_config(Config, FOLDER / "recipes", str(TINY), [f"data.root={root}"])
    found = validating.expected_files(config)
    assert not isinstance(found, int)
    return list(found)


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
