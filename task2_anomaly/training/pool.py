"""The trainings of all machines of a run, several at once.

Each network is small: one process keeps neither several cores nor a GPU busy. So several processes train, one thread
each, and on GPUs share them.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial

from common.run.energy import measure
from common.run.errors import UserError
from common.run.files import remove_partials
from common.run.processes import end_workers, worker_pool
from common.run.progress import progress
from common.run.results.store import record
from common.run.training import claim, finished, locked
from common.run.verbs import Run
from task2_anomaly.data.classes import Machine
from task2_anomaly.data.sets import of_machine
from task2_anomaly.training.train import train_machine

Item = tuple[Run, Machine]
Work = Callable[[Run, Machine], object]


def train_machines(run: Run, machines: Sequence[Machine], jobs: int, restart: bool = False, gpus: int = 0) -> None:
    """Train every machine that is not finished, `jobs` at once; goes on where an interrupted call stopped.

    A machine whose training fails does not stop the others; it is named at the end. Raises UserError then.
    """
    open_ones = [m for m in machines if restart or not finished(of_machine(run, m))]
    with locked(run.folder):
        remove_partials(run.folder, recursive=False)
        claim(run, restart)
        start = time.monotonic()
        failures: dict[Machine, str] = {}
        with (
            measure(run.folder, "training", run.config.energy) as meter,
            progress("train", len(machines), "machines", done=len(machines) - len(open_ones)) as advance,
        ):
            work = partial(_train, restart=restart)
            for (_, machine), problem in each(work, [(run, m) for m in open_ones], jobs, gpus):
                advance(note=str(machine))
                if problem:
                    failures[machine] = problem
        if failures:
            machine, problem = next(iter(failures.items()))
            more = f" (and {len(failures) - 1} more machines)" if len(failures) > 1 else ""
            raise UserError(f"{machine}: {problem}{more}")
        if open_ones:
            values = {"machines": [str(m) for m in machines], "jobs": jobs, "kwh": meter.kwh}
            record(run.folder, "train", {**values, "seconds_of_last_session": round(time.monotonic() - start, 2)})


def each(work: Work, items: Sequence[Item], jobs: int, gpus: int = 0) -> Iterator[tuple[Item, str | None]]:
    """Do `work(run, machine)` for every item, `jobs` at once: (item, what went wrong or None) as they end."""
    if jobs <= 1 or len(items) <= 1:
        for item in items:
            yield item, _problem(work, item)
        return
    executor = worker_pool(min(jobs, len(items)), gpus)
    try:
        futures = {executor.submit(_problem, work, (_portable(run), m)): (run, m) for run, m in items}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        raise UserError(
            f"{items[0][0].folder}: a training process died (out of memory?); train again, with fewer --jobs; "
            "nothing that was trained is lost"
        ) from None
    except BaseException:
        end_workers()  # a training can be killed at any time
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _portable(run: Run) -> Run:
    """Without the verbs, which a process that was started as `python -m task2_anomaly` cannot send to another one."""
    return replace(run, task=replace(run.task, verbs=()))


def _problem(work: Work, item: Item) -> str | None:
    try:
        work(*item)
    except UserError as error:
        return str(error)
    return None


def _train(run: Run, machine: Machine, restart: bool) -> None:
    train_machine(run, machine, restart)
