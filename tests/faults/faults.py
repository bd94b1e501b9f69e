"""What may happen to a file, and the figures of what was tried: shared by the tests of this folder."""

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from common.run.errors import UserError

Break = Callable[[Path, bytes], object]
PATIENCE = 20  # seconds for one reader


def _replaced(by: Callable[[bytes], bytes]) -> Break:
    return lambda path, right: path.write_bytes(by(right))


def _header(right: bytes) -> bytes:
    return b"a\tb\tc\n" + right.partition(b"\n")[2]


def _forbidden(path: Path, right: bytes) -> None:
    path.write_bytes(right)
    path.chmod(0)


# What is put in the place of a right file.
FAULTS: dict[str, Break] = {
    "empty": _replaced(lambda right: b""),
    "binary": _replaced(lambda right: random.Random(0).randbytes(5000)),
    "truncated": _replaced(lambda right: right[: len(right) // 2]),
    "huge line": _replaced(lambda right: b"a" * 3_000_000),
    "NUL": _replaced(lambda right: right[:20] + b"\0" + right[20:]),
    "UTF-16": _replaced(lambda right: right.decode("latin-1").encode("utf-16")),
    "wrong columns": _replaced(_header),
    "one field more": _replaced(lambda right: right.replace(b"\n", b"\tx\n", 2)),
    "without header": _replaced(lambda right: right.partition(b"\n")[2]),
    "text": _replaced(lambda right: "kein Inhalt, ٣ 1_0 é\n".encode()),
    "folder": lambda path, right: path.mkdir(),
    "pipe": lambda path, right: os.mkfifo(path),
    "device": lambda path, right: path.symlink_to("/dev/zero"),
    "dangling link": lambda path, right: path.symlink_to("nowhere"),
    "link to itself": lambda path, right: path.symlink_to(path.name),
    "not permitted": _forbidden,
}


class OutlivedError(Exception):
    """A reader that does not come to an end."""


@contextmanager
def limited(seconds: int = PATIENCE) -> Iterator[None]:
    """Raise OutlivedError in the block after so many seconds."""

    def end(*_: object) -> None:
        raise OutlivedError

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def as_nobody(wanted: bool) -> Iterator[None]:
    """Without the rights of root, who may read everything."""
    if not wanted or os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def one_line(error: BaseException) -> bool:
    """Whether an exception ends a verb with one line: a user's error, or the state of the machine."""
    return isinstance(error, UserError) or (isinstance(error, OSError) and error.errno is not None)


class Tally:
    """Counts of what was tried and survived, by kind; they are printed at the end of the tests."""

    def __init__(self, node: pytest.Item) -> None:
        self.node = node

    def __call__(self, kind: str, tried: int, survived: int) -> None:
        self.node.user_properties.append(("faults", (kind, tried, survived)))
