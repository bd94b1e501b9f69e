"""From no data to a validated submission: every verb on the tiny recipe, as a user calls them."""

import contextlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml

import task1_asc
from common.run.config import load_config
from common.run.errors import UserError
from common.run.files import read_json, read_rows, sha256
from common.run.results.runs import TOY_NETWORK
from common.run.results.store import read_results
from common.run.training import BEST, LAST
from common.run.verbs import main
from task1_asc.__main__ import TASK
from task1_asc.config import SPLITS, Config
from task1_asc.data.classes import DEVICES, SCENES
from task1_asc.data.layout import read_evaluation, read_split
from task1_asc.inference.scores import COLUMNS, clip_file, read_outputs
from task1_asc.model.networks import build_network, load_weights

pytestmark = pytest.mark.end_to_end

TINY = Path(__file__).parent / "tiny.yaml"
RECIPES = {
    "tiny": "",
    "teacher": "data: {splits: [50]}\nmodel: {kind: cp_resnet, base_channels: 24}\nprecision: float32\n",
    "student": "data: {splits: [50]}\nmodel: {kind: cp_mobile}\ndistill: {teachers: [teacher]}\n"
    "trainer: {max_epochs: 2}\nquantize: {epochs: 2, freeze_epochs: 1}\nprecision: int8\n",
    "single": "data: {splits: [5]}\nsubmission: null\n",
    "devices": "data: {splits: [25], edition: 2025}\nfinetune: {epochs: 1, warmup_steps: 1}\n",
}


class House:
    """A folder with the data set and the runs of several recipes, and what every verb gave."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root, self.runs = folder, folder / "data", folder / "runs"
        self.results: dict[str, Any] = {}
        for name, text in RECIPES.items():
            (folder / f"{name}.yaml").write_text(f"extends: {TINY}\n{text}")

    def run(self, recipe: str = "tiny") -> Path:
        return self.runs / recipe / "run1"

    def call(self, verb: str, *words: str, recipe: str = "tiny", code: int = 0) -> Any:
        """What a verb prints with --json."""
        out = io.StringIO()
        usual = ["--recipe", str(self.folder / f"{recipe}.yaml"), "--run-dir", str(self.runs / recipe), "--json"]
        with contextlib.redirect_stdout(out):
            assert main(TASK, [verb, *words, *usual, f"data.root={self.root}"]) == code, out.getvalue()
        return json.loads(out.getvalue().splitlines()[-1]) if code == 0 else None


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """All verbs once."""
    house = House(tmp_path_factory.mktemp("house"))
    archive = str(house.runs / "tiny" / "submission.zip")
    outputs = [str(house.run() / f"split{split}" / "predictions" / "test.csv") for split in SPLITS]
    for name, *words in (
        ("prepare", "--verify"),
        ("train",),
        ("predict",),
        ("evaluate", "--no-plots"),
        ("package",),
        ("validate", archive),
        ("compare",),
        ("complexity",),
        ("benchmark", "--seconds", "0.05"),
        ("splits", "check"),
        ("search", "--show", "2", "--max-bytes", "30000"),
        ("export", "--precision", "float32", "--without-front-end"),
    ):
        house.results[name] = house.call(name, *words)
    truth = ["--ground-truth", str(house.root / "splits" / "test.csv"), "--out", str(house.folder / "scored")]
    house.results["scored"] = house.call("evaluate", "--scores", *outputs, *truth)
    house.results["made"] = house.call("splits", "make", "--out", str(house.folder / "lists"), "--seed", "3")
    return house


@pytest.fixture(scope="module")
def taught(house: House) -> House:
    """A teacher, its logits, and an int8 student."""
    house.call("train", recipe="teacher")
    house.results["teach"] = house.call("teach", recipe="teacher")
    house.call("train", recipe="student")
    house.results["student"] = house.call("predict", recipe="student")
    return house


@pytest.fixture(scope="module")
def devices(house: House) -> House:
    """The edition of 2025: a general network and one for each known device, up to the package."""
    house.call("prepare", recipe="devices")
    house.call("train", recipe="devices")
    house.call("predict", recipe="devices")
    house.call("evaluate", "--no-plots", recipe="devices")
    house.results["package_2025"] = house.call("package", recipe="devices")
    return house


# ------------------------------------------------------------------------------------------------------------ baseline


def test_prepare_packs_everything(house: House) -> None:
    found = house.results["prepare"]
    assert found["made_of"] == "toy"
    assert found["splits"]["ok"]
    assert all(of["packed"] == of["listed"] > 0 for of in found["sets"].values())
    assert read_json(house.runs / "tiny" / "coverage.json") == found


def test_train_leaves_a_model_a_split(house: House) -> None:
    trained = house.results["train"]
    assert (trained["run"], trained["seed"]) == (1, 42)
    for split in SPLITS:
        folder, clips = house.run() / f"split{split}", len(read_split(house.root, split))
        of = trained["splits"][str(split)]
        assert (of["clips"], of["epochs"], of["steps"]) == (clips, 4, 4 * -(-clips // 10))
        recorded = read_results(folder)["checkpoint"]["values"]
        assert recorded == {"file": LAST, "sha256": sha256(folder / LAST)}  # the last epoch is the model, as published
        assert (folder / BEST).is_file()
        rows = read_rows(folder / "metrics.csv", ("epoch", "train/loss", "val/macro_avg_acc", "val/loss.s1"))
        assert len(rows) == 4
        assert yaml.safe_load((folder / "config.yaml").read_text())["data"]["splits"] == [split]


def test_train_again_does_nothing_and_other_settings_are_refused(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [house.run() / f"split{split}" / name for split in SPLITS for name in (LAST, "results.json")]
    before = [(sha256(path), path.stat().st_mtime_ns) for path in files]
    assert house.call("train") == house.results["train"]
    assert [(sha256(path), path.stat().st_mtime_ns) for path in files] == before
    house.call("train", "optimizer.lr=0.1", code=1)
    assert "optimizer.lr: 0.005 there, 0.1 now; --restart" in capsys.readouterr().err


def test_more_data_teaches_more(house: House) -> None:
    """The only place where the network must have learnt something: chance is 0.1."""
    best = house.results["train"]["splits"]["100"]["best"]
    assert best["val/macro_avg_acc"] > 0.15


def test_predictions_are_in_the_challenges_form(house: House) -> None:
    names = {
        "test": [name for name, _ in read_split(house.root, "test")],
        "evaluation": list(read_evaluation(house.root / "TAU-urban-acoustic-scenes-2024-mobile-evaluation").names),
    }
    assert house.results["predict"]["clips"] == {part: len(of) for part, of in names.items()}
    for split in SPLITS:
        for part, of in names.items():
            path = house.run() / f"split{split}" / "predictions" / f"{part}.csv"
            assert path.read_text().splitlines()[0] == "\t".join(COLUMNS)
            outputs = read_outputs(path)
            assert list(outputs.names) == [clip_file(name) for name in of]
            assert outputs.probabilities is not None
            np.testing.assert_allclose(outputs.probabilities.sum(axis=1), 1, atol=1e-6)


def test_precisions_agree(house: House, tmp_path: Path) -> None:
    """Half precision changes probabilities a little, its weights alone less."""
    clip = str(house.root / read_split(house.root, "test")[0][0])
    out = ("--out", str(tmp_path / "found"))
    found = {
        precision: house.call("predict", clip, *out, "--precision", precision)["files"][clip]["probabilities"]
        for precision in ("float32", "float16", "float16_weights")
    }
    assert house.call("predict", clip, *out)["note"] == TOY_NETWORK
    values = {name: np.array([of[scene] for scene in SCENES]) for name, of in found.items()}
    assert 0 < np.abs(values["float16"] - values["float32"]).max() < 0.02
    assert 0 < np.abs(values["float16_weights"] - values["float32"]).max() < 0.02


def test_evaluate_and_anybodys_outputs_agree(house: House) -> None:
    own, scored = house.results["evaluate"], house.results["scored"]
    assert own["rank_score"] == scored["rank_score"]
    for split in SPLITS:
        of = own["files"][f"split{split}"]
        assert of["macro_accuracy"] == scored["files"][f"split{split}"]["macro_accuracy"]
        assert set(of["classes"]) == set(SCENES)
        assert set(of["devices"]) == set(DEVICES)
        assert read_results(house.run() / f"split{split}")["test"]["values"]["toy"] is True
    assert own["rank_score"] == pytest.approx(np.mean([of["macro_accuracy"] for of in own["files"].values()]))
    assert (house.folder / "scored" / "results.json").is_file()
    assert list((house.folder / "scored").glob("*.png"))


def test_the_archive_is_valid_and_whole(house: House) -> None:
    for result in (house.results["package"], house.results["validate"]):
        (violations,) = result["archives"].values()
        assert [v["rule"] for v in violations] == ["report-placeholder"]
    archive = zipfile.ZipFile(house.runs / "tiny" / "submission.zip")
    label = "Toy_Embedded_task1_1"
    for split in SPLITS:
        packed = archive.read(f"task1/{label}/{label}.output.split_{split}.csv")
        assert packed == (house.run() / f"split{split}" / "predictions" / "evaluation.csv").read_bytes()
    about = yaml.safe_load(archive.read(f"task1/{label}/{label}.meta.yaml"))
    counted = house.results["complexity"]
    assert about["system"]["complexity"] == {
        "total_model_size": counted["bytes"], "total_parameters": counted["parameters"], "macs": counted["macs"]
    }  # fmt: skip
    overall = about["results"]["development_dataset"]["split_5"]["overall"]["accuracy"]
    assert overall == pytest.approx(100 * house.results["evaluate"]["files"]["split5"]["macro_accuracy"], abs=1e-3)


def test_compare_stands_beside_the_published_results(house: House) -> None:
    values = house.results["compare"]["comparison"]
    of_split = house.results["evaluate"]["files"]["split50"]["macro_accuracy"]
    assert values["development-test/macro_accuracy@50"]["value"] == pytest.approx(100 * of_split)
    for name in ("comparison.md", "report.md"):
        text = (house.runs / "tiny" / name).read_text()
        assert "Baseline 2024" in text
        assert "toy" in text
    for name in ("comparison.png", "training_data.png", "complexity.png", "comparison.csv", "report.csv"):
        assert (house.runs / "tiny" / name).stat().st_size > 0


def test_complexity_counts_the_recipes_network(house: House) -> None:
    counts = house.results["complexity"]
    config = load_config(Config, TASK.recipes, str(TINY))
    assert counts["parameters"] == sum(p.numel() for p in build_network(config.model).parameters())
    assert counts["bytes"] == 2 * counts["parameters"]
    assert counts["allowed"] is True
    assert counts["input_shape"] == [1, 1, 32, 21]


def test_complexity_of_a_participants_network(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "participants_network.py").write_text("from torch import nn\ndef build(): return nn.Conv2d(1, 4, 3)\n")
    monkeypatch.chdir(tmp_path)
    counts = house.call("complexity", "participants_network:build", "--input-shape", "1", "1", "8", "8")
    assert (counts["parameters"], counts["macs"], counts["bytes"]) == (40, 40 * 36, 160)
    counts = house.call("complexity", "participants_network:build")  # not the toy's input, but the challenge's
    assert counts["input_shape"] == [1, 1, 256, 65]
    assert counts["macs"] == 40 * 254 * 63


def test_benchmark_measures_every_stage(house: House) -> None:
    found = house.results["benchmark"]
    assert found["batch"] == 10
    assert all(rate > 0 for rate in found["clips_per_second"].values())
    assert found["share_of_step"] > 0


def test_splits_are_checked_and_made(house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert house.results["splits"]["ok"]
    assert house.results["made"]["ok"]
    made = [(house.folder / "lists" / f"split{split}.csv").read_text() for split in SPLITS]
    assert made[-1] == (house.root / "splits" / "split100.csv").read_text()  # the list of all clips stays
    lines = made[1].splitlines()
    for split, text in zip(SPLITS, made, strict=True):
        (tmp_path / f"split{split}.csv").write_text(text if split != 10 else "\n".join(lines[:-1]) + "\n")
    house.call("splits", "check", str(tmp_path), code=1)
    assert "2 whole segments: does not hold" in capsys.readouterr().err


def test_search_proposes_allowed_networks(house: House) -> None:
    networks = house.results["search"]["networks"]
    assert len(networks) == 2
    for of in networks:
        assert of["bytes"] <= 30_000
        assert of["macs"] <= 30_000_000


def test_export_is_checked_and_measured(house: House) -> None:
    (written,) = house.results["export"]["files"]
    assert Path(written["path"]) == house.run() / "export" / "split100_mel_float32.onnx"
    assert written["difference"] < 1e-3
    assert house.results["export"]["latency"][0]["ms"] > 0


def test_reproduce_makes_the_table_of_several_seeds(house: House) -> None:
    """The first one is the same training as that of the tiny recipe."""
    report = house.call("reproduce", "--runs", "1", "2", recipe="single")["report"]["5"]
    found = [read_results(house.runs / "single" / f"run{n}" / "split5")["test"]["values"] for n in (1, 2)]
    for key in ("macro_accuracy", "log_loss"):
        values = [of[key] for of in found]
        assert report[key]["mean"] == pytest.approx(np.mean(values))
        assert report[key]["spread"] == pytest.approx(np.std(values, ddof=1))
    assert found[0]["log_loss"] == house.results["evaluate"]["files"]["split5"]["log_loss"]
    assert found[0]["log_loss"] != found[1]["log_loss"]
    assert (house.runs / "single" / "run2" / "plots").is_dir()
    (shown,) = (house.runs / "single" / "run2" / "split5" / "tensorboard").glob("*.summary")
    assert b"test/confusion" in shown.read_bytes()


# ----------------------------------------------------------------------------------------------------------- any files


def test_files_of_any_length_and_rate(house: House, tmp_path: Path) -> None:
    clip = house.root / read_split(house.root, "test")[0][0]
    sound, rate = soundfile.read(clip)
    soundfile.write(tmp_path / "long.wav", np.stack([np.tile(sound, 3)] * 2, axis=1), rate)
    soundfile.write(tmp_path / "short.flac", sound[: rate // 3], rate)
    out = tmp_path / "scenes"
    found = house.call("predict", str(tmp_path), str(clip), "--out", str(out), "--split", "50")["files"]
    assert [Path(path).name for path in found] == ["long.wav", "short.flac", clip.name]
    once, thrice = found[str(clip)], found["long.wav"]
    assert thrice["seconds"] == pytest.approx(3)
    for scene in SCENES:  # the same second three times, resampled as a whole
        assert thrice["probabilities"][scene] == pytest.approx(once["probabilities"][scene], abs=0.01)
    assert [SCENES[label] for label in read_outputs(out / "scores" / "output.csv").labels] == [
        of["scene"] for of in found.values()
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["predict", "--out", "x.csv"], "predict: --out goes with named files"),
        (["predict", "nowhere.wav"], "nowhere.wav"),
        (["predict", "{clip}", "--split", "7"], "--split: 7, but data.splits has 5, 10, 25, 50, 100"),
        (["predict", "--precision", "int8"], "precision: int8 needs quantisation-aware training"),
        (["evaluate", "--scores", "x.csv"], "evaluate --scores also needs --ground-truth"),
        (["evaluate", "--allow-missing"], "go with --scores"),
        (["evaluate", "--runs", "2"], "predictions (`predict` makes them) not found"),
        (["predict", "--runs", "2"], "no finished training; `train` makes one"),
        (["splits", "mend"], "expected `splits check [DIR]` or `splits make [DIR] --out DIR`"),
        (["splits", "make"], "splits make: --out DIR says where the lists go"),
        (["validate"], "name at least one archive"),
        (["search", "--show", "0"], "--show: is 0, expected 1 or more"),
        (["package", "--runs", "1 2 3 4 5"], "a team may submit 4 systems, but --runs names 5"),
        (["package", "data.splits=[5]"], "a submission needs all five splits, but data.splits has no 10"),
        (["train", "data.splits=[7]"], "data.splits=[7]: 7 is no split, choose from 5, 10, 25, 50, 100"),
        (["train", "--runs", "2", "distill.teachers=[nobody]"], "teacher's logits (`teach` makes them) not found"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_one_line(house: House, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    clip = str(house.root / read_split(house.root, "test")[0][0])
    house.call(*(word.replace("{clip}", clip) for word in words), code=1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line


# ------------------------------------------------------------------------------------------------ distillation and int8


def test_teacher_gives_its_logits_for_every_clip(taught: House) -> None:
    assert taught.results["teach"]["clips"] == {"50": len(read_split(taught.root, 50))}
    assert (taught.run("teacher") / "split50" / "teacher_logits.npz").is_file()


def test_student_is_an_int8_network(taught: House) -> None:
    stage = taught.run("student") / "split50" / "int8"
    recorded = read_results(stage)
    assert recorded["train"]["values"]["epochs"] == 2
    accuracy = recorded["quantize"]["values"]["macro_accuracy"]
    assert set(accuracy) == {"float32", "int8"}
    assert all(0 <= value <= 1 for value in accuracy.values())
    assert taught.results["student"]["precision"] == "int8"
    scored = taught.call("evaluate", "--no-plots", recipe="student")["files"]["split50"]
    assert scored["macro_accuracy"] == pytest.approx(accuracy["int8"])  # what was predicted is that network's
    before = sha256(stage / "network_int8.pt")
    taught.call("train", recipe="student")
    assert sha256(stage / "network_int8.pt") == before


def test_int8_network_from_python(taught: House) -> None:
    folder = taught.run("student") / "split50"
    recording = taught.root / next(iter(read_split(taught.root, 50)))[0]
    words = (str(recording), "--out", str(taught.folder / "found"))
    found = taught.call("predict", *words, recipe="student")["files"][str(recording)]
    assert task1_asc.classify(recording, folder / "int8" / "network_int8.pt") == found
    assert task1_asc.classify(recording, folder / LAST, precision="float32")["scene"] in SCENES
    for path, precision in ((folder / LAST, None), (folder / "int8" / "network_int8.pt", "float32")):
        with pytest.raises(UserError, match=r"precision is (int8, expected int8/|float32, expected a checkpoint)"):
            task1_asc.classify(recording, path, precision=precision)


def test_logits_of_a_larger_split_do_not_teach_a_smaller_one(taught: House, capsys: pytest.CaptureFixture[str]) -> None:
    logits = taught.run("teacher") / "split50" / "teacher_logits.npz"
    smaller = taught.run("teacher") / "split5" / logits.name
    smaller.parent.mkdir()
    smaller.write_bytes(logits.read_bytes())
    taught.call("train", "--runs", "2", "data.splits=[5]", recipe="student", code=1)
    assert "a teacher of split 50 must not teach a system of split 5" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------------- 2025 edition


def test_known_devices_have_networks_of_their_own(devices: House) -> None:
    split = devices.run("devices") / "split25"
    there = {name.rsplit("-", 1)[1].removesuffix(".wav") for name, _ in read_split(devices.root, 25)}
    assert {path.name for path in (split / "devices").iterdir()} == there
    config = load_config(Config, TASK.recipes, str(TINY))
    weights = [
        load_weights(build_network(config.model), folder / LAST).state_dict()["in_c.0.0.weight"]
        for folder in (split, *(split / "devices" / device for device in sorted(there)))
    ]
    assert all(not torch.equal(weights[0], of) for of in weights[1:])


def test_inference_package_is_valid(devices: House) -> None:
    (violations,) = devices.results["package_2025"]["archives"].values()
    assert [v for v in violations if v["severity"] == "error"] == []
    names = zipfile.ZipFile(devices.runs / "devices" / "submission.zip").namelist()
    assert any(name.endswith("Toy_Embedded_task1_1.py") for name in names)
