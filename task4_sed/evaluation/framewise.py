"""Stored logits of a frame-wise network on AudioSet-strong or DESED -> PSDS1, with intervals over clips."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from common.audio.coverage import made_of, root_of
from common.run.files import existing_file
from common.run.results.intervals import interval_of
from common.run.results.store import record
from common.run.results.tables import print_table
from common.run.tensorboard import summarise
from common.run.verbs import Run
from task4_sed.config import Config
from task4_sed.data.framewise import StrongSet
from task4_sed.data.own import own_part
from task4_sed.data.pseudo import StoredLogits
from task4_sed.evaluation.report import caveat_of
from task4_sed.inference.framewise import scores_of
from task4_sed.metrics.psds import PSDS1
from task4_sed.metrics.streamed import StreamedScores, streamed_metrics
from task4_sed.training.framewise import EDGES, figures_of, strong_truth

DRAWS = 200
NAMES = {"audioset_eval": "AudioSet-strong"}
SHOWN = {"psds1_macro": "PSDS1, mean over classes", "psds1": "PSDS1 with the variance penalty", "mpauc": "mean pAUROC"}


def evaluate_framewise(runs: Sequence[Run], plots: bool = True) -> list[Mapping[str, Any]]:
    """Score the stored logits of every run and print a table of each; there are no plots."""
    return [_evaluate(run) for run in runs]


def _evaluate(run: Run) -> Mapping[str, Any]:
    config: Config = run.config
    clips: StrongSet = config.system.does("set")(config, "eval")
    path = existing_file(scores_of(run, clips), "scores (`predict` makes them)")
    stored = StoredLogits.open(path, clips.labels.classes)
    names = tuple(sorted(stored.position, key=lambda name: stored.position[name]))
    scores = StreamedScores(names, stored.classes, EDGES, lambda start, stop: stored.strong[start:stop])
    truth, random = strong_truth(clips), np.random.default_rng(0)
    count = len(truth.clips)
    weights = [random.multinomial(count, np.full(count, 1 / count)).astype(float) for _ in range(DRAWS)]
    frames, ended = config.validation.median_frames, not clips.published
    found = streamed_metrics(scores, truth, PSDS1, frames, end_with_clip=ended, weights=weights)
    figures = figures_of(found)
    low, high = interval_of(figures["psds1_macro"], found.draws, count, share=True)
    results: dict[str, Any] = {
        "data": made_of(root_of(config.data)),
        "clips": count,
        "sets": {},
        clips.name: figures,
    }
    if clips.figure == "psds1":
        results["figure"] = {"metric": "PSDS1", "set": clips.name, "value": figures["psds1"]}
    results["intervals"] = {"psds1_macro": {"low": _known(low), "high": _known(high)}}
    record(run.folder, "test", results)
    summarise(run, figures)
    rows = [[shown, f"{figures[name]:.4f}"] for name, shown in SHOWN.items()]
    rows[0][1] += f" [{low:.4f}, {high:.4f}]"
    if clips.own:
        of_own = streamed_metrics(scores, strong_truth(own_part(clips)), PSDS1, frames)
        figures["own_psds1"] = of_own.psds.mean_of_classes
        rows.append(["PSDS1 of own classes, on own clips", f"{figures['own_psds1']:.4f}"])
    rows.append(["classes", f"{figures['classes']:.0f} of {len(clips.scored)}"])
    title = f"{run.folder}: {NAMES.get(clips.name, clips.name)}, {count:,} clips"
    print_table(title, ["metric", "value"], rows, caveat_of(results["data"]))
    return results


def _known(value: np.ndarray) -> float | None:
    return None if np.isnan(value) else float(value)
