"""Front ends against torchaudio where it builds the same thing, and invariants of every named setting."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st
from torchaudio.compliance import kaldi

from common.frontends import SETTINGS, Jitter, LogMel, cqt, half_two_dft, mel_bank, two_dft
from common.run.errors import UserError

# Three values and the mean magnitude of the features of `clip`, from the version that passed the stored fixtures.
FINGERPRINTS: dict[str, tuple[float, float, float, float]] = {
    "asc_2024": (-2.81192, 0.108369, 1.38351, 1.8916),
    "asc_2022_student": (-0.842508, 0.426011, 1.43115, 0.842259),
    "asc_2022_teacher": (-1.22594, 0.242211, 1.13122, 0.714525),
    "mel_32k": (-1.20968, 0.0016449, 1.37029, 0.701744),
    "mel_16k_periodic_8000": (-1.12194, 2.2116, 0.863924, 0.623507),
    "mel_16k_periodic_7500": (-1.15903, 1.74979, 0.797357, 0.615068),
    "mel_16k_periodic_7000": (-1.21069, 0.722945, 0.925697, 0.608026),
    "mel_16k_symmetric_7000": (-1.21564, 0.725598, 0.925015, 0.608037),
    "task4_crnn": (-0.494769, 0.815873, -0.0391694, 0.379393),
    "atst": (0.0794624, 0.772557, 0.287001, 0.256138),
    "beats": (-2.39169, 0.913343, 0.459251, 0.276577),
    "asit": (-1.27759, 1.18096, 0.532335, 0.336341),
    "yamnet": (-1.26885, 2.13429, 0.563147, 0.875449),
    "m2d": (-0.163168, 2.36093, 0.163012, 0.297713),
    "panns": (-24.4525, -25.6436, -21.3113, 22.6934),
    "vggish": (-1.23817, 2.14266, 0.566734, 0.860742),
    "task2_workshop": (-8.09585, 21.3236, -8.69365, 10.9661),
    "task2_workshop_zero_pad": (-8.09585, 21.3236, -8.69365, 11.0553),
    "task2_challenge": (-8.09584, 21.3236, -8.69365, 10.965),
    "task2_organisers": (-19.0479, 10.3716, -19.6457, 20.046),
}


def clip(rate: int, seconds: float = 0.5, seed: int = 7) -> torch.Tensor:
    """(1, samples): a rising tone in noise, the same on every machine."""
    time = np.arange(int(rate * seconds)) / rate
    noise = np.random.Generator(np.random.PCG64(seed)).standard_normal(len(time))
    wave = 0.4 * np.sin(2 * np.pi * (200 + 0.2 * rate * time) * time) + 0.02 * noise
    return torch.from_numpy(wave.astype(np.float32))[None]


def fingerprint(name: str) -> tuple[float, float, float, float]:
    front_end = LogMel(name)
    x = front_end(clip(front_end.sample_rate))[0]
    picked = x[3, 4], x[x.shape[0] // 2, x.shape[1] // 2], x[-2, -3]
    return (*(float(value) for value in picked), float(x.abs().mean()))


@pytest.mark.parametrize("name", SETTINGS)
def test_fingerprint(name: str) -> None:
    assert fingerprint(name) == pytest.approx(FINGERPRINTS[name], abs=2e-4, rel=2e-5)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_clip_does_not_depend_on_its_neighbours(name: str) -> None:
    front_end = LogMel(name)
    quiet, loud = 0.01 * clip(front_end.sample_rate, 0.3), clip(front_end.sample_rate, 0.3, seed=8)
    together = front_end(torch.cat((quiet, loud)))
    assert torch.allclose(together[:1], front_end(quiet), atol=1e-4)
    assert not front_end.state_dict(), "mel matrices must not enter checkpoints"


@settings(deadline=None, max_examples=15)
@given(samples=st.integers(1, 9000), name=st.sampled_from(sorted(SETTINGS)))
def test_num_frames(samples: int, name: str) -> None:
    front_end = LogMel(name)
    wave = torch.linspace(-1, 1, samples)[None]
    expected = front_end.num_frames(samples)
    if expected == 0:
        with pytest.raises(UserError, match=f"{samples} samples is too short"):
            front_end(wave)
    else:
        assert front_end(wave).shape == (1, front_end.num_mels, expected)


def test_ten_seconds_have_the_published_sizes() -> None:
    frames = {name: LogMel(name).num_frames(10 * LogMel(name).sample_rate) for name in SETTINGS}
    assert frames["task4_crnn"] == 626
    assert frames["atst"] == frames["m2d"] == frames["panns"] == 1001
    assert frames["beats"] == frames["asit"] == frames["vggish"] == 998
    assert frames["mel_32k"] == frames["mel_16k_symmetric_7000"] == 1000
    assert frames["asc_2022_student"] == 431
    assert frames["task2_workshop"] == 313


def test_kaldi_matrix_and_framing_are_those_of_torchaudio() -> None:
    setting = SETTINGS["beats"]
    official, _ = kaldi.get_mel_banks(128, 512, 16000.0, 20.0, 8000.0, 100.0, -500.0, 1.0)
    assert torch.equal(mel_bank(setting)[:, :-1], official)
    wave = clip(16000)
    expected = kaldi.fbank(wave * 2**15, num_mel_bins=128, sample_frequency=16000.0, dither=0.0)
    got = LogMel(setting)(wave)[0].T * setting.scale + setting.mean
    assert torch.allclose(got, expected, atol=1e-3)


@pytest.mark.parametrize("name", ["asc_2024", "task4_crnn", "m2d"])
def test_mel_spectrum_is_that_of_torchaudio(name: str) -> None:
    setting = replace(SETTINGS[name], resample_from=None)
    hamming = setting.window_shape == "hamming_symmetric"
    official = torchaudio.transforms.MelSpectrogram(
        setting.sample_rate,
        setting.fft,
        setting.window,
        setting.hop,
        setting.fmin,
        setting.fmax,
        n_mels=setting.num_mels,
        window_fn=torch.hamming_window if hamming else torch.hann_window,
        wkwargs={"periodic": False} if hamming else None,
        power=setting.exponent,
        norm="slaney" if setting.filterbank == "slaney" else None,
        mel_scale=setting.filterbank,
    )
    wave = clip(setting.sample_rate)
    assert torch.allclose(LogMel(setting).mel(wave), official(wave), rtol=1e-4, atol=1e-6)


def test_top_db_can_follow_the_whole_batch() -> None:
    wave = torch.cat((clip(16000), 1e-4 * clip(16000, seed=9)))
    per_clip, per_batch = LogMel("atst")(wave), LogMel("atst", top_db_per_batch=True)(wave)
    assert torch.equal(per_clip[0], per_batch[0])
    assert per_batch[1].min() > per_clip[1].min()


def test_min_max_fills_the_range_and_silence_stays_finite() -> None:
    front_end = LogMel("task4_crnn")
    x = front_end(torch.cat((clip(16000), torch.zeros(1, 8000))))
    assert x[0].min() == -1
    assert x[0].max() == pytest.approx(1.0)
    assert torch.equal(x[1], torch.full_like(x[1], -1.0))


@pytest.mark.parametrize("name", SETTINGS)
def test_silence_is_finite(name: str) -> None:
    front_end = LogMel(name)
    assert front_end(torch.zeros(1, front_end.sample_rate // 2)).isfinite().all()


def test_float32_under_autocast() -> None:
    front_end, wave = LogMel("mel_32k"), clip(32000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = front_end(wave)
    assert under.dtype == torch.float32
    assert torch.equal(under, front_end(wave))


def test_jitter() -> None:
    front_end, wave = LogMel("mel_32k"), clip(32000)
    middle = Jitter(0, SETTINGS["mel_32k"].fmax_range // 2)
    assert torch.equal(front_end(wave, middle), front_end(wave))
    assert not torch.allclose(front_end(wave, Jitter(9, 0)), front_end(wave), atol=1e-2)
    draws = [front_end.draw_jitter() for _ in range(200)]
    assert {draw.low for draw in draws} == set(range(10))
    assert all(0 <= draw.high < 2000 for draw in draws)
    with pytest.raises(ValueError, match="htk"):
        LogMel("atst").jittered_bank(middle)


def test_unknown_setting_is_named() -> None:
    with pytest.raises(UserError, match="'mel_32'; did you mean 'mel_32k'"):
        LogMel("mel_32")


def test_cqt_of_a_tone_peaks_in_its_band() -> None:
    time = np.arange(8000) / 8000
    magnitude = np.abs(cqt(np.sin(2 * np.pi * 440.0 * time)))
    assert magnitude.shape[0] == 63
    assert magnitude.mean(axis=1).argmax() == 36  # three octaves above 55 Hz
    with pytest.raises(UserError, match="too short"):
        cqt(np.zeros(3))


def test_two_dft_ignores_where_a_sound_begins() -> None:
    magnitude = np.random.default_rng(0).random((63, 50))
    assert np.allclose(two_dft(magnitude), two_dft(np.roll(magnitude, 17, axis=1)))


@pytest.mark.parametrize("frames", [30, 31])
def test_half_of_two_dft_has_its_inner_products(frames: int) -> None:
    magnitudes = np.abs(np.random.default_rng(0).standard_normal((3, 7, frames)))
    whole, half = (of(magnitudes).reshape(3, -1) for of in (two_dft, half_two_dft))
    np.testing.assert_allclose(half @ half.T, whole @ whole.T, rtol=1e-12)
    assert half.shape[1] == 7 * (frames // 2 + 1)
