"""Parameters, bytes and multiply-accumulates of any network for an input, as the challenges count them.

The ruler is NeSsi, which is torchinfo's summary (DCASE 2024 Task 1, rules): a layer whose class name contains "Conv"
costs its weights and biases at every position of its output; every other layer's count once, wherever it is applied;
everything that is no layer (additions, attention products, FFT, means) costs nothing. `matrix_macs` counts those too.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from common.run.errors import UserError, did_you_mean

BYTES = {
    torch.float32: 4,
    torch.int32: 4,
    torch.float16: 2,
    torch.bfloat16: 2,
    torch.int8: 1,
    torch.uint8: 1,
    torch.qint8: 1,
    torch.quint8: 1,
}
# What a recipe's `precision` stores a parameter in.
PRECISION_BYTES = {"float32": 4, "float16": 2, "float16_weights": 2, "bfloat16": 2, "int8": 1}
# Their weights are packed away or not what is deployed. Containers of fused float layers (torch.ao.nn.intrinsic) count.
QUANTISED = (
    "torch.ao.nn.quantized",
    "torch.ao.nn.qat",
    "torch.ao.nn.intrinsic.quantized",
    "torch.ao.nn.intrinsic.qat",
    "torch.ao.nn.sparse.quantized",
)
LARGEST_BLIND_SPOT = 0.5  # of the honest count: from there on the challenge's count is doubtful

Shape = tuple[int, ...]
Shapes = Shape | Sequence[Shape]  # of a network's input, or of each of several


@dataclass(frozen=True)
class Layer:
    """A row of the table; `output` is the shape of that call. A layer's parameters count where it is first called."""

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    macs: int


@dataclass(frozen=True)
class Complexity:
    """The counts of one pass; `bytes` of the parameters, without buffers, at the deployed precision."""

    parameters: int
    macs: int
    bytes: int
    layers: list[Layer]
    honest_macs: int

    @property
    def doubt(self) -> str | None:
        """Why the challenge's count may not stand for this network; None where it sees the greater part of its work."""
        if self.macs == self.honest_macs == 0:
            return "no multiply-accumulate was seen: no layer, convolution or matrix product of torch does the work"
        if self.macs >= LARGEST_BLIND_SPOT * self.honest_macs:
            return None
        share = 100 * self.macs / self.honest_macs
        return (
            f"the challenge's count sees {self.macs:,} of {self.honest_macs:,} MACs ({share:.0f} %): it knows layers, "
            "not functional operations, attention products or reparametrised weights"
        )


def shapes_of(input_shape: Shapes) -> list[Shape]:
    """The shape of each input."""
    return [cast(Shape, input_shape)] if isinstance(input_shape[0], int) else list(cast(Sequence[Shape], input_shape))


def count(model: nn.Module, input_shape: Shapes, precision: str | None = None) -> Complexity:
    """Count `model` for one input of `input_shape` (batch, ...), as the challenge does for a batch of 1.

    input_shape: of networks with several inputs, a shape each; all are float32. precision: what the parameters are
    stored in, a key of PRECISION_BYTES; None: each tensor in its own type. Pruned weights (torch.nn.utils.prune) count
    with the elements that are left. The forward pass runs on a float32 copy on the CPU; `model` is not changed. Raises
    UserError where it fails at that shape, for quantised and TorchScript modules and for parameter types that the
    challenge does not know.
    """
    if precision is not None and precision not in PRECISION_BYTES:
        raise UserError(f"precision: unknown {precision!r}{did_you_mean(precision, PRECISION_BYTES)}")
    _refuse_opaque(model)
    network = _float_copy(model)
    shapes = shapes_of(input_shape)
    inputs = [torch.zeros(shape) for shape in shapes]
    try:
        if any(is_lazy(parameter) for parameter in network.parameters()):
            network(*inputs)  # lazy layers take their size from their first input
            model = network
        summary = _summary(network, inputs)
        with plain_operations():
            honest = matrix_macs(lambda: network(*inputs))
    except Exception as error:  # whatever the network's code raises
        cause = error.__cause__ or error
        what = " ".join(str(cause).split()) or type(cause).__name__
        at = " and ".join(str(list(shape)) for shape in shapes)
        raise UserError(f"the network fails at input shape {at}: {what}{_hint(cause, shapes)}") from None
    size = sum(_left(model, name, p) * _element_bytes(name, p, precision) for name, p in model.named_parameters())
    return Complexity(summary.total_params, summary.total_mult_adds, size, _layers(network, summary), honest)


def _hint(error: BaseException, shapes: list[Shape]) -> str:
    if isinstance(error, TypeError) and "positional argument" in str(error):
        return "; a network of several inputs takes a shape for each (--input-shape more than once)"
    return "; all inputs are float32, a module around the network can make others" if len(shapes) > 1 else ""


def _refuse_opaque(model: nn.Module) -> None:
    """UserError for modules whose layers or weights the counter cannot see."""
    for name, module in model.named_modules():
        where, kind = name or "the network", type(module)
        if isinstance(module, torch.jit.ScriptModule):
            raise UserError(f"{where}: TorchScript, which hides its layers; count the network that it was made of")
        if kind.__module__.startswith(QUANTISED) and not kind.__name__.endswith("Functional"):
            raise UserError(f"{where}: a quantised {kind.__name__}; count the float network")


def _float_copy(model: nn.Module) -> nn.Module:
    """An independent float32 copy on the CPU, in evaluation mode."""
    # A pruned weight is a result of its mask, which cannot be copied; a forward pass makes it anew.
    results = [value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    return copy.deepcopy(model, {id(value): value.detach() for value in results}).float().cpu().eval()


def _left(model: nn.Module, name: str, parameter: Tensor) -> int:
    """Elements of a parameter that pruning has left."""
    if name.endswith("_orig"):
        owner, _, own = name.removesuffix("_orig").rpartition(".")
        mask = getattr(model.get_submodule(owner), f"{own}_mask", None)
        if mask is not None:
            return int(mask.sum())
    return parameter.numel()


def _element_bytes(name: str, parameter: Tensor, precision: str | None) -> int:
    if precision is not None:
        return PRECISION_BYTES[precision]
    if parameter.dtype not in BYTES:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in BYTES)
        raise UserError(f"{name}: parameters of type {str(parameter.dtype).removeprefix('torch.')}, expected {known}")
    return BYTES[parameter.dtype]


def _summary(network: nn.Module, inputs: list[Tensor]) -> Any:
    from torchinfo import summary

    return summary(network, input_data=inputs, verbose=0, device="cpu", mode="eval")


def _layers(network: nn.Module, summary: Any) -> list[Layer]:
    """Every call of a layer that has parameters or MACs, and what parameters belong to no layer: sums to the totals."""
    names = {id(module): name for name, module in network.named_modules()}
    layers = []
    for info in summary.summary_list:
        own = info.num_params if info.is_leaf_layer else info.leftover_params()
        parameters = 0 if info.is_recursive else max(own, 0)
        macs = info.macs if info.is_leaf_layer else 0
        if parameters or macs:
            name = names.get(info.layer_id) or "(network)"
            layers.append(Layer(name, info.class_name, tuple(info.output_size), parameters, macs))
    return layers


@contextmanager
def plain_operations() -> Iterator[None]:
    """Fused attention and recurrent kernels come apart into the matrix products that are counted."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    fast_path, onednn = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled
    torch.backends.mha.set_fastpath_enabled(False)
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        torch.backends.mkldnn.enabled = onednn


@torch.no_grad()
def matrix_macs(work: Callable[[], Any]) -> int:
    """Multiply-accumulates of all convolutions and matrix products of `work`, at every position, functional ones too.

    Element-wise work, batch norms and FFTs are not in it.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops()) // 2


def size_of(parameters: Iterable[Tensor]) -> tuple[int, int]:
    """Elements, and their bytes as they are stored."""
    sizes = [(p.numel(), p.numel() * p.element_size()) for p in parameters]
    return sum(count for count, _ in sizes), sum(size for _, size in sizes)
