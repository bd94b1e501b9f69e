"""Anybody's score files against a ground truth: per machine, per type, over systems; 2020 here, else `first_shot`."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.run.errors import UserError
from common.run.files import existing_file, existing_folder, write_rows, write_text
from common.run.results.intervals import bootstrap_interval
from common.run.results.tables import format_value, print_table
from task2_anomaly.data.classes import EVALUATOR_ORDER, Machine
from task2_anomaly.evaluation import first_shot
from task2_anomaly.evaluation.truth import Truth, read_truth_2020, read_truth_first_shot
from task2_anomaly.inference.scores import read_scores, score_file
from task2_anomaly.metrics import LOWEST_PAUC, arithmetic_mean, auc, partial_auc, ranking, weighted_areas


class MachineResult(NamedTuple):
    """One machine: AUC and pAUC (None: not defined), labels and scores (clips,) aligned."""

    machine: Machine
    auc: float | None
    pauc: float | None
    labels: np.ndarray
    scores: np.ndarray


class SystemResult(NamedTuple):
    """A system's machines, and what could not be scored: {machine: why}."""

    system: str
    machines: list[MachineResult]
    problems: dict[Machine, str]

    def types(self) -> list[str]:
        """Machine types in the evaluator's order, others after them."""
        found = {result.machine.type for result in self.machines}
        return [kind for kind in EVALUATOR_ORDER if kind in found] + sorted(found - set(EVALUATOR_ORDER))

    def of_type(self, kind: str) -> list[MachineResult]:
        """Its machines by ID."""
        return sorted((r for r in self.machines if r.machine.type == kind), key=lambda r: r.machine.id)

    def averages(self) -> dict[str, tuple[float | None, float | None]]:
        """{type: AUC and pAUC averaged over its IDs}; None where one of them is not defined."""
        return {
            kind: (_mean([r.auc for r in self.of_type(kind)]), _mean([r.pauc for r in self.of_type(kind)]))
            for kind in self.types()
        }

    def overall(self) -> tuple[float | None, float | None]:
        """AUC and pAUC averaged over IDs, then over types."""
        values = list(self.averages().values())
        return _mean([a for a, _ in values]), _mean([p for _, p in values])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return arithmetic_mean(known) if known and len(known) == len(values) else None


def align(scores: Mapping[str, float], truth: Truth, path: Path) -> np.ndarray:
    """Scores (clips,) in the order of the labels, matched by name. Raises UserError for missing and foreign names."""
    for what, names in (
        ("misses", truth.labels.keys() - scores.keys()),
        ("has no label for", scores.keys() - truth.labels.keys()),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise UserError(f"{path}: {what} {min(names)}{more} of {truth.machine}")
    return np.array([scores[name] for name in truth.labels], dtype=np.float64)


def evaluate(folder: Path, truths: Sequence[Truth]) -> SystemResult:
    """Score a folder of score files; a machine whose file is missing or faulty becomes a problem, not an average."""
    results, problems = [], {}
    for truth in truths:
        path = folder / score_file(truth.machine)
        try:
            scores = align(read_scores(path), truth, path)
        except UserError as error:
            problems[truth.machine] = str(error)
            continue
        labels = np.array(list(truth.labels.values()))
        results.append(MachineResult(truth.machine, auc(labels, scores), partial_auc(labels, scores), labels, scores))
    return SystemResult(folder.name, results, problems)


def intervals(result: MachineResult, draws: int = 200, seed: int = 0) -> dict[str, tuple[float, float]]:
    """95 % bootstrap intervals of AUC and pAUC over the machine's clips, see `system_intervals`."""
    found = system_intervals(SystemResult("", [result], {}), draws, seed)
    return {name: found[f"{name}/{result.machine}"] for name in ("auc", "pauc")}


def system_intervals(result: SystemResult, draws: int = 200, seed: int = 0) -> dict[str, tuple[float, float]]:
    """95 % bootstrap intervals over the clips of all machines together.

    Keys: `auc/<machine>`, `auc/<type>`, `auc`, the same with pauc, and `mean`, that of AUC and pAUC. NaN where there
    are fewer than MIN_UNITS normal or anomalous clips.
    """
    of = weighted(result)
    clips = sum(len(r.labels) for r in of.machines)
    low, high = bootstrap_interval(
        of.figures, clips, draws=draws, seed=seed, share=True, units=of.units, floor=of.floor
    )
    return {key: (float(a), float(b)) for key, a, b in zip(of.keys, low, high, strict=True)}


class Weighted(NamedTuple):
    """Figures as a function of how often each clip counts: weights (clips,) -> (keys,), clips machine by machine.

    units: the independent clips that each figure rests on (keys,), floor: the least that it can be (keys,).
    """

    machines: list[MachineResult]
    keys: list[str]
    figures: Callable[[np.ndarray], np.ndarray]
    units: np.ndarray
    floor: np.ndarray


def weighted(result: SystemResult) -> Weighted:
    """AUC and pAUC of all machines, of types and overall, for any weights of the clips; NaN where not defined."""
    machines = [r for kind in result.types() for r in result.of_type(kind)]
    areas = [weighted_areas(r.labels, r.scores) for r in machines]
    ends = np.cumsum([len(r.labels) for r in machines])
    of_type = [[m for m, r in enumerate(machines) if r.machine.type == kind] for kind in result.types()]
    names = [*(str(r.machine) for r in machines), *result.types()]

    def figures(weights: np.ndarray) -> np.ndarray:
        parts = np.split(weights, ends[:-1])
        each = np.array([area(part) for area, part in zip(areas, parts, strict=True)])  # (machines, 2)
        types = np.array([each[rows].mean(axis=0) for rows in of_type])
        mean = types.mean(axis=0)
        return np.concatenate([each.ravel(), types.ravel(), mean, [mean.mean()]])

    rarer = np.array([min((r.labels == 0).sum(), (r.labels == 1).sum()) for r in machines])
    units = np.repeat([*rarer, *(rarer[rows].sum() for rows in of_type)], 2)
    units = np.append(units, [rarer.sum()] * 3)
    floor = np.append(np.tile([0.0, LOWEST_PAUC], len(units) // 2), LOWEST_PAUC / 2)
    keys = [f"{metric}/{name}" for name in names for metric in ("auc", "pauc")] + ["auc", "pauc", "mean"]
    return Weighted(machines, keys, figures, units, floor)


def ranks(systems: Sequence[SystemResult]) -> dict[str, float]:
    """The ranking of 2020 over the systems that have every value: mean rank over types and both metrics.

    Raises UserError for systems with other machine types, and for two of one name.
    """
    if len({s.system for s in systems}) < len(systems):
        raise UserError(f"two systems are named alike: {', '.join(s.system for s in systems)}; rename their folders")
    values = {s.system: [x for pair in s.averages().values() for x in pair] for s in systems}
    kinds = {s.system: s.types() for s in systems}
    if len({tuple(of) for of in kinds.values()}) > 1:
        raise UserError("systems that were scored on different machine types cannot be ranked against each other")
    whole = {name: [x for x in of if x is not None] for name, of in values.items() if None not in of}
    return ranking(whole) if whole else {}


def write_result(path: Path, result: SystemResult) -> None:
    """The official `result_<team>.csv`; n/a where a metric is not defined. Raises UserError where machines miss."""
    if result.problems:
        raise UserError(next(iter(result.problems.values())))
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")

    def shown(value: float | None) -> Any:
        return "n/a" if value is None else value

    for kind, average in result.averages().items():
        out.writerow([kind])
        out.writerow(["id", "AUC", "pAUC"])
        out.writerows([f"{r.machine.id:02d}", shown(r.auc), shown(r.pauc)] for r in result.of_type(kind))
        out.writerow(["Average", *map(shown, average)])
        out.writerow([])
    write_text(path, text.getvalue())


def summary(result: SystemResult) -> dict[str, Any]:
    """What `evaluate --json` says."""
    auc_mean, pauc_mean = result.overall()
    machines = {str(r.machine): {"auc": r.auc, "pauc": r.pauc, "clips": len(r.labels)} for r in result.machines}
    types = {kind: {"auc": a, "pauc": p} for kind, (a, p) in result.averages().items()}
    problems = {str(machine): text for machine, text in result.problems.items()}
    return {"auc": auc_mean, "pauc": pauc_mean, "types": types, "machines": machines, "problems": problems}


# -------------------------------------------------------------------------------------------------- anybody's folders


def is_first_shot(folder: Path) -> bool:
    """Whether a folder of scores has the names of the first-shot editions."""
    return any(folder.glob("anomaly_score_*_section_*.csv"))


def evaluate_files(folder: Path, ground_truth: Path, out: Path | None, draws: int = 200) -> Mapping[str, Any]:
    """Score anybody's folder; the edition follows from its file names. Raises UserError for a truth of another one."""
    existing_folder(folder, "scores")
    _check_edition(folder, ground_truth)
    if is_first_shot(folder):
        return _evaluate_first_shot(folder, ground_truth, out)
    result = evaluate(folder, read_truth_2020(existing_file(ground_truth, "ground truth")))
    found = summary(result)
    rows = []
    for kind in result.types():
        for r in result.of_type(kind):
            between = intervals(r, draws)
            found["machines"][str(r.machine)]["intervals"] = between
            shown = [format_value(v, *between[m], decimals=4) for m, v in (("auc", r.auc), ("pauc", r.pauc))]
            rows.append([str(r.machine), *shown])
        rows.append([f"{kind}, mean over IDs", *map(_plain, result.averages()[kind])])
    rows.append(["mean over types", *map(_plain, result.overall())])
    note = (
        "; ".join(result.problems.values())
        or "pAUC: McClish-standardised, max FPR 0.1; [ ]: 95 %, bootstrap over clips"
    )
    print_table(f"scores of {folder.name}", ["machine", "AUC", "pAUC"], rows, note=note)
    if out is not None:
        write_result(out, result)
    if result.problems:
        raise UserError(f"{next(iter(result.problems.values()))} ({len(result.problems)} machines were not scored)")
    return found


def _check_edition(folder: Path, ground_truth: Path) -> None:
    """The list of 2020 is one file, the ground truths of 2021 on are folders."""
    sections = is_first_shot(folder)
    if ground_truth.is_dir() and not sections:
        raise UserError(
            f"{ground_truth}: a folder, as the ground truths of 2021 to 2025 are; but {folder} has no score files of "
            "these editions (anomaly_score_<type>_section_<NN>_test.csv, in 2021 ..._<NN>_source_test.csv)"
        )
    if ground_truth.is_file() and sections:
        raise UserError(
            f"{ground_truth}: a file, as the list of 2020 is; but {folder} has score files of sections (2021 to 2025), "
            "whose ground truth is a folder with ground_truth_data"
        )


def _evaluate_first_shot(folder: Path, ground_truth: Path, out: Path | None) -> Mapping[str, Any]:
    result = first_shot.evaluate(folder, read_truth_first_shot(existing_folder(ground_truth, "ground truth")))
    if out is not None:
        first_shot.write_result(out, result)
    parts = [first_shot.ranked(v) for v in result.sections]
    shown = {name: title for name, title in first_shot.TITLES.items() if any(name in of for of in parts)}
    rows = [
        [
            f"{v.type}, section {v.section}",
            *(_plain(of.get(name)) for name in shown),
            *(format_value(d[2]) for d in v.per_domain),
        ]
        for v, of in zip(result.sections, parts, strict=True)
    ]
    columns = ["machine type", *shown.values(), "F1 source", "F1 target"]
    half = None if np.isnan(result.interval) else result.interval
    note = f"official score {format_value(result.score, spread=half, decimals=4)}"
    print_table(
        f"scores of {folder.name}", columns, rows, note=note + (" (95 %, jackknife over clips)" if half else "")
    )
    sections = [_without_nan(v._asdict()) for v in result.sections]
    return {"official_score": result.score, "interval": half, "sections": sections}


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: null."""
    if isinstance(value, dict):
        return {name: _without_nan(of) for name, of in value.items()}
    if isinstance(value, tuple):
        return tuple(_without_nan(of) for of in value)
    return None if isinstance(value, float) and np.isnan(value) else value


def _plain(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"


def rank_systems(folders: Sequence[Path], ground_truth: Path, out: Path | None) -> Mapping[str, Any]:
    """Several folders against each other: the ranking of 2020, or the official summary of the later editions."""
    for folder in folders:
        _check_edition(existing_folder(folder, "scores"), ground_truth)
    if all(is_first_shot(folder) for folder in folders):
        truth = read_truth_first_shot(ground_truth)
        results = [first_shot.evaluate(folder, truth) for folder in folders]
        if out is not None:
            first_shot.write_summary(out, results)
        order = {r.system: r.score for r in sorted(results, key=lambda r: -r.score)}
        print_table("official score", ["system", "score"], [[n, f"{v:.4f}"] for n, v in order.items()])
        return {"official_score": order}
    systems = [evaluate(folder, read_truth_2020(ground_truth)) for folder in folders]
    for system in systems:
        if system.problems:
            raise UserError(next(iter(system.problems.values())))
    mean_ranks = dict(sorted(ranks(systems).items(), key=lambda item: item[1]))
    overall = {system.system: system.overall() for system in systems}
    rows = [[name, f"{rank:.2f}", *map(_plain, overall[name])] for name, rank in mean_ranks.items()]
    note = "mean rank: over AUC and pAUC of each machine type; AUC, pAUC: means over IDs, then types"
    print_table("ranking of 2020", ["system", "mean rank", "AUC", "pAUC"], rows, note=note)
    if out is not None:
        write_rows(out, ("system", "mean_rank"), mean_ranks.items())
    return {"mean_rank": mean_ranks}
