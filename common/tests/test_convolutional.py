"""The convolutional encoders: published sizes, torchvision's layers as a second opinion, edges of the input."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchinfo
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from common.encoders import cp_resnet, mobilenet, panns, vggish
from common.encoders.base import Encoder
from common.encoders.cp_resnet import CPResNet, CPResNetConfig, scene_config, task2_config
from common.frontends import SETTINGS, LogMel
from common.run.errors import UserError

MODELS: dict[str, Callable[..., Encoder]] = {**mobilenet.MODELS, **panns.MODELS, **vggish.MODELS, **cp_resnet.MODELS}
TINY = [name for name in MODELS if name.endswith("-tiny")]

# Parameters; then million multiply-accumulates of convolutions and linear layers for clips of 1 s and 10 s.
PUBLISHED: dict[str, tuple[int, float | None, float | None]] = {
    "mn01": (123_783, 2.00, 18.1),
    "mn02": (324_695, 4.55, 40.3),
    "mn04": (983_599, 12.7, 110.6),
    "mn05": (1_431_239, 18.5, 160.0),
    "mn10": (4_876_831, 63.0, 541.1),
    "mn20": (17_909_287, None, 2060),
    "mn30": (39_086_367, None, 4550),
    "mn40": (68_427_303, None, 8030),
    "mn10-fc": (3_478_638, None, None),
    "mn10-fc-s2221": (3_478_638, None, 1150),
    "mn10-fc-s2211": (3_478_638, None, 3980),
    "frame_mn06": (1_615_022, None, 440.9),
    "frame_mn10": (3_830_798, None, 1055),
    "panns-cnn10": (5_219_279, None, 13_010),
    "panns-cnn14": (80_753_615, None, 20_040),
    "vggish": (72_141_184, 863.9, None),
    "cp-resnet-asc22": (127_684, 28.84, 307.6),
}


def unreal(name: str, **options: Any) -> Encoder:
    """The model without memory for its numbers."""
    with torch.device("meta"):
        return MODELS[name](**options).eval()


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def megamacs(network: Callable[[Tensor], Any], *shape: int) -> float:
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(shape, device="meta"))
    return counter.get_total_flops() / 2e6


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name: str) -> None:
    encoder = unreal(name)
    parameters, one_second, ten_seconds = PUBLISHED[name]
    assert size(encoder) == parameters
    for seconds, expected in ((1, one_second), (10, ten_seconds)):
        if expected is not None:
            frames = encoder.front_end.num_frames(seconds * encoder.sample_rate)
            assert megamacs(encoder.from_mel, 1, encoder.front_end.num_mels, frames) == pytest.approx(
                expected, rel=5e-3
            )


def test_names_of_the_published_files() -> None:
    assert len(unreal("mn10").state_dict()) == 312
    assert len(unreal("mn01").state_dict()) == 294  # some expansion layers have nothing to expand
    names = set(unreal("mn10").state_dict())
    assert {"features.0.1.running_var", "features.4.block.2.conc_se_layers.0.fc1.bias", "classifier.5.bias"} <= names
    assert {"features.1.block.0.0.weight", "features.1.block.1.1.bias", "features.15.block.3.0.weight"} <= names
    assert {"classifier.0.weight", "classifier.1.running_mean"} <= set(unreal("mn10-fc").state_dict())


def test_channels_of_a_narrow_network() -> None:
    features = mobilenet.make_features(0.4, mobilenet.clip_strides())
    found = []
    for layer in features[1:-1]:
        squeezes = [m.conc_se_layers[0].fc1.out_features for m in layer.block if hasattr(m, "conc_se_layers")]
        depthwise, projection = layer.block[-3 if squeezes else -2], layer.block[-1]
        inputs = layer.block[0][0].in_channels
        found.append((inputs, depthwise[0].out_channels, projection[0].out_channels, squeezes[0] if squeezes else 0))
    assert found == [
        *((8, 8, 8, 0), (8, 24, 16, 0), (16, 32, 16, 0), (16, 32, 16, 8), (16, 48, 16, 16), (16, 48, 16, 16)),
        *((16, 96, 32, 0), (32, 80, 32, 0), (32, 72, 32, 0), (32, 72, 32, 0), (32, 192, 48, 48), (48, 272, 48, 72)),
        *((48, 272, 64, 72), (64, 384, 64, 96), (64, 384, 64, 96)),
    ]
    assert [i for i, layer in enumerate(features[1:-1], start=1) if layer.residual] == [
        1,
        3,
        5,
        6,
        8,
        9,
        10,
        12,
        14,
        15,
    ]


@pytest.mark.parametrize(
    ("channels", "expected"), [(1, 8), (8.8, 8), (11, 16), (12, 16), (28.8, 32), (18, 24), (44, 48), (7.9, 8)]
)
def test_rounded_channels(channels: float, expected: int) -> None:
    assert mobilenet.scaled(channels) == expected


def map_sizes(features: nn.Sequential, frames: int) -> list[tuple[int, int]]:
    x, found = torch.empty(1, 1, 128, frames, device="meta"), []
    for layer in features:
        x = layer(x)
        found.append((x.shape[2], x.shape[3]))
    return found


def test_map_sizes() -> None:
    ten = [(64, 500)] * 2 + [(32, 250)] * 2 + [(16, 125)] * 3 + [(8, 63)] * 6 + [(4, 32)] * 4
    one = [(64, 50)] * 2 + [(32, 25)] * 2 + [(16, 13)] * 3 + [(8, 7)] * 6 + [(4, 4)] * 4
    assert map_sizes(unreal("mn10").features, 1000) == ten
    assert map_sizes(unreal("mn10").features, 100) == one
    frame_wise = map_sizes(unreal("frame_mn10").features, 1000)
    assert [f for f, _ in frame_wise] == [64, 64, 32, 16, 16, 16, 8, 8, 4, 4, 4, 2, 2, 2, 2, 1, 1]
    assert [t for _, t in frame_wise] == [500, 500, *[250] * 15]


def test_features_are_those_of_torchvision_with_another_gate() -> None:
    torch.manual_seed(1)
    official = torchvision.models.mobilenet_v3_large().features.eval()
    official[0][0] = nn.Conv2d(1, 16, 3, 2, 1, bias=False)
    for module in official.modules():
        if isinstance(module, torchvision.ops.SqueezeExcitation):
            module.scale_activation = nn.Sigmoid()
    own = mobilenet.make_features(1.0, mobilenet.clip_strides()).eval()
    values = [value for name, value in official.state_dict().items() if "num_batches" not in name]
    names = [name for name in own.state_dict() if "num_batches" not in name]
    state = {name: v.reshape(own.state_dict()[name].shape) for name, v in zip(names, values, strict=True)}
    own.load_state_dict(state, strict=False)
    x = torch.randn(1, 1, 64, 40)
    with torch.inference_mode():
        expected = official(x)
        assert torch.allclose(own(x), expected, atol=1e-4 * expected.std())


# The receptive field, measured: which inputs one output depends on.


def receptive_field(config: CPResNetConfig) -> tuple[int, int]:
    network = CPResNet(config, 1).eval()
    for parameter in network.parameters():
        # Positive everywhere, so that nothing cancels and no ReLU stops anything.
        nn.init.constant_(parameter, 1.0 / parameter[0].numel() if parameter.dim() > 1 else 1.0)
    for stage in network.layers()[1:]:
        for name, module in list(stage.named_children()):
            if isinstance(module, nn.MaxPool2d):  # a maximum passes on one input only
                setattr(stage, name, nn.AvgPool2d(module.kernel_size))
    x = torch.ones(1, 1, 400, 300, requires_grad=True)
    y = x
    for layer in network.layers():
        y = layer(y)
    y[0, :, y.shape[2] // 2, y.shape[3] // 2].sum().backward()
    assert x.grad is not None
    touched = x.grad[0, 0] != 0
    return int(touched.any(dim=1).sum()), int(touched.any(dim=0).sum())


@pytest.mark.parametrize(
    ("setting", "expected"), [("very_small", 47), ("a_bit_smaller", 71), ("normal", 87), ("a_bit_larger", 103)]
)
def test_receptive_fields(setting: str, expected: int) -> None:
    assert receptive_field(task2_config(setting, 2)) == (expected, expected)


def test_receptive_field_of_the_scene_student() -> None:
    assert receptive_field(scene_config(channels=4, cut=(0, 0, 0))) == (155, 55)


def test_rho_enlarges_one_kernel_after_another() -> None:
    def kernels(rho: int) -> list[int]:
        config = scene_config(rho, blocks=(2, 2, 2), cut=(0, 0, 0))
        return [kernel for stage in config.kernels for block in stage for kernel in block]

    assert kernels(1) == [3, 1] + [1] * 10
    for rho in range(2, 12):
        assert kernels(rho) == [3, 1] + [3] * (rho - 1) + [1] * (11 - rho)
    assert kernels(20) == [3, 1] + [3] * 10
    assert scene_config().kernels == (((3, 1), (3, 3)), ((3, 3),), ((3, 1),))
    assert scene_config().channels == (32, 64, 92)


@pytest.mark.parametrize(
    ("channels", "parameters", "macs"),
    [(32, 127_684, 28_840_396), (64, 565_924, 119_963_628), (128, 2_376_292, 489_479_212)],
)
def test_scene_networks_as_torchinfo_counts_them(channels: int, parameters: int, macs: int) -> None:
    network = CPResNet(scene_config(channels=channels), 10)
    summary = torchinfo.summary(network, input_size=(1, 1, 256, 44), verbose=0)
    assert (summary.total_params, summary.total_mult_adds) == (parameters, macs)


@pytest.mark.parametrize(
    ("setting", "macs", "parameters"),
    [
        ("very_small", (474, 1870), (432_322, 1_716_610, 6_841_090)),
        ("a_bit_smaller", (554, 2190), (497_858, 1_978_754, 7_889_666)),
        ("normal", (569, 2250), (530_626, 2_109_826, 8_413_954)),
        ("a_bit_larger", (584, 2310), (563_394, 2_240_898, 8_938_242)),
    ],
)
def test_anomaly_networks(setting: str, macs: tuple[int, ...], parameters: tuple[int, ...]) -> None:
    with torch.device("meta"):
        networks = [CPResNet(task2_config(setting, channels), 1).eval() for channels in (64, 128, 256)]
    assert tuple(size(network) for network in networks) == parameters
    found = [megamacs(network, 1, 1, 128, 256) for network in networks[:2]]
    assert found == pytest.approx(macs, rel=5e-3)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_an_untrained_cp_resnet_answers_zero(batch_norm: bool) -> None:
    network = CPResNet(task2_config(channels=4, batch_norm=batch_norm), 3)
    assert torch.equal(network(torch.randn(2, 1, 128, 64)), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="without outputs"):
        CPResNet(task2_config(channels=4), None)(torch.randn(1, 1, 128, 64))


def test_initialisation_does_not_depend_on_networks_built_before() -> None:
    weights = []
    for _ in range(2):
        torch.manual_seed(5)
        weights.append(CPResNet(task2_config(channels=64), 1).state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    std = weights[0]["stage1.block2.conv1.weight"].std()
    assert float(std) == pytest.approx(math.sqrt(2 / (9 * 64)) / math.sqrt(7), rel=0.03)
    std = weights[0]["stage2.block1.shortcut.conv.weight"].std()
    assert float(std) == pytest.approx(math.sqrt(2 / 128), rel=0.03)


def test_wrong_options_are_named() -> None:
    with pytest.raises(UserError, match="did you mean 'normal'"):
        task2_config("norml")
    with pytest.raises(UserError, match="no classes"):
        MODELS["vggish-tiny"](num_classes=5)


# Files of other code.


@pytest.mark.parametrize(
    ("name", "prefixes"),
    [
        ("mn-tiny", ("", "net.", "model.", "module.")),
        ("frame_mn-tiny", ("", "model.frame_mn.", "frame_mn.", "net.model.frame_mn.")),
        ("panns-tiny", ("", "model.")),
        ("vggish-tiny", ("", "module.")),
    ],
)
def test_prefixes_of_files(name: str, prefixes: tuple[str, ...]) -> None:
    state = MODELS[name]().state_dict()
    for prefix in prefixes:
        named = {key if key.startswith(("strong_", "weak_")) else prefix + key: value for key, value in state.items()}
        assert set(MODELS[name]().canonical(named)) == set(state), prefix


@pytest.mark.parametrize("prefix", ["", "network.", "net.", "network.net.", "model.net."])
def test_prefixes_of_cp_resnet_files(prefix: str) -> None:
    encoder = MODELS["cp-resnet-tiny"]()
    state = {prefix + name: value for name, value in encoder.network.state_dict().items()}
    found = encoder.canonical(state | {"mel.window": torch.ones(3)})
    assert set(found) == set(encoder.state_dict()) | {"mel.window"}


def test_front_end_tables_of_panns_files() -> None:
    encoder = MODELS["panns-tiny"]()
    tables = {name: torch.zeros(513, 1, 1024) for name in panns.STFT_TABLES}
    good = encoder.state_dict() | tables | {panns.MEL_TABLE: LogMel("panns").bank.T}
    encoder.load_state_dict(encoder.canonical(good))
    with pytest.raises(UserError, match=r"melW: shape \(257, 64\), expected \(513, 64\)"):
        encoder.canonical(good | {panns.MEL_TABLE: torch.zeros(257, 64)})


@pytest.mark.parametrize(
    ("name", "head"), [("mn04", "classifier.5."), ("mn10-fc", "classifier."), ("panns-cnn10", "fc_audioset.")]
)
def test_other_classes_replace_the_published_part_only(name: str, head: str) -> None:
    published, other, headless = (unreal(name, num_classes=classes) for classes in (527, 3, None))
    assert other.head_names == (head,)
    shapes = {key: value.shape for key, value in published.state_dict().items()}
    changed = {key for key, value in other.state_dict().items() if value.shape != shapes[key]}
    assert changed
    assert all(key.startswith(head) for key in changed)
    assert other.state_dict()[other.head_weight].shape[0] == 3
    kept = {key for key in shapes if not key.startswith(headless.head_names)}
    assert kept == set(headless.state_dict())


# VGGish.


def test_examples_follow_each_other_and_the_rest_is_dropped() -> None:
    mel = torch.arange(200.0).expand(1, 64, 200)
    examples = vggish.VGGish.examples(mel)
    assert examples.shape == (1, 2, 96, 64)
    assert torch.equal(examples[0, :, :, 5].flatten(), torch.arange(192.0))


def test_similarity_features_are_means_of_activations_before_the_relu() -> None:
    encoder = MODELS["vggish-tiny"]().eval()
    wave = 0.1 * torch.randn(1, 4 * 16000)
    taps: list[Tensor] = []
    convolutions = [layer for layer in encoder.features if isinstance(layer, nn.Conv2d)]
    for layer in convolutions[-2:]:
        layer.register_forward_hook(lambda _m, _i, output: taps.append(output.clone()))
    with torch.inference_mode():
        mel = encoder.mel(wave)[..., :384].transpose(1, 2).reshape(2, 1, 192, 64)
        encoder.features(mel)
        expected = torch.cat([tap.permute(0, 2, 3, 1).reshape(2, -1) for tap in taps], dim=1).mean(dim=0)
        assert torch.allclose(encoder.similarity_features(wave)[0], expected, atol=1e-6)


@settings(deadline=None, max_examples=10)
@given(samples=st.integers(1, 200_000))
def test_similarity_features_have_one_length(samples: int) -> None:
    encoder = MODELS["vggish-tiny"]().eval()
    wave = torch.linspace(-0.5, 0.5, samples)[None]
    silence = torch.zeros(1, -samples % 32000)
    with torch.inference_mode():
        found = encoder.similarity_features(wave)
        assert found.shape == (1, 2 * 24 * 8 * 16)
        assert torch.equal(found, encoder.similarity_features(torch.cat((wave, silence), dim=1)))
        assert torch.isfinite(found).all()


# What holds for all.


def tiny(name: str, **options: Any) -> Encoder:
    """With batch norm scales and an output that make the activations of random weights worth comparing."""
    torch.manual_seed(3)
    encoder = MODELS[name](**options)
    for parameter in encoder.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)
    encoder.name = name
    return encoder


def noise(encoder: Encoder, batch: int, seconds: float) -> Tensor:
    generator = torch.Generator().manual_seed(11)
    return 0.1 * torch.randn(batch, round(seconds * encoder.sample_rate), generator=generator)


def classes_of(name: str) -> list[int | None]:
    return [None] if name.startswith("vggish") else [None, 1, 5]


@pytest.mark.parametrize("name", TINY)
def test_shapes_and_neighbours(name: str) -> None:
    for classes in classes_of(name):
        encoder = tiny(name, num_classes=classes).eval()
        wave = noise(encoder, 3, 2.3)
        with torch.inference_mode():
            out, alone, asked = encoder(wave), encoder(wave[1:2]), encoder(wave, frames=7)
        steps = 2.3 * (encoder.frame_rate or encoder.step_rate)
        assert out.frames.shape == (3, out.frames.shape[1], encoder.embedding_dim)
        assert abs(out.frames.shape[1] - steps) <= 1.5
        assert out.clip.shape == (3, encoder.clip_dim)
        assert asked.frames.shape[1] == 7
        assert torch.allclose(out.clip[1:2], alone.clip, atol=1e-5)
        assert torch.allclose(out.frames[1:2], alone.frames, atol=1e-5)
        assert (out.logits is None) == (classes is None)
        if classes:
            assert out.logits.shape == (3, classes)
            assert encoder.state_dict()[encoder.head_weight].shape[0] == classes


@pytest.mark.parametrize("name", TINY)
def test_every_parameter_learns_and_has_a_layer(name: str) -> None:
    encoder = tiny(name)
    out = encoder(noise(encoder, 4, 3.0))
    sum(x.square().sum() for x in out if x is not None).backward()
    without = [key for key, p in encoder.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without
    layers = encoder.layers()
    assert sum(len(named) for named in layers.values()) == len(list(encoder.parameters()))
    blocks = [layer for layer in layers if layer.startswith("block")]
    assert len(blocks) >= 3
    assert ("head" in layers) == bool(encoder.head_names)


@pytest.mark.parametrize("name", TINY)
def test_short_and_long_waveforms(name: str) -> None:
    encoder = tiny(name).eval()
    shortest = next(n for n in range(100, 40000, 20) if encoder.front_end.num_frames(n) >= max(1, encoder.shortest))
    for samples in (shortest, 40 * encoder.sample_rate):
        with torch.inference_mode():
            out = encoder(torch.linspace(-0.5, 0.5, samples)[None])
        assert out.frames.shape[1] >= 1
        assert all(x.isfinite().all() for x in out if x is not None)
    with pytest.raises(UserError, match="too short"):
        encoder(torch.zeros(1, 90))
    if encoder.shortest > 1:
        with pytest.raises(UserError, match="too short"):
            encoder(torch.zeros(1, shortest - encoder.front_end.setting.hop))


@pytest.mark.parametrize("name", ["mn01", "panns-cnn14", "cp-resnet-very-small-64", "cp-resnet-asc22", "vggish"])
def test_the_shortest_input_is_the_shortest(name: str) -> None:
    encoder = unreal(name)
    mels, shortest = encoder.front_end.num_mels, max(1, encoder.shortest)
    assert encoder.from_mel(torch.empty(1, mels, shortest, device="meta")).frames.shape[1] == 1
    if shortest > 1 and name != "vggish":
        with pytest.raises(RuntimeError):
            encoder.from_mel(torch.empty(1, mels, shortest - 1, device="meta"))


@pytest.mark.parametrize("name", TINY)
def test_bfloat16_is_near(name: str) -> None:
    encoder = tiny(name).eval()
    wave = noise(encoder, 2, 2.0)
    with torch.inference_mode():
        exact = encoder(wave)
        with torch.autocast("cpu", torch.bfloat16):
            rough = encoder(wave)
    error = (rough.clip.float() - exact.clip).norm() / exact.clip.norm()
    assert 0 < error < 0.03  # bfloat16 has a relative step of 0.4 %


@pytest.mark.parametrize("name", TINY)
def test_compiles_in_one_piece(name: str) -> None:
    encoder = tiny(name).eval()
    mel = encoder.mel(noise(encoder, 2, 2.0))
    compiled = torch.compile(encoder.from_mel, backend="eager", fullgraph=True)
    with torch.inference_mode():
        for found, expected in zip(compiled(mel), encoder.from_mel(mel), strict=True):
            assert (found is None and expected is None) or torch.allclose(found, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_compiled_code(name: str) -> None:
    encoder = tiny(name).eval()
    mel = encoder.mel(noise(encoder, 2, 2.0))
    with torch.inference_mode():
        expected, found = encoder.from_mel(mel), torch.compile(encoder.from_mel, fullgraph=True)(mel)
        assert torch.allclose(found.clip, expected.clip, atol=1e-4 * expected.clip.abs().max())


@pytest.mark.parametrize("name", TINY)
def test_checkpointing_gives_the_same_gradients(name: str) -> None:
    plain = tiny(name)
    lean = copy.deepcopy(plain)
    lean.checkpointing = True
    wave = noise(plain, 2, 2.0)
    for encoder in (plain, lean):
        torch.manual_seed(2)  # dropout
        encoder(wave).clip.square().sum().backward()
    for expected, found in zip(plain.parameters(), lean.parameters(), strict=True):
        if expected.grad is not None:
            assert torch.allclose(found.grad, expected.grad, rtol=1e-4, atol=1e-5 * expected.grad.abs().max())


@pytest.mark.parametrize("name", TINY)
def test_dropout_acts_in_training_only(name: str) -> None:
    encoder = tiny(name).eval()
    mel = encoder.mel(noise(encoder, 2, 2.0))
    assert torch.equal(encoder.from_mel(mel).clip, encoder.from_mel(mel).clip)
    for module in encoder.train().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    first, second = (encoder.from_mel(mel) for _ in range(2))
    assert torch.equal(first.clip, second.clip) == (not name.startswith("panns"))
    if name in ("panns-tiny", "mn-tiny"):
        assert not torch.equal(first.logits, second.logits)


def test_variants_of_the_front_end() -> None:
    base = SETTINGS["mel_32k"]
    for ms, hop in ((5, 160), (15, 480), (20, 640), (25, 800)):
        setting = unreal(f"mn10-hop{ms}").front_end.setting
        assert (setting.hop, setting.window, setting.fft) == (hop, base.window, base.fft)
    for bands in (40, 64, 256):
        encoder = unreal(f"mn10-mels{bands}")
        out = encoder.from_mel(torch.empty(1, bands, 100, device="meta"))
        assert out.clip.shape == (1, 960)
