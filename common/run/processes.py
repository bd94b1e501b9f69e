"""Cores that may be used; worker processes: one thread each, and gone when their parent is gone."""

import ctypes
import functools
import multiprocessing
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, TypeVar

from common.run.errors import UserError

Item = TypeVar("Item", bound=tuple[Any, ...])
DIED = (
    "a worker process died (out of memory?); the same command goes on, perhaps with fewer --jobs; "
    "nothing that was finished is lost"
)

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # glibc's numbers of these settings
CONTROL_GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Cores that this process may keep busy, at least 1: its affinity, and the quota of its container, rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *_quotas()]))


def _quotas() -> Iterator[int]:
    """Those of the process's control groups and of all above them: version 2 (cpu.max), version 1 (cpu.cfs_quota_us).

    In a container the own group is often shown under a path of the host's; the topmost one that is visible counts.
    """
    lines = OWN_GROUPS.read_text().splitlines() if OWN_GROUPS.is_file() else []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = CONTROL_GROUPS / "cpu" if controllers else CONTROL_GROUPS
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
        groups = Path(path.strip("/"))
        for group in (groups, *groups.parents):
            if all((top / group / name).is_file() for name in names):
                quota, period = " ".join((top / group / name).read_text() for name in names).split()
                if quota not in ("max", "-1"):
                    yield -(-int(quota) // int(period))


DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/dxg"))  # there where a kernel knows of an NVIDIA GPU


def usable_gpus() -> int:
    """CUDA devices that this process may use; says so once where there is one that it cannot use."""
    if sys.platform == "linux" and not any(path.exists() for path in DRIVERS):
        return 0  # torch takes two seconds to say so
    import torch

    say_unusable_gpu()
    return torch.cuda.device_count()


@functools.cache
def say_unusable_gpu() -> None:
    """One line on standard error where a GPU is there, and not hidden on purpose, but torch cannot use it."""
    if not any(path.exists() for path in DRIVERS) or os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return
    import torch

    with warnings.catch_warnings(record=True) as said:  # torch's own words, which name a driver that is too old
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return
    reason = " ".join(str(said[0].message).split())[:200] if said else "this torch is built without CUDA, or sees none"
    print(f"GPU: there is one, but torch cannot use it ({reason}); working on the CPU", file=sys.stderr)


def working_device(asked: str | None = None) -> str:
    """`asked`, or "cuda" where there is a GPU that can be used, else "cpu"; one that cannot be used is said."""
    import torch

    say_unusable_gpu()
    return asked or ("cuda" if torch.cuda.is_available() else "cpu")


VISIBLE = "CUDA_VISIBLE_DEVICES"


def known_device(name: str) -> str:
    """`cpu`, `cuda` or `cuda:N`. Raises UserError for other names, and for a GPU where no driver of one is there."""
    if not re.fullmatch("cpu|cuda(:[0-9]+)?", name):
        raise UserError(f"{name!r}, expected cpu, cuda or cuda:N")
    if name != "cpu" and (sys.platform != "linux" or not any(path.exists() for path in DRIVERS)):
        raise UserError(f"{name}, but there is no NVIDIA GPU here")
    return name


_asked: str | None = None


@contextmanager
def on_device(name: str | None) -> Iterator[None]:
    """Within the block this process and those that it starts see the named device only (None: all).

    Raises UserError for a GPU that torch cannot use.
    """
    global _asked
    before = os.environ.get(VISIBLE)
    try:
        _asked = name
        if name is not None and name != "cuda":
            os.environ[VISIBLE] = _visible(name, before)
        if name not in (None, "cpu"):
            import torch

            if not torch.cuda.is_available():
                raise UserError(f"--device: {name}, but torch cannot use it here ({VISIBLE}={before or ''})")
        yield
    finally:
        _asked = None
        os.environ.pop(VISIBLE, None)
        if before is not None:
            os.environ[VISIBLE] = before


def _visible(name: str, before: str | None) -> str:
    """CUDA's list of devices: of those that it has now, the named one; of `cpu` none."""
    if name == "cpu":
        return ""
    number = name.removeprefix("cuda:")
    there = [word for word in (before or "").split(",") if word.strip()]
    if there and int(number) >= len(there):
        raise UserError(f"--device: {name}, but {VISIBLE} has {len(there)} devices")
    return there[int(number)] if there else number


def check_accelerator(config: Any) -> None:
    """UserError where a recipe's `trainer.accelerator` is another kind of device than `--device`."""
    accelerator = getattr(getattr(config, "trainer", None), "accelerator", "auto")
    if _asked and accelerator != "auto" and (accelerator == "cpu") != (_asked == "cpu"):
        raise UserError(f"--device: {_asked}, but trainer.accelerator is {accelerator}")


def check_jobs(jobs: int | None) -> None:
    """UserError for a number of pieces of work at once below 1."""
    if jobs is not None and jobs < 1:
        raise UserError(f"--jobs: {jobs}, expected 1 or more")


def default_jobs(threads: int | None, gpus: int = 0) -> int:
    """How many pieces of work, of so many threads each, are done at once: one for each GPU.

    Without a GPU twice as many as the cores hold: of three trainings on two cores, none stays alone on one of them at
    the end. One where the cores hold no two, or where the number of threads is open (None): it takes all cores.
    """
    together = usable_cores() // threads if threads else 1
    return gpus or (2 * together if together > 1 else 1)


def keep_memory() -> None:
    """Freed memory stays with this process: clearing new pages for each tensor takes a fifth of a training on CPUs.

    Only for glibc, whose default gives every large block back to the system at once; elsewhere nothing happens.
    """
    _set_malloc({M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1})


def return_memory(*_: Any) -> None:
    """Large blocks go back to the system when they are freed, in a process that makes batches of arrays for another.

    Kept, they fit no second tensor of their size (glibc before 2.38 aligns tensors so): a process had 5.6 GB after some
    batches of 256 clips, with this 0.3 GB, for up to 3 ms of its time a clip.
    """
    _set_malloc({M_MMAP_MAX: 65_536, M_MMAP_THRESHOLD: 2**20, M_TRIM_THRESHOLD: 2**26})


def _set_malloc(values: Mapping[int, int]) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for name, value in values.items():
            mallopt(name, value)


def worker_pool(workers: int, gpus: int = 0) -> ProcessPoolExecutor:
    """`workers` processes that ignore Ctrl-C (it is the parent's to handle) and end when their parent was killed.

    Spawned, not forked: the caller may have torch's threads running, whose locks a fork would copy. With `gpus`,
    each worker sees one of so many, in turn.
    """
    context = multiprocessing.get_context("spawn")
    number = context.Value("i", 0)
    return ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(number, gpus))


def each(
    work: Callable[..., Any], items: Sequence[Item], jobs: int, gpus: int = 0, died: str = DIED
) -> Iterator[tuple[Item, Any, str | None]]:
    """Do `work(*item)` for every item: (item, result, UserError's message or None) as they end.

    `jobs` of them are done at once, each in a worker process of one thread; a single job is done in this process.
    With `gpus`, each worker sees one of so many. An interruption ends the work at once, whatever it is doing.
    Raises UserError (`died`) where a worker process died.
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
        raise UserError(died) from None
    except BaseException:
        end_workers()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def all_done(
    work: Callable[..., Any],
    items: Sequence[Item],
    jobs: int,
    gpus: int = 0,
    show: Callable[[Any], object] | None = None,
) -> list[Any]:
    """The results of `work(*item)` in the order of the items, as `each` does them; `show(result)` as they end.

    A failure does not stop the others; the first in the order is raised as UserError at the end.
    """
    found: dict[int, Any] = {}
    problems: dict[int, str] = {}
    for item, result, problem in each(work, items, jobs, gpus):
        at = next(i for i, other in enumerate(items) if other is item)
        if problem is not None:
            problems[at] = problem
            continue
        found[at] = result
        if show is not None:
            show(result)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UserError(f"{problems[min(problems)]}{more}")
    return [found[at] for at in range(len(items))]


def _attempt(work: Callable[..., Any], item: tuple[Any, ...]) -> tuple[Any, str | None]:
    try:
        return work(*item), None
    except UserError as error:
        return None, str(error)


def end_workers() -> None:
    """End all child processes at once, whatever they are doing and whichever signals they have learnt to ignore."""
    for child in multiprocessing.active_children():
        child.kill()


def ignore_interruption(*_: Any) -> None:
    """In a worker process: Ctrl-C, which a terminal sends to all processes of a command, is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _start_worker(number: "multiprocessing.sharedctypes.Synchronized[int]", gpus: int) -> None:
    ignore_interruption()
    os.environ["OMP_NUM_THREADS"] = "1"
    with number.get_lock():
        mine, number.value = number.value, number.value + 1
    if gpus:
        assigned = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()][:gpus]
        os.environ["CUDA_VISIBLE_DEVICES"] = assigned[mine % len(assigned)] if assigned else str(mine % gpus)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
