"""Worker processes of loaders: deaf to Ctrl-C, gone at once when they are ended, whatever they hold or do."""

import os
import signal
import time
from typing import Any

import pytest
from torch.utils.data import Dataset

from common.audio.loading import SequentialSampler, share_of, training_loader
from common.run.errors import UserError
from common.run.loaders import end_loaders
from common.run.processes import interruption_afterwards

LONG = 60.0  # seconds that nothing here may wait for


class Slow(Dataset[Any]):
    """Its first batch comes at once, the others never."""

    def __len__(self) -> int:
        return 8

    def __getitems__(self, requests: Any) -> int:
        if requests[0][0]:
            time.sleep(10 * LONG)
        return os.getpid()


@pytest.fixture
def iterator() -> Any:
    iterator = iter(training_loader(Slow(), SequentialSampler(8, 2), workers=2))
    yield iterator
    end_loaders()


def test_workers_do_not_hear_ctrl_c(iterator: Any) -> None:
    worker = next(iterator)
    os.kill(worker, signal.SIGINT)
    time.sleep(0.3)
    assert {each.pid for each in iterator._workers if each.is_alive()} >= {worker}
    assert all(each.is_alive() for each in iterator._workers)


def test_workers_end_at_once_whatever_they_do(iterator: Any) -> None:
    next(iterator)
    start = time.monotonic()
    end_loaders()
    assert time.monotonic() - start < LONG / 10
    assert not any(each.is_alive() for each in iterator._workers)


def test_a_lock_that_died_with_a_worker_holds_nobody_up(iterator: Any) -> None:
    next(iterator)
    iterator._workers_done_event._cond.acquire()  # as a worker that was killed while it asked whether to end
    start = time.monotonic()
    end_loaders()
    iterator._shutdown_workers()  # what torch does when the iterator is collected
    assert time.monotonic() - start < LONG / 10


def test_ctrl_c_is_answered_after_the_block() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background work ignores it
    done: list[bool] = []
    try:
        with pytest.raises(KeyboardInterrupt):
            _interrupted_in_a_block(done)
    finally:
        signal.signal(signal.SIGINT, before)
    assert done == [True]


def _interrupted_in_a_block(done: list[bool]) -> None:
    with interruption_afterwards():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        done.append(True)


def test_a_batch_is_divided_on_request() -> None:
    assert share_of(12, 4, divided=False) == 12
    assert share_of(12, 4, divided=True) == 3
    with pytest.raises(UserError, match=r"trainer\.divide_batch: a batch of 10 does not divide among 4 devices"):
        share_of(10, 4, divided=True)
