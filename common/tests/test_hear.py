"""What the validator of the HEAR benchmark checks of a module, for every model of this package."""

import importlib
import math

import numpy as np
import pytest
import torch

from common import encoders
from common.encoders import hear
from common.encoders.transformer import PaSST
from common.run.errors import UserError

TINY = [name for name in encoders.names() if name.endswith("-tiny")]
RATES = (16000, 22050, 32000, 44100, 48000)
LONGEST_GAP = 50.0  # ms between timestamps


def audio(model: hear.HearModel, sounds: int, seconds: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(sounds, int(seconds * model.sample_rate), generator=generator) * 2 - 1


def test_every_model_has_a_module() -> None:
    for name in encoders.names():
        module = importlib.import_module(f"common.encoders.hear_api.{name.replace('-', '_')}")
        assert all(callable(getattr(module, of)) for of in ("load_model", "get_scene_embeddings"))
        assert callable(module.get_timestamp_embeddings)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("common.encoders.hear_api.beat")


@pytest.mark.parametrize("name", TINY)
def test_rules_of_the_validator(name: str) -> None:
    module = importlib.import_module(f"common.encoders.hear_api.{name.replace('-', '_')}")
    model = module.load_model()
    assert isinstance(model, torch.nn.Module)
    assert not model.training
    assert model.encoder.name == name
    assert model.sample_rate in RATES
    assert type(model.scene_embedding_size) is int
    assert type(model.timestamp_embedding_size) is int
    model.to("cpu")
    for seconds in (1.07, 1.98, 4.0):
        embeddings, times = module.get_timestamp_embeddings(audio(model, 2, seconds), model)
        assert embeddings.dtype == torch.float32
        assert embeddings.shape == (2, times.shape[1], model.timestamp_embedding_size)
        assert times.shape == embeddings.shape[:2]
        assert not embeddings.requires_grad
        assert embeddings.isfinite().all()
        gaps = np.diff(times.numpy().astype(np.float64))
        assert (gaps > 0).all()
        assert gaps.max() <= LONGEST_GAP + 0.5
        assert np.abs(gaps - gaps.mean()).max() < 1.0
        assert times.min() <= gaps.mean()
        assert 1000 * seconds - gaps.mean() <= times.max() <= 1000 * seconds
    scenes = module.get_scene_embeddings(audio(model, 4, 2.74), model)
    assert scenes.dtype == torch.float32
    assert scenes.shape == (4, model.scene_embedding_size)
    assert scenes.isfinite().all()


@pytest.mark.parametrize("name", ["beats-tiny", "mn-tiny", "vggish-tiny"])
def test_a_timestamp_hears_its_moment(name: str) -> None:
    """A burst in silence changes the embeddings around it most."""
    torch.manual_seed(0)
    model = hear.load_model(name=name)
    quiet = torch.zeros(1, 6 * model.sample_rate)
    loud = quiet.clone()
    at = 4.0
    burst = slice(int((at - 0.1) * model.sample_rate), int((at + 0.1) * model.sample_rate))
    loud[0, burst] = audio(model, 1, 6.0)[0, burst]
    silent, times = hear.get_timestamp_embeddings(quiet, model)
    heard, _ = hear.get_timestamp_embeddings(loud, model)
    change = (heard - silent)[0].norm(dim=1)
    strongest = change > 0.5 * change.max()
    centre = float((times[0] * change)[strongest].sum() / change[strongest].sum())
    assert math.isclose(centre / 1000, at, abs_tol=0.25)


def test_scenes_of_passt_are_as_published() -> None:
    model = hear.load_model(name="passt-tiny")
    assert isinstance(model.encoder, PaSST)
    assert model.scene_embedding_size == model.encoder.clip_dim + 527
    given = audio(model, 1, 1.5)
    with torch.no_grad():
        out = model.encoder(given)
    found = hear.get_scene_embeddings(given, model)
    assert torch.equal(found, torch.cat((out.logits, out.clip), dim=1))


def test_a_checkpoint_by_path(tmp_path: "object") -> None:
    encoder = encoders.create("mn-tiny", num_classes=5)
    torch.save(encoder.state_dict(), f"{tmp_path}/mine.pt")
    encoders.export(encoder, f"{tmp_path}/mine")
    given = audio(hear.HearModel(encoder), 2, 1.0)
    expected = hear.get_scene_embeddings(given, hear.HearModel(encoder))
    for path in (f"{tmp_path}/mine.pt", f"{tmp_path}/mine"):
        model = hear.load_model(path, name="mn-tiny")
        assert torch.equal(hear.get_scene_embeddings(given, model), expected)
    with pytest.raises(UserError, match="not found"):
        hear.load_model(f"{tmp_path}/none.pt", name="mn-tiny")


@pytest.mark.parametrize("name", TINY)
def test_a_batch_is_its_sounds_one_by_one(name: str) -> None:
    """On the device that the sounds came from."""
    model = hear.load_model(name=name)
    given = audio(model, 2, 1.3)
    embeddings, times = hear.get_timestamp_embeddings(given, model)
    scenes = hear.get_scene_embeddings(given, model)
    assert embeddings.device == times.device == scenes.device == given.device
    for number, sound in enumerate(given.split(1)):
        alone, at = hear.get_timestamp_embeddings(sound, model)
        torch.testing.assert_close(alone[0], embeddings[number], atol=1e-4, rtol=1e-4)
        assert torch.equal(at[0], times[number])
        torch.testing.assert_close(hear.get_scene_embeddings(sound, model)[0], scenes[number], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["atst-f-tiny", "beats-tiny", "frame_mn-tiny", "mn-tiny"])
@pytest.mark.parametrize("seconds", [1.0, 10.3, 30.0])
def test_sounds_of_any_length(name: str, seconds: float) -> None:
    """In one pass of the network and in several: as many times as there should be, evenly spaced, up to the end."""
    model = hear.load_model(name=name)
    embeddings, times = hear.get_timestamp_embeddings(audio(model, 1, seconds), model)
    assert times.shape == (1, embeddings.shape[1])
    assert times.shape[1] >= seconds * 1000 / LONGEST_GAP - 1
    gaps = times.diff()
    torch.testing.assert_close(gaps, gaps[:, :1].expand_as(gaps), atol=0.01, rtol=0)
    assert 0 <= 1000 * seconds - times.max() <= LONGEST_GAP
    assert embeddings.isfinite().all()
    assert hear.get_scene_embeddings(audio(model, 1, seconds), model).isfinite().all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_sounds_may_lie_elsewhere_than_the_model() -> None:
    model = hear.load_model(name="mn-tiny").cuda()
    given = audio(model, 2, 1.0)
    embeddings, times = hear.get_timestamp_embeddings(given, model)
    assert embeddings.device == times.device == hear.get_scene_embeddings(given, model).device == given.device
