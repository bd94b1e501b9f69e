"""Soundscapes of 10 s: active regions of recordings placed in a procedural background, with their strong labels.

A soundscape depends on its own generator only, so they can be made in any order and by any number of processes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.toy import Signal, background, fade, in_band_snr, limit_peak, mix_at_snr, rms
from task4_sed.data.annotations import Event
from task4_sed.data.classes import CLIP_SECONDS, SAMPLE_RATE
from task4_sed.data.recordings.segments import Span

FADE = 0.01

EVENTS_PER_CLIP = (0.2, 0.35, 0.25, 0.15, 0.05)  # probabilities of 1, 2, ... sources in a clip
MOST_AT_ONCE = 2  # events that sound at the same time; two textures never do: nobody could tell them apart
LEVEL_DBFS = (-55.0, -40.0)  # RMS of the backgrounds
CLIP_SNR_DB, EVENT_SNR_DB = (10.0, 26.0), 4.0  # a clip's SNR and how far its events lie from it: 6 to 30 dB
SAME_CLASS_GAP = 0.2


@dataclass(frozen=True)
class Material:
    """A recording at 16 kHz in `samples` (.npy) and where it is active, taken as events and as a texture."""

    name: str
    category: str
    samples: Path
    events: tuple[Span, ...]
    stretches: tuple[Span, ...]
    texture: bool

    @property
    def regions(self) -> tuple[Span, ...]:
        """Where it is active, taken as what it is."""
        return self.stretches if self.texture else self.events


@dataclass(frozen=True)
class Used:
    """An event of a soundscape, the recording that it comes from, and its SNR in its own band in dB."""

    event: Event
    recording: str
    snr_db: float


def compose(
    rng: np.random.Generator, materials: Mapping[str, Sequence[Material]], certain: str
) -> tuple[Signal, list[Used]]:
    """A soundscape `(160000,)` with an event of category `certain` and up to four other sources, by onset.

    Events of one class keep 0.2 s apart; a source that finds no place is left out, but never the first one.
    """
    ambience = background(rng, CLIP_SECONDS, SAMPLE_RATE) * np.float32(10 ** (rng.uniform(*LEVEL_DBFS) / 20))
    mixture, used, textures = ambience.copy(), list[Used](), list[Event]()
    clip_snr = rng.uniform(*CLIP_SNR_DB)
    others = rng.choice(len(EVENTS_PER_CLIP), p=EVENTS_PER_CLIP)
    categories = list(materials)
    for category in [certain, *(categories[i] for i in rng.integers(len(categories), size=others))]:
        choices = materials[category]
        material = choices[int(rng.integers(len(choices)))]
        samples: Signal = np.load(material.samples, mmap_mode="r")
        for _ in range(12):
            spots = _spots(rng, material)
            events = [_event(spot, category) for _, spot in spots]
            if _fits(events, [u.event for u in used], textures if material.texture else []):
                break
        else:
            continue
        for (region, (start, _)), event in zip(spots, events, strict=True):
            snr_db = clip_snr + rng.uniform(-EVENT_SNR_DB, EVENT_SNR_DB)
            _add(mixture, ambience, samples, region, start, snr_db)
            used.append(Used(event, material.name, round(snr_db, 1)))
        textures += events if material.texture else []
    return limit_peak(mixture), sorted(used, key=lambda u: (u.event.onset, u.event.label))


def _spots(rng: np.random.Generator, material: Material) -> list[tuple[Span, Span]]:
    """Neighbouring regions of a recording and where in the clip they shall lie (samples), at their own distances."""
    clip = round(CLIP_SECONDS * SAMPLE_RATE)
    chosen = int(rng.integers(len(material.regions)))
    regions = list(material.regions[chosen : chosen + int(rng.integers(1, 4))])
    if material.texture:
        first, last = regions[0]
        if last - first > 3 * SAMPLE_RATE and rng.random() < 0.5:  # a part of it
            length = int(rng.uniform(2 * SAMPLE_RATE, last - first))
            first += int(rng.integers(0, last - first - length + 1))
            last = first + length
        regions = [(first, last)]
    length = min(regions[0][1] - regions[0][0], clip)
    start = 0 if material.texture and rng.random() < 0.15 else int(rng.integers(0, clip - length + 1))
    spots = []
    for first, last in regions:
        onset = start + first - regions[0][0]
        offset = min(onset + last - first, clip)
        if offset - onset >= min(0.1 * SAMPLE_RATE, last - first):
            spots.append(((first, first + offset - onset), (onset, offset)))
    return spots


def _event(span: Span, category: str) -> Event:
    return Event(round(span[0] / SAMPLE_RATE, 3), round(span[1] / SAMPLE_RATE, 3), category)


def _fits(events: Sequence[Event], used: Sequence[Event], textures: Sequence[Event]) -> bool:
    """Whether new events keep their distance from those of their class, from textures, and are not too many at once."""
    for event in events:
        if any(_overlap(event, other, SAME_CLASS_GAP) for other in used if other.label == event.label):
            return False
        if any(_overlap(event, other) for other in textures):
            return False
        beside = [other for other in used if _overlap(event, other)]
        borders = [max(event.onset, other.onset) for other in beside]
        if any(sum(o.onset <= at < o.offset for o in beside) >= MOST_AT_ONCE for at in borders):
            return False
    return True


def _overlap(a: Event, b: Event, gap: float = 0.0) -> bool:
    return a.onset - gap < b.offset and b.onset < a.offset + gap


def _add(mixture: Signal, ambience: Signal, samples: Signal, region: Span, start: int, snr_db: float) -> None:
    """Add samples of a region, faded in and out around its borders, at an SNR in the band where the event lies."""
    margin = min(round(FADE * SAMPLE_RATE), region[0], start)
    stop = min(region[1] + round(FADE * SAMPLE_RATE), len(samples))
    sound = fade(np.asarray(samples[region[0] - margin : stop]), SAMPLE_RATE, FADE, FADE)
    covered = ambience[start : start + region[1] - region[0]]
    inside = sound[margin : margin + len(covered)]
    excess = in_band_snr(inside, covered, SAMPLE_RATE) - 20 * math.log10(rms(inside) / rms(covered))
    mix_at_snr(mixture, ambience, sound, start - margin, snr_db - excess)
