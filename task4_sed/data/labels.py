"""Events in seconds -> frame targets, and which classes a clip is labelled for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from task4_sed.data.annotations import Event
from task4_sed.data.classes import (
    CLASSES,
    DESED_CLASSES,
    DESED_TO_MAESTRO,
    FRAME_SECONDS,
    MAESTRO_CLASSES,
    MAESTRO_TO_DESED,
)
from task4_sed.data.layout import Kind


@dataclass(frozen=True)
class EventTable:
    """The events of many clips as flat arrays: those of clip i are [start[i], start[i + 1])."""

    start: np.ndarray  # (clips + 1,) int64
    onset: np.ndarray  # (events,) float64, seconds
    offset: np.ndarray
    label: np.ndarray  # (events,) int16, column of the class
    confidence: np.ndarray  # (events,) float32

    @staticmethod
    def build(clips: Iterable[Sequence[Event]], classes: Sequence[str]) -> "EventTable":
        """From lists of events; labels outside `classes` raise KeyError (the readers check them before)."""
        column = {name: i for i, name in enumerate(classes)}
        clips = list(clips)
        flat = [event for events in clips for event in events]
        return EventTable(
            np.cumsum([0, *(len(events) for events in clips)]),
            np.array([e.onset for e in flat], np.float64),
            np.array([e.offset for e in flat], np.float64),
            np.array([column[e.label] for e in flat], np.int16),
            np.array([e.confidence for e in flat], np.float32),
        )

    def targets(
        self, clips: np.ndarray, shift: np.ndarray, num_classes: int, frames: int, seconds: float = FRAME_SECONDS
    ) -> np.ndarray:
        """Frame targets (clips, classes, frames) float32; `shift` seconds were cut off the start of each clip.

        An event fills every frame that it touches; where rows of a class overlap the largest confidence counts.
        """
        counts = self.start[clips + 1] - self.start[clips]
        item = np.repeat(np.arange(len(clips)), counts)
        event = _ranges(self.start[clips], counts)
        # rounded: (0.256 - 0.064) s must end with frame 3, not a hair after it
        onset, offset = self.onset[event] - shift[item], self.offset[event] - shift[item]
        first = np.round(onset / seconds, 6).clip(0, frames).astype(np.int64)
        end = np.ceil(np.round(offset / seconds, 6)).clip(0, frames).astype(np.int64)
        lengths = np.maximum(end - first, 0)
        targets = np.zeros((len(clips), num_classes, frames), np.float32)
        row = np.repeat(np.arange(len(event)), lengths)
        np.maximum.at(
            targets, (item[row], self.label[event][row], _ranges(first, lengths)), self.confidence[event][row]
        )
        return targets

    def chosen(self, clips: np.ndarray) -> "EventTable":
        """The events of some clips, in the order of their positions `clips`."""
        counts = self.start[clips + 1] - self.start[clips]
        event = _ranges(self.start[clips], counts)
        start = np.concatenate(([0], np.cumsum(counts)))
        return EventTable(start, self.onset[event], self.offset[event], self.label[event], self.confidence[event])

    def active_frames(self, frames: int, seconds: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Clip, class and number of new frames of every event: in sum those that `targets` sets."""
        clip = np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))
        first = np.round(self.onset / seconds, 6).clip(0, frames).astype(np.int64)
        end = np.ceil(np.round(self.offset / seconds, 6)).clip(0, frames).astype(np.int64)
        order = np.lexsort((first, self.label, clip))
        clip, label, first, end = clip[order], self.label[order].astype(np.int64), first[order], end[order]
        group = np.cumsum(np.append(0, (np.diff(clip) != 0) | (np.diff(label) != 0)))[: len(clip)] * (frames + 1)
        covered = np.append(0, np.maximum.accumulate(group + end)[:-1])[: len(clip)]
        return clip, label, np.maximum(group + end - np.maximum(group + first, covered), 0)


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """arange(start, start + length) of every row, one after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths - starts, lengths)


def with_aliases(events: Sequence[Event], aliases: Mapping[str, str]) -> list[Event]:
    """The events, and each event of an aliased class once more under its alias."""
    return [*events, *(Event(e.onset, e.offset, aliases[e.label], e.confidence) for e in events if e.label in aliases)]


def aliases_for(kind: Kind, classes: Sequence[str], desed_to_maestro: bool, training: bool) -> Mapping[str, str]:
    """Which labels of a set also count for a class of the other data set; none outside training or other classes."""
    if tuple(classes) != CLASSES:
        return {}
    if kind == "soft":
        return MAESTRO_TO_DESED
    return DESED_TO_MAESTRO if desed_to_maestro and training else {}


def valid_classes(
    kind: Kind, classes: Sequence[str], desed_to_maestro: bool, training: bool, maestro_dog: bool = False
) -> np.ndarray:
    """Which classes a clip of a set is labelled for: (classes,) bool. All of them for a data set of its own classes.

    maestro_dog: MAESTRO's clips count as labelled for Dog, of which they have none (MAESTRO's synthetic set has).
    """
    if tuple(classes) != CLASSES:
        return np.ones(len(classes), bool)
    native = MAESTRO_CLASSES if kind == "soft" else DESED_CLASSES
    valid = {*native, *aliases_for(kind, classes, desed_to_maestro, training).values()}
    if maestro_dog and kind == "soft":
        valid.add("Dog")
    return np.array([name in valid for name in classes])


def frames_of(samples: int) -> int:
    """Frames of the network's output for a clip: 156 for 160,000 samples (hop 256, two poolings by 2)."""
    return (samples // 256 + 1) // 2 // 2
