"""How each of the 27 classes sounds in the toy data set, and where its events and scenes lie.

SOURCES maps a class to a function (generator, rate) -> float32 (samples,): one event, with variation inside the class
(pitch, length, spectrum, envelope). Classes that the challenge treats as aliases share their source.
"""

from collections.abc import Callable

import numpy as np

from common.toy import (
    Signal,
    background,
    band,
    chain,
    contour,
    crackle,
    engine,
    fade,
    falling_harmonics,
    filtered,
    glide,
    hit,
    hum,
    modulate,
    noise,
    reverberate,
    seconds_to_samples,
    tilt,
    tone,
    train_of,
    unit,
    vocal,
    voice,
    wander,
)

Source = Callable[[np.random.Generator, int], Signal]


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """A length or frequency, evenly spread over the logarithm."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _swell(rng: np.random.Generator, sound: Signal, early: float, late: float) -> Signal:
    """Loudness that starts at `early`, peaks somewhere in the middle and ends at `late` (amplitudes, peak 1)."""
    return unit(sound * contour(len(sound), [early, rng.uniform(0.6, 0.9), 1.0, rng.uniform(0.6, 0.9), late]))


def alarm(rng: np.random.Generator, rate: int) -> Signal:
    seconds, kind = _between(rng, 1.5, 8), rng.integers(3)
    if kind == 0:  # a struck bell with a hammer
        modes = _between(rng, 900, 1800) * np.array([1, 1.51, 2.05, 2.74, 3.9])
        return train_of(rng, [hit(rng, rate, list(modes), 0.5, 0.05)], seconds, rate, rng.uniform(9, 16), 0.05, 1.0)
    if kind == 1:  # two tones in turn
        low, high = _between(rng, 600, 1000), _between(rng, 1100, 1600)
        turns = round(seconds * rng.uniform(2, 5))
        track = np.repeat([low, high] * (turns // 2 + 1), round(seconds * rate / max(turns, 1)))
        return fade(tone(track[: round(seconds * rate)], rate, [1, 0.1, 0.4, 0.05, 0.2]), rate)
    beep = fade(tone(glide(rng, 0.07, rate, [_between(rng, 1800, 3200)]), rate, [1, 0, 0.3]), rate, 0.005, 0.005)
    return train_of(rng, [beep], seconds, rate, rng.uniform(5, 8), 0.0, 0.0)


def blender(rng: np.random.Generator, rate: int) -> Signal:
    seconds, pitch = _between(rng, 2.5, 9), _between(rng, 170, 320)
    track = glide(rng, seconds, rate, [pitch * 0.7, *(pitch * rng.uniform(0.9, 1.1) for _ in range(4))], wobble=0.03)
    motor = engine(rng, track, rate, roughness=0.45, brightness=-3)
    return fade(motor * wander(rng, seconds, rate, 3, 0.3).astype(np.float32), rate, 0.1, 0.2)


def cat(rng: np.random.Generator, rate: int) -> Signal:
    seconds, pitch = _between(rng, 0.6, 1.8), _between(rng, 480, 750)
    track = glide(rng, seconds, rate, [pitch * 0.85, pitch * 1.25, pitch * 1.15, pitch * 0.7], (6, 0.015))
    closed = vocal(track, rate, [400, 1800, 3000], -4)
    wide = vocal(track, rate, [1000, 1700, 3200], -4)
    mouth = contour(len(track), [0, 1, 0.8, 0]).astype(np.float32)
    return fade(closed * (1 - mouth) + wide * mouth, rate, 0.08, 0.15)


def dishes(rng: np.random.Generator, rate: int) -> Signal:
    def clink() -> Signal:
        root = _between(rng, 1500, 3500)
        return hit(rng, rate, [root * ratio for ratio in (1, 1.47, 1.93, 2.6)], _between(rng, 0.08, 0.35), 0.3)

    clinks = [clink() for _ in range(3)]
    return train_of(rng, clinks, _between(rng, 0.5, 1.8), rate, rng.uniform(5, 9), 0.9, 5.0)


def dog(rng: np.random.Generator, rate: int) -> Signal:
    pitch, length, formant = _between(rng, 280, 620), rng.uniform(0.14, 0.28), rng.uniform(700, 1200)

    def bark() -> Signal:
        track = glide(rng, length, rate, [pitch * 0.8, pitch * 1.2, pitch * 0.6], wobble=0.05)
        rasp = noise(rng, length, rate, band(formant * 0.7, formant * 2.2, 18))[: len(track)]
        return fade(vocal(track, rate, [formant, 1.9 * formant, 3000], -3) + 1.2 * rasp, rate, 0.02, 0.12)

    barks = rng.integers(2, 6)
    return train_of(rng, [bark(), bark()], barks * (length + 0.12), rate, 1 / (length + 0.12), 0.1, 1.5)


def shaver(rng: np.random.Generator, rate: int) -> Signal:
    seconds, pitch = _between(rng, 2.5, 9), _between(rng, 90, 140)
    buzz = tone(glide(rng, seconds, rate, [pitch] * 4, wobble=0.015), rate, falling_harmonics(40, -2.0, odd_only=True))
    hiss = modulate(rng, noise(rng, seconds, rate, band(3000, 6500, 24)), rate, 2 * pitch, 0.8)
    return fade(modulate(rng, unit(buzz + 0.5 * hiss), rate, rng.uniform(1.5, 5), 0.25), rate, 0.05, 0.05)


def frying(rng: np.random.Generator, rate: int) -> Signal:
    seconds = _between(rng, 4, 10)
    sizzle = noise(rng, seconds, rate, ((500, -24), (3000, -6), (5500, 0), (8000, -3)))
    pops = crackle(rng, seconds, rate, rng.uniform(60, 200), [rng.uniform(2500, 7000) for _ in range(3)], 0.006)
    return fade(unit(sizzle + rng.uniform(0.6, 1.4) * pops), rate, 0.3, 0.3)


def running_water(rng: np.random.Generator, rate: int) -> Signal:
    seconds, centre = _between(rng, 2, 9), _between(rng, 700, 1400)
    stream = noise(rng, seconds, rate, ((centre / 4, -20), (centre, 0), (3 * centre, -3), (8000, -16)))
    bubbles = []
    for _ in range(6):
        hz, length = _between(rng, 400, 1600), rng.uniform(0.02, 0.06)
        bubbles.append(fade(tone(glide(rng, length, rate, [hz, hz * 1.5]), rate), rate, 0.003, length * 0.7))
    gurgle = train_of(rng, bubbles, seconds, rate, rng.uniform(12, 30), 1.0, 4)
    stream = stream * wander(rng, seconds, rate, 4, 0.25).astype(np.float32)
    return fade(unit(unit(stream) + rng.uniform(0.4, 0.9) * gurgle), rate, 0.1, 0.1)


def speech(rng: np.random.Generator, rate: int) -> Signal:
    pitch, scale = (_between(rng, 90, 150), 1.0) if rng.random() < 0.5 else (_between(rng, 170, 260), 1.12)
    return voice(rng, _between(rng, 0.8, 4), rate, pitch, scale, rng.uniform(3.8, 5.5))


def vacuum(rng: np.random.Generator, rate: int) -> Signal:
    seconds, pitch = _between(rng, 4, 10), _between(rng, 450, 800)
    whine = tone(glide(rng, seconds, rate, [pitch * 0.97, pitch, pitch], wobble=0.004), rate, [1, 0.5, 0.15])
    air = noise(rng, seconds, rate, ((80, -6), (300, 0), (1500, -3), (4000, -10), (8000, -20)))
    return fade(unit(air + rng.uniform(0.3, 0.6) * whine), rate, 0.3, 0.2)


def furniture(rng: np.random.Generator, rate: int) -> Signal:
    seconds, pitch = _between(rng, 0.7, 2.5), _between(rng, 60, 140)
    track = glide(rng, seconds, rate, [pitch * rng.uniform(0.7, 1.4) for _ in range(5)], wobble=0.2)
    scrape = filtered(tone(track, rate, falling_harmonics(30, -3)), rate, band(200, 1800, 18))
    grit = crackle(rng, seconds, rate, 150, [600, 1200], 0.01)
    return fade(unit(scrape + 0.5 * grit) * wander(rng, seconds, rate, 6, 0.6).astype(np.float32), rate, 0.05, 0.1)


def people_talking(rng: np.random.Generator, rate: int) -> Signal:
    first, second = speech(rng, rate), speech(rng, rate)
    return chain([first, second], overlap=seconds_to_samples(0.3, rate))


def children(rng: np.random.Generator, rate: int) -> Signal:
    pitch = _between(rng, 300, 480)
    return voice(rng, _between(rng, 0.8, 4), rate, pitch, rng.uniform(1.3, 1.5), rng.uniform(3.5, 5.5), liveliness=0.35)


def coffee_machine(rng: np.random.Generator, rate: int) -> Signal:
    seconds = _between(rng, 3, 8)
    steam = noise(rng, seconds, rate, band(1800, 5000, 12)) * wander(rng, seconds, rate, 2, 0.5).astype(np.float32)
    pump = modulate(rng, hum(rng, seconds, rate), rate, 12.5, 0.9)
    return fade(unit(unit(steam) + 0.9 * pump), rate, 0.2, 0.3)


def footsteps(rng: np.random.Generator, rate: int) -> Signal:
    modes, pace = [_between(rng, 90, 160), _between(rng, 200, 380)], rng.uniform(1.6, 2.4)
    heel = filtered(hit(rng, rate, [*modes, _between(rng, 900, 1700)], 0.12, 0.8), rate, band(80, 2500, 9))
    scuff = fade(noise(rng, 0.09, rate, band(1500, 5000, 12)), rate, 0.02, 0.06)
    step = chain([heel, 0.4 * scuff], overlap=len(heel) // 2)
    return train_of(rng, [step], _between(rng, 2, 6), rate, pace, 0.08, 2)


def large_vehicle(rng: np.random.Generator, rate: int) -> Signal:
    seconds, pitch = _between(rng, 4, 9), _between(rng, 28, 48)
    track = glide(rng, seconds, rate, [pitch, pitch * 1.3, pitch * 1.2, pitch * 0.9], wobble=0.05)
    motor = filtered(engine(rng, track, rate, 0.4, -4), rate, ((40, 0), (300, 0), (1000, -14), (8000, -40)))
    return _swell(rng, unit(motor + 0.6 * noise(rng, seconds, rate, band(50, 200))[: len(motor)]), 0.15, 0.15)


def car(rng: np.random.Generator, rate: int) -> Signal:
    seconds, bright = _between(rng, 2.5, 6), rng.uniform(900, 1500)
    tyres = noise(rng, seconds, rate, ((150, -10), (500, -2), (bright, 0), (2 * bright, -8), (8000, -30)))
    pitch = _between(rng, 80, 130)
    motor = engine(rng, glide(rng, seconds, rate, [pitch * 1.08, pitch * 1.06, pitch * 0.9, pitch * 0.88]), rate, 0.2)
    return _swell(rng, unit(tyres + 0.4 * motor), 0.05, 0.05)


def brakes(rng: np.random.Generator, rate: int) -> Signal:
    seconds, pitch = _between(rng, 0.8, 2.5), _between(rng, 2000, 3600)
    track = glide(rng, seconds, rate, [pitch, pitch * 1.04, pitch * 0.97, pitch * 0.9], (rng.uniform(15, 40), 0.006))
    return fade(
        tone(track, rate, [1, 0.4, 0.1]) * wander(rng, seconds, rate, 8, 0.4).astype(np.float32), rate, 0.1, 0.2
    )


def cash_register(rng: np.random.Generator, rate: int) -> Signal:
    beep = fade(tone(glide(rng, 0.12, rate, [_between(rng, 2200, 3000)]), rate), rate, 0.004, 0.004)
    return train_of(rng, [beep], rng.integers(1, 4) * 0.7, rate, 1 / 0.7, 0.2, 0.5)


def announcement(rng: np.random.Generator, rate: int) -> Signal:
    root = _between(rng, 500, 700)
    chime = [fade(tone(glide(rng, 0.4, rate, [root * step]), rate, [1, 0.2]), rate, 0.01, 0.3) for step in (1.26, 1.0)]
    words = voice(rng, _between(rng, 2, 5), rate, _between(rng, 170, 230), 1.1, 4.2, 0.12)
    return reverberate(rng, filtered(chain([*chime, words], overlap=0), rate, band(400, 3000)), rate, 1.2, 0.4)


def shopping_cart(rng: np.random.Generator, rate: int) -> Signal:
    root = _between(rng, 700, 1300)
    rattles = [hit(rng, rate, [root * rng.uniform(0.9, 3.2) for _ in range(4)], 0.06, 0.5) for _ in range(4)]
    seconds = _between(rng, 2, 6)
    wheels = filtered(noise(rng, seconds, rate, band(200, 600)), rate, tilt(-3))
    rattle = train_of(rng, rattles, seconds, rate, rng.uniform(14, 24), 0.8, 5)
    return _swell(rng, unit(rattle + 0.4 * wheels[: len(rattle)]), 0.3, 0.3)


def metro(rng: np.random.Generator, rate: int, leaving: bool) -> Signal:
    """Motors whose whine rises with the speed of a train that leaves, and falls with one that comes in."""
    seconds, top = _between(rng, 5, 9), _between(rng, 500, 900)
    points = [top * share for share in (0.2, 0.45, 0.7, 0.9, 1.0)]
    loudness = [0.5, 0.9, 1.0, 0.7, 0.2]
    if not leaving:
        points, loudness = points[::-1], loudness[::-1]
    whine = tone(glide(rng, seconds, rate, points, wobble=0.01), rate, [1, 0.5, 0.4, 0.1, 0.2])
    rumble = noise(rng, seconds, rate, band(60, 260, 18))
    clatter = train_of(rng, [hit(rng, rate, [180, 420, 900], 0.1, 0.6)], seconds, rate, rng.uniform(3, 6), 0.3, 2)
    mixed = unit(rumble + 0.7 * whine + 0.3 * clatter) * contour(len(whine), loudness)
    return reverberate(rng, unit(mixed), rate, 1.0, 0.25)


def door(rng: np.random.Generator, rate: int) -> Signal:
    pitch = _between(rng, 250, 600)
    creak_track = glide(rng, rng.uniform(0.2, 0.5), rate, [pitch, pitch * 1.4, pitch * 1.1], wobble=0.15)
    creak = fade(tone(creak_track, rate, falling_harmonics(8, -4)), rate, 0.05, 0.05)
    slam = filtered(hit(rng, rate, [70, 130, 210, 390], 0.4, 0.6), rate, tilt(-6, 300))
    return chain([0.4 * creak, 2.0 * slam], overlap=0)


def wind(rng: np.random.Generator, rate: int) -> Signal:
    seconds, centre = _between(rng, 4, 9), _between(rng, 150, 350)
    gusts = noise(rng, seconds, rate, ((60, -6), (centre, 0), (3 * centre, -14), (8000, -45)))
    whistle = noise(rng, seconds, rate, band(2 * centre, 2.2 * centre, 60))
    force = wander(rng, seconds, rate, 0.8, 0.6)
    return fade(unit((gusts + 0.3 * whistle * force) * force**1.5), rate, 0.4, 0.4)


def birds(rng: np.random.Generator, rate: int) -> Signal:
    def note() -> Signal:
        hz, length = _between(rng, 2800, 6000), rng.uniform(0.06, 0.25)
        track = glide(rng, length, rate, [hz * rng.uniform(0.8, 1.2) for _ in range(3)], (rng.uniform(20, 40), 0.05))
        return fade(tone(np.minimum(track, 7200), rate, [1, 0.1]), rate, 0.02, 0.04)

    phrase = [note() for _ in range(rng.integers(2, 5))]
    return train_of(rng, phrase, _between(rng, 1.2, 4.5), rate, rng.uniform(4, 8), 0.4, 3)


SOURCES: dict[str, Source] = {
    "Alarm_bell_ringing": alarm,
    "Blender": blender,
    "Cat": cat,
    "Dishes": dishes,
    "Dog": dog,
    "Electric_shaver_toothbrush": shaver,
    "Frying": frying,
    "Running_water": running_water,
    "Speech": speech,
    "Vacuum_cleaner": vacuum,
    "cutlery and dishes": dishes,
    "furniture dragging": furniture,
    "people talking": people_talking,
    "children voices": children,
    "coffee machine": coffee_machine,
    "footsteps": footsteps,
    "large_vehicle": large_vehicle,
    "car": car,
    "brakes_squeaking": brakes,
    "cash register beeping": cash_register,
    "announcement": announcement,
    "shopping cart": shopping_cart,
    "metro leaving": lambda rng, rate: metro(rng, rate, leaving=True),
    "metro approaching": lambda rng, rate: metro(rng, rate, leaving=False),
    "door opens/closes": door,
    "wind_blowing": wind,
    "birds_singing": birds,
}

# How often a class occurs among DESED's events, relative to the others (as in the real annotations: mostly speech).
DESED_WEIGHTS = {
    "Alarm_bell_ringing": 2.0,
    "Blender": 1.0,
    "Cat": 2.0,
    "Dishes": 3.0,
    "Dog": 3.0,
    "Electric_shaver_toothbrush": 1.0,
    "Frying": 1.0,
    "Running_water": 1.5,
    "Speech": 5.0,
    "Vacuum_cleaner": 1.0,
}

# The scenes in the order of the challenge's recording split: kinds of background, and the classes that occur there.
SCENES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "cafe_restaurant": (
        ("pink", "hum"),
        (
            "people talking",
            "cutlery and dishes",
            "coffee machine",
            "furniture dragging",
            "children voices",
            "footsteps",
            "cutlery and dishes",
        ),
    ),
    "city_center": (
        ("rumble", "brown"),
        ("car", "large_vehicle", "footsteps", "people talking", "brakes_squeaking", "children voices", "car"),
    ),
    "grocery_store": (
        ("hum", "room"),
        (
            "people talking",
            "cash register beeping",
            "shopping cart",
            "footsteps",
            "announcement",
            "children voices",
            "door opens/closes",
        ),
    ),
    "metro_station": (
        ("rumble", "room"),
        (
            "metro approaching",
            "metro leaving",
            "footsteps",
            "people talking",
            "announcement",
            "door opens/closes",
            "brakes_squeaking",
        ),
    ),
    "residential_area": (
        ("brown", "pink"),
        ("birds_singing", "wind_blowing", "car", "birds_singing", "wind_blowing", "footsteps", "children voices"),
    ),
}

# Classes that an annotator takes for one another: they get a low confidence beside the real one.
CONFUSABLE = {
    "car": "large_vehicle",
    "large_vehicle": "car",
    "people talking": "children voices",
    "children voices": "people talking",
    "metro approaching": "metro leaving",
    "metro leaving": "metro approaching",
    "announcement": "people talking",
    "cutlery and dishes": "furniture dragging",
    "wind_blowing": "large_vehicle",
    "shopping cart": "cutlery and dishes",
}


def scene_background(rng: np.random.Generator, scene: str, seconds: float, rate: int) -> Signal:
    """An ambience of a MAESTRO scene, `(samples,)`; the station has an echo."""
    kinds, _ = SCENES[scene]
    sound = background(rng, seconds, rate, kinds[rng.integers(len(kinds))])
    if scene == "metro_station":
        sound = reverberate(rng, sound, rate, 0.8, 0.3)
    return sound
