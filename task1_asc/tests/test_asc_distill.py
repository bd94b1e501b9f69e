"""Stored logits of teachers: what is kept, averaged and refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.audio.arrays import read_logits, write_logits
from common.run.config import load_config
from common.run.errors import UserError
from task1_asc.config import Config, DistillConfig
from task1_asc.data.teachers import FILE_NAME, About, averaged, teacher_files

NAMES = ("audio/a.wav", "audio/b.wav", "audio/c.wav")
RECIPES = Path(__file__).resolve().parents[1] / "recipes"


def stored(path: Path, value: float, names: tuple[str, ...] = NAMES, split: int = 25) -> Path:
    logits = value + np.arange(len(names) * 10, dtype=np.float32).reshape(-1, 10) / 8
    write_logits(path, names, logits, About(split, "teacher", 1, "abc"))
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    found = read_logits(stored(tmp_path / FILE_NAME, 1.0), 10, About)
    assert found.names == NAMES
    assert found.logits.dtype == np.float16
    assert found.logits[1, 2] == 1 + 12 / 8
    assert found.about == About(25, "teacher", 1, "abc")
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_average_in_the_students_order(tmp_path: Path) -> None:
    files = [stored(tmp_path / "1.npz", 1.0), stored(tmp_path / "2.npz", 4.0, NAMES[::-1])]
    mean = averaged(files, ["audio/c.wav", "audio/a.wav"], 25)
    ramp = np.arange(10) / 8
    np.testing.assert_allclose(mean[0], (1 + 20 / 8 + ramp + 4 + ramp) / 2)
    np.testing.assert_allclose(mean[1], (1 + ramp + 4 + 20 / 8 + ramp) / 2)
    assert mean.dtype == np.float32


@pytest.mark.parametrize(("split", "allowed"), [(5, False), (10, False), (25, True), (100, True)])
def test_teachers_of_larger_splits_are_refused(tmp_path: Path, split: int, allowed: bool) -> None:
    path = stored(tmp_path / FILE_NAME, 0.0)
    if allowed:
        assert averaged([path], NAMES, split).shape == (3, 10)
        return
    with pytest.raises(UserError, match=f"a teacher of split 25 must not teach a system of split {split}"):
        averaged([path], NAMES, split)


def test_missing_clips_are_named(tmp_path: Path) -> None:
    path = stored(tmp_path / FILE_NAME, 0.0)
    with pytest.raises(UserError, match=r"no logits for 1 of 2 clips, the first is audio/d\.wav"):
        averaged([path], ["audio/a.wav", "audio/d.wav"], 25)


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_other_files_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / FILE_NAME
    if content is None:
        np.savez(path, names=np.array(NAMES), logits=np.zeros((3, 10)))
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match="no teacher's logits"):
        read_logits(path, 10, About)


def test_wrong_shape_and_missing_file(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    write_logits(path, NAMES, np.zeros((3, 9)), About(5, "t", 1, ""))
    with pytest.raises(UserError, match=r"logits of shape \(3, 9\), expected \(3, 10\)"):
        read_logits(path, 10, About)
    with pytest.raises(UserError, match="`teach` makes them"):
        read_logits(tmp_path / "none.npz", 10, About)


def changed(path: Path, **arrays: Any) -> Path:
    """A file of logits with other arrays in it."""
    with np.load(stored(path, 0.0)) as file:
        whole = {name: file[name] for name in file.files} | arrays
    np.savez(path, **whole)
    return path


ONE_NAN = np.where(np.arange(30).reshape(3, 10) == 17, np.nan, 1.0).astype(np.float16)
ABOUT = {"split": 25, "recipe": "teacher", "run": 1, "checkpoint": "abc"}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"logits": ONE_NAN}, r"the logits of 1 clips are not finite, the first is audio/b\.wav"),
        ({"logits": np.full((3, 10), np.inf)}, r"the logits of 3 clips are not finite, the first is audio/a\.wav"),
        ({"logits": np.full((3, 10), "high")}, "logits of type <U4, expected floating point numbers"),
        ({"logits": np.ones((3, 10), int)}, "logits of type int64, expected floating point numbers"),
        ({"logits": np.ones((3, 10), complex)}, "logits of type complex128"),
        ({"logits": np.full((3, 10), None)}, "no teacher's logits"),
        ({"names": np.array([*NAMES[:2], NAMES[0]])}, r"1 clips stand there more than once, the first is audio/a\.wav"),
        ({"names": np.array(NAMES[:2])}, r"logits of shape \(3, 10\), expected \(2, 10\)"),
        ({"about": np.array(json.dumps({**ABOUT, "split": "25"}))}, "no teacher's logits .split is '25'"),
        ({"about": np.array("[" * 100_000)}, "no teacher's logits"),
    ],
)
def test_logits_of_another_machine_are_checked(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    path = changed(tmp_path / FILE_NAME, **arrays)
    with pytest.raises(UserError, match=message):
        averaged([path], NAMES[:1], 100)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_diverged_teachers_are_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(UserError, match="not finite in half precision"):
        write_logits(tmp_path / FILE_NAME, NAMES, np.full((3, 10), value), About(5, "t", 1, ""))
    assert not (tmp_path / FILE_NAME).exists()


def test_where_teachers_lie() -> None:
    config = DistillConfig(["cp", "elsewhere/passt"], runs=[1, 2])
    found = [path.as_posix() for path in teacher_files(config, Path("runs/task1_asc"), 5)]
    assert found == [
        f"{folder}/run{number}/split5/{FILE_NAME}"
        for folder in ("runs/task1_asc/cp", "elsewhere/passt")
        for number in (1, 2)
    ]


def test_published_teachers_are_recipes_that_differ_in_augmentation() -> None:
    distill = load_config(Config, RECIPES, "distilled").distill
    assert (distill.label_weight, distill.temperature) == (0.02, 2.0)
    teachers = [load_config(Config, RECIPES, name) for name in distill.teachers]
    kinds = [
        (of.model.kind, of.augment.mixstyle_probability > 0, of.augment.impulse_response_probability > 0)
        for of in teachers
    ]
    assert len(kinds) == len(set(kinds)) == 6
    assert all(mixstyle or response for _, mixstyle, response in kinds)
    assert not any(of.distill.teachers for of in teachers)


def test_windows_cannot_be_taught() -> None:
    with pytest.raises(UserError, match=r"data\.cropped=true: teachers know whole clips only"):
        load_config(Config, RECIPES, "distilled", ["data.cropped=true"])
