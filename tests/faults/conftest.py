"""Figures of everything that was tried: `make test-faults` prints them last."""

from collections import Counter
from typing import Any

import pytest

from tests.faults.faults import Tally


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """Takes (kind, tried, survived)."""
    return Tally(request.node)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A line for each kind of fault, and their sum."""
    tried, survived = Counter[str](), Counter[str]()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") != "call":
                continue
            for name, value in report.user_properties:
                if name == "faults":
                    kind, number, good = value
                    tried[kind] += number
                    survived[kind] += good
    if not tried:
        return
    terminalreporter.section("faults: tried, survived, lost")
    for kind in [*sorted(tried), "all"]:
        a, b = (sum(tried.values()), sum(survived.values())) if kind == "all" else (tried[kind], survived[kind])
        terminalreporter.write_line(f"{kind:<40} {a:>6} {b:>6} {a - b:>6}")
