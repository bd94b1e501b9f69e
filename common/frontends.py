"""Waveform -> log-mel: one module, one table of named settings. At the end the constant-Q transform and its 2DFT.

A setting is data (`MelSetting`); what differs between the published front ends is a window, a mel matrix, a floor or
a normalisation, and those differences decide whether published weights see the input that they were trained on.
Definitions: the papers and code of the systems named in `SETTINGS`; the mel matrices are those of torchaudio.

Constant-Q, a baseline for vocal imitations: a non-stationary Gabor transform on the whole clip, every band at the time
resolution of the highest one. Velasco et al. 2011, Schoerkhuber et al. 2014; its 2DFT: Pishdadian et al. 2019.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray
from torch import Tensor, nn

from common.run.errors import UserError, did_you_mean

# Per-clip min-max scaling divides by (max - min + this).
MIN_MAX_EPSILON = 1e-8
PRE_EMPHASIS = 0.97
# Digital silence has no deviation to divide by; it stays silence.
SMALLEST_DEVIATION = 1e-12


@dataclass(frozen=True)
class MelSetting:
    """A front end as data. Lengths in samples, frequencies in Hz."""

    sample_rate: int
    window: int
    fft: int
    hop: int
    num_mels: int
    fmin: float
    fmax: float
    # "symmetric" windows have the period window - 1; povey is a symmetric Hann window to the power 0.85.
    window_shape: Literal["hann", "hann_symmetric", "hamming_symmetric", "povey"] = "hann"
    # htk: triangles linear in Hz; kaldi: triangles linear in mel, without the Nyquist bin; slaney: area-normalised.
    filterbank: Literal["htk", "kaldi", "slaney"] = "htk"
    # reflect and zeros: frames centred on multiples of hop. none: only whole windows. kaldi: also only whole windows,
    # mean and pre-emphasis taken from each frame on its own.
    framing: Literal["reflect", "zeros", "none", "kaldi"] = "reflect"
    resample_from: int | None = None  # the waveform comes at this rate
    waveform: Literal["as_is", "pre_emphasis", "int16_range", "centre", "unit_std", "standardise"] = "as_is"
    exponent: Literal[1, 2] = 2  # 1: magnitude, 2: power
    log: Literal["ln", "db"] = "ln"
    floor: float = 1e-5
    floor_is: Literal["added", "minimum"] = "added"
    top_db: float | None = None
    clamp: tuple[float, float] | None = None
    # Normalisation: (x - mean) / scale, or per-clip min-max to [-1, 1].
    mean: float = 0.0
    scale: float = 1.0
    min_max: bool = False
    # Training: fmin + {0..fmin_range - 1}, fmax + fmax_range // 2 - {0..fmax_range - 1}, one draw for a batch.
    fmin_range: int = 1
    fmax_range: int = 1

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop


def _kaldi_32k(window: int, fft: int, hop: int, mels: int, fmax: float, ranges: tuple[int, int] = (1, 1)) -> MelSetting:
    return MelSetting(
        *(32000, window, fft, hop, mels, 0.0, fmax),
        window_shape="hann_symmetric",
        filterbank="kaldi",
        waveform="pre_emphasis",
        mean=-4.5,
        scale=5.0,
        fmin_range=ranges[0],
        fmax_range=ranges[1],
    )


def _kaldi_16k(shape: Literal["hann", "hann_symmetric"], fmax: float, ranges: tuple[int, int]) -> MelSetting:
    return MelSetting(
        *(16000, 400, 512, 160, 128, 0.0, fmax),
        window_shape=shape,
        filterbank="kaldi",
        waveform="pre_emphasis",
        floor=1e-7,
        floor_is="minimum",
        mean=-4.5,
        scale=5.0,
        fmin_range=ranges[0],
        fmax_range=ranges[1],
    )


def _kaldi_fbank(
    shape: Literal["povey", "hann_symmetric"], waveform: Literal["int16_range", "centre"], mean: float, std: float
) -> MelSetting:
    return MelSetting(
        *(16000, 400, 512, 160, 128, 20.0, 8000.0),
        window_shape=shape,
        filterbank="kaldi",
        framing="kaldi",
        waveform=waveform,
        floor=2.0**-23,
        floor_is="minimum",
        mean=mean,
        scale=2 * std,
    )


def _task2(
    waveform: Literal["as_is", "unit_std", "standardise"],
    framing: Literal["reflect", "zeros"] = "reflect",
    floor: float = 1e-10,
    floor_is: Literal["added", "minimum"] = "minimum",
    top_db: float | None = 80.0,
) -> MelSetting:
    return MelSetting(
        *(16000, 1024, 1024, 512, 128, 0.0, 8000.0),
        filterbank="slaney",
        framing=framing,
        waveform=waveform,
        log="db",
        floor=floor,
        floor_is=floor_is,
        top_db=top_db,
    )


SETTINGS: dict[str, MelSetting] = {
    # Scenes 2024 and 2025: recordings at 44.1 kHz.
    "asc_2024": MelSetting(32000, 3072, 4096, 500, 256, 0.0, 16000.0, resample_from=44100),
    # Scenes 2022: CP-ResNet student, PaSST teacher.
    "asc_2022_student": _kaldi_32k(2048, 2048, 744, 256, 16000.0),
    "asc_2022_teacher": _kaldi_32k(800, 1024, 320, 128, 16000.0),
    # EfficientAT, PaSST, vocal imitations, retrieval.
    "mel_32k": _kaldi_32k(800, 1024, 320, 128, 15000.0, (10, 2000)),
    # Frame-wise PaSST: the evaluation range depends on the training range (fmax = 8000 - fmax_range / 2).
    "mel_16k_periodic_8000": _kaldi_16k("hann", 8000.0, (1, 1)),
    "mel_16k_periodic_7500": _kaldi_16k("hann", 7500.0, (10, 1000)),
    "mel_16k_periodic_7000": _kaldi_16k("hann", 7000.0, (10, 2000)),
    # Frame-wise MobileNets.
    "mel_16k_symmetric_7000": _kaldi_16k("hann_symmetric", 7000.0, (10, 2000)),
    # The CNN branch of Task 4 and of its organisers' baseline.
    "task4_crnn": MelSetting(
        *(16000, 2048, 2048, 256, 128, 0.0, 8000.0),
        window_shape="hamming_symmetric",
        exponent=1,
        log="db",
        floor=1e-5,
        floor_is="minimum",
        clamp=(-50.0, 80.0),
        min_max=True,
    ),
    "atst": MelSetting(
        *(16000, 1024, 1024, 160, 64, 60.0, 7800.0),
        log="db",
        floor=1e-10,
        floor_is="minimum",
        top_db=80.0,
        clamp=(-50.0, 80.0),
        mean=(50.6842 - 79.6482) / 2,  # the range [-79.6482, 50.6842] becomes [-1, 1]
        scale=(50.6842 + 79.6482) / 2,
    ),
    "beats": _kaldi_fbank("povey", "int16_range", 15.41663, 6.55582),
    "asit": _kaldi_fbank("hann_symmetric", "centre", -4.2677393, 4.5689974),
    "m2d": MelSetting(
        *(16000, 400, 400, 160, 80, 50.0, 8000.0), filterbank="slaney", floor=2.0**-23, mean=-7.1, scale=4.2
    ),
    # PANNs: normalised by the first batch norm of the network.
    "panns": MelSetting(
        *(32000, 1024, 1024, 320, 64, 50.0, 14000.0), filterbank="slaney", log="db", floor=1e-10, floor_is="minimum"
    ),
    "vggish": MelSetting(
        *(16000, 400, 512, 160, 64, 125.0, 7500.0), filterbank="kaldi", framing="none", exponent=1, floor=0.01
    ),
    "yamnet": MelSetting(
        *(16000, 400, 512, 160, 64, 125.0, 7500.0), filterbank="htk", framing="none", exponent=1, floor=0.001
    ),
    "task2_workshop": _task2("unit_std"),
    "task2_workshop_zero_pad": _task2("unit_std", framing="zeros"),
    "task2_challenge": _task2("standardise"),
    "task2_organisers": _task2("as_is", floor=2.220446e-16, floor_is="added", top_db=None),
}


class Jitter(NamedTuple):
    """Integer draws that move the mel range of one batch: fmin + `low`, fmax + fmax_range // 2 - `high`."""

    low: int
    high: int


def make_window(setting: MelSetting) -> Tensor:
    """The analysis window in float32, shape (window,)."""
    if setting.window_shape == "hann":
        return torch.hann_window(setting.window)
    if setting.window_shape == "hamming_symmetric":
        return torch.hamming_window(setting.window, periodic=False)
    window = torch.hann_window(setting.window, periodic=False)
    return window**0.85 if setting.window_shape == "povey" else window


def _kaldi_mel(hertz: float) -> float:
    return 1127.0 * math.log(1.0 + hertz / 700.0)


def kaldi_bin_mels(setting: MelSetting) -> Tensor:
    """The bins of the spectrum in Kaldi's mel scale, shape (fft // 2,): without the Nyquist bin."""
    hertz = setting.sample_rate / setting.fft * torch.arange(setting.fft // 2, dtype=torch.float32)
    return 1127.0 * (1.0 + hertz / 700.0).log()


def kaldi_bank(bin_mels: Tensor, num_mels: int, fmin: float, fmax: float) -> Tensor:
    """Triangles that are linear in mel, shape (num_mels, bins + 1): the last column, Nyquist, is zero.

    Equals torchaudio.compliance.kaldi.get_mel_banks, on the device of `bin_mels` and cheap enough for every batch.
    Sums of float32 in another order change the matrix by more than its tolerance.
    """
    low, high = _kaldi_mel(fmin), _kaldi_mel(fmax)
    step = (high - low) / (num_mels + 1)
    band = torch.arange(num_mels, device=bin_mels.device, dtype=bin_mels.dtype)[:, None]
    left, centre, right = low + band * step, low + (band + 1.0) * step, low + (band + 2.0) * step
    rising = (bin_mels - left) / (centre - left)
    falling = (right - bin_mels) / (right - centre)
    return nn.functional.pad(torch.minimum(rising, falling).clamp(min=0.0), (0, 1))


def mel_bank(setting: MelSetting) -> Tensor:
    """The mel matrix in float32, shape (num_mels, fft // 2 + 1)."""
    if setting.filterbank == "kaldi":
        return kaldi_bank(kaldi_bin_mels(setting), setting.num_mels, setting.fmin, setting.fmax)
    scale = setting.filterbank
    norm = "slaney" if scale == "slaney" else None
    bins = setting.fft // 2 + 1
    with torch.device("cpu"):  # torchaudio's function needs values, which a meta device has not
        bank = torchaudio.functional.melscale_fbanks(
            bins, setting.fmin, setting.fmax, setting.num_mels, setting.sample_rate, norm, scale
        )
    return bank.T.contiguous().to(torch.get_default_device())


def _resampler(source: int, target: int) -> nn.Module:
    """torchaudio's sinc resampling whose kernel stays out of state dicts."""
    resample = torchaudio.transforms.Resample(source, target)
    kernel = resample.kernel
    del resample.kernel
    resample.register_buffer("kernel", kernel, persistent=False)
    return resample


class LogMel(nn.Module):
    """Waveforms -> log-mel spectrograms, in float32 also under autocast.

    `setting` is a key of `SETTINGS` or a `MelSetting`. `top_db` is relative to the loudest bin of each clip; with
    `top_db_per_batch` to that of the whole batch, as in the published ATST code, where the features of a clip then
    depend on its neighbours. Nothing enters the state dict. Raises UserError for an unknown name.
    """

    window: Tensor
    bank: Tensor
    bin_mels: Tensor

    def __init__(self, setting: str | MelSetting, top_db_per_batch: bool = False) -> None:
        super().__init__()
        if isinstance(setting, str):
            if setting not in SETTINGS:
                raise UserError(f"unknown front end {setting!r}{did_you_mean(setting, SETTINGS)}")
            setting = SETTINGS[setting]
        self.setting = setting
        self.top_db_per_batch = top_db_per_batch
        self.register_buffer("window", make_window(setting), persistent=False)
        self.register_buffer("bank", mel_bank(setting), persistent=False)
        if setting.filterbank == "kaldi":
            self.register_buffer("bin_mels", kaldi_bin_mels(setting), persistent=False)
        self.resample = _resampler(setting.resample_from, setting.sample_rate) if setting.resample_from else None

    @property
    def sample_rate(self) -> int:
        """Rate of the waveforms that go in, Hz."""
        return self.setting.resample_from or self.setting.sample_rate

    @property
    def num_mels(self) -> int:
        """Bands that come out."""
        return self.setting.num_mels

    def num_frames(self, samples: int) -> int:
        """Frames of a waveform of `samples` samples at `sample_rate`; 0 where it is too short for one."""
        setting = self.setting
        if setting.resample_from:
            samples = math.ceil(samples * setting.sample_rate / setting.resample_from)
        if setting.waveform == "pre_emphasis":
            samples -= 1
        if setting.framing in ("none", "kaldi"):
            return max(0, 1 + (samples - setting.window) // setting.hop)
        shortest = setting.fft // 2 + 1 if setting.framing == "reflect" else 1
        return 1 + samples // setting.hop if samples >= shortest else 0

    def draw_jitter(self) -> Jitter:
        """Draws for one batch from torch's global generator; host integers, so that a GPU need not be waited for."""
        low = torch.randint(self.setting.fmin_range, ()).item()
        high = torch.randint(self.setting.fmax_range, ()).item()
        return Jitter(int(low), int(high))

    def jittered_bank(self, jitter: Jitter) -> Tensor:
        """The mel matrix (num_mels, fft // 2 + 1) for the given draws. Only for Kaldi matrices."""
        setting = self.setting
        if setting.filterbank != "kaldi":
            raise ValueError(f"the mel range of a {setting.filterbank} front end is fixed")
        fmin = setting.fmin + jitter.low
        fmax = setting.fmax + setting.fmax_range // 2 - jitter.high
        return kaldi_bank(self.bin_mels, setting.num_mels, fmin, fmax)

    def mel(self, waveform: Tensor, jitter: Jitter | None = None) -> Tensor:
        """Waveforms (batch, samples) in [-1, 1] -> mel spectrum before compression, (batch, mel, frames).

        Augmentations that are gains act here. Raises UserError for clips that are too short for one frame.
        """
        if self.num_frames(waveform.shape[-1]) == 0:
            raise UserError(f"a clip of {waveform.shape[-1]} samples is too short for one frame of this front end")
        with torch.autocast(waveform.device.type, enabled=False):
            bank = self.bank if jitter is None else self.jittered_bank(jitter)
            spectrum = self._spectrum(self._condition(waveform.to(self.window.dtype)))
            # One matrix product over all frames; the result is a view with frames last.
            return (spectrum @ bank.T).transpose(1, 2)

    def compress(self, mel: Tensor) -> Tensor:
        """Logarithm, floors and normalisation of a mel spectrum (batch, mel, frames)."""
        setting = self.setting
        with torch.autocast(mel.device.type, enabled=False):
            x = mel.to(self.window.dtype)
            x = x + setting.floor if setting.floor_is == "added" else x.clamp(min=setting.floor)
            x = x.log() if setting.log == "ln" else x.log10() * (20.0 / setting.exponent)
            if setting.top_db is not None:
                loudest = x.amax() if self.top_db_per_batch else x.amax(dim=(-2, -1), keepdim=True)
                x = torch.maximum(x, loudest - setting.top_db)
            if setting.clamp is not None:
                x = x.clamp(*setting.clamp)
            if setting.min_max:
                low, high = x.amin(dim=(-2, -1), keepdim=True), x.amax(dim=(-2, -1), keepdim=True)
                return (x - low) / (high - low + MIN_MAX_EPSILON) * 2.0 - 1.0
            if (setting.mean, setting.scale) != (0.0, 1.0):
                x = (x - setting.mean) / setting.scale
            return x

    def forward(self, waveform: Tensor, jitter: Jitter | None = None) -> Tensor:
        """Waveforms (batch, samples) in [-1, 1] -> normalised log-mel (batch, mel, frames)."""
        return self.compress(self.mel(waveform, jitter))

    def _condition(self, x: Tensor) -> Tensor:
        if self.resample is not None:
            x = self.resample(x)
        match self.setting.waveform:
            case "pre_emphasis":
                return x[..., 1:] - PRE_EMPHASIS * x[..., :-1]
            case "int16_range":
                return x * 32768.0
            case "centre":
                return x - x.mean(dim=-1, keepdim=True)
            case "unit_std":
                return x / self._deviation(x)
            case "standardise":
                return (x - x.mean(dim=-1, keepdim=True)) / self._deviation(x)
        return x

    @staticmethod
    def _deviation(x: Tensor) -> Tensor:
        """Of each clip, divided by N as in numpy: (batch, 1)."""
        return x.std(dim=-1, keepdim=True, correction=0).clamp(min=SMALLEST_DEVIATION)

    def _spectrum(self, x: Tensor) -> Tensor:
        """(batch, samples) -> magnitude or power, (batch, frames, bins)."""
        setting = self.setting
        if setting.framing in ("none", "kaldi"):
            frames = x.unfold(-1, setting.window, setting.hop)
            if setting.framing == "kaldi":
                frames = frames - frames.mean(dim=-1, keepdim=True)
                before = torch.cat((frames[..., :1], frames[..., :-1]), dim=-1)
                frames = frames - PRE_EMPHASIS * before
            spectrum = torch.fft.rfft(frames * self.window, n=setting.fft)
        else:
            mode = "reflect" if setting.framing == "reflect" else "constant"
            spectrum = torch.stft(
                *(x, setting.fft, setting.hop, setting.window, self.window),
                center=True,
                pad_mode=mode,
                return_complex=True,
            ).transpose(1, 2)
        return spectrum.abs() if setting.exponent == 1 else spectrum.real.square() + spectrum.imag.square()


# ------------------------------------------------------------------------- constant-Q transform, for vocal imitations


@dataclass(frozen=True)
class CqtSetting:
    """Frequencies in Hz; the defaults are those of the vocal-imitation baseline."""

    sample_rate: int = 8000
    bins_per_octave: int = 12
    fmin: float = 55.0
    fmax: float = 2090.0

    @property
    def num_bands(self) -> int:
        """Bands from `fmin` to `fmax`."""
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
    """Complex constant-Q transform of clips (..., samples) at 8 kHz -> (..., bands, frames): (63, 3517) for 15.4 s."""
    setting = setting or CqtSetting()
    samples = np.shape(waveform)[-1]
    plan = plan_cqt(samples, setting)
    spectrum = np.fft.fft(np.asarray(waveform, dtype=np.float64))
    bands = np.zeros((*spectrum.shape[:-1], setting.num_bands, plan.frames), dtype=np.complex128)
    for band, (centre, length) in enumerate(zip(plan.centres, plan.lengths, strict=True)):
        offsets = np.arange(-(length // 2), -(-length // 2))
        window = 0.5 + 0.5 * np.cos(2.0 * np.pi * offsets / length)
        window[np.abs(offsets) * 2 >= length] = 0.0
        # The phase refers to the start of the clip, not to the centre of the band.
        bands[..., band, (offsets + centre) % plan.frames] = spectrum[..., (centre + offsets) % samples] * window
    return np.fft.ifft(bands) * (2.0 * plan.frames / samples)


def two_dft(magnitude: NDArray[np.floating]) -> NDArray[np.float64]:
    """Magnitude of the centred 2-D Fourier transform of CQT magnitudes (..., bands, frames), same shape.

    Flattened row by row and compared by cosine it is the baseline's fingerprint: independent of where in time a
    sound begins and, at constant intervals, of its pitch.
    """
    return np.abs(np.fft.fftshift(np.fft.fft2(magnitude), axes=(-2, -1)))


def half_two_dft(magnitude: NDArray[np.floating]) -> NDArray[np.float64]:
    """The half that says it all: (..., bands, frames) -> (..., bands, frames // 2 + 1), with the same inner products.

    The transform of real numbers is symmetric: what stands in `two_dft` twice counts as much here.
    """
    half = np.abs(np.fft.rfft2(magnitude))
    last = half.shape[-1] - (1 if np.shape(magnitude)[-1] % 2 == 0 else 0)
    half[..., 1:last] *= np.sqrt(2.0)
    return half
