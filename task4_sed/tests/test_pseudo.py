"""Stored logits: what is read, and what is refused in one line."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from common.run.errors import UserError
from task4_sed.data.pseudo import StoredLogits

CLASSES = ("Cat", "Dog", "Speech")
LOGITS = np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float16)
NAMES = ["a.wav", "Yb_30.000_40.000", "c", "d"]


def write(path: Path, logits: np.ndarray = LOGITS, **options: object) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("strong_logits", data=logits, **options)
        file["filenames"], file["classes"] = [name.encode() for name in NAMES], list(CLASSES)
    return path


@pytest.mark.parametrize("options", [{}, {"chunks": (1, 6, 3)}, {"compression": "gzip"}], ids=str)
def test_rows_are_matched_by_name(tmp_path: Path, options: dict[str, object]) -> None:
    stored = StoredLogits.open(write(tmp_path / "a.h5", **options), CLASSES)
    assert isinstance(stored.strong, np.memmap) == (not options)
    assert stored.rows(["c.wav", "a", "Yb_30.000_40.000.wav"]).tolist() == [2, 0, 1]
    np.testing.assert_array_equal(stored.row("Yb_30.000_40.000.wav"), LOGITS[1])
    with pytest.raises(UserError, match=r"no logits of 1 of 2 clips, 'e.wav' first"):
        stored.rows(["a.wav", "e.wav"])


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def put(key: str, value: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with h5py.File(path, "a") as file:
            del file[key]
            if value is not None:
                file[key] = value

    return change


HOLE = LOGITS.copy()
HOLE[2, 3, 1] = np.nan


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (halved, "not a readable HDF5 file, or cut off"),
        (put("strong_logits", HOLE), "strong_logits of 'c' has NaN or infinity"),
        (put("strong_logits", LOGITS[:3]), "strong_logits has 3 clips, but filenames 4"),
        (put("strong_logits", LOGITS[..., :2]), "strong_logits has 2 classes, expected 3"),
        (put("strong_logits", LOGITS[0]), "expected 3 dimensions"),
        (put("strong_logits", None), "no data set 'strong_logits'"),
        (put("classes", ["Cat", "Speech", "Dog"]), "class 2 is 'Speech', expected 'Dog'"),
        (put("classes", ["Cat"]), "1 classes, expected 3"),
        (put("filenames", [b"a", b"b", b"a", b"c"]), "filenames has 'a' twice"),
    ],
)
def test_one_line_says_what_is_wrong(tmp_path: Path, change: Callable[[Path], None], says: str) -> None:
    path = write(tmp_path / "a.h5")
    change(path)
    with pytest.raises(UserError) as refused:
        StoredLogits.open(path, CLASSES).read(slice(0, 4))
    assert says in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
