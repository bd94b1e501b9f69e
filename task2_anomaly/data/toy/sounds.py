"""How machines, their faults and the recording set-ups sound in the embedded data sets.

A machine is a `Timbre` drawn from the ranges of its type: a rotation with harmonics, the noise of air or belt, strokes.
IDs of a type share the kind of sound and differ in its numbers. Faults change the numbers that tell IDs apart, or add a
sound; how strong a fault is varies, so that some anomalies are hard to hear.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from common.toy import (
    Response,
    Signal,
    background,
    contour,
    filtered,
    hit,
    limit_peak,
    modulate,
    noise,
    scatter,
    seconds_to_samples,
    tone,
    train_of,
    unit,
)

RATE = 16000
Generator = np.random.Generator
Fault = Literal["harmonics", "clicks", "rub", "strokes"]
Span = tuple[float, float]
HARMONICS = 8
SEVERITY = (0.2, 1.0)  # of a fault
UNREST = 3.0  # dB by which the parts of a machine vary from clip to clip


class Kind(NamedTuple):
    """A machine type: levels of its parts, the ranges that its IDs are drawn from, and what can break."""

    rotation: float
    air: float
    strokes: float
    hz: Span  # of the rotation
    brightness: float  # dB per octave of the harmonics
    sweep: float  # change of the speed within a clip, as a fraction
    centre: Span  # Hz, of the noise
    rate: Span  # strokes a second
    modes: Span  # Hz, of what is struck
    t60: float  # seconds that a stroke rings
    faults: tuple[Fault, ...]


KINDS: dict[str, Kind] = {
    "fan": Kind(
        *(0.9, 0.7, 0.4, (180, 300), -5, 0.0, (600, 2400), (6, 12), (900, 2800), 0.03), ("harmonics", "clicks", "rub")
    ),
    "valve": Kind(
        *(0.2, 0.2, 1.0, (90, 140), -4, 0.0, (600, 2400), (3, 7), (700, 2200), 0.12), ("harmonics", "clicks", "strokes")
    ),
    "ToyCar": Kind(
        *(0.8, 0.6, 0.5, (260, 400), -3, 0.05, (700, 2800), (8, 14), (900, 2500), 0.04), ("harmonics", "clicks", "rub")
    ),
    "ToyConveyor": Kind(
        *(0.5, 0.6, 0.7, (100, 180), -4, 0.0, (500, 2400), (4, 9), (500, 1800), 0.08), ("harmonics", "rub", "strokes")
    ),
    # Machine types of the first-shot editions.
    "HoveringDrone": Kind(
        *(1.0, 0.4, 0.2, (180, 400), -2, 0.04, (800, 2800), (8, 14), (900, 2500), 0.03), ("harmonics", "clicks", "rub")
    ),
    "RoboticArm": Kind(
        *(0.5, 0.2, 0.8, (110, 230), -5, 0.1, (500, 2000), (2, 5), (500, 1800), 0.15), ("harmonics", "rub", "strokes")
    ),
}


@dataclass(frozen=True)
class Timbre:
    """One machine."""

    kind: Kind
    hz: float
    harmonics: tuple[float, ...]
    centre: float
    rate: float
    modes: tuple[float, ...]


def make_timbres(rng: Generator, kind: Kind, count: int) -> list[Timbre]:
    """`count` machines of a type, each with its own part of the type's ranges."""

    def spread(span: Span) -> np.ndarray:
        parts = (rng.permutation(count) + rng.uniform(0.35, 0.65, count)) / count
        return span[0] * (span[1] / span[0]) ** parts

    drawn = zip(*(spread(span) for span in (kind.hz, kind.centre, kind.rate, kind.modes)), strict=True)
    return [
        Timbre(kind, float(hz), _harmonics(rng, kind), float(centre), float(rate), _modes(rng, float(mode)))
        for hz, centre, rate, mode in drawn
    ]


def _harmonics(rng: Generator, kind: Kind) -> tuple[float, ...]:
    levels = kind.brightness * np.log2(np.arange(1, HARMONICS + 1)) + rng.normal(0, 2, HARMONICS)
    return tuple(10 ** (levels / 20))


def _modes(rng: Generator, hz: float) -> tuple[float, ...]:
    return (hz, hz * float(rng.uniform(1.5, 1.9)), hz * float(rng.uniform(2.3, 3.1)))


def machine_sound(rng: Generator, timbre: Timbre, seconds: float, fault: Fault | None = None) -> Signal:
    """A clip of a machine without its surroundings, (samples,), RMS of 1; faulty where a fault is named."""
    severity = float(rng.uniform(*SEVERITY))
    other = make_timbres(rng, timbre.kind, 1)[0]  # a fault sounds as something in a machine of this type can sound
    if fault == "harmonics":
        timbre = _detuned(rng, timbre, severity)
    kind, samples = timbre.kind, seconds_to_samples(seconds, RATE)
    # No machine runs exactly as yesterday.
    hz, rate = timbre.hz * (1 + rng.normal(0, 0.01)), timbre.rate * (1 + rng.normal(0, 0.01))
    track = hz * contour(samples, 1 + kind.sweep * rng.uniform(-1, 1, 3))
    levels = np.array(timbre.harmonics) * 10 ** (rng.normal(0, 2, HARMONICS) / 20)
    missing = 0.6 * severity if fault == "strokes" else 0.0
    parts = (
        tone(track, RATE, list(levels)),
        _air(rng, seconds, timbre.centre),
        _strokes(rng, timbre, rate, samples, missing),
    )
    today = np.array((kind.rotation, kind.air, kind.strokes)) * 10 ** (rng.normal(0, UNREST, 3) / 20)
    sound = unit(np.sum([np.float32(level) * part for level, part in zip(today, parts, strict=True)], axis=0))
    if fault == "clicks":
        grains = [hit(rng, RATE, _modes(rng, float(rng.uniform(*kind.modes))), 0.03, 0.3) for _ in range(3)]
        sound = sound + np.float32(severity) * train_of(rng, grains, seconds, RATE, other.rate, jitter=0.8)
    elif fault == "rub":
        scratch = modulate(rng, _air(rng, seconds, float(rng.uniform(*kind.centre))), RATE, hz / 20, 0.8)
        sound = sound + np.float32(severity) * scratch
    return unit(sound)


def _air(rng: Generator, seconds: float, centre: float) -> Signal:
    return noise(rng, seconds, RATE, ((centre / 4, -24), (centre, 0), (centre * 4, -30)))


def _detuned(rng: Generator, timbre: Timbre, severity: float) -> Timbre:
    """Another speed and other resonances: bearings, voltage, contamination."""
    factor = float(1 + rng.choice((-1, 1)) * 0.16 * severity)
    tilted = np.array(timbre.harmonics) * 10 ** (3 * severity * rng.normal(0, 1, HARMONICS) / 20)
    modes = tuple(mode / factor for mode in timbre.modes)
    return replace(timbre, hz=timbre.hz * factor, harmonics=tuple(tilted), modes=modes)


def _strokes(rng: Generator, timbre: Timbre, rate: float, samples: int, missing: float) -> Signal:
    grains = [hit(rng, RATE, timbre.modes, timbre.kind.t60, 0.1) for _ in range(2)]
    slots = np.arange(rng.uniform(0, 1), samples / RATE * rate)
    gains = 10 ** (rng.normal(0, 1.0, len(slots)) / 20)
    gains[rng.random(len(slots)) < missing] = 0.02
    starts = ((slots + rng.normal(0, 0.02, len(slots))).clip(min=0) / rate * RATE).astype(int)
    return scatter(samples, grains, starts, gains)


class SetUp(NamedTuple):
    """A recording set-up: microphone and room as a response, surroundings, levels."""

    response: Response
    wander: float  # dB by which the response differs from recording to recording
    background: str
    snr: Span  # dB
    level: Span  # dB below full scale, RMS


# Real data set whose machine types it records -> set-up.
SET_UPS = {
    "mimii": SetUp(
        *(((60, 0), (250, 0), (800, 0), (2500, 0), (5000, 0), (8000, -6)), 5.0, "rumble", (0, 12), (-32, -26))
    ),
    "toyadmos": SetUp(
        *(((60, -30), (250, -8), (800, 0), (2500, 0), (4500, -20), (8000, -40)), 5.0, "hum", (4, 16), (-24, -18))
    ),
}


def record(rng: Generator, set_up: SetUp, sound: Signal) -> Signal:
    """What the microphone of a set-up takes up of a sound (samples,) at an RMS of 1, in its surroundings."""
    around = background(rng, len(sound) / RATE, RATE, set_up.background)
    mixed = sound + np.float32(10 ** (-rng.uniform(*set_up.snr) / 20)) * around[: len(sound)]
    today = rng.normal(0, set_up.wander, len(set_up.response))
    taken = filtered(mixed, RATE, [(hz, db + d) for (hz, db), d in zip(set_up.response, today, strict=True)])
    return limit_peak(taken * np.float32(10 ** (rng.uniform(*set_up.level) / 20)))
