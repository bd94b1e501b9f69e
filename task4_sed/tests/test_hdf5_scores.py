"""HDF5 files of scores from anybody: what is not plain numbers in the file itself is one line, never a crash."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.run.errors import UserError
from task4_sed.inference.scores import read_logits, read_scores

NAMES = np.array([b"a.wav", b"b.wav"])
CLASSES = np.array([b"Cat", b"Dog"])
Change = Callable[[h5py.File], Any]


def write(path: Path, change: Change | None = None) -> Path:
    with h5py.File(path, "w") as file:
        file["strong_logits"] = np.zeros((2, 5, 2), np.float32)
        file["filenames"], file["classes"] = NAMES, CLASSES
        if change is not None:
            change(file)
    return path


def instead(key: str, value: Any = None, **options: Any) -> Change:
    """Another data set, or whatever `options` create, in the place of one."""

    def change(file: h5py.File) -> None:
        file.pop(key, None)
        if options:
            file.create_dataset(key, **options)
        else:
            file[key] = value

    return change


def group(file: h5py.File) -> None:
    del file["strong_logits"]
    file.create_group("strong_logits")["a"] = np.zeros((2, 5, 2), np.float32)


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((2, 100_000_000, 2), "f4")
    layout[:, :5] = h5py.VirtualSource("elsewhere.h5", "strong_logits", (2, 5, 2))
    del file["strong_logits"]
    file.create_virtual_dataset("strong_logits", layout)


def references(file: h5py.File) -> None:
    del file["filenames"]
    file["filenames"] = np.array([file["classes"].ref] * 2, dtype=h5py.ref_dtype)


def bomb(file: h5py.File) -> None:
    """Terabytes of nothing in kilobytes of file; as many names as clips."""
    del file["strong_logits"]
    file.create_dataset("strong_logits", (2, 10**12, 2), "f4", chunks=(1, 1024, 2), compression="gzip")


def huge_chunk(file: h5py.File) -> None:
    del file["strong_logits"]
    shape, most = (2, 5, 2), (None, None, None)
    file.create_dataset("strong_logits", shape, "f4", maxshape=most, chunks=(1000, 500, 1000), compression="gzip")


def attribute(value: Any) -> Change:
    def change(file: h5py.File) -> None:
        file.attrs["frame_seconds"] = value

    return change


LOGITS, COMPOUND = np.zeros((2, 5, 2), np.float32), np.zeros((2, 5, 2), [("logit", "f4"), ("frame", "i4")])
KINDS: dict[str, tuple[Change, str]] = {
    "group": (group, "strong_logits is a group, expected a data set"),
    "named type": (instead("strong_logits", np.dtype("f4")), "strong_logits is a datatype, expected a data set"),
    "soft link": (instead("strong_logits", h5py.SoftLink("/other")), "strong_logits is a link to another place"),
    "loop": (instead("filenames", h5py.SoftLink("/filenames")), "filenames is a link to another place"),
    "link to another file": (
        instead("strong_logits", h5py.ExternalLink("/etc/passwd", "/x")),
        "strong_logits is a link to another place",
    ),
    "in another file": (
        instead("strong_logits", shape=(2, 5, 2), dtype="f4", external=[("/dev/zero", 0, h5py.h5f.UNLIMITED)]),
        "strong_logits lies in other files",
    ),
    "virtual": (virtual, "strong_logits lies in other files"),
    "bomb": (bomb, "GiB of memory"),
    "huge chunk": (huge_chunk, "stored in chunks (1000, 500, 1000)"),
    "text": (instead("strong_logits", np.full((2, 5, 2), b"0.5")), "strong_logits is |S3 (2, 5, 2), expected numbers"),
    "objects": (
        instead("strong_logits", shape=(2, 5, 2), dtype=h5py.string_dtype()),
        "strong_logits is object (2, 5, 2), expected numbers",
    ),
    "lists": (instead("filenames", shape=(2,), dtype=h5py.vlen_dtype("f4")), "filenames is object (2,), expected text"),
    "references": (references, "filenames is object (2,), expected text"),
    "compound": (instead("strong_logits", COMPOUND), "(2, 5, 2), expected numbers"),
    "whole numbers": (
        instead("strong_logits", LOGITS.astype("i4")),
        "strong_logits is int32 (2, 5, 2), expected numbers",
    ),
    "complex": (
        instead("strong_logits", LOGITS.astype("c8")),
        "strong_logits is complex64 (2, 5, 2), expected numbers",
    ),
    "yes and no": (instead("strong_logits", LOGITS > 0), "strong_logits is bool (2, 5, 2), expected numbers"),
    "one number": (instead("strong_logits", 1.0), "strong_logits is float64 (), expected 3 dimensions"),
    "empty": (instead("strong_logits", h5py.Empty("f4")), "strong_logits is float32 None, expected 3 dimensions"),
    "no frames": (instead("strong_logits", LOGITS[:, :0]), "strong_logits is empty: (2, 0, 2)"),
    "no clips": (
        lambda f: (instead("strong_logits", LOGITS[:0])(f), instead("filenames", NAMES[:0])(f)),
        "strong_logits is empty: (0, 5, 2)",
    ),
    "other classes": (instead("classes", CLASSES[:1]), "does not fit 2 filenames and 1 classes"),
    "class twice": (instead("classes", np.array([b"Cat", b"Cat "])), "class 'Cat' is there twice"),
    "number as name": (instead("filenames", np.array([1, 2])), "filenames is int64 (2,), expected text"),
    "no name": (instead("filenames", np.array([b"a", b" "])), "filenames has the name ''"),
    "name not in UTF-8": (instead("filenames", np.array([b"a", b"\xff"])), "not a readable HDF5 file"),
    "name twice": (instead("filenames", np.array([b"x/a.wav", b"y/a.flac"])), "clip a is there twice"),
    "no filenames": (lambda f: f.pop("filenames"), "no data set 'filenames'"),
    "durations of text": (instead("durations", np.array([b"1", b"2"])), "durations is |S1 (2,), expected numbers"),
    "durations of others": (instead("durations", np.ones(3)), "3 durations for 2 filenames"),
    "negative duration": (instead("durations", [1.0, -1.0]), "the duration of b.wav is -1, expected seconds above 0"),
    "endless": (instead("durations", [np.inf, 1.0]), "the duration of a.wav is inf, expected seconds above 0"),
    "unknown duration": (instead("durations", [1.0, np.nan]), "the duration of b.wav is nan"),
    "no frame length": (attribute(0.0), "frame_seconds is 0, expected seconds above 0"),
    "negative frame length": (attribute(-1), "frame_seconds is -1, expected seconds above 0"),
    "unknown frame length": (attribute(np.nan), "frame_seconds is nan, expected seconds above 0"),
    "frame length as text": (attribute("0.064"), "the attribute frame_seconds is"),
    "frame lengths": (attribute([0.1, 0.2]), "the attribute frame_seconds is float64 (2,), expected one number"),
    "empty frame length": (attribute(h5py.Empty("f4")), "the attribute frame_seconds is"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_wrong_kind_is_one_line(tmp_path: Path, kind: str) -> None:
    change, message = KINDS[kind]
    path = write(tmp_path / "x.h5", change)
    with pytest.raises(UserError) as error:
        read_logits(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_have_no_scores(tmp_path: Path, value: float) -> None:
    logits = LOGITS.copy()
    logits[1, 2, 0] = value
    with pytest.raises(UserError, match=r"b: logits are (not a number|infinite)"):
        read_scores(write(tmp_path / "x.h5", instead("strong_logits", logits)))


@pytest.mark.parametrize("name", ["x.h5", "x.HDF5", "x.hdf", "x.scores", "x", "x.tsv"])
def test_hdf5_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    scores = read_scores(write(tmp_path / name))
    assert (scores.classes, list(scores.clips)) == (("Cat", "Dog"), ["a", "b"])


def test_text_and_numbers_may_have_any_form(tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        instead("filenames", ["d/b.FLAC", " a.wav "])(file)  # variable length
        instead("strong_logits", LOGITS.astype(">f8"))(file)
        instead("durations", np.array([1, 2], "i8"))(file)
        attribute(np.array([0.5], "f4"))(file)

    stored = read_logits(write(tmp_path / "x.h5", change))
    assert stored.names == ("a", "b")
    assert stored.durations is not None
    assert (stored.durations.tolist(), stored.frame_seconds, stored.stated) == ([2.0, 1.0], 0.5, True)


@settings(deadline=None, max_examples=60, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**31), st.binary(min_size=1, max_size=8))
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, at: int, damage: bytes) -> None:
    path = write(tmp_path / "x.h5")
    data = bytearray(path.read_bytes())
    at %= len(data)
    data[at : at + len(damage)] = damage
    path.write_bytes(data)
    try:
        read_scores(path)
    except UserError as error:
        refusal = str(error)
    else:
        refusal = ""
    assert "\n" not in refusal


@pytest.mark.parametrize("limit", [500, 5_000, 90_000, 101_000])
def test_a_full_disk_does_not_crash_hdf5(limit: int, tmp_path: Path) -> None:
    """With a real limit on file sizes, in a process of its own, because HDF5 would end it with a segmentation fault."""
    code = f"""
import resource
import numpy as np
from task4_sed.inference.scores import write_logits
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    write_logits("logits.h5", ["a", "b"], np.zeros((2, 500, 27), np.float32), [str(i) for i in range(27)])
except OSError as error:
    print(error.errno, error.filename)
"""
    path = {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | path, check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, f"{errno.EFBIG} logits.h5\n"), done.stderr
    assert not list(tmp_path.iterdir())
