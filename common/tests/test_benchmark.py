"""Rates on a clock of our own; counts of networks with several inputs."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from common.run.benchmark import files_rate, rate_of, step_rate, times_in_turns
from common.run.complexity import count, matrix_macs, size_of
from common.run.settings import TrainerConfig


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds since the start, which only work moves on."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_rates_leave_the_first_call_out(clock: list[float]) -> None:
    durations = iter([100.0, *[0.5] * 10])

    def work() -> None:
        clock[0] += next(durations)

    assert rate_of(work, count=8, seconds=2.0) == pytest.approx(8 / 0.5)


def test_files_come_again(clock: list[float]) -> None:
    seen = []

    def read(path: Path) -> None:
        seen.append(path.name)
        clock[0] += 0.25

    assert files_rate(read, map(Path, "abc"), seconds=4.0) == pytest.approx(4.0)
    assert seen == ["a", "b", "c", "a", "b"]


def test_works_take_turns(clock: list[float]) -> None:
    order = []

    def slow() -> None:
        order.append("slow")
        clock[0] += 2.0

    def fast() -> None:
        order.append("fast")
        clock[0] += 1.0

    assert times_in_turns([slow, fast], seconds=3.0, turns=2) == [[2.0] * 3, [1.0] * 3]
    assert order == ["slow", "fast"] * 4


class Counting(nn.Module):
    """A system that says what becomes of its batches."""

    def __init__(self, trainer: TrainerConfig) -> None:
        super().__init__()
        self.config, self.linear, self.seen = SimpleNamespace(trainer=trainer), nn.Linear(3, 1), list[Any]()

    def configure_optimizers(self) -> Any:
        return {"optimizer": torch.optim.SGD(self.parameters(), lr=1.0)}

    def training_step(self, batch: Tensor, number: int) -> Tensor:
        out = self.linear(batch)
        self.seen.append((out.dtype, self.linear.bias.item()))
        return out.sum()


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_a_step_accumulates_and_computes_as_the_recipe_does(
    clock: list[float], precision: str, dtype: torch.dtype
) -> None:
    system = Counting(TrainerConfig(accumulate_grad_batches=3, precision=precision))  # type: ignore[arg-type]
    follows: list[int] = []

    def follow() -> None:
        follows.append(len(system.seen))
        clock[0] += 1.0

    step_rate(system, [torch.ones(2, 3)], 2, 3.0, follow)
    assert {found for found, _ in system.seen} == {dtype}
    assert follows[:2] == [3, 6]
    biases = [bias for _, bias in system.seen]
    assert biases[:3] == biases[:1] * 3
    assert biases[3] == pytest.approx(biases[0] - 3 * 2)


class TwoInputs(nn.Module):
    """A convolution of the first input, a product with the second."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 6, 3, padding=1, bias=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.conv(x).transpose(1, 2) @ y


def test_every_input_has_a_shape() -> None:
    network = TwoInputs()
    counted = count(network, [(1, 4, 10), (1, 6, 5)])
    assert (counted.parameters, counted.bytes) == size_of(network.parameters()) == (72, 288)
    assert counted.macs == 72 * 10
    assert counted.honest_macs == 72 * 10 + 10 * 6 * 5
    assert matrix_macs(lambda: torch.ones(3, 4) @ torch.ones(4, 5)) == 60
