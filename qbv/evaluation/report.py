"""Own runs: stored similarities -> results and plots; results -> tables beside the published ones.

evaluate_run(run, plots=True) -> dict
    figures of every part and system; records section "test" in <run>/<part>/results.json and <run>/results.json
compare_runs(runs) -> dict
    comparison.csv/.md/.png beside the runs' folders
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common.run.files import existing_file
from common.run.results.comparison import TOY, MetricColumn, OwnValue, read_baselines
from common.run.results.runs import Place, beside_published, own_values, section_of
from common.run.results.store import read_results, record
from common.run.results.tables import format_value, print_table
from common.run.verbs import Run
from qbv.config import TRAINED, Config, parts_of
from qbv.evaluation.evaluate import NOTE, Figures, cells, figures, interval, show
from qbv.inference.scores import TRUTH, aligned, file_of, read_similarities, read_truth
from qbv.metrics import over_folds

BASELINES = Path(__file__).parents[1] / "baselines.csv"
NO_TEST = "no test results; `evaluate` makes them"
SET = {"coarse": "coarse", "fine": "fine", "qvim": "QVIM dev"}  # in baselines.csv
FIGURES = ("mrr", "r@1", "r@2", "ndcg")


def evaluate_run(run: Run, plots: bool = True) -> dict[str, Any]:
    """Figures of every system on every part, their means over folds, and the plots of the run."""
    config: Config = run.config
    parts, within = parts_of(run), config.data.protocol == "fine"
    found: dict[str, dict[str, Figures]] = {system: {} for system in config.comparison.systems}
    for name, part in parts.items():
        truth = read_truth(existing_file(part.folder / TRUTH, "truth (`predict` writes it)"))
        for system in found:
            path = part.folder / file_of(system)
            found[system][name] = figures(
                aligned(read_similarities(path), truth, path), truth, within, source=str(path)
            )
        if part.folder != run.folder:
            record(part.folder, "test", {system: of[name].values for system, of in found.items()})
    main = next(iter(found))
    toy = bool(config.data.toy)
    results: dict[str, Any] = {
        "protocol": config.data.protocol,
        "toy": toy,
        "system": main,
        "systems": {
            system: summary(of) | ({"behind": behind(found[main], of, within)} if system != main else {})
            for system, of in found.items()
        },
    }
    record(run.folder, "test", results)
    note = NOTE.format("concept") + (f"; {TOY.text}" if toy else "")
    show(f"{run.folder}: {main}", {name: of.values for name, of in found[main].items()}, note)
    _show_systems(run.folder, results["systems"], note)
    if plots:
        from qbv.evaluation.plots import draw_run

        draw_run(run, results, TOY.text if toy else None)
    return results


def summary(parts: Mapping[str, Figures]) -> dict[str, Any]:
    """Of a system over folds, or the one part: means, the folds' deviation (population), the interval over concepts."""
    values = {name: of.values for name, of in parts.items()}
    names = [name for name in (*FIGURES, "class mrr", "chance") if all(name in of for of in values.values())]
    found: dict[str, Any] = {name: over_folds(values, name)[0] for name in names}
    if len(parts) > 1:
        found["deviation"] = {name: over_folds(values, name)[1] for name in names}
    first = next(iter(values.values()))
    found["interval"] = first["interval"] if len(parts) == 1 else interval(*_mean_of(list(parts.values())))
    found["folds"] = {name: of["mrr"] for name, of in values.items()}
    found["mrr by fold and concept"] = {name: of["mrr by concept"] for name, of in values.items()}
    longest = max(len(of["found by rank"]) for of in values.values())
    curves = [of["found by rank"] + [1.0] * (longest - len(of["found by rank"])) for of in values.values()]
    found["found by rank"] = np.mean(curves, axis=0).tolist()
    return found


def behind(main: Mapping[str, Figures], other: Mapping[str, Figures], within: bool) -> list[float | None]:
    """MRR of the main system less that of another, and the interval of both on the same draws (paired bootstrap)."""
    folds = [replace(of, reciprocal=of.reciprocal - other[name].reciprocal) for name, of in main.items()]
    mean, groups = _mean_of(folds, within)
    return [mean(np.ones(len(groups))), *interval(mean, groups, share=False)]


def _mean_of(folds: Sequence[Figures], within: bool = False) -> tuple[Callable[[np.ndarray], float], np.ndarray]:
    """The mean over folds by the queries' weights, and the concept of each query, by which they are drawn.

    within: concepts count alike, not queries.
    """
    sizes = np.cumsum([len(of.reciprocal) for of in folds])[:-1]
    groups = np.concatenate([[f"{number} {c}" for c in of.concepts] for number, of in enumerate(folds)])
    _, concept, counts = np.unique(groups, return_inverse=True, return_counts=True)
    count_of = 1 / counts[concept] if within else np.ones(len(groups))

    def mean(weights: np.ndarray) -> float:
        of_folds = zip(folds, np.split(weights * count_of, sizes), strict=True)
        means = [of.reciprocal @ w / w.sum() if w.sum() else np.nan for of, w in of_folds]
        return float(np.mean(means))

    return mean, groups


def _show_systems(folder: Path, systems: Mapping[str, Mapping[str, Any]], note: str) -> None:
    columns = [name for name in FIGURES if all(name in of for of in systems.values())]
    rows = []
    for name, of in systems.items():
        spread = of.get("deviation", {}).get("mrr")
        difference, low, high = of.get("behind", (None, None, None))
        less = format_value(difference, low, high, decimals=4, signed=True)
        rows.append([name, *cells(of, columns), format_value(spread, decimals=4), less])
    heads = [
        "system",
        *(column.upper() for column in columns),
        "deviation over folds",
        f"{next(iter(systems))} less it",
    ]
    print_table(f"{folder}: systems", heads, rows, note, emphasis=[name == TRAINED for name in systems])


def compare_runs(runs: Sequence[Run]) -> dict[str, Any]:
    """Own figures, of the trained system and of those beside it, with the published ones of the same protocol."""
    folders = [run.folder for run in runs]
    results = [read_results(folder) if section_of(folder, "test", NO_TEST) else {} for folder in folders]
    own = section_of(folders[0], "test", NO_TEST)
    of_set, names = SET[own["protocol"]], [name for name in FIGURES if name in own["systems"][own["system"]]]
    under = ("test", "values", "systems", own["system"])
    places = {f"{of_set}/{n}": Place((*under, n), (*under, "interval") if n == "mrr" else ()) for n in names}
    columns = [MetricColumn(name, of_set, name.upper(), decimals=4) for name in names]
    values: dict[str, OwnValue] = own_values(results, places)
    found = beside_published(
        folders,
        f"{runs[0].recipe}, {own['system']}",
        values,
        columns,
        read_baselines(BASELINES),
        title=f"query by vocal imitation, {of_set}",
        caveat=TOY if own["toy"] else None,
        reference=None,
    )
    return {"comparison": found}
