"""Counting as the challenge does: published vectors, layer rules one by one, bytes, verdicts, networks brought in."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.nn.utils.fusion import fuse_conv_bn_eval

from common.run.complexity import Complexity, count
from common.run.errors import UserError
from common.run.verbs import main
from task1_asc.__main__ import TASK
from task1_asc.config import ModelConfig
from task1_asc.deployment.complexity import complexity_verb, load_module, verdict
from task1_asc.model.networks import build_network

CP_MOBILE_STRIDES = {"b2": (2, 2), "b4": (2, 1)}


def of(base: int = 32, multiplier: float = 1.8, rate: float = 2.1, **others: Any) -> ModelConfig:
    return ModelConfig(base_channels=base, channels_multiplier=multiplier, expansion_rate=rate, **others)


@pytest.mark.parametrize(
    ("config", "shape", "parameters", "macs"),
    [
        (of(8), (1, 1, 256, 65), 5_722, 2_487_240),
        (of(16), (1, 1, 256, 65), 18_624, 8_449_916),
        (of(24), (1, 1, 256, 65), 35_062, 16_855_776),
        (of(24), (1, 1, 256, 89), 35_062, 22_649_568),
        (of(32), (1, 1, 256, 65), 61_148, 29_419_156),
        (of(32), (1, 1, 256, 43), 61_148, 19_321_492),
        (of(32), (1, 1, 128, 65), 61_148, 14_710_932),
        (of(32), (1, 1, 256, 89), 61_148, 39_526_036),
        (of(32), (4, 1, 256, 65), 61_148, 117_676_624),
        (of(32, blocks=(2, 1, 1)), (1, 1, 256, 65), 41_044, 25_678_852),
        (of(32, in_channels=2, num_classes=3), (1, 2, 256, 65), 60_478, 29_513_606),
        (of(24, blocks=(4, 3, 2)), (1, 1, 256, 65), 75_526, 28_077_760),
        (of(40), (1, 1, 256, 65), 97_666, 47_952_328),
        (of(48), (1, 1, 256, 65), 138_728, 67_925_372),
        (of(64), (1, 1, 256, 65), 228_340, 114_274_900),
        (of(32, 1.5), (1, 1, 256, 65), 49_628, 26_165_684),
        (of(32, 2.0, 2.0), (1, 1, 256, 65), 70_508, 32_073_508),
        (of(32, 2.3, 3.0), (1, 1, 256, 65), 126_940, 53_174_356),
        (of(32, 2.3, 3.0, strides=CP_MOBILE_STRIDES), (1, 1, 256, 65), 126_940, 31_684_180),
        (of(24, 2.1, 2.5), (1, 1, 256, 65), 53_046, 23_894_320),
        *(
            (of(base, 2.3, 3.0, strides=CP_MOBILE_STRIDES, kind="cp_mobile"), (1, 1, 256, 64), parameters, macs)
            for base, parameters, macs in (
                *((8, 13_942, 2_691_272), (16, 39_868, 8_433_836)),
                *((24, 77_314, 17_139_840), (32, 126_952, 28_893_268)),
            )
        ),
    ],
)
def test_published_networks(config: ModelConfig, shape: tuple[int, ...], parameters: int, macs: int) -> None:
    counted = count(build_network(config), shape, "float16")
    assert (counted.parameters, counted.macs, counted.bytes) == (parameters, macs, 2 * parameters)
    assert sum(layer.parameters for layer in counted.layers) == parameters
    assert sum(layer.macs for layer in counted.layers) == macs


@pytest.mark.parametrize(
    ("base", "frames", "parameters", "macs"),
    [(32, 43, 127_684, 28_840_396), (64, 43, 565_924, 119_963_628), (128, 43, 2_376_292, 489_479_212)],
)
def test_published_teachers(base: int, frames: int, parameters: int, macs: int) -> None:
    counted = count(build_network(ModelConfig(kind="cp_resnet", base_channels=base)), (1, 1, 256, frames))
    assert (counted.parameters, counted.macs) == (parameters, macs)


def fused(network: nn.Module) -> nn.Module:
    """A copy whose batch norms are folded into the convolutions before them."""
    network = copy.deepcopy(network).eval()
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Sequential) and len(child) > 1 and isinstance(child[1], nn.BatchNorm2d):
                conv: Any = child[0]
                setattr(module, name, nn.Sequential(fuse_conv_bn_eval(conv, child[1]), *list(child)[2:]))
    return network


def test_fused_batch_norms_change_the_count() -> None:
    network = build_network(ModelConfig())
    counted = count(fused(network), (1, 1, 256, 65))
    assert (counted.parameters, counted.macs) == (59_794, 30_216_768)
    assert len(verdict(counted)) == 2  # MACs, and float32
    # The convolutions are the same, with a bias that no matrix product knows.
    assert counted.honest_macs == count(network, (1, 1, 256, 65)).honest_macs == 29_416_448


class Recurrent(nn.Module):
    """torchinfo's rule for tensors of several steps, on a layer with a tuple as output."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(6, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(x)[0]


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x)[0]


class Twice(nn.Module):
    """A convolution that is called once or twice; with `leftovers`, parameters that no call uses."""

    def __init__(self, calls: int, leftovers: bool) -> None:
        super().__init__()
        self.calls = calls
        self.conv = nn.Conv2d(2, 2, 1, bias=False)
        if leftovers:
            self.unused = nn.Linear(5, 5)
            self.own = nn.Parameter(torch.zeros(7))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.calls):
            x = self.conv(x)
        return x


def half_pruned() -> nn.Module:
    conv = nn.Conv2d(2, 4, 1, bias=False)
    mask = torch.zeros_like(conv.weight)
    mask[:2] = 1
    return nn.Sequential(prune.custom_from_mask(conv, "weight", mask))


@pytest.mark.parametrize(
    ("make", "shape", "parameters", "macs"),
    [
        (lambda: nn.Linear(8, 4), (1, 8), 36, 36),
        (lambda: nn.Linear(8, 4), (1, 5, 8), 36, 36),
        (lambda: nn.Linear(8, 4), (2, 5, 8), 36, 72),
        (Recurrent, (1, 5, 6), 99, 495),
        (lambda: nn.GRU(6, 3, batch_first=True), (1, 5, 6), 99, 495),
        (SelfAttention, (1, 5, 8), 288, 0),
        (lambda: nn.Conv2d(2, 3, 3, padding=1), (1, 2, 4, 5), 57, 1140),
        (lambda: nn.Conv1d(2, 3, 3), (1, 2, 10), 21, 168),
        (lambda: nn.ConvTranspose2d(2, 3, 2, 2), (1, 2, 4, 5), 27, 2160),
        (lambda: nn.LayerNorm(8), (1, 5, 8), 16, 16),
        (lambda: nn.GroupNorm(2, 8), (1, 8, 3, 3), 16, 16),
        (lambda: nn.PReLU(8), (1, 8, 3, 3), 8, 8),
        (lambda: Twice(2, leftovers=False), (1, 2, 3, 3), 4, 72),
        (lambda: Twice(1, leftovers=True), (1, 2, 3, 3), 41, 36),
        (half_pruned, (1, 2, 3, 3), 4, 36),
    ],
)
def test_rules_one_by_one(make: Callable[[], nn.Module], shape: tuple[int, ...], parameters: int, macs: int) -> None:
    model = make()
    counted = count(model, shape, "int8")
    assert (counted.parameters, counted.macs, counted.bytes) == (parameters, macs, parameters)
    assert sum(layer.macs for layer in counted.layers) == macs
    model(torch.zeros(shape))  # still works, pruned or not


@pytest.mark.parametrize(
    ("make", "shape", "macs"),
    [
        (lambda: nn.Linear(8, 4), (1, 5, 8), 160),
        (lambda: nn.Conv2d(2, 3, 3, padding=1), (1, 2, 4, 5), 1080),
        # query, key, value and output for five steps; scores and sums of two heads
        (SelfAttention, (1, 5, 8), 4 * 5 * 8 * 8 + 2 * 5 * 5 * 8),
        (Recurrent, (1, 5, 6), 5 * (3 * 3 * 6 + 3 * 3 * 3)),
        (lambda: nn.LSTM(6, 3, batch_first=True), (1, 5, 6), 5 * (4 * 3 * 6 + 4 * 3 * 3)),
        (half_pruned, (1, 2, 3, 3), 72),
    ],
)
def test_honest_count(make: Callable[[], nn.Module], shape: tuple[int, ...], macs: int) -> None:
    assert count(make(), shape).honest_macs == macs


def test_table_of_the_baseline() -> None:
    layers = {layer.name: layer for layer in count(build_network(ModelConfig()), (1, 1, 256, 65)).layers}
    rows = {
        "in_c.0.0": ((1, 8, 128, 33), 72, 304_128),
        "in_c.1.1": ((1, 32, 64, 17), 64, 64),
        "stages.s1.b3.block.1.0": ((1, 64, 64, 9), 576, 331_776),
        "stages.s2.b4.block.2.0": ((1, 56, 32, 9), 3_584, 1_032_192),
        "stages.s3.b6.block.2.0": ((1, 104, 32, 9), 12_480, 3_594_240),
        "feed_forward.0": ((1, 10, 32, 9), 1_040, 299_520),
    }
    for name, row in rows.items():
        assert (layers[name].output, layers[name].parameters, layers[name].macs) == row, name
    assert len(layers) == 42


def test_bytes_follow_the_type_of_each_tensor() -> None:
    network = build_network(ModelConfig(base_channels=8))
    total = sum(p.numel() for p in network.parameters())
    stem = sum(p.numel() for p in network.get_submodule("in_c").parameters())
    shape = (1, 1, 64, 33)
    assert count(network, shape).bytes == 4 * total
    assert count(network.bfloat16(), shape).bytes == 2 * total
    network.half().get_submodule("in_c").float()
    before = {name: p.dtype for name, p in network.named_parameters()}
    mixed = count(network, shape)
    assert mixed.bytes == 2 * total + 2 * stem
    assert mixed.macs == count(build_network(ModelConfig(base_channels=8)), shape).macs
    assert {name: p.dtype for name, p in network.named_parameters()} == before
    assert network.training
    assert [count(network, shape, p).bytes for p in ("float32", "float16_weights", "int8")] == [
        *(4 * total, 2 * total, total)
    ]
    with pytest.raises(UserError, match="parameters of type float64"):
        count(network.double(), shape)


def test_pruned_elements_cost_no_bytes() -> None:
    assert count(half_pruned(), (1, 2, 3, 3)).bytes == 16


def test_quantised_networks_are_refused() -> None:
    network = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 4)), {nn.Linear})
    with pytest.raises(UserError, match="0: a quantised Linear; count the float network"):
        count(network, (1, 4))


class Functional(nn.Module):
    """The same work as two layers, which no counter of layers sees."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel, self.head = nn.Parameter(torch.zeros(8, 1, 3, 3)), nn.Parameter(torch.zeros(10, 8))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.conv2d(x, self.kernel).mean((2, 3)), self.head)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(6, 10)

    def forward(self, x: Tensor, device: Tensor) -> Tensor:
        return self.head(torch.cat([self.conv(x).mean((2, 3)), device], dim=1))


def small() -> nn.Sequential:
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    return nn.Sequential(nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), *pooled)


@pytest.mark.parametrize("fuse", ["fuse_modules", "fuse_modules_qat"])
def test_fused_float_layers_count(fuse: str) -> None:
    network = small().train(fuse == "fuse_modules_qat")
    counted = count(getattr(torch.ao.quantization, fuse)(network, [["0", "1", "2"]]), (1, 1, 64, 50))
    positions = 62 * 48
    if fuse == "fuse_modules":  # the batch norm has become the convolution's bias
        assert (counted.parameters, counted.macs) == (72 + 8 + 90, (72 + 8) * positions + 90)
    else:
        assert (counted.parameters, counted.macs) == (72 + 16 + 90, 72 * positions + 16 + 90)
    assert counted.doubt is None


@pytest.mark.parametrize("prepare", ["prepare_qat_fx", "fuse_and_convert"])
def test_quantised_convolutions_are_refused(prepare: str) -> None:
    from torch.ao.quantization import get_default_qat_qconfig_mapping, quantize_fx

    mapping, example = get_default_qat_qconfig_mapping("fbgemm"), (torch.zeros(1, 1, 64, 50),)
    network: nn.Module = quantize_fx.prepare_qat_fx(small().train(), mapping, example)
    if prepare == "fuse_and_convert":
        network(*example)
        network = quantize_fx.convert_fx(network.eval())
    with pytest.raises(UserError, match=r"0: a quantised Conv.*; count the float network"):
        count(network, (1, 1, 64, 50))


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (lambda: torch.jit.script(small()), "the network"),
        (lambda: torch.jit.trace(small(), torch.zeros(1, 1, 64, 50)), "the network"),
        (lambda: torch.jit.freeze(torch.jit.script(small().eval())), "the network"),
        (lambda: nn.Sequential(torch.jit.script(nn.Conv2d(1, 8, 3)), nn.ReLU()), "0"),
    ],
)
def test_torchscript_is_refused(make: Callable[[], nn.Module], where: str) -> None:
    with pytest.raises(UserError, match=f"^{where}: TorchScript, which hides its layers"):
        count(make(), (1, 1, 64, 50))


@pytest.mark.parametrize(
    "make",
    [
        Functional,
        SelfAttention,
        lambda: torch.export.export(small().eval(), (torch.zeros(1, 1, 64, 50),)).module(),
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 8, 3))),
        lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Conv2d(1, 8, 3))),
        lambda: nn.Flatten(),
    ],
)
def test_a_count_that_sees_little_says_so(make: Callable[[], nn.Module], capsys: pytest.CaptureFixture[str]) -> None:
    shape = (1, 5, 8) if make is SelfAttention else (1, 1, 64, 50)
    result = complexity_verb(make(), shape)
    assert result["macs"] <= result["honest_macs"] / 2
    (warning,) = result["warnings"]
    assert "MACs (" in warning or "no multiply-accumulate was seen" in warning
    printed = capsys.readouterr().out
    assert f"WARNING: {warning}" in printed
    shown = "x".join(map(str, shape))
    assert printed.rstrip().endswith(f"within the limits at input {shown}, by that count alone")


def test_networks_of_layers_are_beyond_doubt() -> None:
    assert count(build_network(ModelConfig()), (1, 1, 256, 65)).doubt is None
    assert count(small(), (1, 1, 64, 50)).doubt is None
    assert count(nn.GRU(6, 3, batch_first=True), (1, 5, 6)).doubt is None


def test_several_inputs(capsys: pytest.CaptureFixture[str]) -> None:
    shapes = [(1, 1, 64, 50), (1, 2)]
    result = complexity_verb(TwoInputs(), shapes)
    assert (result["parameters"], result["macs"]) == (40 + 70, 40 * 62 * 48 + 70)
    assert result["input_shape"] == [list(shape) for shape in shapes]
    assert "within the limits at input 1x1x64x50 and 1x2" in capsys.readouterr().out
    with pytest.raises(UserError, match="'device'; a network of several inputs takes a shape for each"):
        count(TwoInputs(), (1, 1, 64, 50))
    with pytest.raises(UserError, match=r"at input shape \[1, 1, 64, 50\] and \[1, 3\]: .*; all inputs are float32"):
        count(TwoInputs(), [(1, 1, 64, 50), (1, 3)])


def test_verdict() -> None:
    assert verdict(Complexity(64_000, 30_000_000, 128_000, [], 0)) == []
    too_large = verdict(Complexity(64_001, 30_000_001, 128_002, [], 0))
    assert too_large == [
        "128,002 bytes of parameters, the limit is 128,000",
        "30,000,001 MACs, the limit is 30,000,000",
    ]


def test_verb(capsys: pytest.CaptureFixture[str]) -> None:
    result = complexity_verb(build_network(ModelConfig()), (1, 1, 256, 65), "float16")
    assert (result["parameters"], result["macs"], result["bytes"]) == (61_148, 29_419_156, 122_296)
    assert result["allowed"]
    assert len(result["layers"]) == 42
    assert {"name", "kind", "output", "parameters", "macs"} == set(result["layers"][0])
    printed = capsys.readouterr().out
    assert "within the limits at input 1x1x256x65\n" in printed
    assert "29,419,156" in printed
    result = complexity_verb(build_network(ModelConfig()), (2, 1, 256, 65), "float32")
    assert len(result["violations"]) == 2
    printed = capsys.readouterr().out
    assert printed.count("NOT ALLOWED at input 2x1x256x65: ") == 2
    assert "batch of 2" in printed


MODULE = """
import torch
from torch import nn

def build_network():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.LazyLinear(10))

class Network(nn.Module):
    def forward(self, x):
        raise ValueError("first line\\nsecond line")

def wrong():
    return {"weights": 1}

def needs(size):
    return nn.Linear(size, size)

def large():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 1000))

def two():
    return nn.Bilinear(3, 4, 5)

def pooled():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1))

network = nn.Linear(3, 2)
number = 5
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "brought_network.py").write_text(MODULE)
    (tmp_path / "brought_broken.py").write_text("def build_network(:\n    pass\n")
    (tmp_path / "brought_missing.py").write_text("import no_such_library\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # and taken away again
    return tmp_path


def test_a_network_of_the_working_directory(folder: Path) -> None:
    assert count(load_module("brought_network:network"), (1, 3)).parameters == 8
    with pytest.raises(UserError, match=r"fails at input shape \[1, 7\]: .*7.*3"):
        count(load_module("brought_network:network"), (1, 7))
    with pytest.raises(UserError, match=r"fails at input shape \[1, 7\]: first line second line"):
        count(load_module("brought_network:Network"), (1, 7))


def test_lazy_layers_take_their_size_from_the_shape(folder: Path) -> None:
    counted = count(load_module("brought_network:build_network"), (1, 1, 10, 10), "int8")
    assert counted.parameters == counted.bytes == 40 + 256 * 10 + 10


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("brought_network", "expected module:function"),
        ("no_such_module:build_network", "no module 'no_such_module' in "),
        ("brought_network.inner:build_network", "brought_network"),
        ("brought_missing:build_network", "brought_missing: imports 'no_such_library', which is not installed"),
        ("brought_broken:build_network", r"brought_broken: cannot be imported, SyntaxError.*brought_broken.py:1"),
        ("brought_network:build_netwrok", "has no 'build_netwrok'; did you mean 'build_network'"),
        ("brought_network:wrong", "returns a dict, expected an nn.Module"),
        ("brought_network:needs", "fails when called without arguments, TypeError.*'size'"),
        ("brought_network:number", "is a int, expected a function"),
    ],
)
def test_nothing_to_count(folder: Path, spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        load_module(spec)
    assert "\n" not in str(error.value)


def test_unknown_precision() -> None:
    with pytest.raises(UserError, match="unknown 'fp16'"):
        count(nn.Linear(2, 2), (1, 2), "fp16")


def verb(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[dict[str, Any], str]:
    """The JSON of `complexity` with the toy recipe, and what stands on stderr."""
    assert main(TASK, ["complexity", *words, "--json"]) == code
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    return json.loads(lines[-1]) if lines else {}, printed.err


def test_over_the_limits_is_exit_code_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, error = verb(capsys, "brought_network:large", "--input-shape", "1", "1", "8", "8", code=1)
    assert error == "error: brought_network:large: not within the challenge's limits\n"
    assert found["violations"] == ["260,000 bytes of parameters, the limit is 128,000"]  # the counts stand all the same
    both, _ = verb(
        capsys, "brought_network:pooled", "brought_network:large", "--input-shape", "1", "1", "8", "8", code=1
    )
    assert [of["allowed"] for of in both["networks"].values()] == [True, False]


def test_own_networks_are_measured_at_the_challenges_input(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = verb(capsys, "brought_network:pooled")  # the toy's own is smaller
    assert (found["input_shape"], found["macs"]) == ([1, 1, 256, 65], 40 * 254 * 63)
    assert verb(capsys)[0]["input_shape"] != [1, 1, 256, 65]
    recipe = ("--recipe", "cp_mobile")
    assert verb(capsys, "brought_network:pooled", *recipe)[0]["input_shape"] == [1, 1, 256, 64]


def test_a_shape_for_each_input(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shapes = ("--input-shape", "2", "3", "--input-shape", "2", "4")
    assert verb(capsys, "brought_network:two", *shapes)[0]["input_shape"] == [[2, 3], [2, 4]]
    _, error = verb(capsys, "brought_network:two", "--input-shape", "0", "3", code=1)
    assert error == "error: --input-shape: 0 3, expected sizes of 1 or more\n"
