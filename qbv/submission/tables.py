"""Checking similarities as QVIM 2025 has them: {query: {item: number}}, every pair once, higher is more alike."""

import json
from collections import Counter
from collections.abc import Collection, Sequence

from common.run.errors import brief
from common.run.submission.tables import Table, some
from common.run.submission.violations import Violation

LARGEST = 1e308


class _Object(list[tuple[str, object]]):
    """A JSON object as its pairs: a name may stand there twice."""


def check_similarities(
    data: bytes, file: str, queries: Sequence[str] | None, items: Sequence[str] | None
) -> list[Violation]:
    """All violations. queries, items: those of the data; where they are not known, rows need the items of the first."""
    table = Table(file)
    if (text := table.decode(data)) is None:
        return table.found
    try:
        content = json.loads(text, object_pairs_hook=_Object)
    except (ValueError, RecursionError) as error:
        table.report(getattr(error, "lineno", None), "json", f"not valid JSON ({' '.join(str(error).split())[:100]})")
        return table.found
    if not isinstance(content, _Object) or not content:
        table.report(None, "table-form", "expected {query: {item: number}}, at least one query")
        return table.found
    rows: list[tuple[str, _Object]] = []
    for query, row in content:
        if isinstance(row, _Object) and row:
            rows.append((query, row))
        else:
            table.report(None, "table-form", f"query {brief(query)}: {brief(row)}, expected {{item: number}}")
    _check_names(table, "query", [query for query, _ in content], queries, "")
    for query, row in rows:
        of = f"query {brief(query)}: "
        _check_names(table, "item", [item for item, _ in row], items or [item for item, _ in rows[0][1]], of)
        _check_values(table, of, row)
    return table.found


def _check_names(table: Table, what: str, names: Sequence[str], expected: Collection[str] | None, of: str) -> None:
    there = set(names)
    if len(there) < len(names):
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        table.report(None, f"{what}-twice", f"{of}{what} {some([brief(name) for name in twice])} stands there twice")
    if expected is None or there == set(expected):
        return
    if unknown := sorted(there - set(expected)):
        table.report(
            None, f"{what}-unknown", f"{of}{what} {some([brief(name) for name in unknown])} is none of the data"
        )
    if missing := sorted(set(expected) - there):
        table.report(None, f"{what}-missing", f"{of}no {what} {some([brief(name) for name in missing])}")


def _check_values(table: Table, of: str, row: _Object) -> None:
    wrong = [(item, value) for item, value in row if not _is_finite(value)]
    if wrong:
        named = some([f"{brief(item)}: {brief(value)}" for item, value in wrong])
        table.report(None, "value", f"{of}{named}, expected a finite number")
    elif len(row) > 1 and len({value for _, value in row}) == 1:
        table.report(None, "constant", f"{of}all items are equally similar")


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
