"""Teachers' logits for the clips of a training split, computed once and stored; several averaged for a student.

The rules of the challenge: what teaches a system of one split may have heard that split (or a smaller one) only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.audio.arrays import read_logits
from common.run.errors import UserError
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
        teacher = read_logits(path, len(SCENES), About)
        if teacher.about.split > split:
            raise UserError(
                f"{path}: a teacher of split {teacher.about.split} must not teach a system of split {split}"
            )
        total += teacher.of(names)
    return total / len(files)
