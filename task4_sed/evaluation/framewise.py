"""Stored logits of a frame-wise network on AudioSet-strong or DESED -> PSDS1, with intervals over clips."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common.audio.coverage import made_of, root_of
from common.run.errors import UserError
from common.run.files import existing_file, write_text
from common.run.results.comparison import CAVEATS, MetricColumn, read_baselines
from common.run.results.ensembles import called
from common.run.results.intervals import interval_of
from common.run.results.runs import Place, beside_published, own_values, section_of
from common.run.results.store import read_results, record
from common.run.results.tables import print_table
from common.run.tensorboard import summarise
from common.run.verbs import Run
from task4_sed.config import Config
from task4_sed.data.audioset import scored_classes
from task4_sed.data.framewise import StrongSet
from task4_sed.data.own import own_part
from task4_sed.data.pseudo import StoredLogits
from task4_sed.evaluation.classes import show_classes
from task4_sed.evaluation.report import caveat_of
from task4_sed.inference.framewise import scores_of
from task4_sed.metrics.psds import PSDS1
from task4_sed.metrics.streamed import CLIPS_AT_ONCE, StreamedScores, streamed_metrics
from task4_sed.training.framewise import EDGES, figures_of, strong_truth

DRAWS = 200
NAMES = {"audioset_eval": "AudioSet-strong", "devtest": "DESED"}
PUBLISHED_CLIPS = 16_935  # that the authors had of the evaluation set
DRAWN = ("psds1_macro", "psds1")  # with intervals
SHOWN = {"psds1_macro": "PSDS1, mean over classes", "psds1": "PSDS1 with the variance penalty", "mpauc": "mean pAUROC"}


def evaluate_framewise(runs: Sequence[Run], plots: bool = True) -> list[Mapping[str, Any]]:
    """Score the stored logits of every run; print a table of each, write that of its classes, draw it."""
    return [_evaluate(run, plots) for run in runs]


def _evaluate(run: Run, plots: bool) -> Mapping[str, Any]:
    config: Config = run.config
    clips: StrongSet = config.system.does("set")(config, "eval")
    truth, random, median = strong_truth(clips), np.random.default_rng(0), config.validation.median_frames
    count, ended = len(truth.clips), not clips.published
    weights = [random.multinomial(count, np.full(count, 1 / count)).astype(float) for _ in range(DRAWS)]
    path = existing_file(scores_of(run, clips), "scores (`predict` makes them)")
    scores = _stored(path, clips)
    found = streamed_metrics(scores, truth, PSDS1, median, end_with_clip=ended, weights=weights)
    figures, floors = figures_of(found), dict[str, StreamedScores]()
    if clips.own:
        of_own = streamed_metrics(scores, strong_truth(own_part(clips)), PSDS1, median, end_with_clip=ended)
        figures["own_psds1"] = of_own.psds.mean_of_classes
    if (floor := scores_of(run, clips, "untrained")).is_file():
        floors["untrained"] = _stored(floor, clips)
        silence = np.zeros((CLIPS_AT_ONCE, len(EDGES) - 1, len(scores.classes)), np.float16)
        floors["constant"] = replace(scores, read=lambda start, stop: silence[: stop - start])
    ends = np.transpose(interval_of([figures[key] for key in DRAWN], found.draws, count, share=True))
    intervals = {key: {"low": _known(low), "high": _known(high)} for key, (low, high) in zip(DRAWN, ends, strict=True)}
    listed = "".join(f"{name}\n" for name in sorted(truth.clips))
    listing = path.with_suffix(".clips.txt")
    write_text(listing, listed)
    results: dict[str, Any] = {
        "data": made_of(root_of(config.data)),
        "clips": count,
        "clips_sha256": hashlib.sha256(listed.encode()).hexdigest(),
        "median_frames": median,
        "sets": {},
        clips.name: figures,
        "floors": {
            name: figures_of(streamed_metrics(of, truth, PSDS1, median, end_with_clip=ended))
            for name, of in floors.items()
        },
        "intervals": intervals,
    }
    if clips.figure == "psds1":
        results["figure"] = {"metric": "PSDS1", "set": clips.name, "value": figures["psds1"]} | intervals["psds1"]
    record(run.folder, "test", results)
    summarise(run, figures)
    rows = [
        [name, *(f"{of[key]:.4f}" for key in SHOWN)] for name, of in {"trained": figures, **results["floors"]}.items()
    ]
    for column, (low, high) in enumerate(ends, 1):
        rows[0][column] += f" [{low:.4f}, {high:.4f}]"
    if clips.own:
        rows.append(["own classes, on own clips", f"{figures['own_psds1']:.4f}", *["" for _ in range(len(SHOWN) - 1)]])
    scored = _scored_on(results, clips.name, clips.scored)
    title = f"{run.folder}: {NAMES.get(clips.name, clips.name)}, {scored} of {listing}"
    print_table(title, ["scores", *SHOWN.values()], rows, caveat_of(results["data"]))
    of_classes = {"PSDS1": found.psds.single_class, "pAUROC": found.auroc}
    show_classes(run, of_classes, NAMES.get(clips.name, clips.name), caveat_of(results["data"]), plots)
    return results


def _stored(path: Path, clips: StrongSet) -> StreamedScores:
    stored = StoredLogits.open(path, clips.labels.classes)
    names = tuple(sorted(stored.position, key=lambda name: stored.position[name]))
    return StreamedScores(names, stored.classes, EDGES, lambda start, stop: stored.read(slice(start, stop)))


def _scored_on(results: Mapping[str, Any], name: str, scored: Sequence[str]) -> str:
    """What a figure is of."""
    classes, digest = results[name]["classes"], results["clips_sha256"][:12]
    return f"{classes:.0f} of {len(scored)} classes, {results['clips']:,} clips (SHA-256 {digest}...)"


def compare_framewise(runs: Sequence[Run]) -> Mapping[str, Any]:
    """Own PSDS1 beside that of the published teachers and students; it says of how many clips and classes it is.

    Raises UserError for runs that were scored on other clips than the first.
    """
    folders = [run.folder for run in runs]
    tests = [section_of(folder, "test", "no test results; `evaluate` makes them") for folder in folders]
    first = tests[0]
    for folder, test in zip(folders, tests, strict=True):
        if test["clips_sha256"] != first["clips_sha256"]:
            raise UserError(f"{folder}: scored on other clips than {folders[0]}")
    return beside_published(
        folders,
        called(runs[0]),
        own_values([read_results(folder) for folder in folders], OWN_METRICS),
        [MetricColumn("psds1_macro", "audioset_eval", "PSDS1, mean over classes")],
        read_baselines(Path(__file__).parents[1] / "baselines.csv"),
        title=f"AudioSet-strong: own, {_scored_on(first, 'audioset_eval', scored_classes())}, median filter of "
        f"{first['median_frames']} frames; published, mostly {PUBLISHED_CLIPS:,} clips",
        caveat=CAVEATS[first["data"]],
        reference=None,
    )


OWN_METRICS = {
    "audioset_eval/psds1_macro": Place(
        ("test", "values", "audioset_eval", "psds1_macro"), ("test", "values", "intervals", "psds1_macro")
    )
}


def _known(value: np.ndarray) -> float | None:
    return None if np.isnan(value) else float(value)
