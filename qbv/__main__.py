"""The verbs of query by vocal imitation: `python -m qbv VERB --help`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from common.run.errors import UserError
from common.run.task_verbs import compare, measure_rates, prepare_data, runs
from common.run.verbs import Run, Task, computes, main
from qbv.config import Config


def prepare(run: Run, verify: bool = False, splits: Path | None = None, check: bool = False) -> Mapping[str, Any]:
    """Check the data sets and split files, say what is missing, and pack the audio; toy recipes write their data first.

    Args:
        verify: read every packed shard again and compare its SHA-256
        splits: split files: a folder of folds, of one fold, of the fine protocol, or with folders of these (default:
            those of the recipe)
        check: count over the split files alone and check them against each other; needs no audio

    Example:
        --splits data/qbv/toy/splits --check
    """
    if check:
        from qbv.data.prepare import show_splits
        from qbv.data.sets import splits_folder

        return show_splits(splits or splits_folder(run.config.data))
    if splits is not None:
        raise UserError("prepare: --splits goes with --check; data.splits=DIR sets those of a recipe")
    return prepare_data(run, verify)


@computes
def train(
    run: Run, restart: bool = False, jobs: int | None = None, folds: list[int] | None = None
) -> Mapping[str, Any]:
    """Train a recipe, one network per fold; goes on by itself where an interrupted training stopped.

    Args:
        restart: begin anew, also where the folder holds a finished run or one with other settings
        folds: these folds of the recipe alone, e.g. --folds 0 1
        jobs: trainings at once, each in a process of its own (default: one)

    Example:
        --recipe toy trainer.max_epochs=2 'data.folds=[0]'
    """
    from common.run.processes import check_jobs

    check_jobs(jobs)
    from qbv.training.train import train_run

    return train_run(run, restart, folds, jobs or 1)


@computes
def predict(run: Run) -> Mapping[str, Any]:
    """Similarities of all test queries and recordings, by the trained networks and the systems beside them.

    Example:
        --recipe toy 'comparison.systems=[trained, 2dft]'
    """
    from common.run.files import alone
    from qbv.inference.predict import predict_run

    with alone(run.folder, "predict", run.folder):
        return predict_run(run)


def evaluate(
    run: Run,
    scores: list[Path] | None = None,
    ground_truth: Path | None = None,
    within: bool = False,
    group: Literal["concept", "imitator"] = "concept",
    out: Path | None = None,
    no_plots: bool = False,
) -> Mapping[str, Any]:
    """MRR, R@1, R@2 and NDCG of a run's similarities; with --scores of anybody's similarities or embeddings.

    Args:
        scores: similarities (.npz, .csv or .json as of QVIM), or embeddings (.npz) compared by cosine
        ground_truth: csv of query, item, concept and, where known, imitator; a line without query names a further item
        within: rank each query among the items of the right one's concept (the fine protocol)
        group: what intervals draw with all of its queries
        out: folder for the results of --scores
        no_plots: tables only

    Example:
        --recipe toy --runs 1
    """
    if scores is None:
        if ground_truth is not None or out is not None or within or group != "concept":
            raise UserError("evaluate: --ground-truth, --within, --group and --out go with --scores")
        from qbv.evaluation.report import evaluate_run

        return evaluate_run(run, plots=not no_plots)
    if ground_truth is None:
        raise UserError("evaluate --scores also needs --ground-truth")
    from qbv.evaluation.evaluate import evaluate_files

    return evaluate_files(scores, ground_truth, within, group, out)


def complexity(run: Run) -> Mapping[str, Any]:
    """Parameters, bytes and MACs of a recipe's encoders, for one sound.

    Example:
        --recipe coarse model.encoder=mn04
    """
    from qbv.evaluation.benchmark import complexity as measure

    return measure(run)


@computes
def benchmark(run: Run, seconds: float = 10.0) -> Mapping[str, Any]:
    """Pairs a second: packed audio, a training step in memory, whole training; sounds a second of every system.

    Args:
        seconds: how long each stage is measured

    Example:
        --seconds 5 data.batch=64
    """
    return measure_rates(run, seconds)


TASK = Task(
    "qbv",
    "query by vocal imitation: recordings found by voice (DCASE Workshop 2024, AES AIMLA QVIM 2025)",
    Config,
    (prepare, train, predict, evaluate, compare, runs, complexity, benchmark),
)


def console() -> int:
    """The command `qbv` of an installed package."""
    return main(TASK)


if __name__ == "__main__":
    sys.exit(console())
