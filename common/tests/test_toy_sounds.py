"""Procedural sounds: spectra, pitch, envelopes and mixing are what their parameters say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import toy

RATE = 16000


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def strongest_hz(signal: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(len(signal))))
    return float(np.fft.rfftfreq(len(signal), 1 / RATE)[spectrum.argmax()])


def energy_share(signal: np.ndarray, low: float, high: float) -> float:
    power = np.abs(np.fft.rfft(signal)) ** 2
    hz = np.fft.rfftfreq(len(signal), 1 / RATE)
    return float(power[(hz >= low) & (hz <= high)].sum() / power.sum())


SOURCES = {
    "noise": lambda g: toy.noise(g, 0.5, RATE, toy.tilt(-3)),
    "tone": lambda g: toy.tone(toy.glide(g, 0.5, RATE, [300, 500], (6, 0.02), 0.05), RATE, [1, 0.5]),
    "engine": lambda g: toy.engine(g, toy.glide(g, 0.5, RATE, [80, 90]), RATE),
    "hum": lambda g: toy.hum(g, 0.5, RATE),
    "hit": lambda g: toy.hit(g, RATE, [900, 1700, 9000], 0.3),
    "train": lambda g: toy.train_of(g, [toy.hit(g, RATE, [500], 0.1)], 0.5, RATE, 8, 0.5),
    "crackle": lambda g: toy.crackle(g, 0.5, RATE, 80, [2000, 12000]),
    "voice": lambda g: toy.voice(g, 0.5, RATE, 150),
    "chain": lambda g: toy.chain([toy.hum(g, 0.2, RATE), toy.hum(g, 0.3, RATE)], 100),
    **{kind: (lambda g, kind=kind: toy.background(g, 0.5, RATE, kind)) for kind in toy.BACKGROUNDS},
}


@pytest.mark.parametrize("name", SOURCES)
def test_sources_are_float32_of_unit_rms_and_follow_their_seed(name: str) -> None:
    sound = SOURCES[name](rng(1))
    assert sound.dtype == np.float32
    assert sound.ndim == 1
    assert np.isfinite(sound).all()
    assert toy.rms(sound) == pytest.approx(1.0, abs=1e-3)
    np.testing.assert_array_equal(sound, SOURCES[name](rng(1)))
    if name != "chain":  # of two hums: only their harmonics differ
        assert not np.array_equal(sound, SOURCES[name](rng(2)))


@pytest.mark.parametrize("slope", [-6.0, -3.0, 0.0, 3.0])
def test_tilt_sets_the_slope_of_noise(slope: float) -> None:
    sound = toy.noise(rng(), 8.0, RATE, toy.tilt(slope))
    octaves = [energy_share(sound, hz, 2 * hz) / hz for hz in (250, 500, 1000, 2000)]
    slopes = np.diff(10 * np.log10(octaves))
    np.testing.assert_allclose(slopes, slope, atol=0.5)


def test_band_keeps_the_energy_inside() -> None:
    sound = toy.noise(rng(), 2.0, RATE, toy.band(1000, 2000, 36.0))
    assert energy_share(sound, 1000, 2000) > 0.75
    assert energy_share(sound, 500, 4000) > 0.99


@settings(deadline=None, max_examples=15)
@given(hz=st.floats(60, 3500))
def test_tone_sounds_at_its_pitch_without_aliases(hz: float) -> None:
    sound = toy.tone(toy.glide(rng(), 1.0, RATE, [hz]), RATE, [1.0, 0.4, 0.4, 0.4])
    assert strongest_hz(sound) == pytest.approx(hz, abs=1.5)
    partials = [number * hz for number in range(1, 5) if number * hz < RATE / 2]
    assert sum(energy_share(sound, partial - 20, partial + 20) for partial in partials) > 0.98


def test_glide_passes_its_points() -> None:
    track = toy.glide(rng(), 2.0, RATE, [200.0, 800.0, 400.0])
    assert (track[0], track[-1]) == pytest.approx((200, 400))
    assert track[len(track) // 2] == pytest.approx(800, rel=1e-3)


def test_modulation_shows_at_its_rate() -> None:
    sound = toy.modulate(rng(), toy.noise(rng(), 4.0, RATE), RATE, 8.0, 1.0)
    envelope = np.square(sound).reshape(-1, 160).mean(axis=1)
    spectrum = np.abs(np.fft.rfft(envelope - envelope.mean()))
    assert np.fft.rfftfreq(len(envelope), 0.01)[spectrum.argmax()] == pytest.approx(8.0, abs=0.3)


def test_decay_reaches_60_db_after_t60() -> None:
    curve = toy.decay(RATE, RATE, 0.5)
    assert 20 * np.log10(curve[RATE // 2]) == pytest.approx(-60, abs=0.1)


def test_train_has_as_many_grains_as_its_rate_says() -> None:
    click = np.ones(1, np.float32)
    sound = toy.train_of(rng(), [click], 2.0, RATE, 5.0, jitter=0.0, spread_db=0.0)
    assert np.flatnonzero(sound).tolist() == [int(i / 5 * RATE) for i in range(10)]


def test_fade_touches_the_ends_only_and_not_its_argument() -> None:
    signal = np.ones(1000, np.float32)
    faded = toy.fade(signal, RATE, 0.01, 0.02)
    assert faded[0] < 0.001
    assert faded[-1] < 0.001
    np.testing.assert_array_equal(faded[160:680], 1.0)
    np.testing.assert_array_equal(signal, 1.0)


def test_active_span_finds_a_burst_to_a_frame() -> None:
    signal = np.zeros(RATE, np.float32)
    signal[4000:9000] = 1.0
    signal[9000:] = 0.05  # 26 dB below
    assert toy.active_span(signal, RATE, 20.0) == (4000, 9120)  # frames of 160 samples: 9000 lies inside of one


def test_repitch_scales_pitch_and_length() -> None:
    tone = toy.tone(toy.glide(rng(), 1.0, RATE, [400.0]), RATE)
    faster = toy.repitch(tone, 1.25)
    assert len(faster) == pytest.approx(RATE / 1.25, abs=1)
    assert strongest_hz(faster) == pytest.approx(500, abs=2)


@settings(deadline=None, max_examples=20)
@given(snr_db=st.floats(-10, 40), start=st.integers(-3000, 15000))
def test_mix_at_snr_reaches_the_snr_over_the_support(snr_db: float, start: int) -> None:
    background = toy.noise(rng(1), 1.0, RATE) * np.float32(0.01)
    background[: RATE // 2] *= 5  # the SNR refers to where the event is
    mixture, event = background.copy(), toy.noise(rng(2), 0.25, RATE)
    toy.mix_at_snr(mixture, background, event, start, snr_db)
    first, last = max(start, 0), min(start + len(event), RATE)
    added = mixture - background
    assert 20 * np.log10(toy.rms(added[first:last]) / toy.rms(background[first:last])) == pytest.approx(snr_db, abs=0.1)
    assert not added[:first].any()
    assert not added[last:].any()


def test_mix_outside_of_the_clip_is_an_error() -> None:
    clip = np.ones(100, np.float32)
    with pytest.raises(ValueError, match="outside"):
        toy.mix_at_snr(clip.copy(), clip, clip, 100, 0.0)


def test_in_band_snr_looks_where_the_event_is() -> None:
    low = toy.noise(rng(1), 1.0, RATE, toy.band(40, 100))
    high = toy.noise(rng(2), 1.0, RATE, toy.band(2200, 3800, 60))
    floor = toy.noise(rng(3), 1.0, RATE) * np.float32(0.1)
    assert toy.in_band_snr(high, low + floor, RATE) > 20
    assert toy.in_band_snr(low, low, RATE) == pytest.approx(0.0, abs=1e-6)
    assert toy.in_band_snr(2 * high, high, RATE) == pytest.approx(6.02, abs=0.01)


@settings(deadline=None, max_examples=20)
@given(gain=st.floats(0.01, 10))
def test_limit_peak_scales_only_when_clipping(gain: float) -> None:
    signal = (gain * np.sin(np.arange(1000) / 7)).astype(np.float32)
    limited = toy.limit_peak(signal)
    if np.abs(signal).max() <= 0.98:
        assert limited is signal
    else:
        assert np.abs(limited).max() == pytest.approx(0.98, abs=1e-5)
        np.testing.assert_allclose(limited * np.abs(signal).max(), signal * 0.98, atol=1e-4)
