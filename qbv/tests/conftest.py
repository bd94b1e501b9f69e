"""The tiny data sets, written and packed once for all tests of a process."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from common.tests.helpers import tiny_fixtures
from qbv.data.prepare import prepare


def places(root: Path) -> Sequence[str]:
    """Where the data sets of the other protocols lie."""
    return [f"data.{name}={root / name}" for name in ("vocal_sketch", "vocal_imitation_set", "qvim")]


tiny_root, tiny = tiny_fixtures("qbv", places)


@pytest.fixture(scope="session")
def packed(tiny: Callable[..., Any]) -> Callable[..., Any]:
    """As `tiny`, where the data sets of all protocols are packed."""
    for protocol in ("fine", "qvim"):
        prepare(tiny(f"data.protocol={protocol}"), workers=1)
    return tiny
