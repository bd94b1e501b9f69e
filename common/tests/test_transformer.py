"""The spectrogram transformer: tokens, lengths, patchout, readouts."""

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import nn

from common.encoders import transformer
from common.encoders.transformer import MODELS, Draws, PaSST, Patchout, draw_patchout
from common.run.errors import UserError
from common.tests.transformer_case import FAMILIES, FRAME_FAMILIES, make, noise

# Sizes, as published


@pytest.mark.parametrize(
    ("name", "parameters", "tokens"),
    [
        ("passt", 85_341_696, 1190),
        ("fpasst", 88_421_632, 252),
        ("atst-f", 85_419_264, 250),
        ("m2d", 85_492_994, 311),
        ("asit", 85_482_240, 497),
    ],
)
def test_published_sizes(name: str, parameters: int, tokens: int) -> None:
    with torch.device("meta"):
        encoder = MODELS[name](num_classes=None)
        frames = encoder.front_end.num_frames(10 * encoder.sample_rate)
        x, _ = encoder.tokens(torch.empty(1, encoder.front_end.num_mels, frames))
    assert sum(p.numel() for p in encoder.parameters()) == parameters
    assert x.shape == (1, tokens, 768)


@pytest.mark.parametrize(
    ("name", "grid", "used", "classes", "depth"),
    [
        ("passt", (12, 99), 99, 527, 12),
        ("passt-l", (12, 99), 99, 527, 7),
        ("passt-s12", (10, 83), 83, 527, 12),
        ("passt-s14", (9, 71), 71, 527, 12),
        ("passt-s16", (8, 62), 62, 527, 12),
        ("passt-hop100", (12, 320), 319, 527, 12),
        ("passt-hop160", (12, 200), 199, 527, 12),
        ("passt-20s", (12, 200), 199, 527, 12),
        ("passt-30s", (12, 300), 299, 527, 12),
        ("passt-fsd50k", (12, 99), 99, 200, 12),
        ("passt-fsd50k-s16", (8, 62), 62, 200, 12),
        ("passt-openmic", (12, 99), 99, 20, 12),
    ],
)
def test_passt_variants(name: str, grid: tuple[int, int], used: int, classes: int, depth: int) -> None:
    with torch.device("meta"):
        encoder = MODELS[name]()
        samples = round(encoder.longest * encoder.sample_rate)
        out = encoder.patches(torch.empty(1, 128, encoder.front_end.num_frames(samples)))
    assert encoder.freq_new_pos_embed.shape[2] == grid[0]
    assert encoder.time_new_pos_embed.shape[3] == grid[1]
    assert out.shape == (1, 768, grid[0], used)
    assert encoder.head[1].weight.shape == (classes, 768)
    assert len(encoder.blocks) == depth


# Lengths and shapes


@pytest.mark.parametrize("family", FRAME_FAMILIES)
@pytest.mark.parametrize("seconds", [0.2, 3.37, 10.0, 24.3])
def test_frames_of_any_length(family: str, seconds: float) -> None:
    encoder = make(family)
    with torch.inference_mode():
        out = encoder(noise(encoder, seconds, batch=2))
    assert out.frames.shape == (2, round(25 * seconds), encoder.embedding_dim)
    assert out.clip.shape == (2, encoder.clip_dim)
    assert out.logits.shape == (2, 447)
    assert out.frame_logits.shape == (2, round(25 * seconds), 447)
    assert all(x.isfinite().all() for x in out)


@pytest.mark.parametrize(("seconds", "steps"), [(0.2, 1), (3.37, 21), (10.0, 62), (24.3, 151)])
def test_passt_of_any_length(seconds: float, steps: int) -> None:
    encoder = make("passt")
    with torch.inference_mode():
        out = encoder(noise(encoder, seconds, batch=2))
    assert out.frames.shape == (2, steps, 48)
    assert out.logits.shape == (2, 527)
    assert out.frame_logits is None
    assert all(x.isfinite().all() for x in (out.frames, out.clip, out.logits))


def test_only_what_fits_into_one_pass() -> None:
    passt, atst = make("passt"), make("atst-f")
    mel = torch.randn(1, 128, 1300)
    with torch.inference_mode():
        whole, first = passt.from_mel(mel), passt.from_mel(mel[..., :1000])
    assert torch.equal(whole.clip, first.clip)
    with pytest.raises(UserError, match="251 steps at once, more than its 250 positions"):
        atst.from_mel(torch.randn(1, 64, 1004))


@pytest.mark.parametrize("family", FAMILIES)
def test_without_head(family: str) -> None:
    encoder = make(family, num_classes=None)
    with torch.inference_mode():
        out = encoder(noise(encoder, 1.0))
    assert out.logits is None
    assert out.frame_logits is None
    assert not any(name.startswith(encoder.head_names) for name in encoder.state_dict())


@pytest.mark.parametrize(("frames", "steps"), [(1001, 62), (1301, 62 + 19), (995, 62), (1000, 62), (1002, 63), (7, 1)])
def test_m2d_chunks(frames: int, steps: int) -> None:
    encoder = make("m2d")
    mel = torch.randn(2, 80, frames)
    with torch.inference_mode():
        x = encoder.sequence(mel)
        assert x.shape == (2, steps, 240)
        if frames > 1001:
            rest = F.pad(mel[..., 1001:], (0, -(frames - 1001) % 16))
            parts = [encoder.sequence(mel[..., :1001]), encoder.sequence(rest)]
            torch.testing.assert_close(x, torch.cat(parts, dim=1), rtol=0, atol=1e-5)


# Tokens


@pytest.mark.parametrize(
    ("family", "row", "column", "position"),
    [
        ("passt", 3, 5, 2 + 62 * 3 + 5),
        ("fpasst", 0, 5, 2 + 5),
        ("atst-f", 0, 5, 5),
        ("m2d", 3, 5, 1 + 62 * 3 + 5),
        ("asit", 3, 5, 1 + 8 * 5 + 3),
    ],
)
def test_token_order(family: str, row: int, column: int, position: int) -> None:
    """A mark in one patch changes the token of that patch: row of bands, column of time."""
    encoder = make(family)
    frames = {"fpasst": 1000, "passt": 1000, "asit": 998}.get(family, 1001)
    mel = torch.zeros(1, encoder.front_end.num_mels, frames)
    step = 4 if family == "fpasst" else encoder.config.stride[1]
    marked = mel.clone()
    marked[0, 16 * row + 8, step * column + step // 2] = 1.0
    with torch.inference_mode():
        before, after = encoder.tokens(mel)[0], encoder.tokens(marked)[0]
    changed = (before != after).any(dim=-1)[0].nonzero()[:, 0].tolist()
    assert position in changed
    # The stem of fPaSST and its patches of two steps see their neighbours.
    assert set(changed) <= set(range(position - 2, position + 2)) if family == "fpasst" else changed == [position]


def test_atst_cells_are_a_linear_layer() -> None:
    encoder = make("atst-f")
    mel = torch.randn(1, 64, 9)
    cell = mel[0, :, 4:8].reshape(-1)  # frequency outside, time inside
    proj = encoder.patch_embed["proj"]
    expected = proj.weight.reshape(48, 256) @ cell + proj.bias + encoder.pos_embed[0, 2]
    tokens, grid = encoder.tokens(mel)
    assert grid == (1, 2)
    torch.testing.assert_close(tokens[0, 1], expected)


def test_asit_positions() -> None:
    encoder = make("asit")
    table = encoder.pos_embed[0, 1:].T.reshape(1, 48, 8, 37)
    expected = F.interpolate(table, size=(62, 8), mode="bicubic", align_corners=False)
    torch.testing.assert_close(encoder.positions(62, 8), expected)
    # As many patches as entries: the entries in their order.
    flat = encoder.positions(37, 8).flatten(2)[0].T
    assert torch.equal(flat, encoder.pos_embed[0, 1:])


def test_m2d_positions_are_the_first_columns() -> None:
    encoder = make("m2d")
    table = encoder.pos_embed[0, 1:].reshape(5, 62, 48)
    assert torch.equal(encoder.positions(5, 19)[0].permute(1, 2, 0), table[:, :19])


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_are_those_of_timm(family: str) -> None:
    encoder = make(family)
    plain = nn.Sequential(
        *(Block(48, 4, 2.0, qkv_bias=family != "atst-f", norm_layer=partial(nn.LayerNorm, eps=1e-6)) for _ in range(2))
    )
    plain.load_state_dict(encoder.blocks.state_dict())
    mel = encoder.mel(noise(encoder, 1.0))[..., :96]
    with torch.inference_mode():
        x, _ = encoder.tokens(mel)
        expected = F.layer_norm(plain(x), (48,), encoder.norm.weight, encoder.norm.bias, 1e-6)
        assert torch.equal(encoder.encode(mel)[0][0], expected)


def test_top_db_of_the_batch() -> None:
    """As published, a clip's features depend on its neighbours; not by default."""
    alone, together = make("atst-f"), make("atst-f", top_db_per_batch=True)
    quiet = 1e-2 * noise(alone, 1.0)
    pair = torch.cat((quiet, 1e4 * quiet))
    assert torch.equal(alone.mel(pair)[:1], alone.mel(quiet))
    assert not torch.equal(together.mel(pair)[:1], together.mel(quiet))


# Patchout and other draws


def big_grid(**options: Any) -> PaSST:
    """PaSST's published grid with a narrow network."""
    torch.manual_seed(0)
    return PaSST(transformer.PASST_VARIANTS["passt"].tiny(dim=8, depth=1, heads=2), num_classes=3, **options)


@pytest.mark.parametrize(
    ("patchout", "tokens"),
    [
        (Patchout(40, 4), 59 * 8 + 2),
        (Patchout(10, 3), 89 * 9 + 2),
        (Patchout(tokens=400), 788 + 2),
        (Patchout(40, 4, 100, per_example=True), 59 * 8 - 100 + 2),
    ],
)
def test_patchout_lengths(patchout: Patchout, tokens: int) -> None:
    encoder = big_grid(patchout=patchout)
    # Longer than the table: drawn from what is left after the cut.
    for frames in (1000, 1300):
        mel = torch.randn(3, 128, frames)
        assert encoder.train().tokens(mel)[0].shape == (3, tokens, 8)
        assert encoder.eval().tokens(mel)[0].shape == (3, 1190, 8)
    encoder.train().from_mel(torch.randn(2, 128, 1000)).logits.sum().backward()


def test_draws_decide() -> None:
    encoder = big_grid(patchout=Patchout(40, 4, 30)).train()
    mel = torch.randn(2, 128, 1000)
    draws = encoder.draw(2, 12, 99)
    first, second = (encoder.from_mel(mel, draws=draws).logits for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(encoder.from_mel(mel).logits, encoder.from_mel(mel).logits)
    assert torch.equal(encoder.eval().from_mel(mel, draws=draws).logits, first)


@pytest.mark.parametrize("per_example", [False, True])
def test_drawn_subsets(per_example: bool) -> None:
    torch.manual_seed(0)
    draws = draw_patchout(Patchout(40, 4, 100, per_example), 5, 12, 99)
    for kept, (size, total) in zip(draws[:3], [(59, 99), (8, 12), (372, 472)], strict=True):
        assert kept.shape == (5 if per_example else 1, size)
        assert (kept.diff(dim=1) > 0).all()
        assert kept.min() >= 0
        assert kept.max() < total
    if per_example:
        assert len(draws.columns.unique(dim=0)) == 5
    assert draws.offset is None


def test_dropped_patches_are_those_of_the_grid() -> None:
    """Selecting from all tokens by hand gives the same tokens; subsets of each clip may differ."""
    encoder = big_grid()
    mel = torch.randn(2, 128, 1000)
    columns, rows = torch.tensor([[0, 7, 98], [1, 2, 3]]), torch.tensor([2, 11])
    everything = encoder.eval().tokens(mel)[0]
    special, patches = everything[:, :2], everything[:, 2:].unflatten(1, (12, 99))
    expected = torch.stack([clip[rows][:, kept].flatten(0, 1) for clip, kept in zip(patches, columns, strict=True)])
    tokens, grid = encoder.tokens(mel, Draws(columns=columns, rows=rows))
    assert grid == (2, 3)
    assert torch.equal(tokens, torch.cat((special, expected), dim=1))
    single, grid = encoder.tokens(mel, Draws(columns=columns, rows=rows, tokens=torch.tensor([5, 1])))
    assert grid == (1, 2)
    assert torch.equal(single, torch.cat((special, expected[:, [5, 1]]), dim=1))


def test_time_offset_of_short_clips() -> None:
    encoder = make("fpasst")
    mel = torch.randn(1, 128, 400)
    table = encoder.time_new_pos_embed[0, :, 0].T
    plain, moved = (encoder.tokens(mel, Draws(offset=offset))[0][0, 2:] for offset in (None, torch.tensor(30)))
    torch.testing.assert_close(moved - plain, table[30:130] - table[:100])
    encoder.train()
    starts = set()
    for _ in range(20):
        drawn = encoder.tokens(mel)[0][0, 2:] - plain
        starts |= {k for k in range(151) if torch.allclose(drawn, table[k : k + 100] - table[:100], atol=1e-5)}
    assert len(starts) > 5
    assert int(encoder.draw(1, 1, 250).offset) == 0


def test_impossible_patchout() -> None:
    with pytest.raises(UserError, match="40 of 29 time columns left out; at most 28"):
        big_grid(patchout=Patchout(40, 4)).train().from_mel(torch.randn(1, 128, 300))
    with pytest.raises(UserError, match="-1 of 99 time columns"):
        draw_patchout(Patchout(-1), 1, 12, 99)
    with pytest.raises(UserError, match="patchout needs"):
        make("m2d", patchout=Patchout(3))


# Readouts


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_out(family: str) -> None:
    encoder = make(family)
    mel = encoder.mel(noise(encoder, 2.0, batch=2))
    with torch.inference_mode():
        outputs = encoder.blocks_out(mel, 2)
        assert torch.equal(outputs[1], encoder.sequence(mel))
        assert torch.equal(outputs[1], encoder.from_mel(mel).frames)
        scene = encoder.scene(mel, 2)
    torch.testing.assert_close(scene, torch.cat(list(outputs.mean(dim=2)), dim=-1))
    with pytest.raises(UserError, match="the outputs of 3 blocks: the model has 1 to 2"):
        encoder.blocks_out(mel, 3)


def test_scene_leaves_padding_out() -> None:
    encoder = make("atst-f")
    mel = torch.randn(2, 64, 400)
    with torch.inference_mode():
        scene = encoder.scene(mel, 2, torch.tensor([100, 30]))
        expected = encoder.blocks_out(mel, 2)[:, 1, :30].mean(dim=1).flatten()
    torch.testing.assert_close(scene[1], expected)
    torch.testing.assert_close(scene[0], encoder.scene(mel, 2)[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_cut_after_a_block(family: str) -> None:
    whole = make(family)
    cut, bare = make(family, seed=1, depth=1), make(family, seed=1, depth=1, norm="none")
    for encoder in (cut, bare):
        encoder.load_state_dict(encoder.canonical(whole.state_dict()))
    mel = whole.mel(noise(whole, 1.0))[..., :96]
    with torch.inference_mode():
        assert torch.equal(cut.sequence(mel), whole.blocks_out(mel, 2)[0])
        expected = cut.steps(whole.blocks[0](whole.tokens(mel)[0]), whole.tokens(mel)[1])
        assert torch.equal(bare.sequence(mel), expected)
    with pytest.raises(UserError, match="depth 3: the model has 1 to 2 blocks"):
        make(family, depth=3)


@torch.no_grad()
def test_passt_clip_is_the_mean_of_both_special_tokens() -> None:
    encoder = make("passt")
    mel = torch.randn(2, 128, 100)
    tokens = encoder.encode(mel)[0][0]
    out = encoder.from_mel(mel)
    torch.testing.assert_close(out.clip, (tokens[:, 0] + tokens[:, 1]) / 2)
    expected = F.layer_norm(out.clip, (48,), encoder.head[0].weight, encoder.head[0].bias, 1e-5)
    torch.testing.assert_close(out.logits, encoder.head[1](expected))
    torch.testing.assert_close(out.frames, tokens[:, 2:].unflatten(1, (8, 6)).mean(dim=1))


# Training


@pytest.mark.parametrize("family", FAMILIES)
def test_layers(family: str) -> None:
    encoder = make(family)
    layers = encoder.layers()
    assert list(layers) == ["embeddings", "block0", "block1", "norm", "head"]
    names = [name for layer in layers.values() for name in layer]
    assert sorted(names) == sorted(name for name, _ in encoder.named_parameters())
    assert set(layers["norm"]) == {"norm.weight", "norm.bias"}
    assert all(name.startswith(encoder.head_names) for name in layers["head"])
    assert all(name.startswith("blocks.1.") for name in layers["block1"])
    groups = encoder.parameter_groups(1.0, decay=0.5, head_lr=3.0)
    rates = {group["layer"]: group["lr"] for group in groups}
    assert rates == {"head": 3.0, "norm": 0.5, "block1": 0.5, "block0": 0.25, "embeddings": 0.25}
    trained = sum(p.numel() for group in groups for p in group["params"])
    assert trained == sum(p.numel() for p in encoder.parameters() if p.requires_grad)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_trained_parameter_has_a_gradient(family: str) -> None:
    encoder = make(family).train()
    out = encoder(noise(encoder, 1.0, batch=2))
    sum(x.square().mean() for x in out if x is not None).backward()
    assert [name for name, p in encoder.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("family", ["passt", "m2d"])
def test_gradient_checkpointing(family: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        encoder = make(family).train()
        encoder.checkpointing = checkpointing
        torch.manual_seed(5)
        encoder(noise(encoder, 2.0, batch=2)).logits.square().sum().backward()
        gradients.append([p.grad for p in encoder.parameters() if p.grad is not None])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16(family: str) -> None:
    """The front end stays in float32; the rest keeps two digits."""
    encoder = make(family)
    waveform = noise(encoder, 2.0)
    with torch.inference_mode():
        exact = encoder(waveform)
        with torch.autocast("cpu", torch.bfloat16):
            rough = encoder(waveform)
            assert torch.equal(encoder.mel(waveform), encoder.mel(waveform).float())
    for a, b in ((exact.frames, rough.frames), (exact.clip, rough.clip), (exact.logits, rough.logits)):
        assert (a - b.float()).square().mean().sqrt() < 2e-2 * a.square().mean().sqrt()


def compiled(family: str, training: bool, backend: str) -> None:
    torch.compiler.reset()  # a process compiles a function for a few models only
    options: dict[str, Any] = {"patchout": Patchout(2, 2)} if family == "passt" else {}
    encoder = make(family, **options).train(training)
    mel = encoder.mel(noise(encoder, 1.0, batch=2))
    through = torch.compile(encoder.from_mel, fullgraph=True, backend=backend)
    if training:
        through(mel).logits.sum().backward()
        assert encoder.blocks[0].attn.qkv.weight.grad.isfinite().all()
    else:
        torch.testing.assert_close(through(mel).logits, encoder.from_mel(mel).logits, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_one_graph(family: str, training: bool) -> None:
    compiled(family, training, "aot_eager")


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
def test_compile(training: bool) -> None:
    compiled("asit", training, "inductor")
