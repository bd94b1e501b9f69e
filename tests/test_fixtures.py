"""Parity with the stored inputs and outputs of the official systems: every fixture folder, group by group.

A module of `fixture_checks`, or a task's `tests/fixture_checks.py`, names the folders that it knows in `CHECKERS`:
folder -> (groups, check), where `groups` lists the groups of an opened io.npz and `check` yields comparisons
`(what, measured, expected, tolerance)`. The tolerance has "max" (absolute), "rel" (of the expected value, added to
max) and "mean" (of the absolute difference).
All shapes, draws and values come from the files.
"""

import importlib.util
import os
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from common.tests.helpers import give_memory_back

HERE = Path(__file__).resolve().parent
GOLDEN = Path(os.environ.get("DCASE_SHARED", HERE.parents[1] / "shared")) / "golden"


def load(path: Path) -> ModuleType:
    # By path: `tests` is also the name of a package that others install.
    spec = importlib.util.spec_from_file_location(f"fixture_checks_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PATHS = [*(HERE / "fixture_checks").glob("*.py"), *HERE.parent.glob("*/tests/fixture_checks.py")]
MODULES = [load(path) for path in sorted(PATHS)]
CHECKERS: dict[str, Any] = {folder: checker for module in MODULES for folder, checker in module.CHECKERS.items()}


def cases() -> list[Any]:
    if not GOLDEN.is_dir():
        reason = f"no fixtures at {GOLDEN} (set DCASE_SHARED)"
        return [pytest.param("", "", marks=pytest.mark.skip(reason=reason), id="none")]
    found = []
    for folder in sorted(path.parent.name for path in GOLDEN.glob("*/io.npz")):
        if folder not in CHECKERS:
            found.append(pytest.param(folder, "", marks=pytest.mark.skip(reason="no checker yet"), id=folder))
            continue
        groups, _ = CHECKERS[folder]
        with np.load(GOLDEN / folder / "io.npz") as io:
            found.extend(pytest.param(folder, group, id=f"{folder}-{group}") for group in groups(io))
    return found


def compare(what: str, measured: Any, expected: Any, tolerance: dict[str, float]) -> None:
    measured, expected = np.asarray(measured), np.asarray(expected)
    assert measured.shape == expected.shape, f"{what}: shape {measured.shape}, expected {expected.shape}"
    if expected.dtype == bool or not tolerance:
        assert np.array_equal(measured, expected), f"{what} differs"
        return
    error = np.abs(measured.astype(np.float64) - expected)
    allowed = tolerance["max"] + tolerance.get("rel", 0.0) * np.abs(expected)
    worst = float((error - allowed).max())
    assert worst <= 0.0, f"{what}: largest error {error.max():.3g}, past the tolerance by {worst:.3g}"
    assert error.mean() <= tolerance.get("mean", np.inf), f"{what}: mean error {error.mean():.3g} ({tolerance})"


@lru_cache(maxsize=1)
def begin(folder: str) -> None:
    """What other folders' groups share, above all networks, is gone; the groups of a folder follow each other."""
    for module in MODULES:
        for own in vars(module).values():
            if getattr(own, "__module__", "") == module.__name__ and hasattr(own, "cache_clear"):
                own.cache_clear()
    give_memory_back()


@pytest.mark.parametrize(("folder", "group"), cases())
def test_parity(folder: str, group: str) -> None:
    begin(folder)
    _, check = CHECKERS[folder]
    with np.load(GOLDEN / folder / "io.npz") as io:
        comparisons = check(GOLDEN / folder, group, io)
        if comparisons is None:
            pytest.skip("no checker yet")
        count = 0
        for what, measured, expected, tolerance in comparisons:
            compare(what, measured, expected, tolerance)
            count += 1
    assert count > 0, "nothing was compared"
