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
    """Recordings, and where it can sentences, as vectors whose cosine says how well they go together."""

    key: str  # a folder's name; two encoders that give other vectors have different ones
    title: str  # for people: which system answers
    dim: int
    has_text: bool
    window: float  # seconds of a recording that one vector stands for
    command: str  # what makes its index, without the library: "python -m task6_retrieval index"

    def sounds(self, paths: Sequence[Path]) -> Iterator[Vectors | UserError]:
        """For each file in turn (windows, dim), of its windows side by side from the beginning; or what is wrong."""

    def texts(self, sentences: Sequence[str]) -> Vectors:
        """(sentences, dim)."""


@dataclass(frozen=True)
class Hit:
    """A recording that was found: its path below the library, the cosine, and where its best window begins."""

    name: str
    score: float
    start: float  # seconds
