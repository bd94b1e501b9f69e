"""Tables of outputs: whole columns where all is well, lines where it is not, and no trouble with absurd sizes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.run.numbers import number
from common.run.submission.tables import SHOWN, Rows, Table, check_header, check_names, lines_of, read_rows

WIDE, HIGH = 200_000, 200_000  # comparing each with each would take hours


def rows_of(text: str, words: int, numbers: int) -> tuple[Rows, list[int]]:
    """The rows of a text, and the lines that have another number of fields."""
    misfits: list[int] = []
    return read_rows(lines_of(text), 1, "\t", words, numbers, lambda line, _: misfits.append(line)), misfits


@pytest.mark.parametrize("text", ["1_0", "٣", "1٣", "\u00a01", "", "0,5", "1d3", "0x1", "high"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError):
        number(text)
    rows, misfits = rows_of(f"a\t1\t2\nb\t{text}\t3", 1, 2)
    assert misfits == []
    assert rows.unreadable.tolist() == [[False, False], [True, False]]
    assert np.isnan(rows.values[1, 0])
    assert rows.fields(1) == ["b", text, "3"]


@settings(deadline=None)
@given(st.lists(st.floats(width=32), min_size=1, max_size=20), st.booleans())
def test_columns_and_lines_read_the_same_numbers(values: list[float], spoilt: bool) -> None:
    text = "".join(f"{index}\t{value!r}\n" for index, value in enumerate(values))
    rows, _ = rows_of(text + ("x\t1_0\n" if spoilt else ""), 1, 1)
    np.testing.assert_array_equal(rows.values[: len(values), 0], values)
    assert rows.unreadable.sum() == spoilt


def test_lines_without_their_fields_are_no_rows() -> None:
    rows, misfits = rows_of("a\t1\r\n\nb\nc\t2\td\n\t\ne\t3\n", 1, 1)
    assert misfits == [2, 3, 4, 5]
    assert rows.lines.tolist() == [1, 6]
    assert rows.words == [("a", "e")]
    assert rows.values.tolist() == [[1.0], [3.0]]


def test_names_that_are_there_twice_unknown_or_missing() -> None:
    table, rows = Table("x.csv"), rows_of("a\t1\nb\t1\na\t1\nz\t1", 1, 1)[0]
    check_names(table, rows, rows.words[0], ["a", "b", "c", "d", "e", "f"], "clip", lambda name: ("clip-unknown", name))
    assert [(of.line, of.rule, of.message) for of in table.found] == [
        (3, "clip-twice", "a already stands in line 1"),
        (4, "clip-unknown", "z"),
        (None, "clip-missing", "no row for c, d, e and 1 more"),
    ]


def test_absurd_width() -> None:
    table, header = Table("x.csv"), ["name", *(f"c{index}" for index in range(WIDE))]
    check_header(table, header, ("name", "score"))
    assert len(table.found) == 1 + SHOWN + 1
    assert table.found[-1].message == f"{WIDE - SHOWN:,} more unknown columns"
    twice = Table("x.csv")
    check_header(twice, ["name"] * WIDE, ("name", "score"))
    assert [of.rule for of in twice.found] == ["column-missing", "column-twice"]
    rows, misfits = rows_of("\t".join(["name", *["x"] * WIDE]), 1, WIDE)
    assert rows.unreadable.all()
    assert misfits == []


def test_absurd_height() -> None:
    table, rows = Table("x.csv"), rows_of("".join(f"n{index}\tx\n" for index in range(HIGH)) + "n0\t1", 1, 1)[0]
    check_names(table, rows, rows.words[0], None, "clip", lambda name: ("clip-name", name))
    assert len(table.found) == HIGH + 1
    assert rows.unreadable.sum() == HIGH
