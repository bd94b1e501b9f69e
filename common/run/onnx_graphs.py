"""Networks as ONNX graphs, and what such a file answers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

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


def answers(path: Path, given: np.ndarray) -> np.ndarray:
    """The one output (batch, ...) of a file for its one input."""
    from onnxruntime import InferenceSession

    session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {session.get_inputs()[0].name: given})[0]
    return found


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
