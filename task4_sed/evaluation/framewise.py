"""Stored logits of a run on AudioSet-strong -> PSDS1 over its scored classes, with intervals over clips."""

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
from task4_sed.data.audioset import output_classes, scored_classes
from task4_sed.data.own import load_clips
from task4_sed.data.pseudo import StoredLogits
from task4_sed.evaluation.report import caveat_of
from task4_sed.inference.framewise import SCORES
from task4_sed.metrics.psds import PSDS1
from task4_sed.metrics.streamed import StreamedScores, streamed_metrics
from task4_sed.training.framewise import EDGES, figures_of, strong_truth

DRAWS = 200
SHOWN = {"psds1_macro": "PSDS1, mean over classes", "psds1": "PSDS1 with the variance penalty", "mpauc": "mean pAUROC"}


def evaluate_framewise(runs: Sequence[Run], plots: bool = True) -> list[Mapping[str, Any]]:
    """Score the stored logits of every run and print a table of each; there are no plots."""
    return [_evaluate(run) for run in runs]


def _evaluate(run: Run) -> Mapping[str, Any]:
    config: Config = run.config
    clips = load_clips(config.data, "eval")
    path = existing_file(run.folder / SCORES, "scores (`predict` makes them)")
    stored = StoredLogits.open(path, clips.labels.classes)
    names = tuple(sorted(stored.position, key=lambda name: stored.position[name]))
    scores = StreamedScores(names, stored.classes, EDGES, lambda start, stop: stored.strong[start:stop])
    truth, random = strong_truth(clips), np.random.default_rng(0)
    count = len(truth.clips)
    weights = [random.multinomial(count, np.full(count, 1 / count)).astype(float) for _ in range(DRAWS)]
    found = streamed_metrics(scores, truth, PSDS1, config.validation.median_frames, weights=weights)
    figures = figures_of(found)
    low, high = interval_of(figures["psds1_macro"], found.draws, count, share=True)
    results: dict[str, Any] = {
        "data": made_of(root_of(config.data)),
        "clips": count,
        "sets": {},
        "audioset_eval": figures,
    }
    results["intervals"] = {"psds1_macro": {"low": _known(low), "high": _known(high)}}
    record(run.folder, "test", results)
    summarise(run, figures)
    rows = [[shown, f"{figures[name]:.4f}"] for name, shown in SHOWN.items()]
    rows[0][1] += f" [{low:.4f}, {high:.4f}]"
    own = clips.labels.classes[len(output_classes()) :]
    if own:
        of_own = streamed_metrics(scores, strong_truth(clips, own), PSDS1, config.validation.median_frames)
        figures["own_psds1"] = of_own.psds.mean_of_classes
        rows.append(["PSDS1 of own classes, on own clips", f"{figures['own_psds1']:.4f}"])
    rows.append(["classes", f"{figures['classes']:.0f} of {len(scored_classes())}"])
    print_table(
        f"{run.folder}: AudioSet-strong, {count:,} clips", ["metric", "value"], rows, caveat_of(results["data"])
    )
    return results


def _known(value: np.ndarray) -> float | None:
    return None if np.isnan(value) else float(value)
