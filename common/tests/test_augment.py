"""Augmentations: what they must leave alone, and the distributions of their draws."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from common import augment
from common.augment import BandGains, MaskDraw, Mix, Span, Warp


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(5)


def test_mix_stays_in_its_group_and_favours_the_own_clip() -> None:
    mix = augment.draw_mix((3, 0, 4), 0.2)
    assert sorted(mix.perm[:3].tolist()) == [0, 1, 2]
    assert sorted(mix.perm[3:].tolist()) == [3, 4, 5, 6]
    lam = augment.draw_mix((4000,), 0.2).lam
    assert (lam >= 0.5).all()
    assert (lam > 0.95).float().mean() > 0.5  # Beta(0.2, 0.2) lies at its ends
    free = augment.draw_mix((4000,), 1.0, folded=False).lam
    assert free.mean() == pytest.approx(0.5, abs=0.03)
    assert free.min() < 0.1


def test_mixup_by_hand() -> None:
    mix = Mix(torch.tensor([0.75, 1.0]), torch.tensor([1, 0]))
    x = torch.tensor([[4.0, 0.0], [0.0, 8.0]])
    assert augment.mixup(x, mix).tolist() == [[3.0, 2.0], [0.0, 8.0]]
    labels = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, 0.5]]])  # (clip, class, frame)
    assert augment.mixup_hard_labels(labels, mix)[0].tolist() == [[1.0, 1.0], [0.0, 0.5]]
    assert augment.mixup_soft_labels(labels, mix)[0].tolist() == [[1.0, 0.25], [0.0, 0.125]]


def test_mixed_class_mask_takes_active_classes_of_the_partner_only() -> None:
    own = torch.tensor([[True, False, False], [False, True, True]])
    labels = torch.tensor([[[1.0], [0.0], [0.0]], [[0.0], [0.0], [0.2]]])
    mix = Mix(torch.ones(2), torch.tensor([1, 0]))
    assert augment.mixup_class_mask(own, labels, mix).tolist() == [[True, False, True], [True, True, True]]


def test_adjacent_mixup_weights_sum_to_one() -> None:
    lam = augment.draw_adjacent(6)
    assert torch.allclose(lam[0::2] + lam[1::2], torch.ones(6))
    assert torch.allclose(augment.mixup_adjacent(torch.ones(12, 1, 2, 3), lam), torch.ones(6, 1, 2, 3))


def test_wavmix_removes_offsets() -> None:
    first, second = torch.randn(2, 8, 100) + 1.0
    mixed = augment.wavmix(first, second, torch.full((8,), 0.75))
    expected = 0.75 * (first - first.mean(-1, keepdim=True)) + 0.25 * (second - second.mean(-1, keepdim=True))
    torch.testing.assert_close(mixed, expected)


@pytest.mark.parametrize("per_channel", [False, True])
def test_mixstyle_with_itself_changes_nothing(per_channel: bool) -> None:
    x = torch.randn(4, 2, 5, 20)
    same = Mix(torch.rand(4), torch.arange(4))
    assert torch.allclose(augment.freq_mixstyle(x, same, per_channel), x, atol=1e-5)


def test_mixstyle_takes_over_the_partners_statistics() -> None:
    x = torch.randn(2, 1, 3, 50) * torch.tensor([1.0, 5.0]).reshape(2, 1, 1, 1)
    out = augment.freq_mixstyle(x, Mix(torch.zeros(2), torch.tensor([1, 0])))
    assert torch.allclose(out.std(dim=3)[0], x.std(dim=3)[1], rtol=1e-3)
    assert torch.allclose(out.mean(dim=3)[0], x.mean(dim=3)[1], atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(bands=st.integers(1, 80), seed=st.integers(0, 1000))
def test_freq_warp(bands: int, seed: int) -> None:
    torch.manual_seed(seed)
    warp = augment.draw_freq_warp(bands)
    assert warp.height >= max(1, int(0.6 * bands))
    assert 0 <= warp.start <= bands - warp.height
    x = torch.full((2, 1, bands, 3), 0.7)
    assert torch.allclose(augment.freq_warp(x, warp), x, atol=1e-5)
    ramp = torch.rand(1, bands, 3)
    assert torch.allclose(augment.freq_warp(ramp, Warp(bands, 0)), ramp, atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(bands=st.integers(6, 128), seed=st.integers(0, 1000))
def test_filter_augment(bands: int, seed: int) -> None:
    torch.manual_seed(seed)
    draw = augment.draw_filter_augment(2, bands)
    widths = [stop - start for start, stop in zip(draw.boundaries, draw.boundaries[1:], strict=False)]
    assert sum(widths) == bands
    assert 3 <= len(widths) <= 5
    assert min(widths) >= min(6, bands // len(widths))
    gain = augment.filter_augment(torch.ones(2, 1, bands, 4), draw)
    assert (20 * gain.log10()).abs().max() <= 6.001
    assert torch.equal(gain[..., 0], gain[..., 3]), "all frames get the same gain"
    flat = BandGains(draw.boundaries, torch.full_like(draw.gains, 6.0))
    assert torch.allclose(augment.filter_augment(torch.ones(2, bands, 4), flat), torch.tensor(10 ** (6 / 20)))


def test_roll_and_scaled_shift() -> None:
    x = torch.arange(6.0).repeat(2, 1, 1)
    assert augment.roll(x, torch.tensor([1, -2]))[:, 0].tolist() == [[5, 0, 1, 2, 3, 4], [2, 3, 4, 5, 0, 1]]
    assert augment.scaled_shift(torch.tensor([2, 6, -6, 5]), 4).tolist() == [0, 2, -2, 1]
    shift = augment.draw_frame_shift(4000, 626, 0.075)
    assert shift.float().std() == pytest.approx(46, rel=0.1)
    assert augment.draw_roll(1000, 3).unique().tolist() == list(range(-3, 4))


def test_time_mask_clears_the_same_time_on_every_axis() -> None:
    spans = [augment.draw_time_mask(156) for _ in range(300)]
    assert min(span.width for span in spans) >= 7
    assert max(span.width for span in spans) <= 45
    assert all(span.start + span.width < 156 for span in spans)
    span = Span(10, 5)
    features, labels = augment.time_mask(torch.ones(1, 2, 626), span, 4), augment.time_mask(torch.ones(1, 3, 156), span)
    assert (features == 0).all(dim=1).nonzero()[:, 1].tolist() == list(range(40, 60))
    assert (labels == 0).all(dim=1).nonzero()[:, 1].tolist() == list(range(10, 15))


@settings(deadline=None, max_examples=20)
@given(size=st.integers(1, 40), widest=st.integers(1, 60), share=st.sampled_from([1.0, 0.3]), seed=st.integers(0, 999))
def test_spec_mask_is_one_run_narrower_than_its_limit(size: int, widest: int, share: float, seed: int) -> None:
    torch.manual_seed(seed)
    widest = min(widest, size)
    out = augment.spec_mask(torch.ones(3, 4, size), augment.draw_spec_mask((3,)), widest, share=share)
    limit = widest if share == 1.0 else min(widest, int(size * share))
    for row in out[:, 0]:
        zeros = (row == 0).nonzero()[:, 0].tolist()
        assert len(zeros) <= max(limit - 1, 0)
        assert zeros == list(range(zeros[0], zeros[0] + len(zeros))) if zeros else True


def test_spec_mask_axis_and_value() -> None:
    draw = MaskDraw(torch.tensor([0.99]), torch.tensor([0.0]))
    out = augment.spec_mask(torch.ones(2, 1, 5, 4), draw, 3, axis=-2, value=-7.0)
    assert (out[:, :, :2] == -7).all()
    assert (out[:, :, 2:] == 1).all()


def test_stripes_lie_inside() -> None:
    stripes = augment.draw_stripes(500, 70, 64)
    assert stripes.width.max() <= 63
    assert (stripes.start + stripes.width <= 70).all()
    assert (stripes.start >= 0).all()
    masked = augment.stripe_mask(torch.ones(500, 1, 70, 8), stripes, axis=-2)
    assert ((masked == 0).sum(dim=-2)[:, 0, 0] <= stripes.width.sum(dim=1)).all()


def test_gain_draws_and_size() -> None:
    assert augment.draw_gain(500, 2).unique().tolist() == [-2, -1, 0, 1]
    assert augment.draw_gain(500, 2, both_ends=True).unique().tolist() == [-2, -1, 0, 1, 2]
    assert torch.allclose(augment.gain(torch.ones(1, 4), torch.tensor([20])), torch.tensor(10.0))


def test_aligned_device_impulse_does_not_move_audio() -> None:
    wave = torch.randn(3, 200)
    impulse = torch.zeros(3, 31)
    impulse[torch.arange(3), torch.tensor([0, 4, 30])] = 0.5
    every = augment.ImpulseDraw(torch.arange(3), torch.ones(3, dtype=torch.bool))
    assert torch.allclose(augment.device_impulse(wave, impulse, every, "peak"), 0.5 * wave, atol=1e-6)
    moved = augment.device_impulse(wave, impulse, every)
    assert torch.allclose(moved[0, :-15], 0.5 * wave[0, 15:], atol=1e-6)
    draw = augment.draw_device_impulse(3, 3, 0.0)
    assert torch.equal(augment.device_impulse(wave, impulse, draw), wave)


def test_blur_is_scipys() -> None:
    x = torch.randn(2, 12, 15)
    expected = torch.stack([torch.from_numpy(gaussian_filter(item.numpy(), 0.5)) for item in x])
    assert torch.allclose(augment.gaussian_blur(x, 0.5), expected, atol=1e-5)


def test_inputs_are_left_as_they_are() -> None:
    x = torch.rand(4, 1, 20, 24)
    before = x.clone()
    augment.mixup(x, augment.draw_mix((4,), 0.2))
    augment.freq_mixstyle(x, augment.draw_mix((4,), 0.2))
    augment.freq_warp(x, augment.draw_freq_warp(20))
    augment.filter_augment(x, augment.draw_filter_augment(4, 20))
    augment.time_mask(x, augment.draw_time_mask(24))
    augment.spec_mask(x, augment.draw_spec_mask((4, 1)), 5, axis=-2)
    augment.stripe_mask(x, augment.draw_stripes(4, 24, 5))
    augment.roll(x, torch.tensor([1, 2, 3, 4]))
    assert torch.equal(x, before)
