"""Search without a trained model: what YAMNet hears, in the words of its tags, as vectors among sentences."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from common.audio.recordings import Recording
from common.run.errors import UserError
from common.search import Encoder

if TYPE_CHECKING:
    from common.encoders.base import Encoder as AudioEncoder
    from common.encoders.text import SentenceEncoder

AUDIO, TEXT = "yamnet", "all-MiniLM-L6-v2"


class Tags(Encoder):
    """An `Encoder` of common.search: names of tags, weighted by their probabilities in ten seconds, as a sentence."""

    key, title, has_text = f"{AUDIO}-tags", f"YAMNet's tags, compared with sentences by {TEXT}", True
    quality, window, command = "Nothing was trained.", 10.0, "python -m task6_retrieval index"

    @cached_property
    def audio(self) -> "AudioEncoder":
        """Loaded when the first recording is heard: sentences alone do without."""
        from common.encoders import create
        from common.run.processes import working_device

        return create(AUDIO).to(working_device())

    @cached_property
    def text(self) -> "SentenceEncoder":
        """Loaded when the first sentence is read or the first recording heard."""
        from common.encoders.text import create

        return create(TEXT)

    @cached_property
    def names(self) -> NDArray[np.float32]:
        """The tags as vectors (tags, dim)."""
        return self.text.encode(list(self.audio.class_names()))

    @cached_property
    def dim(self) -> int:
        """Of the vectors."""
        return self.text.dim

    def sounds(self, paths: Sequence[Path]) -> Iterator[NDArray[np.float32] | UserError]:
        """(windows, dim) for each file, or what is wrong with it."""
        for path in paths:
            try:
                yield np.concatenate(list(self._windows(path)))
            except UserError as error:
                yield error

    def _windows(self, path: Path) -> Iterator[Any]:
        from common.audio.recordings import rechunked
        from common.run.numbers import unit_rows

        rate = self.audio.sample_rate
        for piece in rechunked(Recording(path, rate), int(self.window * rate)):
            logits = self.audio.embed(piece, sample_rate=rate).logits
            assert logits is not None
            yield unit_rows(logits.sigmoid().cpu().numpy()[None] @ self.names)

    def texts(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """(sentences, dim)."""
        return self.text.encode(list(sentences))
