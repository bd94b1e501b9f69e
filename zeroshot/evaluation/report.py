"""Own runs: stored scores -> results and plots; results -> tables beside the published ones.

    evaluate_run(run, plots=True) -> dict
        scores every split's predictions, records section "test" in <run>/<split>/results.json and <run>/results.json
    compare_runs(runs) -> dict
        comparison.csv/.md/.png beside the runs' folders

Every table says whether the audio encoder had heard the test classes' labels (transfer) or not (zero-shot).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.run.files import read_rows
from common.run.results.comparison import TOY, MetricColumn, read_baselines
from common.run.results.runs import Place, beside_published, own_values, section_of
from common.run.results.store import read_results, record
from common.run.results.tables import print_table
from common.run.verbs import Run
from zeroshot.config import Config, closed_stage, of_split
from zeroshot.evaluation.evaluate import NOTE, cells, figures, percent, read_truth
from zeroshot.inference.scores import (
    CONTROLS,
    GENERALISED,
    GENERALISED_TRUTH,
    TEST,
    TRUTH,
    control_file,
    read_scores,
    read_split,
)
from zeroshot.metrics import by_class, class_interval, generalised, over_splits

BASELINES = Path(__file__).parents[1] / "baselines.csv"
NO_TEST = "no test results; `evaluate` makes them"
MOST_SHOWN = 12  # splits, and classes, in a table
HARDEST = 5


def evaluate_run(run: Run, plots: bool = True) -> dict[str, Any]:
    """Metrics of every split's stored scores, their means over splits, and the plots of the run."""
    from zeroshot.data.splits import class_splits

    splits: dict[str, dict[str, Any]] = {}
    for split in class_splits(run.config):
        folder = of_split(run, split.name).folder
        splits[split.name] = evaluate_split(folder)
        record(folder, "test", splits[split.name])
    trained = section_of(closed_stage(of_split(run, next(iter(splits)))).folder, "train", "no finished training")
    config: Config = run.config
    found = summary(splits) | {
        "toy": trained["data"] == "toy",
        "encoder": config.encoder.name,
        "claim": config.encoder.claim,
        "set": set_of(config, splits),
    }
    record(run.folder, "test", found)
    show(run.folder.as_posix(), splits, found)
    if plots:
        from zeroshot.evaluation.plots import draw_run

        draw_run(run.folder / "plots", splits, note_of(found), run.title)
    return found


def evaluate_split(folder: Path) -> dict[str, Any]:
    """Figures of a split's predictions, its controls' main figures, the generalised ones where there are such."""
    truth = read_truth(folder / TRUTH)
    found = figures(read_scores(folder / TEST), truth, str(folder / TEST))
    controls = {}
    for control in CONTROLS:
        path = folder / control_file(control)
        controls[control] = figures(read_scores(path), truth, str(path))[found["kind"]]
    classes = read_split(folder)
    joint = _generalised(folder) if (folder / GENERALISED).is_file() else None
    distances = {key: classes[key] for key in ("semantic", "edges")}
    return found | {"controls": controls, "generalised": joint, "distances": distances}


def _generalised(folder: Path) -> dict[str, Any]:
    """Seen, unseen and harmonic mean, without and with calibrated stacking."""
    scores = read_scores(folder / GENERALISED)
    class_of = {row["clip"]: row["class"] for row in read_rows(folder / GENERALISED_TRUTH, ("clip", "class"))}
    labels = np.array([scores.classes.index(class_of[clip]) for clip in scores.clips])
    seen = np.isin(scores.classes, read_split(folder)["train"])
    gamma = section_of(folder, "predict", "no scores; `predict` makes them")["gamma"]
    return {name: generalised(scores.values, labels, seen, of) for name, of in (("plain", 0.0), ("stacked", gamma))}


def summary(splits: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Means over splits: {"kind", main figure, "interval" (over classes), "chance", "controls", "generalised", ...}."""
    of = list(splits.values())
    kind, main = of[0]["kind"], [by_class(one) for one in of]
    chance = "chance" if kind == "accuracy" else "prevalence"
    joint = [one["generalised"] for one in of if one["generalised"]]
    parts = ("seen", "unseen", "harmonic mean", "gamma")
    names = dict.fromkeys(name for one in main for name in one)
    return {
        "kind": kind,
        "value": over_splits(main),
        "interval": class_interval(main),
        "chance": float(np.mean([one[chance] for one in of if one[chance] is not None])),
        "splits": {name: one[kind] for name, one in splits.items()},
        "controls": {name: float(np.mean([one["controls"][name] for one in of])) for name in CONTROLS},
        "generalised": {
            how: {part: float(np.mean([one[how][part] for one in joint])) for part in parts}
            for how in (("plain", "stacked") if joint else ())
        },
        "by class": {name: float(np.mean([one[name] for one in main if name in one])) for name in names},
        "by split": dict(zip(splits, main, strict=True)),
    }


def set_of(config: Config, splits: Mapping[str, Mapping[str, Any]]) -> str:
    """Under which name published figures on the same classes stand in baselines.csv."""
    title = {"audioset": "AudioSet", "openmic": "OpenMIC", "esc50": "ESC-50"}[config.data.layout]
    tested = {len(of["classes"]) for of in splits.values()}
    if title != "ESC-50" or tested == {50}:
        return title
    return f"{title} 5 folds" if tested == {10} and len(splits) == 5 else f"{title}, {_range(tested)} classes at a time"


def _range(numbers: set[int]) -> str:
    return str(min(numbers)) if len(numbers) == 1 else f"{min(numbers)} to {max(numbers)}"


def note_of(found: Mapping[str, Any]) -> str:
    """What must stand beside every figure: the claim, and whether the data are the toy's."""
    claim = f"{found['encoder']}: {found['claim']}"
    return f"{claim}; {TOY.text}" if found["toy"] else claim


def show(title: str, splits: Mapping[str, Mapping[str, Any]], found: Mapping[str, Any]) -> None:
    """Print splits and their mean, controls and generalised figures, the hardest classes."""
    kind, second = found["kind"], "top-3" if found["kind"] == "accuracy" else "ROC-AUC"
    head = ["split", kind, "chance", second, "classes", "clips"]
    rows = [[name, *cells(of)] for name, of in list(splits.items())[:MOST_SHOWN]]
    mean = ["mean", percent(found["value"], found["interval"]), percent(found["chance"]), "", "", ""]
    more = f"{len(splits) - MOST_SHOWN} more splits are in the mean. " if len(splits) > MOST_SHOWN else ""
    bold = [False] * len(rows) + [True]
    print_table(f"{title}: {kind} (%)", head, [*rows, mean], f"{more}{NOTE} {note_of(found)}", emphasis=bold)
    controls = [[name, percent(value)] for name, value in found["controls"].items()]
    print_table(
        "controls", ["class vectors", f"{kind} (%)"], controls, "oracle: mean embedding of the class's other clips"
    )
    if found["generalised"]:
        keys = ("seen", "unseen", "harmonic mean")
        joint = [[how, *(percent(of[key]) for key in keys)] for how, of in found["generalised"].items()]
        print_table("generalised: best of seen and unseen classes (%)", ["", *keys], joint)
    order = sorted(found["by class"].items(), key=lambda pair: pair[1])[:HARDEST]
    print(f"hardest classes (%): {', '.join(f'{name} {100 * value:.0f}' for name, value in order)}")


def compare_runs(runs: Sequence[Run]) -> dict[str, Any]:
    """Own figures beside the published ones of the same set."""
    folders = [run.folder for run in runs]
    results = [read_results(folder) if section_of(folder, "test", NO_TEST) else {} for folder in folders]
    own = section_of(folders[0], "test", NO_TEST)
    kind, of_set = own["kind"], own["set"]
    values = ("test", "values")
    places = {
        f"{of_set}/{kind}": Place((*values, "value"), (*values, "interval")),
        f"{of_set}/chance": Place((*values, "chance")),
        **{f"{of_set}/{name}": Place((*values, "controls", name)) for name in CONTROLS},
    }
    columns = [
        MetricColumn(kind, of_set, f"{kind} (%)", decimals=1),
        *(MetricColumn(name, of_set, f"{name} (%)", decimals=1) for name in ("chance", *CONTROLS)),
    ]
    found: dict[str, Any] = beside_published(
        folders,
        f"{runs[0].recipe}, {own['encoder']}, {own['claim']}",
        own_values(results, places, scale=100),
        columns,
        read_baselines(BASELINES),
        title=f"zero-shot, {of_set}",
        caveat=TOY if own["toy"] else None,
        reference=None,
    )
    return {"comparison": found}
