"""Audio statistics: 136 numbers of a log-mel spectrogram. Nothing is learnt: a floor for encoders that are.

After the specification's probe: of 40 mel bands the mean, standard deviation and mean absolute difference over active
frames; of the envelope its modulation spectrum; spectral flatness. Its exact form is a reconstruction.
"""

import numpy as np
from numpy.typing import NDArray

DIM = 136
BANDS = 40
WINDOW, HOP = 0.032, 0.016  # seconds
ACTIVE_DB = 50.0  # a frame is active when it is so near to the loudest one
MODULATIONS = np.geomspace(0.5, 25.0, 15)  # Hz, edges of 14 bands
FLOOR = 1e-10


class Statistics:
    """Waveforms (clips, samples) at `sample_rate` Hz -> (clips, 136) float32."""

    def __init__(self, sample_rate: int) -> None:
        import librosa

        self.sample_rate, self.hop = sample_rate, round(HOP * sample_rate)
        self.window = np.hanning(round(WINDOW * sample_rate)).astype(np.float32)
        self.bank = librosa.filters.mel(sr=sample_rate, n_fft=len(self.window), n_mels=BANDS, fmin=50.0)

    def __call__(self, waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.stack([self._of(waveform) for waveform in waveforms])

    def _of(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        padded = np.pad(waveform, (0, max(0, len(self.window) + 2 * self.hop - len(waveform))))
        frames = np.lib.stride_tricks.sliding_window_view(padded, len(self.window))[:: self.hop] * self.window
        power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
        level = 10 * np.log10(power.sum(axis=1) + FLOOR)
        active = level > level.max() - ACTIVE_DB
        mel = 10 * np.log10(power @ self.bank.T + FLOOR)
        mel = np.maximum(mel, mel.max() - 80.0)
        heard = mel[active]
        moved = np.abs(np.diff(mel, axis=0))[active[1:] & active[:-1]]
        flat = np.log(power[active] + FLOOR).mean(axis=1) - np.log(power[active].mean(axis=1) + FLOOR)
        moving = moved.mean(axis=0) if len(moved) else np.zeros(BANDS)
        parts = (heard.mean(axis=0), heard.std(axis=0), moving, self._modulation(level), [flat.mean(), flat.std()])
        return np.concatenate(parts).astype(np.float32)

    def _modulation(self, level: NDArray[np.floating]) -> NDArray[np.floating]:
        """Share of each band of modulation in the envelope's movement, in dB: (14,)."""
        envelope = np.maximum(level, level.max() - 60.0)
        spectrum = np.abs(np.fft.rfft((envelope - envelope.mean()) * np.hanning(len(envelope)))) ** 2
        hz = np.fft.rfftfreq(len(envelope), self.hop / self.sample_rate)
        sums = np.histogram(hz, MODULATIONS, weights=spectrum)[0]
        return 10 * np.log10(sums / max(spectrum.sum(), FLOOR) + 1e-4)
