"""What a pre-trained encoder has learnt next: events of HEAR's files scored; beside published figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.audio.coverage import made_of, root_of
from common.run.results.comparison import CAVEATS, MetricColumn, read_baselines
from common.run.results.ensembles import called
from common.run.results.intervals import bootstrap_interval
from common.run.results.paired import Metric, Part, fingerprint
from common.run.results.runs import Place, beside_published, own_values, section_of
from common.run.results.store import read_results, record
from common.run.results.tables import format_value, print_table
from common.run.tensorboard import summarise
from common.run.verbs import Run
from task4_sed.config import Config
from task4_sed.data.hear import HearSet, fold_of, load_hear, splits_of
from task4_sed.evaluation.classes import show_classes
from task4_sed.evaluation.report import caveat_of
from task4_sed.inference.hear import PARTS, stored_of
from task4_sed.metrics.hear import ONSETS, Events, event_counts, f1_of, hear_figures
from task4_sed.training.downstream import best_of, events_of

SHOWN = {
    "onset_200ms": "onset F1, 200 ms",
    "onset_50ms": "onset F1, 50 ms",
    "onset_offset_50ms": "onset and offset F1, 50 ms, 20 %",
    "segment_error_rate": "segment error rate, 1 s",
}

PUBLISHED = {"maestro": "maestro_5h"}  # names in baselines.csv


def evaluate_hear(runs: Sequence[Run], plots: bool = True) -> list[Mapping[str, Any]]:
    """Score the stored logits of every run; print a table of each, write that of its classes, draw it."""
    return [_evaluate(run, plots) for run in runs]


def _found(run: Run) -> tuple[HearSet, Events, float]:
    """The files of the test, the events found in them, and their shortest duration, chosen on the validation files."""
    config: Config = run.config
    fold = fold_of(config, run.seed)
    valid, test = (load_hear(config.data, part, fold) for part in PARTS)
    min_ms, _ = best_of(valid, stored_of(run, "valid", valid), config.events)
    return test, events_of(test, stored_of(run, "test", test), config.events, min_ms), min_ms


def _evaluate(run: Run, plots: bool) -> Mapping[str, Any]:
    (test, found, min_ms), root, main = _found(run), root_of(run.config.data), run.config.events.figure
    figures = hear_figures(found, test.events)
    intervals = {name: _interval(event_counts(found, test.events, *how)) for name, how in ONSETS.items()}
    (table,) = splits_of(root, "test", fold_of(run.config, run.seed))
    results: dict[str, Any] = {"data": made_of(root), "files": len(test.files), "sets": {}, "split": table}
    results |= {"min_ms": min_ms, "hear": figures, "intervals": intervals}
    results["figure"] = {"metric": SHOWN[main], "set": f"{test.name} {table}", "value": figures[main]} | intervals[main]
    record(run.folder, "test", results)
    summarise(run, figures)
    ends = {name: (of["low"], of["high"]) for name, of in intervals.items()}
    rows = [[SHOWN[name], format_value(value, *ends.get(name, ()))] for name, value in figures.items()]
    title = f"{run.folder}: {test.name} {table}, {len(test.files)} files"
    events = f"events of at least {min_ms:g} ms"
    note = "; ".join(filter(None, (events, caveat_of(results["data"]))))
    print_table(title, ["metric", "value"], rows, note)
    show_classes(run, {SHOWN[main]: of_classes(found, test, main)}, f"{test.name} {table}", note, plots)
    return results


def of_classes(found: Events, test: HearSet, figure: str) -> dict[str, float]:
    """One of ONSETS of each class that is heard in the files."""
    values = {}
    for name in test.classes:
        given, expected = ({file: {name: of.get(name, ())} for file, of in e.items()} for e in (found, test.events))
        counts = event_counts(given, expected, *ONSETS[figure]).sum(axis=0)
        if counts[2]:
            values[name] = f1_of(counts)[0]
    return values


def compare_downstream(runs: Sequence[Run]) -> Mapping[str, Any]:
    """The own main figure, mean and spread over the runs, beside the published ones of encoders that learn as much."""
    folders, config = [run.folder for run in runs], runs[0].config
    first = section_of(folders[0], "test", "no test results; `evaluate` makes them")
    metric, name = first["figure"]["metric"], first["figure"]["set"].partition(" ")[0]
    key, on = ("psds1", "desed_simplified") if metric == "PSDS1" else ("onset_f1", PUBLISHED.get(name, name))
    key += "_finetuned" if config.encoder.train else "_frozen"
    place = Place(("test", "values", "figure", "value"), ("test", "values", "figure"))
    return beside_published(
        folders,
        called(runs[0]),
        own_values([read_results(folder) for folder in folders], {f"{on}/{key}": place}),
        [MetricColumn(key, on, metric)],
        read_baselines(Path(__file__).parents[1] / "baselines.csv"),
        title=f"{on}, {'all of the encoder learns' if config.encoder.train else 'the encoder is frozen'}",
        caveat=CAVEATS[first["data"]],
        reference=None,
    )


def hear_parts(run: Run) -> list[Part]:
    """A run's onset F1 as functions of the files' weights."""
    test, found, _ = _found(run)
    counts = [event_counts(found, test.events, *how) for how in ONSETS.values()]
    metrics = tuple(Metric(SHOWN[name]) for name in ONSETS)
    truth = fingerprint(test.events.items())

    def figures(weights: np.ndarray) -> np.ndarray:
        return np.array([f1_of(weights @ of)[0] for of in counts])

    return [Part(test.name, "files", test.files, truth, metrics, figures, np.full(len(metrics), len(test.files)))]


def _interval(counts: np.ndarray) -> dict[str, float | None]:
    """Of F1, over files with these counts (files, 3)."""
    ends = bootstrap_interval(lambda weights: f1_of(weights @ counts)[0], len(counts), share=True)
    low, high = (None if np.isnan(end) else float(end) for end in ends)
    return {"low": low, "high": high}
