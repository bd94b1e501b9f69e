"""The scores of several runs, side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.run.files import alone
from common.run.processes import all_done, default_jobs, usable_gpus
from common.run.progress import show_as
from common.run.verbs import Run, run_label


def predict_runs(runs: Sequence[Run], checkpoint: Path | None, floors: bool) -> list[Mapping[str, Any]]:
    """Store the scores of every run on the recipe's data sets, as many side by side as trainings would be."""
    trainer = runs[0].config.trainer
    gpus = 0 if trainer.accelerator == "cpu" or len(runs) == 1 else usable_gpus()
    items = [(run, checkpoint, floors, run_label(run, runs)) for run in runs]
    return all_done(_predict, items, default_jobs(trainer.threads, gpus), gpus)


def _predict(run: Run, checkpoint: Path | None, floors: bool, label: str) -> Mapping[str, Any]:
    from task4_sed.inference.predict import predict_run

    show_as(label)
    with alone(run.folder, "predict", run.folder):
        return predict_run(run, checkpoint, floors)
