"""Toy clips: events of the classes in a background, with the labels of both data sets.

A clip depends on its own seed and on the bank's only, so clips can be made in any order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from common.toy import Signal, active_span, background, fade, filtered, key, limit_peak, mix_at_snr, repitch, tilt
from task4_sed.data.annotations import Event
from task4_sed.data.classes import CLASSES, SAMPLE_RATE
from task4_sed.data.toy.sounds import CONFUSABLE, DESED_WEIGHTS, SOURCES, Source, scene_background

GAP_SECONDS = 0.2  # least distance between two events of one class: closer ones would be one event
LABEL_DB = 20.0  # an event lasts as long as its level is within this of its loudest 10 ms
MIN_EVENT_SECONDS = 0.25
# SNR of a clip, and how far its events lie from it: 8 to 30 dB, and none is 10 dB below another one that covers it.
SNR_DB, SNR_SPREAD_DB = (12.0, 26.0), 4.0
LEVEL_DBFS = (-52.0, -38.0)  # RMS of the backgrounds


@dataclass
class Bank:
    """Variants of every class's sound, made when first asked for; each part (train, test, ...) has its own ones."""

    seed: int
    part: str
    variants: int
    sources: Mapping[str, Source] = field(default_factory=lambda: SOURCES)
    _sounds: dict[tuple[str, int], Signal] = field(default_factory=dict)

    def draw(self, rng: np.random.Generator, label: str) -> Signal:
        """A random variant `(samples,)` in another pitch and colour, cut to its audible span; RMS of 1."""
        variant = int(rng.integers(self.variants))
        if (label, variant) not in self._sounds:
            source = np.random.default_rng(key(self.seed, "bank", self.part, label, variant))
            self._sounds[label, variant] = self.sources[label](source, SAMPLE_RATE)
        sound = repitch(self._sounds[label, variant], rng.uniform(0.93, 1.07))
        if rng.random() < 0.5:
            sound = filtered(sound, SAMPLE_RATE, tilt(rng.uniform(-2, 2), 200))
        first, last = active_span(sound, SAMPLE_RATE, LABEL_DB)
        return fade(sound[first:last], SAMPLE_RATE, 0.005, 0.01)


@dataclass(frozen=True)
class Placed:
    """An event of a clip and its SNR in dB over the background."""

    event: Event
    snr_db: float


def compose(
    rng: np.random.Generator, bank: Bank, ambience: Signal, labels: Sequence[str]
) -> tuple[Signal, list[Placed]]:
    """Place one event of each label in an ambience `(samples,)`; returns the mixture and the events by onset.

    Events may overlap and may be cut by the clip's borders; those of one class keep their distance, and one that
    finds no place is left out.
    """
    ambience = ambience * np.float32(10 ** (rng.uniform(*LEVEL_DBFS) / 20))
    mixture, placed = ambience.copy(), list[Placed]()
    clip_snr_db = rng.uniform(*SNR_DB)
    for label in labels:
        sound, snr_db = bank.draw(rng, label), clip_snr_db + rng.uniform(-SNR_SPREAD_DB, SNR_SPREAD_DB)
        for _ in range(12):
            start = int(rng.integers(-len(sound) // 6, max(len(mixture) - 5 * len(sound) // 6, 1)))
            onset, offset = max(start, 0) / SAMPLE_RATE, min(start + len(sound), len(mixture)) / SAMPLE_RATE
            near = [p.event for p in placed if p.event.label == label]
            if offset - onset >= MIN_EVENT_SECONDS and all(
                offset + GAP_SECONDS < e.onset or onset > e.offset + GAP_SECONDS for e in near
            ):
                mix_at_snr(mixture, ambience, sound, start, snr_db)
                placed.append(Placed(Event(round(onset, 3), round(offset, 3), label), snr_db))
                break
    return limit_peak(mixture), sorted(placed, key=lambda p: (p.event.onset, p.event.label))


def deck(rng: np.random.Generator, labels: Sequence[str], length: int) -> list[str]:
    """`length` labels, shuffled in rounds: every label occurs before one occurs again."""
    cards: list[str] = []
    while len(cards) < length:
        cards.extend(labels[i] for i in rng.permutation(len(labels)))
    return cards[:length]


def desed_clip(
    rng: np.random.Generator, bank: Bank, certain: Sequence[str], seconds: float
) -> tuple[Signal, list[Event]]:
    """A clip with an event of each of the `certain` classes and one to three more; none where `certain` is empty."""
    labels, weights = list(DESED_WEIGHTS), np.array(list(DESED_WEIGHTS.values()))
    more: list[str] = []
    if certain:
        more = [str(label) for label in rng.choice(labels, size=rng.integers(1, 4), p=weights / weights.sum())]
    sound, placed = compose(rng, bank, background(rng, seconds, SAMPLE_RATE), [*certain, *more])
    return sound, [p.event for p in placed]


def maestro_recording(
    rng: np.random.Generator, bank: Bank, scene: str, labels: Sequence[str], seconds: float
) -> tuple[Signal, list[Event]]:
    """A recording of a scene with one event per label, and its soft labels: rows of one second with a confidence."""
    sound, placed = compose(rng, bank, scene_background(rng, scene, seconds, SAMPLE_RATE), labels)
    rows = np.zeros((int(np.ceil(seconds)), len(CLASSES)))
    for item in placed:
        # Five annotators: the louder the event, the more of them hear it.
        agreement = np.clip(0.62 + 0.014 * item.snr_db + rng.normal(0, 0.04), 0.55, 1.0)
        first, last = int(item.event.onset), min(int(np.ceil(item.event.offset)), len(rows))
        confused = CLASSES.index(CONFUSABLE[item.event.label]) if item.event.label in CONFUSABLE else None
        doubt = rng.uniform(0.1, 0.4) if confused is not None and rng.random() < 0.3 else 0.0
        for second in range(first, last):
            share = min(item.event.offset, second + 1) - max(item.event.onset, second)
            column = CLASSES.index(item.event.label)
            rows[second, column] = max(rows[second, column], agreement * min(1.0, 0.3 + share))
            if confused is not None:
                rows[second, confused] = max(rows[second, confused], doubt * share)
    return sound, _soft_events(rows, seconds)


def _soft_events(rows: np.ndarray, seconds: float) -> list[Event]:
    return [
        Event(
            float(second), min(second + 1.0, round(seconds, 3)), CLASSES[column], round(float(rows[second, column]), 2)
        )
        for second, column in zip(*np.nonzero(rows.round(2)), strict=True)
    ]
