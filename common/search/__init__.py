"""Search in folders of recordings: an index of what an encoder hears in them, made once, asked often."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from common.run.errors import UserError

Vectors = NDArray[np.float32]


class Encoder(Protocol):
    """Recordings, and where it can sentences, as vectors whose cosine says how well they go together.

    Inherit from it for `query`, unless recordings that ask pass through another network than those that answer.
    """

    key: str  # a folder's name; two encoders that give other vectors have different ones
    title: str  # for people: which system answers
    quality: str  # for people: how good it is and on what, in a sentence; "" where nothing was measured
    has_text: bool
    window: float  # seconds of a recording that one vector stands for
    command: str  # what makes its index, without the library: "python -m task6_retrieval index"

    @property
    def dim(self) -> int:
        """Of its vectors."""

    def sounds(self, paths: Sequence[Path]) -> Iterator[Vectors | UserError]:
        """For each file in turn (windows, dim), of its windows side by side from the beginning; or what is wrong."""

    def texts(self, sentences: Sequence[str]) -> Vectors:
        """(sentences, dim). Raises UserError where `has_text` is False, unless a system defines it."""
        raise UserError(f"{self.title} answers sounds, not sentences")

    def query(self, path: Path) -> Vectors:
        """A recording that asks (1, dim): the mean of its windows. Raises UserError where it cannot be read."""
        windows = next(iter(self.sounds([path])))
        if isinstance(windows, UserError):
            raise windows
        return windows.mean(axis=0, keepdims=True)


def sentence(text: str) -> str:
    """What a person typed, without blanks around it. Raises UserError where no letter or digit is in it."""
    if not any(character.isalnum() for character in text):
        raise UserError("Type what you want to hear, in words.")
    return text.strip()


@dataclass(frozen=True)
class Hit:
    """A recording that was found: its path below the library, the cosine, and where its best window begins."""

    name: str
    score: float
    start: float  # seconds
