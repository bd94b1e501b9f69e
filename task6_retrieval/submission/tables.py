"""Checking an output of the challenge: ten file names for each caption (2022 to 2024), or a score of every file (2025).

What the header of 2022 to 2024 says is free, as the published ones differ; its form is not.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.run.errors import brief, did_you_mean
from common.run.submission.tables import SHOWN, Table, some
from common.run.submission.violations import Violation, in_order
from task6_retrieval.inference.scores import BEST

SCORES_SINCE = 2025  # the edition from which outputs are all scores


@dataclass(frozen=True)
class Expected:
    """What an output is measured by: the captions in their order, and the files that are ranked."""

    queries: tuple[str, ...]
    files: frozenset[str]


def check_output(data: bytes, file: str, edition: int, expected: Expected) -> list[Violation]:
    """All violations in an output; data: its bytes, file: its name for messages."""
    table = Table(file)
    if (text := table.decode(data)) is None:
        return table.found
    rows = _rows(table, text)
    if not rows:
        table.report(None, "table-empty", "empty, expected a header and a row for each caption")
        return table.found
    (_, header), *rest = rows
    columns = 1 + (BEST if edition < SCORES_SINCE else len(expected.files))
    if len(header) != columns:
        index = "; is the first one an index?" if len(header) == columns + 1 else ""
        table.report(1, "columns", f"{len(header)} columns, expected {columns} for edition {edition}{index}")
    good = [(line, row) for line, row in rest if len(row) == len(header)]
    for line, row in rest:
        if len(row) != len(header):
            table.report(line, "row-fields", f"{len(row)} fields, expected {len(header)} as in the header")
    _check_queries(table, [(line, row[0]) for line, row in good], expected.queries, ordered=edition < SCORES_SINCE)
    if edition < SCORES_SINCE:
        for line, row in good:
            _check_files(table, line, row[1:], expected)
    else:
        _check_files(table, 1, header[1:], expected)
        if missing := sorted(expected.files - set(header[1:])):
            table.report(1, "file-missing", f"no column for {some(missing)}")
        for line, row in good:
            _check_scores(table, line, row[1:], header[1:])
    return in_order(table.found)


def _rows(table: Table, text: str) -> list[tuple[int, list[str]]]:
    """(line, fields) of all rows that are not blank, up to where the text is no csv."""
    rows: list[tuple[int, list[str]]] = []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if row:
                rows.append((reader.line_num, row))
            else:
                table.report(reader.line_num, "row-empty", "empty line", "warning")
    except csv.Error as error:
        table.report(reader.line_num, "csv", f"{error}; nothing after it was read")
    return rows


def _check_queries(table: Table, found: Sequence[tuple[int, str]], expected: Sequence[str], ordered: bool) -> None:
    texts = [query for _, query in found]
    if texts == list(expected):
        return
    wanted = set(expected)
    for line, query in found:
        if query not in wanted:
            close = did_you_mean(query, expected) if len(expected) <= SHOWN else ""
            table.report(line, "query-unknown", f"{brief(query)} is none of the captions{close}")
    if missing := sorted(wanted - set(texts)):
        table.report(None, "query-missing", f"no row for {some([brief(query) for query in missing])}")
    if len(texts) > len(expected):
        table.report(None, "query-count", f"{len(texts)} rows, expected {len(expected)}")
    if ordered and sorted(texts) == sorted(expected):
        at = next(i for i, pair in enumerate(zip(texts, expected, strict=True)) if pair[0] != pair[1])
        wrong = f"{brief(texts[at])}, expected {brief(expected[at])}: rows stand in the order of the captions"
        table.report(found[at][0], "query-order", wrong)


def _check_files(table: Table, line: int, names: Sequence[str], expected: Expected) -> None:
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1}) if len(names) <= SHOWN else ["a name"]
        table.report(line, "file-twice", f"{some(twice)} is there more than once")
    for name in names if not expected.files.issuperset(names) else ():
        if name not in expected.files:
            bare = name.replace("\\", "/").rsplit("/", 1)[-1]
            hint = ": expected the name without its folder" if bare in expected.files else ""
            table.report(line, "file-unknown", f"{brief(name)} is none of the files{hint}")


def _check_scores(table: Table, line: int, fields: Sequence[str], names: Sequence[str]) -> None:
    try:
        values = np.array(fields, np.float64)
    except ValueError:
        values = np.array([_number(field) for field in fields])
    if bad := [names[i] for i in np.flatnonzero(~np.isfinite(values))]:
        table.report(line, "score", f"no finite number for {some(bad)}")


def _number(field: str) -> float:
    try:
        return float(field)
    except ValueError:
        return float("nan")
