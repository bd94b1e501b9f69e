"""What detection costs on this machine: real-time factors of all backbones, with random weights."""

from collections.abc import Mapping
from typing import Any

import torch

from common.run.benchmark import hardware, times_in_turns
from common.run.errors import UserError
from common.run.processes import working_device
from common.run.results.tables import print_table
from task4_sed.inference.detectors import UNTRAINED, YAMNET, Detector, load_detector
from task4_sed.inference.stream import REGION_SECONDS

BACKBONES = ("atst-f", "beats", "fpasst", "m2d", "asit", "frame_mn06", "frame_mn10")
HOP_SECONDS = 5.0  # between the windows of a file, by default
BATCH = 4
TURNS = 3


def benchmark_detect(seconds: float) -> Mapping[str, Any]:
    """Measure each backbone for about `seconds`; prints a table, returns {backbone: real-time factors}.

    file: of windows of 10 s every 5 s, in batches; stream: of a window every half second. Below 1 it keeps up.
    """
    found: dict[str, Any] = {}
    for name in (*BACKBONES, YAMNET):
        try:
            detector = load_detector([name if name == YAMNET else f"{UNTRAINED}{name}"])
        except UserError as error:  # YAMNet's package is an extra
            print(f"{name}: not measured ({error})")
            continue
        found[name] = _factors(detector, seconds)
    rows = [
        [name, f"{of['window_ms']:.0f}", f"{of['file']:.4f}", f"{of['stream']:.3f}", f"{1 / of['file']:,.0f}"]
        for name, of in found.items()
    ]
    columns = ["network", "a window (ms)", "factor, files", "factor, stream", "x real time, files"]
    note = f"{hardware()}, {working_device()}; shortest of several passes; from waveform to logits"
    print_table("real-time factors of detection, random weights", columns, rows, note=note)
    return {"real_time_factors": found}


def _factors(detector: Detector, seconds: float) -> dict[str, float]:
    windows = 0.1 * torch.randn(BATCH, detector.window_samples)
    works = [lambda: detector.logits(windows[:1]).cpu(), lambda: detector.logits(windows).cpu()]
    alone, batch = (min(taken) for taken in times_in_turns(works, seconds / 2, TURNS))
    hop = min(HOP_SECONDS, detector.window_seconds)
    region = max(1, round(REGION_SECONDS / detector.frame_seconds)) * detector.frame_seconds
    return {"window_ms": 1e3 * alone, "file": min(alone, batch / BATCH) / hop, "stream": alone / region}
