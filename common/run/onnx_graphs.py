"""Networks as ONNX graphs, and what such a file answers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.run.errors import UserError
from common.run.files import existing_file, write_then_rename

OPSET = 18


def graph_of(module: nn.Module, example: Tensor, given: str, found: str) -> Any:
    """An ONNX model of a module with one input (batch, ...) and one output, without notes on its source.

    example: (1, ...).
    """
    example = torch.cat((example, example))  # a batch of 1 would become a constant
    with quiet():
        program = torch.onnx.export(
            module.eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[given],
            output_names=[found],
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
    return model


def write_graph(
    module: nn.Module, given: Tensor, expected: np.ndarray, path: Path, names: tuple[str, str], tolerance: float
) -> float:
    """Write a module with one input (batch, ...) and one output if onnxruntime answers `given` as `expected`.

    names: of input and output. tolerance: of any number, as a share of the root mean square of all; returns the largest
    such difference. Raises UserError, and writes nothing, where it is larger.
    """
    import onnx

    graph = graph_of(module, given[:1], *names)
    with write_then_rename(path) as partial:
        onnx.save(graph, partial)
        error = np.abs(answers(partial, given.numpy()) - expected).max()
        difference = float(error / np.sqrt(np.mean(expected.astype(np.float64) ** 2)))
        if not difference <= tolerance:
            raise UserError(f"{path}: not written, differs from the network by {difference:.2g}, over {tolerance:g}")
    return difference


def trial_sounds(samples: int, sample_rate: int) -> Tensor:
    """Silence, noise of several levels, a sweep, a clipped one: (6, samples)."""
    noise = torch.randn(3, samples, generator=torch.Generator().manual_seed(0)).clamp(-3, 3) / 3
    time = torch.arange(samples) / sample_rate
    sweep = 0.5 * torch.sin(2 * torch.pi * (100 + 1000 * time / time[-1]) * time)
    levels = torch.tensor([[1e-4], [0.02], [0.9]])
    return torch.cat((torch.zeros(1, samples), levels * noise, sweep[None], (8 * sweep).clamp(-1, 1)[None]))


def answers(path: Path, given: np.ndarray) -> np.ndarray:
    """The one output (batch, ...) of a file for its one input."""
    return runner(path)(given)


def runner(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """What answers for a file, opened once, with as many threads as torch. Raises UserError for one that onnxruntime
    cannot run."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        path = existing_file(path, "graph")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own are many
        raise UserError(f"{path}: onnxruntime cannot run it ({' '.join(str(error).split())[:200]})") from None
    (given,) = session.get_inputs()

    def answer(values: np.ndarray) -> np.ndarray:
        found: np.ndarray = session.run(None, {given.name: values})[0]
        return found

    return answer


@contextmanager
def quiet() -> Iterator[None]:
    """The exporter and the quantiser report every step."""
    import logging
    import warnings

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
