"""Procedural sounds for the embedded data sets: building blocks, backgrounds, and mixing at a given SNR.

A source takes a `numpy.random.Generator` and returns float32 `(samples,)` with an RMS of 1; all randomness comes from
that generator, so equal seeds give equal sounds. Times are seconds, frequencies Hz, levels dB. Sounds are recipes over
few blocks (tones along a pitch track, shaped noise, struck modes, grains, voices, engines); a task composes its classes
from them. At the end: what all writers of such data sets share.
"""

import errno
import itertools
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.fft
import scipy.signal
from numpy.typing import NDArray

from common.run.errors import UserError
from common.run.files import is_complete, write_folder_then_rename, write_json

Signal = NDArray[np.float32]
Track = NDArray[np.float64]
# A frequency response: (Hz, dB) points, straight lines over log-frequency between them, flat outside.
Response = Sequence[tuple[float, float]]

# Formants of six vowels in Hz (adult; higher for children through `formant_scale`), after Peterson and Barney (1952).
VOWELS = (
    (730, 1090, 2440),
    (530, 1840, 2480),
    (270, 2290, 3010),
    (570, 840, 2410),
    (300, 870, 2240),
    (500, 1500, 2500),
)


def key(*words: object) -> list[int]:
    """Words as a seed for `np.random.default_rng`; the same in every process (unlike `hash`)."""
    return [word if isinstance(word, int) else zlib.crc32(str(word).encode()) for word in words]


def rms(signal: Signal) -> float:
    """Root mean square of a signal `(samples,)`; 0 for an empty one."""
    return float(np.sqrt(np.mean(np.square(signal, dtype=np.float64)))) if len(signal) else 0.0


def unit(signal: NDArray[Any]) -> Signal:
    """The signal `(samples,)` at an RMS of 1 (silence stays silence)."""
    level = float(np.sqrt(np.mean(np.square(signal, dtype=np.float64))))
    return (signal / level if level > 0 else signal).astype(np.float32)


def seconds_to_samples(seconds: float, rate: int) -> int:
    """Length in samples, at least one."""
    return max(1, round(seconds * rate))


# ---------------------------------------------------------------------------------------------- spectra and envelopes


def band(low: float, high: float, db_per_octave: float = 36.0) -> Response:
    """Response that passes `low` to `high` Hz and falls by `db_per_octave` outside."""
    return ((low / 4, -2 * db_per_octave), (low, 0.0), (high, 0.0), (high * 4, -2 * db_per_octave))


def tilt(db_per_octave: float, corner: float = 50.0) -> Response:
    """Response that is flat up to `corner` Hz and then changes by `db_per_octave`: -3 is pink, -6 is brown noise."""
    return ((corner, 0.0), (corner * 1024, 10 * db_per_octave))


def filtered(signal: Signal, rate: int, response: Response) -> Signal:
    """The signal `(samples,)` with a frequency response applied in the frequency domain (zero phase), RMS of 1."""
    length = scipy.fft.next_fast_len(len(signal), real=True)
    frequencies = np.maximum(scipy.fft.rfftfreq(length, 1 / rate), 1.0)
    hz, db = zip(*response, strict=True)
    gains = 10 ** (np.interp(np.log(frequencies), np.log(hz), db) / 20)
    spectrum = scipy.fft.rfft(signal.astype(np.float32), length) * gains.astype(np.float32)
    return unit(scipy.fft.irfft(spectrum, length)[: len(signal)])


def noise(rng: np.random.Generator, seconds: float, rate: int, response: Response = ((1.0, 0.0),)) -> Signal:
    """Gaussian noise with a frequency response; white by default."""
    return filtered(rng.standard_normal(seconds_to_samples(seconds, rate), dtype=np.float32), rate, response)


def fade(signal: Signal, rate: int, attack: float = 0.01, release: float = 0.01) -> Signal:
    """The signal `(samples,)` with raised-cosine fades of `attack` and `release` seconds (at most half of it each)."""
    faded = signal.astype(np.float32, copy=True)
    for seconds, edge in ((attack, faded), (release, faded[::-1])):
        length = min(round(seconds * rate), len(faded) // 2)
        if length > 0:
            edge[:length] *= (0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / length)).astype(np.float32)
    return faded


def decay(samples: int, rate: int, t60: float) -> Signal:
    """Exponential decay by 60 dB in `t60` seconds, `(samples,)`."""
    return np.exp(-6.908 / (t60 * rate) * np.arange(samples)).astype(np.float32)


def contour(samples: int, points: Sequence[float] | Track) -> Track:
    """A smooth curve through evenly spaced points, `(samples,)`: a loudness or pitch contour."""
    positions = np.linspace(0, len(points) - 1, samples)
    index = np.minimum(positions.astype(int), len(points) - 2)
    blend = 0.5 - 0.5 * np.cos(np.pi * (positions - index))
    values = np.asarray(points, dtype=np.float64)
    return values[index] * (1 - blend) + values[index + 1] * blend


def wander(rng: np.random.Generator, seconds: float, rate: int, hz: float, depth: float) -> Track:
    """A random slow curve around 1 with a new value `hz` times a second, between 1 - depth and 1 + depth."""
    points = 1 + depth * rng.uniform(-1, 1, size=max(2, round(seconds * hz) + 1))
    return contour(seconds_to_samples(seconds, rate), points)


def modulate(rng: np.random.Generator, signal: Signal, rate: int, hz: float, depth: float) -> Signal:
    """Amplitude modulation by a sine of `hz` with a random phase; depth 0 to 1; RMS of 1."""
    phase = 2 * np.pi * (hz / rate * np.arange(len(signal)) + rng.random())
    return unit(signal * (1 + depth * np.sin(phase)))


# ---------------------------------------------------------------------------------------------------- pitched sources


def glide(
    rng: np.random.Generator,
    seconds: float,
    rate: int,
    points: Sequence[float],
    vibrato: tuple[float, float] = (5.0, 0.0),
    wobble: float = 0.0,
) -> Track:
    """A pitch track in Hz, `(samples,)`, through evenly spaced points; vibrato as (Hz, depth as a fraction).

    `wobble` is the depth (a fraction) of a random drift with four new values a second.
    """
    samples = seconds_to_samples(seconds, rate)
    track = contour(samples, points if len(points) > 1 else [points[0]] * 2)
    if vibrato[1]:
        track = track * (1 + vibrato[1] * np.sin(2 * np.pi * (vibrato[0] / rate * np.arange(samples) + rng.random())))
    return track * wander(rng, seconds, rate, 4.0, wobble) if wobble else track


def tone(track: Track, rate: int, harmonics: Sequence[float] = (1.0,)) -> Signal:
    """Harmonics (amplitudes of partials 1, 2, ...) along a pitch track `(samples,)`; none is let past Nyquist."""
    phase = np.remainder(2 * np.pi / rate * np.cumsum(track), 2 * np.pi).astype(np.float32)
    sound = np.zeros(len(track), np.float32)
    highest, lowest = float(track.max()), float(track.min())
    for number, amplitude in enumerate(harmonics, start=1):
        if amplitude == 0 or number * lowest >= rate / 2:
            continue
        partial = np.float32(amplitude) * np.sin(np.float32(number) * phase)
        sound += partial if number * highest < rate / 2 else partial * (number * track < rate / 2)
    return unit(sound)


def falling_harmonics(count: int, db_per_octave: float, odd_only: bool = False) -> list[float]:
    """Amplitudes of `count` partials that fall by `db_per_octave` (-6: sawtooth-like; odd only: square-like)."""
    return [
        0.0 if odd_only and number % 2 == 0 else 10 ** (db_per_octave * np.log2(number) / 20)
        for number in range(1, count + 1)
    ]


def engine(
    rng: np.random.Generator, track: Track, rate: int, roughness: float = 0.5, brightness: float = -6.0
) -> Signal:
    """A motor: harmonics of the firing rate in `track` (Hz, `(samples,)`) and noise that pulses with it.

    `roughness` 0 to 1 is the share of noise; `brightness` the slope of the harmonics in dB per octave. Single
    harmonics are raised or lowered at random: no two engines have the same spectrum.
    """
    count = int(np.clip(4000 / track.mean(), 4, 40))
    harmonics = np.asarray(falling_harmonics(count, brightness)) * 10 ** (rng.normal(0, 4, size=count) / 20)
    hiss = rng.standard_normal(len(track), dtype=np.float32)
    pulses = (1 + np.sin(2 * np.pi / rate * np.cumsum(track))).astype(np.float32)
    hiss = filtered(hiss * pulses, rate, ((100, 0), (800, 0), (8000, -14)))
    return unit((1 - roughness) * tone(track, rate, list(harmonics)) + roughness * hiss)


def hum(rng: np.random.Generator, seconds: float, rate: int, mains: float = 50.0) -> Signal:
    """Mains hum: even harmonics of the mains frequency, as of a transformer or a fridge."""
    amplitudes = [0.3, 1.0, 0.1, 0.6, 0.05, 0.3, 0.05, 0.2] * rng.uniform(0.3, 1.0, size=8)
    return tone(glide(rng, seconds, rate, [mains]), rate, list(amplitudes))


# ------------------------------------------------------------------------------------------------------ struck sounds


def hit(rng: np.random.Generator, rate: int, modes: Sequence[float], t60: float, click: float = 0.2) -> Signal:
    """A struck object: decaying modes (Hz; inharmonic ones sound metallic) and a click of noise; starts at once."""
    samples = seconds_to_samples(t60 * 0.8, rate)
    sound = np.zeros(samples, np.float32)
    for hz in modes:
        if hz < rate / 2:
            ring = np.sin(np.float32(2 * np.pi * hz / rate) * np.arange(samples, dtype=np.float32))
            sound += np.float32(rng.uniform(0.3, 1)) * ring * decay(samples, rate, t60 * rng.uniform(0.4, 1.0))
    burst = rng.standard_normal(samples, dtype=np.float32) * decay(samples, rate, 0.02)
    return unit(sound + np.float32(click * max(len(modes), 1)) * burst)


def scatter(
    samples: int, grains: Sequence[Signal], starts: Sequence[int] | NDArray[Any], gains: NDArray[Any]
) -> Signal:
    """The sum of `grains[i % len(grains)] * gains[i]` at sample `starts[i]`, cut to `(samples,)`; RMS of 1."""
    sound = np.zeros(samples, np.float32)
    for number, (start, gain) in enumerate(zip(starts, gains, strict=True)):
        grain = grains[number % len(grains)]
        stop = min(start + len(grain), samples)
        if stop > start >= 0:
            sound[start:stop] += np.float32(gain) * grain[: stop - start]
    return unit(sound)


def chain(sounds: Sequence[Signal], overlap: int = 0) -> Signal:
    """Sounds one after the other; each starts `overlap` samples before the end of the one before; RMS of 1."""
    starts, now = [], 0
    for sound in sounds:
        starts.append(now)
        now += max(len(sound) - overlap, 1)
    total = max(start + len(sound) for start, sound in zip(starts, sounds, strict=True))
    return scatter(total, sounds, starts, np.ones(len(sounds)))


def train_of(
    rng: np.random.Generator,
    grains: Sequence[Signal],
    seconds: float,
    rate: int,
    hz: float,
    jitter: float = 0.1,
    spread_db: float = 3.0,
) -> Signal:
    """Grains `hz` times a second: steps, rattles, bells. `jitter` is a fraction of the period, 1 is fully random."""
    samples, count = seconds_to_samples(seconds, rate), max(1, round(seconds * hz))
    slots = (np.arange(count) + jitter * rng.uniform(0, 1, size=count)) / hz
    return scatter(samples, grains, (slots * rate).astype(int), 10 ** (rng.normal(0, spread_db, size=count) / 20))


def crackle(
    rng: np.random.Generator, seconds: float, rate: int, hz: float, resonances: Sequence[float], t60: float = 0.01
) -> Signal:
    """Random impulses, `hz` a second, each ringing at one of the resonances: frying, fire, rain, gravel."""
    samples = seconds_to_samples(seconds, rate)
    sound = np.zeros(samples, np.float32)
    radius = np.exp(-6.908 / (t60 * rate))
    for resonance in resonances:
        count = max(1, round(seconds * hz / len(resonances)))
        impulses = np.zeros(samples, np.float32)
        impulses[rng.integers(samples, size=count)] = rng.lognormal(0, 1, size=count) * rng.choice((-1, 1), size=count)
        ringing = [1.0, -2 * radius * np.cos(2 * np.pi * min(resonance, 0.45 * rate) / rate), radius**2]
        sound += scipy.signal.lfilter([1.0, 0.0, -1.0], ringing, impulses).astype(np.float32)
    return unit(sound)


# -------------------------------------------------------------------------------------------------------------- voices


def _formant_harmonics(pitch: float, formants: Sequence[float], slope: float, rate: int) -> list[float]:
    partials = pitch * np.arange(1, max(2, int(min(5000, rate / 2) / pitch)))
    resonance = sum(0.5**i / (1 + ((partials - hz) / (60 + 0.06 * hz)) ** 2) for i, hz in enumerate(formants))
    return list((resonance + 0.01) * (partials / pitch) ** (slope / 6.02))


def vocal(track: Track, rate: int, formants: Sequence[float], slope: float = -6.0) -> Signal:
    """One voiced sound along a pitch track `(samples,)`, coloured by formants (Hz); `slope` of the source in dB/octave.

    A source and filter model in additive form: the amplitudes follow the mean pitch.
    """
    return tone(track, rate, _formant_harmonics(float(track.mean()), formants, slope, rate))


def voice(
    rng: np.random.Generator,
    seconds: float,
    rate: int,
    pitch: float,
    formant_scale: float = 1.0,
    syllables: float = 4.5,
    liveliness: float = 0.2,
) -> Signal:
    """Babbled speech: vowels along gliding pitch, fricatives between them. `pitch` in Hz, `syllables` per second.

    `liveliness` is the relative range of the pitch from syllable to syllable; `formant_scale` above 1 makes a smaller
    speaker.
    """
    samples, sounds, starts, gains, now = seconds_to_samples(seconds, rate), [], [], [], 0.0
    while now < seconds - 0.05:
        length = min(rng.uniform(0.6, 1.3) / syllables, seconds - now)
        height = pitch * (1 + liveliness * rng.uniform(-1, 1)) * (1.1 - 0.2 * now / seconds)
        track = glide(rng, length, rate, [height * rng.uniform(0.9, 1.1) for _ in range(3)], (30.0, 0.01))
        formants = [hz * formant_scale * rng.uniform(0.93, 1.07) for hz in VOWELS[rng.integers(len(VOWELS))]]
        sounds.append(fade(vocal(track, rate, formants), rate, 0.25 * length, 0.45 * length))
        starts.append(int(now * rate))
        gains.append(rng.uniform(0.5, 1.0))
        if rng.random() < 0.4:
            centre = rng.uniform(2500, 6000)
            hiss = noise(rng, rng.uniform(0.04, 0.1), rate, band(centre / 1.4, min(centre * 1.4, rate / 2)))
            sounds.append(fade(hiss, rate, 0.015, 0.02))
            starts.append(max(0, int((now - 0.04) * rate)))
            gains.append(rng.uniform(0.1, 0.35))
        now += length * rng.uniform(0.8, 1.0)
    return scatter(samples, sounds, starts, np.asarray(gains))


# ------------------------------------------------------------------------------------------------- rooms and ambiences


def reverberate(rng: np.random.Generator, signal: Signal, rate: int, t60: float, wet: float = 0.5) -> Signal:
    """The signal in a room: mixed with its convolution with decaying noise; same length, RMS of 1."""
    samples = seconds_to_samples(0.7 * t60, rate)
    tail = rng.standard_normal(samples, dtype=np.float32) * decay(samples, rate, t60)
    echo = scipy.signal.oaconvolve(signal, tail)[: len(signal)]
    return unit((1 - wet) * unit(signal) + wet * unit(echo))


def _pink(rng: np.random.Generator, seconds: float, rate: int) -> Signal:
    return noise(rng, seconds, rate, tilt(rng.uniform(-4, -2)))


def _brown(rng: np.random.Generator, seconds: float, rate: int) -> Signal:
    return noise(rng, seconds, rate, tilt(rng.uniform(-7, -5)))


def _humming(rng: np.random.Generator, seconds: float, rate: int) -> Signal:
    floor = noise(rng, seconds, rate, tilt(rng.uniform(-5, -3)))
    return unit(floor + np.float32(rng.uniform(0.3, 1.0)) * hum(rng, seconds, rate, rng.choice((50.0, 60.0))))


def _rumble(rng: np.random.Generator, seconds: float, rate: int) -> Signal:
    low = noise(rng, seconds, rate, band(30, rng.uniform(100, 250))) * wander(rng, seconds, rate, 0.7, 0.4)
    return unit(unit(low) + np.float32(0.4) * noise(rng, seconds, rate, tilt(-4)))


def _room(rng: np.random.Generator, seconds: float, rate: int) -> Signal:
    points = [(hz, rng.uniform(-6, 6) - 3 * np.log2(hz / 60)) for hz in (60, 150, 400, 1000, 2500, 7000)]
    return noise(rng, seconds, rate, points)


BACKGROUNDS: dict[str, Callable[[np.random.Generator, float, int], Signal]] = {
    "pink": _pink,
    "brown": _brown,
    "hum": _humming,
    "rumble": _rumble,
    "room": _room,
}


def background(rng: np.random.Generator, seconds: float, rate: int, kind: str | None = None) -> Signal:
    """An ambience of one of the BACKGROUNDS (any, when no kind is given); its spectrum differs from draw to draw."""
    kind = kind or list(BACKGROUNDS)[rng.integers(len(BACKGROUNDS))]
    return BACKGROUNDS[kind](rng, seconds, rate)


# -------------------------------------------------------------------------------------------------------------- mixing


def active_span(signal: Signal, rate: int, below_peak_db: float = 20.0, frame: float = 0.01) -> tuple[int, int]:
    """First and past-the-last sample of the frames whose level is within `below_peak_db` of the loudest frame."""
    size = max(1, round(frame * rate))
    padded = np.pad(signal, (0, -len(signal) % size)).reshape(-1, size)
    level = np.mean(np.square(padded, dtype=np.float64), axis=1)
    loud = np.flatnonzero(level >= level.max() * 10 ** (-below_peak_db / 10))
    return int(loud[0]) * size, min((int(loud[-1]) + 1) * size, len(signal))


def repitch(signal: Signal, factor: float) -> Signal:
    """The signal played `factor` times as fast: pitch and speed change together (linear interpolation)."""
    positions = np.arange(0, len(signal) - 1, factor)
    return np.interp(positions, np.arange(len(signal)), signal).astype(np.float32)


def mix_at_snr(mixture: Signal, background: Signal, event: Signal, start: int, snr_db: float) -> float:
    """Add an event to a mixture, in place, at an SNR over the background; returns the gain.

    The SNR compares RMS values over the event's support, the samples that it covers: both are `(samples,)` of one
    length, `start` may be negative or the end past it (the event is cut there). ValueError where nothing is covered.
    """
    first, last = max(start, 0), min(start + len(event), len(mixture))
    if last <= first:
        raise ValueError(f"an event of {len(event)} samples at {start} lies outside a clip of {len(mixture)}")
    covered = event[first - start : last - start]
    level = rms(covered)
    gain = rms(background[first:last]) / level * 10 ** (snr_db / 20) if level > 0 else 0.0
    mixture[first:last] += np.float32(gain) * covered
    return gain


def in_band_snr(event: Signal, background: Signal, rate: int, share: float = 0.9) -> float:
    """Level of an event over a background of the same length, in dB, in those octaves that hold most of the event.

    These are the strongest octaves that together have `share` of its energy: a whistle over a rumble is as audible as
    its own octave says, not as the rumble's RMS says.
    """
    edges = [0.0]
    while (upper := 62.5 * 2 ** (len(edges) - 1)) < rate / 2:
        edges.append(upper)
    octave = np.digitize(scipy.fft.rfftfreq(len(event), 1 / rate), edges) - 1
    power = [np.bincount(octave, np.abs(scipy.fft.rfft(x.astype(np.float64))) ** 2) for x in (event, background)]
    strongest = np.argsort(power[0], kind="stable")[::-1]
    enough = int(np.searchsorted(np.cumsum(power[0][strongest]), share * power[0].sum())) + 1
    loud, quiet = (float(p[strongest[:enough]].sum()) for p in power)
    return 10 * float(np.log10(max(loud, 1e-30) / max(quiet, 1e-30)))


def limit_peak(signal: Signal, ceiling: float = 0.98) -> Signal:
    """The signal as it is, or scaled down as a whole where its peak passes `ceiling`."""
    peak = float(np.abs(signal).max(initial=0.0))
    return signal * np.float32(ceiling / peak) if peak > ceiling else signal


# ------------------------------------------------------------------------------------------------------------- writers

Size = Literal["toy", "tiny"]
Progress = Callable[[int, int], None]
MARKER = "toy.json"


def check_size(size: str, seed: int, sizes: Collection[str]) -> None:
    """Raises UserError for an unknown size or a negative seed."""
    if size not in sizes:
        raise UserError(f"size {size!r} of the toy data set is unknown; known: {', '.join(sizes)}")
    if seed < 0:
        raise UserError(f"seed {seed} of the toy data set is negative; expected 0 or more")


def write_toy_set(
    root: str | Path, write: Callable[[Path], None], version: int, seed: int, size: str, sizes: Collection[str]
) -> None:
    """`write_once` of the data set of this version, seed and size. Raises UserError for another size as well."""
    check_size(size, seed, sizes)
    write_once(root, {"format": version, "seed": seed, "size": size}, write)


def write_once(
    root: str | Path, identity: Mapping[str, Any], write: Callable[[Path], None], marker: str = MARKER
) -> None:
    """Have `write(folder)` make a data set, whole or not at all; `identity` is kept in <root>/<marker>.

    Does nothing where `root` is already this data set; raises UserError where something else is in its place.
    """
    if is_complete(root, marker, identity):
        return
    try:
        with write_folder_then_rename(root) as partial:
            write(partial)
            write_json(partial / marker, identity)
    except OSError as error:  # another process may have been the first
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not is_complete(root, marker, identity):
            raise


def counter(total: int, progress: Progress | None) -> Callable[[], None]:
    """To be called after each of `total` items: tells `progress(done, total)`."""
    numbers = itertools.count(1)

    def count() -> None:
        if progress is not None:
            progress(next(numbers), total)

    return count
