"""From no data to a validated submission: every verb on the tiny recipe, as a user calls them."""

import contextlib
import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

import task4_sed
from common.run.errors import UserError
from common.run.files import read_json, read_rows, sha256
from common.run.results.runs import TOY_NETWORK
from common.run.results.store import read_results
from common.run.training import BEST
from common.run.verbs import main
from task4_sed.__main__ import TASK
from task4_sed.config import ModelConfig
from task4_sed.data.annotations import read_durations, read_strong
from task4_sed.data.classes import CLASSES, DESED_CLASSES
from task4_sed.data.layout import SETS
from task4_sed.inference.scores import read_logits, read_scores
from task4_sed.metrics.types import clip_name
from task4_sed.model.crnn import CRNN

pytestmark = pytest.mark.end_to_end

TINY = Path(__file__).parent / "tiny.yaml"
RUNS = (1, 2, 3)
SCORED = ("devtest", "maestro_val", "synth_val", "external_strong_val", "eval24")


class House:
    """A folder with the data set and the runs, and what every verb gave."""

    def __init__(self, folder: Path) -> None:
        self.root, self.runs, self.out = folder / "data", folder / "runs", folder / "out"
        self.results: dict[str, Any] = {}

    def run(self, number: int) -> Path:
        return self.runs / f"run{number}"

    def told(self, verb: str, *words: str) -> tuple[int, str, str]:
        """Exit code, output and errors of a verb with --json."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(
                TASK,
                [verb, *words, "--recipe", str(TINY), "--run-dir", str(self.runs), "--json", f"data.root={self.root}"],
            )
        return code, out.getvalue(), err.getvalue()

    def call(self, verb: str, *words: str) -> Any:
        """What a verb prints with --json."""
        code, out, _ = self.told(verb, *words)
        assert code == 0, out
        return json.loads(out.splitlines()[-1])

    def refused(self, verb: str, *words: str) -> str:
        """The one line that a verb says when it fails."""
        code, out, err = self.told(verb, *words)
        assert code == 1, out
        return err.splitlines()[-1]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """All verbs once."""
    house = House(tmp_path_factory.mktemp("house"))
    numbers = ["--runs", *map(str, RUNS)]

    def call(name: str, verb: str, *words: str) -> None:
        house.results[name] = house.call(verb, *words)

    call("prepare", "prepare", "--verify")
    call("train", "train", *numbers)
    call("predict", "predict", "--floors", *numbers)
    call("evaluate", "evaluate", *numbers)
    call("package", "package", *numbers)
    call("validate", "validate", str(house.runs / "submission.zip"))
    call("compare", "compare", *numbers)
    call("complexity", "complexity")
    devtest = house.root / SETS["devtest"].audio[0]
    files = house.root.parent / "files"
    files.mkdir()
    for path in devtest.iterdir():
        (files / path.name).symlink_to(path)
    call("detect", "predict", str(files), "--out", str(house.out), "--threshold", "0.1", "--no-plots")
    truth = [str(house.root / SETS["devtest"].annotation[0]), str(house.root / SETS["devtest"].durations[0])]
    call(
        "scored", "evaluate", "--scores", str(house.out / "scores"), "--ground-truth", truth[0], "--durations", truth[1]
    )
    return house


def test_prepare_writes_and_packs_every_set(house: House) -> None:
    assert set(house.results["prepare"]["sets"]) == set(SETS)
    assert read_json(house.runs / "coverage.json") == house.results["prepare"]
    assert house.results["prepare"]["made_of"] == "toy"


def test_train_leaves_a_checkpoint_a_run(house: House) -> None:
    trained = house.results["train"]["runs"]
    assert [(of["run"], of["seed"], of["epochs"], of["steps"]) for of in trained] == [(n, 41 + n, 2, 6) for n in RUNS]
    recorded = [read_results(house.run(n))["checkpoint"]["values"] for n in RUNS]
    assert [of["sha256"] for of in recorded] == [sha256(house.run(n) / BEST) for n in RUNS]
    assert len({of["sha256"] for of in recorded}) == 3
    chosen_by = read_results(house.run(1))["train"]["values"]["selection"]
    assert chosen_by["objective"] == ["psds1", "mpauc"]
    assert chosen_by["as_published"] is False
    for n in RUNS:
        assert len(read_rows(house.run(n) / "metrics.csv", ("epoch", "val/objective"))) == 2
        assert (house.run(n) / "config.yaml").is_file()


def test_train_again_does_nothing(house: House) -> None:
    files = [path for n in RUNS for path in (house.run(n) / BEST, house.run(n) / "results.json")]
    before = [(sha256(path), path.stat().st_mtime_ns) for path in files]
    again = house.call("train", "--runs", *map(str, RUNS))
    assert again == house.results["train"]
    assert [(sha256(path), path.stat().st_mtime_ns) for path in files] == before


def test_predict_stores_logits_of_every_set(house: House) -> None:
    counts = {name: len(list((house.root / SETS[name].audio[0]).glob("*.wav"))) for name in SCORED}
    counts["external_strong_val"] = house.results["prepare"]["sets"]["external_strong_val"]["packed"]
    for n, result in zip(RUNS, house.results["predict"]["runs"], strict=True):
        assert result["clips"] == counts
        for name in SCORED:
            stored = read_logits(house.run(n) / "scores" / f"{name}.h5")
            assert stored.classes == CLASSES
            assert stored.logits.shape == (counts[name], 156, 27)
            assert np.isfinite(stored.logits).all()
        for name in ("devtest", "maestro_val"):
            constant = read_logits(house.run(n) / "scores" / "constant" / f"{name}.h5").logits
            assert constant.min() == constant.max()
            untrained = read_logits(house.run(n) / "scores" / "untrained" / f"{name}.h5").logits
            trained = read_logits(house.run(n) / "scores" / f"{name}.h5").logits
            assert untrained.shape == trained.shape
            assert not np.array_equal(untrained, trained)


def test_evaluate_has_metrics_intervals_floors_and_plots(house: House) -> None:
    for n, result in zip(RUNS, house.results["evaluate"]["runs"], strict=True):
        recorded = read_results(house.run(n))["test"]["values"]
        assert recorded == result
        assert recorded["data"] == "toy"
        strong, soft = recorded["sets"]["devtest"], recorded["sets"]["maestro_val"]
        assert set(strong) == {"raw", "median", "csebbs", "teacher", "untrained", "constant"}
        assert set(soft) == {"raw", "median", "teacher", "untrained", "constant"}
        assert recorded["network"] == "student"
        for variant in strong.values():
            assert 0 <= variant["psds1"] <= 1
        assert 0 <= soft["median"]["segment_pauroc_1s_maxfpr0.1_step"] <= 1
        for key, interval in recorded["intervals"].items():
            ends = (interval["low"], interval["high"])
            assert ends == (None, None) or ends[0] <= ends[1], key  # too few clips, or all draws alike
        boxes = read_rows(house.run(n) / "csebbs.tsv", ())
        assert len(boxes) == len(DESED_CLASSES)
        plots = {path.name for path in (house.run(n) / "plots").iterdir()}
        assert {"training.png", "psd_roc.png", "maestro_roc.png", "classes.png"} <= plots
        assert any(name.startswith("roll_devtest_") for name in plots)
        (shown,) = (house.run(n) / "tensorboard").glob("*.summary")
        assert b"rolls/devtest_" in shown.read_bytes()


def test_the_teacher_is_scored_beside_the_student_or_in_its_place(house: House, tmp_path: Path) -> None:
    copied = House(house.root.parent)
    copied.runs = tmp_path / "runs"
    shutil.copytree(house.run(1), copied.run(1))
    teacher = "postprocess.network=teacher"
    assert copied.refused("evaluate", teacher).endswith(
        "those of the student, expected the teacher's; `predict` makes them"
    )
    before = {which: read_logits(copied.run(1) / "scores" / which / "devtest.h5") for which in ("", "teacher")}
    assert not np.array_equal(before[""].logits, before["teacher"].logits)
    predicted = copied.call("predict", teacher)
    assert predicted["network"] == "teacher"
    for which, was in (("", "teacher"), ("student", "")):
        stored = read_logits(copied.run(1) / "scores" / which / "devtest.h5")
        np.testing.assert_allclose(stored.logits, before[was].logits, atol=1e-5)
    assert not (copied.run(1) / "scores" / "teacher" / "devtest.h5").exists()
    result = copied.call("evaluate", "--no-plots", teacher)
    student = house.results["evaluate"]["runs"][0]
    assert result["network"] == "teacher"
    for name, variants in result["sets"].items():
        for ours, theirs in (("median", "teacher"), ("student", "median")):
            there = student["sets"][name][theirs]["segment_f1_th0.5_1s"]
            assert variants[ours]["segment_f1_th0.5_1s"] == pytest.approx(there, abs=1e-3)


def test_the_archive_is_valid_and_whole(house: House) -> None:
    archive = house.runs / "submission.zip"
    for result in (house.results["package"], house.results["validate"]):
        (violations,) = result["archives"].values()
        assert [v for v in violations if v["severity"] == "error"] == []
    names = zipfile.ZipFile(archive).namelist()
    clips = [clip_name(name) for name in read_durations(house.root / SETS["eval24"].durations[0])]
    for clip in clips:
        of_clip = [name for name in names if name.endswith(f"/{clip}.tsv")]
        assert len(of_clip) == 6  # three runs, with and without post-processing
    (meta,) = [name for name in names if name.endswith(".meta.yaml")]
    about = yaml.safe_load(zipfile.ZipFile(archive).read(meta))
    assert about["submission"]["label"] == "Toy_Embedded_task4_1"


def test_compare_stands_beside_the_published_results(house: House) -> None:
    values = house.results["compare"]
    psds = [of["sets"]["devtest"]["median"]["psds1"] for of in house.results["evaluate"]["runs"]]
    assert values["devtest/psds1"]["value"] == pytest.approx(np.mean(psds))
    table = (house.runs / "comparison.md").read_text()
    assert "tiny (own, 3 trainings)" in table
    assert "Baseline 2024" in table
    assert "toy" in table.lower()
    assert (house.runs / "comparison.png").stat().st_size > 0
    assert read_rows(house.runs / "comparison.csv", ())


def test_complexity_counts_the_network(house: House) -> None:
    config = yaml.safe_load((house.run(1) / "config.yaml").read_text())["model"]
    assert config["num_classes"] == 27
    counts = house.results["complexity"]
    config |= {"channels": tuple(config["channels"]), "pooling": tuple(map(tuple, config["pooling"]))}
    network = CRNN(ModelConfig(**config))
    assert counts["parameters"] == sum(p.numel() for p in network.parameters())
    assert counts["bytes"] == 4 * counts["parameters"]
    assert counts["macs"] > counts["parameters"]


def test_predict_finds_events_in_files(house: House) -> None:
    files = {path.name for path in (house.root / SETS["devtest"].audio[0]).iterdir()}
    assert set(house.results["detect"]["files"]) == files
    names = {Path(name).stem for name in files}
    for name in names:
        rows = read_rows(house.out / f"{name}.tsv", ("onset", "offset", "event_label", "confidence"))
        assert len(rows) == len(house.results["detect"]["files"][f"{name}.wav"])
        assert (house.out / f"{name}.txt").is_file()
        assert not (house.out / f"{name}.png").exists()
    assert set(read_scores(house.out / "scores").clips) == names


def test_scores_of_files_are_scored_as_those_of_the_set(house: House) -> None:
    """The same clips by another way: named files, scores in text, `evaluate --scores`."""
    by_set = house.results["evaluate"]["runs"][0]["sets"]["devtest"]["raw"]
    for name in ("psds1", "psds2", "segment_f1_th0.5_1s", "intersection_f1_th0.5_dtc0.5_gtc0.5"):
        assert house.results["scored"][name] == pytest.approx(by_set[name], abs=1e-4), name


def test_files_of_any_length_and_rate(house: House, tmp_path: Path) -> None:
    truth = read_strong(house.root / SETS["devtest"].annotation[0])
    sound, rate = soundfile.read(house.root / SETS["devtest"].audio[0] / next(iter(truth)))
    soundfile.write(tmp_path / "long.wav", np.stack([np.tile(sound, 3)] * 2, axis=1), rate)
    soundfile.write(tmp_path / "short.flac", sound[:1600:2], 8_000)
    out = tmp_path / "out"
    words = [str(tmp_path / "long.wav"), str(tmp_path / "short.flac"), "--out", str(out), "--csebbs", "default"]
    answer = house.call("predict", *words)
    assert set(answer["files"]) == {str(tmp_path / "long.wav"), str(tmp_path / "short.flac")}
    assert answer["note"] == json.loads((out / "long.json").read_text())["note"] == TOY_NETWORK
    assert json.loads((out / "long.json").read_text())["duration"] == pytest.approx(3 * len(sound) / rate)
    assert json.loads((out / "short.json").read_text())["duration"] == 0.1
    assert {path.name for path in out.glob("*.png")} == {"long.png", "short.png"}


def test_one_line_of_python(house: House) -> None:
    """`task4_sed.detect` gives what `predict FILES` gives, for a file and for its samples."""
    path = min((house.root.parent / "files").iterdir())
    best = house.run(1) / BEST
    found = task4_sed.detect(path, model=best, threshold=0.1)
    assert found == house.results["detect"]["files"][path.name]
    samples, rate = soundfile.read(path, dtype="float32")
    assert task4_sed.detect(samples, sample_rate=rate, model=best, threshold=0.1) == found
    with pytest.raises(UserError, match="sample_rate: an array needs it, in Hz"):
        task4_sed.detect(samples, model=best)
