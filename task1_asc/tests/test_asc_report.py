"""Scoring of files and runs, tables and pictures beside the published figures."""

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from common.run.errors import UserError
from common.run.files import read_rows
from common.run.results.intervals import MIN_UNITS, bootstrap_interval
from common.tests.pictures import NOTE, check_bars, check_readable, title_of
from task1_asc.config import SPLITS
from task1_asc.data.classes import DEVICE_GROUPS, DEVICES, SCENES
from task1_asc.evaluation import plots
from task1_asc.evaluation.evaluate import evaluate_files, evaluate_outputs, rank_interval, read_truth
from task1_asc.evaluation.plots import (
    Point,
    against_complexity,
    against_training_data,
    confusion_matrix,
    spread_apart,
)
from task1_asc.evaluation.report import (
    BASELINE,
    DEVELOPMENT,
    EVALUATION,
    Published,
    compare_figures,
    figures_of,
    read_published,
    record_figures,
    report_runs,
    results_of,
)
from task1_asc.inference.scores import Outputs, read_outputs, write_outputs
from task1_asc.metrics import rank_score

NAMES = [
    f"audio/{scene}-lyon-{number}-{number}-{part}-{device}.wav"
    for number, scene in enumerate(SCENES)
    for device in DEVICES
    for part in range(10)
]


def predictions(seed: int, skill: float = 1.5) -> np.ndarray:
    """(clips, 10): right more often than not; the clips of a segment err together."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(NAMES) // 10, 10)).repeat(10, axis=0) + 0.2 * rng.normal(size=(len(NAMES), 10))
    logits[np.arange(len(NAMES)), [SCENES.index(name.split("/")[1].split("-")[0]) for name in NAMES]] += skill
    shares = np.exp(logits)
    return shares / shares.sum(axis=1, keepdims=True)


@pytest.fixture
def truth_file(tmp_path: Path) -> Path:
    path = tmp_path / "test.csv"
    rows = "".join(f"{name}\t{name.split('/')[1].split('-')[0]}\n" for name in NAMES)
    path.write_text("filename\tscene_label\n" + rows)
    return path


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Stored predictions of a run: make_run(1, splits) -> its folder."""

    def make(number: int, splits: tuple[int, ...] = SPLITS) -> Path:
        for split in splits:
            path = tmp_path / "runs" / f"run{number}" / f"split{split}" / "predictions" / "test.csv"
            write_outputs(path, NAMES, predictions(1000 * number + split, 1 + split / 100))
        return tmp_path / "runs" / f"run{number}"

    return make


# ------------------------------------------------------------------------------------------------------------- truth


def test_devices_and_segments_come_from_official_names(truth_file: Path) -> None:
    truth = read_truth(truth_file)
    assert len(truth.names) == 900
    assert truth.labels.tolist() == [index for index in range(10) for _ in range(90)]
    assert np.bincount(truth.devices).tolist() == [100] * 9
    assert len(set(truth.segments.tolist())) == 90
    assert all(len(set(truth.segments[row : row + 10].tolist())) == 1 for row in range(0, 900, 10))


def test_truth_of_the_challenge(shared: Path) -> None:
    truth = read_truth(shared / "data" / "asc" / "test.csv.gz")
    clips, segments = len(truth.names), len(set(truth.segments.tolist()))
    assert clips == 10 * segments
    assert set(truth.devices.tolist()) == set(range(9))


@pytest.mark.parametrize("separator", ["\t", ","])
def test_any_table_with_devices_will_do(tmp_path: Path, separator: str) -> None:
    rows = [("filename", "scene_label", "device_id"), ("0.wav", "bus", "s2"), ("audio/1.wav", "tram", "unknown")]
    (tmp_path / "x.csv").write_text("\n".join(separator.join(row) for row in rows))
    truth = read_truth(tmp_path / "x.csv")
    assert (truth.names, truth.labels.tolist(), truth.devices.tolist()) == (("0.wav", "1.wav"), [1, 9], [4, -1])
    assert len(set(truth.segments.tolist())) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name\tscene_label\n0.wav\tbus\n", ":1: no column 'filename'"),
        ("filename\tscene_label\n0.wav\tbuss\n", ":2: unknown scene 'buss'"),
        ("filename\tscene_label\n0.wav\tbus\naudio/0.wav\tbus\n", ":3: 0.wav already stands"),
        ("filename\tscene_label\n", "no rows"),
    ],
)
def test_bad_truth(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / 'x.csv'}") + ".*" + message):
        read_truth(tmp_path / "x.csv")


# ----------------------------------------------------------------------------------------------------------- scoring


def test_intervals_are_those_of_the_cluster_bootstrap(tmp_path: Path, truth_file: Path) -> None:
    write_outputs(tmp_path / "output.csv", NAMES, predictions(3))
    outputs, truth = read_outputs(tmp_path / "output.csv"), read_truth(truth_file)
    result = evaluate_outputs(outputs, truth, draws=80, seed=5)
    correct = truth.labels == outputs.labels

    def accuracy(weights: np.ndarray) -> float:
        return float(weights @ correct / weights.sum())

    expected = bootstrap_interval(accuracy, len(correct), 80, 5, groups=truth.segments, share=True)
    assert result["intervals"]["accuracy"] == pytest.approx(expected)
    of_clips = bootstrap_interval(accuracy, len(correct), 80, 5, share=True)
    assert of_clips[1] - of_clips[0] < 0.6 * (expected[1] - expected[0])  # clips as if they were independent
    low, high = result["intervals"]["macro_accuracy"]
    assert low < result["macro_accuracy"] < high
    assert result["segments"] == 90
    assert np.trace(result["confusion"]) == correct.sum()


def test_order_of_the_rows_does_not_matter(truth_file: Path) -> None:
    truth, shares = read_truth(truth_file), predictions(4)
    order = np.random.default_rng(0).permutation(900)
    outputs = Outputs(truth.names, shares.argmax(axis=1), shares)
    shuffled = Outputs(tuple(truth.names[i] for i in order), outputs.labels[order], shares[order])
    assert evaluate_outputs(shuffled, truth, 10) == evaluate_outputs(outputs, truth, 10)


def test_missing_and_unknown_clips(truth_file: Path) -> None:
    truth, shares = read_truth(truth_file), predictions(4)
    part = Outputs(truth.names[10:], shares.argmax(axis=1)[10:], shares[10:])
    with pytest.raises(UserError, match=r"airport-lyon-0-0-0-a\.wav: no prediction \(10 of 900"):
        evaluate_outputs(part, truth, 10)
    assert evaluate_outputs(part, truth, 10, allow_missing=True)["clips"] == 890
    foreign = Outputs((*truth.names[1:], "x.wav"), np.zeros(900, int), None)
    with pytest.raises(UserError, match=r"x\.wav: predicted, but not in the ground truth"):
        evaluate_outputs(foreign, truth, 10, allow_missing=True)


def test_the_rank_score_is_drawn_on_the_same_segments(truth_file: Path) -> None:
    truth = read_truth(truth_file)
    systems = [Outputs(truth.names, predictions(7).argmax(axis=1), None) for _ in range(5)]
    macro = evaluate_outputs(systems[0], truth, draws=60)["intervals"]["macro_accuracy"]
    assert rank_interval(systems, truth, draws=60) == pytest.approx(macro)  # equal systems: nothing averages out
    other = Outputs(truth.names[10:], systems[0].labels[10:], None)
    assert rank_interval([*systems[:4], other], truth, draws=10) is None


def test_anybodys_files(tmp_path: Path, truth_file: Path, capsys: pytest.CaptureFixture) -> None:
    files = []
    for split in SPLITS:
        files.append(tmp_path / f"Muster_Uni_task1_1.output.split_{split}.csv")
        write_outputs(files[-1], NAMES, predictions(split))
    result = evaluate_files(files, truth_file, draws=20, note="toy data")
    assert list(result["files"]) == [f"split{split}" for split in SPLITS]
    macro = {split: result["files"][f"split{split}"]["macro_accuracy"] for split in SPLITS}
    assert result["rank_score"] == pytest.approx(rank_score(macro))
    printed = capsys.readouterr().out
    assert f"macro accuracies): {100 * result['rank_score']:.2f} [" in printed
    assert "toy data" in printed
    assert all(word in printed for word in (*SCENES, *DEVICES, "unseen (s4, s5, s6)", "log loss"))
    with pytest.raises(UserError, match="a second file for split5"):
        evaluate_files([files[0], files[0]], truth_file)
    single = evaluate_files(files[:1], truth_file, tmp_path / "out", draws=10)
    assert single["rank_score"] is None
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "results.json",
        "devices.png",
        "confusion_split5.png",
    }
    stored = json.loads((tmp_path / "out" / "results.json").read_text())
    assert stored["files"]["split5"]["macro_accuracy"] == result["files"]["split5"]["macro_accuracy"]


# -------------------------------------------------------------------------------------------------------------- runs


def test_runs_beside_the_published_figures(
    make_run: Callable[..., Path], truth_file: Path, capsys: pytest.CaptureFixture
) -> None:
    folders = [make_run(number) for number in (1, 2)]
    for folder in folders:
        record_figures(folder, SPLITS, truth_file, toy=True, plots=False, draws=20)
    metrics = [results_of(folder, SPLITS) for folder in folders]
    assert metrics[0][5]["official"]["test/macro_avg_acc"] == metrics[0][5]["macro_accuracy"]
    capsys.readouterr()

    report = report_runs(folders, "toy", SPLITS)
    values = [of[25]["classes"]["bus"]["accuracy"] for of in metrics]
    assert report["25"]["classes/bus/accuracy"]["mean"] == pytest.approx(np.mean(values))
    assert report["25"]["classes/bus/accuracy"]["spread"] == pytest.approx(np.std(values, ddof=1))
    table = (folders[0].parent / "report.md").read_text()
    assert "| 25 % own (toy) | 25 % published |" in table
    assert "toy data, not comparable" in table
    (bus,) = [line for line in table.split("\n") if line.startswith("| bus ")]
    own = f"{100 * np.mean(values):.2f} ± {100 * np.std(values, ddof=1):.2f}"
    assert [cell.strip() for cell in bus.split("|")][6:8] == [own, "61.19"]
    lines = read_rows(folders[0].parent / "report.csv", ("split", "metric", "own", "published", "note"))
    (line,) = [of for of in lines if of["split"] == "100" and of["metric"] == "groups/unseen/accuracy"]
    assert line["published"] == "51.33"
    assert line["note"] == "toy data, not comparable"

    compared = compare_figures(folders, "toy", SPLITS, parameters=18_624, macs=8_449_916)
    expected = np.mean([rank_score({s: of[s]["macro_accuracy"] for s in SPLITS}) for of in metrics])
    assert compared[f"{DEVELOPMENT}/rank_score"]["value"] == pytest.approx(100 * expected)
    for name in ("comparison.csv", "comparison.md", "comparison.png", "training_data.png", "complexity.png"):
        assert (folders[0].parent / name).is_file()
    rows = read_rows(folders[0].parent / "comparison.csv", ("system", "result", "set", "metric", "value", "note"))
    ours = [of for of in rows if of["result"] == "own"]
    assert {of["note"] for of in ours} == {"toy data, not comparable"}
    assert {of["system"] for of in rows if of["result"] == "published"} >= {BASELINE, "Yeo_NTU (KD ensemble)"}
    assert "(toy)" in capsys.readouterr().out


def test_one_run_of_one_split_has_intervals(make_run: Callable[..., Path], truth_file: Path) -> None:
    folder = make_run(1, (25,))
    scored = record_figures(folder, [25], truth_file, toy=False, draws=20)
    assert {path.name for path in (folder / "plots").iterdir()} == {"devices.png", "confusion_split25.png"}
    assert scored["rank_score"] is None
    compared = compare_figures([folder], "baseline", [25])
    (value,) = compared.values()
    assert value["low"] < value["value"] < value["high"]
    report_runs([folder], "baseline", [25], reference="Baseline 2025, device-specific")
    assert "51.89 ± 0.05" in (folder.parent / "report.md").read_text()
    assert "toy" not in (folder.parent / "report.md").read_text()


def test_what_is_missing_is_named(tmp_path: Path, make_run: Callable[..., Path], truth_file: Path) -> None:
    folder = make_run(1, (5,))
    with pytest.raises(
        UserError, match=r"split10/predictions/test\.csv: predictions \(`predict` makes them\) not found"
    ):
        record_figures(folder, [5, 10], truth_file, toy=True)
    (folder / "split5" / "results.json").write_text("{}")
    with pytest.raises(UserError, match="no test results; `evaluate` makes them"):
        results_of(folder, [5])


# --------------------------------------------------------------------------------------------------- published figures


@pytest.fixture(scope="module")
def published() -> list[Published]:
    return read_published()


def test_published_figures_fit_together(published: list[Published]) -> None:
    for split in SPLITS:
        of = figures_of(published, BASELINE, DEVELOPMENT, split)
        scenes = [of[f"classes/{scene}/accuracy"].value for scene in SCENES]
        assert np.mean(scenes) == pytest.approx(of["macro_accuracy"].value, abs=0.01)
        for group, devices in DEVICE_GROUPS.items():
            mean = np.mean([of[f"devices/{device}/accuracy"].value for device in devices])
            assert mean == pytest.approx(of[f"groups/{group}/accuracy"].value, abs=0.01)
    for of_set in (DEVELOPMENT, EVALUATION):
        macro = [figures_of(published, BASELINE, of_set, split)["macro_accuracy"].value for split in SPLITS]
        score = figures_of(published, BASELINE, of_set, None)["rank_score"].value
        assert np.mean(macro) == pytest.approx(score, abs=0.01)


def test_published_figures_are_those_of_the_specification(published: list[Published], shared: Path) -> None:
    specification = shared / "specs" / "task1_asc.md"
    if not specification.is_file():
        pytest.skip(f"no {specification}")
    text = specification.read_text(encoding="utf-8")
    numbers = {float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*(?:\.\d+)?", text)}
    for entry in published:
        computed = "mean of the splits" in entry.source
        assert entry.value is None or computed or entry.value in numbers, entry
        assert entry.spread is None or entry.spread in numbers, entry
        assert entry.value is None or entry.metric in ("team_rank", "log_loss") or 20 < entry.value < 100, entry


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("A,,5,macro_accuracy,1,,,,here", "set is empty"),
        ("A,dev,7,macro_accuracy,1,,,,here", "split 7, expected one of"),
        ("A,dev,5,macro_accuracy,x,,,,here", "value is 'x'"),
        ("A,dev,5,macro_accuracy,1,,61K,,here", "parameters is '61K'"),
        ("B,dev,5,macro_accuracy,1,,,,here", "the same figure already stands at"),
    ],
)
def test_bad_published_figures(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "baselines.csv"
    head = "system,set,split,metric,value,spread,parameters,macs,source\nB,dev,5,macro_accuracy,2,,,,here\n"
    path.write_text(head + row + "\n")
    with pytest.raises(UserError, match=re.escape(f"{path}:3: ") + message):
        read_published(path)


# --------------------------------------------------------------------------------------------------------------- plots


def test_confusion_matrix_shows_shares_of_the_rows() -> None:
    counts = np.zeros((10, 10), int)
    counts[0, :2] = (3, 1)
    texts = {text.get_position(): text.get_text() for text in confusion_matrix(counts).axes[0].texts}
    assert texts == {(0, 0): "75", (1, 0): "25"}


def test_training_data_names_every_system() -> None:
    own = {"mine": {5: (40.0, 39.0, 41.0), 100: (60.0, None, None)}}
    axes = against_training_data(own, {"theirs": {25: (50.0, None, None)}, "others": {5: (50.1, None, None)}}).axes[0]
    assert {text.get_text() for text in axes.texts} == {"mine", "theirs", "others"}


def test_complexity_draws_the_limits_and_what_is_known() -> None:
    points = [
        Point("both", 61_148, 29_419_156, 57.0, DEVELOPMENT, own=False),
        Point("no MACs", 12_310, None, 58.0, DEVELOPMENT, own=True),
        Point("no accuracy", 1, 1, None, DEVELOPMENT, own=False),
    ]
    left, right = against_complexity(points).axes
    assert {"both", "no MACs"} <= {text.get_text() for text in left.texts}
    assert "no accuracy" not in {text.get_text() for text in left.texts}
    vertical = [
        line.get_xdata()[0] for line in left.lines if len(set(line.get_xdata())) == 1 and len(line.get_xdata()) == 2
    ]
    assert vertical == [64.0, 128.0]
    marks = [float(line.get_xdata()[0]) for line in right.lines if len(line.get_xdata()) == 1]
    assert marks == [29.419156]


def test_names_are_moved_apart_as_little_as_needed() -> None:
    assert spread_apart([0.0, 5.0], 1.0) == [0.0, 5.0]
    assert spread_apart([1.0, 1.0, 1.0], 1.0) == [0.0, 1.0, 2.0]
    moved = spread_apart([0.0, 0.1, 0.9, 5.0, 5.2], 0.5)
    assert all(b - a >= 0.5 - 1e-9 for a, b in pairwise(moved))
    assert np.mean(moved[3:]) == pytest.approx(5.1)


def test_each_set_has_axes_of_its_own() -> None:
    sets = (DEVELOPMENT, EVALUATION, "evaluation 2023")
    points = [Point(f"of {name}", 60_000, 29_000_000, 50.0 + n, name, own=n == 0) for n, name in enumerate(sets)]
    figure = against_complexity(points)
    assert len(figure.axes) == 2 * len(sets)
    for name, left, right in zip(sets, figure.axes[::2], figure.axes[1::2], strict=True):
        assert left.get_title(loc="left") == plots.SET_NAMES[name]
        assert {text.get_text() for text in left.texts} & {f"of {other}" for other in sets} == {f"of {name}"}
        assert left.get_ylim() == right.get_ylim()


BARS = [(0.5, 0.4, 0.6), (None, None, None), (0.0, None, None)] * 3
LINES = {f"a system of a long name {n}": dict.fromkeys(SPLITS, (40.0 + n, None, None)) for n in range(6)}
SYSTEM = "recipe toy, training 1"
PICTURES = {
    "confusion": lambda: confusion_matrix(np.eye(10, dtype=int), f"confusion\n{SYSTEM}", NOTE),
    "devices": lambda: plots.device_accuracy(
        {f"split{s}": BARS for s in SPLITS}, {"split5": [0.4] * 9}, f"accuracy\n{SYSTEM}", NOTE
    ),
    "training data": lambda: against_training_data(
        {"mine": {5: (40.0, 39.0, 41.0)}}, LINES, f"macro accuracy\n{SYSTEM}", NOTE
    ),
    "complexity": lambda: against_complexity(
        [Point(name, 60_000, 29_000_000, 50.0 + n, DEVELOPMENT, n == 0) for n, name in enumerate(LINES)],
        f"macro accuracy\n{SYSTEM}",
        NOTE,
    ),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_reads_well(name: str) -> None:
    check_readable(PICTURES[name](), SYSTEM, lines=name != "confusion")


def test_bars_of_devices_begin_at_zero_and_share_their_axis_and_chance() -> None:
    figure = PICTURES["devices"]()
    check_bars(figure)
    assert {axes.get_xlim() for axes in figure.axes} == {(0, 100)}
    for axes in figure.axes:
        assert [line.get_xdata()[0] for line in axes.lines if set(line.get_xdata()) == {10.0}] == [10.0]
        drawn = [line for line in axes.lines if line.get_marker() == "|"]
        assert len(drawn) == 3  # an interval only where there is one


def test_few_segments_have_no_interval(monkeypatch: pytest.MonkeyPatch, truth_file: Path, tmp_path: Path) -> None:
    """Nine segments of the ninety: too few for an interval, of a device and of everything."""
    names = [name for name in NAMES if int(name.split("-")[2]) == 0]
    assert len(names) // 10 < MIN_UNITS
    write_outputs(tmp_path / "split5.csv", names, predictions(1)[: len(names)])
    kept = {}
    monkeypatch.setattr(plots, "save", lambda figure, path: kept.update({path.name: figure}))
    evaluate_files([tmp_path / "split5.csv"], truth_file, tmp_path, 20, allow_missing=True, note=NOTE)
    assert not [line for axes in kept["devices.png"].axes for line in axes.lines if line.get_marker() == "|"]
    assert title_of(kept["confusion_split5.png"]).endswith("trained on 5 %")
