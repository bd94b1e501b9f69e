"""Losses over processes: what two of them, each with half a batch, find together."""

from collections.abc import Callable, Mapping
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

Found = dict[str, Tensor]  # "loss", and gradients by their names


def _one(rank: int, work: Mapping[str, Callable[[slice], Found]], size: int, folder: Path) -> None:
    """One of two, with its half of the batch; gradients are averaged as DDP does."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for name, find in work.items():
        found = find(slice(size * rank // 2, size * (rank + 1) // 2))
        for key, value in found.items():
            if key != "loss":
                dist.all_reduce(value)
                value /= 2
        np.savez(folder / f"{name}-{rank}.npz", **{key: value.numpy() for key, value in found.items()})
    dist.destroy_process_group()


def check_two_processes(
    work: Mapping[str, Callable[[slice], Found]], size: int, folder: Path, rtol: float, atol: float, of_largest: float
) -> None:
    """Loss and gradients of the whole batch of `size`, by `work` of the part of it, are those of both halves together.

    atol, and of_largest times the largest value of a gradient, may lie between them.
    """
    processes = [get_context("fork").Process(target=_one, args=(rank, work, size, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=200)
    assert [process.exitcode for process in processes] == [0, 0]
    for name, find in work.items():
        whole = find(slice(size))
        assert len(whole) > 10
        for half in (np.load(folder / f"{name}-{rank}.npz") for rank in range(2)):
            assert set(half.files) == whole.keys()
            for key, value in whole.items():
                near = atol + of_largest * float(value.abs().max())
                np.testing.assert_allclose(half[key], value, rtol=rtol, atol=near, err_msg=f"{name} {key}")
