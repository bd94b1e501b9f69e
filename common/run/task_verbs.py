"""Parts of the tasks' verbs that are alike; the work is done in the task's rooms, whose names are alike in all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.run.verbs import Run, Task


def runs(task: Task, run_dir: Path | None = None) -> Mapping[str, Any]:
    """What is trained: recipe, settings that differ from it, main figure, date, energy, state.

    Args:
        run_dir: folder of runs, or of folders of runs (default: runs/{task})

    Example:
        --run-dir runs/{task}/toy
    """
    from common.run.results.listing import list_runs

    return list_runs(task, task.room("evaluation.runs").LAYOUT, run_dir)


def pipeline(task: Task, files: list[Path], out: Path = Path("pipeline")) -> Mapping[str, Any]:
    """Steps of a system of several recipes, as far as they are done: seconds, energy, main figures, a picture.

    Args:
        files: steps NAME/FILE[:READS,...], as make names them; NAME/FILE is below runs/{task}
        out: folder of pipeline.csv and pipeline.png

    Example:
        toy/.evaluated
    """
    from common.run.results.pipeline import show_pipeline

    return show_pipeline(task, task.room("evaluation.runs").LAYOUT, [str(word) for word in files], out)


def compare(runs: list[Run], runs_of: list[str] | None = None) -> Mapping[str, Any]:
    """Own results beside the published ones: tables, differences with intervals, plots. Or two own, with --runs-of.

    Args:
        runs_of: two recipes or run folders: the second minus the first, by a paired bootstrap over the test items

    Example:
        --recipe toy --runs 1 2
    """
    task = runs[0].task
    found: Mapping[str, Any]
    if runs_of is not None:
        found = task.room("evaluation.runs").compare_two(runs, runs_of)
    else:
        found = task.room("evaluation.report").compare_runs(runs)
    return found


def export(
    run: Run, out: Path | None = None, licence: str | None = None, push: str | None = None, public: bool = False
) -> Mapping[str, Any]:
    """The run's network as a folder for others: weights, settings, figures, a card; also on the Hugging Face Hub.

    Args:
        out: the folder (default: <run>/export)
        licence: of the weights, as the Hub spells it (cc-by-4.0)
        push: OWNER/NAME on the Hub, to upload it there, private
        public: with --push, where all may see it

    Example:
        --licence cc-by-4.0 --out my-network
    """
    from common.run.export import check_export

    out = out or run.folder / "export"
    check_export(out, push, public)
    found: Mapping[str, Any] = run.task.room("inference.exported").export_run(run, out, licence, push, public)
    return found


def package(runs: list[Run], out: Path | None = None, report: Path | None = None) -> Mapping[str, Any]:
    """The challenge's archive from what `predict` stored, validated: one system for each of the runs.

    Args:
        out: the archive (default: <runs>/submission.zip)
        report: technical report (PDF) to include instead of a placeholder

    Example:
        --runs 1 2 --out entry.zip
    """
    packed: Mapping[str, Any] = runs[0].task.room("submission.package").package_runs(runs, out, report)
    return packed


def prepare_data(run: Run, verify: bool, from_table: Path | None = None, out: Path | None = None) -> Mapping[str, Any]:
    """The end of `prepare`: embedded data is written, what is there is checked and packed, coverage.json says it.

    from_table, out: a data set of own recordings is written instead.
    """
    if from_table is not None or out is not None:
        own: Mapping[str, Any] = run.task.room("data.own").from_table(from_table, out)
        return own
    from common.run.files import write_json
    from common.run.processes import usable_cores

    of = run.task.room("data.prepare")
    of.write_toy_data(run.config.data)
    summary: Mapping[str, Any] = of.prepare(run.config, workers=usable_cores(), verify=verify)
    write_json(run.folder.parent / "coverage.json", summary)
    return summary


def measure_rates(run: Run, seconds: float, **more: Any) -> Mapping[str, Any]:
    """The end of `benchmark`: embedded data is written, each stage measured for so long; more: of the task alone."""
    run.task.room("data.prepare").write_toy_data(run.config.data)
    rates: Mapping[str, Any] = run.task.room("evaluation.benchmark").benchmark(run, seconds, **more)
    return rates
