"""The scores of several runs, side by side; and which of its two networks a run's scores are those of."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from common.run.errors import UserError
from common.run.files import alone
from common.run.processes import all_done, default_jobs, usable_gpus
from common.run.progress import show_as
from common.run.results.store import FILE_NAME, read_results
from common.run.verbs import Run

Network = Literal["student", "teacher"]
# The network that is not submitted: its test scores lie in a folder of its name beside the others.
OTHER: dict[Network, Network] = {"student": "teacher", "teacher": "student"}


def scored_network(folder: Path) -> Network | None:
    """The network whose scores `predict` has stored in a run's folder; None where nothing says so."""
    recorded = read_results(folder) if (folder / FILE_NAME).is_file() else {}
    network: Network | None = recorded.get("predict", {}).get("values", {}).get("network")
    return network


def check_network(folder: Path, expected: Network) -> None:
    """Raise UserError where the stored scores of a run are those of the other network."""
    stored = scored_network(folder)
    if stored not in (None, expected):
        raise UserError(f"{folder / 'scores'}: those of the {stored}, expected the {expected}'s; `predict` makes them")


def predict_runs(runs: Sequence[Run], checkpoint: Path | None, floors: bool) -> list[Mapping[str, Any]]:
    """Store the scores of every run on the recipe's data sets, as many side by side as trainings would be."""
    trainer = runs[0].config.trainer
    gpus = 0 if trainer.accelerator == "cpu" or len(runs) == 1 else usable_gpus()
    items = [(run, checkpoint, floors) for run in runs]
    return all_done(_predict, items, default_jobs(trainer.threads, gpus), gpus)


def _predict(run: Run, checkpoint: Path | None, floors: bool) -> Mapping[str, Any]:
    from task4_sed.inference.predict import predict_run

    show_as(f"run{run.number}")
    with alone(run.folder, "predict", run.folder):
        return predict_run(run, checkpoint, floors)
