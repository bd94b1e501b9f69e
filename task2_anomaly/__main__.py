"""The verbs of Task 2: `python -m task2_anomaly VERB --help`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from common.run.errors import UserError
from common.run.files import alone
from common.run.verbs import Run, Task, main
from task2_anomaly.config import Config


def prepare(run: Run, verify: bool = False) -> Mapping[str, Any]:
    """Check the data set, say what is missing, and pack its audio; the toy recipe writes its data set first.

    Args:
        verify: read every packed shard again and compare its SHA-256
    """
    from common.run.files import write_json
    from common.run.processes import usable_cores
    from task2_anomaly.data.prepare import prepare as check_and_pack
    from task2_anomaly.data.prepare import write_toy_data

    write_toy_data(run.config.data)
    summary = check_and_pack(run.config, workers=usable_cores(), verify=verify)
    write_json(run.folder.parent / "coverage.json", summary)
    return summary


def train(run: Run, jobs: int | None = None, restart: bool = False) -> Mapping[str, Any]:
    """Train a recipe, one network per machine, several at once; goes on where an interrupted training stopped.

    Args:
        jobs: trainings at once (default: one per core, or four per GPU)
        restart: begin anew, also where the folder holds a finished run or one with other settings
    """
    from task2_anomaly.training.train import train_run

    return train_run(run, jobs, restart)


def predict(run: Run, files: list[Path], machine: str | None = None) -> Mapping[str, Any]:
    """Score files and decisions of the test sets; or score and decision for any recordings of one machine.

    Named files may have any length, rate and number of channels; two minutes and more are scored minute by minute.

    Args:
        files: audio files or folders; none: the data set's test clips
        machine: whose recordings the named files are, e.g. fan_id_00
    """
    from task2_anomaly.inference.predict import predict_files, predict_run

    if files:
        return predict_files(run, files, machine)
    if machine is not None:
        raise UserError(
            "predict: --machine goes with named files; data.machines=[...] chooses machines of the data set"
        )
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
    """
    from task2_anomaly.inference.ensemble import combine_scores

    return combine_scores(files, out, method, run.config.scoring.decision_quantile)


def package(runs: list[Run], out: Path | None = None, report: Path | None = None) -> Mapping[str, Any]:
    """The challenge's archive from stored scores, validated: one system for each of the runs (at most four).

    Args:
        out: the archive (default: <runs>/submission.zip)
        report: technical report (PDF) to include instead of a placeholder
    """
    from task2_anomaly.submission.package import package_runs

    return package_runs(runs, out, report)


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
    """
    from task2_anomaly.submission.validate import validate_archives

    return validate_archives(run, files, edition, measure=measure)


def compare(runs: list[Run]) -> Mapping[str, Any]:
    """Own results beside the published ones, over the runs given."""
    from task2_anomaly.evaluation.report import compare_runs

    return compare_runs(runs)


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
    """
    from common.run.export import check_export

    check_export(out or run.folder / "export" / str(machine), push, public)
    from task2_anomaly.inference.predict import export_machine

    return export_machine(run, machine, out, licence, push, public)


def grid(
    run: Run,
    studies: list[str] | None = None,
    seeds: list[int] | None = None,
    amounts: list[int] | None = None,
    jobs: int | None = None,
) -> Mapping[str, Any]:
    """The workshop's study of proxy sets; what is done already is not done again.

    Args:
        studies: of proxies, outside, amounts, blurs, autoencoder (default: proxies)
        seeds: default: the paper's three
        amounts: proxy clips of the study of amounts (default: the paper's)
        jobs: trainings at once (default: one per core, or four per GPU)
    """
    from task2_anomaly.studies import grid as study

    cells = study.cells(studies or ["proxies"], amounts or study.AMOUNTS)
    return study.run_grid(run, cells, seeds or study.SEEDS, jobs)


def complexity(run: Run) -> Mapping[str, Any]:
    """Parameters and MACs of the recipe's network, for one snippet."""
    from task2_anomaly.evaluation.complexity import network_complexity

    return network_complexity(run)


def benchmark(run: Run, seconds: float = 10.0) -> Mapping[str, Any]:
    """Rates: front end, training step, trainings one by one and at once, scoring with and without shared windows.

    Args:
        seconds: how long each stage is measured
    """
    from task2_anomaly.data.prepare import write_toy_data
    from task2_anomaly.evaluation.benchmark import benchmark as measure

    write_toy_data(run.config.data)
    return measure(run, seconds)


VERBS = (
    *(prepare, train, predict, evaluate, ensemble, package, validate, compare, grid, complexity, export, benchmark),
)
TASK = Task("task2_anomaly", "anomalous sound detection, DCASE 2020 Task 2 and first-shot editions", Config, VERBS)


def console() -> int:
    """The command `task2_anomaly` of an installed package."""
    return main(TASK)


if __name__ == "__main__":
    sys.exit(console())
