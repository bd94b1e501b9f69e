"""How much memory a process needs that samples from a pack as large as AudioSet.

    python -m tests.tools.pack_memory [--clips 2000000] [--sampled 20000] [--workers 2] [--folder FOLDER]

Makes a pack whose tables and chunk indices are those of that many ten-second clips; the samples are holes in sparse
files (silence), so it needs about 150 MB of disk and a file system with sparse files. The pack is then opened, its
names looked up and its clips sampled by the ordinary reader, in processes of their own, whose peak resident memory is
printed after each step. Pages of mapped tables count, although the kernel may drop them and processes share them.
Ends with exit code 1 when the reader takes 500 MB or more (in a DataLoader: beyond what importing torch takes).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from common.audio.reading import RESAMPLING
from common.audio.shards import FORMAT, INDEX_DTYPE, VERSION, write_tables
from common.run.files import write_json

LIMIT_MB = 500
_RATE, _LENGTH = 16_000, 160_000
_SHARDS = 512
_CHUNK = 262_144


def peak_memory() -> float:
    """Peak resident memory of this process in MB (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmHWM in /proc/self/status")


def simulate(folder: Path, clips: int) -> None:
    """Write a pack of `clips` silent ten-second clips at 16 kHz, sparse on disk."""
    per_shard = -(-clips // _SHARDS)
    numbers = np.arange(clips)
    index = np.empty(clips, dtype=INDEX_DTYPE)
    index["shard"] = numbers // per_shard
    index["start"] = numbers % per_shard * _LENGTH
    index["length"] = _LENGTH
    folder.mkdir(parents=True, exist_ok=True)
    counts = np.bincount(index["shard"]).tolist()
    shards = [_sparse_shard(folder / f"{number:05d}.h5", count) for number, count in enumerate(counts)]
    tables = write_tables(folder, np.array([b"Y%011d" % number for number in range(clips)]), index)
    settings = {"sample_rate": _RATE, "storage": "pcm16", "resampling": RESAMPLING, "compression": None}
    record = {"format": FORMAT, "version": VERSION, **settings, "clips": clips, "tables": tables, "shards": shards}
    write_json(folder / "pack.json", record)


def _sparse_shard(path: Path, clips: int) -> dict[str, Any]:
    # Allocated at once and never filled: the chunk index is whole, the chunks are holes.
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    creation.set_chunk((_CHUNK,))
    space = h5py.h5s.create_simple((clips * _LENGTH,), (h5py.h5s.UNLIMITED,))
    with h5py.File(path, "w", libver=("earliest", "v110")) as file:
        h5py.h5d.create(file.id, b"samples", h5py.h5t.STD_I16LE, space, dcpl=creation)
    # Nothing in this script hashes: the hash stays empty.
    return {"file": path.name, "clips": clips, "bytes": path.stat().st_size, "sha256": ""}


def measure_reader(folder: Path, sampled: int, batch: int) -> dict[str, float]:
    """Peak memory in MB after each step of sampling without torch."""
    from common.audio import packs

    peaks = {"imported": peak_memory()}
    pack = packs.open_pack(folder)
    peaks["opened"] = peak_memory()
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, len(pack), sampled)
    for number in chosen.tolist():
        if pack.index_of(f"Y{number:011d}") != number:
            raise RuntimeError(f"index_of found another clip than {number}")
    peaks["names looked up"] = peak_memory()
    began = time.perf_counter()
    for first in range(0, sampled, batch):
        pack.read_many(chosen[first : first + batch], 0, _LENGTH)
    rate = sampled / (time.perf_counter() - began)
    peaks["sampled"] = peak_memory()
    print(f"{rate:.0f} clips/s in random order over {len(pack)} clips, batches of {batch}", file=sys.stderr)
    return peaks


def measure_loader(folder: Path, sampled: int, batch: int, workers: int) -> dict[str, float]:
    """Peak memory in MB of torch's import, of the main process and of the workers of a DataLoader (a quarter read)."""
    import torch
    from torch.utils.data import DataLoader, Dataset, RandomSampler

    from common.audio import packs

    peaks = {"torch imported": peak_memory()}
    pack = packs.open_pack(folder)

    class Clips(Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return len(pack)

        def __getitems__(self, indices: list[int]) -> tuple[float, torch.Tensor]:
            waveforms = torch.from_numpy(pack.read_many(indices, 0, _LENGTH))
            return peak_memory(), waveforms

    clips = Clips()
    sampler = RandomSampler(clips, replacement=True, num_samples=sampled // 4)
    loader = DataLoader(clips, batch, sampler=sampler, num_workers=workers, collate_fn=lambda fetched: fetched)
    peaks["largest worker, sampled"] = max(peak for peak, _ in loader)
    peaks["main process, sampled"] = peak_memory()
    return peaks


def _in_own_process(step: str, arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.tools.pack_memory", "--step", step, "--folder", str(folder)]
    command += ["--sampled", str(arguments.sampled), "--batch", str(arguments.batch)]
    command += ["--workers", str(arguments.workers)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    peaks: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    for name, megabytes in peaks.items():
        print(f"{step:8s} {name:24s} {megabytes:8.1f} MB")
    return peaks


def main() -> int:
    """Parse the command line and measure; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.tools.pack_memory", description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=2_000_000, help="clips of the simulated pack")
    parser.add_argument("--sampled", type=int, default=20_000, help="clips that are looked up and read")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2, help="DataLoader workers; 0 leaves torch out")
    parser.add_argument("--folder", type=Path, help="where to make the pack (default: a temporary folder)")
    parser.add_argument("--step", choices=["reader", "loader"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step == "reader":
        print(json.dumps(measure_reader(arguments.folder, arguments.sampled, arguments.batch)))
        return 0
    if arguments.step == "loader":
        peaks = measure_loader(arguments.folder, arguments.sampled, arguments.batch, arguments.workers)
        print(json.dumps(peaks))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        began = time.perf_counter()
        simulate(folder, arguments.clips)
        print(f"simulated {arguments.clips} clips in {time.perf_counter() - began:.1f} s")
        worst = max(_in_own_process("reader", arguments, folder).values())
        if arguments.workers:
            peaks = _in_own_process("loader", arguments, folder)
            worst = max(worst, max(peaks.values()) - peaks["torch imported"])
    print(f"the reader's peak is {worst:.1f} MB, the limit {LIMIT_MB} MB")
    return int(worst >= LIMIT_MB)


if __name__ == "__main__":
    sys.exit(main())
