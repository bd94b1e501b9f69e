"""Tables on terminals of any width: nothing is split inside a word or number, nothing runs over the edge."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from common.run.results.tables import print_table

WORDS = st.text("abcdefghij/_-.é漢", min_size=1, max_size=60)
FIGURES = st.one_of(
    st.floats(-1e6, 1e6).map("{:,.3f}".format),
    st.floats(0, 1).map(lambda x: f"{x:.3f} [{x / 2:.2f}, {x:.2f}]"),
    st.just("n/a"),
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(width: int, columns: list[str], rows: list[list[str]], whole: str | None = None) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        patch.setenv("TERM", "xterm")
        patch.setenv("NO_COLOR", "1")
        out = Terminal()
        print_table("a title", columns, rows, "a note of some words", out, whole=whole)
    text = out.getvalue()
    for code in ("\x1b[1m", "\x1b[2m", "\x1b[0m"):
        text = text.replace(code, "")
    return text.splitlines()


def cells_of(lines: list[str], columns: int) -> list[str]:
    """What stands in each column below the header, its lines joined by blanks."""
    body = [line.strip("│").split("│") for line in lines if line.startswith("│")]
    return [" ".join(" ".join(row[i] for row in body).split()) for i in range(columns)]


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    kinds = draw(st.lists(st.sampled_from(["figures", "text"]), min_size=1, max_size=9))
    columns = [draw(st.lists(st.text("klmno", min_size=1, max_size=12), min_size=1, max_size=3)) for _ in kinds]
    text = st.lists(WORDS, min_size=1, max_size=6).map(" ".join)
    rows = [[draw(FIGURES if kind == "figures" else text) for kind in kinds] for _ in range(draw(st.integers(1, 4)))]
    return [" ".join(words) for words in columns], rows


@settings(max_examples=150, deadline=None)
@given(tables(), st.sampled_from([80, 100, 120]))
def test_nothing_is_split_and_nothing_runs_over(table: tuple[list[str], list[list[str]]], width: int) -> None:
    columns, rows = table
    lines = printed(width, columns, rows, "x.csv")
    assert max(map(cell_len, lines)) <= width
    shown = next(line.count("│") - 1 for line in lines if line.startswith("│"))
    said = " ".join(line.strip() for line in lines if not line.startswith(("│", "┃", "┏", "┡", "└")))
    left_out = f"too narrow for: {' · '.join(columns[shown:])}; all in x.csv"
    assert (left_out in said) == (shown < len(columns))
    for index, text in enumerate(cells_of(lines, shown)):
        words = {word for row in rows for word in row[index].split()}
        for word in text.split():
            assert word in words or (word[0] == "…" and any(of.endswith(word[1:]) for of in words)), word


def test_the_last_columns_are_left_out_and_named() -> None:
    columns = ["system", *(f"metric {n}" for n in range(9))]
    rows = [["toy (own, 3 trainings)", *["0.201 ± 0.023 (toy)"] * 9]]
    lines = printed(80, columns, rows, "runs/comparison.csv")
    assert max(map(len, lines)) <= 80
    assert "0.201 ± 0.023 (toy)" in "\n".join(lines)
    said = " ".join(lines[lines.index(next(line for line in lines if line.startswith("too narrow"))) :])
    assert said.startswith("too narrow for: metric 3 · metric 4 ·")
    assert "all in runs/comparison.csv" in said


def test_settings_are_never_shortened() -> None:
    setting = 'model.strides={"b2":[1,2],"b6":[1,2],"b7":[1,2]}'
    text = "\n".join(printed(80, ["settings", "parameters", "MACs"], [[f"model.base_channels=16 {setting}", "1", "2"]]))
    assert setting in text
    assert "…" not in text


def test_piped_output_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = io.StringIO()
    rows = [["/a/very/long/path" * 20, *["0.201 ± 0.023 (toy)"] * 9]]
    print_table("t", ["file", *"abcdefghi"], rows, file=out)
    assert rows[0][0] in out.getvalue()
    assert out.getvalue().count("0.201 ± 0.023 (toy)") == 9
    assert "…" not in out.getvalue()
