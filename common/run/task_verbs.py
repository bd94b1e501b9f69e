"""Parts of the tasks' verbs that are alike; the work is done in the task's rooms, whose names are alike in all."""

from collections.abc import Mapping, Sequence
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


def prepare_data(run: Run, verify: bool) -> Mapping[str, Any]:
    """The end of `prepare`: embedded data is written, what is there is checked and packed, coverage.json says it."""
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


def compare_two(runs: Sequence[Run], names: Sequence[str]) -> Mapping[str, Any]:
    """`compare --runs-of`: the second system minus the first."""
    from common.run.results.paired import compare_systems

    of = runs[0].task.room("evaluation.runs")
    return compare_systems(runs, names, of.LAYOUT, of.parts_of)
