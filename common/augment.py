"""Augmentations of waveforms and spectrograms, drawing and applying kept apart.

A `draw_*` function samples from torch's global generators and returns the draws; the function beside it applies them
and is deterministic. Draws per clip lie on the given device; one draw for a whole batch that decides a shape or a
slice is a host integer from the CPU generator, so that a GPU is never waited for. Nothing is changed in place.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

Device = torch.device | str


def _integer(low: int, high: int) -> int:
    """A host integer, uniform on {low..high}."""
    return int(torch.randint(low, high + 1, ()).item())


def coin(probability: float) -> bool:
    """One decision for a whole batch."""
    return bool(torch.rand(()).item() < probability)


def _per_clip(value: Tensor, like: Tensor) -> Tensor:
    """(batch,) -> (batch, 1, ...) with the dimensions of `like`."""
    return value.reshape(-1, *[1] * (like.dim() - 1))


# --- mixing clips of a batch


class Mix(NamedTuple):
    """Clip i becomes lam[i] x itself + (1 - lam[i]) x clip perm[i]; both (batch,)."""

    lam: Tensor
    perm: Tensor


def fold(lam: Tensor) -> Tensor:
    """max(lam, 1 - lam): a clip stays the louder part of its mix."""
    return torch.maximum(lam, 1.0 - lam)


def draw_beta(batch: int, alpha: float, device: Device = "cpu") -> Tensor:
    """Beta(alpha, alpha), shape (batch,)."""
    concentration = torch.full((batch,), alpha, device=device)
    return torch.distributions.Beta(concentration, concentration, validate_args=False).sample()


def draw_mix(groups: Sequence[int], alpha: float, device: Device = "cpu", folded: bool = True) -> Mix:
    """Coefficients ~ Beta(alpha, alpha) and partners for consecutive groups of a batch, mixed each within itself."""
    lam = draw_beta(sum(groups), alpha, device)
    starts = [sum(groups[:index]) for index in range(len(groups))]
    perms = [torch.randperm(size, device=device) + start for start, size in zip(starts, groups, strict=True)]
    return Mix(fold(lam) if folded else lam, torch.cat(perms))


def mix_pair(first: Tensor, second: Tensor, lam: Tensor) -> Tensor:
    """lam x first + (1 - lam) x second, (batch, ...) with lam (batch,)."""
    weight = _per_clip(lam, first).to(first.dtype)
    return weight * first + (1.0 - weight) * second


def mixup(x: Tensor, mix: Mix) -> Tensor:
    """Mixup of features, embeddings, soft or pseudo labels (batch, ...); Zhang et al. 2018."""
    return mix_pair(x, x[mix.perm], mix.lam)


def mixup_soft_labels(labels: Tensor, mix: Mix) -> Tensor:
    """Labels (batch, classes, ...) mixed like the input, within [0, 1]."""
    return mixup(labels, mix).clamp(0.0, 1.0)


def mixup_hard_labels(labels: Tensor, mix: Mix) -> Tensor:
    """Labels (batch, classes, ...) of both clips at full weight."""
    return (labels + labels[mix.perm]).clamp(0.0, 1.0)


def mixup_class_mask(class_mask: Tensor, labels: Tensor, mix: Mix) -> Tensor:
    """Valid classes (batch, classes) of mixed clips: the own ones or those active in the partner.

    `labels` (batch, classes, frames) are those before mixing.
    """
    return class_mask | (labels > 0).any(dim=-1)[mix.perm]


def mixup_adjacent(x: Tensor, lam: Tensor) -> Tensor:
    """Mixup of a double batch (2 n, ...), clip 2 k with clip 2 k + 1, weights lam (2 n,) -> (n, ...); PANNs."""
    weighted = x * _per_clip(lam, x)
    return weighted[0::2] + weighted[1::2]


def draw_adjacent(batch: int, alpha: float = 1.0, device: Device = "cpu") -> Tensor:
    """Weights (2 batch,) for `mixup_adjacent`: the second clip of a pair has 1 - that of the first."""
    lam = draw_beta(batch, alpha, device)
    return torch.stack((lam, 1.0 - lam), dim=1).flatten()


def _centred(waveform: Tensor) -> Tensor:
    return waveform - waveform.mean(dim=-1, keepdim=True)


def wavmix(first: Tensor, second: Tensor, lam: Tensor) -> Tensor:
    """Mix of two waveforms (batch, samples), without offset before and after, lam (batch,)."""
    return _centred(mix_pair(_centred(first), _centred(second), lam))


def freq_mixstyle(x: Tensor, mix: Mix, per_channel: bool = False) -> Tensor:
    """Exchange of mean and deviation per frequency band, x (batch, channels, bands, frames); Zhou et al. 2021.

    Statistics over channels and frames; over frames only with `per_channel` (Task 4). Without gradient.
    """
    over = (3,) if per_channel else (1, 3)
    with torch.no_grad():
        variance, mean = torch.var_mean(x, dim=over, keepdim=True)
        deviation = (variance + 1e-6).sqrt()
        new_deviation, new_mean = mixup(deviation, mix), mixup(mean, mix)
    return (x - mean) / deviation * new_deviation + new_mean


# --- frequency axis


class Warp(NamedTuple):
    """Bands `start`..`start + height - 1` are stretched over the whole axis; one draw for a batch."""

    height: int
    start: int


def draw_freq_warp(bands: int, smallest: float = 0.6) -> Warp:
    """Height int(U(smallest, 1) x bands), start uniform over what fits."""
    share = smallest + (1.0 - smallest) * torch.rand(()).item()
    height = min(max(int(share * bands), 1), bands)
    return Warp(height, _integer(0, bands - height))


def freq_warp(x: Tensor, warp: Warp) -> Tensor:
    """Crop and stretch of the bands of (batch, ..., bands, frames), bicubic with aligned corners.

    The resampling is one small matrix, the same for every frame.
    """
    bands = x.shape[-2]
    identity = torch.eye(warp.height, device=x.device, dtype=x.dtype)[None, None]
    matrix = F.interpolate(identity, size=(bands, warp.height), mode="bicubic", align_corners=True)[0, 0]
    return matrix @ x[..., warp.start : warp.start + warp.height, :]


class BandGains(NamedTuple):
    """FilterAugment: `boundaries` of n bands (n + 1 integers from 0 to bands), `gains` (batch, n + 1) in dB there."""

    boundaries: tuple[int, ...]
    gains: Tensor


def band_boundaries(offsets: Sequence[int], bands: int, width: int) -> tuple[int, ...]:
    """Boundaries from n - 1 integer draws: sorted and moved apart by the minimum width of a band."""
    inner = [offset + width * (index + 1) for index, offset in enumerate(sorted(offsets))]
    return (0, *inner, bands)


def draw_filter_augment(
    batch: int, bands: int, device: Device = "cpu", decibels: float = 6.0, most: tuple[int, int] = (3, 5)
) -> BandGains:
    """Number of bands uniform on {3..5}, at least 6 wide where they fit; gains U(-decibels, decibels) per clip."""
    count = _integer(*most)
    width = min(6, bands // count)
    offsets = [_integer(0, bands - width * count) for _ in range(count - 1)]
    gains = (2.0 * torch.rand(batch, count + 1, device=device) - 1.0) * decibels
    return BandGains(band_boundaries(offsets, bands, width), gains)


def filter_augment(x: Tensor, draw: BandGains) -> Tensor:
    """Gains, linear in dB from one boundary to the next, on linear mel (batch, ..., bands, frames); Nam et al. 2022."""
    count = len(draw.boundaries) - 1
    weights = torch.zeros(count + 1, draw.boundaries[-1])
    for band, (start, stop) in enumerate(zip(draw.boundaries, draw.boundaries[1:], strict=False)):
        rising = torch.linspace(0.0, 1.0, stop - start)  # both ends of a band take the gain of its boundary
        weights[band, start:stop] = 1.0 - rising
        weights[band + 1, start:stop] = rising
    decibels = draw.gains @ weights.to(draw.gains.device, non_blocking=True)
    gain = (10.0 ** (decibels / 20.0)).to(x.dtype)
    return x * gain.reshape(len(gain), *[1] * (x.dim() - 3), -1, 1)


# --- time axis


def draw_frame_shift(batch: int, frames: int, ratio: float, device: Device = "cpu") -> Tensor:
    """Integer shifts (batch,) in frames: N(0, int(frames x ratio)), truncated towards 0."""
    return (torch.randn(batch, device=device) * int(frames * ratio)).trunc().long()


def scaled_shift(shift: Tensor, ratio: float) -> Tensor:
    """The shift (batch,) of an axis that is `ratio` times coarser; halves go to the even neighbour."""
    return (shift.double() / ratio).round().long()


def roll(x: Tensor, shift: Tensor) -> Tensor:
    """Circular shift of the last axis of (batch, ..., time) by shift (batch,): later in time where positive."""
    time = x.shape[-1]
    index = (torch.arange(time, device=x.device) - shift[:, None]) % time
    return x.gather(-1, _last_axis(index, x).expand_as(x))


def _last_axis(value: Tensor, like: Tensor) -> Tensor:
    """(batch, time) -> (batch, 1, ..., time) with the dimensions of `like`."""
    return value.reshape(len(value), *[1] * (like.dim() - 2), value.shape[-1])


def draw_roll(batch: int, largest: int, device: Device = "cpu") -> Tensor:
    """Shifts (batch,) uniform on {-largest..largest} samples."""
    return torch.randint(-largest, largest + 1, (batch,), device=device)


class Span(NamedTuple):
    """Label frames `start`..`start + width - 1`; one draw for a batch."""

    start: int
    width: int


def draw_time_mask(frames: int, shortest: float = 0.05, longest: float = 0.3) -> Span:
    """Width uniform on {int(shortest x frames)..int(longest x frames) - 1}, start on {0..frames - width - 1}."""
    low = int(shortest * frames)
    width = _integer(low, max(int(longest * frames) - 1, low))
    return Span(_integer(0, max(frames - width - 1, 0)), width)


def time_mask(x: Tensor, span: Span, ratio: float = 1.0) -> Tensor:
    """Zeros in a span of the last axis of (batch, ..., time), whose frames are `ratio` times finer than labels.

    Ratio 1 for labels and pseudo labels, 4 for the features of Task 4, embedding frames / label frames else.
    """
    first, last = round(span.start * ratio), round((span.start + span.width) * ratio)
    position = torch.arange(x.shape[-1], device=x.device)
    return x.masked_fill((position >= first) & (position < last), 0.0)


# --- masks of SpecAugment (Park et al. 2019, section 2)


class MaskDraw(NamedTuple):
    """Uniform draws of widths and starts; (batch,), (batch, channels), or (1,) for one mask for all."""

    width: Tensor
    start: Tensor


def draw_spec_mask(shape: Sequence[int], device: Device = "cpu") -> MaskDraw:
    """U(0, 1) of the given shape: the leading axes of the input that get masks of their own."""
    return MaskDraw(torch.rand(*shape, device=device), torch.rand(*shape, device=device))


def spec_mask(x: Tensor, draw: MaskDraw, widest: int, axis: int = -1, share: float = 1.0, value: float = 0.0) -> Tensor:
    """One mask narrower than `widest` on axis -1 (time) or -2 (frequency) of (batch, ..., frequency, time).

    As torchaudio's masks with `iid_masks`; `share` < 1 also limits the width to that part of the axis.
    """
    size = x.shape[axis]
    if share < 1.0:
        widest = min(widest, int(size * share))
    width = draw.width * widest
    start = draw.start * (size - width)
    first, last = start.floor(), start.floor() + width.floor()
    position = torch.arange(size, device=x.device)
    masked = (position >= first[..., None]) & (position < last[..., None])
    leading = (*draw.width.shape, *[1] * (x.dim() - draw.width.dim()))
    return x.masked_fill(masked.reshape(*leading[:axis], size, *leading[len(leading) + axis + 1 :]), value)


class Stripes(NamedTuple):
    """Integer widths and starts (batch, stripes)."""

    width: Tensor
    start: Tensor


def draw_stripes(batch: int, size: int, widest: int, count: int = 2, device: Device = "cpu") -> Stripes:
    """Widths uniform on {0..widest - 1}, starts on {0..size - width - 1}."""
    width = torch.randint(min(widest, size), (batch, count), device=device)
    start = (torch.rand(batch, count, device=device) * (size - width)).long()
    return Stripes(width, start)


def stripe_mask(x: Tensor, stripes: Stripes, axis: int = -1) -> Tensor:
    """Zeros in stripes of the last or last but one axis of (batch, ..., a, b), several per clip; PANNs."""
    position = torch.arange(x.shape[axis], device=x.device)
    start, stop = stripes.start[..., None], (stripes.start + stripes.width)[..., None]
    masked = _last_axis(((position >= start) & (position < stop)).any(dim=1), x)
    return x.masked_fill(masked if axis == -1 else masked.transpose(-1, -2), 0.0)


# --- level, microphones, blur


def draw_gain(batch: int, largest: int, device: Device = "cpu", both_ends: bool = False) -> Tensor:
    """Whole decibels (batch,) uniform on {-largest..largest - 1}, up to `largest` with `both_ends`."""
    return torch.randint(-largest, largest + both_ends, (batch,), device=device)


def gain(waveform: Tensor, decibels: Tensor) -> Tensor:
    """Waveforms (batch, samples) louder by decibels (batch,)."""
    return waveform * _per_clip(10.0 ** (decibels.to(waveform.dtype) / 20.0), waveform)


class ImpulseDraw(NamedTuple):
    """Which impulse response each clip gets, and whether; both (batch,)."""

    which: Tensor
    applied: Tensor


def draw_device_impulse(batch: int, impulses: int, probability: float, device: Device = "cpu") -> ImpulseDraw:
    """Impulse responses uniform, applied with `probability` per clip."""
    which = torch.randint(impulses, (batch,), device=device)
    return ImpulseDraw(which, torch.rand(batch, device=device) < probability)


def device_impulse(
    waveform: Tensor, impulses: Tensor, draw: ImpulseDraw, time_zero: Literal["middle", "peak", "first"] = "middle"
) -> Tensor:
    """The chosen clips of (batch, samples) through their impulse response of (responses, length), same length.

    time_zero: what of a response delays nothing. Its middle, as published, which moves audio against its labels when
    the peak is elsewhere; its peak; or its first sample, as in the recording itself. Morocutti et al. 2023.
    """
    samples, length = waveform.shape[-1], impulses.shape[-1]
    size = next_fast_len(samples + length - 1, real=True)
    full = torch.fft.irfft(torch.fft.rfft(waveform, size) * torch.fft.rfft(impulses[draw.which], size), size)
    if time_zero == "peak":
        position = torch.arange(samples, device=waveform.device)
        recorded = full.gather(-1, impulses.abs().argmax(dim=-1)[draw.which, None] + position)
    else:
        start = length - 1 - length // 2 if time_zero == "middle" else 0
        recorded = full[..., start : start + samples]
    return torch.where(_per_clip(draw.applied, waveform), recorded, waveform)


@lru_cache(maxsize=32)
def _blur_matrix(size: int, sigma: float) -> NDArray[np.float64]:
    return gaussian_filter1d(np.eye(size), sigma, axis=0)


def gaussian_blur(spectrogram: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of both last axes of (..., bands, frames), borders reflected; equals scipy's gaussian_filter."""
    bands, frames = (
        torch.from_numpy(_blur_matrix(size, sigma)).to(spectrogram.device, spectrogram.dtype)
        for size in spectrogram.shape[-2:]
    )
    return bands @ spectrogram @ frames.T
