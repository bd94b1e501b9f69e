"""Sounds by attributes: what sounds, in which rhythm, contour and register, and in which room."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from common.toy import (
    Signal,
    background,
    chain,
    fade,
    falling_harmonics,
    glide,
    hit,
    limit_peak,
    mix_at_snr,
    noise,
    reverberate,
    scatter,
    seconds_to_samples,
    tilt,
    tone,
    unit,
)

# Each value with two ways to say it.
WORDS = {
    "source": {
        "tone": ("a pure tone", "a plain whistle"),
        "harmonic": ("a buzzing tone rich in overtones", "a reedy horn"),
        "noise": ("a hissing noise", "rushing air"),
        "click": ("dry clicks", "short knocks"),
    },
    "rhythm": {
        "single": ("sounds once", "one event with silence around it"),
        "regular": ("repeats regularly", "comes again and again at an even pace"),
        "irregular": ("repeats irregularly", "comes at random moments"),
        "sustained": ("is sustained", "goes on all the time"),
    },
    "contour": {
        "flat": ("with steady pitch", "staying at one height"),
        "rising": ("rising in pitch", "going up"),
        "falling": ("falling in pitch", "going down"),
    },
    "register": {"low": ("in a low register", "deep"), "high": ("in a high register", "shrill")},
    "room": {"dry": ("in a dry room", "close by"), "wide": ("in a large echoing hall", "with long reverberation")},
}
HEIGHTS = {"low": (180.0, 320.0), "high": (1100.0, 1900.0)}  # Hz
MOVEMENTS = {"flat": (1.0, 1.0), "rising": (0.7, 1.4), "falling": (1.4, 0.7)}


class Attributes(NamedTuple):
    """A class."""

    source: str
    rhythm: str
    contour: str
    register: str
    room: str

    @property
    def name(self) -> str:
        return "_".join(self)

    def texts(self) -> tuple[str, str]:
        """Two descriptions in different words."""
        said = [WORDS[of][value] for of, value in zip(self._fields, self, strict=True)]
        first, second = ([words[number] for words in said] for number in (0, 1))
        return f"{first[0]} that {first[1]}, {', '.join(first[2:])}", ", ".join(second)

    def numbers(self) -> list[int]:
        """1 for each value that the class has, 0 for the others."""
        return [int(value == own) for of, own in zip(self._fields, self, strict=True) for value in WORDS[of]]


COLUMNS = [f"{of}_{value}" for of, values in WORDS.items() for value in values]


def record(random: np.random.Generator, of: Attributes, seconds: float, rate: int) -> Signal:
    """A clip (samples,) of a class: no two are alike."""
    height = random.uniform(*HEIGHTS[of.register])
    starts, length = _rhythm(random, of.rhythm, seconds)
    events = [_event(random, of, height * random.uniform(0.97, 1.03), length, rate) for _ in starts]
    samples = seconds_to_samples(seconds, rate)
    sound = scatter(samples, events, [round(start * rate) for start in starts], np.ones(len(starts)))
    if of.room == "wide":
        sound = reverberate(random, sound, rate, random.uniform(0.9, 1.3), 0.5)
    ambience = background(random, seconds, rate)
    mixture = ambience.copy()
    mix_at_snr(mixture, ambience, sound, 0, random.uniform(20, 30))
    return limit_peak(unit(mixture) * np.float32(10 ** (random.uniform(-26, -18) / 20)))


def _rhythm(random: np.random.Generator, rhythm: str, seconds: float) -> tuple[Sequence[float], float]:
    """Beginnings and length of the events, in seconds."""
    if rhythm == "sustained":
        return [0.0], seconds
    if rhythm == "single":
        length = random.uniform(0.15, 0.25) * seconds
        return [random.uniform(0.1, 0.6) * seconds], length
    count = int(random.integers(5, 8))
    length = 0.5 * seconds / count
    if rhythm == "regular":
        return [number * seconds / count for number in range(count)], length
    return sorted(random.uniform(0, seconds - length, count)), length


def _event(random: np.random.Generator, of: Attributes, height: float, seconds: float, rate: int) -> Signal:
    begin, end = (height * factor for factor in MOVEMENTS[of.contour])
    if of.source == "click":
        count = max(3, round(seconds * 16))
        heights = np.geomspace(begin, end, count)
        size = seconds_to_samples(seconds / count, rate)
        return chain([np.resize(_click(random, h, rate), size) for h in heights])
    track = glide(random, seconds, rate, [begin, end])
    if of.source == "noise":  # a band of noise that moves along the track
        sound = noise(random, seconds, rate, tilt(-12, 0.2 * height)) * tone(track, rate)
    else:
        sound = tone(track, rate, falling_harmonics(12, -4) if of.source == "harmonic" else (1.0,))
    return fade(unit(sound), rate, 0.02, 0.02)


def _click(random: np.random.Generator, hz: float, rate: int) -> Signal:
    """A knock and silence after it, longer than any distance between knocks."""
    knock = hit(random, rate, [hz, 2.3 * hz], 0.06)
    return np.concatenate([knock, np.zeros(rate, np.float32)])
