"""Latency and memory of ONNX files on one core of this machine, each in a process of its own.

python -m common.run.latency FILE [RUNS] measures one file and prints JSON. Nothing but numpy and
onnxruntime is loaded there, so that the memory is that of a deployment.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.run.errors import UserError
from common.run.files import existing_file

WARM_UP = 10
LONGEST_SECONDS = 300.0  # for a file, after which the process that measures it is ended


def peak_memory() -> int:
    """Peak resident memory of this process in bytes. Linux only: elsewhere the parent's would be counted."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmHWM in /proc/self/status")


def measure(path: str, runs: int) -> dict[str, Any]:
    """Median milliseconds for one clip on one thread, and peak memory of this process.

    Processor time: what else runs on the machine does not count.
    """
    import numpy as np
    import onnxruntime

    before = peak_memory()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    shape = [size if isinstance(size, int) else 1 for size in given.shape]
    clip = {given.name: np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)}
    times = []
    for _ in range(WARM_UP + runs):
        start = time.process_time()
        session.run(None, clip)
        times.append(time.process_time() - start)
    return {
        "ms": 1000 * float(np.median(times[WARM_UP:])),
        "peak_bytes": peak_memory(),
        "runtime_bytes": before,
        "input": [given.name, *shape],
    }


def latency_table(files: Sequence[str | Path], runs: int = 200) -> list[dict[str, Any]]:
    """Measure ONNX files one after another and print a table.

    Returns for each: file, bytes (on disk), ms (processor time for one clip on one thread, median), peak_bytes (of the
    whole process), runtime_bytes (of it, before the file was loaded: Python, numpy, onnxruntime), input (name and
    shape). Raises UserError for a file that onnxruntime cannot run, or not in time.
    """
    from common.run.results.tables import print_table

    rows = []
    for path in map(existing_file, files):
        command = [sys.executable, "-m", "common.run.latency", str(path), str(runs)]
        folder = Path(__file__).resolve().parents[2]
        search = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": search}
        try:
            child = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            raise UserError(f"{path}: not measured within {LONGEST_SECONDS:g} seconds, given up") from None
        if child.returncode:
            said = child.stderr.strip().splitlines() or ["no message"]
            raise UserError(f"{path}: onnxruntime cannot run this file ({said[-1]})")
        rows.append({"file": str(path), "bytes": path.stat().st_size, **json.loads(child.stdout.splitlines()[-1])})
    print_table(
        "one clip on one core",
        ["file", "input", "on disk (kB)", "median (ms)", "peak memory (MB)", "of it the file's (MB)"],
        [
            [
                Path(row["file"]).name,
                f"{row['input'][0]} {'x'.join(map(str, row['input'][1:]))}",
                f"{row['bytes'] / 1e3:,.1f}",
                f"{row['ms']:.2f}",
                f"{row['peak_bytes'] / 1e6:.1f}",
                f"{(row['peak_bytes'] - row['runtime_bytes']) / 1e6:.1f}",
            ]
            for row in rows
        ],
    )
    return rows


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 200)))
