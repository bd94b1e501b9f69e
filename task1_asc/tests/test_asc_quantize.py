"""Quantisation-aware training: what is fused and observed, when it is frozen, and the int8 network on disk."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from common.run.config import load_config
from common.run.errors import UserError
from task1_asc.config import Config, ModelConfig
from task1_asc.deployment.quantize import (
    convert_network,
    load_network,
    prepare_network,
    quantize_config,
    save_network,
)
from task1_asc.model.cp_mobile import GlobalResponseNorm
from task1_asc.model.networks import build_network
from task1_asc.training.system import QuantizeSystem, rate_factor

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
SMALL = ModelConfig("cp_mobile", base_channels=8, strides={"b2": (2, 2), "b4": (2, 1)})
EXAMPLE = torch.zeros(1, 1, 32, 21)


def trained_form(config: ModelConfig = SMALL) -> nn.Module:
    """A network whose batch norms have seen data and whose response norms do something."""
    torch.manual_seed(0)
    network = build_network(config)
    for module in network.modules():
        if isinstance(module, GlobalResponseNorm):
            nn.init.constant_(module.gamma, 0.3)
            nn.init.constant_(module.beta, -0.1)
    for _ in range(30):
        network(clips(8))
    return network.eval()


def clips(count: int, seed: int | None = None) -> torch.Tensor:
    """Clips that differ in level and spectrum, or their mean logits would all be the same."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    noise = torch.randn(count, *EXAMPLE.shape[1:], generator=generator)
    return 0.3 * noise + torch.randn(count, 1, EXAMPLE.shape[2], 1, generator=generator).cumsum(dim=2)


def observed(network: nn.Module) -> nn.Module:
    """A prepared copy whose observers have seen some batches; batch norms stay as they are."""
    prepared = prepare_network(network, EXAMPLE).eval()
    torch.manual_seed(1)
    for _ in range(20):
        prepared(clips(8))
    return prepared


@pytest.mark.parametrize("backend", ["fbgemm", "qnnpack"])
def test_int8_network_agrees_with_the_float_one(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if backend not in torch.backends.quantized.supported_engines:
        pytest.skip(f"no {backend} on this machine")
    network = trained_form()
    prepared = observed(network)
    monkeypatch.setattr(torch.backends.quantized, "engine", backend)
    converted = convert_network(prepared)
    x = clips(64, seed=2)
    with torch.inference_mode():
        expected, found = network(x), converted(x)
    error = (found - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert 0 < error < 0.15


def test_everything_but_the_response_norm_is_int8() -> None:
    from torch.ao.nn.intrinsic.quantized import ConvReLU2d
    from torch.ao.nn.quantized import Conv2d

    converted = convert_network(observed(trained_form()))
    kinds = [type(module) for module in converted.modules()]
    assert nn.Conv2d not in kinds
    assert nn.BatchNorm2d not in kinds
    # Two of the stem and two of each of the six blocks have a ReLU behind them, the third of a block and the head none.
    assert (kinds.count(ConvReLU2d), kinds.count(Conv2d)) == (2 + 6 * 2, 6 + 1)
    norms = [module for module in converted.modules() if isinstance(module, GlobalResponseNorm)]
    assert len(norms) == 6
    assert all(norm.gamma.dtype == torch.float32 for norm in norms)


@pytest.mark.parametrize("config", [SMALL, ModelConfig(base_channels=8)], ids=["cp_mobile", "baseline"])
def test_networks_on_disk(tmp_path: Path, config: ModelConfig) -> None:
    network = trained_form(config)
    converted = convert_network(observed(network))
    path = tmp_path / "network_int8.pt"
    save_network(converted, path)
    torch.manual_seed(5)
    loaded = load_network(path, build_network(config), EXAMPLE)
    x = clips(4, seed=3)
    assert torch.equal(loaded(x), converted(x))
    assert [p.name for p in tmp_path.iterdir()] == ["network_int8.pt"]


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "network_int8.pt"
    with pytest.raises(UserError, match=r"int8 network \(`train` makes it\) not found"):
        load_network(path, build_network(SMALL), EXAMPLE)
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="no int8 network of this recipe"):
        load_network(path, build_network(SMALL), EXAMPLE)
    torch.save(build_network(SMALL).state_dict(), path)
    with pytest.raises(UserError, match="no int8 network of this recipe"):
        load_network(path, build_network(SMALL), EXAMPLE)


def test_preparing_leaves_the_float_network_alone() -> None:
    network = trained_form()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    observed(network)
    assert not network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_observers_see_training_only_and_freeze_at_the_end(tiny: Callable[..., Config]) -> None:
    config = quantize_config(
        tiny("model.kind=cp_mobile", "quantize.epochs=5", "quantize.freeze_epochs=2", "precision=int8")
    )
    prepared = prepare_network(build_network(config.model), EXAMPLE)
    system = QuantizeSystem(config, prepared, 3, np.zeros(1, int), np.zeros(1, int))
    norms = [module for module in prepared.modules() if hasattr(module, "freeze_bn")]
    assert norms
    ranges = next(value for name, value in prepared.named_buffers() if name.endswith("activation_post_process_0.scale"))
    for epoch in range(5):
        system._trainer = SimpleNamespace(current_epoch=epoch)
        frozen = epoch >= 3
        system.on_train_epoch_start()
        before = ranges.clone()
        prepared.train()(100.0 * (epoch + 1) * clips(4))
        assert torch.equal(before, ranges) == frozen
        assert all(norm.freeze_bn == frozen for norm in norms)
        system.on_validation_epoch_start()
        before = ranges.clone()
        prepared.eval()(1e4 * clips(4))
        assert torch.equal(before, ranges)


def test_published_settings_of_the_stage() -> None:
    config = load_config(Config, RECIPES, "cp_mobile_int8")
    stage = quantize_config(config)
    assert (stage.optimizer.name, stage.optimizer.lr, stage.trainer.max_epochs) == ("adam", 5e-5, 20)
    assert stage.distill == config.distill  # distillation goes on
    factor = rate_factor(stage.optimizer, 1, 20)
    assert factor(0) == factor(1) == 1
    assert factor(9) == pytest.approx(0.55)
    assert factor(17) == factor(19) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["precision=int8"], r"precision=int8: int8 needs quantisation-aware training"),
        (["quantize.epochs=4", "quantize.freeze_epochs=4"], r"quantize\.freeze_epochs=4: expected less than"),
        (["quantize.epochs=5", "finetune.epochs=1"], r"quantize\.epochs=5: device-specific models are not quantised"),
        (["quantize.epochs=5", "model.kind=cp_resnet"], r"quantize\.epochs=5: only baseline and cp_mobile"),
    ],
)
def test_settings_that_do_not_go_together(overrides: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_config(Config, RECIPES, "toy", overrides)
