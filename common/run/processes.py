"""Worker processes: one thread each, and gone when their parent is gone."""

import math
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, TypeVar

from common.run.errors import UserError

Item = TypeVar("Item", bound=tuple[Any, ...])
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of processor time in a period


def usable_cores() -> int:
    """Cores that this process may use: its affinity, and no more than a container's quota of processor time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = QUOTA.read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, math.ceil(int(quota) / int(period))))


def usable_gpus() -> int:
    """CUDA devices that this process may use."""
    if sys.platform == "linux" and not any(Path(name).exists() for name in ("/dev/nvidiactl", "/dev/dxg")):
        return 0  # torch takes two seconds to say so
    import torch

    return torch.cuda.device_count()


def each(
    work: Callable[..., Any], items: Sequence[Item], jobs: int, gpus: int = 0
) -> Iterator[tuple[Item, Any, str | None]]:
    """Do `work(*item)` for every item: (item, result, UserError's message or None) as they end.

    `jobs` of them are done at once, each in a worker process of one thread; a single job is done in this process.
    With `gpus`, each worker sees one of so many. An interruption ends the work at once, whatever it is doing.
    Raises UserError where a worker process died.
    """
    if jobs <= 1 or len(items) <= 1:
        for item in items:
            yield item, *_attempt(work, item)
        return
    executor = worker_pool(min(jobs, len(items)), gpus)
    try:
        futures = {executor.submit(_attempt, work, item): item for item in items}
        for future in as_completed(futures):
            yield futures[future], *future.result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process died (out of memory?); the same command goes on, perhaps with fewer --jobs; "
            "nothing that was finished is lost"
        ) from None
    except BaseException:
        end_workers()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _attempt(work: Callable[..., Any], item: tuple[Any, ...]) -> tuple[Any, str | None]:
    try:
        return work(*item), None
    except UserError as error:
        return None, str(error)


def worker_pool(workers: int, gpus: int = 0) -> ProcessPoolExecutor:
    """`workers` processes that ignore Ctrl-C (it is the parent's to handle) and end when their parent was killed.

    Spawned, not forked: the caller may have torch's threads running, whose locks a fork would copy. With `gpus`,
    each worker sees one of so many, in turn.
    """
    context = multiprocessing.get_context("spawn")
    number = context.Value("i", 0)
    return ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(number, gpus))


def end_workers() -> None:
    """End all child processes at once, whatever they are doing."""
    for child in multiprocessing.active_children():
        child.terminate()


def _start_worker(number: "multiprocessing.sharedctypes.Synchronized[int]", gpus: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    with number.get_lock():
        mine, number.value = number.value, number.value + 1
    if gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[mine % gpus] if len(visible) >= gpus > 1 else str(mine % gpus)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
