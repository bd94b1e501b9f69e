"""Search without a trained model: what YAMNet hears, in the words of its tags, as vectors among sentences."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.audio.recordings import Recording
from common.run.errors import UserError

AUDIO, TEXT = "yamnet", "all-MiniLM-L6-v2"


class Tags:
    """An `Encoder` of common.search: names of tags, weighted by their probabilities in ten seconds, as a sentence."""

    key, title, has_text = f"{AUDIO}-tags", f"YAMNet's tags, compared with sentences by {TEXT},", True
    window, command = 10.0, "python -m task6_retrieval index"

    def __init__(self) -> None:
        from common.encoders import create, text
        from common.run.processes import working_device

        self.audio, self.text = create(AUDIO).to(working_device()), text.create(TEXT)
        self.names = self.text.encode(list(self.audio.class_names()))
        self.dim = self.text.dim

    def sounds(self, paths: Sequence[Path]) -> Iterator[NDArray[np.float32] | UserError]:
        """(windows, dim) for each file, or what is wrong with it."""
        for path in paths:
            try:
                yield np.concatenate(list(self._windows(path)))
            except UserError as error:
                yield error

    def _windows(self, path: Path) -> Iterator[Any]:
        from common.audio.recordings import rechunked
        from common.encoders.recordings import unit

        rate = self.audio.sample_rate
        for piece in rechunked(Recording(path, rate), int(self.window * rate)):
            logits = self.audio.embed(piece, sample_rate=rate).logits
            assert logits is not None
            yield unit(logits.sigmoid().cpu().numpy()[None] @ self.names)

    def texts(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """(sentences, dim)."""
        return self.text.encode(list(sentences))
