"""DCASE 2024 Task 4: sound event detection with heterogeneous labels (DESED and MAESTRO)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import pandas as pd


def detect(
    recording: "str | Path | np.ndarray",
    checkpoint: str | Path,
    sample_rate: int | None = None,
    threshold: float = 0.5,
    csebbs: str | None = None,
) -> list[dict[str, Any]]:
    """Sound events in a recording of any length: {"onset", "offset", "event_label", "confidence"}, times in seconds.

    recording: a file of any rate and number of channels, or an array (samples,) with its `sample_rate` in Hz.
    checkpoint: of a training, or a folder that `export` wrote.
    threshold: least confidence, 0 to 1. csebbs: parameters of the bounding boxes as in `predict --csebbs`; None: those
    tuned for the run that the checkpoint lies in, else the default.
    Raises UserError for a file that is not audio, and a checkpoint that is none.
    """
    from task4_sed.inference.detect import detect_in

    return detect_in(recording, checkpoint, sample_rate, threshold, csebbs)


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
