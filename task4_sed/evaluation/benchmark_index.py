"""How long a training on all of AudioSet takes to start, and how much memory: its packs and tables without audio."""

import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from common.run.config import load_config
from common.run.files import write_rows
from common.run.processes import worker_pool
from task4_sed.config import Config
from task4_sed.data.audioset import CLIP_SECONDS, COLUMNS, audioset_classes
from task4_sed.data.framewise import PACKS, TABLES, Part

CLIPS = 2_000_000
STRONG: dict[Part, int] = {"train": 103_463, "eval": 16_996}  # labelled clips of the release
SMALL = 20_000  # clips of the balanced training pack, and of that of the evaluation
EVENTS = 9  # of a labelled clip
STATUS = Path("/proc/self/status")


def benchmark_index(recipes: Path, recipe: str = "pretrain_teacher", clips: int = CLIPS) -> dict[str, float]:
    """Print and return seconds of each stage of a training's start, and MB of its process at most.

    Packs of `clips` clips with names and weak labels, the tables of the strong ones; in a process of its own.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_index(Path(folder), clips)
        with worker_pool(1) as pool:
            found = pool.submit(start_up, recipes, recipe, Path(folder)).result()
    for stage, value in found.items():
        print(f"{stage:60s} {value:7.2f} {'MB' if stage.startswith('memory') else 's'}")
    return found


def write_index(root: Path, clips: int) -> None:
    """Packs and tables of so many training clips; the labelled ones, in the release's numbers, are any of them."""
    random = np.random.default_rng(0)
    small = min(SMALL, clips // 4)
    names = {"train": np.array([b"%011d" % number for number in range(clips)])}
    names["eval"] = np.array([b"e%010d" % number for number in range(small)])
    for part, of_part in zip(("train", "eval"), (np.split(names["train"], [small]), [names["eval"]]), strict=True):
        for name, videos in zip(PACKS[part], of_part, strict=True):  # type: ignore[index]
            with h5py.File(root / name, "w") as file:
                file["audio_name"] = np.char.add(np.char.add(b"audio/Y", videos), b".mp3")
                file.create_dataset("mp3", (len(videos),), h5py.vlen_dtype(np.uint8))
                file["target"] = np.packbits(random.random((len(videos), 528)) < 0.004, axis=1)
    mids = [of.mid for of in audioset_classes() if of.train and of.eval]
    for part, labelled in STRONG.items():
        chosen = random.choice(names[part], min(labelled, len(names[part])), replace=False).repeat(EVENTS)
        times = np.sort(random.uniform(0, CLIP_SECONDS, (len(chosen), 2)).round(3), axis=1).tolist()
        labels = random.integers(len(mids), size=len(chosen)).tolist()
        rows = zip(chosen.astype(str).tolist(), times, labels, strict=True)
        write_rows(root / TABLES[part][0], COLUMNS, ((f"{video}_0", *at, mids[label]) for video, at, label in rows))


def start_up(recipes: Path, recipe: str, root: Path) -> dict[str, float]:
    """Seconds and MB of this process, up to the first batch that a training would read."""
    found, began = {}, time.perf_counter()

    def done(stage: str) -> None:
        nonlocal began
        found[stage], began = time.perf_counter() - began, time.perf_counter()

    from task4_sed.training.data import FramewiseData

    config = load_config(Config, recipes, recipe, [f"data.root={root}", "data.workers=0", "data.sampler=balanced"])
    done("import torch and Lightning")
    found["memory after that"] = _peak()
    data = FramewiseData(config, 1)
    done("read tables, find the labelled clips in the packs")
    loader = data.train_dataloader()
    done("weights of the sampler")
    next(iter(loader.batch_sampler))  # type: ignore[arg-type]
    done("draw an epoch")
    found["memory at most"] = _peak()
    return found


def _peak() -> float:
    lines = STATUS.read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
