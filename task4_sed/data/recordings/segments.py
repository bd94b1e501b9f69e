"""Where an isolated recording is active, found from its level alone."""

from collections.abc import Sequence

import numpy as np

from common.toy import Signal

Span = tuple[int, int]  # first and past-the-last sample (or frame)

FRAME = 0.01  # seconds of one level value
SILENCE_DB = -60.0  # below the loudest frame: digital silence and what is left of it after lossy coding
EVENT_DB = 25.0  # an event's borders are where its level falls this far below the recording's peak ...
EVENT_SHARE = 0.35  # ... or to this share of the way from its noise floor to the peak, where the floor is high,
EVENT_MIN_DB = 10.0  # but at least so far: an even sound has its floor at its peak
TEXTURE_DB = 30.0  # the same for a recording without events that stand out of it,
TEXTURE_SECONDS = 2.0  # which lasts at least so long
SHARP_RISE_DB = 10.0  # of 50-ms levels within 100 ms: an onset, not the swell of a wave
MERGE_GAP = 0.25  # parts of an event: shorter pauses do not end it
# Where half of at least TICKS parts are shorter than TICK, they are one event as long as pauses stay below TICK_GAP: a
# clock, a fire.
TICKS, TICK, TICK_GAP = 4, 0.15, 1.1


def is_texture(signal: Signal, rate: int) -> bool:
    """Whether a recording `(samples,)` sounds for long without sharp rises of its level: rain, sea, a helicopter."""
    power = _power(signal, rate)
    audible = _audible(power)
    stretches = _merged(_runs(audible), MERGE_GAP / FRAME)
    if max((last - first for first, last in stretches), default=0) < TEXTURE_SECONDS / FRAME:
        return False
    level, apart = _smooth_db(power, 5), round(0.1 / FRAME)
    # Out of digital silence everything rises sharply: only rises between audible frames tell.
    both = audible[apart:] & audible[:-apart]
    return not np.any((level[apart:] - level[:-apart])[both] >= SHARP_RISE_DB)


def active_regions(signal: Signal, rate: int, texture: bool) -> list[Span]:
    """Where a recording `(samples,)` is active: (first, past-the-last) samples; empty for a silent one.

    A texture gives its audible stretches as a whole, anything else its events. Impulses in a series (ticks, crackles)
    count as one event.
    """
    size, power = max(1, round(FRAME * rate)), _power(signal, rate)
    if power.max(initial=0.0) <= 1e-12:
        return []
    level = _smooth_db(power, 3)
    peak, floor = float(level.max()), float(np.percentile(level[_audible(power)], 10))
    over_floor = min(floor + EVENT_SHARE * (peak - floor), peak - EVENT_MIN_DB)
    threshold = peak - TEXTURE_DB if texture else max(peak - EVENT_DB, over_floor)
    spans = _merged(_runs(level > threshold), MERGE_GAP / FRAME)
    lengths = [last - first for first, last in spans]
    if len(spans) >= TICKS and np.median(lengths) < TICK / FRAME:
        spans = _merged(spans, TICK_GAP / FRAME)
    shortest = (1.0 if texture else 0.1) / FRAME
    longest = max(spans, key=lambda span: span[1] - span[0])
    spans = [span for span in spans if span[1] - span[0] >= shortest] or [longest]
    return [(first * size, min(last * size, len(signal))) for first, last in spans]


def _power(signal: Signal, rate: int) -> np.ndarray:
    """Power of each frame without its mean (an offset is no sound), `(frames,)`."""
    size = max(1, round(FRAME * rate))
    frames = np.pad(signal, (0, -len(signal) % size)).reshape(-1, size).astype(np.float64)
    power: np.ndarray = np.var(frames, axis=1)
    return power


def _audible(power: np.ndarray) -> np.ndarray:
    level = _smooth_db(power, 3)
    audible: np.ndarray = level > level.max() + SILENCE_DB
    return audible


def _smooth_db(power: np.ndarray, frames: int) -> np.ndarray:
    smooth = np.convolve(power, np.ones(frames) / frames, mode="same")
    decibels: np.ndarray = 10 * np.log10(np.maximum(smooth, 1e-12))
    return decibels


def _runs(active: np.ndarray) -> list[Span]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(int), [0]])))
    return [(int(first), int(last)) for first, last in zip(edges[::2], edges[1::2], strict=True)]


def _merged(spans: Sequence[Span], gap: float) -> list[Span]:
    merged: list[Span] = []
    for first, last in spans:
        if merged and first - merged[-1][1] < gap:
            merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return merged
