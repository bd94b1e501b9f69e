"""All windows of a clip at once equal the windows one by one, at every setting and length."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from common.encoders.cp_resnet import TASK2_KERNELS, CPResNet, task2_config
from common.run.errors import UserError
from task2_anomaly.inference.windows import plain_window_scores, window_scores


def random_network(setting: str, channels: int = 3, batch_norm: bool = True, seed: int = 0) -> CPResNet:
    """With statistics and weights that an error in one column could not hide behind."""
    torch.manual_seed(seed)
    network = CPResNet(task2_config(setting, channels, batch_norm), 1)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.3)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network.eval()


@settings(deadline=None, max_examples=25)
@given(
    setting=st.sampled_from(sorted(TASK2_KERNELS)),
    window=st.integers(20, 200),
    more=st.integers(0, 60),
    hop=st.integers(1, 20),
    mels=st.sampled_from([20, 33, 40]),
    seed=st.integers(0, 3),
)
@torch.inference_mode()
def test_shared_windows_equal_plain_ones(setting: str, window: int, more: int, hop: int, mels: int, seed: int) -> None:
    network = random_network(setting, batch_norm=seed % 2 == 0, seed=seed)
    clips = torch.randn(2, mels, window + more)
    plain = plain_window_scores(network, clips, window, hop)
    assert plain.shape == (2, more // hop + 1)
    assert plain.std() > 0
    torch.testing.assert_close(window_scores(network, clips, window, hop), plain, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_the_borders_of_a_window_matter() -> None:
    """The check above would pass for a network whose windows do not feel their borders; they do."""
    network = random_network("normal")
    clip = torch.randn(1, 40, 200)
    scores = window_scores(network, clip, 128)
    stretched = torch.cat((clip[..., :1].expand(-1, -1, 20), clip), dim=-1)
    assert not torch.allclose(window_scores(network, stretched, 148)[:, 0], scores[:, 0], atol=1e-3)


def test_a_clip_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(UserError, match="a clip of 100 frames is shorter than a window of 128"):
        window_scores(random_network("normal"), torch.randn(1, 40, 100), 128)


def test_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="evaluation mode"):
        window_scores(random_network("normal").train(), torch.randn(1, 40, 150), 128)
