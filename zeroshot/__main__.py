"""The verbs of zero-shot tagging: `python -m zeroshot VERB --help`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.run.errors import UserError
from common.run.files import alone
from common.run.task_verbs import compare, measure_rates, prepare_data, runs
from common.run.verbs import Run, Task, computes, main
from zeroshot.config import Config

if TYPE_CHECKING:
    from zeroshot.data.texts import Texts


def prepare(run: Run, verify: bool = False) -> Mapping[str, Any]:
    """Check the data set, say what is missing, and pack its audio; the toy recipe writes its data set first.

    Args:
        verify: read every packed shard again and compare its SHA-256

    Example:
        --recipe esc50_folds data.root=/path/to/esc50 --verify
    """
    return prepare_data(run, verify)


@computes
def train(run: Run, restart: bool = False) -> Mapping[str, Any]:
    """Train a recipe, one network per class split; goes on by itself where an interrupted training stopped.

    Args:
        restart: begin anew, also where the folder holds a finished run or one with other settings

    Example:
        --recipe toy trainer.max_epochs=2 'split.only=[near]'
    """
    from zeroshot.training.train import train_run

    return train_run(run, restart)


@computes
def predict(
    run: Run,
    files: list[Path],
    classes: str | None = None,
    classes_file: Path | None = None,
    split: str | None = None,
    checkpoint: Path | None = None,
    out: Path | None = None,
) -> Mapping[str, Any]:
    """Scores of every split's network on its unseen classes; or the classes of any audio files and folders.

    Named files may have any length, rate and number of channels. Without --split and --checkpoint no trained network is
    asked, but the encoders that the environment carries (yamnet's tags and a sentence encoder). Each file gets a table
    (.tsv), .json and a picture (.png) in --out.

    Args:
        files: audio files or folders; none: the recipe's test sets
        classes: names or descriptions, separated by commas
        classes_file: yaml or csv file of classes with any number of descriptions each
        split: the class split of the recipe's run whose network judges named files
        checkpoint: a checkpoint of any run whose network judges named files
        out: folder for the classes of named files (default: predictions)

    Example:
        recording.wav --classes "dog bark, rain" --out found
    """
    from common.audio.answers import out_folder

    folder, texts = out_folder(files, out), _texts(classes, classes_file)
    if not files and any(value is not None for value in (texts, split, checkpoint)):
        raise UserError("predict: --classes, --classes-file, --split and --checkpoint go with named files")
    if split is not None and checkpoint is not None:
        raise UserError("predict: --split or --checkpoint, not both")
    if files and texts is None:
        raise UserError("predict FILES: --classes or --classes-file says which classes")
    from zeroshot.inference import predict as room

    if texts is None:
        with alone(run.folder, "predict", run.folder):
            return room.predict_run(run)
    from zeroshot.evaluation.plots import draw_ranking
    from zeroshot.inference.checkpoints import load_file, load_split

    trained = load_split(run, split) if split is not None else load_file(checkpoint) if checkpoint else None
    return room.predict_files(room.predictor_of(texts, run.config.texts, trained), files, folder, draw_ranking)


def _texts(classes: str | None, classes_file: Path | None) -> "Texts | None":
    """What a person gave of classes; None: nothing."""
    from zeroshot.data.texts import read_texts, texts_of_names

    if classes is not None and classes_file is not None:
        raise UserError("--classes or --classes-file, not both")
    if classes is not None:
        return texts_of_names(classes)
    return None if classes_file is None else read_texts(classes_file)


def evaluate(
    run: Run,
    scores: list[Path] | None = None,
    ground_truth: Path | None = None,
    out: Path | None = None,
    no_plots: bool = False,
) -> Mapping[str, Any]:
    """Metrics of a run's stored scores with controls; with --scores of anybody's files of clip, class, score.

    Args:
        scores: csv files with the columns clip, class, score
        ground_truth: table of filename and category (ESC-50), or of clip, class and, where not all is judged, value
        out: folder for the results and plots of --scores
        no_plots: tables only

    Example:
        --recipe toy --runs 1 2
    """
    from zeroshot.evaluation.evaluate import evaluate_files
    from zeroshot.evaluation.report import evaluate_run

    if scores is None:
        if ground_truth is not None or out is not None:
            raise UserError("evaluate: --ground-truth and --out go with --scores")
        return evaluate_run(run, plots=not no_plots)
    if ground_truth is None:
        raise UserError("evaluate --scores also needs --ground-truth")
    return evaluate_files(scores, ground_truth, None if no_plots else out)


def distance(
    runs: list[Run], also: list[str] | None = None, classes: str | None = None, classes_file: Path | None = None
) -> Mapping[str, Any]:
    """How quality falls with the semantic distance between test and training classes: plot, rank correlation.

    Args:
        also: recipes whose evaluated runs add their classes
        classes: own classes, separated by commas: their distance and what to expect of them
        classes_file: the same as a yaml or csv file

    Example:
        --recipe toy --classes "a low hum, a rising whistle"
    """
    from zeroshot.evaluation.distance import distance_runs

    return distance_runs(runs, also or (), _texts(classes, classes_file))


def complexity(run: Run) -> Mapping[str, Any]:
    """Parameters, bytes and MACs of a recipe's network, for one clip and one class.

    Example:
        --recipe esc50_cnn14 model.dim=256
    """
    from zeroshot.evaluation.benchmark import complexity as measure

    return measure(run)


@computes
def benchmark(run: Run, seconds: float = 10.0) -> Mapping[str, Any]:
    """Clips a second: packed audio and files, embeddings, a training step in memory, whole training.

    Args:
        seconds: how long each stage is measured

    Example:
        --seconds 5 data.batch=64
    """
    return measure_rates(run, seconds)


TASK = Task(
    "zeroshot",
    "zero-shot audio tagging and classification by class descriptions (EUSIPCO 2022)",
    Config,
    (prepare, train, predict, evaluate, compare, runs, distance, complexity, benchmark),
)


def console() -> int:
    """The command `zeroshot` of an installed package."""
    return main(TASK)


if __name__ == "__main__":
    sys.exit(console())
