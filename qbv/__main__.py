"""The verbs of query by vocal imitation: `python -m qbv VERB --help`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from common.run import task_verbs
from common.run.errors import UserError
from common.run.task_verbs import compare, measure_rates, package, prepare_data, runs
from common.run.verbs import Run, Task, computes, main
from qbv.config import Config, chosen_parts, part_of


def prepare(
    run: Run,
    verify: bool = False,
    splits: Path | None = None,
    check: bool = False,
    imitate: Path | None = None,
    out: Path | None = None,
) -> Mapping[str, Any]:
    """Check the data sets and split files, say what is missing, and pack the audio; toy recipes write their data first.

    Args:
        verify: read every packed shard again and compare its SHA-256
        splits: split files: a folder of folds, of one fold, of the fine protocol, or with folders of these (default:
            those of the recipe)
        check: count over the split files alone and check them against each other; needs no audio
        imitate: render the recordings of this folder (as of ESC-50) as if through a voice, for `search` and `evaluate`
        out: folder of these renderings

    Example:
        --splits data/qbv/toy/splits --check
    """
    if check:
        from qbv.data.prepare import show_splits
        from qbv.data.sets import splits_folder

        return show_splits(splits or splits_folder(run.config.data))
    if (imitate is None) != (out is None):
        raise UserError("prepare: --imitate FOLDER and --out DIR go together")
    if imitate is not None and out is not None:
        from qbv.data.renderings import render

        return render(imitate, out, run.seed)
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
        folds: of the recipe, these alone
        jobs: trainings at once, each in a process of its own (default: one)

    Example:
        --recipe toy trainer.max_epochs=2 'data.folds=[0]'
    """
    from common.run.processes import check_jobs

    check_jobs(jobs)
    chosen_parts(run, folds)
    from qbv.training.train import train_run

    return train_run(run, restart, folds, jobs or 1)


@computes
def predict(
    run: Run, files: list[Path], library: Path | None = None, fold: int | None = None, out: Path | None = None
) -> Mapping[str, Any]:
    """Similarities of all test queries and recordings; or of any imitations and a folder of recordings.

    Without files the trained networks and the systems beside them judge the recipe's test sets. Named files may have
    any length, rate and number of channels; each gets a table (.tsv) and .json in --out.

    Args:
        files: imitations, audio files or folders; none: the recipe's test sets
        library: folder of the recordings that named files are compared with
        fold: of a coarse recipe, whose network hears named files (default: that of the first fold)
        out: folder for the similarities of named files (default: predictions)

    Example:
        imitation.wav --library recordings --out found
    """
    from common.audio.answers import out_folder
    from common.run.files import alone, existing_folder

    folder, part = out_folder(files, out), part_of(run, fold)
    if not files and (library is not None or fold is not None):
        raise UserError("predict: --library and --fold go with named files")
    if files:
        if library is None:
            raise UserError("predict FILES: --library names the folder of recordings")
        existing_folder(library, "folder of recordings")
        from qbv.inference.files import predict_files

        return predict_files(part, files, library, folder)
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
def benchmark(run: Run, seconds: float = 10.0, library: int = 10_000) -> Mapping[str, Any]:
    """Pairs a second: packed audio, a training step in memory, whole training; sounds a second of every system.

    And the time from an imitation's file to its ranked list.

    Args:
        seconds: how long each stage is measured
        library: how many recordings are ranked

    Example:
        --seconds 5 data.batch=64
    """
    return measure_rates(run, seconds, library=library)


def index(
    run: Run | None,
    files: list[Path],
    system: Literal["trained", "frozen", "2dft", "m-vggish", "yamnet", "random"] | None = None,
    checkpoint: Path | None = None,
    index: Path | None = None,
    approximate: bool = False,
) -> Mapping[str, Any]:
    """Hear a folder of recordings once, for `search`; again later: only what is new or changed is heard.

    Without --recipe, --system and --checkpoint YAMNet answers: nothing is trained.

    Args:
        files: the folder
        system: what answers (default: the network of --recipe, else yamnet); frozen: the encoder as pre-trained
        checkpoint: a training's best.ckpt or last.ckpt, in place of --recipe
        index: where what was heard is kept (default: .dcase-index in the folder)
        approximate: make a graph of near neighbours, too, for libraries of millions

    Example:
        recordings
    """
    if len(files) != 1:
        raise UserError(f"index: {len(files)} folders, expected one")
    from common.run.files import existing_folder
    from common.search.library import index_library
    from qbv.inference.search import encoder_of

    return index_library(existing_folder(files[0]), encoder_of(run, checkpoint, system), index, approximate)


@computes
def search(
    run: Run | None,
    files: list[Path],
    library: Path | None = None,
    best: int = 10,
    below: str | None = None,
    system: Literal["trained", "frozen", "2dft", "m-vggish", "yamnet", "random"] | None = None,
    checkpoint: Path | None = None,
    index: Path | None = None,
    out: Path | None = None,
) -> Mapping[str, Any]:
    """The recordings of an indexed folder that fit a vocal imitation.

    Args:
        files: recordings of a voice, each an imitation
        library: the folder that `index` heard
        best: how many recordings are shown
        below: a folder in the library, to which the answer keeps
        system: as `index` had it
        checkpoint: as `index` had it
        index: where `index` kept what it heard (default: .dcase-index in the library)
        out: in place of lists, all similarities in this file (.npz), for `evaluate --scores`

    Example:
        imitation.wav --library recordings
    """
    if library is None:
        raise UserError("search: --library names the folder of recordings")
    if not files:
        raise UserError("search: no imitation, expected a recording of a voice")
    from common.run.files import existing_folder
    from common.search.library import search_library
    from qbv.inference.search import encoder_of, store_similarities

    at, encoder = existing_folder(library), encoder_of(run, checkpoint, system)
    if out is not None:
        return store_similarities(at, encoder, index, files, out)
    return search_library(at, encoder, index, best, below, sounds=files)


@computes
def demo(
    run: Run | None,
    library: Path | None = None,
    systems: list[str] | None = None,
    index: Path | None = None,
    port: int = 7860,
    host: str = "127.0.0.1",
) -> None:
    """A page on this machine: imitate a sound, see and play the recordings that fit; Ctrl-C ends it.

    Without --library the recordings of the embedded data set are searched.

    Args:
        library: folder of recordings
        systems: those that the page switches between (default: trained where recipe toy or --recipe is, yamnet, 2dft,
            and frozen where its checkpoint is at hand)
        index: where what was heard is kept (default: .dcase-index in the library)
        port: of the page; 0 takes a free one
        host: another address lets others on the network hear the library

    Example:
        --library recordings
    """
    from common.run.files import existing_folder
    from common.run.verbs import open_run
    from common.search.page import serve
    from qbv.evaluation.demo import encoders, page, toy_recordings

    toy = run or open_run(TASK, TASK.default_recipe)
    at = existing_folder(library) if library else toy_recordings(toy.config)
    answering = encoders(run, toy, systems)
    serve(lambda: page(at, answering, index, host), host, port)


def export(
    run: Run,
    fold: int | None = None,
    out: Path | None = None,
    licence: str | None = None,
    push: str | None = None,
    public: bool = False,
) -> Mapping[str, Any]:
    """A trained network as a folder for others: weights, a card, both encoders as ONNX; also on the Hugging Face Hub.

    Args:
        fold: of a coarse recipe, whose network (default: that of the first fold)
        out: the folder (default: <training>/export)
        licence: of the weights, as the Hub spells it (cc-by-4.0)
        push: OWNER/NAME on the Hub, to upload it there, private
        public: with --push, where all may see it

    Example:
        --licence cc-by-4.0 --out my-encoders
    """
    return task_verbs.export(part_of(run, fold), out, licence, push, public)


def validate(
    run: Run, files: list[Path], ground_truth: Path | None = None, template: Path | None = None
) -> Mapping[str, Any]:
    """Check anybody's archive, notebook or similarities for QVIM 2025: every broken rule with file and cell.

    Args:
        files: archives (.zip, .tar, .tar.gz) or unpacked folders; or single .ipynb and .json files
        ground_truth: csv of query, item and concept (default: the recipe's data.qvim, where it is there)
        template: the organisers' notebook, whose other cells must stand unchanged

    Example:
        team_1.ipynb --template template.ipynb
    """
    from qbv.submission.validate import validate_files

    return validate_files(run, files, ground_truth, template)


TASK = Task(
    "qbv",
    "query by vocal imitation: recordings found by voice (DCASE Workshop 2024, AES AIMLA QVIM 2025)",
    Config,
    (
        *(prepare, train, predict, evaluate, compare, runs, package, validate),
        *(index, search, demo, complexity, export, benchmark),
    ),
)


def console() -> int:
    """The command `qbv` of an installed package."""
    return main(TASK)


if __name__ == "__main__":
    sys.exit(console())
