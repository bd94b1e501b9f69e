"""The networks of Task 1: the published test vector, names, initialisation, the container, copies in half precision."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from common.run.errors import UserError
from task1_asc.config import ModelConfig
from task1_asc.data.classes import DEVICES
from task1_asc.deployment.precision import deployed
from task1_asc.model.cp_mobile import GlobalResponseNorm, plan
from task1_asc.model.devices import MultiDevice
from task1_asc.model.networks import build_network

SMALL = ModelConfig(base_channels=8, blocks=(1, 1, 1), strides={"b1": (2, 2)})


@pytest.fixture(scope="module")
def formula_network() -> tuple[nn.Module, Tensor]:
    """The baseline with the cosines of the specification as weights, and its input."""
    network = build_network(ModelConfig()).double().eval()
    weights = [p for p in network.parameters() if p.dim() == 4]
    with torch.no_grad():
        for k, weight in enumerate(weights):
            i = torch.arange(weight.numel(), dtype=torch.float64)
            weight.copy_((math.sqrt(2 / weight[0].numel()) * torch.cos(0.37 * i + k)).view_as(weight))
    bands, frames = torch.arange(256.0, dtype=torch.float64), torch.arange(65.0, dtype=torch.float64)
    return network, torch.sin(0.05 * bands[:, None] + 0.2 * frames)[None, None]


@torch.no_grad()
def test_published_vector(formula_network: tuple[nn.Module, Tensor]) -> None:
    network, x = formula_network
    moments = {
        "in_c": (0.804114, 1.176230),
        "stages.s1.b1": (0.846998, 1.155969),
        "stages.s1.b2": (0.879437, 1.203209),
        "stages.s1.b3": (0.826145, 0.896393),
        "stages.s2.b4": (0.085149, 0.123238),
        "stages.s2.b5": (0.097402, 0.124421),
        "stages.s3.b6": (0.065872, 0.086962),
    }
    inner: dict[str, tuple[float, float]] = {}

    def keep(name: str) -> None:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            inner[name] = (output.mean().item(), output.std().item())

        network.get_submodule(name).register_forward_hook(hook)

    for name in (
        "in_c",
        "stages.s1.b1",
        "stages.s1.b2",
        "stages.s1.b3",
        "stages.s2.b4",
        "stages.s2.b5",
        "stages.s3.b6",
    ):
        keep(name)
    logits = network(x)[0].tolist()
    for name in moments:
        keep(name)
    logits = network(x)[0].tolist()
    expected = [0.173103, 0.094535, -0.038809, -0.149666, -0.173804, -0.097235, 0.035674, 0.147912, 0.174447, 0.099903]
    assert logits == pytest.approx(expected, abs=2e-6)
    for name, found in inner.items():
        assert found == pytest.approx(moments[name], abs=1e-5), name
    assert len(inner) == len(moments)


@torch.no_grad()
def test_half_precision_is_a_copy(formula_network: tuple[nn.Module, Tensor]) -> None:
    network, x = copy.deepcopy(formula_network[0]).float().train(), formula_network[1].float()
    before = copy.deepcopy(network.state_dict())
    expected = formula_network[0](x.double()).float()
    for precision, dtype in (
        ("float16", torch.float16),
        ("float16_weights", torch.float32),
        ("float32", torch.float32),
    ):
        other = deployed(network, precision)
        assert {p.dtype for p in other.parameters()} == {dtype}
        assert other(x).dtype == torch.float32
        assert not other.training
        assert torch.allclose(other(x), expected, atol=2e-3), precision
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    rounded = deployed(network, "float16_weights")
    assert all(torch.equal(p, p.half().float()) for p in rounded.parameters())
    with pytest.raises(UserError, match="int8"):
        deployed(network, "int8")


def test_names_and_initialisation() -> None:
    torch.manual_seed(0)
    network = build_network(ModelConfig())
    names = list(network.state_dict())
    assert len(names) == 126
    assert names[0] == "in_c.0.0.weight"
    assert "stages.s2.b4.block.1.1.running_var" in names
    assert names[-1] == "feed_forward.1.num_batches_tracked"
    for name, deviation in {
        "in_c.1.0": math.sqrt(2 / (32 * 9)),
        "stages.s3.b6.block.0.0": math.sqrt(2 / 120),
        "stages.s3.b6.block.1.0": math.sqrt(2 / (120 * 9)),
        "stages.s3.b6.block.2.0": math.sqrt(2 / 104),
    }.items():
        assert network.get_parameter(f"{name}.weight").std().item() == pytest.approx(deviation, rel=0.1), name
    assert torch.equal(network.get_parameter("stages.s1.b1.block.0.1.weight"), torch.ones(64))
    torch.manual_seed(0)
    again = build_network(ModelConfig())
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


def test_channels_and_strides() -> None:
    config = ModelConfig(base_channels=24, channels_multiplier=2.1, expansion_rate=2.5)
    assert [(b.name, b.inputs, b.expanded, b.outputs) for b in plan(config)] == [
        *(("b1", 24, 64, 24), ("b2", 24, 64, 24), ("b3", 24, 64, 24)),
        *(("b4", 24, 64, 48), ("b5", 48, 120, 48), ("b6", 48, 120, 104)),
    ]
    maps: dict[str, tuple[int, ...]] = {}
    network = build_network(ModelConfig(strides={"b2": (2, 2), "b4": (2, 1)})).eval()
    for name in ("in_c", "stages.s1.b1", "stages.s1.b2", "stages.s2.b4"):
        network.get_submodule(name).register_forward_hook(
            lambda m, i, output, name=name: maps.update({name: tuple(output.shape[2:])})
        )
    network(torch.zeros(1, 1, 256, 65))
    assert maps == {"in_c": (64, 17), "stages.s1.b1": (64, 17), "stages.s1.b2": (32, 9), "stages.s2.b4": (16, 9)}


def test_global_response_norm_by_hand() -> None:
    layer = GlobalResponseNorm()
    x = torch.tensor([[[[3.0, 4.0]], [[0.0, 1.0]]]])
    assert torch.equal(layer(x), x)
    with torch.no_grad():
        layer.gamma.fill_(2.0)
        layer.beta.fill_(0.5)
        # norms 5 and 1, mean 3
        expected = x + 2.0 * x * torch.tensor([5.0 / 3, 1.0 / 3])[None, :, None, None] + 0.5
        assert torch.allclose(layer(x), expected, atol=1e-5)


@torch.no_grad()
def test_container_scores_each_clip_with_its_own_network() -> None:
    torch.manual_seed(1)
    container = MultiDevice(build_network(SMALL), ["b", "s1"], DEVICES).eval()
    for network in container.device_models.values():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.randn(7, 1, 32, 20)
    devices = ["s1", "a", "b", "s6", "s1", "b", None]
    numbers = torch.tensor([-1 if device is None else DEVICES.index(device) for device in devices])
    expected = torch.cat([container.for_device(device)(x[i : i + 1]) for i, device in enumerate(devices)])
    assert torch.allclose(container(x, numbers), expected, atol=1e-5)
    assert torch.equal(container(x), container.base_model(x))
    assert not torch.allclose(container(x)[0], expected[0], atol=1e-3)
    assert container.for_device("s1") is not container.base_model
    assert container.for_device("s4") is container.for_device(None) is container.base_model
    assert container(x[:0], numbers[:0]).shape == (0, 10)


def test_container_gives_gradients_to_the_networks_of_the_batch() -> None:
    container = MultiDevice(build_network(SMALL), ["a", "b"], DEVICES)
    container(torch.randn(4, 1, 32, 20), torch.tensor([0, 0, 5, 0])).sum().backward()
    a, b = container.device_models["a"], container.device_models["b"]
    assert all(p.grad is not None for p in a.parameters())
    assert all(p.grad is not None for p in container.base_model.parameters())
    assert all(p.grad is None for p in b.parameters())


def test_teachers() -> None:
    student = build_network(ModelConfig(kind="cp_resnet", num_classes=7))
    assert student.eval()(torch.randn(2, 1, 256, 43)).shape == (2, 7)
    passt = build_network(ModelConfig(kind="passt", encoder="passt-tiny", num_classes=7))
    x = torch.randn(2, 1, 128, 100)
    assert not torch.equal(passt(x), passt(x))  # patches are left out
    assert torch.equal(passt.eval()(x), passt(x))
    assert passt(x).shape == (2, 7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strides": {"b9": (1, 2)}}, "model.strides: no block 'b9'"),
        ({"blocks": (3, 0, 1)}, "model.blocks: .*1 or more"),
        ({"base_channels": 0}, "model.base_channels: is 0"),
        ({"kind": "basline"}, "no architecture 'basline'; did you mean 'baseline'"),
        ({"kind": "cp_resnet", "in_channels": 2}, "model.in_channels: is 2"),
    ],
)
def test_wrong_settings(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        build_network(ModelConfig(**change))
    assert "\n" not in str(error.value)


def test_unknown_device() -> None:
    with pytest.raises(UserError, match="unknown device 'S1'"):
        MultiDevice(build_network(SMALL), ["S1"], DEVICES)
