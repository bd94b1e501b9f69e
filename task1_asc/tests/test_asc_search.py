"""Networks inside the limits: the closed form against the counter, proposals, pruning."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from common.run.complexity import count
from common.run.errors import UserError
from task1_asc.config import ModelConfig
from task1_asc.deployment.complexity import verdict
from task1_asc.deployment.search import closed_form, propose, prune_width
from task1_asc.model.networks import build_network

STEPS = st.sampled_from([(1, 1), (1, 2), (2, 1), (2, 2)])


@st.composite
def configs(draw: Any) -> ModelConfig:
    blocks = (draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    names = st.sampled_from([f"b{number}" for number in range(1, sum(blocks) + 1)])
    return ModelConfig(
        kind=draw(st.sampled_from(["baseline", "cp_mobile"])),
        in_channels=draw(st.integers(1, 2)),
        num_classes=draw(st.integers(1, 12)),
        base_channels=draw(st.integers(1, 30)),
        channels_multiplier=draw(st.floats(0.5, 2.5)),
        expansion_rate=draw(st.floats(0.5, 4)),
        blocks=blocks,
        strides=draw(st.dictionaries(names, STEPS, max_size=3)),
        expanded=draw(st.dictionaries(names, st.integers(1, 20), max_size=2)),
    )


@settings(max_examples=15, deadline=None, derandomize=True)
@given(configs(), st.integers(1, 2), st.integers(8, 70), st.integers(8, 70))
def test_closed_form_equals_the_counter(config: ModelConfig, batch: int, mels: int, frames: int) -> None:
    shape = (batch, config.in_channels, mels, frames)
    counted = count(build_network(config), shape)
    assert closed_form(config, shape) == (counted.parameters, counted.macs)


@pytest.mark.parametrize(
    ("architecture", "precision", "limits"),
    [("cp_mobile", "int8", (128_000, 30_000_000)), ("baseline", "float32", (20_000, 2_000_000))],
)
def test_proposals_use_the_limits(architecture: Any, precision: str, limits: tuple[int, int]) -> None:
    like = ModelConfig(kind=architecture, num_classes=7)
    shape = (1, 2, 128, 44)
    found = propose(*limits, precision=precision, input_shape=shape, like=like, show=6)
    assert 1 < len(found) <= 6
    assert len({(p.config.base_channels, p.config.blocks) for p in found}) == len(found)
    assert [p.used for p in found] == sorted((p.used for p in found), reverse=True)
    for proposal in found[:2]:
        assert proposal.config.kind == architecture
        counted = count(build_network(proposal.config), shape, precision)
        assert (proposal.parameters, proposal.bytes, proposal.macs) == (counted.parameters, counted.bytes, counted.macs)
        assert verdict(counted, *limits) == []
        assert proposal.used == min(counted.bytes / limits[0], counted.macs / limits[1])


def test_proposals_use_more_than_the_baseline() -> None:
    assert propose(show=1)[0].used > min(122_296 / 128_000, 29_419_156 / 30_000_000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_bytes": 100}, "no network of this form has at most 100 bytes"),
        ({"precision": "int4"}, "unknown 'int4'"),
        ({"like": ModelConfig(kind="passt")}, "passt has no search, choose from baseline, cp_mobile"),
    ],
)
def test_nothing_to_propose(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        propose(**options)


def trained(config: ModelConfig) -> nn.Module:
    """A network whose batch norms have seen data."""
    torch.manual_seed(3)
    network = build_network(config)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
        network(torch.randn(4, 1, 32, 20))
    return network.eval()


def off(network: nn.Module, name: str, channels: Tensor, how: str) -> None:
    """Switch expanded channels of a block off: their projection is 0, or nothing comes out of the depthwise filter."""
    if how == "project":
        network.get_parameter(f"{name}.block.2.0.weight")[:, channels] = 0
        return
    network.get_parameter(f"{name}.block.1.0.weight")[channels] = 0
    network.get_parameter(f"{name}.block.1.1.weight")[channels] = 0
    network.get_parameter(f"{name}.block.1.1.bias")[channels] = 0


@pytest.mark.parametrize("architecture", ["baseline", "cp_mobile"])
@torch.no_grad()
def test_dead_channels_go_without_a_trace(architecture: Any) -> None:
    config = ModelConfig(kind=architecture, base_channels=16, blocks=(2, 1, 1), strides={"b2": (1, 2)})
    network = trained(config)
    for name, how in {"s1.b1": "project", "s1.b2": "depthwise", "s2.b3": "project", "s3.b4": "depthwise"}.items():
        inner = network.get_submodule(f"stages.{name}.block.0.0").out_channels
        off(network, f"stages.{name}", torch.randperm(inner)[: inner // 4], how)
    before = copy.deepcopy(network.state_dict())
    x = torch.randn(3, 1, 32, 20)
    pruned, smaller = prune_width(network, config, 0.25)
    assert torch.allclose(pruned(x), network(x), atol=1e-5)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert smaller.expanded == {"b1": 24, "b2": 24, "b3": 24, "b4": 48}
    assert not pruned.training
    counted = count(pruned, (1, 1, 32, 20))
    assert (counted.parameters, counted.macs) == closed_form(smaller, (1, 1, 32, 20))
    assert counted.macs < count(network, (1, 1, 32, 20)).macs
    build_network(smaller).load_state_dict(pruned.state_dict())  # its config makes it again


def test_live_channels_matter() -> None:
    config = ModelConfig(base_channels=8, blocks=(1, 1, 1), strides={})
    network = trained(config)
    x = torch.randn(2, 1, 32, 20)
    pruned, smaller = prune_width(network, config, 0.5)
    assert smaller.expanded == {"b1": 8, "b2": 8, "b3": 16}
    assert not torch.allclose(pruned(x), network(x), atol=1e-3)
    same, unchanged = prune_width(network, config, 0.0)
    assert torch.equal(same(x), network(x))
    assert unchanged.expanded == {"b1": 16, "b2": 16, "b3": 32}
    again, twice = prune_width(pruned, smaller, 0.5)
    assert twice.expanded == {"b1": 4, "b2": 4, "b3": 8}
    assert again(x).shape == (2, 10)
    assert prune_width(network, config, 0.999)[1].expanded == {"b1": 1, "b2": 1, "b3": 1}


def test_nothing_to_prune() -> None:
    with pytest.raises(UserError, match="a Linear, expected a baseline or CP-Mobile"):
        prune_width(nn.Linear(2, 2), ModelConfig(), 0.5)
    with pytest.raises(UserError, match="a share of 1"):
        prune_width(build_network(ModelConfig(base_channels=8)), ModelConfig(base_channels=8), 1.0)
