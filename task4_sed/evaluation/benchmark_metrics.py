"""Times of metrics and post-processing on random scores of DESED's size.

Nothing is read from disk but the folder of scores that it writes into a temporary place first.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from task4_sed.data.annotations import Event
from task4_sed.data.classes import DESED_CLASSES, FRAME_SECONDS, FRAMES_PER_CLIP, MEDIAN_FILTER_FRAMES
from task4_sed.evaluation.evaluate import resample
from task4_sed.inference.postprocess.csebbs import CsebbsParameters, csebbs
from task4_sed.inference.postprocess.tuning import grid, tune_csebbs
from task4_sed.inference.scores import read_scores, write_scores_folder
from task4_sed.metrics.detections import detections_of_scores
from task4_sed.metrics.f1 import best_collar_f1
from task4_sed.metrics.filters import median_filter
from task4_sed.metrics.psds import PSDS1, PSDS2, psds, psds_statistics
from task4_sed.metrics.segments import best_segment_f1, segment_auroc, segments_of_scores
from task4_sed.metrics.truth import truth_arrays
from task4_sed.metrics.types import ClipScores, ScoreSet


def random_set(clips: int, seed: int = 0) -> tuple[ScoreSet, dict[str, list[Event]], dict[str, float]]:
    """Scores of ten-second clips with about 3.6 events each, as noisy as an average system's."""
    random = np.random.default_rng(seed)
    edges = np.arange(FRAMES_PER_CLIP + 1) * FRAME_SECONDS
    middles = edges[:-1] + FRAME_SECONDS / 2
    scores, events = {}, {}
    for i in range(clips):
        name = f"clip{i:05d}"
        of_clip: dict[str, Event] = {}
        for label in random.choice(DESED_CLASSES, int(random.integers(1, 7))).tolist():
            onset = float(random.uniform(0, 8))
            of_clip[label] = Event(onset, onset + float(random.uniform(0.3, 10 - onset)), label)
        logits = 2 * np.apply_along_axis(
            np.convolve, 0, random.normal(size=(FRAMES_PER_CLIP, 10)), np.hanning(7) / 2, "same"
        )
        logits -= 4
        for event in of_clip.values():
            inside = (middles > event.onset) & (middles < event.offset)
            logits[inside, DESED_CLASSES.index(event.label)] += random.normal(4, 2)
        scores[name], events[name] = ClipScores(edges, 1 / (1 + np.exp(-logits))), list(of_clip.values())
    return ScoreSet(DESED_CLASSES, scores), events, dict.fromkeys(scores, 10.0)


class _Clock:
    """Prints and keeps the seconds of each piece of work."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, what: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = work()
        self.seconds[what] = time.perf_counter() - start
        print(f"{what:60s} {self.seconds[what]:7.2f} s", flush=True)
        return result


def benchmark_metrics(clips: int = 1168, draws: int = 200) -> dict[str, float]:
    """Print a line per stage; {stage: seconds}."""
    clock = _Clock()
    scores, events, durations = random_set(clips)
    truth = truth_arrays(events, durations, DESED_CLASSES)
    print(f"{clips} clips x {len(DESED_CLASSES)} classes x {FRAMES_PER_CLIP} frames")
    with tempfile.TemporaryDirectory() as folder:
        clock("write a folder of scores", lambda: write_scores_folder(Path(folder) / "scores", scores))
        clock("read a folder of scores", lambda: read_scores(Path(folder) / "scores"))
    detections = clock(
        "detections over all thresholds", lambda: detections_of_scores(scores, truth.clips, truth.classes)
    )
    statistics = {}
    for name, parameters in (("psds1", PSDS1), ("psds2", PSDS2)):
        statistics[name] = clock(f"{name}: statistics", partial(psds_statistics, detections, truth, parameters))
        clock(f"{name}: value", partial(psds, statistics[name]))
    clock(f"psds1 and psds2: {draws} bootstrap draws", lambda: resample(statistics, None, draws, 0))
    clock("collar F1 at the best thresholds", lambda: best_collar_f1(detections, truth))
    segments = clock("segments", lambda: segments_of_scores(scores, truth))
    clock("segment F1 at the best thresholds", lambda: best_segment_f1(segments))
    clock("segment ROC area", lambda: segment_auroc(segments))
    clock("median filter", lambda: median_filter(scores, MEDIAN_FILTER_FRAMES))
    clock("cSEBBs, one setting", lambda: csebbs(scores, CsebbsParameters()))
    settings = grid("winner")
    count = len(settings.settings())
    clock(f"cSEBBs, {count} settings, 5-fold cross-validated", lambda: tune_csebbs(scores, truth, settings, False))
    return clock.seconds
