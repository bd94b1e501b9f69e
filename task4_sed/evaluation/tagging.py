"""Stored clip logits of a run on AudioSet's evaluation clips -> mean average precision."""

from collections.abc import Mapping, Sequence
from typing import Any

from common.audio.coverage import made_of, root_of
from common.run.files import existing_file
from common.run.results.store import record
from common.run.results.tables import print_table
from common.run.tensorboard import summarise
from common.run.verbs import Run
from task4_sed.config import Config
from task4_sed.data.tag_logits import read_tag_logits
from task4_sed.data.weak import load_weak
from task4_sed.evaluation.report import caveat_of
from task4_sed.inference.tagging import SCORES
from task4_sed.training.tagging import tag_figures


def evaluate_tags(runs: Sequence[Run], plots: bool = True) -> list[Mapping[str, Any]]:
    """Score the stored logits of every run and print a table of each; there are no plots."""
    return [_evaluate(run) for run in runs]


def _evaluate(run: Run) -> Mapping[str, Any]:
    config: Config = run.config
    clips = load_weak(config.data, "eval")
    stored = read_tag_logits(existing_file(run.folder / SCORES, "scores (`predict` makes them)"), clips.classes)
    figures = tag_figures(clips)(stored.read(stored.rows(list(clips.names()))))
    results: dict[str, Any] = {
        "data": made_of(root_of(config.data)),
        "clips": len(clips),
        "audioset_weak_eval": figures,
    }
    record(run.folder, "test", results)
    summarise(run, figures)
    rows = [["mean average precision", f"{figures['map']:.4f}"]]
    rows.append(["classes", f"{figures['classes']:.0f} of {len(clips.classes)}"])
    title = f"{run.folder}: AudioSet, clip labels, {len(clips):,} clips"
    print_table(title, ["metric", "value"], rows, caveat_of(results["data"]))
    return results
