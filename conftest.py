"""Fixtures for every test of the project."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.run.processes import keep_memory
from common.tests.helpers import give_memory_back, linked_copy

ROOT = Path(__file__).resolve().parent

# Small tensors on many threads are slow, the more so where several test processes share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
keep_memory()  # a fifth of the time of tests with large networks


@pytest.fixture(scope="session", autouse=True)
def one_core() -> Iterator[None]:
    """Verbs start no further processes, whose imports take seconds, but where a test asks for a number of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
        yield


@pytest.fixture(scope="module", autouse=True)
def memory_given_back() -> Iterator[None]:
    """At the end of each file: a process that keeps what large networks had would be larger than all of them.

    What lives longer than a file, above all modules, is frozen: searching it for garbage takes a third of a second.
    """
    gc.freeze()
    yield
    give_memory_back()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden fixtures and real data; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("DCASE_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no shared test data at {folder} (set DCASE_SHARED)")
    return folder


@pytest.fixture
def linked_root(tiny_root: Path, tmp_path: Path) -> Path:
    """An own copy of a task's tiny data set without packs; audio is linked, so change a file only by replacing it."""
    return linked_copy(tiny_root, tmp_path / "data")
