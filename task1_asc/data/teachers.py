"""Teachers' logits for the clips of a training split, computed once and stored; several averaged for a student.

The rules of the challenge: what teaches a system of one split may have heard that split (or a smaller one) only.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from common.run.errors import UserError
from common.run.files import existing_file, write_then_rename
from task1_asc.config import DistillConfig
from task1_asc.data.classes import SCENES

FILE_NAME = "teacher_logits.npz"


@dataclass(frozen=True)
class About:
    """Where logits come from: the split that their teacher was trained on, its recipe, run and checkpoint (SHA-256)."""

    split: int
    recipe: str
    run: int
    checkpoint: str


@dataclass(frozen=True)
class TeacherLogits:
    """names (clips,) as in the split lists, logits (clips, 10) float16."""

    names: tuple[str, ...]
    logits: np.ndarray
    about: About


def write_logits(path: Path, names: Sequence[str], logits: np.ndarray, about: About) -> None:
    """Store a teacher's logits (clips, 10), whole or not at all. Raises UserError for what float16 cannot hold."""
    with np.errstate(over="ignore"):
        half = logits.astype(np.float16)
    if not np.isfinite(half).all():
        raise UserError(f"{path}: the teacher's logits are not finite in half precision; did its training diverge?")
    with write_then_rename(path) as partial, open(partial, "wb") as file:
        np.savez(file, names=np.array(names), logits=half, about=np.array(json.dumps(asdict(about))))


def read_logits(path: Path) -> TeacherLogits:
    """What `write_logits` stored. Raises UserError for a missing file or any other content."""
    existing_file(path, "teacher's logits (`teach` makes them)")
    try:
        with np.load(path, allow_pickle=False) as stored:
            names, logits = tuple(stored["names"].tolist()), stored["logits"]
            about = About(**json.loads(str(stored["about"])))
    except Exception as error:
        raise UserError(f"{path}: no teacher's logits ({type(error).__name__}: {error})") from None
    if logits.shape != (len(names), len(SCENES)):
        raise UserError(f"{path}: logits of shape {logits.shape}, expected ({len(names)}, {len(SCENES)})")
    return TeacherLogits(names, logits, about)


def teacher_files(config: DistillConfig, runs: Path, split: int) -> list[Path]:
    """The files of all teachers of a split; recipes by name lie in the folder `runs`, those with a slash anywhere."""
    folders = [Path(name) if "/" in name else runs / name for name in config.teachers]
    return [folder / f"run{number}" / f"split{split}" / FILE_NAME for folder in folders for number in config.runs]


def averaged(files: Sequence[Path], names: Sequence[str], split: int) -> np.ndarray:
    """Mean of the teachers' logits for these clips, (clips, 10) float32.

    Raises UserError for a teacher that was trained on a larger split, and for clips that a teacher has no logits for.
    """
    total = np.zeros((len(names), len(SCENES)), np.float32)
    for path in files:
        teacher = read_logits(path)
        if teacher.about.split > split:
            raise UserError(
                f"{path}: a teacher of split {teacher.about.split} must not teach a system of split {split}"
            )
        rows = {name: row for row, name in enumerate(teacher.names)}
        missing = [name for name in names if name not in rows]
        if missing:
            raise UserError(f"{path}: no logits for {len(missing)} of {len(names)} clips, the first is {missing[0]}")
        total += teacher.logits[[rows[name] for name in names]]
    return total / len(files)
