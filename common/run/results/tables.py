"""Tables for people: on the terminal with rich, on disk as .csv or .md; figures with their uncertainty."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from common.run.errors import UserError
from common.run.files import write_rows, write_text

NOT_AVAILABLE = "n/a"


def format_value(
    value: float | None,
    low: float | None = None,
    high: float | None = None,
    spread: float | None = None,
    decimals: int = 3,
    signed: bool = False,
) -> str:
    """`0.512 [0.48, 0.55]` with an interval, `0.490 ± 0.004` with a spread, `n/a` for None and NaN.

    The interval has one digit less than the value, unless both ends would then read the same or it is `signed`: a
    difference, whose plus is written and of whose ends one wants to see on which side of zero they are. Thousands are
    separated by commas.
    """
    if value is None or math.isnan(value):
        return NOT_AVAILABLE
    sign = "+" if signed else ""
    text = f"{value:{sign},.{decimals}f}"
    if low is not None and high is not None and not (math.isnan(low) or math.isnan(high)):
        short = decimals if signed else max(decimals - 1, 0)
        ends = [f"{end:{sign},.{short}f}" for end in (low, high)]
        if ends[0] == ends[1]:
            ends = [f"{end:{sign},.{decimals}f}" for end in (low, high)]
        return f"{text} [{ends[0]}, {ends[1]}]"
    if spread is not None and not math.isnan(spread):
        return f"{text} ± {spread:,.{decimals}f}"
    return text


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    note: str | None = None,
    file: IO[str] | None = None,
    save: Sequence[str | Path] = (),
    emphasis: Sequence[bool] | None = None,
) -> None:
    """Print a table (default: standard output) and write the same to each path of `save` (.csv or .md).

    Columns of figures are right-aligned. On a terminal long cells wrap; elsewhere the table is as wide as it needs.
    `emphasis` (one per row) makes rows bold. Raises ValueError when a row has another number of cells than `columns`,
    UserError for another suffix.
    """
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    _check(columns, rows)
    table = Table()
    for index, column in enumerate(columns):
        right = _is_figures([row[index] for row in rows])
        table.add_column(Text(column), justify="right" if right else "left", overflow="fold")
    for index, row in enumerate(rows):
        bold = emphasis is not None and emphasis[index]
        table.add_row(*(Text(cell) for cell in row), style="bold" if bold else None)

    console = Console(file=file, highlight=False)
    if not console.is_terminal:
        wide = console.options.update(width=10_000)
        captions = max(len(title), len(note or ""))
        console.width = max(Measurement.get(console, wide, table).maximum, captions)
    console.print(Text(title, style="bold"))
    console.print(table)
    if note:
        console.print(Text(note, style="dim"))
    for path in save:
        write_table(path, columns, rows, title, note)


def write_table(
    path: str | Path,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    title: str | None = None,
    note: str | None = None,
) -> None:
    """Write a table as .csv (header and rows) or .md (title and note too), whole or not at all.

    Raises UserError for another suffix, ValueError for a row with another number of cells than `columns`.
    """
    _check(columns, rows)
    path = Path(path)
    if path.suffix == ".csv":
        write_rows(path, columns, rows)
    elif path.suffix == ".md":
        write_text(path, _markdown(columns, rows, title, note))
    else:
        raise UserError(f"{path}: suffix {path.suffix!r} is no kind of table; use .csv or .md")


def _check(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for index, row in enumerate(rows):
        if len(row) != len(columns):
            raise ValueError(f"row {index} has {len(row)} cells, expected {len(columns)}")


def _is_figures(cells: Sequence[str]) -> bool:
    """Whether a column holds figures: each cell starts like a number or says that there is none."""
    figure = re.compile(r"[+\-−]?[\d.]+[\d,.eE%+\-]*(\s|$)|n/a$|–$|$")
    return any(cells) and all(figure.match(cell) for cell in cells)


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None, note: str | None) -> str:
    figures = [_is_figures([row[index] for row in rows]) for index in range(len(columns))]
    lines = [
        _markdown_row(columns),
        _markdown_row(["---:" if right else "---" for right in figures]),
        *(_markdown_row(row) for row in rows),
    ]
    head = [f"### {title}", ""] if title else []
    tail = ["", note] if note else []
    return "\n".join(head + lines + tail) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", r"\|").replace("\n", "<br>") for cell in cells)
    return f"| {' | '.join(escaped)} |"
