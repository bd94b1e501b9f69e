"""Folders of other people: clutter, names that are no UTF-8, any depth."""

import os
from pathlib import Path

import pytest

from common.run.folders import below, entries, is_clutter, printable


@pytest.mark.parametrize(
    "name", ["._x.wav", "__MACOSX", ".DS_Store", "Thumbs.db", "THUMBS.DB", "desktop.ini", "Icon\r"]
)
def test_clutter(name: str) -> None:
    assert is_clutter(name)
    assert is_clutter("Icon\r")


@pytest.mark.parametrize("name", ["x.wav", "_x.wav", ".x.wav", "MACOSX", "thumbs.csv"])
def test_no_clutter(name: str) -> None:
    assert not is_clutter(name)


def test_everything_below_in_order(tmp_path: Path) -> None:
    for name in ("b/c.txt", "b/._c.txt", "a.txt", "b.txt", "__MACOSX/b/._c.txt", "b/.DS_Store"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    left_out: list[str] = []
    found = [path.relative_to(tmp_path).as_posix() for path in below(tmp_path, left_out)]
    assert found == ["a.txt", "b/c.txt", "b.txt", "loop"]
    assert left_out == ["__MACOSX", "b/.DS_Store", "b/._c.txt"]
    assert [path.name for path in entries(tmp_path)] == ["a.txt", "b", "b.txt", "loop"]


def test_a_path_of_any_depth(tmp_path: Path) -> None:
    folders = [tmp_path]
    for _ in range(1500):
        folders.append(folders[-1] / "d")
        folders[-1].mkdir()
    (folders[-1] / "x.txt").touch()
    assert [path.name for path in below(tmp_path)] == ["x.txt"]
    (folders[-1] / "x.txt").unlink()
    for folder in folders[:0:-1]:  # pytest's own clearing up does not go so deep
        folder.rmdir()


def test_names_that_are_no_utf8_can_be_printed() -> None:
    assert printable(os.fsdecode(b"caf\xe9.wav")) == r"caf\xe9.wav"
    assert printable(Path("Ton °.wav")) == "Ton °.wav"
