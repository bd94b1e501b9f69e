"""Loaders of whole batches: their processes are deaf to Ctrl-C, which a training answers between two steps."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import Dataset

from common.audio.loading import SequentialSampler, share_of, training_loader
from common.run.callbacks import Interruption
from common.run.errors import UserError
from common.run.processes import keep_memory, worker_pool


class Processes(Dataset[Any]):
    """Every batch is the number of the process that made it."""

    def __len__(self) -> int:
        return 8

    def __getitems__(self, requests: Any) -> int:
        return os.getpid()


class Resident(Dataset[Any]):
    """Every batch says how many MB of a large array its process still has when that is gone."""

    def __init__(self) -> None:
        self.size = lambda: 2**27  # nothing that can be pickled

    def __getitems__(self, requests: Any) -> float:
        before = _resident()
        np.ones(self.size(), np.uint8)
        return _resident() - before


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def left_by_loading() -> float:
    """Of a training beside others, which is a spawned process."""
    keep_memory()
    return float(next(iter(training_loader(Resident(), SequentialSampler(8, 2), workers=1))))


@pytest.mark.skipif(sys.platform != "linux", reason="loaders are forked on Linux alone")
def test_loading_is_forked_and_gives_memory_back() -> None:
    with worker_pool(1) as pool:
        assert pool.submit(left_by_loading).result() < 16


@pytest.fixture
def in_a_terminal() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background work ignores it
    yield
    signal.signal(signal.SIGINT, before)


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.01)


def test_workers_do_not_hear_ctrl_c() -> None:
    batches = iter(training_loader(Processes(), SequentialSampler(8, 2), workers=2))
    heard = {next(batches), next(batches)}
    for worker in heard:
        os.kill(worker, signal.SIGINT)
    assert len(heard) == 2
    assert set(batches) == heard


@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_validation_batch_start"])
def test_ctrl_c_is_answered_at_the_next_step(in_a_terminal: None, hook: str) -> None:
    interruption, steps = Interruption(), []
    with pytest.raises(KeyboardInterrupt), interruption.awaited():  # noqa: PT012 (which step it is matters)
        for step in range(3):
            getattr(interruption, hook)(None, None, None, step)
            if step == 1:
                press()
            steps.append(step)
    assert steps == [0, 1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_in_the_last_step_is_answered_at_the_end(in_a_terminal: None) -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt), Interruption().awaited():  # noqa: PT012 (when it comes matters)
        press()
        steps.append(0)
    assert steps == [0]


def test_a_second_ctrl_c_is_answered_at_once(in_a_terminal: None) -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt), Interruption().awaited():  # noqa: PT012 (when it comes matters)
        press()
        steps.append(0)
        press()
        steps.append(1)
    assert steps == [0]


def test_where_ctrl_c_is_ignored_it_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interruption().awaited():
            press()
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_batch_is_divided_on_request() -> None:
    assert share_of(12, 4, divided=False) == 12
    assert share_of(12, 4, divided=True) == 3
    with pytest.raises(UserError, match=r"trainer\.divide_batch: a batch of 10 does not divide among 4 devices"):
        share_of(10, 4, divided=True)
