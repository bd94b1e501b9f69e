"""The dual encoder and the systems beside it, against the published numbers and by what they must not depend on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.run.errors import UserError
from common.tests.helpers import seeded_state
from qbv.config import SAMPLE_RATE, Config, ModelConfig
from qbv.model.networks import DualEncoder, load_published
from qbv.model.systems import MVGGish, Random, TwoDft, build_system, resampled, two_dft_vectors
from qbv.training.losses import softmax_loss

TINY = ModelConfig(encoder="mn-tiny")


def waves(*seconds: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    longest = round(max(seconds) * SAMPLE_RATE)
    audio = 0.1 * torch.randn(len(seconds), longest, generator=generator)
    for row, length in zip(audio, seconds, strict=True):
        row[round(length * SAMPLE_RATE) :] = 0
    return audio


# --- the dual encoder


def test_a_published_file_gives_the_published_vectors(shared: Path, tmp_path: Path) -> None:
    folder = shared / "golden" / "qbv_dual_encoder"
    torch.save(seeded_state(folder), tmp_path / "ct.pt")
    network = load_published(DualEncoder(ModelConfig()), tmp_path / "ct.pt")
    assert not network.training
    with np.load(folder / "io.npz") as io, torch.inference_mode():
        vectors = []
        for side, embed in (("imitation", network.imitations), ("recording", network.recordings)):
            audio = torch.from_numpy(io[f"wave_{side}"] / np.float32(32768))
            audio = torch.nn.functional.pad(audio, (0, 10 * SAMPLE_RATE - audio.shape[1]))
            vectors.append(embed(audio))
            np.testing.assert_allclose(vectors[-1], io[f"embedding_{side}"], atol=5e-4, rtol=2e-3)
        cosines = network.similarities(*vectors)
        np.testing.assert_allclose(cosines, io["cosine_matrix"], atol=2e-4)
        np.testing.assert_allclose((1 + cosines.diagonal()) / 2, io["similarity_01"], atol=2e-4)


def test_files_that_are_none(tmp_path: Path) -> None:
    network = DualEncoder(TINY)
    torch.save({"conv.weight": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"other.pt: no dual encoder in it"):
        load_published(network, tmp_path / "other.pt")
    state = {f"im.{name}": value for name, value in network.imitation_encoder.state_dict().items()}
    state |= {f"ref.{name}": value for name, value in network.recording_encoder.state_dict().items()}
    torch.save({**state, "im.classifier.5.weight": torch.zeros(3)}, tmp_path / "own.pt")
    load_published(network, tmp_path / "own.pt")
    state.pop(next(name for name in state if name.startswith("ref.")))
    torch.save(state, tmp_path / "short.pt")
    with pytest.raises(UserError, match=r"short.pt: checkpoint of another model: 1 keys missing"):
        load_published(network, tmp_path / "short.pt")


def test_both_sides_begin_alike_and_train_apart() -> None:
    torch.manual_seed(0)
    network = DualEncoder(TINY).eval()
    audio = waves(1.0, 0.5)
    assert torch.equal(network.imitations(audio), network.recordings(audio))
    next(network.recording_encoder.parameters()).data += 1
    assert not torch.equal(network.imitations(audio), network.recordings(audio))
    shared = DualEncoder(ModelConfig(encoder="mn-tiny", shared=True))
    assert sum(p.numel() for p in shared.parameters()) < sum(p.numel() for p in network.parameters())


def test_a_wider_network_has_longer_vectors() -> None:
    wide = DualEncoder(ModelConfig(encoder="mn-tiny", width=1.0)).eval()
    assert wide.dim > DualEncoder(TINY).dim
    assert wide.imitations(waves(0.5)).shape == (1, wide.dim)


def test_similarities() -> None:
    network = DualEncoder(TINY).eval()
    x, y = torch.randn(5, network.dim), torch.randn(3, network.dim)
    x[2] = 0
    found = network.similarities(x, y)
    assert found.shape == (5, 3)
    assert (found[2] == 0).all()
    torch.testing.assert_close(found[0, 1], torch.cosine_similarity(x[0], y[1], dim=0))
    compared = DualEncoder(ModelConfig(encoder="mn-tiny", similarity="network")).eval()
    found = compared.similarities(x, y)
    assert ((found > 0) & (found < 1)).all()
    torch.testing.assert_close(found[4, 2], compared.match(x[4:5], y[2:3])[0])


def test_any_encoder_of_the_catalogue_hears_at_its_own_rate() -> None:
    network = DualEncoder(ModelConfig(encoder="yamnet-tiny")).eval()
    assert network.imitations(waves(1.0, 1.0)).shape == (2, network.dim)


def test_heads_on_a_frozen_encoder() -> None:
    network = DualEncoder(ModelConfig(encoder="yamnet-tiny", head=5, frozen=True)).train()
    names = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert names == {f"{side}_head.{of}" for side in ("imitation", "recording") for of in ("weight", "bias")}
    audio = waves(1.0, 1.0)
    assert network.imitations(audio).shape == (2, network.dim) == (2, 5)
    torch.testing.assert_close(network.imitations(audio), network.recordings(audio))  # both sides begin alike
    with pytest.raises(UserError, match="nothing would train"):
        Config(model=ModelConfig(frozen=True))


def test_softmax_loss_by_hand() -> None:
    imitation = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    recording = torch.tensor([[3.0, 0.0], [1.0, 1.0]])
    logits = torch.tensor([[1.0, 0.5**0.5], [0.0, 0.5**0.5]]) / 0.5
    logs = logits.log_softmax(dim=1)
    for temperature in (0.5, torch.tensor([-0.5])):
        loss = softmax_loss(imitation, recording, torch.tensor([0, 1]), temperature)
        assert loss == pytest.approx(-(logs[0, 0] + logs[1, 1]).item() / 2)
    assert softmax_loss(imitation, recording, torch.tensor([4, 4]), 0.5) == pytest.approx(-logs.mean().item())


# --- signal processing and others


def specified() -> dict[str, np.ndarray]:
    """The signals whose figures the challenge's specification of 2DFT names: 5 s at 8 kHz."""
    t = np.arange(40_000) / 8000
    tone = 0.5 * np.sin(2 * np.pi * 440 * t)
    return {
        "x1": tone + 0.25 * np.sin(2 * np.pi * 880 * t),
        "x2": 0.5 * np.sin(2 * np.pi * (300 + 120 * t) * t),
        "x3": np.where(t < 2.5, tone, 0.0),
    }


def test_two_dft_of_the_official_toolbox() -> None:
    from common.frontends import cqt

    signals = np.stack(list(specified().values()))
    levels = np.abs(cqt(signals))
    assert levels.max(axis=(1, 2)) == pytest.approx([0.5, 0.49995, 0.50318], abs=1e-5)
    assert levels.mean(axis=(1, 2)) == pytest.approx([0.0119364, 0.0083322, 0.0041900], abs=1e-7)
    assert levels[0].max(axis=1).argmax() == levels[2].max(axis=1).argmax() == 36
    vectors = two_dft_vectors(signals)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert (unit[[0, 0, 1]] * unit[[1, 2, 2]]).sum(axis=1) == pytest.approx([0.12048, 0.67423, 0.32840], abs=1e-5)


def test_a_library_at_once_is_as_one_by_one() -> None:
    audio = waves(1.0, 0.4, 0.7)
    for system in (TwoDft(1.0), MVGGish(1.0, None, model="vggish-tiny")):
        with torch.inference_mode():
            together = system.recordings(audio)
            alone = torch.cat([system.recordings(one[None]) for one in audio])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_silence_is_like_nothing() -> None:
    audio = torch.cat([torch.zeros(1, SAMPLE_RATE), waves(1.0)])
    system = TwoDft(1.0)
    found = system.similarities(system.imitations(audio), system.recordings(audio))
    assert torch.isfinite(found).all()
    assert (found[0] == 0).all()
    assert found[1, 1] == pytest.approx(1.0)


def test_resampling_keeps_a_tone() -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32)
    found = resampled(np.stack([tone, 0.5 * tone]), 8000)
    expected = np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    assert found.shape == (2, 8000)
    np.testing.assert_allclose(found[0, 200:-200], expected[200:-200], atol=1e-3)
    np.testing.assert_allclose(found[1, 200:-200], 0.5 * expected[200:-200], atol=1e-3)


def test_systems_by_name(tiny: Callable[..., Config]) -> None:
    config = tiny("comparison.vggish_checkpoint=null")
    audio = waves(1.0, 0.5)
    for name in ("trained", "frozen", "2dft", "random"):
        system = build_system(name, config, 3, DualEncoder(config.model), "cpu")
        with torch.inference_mode():
            vectors = system.imitations(audio), system.recordings(audio)
            assert system.similarities(*vectors).shape == (2, 2)
    again = [Random(1.0, 3).imitations(audio) for _ in range(2)]
    assert torch.equal(*again)
    assert not torch.equal(again[0], Random(1.0, 4).imitations(audio))


def test_an_unknown_system(tiny: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"unknown system '3dft'; did you mean '2dft'\?"):
        tiny("comparison.systems=[3dft]")
    with pytest.raises(UserError, match=r"model.width.*: is for encoders mn\* without a checkpoint"):
        tiny("model.width=2.0", "model.encoder=yamnet-tiny")
    with pytest.raises(UserError, match=r"model.similarity.*: network is trained by loss=bce"):
        tiny("model.similarity=network")
