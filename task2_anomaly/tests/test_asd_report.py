"""Results of own runs: what is recorded, tables and pictures beside the published figures, for both editions."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.run.errors import UserError
from common.run.files import read_rows
from common.run.results.comparison import read_baselines
from common.tests.pictures import NOTE, check_bars, check_readable
from task2_anomaly.data.classes import TYPES, Machine
from task2_anomaly.data.layout import Part
from task2_anomaly.evaluation import first_shot
from task2_anomaly.evaluation.evaluate import MachineResult, SystemResult, evaluate
from task2_anomaly.evaluation.plots import heat_map, proxy_bars, roc_curves, score_histograms, variation_bars
from task2_anomaly.evaluation.report import BASELINES, compare_figures, record_figures, report_runs, results_of
from task2_anomaly.evaluation.truth import Truth, as_section, truth_of_names
from task2_anomaly.inference.scores import NORMAL, decision_file, score_file, write_decisions, write_scores
from task2_anomaly.inference.thresholds import decide

PNG = b"\x89PNG"
DEV = [Machine(kind, number) for kind in ("fan", "ToyCar") for number in (1, 2)]
EVAL = [Machine("fan", 5), Machine("ToyCar", 7)]


def truth_of(machine: Machine, part: Part) -> Truth:
    if machine.section:
        words = [
            f"section_00_{domain}_test_{label}_{number:04d}_speed_1.wav"
            for number, (domain, label) in enumerate(
                (domain, label) for domain in ("source", "target") for label in ("normal", "anomaly") for _ in range(6)
            )
        ]
        return truth_of_names(words, machine)
    names = [f"{label}_id_{machine.id:02d}_{n:08d}.wav" for label in ("normal", "anomaly") for n in range(15)]
    truth = truth_of_names(names, machine)
    if part == "dev_test":
        return truth
    return Truth(machine, {f"id_{machine.id:02d}_{n:08d}.wav": label for n, label in enumerate(truth.labels.values())})


def truths_of(machines: dict[Part, list[Machine]]) -> dict[Part, list[Truth]]:
    return {part: [truth_of(machine, part) for machine in of] for part, of in machines.items()}


BOTH: dict[Part, list[Machine]] = {"dev_test": DEV, "eval_test": EVAL}
SECTIONS: dict[Part, list[Machine]] = {"dev_test": [Machine(kind, 0, section=True) for kind in ("gearbox", "ToyTrain")]}


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Score files of a run: make_run(1) -> its folder."""

    def make(number: int, machines: dict[Part, list[Machine]] = BOTH, decisions: bool = True) -> Path:
        rng = np.random.default_rng(number)
        folder = tmp_path / "runs" / f"run{number}"
        for part, truths in truths_of(machines).items():
            for truth in truths:
                scores = {name: 1.3 * label + float(rng.normal()) for name, label in truth.labels.items()}
                write_scores(folder / "scores" / part / score_file(truth.machine), scores)
                normal = {f"{n}.wav": float(rng.normal()) for n in range(20)}
                write_scores(folder / "scores" / part / NORMAL / score_file(truth.machine), normal)
                if decisions:
                    path = folder / "scores" / part / decision_file(truth.machine)
                    write_decisions(path, decide(scores, 1.0))
        return folder

    return make


# ------------------------------------------------------------------------------------------------------------ evaluate


def test_what_is_recorded(make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder, truths = make_run(1), truths_of(BOTH)
    found = record_figures(folder, truths, toy=True, draws=40)
    recorded = results_of(folder)
    assert recorded == json.loads(json.dumps(found["parts"]))
    direct = evaluate(folder / "scores" / "dev_test", truths["dev_test"])
    values = recorded["dev_test"]
    assert values["figures"]["auc"] == pytest.approx(direct.overall()[0])
    assert values["figures"]["mean"] == pytest.approx(sum(direct.overall()) / 2)
    assert values["types"]["fan"] == pytest.approx(dict(zip(("auc", "pauc"), direct.averages()["fan"], strict=True)))
    assert values["figures"]["pauc/ToyCar_id_02"] == pytest.approx(direct.of_type("ToyCar")[1].pauc)
    assert values["machines"] == {"fan": ["fan_id_01", "fan_id_02"], "ToyCar": ["ToyCar_id_01", "ToyCar_id_02"]}
    assert values["clips"] == 4 * 30
    for name, (low, high) in values["intervals"].items():
        assert low <= values["figures"][name] <= high
    first = direct.of_type("fan")[0]
    hits = ((first.scores > 1) & (first.labels == 1)).sum()
    assert values["decisions"]["fan_id_01"]["recall"] == pytest.approx(hits / 15)
    assert recorded["eval_test"]["machines"] == {"fan": ["fan_id_05"], "ToyCar": ["ToyCar_id_07"]}
    shown = capsys.readouterr().out
    assert "development set (toy data, not comparable)" in shown
    assert f"{values['figures']['auc/fan']:.4f} [" in shown
    for part in BOTH:
        for name in ("roc", "scores", "machines"):
            assert (folder / "plots" / part / f"{name}.png").read_bytes().startswith(PNG)


def test_without_plots_decisions_and_evaluation_labels(make_run: Callable[..., Path]) -> None:
    folder = make_run(1, decisions=False)
    found = record_figures(folder, truths_of({"dev_test": DEV}) | {"eval_test": []}, toy=False, plots=False, draws=20)
    assert list(found["parts"]) == ["dev_test"]
    assert found["parts"]["dev_test"]["decisions"] == {}
    assert not (folder / "plots").exists()


def test_one_class_only_is_not_available(make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(1)
    truths = truths_of({"dev_test": DEV})
    truths["dev_test"][0] = Truth(DEV[0], dict.fromkeys(truths["dev_test"][0].labels, 0))
    found = record_figures(folder, truths, toy=False, draws=20)["parts"]["dev_test"]
    assert found["figures"]["auc/fan_id_01"] is None
    assert found["figures"]["mean"] is None
    assert found["figures"]["auc/ToyCar"] is not None
    assert results_of(folder)["dev_test"]["intervals"]["auc/fan_id_01"] == [None, None]
    assert "n/a" in capsys.readouterr().out
    report_runs([folder], "x")
    compare_figures([folder], "x")
    own = next(r for r in read_rows(folder.parent / "comparison.csv", ("system", "value")) if r["result"] == "own")
    assert own["value"] == ""


def test_wrong_runs(make_run: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_run(1)
    with pytest.raises(UserError, match="no test set with labels"):
        record_figures(folder, {"dev_test": []}, toy=False)
    (folder / "scores" / "dev_test" / score_file(DEV[0])).unlink()
    with pytest.raises(
        UserError, match=r"anomaly_score_fan_id_01.csv: scores not found \(`predict` makes score files\)"
    ):
        record_figures(folder, truths_of(BOTH), toy=False)
    assert not (folder / "results.json").exists()
    with pytest.raises(UserError, match=r"results\.json"):
        results_of(folder)
    (folder / "results.json").write_text("{}")
    with pytest.raises(UserError, match="no results of the test sets; `evaluate` makes them"):
        report_runs([folder], "x")
    other = make_run(2)
    record_figures(other, truths_of({"dev_test": DEV}), toy=False, plots=False, draws=5)
    third = make_run(3)
    record_figures(third, truths_of({"eval_test": EVAL}), toy=False, plots=False, draws=5)
    with pytest.raises(UserError, match="no test set in common"):
        compare_figures([other, third], "x")


# -------------------------------------------------------------------------------------------------- beside others


def test_report_of_several_runs(make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    folders = [make_run(number) for number in (1, 2, 3)]
    for folder in folders:
        record_figures(folder, truths_of(BOTH), toy=True, plots=False, draws=10)
    capsys.readouterr()
    found = report_runs(folders, "toy")
    values = [results_of(folder)["dev_test"]["figures"]["auc/fan"] for folder in folders]
    assert found["dev_test"]["auc/fan"]["mean"] == pytest.approx(np.mean(values))
    assert found["dev_test"]["auc/fan"]["spread"] == pytest.approx(np.std(values, ddof=1))
    table, printed = (folders[0].parent / "report.md").read_text(), capsys.readouterr().out
    published = {(b.system, b.set, b.metric): b.value for b in read_baselines(BASELINES)}
    for text in (table, printed):
        assert "3 trainings (toy data, not comparable)" in text
        assert "AUC own (toy)" in text
        assert f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}" in text
        assert f"{published['Primus_CP-JKU_task2_1', 'development', 'auc/fan']:.4f}" in text
        assert f"{published['AE baseline 2020', 'development', 'auc/ToyCar_id_01']:.4f}" in text
    rows = read_rows(folders[0].parent / "report.csv", ("result", "system", "set", "metric", "value", "note"))
    own = [row for row in rows if row["result"] == "own"]
    assert {row["note"] for row in own} == {"toy data, not comparable"}
    assert {row["set"] for row in own} == {"development", "evaluation"}
    assert {row["note"] for row in rows if row["result"] == "published"} == {""}


def test_comparison(make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    folders = [make_run(number) for number in (1, 2)]
    for folder in folders:
        record_figures(folder, truths_of(BOTH), toy=False, plots=False, draws=10)
    out = folders[0].parent
    found = compare_figures(folders, "variant_01")
    assert found["development/mean"]["spread"] > 0
    rows = read_rows(out / "comparison.csv", ("system", "result", "set", "metric", "value", "rank"))
    columns = list(dict.fromkeys((row["set"], row["metric"]) for row in rows))
    overall = [(name, metric) for name in ("development", "evaluation") for metric in ("mean", "auc", "pauc")]
    assert columns == [*overall, ("development", "auc/fan"), ("development", "auc/ToyCar")]
    own = {f"{row['set']}/{row['metric']}": float(row["value"]) for row in rows if row["result"] == "own"}
    assert own == pytest.approx({key: of["value"] for key, of in found.items()})
    ranked = {row["system"]: row["rank"] for row in rows}
    assert "variant_01 (own, 2 trainings)" in ranked
    assert ranked["variant 13"]  # its mean is known from AUC and pAUC
    assert "Primus_CP-JKU_task2_1" in capsys.readouterr().out
    assert (out / "comparison.md").is_file()
    assert (out / "comparison.png").read_bytes().startswith(PNG)
    single = compare_figures(folders[:1], "variant_01")["development/auc"]
    recorded = results_of(folders[0])["dev_test"]["intervals"]["auc"]
    assert [single["low"], single["high"]] == pytest.approx(recorded)


def test_first_shot_runs(make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder, truths = make_run(1, SECTIONS), truths_of(SECTIONS)
    found = record_figures(folder, truths, toy=False)["parts"]["dev_test"]
    sections = [as_section(truth) for truth in truths["dev_test"]]
    official = first_shot.evaluate(folder / "scores" / "dev_test", sections)
    assert found["figures"]["official_score"] == pytest.approx(official.score)
    low, high = found["intervals"]["official_score"]
    assert (high - low) / 2 == pytest.approx(official.interval)
    assert found["types"]["gearbox"]["auc_target"] == pytest.approx(official.sections[0].auc_domain[1])
    assert "gearbox, section 00" in capsys.readouterr().out
    report_runs([folder], "embedding_knn")
    compared = compare_figures([folder], "embedding_knn")
    assert compared["2024-development/official_score"]["value"] == pytest.approx(official.score)
    rows = read_rows(folder.parent / "comparison.csv", ("system", "set", "metric"))
    assert {row["set"] for row in rows} == {"2024-development"}
    assert any(row["system"] == "ASDKit raw_beats" and row["value"] for row in rows)
    (folder / "scores" / "dev_test" / decision_file(SECTIONS["dev_test"][0])).unlink()
    assert record_figures(folder, truths, toy=False, plots=False)["parts"]["dev_test"]["figures"] == found["figures"]


def test_published_figures_are_consistent() -> None:
    """Averages over IDs and over types, and means of AUC and pAUC, agree with the figures that they come from."""
    entries = [b for b in read_baselines(BASELINES) if b.value is not None]
    figures: dict[tuple[str, str], dict[str, float]] = {}
    for b in entries:
        figures.setdefault((b.system, b.set), {})[b.metric] = b.value
    checked = 0
    for of in figures.values():
        if {"auc", "pauc", "mean"} <= of.keys():
            assert of["mean"] == pytest.approx((of["auc"] + of["pauc"]) / 2, abs=1.1e-4)
            checked += 1
        for metric in ("auc", "pauc"):
            types = [of[f"{metric}/{kind}"] for kind in TYPES if f"{metric}/{kind}" in of]
            if len(types) == len(TYPES):
                assert np.mean(types) == pytest.approx(of[metric], abs=2.1e-3)  # some are read off bar charts
                checked += 1
            for kind in TYPES:
                ids = [value for name, value in of.items() if name.startswith(f"{metric}/{kind}_id_")]
                if ids:
                    assert np.mean(ids) == pytest.approx(of[f"{metric}/{kind}"], abs=1.1e-4)
                    checked += 1
    assert checked > 60


# --------------------------------------------------------------------------------------------------------------- plots


def result_of(machines: list[Machine]) -> SystemResult:
    rng = np.random.default_rng(0)
    labels = np.array([0] * 30 + [1] * 40)
    found = []
    for machine in machines:
        scores = labels + rng.normal(size=70)
        found.append(MachineResult(machine, 0.8, 0.6, labels, scores))
    return SystemResult("x", found, {})


def test_roc_has_a_curve_per_machine_and_the_partial_area() -> None:
    result = result_of([*DEV, Machine("valve", 0), Machine("slider", 0)])
    axes = roc_curves(result).axes
    titled = {of.get_title(loc="left"): of for of in axes if of.get_title(loc="left")}
    assert list(titled) == ["fan", "slider", "valve", "ToyCar"]
    assert [text.get_text() for text in titled["fan"].get_legend().get_texts()] == [
        "id 01: AUC 0.800, pAUC 0.600",
        "id 02: AUC 0.800, pAUC 0.600",
    ]
    parts = [of for of in axes if of.get_xlim()[1] == pytest.approx(0.1)]
    assert len(parts) == 4
    assert sum(len(of.collections) for of in parts) == len(result.machines)
    for part in parts:
        assert all(x <= 0.1 + 1e-12 for line in part.lines for x in line.get_xdata())


def test_histograms_show_both_classes_and_the_threshold() -> None:
    result = result_of(DEV)
    result.machines[0] = result.machines[0]._replace(labels=np.zeros(70, int), scores=np.ones(70))  # nothing to see
    figure = score_histograms(result, {DEV[0]: 0.7, DEV[1]: 0.3})
    assert [of.get_title(loc="left") for of in figure.axes] == ["fan 01", "fan 02", "ToyCar 01", "ToyCar 02"]
    assert [len(of.patches) for of in figure.axes] == [1, 2, 2, 2]
    assert [[line.get_xdata()[0] for line in of.lines] for of in figure.axes] == [[0.7], [0.3], [], []]

    sections = result_of([Machine(kind, 0, section=True) for kind in ("bearing", "fan", "gearbox", "valve")])
    rows = [of.get_position().y0 for of in score_histograms(sections).axes]
    assert len({round(y, 3) for y in rows}) == 2  # three types side by side


def test_heat_map_writes_every_value() -> None:
    values = np.array([[0.91, 0.5], [np.nan, 0.77]])
    axes = heat_map(["fan_id_00", "ToyCar_id_01"], ["AUC", "pAUC"], values).axes[0]
    assert [text.get_text() for text in axes.texts] == ["0.910", "0.500", "n/a", "0.770"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["fan 00", "ToyCar 01"]


def test_bars_of_proxy_sets(tmp_path: Path) -> None:
    proxy_bars(tmp_path / "proxies.png", {"same_mic_same_type": [0.8, 0.9], "different_mic": [0.45]})
    assert (tmp_path / "proxies.png").read_bytes().startswith(PNG)
    with pytest.raises(UserError, match=r"written as \.png"):
        proxy_bars(tmp_path / "proxies.pdf", {"all": [0.8]})


def test_few_clips_of_a_class_have_no_interval(tmp_path: Path) -> None:
    """Of an official score, too: eight anomalies in all, whatever the number of normal clips."""
    machine = Machine("gearbox", 0, section=True)
    words = [f"section_00_{domain}_test_{label}_{number:04d}_speed_1.wav" for number, (domain, label) in enumerate(
        [("source", "normal"), ("target", "normal")] * 20 + [("source", "anomaly"), ("target", "anomaly")] * 4
    )]  # fmt: skip
    truth = truth_of_names(words, machine)
    scores = {name: label + 0.1 * (number % 17) for number, (name, label) in enumerate(truth.labels.items())}
    write_scores(tmp_path / "scores" / "dev_test" / score_file(machine), scores)
    found = record_figures(tmp_path, {"dev_test": [truth]}, toy=False, plots=False)["parts"]["dev_test"]
    assert np.isnan(found["intervals"]["official_score"]).all()


ABOUT = "development set, recipe toy, training 1"
MACHINES = [Machine(kind, number) for kind in TYPES[:4] for number in range(3)]
SEEDS = {"same_mic_same_type": [0.8, 0.9, 0.95], "a name that is much longer than the others are": [0.45, 0.2]}
PICTURES = {
    "roc": lambda: roc_curves(result_of(MACHINES), NOTE, ABOUT),
    "scores": lambda: score_histograms(result_of(MACHINES), {MACHINES[0]: -0.0012}, NOTE, ABOUT),
    "machines": lambda: heat_map([str(m) for m in MACHINES], ["AUC", "pAUC"], np.full((12, 2), 0.7), NOTE, ABOUT),
    "variations": lambda: variation_bars(SEEDS, title=f"mean AUC\n{ABOUT}", note=NOTE),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_reads_well(name: str) -> None:
    check_readable(PICTURES[name](), ABOUT, lines=name != "machines")


def test_bars_of_variations_begin_at_zero_and_show_chance() -> None:
    figure = PICTURES["variations"]()
    check_bars(figure)
    (axes,) = figure.axes
    assert axes.get_xlim() == (0, 1)
    assert [line.get_xdata()[0] for line in axes.lines if list(line.get_ydata()) == [0, 1]] == [0.5]
    spreads = [line.get_ydata()[0] for line in axes.lines if line.get_marker() == "|"]
    assert spreads == [0]  # the deviation of two seeds is hardly known


def test_chance_stands_in_every_roc() -> None:
    for axes in PICTURES["roc"]().axes:
        end = axes.get_xlim()[1]
        assert [[0, end], [0, end]] in [[list(line.get_xdata()), list(line.get_ydata())] for line in axes.lines]
