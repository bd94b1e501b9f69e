"""Autoencoders: what they take and give, how they begin, and the scores of their residuals."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from common.run.errors import UserError
from task2_anomaly.config import Config, ModelConfig, ScoringConfig
from task2_anomaly.model.autoencoder import CONTEXT, ConvAutoencoder, DenseAutoencoder, FirstShotAutoencoder
from task2_anomaly.model.networks import build_network, window_frames

KINDS = ("ae_organisers", "ae_workshop", "ae_conv", "ae_firstshot")


@pytest.mark.parametrize("kind", KINDS)
def test_reconstructions_have_the_shape_of_the_windows(kind: str) -> None:
    config = Config(model=ModelConfig(kind=kind))  # type: ignore[arg-type]
    windows = torch.randn(3, 16, window_frames(config))
    network = build_network(config.model, 16).eval()
    assert network(windows).shape == windows.shape
    residual = network.residual(windows)
    torch.testing.assert_close(residual.unflatten(1, windows.shape[1:]), windows - network(windows))


def test_sizes_are_those_of_the_papers() -> None:
    """234,392 and 179,505 parameters of the workshop's; the organisers' has one hidden layer more on each side."""

    def parameters(network: nn.Module) -> int:
        return sum(p.numel() for p in network.parameters())

    layer = 128 * 128 + 128 + 2 * 128
    assert parameters(DenseAutoencoder(128, "ae_workshop")) == 234_392
    assert parameters(ConvAutoencoder(128)) == 179_505
    assert parameters(DenseAutoencoder(128, "ae_organisers")) == 234_392 + 2 * layer


def test_frames_follow_each_other_in_the_organisers_input_and_bands_in_the_workshops() -> None:
    """The first input weight moves the first frame's first band in both, the second another value in each."""
    windows = torch.arange(10.0).reshape(1, 2, CONTEXT)  # bands 0: 0 ... 4, 1: 5 ... 9
    for kind, expected in (("ae_organisers", 5.0), ("ae_workshop", 1.0)):
        network = DenseAutoencoder(2, kind)
        seen: list[torch.Tensor] = []
        network.encoder.register_forward_pre_hook(lambda _m, inputs, seen=seen: seen.append(inputs[0]))
        network.eval()(windows)
        assert seen[0][0, :2].tolist() == [0.0, expected]


def test_beginnings_differ() -> None:
    torch.manual_seed(0)
    workshop, organisers = (DenseAutoencoder(128, kind) for kind in ("ae_workshop", "ae_organisers"))
    first, other = workshop.encoder[0], organisers.encoder[0]
    assert (first.bias == 0.01).all()
    assert (other.bias == 0).all()
    assert (first.weight.abs().max() / other.weight.abs().max()).item() == pytest.approx(2**0.5, rel=1e-3)
    assert (workshop.encoder[1].eps, organisers.encoder[1].eps) == (1e-5, 1e-3)


def test_the_first_shot_network_begins_as_pytorch_has_it() -> None:
    torch.manual_seed(3)
    network = FirstShotAutoencoder(128)
    torch.manual_seed(3)
    plain = [nn.Linear(of.in_features, of.out_features) for of in network.modules() if isinstance(of, nn.Linear)]
    made = [of for of in network.modules() if isinstance(of, nn.Linear)]
    assert len(made) == 10
    for own, default in zip(made, plain, strict=True):
        assert torch.equal(own.weight, default.weight)
        assert torch.equal(own.bias, default.bias)
    assert network.encoder[1].eps == 1e-3  # batch norm as the organisers'


def test_bands_that_cannot_be_halved_three_times_are_refused() -> None:
    with pytest.raises(UserError, match=r"num_mels: 20 bands, model.kind=ae_conv needs a multiple of 8"):
        build_network(ModelConfig(kind="ae_conv"), 20)


def test_scores_of_residuals_need_the_network_that_has_them() -> None:
    with pytest.raises(
        UserError, match=r"scoring.residuals: mahalanobis needs model.kind=ae_firstshot, not ae_workshop"
    ):
        Config(model=ModelConfig(kind="ae_workshop"), scoring=ScoringConfig(residuals="mahalanobis"))


# -------------------------------------------------------------------------------------------------------- Mahalanobis


@pytest.fixture
def residuals() -> torch.Tensor:
    """(6 clips, 7 windows, 3 bands, 5 frames), the last two clips of another domain."""
    torch.manual_seed(1)
    x = torch.randn(6, 7, 3, CONTEXT) @ torch.diag(torch.tensor([1.0, 2.0, 1.0, 1.0, 1.0]))
    x[4:] = 3 * x[4:] + 1
    return x


TARGET = torch.tensor([False, False, False, False, True, True])


def frames_of(x: torch.Tensor) -> np.ndarray:
    """(frames, bands), float64."""
    return x.double().movedim(-2, -1).reshape(-1, x.shape[-2]).numpy()


def test_covariances_of_batches_are_those_of_everything(residuals: torch.Tensor) -> None:
    network = FirstShotAutoencoder(3)
    network.fit_covariance((residuals[rows], TARGET[rows]) for rows in ([0, 4], [1, 2, 5], [3]))
    for domain, chosen in enumerate((~TARGET, TARGET)):
        expected = np.linalg.inv(np.cov(frames_of(residuals[chosen]).T, bias=True))
        np.testing.assert_allclose(network.inverse[domain], expected, rtol=1e-5)


def test_without_target_clips_both_domains_are_the_same(residuals: torch.Tensor) -> None:
    network = FirstShotAutoencoder(3)
    network.fit_covariance([(residuals, torch.zeros(6, dtype=torch.bool))])
    assert torch.equal(*network.inverse)


def test_the_distance_is_to_the_nearer_domain(residuals: torch.Tensor) -> None:
    network = FirstShotAutoencoder(3)
    network.fit_covariance([(residuals, TARGET)])
    inverse = network.inverse.double().numpy()
    for clip, score in zip(residuals, network.mahalanobis(residuals, published=False), strict=True):
        frames = frames_of(clip)
        both = [np.mean([f @ of @ f for f in frames]) / 3 for of in inverse]
        assert float(score) == pytest.approx(min(both), rel=1e-5)


def test_the_published_distance_is_the_mean_over_all_pairs_of_frames(residuals: torch.Tensor) -> None:
    network = FirstShotAutoencoder(3)
    network.fit_covariance([(residuals, TARGET)])
    inverse = network.inverse.double().numpy() / CONTEXT  # a covariance five times too large
    scores = network.mahalanobis(residuals, published=True)
    for clip, score in zip(residuals, scores, strict=True):
        frames = frames_of(clip)
        both = [np.mean([a @ of @ b for a, b in product(frames, frames)]) for of in inverse]
        assert float(score) == pytest.approx(min(both), rel=1e-4)
