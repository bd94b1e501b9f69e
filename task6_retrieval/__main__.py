"""The verbs of Task 6: `python -m task6_retrieval VERB --help`."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from common.run.errors import UserError
from common.run.task_verbs import compare, export, measure_rates, pipeline, prepare_data, runs
from common.run.verbs import Run, Task, computes, main
from task6_retrieval.config import Config


def prepare(
    run: Run, verify: bool = False, from_table: Path | None = None, out: Path | None = None
) -> Mapping[str, Any]:
    """Check the data sets, say what is missing, and pack their audio; the toy recipe writes its data set first.

    With --from-table it writes a data set of the official layout out of own recordings instead.

    Args:
        verify: read every packed shard again and compare its SHA-256
        from_table: csv of own recordings: file, split (train, validation or test), caption (or caption_1, caption_2,
            ...) and, if you like, keywords
        out: where the data set made from a table goes

    Example:
        data.toy=null data.root=/path/to/clotho --verify
    """
    return prepare_data(run, verify, from_table, out)


@computes
def train(run: Run, restart: bool = False) -> Mapping[str, Any]:
    """Train a recipe; goes on by itself where an interrupted training stopped.

    Args:
        restart: begin anew, also where the folder holds a finished run or one with other settings

    Example:
        --recipe toy trainer.max_epochs=2
    """
    from common.run.results.runs import section_of
    from task6_retrieval.training.train import train_run

    train_run(run, restart)
    return section_of(run.folder, "train", "no finished training")


@computes
def tune(run: Run, trials: int = 30) -> Mapping[str, Any]:
    """Search for settings that validate best, in the space `tune:` of the recipe; goes on where a search stopped.

    Several processes, also on several machines with one disk, may work on one search: call it as often.

    Args:
        trials: so many in all, those that are there included

    Example:
        --recipe toy --trials 20
    """
    from task6_retrieval.training.tune import tune as search_settings

    if trials < 1:
        raise UserError(f"--trials is {trials}, expected at least 1")
    return search_settings(run, trials)


@computes
def predict(run: Run, sets: list[str] | None = None) -> Mapping[str, Any]:
    """Store the vectors of all clips and captions: of the validation and test set, and of the challenge's.

    Args:
        sets: other data sets; a run with those of its training sets can teach

    Example:
        --recipe toy --sets clotho_development
    """
    from common.run.files import alone
    from task6_retrieval.inference.predict import predict_run

    with alone(run.folder, "predict", run.folder):
        return predict_run(run, sets)


def evaluate(
    run: Run,
    scores: Path | None = None,
    ground_truth: Path | None = None,
    against: Path | None = None,
    no_plots: bool = False,
    ensemble: list[str] | None = None,
    weights: Annotated[list[float], ()] | None = None,
) -> Mapping[str, Any]:
    """Metrics of a run's stored vectors; with --scores of anybody's rankings or scores. Intervals are over clips.

    With --ensemble of the weighted mean of several systems' cosines, which becomes a run in --run-dir first.

    Args:
        scores: csv of the ten best files of each caption (2022 to 2024), or of the score of every file (2025)
        ground_truth: captions csv (file_name, caption_1, ...), or annotations (query, audio_filenames)
        against: csv of another system, to which the differences get intervals and p values
        no_plots: tables only
        ensemble: recipes or folders of runs; those of the same number are averaged
        weights: of each of them (default: equal); bare: those that are best on the validation set

    Example:
        --recipe toy --runs 1 2
    """
    if weights is not None and ensemble is None:
        raise UserError("evaluate: --weights goes with --ensemble")
    if scores is None:
        if ground_truth is not None or against is not None:
            raise UserError("evaluate: --ground-truth and --against go with --scores")
        from task6_retrieval.evaluation.report import evaluate_run

        if ensemble is not None:
            from task6_retrieval.inference.ensemble import join

            run = join(run, ensemble, weights)
        return evaluate_run(run, plots=not no_plots)
    if ensemble is not None:
        raise UserError("evaluate: either --scores or --ensemble")
    if ground_truth is None:
        raise UserError("evaluate --scores also needs --ground-truth")
    from task6_retrieval.evaluation.evaluate import evaluate_files, show

    result = evaluate_files(scores, ground_truth, against)
    show(result)
    return result


def complexity(run: Run) -> Mapping[str, Any]:
    """Parameters, bytes and MACs of a recipe's network, for one clip and one caption.

    Example:
        --recipe dcase2025 model.dim=512
    """
    from task6_retrieval.evaluation.complexity import complexity as measure

    return measure(run)


def captions(
    files: list[Path],
    annotations: Path | None = None,
    protocol: Literal["P1", "P2", "P3", "T1"] | None = None,
    normalise: bool = False,
    encoder: str = "all-MiniLM-L6-v2",
) -> Mapping[str, Any]:
    """How well captions of a clip find its other captions: a test of text encoder, ranking and metrics.

    Args:
        files: a captions csv (file_name, caption_1, ...)
        annotations: csv of queries with several relevant clips (query, audio_filenames): adds protocol P3
        protocol: whose figures come first in the JSON: P1 caption_1 asks, P2 every caption asks, P3 the annotated
            queries ask, T1 as P1 by TF-IDF (default: P1, with annotations P3)
        normalise: lower case without punctuation, instead of the captions as they are
        encoder: a text encoder of common.encoders by name, or a local folder of one

    Example:
        clotho_captions_evaluation.csv --protocol P2
    """
    from task6_retrieval.evaluation.captions import caption_figures, show

    def encode(sentences: Sequence[str]) -> Any:
        from common.encoders.text import create  # torch and the weights: seconds, after all files are read

        return create(encoder).encode(sentences)

    if len(files) != 1:
        raise UserError(f"captions: {len(files)} files, expected one captions csv")
    result = caption_figures(files[0], annotations, encode, protocol, normalise)
    show(result)
    return {**result, "encoder": encoder}


def package(
    runs: list[Run],
    out: Path | None = None,
    report: Path | None = None,
    edition: list[Literal["2022", "2023", "2024", "2025"]] | None = None,
    runs_of: list[str] | None = None,
    ensemble: list[str] | None = None,
) -> Mapping[str, Any]:
    """The challenge's archive, validated: of each run, training or ensemble, a system with its output and meta file.

    Args:
        out: the archive (default: <runs>/submission.zip)
        report: technical report (PDF) to include instead of a placeholder
        edition: whose form, of several an archive each (default: that of the recipe's label, the newest of its task)
        runs_of: recipes or run folders, each a system, in place of --runs
        ensemble: what the runs in --run-dir must be ensembles of, as `evaluate --ensemble` was told

    Example:
        --recipe toy --edition 2024 --out entry.zip
    """
    from task6_retrieval.submission.package import package_runs

    return package_runs(runs, out, report, [int(year) for year in edition or ()], runs_of or (), ensemble or ())


def validate(
    run: Run,
    files: list[Path],
    edition: Literal["2022", "2023", "2024", "2025"] = "2025",
    queries: Path | None = None,
    clips: Path | None = None,
) -> Mapping[str, Any]:
    """Check anybody's archive or output for the challenge: every broken rule with file and line.

    Args:
        files: archives (.zip, .tar, .tar.gz) or unpacked folders; or single outputs: csv of the ten best files of
            each caption (2022 to 2024), or of the score of every file (2025)
        edition: whose form
        queries: the captions in their order: csv with a column caption, or a captions csv (default: those of
            data.challenge, or of the evaluation set beside the data; else the recipe's test set)
        clips: the files that are ranked: a folder of audio, or a csv with a column file_name (default: as queries)

    Example:
        output.csv --edition 2024 --queries retrieval_captions.csv --clips retrieval_audio
    """
    from task6_retrieval.submission.validate import validate_outputs

    return validate_outputs(run, files, int(edition), queries, clips)


@computes
def benchmark(
    run: Run,
    seconds: float = 10.0,
    metrics: bool = False,
    queries: int = 100_000,
    clips: int = 1_000_000,
    dim: int = 16,
) -> Mapping[str, Any]:
    """Clips a second: decoding, both encoders, a training step in memory, whole training.

    Args:
        seconds: how long each stage is measured
        metrics: time and memory of ranking at scale instead, on synthetic embeddings
        queries: of --metrics, how many
        clips: of --metrics, how many
        dim: of --metrics, of the embeddings

    Example:
        --recipe toy --seconds 5
    """
    if min(queries, clips, dim) < 1:
        raise UserError("benchmark: --queries, --clips and --dim are at least 1")
    if metrics:
        from task6_retrieval.evaluation.benchmark_metrics import ranking_at_scale, show

        result = ranking_at_scale(queries, clips, dim)
        show(result)
        return result
    return measure_rates(run, seconds)


def index(
    run: Run | None,
    files: list[Path],
    checkpoint: Path | None = None,
    index: Path | None = None,
    approximate: bool = False,
) -> Mapping[str, Any]:
    """Hear a folder of recordings once, for `search`; again later: only what is new or changed is heard.

    Without --recipe and --checkpoint the tags of YAMNet answer: nothing is trained.

    Args:
        files: the folder
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
    from task6_retrieval.inference.search import encoder_of

    return index_library(existing_folder(files[0]), encoder_of(run, checkpoint), index, approximate)


@computes
def search(
    run: Run | None,
    files: list[Path],
    library: Path | None = None,
    like: Path | None = None,
    best: int = 10,
    below: str | None = None,
    checkpoint: Path | None = None,
    index: Path | None = None,
) -> Mapping[str, Any]:
    """The recordings of an indexed folder that fit a sentence, or sound like another recording.

    Args:
        files: sentences, each in quotes
        library: the folder that `index` heard
        like: a recording in place of sentences
        best: how many recordings are shown
        below: a folder in the library, to which the answer keeps
        checkpoint: as `index` had it
        index: where `index` kept what it heard (default: .dcase-index in the library)

    Example:
        "a dog barks far away" --library recordings
    """
    if library is None:
        raise UserError("search: --library names the folder of recordings")
    if bool(files) == (like is not None):
        raise UserError('search: a sentence ("a dog barks"), or --like RECORDING')
    from common.run.files import existing_folder
    from common.search.library import search_library
    from task6_retrieval.inference.search import encoder_of

    at, encoder, sounds = existing_folder(library), encoder_of(run, checkpoint), [] if like is None else [like]
    return search_library(at, encoder, index, best, below, [str(word) for word in files], sounds)


@computes
def demo(
    run: Run | None,
    library: Path | None = None,
    checkpoint: Path | None = None,
    tags: bool = False,
    index: Path | None = None,
    labelled: Path | None = None,
    port: int = 7860,
    host: str = "127.0.0.1",
) -> None:
    """A page on this machine: search recordings by sentence or sound, see and play them; Ctrl-C ends it.

    The network of --recipe or --checkpoint answers, without them the tags of YAMNet. Without --library the test clips
    of the embedded data set are searched, by recipe toy where it is trained.

    Args:
        library: folder of recordings
        checkpoint: a training's best.ckpt or last.ckpt, in place of --recipe
        tags: the tags of YAMNet answer, too: the page switches between them and the network
        index: where what was heard is kept (default: .dcase-index in the library)
        labelled: folder as of ESC-50, on which the models are measured first; the page says how good they are
        port: of the page; 0 takes a free one
        host: another address lets others on the network hear the library

    Example:
        --library recordings
    """
    from common.run.files import existing_folder
    from common.run.verbs import open_run
    from common.search.page import serve
    from task6_retrieval.evaluation.demo import page, toy_clips, trained_or_none
    from task6_retrieval.inference.search import encoder_of

    toy = run or open_run(TASK, TASK.default_recipe)
    at = existing_folder(library) if library else toy_clips(toy.config)
    if library is None and run is None and checkpoint is None:
        run = trained_or_none(toy)
    encoders = [encoder_of(run, checkpoint)]
    if tags and (run or checkpoint):
        encoders.append(encoder_of(None, None))
    serve(lambda: page(at, encoders, index, labelled, host), host, port)


TASK = Task(
    "task6_retrieval",
    "Task 6: language-based audio retrieval (DCASE 2022 to 2025)",
    Config,
    (
        prepare,
        train,
        tune,
        predict,
        evaluate,
        compare,
        runs,
        pipeline,
        package,
        validate,
        captions,
        index,
        search,
        demo,
        complexity,
        export,
        benchmark,
    ),
)


def console() -> int:
    """The command `task6_retrieval` of an installed package."""
    return main(TASK)


if __name__ == "__main__":
    sys.exit(console())
