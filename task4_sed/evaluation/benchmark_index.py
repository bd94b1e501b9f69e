"""How long a training on all of AudioSet takes to start, and how much memory: its packs and tables without audio."""

import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from common.audio.audioset import LABEL_COLUMNS, LABELS
from common.run.config import load_config
from common.run.files import write_rows
from common.run.processes import worker_pool
from task4_sed.config import Config
from task4_sed.data.audioset import CLIP_SECONDS, COLUMNS, audioset_classes
from task4_sed.data.framewise import PACKS, TABLES, Part
from task4_sed.data.weak import TAGS

CLIPS = 2_000_000
STRONG: dict[Part, int] = {"train": 103_463, "eval": 16_996}  # labelled clips of the release
RECIPES = ("pretrain_teacher", "pretrain_weak_fpasst")
SMALL = 20_000  # clips of the balanced training pack, and of that of the evaluation
EVENTS = 9  # of a labelled clip
STATUS = Path("/proc/self/status")


def benchmark_index(recipes: Path, clips: int = CLIPS) -> dict[str, dict[str, float]]:
    """How trainings on strong and on weak labels start on packs of so many clips, each in a process of its own.

    Prints and returns by recipe the CPU seconds of each stage, the seconds of all, and MB of memory at most.
    """
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        write_index(Path(folder), clips)
        for recipe in RECIPES:
            with worker_pool(1) as pool:
                found[recipe] = pool.submit(start_up, recipes, recipe, Path(folder)).result()
            print(f"{recipe}, {clips:,} clips in packs")
            for stage, value in found[recipe].items():
                print(f"  {stage:60s} {value:7.2f}")
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
                file["target"] = np.concatenate([_bits(random, len(block)) for block in np.array_split(videos, 32)])
    write_rows(root / LABELS, LABEL_COLUMNS, ((number, f"/m/{number}", f"class {number}") for number in range(TAGS)))
    mids = [of.mid for of in audioset_classes() if of.train and of.eval]
    for part, labelled in STRONG.items():
        chosen = random.choice(names[part], min(labelled, len(names[part])), replace=False).repeat(EVENTS)
        times = np.sort(random.uniform(0, CLIP_SECONDS, (len(chosen), 2)).round(3), axis=1).tolist()
        labels = random.integers(len(mids), size=len(chosen)).tolist()
        rows = zip(chosen.astype(str).tolist(), times, labels, strict=True)
        write_rows(root / TABLES[part][0], COLUMNS, ((f"{video}_0", *at, mids[label]) for video, at, label in rows))


def start_up(recipes: Path, recipe: str, root: Path) -> dict[str, float]:
    """CPU seconds and MB of this process, up to the first batch that a training would read."""
    found: dict[str, float] = {}
    own = [f"data.root={root}", "data.workers=0", "data.sampler=balanced", "data.pseudo_labels=null"]
    config = load_config(Config, recipes, recipe, [*own, "loss.distillation=0.0"])
    make, whole, began = config.system.does("data"), time.perf_counter(), time.process_time()

    def done(stage: str) -> None:
        nonlocal began
        found[f"{stage}, CPU s"], began = time.process_time() - began, time.process_time()

    imported = _peak()  # torch and Lightning
    loader = make(config, 1).train_dataloader()
    done("tables, labelled clips in the packs, weights of the sampler")
    next(iter(loader.batch_sampler))
    done("draw an epoch")
    found["both, s"] = time.perf_counter() - whole
    found["memory beyond torch and Lightning, MB"] = _peak() - imported
    found["memory at most, MB"] = _peak()
    return found


def _bits(random: np.random.Generator, clips: int) -> np.ndarray:
    """About two random weak labels a clip."""
    return np.packbits(random.random((clips, TAGS), np.float32) < 2 / TAGS, axis=1)


def _peak() -> float:
    lines = STATUS.read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
