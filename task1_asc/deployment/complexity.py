"""The challenge's limits for parameters, bytes and multiply-accumulates (DCASE 2024 Task 1, rules), of any network."""

import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from common.run.complexity import Complexity, Shapes, count, shapes_of
from common.run.errors import UserError
from common.run.imports import find, load, said
from common.run.results.tables import print_table
from common.run.verbs import Run
from task1_asc.config import Config
from task1_asc.model.front_end import example_input, mel_shape
from task1_asc.model.networks import check_own, new_network

MAX_BYTES = 128_000
MAX_MACS = 30_000_000
NOTES = (
    "Counted on the network as it is: fusing batch norms into convolutions changes the count, because a convolution's "
    "bias is counted at every position and a batch norm once (the baseline fused: 59,794 parameters, 30,216,768 MACs, "
    "above the limit).",
    "The limit applies to the challenge's MACs. They leave out attention products and count a linear layer once "
    "however many steps it runs over; the honest count has convolutions and all matrix products at every position.",
    "Quantised modules hide their weights from the count: count the float network with --precision int8.",
)


def verdict(complexity: Complexity, max_bytes: int = MAX_BYTES, max_macs: int = MAX_MACS) -> list[str]:
    """What breaks the challenge's limits, a sentence each; empty where the network is allowed."""
    found = []
    if complexity.bytes > max_bytes:
        found.append(f"{complexity.bytes:,} bytes of parameters, the limit is {max_bytes:,}")
    if complexity.macs > max_macs:
        found.append(f"{complexity.macs:,} MACs, the limit is {max_macs:,}")
    return found


def complexity_verb(model: nn.Module, input_shape: Shapes, precision: str | None = None) -> Mapping[str, Any]:
    """Print the table of layers, the counts and the verdict; returns them for --json.

    Keys: parameters, macs, bytes, honest_macs, precision, input_shape, layers (a mapping each), violations, allowed,
    warnings, notes.
    """
    counted, shapes = count(model, input_shape, precision), shapes_of(input_shape)
    shown = " and ".join("x".join(map(str, shape)) for shape in shapes)
    _print_layers(counted, shown)
    stored = precision or "as stored"
    totals = [
        ["parameters", f"{counted.parameters:,}", ""],
        [f"bytes ({stored})", f"{counted.bytes:,}", f"{MAX_BYTES:,}"],
        ["MACs", f"{counted.macs:,}", f"{MAX_MACS:,}"],
        ["MACs, honest count", f"{counted.honest_macs:,}", ""],
    ]
    print_table("as the challenge counts", ["count", "value", "limit"], totals)
    notes = [*NOTES]
    if shapes[0][0] != 1:
        notes.insert(0, f"Counted for a batch of {shapes[0][0]}; the challenge counts one clip.")
    for note in notes:
        print(f"note: {note}")
    warnings = [counted.doubt] if counted.doubt else []
    for warning in warnings:
        print(f"WARNING: {warning}")
    violations = verdict(counted)
    within = f"within the limits at input {shown}" + (", by that count alone" if warnings else "")
    print("\n".join(f"NOT ALLOWED at input {shown}: {line}" for line in violations) or within)
    return asdict(counted) | {
        "precision": precision,
        "input_shape": list(shapes[0]) if len(shapes) == 1 else [list(shape) for shape in shapes],
        "violations": violations,
        "allowed": not violations,
        "warnings": warnings,
        "notes": notes,
    }


def _print_layers(counted: Complexity, shape: str) -> None:
    rows = [
        [layer.name, layer.kind, "x".join(map(str, layer.output)), f"{layer.parameters:,}", f"{layer.macs:,}"]
        for layer in counted.layers
    ]
    rows.append(["sum", "", "", f"{counted.parameters:,}", f"{counted.macs:,}"])
    columns = ["layer", "kind", "output", "parameters", "MACs"]
    print_table(f"layers, input {shape}", columns, rows, emphasis=[row is rows[-1] for row in rows])


def load_module(spec: str) -> nn.Module:
    """The network that `my_module:build_network` makes: a module of the working directory (or installed) and a function
    without arguments, a class or a network in it.

    Raises UserError where there is no such module or attribute, where its code fails or gives no nn.Module.
    """
    if ":" not in spec:
        raise UserError(f"{spec!r}: expected module:function, e.g. my_module:build_network")
    here = str(Path.cwd())
    if here not in sys.path:  # for what the module imports
        sys.path.insert(0, here)
    own = find(spec, Path.cwd(), alone=False)
    maker = load(own)
    if isinstance(maker, nn.Module):
        return maker
    if not callable(maker):
        raise UserError(f"{spec}: is a {type(maker).__name__}, expected a function that returns an nn.Module")
    try:
        inspect.signature(maker).bind()
        model = maker()
    except (Exception, SystemExit) as error:
        raise UserError(f"{spec}: fails when called without arguments, {said(error, own)}") from None
    if not isinstance(model, nn.Module):
        raise UserError(f"{spec}: returns a {type(model).__name__}, expected an nn.Module")
    return model


def storage(config: Config) -> str:
    """What the parameters are stored in."""
    return "float16" if config.precision == "float16_weights" else config.precision


def counts_of(config: Config) -> dict[str, int]:
    """Parameters, bytes at the recipe's precision, and MACs of a recipe's network."""
    counted = count(new_network(config), mel_shape(config), storage(config))
    return {"parameters": counted.parameters, "bytes": counted.bytes, "macs": counted.macs}


def network_complexity(
    run: Run, specs: list[str], shapes: Sequence[Sequence[int]] | None, precision: str | None
) -> Mapping[str, Any]:
    """Print the counts of the recipe's network, or of `module:function`s of somebody's code.

    Own networks are measured at the recipe's input, those of a toy recipe at that of the challenge's baseline. Raises
    UserError, which has the counts, where a network is over the limits.
    """
    config: Config = run.config
    if shapes and min(min(shape) for shape in shapes) < 1:
        raise UserError(f"--input-shape: {' '.join(map(str, min(shapes, key=min)))}, expected sizes of 1 or more")
    given = [tuple(shape) for shape in shapes or ()]
    if not specs:
        network = new_network(config)
        check_own(config.model, network, example_input(config))
        of = {run.recipe: complexity_verb(network, given or mel_shape(config), precision or storage(config))}
    else:
        usual = mel_shape(Config() if config.data.toy else config)
        of = {spec: complexity_verb(load_module(spec), given or usual, precision) for spec in specs}
    found = next(iter(of.values())) if len(of) == 1 else {"networks": of}
    if over := [name for name, counted in of.items() if not counted["allowed"]]:
        raise UserError(f"{', '.join(over)}: not within the challenge's limits", found)
    return found
