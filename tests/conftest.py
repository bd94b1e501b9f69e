"""Places to work in: a copy of the checkout as a newcomer has it, a user's folder with a trained run."""

import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / "task4_sed" / "tests" / "tiny.yaml"
PROGRESS = re.compile(r"([\w /-]+: )+\d+/\d+ \w+ · ")
MADE_HERE = {".git", ".venv", "runs", "data"}


def link_checkout(folder: Path) -> Path:
    """Links to everything that belongs to the project, and to the environment that runs the tests."""
    folder.mkdir()
    for entry in ROOT.iterdir():
        if entry.name not in MADE_HERE:
            (folder / entry.name).symlink_to(entry)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout that a module may work in."""
    return link_checkout(tmp_path_factory.mktemp("newcomer") / "checkout")


@dataclass(frozen=True)
class Place:
    """A user's folder: `data` (prepared, tiny), `runs` (run1 is trained and predicted), `scores` (of devtest)."""

    folder: Path

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def run(self, *words: str) -> int:
        """One verb on the tiny recipe, in this folder."""
        verb, *rest = (word.replace("{here}", str(self.folder)) for word in words)
        usual = ["--recipe", str(TINY), "--run-dir", str(self / "runs"), "trainer.max_epochs=1"]
        usual += [f"data.root={self / 'data'}"]
        from common.run.verbs import main
        from task4_sed.__main__ import TASK

        return main(TASK, [verb, *usual, *rest])

    def write(self, name: str, content: str | bytes) -> None:
        """A new file in the place of `name` (files of this folder are hard links)."""
        path = self / name
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def change_line(self, name: str, line: int, text: str) -> None:
        """Line `line` (from 1) of a table is `text`."""
        lines = (self / name).read_text(encoding="utf-8").splitlines()
        lines[line - 1] = text
        self.write(name, "\n".join(lines) + "\n")

    def replace(self, name: str, old: str, new: str) -> None:
        """The first `old` in a file is `new`."""
        text = (self / name).read_text(encoding="utf-8")
        assert old in text
        self.write(name, text.replace(old, new, 1))

    def truncate(self, name: str) -> None:
        """The second half of a file is lost."""
        content = (self / name).read_bytes()
        self.write(name, content[: len(content) // 2])

    def files(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")}


@pytest.fixture(scope="session")
def user_folder(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A user's folder, read only."""
    from task4_sed.inference.scores import read_scores, write_scores_folder

    place = Place(tmp_path_factory.mktemp("original") / "here")
    for words in (("prepare",), ("train",), ("predict",)):
        assert place.run(*words) == 0
    write_scores_folder(place / "scores", read_scores(place / "runs" / "run1" / "scores" / "devtest.h5"))
    return place


@pytest.fixture
def place(user_folder: Place, tmp_path: Path) -> Place:
    """A user's folder that a test may damage."""
    shutil.copytree(user_folder.folder, tmp_path / "here", copy_function=os.link)
    place = Place(tmp_path / "here")
    place.replace("runs/run1/config.yaml", str(user_folder / "data"), str(place / "data"))
    return place


@pytest.fixture
def error_line(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Gives the one line of standard error, apart from progress, since it was asked last."""

    def one_line() -> str:
        lines = [line for line in capsys.readouterr().err.splitlines() if not PROGRESS.match(line)]
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        return lines[0]

    return one_line
