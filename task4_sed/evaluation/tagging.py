"""Stored clip logits of a run on AudioSet's evaluation clips -> mean average precision, with intervals over clips."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from common.audio.coverage import made_of, root_of
from common.run.files import existing_file
from common.run.results.intervals import bootstrap_interval
from common.run.results.store import record
from common.run.results.tables import format_value, print_table
from common.run.tensorboard import summarise
from common.run.verbs import Run
from task4_sed.config import Config
from task4_sed.data.tag_logits import read_tag_logits
from task4_sed.data.weak import load_weak
from task4_sed.evaluation.classes import show_classes
from task4_sed.evaluation.report import caveat_of
from task4_sed.inference.tagging import SCORES
from task4_sed.training.tagging import figures_of, precisions_of


def evaluate_tags(runs: Sequence[Run], plots: bool = True) -> list[Mapping[str, Any]]:
    """Score the stored logits of every run; print a table of each, write that of its classes, draw it."""
    return [_evaluate(run, plots) for run in runs]


def _evaluate(run: Run, plots: bool) -> Mapping[str, Any]:
    config: Config = run.config
    clips = load_weak(config.data, "eval")
    stored = read_tag_logits(existing_file(run.folder / SCORES, "scores (`predict` makes them)"), clips.classes)
    logits = stored.read(stored.rows(list(clips.names())))
    precisions = precisions_of(clips, logits)
    of_classes = precisions(np.ones(len(clips)))
    figures = figures_of(of_classes)
    ends = bootstrap_interval(lambda weights: float(np.nanmean(precisions(weights))), len(clips), share=True)
    low, high = (None if np.isnan(end) else end for end in ends)
    results: dict[str, Any] = {
        "data": made_of(root_of(config.data)),
        "clips": len(clips),
        "sets": {},
        SCORES.stem: figures,
        "intervals": {"map": {"low": low, "high": high}},
        "figure": {"metric": "mAP", "set": SCORES.stem, "value": figures["map"], "low": low, "high": high},
    }
    record(run.folder, "test", results)
    summarise(run, figures)
    rows = [["mean average precision", format_value(figures["map"], low, high, decimals=4)]]
    rows.append(["classes", f"{figures['classes']:.0f} of {len(clips.classes)}"])
    title = f"{run.folder}: AudioSet, clip labels, {len(clips):,} clips"
    print_table(title, ["metric", "value"], rows, caveat_of(results["data"]))
    found = dict(zip(clips.classes, of_classes.tolist(), strict=True))
    show_classes(run, {"average precision": found}, "AudioSet, clip labels", caveat_of(results["data"]), plots)
    return results
