"""Loaders of whole batches, whose worker processes end at once when they should."""

from typing import Any
from weakref import WeakSet

import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data._utils.signal_handling import _remove_worker_pids

from common.run.processes import ignore_interruption, interruption_afterwards


def as_it_is(batch: Any) -> Any:
    """Collation: the data set already makes whole batches."""
    return batch


_reading: WeakSet[Any] = WeakSet()  # the iterators of all loaders of this process


class Loader(DataLoader[Any]):
    """A DataLoader of whole batches whose worker processes ignore Ctrl-C; `end_loaders` ends them."""

    def __init__(self, data: Dataset[Any], batches: Sampler[Any], workers: int, **options: Any) -> None:
        super().__init__(
            data,
            batch_sampler=batches,
            collate_fn=as_it_is,
            num_workers=workers,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=ignore_interruption,
            **options,
        )

    def _get_iterator(self) -> Any:
        with interruption_afterwards():
            iterator = super()._get_iterator()
            _reading.add(iterator)
        return iterator


def end_loaders() -> None:
    """End the worker processes of all loaders of this process at once, whatever they are doing.

    torch's own way waits for what they do, without end where one died with a shared lock in its hands.
    """
    for iterator in [each for each in _reading if hasattr(each, "_workers") and not each._shutdown]:
        iterator._shutdown = True  # else torch does it its way as soon as the iterator is collected
        _remove_worker_pids(id(iterator))  # their death is no failure
        for worker in iterator._workers:
            worker.kill()
            worker.join()
        for queue in iterator._index_queues:
            queue.cancel_join_thread()
            queue.close()
        if hasattr(iterator, "_pin_memory_thread"):
            iterator._pin_memory_thread_done_event.set()
