"""DCASE 2024 Task 4: sound event detection with heterogeneous labels (DESED and MAESTRO)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import pandas as pd

    from task4_sed.inference.listener import Listener


def detect(
    recording: "str | Path | np.ndarray",
    model: "str | Path | Sequence[str | Path]",
    sample_rate: int | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Sound events in a recording of any length: {"onset", "offset", "event_label", "confidence"}, times in seconds.

    recording: a file of any rate and number of channels, or an array (samples,) with its `sample_rate` in Hz. The rest
    as of `load`. Raises UserError for a file that is not audio, too.
    """
    return load(model, **options).detect(recording, sample_rate)


def load(model: "str | Path | Sequence[str | Path]", device: str | None = None, **options: Any) -> "Listener":
    """A network, loaded once: its `detect(recording)` gives events, its `scores(recording)` a data frame of all frames.

    model: a published checkpoint ("BEATs_strong_1"), a run's folder, a checkpoint, a folder that `export` wrote, or
    "yamnet"; several are an ensemble. options: those of the verb `detect` that make events of scores: threshold, low,
    median, min_duration, gap, per_class, csebbs, top, labels, groups, hop, parity, start, end; and those that load the
    network: weights, mean, precision, threads.
    Raises UserError for an unknown model, one that is not on this machine, and options that make no sense.
    """
    from task4_sed.inference.detectors import loading_of
    from task4_sed.inference.listener import Listener
    from task4_sed.inference.options import LOADING, options_of

    how = loading_of({name: options.pop(name) for name in LOADING if name in options})
    return Listener(model, options_of(options), device, how)


def scores(path: str | Path) -> "dict[str, pd.DataFrame]":
    """Stored scores as score objects of sed_scores_eval: {clip: data frame of onset, offset and a column per class}.

    path: what `predict` stored (`run1/scores/devtest.h5`), or anybody's scores in a form that `evaluate --scores`
    takes. Times are seconds, scores 0 to 1. Raises UserError for anything else.
    """
    from task4_sed.inference.scores import as_objects, read_scores

    return as_objects(read_scores(path))


def evaluate(
    scores: "str | Path | Mapping[str, pd.DataFrame]", ground_truth: str | Path, durations: str | Path, **options: Any
) -> dict[str, Any]:
    """Every metric of scores, on disk or as score objects, against tables of labels and durations: a JSON-able mapping.

    options and result: as of `task4_sed.evaluation.evaluate.evaluate_files`. Raises UserError.
    """
    from task4_sed.evaluation.evaluate import evaluate_files

    return evaluate_files(scores, ground_truth, durations, **options)
