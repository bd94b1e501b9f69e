"""What is heard in the embedded data set, and how it is said: events, backgrounds, captions of their combinations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from numpy.random import Generator

from common.toy import (
    Signal,
    background,
    band,
    crackle,
    engine,
    fade,
    falling_harmonics,
    glide,
    hit,
    modulate,
    noise,
    tone,
    train_of,
    unit,
    vocal,
    voice,
)

Source = Callable[[Generator, int], Signal]


@dataclass(frozen=True)
class Event:
    """A short sound: its keyword, who makes it ("a dog"), what it does ("barks"), and the same while it lasts."""

    keyword: str
    subject: str
    verb: str
    gerund: str
    make: Source


def _dog(rng: Generator, rate: int) -> Signal:
    pitch = rng.uniform(300, 550)
    track = glide(rng, 0.22, rate, [pitch * 0.8, pitch * 1.2, pitch * 0.6], wobble=0.05)
    rasp = noise(rng, 0.22, rate, band(700, 1900, 18))[: len(track)]
    return fade(vocal(track, rate, [900, 1700, 3000], -3) + 1.2 * rasp, rate, 0.02, 0.1)


def _cat(rng: Generator, rate: int) -> Signal:
    pitch = rng.uniform(480, 720)
    track = glide(rng, 0.5, rate, [pitch * 0.85, pitch * 1.25, pitch * 0.7], (6, 0.015))
    return fade(vocal(track, rate, [900, 1700, 3100], -4), rate, 0.08, 0.15)


def _bell(rng: Generator, rate: int) -> Signal:
    root = rng.uniform(600, 1100)
    return hit(rng, rate, [root * ratio for ratio in (1, 1.51, 2.05, 2.74, 3.9)], 0.7, 0.05)


def _horn(rng: Generator, rate: int) -> Signal:
    pitch = rng.uniform(300, 420)
    chord = [tone(glide(rng, 0.45, rate, [pitch * ratio] * 2), rate, falling_harmonics(12, -4)) for ratio in (1, 1.25)]
    return fade(unit(chord[0] + chord[1]), rate, 0.03, 0.05)


def _whistle(rng: Generator, rate: int) -> Signal:
    pitch = rng.uniform(1300, 2000)
    return fade(tone(glide(rng, 0.45, rate, [pitch, 1.3 * pitch, pitch], (7, 0.02)), rate), rate, 0.05, 0.08)


def _bird(rng: Generator, rate: int) -> Signal:
    pitch = rng.uniform(2200, 3000)
    chirp = fade(tone(glide(rng, 0.08, rate, [pitch, 1.25 * pitch, 0.9 * pitch]), rate), rate, 0.01, 0.02)
    return train_of(rng, [chirp], 0.4, rate, 8, 0.1, 2)


def _man(rng: Generator, rate: int) -> Signal:
    return fade(voice(rng, 0.6, rate, rng.uniform(90, 140)), rate, 0.02, 0.05)


def _woman(rng: Generator, rate: int) -> Signal:
    return fade(voice(rng, 0.6, rate, rng.uniform(190, 260), 1.15), rate, 0.02, 0.05)


def _knock(rng: Generator, rate: int) -> Signal:
    return train_of(rng, [hit(rng, rate, [rng.uniform(150, 300), 480], 0.08, 0.8)], 0.4, rate, 6, 0.0, 1)


def _glass(rng: Generator, rate: int) -> Signal:
    root = rng.uniform(2200, 3200)
    return hit(rng, rate, [root * ratio for ratio in (1, 1.47, 1.93, 2.6)], 0.3, 0.4)


def _engine(rng: Generator, rate: int) -> Signal:
    pitch = rng.uniform(50, 90)
    return fade(engine(rng, glide(rng, 0.6, rate, [pitch, 1.8 * pitch, 1.1 * pitch]), rate), rate, 0.1, 0.15)


def _alarm(rng: Generator, rate: int) -> Signal:
    beep = fade(tone(glide(rng, 0.07, rate, [rng.uniform(1800, 2600)]), rate, [1, 0, 0.3]), rate, 0.005, 0.005)
    return train_of(rng, [beep], 0.45, rate, 7, 0.0, 0.0)


def _siren(rng: Generator, rate: int) -> Signal:
    low = rng.uniform(500, 700)
    return fade(tone(glide(rng, 0.6, rate, [low, 2 * low, low]), rate, falling_harmonics(6, -9)), rate, 0.05, 0.05)


def _saw(rng: Generator, rate: int) -> Signal:
    rasp = noise(rng, 0.5, rate, band(1500, 3500, 18))
    return fade(modulate(rng, rasp, rate, rng.uniform(25, 40), 0.9), rate, 0.08, 0.08)


def _drum(rng: Generator, rate: int) -> Signal:
    return hit(rng, rate, [rng.uniform(70, 110), 170], 0.35, 0.1)


def _duck(rng: Generator, rate: int) -> Signal:
    pitch = rng.uniform(200, 270)
    return fade(vocal(glide(rng, 0.25, rate, [pitch, 0.85 * pitch]), rate, [1100, 1500, 2900], -1), rate, 0.01, 0.06)


EVENTS = (
    Event("dog", "a dog", "barks", "barking", _dog),
    Event("cat", "a cat", "meows", "meowing", _cat),
    Event("bell", "a bell", "rings", "ringing", _bell),
    Event("horn", "a car horn", "honks", "honking", _horn),
    Event("whistle", "a whistle", "blows", "blowing", _whistle),
    Event("bird", "a bird", "chirps", "chirping", _bird),
    Event("man", "a man", "speaks", "speaking", _man),
    Event("woman", "a woman", "talks", "talking", _woman),
    Event("door", "a door", "is knocked on", "being knocked on", _knock),
    Event("glass", "a glass", "clinks", "clinking", _glass),
    Event("engine", "an engine", "revs", "revving", _engine),
    Event("alarm", "an alarm", "beeps", "beeping", _alarm),
    Event("siren", "a siren", "wails", "wailing", _siren),
    Event("saw", "a saw", "cuts wood", "cutting wood", _saw),
    Event("drum", "a drum", "is struck", "being struck", _drum),
    Event("duck", "a duck", "quacks", "quacking", _duck),
)


def _rain(rng: Generator, seconds: float, rate: int) -> Signal:
    drops = crackle(rng, seconds, rate, 150, [rng.uniform(1500, 3500) for _ in range(3)], 0.005)
    return unit(drops + noise(rng, seconds, rate, ((500, -20), (3000, 0))))


# keyword: how captions say it
AMBIENCES = {
    "rain": ("steady rain", "falling rain"),
    "rumble": ("a deep rumble", "a low rumbling sound"),
    "hum": ("an electric hum", "the hum of a machine"),
    "wind": ("soft wind", "a gentle wind"),
}
COUNTS = (("once", "a single time"), ("twice", "two times"), ("three times", "thrice"))


def ambience(rng: Generator, seconds: float, rate: int, keyword: str) -> Signal:
    """A background (samples,) of one of the AMBIENCES, RMS of 1."""
    if keyword == "rain":
        return _rain(rng, seconds, rate)
    return background(rng, seconds, rate, "brown" if keyword == "wind" else keyword)


@dataclass(frozen=True)
class Scene:
    """What is heard: events in their order, each with how often, over a background."""

    events: tuple[tuple[Event, int], ...]
    ambience: str

    @property
    def keywords(self) -> str:
        """As in Clotho's metadata."""
        return ";".join([*(event.keyword for event, _ in self.events), self.ambience])

    def captions(self, rng: Generator) -> tuple[str, ...]:
        """Five paraphrases; each says every event, how often, their order and the background."""
        templates = TEMPLATES[len(self.events)]
        order = rng.permutation(len(templates))[:5]
        return tuple(self._said(rng, templates[i]) for i in order)

    def _said(self, rng: Generator, template: str) -> str:
        words = {"ground": rng.choice(AMBIENCES[self.ambience])}
        for place, (event, count) in zip("xy", self.events, strict=False):
            often = str(rng.choice(COUNTS[count - 1]))
            words |= {f"{place}does": f"{event.subject} {event.verb} {often}"}
            words |= {f"{place}doing": f"{event.subject} {event.gerund} {often}"}
        text = template.format(**words)
        return text[0].upper() + text[1:]


TEMPLATES: dict[int, Sequence[str]] = {
    1: (
        "{xdoes} while {ground} goes on in the background.",
        "With {ground} in the background, {xdoes}.",
        "There is {ground} all the time and {xdoes}.",
        "{ground} can be heard, and over it {xdoes}.",
        "The sound of {xdoing} over {ground}.",
        "Over {ground} in the distance {xdoes} close by.",
    ),
    2: (
        "{xdoes}, then {ydoes} over {ground}.",
        "With {ground} in the background, {xdoes} and after that {ydoes}.",
        "First {xdoes} and afterwards {ydoes} while {ground} goes on.",
        "{ydoes} after {xdoes}, with {ground} all the time.",
        "Over {ground}, {xdoes} before {ydoes}.",
        "{ground} is heard with {xdoing}, followed by {ydoing}.",
    ),
}


def draw_scene(rng: Generator) -> Scene:
    """One or two different events, each one to three times, over any background."""
    chosen = rng.choice(len(EVENTS), size=int(rng.integers(1, 3)), replace=False)
    events = tuple((EVENTS[i], int(rng.integers(1, len(COUNTS) + 1))) for i in chosen)
    return Scene(events, list(AMBIENCES)[rng.integers(len(AMBIENCES))])
