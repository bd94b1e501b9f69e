"""The spectrogram transformer: names of published files, HEAR embeddings."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from common.encoders import transformer
from common.encoders.hear import scene_embeddings, timestamp_embeddings
from common.encoders.transformer import SpectrogramTransformer
from common.run.errors import UserError
from common.tests.transformer_case import FAMILIES, make, noise, published, spell

# Names of published files


X = torch.zeros(3)
SPELLINGS = {
    "passt": [
        spell(""),
        spell("net.", "net."),
        spell("", head_dist__weight=X, head_dist__bias=X, mel__window=X),
        spell("model.net.", "model.net."),
    ],
    "fpasst": [
        spell("model."),
        spell("model.model.", "model."),
        spell("net.model.", "net."),
        spell("model.fpasst."),
        spell("net_strong.model.", "net_strong.", net_weak__model__cls_token=X),
        spell("", None),
    ],
    "atst-f": [
        spell("model.atst.", model__atst_mel__mel_transform__spectrogram__window=X),
        spell("model.model.atst.", "model."),
        spell("atst."),
        spell("net_strong.model.atst.", "net_strong."),
        spell("net.model.atst.", "net."),
        spell(
            "model.teacher.encoder.", None, model__student__encoder__pos_embed=X, model__teacher__encoder__cls_token=X
        ),
        spell("encoder.encoder.frame_encoder.", None, encoder__head__weight=X),
        spell("encoder.encoder.", None, encoder__encoder__teacher_module__pos_embed=X, encoder__head__weight=X),
    ],
    "m2d": [
        spell("model.backbone.", model__to_spec__mel_basis=X, model__to_spec__stft__wsin=X),
        spell("model.m2d.backbone."),
        spell("model.model.m2d.backbone.", "model."),
        spell("net_strong.model.backbone.", "net_strong."),
        spell("module.ar.runtime.backbone.", None, module__head__mlp__weight=X),
        spell("", None, mask_token=X, decoder_embed__weight=X, audio_proj__0__weight=X),
    ],
    "asit": [spell("model."), spell("model.model.", "model."), spell("model.asit."), spell("net.model.", "net.")],
}


@pytest.mark.parametrize("family", FAMILIES)
def test_spellings(family: str) -> None:
    source = make(family)
    body, heads = published(source)
    for index, spelled in enumerate(SPELLINGS[family]):
        state = spelled(body, heads)
        found = make(family, seed=1).canonical(state)
        wanted = source.state_dict()
        if len([name for name in state if "head." in name]) < len(heads):
            wanted = {name: value for name, value in wanted.items() if not name.startswith(source.head_names)}
        assert sorted(found) == sorted(wanted), f"spelling {index}"
        assert all(torch.equal(found[name], value) for name, value in wanted.items()), f"spelling {index}"


def test_foreign_names_stay() -> None:
    """So that the strict comparison can name them."""
    encoder = make("asit")
    body, heads = published(encoder)
    found = encoder.canonical(spell("model.")(body, heads) | {"seq_model.rnn.weight": X})
    assert "seq_model.rnn.weight" in found


def test_what_atst_files_may_lack() -> None:
    encoder = make("atst-f")
    body, heads = published(make("atst-f", seed=1))
    del body["mask_embed"]
    encoder.load_state_dict(encoder.canonical(spell("model.atst.")(body, heads)))


def test_m2d_statistics() -> None:
    """Original files bring their own statistics; the AudioSet-strong file has always been used with fixed ones."""
    waveform = noise(make("m2d"), 1.0)
    plain = make("m2d")
    body, heads = published(plain)
    body["norm_stats"] = torch.tensor([-5.0, 2.0])
    strong, original = make("m2d", seed=1), make("m2d", seed=1, num_classes=None)
    strong.load_state_dict(strong.canonical(spell("model.backbone.")(body, heads)))
    original.load_state_dict(original.canonical(body))
    assert torch.equal(strong.mel(waveform), plain.mel(waveform))
    torch.testing.assert_close(original.mel(waveform), (plain.mel(waveform) * 4.2 - 7.1 + 5.0) / 2.0)


@pytest.mark.parametrize("family", ["passt", "fpasst"])
def test_from_imagenet(family: str) -> None:
    """A distilled DeiT: positions of a square, RGB patches of 16 x 16, and heads for other classes."""
    encoder = make(family, num_classes=None)
    source = make(family, seed=1, num_classes=None)
    taken = ("cls_token", "dist_token", "blocks.", "norm.", "patch_embed.proj.bias")
    state = {name: value for name, value in source.state_dict().items() if name.startswith(taken)}
    rgb = torch.randn(48, 3, 16, 16)
    table = torch.randn(1, 2 + 24 * 24, 48)
    state |= {"patch_embed.proj.weight": rgb, "pos_embed": table, "head.weight": X, "head_dist.bias": X}
    stem = {name: p.clone() for name, p in encoder.state_dict().items() if name.startswith("conv_in")}
    encoder.load_state_dict(encoder.canonical(state))
    assert torch.equal(encoder.new_pos_embed, table[:, :2])
    square = F.interpolate(table[:, 2:].transpose(1, 2).reshape(1, 48, 24, 24), encoder.config.grid, mode="bicubic")
    torch.testing.assert_close(encoder.time_new_pos_embed, square.mean(dim=2, keepdim=True))
    torch.testing.assert_close(encoder.freq_new_pos_embed, square.mean(dim=3, keepdim=True))
    weight = encoder.patch_embed["proj"].weight
    if family == "passt":
        torch.testing.assert_close(weight, rgb.sum(dim=1, keepdim=True))
    else:  # four channels of a narrow stem: R, G, B, R
        torch.testing.assert_close(weight, (rgb[:, [0, 1, 2, 0]] * 3 / 4).reshape(weight.shape))
        assert all(torch.equal(encoder.state_dict()[name], value) for name, value in stem.items())


def test_from_imagenet_at_full_width() -> None:
    config = replace(transformer.FPASST, depth=1)
    encoder = SpectrogramTransformer(config, num_classes=None)
    state = {name: p for name, p in encoder.state_dict().items() if not name.startswith(("conv_in", "time", "freq"))}
    rgb = torch.randn(768, 3, 16, 16)
    state |= {"patch_embed.proj.weight": rgb, "pos_embed": torch.randn(1, 578, 768)}
    del state["new_pos_embed"]
    encoder.load_state_dict(encoder.canonical(state))
    expected = rgb[:, torch.arange(16) % 3].reshape(768, 16, 128, 2) * 3 / 16
    torch.testing.assert_close(encoder.patch_embed["proj"].weight, expected)


# HEAR


def test_scene_embeddings() -> None:
    encoder = make("passt")
    short, long = noise(encoder, 2.0, batch=2), noise(encoder, 13.0, batch=2)
    out = encoder(short)
    torch.testing.assert_close(scene_embeddings(encoder, short), torch.cat((out.logits, out.clip), dim=1))
    padded = F.pad(long, (160000, 160000), mode="reflect")
    windows = [encoder(padded[:, start : start + 320000]).clip for start in range(0, 416001 - 0, 80000)]
    expected = torch.stack(windows).mean(dim=0)
    torch.testing.assert_close(scene_embeddings(encoder, long, mode="embeddings", batch_size=5), expected)
    assert scene_embeddings(encoder, short, mode="logits").shape == (2, 527)


def test_timestamp_embeddings() -> None:
    encoder = make("passt")
    waveform = noise(encoder, 1.0, batch=2)
    embeddings, times = timestamp_embeddings(encoder, waveform, batch_size=7)
    assert embeddings.shape == (2, 21, 527 + 48)
    assert torch.equal(times, 50.0 * torch.arange(21).expand(2, -1))
    # 0.2 s: the window from 0.12 s to 0.28 s
    alone = encoder(waveform[:, 3840:8960])
    torch.testing.assert_close(embeddings[:, 4], torch.cat((alone.logits, alone.clip), dim=1), rtol=0, atol=1e-5)
    two_levels, _ = timestamp_embeddings(encoder, waveform, windows=(0.16, 0.8))
    assert two_levels.shape == (2, 21, 2 * (527 + 48))
    torch.testing.assert_close(two_levels[..., :575], embeddings, rtol=0, atol=1e-5)


def test_wrong_hear_input() -> None:
    encoder = make("passt", num_classes=None)
    with pytest.raises(UserError, match="no logits for mode 'all'"):
        scene_embeddings(encoder, noise(encoder, 1.0))
    with pytest.raises(UserError, match="more than 2560 samples"):
        timestamp_embeddings(encoder, noise(encoder, 0.07), mode="embeddings")
