"""The tiny data sets, written and packed once for all tests of a process."""

from collections.abc import Sequence
from pathlib import Path

from common.tests.helpers import tiny_fixtures


def places(root: Path) -> Sequence[str]:
    """Where the data sets of the other protocols lie."""
    return [f"data.{name}={root / name}" for name in ("vocal_sketch", "vocal_imitation_set", "qvim")]


tiny_root, tiny = tiny_fixtures("qbv", places)
