"""Sounds of the ten scenes: a bed of coloured noise and layers of typical sources, and the devices that record them."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import scipy.signal

from common.audio.impulses import device_response
from common.toy import (
    Response,
    Signal,
    band,
    contour,
    engine,
    fade,
    falling_harmonics,
    glide,
    hit,
    key,
    modulate,
    noise,
    reverberate,
    tone,
    train_of,
    unit,
    voice,
    wander,
)

Generator = np.random.Generator
Source = Callable[[Generator, float, int], Signal]

# The bands in which places and moments differ from their scene, Hz.
BANDS = (60, 150, 400, 1000, 2500, 6000, 14000)
# How much places, moments, the levels of layers and of whole segments vary, dB (standard deviations).
PLACE_DB, MOMENT_DB, LAYER_DB, LEVEL_DB = 2.0, 1.0, 2.0, 3.0
# How bumpy the frequency responses of simulated and of real devices are, dB (standard deviation).
SIMULATED_DB, REAL_DB = 3.0, 2.0


# ------------------------------------------------------------------------------------------------------------- sources


def babble(rng: Generator, seconds: float, rate: int) -> Signal:
    """Several people talking at once."""
    pitches = [(rng.uniform(90, 140), 1.0), (rng.uniform(170, 250), 1.12), (rng.uniform(100, 230), 1.05)]
    voices = [voice(rng, seconds, rate, pitch, scale, rng.uniform(3.5, 5.5)) for pitch, scale in pitches]
    return unit(np.sum(voices, axis=0))


def announcement(rng: Generator, seconds: float, rate: int) -> Signal:
    """A chime and a voice over loudspeakers in a large hall."""
    root = rng.uniform(480, 700)
    chime = [fade(tone(glide(rng, 0.5, rate, [root * step]), rate, [1, 0.2]), rate, 0.01, 0.4) for step in (1.26, 1.0)]
    words = voice(rng, max(seconds - 1, 0.5), rate, rng.uniform(170, 230), 1.1, 4.2, 0.12)
    sound = np.concatenate([*chime, words])
    return reverberate(rng, _fit(sound, seconds, rate), rate, 1.5, 0.5)


def steps(rng: Generator, seconds: float, rate: int) -> Signal:
    """Several people walking past."""
    heels = [hit(rng, rate, [rng.uniform(90, 160), rng.uniform(250, 500), rng.uniform(1100, 2200)], 0.1, 0.8)]
    heels.append(hit(rng, rate, [rng.uniform(100, 180), rng.uniform(600, 900)], 0.08, 1.2))
    return train_of(rng, heels, seconds, rate, rng.uniform(3, 6), 0.6, 4)


def cars(rng: Generator, seconds: float, rate: int) -> Signal:
    """Cars passing by: tyre noise that swells."""
    bright = rng.uniform(900, 1600)
    tyres = noise(rng, seconds, rate, ((150, -10), (500, -2), (bright, 0), (3 * bright, -12), (12000, -30)))
    return unit(tyres * contour(len(tyres), 0.15 + rng.random(6)).astype(np.float32))


def motor(rng: Generator, seconds: float, rate: int) -> Signal:
    """A diesel under the floor."""
    pitch = rng.uniform(28, 48)
    return engine(rng, glide(rng, seconds, rate, [pitch, pitch * rng.uniform(1, 1.5), pitch]), rate, 0.3, -5)


def whine(rng: Generator, seconds: float, rate: int) -> Signal:
    """Electric traction: a tone that follows the speed."""
    top = rng.uniform(350, 800)
    track = glide(rng, seconds, rate, [top * share for share in rng.uniform(0.5, 1.1, 4)], wobble=0.01)
    return tone(track, rate, [1, 0.5, 0.4, 0.1, 0.2])


def rails(rng: Generator, seconds: float, rate: int) -> Signal:
    """Wheels over rail joints."""
    joints = [hit(rng, rate, [180, rng.uniform(380, 500), rng.uniform(800, 1100)], 0.12, 0.7) for _ in range(2)]
    return train_of(rng, joints, seconds, rate, rng.uniform(2.5, 5), 0.3, 2)


def squeal(rng: Generator, seconds: float, rate: int) -> Signal:
    """Brakes or wheels in a curve."""
    pitch = rng.uniform(2000, 4500)
    track = glide(rng, seconds, rate, [pitch, pitch * 1.05, pitch * 0.95], (rng.uniform(15, 40), 0.006))
    swell = contour(len(track), [0, *rng.random(4) ** 3, 0]).astype(np.float32)
    return unit(tone(track, rate, [1, 0.4, 0.1]) * swell)


def bell(rng: Generator, seconds: float, rate: int) -> Signal:
    """A tram's gong."""
    modes = rng.uniform(700, 1200) * np.array([1, 1.51, 2.05, 2.74])
    return train_of(rng, [hit(rng, rate, list(modes), 0.8, 0.05)], seconds, rate, rng.uniform(1.5, 4), 0.2, 2)


def birds(rng: Generator, seconds: float, rate: int) -> Signal:
    """Bird song."""

    def note() -> Signal:
        hertz, length = rng.uniform(2500, 6000), rng.uniform(0.06, 0.25)
        points = [hertz * rng.uniform(0.8, 1.2) for _ in range(3)]
        return fade(
            tone(glide(rng, length, rate, points, (rng.uniform(20, 40), 0.05)), rate, [1, 0.1]), rate, 0.02, 0.04
        )

    return train_of(rng, [note() for _ in range(5)], seconds, rate, rng.uniform(2, 6), 0.8, 5)


def wind(rng: Generator, seconds: float, rate: int) -> Signal:
    """Gusts in leaves."""
    leaves = noise(rng, seconds, rate, ((100, -16), (800, -4), (3000, 0), (9000, -6)))
    return unit(leaves * wander(rng, seconds, rate, 0.8, 0.8).astype(np.float32) ** 2)


def music(rng: Generator, seconds: float, rate: int) -> Signal:
    """Background music: slow chords."""
    chords = max(1, round(seconds / 1.2))
    roots = 110 * 2 ** (rng.choice([0, 3, 5, 7, 10, 12], chords) / 12)
    voices = [
        np.concatenate([fade(tone(glide(rng, 1.2, rate, [root * step]), rate, falling_harmonics(6, -8)), rate, 0.1, 0.4)
                        for root in roots])
        for step in (1, 1.5, 2.4)
    ]  # fmt: skip
    return _fit(unit(np.sum(voices, axis=0)), seconds, rate)


def trolleys(rng: Generator, seconds: float, rate: int) -> Signal:
    """Wheels of luggage and carts on a hard floor."""
    root = rng.uniform(500, 1000)
    rattles = [hit(rng, rate, [root * rng.uniform(0.9, 3.2) for _ in range(3)], 0.05, 0.6) for _ in range(3)]
    rattle = train_of(rng, rattles, seconds, rate, rng.uniform(14, 24), 0.8, 4)
    return unit(rattle + 0.5 * _fit(noise(rng, seconds, rate, band(200, 800)), seconds, rate))


def train(rng: Generator, seconds: float, rate: int) -> Signal:
    """A train that comes in or leaves."""
    rumble = modulate(rng, noise(rng, seconds, rate, band(60, 400, 14)), rate, rng.uniform(4, 9), 0.4)
    mixed = unit(rumble + 0.5 * whine(rng, seconds, rate))
    return reverberate(rng, unit(mixed * contour(len(mixed), rng.random(4)).astype(np.float32)), rate, 1.2, 0.3)


SOURCES: tuple[Source, ...] = (
    babble, announcement, steps, cars, motor, whine, rails, squeal, bell, birds, wind, music, trolleys, train,
)  # fmt: skip


def _fit(sound: Signal, seconds: float, rate: int) -> Signal:
    return np.resize(sound, round(seconds * rate)).astype(np.float32)


# -------------------------------------------------------------------------------------------------------------- scenes


@dataclass(frozen=True)
class Scene:
    """Bed: dB in BANDS. Layers: source, chance to be heard in a segment, level in dB over the bed. Level: dBFS."""

    bed: tuple[float, ...]
    layers: tuple[tuple[Source, float, float], ...]
    level: float
    beats: tuple[float, float] = (0.0, 0.0)  # the bed's modulation: Hz, depth


# What tells scenes apart lies in how they change within a second as much as in their spectra, as MixStyle wants it.
# Some share sources and much of their bed: airport and shopping mall, square and pedestrian street, metro and tram.
SCENES: dict[str, Scene] = {
    "airport": Scene(
        (-2, 0, -2, -6, -12, -20, -32), ((trolleys, 1.0, 2), (babble, 0.7, -3), (announcement, 0.5, -1)), -34
    ),
    "bus": Scene((4, 2, -4, -12, -20, -28, -40), ((motor, 1.0, 4), (babble, 0.4, -6)), -28, (12.0, 0.5)),
    "metro": Scene(
        (2, 2, 0, -4, -12, -22, -36), ((rails, 1.0, 4), (whine, 0.6, -4), (squeal, 0.4, -5)), -26, (4.5, 0.3)
    ),
    "metro_station": Scene(
        (0, 0, -1, -7, -14, -24, -36), ((train, 0.9, 3), (announcement, 0.7, 2), (steps, 0.4, -4)), -31
    ),
    "park": Scene((-4, -4, -8, -10, -12, -16, -24), ((birds, 1.0, 4), (wind, 0.6, -2)), -42),
    "public_square": Scene(
        (0, -2, -4, -7, -11, -18, -28), ((babble, 0.8, 0), (cars, 0.7, 0), (bell, 0.4, -2), (birds, 0.3, -5)), -36
    ),
    "shopping_mall": Scene((-4, -1, -2, -4, -9, -16, -28), ((music, 1.0, 3), (babble, 0.8, 0)), -33),
    "street_pedestrian": Scene(
        (-1, -2, -4, -7, -12, -19, -30), ((steps, 1.0, 4), (babble, 0.6, -2), (cars, 0.3, -5)), -35
    ),
    "street_traffic": Scene((3, 0, -2, -4, -10, -20, -34), ((cars, 1.0, 6), (motor, 0.4, -3)), -30),
    "tram": Scene((3, 1, -2, -7, -15, -25, -38), ((whine, 1.0, 3), (bell, 0.6, 1), (rails, 0.4, -6)), -29, (7.0, 0.4)),
}


@dataclass
class Bank:
    """Variants of every source, made when first asked for; training and test have their own ones."""

    seed: int
    part: str
    variants: int
    rate: int
    seconds: float
    _sounds: dict[tuple[str, int], Signal] = field(default_factory=dict)

    def draw(self, rng: Generator, source: Source) -> Signal:
        """A random variant (samples,), turned to a random start; RMS of 1."""
        variant = int(rng.integers(self.variants))
        if (source.__name__, variant) not in self._sounds:
            seeded = np.random.default_rng(key(self.seed, "bank", self.part, source.__name__, variant))
            self._sounds[source.__name__, variant] = _fit(
                source(seeded, self.seconds, self.rate), self.seconds, self.rate
            )
        sound = self._sounds[source.__name__, variant]
        return np.roll(sound, rng.integers(len(sound)))


def record_moment(rng: Generator, place: Generator, bank: Bank, scene: str, seconds: float) -> Signal:
    """What is to be heard at a place, (samples,): the scene, coloured by the place. At most the bank's seconds."""
    of = SCENES[scene]
    colour = np.array(of.bed) + place.normal(0, PLACE_DB, len(BANDS)) + rng.normal(0, MOMENT_DB, len(BANDS))
    response: Response = tuple(zip(BANDS, colour.tolist(), strict=True))
    sound = noise(rng, seconds, bank.rate, response)
    hertz, depth = of.beats
    if depth:
        sound = modulate(rng, sound, bank.rate, hertz * rng.uniform(0.8, 1.25), depth)
    for source, chance, decibels in of.layers:
        if rng.random() < chance:
            gain = np.float32(10 ** ((decibels + rng.normal(0, LAYER_DB)) / 20))
            sound = sound + gain * bank.draw(rng, source)[: len(sound)]
    return unit(sound) * np.float32(10 ** ((of.level + rng.normal(0, LEVEL_DB)) / 20))


# ------------------------------------------------------------------------------------------------------------- devices


@dataclass(frozen=True)
class Device:
    """A recorder: impulse response, compression of loud parts (ratio over a threshold in dBFS), own noise in dBFS."""

    response: Signal
    ratio: float
    threshold: float
    noise: float

    def record(self, rng: Generator, sound: Signal, rate: int) -> Signal:
        """What the device writes of a sound (samples,), of the same length."""
        heard = scipy.signal.oaconvolve(sound, self.response)[: len(sound)].astype(np.float32)
        if self.ratio > 1:
            heard = heard * self._gain(heard, rate)
        return heard + np.float32(10 ** (self.noise / 20)) * rng.standard_normal(len(heard), dtype=np.float32)

    def _gain(self, heard: Signal, rate: int) -> Signal:
        """Gain of the compressor, from levels of 20 ms."""
        size = rate // 50
        frames = np.pad(heard, (0, -len(heard) % size)).reshape(-1, size)
        level = 10 * np.log10(np.mean(np.square(frames), axis=1) + 1e-12)
        decibels = -np.maximum(level - self.threshold, 0) * (1 - 1 / self.ratio)
        middle = (np.arange(len(frames)) + 0.5) * size
        return np.interp(np.arange(len(heard)), middle, 10 ** (decibels / 20)).astype(np.float32)


def make_device(name: str, seed: int, rate: int) -> Device:
    """a: nearly flat. b, c: other recorders. s1 to s6: simulated from a, by an impulse response and compression."""
    rng = np.random.default_rng(key(seed, "device", name))
    if name == "a":
        return Device(np.array([0.98, 0.02], np.float32), 1.0, 0.0, -84.0)
    simulated = name.startswith("s")
    response = device_response(rng, rate, SIMULATED_DB if simulated else REAL_DB)
    ratio, threshold = (rng.uniform(1.5, 3), rng.uniform(-45, -35)) if simulated else (1.2, -30.0)
    return Device(response, float(ratio), float(threshold), -84.0 if simulated else -75.0)
