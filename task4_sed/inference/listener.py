"""A network, loaded once, that hears recordings: `task4_sed.load`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.audio.recordings import Recording
from task4_sed.data.classes import SAMPLE_RATE
from task4_sed.inference.detect import Heard, finder_of, found_in
from task4_sed.inference.detectors import AS_USUAL, Loading, load_detector
from task4_sed.inference.formats import listed
from task4_sed.inference.labels import labels_of
from task4_sed.inference.options import Options
from task4_sed.inference.scores import as_objects
from task4_sed.inference.spool import Spool
from task4_sed.inference.stitch import grid_of, stitched
from task4_sed.metrics.types import ClipScores, ScoreSet

if TYPE_CHECKING:
    import pandas as pd

Source = str | Path | np.ndarray


class Listener:
    """Events and scores of recordings of any length, rate and number of channels.

    model: as of `detect --model`; several are an ensemble. options: those of `detect` that make events of scores.
    Raises UserError for unknown models, and values that make no sense.
    """

    def __init__(
        self,
        model: str | Path | Sequence[str | Path],
        options: Options,
        device: str | None = None,
        how: Loading = AS_USUAL,
    ) -> None:
        self.options = options
        self.detector = load_detector([model] if isinstance(model, str | Path) else model, device, how=how)
        self.labels = labels_of(self.detector.classes, self.detector.mids, options.labels, options.groups)
        self.finder = finder_of(self.detector, self.labels, options)

    def detect(self, recording: Source, sample_rate: int | None = None) -> list[dict[str, Any]]:
        """Events: {"onset", "offset", "event_label", "confidence", ...}, times in seconds.

        recording: a file, or an array (samples,) with its `sample_rate` in Hz. Raises UserError for what is no audio.
        """
        heard, spool = self._hear(recording, sample_rate)
        return listed(found_in(spool, heard, self.labels, self.finder, self.options.top))

    def scores(self, recording: Source, sample_rate: int | None = None) -> "pd.DataFrame":
        """Scores, 0 to 1, of every frame: columns onset and offset in seconds, and one per class."""
        heard, spool = self._hear(recording, sample_rate)
        edges = heard.edges(spool, self.detector.frame_seconds)
        found = spool.columns(range(len(self.labels.names)))[: len(edges) - 1]
        return as_objects(ScoreSet(self.labels.names, {"recording": ClipScores(edges, found)}))["recording"]

    def _hear(self, recording: Source, sample_rate: int | None) -> tuple[Heard, Spool]:
        part, spool = Recording(recording, SAMPLE_RATE, sample_rate), Spool(len(self.labels.names))
        heard = Heard(part, self.options.start, self.options.end)
        grid = grid_of(self.detector, self.options.hop, self.options.parity)
        for piece in stitched(self.detector, [(0, heard)], grid):
            spool.add(self.labels(piece.logits))
        return heard, spool
