"""Stored numbers of the official systems beside ours: `python -m tests.tools.fixture_table FOLDER [GROUP ...]`.

A row for each comparison of tests/test_fixtures.py: single numbers as they are, of arrays the largest difference, and
the difference relative to the largest stored value. The fixtures lie in $DCASE_SHARED/golden (default: ../shared).
"""

import sys
from collections.abc import Iterator, Sequence

import numpy as np

from common.run.errors import UserError, did_you_mean
from common.run.results.tables import print_table
from tests.test_fixtures import CHECKERS, GOLDEN


def rows_of(folder: str, groups: Sequence[str] = ()) -> Iterator[list[str]]:
    """(what, official, ours, relative difference) of every comparison of a folder, or of these groups of it."""
    if folder not in CHECKERS:
        raise UserError(f"no checker of {folder!r}{did_you_mean(folder, CHECKERS)}")
    of_file, check = CHECKERS[folder]
    with np.load(GOLDEN / folder / "io.npz") as io:
        for group in groups or of_file(io):
            for what, measured, expected, _ in check(GOLDEN / folder, group, io):
                ours, official = np.asarray(measured, np.float64), np.asarray(expected, np.float64)
                size, worst = np.abs(official).max(), np.abs(ours - official).max()
                relative = "0" if worst == 0 else f"{worst / size:.1e}" if size else f"{worst:.1e} (absolute)"
                single = official.ndim == 0
                shown = [f"{official:.9g}", f"{ours:.9g}"] if single else [f"array {official.shape}", f"± {worst:.1e}"]
                yield [what if what.startswith(group) else f"{group}: {what}", *shown, relative]


def main(arguments: Sequence[str]) -> int:
    """Print the table; returns the exit code."""
    try:
        if not arguments:
            raise UserError("expected the name of a fixture folder")
        print_table(arguments[0], ["what", "official", "ours", "relative"], list(rows_of(arguments[0], arguments[1:])))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
