"""Device impulse responses: reading, made-up ones, convolution."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from common.audio.impulses import device_response, load_impulses
from common.augment import ImpulseDraw, device_impulse
from common.run.errors import UserError
from task1_asc.data.impulses import draw_devices, record_on_devices


def test_convolution_keeps_the_first_samples_of_the_chosen_clips() -> None:
    waveform, impulses = torch.randn(4, 500), torch.randn(3, 40)
    draw = ImpulseDraw(torch.tensor([2, 0, 1, 2]), torch.tensor([True, False, True, True]))
    recorded = device_impulse(waveform, impulses, draw, "first")
    for clip, which in ((0, 2), (2, 1), (3, 2)):
        expected = np.convolve(waveform[clip].double().numpy(), impulses[which].double().numpy())[:500]
        np.testing.assert_allclose(recorded[clip].numpy(), expected, atol=1e-4)
    assert torch.equal(recorded[1], waveform[1])


def test_a_unit_impulse_changes_nothing_and_a_late_one_delays() -> None:
    waveform = torch.randn(2, 100)
    impulses = torch.zeros(2, 8)
    impulses[0, 0] = impulses[1, 3] = 1
    draw = ImpulseDraw(torch.arange(2), torch.ones(2, dtype=torch.bool))
    recorded = device_impulse(waveform, impulses, draw, "first")
    torch.testing.assert_close(recorded[0], waveform[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(recorded[1, 3:], waveform[1, :-3], atol=1e-5, rtol=0)
    assert recorded[1, :3].abs().max() < 1e-5


def test_only_clips_of_device_a_are_chosen_with_the_probability() -> None:
    device = torch.tensor([0, 1, 5, -1] * 5000)
    torch.manual_seed(0)
    draw = draw_devices(device, 7, 0.6)
    assert not draw.applied[device != 0].any()
    assert draw.applied[device == 0].float().mean() == pytest.approx(0.6, abs=0.03)
    assert draw.which.unique().tolist() == list(range(7))
    assert not draw_devices(device, 7, 0.0).applied.any()
    waveform, impulses = torch.randn(4, 64), torch.randn(2, 8)
    recorded = record_on_devices(waveform, device[:4], impulses, 1.0)
    assert [bool((a != b).any()) for a, b in zip(recorded, waveform, strict=True)] == [True, False, False, False]


@pytest.mark.parametrize("rate", [8000, 32000, 44100])
def test_made_up_devices_are_band_passes_that_start_at_once(rate: int) -> None:
    impulses = load_impulses("synthetic", rate)
    assert torch.equal(impulses, load_impulses("synthetic", rate))
    assert len({tuple(row.tolist()[:5]) for row in impulses}) == len(impulses)
    spectra = torch.fft.rfft(impulses).abs()
    assert spectra.max(dim=1).values.numpy() == pytest.approx(1, abs=0.01)
    assert spectra[:, 0].max() < 0.01  # nothing at 0 Hz
    energy = impulses.square().cumsum(dim=1)
    assert (energy[:, impulses.shape[1] // 4] / energy[:, -1]).min() > 0.9
    assert not np.array_equal(
        device_response(np.random.default_rng(0), rate), device_response(np.random.default_rng(1), rate)
    )


def test_a_folder_of_responses(tmp_path: Path) -> None:
    (tmp_path / "vintage").mkdir()
    first, second = np.zeros(441), np.zeros((882, 2))
    first[0], second[0] = 0.5, 0.25
    soundfile.write(tmp_path / "b.wav", first, 44100, subtype="FLOAT")
    soundfile.write(tmp_path / "vintage" / "c.WAV", second, 44100, subtype="FLOAT", format="WAV")
    (tmp_path / "readme.txt").write_text("MicIRP")
    impulses = load_impulses(tmp_path, 44100)
    assert impulses.shape == (2, 882)
    assert impulses.dtype == torch.float32
    assert impulses[:, 0].tolist() == [0.5, 0.25]
    assert impulses[:, 1:].abs().max() == 0
    assert load_impulses(tmp_path, 22050).shape == (2, 441)


def test_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"augment\.impulse_responses: not set, expected the folder"):
        load_impulses(None, 32000)
    with pytest.raises(UserError, match="nowhere: folder not found"):
        load_impulses(tmp_path / "nowhere", 32000)
    with pytest.raises(UserError, match="no wav file of an impulse response found"):
        load_impulses(tmp_path, 32000)
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    with pytest.raises(UserError, match=r"a\.wav: not readable"):
        load_impulses(tmp_path, 32000)
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 32000)
    with pytest.raises(UserError, match=r"a\.wav: silent, expected an impulse response"):
        load_impulses(tmp_path, 32000)
