"""Evaluation of files: alignment of clips and classes, what is reported, what is refused."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.run.errors import UserError
from task4_sed.evaluation.evaluate import bootstrap_psds, evaluate_files, threshold_free_curves
from task4_sed.inference.scores import write_logits, write_scores_folder
from task4_sed.metrics.types import ClipScores, ScoreSet

CLIPS = ("w", "x", "y", "z")


class Files:
    """Clips (four) with an event of Cat and Dog each (z: none), scores that find most of them."""

    def __init__(self, folder: Path, names: Sequence[str] = CLIPS) -> None:
        self.scores, self.truth, self.durations = folder / "scores", folder / "truth.tsv", folder / "durations.tsv"
        random = np.random.default_rng(4)
        edges = np.arange(101) * 0.1
        clips = {}
        for name in names:
            values = random.uniform(0, 0.45, (100, 3))
            if name != "z":
                values[10:30, 0] += 0.5
                values[50:80, 1] += 0.3
            clips[name] = ClipScores(edges, values)
        self.set = ScoreSet(("Cat", "Dog", "Blender"), clips)
        write_scores_folder(self.scores, self.set)
        rows = [f"{name}.wav\t{on}\t{off}\t{c}" for name in names[:-1] for on, off, c in ((1, 3, "Cat"), (5, 8, "Dog"))]
        self.truth.write_text("filename\tonset\toffset\tevent_label\n" + "\n".join([*rows, "z.wav\t\t\t"]) + "\n")
        self.durations.write_text("filename\tduration\n" + "".join(f"{name}.wav\t10.0\n" for name in names))

    def evaluate(self, **options: Any) -> dict[str, Any]:
        return evaluate_files(self.scores, self.truth, self.durations, **options)

    def append(self, path: Path, line: str) -> None:
        path.write_text(path.read_text() + line + "\n")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_result_is_json_and_says_what_was_left_out(files: Files) -> None:
    result = files.evaluate()
    json.dumps(result, allow_nan=False)
    assert result["kind"] == "scores"
    assert result["number_of_clips"] == 3
    assert result["number_of_events"] == 6
    assert result["dropped"] == {"empty_clips": ["z"], "score_classes": ["Blender"]}
    assert len(result["notes"]) == 2
    assert set(result["classes"]["psds1_single_class"]) == {"Cat", "Dog"}
    assert result["psds2"] >= result["psds1"] > 0
    assert result["segment_f1_th0.5_1s"] > 0.9
    assert len(result["inputs"]["ground_truth"]["sha256"]) == 64


def test_forms_of_scores_agree(files: Files, tmp_path: Path) -> None:
    expected = files.evaluate()
    logits = np.stack([np.log(clip.scores / (1 - clip.scores)) for clip in files.set.clips.values()])
    write_logits(tmp_path / "x.h5", CLIPS, logits.astype(np.float32), files.set.classes, 0.1)
    found = evaluate_files(tmp_path / "x.h5", files.truth, files.durations)
    for metric in ("psds1", "psds2", "collar_f1_best_threshold_per_class", "segment_auroc_1s_step"):
        assert found[metric] == pytest.approx(expected[metric], abs=1e-9)


def test_threshold_names_the_metrics(files: Files) -> None:
    result = files.evaluate(threshold=0.3)
    assert result["threshold"] == 0.3
    assert "collar_f1_th0.3_200ms_20pct" in result
    assert "intersection_f1_th0.3_dtc0.5_gtc0.5_micro" in result


def test_clips_that_are_only_in_one_place(files: Files) -> None:
    files.append(files.truth, "v.wav\t1\t2\tCat")
    files.append(files.durations, "v.wav\t10")
    (files.scores / "u.tsv").write_text((files.scores / "w.tsv").read_text())
    with pytest.raises(UserError, match=r"no scores of v, .*1 such clips.*--allow-missing"):
        files.evaluate()
    result = files.evaluate(allow_missing=True)
    assert result["dropped"]["truth_clips"] == ["v"]
    assert result["dropped"]["score_clips"] == ["u"]
    assert result["number_of_clips"] == 3


def test_classes_that_are_only_in_one_place(files: Files) -> None:
    files.append(files.truth, "w.wav\t4\t5\tSpeech")
    with pytest.raises(UserError, match=r"no scores of 'Speech', .*1 such classes.*--allow-missing"):
        files.evaluate()
    result = files.evaluate(allow_missing=True)
    assert result["dropped"]["truth_classes"] == ["Speech"]
    assert "Speech" not in result["classes"]["psds1_single_class"]


def test_missing_duration(files: Files) -> None:
    files.durations.write_text("filename\tduration\nw.wav\t10\ny.wav\t10\n")
    with pytest.raises(UserError, match=r"durations.tsv: no duration of x"):
        files.evaluate()


def test_nothing_in_common(files: Files) -> None:
    files.truth.write_text("filename\tonset\toffset\tevent_label\nq.wav\t\t\t\n")
    with pytest.raises(UserError, match="no clip has events"):
        files.evaluate()
    files.truth.write_text("filename\tonset\toffset\tevent_label\nw.wav\t1\t2\tSpeech\n")
    with pytest.raises(UserError, match="none of the classes"):
        files.evaluate()


def test_median_filter_and_boxes(files: Files) -> None:
    plain, filtered = files.evaluate(), files.evaluate(median_filter={"Cat": 9, "Dog": 9})
    assert filtered["psds1"] >= plain["psds1"]
    assert files.evaluate(median_filter=True)["psds1"] != plain["psds1"]
    boxed = files.evaluate(csebbs="default")
    assert boxed["kind"] == "boxes"
    assert boxed["number_of_boxes"] > 0
    assert boxed["csebbs"]["parameters"]["Cat"] == {"filter": 0.5, "abs": 1.0, "rel": 2.0}
    json.dumps(boxed, allow_nan=False)
    with pytest.raises(UserError, match="3 clips to tune on, expected at least 5"):
        files.evaluate(csebbs="tune", show_progress=False)
    with pytest.raises(UserError, match="no grid 'winers'"):
        files.evaluate(csebbs="tune:winers", show_progress=False)


def write_points(path: Path, thresholds: tuple[float, ...]) -> None:
    rows = [
        f"{t}\t{name}.wav\t{on}\t{off}\t{c}"
        for t in thresholds
        for name in CLIPS[:3]
        for on, off, c in ((1, 3, "Cat"), (5 + t, 8, "Dog"))
    ]
    path.write_text("threshold\tfilename\tonset\toffset\tevent_label\n" + "\n".join(rows) + "\n")


def test_operating_points(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "points.tsv"
    write_points(path, (0.1, 0.49))
    result = evaluate_files(path, files.truth, files.durations)
    assert result["kind"] == "operating_points"
    assert result["psds1"] == 1
    assert result["number_of_clips"] == 4  # clips without events count
    assert "collar_f1_sed_eval_200ms_20pct" not in result
    assert any("no operating point at 0.5" in note for note in result["notes"])
    at = evaluate_files(path, files.truth, files.durations, threshold=0.49)
    assert at["collar_f1_sed_eval_200ms_20pct"] == 0.5  # Dog starts 0.49 s late
    with pytest.raises(UserError, match=r"the nearest one is 0\.49"):
        evaluate_files(path, files.truth, files.durations, threshold=0.7)
    with pytest.raises(UserError, match="cannot be post-processed"):
        evaluate_files(path, files.truth, files.durations, csebbs="default")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0.1\tw.wav\t3\t2\tCat", "points.tsv:2: detection from 3 to 2 s"),
        ("high\tw.wav\t3\t4\tCat", "points.tsv:2: threshold is 'high'"),
        ("0.1\tw.wav\t1\t3\tCat\n0.1\tw.wav\t2\t4\tCat", "detections of Cat in w at threshold 0.1 overlap"),
    ],
)
def test_bad_operating_points(files: Files, tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "points.tsv"
    path.write_text(f"threshold\tfilename\tonset\toffset\tevent_label\n{row}\n")
    with pytest.raises(UserError) as error:
        evaluate_files(path, files.truth, files.durations)
    assert message in str(error.value)


class Maestro:
    """Two recordings of 20 s in windows of 10 s with a hop of 5 s; car is loud in the first half of each."""

    def __init__(self, folder: Path) -> None:
        self.scores, self.truth, self.durations = folder / "windows", folder / "soft.tsv", folder / "recordings.tsv"
        random = np.random.default_rng(6)
        clips, rows = {}, []
        for recording in ("r", "s"):
            for start in (0, 5, 10):
                name = f"{recording}-{start * 100:06d}-{(start + 10) * 100:06d}"
                values = random.uniform(0, 0.4, (156, 2))
                values[(np.arange(156) * 0.064 + start) < 8, 0] += 0.3
                clips[name] = ClipScores(np.arange(157) * 0.064, values)
                rows += [f"{name}.wav\t{t}\t{t + 1}\tcar\t{0.9 if t + start < 8 else 0.2}" for t in range(10)]
        write_scores_folder(self.scores, ScoreSet(("car", "shopping cart"), clips))
        self.truth.write_text("filename\tonset\toffset\tevent_label\tconfidence\n" + "\n".join(rows) + "\n")
        self.durations.write_text("filename\tduration\nr.wav\t20\ns.wav\t20\nelsewhere.wav\t99\n")


def test_maestro(tmp_path: Path) -> None:
    maestro = Maestro(tmp_path)
    arguments = (maestro.scores, maestro.truth, maestro.durations)
    result = evaluate_files(*arguments)
    assert result["kind"] == "recordings"
    assert result["number_of_clips"] == 2  # recordings without truth do not count
    assert result["classes"]["segment_auroc_1s_step"] == {"car": pytest.approx(1.0)}
    assert result["segment_pauroc_1s_maxfpr0.1_step"] == pytest.approx(1.0)
    assert result["dropped"]["score_classes"] == ["shopping cart"]
    assert "psds1" not in result
    with pytest.raises(UserError, match="MAESTRO's classes are not boxed"):
        evaluate_files(*arguments, csebbs="default")
    (maestro.scores / "s-000000-001000.tsv").unlink()
    with pytest.raises(UserError, match=r"no scores of s-000000-001000, .*1 such windows"):
        evaluate_files(*arguments)
    assert evaluate_files(*arguments, allow_missing=True)["dropped"]["truth_clips"] == ["s-000000-001000"]


def test_bootstrap(tmp_path: Path) -> None:
    maestro, files = Maestro(tmp_path), Files(tmp_path, (*"abcdefghijkl", "z"))
    options = {"draws": 40, "seed": 1}
    arguments = (files.scores, files.truth, files.durations)
    values = bootstrap_psds(*arguments, maestro=(maestro.scores, maestro.truth, maestro.durations), **options)
    assert set(values) == {"psds1", "psds2", "mpauc", "rank_score"}
    expected = files.evaluate()
    for name in ("psds1", "psds2"):
        assert values[name]["value"] == pytest.approx(expected[name], rel=1e-12)  # the ruler's own sum
    assert 0 < values["psds1"]["low"] < values["psds1"]["value"] < values["psds1"]["high"] < 1
    assert values["psds2"] == {"value": 1.0, "low": None, "high": None}  # all draws are perfect
    assert values["rank_score"]["value"] == pytest.approx(expected["psds1"] + 1.0)
    assert values["mpauc"]["low"] is values["rank_score"]["high"] is None  # of two recordings
    assert bootstrap_psds(*arguments, **options)["psds1"] == bootstrap_psds(*arguments, **options)["psds1"]
    with pytest.raises(UserError, match="0 draws"):
        bootstrap_psds(*arguments, draws=0)


def test_four_clips_have_no_interval(files: Files) -> None:
    for value in bootstrap_psds(files.scores, files.truth, files.durations, draws=20).values():
        assert value["value"] > 0
        assert value["low"] is value["high"] is None


def test_curves(files: Files) -> None:
    curves = threshold_free_curves(files.scores, files.truth, files.durations)
    result = files.evaluate()
    efpr, tpr = curves["psds1"]["effective"]
    assert curves["psds1"]["area"] == result["psds1"]
    assert (tpr * np.diff(np.append(efpr, 100))).sum() / 100 == pytest.approx(result["psds1"])
    assert curves["psds1"]["areas"] == result["classes"]["psds1_single_class"]
    assert curves["segment_roc"]["area"] == result["segment_pauroc_1s_maxfpr0.1_step"]
    assert set(curves["segment_roc"]["classes"]) == {"Cat", "Dog"}


def test_imports_stay_light() -> None:
    heavy = "[m for m in ('torch', 'pandas', 'matplotlib') if m in sys.modules]"
    code = f"import sys, task4_sed.evaluation.evaluate; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
