"""Own runs: stored vectors -> metrics with intervals, the rank of every query, plots; own beside published results.

evaluate_run(run, plots=True) -> dict
    scores what `predict` stored, records section "test" in <run>/results.json, writes <run>/queries.csv
compare_runs(runs) -> dict
    comparison.csv/.md/.png beside the runs' folders
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common.audio.coverage import made_of, root_of
from common.run.errors import UserError
from common.run.files import write_rows
from common.run.results.comparison import CAVEATS, Baseline, MetricColumn, read_figures
from common.run.results.ensembles import called
from common.run.results.runs import Place, beside_published, own_values, section_of
from common.run.results.store import read_results, record
from common.run.results.tables import format_value, print_table
from common.run.verbs import Run
from task6_retrieval.config import CLOTHO, OTHER, Config
from task6_retrieval.data.layout import needed
from task6_retrieval.data.teachers import embeddings_file
from task6_retrieval.evaluation.evaluate import OwnAnswers, Truth, answers_of, read_truth
from task6_retrieval.inference.outputs import scores_of
from task6_retrieval.inference.scores import Gallery
from task6_retrieval.metrics import chance

BASELINES = Path(__file__).parents[1] / "baselines.csv"
REFERENCE = "Baseline 2025, Clotho"
NO_TEST = "no test results; `evaluate` makes them"
MOST_SHOWN = 3  # queries that went worst
TITLES = {"map@10": "mAP@10", "r@1": "R@1", "r@5": "R@5", "r@10": "R@10", "map@16": "mAP@16"}
RANKED_BY = {"": ("map@10", "r@1", "r@5", "r@10"), "_2025": ("map@16", "map@10", "r@1", "r@5", "r@10")}

# Rankings on the hidden sets of the challenge, by what each ranked by.
RANKINGS = [
    MetricColumn(metric, f"challenge_{year}", f"{TITLES[metric]}, hidden set of {year} (%)", decimals=2, unit="%")
    for year, metric in ((2022, "map@10"), (2023, "map@10"), (2024, "map@10"), (2025, "map@16"))
]


def answers_by_set(run: Run) -> dict[str, OwnAnswers]:
    """Those of a run for its test set; with `data.annotations` also for the queries of 2025, as <set>_2025."""
    data = run.config.data
    scores, listing = scores_of(run, data.test), needed(data, data.test)
    heard = set(scores.clips)  # others are missing or broken
    pairs: list[tuple[str, tuple[str, ...]]] = [
        (caption, (clip.name,)) for clip in listing.clips if clip.name in heard for caption in clip.captions
    ]
    if made_of(root_of(data)) == "recordings":  # captions of own recordings may be templates: every clip that has it
        having: dict[str, dict[str, None]] = {}
        for caption, names in pairs:
            having.setdefault(caption, {}).update(dict.fromkeys(names))
        pairs = [(caption, tuple(names)) for caption, names in having.items()]
    if not pairs:
        raise UserError(f"{listing.table}: no caption of a clip that `predict` has heard")
    queries, relevant = zip(*pairs, strict=True)
    truths = {data.test: Truth(listing.table, queries, relevant, Gallery(scores.clips))}
    if data.annotations:
        truths[f"{data.test}_2025"] = read_truth(data.annotations)
    return {name: answers_of(scores, truth) for name, truth in truths.items()}


def figures_of(answers: OwnAnswers) -> dict[str, Any]:
    """As `evaluate --scores` has them, what chance gives, and the median rank."""
    chances, rank = chance(answers.counts, answers.clips), float(np.median(answers.best))
    return {**answers.figures(), "chance": chances, "median_rank": rank}


def evaluate_run(run: Run, plots: bool = True) -> dict[str, Any]:
    """Metrics of a run's stored vectors; writes results.json, queries.csv and plots."""
    by_set = answers_by_set(run)
    found = {
        "data": made_of(root_of(run.config.data)),
        "sets": {name: figures_of(of) for name, of in by_set.items()},
    }
    other = OTHER[run.config.checkpoint]
    if embeddings_file(run.folder / other, run.config.data.test).is_file():
        beside = answers_by_set(replace(run, folder=run.folder / other))
        found["other"] = {"epoch": other, "sets": {name: figures_of(of) for name, of in beside.items()}}
    record(run.folder, "test", found)
    answers = by_set[run.config.data.test]
    write_rows(run.folder / "queries.csv", ("query", "file_name", "rank", "first"), query_rows(answers))
    show(run, found, answers)
    if plots:
        from task6_retrieval.evaluation.plots import draw_run

        draw_run(run, answers, note_of(found))
    return found


def query_rows(answers: OwnAnswers) -> Iterator[tuple[str, str, int, str]]:
    """The query, its clip, the rank of that, and the clip that came first; those that went worst first."""
    for i in np.argsort(-answers.best, kind="stable"):
        yield answers.truth.queries[i], answers.truth.relevant[i][0], int(answers.best[i]), answers.first[i]


def note_of(found: Mapping[str, Any]) -> str | None:
    """What must stand beside every figure of a run on toy data or an own data set."""
    caveat = CAVEATS[found["data"]]
    return caveat.text if caveat else None


def show(run: Run, found: Mapping[str, Any], answers: OwnAnswers) -> None:
    """Print the figures of all sets, in per cent, and the queries that went worst."""
    note = f" {text}" if (text := note_of(found)) else ""
    chosen = run.config.checkpoint
    for name, of in found["sets"].items():
        both = {f"{chosen} epoch (%)": of}
        if "other" in found:
            both[f"{found['other']['epoch']} epoch (%)"] = found["other"]["sets"][name]
        rows = [
            [title, *(percent(one[m], *one["intervals"][m]) for one in both.values()), percent(of["chance"][m])]
            for m, title in TITLES.items()
        ]
        counts = f"{of['queries']} queries, {of['clips']} clips; median rank {of['median_rank']:g}."
        print_table(
            f"{run.task.name} {run.recipe}, training {run.number}: {name}",
            ["metric", *both, "chance"],
            rows,
            f"{counts} [ ]: 95 %, clips drawn with all of their captions.{note}",
        )
    worst = list(query_rows(answers))[:MOST_SHOWN]
    print_table(
        "queries that went worst", ["query", "rank", "first"], [[q, str(rank), top] for q, _, rank, top in worst]
    )


def percent(value: float, low: float | None = None, high: float | None = None) -> str:
    """A share in per cent, with two decimals."""
    low, high = (None if end is None else 100 * end for end in (low, high))
    return format_value(100 * value, low, high, decimals=2)


def published() -> list[Baseline]:
    """baselines.csv in per cent; systems whose figures are not verified say so in their name."""
    return [
        replace(
            of,
            system=of.system if row["verified"] == "yes" else f"{of.system} (not verified)",
            value=None if of.value is None else 100 * of.value,
        )
        for row, of in read_figures(BASELINES, ("verified",))
    ]


def compare_runs(runs: Sequence[Run]) -> dict[str, Any]:
    """Own results, mean and spread over the runs, beside the published ones; table, csv, markdown and plot."""
    folders = [run.folder for run in runs]
    tests = [section_of(folder, "test", NO_TEST) for folder in folders]
    config: Config = runs[0].config
    results, data, main = [read_results(folder) for folder in folders], tests[0]["data"], config.data.test
    columns, places = [], {}
    for name in tests[0]["sets"]:
        for metric in RANKED_BY["_2025" if name.endswith("_2025") else ""]:
            columns.append(column_of(name, metric, tests[0]["sets"][name]["chance"][metric]))
            at = ("test", "values", "sets", name)
            places[f"{name}/{metric}"] = Place((*at, metric), (*at, "intervals", metric))
    energy = MetricColumn("kwh_train", main, "training energy", higher_is_better=False, unit="kWh")
    own = own_values(results, places, scale=100)
    own |= own_values(results, {energy.key: Place(("train", "values", "kwh"))})
    columns += [energy] if energy.key in own else []
    found = beside_published(
        folders,
        called(runs[0]),
        own,
        [*columns, *RANKINGS],
        published() if data != "recordings" else [],
        shown=len(columns),
        title="language-based audio retrieval",
        caveat=CAVEATS[data],
        reference=REFERENCE if data != "recordings" and main == CLOTHO[2] else None,
    )
    return {"comparison": found}


def column_of(name: str, metric: str, guessed: float) -> MetricColumn:
    """A metric on a set in per cent."""
    year = " of 2025" if name.endswith("_2025") else ""
    return MetricColumn(metric, name, f"{TITLES[metric]}{year} (%)", decimals=2, unit="%", chance=100 * guessed)
