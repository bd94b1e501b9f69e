"""Scoring score files of 2020: the official result, ranks, intervals, and everything that can be wrong with a file."""

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from common.run.errors import UserError
from common.run.results.comparison import read_baselines
from common.run.results.intervals import bootstrap_interval
from task2_anomaly.data.classes import Machine
from task2_anomaly.evaluation.evaluate import (
    MachineResult,
    SystemResult,
    evaluate,
    intervals,
    ranks,
    summary,
    system_intervals,
    write_result,
)
from task2_anomaly.evaluation.report import BASELINES
from task2_anomaly.evaluation.truth import Truth, read_truth_2020, truth_of_names
from task2_anomaly.inference.scores import (
    decision_file,
    read_flags,
    read_scores,
    score_file,
    scored_machines,
    write_decisions,
    write_scores,
)
from task2_anomaly.metrics import auc, partial_auc, standardised_area
from task2_anomaly.submission.editions import EVALUATION

FAN, CAR = Machine("fan", 1), Machine("ToyCar", 5)


def truth_of(machine: Machine, anomalies: int = 12, normals: int = 10) -> Truth:
    names = [f"id_{machine.id:02d}_{n:08d}.wav" for n in range(anomalies + normals)]
    return Truth(machine, {name: int(n % 2 == 0 and n < 2 * anomalies) for n, name in enumerate(names)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Score files of two machines."""
    rng = np.random.default_rng(4)
    for machine in (FAN, CAR):
        labels = truth_of(machine).labels
        path = tmp_path / "system" / score_file(machine)
        write_scores(path, {name: float(label + rng.normal()) for name, label in labels.items()})
    return tmp_path / "system"


TRUTHS = [truth_of(FAN), truth_of(CAR)]


# -------------------------------------------------------------------------------------------------- official results


def cells(path: Path) -> list[list[Any]]:
    def read(text: str) -> Any:
        return float(text) if re.fullmatch(r"[\d.]+(e-\d+)?", text) and not re.fullmatch(r"\d\d", text) else text

    with path.open(newline="") as file:
        return [[read(cell) for cell in row] for row in csv.reader(file)]


def test_official_result_of_real_systems(shared: Path, tmp_path: Path) -> None:
    data = shared / "data" / "dcase2020_task2"
    truths = read_truth_2020(data / "eval_data_list.csv")
    expected = sorted((data / "expected").glob("result_*.csv"))
    assert expected
    for path in expected:
        result = evaluate(data / "teams" / path.stem.removeprefix("result_"), truths)
        write_result(tmp_path / path.name, result)
        ours, theirs = cells(tmp_path / path.name), cells(path)
        assert len(ours) == len(theirs)
        for own, official in zip(ours, theirs, strict=True):
            assert own == [pytest.approx(cell, abs=1e-9) if isinstance(cell, float) else cell for cell in official]
        assert b"\r" not in (tmp_path / path.name).read_bytes()


def test_averages_are_the_published_ones(shared: Path) -> None:
    data = shared / "data" / "dcase2020_task2"
    truths = read_truth_2020(data / "eval_data_list.csv")
    published = {(b.system, b.metric): b.value for b in read_baselines(BASELINES) if b.set == "evaluation"}
    compared = 0
    for team in sorted((data / "teams").iterdir()):
        result = evaluate(team, truths)
        found = {"auc": result.overall()[0], "pauc": result.overall()[1]}
        for kind, (own_auc, own_pauc) in result.averages().items():
            found |= {f"auc/{kind}": own_auc, f"pauc/{kind}": own_pauc}
        found |= {f"auc/{r.machine}": r.auc for r in result.machines}
        for metric, value in found.items():
            if (result.system, metric) in published:
                assert value == pytest.approx(published[result.system, metric], abs=6e-5)
                compared += 1
    assert compared >= 4 * 14


def test_evaluation_set_of_the_challenge(shared: Path) -> None:
    truths = read_truth_2020(shared / "data" / "dcase2020_task2" / "eval_data_list.csv")
    assert {truth.machine: len(truth.labels) for truth in truths} == EVALUATION
    for truth in truths:
        names = {f"id_{truth.machine.id:02d}_{number:08d}.wav" for number in range(len(truth.labels))}
        assert set(truth.labels) == names


def test_result_by_hand(tmp_path: Path) -> None:
    machines = [Machine("valve", 3), Machine("fan", 5), Machine("fan", 1), Machine("Mixer", 0)]
    truths = [truth_of(machine, 5, 10) for machine in machines]
    for truth in truths:
        sign = -1 if truth.machine.id == 5 else 1
        write_scores(tmp_path / score_file(truth.machine), {name: sign * label for name, label in truth.labels.items()})
    result = evaluate(tmp_path, truths)
    write_result(tmp_path / "out.csv", result)
    low = 9 / 19
    expected = f"fan\nid,AUC,pAUC\n01,1.0,1.0\n05,0.0,{low}\nAverage,0.5,{(1 + low) / 2}\n\n"
    expected += "valve\nid,AUC,pAUC\n03,1.0,1.0\nAverage,1.0,1.0\n\nMixer\nid,AUC,pAUC\n00,1.0,1.0\nAverage,1.0,1.0\n\n"
    found = (tmp_path / "out.csv").read_text()
    assert [row[:1] for row in csv.reader(found.split("\n"))] == [row[:1] for row in csv.reader(expected.split("\n"))]
    numbers = [[float(x) for x in re.findall(r"\d\.\d+", text)] for text in (found, expected)]
    assert numbers[0] == pytest.approx(numbers[1])
    assert result.overall() == (pytest.approx(2.5 / 3), pytest.approx((2 + (1 + low) / 2) / 3))


def test_rows_are_paired_by_name(folder: Path) -> None:
    before = evaluate(folder, TRUTHS)
    path = folder / score_file(FAN)
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[::-1]) + "\n\n")
    after = evaluate(folder, TRUTHS)
    assert [(r.auc, r.pauc) for r in after.machines] == [(r.auc, r.pauc) for r in before.machines]


def test_one_class_only_is_said(folder: Path, tmp_path: Path) -> None:
    normal = Truth(FAN, dict.fromkeys(TRUTHS[0].labels, 0))
    result = evaluate(folder, [normal, TRUTHS[1]])
    assert (result.machines[0].auc, result.machines[0].pauc) == (None, None)
    assert result.averages()["fan"] == (None, None)
    assert result.overall() == (None, None)
    assert summary(result)["machines"]["fan_id_01"]["auc"] is None
    write_result(tmp_path / "out.csv", result)
    assert "fan\nid,AUC,pAUC\n01,n/a,n/a\nAverage,n/a,n/a\n" in (tmp_path / "out.csv").read_text()
    assert ranks([result]) == {}


# ------------------------------------------------------------------------------------------------------ what is wrong


def test_a_missing_machine_is_a_problem_and_not_an_average(folder: Path, tmp_path: Path) -> None:
    (folder / score_file(CAR)).unlink()
    result = evaluate(folder, TRUTHS)
    assert list(result.problems) == [CAR]
    assert "anomaly_score_ToyCar_id_05.csv: scores not found" in result.problems[CAR]
    assert summary(result)["problems"].keys() == {"ToyCar_id_05"}
    with pytest.raises(UserError, match="ToyCar_id_05"):
        write_result(tmp_path / "out.csv", result)
    assert not (tmp_path / "out.csv").exists()


def line(number: int, text: str) -> Callable[[list[str]], list[str]]:
    """Replace a line, counted from 1."""
    return lambda lines: [text if n == number else old for n, old in enumerate(lines, 1)]


WRONG_ROWS = [
    (lambda lines: ["file,score", *lines], r":1: score 'score' is no number; these files have no header"),
    (line(3, "id_01_00000002.wav,high"), r":3: score 'high' is no number$"),
    (line(3, "id_01_00000002.wav,nan"), r":3: score 'nan', expected a finite number"),
    (line(3, "id_01_00000002.wav,-inf"), r":3: score '-inf', expected a finite number"),
    (line(3, "id_01_00000002.wav"), r":3: 1 columns, expected 2"),
    (line(3, "id_01_00000002.wav,1_0"), r":3: score '1_0' is no number$"),  # Python's own way of writing 10
    (line(3, "id_01_00000002.wav,\u0661\u0662"), r":3: score '\u0661\u0662' is no number$"),  # Arabic digits
    (line(3, "id_01_00000002.wav,0x10"), r":3: score '0x10' is no number$"),
    (line(3, "id_01_00000002.wav;0.5"), r":3: 1 columns, expected 2: .* \(separated by semicolons\?\)"),
    (line(3, "fan/test/id_01_00000002.wav,0.5"), r":3: fan/test/id_01_00000002\.wav has a folder, expected the file's"),
    (line(3, "id_01_00000002.wav,0,5"), r":3: 3 columns, expected 2"),
    (line(3, "id_01_00000001.wav,0.5"), r":3: id_01_00000001.wav for the second time"),
    (lambda lines: [*lines, lines[4]], r":23: id_01_00000004.wav for the second time"),
    (line(3, "id_03_00000002.wav,0.5"), r": misses id_01_00000002.wav of fan_id_01"),
    (lambda lines: lines[:-3], r": misses id_01_00000019.wav and 2 more of fan_id_01"),
    (lambda lines: [*lines, "id_01_00000099.wav,1"], r": has no label for id_01_00000099.wav of fan_id_01"),
    (lambda lines: ['"id_01_0'], r": no csv file"),
    (lambda lines: [], r": empty, expected a row for each test file"),
]


@pytest.mark.parametrize(("change", "message"), WRONG_ROWS)
def test_wrong_score_files(folder: Path, change: Callable[[list[str]], list[str]], message: str) -> None:
    path = folder / score_file(FAN)
    path.write_text("\n".join(change(path.read_text().splitlines())))
    result = evaluate(folder, TRUTHS)
    assert list(result.problems) == [FAN]
    assert re.search(re.escape(str(path)) + message, result.problems[FAN])
    assert [r.machine for r in result.machines] == [CAR]  # the others are scored all the same


def test_not_text(folder: Path) -> None:
    (folder / score_file(FAN)).write_bytes(b"\xff\xfe\x00")
    assert "no csv file" in evaluate(folder, TRUTHS).problems[FAN]


@pytest.mark.parametrize("value", ["2", "yes", "", "0.5", "1.0"])
def test_wrong_decisions(tmp_path: Path, value: str) -> None:
    (tmp_path / "d.csv").write_text(f"a.wav,1\nb.wav,{value}\n")
    with pytest.raises(UserError, match=rf"d\.csv:2: decision '{value}', expected 0 or 1"):
        read_flags(tmp_path / "d.csv", "decision")


def test_files_are_read_as_written(tmp_path: Path) -> None:
    scores = {"b.wav": -1.162701964378357, "a.wav": 1e-300, "c.wav": 3.0}
    write_scores(tmp_path / "s.csv", scores)
    assert (tmp_path / "s.csv").read_bytes() == b"a.wav,1e-300\nb.wav,-1.162701964378357\nc.wav,3.0\n"
    assert read_scores(tmp_path / "s.csv") == scores
    write_decisions(tmp_path / "d.csv", {"b.wav": 1, "a.wav": 0})
    assert read_flags(tmp_path / "d.csv", "decision") == {"a.wav": 0, "b.wav": 1}
    for bad in (float("nan"), float("inf")):
        with pytest.raises(UserError, match=r"s\.csv: the score of b.wav is"):
            write_scores(tmp_path / "s.csv", scores | {"b.wav": bad})
    assert read_scores(tmp_path / "s.csv") == scores


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id_01_00000000.wav,normal_id_01_00000000.wav,0\n", ":1: expected a machine type alone"),
        ("fan\nid_01_00000000.wav,normal_id_01_00000000.wav\n", ":2: expected a machine type alone"),
        ("fan\nid_01_00000000.wav\n", ":2: expected a machine type alone"),
        ("fan\nid_01_00000000.wav,normal_id_01_00000000.wav,2\n", ":2: .*0 or 1"),
        ("fan\nid_1_00000000.wav,normal_id_01_00000000.wav,1\n", ":2: .*id_<NN>"),
        ("fan\n" + 2 * "id_01_00000000.wav,x.wav,0\n", ":3: id_01_00000000.wav of fan for the second time"),
        ("fan\n", ": empty"),
        ("", ": empty"),
    ],
)
def test_wrong_ground_truth(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "list.csv").write_text(content)
    with pytest.raises(UserError, match=rf"list\.csv{message}"):
        read_truth_2020(tmp_path / "list.csv")


def test_labels_out_of_names() -> None:
    truth = truth_of_names(["normal_id_01_00000000.wav", "anomaly_id_01_00000003.wav"], FAN)
    assert (list(truth.labels.values()), truth.domains) == ([0, 1], None)
    names = ["section_00_source_test_normal_0000_spd_1.wav", "section_00_target_test_anomaly_0001_noAttribute.wav"]
    truth = truth_of_names(names, Machine("fan", 0, section=True))
    assert truth.labels == dict(zip(names, (0, 1), strict=True))
    assert truth.domains == dict(zip(names, (0, 1), strict=True))
    for name in ("id_01_00000000.wav", "section_00_0000.wav"):
        with pytest.raises(UserError, match=f"{name}: carries no label"):
            truth_of_names([name], FAN)


def test_names_of_score_files(tmp_path: Path) -> None:
    machines = [CAR, FAN, Machine("3DPrinter", 0, section=True)]
    for machine in machines:
        write_scores(tmp_path / score_file(machine), {"a.wav": 1.0})
    (tmp_path / decision_file(FAN)).write_text("a.wav,1\n")
    (tmp_path / "anomaly_score_fan_id_1.csv").write_text("a.wav,1\n")
    assert scored_machines(tmp_path) == sorted(machines)
    assert (tmp_path / "anomaly_score_3DPrinter_section_00_test.csv").is_file()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no score files"):
        scored_machines(tmp_path / "empty")


@pytest.mark.parametrize("text", ["1", "-1.", "+.5", "1e5", "-2.5E-3", "1.162701964378357"])
def test_numbers_of_the_challenge_are_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.csv").write_text(f"id_01_00000000.wav,{text}\n")
    assert read_scores(tmp_path / "x.csv") == {"id_01_00000000.wav": float(text)}


# -------------------------------------------------------------------------------------------------- ranks, intervals


def test_ranks_of_systems(folder: Path, tmp_path: Path) -> None:
    good = evaluate(folder, TRUTHS)
    write_scores(tmp_path / "bad" / score_file(FAN), {name: -label for name, label in TRUTHS[0].labels.items()})
    write_scores(tmp_path / "bad" / score_file(CAR), {name: -label for name, label in TRUTHS[1].labels.items()})
    bad = evaluate(tmp_path / "bad", TRUTHS)
    assert ranks([bad, good]) == {"bad": 2.0, "system": 1.0}
    with pytest.raises(UserError, match="two systems are named alike"):
        ranks([good, good])
    with pytest.raises(UserError, match="different machine types"):
        ranks([good, SystemResult("other", good.machines[:1], {})])


def test_intervals_are_those_of_the_bootstrap(folder: Path) -> None:
    result = evaluate(folder, TRUTHS)
    machine = result.machines[0]

    def both(weights: np.ndarray) -> np.ndarray:
        labels, scores = np.repeat(machine.labels, weights), np.repeat(machine.scores, weights)
        return np.array([auc(labels, scores) or np.nan, partial_auc(labels, scores) or np.nan])

    fewer = min(machine.labels.sum(), (1 - machine.labels).sum())
    low, high = bootstrap_interval(
        both, len(machine.labels), draws=60, seed=3, share=True, units=np.full(2, fewer), floor=np.array([0, 9 / 19])
    )
    found = intervals(machine, draws=60, seed=3)
    assert found["auc"] == pytest.approx((low[0], high[0]))
    assert found["pauc"] == pytest.approx((low[1], high[1]))


def test_intervals_of_a_system(folder: Path) -> None:
    result = evaluate(folder, TRUTHS)
    found = system_intervals(result, draws=100)
    assert found == system_intervals(result, draws=100)
    assert found["auc/fan"] == found["auc/fan_id_01"]  # one ID
    for name, value in (("auc", result.overall()[0]), ("pauc", result.overall()[1])):
        assert found[name][0] < value < found[name][1]
        widths = [found[f"{name}/{kind}"][1] - found[f"{name}/{kind}"][0] for kind in ("fan", "ToyCar")]
        assert found[name][1] - found[name][0] < max(widths)  # a mean is known better
    lonely = replace_labels(result, 0)
    assert all(np.isnan(system_intervals(lonely, draws=20)["auc"]))


def test_an_interval_needs_ten_of_each_class() -> None:
    random = np.random.default_rng(1)

    def result(normals: int, anomalies: int) -> MachineResult:
        labels = np.repeat([0, 1], [normals, anomalies])
        scores = labels + random.normal(size=len(labels))
        return MachineResult(FAN, auc(labels, scores), partial_auc(labels, scores), labels, scores)

    for few in ((9, 200), (200, 9)):
        assert np.isnan(list(intervals(result(*few), draws=50).values())).all()
    for name, (low, high) in intervals(result(16, 16), draws=50).items():
        assert (0 if name == "auc" else 9 / 19) < low < high < 1, name


@pytest.mark.parametrize(("normals", "apart"), [(16, 1.0), (16, 2.0), (100, 1.5)])
def test_intervals_cover_the_truth_and_hold_their_own_figure(normals: int, apart: float) -> None:
    """Two normal distributions whose means differ; the areas under their curve are known. 120 samples."""
    fpr = np.linspace(0, 1, 20_001)
    tpr = norm.cdf(apart + norm.ppf(fpr))
    truth = {"auc": norm.cdf(apart / 2**0.5), "pauc": standardised_area(fpr, tpr)}
    random, covered = np.random.default_rng(normals), []
    for number in range(120):
        labels = np.repeat([0, 1], normals)
        scores = labels * apart + random.normal(size=len(labels))
        machine = MachineResult(FAN, auc(labels, scores), partial_auc(labels, scores), labels, scores)
        found = intervals(machine, draws=100, seed=number)
        for name, own in (("auc", machine.auc), ("pauc", machine.pauc)):
            low, high = found[name]
            if own in (1, 9 / 19):  # nothing is known of the spread at the ends of the range
                assert np.isnan(low)
                continue
            assert low < own < high
            assert high - own > 0.03 * (high - low)  # not at the edge where ties of drawn items would put it
            covered.append((name, low <= truth[name] <= high))
    for name in truth:
        assert np.mean([hit for of, hit in covered if of == name]) > 0.87, name


def replace_labels(result: SystemResult, label: int) -> SystemResult:
    machines = [r._replace(labels=np.full_like(r.labels, label)) for r in result.machines]
    return result._replace(machines=machines)
