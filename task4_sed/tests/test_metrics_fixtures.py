"""Every row of the expected metrics, through the evaluation of files and the metrics below it."""

import csv
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from task4_sed.data.annotations import read_durations, read_soft
from task4_sed.data.classes import MAESTRO_SCORED_CLASSES
from task4_sed.evaluation.evaluate import evaluate_files
from task4_sed.evaluation.figures import Figures, add_segment_figures
from task4_sed.inference.scores import read_scores
from task4_sed.metrics.maestro import overlap_add, recording_events, segments_of_recordings
from task4_sed.metrics.truth import truth_arrays
from task4_sed.metrics.types import ScoreSet, clip_name

OVERALL = ("all", "mean", "macro_average")
Rows = dict[tuple[str, str], float]


def expected_rows(shared: Path) -> dict[str, Rows]:
    rows: dict[str, Rows] = defaultdict(dict)
    with open(shared / "data" / "sed" / "expected_metrics.tsv", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            rows[row["fixture"]][row["metric"], row["class"]] = float(row["value"])
    assert rows
    return rows


def look_up(result: dict[str, Any], metric: str, class_name: str) -> float:
    if class_name in OVERALL:
        return result[metric]
    if class_name == "micro_average":
        return result[f"{metric}_micro"]
    return result["classes"][metric][class_name]


def result_of(fixture: str, data: Path) -> dict[str, Any]:
    frames, points, maestro = data / "frame_scores", data / "operating_points", data / "synthetic_maestro"
    frame_files = (frames / "scores", frames / "ground_truth.tsv", frames / "durations.tsv")
    point_files = (points / "ground_truth.tsv", points / "durations.tsv")
    if fixture == "frame_scores_raw":
        return evaluate_files(*frame_files)
    if fixture == "frame_scores_medianfiltered":
        return evaluate_files(*frame_files, median_filter=True)
    if fixture == "step_scores":
        return evaluate_files(points / "step_scores.tsv", *point_files)
    if fixture.startswith("operating_points"):
        return evaluate_files(points / "operating_points.tsv", *point_files)
    if match := re.fullmatch(r"operating_point_([\d.]+)", fixture):
        return evaluate_files(points / "operating_points.tsv", *point_files, threshold=float(match[1]))
    if fixture == "synthetic_maestro_all_windows":
        return evaluate_files(maestro / "scores", maestro / "soft_labels.tsv", maestro / "durations.tsv")
    if fixture.startswith("synthetic_maestro_only_windows_with_events"):
        return biased_maestro(maestro)
    if match := re.fullmatch(r"csebbs_default_([\d.]+)_([\d.]+)_([\d.]+)", fixture):
        return evaluate_files(*frame_files, csebbs=f"filter={match[1]},abs={match[2]},rel={match[3]}")
    if match := re.fullmatch(r"csebbs_filter([\d.]+)_(abs|rel)([\d.]+)", fixture):
        other = "abs" if match[2] == "rel" else "rel"
        return evaluate_files(*frame_files, csebbs=f"filter={match[1]},{match[2]}={match[3]},{other}=inf")
    if fixture.startswith("csebbs_tuned_"):
        table = data / "csebbs" / f"{fixture.removeprefix('csebbs_')}_parameters.tsv"
        return evaluate_files(*frame_files, csebbs=str(table))
    raise AssertionError(f"no rule for the fixture {fixture}")


def biased_maestro(folder: Path) -> dict[str, Any]:
    """The overlap-add without windows that have no scored event: seconds that only these cover score 0."""
    soft = {clip_name(name): events for name, events in read_soft(folder / "soft_labels.tsv").items()}
    scores = read_scores(folder / "scores")
    durations = {clip_name(name): value for name, value in read_durations(folder / "durations.tsv").items()}
    classes = tuple(name for name in scores.classes if name in MAESTRO_SCORED_CLASSES)
    eventful = {name for name, events in soft.items() if any(e.confidence > 0.5 and e.label in classes for e in events)}
    some = ScoreSet(scores.classes, {name: clip for name, clip in scores.clips.items() if name in eventful})
    truth = truth_arrays(recording_events(soft, classes), durations, classes)
    figures = Figures()
    add_segment_figures(figures, segments_of_recordings(overlap_add(some, durations, classes), truth), 0.5)
    return {**figures.overall, "classes": figures.classes}


def test_every_expected_value(shared: Path) -> None:
    wrong = []
    for fixture, rows in expected_rows(shared).items():
        result = result_of(fixture, shared / "data" / "sed")
        for (metric, class_name), value in rows.items():
            found = look_up(result, metric, class_name)
            if found != pytest.approx(value, abs=1e-6):
                wrong.append((fixture, metric, class_name, value, found))
    assert not wrong


def test_tuning_chooses_the_expected_parameters(shared: Path) -> None:
    data = shared / "data" / "sed"
    files = (data / "frame_scores" / name for name in ("scores", "ground_truth.tsv", "durations.tsv"))
    result = evaluate_files(*files, csebbs="tune:winner", show_progress=False)
    rows = expected_rows(shared)["csebbs_tuned_cpjku_grid"]
    for (metric, class_name), value in rows.items():
        assert look_up(result, metric, class_name) == pytest.approx(value, abs=1e-6)
    with open(data / "csebbs" / "tuned_cpjku_grid_parameters.tsv", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            chosen = result["csebbs"]["parameters"][row["event_label"]]
            assert float(chosen["filter"]) == float(row["step_filter_length"])
            assert float(chosen["abs"]) == float(row["merge_threshold_abs"])
            assert float(chosen["rel"]) == float(row["merge_threshold_rel"])
    assert 0 <= result["psds1_cross_validated"] < result["psds1"]


def test_maestro_segment_scores_and_truth(shared: Path) -> None:
    folder = shared / "data" / "sed" / "synthetic_maestro"
    soft = {clip_name(name): events for name, events in read_soft(folder / "soft_labels.tsv").items()}
    scores = read_scores(folder / "scores")
    durations = {clip_name(name): value for name, value in read_durations(folder / "durations.tsv").items()}
    added = overlap_add(scores, durations, MAESTRO_SCORED_CLASSES)
    seen = 0
    with open(folder / "expected_segment_scores.tsv", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            values = [float(row[name]) for name in MAESTRO_SCORED_CLASSES]
            assert added[row["recording"]][int(float(row["onset"]))] == pytest.approx(values, abs=2e-6)
            seen += 1
    assert seen == sum(len(of_recording) for of_recording in added.values())
    with open(folder / "expected_merged_ground_truth.tsv", newline="") as file:
        expected = {
            (row["recording"], float(row["onset"]), float(row["offset"]), row["event_label"])
            for row in csv.DictReader(file, delimiter="\t")
        }
    events = recording_events(soft, MAESTRO_SCORED_CLASSES)
    assert {(name, e.onset, e.offset, e.label) for name, listed in events.items() for e in listed} == expected
