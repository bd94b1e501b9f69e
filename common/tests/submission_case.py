"""What tests of submissions share: a team, its archive unpacked, and changes of what is in it."""

import zipfile
from collections.abc import Callable
from pathlib import Path

from common.run.settings import AuthorConfig, SubmissionConfig

Mutation = Callable[[Path], object]


def about_team(label: str, name: str, abbreviation: str) -> SubmissionConfig:
    """A system of two authors, the first one of them corresponding."""
    authors = [
        AuthorConfig("Muster", "Maria", "m.muster@uni-x.example", "University of X", corresponding=True),
        AuthorConfig("Beispiel", "Bo", "bo@uni-x.example", "University of X"),
    ]
    return SubmissionConfig(label, name, abbreviation, authors)


def unpack(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as zipped:
        zipped.extractall(folder)
    return folder


def edit(name: str, change: Callable[[list[str]], list[str]]) -> Mutation:
    """Change the lines of a file."""

    def mutate(root: Path) -> None:
        path = root / name
        path.write_text("\n".join(change(path.read_text().split("\n"))))

    return mutate


def edit_row(name: str, line: int, change: Callable[[list[str]], list[str]], delimiter: str = "\t") -> Mutation:
    """Change the fields of a line, counted from 1."""

    def of_lines(lines: list[str]) -> list[str]:
        lines[line - 1] = delimiter.join(change(lines[line - 1].split(delimiter)))
        return lines

    return edit(name, of_lines)


def put(*changes: tuple[int, str]) -> Callable[[list[str]], list[str]]:
    """Other texts in some fields of a row."""
    return lambda fields: [dict(changes).get(index, field) for index, field in enumerate(fields)]


def swap(name: str, old: str, new: str) -> Mutation:
    """Replace the first place of a file where `old` stands."""

    def mutate(root: Path) -> None:
        path = root / name
        text = path.read_text()
        assert old in text, old
        path.write_text(text.replace(old, new, 1))

    return mutate


def line_of(path: Path, word: str) -> int:
    """The number of the first line that has a word."""
    return next(number for number, line in enumerate(path.read_text().split("\n"), 1) if word in line)
