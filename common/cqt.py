"""The constant-Q transform and its two-dimensional Fourier transform (2DFT), baselines for vocal imitations.

A non-stationary Gabor transform on the whole clip, every band at the time resolution of the highest one. Sources:
Velasco et al. 2011, Schoerkhuber et al. 2014 (transform); Pishdadian et al. 2019 (2DFT as fingerprint).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.run.errors import UserError


@dataclass(frozen=True)
class CqtSetting:
    """Frequencies in Hz; the defaults are those of the vocal-imitation baseline."""

    sample_rate: int = 8000
    bins_per_octave: int = 12
    fmin: float = 55.0
    fmax: float = 2090.0

    @property
    def num_bands(self) -> int:
        return int(np.floor(self.bins_per_octave * np.log2(self.fmax / self.fmin))) + 1


@dataclass(frozen=True)
class CqtPlan:
    """Bins of a clip's spectrum: `centres` (bands,), filter `lengths` (bands,), `frames` per band."""

    centres: NDArray[np.int64]
    lengths: NDArray[np.int64]
    frames: int


def plan_cqt(samples: int, setting: CqtSetting) -> CqtPlan:
    """Filter positions for clips of `samples` samples. Raises UserError for clips too short for the filters."""
    octaves = np.arange(setting.num_bands) / setting.bins_per_octave
    hertz = setting.fmin * 2.0**octaves
    half_step = 1.0 / setting.bins_per_octave
    bandwidths = (2.0**half_step - 2.0**-half_step) * hertz
    centres = np.floor(hertz * samples / setting.sample_rate).astype(np.int64)
    lengths = np.maximum(np.round(bandwidths * samples / setting.sample_rate), 4).astype(np.int64)
    if samples < lengths[-1] or samples == 0:
        raise UserError(f"a clip of {samples} samples is too short for the constant-Q transform")
    return CqtPlan(centres, lengths, int(lengths[-1]))


def centre_frequencies(samples: int, setting: CqtSetting | None = None) -> NDArray[np.float64]:
    """Centre frequencies in Hz, rounded down to bins of a clip of `samples` samples, shape (bands,)."""
    setting = setting or CqtSetting()
    return plan_cqt(samples, setting).centres * setting.sample_rate / samples


def cqt(waveform: NDArray[np.floating], setting: CqtSetting | None = None) -> NDArray[np.complex128]:
    """Complex constant-Q transform of one clip (samples,) at 8 kHz -> (bands, frames): (63, 3517) for 15.4 s."""
    setting = setting or CqtSetting()
    samples = len(waveform)
    plan = plan_cqt(samples, setting)
    spectrum = np.fft.fft(np.asarray(waveform, dtype=np.float64))
    bands = np.zeros((setting.num_bands, plan.frames), dtype=np.complex128)
    for band, (centre, length) in enumerate(zip(plan.centres, plan.lengths, strict=True)):
        offsets = np.arange(-(length // 2), -(-length // 2))
        window = 0.5 + 0.5 * np.cos(2.0 * np.pi * offsets / length)
        window[np.abs(offsets) * 2 >= length] = 0.0
        bands[band, offsets % plan.frames] = spectrum[(centre + offsets) % samples] * window
        # The phase refers to the start of the clip, not to the centre of the band.
        bands[band] = np.roll(bands[band], centre % plan.frames)
    return np.fft.ifft(bands, axis=1) * (2.0 * plan.frames / samples)


def two_dft(magnitude: NDArray[np.floating]) -> NDArray[np.float64]:
    """Magnitude of the centred 2-D Fourier transform of a CQT magnitude (bands, frames), same shape.

    Flattened row by row and compared by cosine it is the baseline's fingerprint: independent of where in time a
    sound begins and, at constant intervals, of its pitch.
    """
    return np.abs(np.fft.fftshift(np.fft.fft2(magnitude)))
