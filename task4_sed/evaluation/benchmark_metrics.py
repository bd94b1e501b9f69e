"""Times of metrics and post-processing on random scores of DESED's size, and of AudioSet-strong's.

Nothing is read from disk but the scores that it writes into a temporary place first.
"""

import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from common.run.hdf5 import new_hdf5
from task4_sed.data import audioset
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
from task4_sed.metrics.streamed import StreamedScores, streamed_metrics
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
    """Prints and keeps the seconds of each piece of work; prints those of the CPU too: others may share the machine."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, what: str, work: Callable[[], Any]) -> Any:
        start, busy = time.perf_counter(), time.process_time()
        result = work()
        self.seconds[what] = time.perf_counter() - start
        print(f"{what:60s} {self.seconds[what]:7.2f} s, CPU {time.process_time() - busy:7.2f} s", flush=True)
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


EVAL_CLIPS = 16_996  # labelled ones of AudioSet-strong
MEDIAN_FRAMES = 9
CLIPS_AT_ONCE = 512


def benchmark_audioset(clips: int = EVAL_CLIPS, draws: int = 0) -> dict[str, float]:
    """PSDS1 and ROC areas of so many random clips over the 407 classes; {stage: seconds}, and GB of memory at most."""
    import h5py

    clock, classes = _Clock(), audioset.scored_classes()
    print(f"{clips} clips x {len(classes)} classes x {audioset.FRAMES} frames")
    names = tuple(f"Y{number:011d}" for number in range(clips))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "logits.h5"
        events = clock("write scores", partial(_write_random, path, names, classes))
        with h5py.File(path) as file:
            edges = np.arange(audioset.FRAMES + 1) * audioset.FRAME_SECONDS
            scores = StreamedScores(names, classes, edges, lambda start, stop: file["strong_logits"][start:stop])
            truth = clock("truth", lambda: truth_arrays(events, dict.fromkeys(names, audioset.CLIP_SECONDS), classes))
            random = np.random.default_rng(0)
            weights = [random.multinomial(clips, np.full(clips, 1 / clips)).astype(float) for _ in range(draws)]
            found = clock(
                f"psds1 and ROC areas, {draws} bootstrap draws",
                lambda: streamed_metrics(scores, truth, PSDS1, MEDIAN_FRAMES, weights=weights),
            )
    clock.seconds["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"psds1 {100 * found.psds.mean_of_classes:.2f}; at most {clock.seconds['memory']:.2f} GB of memory")
    return clock.seconds


def _write_random(path: Path, names: tuple[str, ...], classes: tuple[str, ...]) -> dict[str, list[Event]]:
    """White noise, and where one of about eight events of a clip is, more of it; few classes are frequent."""
    random, events = np.random.default_rng(0), {}
    share = 1 / np.arange(1, len(classes) + 1)
    middles = (np.arange(audioset.FRAMES) + 0.5) * audioset.FRAME_SECONDS
    with new_hdf5(path) as (file, check):
        stored = file.create_dataset("strong_logits", (len(names), audioset.FRAMES, len(classes)), np.float16)
        for first in range(0, len(names), CLIPS_AT_ONCE):
            block = names[first : first + CLIPS_AT_ONCE]
            logits = random.standard_normal((len(block), audioset.FRAMES, len(classes)), np.float32) - 5
            for row, name in enumerate(block):
                labels = random.choice(len(classes), 8, p=share / share.sum())
                onsets = random.uniform(0, 9, 8)
                ends = onsets + random.uniform(0.2, 10 - onsets)
                events[name] = [Event(*one) for one in zip(onsets, ends, (classes[i] for i in labels), strict=True)]
                for onset, end, label in zip(onsets, ends, labels, strict=True):
                    logits[row, (middles > onset) & (middles < end), label] += random.normal(3, 2)
            stored[first : first + len(block)] = logits
            check()
    return events
