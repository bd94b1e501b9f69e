"""What the metrics are computed from: events, and scores that are piecewise constant in time."""

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

# Times are compared after rounding to microseconds, everywhere in the metrics.
TIME_DECIMALS = 6

# Data sets are handed on in other formats than their tables name.
_AUDIO = "wav|flac|ogg|oga|opus|mp3|mp4|m4a|aac|wma|aif|aiff|aifc|au|snd|caf|w64|rf64"
_SUFFIXES = re.compile(rf"(\.({_AUDIO}))?(\.tsv)?$", re.IGNORECASE)


class Event(Protocol):
    """A dataclass with onset and offset (seconds), label and confidence (0 to 1), such as `data.annotations.Event`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def onset(self) -> float: ...
    @property
    def offset(self) -> float: ...
    @property
    def label(self) -> str: ...
    @property
    def confidence(self) -> float: ...


@dataclass(frozen=True)
class ClipScores:
    """Scores of one clip.

    edges: (frames + 1,) float64, seconds, strictly increasing; row i of the scores holds on [edges[i], edges[i + 1]).
    scores: (frames, classes) float64.
    """

    edges: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class ScoreSet:
    """Scores of many clips: {clip name without ".wav": ClipScores}, columns in the order of `classes`."""

    classes: tuple[str, ...]
    clips: dict[str, ClipScores]


def clip_name(name: str) -> str:
    """The name that matches scores, truth and durations: without folder, ".tsv" and the suffix of an audio file."""
    return _SUFFIXES.sub("", name.strip().replace("\\", "/").rsplit("/", 1)[-1])
