"""Reading and writing of scores and logits: round trips, and one clear line for each kind of bad input."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from common.run.errors import UserError
from task4_sed.data.classes import CLASSES
from task4_sed.inference.scores import from_logits, read_logits, read_scores, write_logits, write_scores_folder
from task4_sed.metrics.types import ClipScores, ScoreSet, clip_name

GOOD = "onset\toffset\tCat\tDog\n0.0\t0.5\t0.1\t0.2\n0.5\t1.0\t0.3\t-inf\n"


def random_scores(clips: int = 3) -> ScoreSet:
    random = np.random.default_rng(1)
    return ScoreSet(
        ("Cat", "Dog"),
        {f"Y{i}_0.000_{i}.500": ClipScores(np.arange(6) * 0.064, random.uniform(size=(5, 2))) for i in range(clips)},
    )


def write_table(path: Path, scores: ScoreSet) -> None:
    lines = ["\t".join(("filename", "onset", "offset", *scores.classes))]
    for name, clip in scores.clips.items():
        for on, off, row in zip(clip.edges, clip.edges[1:], clip.scores, strict=False):
            lines.append("\t".join((f"{name}.wav", repr(float(on)), repr(float(off)), *map(repr, row.tolist()))))
    path.write_text("\n".join(lines) + "\n")


def assert_same(found: ScoreSet, expected: ScoreSet, tolerance: float) -> None:
    assert found.classes == expected.classes
    assert list(found.clips) == list(expected.clips)
    for name, clip in expected.clips.items():
        np.testing.assert_allclose(found.clips[name].edges, clip.edges, atol=1e-9)
        np.testing.assert_allclose(found.clips[name].scores, clip.scores, rtol=tolerance, atol=0)


@pytest.mark.parametrize("name", ["a", "a.wav", "a.tsv", "a.wav.tsv", "folder/a.wav"])
def test_clip_names(name: str) -> None:
    assert clip_name(name) == "a"
    assert clip_name("Yx_0.000_9.000.wav") == "Yx_0.000_9.000"


def test_folder_and_table_round_trip(tmp_path: Path) -> None:
    scores = random_scores()
    write_scores_folder(tmp_path / "run", scores)
    assert_same(read_scores(tmp_path / "run"), scores, 1e-8)
    write_table(tmp_path / "all.tsv", scores)
    assert_same(read_scores(tmp_path / "all.tsv"), scores, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.tsv", "run"]


def test_minus_infinity_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(GOOD)
    assert read_scores(tmp_path).clips["a"].scores.tolist() == [[0.1, 0.2], [0.3, -np.inf]]


def test_windows_line_ends_and_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert read_scores(tmp_path).classes == ("Cat", "Dog")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.tsv: empty"),
        ("onset\toffset\tCat\n", "a.tsv: no rows"),
        ("onset\tofset\tCat\n0\t1\t0.5\n", "a.tsv:1: no column 'offset'; did you mean 'ofset'"),
        ("onset\toffset\n0\t1\n", "a.tsv:1: no class column"),
        ("onset\toffset\tCat\tCat\n0\t1\t0.5\t0.5\n", "a.tsv:1: column 'Cat' is there twice"),
        (GOOD.replace("0.3", "high"), "a.tsv:3: Cat is 'high', expected a number"),
        (GOOD.replace("0.3", "nan"), "a.tsv:3: Cat is 'nan', expected a finite number"),
        (GOOD.replace("0.3", "inf"), "a.tsv:3: Cat is 'inf', expected a finite number"),
        (GOOD.replace("\t0.3", ""), "a.tsv:3: 3 fields, expected 4"),
        (GOOD.replace("0.5\t1.0", "0.6\t1.0"), "a.tsv:3: onset 0.6, a gap after the previous offset 0.5"),
        (GOOD.replace("0.5\t1.0", "0.4\t1.0"), "a.tsv:3: onset 0.4, rows overlap or are not sorted"),
        (GOOD.replace("0.5\t1.0", "0.5\t0.5"), "a.tsv:3: offset 0.5 is not after onset 0.5"),
        (GOOD.replace("0.0\t0.5", "0.1\t0.5"), "a.tsv:2: the first onset is 0.1, expected 0"),
        ("\x00\xff", "not a text file"),
    ],
)
def test_bad_score_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.tsv").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError) as error:
        read_scores(tmp_path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no \.tsv file"):
        read_scores(tmp_path)
    with pytest.raises(UserError, match="not found"):
        read_scores(tmp_path / "nowhere")
    (tmp_path / "a.tsv").write_text(GOOD)
    (tmp_path / "b.tsv").write_text(GOOD.replace("Dog", "Dogs"))
    with pytest.raises(UserError, match=r"b\.tsv:1: the columns differ from those of a\.tsv: no column 'Dog'"):
        read_scores(tmp_path)
    (tmp_path / "b.tsv").rename(tmp_path / "a.wav.tsv")
    (tmp_path / "a.wav.tsv").write_text(GOOD)
    with pytest.raises(UserError, match="a second file for clip a"):
        read_scores(tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.wav\t0\t1\t0.5", ":4: a.wav was already listed"),
        ("c.wav\t1\t2\t0.5", ":4: the first onset is 1, expected 0"),
        ("c.wav\t0\t1\tx", ":4: Cat is 'x', expected a number"),
        ("\t0\t1\t0.5", ":4: empty filename"),
    ],
)
def test_bad_tables(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "scores.tsv"
    path.write_text(f"filename\tonset\toffset\tCat\na.wav\t0\t1\t0.5\nb.wav\t0\t1\t0.5\n{row}\n")
    with pytest.raises(UserError) as error:
        read_scores(path)
    assert message in str(error.value)


def test_writing_is_whole_or_nothing(tmp_path: Path) -> None:
    scores = random_scores()
    broken = ScoreSet(scores.classes, scores.clips | {"no/such/folder": scores.clips["Y0_0.000_0.500"]})
    with pytest.raises(FileNotFoundError):
        write_scores_folder(tmp_path / "run", broken)
    assert list(tmp_path.iterdir()) == []
    write_scores_folder(tmp_path / "run", scores)
    write_scores_folder(tmp_path / "run", random_scores(1))  # replaces the whole folder
    assert len(list((tmp_path / "run").iterdir())) == 1
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds more than score files"):
        write_scores_folder(tmp_path / "run", scores)
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_logits_round_trip_sorted_by_name(tmp_path: Path, dtype: type) -> None:
    logits = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(dtype)
    names = ["b.wav", "c.wav", "a.wav"]
    write_logits(tmp_path / "x.h5", names, logits, ("Cat", "Dog"), 0.064, {"a": 1.0, "b": 0.1, "c.wav": 3.0})
    stored = read_logits(tmp_path / "x.h5")
    assert stored.names == ("a", "b", "c")
    assert stored.logits.dtype == dtype
    assert stored.classes == ("Cat", "Dog")
    assert stored.durations is not None
    assert stored.durations.tolist() == [1.0, 0.1, 3.0]
    np.testing.assert_array_equal(stored.logits, logits[[2, 0, 1]])
    scores = read_scores(tmp_path / "x.h5")
    np.testing.assert_allclose(scores.clips["c"].scores, 1 / (1 + np.exp(-logits[1].astype(float))), rtol=1e-12)
    np.testing.assert_allclose(scores.clips["b"].edges, [0, 0.064, 0.1])  # cut at the end of the clip


def test_logits_of_other_systems(tmp_path: Path) -> None:
    """Only strong_logits and filenames, in any order: the 27 classes, frames of 64 ms."""
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        file["strong_logits"] = np.zeros((2, 156, 27), np.float32)
        file["filenames"] = np.array([b"b", b"a"])
    scores = read_scores(tmp_path / "x.hdf5")
    assert scores.classes == CLASSES
    assert list(scores.clips) == ["a", "b"]
    assert scores.clips["a"].edges[-1] == pytest.approx(9.984)


def test_sigmoid_at_the_extremes() -> None:
    scores = from_logits(["a"], np.array([[[-1000.0, 1000.0, 0.0]]]), ("x", "y", "z"), 0.064).clips["a"].scores
    assert scores.tolist() == [[0, 1, 0.5]]
    with pytest.raises(UserError, match="NaN"):
        from_logits(["a"], np.array([[[np.nan]]]), ("x",), 0.064)


def test_bad_logit_files(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    path.write_text("not HDF5")
    with pytest.raises(UserError, match="not a readable HDF5 file"):
        read_logits(path)
    write_logits(path, ["a", "b"], np.zeros((2, 100, 27), np.float32), CLASSES)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not a readable HDF5 file, or cut off"):
        read_logits(path)
    with h5py.File(path, "w") as file:
        file["strong_logit"] = np.zeros((1, 2, 3), np.float32)
    with pytest.raises(UserError, match="did you mean 'strong_logit'"):
        read_logits(path)
    with h5py.File(path, "w") as file:
        file["strong_logits"] = np.zeros((1, 2, 3), np.float32)
        file["filenames"] = np.array([b"a", b"b"])
    with pytest.raises(UserError, match="does not fit 2 filenames and 27 classes"):
        read_logits(path)
    with pytest.raises(UserError, match="clip a is there twice"):
        write_logits(path, ["a", "a.wav"], np.zeros((2, 4, 27), np.float32), CLASSES)
    with pytest.raises(ValueError, match="do not fit"):
        write_logits(path, ["a"], np.zeros((2, 4, 27), np.float32), CLASSES)
