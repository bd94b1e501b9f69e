"""Recordings made of a gesture and a timbre, and imitations: the same gesture by a voice.

What a voice keeps is pitch contour, rhythm and loudness, transposed into its range and with errors; what it loses is
the timbre, for which a source and a vocal tract stand.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from common.toy import (
    VOWELS,
    Signal,
    Track,
    background,
    band,
    engine,
    fade,
    falling_harmonics,
    glide,
    hit,
    limit_peak,
    mix_at_snr,
    modulate,
    noise,
    reverberate,
    scatter,
    seconds_to_samples,
    tone,
    unit,
    vocal,
)

VOICE_RANGE = (80.0, 700.0)  # Hz: what a voice can sing
REGISTER = (1.3, 0.7)  # octaves up or down of the highest and lowest recordings, and of the voices that imitate them
LOUDNESS_DB = (-28.0, -18.0)
SHORTEST = 0.04  # of an event, as a share of the clip
TIMBRES = ("flute", "reed", "motor", "wind", "bell", "wood")
NOISY, STRUCK = ("wind",), ("bell", "wood")


class Event(NamedTuple):
    """A part of a gesture: its begin and length as shares of the clip, loudness, and pitch points (octaves)."""

    begin: float
    length: float
    gain: float
    pitch: tuple[float, ...]


class Gesture(NamedTuple):
    """What an imitation keeps of a recording; pulse: Hz of a tremolo, 0 for none; register: low (-1) to high (1)."""

    events: tuple[Event, ...]
    pulse: float
    register: float


class Speaker(NamedTuple):
    """Middle pitch (Hz), size of the vocal tract, what becomes of an octave, errors of pitch (octaves), of tempo and
    pauses (as logarithms), roughness, level over the background."""

    pitch: float
    formants: float
    range: float
    off_key: float
    off_beat: float
    unsteady: float
    snr_db: float


def draw_gesture(random: np.random.Generator) -> Gesture:
    """A call of its own pitch contour, repeated up to six times along a rhythm, a melody and a swell.

    Every trait is drawn by itself: an unseen gesture is a new mixture of traits that others have too.
    """
    calls = int(random.choice([1, 1, 2, 3, 4, 6]))
    along = np.linspace(-0.5, 0.5, calls) if calls > 1 else np.zeros(1)
    periods = np.exp(random.uniform(-0.5, 0.5) * along)  # calls that hurry, or slow down
    periods *= random.uniform(0.55, 0.95) / periods.sum()
    begins = random.uniform(0.0, 0.03) + np.cumsum(periods) - periods
    lengths = np.maximum(periods * random.uniform(0.3, 0.95), SHORTEST)
    gains = 10 ** (random.uniform(-9, 9) * along / 20)
    slope, bend = random.uniform(-1.2, 1.2), random.choice([0.0, random.uniform(-0.8, 0.8)])
    pitches = np.add.outer(random.uniform(-0.7, 0.7) * along, [-slope / 2, bend, slope / 2])
    traits = zip(begins.tolist(), lengths.tolist(), gains.tolist(), pitches.tolist(), strict=True)
    events = tuple(Event(begin, length, gain, tuple(pitch)) for begin, length, gain, pitch in traits)
    pulse = float(random.choice([0.0, random.uniform(5, 16)]))
    return Gesture(events, pulse, float(random.uniform(-1, 1)))


def recording(random: np.random.Generator, gesture: Gesture, timbre: str, seconds: float, rate: int) -> Signal:
    """A clip (samples,) of a gesture in a timbre, in a room."""
    middle = 420.0 * 2 ** (REGISTER[0] * gesture.register)
    play = {
        "flute": lambda track: tone(track, rate, (1.0, 0.1)),
        "reed": lambda track: tone(track, rate, falling_harmonics(14, -4, odd_only=True)),
        "motor": lambda track: engine(random, track / 4, rate),
        "wind": lambda track: _moving_noise(random, track, rate),
        "bell": lambda track: _struck(random, track, rate, (1.0, 2.76, 5.4), 0.5),
        "wood": lambda track: _struck(random, track, rate, (1.0, 1.9), 0.12),
    }[timbre]
    sound = _perform(random, gesture, seconds, rate, middle, play)
    return _placed(random, reverberate(random, sound, rate, random.uniform(0.3, 1.0), 0.35), seconds, rate, 12.0)


def draw_speaker(random: np.random.Generator) -> Speaker:
    """Somebody who imitates, more or less well."""
    formants = random.uniform(0.85, 1.25)
    errors = random.uniform(0.05, 0.15), random.uniform(0.1, 0.25), random.uniform(0.05, 0.3)
    middle = float(150.0 * formants**2 * random.uniform(0.9, 1.2))
    return Speaker(middle, formants, random.uniform(0.4, 0.9), *errors, random.uniform(8, 20))


def retold(random: np.random.Generator, gesture: Gesture, speaker: Speaker) -> Gesture:
    """The gesture with a speaker's errors: another tempo and start, uneven pauses, lengths, levels and pitches."""
    tempo = float(np.exp(random.normal(0.0, speaker.off_beat)))
    begins = np.array([event.begin for event in gesture.events])
    gaps = np.diff(begins) * tempo * np.exp(random.normal(0.0, speaker.off_beat, len(begins) - 1))
    begins = random.uniform(0.0, 0.15) + np.concatenate([[0.0], np.cumsum(gaps)])
    events = []
    for event, begin in zip(gesture.events, begins * min(1.0, 0.9 / begins[-1]), strict=True):
        length = event.length * tempo * float(np.exp(random.normal(0.0, speaker.off_beat)))
        pitch = tuple(float(speaker.range * value + random.normal(0, speaker.off_key)) for value in event.pitch)
        gain = event.gain * float(10 ** (random.uniform(-5, 5) / 20))
        events.append(Event(float(begin), float(np.clip(length, SHORTEST, 0.98 - begin)), gain, pitch))
    pulse = gesture.pulse * float(np.exp(random.normal(0.0, speaker.off_beat / 2)))
    return Gesture(tuple(events), pulse, gesture.register + float(random.normal(0.0, 0.15)))


def imitation(
    random: np.random.Generator, gesture: Gesture, timbre: str, speaker: Speaker, seconds: float, rate: int
) -> Signal:
    """A clip (samples,) of the gesture by a voice: hissed where the timbre is noisy, syllables where it is struck."""
    gesture = retold(random, gesture, speaker)
    vowel = VOWELS[random.integers(len(VOWELS))]
    formants = [hz * speaker.formants * random.uniform(0.95, 1.05) for hz in vowel]

    def say(track: Track) -> Signal:
        track = np.clip(track, *VOICE_RANGE)
        if timbre in NOISY:
            return _moving_noise(random, 5 * track, rate)
        sound = vocal(track, rate, formants)
        if timbre in STRUCK:
            sound = sound * np.exp(-np.arange(len(sound)) / (0.08 * rate)).astype(np.float32)
        breath = noise(random, len(sound) / rate, rate, band(1500, 0.4 * rate))[: len(sound)]
        return unit(sound + np.float32(speaker.unsteady) * 0.3 * breath)

    middle = speaker.pitch * 2 ** (REGISTER[1] * gesture.register)
    sound = _perform(random, gesture, seconds, rate, middle, say, speaker.unsteady)
    return _placed(random, sound, seconds, rate, speaker.snr_db)


def _perform(
    random: np.random.Generator,
    gesture: Gesture,
    seconds: float,
    rate: int,
    middle: float,
    play: Callable[[Track], Signal],
    wobble: float = 0.0,
) -> Signal:
    """All events one by one (samples,), each along its pitch track around `middle` Hz."""
    parts: list[Signal] = []
    for event in gesture.events:
        points = [middle * 2**octave for octave in event.pitch]
        track = glide(random, event.length * seconds, rate, points, wobble=0.1 * wobble)
        parts.append(fade(play(track), rate, 0.01, 0.03))
    samples = seconds_to_samples(seconds, rate)
    starts = [round(event.begin * samples) for event in gesture.events]
    sound = scatter(samples, parts, starts, np.array([event.gain for event in gesture.events]))
    return modulate(random, sound, rate, gesture.pulse, 0.8) if gesture.pulse else sound


def _moving_noise(random: np.random.Generator, track: Track, rate: int) -> Signal:
    """Noise in a band around a track (samples,)."""
    hiss = noise(random, len(track) / rate, rate, band(20, 120))[: len(track)]
    return unit(np.resize(hiss, len(track)) * tone(track, rate))


def _struck(random: np.random.Generator, track: Track, rate: int, modes: Sequence[float], t60: float) -> Signal:
    """A blow that rings at modes of the first pitch of a track (samples,)."""
    blow = hit(random, rate, [mode * float(track[0]) for mode in modes], t60)
    sound = np.zeros(len(track), np.float32)
    sound[: len(blow)] = blow[: len(track)]
    return unit(sound)


def _placed(random: np.random.Generator, sound: Signal, seconds: float, rate: int, snr_db: float) -> Signal:
    """Over a background, at a level as recordings have it."""
    ambience = background(random, seconds, rate)
    mixture = ambience.copy()
    mix_at_snr(mixture, ambience, sound, 0, snr_db)
    return limit_peak(unit(mixture) * np.float32(10 ** (random.uniform(*LOUDNESS_DB) / 20)))
