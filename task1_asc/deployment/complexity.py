"""Parameters, bytes and multiply-accumulates of any network, as the challenge counts them, and its limits.

The ruler is NeSsi, which is torchinfo's summary (DCASE 2024 Task 1, rules): a layer whose class name contains "Conv"
costs its weights and biases at every position of its output; every other layer's count once, wherever it is applied;
everything that is no layer (additions, attention products, FFT, means) costs nothing.
"""

import copy
import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from common.run.errors import UserError, did_you_mean
from common.run.results.tables import print_table
from common.run.verbs import Run
from task1_asc.config import Config
from task1_asc.model.front_end import mel_shape
from task1_asc.model.networks import new_network

MAX_BYTES = 128_000
MAX_MACS = 30_000_000
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
QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.qat", "torch.ao.nn.intrinsic")
NOTES = (
    "Counted on the network as it is: fusing batch norms into convolutions changes the count, because a convolution's "
    "bias is counted at every position and a batch norm once (the baseline fused: 59,794 parameters, 30,216,768 MACs, "
    "above the limit).",
    "The limit applies to the challenge's MACs. They leave out attention products and count a linear layer once "
    "however many steps it runs over; the honest count has convolutions and all matrix products at every position.",
    "Quantised modules hide their weights from the count: count the float network with --precision int8.",
)


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


def count(model: nn.Module, input_shape: tuple[int, ...], precision: str | None = None) -> Complexity:
    """Count `model` for one input of `input_shape` (batch, ...), as the challenge does for a batch of 1.

    precision: what the parameters are stored in, a key of PRECISION_BYTES; None: each tensor in its own type. Pruned
    weights (torch.nn.utils.prune) count with the elements that are left. The forward pass runs on a float32 copy on
    the CPU; `model` is not changed. Raises UserError where it fails at that shape, for quantised modules and for
    parameter types that the challenge does not know.
    """
    if precision is not None and precision not in PRECISION_BYTES:
        raise UserError(f"precision: unknown {precision!r}{did_you_mean(precision, PRECISION_BYTES)}")
    for name, module in model.named_modules():
        if type(module).__module__.startswith(QUANTISED) and not type(module).__name__.endswith("Functional"):
            raise UserError(f"{name or 'the network'}: a quantised {type(module).__name__}; count the float network")
    network = float_copy(model)
    try:
        if any(is_lazy(parameter) for parameter in network.parameters()):
            network(torch.zeros(input_shape))  # lazy layers take their size from their first input
            model = network
        summary = _summary(network, input_shape)
        honest = honest_macs(network, input_shape)
    except Exception as error:  # whatever the network's code raises
        cause = error.__cause__ or error
        what = " ".join(str(cause).split()) or type(cause).__name__
        raise UserError(f"the network fails at input shape {list(input_shape)}: {what}") from None
    size = sum(_left(model, name, p) * _element_bytes(name, p, precision) for name, p in model.named_parameters())
    return Complexity(summary.total_params, summary.total_mult_adds, size, _layers(network, summary), honest)


def float_copy(model: nn.Module) -> nn.Module:
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


def _summary(network: nn.Module, input_shape: tuple[int, ...]) -> Any:
    from torchinfo import summary

    return summary(network, input_size=input_shape, verbose=0, device="cpu", mode="eval")


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
def _plain_operations() -> Iterator[None]:
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
def honest_macs(network: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of all convolutions and matrix products at every position, functional ones included.

    Element-wise work, batch norms and FFTs are not in it.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with _plain_operations(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(input_shape))
    return int(counter.get_total_flops()) // 2


def verdict(complexity: Complexity, max_bytes: int = MAX_BYTES, max_macs: int = MAX_MACS) -> list[str]:
    """What breaks the challenge's limits, a sentence each; empty where the network is allowed."""
    found = []
    if complexity.bytes > max_bytes:
        found.append(f"{complexity.bytes:,} bytes of parameters, the limit is {max_bytes:,}")
    if complexity.macs > max_macs:
        found.append(f"{complexity.macs:,} MACs, the limit is {max_macs:,}")
    return found


def complexity_verb(model: nn.Module, input_shape: tuple[int, ...], precision: str | None = None) -> Mapping[str, Any]:
    """Print the table of layers, the counts and the verdict; returns them for --json.

    Keys: parameters, macs, bytes, honest_macs, precision, input_shape, layers (a mapping each), violations, allowed,
    notes.
    """
    counted = count(model, input_shape, precision)
    rows = [
        [layer.name, layer.kind, "x".join(map(str, layer.output)), f"{layer.parameters:,}", f"{layer.macs:,}"]
        for layer in counted.layers
    ]
    rows.append(["sum", "", "", f"{counted.parameters:,}", f"{counted.macs:,}"])
    shape = "x".join(map(str, input_shape))
    print_table(
        f"layers, input {shape}",
        ["layer", "kind", "output", "parameters", "MACs"],
        rows,
        emphasis=[row is rows[-1] for row in rows],
    )
    stored = precision or "as stored"
    totals = [
        ["parameters", f"{counted.parameters:,}", ""],
        [f"bytes ({stored})", f"{counted.bytes:,}", f"{MAX_BYTES:,}"],
        ["MACs", f"{counted.macs:,}", f"{MAX_MACS:,}"],
        ["MACs, honest count", f"{counted.honest_macs:,}", ""],
    ]
    print_table("as the challenge counts", ["count", "value", "limit"], totals)
    notes = [*NOTES]
    if input_shape[0] != 1:
        notes.insert(0, f"Counted for a batch of {input_shape[0]}; the challenge counts one clip.")
    for note in notes:
        print(f"note: {note}")
    violations = verdict(counted)
    print("within the limits" if not violations else "\n".join(f"NOT ALLOWED: {line}" for line in violations))
    return asdict(counted) | {
        "precision": precision,
        "input_shape": list(input_shape),
        "violations": violations,
        "allowed": not violations,
        "notes": notes,
    }


def load_module(spec: str) -> nn.Module:
    """The network that `my_module:build_model` makes: a module of the working directory (or installed) and a function
    without arguments, a class or a network in it.

    Raises UserError where there is no such module or attribute, where its code fails or gives no nn.Module.
    """
    name, colon, attribute = spec.partition(":")
    if not (name and colon and attribute):
        raise UserError(f"{spec!r}: expected module:function, e.g. my_module:build_model")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()  # the file may be younger than the process
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise UserError(f"no module {error.name!r} in {here} or among the installed ones") from None
        raise UserError(f"{name}: imports {error.name!r}, which is not installed") from None
    except Exception as error:
        raise UserError(f"{name}: cannot be imported, {_said(error)}") from None
    if not hasattr(module, attribute):
        choices = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UserError(f"{name} has no {attribute!r}{did_you_mean(attribute, choices)}")
    maker = getattr(module, attribute)
    if isinstance(maker, nn.Module):
        return maker
    if not callable(maker):
        raise UserError(f"{spec}: is a {type(maker).__name__}, expected a function that returns an nn.Module")
    try:
        inspect.signature(maker).bind()
        model = maker()
    except Exception as error:
        raise UserError(f"{spec}: fails when called without arguments, {_said(error)}") from None
    if not isinstance(model, nn.Module):
        raise UserError(f"{spec}: returns a {type(model).__name__}, expected an nn.Module")
    return model


def _said(error: Exception) -> str:
    """An exception of somebody's code in one line."""
    where = f" ({error.filename}:{error.lineno})" if isinstance(error, SyntaxError) else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"


def storage(config: Config) -> str:
    """What the parameters are stored in."""
    return "float16" if config.precision == "float16_weights" else config.precision


def counts_of(config: Config) -> dict[str, int]:
    """Parameters, bytes at the recipe's precision, and MACs of a recipe's network."""
    counted = count(new_network(config), mel_shape(config), storage(config))
    return {"parameters": counted.parameters, "bytes": counted.bytes, "macs": counted.macs}


def network_complexity(
    run: Run, specs: list[str], shape: Sequence[int] | None, precision: str | None
) -> Mapping[str, Any]:
    """Print the counts of the recipe's network, or of `module:function`s of somebody's code."""
    given = tuple(shape) if shape else mel_shape(run.config)
    if not specs:
        return complexity_verb(new_network(run.config), given, precision or storage(run.config))
    found = {spec: complexity_verb(load_module(spec), given, precision) for spec in specs}
    return found[specs[0]] if len(specs) == 1 else {"networks": found}
