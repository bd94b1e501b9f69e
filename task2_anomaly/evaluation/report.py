"""Own runs: score files -> results and plots, results -> tables beside the published ones.

    evaluate_run(run: Run, plots: bool) -> dict
        its stored scores against the labels of the test sets, as far as there are any, by:
    record_figures(folder: Path, truths: Mapping[part, Sequence[Truth]], toy: bool, plots=True, draws=400,
                   quantile=0.9, own=False) -> dict
        scores <folder>/scores/<part>/anomaly_score_<machine>.csv of every machine that `truths` names for a part
        ("dev_test", "eval_test"), records the section "evaluate" in <folder>/results.json, prints a table per part,
        draws into <folder>/plots/<part>. Truths with domains (first-shot editions; `truth.as_truths` makes them of
        the official folders) give AUC per domain and the official score.
    results_of(folder: Path) -> {part: values}          as recorded; values["types"] is what a meta file wants
    report_runs(folders: Sequence[Path], recipe: str) -> dict
        machines and types (mean and deviation over runs) beside the published figures; <folders[0].parent>/report.md
        and .csv
    compare_figures(folders: Sequence[Path], recipe: str, year: int = 2024) -> dict
        comparison.csv/.md/.png in <folders[0].parent>; year: first-shot edition that the data are of

Whether the data are the toy's, or own ones, is recorded by `record_figures`; the others read it and mark every figure.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.run.errors import UserError
from common.run.files import write_rows
from common.run.results.comparison import Baseline, MetricColumn, caveat_of, read_baselines
from common.run.results.intervals import MIN_UNITS, MeanSpread, mean_spread
from common.run.results.runs import Place, beside_published, own_values, section_of, trainings
from common.run.results.store import record
from common.run.results.tables import format_value, print_table, write_table
from common.run.tensorboard import summarise
from common.run.verbs import Run
from task2_anomaly.config import Config
from task2_anomaly.data.classes import Machine
from task2_anomaly.data.layout import TEST_PARTS, Part
from task2_anomaly.data.sets import data_of, machines_of
from task2_anomaly.evaluation.evaluate import SystemResult, align, evaluate, system_intervals
from task2_anomaly.evaluation.first_shot import TITLES, Values, confidence, official_score, ranked, section_values
from task2_anomaly.evaluation.truth import Truth, as_section, truths_of
from task2_anomaly.inference.scores import NORMAL, decision_file, read_flags, read_scores, score_file
from task2_anomaly.inference.thresholds import threshold
from task2_anomaly.metrics import harmonic_mean, precision_recall_f1

SECTION = "evaluate"
DRAWS = 400
BASELINES = Path(__file__).parents[1] / "baselines.csv"
SETS = {"dev_test": "development", "eval_test": "evaluation"}
SHORT = {"dev_test": "dev.", "eval_test": "eval."}
METRICS = {"auc": "AUC", "pauc": "pAUC"}
# Published systems that stand beside own figures: the system that the recipes follow, the organisers' baseline.
REFERENCES = ("Primus_CP-JKU_task2_1", "AE baseline 2020")
FIRST_SHOT_REFERENCE = "ASDKit ae"

Figures = dict[str, float | None]


def evaluate_run(run: Run, plots: bool) -> Mapping[str, Any]:
    """Metrics of a run's stored scores on the test sets that have labels, of the machines that the recipe names."""
    config: Config = run.config
    data = data_of(config.data)
    quantile, truths, own = config.scoring.decision_quantile, truths_by_part(config), data == "recordings"
    toy = data == "toy"
    found = record_figures(run.folder, truths, toy=toy, plots=plots, quantile=quantile, own=own, system=run.title)
    figures = {
        f"{part}/{name}": of["figures"].get(name)
        for part, of in found["parts"].items()
        for name in ("official_score" if of["first_shot"] else "mean", "auc", "pauc")
    }
    drawn = [(part, kind) for part in found["parts"] for kind in ("scores", "roc")] if plots else []
    summarise(run, figures, {f"{part}/{kind}": run.folder / "plots" / part / f"{kind}.png" for part, kind in drawn})
    return found


def truths_by_part(config: Config) -> dict[Part, list[Truth]]:
    """The labels of each test set, of the machines that the recipe names; none where there are no labels."""
    chosen = set(machines_of(config.data))
    return {part: [t for t in truths_of(config, part) if t.machine in chosen] for part in TEST_PARTS}


def record_figures(
    folder: Path,
    truths: Mapping[Part, Sequence[Truth]],
    toy: bool,
    plots: bool = True,
    draws: int = DRAWS,
    quantile: float = 0.9,
    own: bool = False,
    system: str = "",
) -> dict[str, Any]:
    """Score a run's stored score files; see the module. Returns what it records.

    quantile: of the decision threshold that the histograms show. own: the data are own recordings. system: for the
    pictures' titles. Raises UserError where a score file is missing or faulty, or where no part has labels.
    """
    scored = {part: evaluate(folder / "scores" / part, of) for part, of in truths.items() if of}
    if not scored:
        raise UserError(f"{folder}: no test set with labels to evaluate")
    found: dict[str, Any] = {}
    for part, result in scored.items():
        if result.problems:
            raise UserError(f"{next(iter(result.problems.values()))} (`predict` makes score files)")
        found[part] = _values(folder / "scores" / part, result, truths[part], draws)
    caveat = caveat_of([{"toy": toy, "own": own}])
    note = caveat.text if caveat else None
    record(folder, SECTION, {"toy": toy, "own": own, "parts": found})
    for name, values in found.items():
        _show(f"{folder}: {SETS[name]} set", values, note)
    if plots:
        from task2_anomaly.evaluation.plots import draw

        for name, result in scored.items():
            scores = folder / "scores" / name
            limits = {r.machine: limit for r in result.machines if (limit := _limit(scores, r.machine, quantile))}
            about = ", ".join(filter(None, (f"{SETS[name]} set", system)))
            draw(folder / "plots" / name, result, limits, _heat_map(found[name]), note, about)
    return {"toy": toy, "own": own, "parts": found}


def _limit(folder: Path, machine: Machine, quantile: float) -> float | None:
    path = folder / NORMAL / score_file(machine)
    return threshold(list(read_scores(path).values()), quantile) if path.is_file() else None


# ------------------------------------------------------------------------------------------------------------ figures


def _values(folder: Path, result: SystemResult, truths: Sequence[Truth], draws: int) -> dict[str, Any]:
    """What is recorded of a part: figures by the names that baselines.csv has, intervals, decisions, clips."""
    decisions = {truth.machine: _decisions(folder, truth) for truth in truths}
    first_shot = all(truth.domains for truth in truths)
    if first_shot:
        figures, intervals = _first_shot(result, truths, decisions)
    else:
        figures, intervals = _figures(result), system_intervals(result, draws)
    metrics = _metrics({"first_shot": first_shot, "figures": figures})
    return {
        "first_shot": first_shot,
        "clips": sum(len(r.labels) for r in result.machines),
        "figures": figures,
        "intervals": intervals,
        "types": {kind: {metric: figures.get(f"{metric}/{kind}") for metric in metrics} for kind in result.types()},
        "machines": {kind: [str(r.machine) for r in result.of_type(kind)] for kind in result.types()},
        "decisions": {
            str(r.machine): dict(zip(("precision", "recall", "f1"), precision_recall_f1(r.labels, of), strict=True))
            for r in result.machines
            if (of := decisions[r.machine]) is not None
        },
    }


def _decisions(folder: Path, truth: Truth) -> np.ndarray | None:
    """A machine's stored decisions (clips,), where there are any."""
    path = folder / decision_file(truth.machine)
    return align(read_flags(path, "decision"), truth, path) if path.is_file() else None


def _figures(result: SystemResult) -> Figures:
    """2020: AUC and pAUC by machine, averaged over IDs, then over types."""
    auc, pauc = result.overall()
    found: Figures = {"auc": auc, "pauc": pauc, "mean": None if auc is None or pauc is None else (auc + pauc) / 2}
    pairs = {str(r.machine): (r.auc, r.pauc) for r in result.machines} | result.averages()
    for name, values in pairs.items():
        found |= {f"{metric}/{name}": value for metric, value in zip(METRICS, values, strict=True)}
    return found


def _first_shot(
    result: SystemResult, truths: Sequence[Truth], decisions: Mapping[Machine, np.ndarray | None]
) -> tuple[Figures, dict[str, tuple[float, float]]]:
    """From 2021 on: AUC of each domain, pAUC, harmonic means, the official score and its jackknife interval."""
    scores = {r.machine: r.scores for r in result.machines}
    values: list[Values] = []
    found: Figures = {}
    for truth in truths:
        decided = decisions[truth.machine]
        values.append(section_values(as_section(truth), scores[truth.machine], decided))
    parts = {truth.machine: ranked(v) for truth, v in zip(truths, values, strict=True)}
    for metric in dict.fromkeys(name for of in parts.values() for name in of):
        every = {machine: of[metric] for machine, of in parts.items() if metric in of}
        found |= {f"{metric}/{machine}": value for machine, value in every.items()}
        for kind in dict.fromkeys(machine.type for machine in every):
            found[f"{metric}/{kind}"] = harmonic_mean([x for machine, x in every.items() if machine.type == kind])
        found[metric] = harmonic_mean(list(every.values()))
    score = official_score(values)
    # As with the bootstrap of 2020: what an AUC rests on are the clips of its rarer class.
    rarer = sum(min(Counter(truth.labels.values()).get(label, 0) for label in (0, 1)) for truth in truths)
    everything = [(as_section(truth), scores[truth.machine]) for truth in truths]
    half = confidence(everything) if rarer >= MIN_UNITS else math.nan
    ends = (max(score - half, 0.0), min(score + half, 1.0)) if half == half else (math.nan, math.nan)
    return {**found, "official_score": score}, {"official_score": ends}


# ------------------------------------------------------------------------------------------------------------- tables


def _metrics(values: Mapping[str, Any]) -> dict[str, str]:
    if not values["first_shot"]:
        return METRICS
    return {name: title for name, title in TITLES.items() if name in values["figures"]}


def _rows_of(values: Mapping[str, Any]) -> dict[str, str]:
    """{ending of the figures' names: label} of machines, types and everything, in the table's order."""
    first_shot = values["first_shot"]
    mean = "harmonic mean" if first_shot else "mean"
    rows: dict[str, str] = {}
    for kind, machines in values["machines"].items():
        rows |= {f"/{m}": m.replace("_section_", ", section ") if first_shot else m for m in machines}
        if len(machines) > 1 or not first_shot:
            rows[f"/{kind}"] = f"{kind}, {mean}"
    return rows | {"": f"{mean} over {'sections' if first_shot else 'types'}"}


def _show(title: str, values: Mapping[str, Any], caveat: str | None) -> None:
    """The terminal's table of one part of one run."""
    metrics, decided = _metrics(values), values["decisions"]

    def shown(name: str) -> str:
        low, high = values["intervals"].get(name, (None, None))
        return format_value(values["figures"].get(name), low, high, decimals=4)

    rows = []
    for ending, label in _rows_of(values).items():
        f1 = f"{decided[ending[1:]]['f1']:.3f}" if ending[1:] in decided else ""
        rows.append([label, *(shown(f"{metric}{ending}") for metric in metrics), f1])
    score = "official_score" if values["first_shot"] else "mean"
    what = "official score" if values["first_shot"] else "mean of AUC and pAUC"
    note = f"{what} {shown(score)}; {values['clips']:,} clips; [ ]: 95 %; pAUC: McClish-standardised, FPR up to 0.1"
    print_table(
        f"{title} ({caveat})" if caveat else title, ["machine", *metrics.values(), "F1 at threshold"], rows, note
    )


def _heat_map(values: Mapping[str, Any]) -> tuple[list[str], list[str], np.ndarray]:
    """Machines, metrics, and their figures (machines, metrics) with NaN where one is not defined."""
    machines = [machine for of in values["machines"].values() for machine in of]
    metrics = _metrics(values)
    table = [[values["figures"].get(f"{metric}/{machine}") for metric in metrics] for machine in machines]
    return machines, list(metrics.values()), np.array(table, dtype=np.float64)


# ---------------------------------------------------------------------------------------------- beside published ones


def results_of(folder: Path) -> dict[str, Any]:
    """{part: values} that `record_figures` recorded; UserError where there are none."""
    return dict(_recorded(folder)["parts"])


def _recorded(folder: Path) -> Mapping[str, Any]:
    return section_of(folder, SECTION, "no results of the test sets; `evaluate` makes them")


class _Runs:
    """The recorded results of several runs of one recipe."""

    def __init__(self, folders: Sequence[Path]) -> None:
        recorded = [_recorded(folder) for folder in folders]
        self.out = folders[0].parent
        self.parts: dict[str, list[dict[str, Any]]] = {
            part: [of["parts"][part] for of in recorded] for part in SETS if all(part in of["parts"] for of in recorded)
        }
        if not self.parts:
            raise UserError(f"{self.out}: the runs have no test set in common")
        self.first_shot = all(of["first_shot"] for runs in self.parts.values() for of in runs)
        self.caveat = caveat_of(recorded)
        self.trainings = trainings(len(folders))

    def metrics(self) -> dict[str, str]:
        """{name: title} of what any of the parts is measured by."""
        return {name: title for part in self.parts.values() for name, title in _metrics(part[0]).items()}

    def spreads(self, part: str) -> dict[str, MeanSpread]:
        """Mean and deviation over runs of every figure that all of them have."""
        names = self.parts[part][0]["figures"]
        columns = {name: [run["figures"].get(name) for run in self.parts[part]] for name in names}
        return {name: mean_spread([x for x in of if x is not None]) for name, of in columns.items() if None not in of}


def compare_runs(runs: Sequence[Run]) -> Mapping[str, Any]:
    """Machines and types beside the published system, and own results among the published ones."""
    folders, recipe = [run.folder for run in runs], runs[0].recipe
    report = report_runs(folders, recipe)
    return {"report": report, "comparison": compare_figures(folders, recipe, runs[0].config.data.edition)}


def report_runs(folders: Sequence[Path], recipe: str) -> dict[str, Any]:
    """Every machine and type, mean and standard deviation over runs, beside the published figures of REFERENCES.

    Prints the table; writes report.md (the table) and report.csv (a line per figure) beside the runs' folders.
    Returns {part: {figure: {"mean", "spread", "runs"}}}.
    """
    runs = _Runs(folders)
    references = () if runs.first_shot else REFERENCES
    published = {(b.system, b.set, b.metric): b for b in read_baselines(BASELINES) if b.system in references}
    mark = f" ({runs.caveat.mark})" if runs.caveat else ""
    metrics = runs.metrics()
    rows, lines = [], []
    found: dict[str, Any] = {}
    for part, of in runs.parts.items():
        spreads = runs.spreads(part)
        for ending, label in _rows_of(of[0]).items():
            cells = []
            for name in (f"{metric}{ending}" for metric in metrics):
                others = [published.get((system, SETS[part], name)) for system in references]
                cells += [_spread_text(spreads.get(name)), *map(_published_text, others)]
            rows.append([SETS[part], label, *cells])
        caveat = runs.caveat.text if runs.caveat else ""
        lines += [["own", recipe, SETS[part], name, *value, "", caveat] for name, value in spreads.items()]
        found[part] = {name: value._asdict() for name, value in spreads.items()}
    lines += [["published", *key, b.value, b.spread, None, b.source, ""] for key, b in published.items()]
    title = f"Task 2, recipe {recipe}, {runs.trainings}" + (f" ({runs.caveat.text})" if runs.caveat else "")
    note = "own: mean ± standard deviation over trainings; other columns: published; n/a: not available."
    heads = [f"{name} {kind}" for name in metrics.values() for kind in (f"own{mark}", *references)]
    print_table(title, ["set", "machine", *heads], rows, note, whole=runs.out / "report.csv")
    write_table(runs.out / "report.md", ["set", "machine", *heads], rows, title, note)
    columns = ("result", "system", "set", "metric", "value", "spread", "runs", "source", "note")
    write_rows(runs.out / "report.csv", columns, lines)
    return found


def _spread_text(value: MeanSpread | None) -> str:
    return "n/a" if value is None else format_value(value.mean, spread=value.spread, decimals=4)


def _published_text(entry: Baseline | None) -> str:
    return format_value(None if entry is None else entry.value, decimals=4)


def compare_figures(
    folders: Sequence[Path], recipe: str, year: int = 2024, reference: str | None = None
) -> dict[str, Any]:
    """Own results ranked among the published ones: table on the terminal, comparison.csv, .md and .png.

    The main metric is the mean of AUC and pAUC (2020), or the official score (first-shot edition of `year`), of the
    development set where it is there. Returns {"<set>/<metric>": {"value", "low", "high", "spread"}}.
    """
    runs = _Runs(folders)
    prefix = f"{year}-" if runs.first_shot else ""
    columns, places = [], {}
    for part, name, title in _compared(runs):
        what = "mean of AUC and pAUC" if name == "mean" else title.partition(",")[0]
        axis = f"{what},\n{SETS[part]} set"
        columns.append(MetricColumn(name, f"{prefix}{SETS[part]}", title, decimals=4, chance=0.5, axis=axis))
        places[columns[-1].key] = Place((part, "figures", name), (part, "intervals", name))
    results = [{part: of[number] for part, of in runs.parts.items()} for number in range(len(folders))]
    return beside_published(
        folders,
        recipe,
        own_values(results, places),
        columns,
        read_baselines(BASELINES),
        title=f"Task 2 of DCASE {year if runs.first_shot else 2020}",
        caveat=runs.caveat,
        reference=reference or (FIRST_SHOT_REFERENCE if runs.first_shot else REFERENCES[0]),
        # Types are too many for terminal and picture.
        shown=sum("/" not in column.metric for column in columns),
    )


def _compared(runs: _Runs) -> list[tuple[str, str, str]]:
    """(part, figure, title) of the columns: what everything comes to, then the AUC of each type of the main set."""
    overall = {"official_score": "official score", **runs.metrics()} if runs.first_shot else {"mean": "mean", **METRICS}
    columns = [(part, name, f"{title}, {SHORT[part]}") for part in runs.parts for name, title in overall.items()]
    main, of = next(iter(runs.parts.items()))
    types = () if runs.first_shot else of[0]["types"]
    return columns + [(main, f"auc/{kind}", f"AUC {kind}, {SHORT[main]}") for kind in types]
