"""Clip logits of a teacher of AudioSet's labels: as PaSST's ensemble is published, or in the form of stored logits."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.run.errors import UserError
from common.run.files import existing_file
from common.run.pickles import read_pickle
from task4_sed.data.audioset import CLIP_SECONDS
from task4_sed.data.pseudo import StoredLogits, stem

INDEX = "fname_to_index.pkl"  # beside a .npy: a mapping of clips (with or without "Y") to rows


def read_tag_logits(path: str | Path, classes: Sequence[str]) -> StoredLogits:
    """Logits with one "frame" a clip, mapped from the file: an array (clips, classes) in .npy with INDEX beside it, or
    HDF5 of `filenames` and `strong_logits` (clips, 1, classes), as `predict --logits` and `pseudo_labels` write it.

    Raises UserError for files that are missing, damaged, or of other classes, and for an index that names other rows.
    """
    path = Path(path)
    if path.suffix != ".npy":
        found = StoredLogits.open(path, classes)
        if found.strong.shape[1] != 1:
            raise UserError(f"{path}: {found.strong.shape[1]} frames a clip, expected 1: logits of clip labels")
        return found
    try:
        logits = np.load(existing_file(path, "stored logits"), mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path}: not a readable array ({error})") from None
    if logits.dtype.kind != "f" or logits.ndim != 2 or logits.shape[1] != len(classes):
        raise UserError(f"{path}: {logits.dtype} {logits.shape}, expected floats (clips, {len(classes)})")
    return StoredLogits(
        path, logits[:, None], tuple(classes), _index(path.with_name(INDEX), len(logits)), None, CLIP_SECONDS, ()
    )


def _index(path: Path, rows: int) -> dict[str, int]:
    with open(existing_file(path, "index of stored logits"), "rb") as file:
        found = read_pickle(file, path)
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds a {type(found).__name__}, expected a mapping of clips to rows")
    for clip, row in found.items():
        if not isinstance(clip, str) or not isinstance(row, int | np.integer) or not 0 <= row < rows:
            raise UserError(f"{path}: {clip!r}: {row!r}, expected a clip and its row from 0 to {rows - 1}")
    for clip in [clip for clip in found if stem(clip) != clip]:  # in place: of AudioSet they are 300 MB
        found[stem(clip)] = found.pop(clip)
    return found
