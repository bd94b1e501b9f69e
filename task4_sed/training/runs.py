"""The independent trainings of a recipe, several at once."""

from collections.abc import Mapping, Sequence
from typing import Any

from common.run.energy import cost_text
from common.run.errors import UserError
from common.run.processes import all_done, check_jobs, default_jobs, usable_gpus
from common.run.progress import show_as
from common.run.verbs import Run, run_label


def train_runs(runs: Sequence[Run], jobs: int | None, restart: bool) -> list[Mapping[str, Any]]:
    """Train every run to its end, `jobs` of them side by side; what results.json says of each.

    A run that fails does not stop the others. Raises UserError then, and for `jobs` that would change the numbers:
    trainings side by side on CPUs need the number of their threads.
    """
    check_jobs(jobs)
    trainer = runs[0].config.trainer
    gpus = 0 if trainer.accelerator == "cpu" or len(runs) == 1 else usable_gpus()
    alone = trainer.devices not in ("auto", "1", 1) or trainer.num_nodes > 1  # one training takes all devices
    if jobs is None:
        jobs = 1 if alone else default_jobs(trainer.threads, gpus)
    elif jobs > 1 and alone:
        raise UserError(f"--jobs: {jobs}, expected 1 for trainings on several devices")
    elif jobs > 1 and not gpus and trainer.threads is None and len(runs) > 1:
        raise UserError(f"--jobs: {jobs} trainings side by side on CPUs need trainer.threads=N")
    return all_done(_train, [(run, restart, run_label(run, runs)) for run in runs], jobs, gpus)


def _train(run: Run, restart: bool, label: str) -> Mapping[str, Any]:
    from common.run.results.store import read_results
    from common.run.training import is_first_process
    from task4_sed.training.train import train_run

    show_as(label)
    train_run(run, restart)
    if not is_first_process():
        return {}
    done: Mapping[str, Any] = read_results(run.folder)["train"]["values"]
    cost = cost_text(done["kwh"], run.config.energy)
    print(f"{run.folder}: trained {done['epochs']} epochs, {done['steps']} steps; {cost}", flush=True)
    return done
