"""Own runs: predictions -> results and plots, results -> tables beside the published ones.

    evaluate_run(run, plots=True) -> dict
        `record_figures` against the test list of the run's data set
    record_figures(folder: Path, splits: Sequence[int], truth: Path, toy: bool, plots=True, draws=1000,
        own=False) -> dict
        scores <folder>/split<S>/predictions/test.csv against `truth` (test.csv or meta.csv), records section "test"
        in <folder>/split<S>/results.json and <folder>/results.json, prints tables, draws into <folder>/plots
    results_of(folder: Path, splits) -> {split: metrics}   as `record_figures` recorded them (for the meta file)
    network_counts(run) -> {"parameters", "bytes", "macs"}   as `train` recorded them
    compare_runs(runs) -> dict
        `report_runs` and `compare_figures` of them
    report_runs(folders: Sequence[Path], recipe: str, splits: Sequence[int], reference="Baseline 2024") -> dict
        the table of classes, devices and groups (mean and deviation over runs) beside the published baseline's;
        written to <folders[0].parent>/report.md and .csv
    compare_figures(folders: Sequence[Path], recipe: str, splits: Sequence[int], parameters=None, macs=None,
                 reference="Baseline 2024") -> dict
        comparison.csv/.md/.png and the plots against training data and complexity in <folders[0].parent>

Whether the data are the toy's, or own ones, is recorded by `record_figures`; the others read it and mark every figure.

The published figures stand in baselines.csv: accuracies in per cent, log losses in nats, MACs for one clip. `set` is
development-test, evaluation (2024) or the evaluation set of another year; `split` is empty for figures over all splits.
`metric` is a path of `metrics.flat` or rank_score, team_rank. An empty value is not available.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.run.errors import UserError
from common.run.files import Row, existing_file, write_rows
from common.run.numbers import integer
from common.run.plots import Bar, save
from common.run.results.comparison import Baseline, Caveat, MetricColumn, OwnValue, bar, caveat_of, read_figures
from common.run.results.intervals import MeanSpread
from common.run.results.runs import Place, beside_published, own_system, own_values, scaled, section_of, trainings
from common.run.results.store import record, recorded
from common.run.results.tables import format_value, print_table, write_table
from common.run.tensorboard import summarise
from common.run.verbs import Run
from task1_asc.config import SPLITS, known_split, of_split
from task1_asc.data.classes import DEVICES, SCENES
from task1_asc.evaluation.evaluate import (
    DRAWS,
    SHOWN_DEVICES,
    SHOWN_SCENES,
    add_rank,
    evaluate_outputs,
    read_truth,
    show,
)
from task1_asc.inference.scores import predictions_file, read_outputs
from task1_asc.metrics import official_keys, over_seeds

BASELINE = "Baseline 2024"
DEVELOPMENT = "development-test"
EVALUATION = "evaluation"
NO_TEST = "no test results; `evaluate` makes them"
ROWS = SHOWN_SCENES | SHOWN_DEVICES


def evaluate_run(run: Run, plots: bool = True) -> dict[str, Any]:
    """Metrics of a run's predictions on the test list."""
    from common.audio.coverage import made_of, root_of
    from task1_asc.data.layout import split_file

    root = root_of(run.config.data)
    made, truth, splits = made_of(root), split_file(root, "test"), run.config.data.splits
    own = made == "recordings"
    scored = record_figures(run.folder, splits, truth, made == "toy", plots, own=own, system=run.title)
    for split in splits:
        name = f"split{split}"
        figures = {"test/macro_accuracy": scored["files"][name]["macro_accuracy"]}
        pictures = {"test/confusion": run.folder / "plots" / f"confusion_{name}.png"} if plots else {}
        summarise(of_split(run, split), figures, pictures)
    return scored


def record_figures(
    folder: Path,
    splits: Sequence[int],
    truth: Path,
    toy: bool,
    plots: bool = True,
    draws: int = DRAWS,
    own: bool = False,
    system: str = "",
) -> dict[str, Any]:
    """Score the stored test predictions of every split of a run; see the module. Returns what it records.

    own: the data are own recordings.
    """
    paths = {split: predictions_file(folder, split, "test") for split in splits}
    for path in paths.values():
        existing_file(path, "predictions (`predict` makes them)")
    annotated = read_truth(truth)
    outputs = {f"split{split}": read_outputs(path) for split, path in paths.items()}
    results = {name: evaluate_outputs(of, annotated, draws) for name, of in outputs.items()}
    scored = add_rank(results, outputs, annotated, draws)
    about = {"toy": toy, "own": own}
    for name, of in results.items():
        record(folder / name, "test", {**about, **of, "official": official_keys(of)})
    record(folder, "test", {**about, "rank_score": scored["rank_score"], "rank_interval": scored["rank_interval"]})
    caveat = caveat_of([about])
    note = caveat.text if caveat else None
    show(folder.as_posix(), results, scored, note)
    if plots:
        from task1_asc.evaluation.plots import draw

        draw(folder / "plots", results, note, _published_devices(splits), system)
    return scored


def results_of(folder: Path, splits: Sequence[int]) -> dict[int, dict[str, Any]]:
    """{split: metrics} that `record_figures` recorded; UserError where there are none."""
    return {split: section_of(folder / f"split{split}", "test", NO_TEST) for split in splits}


def network_counts(run: Run) -> dict[str, int]:
    """Parameters, bytes as deployed and MACs of a trained run's network, as `train` recorded them."""
    path = run.folder / f"split{known_split(run, None)}"
    trained = recorded(path, "train")
    if trained is None:
        raise UserError(f"{path}: no finished training; `train` makes one")
    counted: dict[str, int] = trained["network"]
    return counted


def compare_runs(runs: Sequence[Run]) -> dict[str, Any]:
    """The tables by scene, device and group, and the comparison of systems."""
    run, folders = runs[0], [run.folder for run in runs]
    splits = run.config.data.splits
    report = report_runs(folders, run.recipe, splits)
    counted = network_counts(run)
    compared = compare_figures(folders, run.recipe, splits, counted["parameters"], counted["macs"])
    return {"report": report, "comparison": compared}


def report_runs(
    folders: Sequence[Path], recipe: str, splits: Sequence[int], reference: str = BASELINE
) -> dict[str, Any]:
    """Mean and standard deviation over the runs of every figure of every split, beside those of `reference`.

    A row per scene, device and group; two columns per split. Prints it; writes report.md (the table) and report.csv
    (a line per figure) beside the runs' folders. Returns {split: {path: {"mean", "spread", "runs"}}}, shares.
    """
    runs = [results_of(folder, splits) for folder in folders]
    own = {split: over_seeds([_figures(of[split]) for of in runs]) for split in splits}
    caveat = _caveat(runs)
    baseline = {split: figures_of(read_published(), reference, DEVELOPMENT, split) for split in splits}
    mark = f" ({caveat.mark})" if caveat else ""
    heads = [(f"{split} %", kind) for split in splits for kind in (f"own{mark}", "published")]
    rows = []
    for label, path in ROWS.items():
        pairs = [(_own_text(own[split].get(path)), _text(baseline[split].get(path))) for split in splits]
        rows.append([label, *(text for pair in pairs for text in pair)])
    losses = [_loss_text(own[split].get("log_loss")) for split in splits]
    rows.append(["log loss", *(text for loss in losses for text in (loss, "n/a"))])
    title = f"Task 1, recipe {recipe}, {trainings(len(folders))}: development test"
    title += f" ({caveat.text})" if caveat else ""
    note = f"±: standard deviation over trainings. Published: {reference}, mean over trainings; n/a: not available."
    out = folders[0].parent
    print_table(title, ["accuracy (%)", *map("\n".join, heads)], rows, note, whole=out / "report.csv")
    write_table(out / "report.md", ["accuracy (%)", *map(" ".join, heads)], rows, title, note)
    _write_figures(out / "report.csv", own, baseline, caveat.text if caveat else "")
    return {str(split): {path: value._asdict() for path, value in own[split].items()} for split in splits}


def compare_figures(
    folders: Sequence[Path],
    recipe: str,
    splits: Sequence[int],
    parameters: int | None = None,
    macs: int | None = None,
    reference: str = BASELINE,
) -> dict[str, Any]:
    """Own macro accuracies and rank score beside the published ones: table, csv, markdown, plots.

    parameters, macs: of the own network, for the picture of accuracy against complexity (None: not in it). Returns
    {"<set>/<metric>@<split>": {"value", "low", "high", "spread"}} in per cent.
    """
    keys = {split: f"{DEVELOPMENT}/{metric_key('macro_accuracy', split)}" for split in splits}
    places = {key: Place((s, "macro_accuracy"), (s, "intervals", "macro_accuracy")) for s, key in keys.items()}
    runs = [results_of(folder, splits) for folder in folders]
    caveat, entries = _caveat(runs), read_published()
    results: list[dict[Any, Any]] = [dict(of) for of in runs]
    if set(splits) >= set(SPLITS):
        places[f"{DEVELOPMENT}/rank_score"] = Place(("all", "rank_score"), ("all", "rank_interval"))
        results = [of | {"all": section_of(folder, "test", NO_TEST)} for of, folder in zip(runs, folders, strict=True)]
    own = own_values(results, places, scale=100)
    found = beside_published(
        folders,
        recipe,
        own,
        _columns(splits),
        as_baselines(entries),
        title="Task 1 of DCASE 2024, macro accuracy (%)",
        caveat=caveat,
        reference=reference,
    )
    system, by_split = own_system(recipe, len(folders)), {split: own[key] for split, key in keys.items()}
    _draw_published(folders[0].parent, entries, system, by_split, parameters, macs, caveat.text if caveat else None)
    return found


@dataclass(frozen=True)
class Published:
    """One published figure; None: not available."""

    system: str
    set: str
    split: int | None
    metric: str
    value: float | None
    spread: float | None
    parameters: int | None
    macs: int | None
    source: str


def read_published(path: Path = Path(__file__).parents[1] / "baselines.csv") -> list[Published]:
    """All figures. UserError for an empty name, an unknown split, a figure that is no number, or the same one twice."""
    entries: list[Published] = []
    seen: dict[tuple[object, ...], str] = {}
    for row, of in read_figures(path, ("split", "parameters", "macs")):
        split, parameters, macs = _whole(row, "split"), _whole(row, "parameters"), _whole(row, "macs")
        if split is not None and split not in SPLITS:
            raise UserError(f"{row.at}: split {split}, expected one of {', '.join(map(str, SPLITS))} or nothing")
        key = (of.system, of.set, split, of.metric)
        if key in seen:
            raise UserError(f"{row.at}: the same figure already stands at {seen[key]}")
        seen[key] = row.at
        entries.append(Published(*key, of.value, of.spread, parameters, macs, of.source))
    return entries


def metric_key(metric: str, split: int | None) -> str:
    """The name of a metric of one split in a comparison: `macro_accuracy@25`."""
    return metric if split is None else f"{metric}@{split}"


def as_baselines(entries: Sequence[Published]) -> list[Baseline]:
    """The figures as `common.run.results.comparison` takes them."""
    return [Baseline(e.system, e.set, metric_key(e.metric, e.split), e.value, e.spread, e.source) for e in entries]


def figures_of(entries: Sequence[Published], system: str, of_set: str, split: int | None) -> dict[str, Published]:
    """{metric: figure} of a system on a set, for one split; only those with a value."""
    chosen = (e for e in entries if (e.system, e.set, e.split) == (system, of_set, split))
    return {entry.metric: entry for entry in chosen if entry.value is not None}


def _whole(row: Row, column: str) -> int | None:
    if not row[column]:
        return None
    try:
        return integer(row[column])
    except ValueError:
        raise UserError(f"{row.at}: {column} is {row[column]!r}, expected a whole number") from None


def _columns(splits: Sequence[int]) -> list[MetricColumn]:
    """The rank score first where all splits are there, then each split."""
    of: dict[str, Any] = {"decimals": 2, "unit": "%", "chance": 100 / len(SCENES)}
    columns = [
        MetricColumn(
            metric_key("macro_accuracy", split),
            DEVELOPMENT,
            f"{split} %",
            axis=f"accuracy (%),\ntrained on {split} %",
            **of,
        )
        for split in splits
    ]
    if set(splits) >= set(SPLITS):
        columns.insert(
            0, MetricColumn("rank_score", DEVELOPMENT, "mean of splits", axis="accuracy (%),\nmean of splits", **of)
        )
        columns.append(
            MetricColumn(
                "rank_score", EVALUATION, "mean, evaluation set", axis="accuracy (%), eval. set,\nmean of splits", **of
            )
        )
    return columns


def _figures(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Only the figures of a stored result."""
    return {key: metrics[key] for key in ("macro_accuracy", "accuracy", "log_loss", "classes", "devices", "groups")}


def _caveat(runs: Sequence[Mapping[int, Mapping[str, Any]]]) -> Caveat | None:
    return caveat_of(of for run in runs for of in run.values())


def _own_text(value: MeanSpread | None) -> str:
    if value is None:
        return "n/a"
    of = scaled(value)
    return format_value(of.value, spread=of.spread, decimals=2)


def _loss_text(value: MeanSpread | None) -> str:
    return "n/a" if value is None else format_value(value.mean, spread=value.spread)


def _text(entry: Published | None) -> str:
    return "n/a" if entry is None else format_value(entry.value, spread=entry.spread, decimals=2)


def _write_figures(
    path: Path,
    own: Mapping[int, Mapping[str, MeanSpread]],
    baseline: Mapping[int, Mapping[str, Published]],
    caveat: str,
) -> None:
    """A line per figure: accuracies in per cent."""
    lines = []
    for split, of_one in own.items():
        for metric, value in of_one.items():
            scale = 1 if metric.endswith("log_loss") else 100
            spread = None if value.spread is None else scale * value.spread
            other = baseline[split].get(metric)
            published = (None, None) if other is None else (other.value, other.spread)
            lines.append([split, metric, scale * value.mean, spread, value.runs, *published, caveat])
    columns = ("split", "metric", "own", "own_spread", "runs", "published", "published_spread", "note")
    write_rows(path, columns, lines)


def _published_devices(splits: Sequence[int]) -> dict[str, list[float | None]]:
    """Accuracy of the published baseline on every device, shares, by `split<S>`."""
    entries = read_published()
    found = {}
    for split in splits:
        of = figures_of(entries, BASELINE, DEVELOPMENT, split)
        values = [of.get(f"devices/{device}/accuracy") for device in DEVICES]
        found[f"split{split}"] = [None if entry is None else (entry.value or 0) / 100 for entry in values]
    return found


def _draw_published(
    out: Path,
    entries: Sequence[Published],
    system: str,
    own: Mapping[int, OwnValue],
    parameters: int | None,
    macs: int | None,
    note: str | None,
) -> None:
    """The pictures of accuracy against training data and against complexity."""
    from task1_asc.evaluation.plots import Point, against_complexity, against_training_data

    macro = [entry for entry in entries if entry.metric == "macro_accuracy" and entry.value is not None]
    lines: dict[str, dict[int, Bar]] = {}
    for entry in macro:
        if entry.set == DEVELOPMENT and entry.split in own:
            assert entry.split is not None
            lines.setdefault(entry.system, {})[entry.split] = (entry.value, None, None)
    figure = against_training_data({system: {s: bar(v) for s, v in own.items()}}, lines, note=note)
    save(figure, out / "training_data.png")
    largest = max(own)
    points = [
        Point(e.system, e.parameters, e.macs, e.value, e.set, own=False)
        for e in macro
        if (e.parameters or e.macs) and (e.split == largest or e.set.startswith("evaluation 20"))
    ]
    if parameters or macs:
        points.append(Point(system, parameters, macs, own[largest].value, DEVELOPMENT, own=True))
    save(against_complexity(points, note=note), out / "complexity.png")
