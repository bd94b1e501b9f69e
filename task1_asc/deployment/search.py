"""Networks inside the challenge's limits: proposals over the widths, depths and strides of CP-Mobile, and pruning."""

import itertools
import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor, nn

from common.run.complexity import PRECISION_BYTES
from common.run.config import config_dict
from common.run.errors import UserError, did_you_mean
from common.run.results.tables import print_table
from common.run.verbs import Run
from task1_asc.config import Config, ModelConfig
from task1_asc.deployment.complexity import MAX_BYTES, MAX_MACS, storage
from task1_asc.model.cp_mobile import STEM_STRIDE, Block, CPMobile, plan
from task1_asc.model.front_end import mel_shape
from task1_asc.model.networks import build_network

BASES = tuple(range(8, 72, 8))
MULTIPLIERS = (1.2, 1.5, 1.8, 2.1, 2.5)
EXPANSIONS = (1.5, 2.1, 2.5, 3.0, 4.0)
BLOCKS = tuple(itertools.product((1, 2, 3, 4), (1, 2, 3), (1, 2)))
STRIDES = ((1, 2), (2, 1), (2, 2))
SEARCHED = ("baseline", "cp_mobile")


@dataclass(frozen=True)
class Proposal:
    """A network with its counts; `used` is the smaller of its shares of the two limits."""

    config: ModelConfig
    parameters: int
    bytes: int
    macs: int
    used: float


def closed_form(config: ModelConfig, input_shape: tuple[int, ...]) -> tuple[int, int]:
    """Parameters and MACs of a baseline or CP-Mobile network by arithmetic, equal to `common.run.complexity.count`.

    input_shape: (batch, channels, mel, frames). A convolution costs its weights at every output position, a batch norm
    2 for each channel; the two scalars of each global response norm are parameters without MACs.
    """
    batch, _, *size = input_shape
    blocks = plan(config)
    base, outputs, classes = blocks[0].inputs, blocks[-1].outputs, config.num_classes
    parameters = macs = 0

    def convolution(weights: int, channels: int) -> None:
        nonlocal parameters, macs
        parameters += weights + 2 * channels
        macs += weights * size[0] * size[1] + 2 * channels

    def shrink(stride: tuple[int, int]) -> None:
        size[:] = [-(-length // step) for length, step in zip(size, stride, strict=True)]

    shrink((2, 2))
    convolution(9 * config.in_channels * (base // STEM_STRIDE), base // STEM_STRIDE)
    shrink((2, 2))
    convolution(9 * (base // STEM_STRIDE) * base, base)
    for block in blocks:
        convolution(block.inputs * block.expanded, block.expanded)
        shrink(block.stride)
        convolution(9 * block.expanded, block.expanded)
        convolution(block.expanded * block.outputs, block.outputs)
    convolution(outputs * classes, classes)
    norms = 2 * len(blocks) if config.kind == "cp_mobile" else 0
    return parameters + norms, macs * batch


def propose(
    max_bytes: int = MAX_BYTES,
    max_macs: int = MAX_MACS,
    precision: str = "float16",
    input_shape: tuple[int, ...] = (1, 1, 256, 65),
    like: ModelConfig | None = None,
    show: int = 10,
) -> list[Proposal]:
    """The `show` networks that make most use of both limits, at most one for each width and depth.

    Searched are all combinations of BASES, MULTIPLIERS, EXPANSIONS and BLOCKS with strides in one or two places; `like`
    gives the kind (baseline or CP-Mobile), classes and whatever else is kept. Ranked by the smaller of the
    shares of the two limits: within a family the larger network is mostly the better one, and a limit that is not
    reached is capacity given away. What accuracy they reach only training can tell. input_shape: (1, channels, mel,
    frames). Raises UserError for another kind or precision, and where nothing fits.
    """
    like = replace(like or ModelConfig(), in_channels=input_shape[1], expanded={})
    if precision not in PRECISION_BYTES:
        raise UserError(f"precision: unknown {precision!r}{did_you_mean(precision, PRECISION_BYTES)}")
    if like.kind not in SEARCHED:
        raise UserError(f"model.kind: {like.kind} has no search, choose from {', '.join(SEARCHED)}")
    found = []
    for base, blocks in itertools.product(BASES, BLOCKS):
        best: Proposal | None = None
        for parameters, config in _by_size(replace(like, base_channels=base, blocks=blocks, strides={})):
            size = parameters * PRECISION_BYTES[precision]
            if size > max_bytes:
                continue
            if best and size / max_bytes <= best.used:
                break  # those that follow are smaller still
            for strides in _strides(blocks):
                named = replace(config, strides=strides)
                macs = closed_form(named, input_shape)[1]
                used = min(size / max_bytes, macs / max_macs)
                if macs <= max_macs and (best is None or used > best.used):
                    best = Proposal(named, parameters, size, macs, used)
        if best:
            found.append(best)
    if not found:
        raise UserError(f"no network of this form has at most {max_bytes:,} bytes and {max_macs:,} MACs")
    return sorted(found, key=lambda proposal: -proposal.used)[:show]


def _by_size(like: ModelConfig) -> list[tuple[int, ModelConfig]]:
    """Parameters and config of every channel multiplier and expansion, the largest first."""
    configs = [
        replace(like, channels_multiplier=multiplier, expansion_rate=rate)
        for multiplier, rate in itertools.product(MULTIPLIERS, EXPANSIONS)
    ]
    sized = [(closed_form(config, (1, 1, 8, 8))[0], config) for config in configs]
    return sorted(sized, key=lambda pair: -pair[0])


def _strides(blocks: tuple[int, int, int]) -> Iterator[dict[str, tuple[int, int]]]:
    """Strides in one or two of: the second and the last block of stage 1, the first of stage 2 and of stage 3."""
    numbers = {min(2, blocks[0]), blocks[0], blocks[0] + 1, blocks[0] + blocks[1] + 1}
    names = [f"b{number}" for number in sorted(numbers)]
    for count in (1, 2):
        for places in itertools.combinations(names, count):
            for strides in itertools.product(STRIDES, repeat=count):
                yield dict(zip(places, strides, strict=True))


def search_networks(run: Run, show: int, max_bytes: int, max_macs: int) -> Mapping[str, Any]:
    """Print networks that fit the limits at the recipe's front end and precision."""
    config: Config = run.config
    if show < 1:
        raise UserError(f"--show: is {show}, expected 1 or more")
    shape = mel_shape(config)
    found = propose(max_bytes, max_macs, storage(config), shape, config.model, show)
    rows = [
        [settings_of(p.config), *(f"{n:,}" for n in (p.parameters, p.bytes, p.macs)), f"{100 * p.used:.1f} %"]
        for p in found
    ]
    columns = ["settings", "parameters", "bytes", "MACs", "used of both limits"]
    note = "Take one by its settings as overrides. What it reaches in accuracy only training can tell."
    print_table(f"networks of at most {max_bytes:,} bytes and {max_macs:,} MACs", columns, rows, note)
    return {"input_shape": shape, "precision": storage(config), "networks": [asdict(of) for of in found]}


def settings_of(config: ModelConfig) -> str:
    """What differs from the default network, as overrides of a recipe that a shell takes."""
    plain, default = config_dict(config), config_dict(ModelConfig())
    changed = {key: value for key, value in plain.items() if value != default[key] or key == "base_channels"}
    text = {key: v if isinstance(v, str) else json.dumps(v, separators=(",", ":")) for key, v in changed.items()}
    return " ".join(shlex.quote(f"model.{key}={value}") for key, value in text.items())


def prune_width(model: nn.Module, config: ModelConfig, share: float) -> tuple[nn.Module, ModelConfig]:
    """A smaller copy of a trained network: in every block the `share` of expanded channels that matter least is gone.

    A channel's expansion, depthwise filter and projection go together. It is ranked by the product of their L1 norms
    (Li et al., "Pruning filters for efficient ConvNets", 2017, for one layer): a channel that any of the three switches
    off goes first. Batch norms keep the statistics of what stays; train on afterwards. Returns the network in the mode
    of `model`, and its config (`expanded`). Raises UserError for another network or a share outside 0 to 1.
    """
    if not isinstance(model, CPMobile):
        raise UserError(f"pruning: a {type(model).__name__}, expected a baseline or CP-Mobile network")
    if not 0 <= share < 1:
        raise UserError(f"pruning: a share of {share:g}, expected 0 or more and less than 1")
    state, expanded = dict(model.state_dict()), {}
    for name, block in model.named_modules():
        if isinstance(block, Block):
            kept = _kept(block, share)
            expanded[name.rpartition(".")[2]] = len(kept)
            for key, axis in _expanded_tensors(block):
                state[f"{name}.{key}"] = state[f"{name}.{key}"].index_select(axis, kept)
    smaller = replace(config, expanded=expanded)
    pruned = build_network(smaller).to(next(model.parameters()))
    pruned.load_state_dict(state)
    return pruned.train(model.training), smaller


def _kept(block: Block, share: float) -> Tensor:
    """Indices of the expanded channels that stay, in order; at least one."""
    expand, depthwise, project = (block.get_parameter(f"block.{layer}.0.weight").detach().abs() for layer in range(3))
    norms = expand.sum(dim=(1, 2, 3)) * depthwise.sum(dim=(1, 2, 3)) * project.sum(dim=(0, 2, 3))
    count = max(1, round(len(norms) * (1 - share)))
    return norms.argsort(descending=True, stable=True)[:count].sort().values


def _expanded_tensors(block: Block) -> Iterator[tuple[str, int]]:
    """Name and axis of every tensor of a block that has an entry for each expanded channel."""
    for name, tensor in block.state_dict().items():
        layer = name.split(".")[1] if name.startswith("block.") else ""
        if layer in ("0", "1") and tensor.dim():
            yield name, 0
        elif name == "block.2.0.weight":
            yield name, 1
