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


# A terminal that is too narrow shows so many characters of a name, the first that will do; a setting is not shortened.
SHORTENED = (40, 28, 12)


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    note: str | None = None,
    file: IO[str] | None = None,
    save: Sequence[str | Path] = (),
    emphasis: Sequence[bool] | None = None,
    whole: str | Path | None = None,
) -> None:
    """Print a table (default: standard output) and write the same to each path of `save` (.csv or .md).

    Columns of figures are right-aligned. On a terminal nothing is split inside a word or number: where it is too narrow
    cells wrap at blanks and long names are shortened (…); then the last columns are left out, and a line says which,
    and that the file `whole` has them. Elsewhere the table is as wide as it needs. `emphasis` (one per row) makes rows
    bold. Raises ValueError when a row has another number of cells than `columns`, UserError for another suffix.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    _check(columns, rows)
    console = Console(file=file, highlight=False)
    width = console.width if console.is_terminal else None
    figures = [_is_figures([row[index] for row in rows]) for index in range(len(columns))]
    widths = _fitting([[columns[i], *(row[i] for row in rows)] for i in range(len(columns))], figures, width)
    console.width = 10**6  # lines are broken here, not by rich

    def cells(row: Sequence[str]) -> list[Text]:
        return [Text("\n".join(_lines(text, at, cell=True))) for text, at in zip(row, widths, strict=False)]

    def say(text: str, style: str) -> None:
        console.print(Text("\n".join(_lines(text, width)), style=style))

    table = Table()
    for header, right in zip(cells(columns), figures, strict=False):
        table.add_column(header, justify="right" if right else "left", no_wrap=True)
    for index, row in enumerate(rows):
        table.add_row(*cells(row), style="bold" if emphasis is not None and emphasis[index] else None)
    say(title, "bold")
    console.print(table)
    if left_out := [" ".join(column.split()) for column in columns[len(widths) :]]:
        say(f"too narrow for: {' · '.join(left_out)}; all in {whole or 'a wider terminal, or a pipe (| cat)'}", "dim")
    if note:
        say(note, "dim")
    for path in save:
        write_table(path, columns, rows, title, note)


def _fitting(columns: Sequence[Sequence[str]], figures: Sequence[bool], width: int | None) -> list[int]:
    """How wide the columns (header and cells) are that fit side by side into `width` characters; at least the first."""
    from rich.cells import cell_len

    wanted = [max(cell_len(line) for cell in of for line in cell.split("\n")) for of in columns]
    if width is None:
        return wanted

    def shown(word: str, longest: int) -> int:
        return cell_len(word) if "=" in word else min(longest, cell_len(word))

    def least(longest: int) -> list[int]:
        found = []
        for (header, *cells), right in zip(columns, figures, strict=True):
            parts = [0, *(cell_len(line) for cell in cells for line in cell.split("\n"))]
            if not right or max(parts) > SHORTENED[0]:  # lists of figures are broken at blanks
                parts = [shown(word, longest) for cell in cells for word in cell.split()]
            found.append(max([*map(cell_len, header.split()), *parts], default=0))
        return found

    def free(widths: Sequence[int]) -> int:
        return width - 1 - sum(widths) - 3 * len(widths)  # a blank on either side of a cell, lines between them

    widths = next((of for longest in SHORTENED if free(of := least(longest)) >= 0), least(SHORTENED[1]))
    while len(widths) > 1 and free(widths) < 0:
        widths.pop()
    in_order = sorted(range(len(widths)), key=lambda i: wanted[i] - widths[i])
    for index, i in enumerate(in_order):  # who lacks little gets it, the others share the rest
        share = max(0, free(widths)) // (len(in_order) - index)
        widths[i] = min(wanted[i], widths[i] + share)
    return widths


def _lines(text: str, width: int | None, cell: bool = False) -> list[str]:
    """Text broken at blanks into lines of at most `width` characters; longer words stay whole.

    In a cell lists are broken behind commas, where that will do, and of longer words the end is kept.
    """
    from rich.cells import cell_len

    lines: list[str] = []
    for line in text.split("\n"):
        if width is None or cell_len(line) <= width:
            lines.append(line)
            continue
        lines.append("")
        listed = re.split("(?<=,) ", line)
        for word in listed if cell and max(map(cell_len, listed)) <= width else line.split():
            if cell and cell_len(word) > width:
                while cell_len(word) >= width:
                    word = word[1:]
                word = f"…{word}"
            if lines[-1] and cell_len(f"{lines[-1]} {word}") > width:
                lines.append("")
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


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
