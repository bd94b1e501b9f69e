"""Worker processes: one thread each, and gone when their parent is gone."""

import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait


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
        os.environ["CUDA_VISIBLE_DEVICES"] = str(mine % gpus)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
