"""Outputs of every edition: what we write is right, and every rule that is broken is named."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.run.verbs import main
from task6_retrieval.__main__ import TASK
from task6_retrieval.inference.scores import write_best, write_scores
from task6_retrieval.submission.tables import Expected, check_output

FILES = [f"{number}, a clip.wav" for number in range(14)]
QUERIES = [f'sound {number}, "said" twice' for number in range(6)]
EXPECTED = Expected(tuple(QUERIES), frozenset(FILES))
SCORES = np.random.default_rng(0).normal(size=(6, 14))


def output(folder: Path, edition: int) -> bytes:
    write = write_best if edition < 2025 else write_scores
    write(folder / "output.csv", QUERIES, FILES, SCORES)
    return (folder / "output.csv").read_bytes()


def rules(data: bytes, edition: int) -> list[tuple[int | None, str]]:
    return [(v.line, v.rule) for v in check_output(data, "output.csv", edition, EXPECTED)]


@pytest.mark.parametrize("edition", [2022, 2023, 2024, 2025])
def test_own_outputs_break_no_rule(tmp_path: Path, edition: int) -> None:
    assert rules(output(tmp_path, edition), edition) == []
    assert rules(output(tmp_path, edition).replace(b"\n", b"\r\n"), edition) == []


def test_scores_may_stand_in_any_order(tmp_path: Path) -> None:
    header, *rows = output(tmp_path, 2025).splitlines(keepends=True)
    assert rules(b"".join([header, *rows[::-1]]), 2025) == []


def test_the_best_come_first(tmp_path: Path) -> None:
    rows = list(csv.reader(io.StringIO(output(tmp_path, 2024).decode())))
    assert rows[0] == ["caption", *(f"file_name_{number}" for number in range(1, 11))]
    order = np.argsort(-SCORES, axis=1)[:, :10]
    assert rows[1:] == [[query, *(FILES[i] for i in row)] for query, row in zip(QUERIES, order, strict=True)]


Rows = list[list[str]]


@pytest.mark.parametrize(("edition", "change", "found"), [
    (2024, lambda rows: [row.insert(0, "0") for row in rows], (1, "columns")),
    (2024, lambda rows: rows[2].pop(), (3, "row-fields")),
    (2024, lambda rows: rows[2].__setitem__(4, rows[2][5]), (3, "file-twice")),
    (2024, lambda rows: rows[2].__setitem__(4, "x.wav"), (3, "file-unknown")),
    (2024, lambda rows: rows[2].__setitem__(4, f"test/{rows[2][4]}"), (3, "file-unknown")),
    (2024, lambda rows: rows[2].__setitem__(0, "a sound"), (3, "query-unknown")),
    (2024, lambda rows: rows.pop(3), (None, "query-missing")),
    (2024, lambda rows: rows.append(rows[3]), (None, "query-count")),
    (2024, lambda rows: rows.insert(1, rows.pop(3)), (2, "query-order")),
    (2024, lambda rows: rows.clear(), (None, "table-empty")),
    (2025, lambda rows: rows[0].__setitem__(3, "x.wav"), (1, "file-unknown")),
    (2025, lambda rows: rows[0].__setitem__(3, rows[0][4]), (1, "file-missing")),
    (2025, lambda rows: rows[4].__setitem__(3, "inf"), (5, "score")),
    (2025, lambda rows: rows[4].__setitem__(3, "high"), (5, "score")),
    (2025, lambda rows: [row.pop() for row in rows], (1, "columns")),
])  # fmt: skip
def test_broken_rules(
    tmp_path: Path, edition: int, change: Callable[[Rows], object], found: tuple[int | None, str],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    rows = list(csv.reader(io.StringIO(output(tmp_path, edition).decode())))
    change(rows)
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    assert found in rules(text.getvalue().encode(), edition)
    wrong = tmp_path / "wrong.csv"
    wrong.write_text(text.getvalue(), newline="")
    assert main(TASK, ["validate", str(wrong), *given(tmp_path), "--edition", str(edition)]) == 1
    said, (error,) = (of.splitlines() for of in capsys.readouterr())
    line, rule = found
    where = "wrong.csv" if line is None else f"wrong.csv:{line}"
    assert any(of.startswith(f"{where}: error: ") and of.endswith(f" [{rule}]") for of in said)
    assert error == f"error: {wrong}: not a valid submission"


def given(folder: Path) -> list[str]:
    """The words of `validate` that name the captions and files, written to a folder."""
    captions, clips = folder / "retrieval_captions.csv", folder / "retrieval_audio"
    with open(captions, "w", newline="") as file:
        csv.writer(file).writerows([["caption"], *([query] for query in QUERIES)])
    clips.mkdir()
    for name in FILES:
        (clips / name).touch()
    return ["--queries", str(captions), "--clips", str(clips)]


def test_stray_quotes_and_other_encodings(tmp_path: Path) -> None:
    data = output(tmp_path, 2024)
    assert rules(data + b'"x"y,', 2024)[0][1] == "csv" or (8, "csv") in rules(data + b'"x"y,', 2024)
    assert rules(data + "é".encode("latin-1"), 2024) == [(8, "encoding")]


def test_verb(tmp_path: Path, tiny_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    write_scores(good, QUERIES, FILES, SCORES)
    write_scores(bad, QUERIES[:5], FILES, SCORES[:5])
    words = [*given(tmp_path), "--edition", "2025"]
    assert main(TASK, ["validate", str(good), *words]) == 0
    assert "ok: no rule is broken" in capsys.readouterr().out
    assert main(TASK, ["validate", str(bad), *words]) == 1
    assert "[query-missing]" in capsys.readouterr().out
    assert main(TASK, ["validate", str(good), f"data.root={tiny_root}"]) == 1  # measured by the recipe's test set
    assert "[query-unknown]" in capsys.readouterr().out
