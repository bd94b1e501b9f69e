"""How long a training on all of AudioSet takes to start, and how much memory its processes have: packs and tables of
all clips, which share one recording, and what an ensemble says of each."""

import io
import multiprocessing
import pickle
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import soundfile

from common.audio.audioset import LABEL_COLUMNS, LABELS
from common.run.config import load_config
from common.run.files import write_rows
from common.run.processes import worker_pool
from task4_sed.config import Config
from task4_sed.data.audioset import CLIP_SECONDS, COLUMNS, audioset_classes
from task4_sed.data.framewise import PACKS, TABLES, Part
from task4_sed.data.tag_logits import INDEX
from task4_sed.data.weak import TAGS

CLIPS = 2_000_000
STRONG: dict[Part, int] = {"train": 103_463, "eval": 16_996}  # labelled clips of the release
LOGITS = "passt_enemble_logits_mAP_495.npy"  # as it is published, of all clips
RECIPES = {
    "pretrain_teacher": ("data.pseudo_labels=null", "loss.distillation=0.0"),
    "pretrain_weak_fpasst": ("data.pseudo_labels={root}/" + LOGITS,),
}
FIRST, LAST = 4, 100  # batches after which the loader's processes are looked at
SMALL = 20_000  # clips of the balanced training pack, and of that of the evaluation
EVENTS = 9  # of a labelled clip
PRIVATE = ("Private_Clean", "Private_Dirty")
# Of a loader process; of what is private, clean pages are those of mapped files, which the system may take.
KINDS = {"private": PRIVATE, "of it dirty": ("Private_Dirty",), "proportional": ("Pss",)}
PROCESSES = Path("/proc")


def benchmark_index(recipes: Path, clips: int = CLIPS) -> dict[str, dict[str, float]]:
    """How trainings on strong and on weak labels start on packs of so many clips, each in a process of its own.

    Prints and returns by recipe the CPU seconds of each stage, the seconds of all, and MB of memory.
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
    """Packs, tables and a teacher's logits of so many training clips; the labelled ones, in the release's numbers, are
    any of them."""
    random = np.random.default_rng(0)
    small = min(SMALL, clips // 4)
    names = {"train": np.array([b"%011d" % number for number in range(clips)])}
    names["eval"] = np.array([b"e%010d" % number for number in range(small)])
    for part, of_part in zip(("train", "eval"), (np.split(names["train"], [small]), [names["eval"]]), strict=True):
        for name, videos in zip(PACKS[part], of_part, strict=True):  # type: ignore[index]
            _write_pack(root / name, videos, random)
    np.lib.format.open_memmap(root / LOGITS, "w+", np.float16, (clips, TAGS))  # zeros, which take no room on the disk
    with open(root / INDEX, "wb") as file:
        pickle.dump(dict(zip(names["train"].astype(str).tolist(), range(clips), strict=True)), file)
    write_rows(root / LABELS, LABEL_COLUMNS, ((number, f"/m/{number}", f"class {number}") for number in range(TAGS)))
    mids = [of.mid for of in audioset_classes() if of.train and of.eval]
    for part, labelled in STRONG.items():
        chosen = random.choice(names[part], min(labelled, len(names[part])), replace=False).repeat(EVENTS)
        times = np.sort(random.uniform(0, CLIP_SECONDS, (len(chosen), 2)).round(3), axis=1).tolist()
        labels = random.integers(len(mids), size=len(chosen)).tolist()
        rows = zip(chosen.astype(str).tolist(), times, labels, strict=True)
        write_rows(root / TABLES[part][0], COLUMNS, ((f"{video}_0", *at, mids[label]) for video, at, label in rows))


def _write_pack(path: Path, videos: np.ndarray, random: np.random.Generator) -> None:
    """Of clips with one and the same recording of 10 s."""
    recording, rate = io.BytesIO(), 32_000
    soundfile.write(recording, 0.1 * random.standard_normal(int(CLIP_SECONDS * rate)), rate, format="MP3")
    with h5py.File(path, "w") as file:
        file["audio_name"] = np.char.add(np.char.add(b"audio/Y", videos), b".mp3")
        file["target"] = np.concatenate([_bits(random, len(block)) for block in np.array_split(videos, 32)])
        sounds = file.create_dataset("mp3", (len(videos),), h5py.vlen_dtype(np.uint8))
        sounds[0] = np.frombuffer(recording.getvalue(), np.uint8)
        offset = sounds.id.get_offset()
    where = np.memmap(path, "V16", "r+", offset, (len(videos),))  # of each clip, where in the file its bytes are
    where[1:] = where[0]


def start_up(recipes: Path, recipe: str, root: Path, last: int = LAST) -> dict[str, float]:
    """CPU seconds and MB of this process, the second of two GPUs', up to the first batch that a training would read;
    MB of those that read batches for it."""
    found: dict[str, float] = {}
    own = [f"data.root={root}", "data.workers=2", "data.sampler=balanced", "data.batch=8"]
    config = load_config(Config, recipes, recipe, [*own, *(word.format(root=root) for word in RECIPES[recipe])])
    make, whole, began = config.system.does("data"), time.perf_counter(), time.process_time()

    def done(stage: str) -> None:
        nonlocal began
        found[f"{stage}, CPU s"], began = time.process_time() - began, time.process_time()

    imported, private = _memory("status", "VmHWM"), _memory("smaps_rollup", *PRIVATE)  # torch and Lightning
    data = make(config, 1)
    data.trainer = SimpleNamespace(current_epoch=0, global_rank=1, world_size=2)
    loader = data.train_dataloader()
    done("tables, labelled clips in the packs, weights of the sampler")
    next(iter(loader.batch_sampler))
    done("draw an epoch")
    found["both, s"] = time.perf_counter() - whole
    found["memory beyond torch and Lightning, MB at most"] = _memory("status", "VmHWM") - imported
    found["of it private, MB in the end"] = _memory("smaps_rollup", *PRIVATE) - private
    found["memory, MB at most"] = _memory("status", "VmHWM")
    batches = iter(loader)
    for number in range(1, last + 1):
        next(batches)
        if number in (FIRST, last):
            for kind, fields in KINDS.items():
                each = [
                    _memory("smaps_rollup", *fields, process=str(of.pid)) for of in multiprocessing.active_children()
                ]
                found[f"each loader process after {number} batches, {kind}, MB"] = max(each)
    return found


def _bits(random: np.random.Generator, clips: int) -> np.ndarray:
    """About two random weak labels a clip."""
    return np.packbits(random.random((clips, TAGS), np.float32) < 2 / TAGS, axis=1)


def _memory(table: str, *fields: str, process: str = "self") -> float:
    """The sum of some fields of a process's table, MB."""
    lines = (PROCESSES / process / table).read_text().splitlines()
    return sum(int(line.split()[1]) / 1024 for line in lines if line.partition(":")[0] in fields)
