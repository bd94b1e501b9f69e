"""The CRNN: published sizes and names, masks, lengths, precision."""

import zlib

import numpy as np
import pytest
import torch
from torch import Tensor

from common.run.errors import UserError
from task4_sed.config import ModelConfig
from task4_sed.model.crnn import CRNN, Prediction

SMALL = ModelConfig(
    num_mels=16,
    channels=(4, 8),
    pooling=((2, 4), (2, 4)),
    rnn_hidden=6,
    rnn_layers=1,
    embedding_dim=5,
    fusion_dim=7,
)
# strong[0, 3, 2], strong[1, 20, 4], weak[0, 1], weak[1, 26] of `prediction(name)`, from the version that passed the
# stored fixtures.
FINGERPRINTS: dict[str, tuple[float, ...]] = {
    "glu": (0.440479, 0.527611, 0.359177, 0.444979),
    "cg": (0.484965, 0.746044, 0.430962, 0.382791),
    "plain": (0.454700, 0.304847, 0.409565, 0.456048),
}
VARIANTS = {
    "glu": SMALL,
    "cg": ModelConfig(**{**SMALL.__dict__, "activation": "cg", "embedding_pooling": "int"}),
    "plain": ModelConfig(**{**SMALL.__dict__, "embedding_dim": None}),
}


def numbers(name: str, *shape: int) -> Tensor:
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))


def seeded(config: ModelConfig) -> CRNN:
    model = CRNN(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(0.4 * numbers(name, *parameter.shape))
    return model


def prediction(name: str, frames: int = 22) -> Prediction:
    config = VARIANTS[name]
    embeddings = None if config.embedding_dim is None else numbers("embeddings", 2, config.embedding_dim, 17)
    with torch.no_grad():
        return seeded(config)(numbers("features", 2, config.num_mels, frames), embeddings)


@pytest.mark.parametrize("name", VARIANTS)
def test_fingerprint(name: str) -> None:
    p = prediction(name)
    got = p.strong[0, 3, 2], p.strong[1, 20, 4], p.weak[0, 1], p.weak[1, 26]
    assert [float(value) for value in got] == pytest.approx(FINGERPRINTS[name], abs=2e-5)


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_published_parameter_counts() -> None:
    baseline = CRNN(ModelConfig())
    assert count(baseline) == 1_785_094
    assert count(baseline.cnn) == 612_688
    winner = {"activation": "cg", "rnn_hidden": 256, "fusion_dim": 256}
    assert count(CRNN(ModelConfig(**winner, embedding_dim=527))) == 2_780_550
    assert count(CRNN(ModelConfig(**winner, embedding_dim=768))) == 2_842_246


def test_published_names() -> None:
    names = CRNN(ModelConfig()).state_dict().keys()
    assert {"cnn.cnn.conv0.weight", "cnn.cnn.batchnorm6.running_var", "cnn.cnn.glu3.linear.bias"} <= names
    assert {"rnn.rnn.weight_hh_l1_reverse", "dense.weight", "dense_softmax.bias", "cat_tf.weight"} <= names
    assert "cnn.cnn.cg3.linear.bias" in CRNN(ModelConfig(activation="cg")).state_dict()


@pytest.mark.parametrize("frames", [4, 5, 22, 41, 626])
def test_output_length(frames: int) -> None:
    p = prediction("glu", frames)
    assert p.strong.shape == p.logits.shape == (2, 27, SMALL.num_frames(frames))
    assert p.weak.shape == (2, 27)
    assert ModelConfig().num_frames(626) == 156


def test_masked_from_the_same_pass_equals_a_masked_pass() -> None:
    model, features, embeddings = seeded(SMALL), numbers("features", 2, 16, 22), numbers("embeddings", 2, 5, 17)
    mask = torch.zeros(2, 27, dtype=torch.bool)
    mask[0, :10] = True
    mask[1, 10:] = True
    with torch.no_grad():
        plain, masked = model(features, embeddings), model(features, embeddings, mask)
    for ours, theirs in zip(plain.masked(mask), masked, strict=True):
        assert torch.equal(ours, theirs)
    assert (masked.strong[~mask] == 0).all()
    assert (masked.weak[~mask] == 0).all()
    assert torch.equal(masked.strong[mask], plain.strong[mask])
    assert not torch.allclose(masked.weak[mask], plain.weak[mask]), "the attention is shared out among fewer classes"
    assert torch.allclose(plain.masked(torch.ones_like(mask)).weak, plain.weak)


def test_weak_is_a_mean_of_strong() -> None:
    p = prediction("glu")
    assert (p.weak >= p.strong.amin(dim=-1) - 1e-6).all()
    assert (p.weak <= p.strong.amax(dim=-1) + 1e-6).all()


def test_clips_do_not_depend_on_their_batch() -> None:
    model, features, embeddings = seeded(SMALL), numbers("features", 2, 16, 22), numbers("embeddings", 2, 5, 17)
    with torch.no_grad():
        both, alone = model(features, embeddings), model(features[1:], embeddings[1:])
    assert torch.allclose(both.strong[1:], alone.strong, atol=1e-6)


def test_every_parameter_is_trained() -> None:
    model = CRNN(ModelConfig(**{**SMALL.__dict__, "dropstep": 0.0})).train()
    p = model(numbers("features", 2, 16, 22), numbers("embeddings", 2, 5, 17))
    (p.strong.mean() + p.weak.square().mean()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


def test_dropstep_and_dropout_only_in_training() -> None:
    model, features, embeddings = seeded(SMALL), numbers("features", 2, 16, 80), numbers("embeddings", 2, 5, 17)
    with torch.no_grad():
        assert torch.equal(model(features, embeddings).strong, model(features, embeddings).strong)
        model.train()
        assert not torch.equal(model(features, embeddings).strong, model(features, embeddings).strong)


def test_head_is_float32_under_autocast() -> None:
    model, features, embeddings = seeded(SMALL), numbers("features", 2, 16, 22), numbers("embeddings", 2, 5, 17)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        p = model(features, embeddings)
    assert p.strong.dtype == p.weak.dtype == p.logits.dtype == torch.float32
    assert torch.allclose(p.strong, prediction("glu").strong, atol=0.05)


def test_embeddings_must_fit_the_model() -> None:
    with pytest.raises(ValueError, match="needs embeddings of 5"):
        seeded(SMALL)(numbers("features", 2, 16, 22))
    with pytest.raises(ValueError, match="without embedding_dim"):
        seeded(VARIANTS["plain"])(numbers("features", 2, 16, 22), numbers("embeddings", 2, 5, 17))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pooling": ((2, 2),)}, "model.pooling: 1 steps, expected 7"),
        ({"num_mels": 64}, "model.pooling: 64 mel bands are pooled to none"),
        ({"dropout": 1.5}, "model.dropout: 1.5 is outside 0 to 1"),
    ],
)
def test_impossible_configs_are_named(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ModelConfig(**change)
