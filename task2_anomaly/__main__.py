"""The verbs of Task 2: `python -m task2_anomaly VERB --help`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from common.run.errors import UserError
from common.run.files import alone
from common.run.processes import check_jobs
from common.run.task_verbs import compare, measure_rates, package, prepare_data, runs
from common.run.verbs import Run, Task, computes, main
from task2_anomaly.config import Config


def prepare(
    run: Run,
    verify: bool = False,
    download: Annotated[list[str], ()] | None = None,
    from_table: Path | None = None,
    out: Path | None = None,
) -> Mapping[str, Any]:
    """Check the data set, say what is missing, and pack its audio; the toy recipe writes its data set first.

    With --from-table it writes a data set of the official layout out of own recordings instead.

    Args:
        verify: read every packed shard again and compare its SHA-256
        download: fetch data sets into data.root instead (NAME or NAME/FILE); bare: what there is to fetch
        from_table: csv of own recordings: file, machine, id (or section and domain), split (train or test), label
        out: where the data set made from a table goes

    Example:
        --recipe challenge data.root=/path/to/data --verify
    """
    if download is not None:
        from common.audio.downloads import download as fetch_named

        return fetch_named(Path(__file__).with_name("downloads.csv"), download, run.config.data, "challenge")
    return prepare_data(run, verify, from_table, out)


@computes
def train(run: Run, jobs: int | None = None, restart: bool = False) -> Mapping[str, Any]:
    """Train a recipe, one network per machine, several at once; goes on where an interrupted training stopped.

    Args:
        jobs: trainings at once (default: one per core, or four per GPU)
        restart: begin anew, also where the folder holds a finished run or one with other settings

    Example:
        --recipe toy "data.machines=[fan]" --jobs 2
    """
    check_jobs(jobs)
    from task2_anomaly.training.train import train_run

    return train_run(run, jobs, restart)


@computes
def predict(run: Run, files: list[Path], machine: str | None = None, out: Path | None = None) -> Mapping[str, Any]:
    """Score files and decisions of the test sets; or score and decision for any recordings of one machine.

    Named files may have any length, rate and number of channels; two minutes and more are scored minute by minute. Each
    gets a table (.tsv) and .json in --out, all of them score and decision files in --out/scores.

    Args:
        files: audio files or folders; none: the data set's test clips
        machine: whose recordings the named files are, e.g. fan_id_00
        out: folder for the scores of named files (default: predictions)

    Example:
        recording.wav --machine fan_id_00 --out found
    """
    from common.audio.answers import out_folder

    folder = out_folder(files, out)
    if files and machine is None:
        raise UserError("predict FILES needs --machine, e.g. --machine fan_id_00: every network knows one machine")
    if machine is not None and not files:
        raise UserError(
            "predict: --machine goes with named files; data.machines=[...] chooses machines of the data set"
        )
    from task2_anomaly.inference.predict import predict_files, predict_run

    if machine is not None:
        return predict_files(run, files, machine, folder)
    with alone(run.folder, "predict", run.folder):
        return predict_run(run)


def evaluate(
    run: Run,
    scores: list[Path] | None = None,
    ground_truth: Path | None = None,
    out: Path | None = None,
    no_plots: bool = False,
) -> Mapping[str, Any]:
    """Metrics of a run's score files; with --scores of anybody's, of 2020 or of a first-shot edition.

    Args:
        scores: folder of score files; several folders: how they rank
        ground_truth: eval_data_list.csv of 2020, or the folder with ground_truth_data and ground_truth_domain
        out: the official result file to write
        no_plots: tables only

    Example:
        --recipe toy --runs 1 2
    """
    if scores is None:
        from task2_anomaly.evaluation.report import evaluate_run

        if ground_truth is not None or out is not None:
            raise UserError("evaluate: --ground-truth and --out go with --scores")
        return evaluate_run(run, plots=not no_plots)
    from task2_anomaly.evaluation.evaluate import evaluate_files, rank_systems

    if ground_truth is None:
        raise UserError("evaluate --scores also needs --ground-truth")
    if len(scores) > 1:
        return rank_systems(scores, ground_truth, out)
    return evaluate_files(scores[0], ground_truth, out)


def ensemble(
    run: Run, files: list[Path], out: Path, method: Literal["median", "mean", "rank", "zscore"] = "median"
) -> Mapping[str, Any]:
    """Combine score files of several systems, clip by clip.

    Args:
        files: two or more folders of score files, or run folders (all test sets, and decisions)
        out: the new folder; of runs: a run folder too, such as runs/task2_anomaly/NAME/run1
        method: zscore standardises by held-out normal training clips; rank uses the test set, which the rules forbid

    Example:
        runs/task2_anomaly/toy/run1 runs/task2_anomaly/toy/run2 --out runs/task2_anomaly/both/run1
    """
    from task2_anomaly.inference.ensemble import combine_scores

    return combine_scores(files, out, method, run.config.scoring.decision_quantile)


def validate(
    run: Run,
    files: list[Path],
    edition: Literal["2020", "first-shot"] | None = None,
    measure: Literal["challenge", "recipe"] | None = None,
) -> Mapping[str, Any]:
    """Check anybody's submission: every broken rule with file and line.

    Args:
        files: archives (.zip) or unpacked folders
        edition: default: the recipe's
        measure: by the challenge's evaluation set, or that of the recipe's data (default: for archives of toy runs)

    Example:
        submission.zip --edition 2020
    """
    from task2_anomaly.submission.validate import validate_archives

    return validate_archives(run, files, edition, measure=measure)


def export(
    run: Run,
    machine: str | None = None,
    out: Path | None = None,
    licence: str | None = None,
    push: str | None = None,
    public: bool = False,
) -> Mapping[str, Any]:
    """What judges a machine as a folder for others: weights, threshold, figures, a card; also on the Hugging Face Hub.

    Args:
        machine: whose network, e.g. fan_id_00
        out: the folder (default: <run>/export/<machine>)
        licence: of the weights, as the Hub spells it (cc-by-4.0)
        push: OWNER/NAME on the Hub, to upload it there, private
        public: with --push, where all may see it

    Example:
        --machine fan_id_00 --licence cc-by-4.0
    """
    from common.run.export import check_export

    check_export(out or run.folder / "export" / str(machine), push, public)
    from task2_anomaly.inference.predict import export_machine

    return export_machine(run, machine, out, licence, push, public)


@computes
def grid(
    run: Run,
    studies: list[Literal["proxies", "outside", "amounts", "blurs", "autoencoder"]] | None = None,
    seeds: list[int] | None = None,
    amounts: list[int] | None = None,
    jobs: int | None = None,
) -> Mapping[str, Any]:
    """The workshop's study of proxy sets; what is done already is not done again.

    Args:
        studies: which parts of it (default: proxies)
        seeds: default: the paper's three
        amounts: proxy clips of the study of amounts (default: the paper's)
        jobs: trainings at once (default: one per core, or four per GPU)

    Example:
        --recipe toy --studies proxies outside --seeds 1 2
    """
    check_jobs(jobs)
    from task2_anomaly.studies import grid as study

    cells = study.cells(studies or ["proxies"], amounts or study.AMOUNTS)
    return study.run_grid(run, cells, seeds or study.SEEDS, jobs)


def complexity(run: Run) -> Mapping[str, Any]:
    """Parameters and MACs of the recipe's network, for one snippet.

    Example:
        --recipe variant_01
    """
    from task2_anomaly.evaluation.complexity import network_complexity

    return network_complexity(run)


@computes
def benchmark(run: Run, seconds: float = 10.0) -> Mapping[str, Any]:
    """Rates: front end, training step, trainings one by one and at once, scoring with and without shared windows.

    Args:
        seconds: how long each stage is measured

    Example:
        --seconds 5
    """
    return measure_rates(run, seconds)


VERBS = (
    *(prepare, train, predict, evaluate, ensemble, package, validate, compare, runs, grid, complexity, export),
    benchmark,
)
TASK = Task("task2_anomaly", "anomalous sound detection, DCASE 2020 Task 2 and first-shot editions", Config, VERBS)


def console() -> int:
    """The command `task2_anomaly` of an installed package."""
    return main(TASK)


if __name__ == "__main__":
    sys.exit(console())
