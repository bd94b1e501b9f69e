"""What detection costs on this machine: real-time factors of all backbones, with random weights."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from common.run.benchmark import hardware, synchronize
from common.run.errors import UserError
from common.run.processes import working_device
from common.run.results.tables import print_table
from task4_sed.inference.detectors import UNTRAINED, YAMNET, Detector, load_detector
from task4_sed.inference.options import HOP_SECONDS
from task4_sed.inference.stream import REGION_SECONDS

BACKBONES = ("atst-f", "beats", "fpasst", "m2d", "asit", "frame_mn06", "frame_mn10")
BATCH = 4
TURNS = 3


def benchmark_detect(seconds: float) -> Mapping[str, Any]:
    """Measure each backbone for about `seconds`; prints a table, returns {backbone: its figures}.

    window_ms: of one window alone. file, stream: seconds for a second of sound, windows every 5 s in batches, or one
    every half second; file_cores: the same of a file in seconds of all cores, in which other work does not count.
    """
    found: dict[str, Any] = {}
    for name in (*BACKBONES, YAMNET):
        try:
            detector = load_detector([name if name == YAMNET else f"{UNTRAINED}{name}"])
        except UserError as error:  # YAMNet's package is an extra
            print(f"{name}: not measured ({error})")
            continue
        found[name] = _figures(detector, seconds)
    digits = {"window_ms": 0, "file": 4, "file_cores": 4, "stream": 3}
    rows = [[name, *(f"{of[key]:.{count}f}" for key, count in digits.items())] for name, of in found.items()]
    columns = ["network", "a window (ms)", "factor, files", "of all cores", "factor, stream"]
    note = f"{hardware()}, {working_device()}; shortest of several passes, from waveform to logits"
    print_table("real-time factors of detection, random weights", columns, rows, note=note)
    return {"detection": found}


def _figures(detector: Detector, seconds: float) -> dict[str, float]:
    windows = 0.1 * torch.randn(BATCH, detector.window_samples)
    alone, _ = _shortest(lambda: detector.logits(windows[:1]), seconds / 2)
    batch, cores = _shortest(lambda: detector.logits(windows), seconds / 2)
    audio = BATCH * min(HOP_SECONDS, detector.window_seconds)
    region = max(1, round(REGION_SECONDS / detector.frame_seconds)) * detector.frame_seconds
    return {
        "window_ms": 1e3 * alone,
        "file": batch / audio,
        "file_cores": cores / audio,
        "stream": alone / region,
    }


def _shortest(work: Callable[[], Any], seconds: float) -> tuple[float, float]:
    """Of TURNS or more calls after one that is not counted: least seconds, and least seconds of all cores."""
    work()
    taken: list[float] = []
    busy: list[float] = []
    while len(taken) < TURNS or sum(taken) < seconds:
        start, cores = time.perf_counter(), time.process_time()
        work()
        synchronize()
        taken.append(time.perf_counter() - start)
        busy.append(time.process_time() - cores)
    return min(taken), min(busy)
