"""Device impulse responses, recorded or made up (Morocutti et al. 2023); see `common.augment.device_impulse`."""

from pathlib import Path

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.audio.reading import load
from common.run.errors import UserError
from common.run.files import existing_folder
from common.run.folders import below
from common.run.settings import SYNTHETIC

SYNTHETIC_RESPONSES = 64
_SYNTHETIC_SECONDS = 0.03


def load_impulses(source: str | Path | None, sample_rate: int) -> Tensor:
    """Impulse responses (responses, length) float32 at `sample_rate`: every wav below a folder, shorter ones padded.

    Levels and delays stay as they are (MicIRP). source: the folder, or "synthetic" for made-up ones. Raises UserError
    where neither is named, where the folder or its wavs are missing, and for files that cannot be read or are silent.
    """
    if source is None:
        raise UserError(
            "augment.impulse_responses: not set, expected the folder of recorded responses (wav files, MicIRP), or "
            f"{SYNTHETIC} for made-up ones"
        )
    if source == SYNTHETIC:
        random = np.random.default_rng(0)
        responses = [device_response(random, sample_rate) for _ in range(SYNTHETIC_RESPONSES)]
    else:
        paths = [path for path in below(existing_folder(source)) if path.suffix.lower() == ".wav"]
        if not paths:
            raise UserError(f"{source}: no wav file of an impulse response found")
        responses = [load(path, sample_rate) for path in paths]
        silent = next((path for path, response in zip(paths, responses, strict=True) if not response.any()), None)
        if silent:
            raise UserError(f"{silent}: silent, expected an impulse response")
    impulses = np.zeros((len(responses), max(map(len, responses))), np.float32)
    for row, response in zip(impulses, responses, strict=True):
        row[: len(response)] = response
    return torch.from_numpy(impulses)


def device_response(random: np.random.Generator, sample_rate: int, spread_db: float = 4.0) -> NDArray[np.float32]:
    """A made-up device, (length,): a band-pass with a bumpy pass-band, minimum phase, loudest frequency at 0 dB.

    Lower limit 40 to 250 Hz, upper limit 5 to 15 kHz; six bumps of `spread_db` (standard deviation).
    """
    low, high = (float(np.exp(random.uniform(*np.log(limits)))) for limits in ((40, 250), (5000, 15000)))
    length = scipy.fft.next_fast_len(round(_SYNTHETIC_SECONDS * sample_rate), real=True)
    hertz = np.maximum(scipy.fft.rfftfreq(length, 1 / sample_rate), 1.0)
    bumps = np.interp(np.log(hertz), np.log(np.geomspace(low, high, 6)), random.normal(0, spread_db, 6))
    decibels = bumps - 10 * np.log10(1 + (low / hertz) ** 4) - 10 * np.log10(1 + (hertz / high) ** 8)
    gains = 10 ** ((decibels - decibels.max()) / 20)
    # The cepstrum folded onto positive times gives the minimum phase of these gains.
    cepstrum = scipy.fft.irfft(np.log(np.maximum(gains, 1e-4)), length)
    cepstrum[1 : (length + 1) // 2] *= 2
    cepstrum[length // 2 + 1 :] = 0
    return scipy.fft.irfft(np.exp(scipy.fft.rfft(cepstrum)), length).astype(np.float32)
