"""BEATs: position buckets and gate by hand, fused attention against the plain formula, names of the published files."""

import math

import pytest
import torch
from torch import Tensor

from common.encoders.base import Encoder, Output
from common.encoders.beats import MODELS, Attention, BEATs, relative_bias, relative_buckets
from common.run.errors import UserError

TABLE = "self_attn.relative_attention_bias.weight"


def tiny(**options) -> BEATs:
    torch.manual_seed(0)
    model = MODELS["beats-tiny"](**options)
    assert isinstance(model, BEATs)
    return model


def noise(batch: int, seconds: float) -> Tensor:
    return 0.1 * torch.randn(batch, round(16000 * seconds), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("distance", "bucket"),
    [
        (0, 0),
        (-1, 1),
        (1, 161),
        (-79, 79),
        (79, 239),
        (-80, 80),
        (-82, 80),  # 80 log10(82 / 80) = 0.858
        (-83, 81),  # 80 log10(83 / 80) = 1.279
        (100, 247),  # 80 log10(100 / 80) = 7.753
        (-799, 159),
        (-800, 159),
        (5000, 319),
    ],
)
def test_buckets_by_hand(distance: int, bucket: int) -> None:
    tokens = abs(distance) + 2
    assert relative_buckets(tokens)[distance + tokens - 1] == bucket


def test_bias_of_a_pair_is_that_of_key_minus_query() -> None:
    table = torch.nn.Embedding(320, 3)
    bias = relative_bias(table, 90)
    assert bias.shape == (3, 90, 90)
    for query, key in [(0, 0), (0, 1), (1, 0), (5, 89), (89, 2), (89, 89)]:
        bucket = relative_buckets(90)[key - query + 89]
        assert torch.equal(bias[:, query, key], table.weight[bucket])


def test_gate_by_hand() -> None:
    attention = Attention(8, 2, torch.nn.Embedding(320, 2), 0.0)
    with torch.no_grad():
        attention.grep_linear.weight.zero_()
        attention.grep_linear.bias.copy_(torch.tensor([0.25, 0.25, 0.25, 0.25, 0.0, 0.0, -1.0, -1.0]))
        attention.grep_a.copy_(torch.tensor([3.0, 0.0]).reshape(1, 2, 1, 1))
    a, b = 1 / (1 + math.exp(-1.0)), 1 / (1 + math.exp(2.0))
    gate = attention.gate(torch.randn(1, 2, 5, 4))
    expected = torch.tensor([a * (b * 3.0 - 1.0) + 2.0, 2.0 - a]).reshape(1, 2, 1, 1)
    torch.testing.assert_close(gate, expected.expand(1, 2, 5, 1))


def plain_attention(attention: Attention, x: Tensor, bias: Tensor) -> Tensor:
    """The published arithmetic, which is meant for half precision: scaled down, row maximum off, scaled up."""
    batch, tokens, dim = x.shape
    heads, size = attention.heads, dim // attention.heads

    def split(project: torch.nn.Linear) -> Tensor:
        return project(x).reshape(batch, tokens, heads, size).permute(0, 2, 1, 3)

    q, k, v = split(attention.q_proj), split(attention.k_proj), split(attention.v_proj)
    logits = attention.grep_linear(q).reshape(batch, heads, tokens, 2, 4).sum(-1).sigmoid()
    gate = logits[..., :1] * (logits[..., 1:] * attention.grep_a - 1.0) + 2.0
    scores = (q / (math.sqrt(size) * 32.0)) @ k.transpose(2, 3)
    scores = (scores - scores.amax(dim=-1, keepdim=True)) * 32.0
    weights = (scores + gate * bias).softmax(dim=-1)
    return attention.out_proj((weights @ v).permute(0, 2, 1, 3).reshape(batch, tokens, dim))


def test_fused_attention_is_the_published_arithmetic() -> None:
    torch.manual_seed(0)
    table = torch.nn.Embedding(320, 4)
    attention = Attention(32, 4, table, 0.1).double().eval()
    torch.nn.init.normal_(attention.grep_a)
    x = 3.0 * torch.randn(2, 100, 32, dtype=torch.float64)
    bias = relative_bias(table.double(), 100)
    torch.testing.assert_close(attention(x, bias), plain_attention(attention, x, bias), rtol=1e-10, atol=1e-10)


def test_layer_is_post_norm_with_a_scaled_residual() -> None:
    model = tiny().eval()
    layer, x = model.encoder.layers[0], torch.randn(1, 9, 48)
    bias = relative_bias(layer.self_attn.relative_attention_bias, 9)
    scale = (2 * 2) ** 0.25  # two layers
    norm = torch.nn.functional.layer_norm
    y = norm(scale * x + plain_attention(layer.self_attn, x, bias), (48,))
    expected = norm(scale * y + layer.fc2(torch.nn.functional.gelu(layer.fc1(y))), (48,))
    torch.testing.assert_close(layer(x, bias), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("seconds", "tokens"), [(0.2, 8), (1.0, 48), (5.0, 248), (10.0, 496), (13.0, 648)])
def test_lengths(seconds: float, tokens: int) -> None:
    model = tiny().eval()
    waveform = noise(2, seconds)
    with torch.inference_mode():
        assert model.sequence(model.mel(waveform)).shape == (2, tokens, 48)
        out = model(waveform)
        assert out.frames.shape == (2, round(25 * seconds), 48)
        assert model(waveform, frames=250).frame_logits.shape == (2, 250, 447)


def test_tokens_are_time_major() -> None:
    model = tiny().eval()
    mel = torch.zeros(1, 128, 160)
    patches: list[Tensor] = []
    model.layer_norm.register_forward_pre_hook(lambda _module, inputs: patches.append(inputs[0]))
    with torch.inference_mode():
        mel[0, 3 * 16 : 4 * 16, 5 * 16 : 6 * 16] = 1.0
        model.sequence(mel)
    assert patches[0].abs().sum(-1).nonzero().tolist() == [[0, 8 * 5 + 3]]


def test_long_recordings_go_in_windows() -> None:
    model = tiny().eval()
    model.longest = 2.0
    waveform = noise(1, 5.0)
    with torch.inference_mode():
        out, first = model(waveform), model(waveform[:, :32000])
    assert out.frames.shape == (1, 125, 48)
    torch.testing.assert_close(out.frames[:, :50], first.frames)


def test_too_short() -> None:
    model = tiny()
    model.name = "beats-tiny"
    needed = 400 + 15 * 160
    assert model(torch.zeros(1, needed)).frames.shape[1] == 4
    with pytest.raises(UserError, match="too short"):
        model(torch.zeros(1, needed - 1))


def test_the_bias_table_is_one_parameter_under_every_layer_s_name() -> None:
    model = tiny()
    names = [f"encoder.layers.{index}.{TABLE}" for index in range(2)]
    assert set(names) <= set(model.state_dict())
    assert [name for name, _ in model.named_parameters() if name.endswith(TABLE)] == names[:1]
    assert names[0] in model.layers()["block0"]
    before = model.encoder.layers[1].self_attn.relative_attention_bias.weight.clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model(noise(1, 1.0)).logits.square().mean().backward()
    optimizer.step()
    after = [layer.self_attn.relative_attention_bias.weight for layer in model.encoder.layers]
    assert torch.equal(after[0], after[1])
    assert not torch.equal(after[0], before)


def test_layers() -> None:
    model = tiny()
    layers = model.layers()
    assert list(layers) == ["embeddings", "block0", "block1", "head"]
    assert "encoder.pos_conv.0.parametrizations.weight.original1" in layers["embeddings"]
    assert sum(len(layer) for layer in layers.values()) == len(list(model.parameters()))
    groups = model.parameter_groups(1.0, decay=0.5, head_lr=3.0)
    rates = {group["layer"]: group["lr"] for group in groups}
    assert rates == {"head": 3.0, "block1": 0.5, "block0": 0.25, "embeddings": 0.25}


def test_parameters_of_the_base_model() -> None:
    with torch.device("meta"):
        model = MODELS["beats"](num_classes=None)
    assert sum(parameter.numel() for parameter in model.parameters()) == 90_311_792


def respelled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for new, name in old.items():
        state = {key.replace(new, name): value for key, value in state.items()}
    return state


@pytest.mark.parametrize(
    "prefix", ["", "model.", "model.model.", "net_strong.model.model.", "as_model.model.", "beats."]
)
@pytest.mark.parametrize("outer", ["", "model."])
@pytest.mark.parametrize("old_names", [False, True])
def test_names_of_other_files(prefix: str, outer: str, old_names: bool) -> None:
    state = tiny().state_dict()
    heads = ("strong_head.", "weak_head.")
    file = {f"{outer}{'' if name.startswith(heads) else prefix}{name}": value for name, value in state.items()}
    found = tiny().canonical(respelled(file) if old_names else file)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_unknown_names_stay_to_be_complained_about() -> None:
    assert "encoder.surprise" in tiny().canonical({**tiny().state_dict(), "encoder.surprise": torch.ones(1)})


def test_head_of_the_files_fine_tuned_by_microsoft() -> None:
    model = tiny(head="predictor", num_classes=5).eval()
    assert list(model.layers())[-1] == "head"
    waveform = noise(2, 1.0)
    with torch.inference_mode():
        out = model(waveform)
        tokens = model.predictor(model.sequence(model.mel(waveform)))
    torch.testing.assert_close(out.logits, tokens.mean(dim=1))
    assert out.frame_logits.shape == (2, 25, 5)


def test_fewer_layers_are_the_first_ones() -> None:
    whole, shorter = tiny().eval(), tiny(depth=1).eval()
    shorter.load_state_dict({name: value for name, value in whole.state_dict().items() if "layers.1." not in name})
    outputs: list[Tensor] = []
    whole.encoder.layers[0].register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    whole.sequence(whole.mel(noise(1, 1.0)))
    torch.testing.assert_close(shorter.sequence(shorter.mel(noise(1, 1.0))), outputs[0])
    with pytest.raises(UserError, match="depth 3: the model has 1 to 2 layers"):
        tiny(depth=3)


def test_without_head() -> None:
    for head in ("linear", "predictor"):
        model = tiny(num_classes=None, head=head).eval()
        out: Output = model(noise(1, 1.0))
        assert out.logits is None
        assert out.frame_logits is None
        assert not model.layers().get("head")


def test_dropout_and_layer_drop_only_in_training() -> None:
    model = tiny()
    waveform = noise(1, 1.0)
    model.eval()
    state = torch.get_rng_state()
    first, second = model(waveform), model(waveform)
    assert torch.equal(first.frames, second.frames)
    assert torch.equal(state, torch.get_rng_state()), "evaluation draws random numbers"
    model.train()
    assert not torch.equal(model(waveform).frames, model(waveform).frames)


def test_layer_drop_leaves_layers_out_and_keeps_gradients_defined() -> None:
    model = tiny(layer_drop=1.0, dropout=0.0)
    mel = model.mel(noise(1, 1.0))
    patches = model.patch_embedding(mel.transpose(1, 2)[:, None]).flatten(2).transpose(1, 2)
    without_layers = model.encoder.embed(model.post_extract_proj(model.layer_norm(patches)))
    sequence = model.sequence(mel)
    torch.testing.assert_close(sequence, without_layers)
    sequence.sum().backward()
    assert all(parameter.grad is not None for parameter in model.encoder.layers.parameters())


def gradients(model: Encoder, waveform: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    torch.manual_seed(3)
    out = model(waveform)
    (out.logits.square().mean() + out.frame_logits.square().mean()).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    model, waveform = tiny(layer_drop=0.5), noise(2, 1.0)
    plain = gradients(model, waveform)
    model.checkpointing = True
    again = gradients(model, waveform)
    assert plain.keys() == {name for name, _ in model.named_parameters()}
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, msg=name)


def test_bfloat16() -> None:
    model, waveform = tiny().eval(), noise(2, 2.0)
    with torch.inference_mode():
        expected = model(waveform)
        with torch.autocast("cpu", torch.bfloat16):
            found = model(waveform)
    assert (found.frames - expected.frames).abs().max() < 0.05 * expected.frames.abs().max()


@pytest.mark.slow
def test_compiles_to_one_graph() -> None:
    model, waveform = tiny().eval(), noise(2, 2.0)
    mel = model.mel(waveform)
    compiled = torch.compile(model.sequence, fullgraph=True)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(mel), model.sequence(mel), rtol=1e-4, atol=1e-4)
        shorter = mel[..., :96]
        torch.testing.assert_close(compiled(shorter), model.sequence(shorter), rtol=1e-4, atol=1e-4)
