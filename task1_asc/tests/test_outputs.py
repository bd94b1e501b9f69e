"""The challenge's output files: what is written, and what is said of files that are wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.run.errors import UserError
from task1_asc.data.classes import SCENES
from task1_asc.inference.scores import COLUMNS, add_outputs, read_outputs, write_outputs
from task1_asc.submission.tables import check_output

NAMES = ["audio/0.wav", "audio/1.wav", "2.wav"]


@pytest.fixture
def probabilities() -> np.ndarray:
    logits = np.random.default_rng(1).normal(size=(3, 10))
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.fixture
def path(tmp_path: Path, probabilities: np.ndarray) -> Path:
    write_outputs(tmp_path / "output.csv", NAMES, probabilities)
    return tmp_path / "output.csv"


def test_form(path: Path) -> None:
    lines = path.read_text().split("\n")
    assert lines[0].split("\t") == ["filename", "scene_label", *SCENES]
    assert lines[-1] == ""
    assert [line.split("\t")[0] for line in lines[1:-1]] == ["0.wav", "1.wav", "2.wav"]
    assert all(len(line.split("\t")) == 12 for line in lines[:-1])
    assert check_output(path.read_bytes(), "output.csv", files=3) == []


def test_round_trip(path: Path, probabilities: np.ndarray) -> None:
    outputs = read_outputs(path)
    assert outputs.names == ("0.wav", "1.wav", "2.wav")
    assert outputs.labels.tolist() == probabilities.argmax(axis=1).tolist()
    assert outputs.probabilities is not None
    assert np.array_equal(outputs.probabilities.astype(np.float32), probabilities.astype(np.float32))


def test_rows_are_added_and_replaced(path: Path, probabilities: np.ndarray) -> None:
    add_outputs(path, ["there/1.wav", "3.wav"], probabilities[:2])
    outputs = read_outputs(path)
    assert outputs.names == ("0.wav", "1.wav", "2.wav", "3.wav")
    assert outputs.probabilities is not None
    np.testing.assert_allclose(outputs.probabilities, probabilities[[0, 0, 2, 1]], rtol=1e-6)
    with pytest.raises(UserError, match="two of the files have the same name"):
        add_outputs(path, ["a/0.wav", "b/0.wav"], probabilities[:2])


@pytest.mark.parametrize("change", ["labels only", "a column more", "another label", "another table"])
def test_a_table_of_somebody_else_is_not_touched(path: Path, probabilities: np.ndarray, change: str) -> None:
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    other = next(scene for scene in SCENES if scene != lines[1][1])
    rows = {
        "labels only": [line[:2] for line in lines],
        "a column more": [[*line, "remark"] for line in lines],
        "another label": [lines[0], [lines[1][0], other, *lines[1][2:]], *lines[2:]],
        "another table": [["filename", "remark"], ["0.wav", "mine"]],
    }[change]
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    before = path.read_text()
    with pytest.raises(UserError, match=r"output\.csv"):
        add_outputs(path, ["3.wav"], probabilities[:1])
    assert path.read_text() == before


def test_half_precision_probabilities_pass(tmp_path: Path, probabilities: np.ndarray) -> None:
    write_outputs(tmp_path / "half.csv", NAMES, probabilities.astype(np.float16))
    assert check_output((tmp_path / "half.csv").read_bytes(), "half.csv", files=3) == []
    assert read_outputs(tmp_path / "half.csv").labels.tolist() == probabilities.argmax(axis=1).tolist()


def test_neighbouring_numbers_keep_their_order(tmp_path: Path) -> None:
    row = np.full((1, 10), 0.1, dtype=np.float32)
    row[0, 6] = np.nextafter(row[0, 6], np.float32(1))
    write_outputs(tmp_path / "near.csv", ["0.wav"], row)
    assert read_outputs(tmp_path / "near.csv").labels.tolist() == [6]
    assert check_output((tmp_path / "near.csv").read_bytes(), "near.csv", files=1) == []


def test_nothing_is_written_for_a_diverged_network(tmp_path: Path, probabilities: np.ndarray) -> None:
    probabilities[1, 3] = np.nan
    with pytest.raises(UserError, match=r"audio/1\.wav are not finite"):
        write_outputs(tmp_path / "output.csv", NAMES, probabilities)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="shape"):
        write_outputs(tmp_path / "output.csv", NAMES, probabilities[:2])


def test_files_without_probabilities(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("filename\tscene_label\naudio/0.wav\tbus\n")
    outputs = read_outputs(tmp_path / "labels.csv")
    assert outputs.probabilities is None
    assert outputs.labels.tolist() == [1]


def replace_in(line: int, column: int, value: str) -> Callable[[list[list[str]]], None]:
    def change(table: list[list[str]]) -> None:
        table[line - 1][column] = value

    return change


WRONG = [
    (replace_in(1, 1, "scene"), 1, "no column 'scene_label'"),
    (replace_in(1, 11, "trams"), 1, "no column 'tram'"),
    (replace_in(3, 1, "buss"), 3, "unknown scene 'buss'; did you mean 'bus'?"),
    (replace_in(3, 0, "0.wav"), 3, "0.wav already stands at"),
    (replace_in(4, 5, "high"), 4, "metro_station is 'high'"),
    (replace_in(4, 5, "nan"), 4, "finite"),
    (replace_in(4, 5, "-0.1"), 4, "metro_station is -0.1, expected a probability"),
    (replace_in(2, 2, "0.99"), 2, "sum to"),
    (lambda table: table[2].pop(), 3, "11 fields, expected 12"),
]


@pytest.mark.parametrize(("change", "line", "message"), WRONG)
def test_bad_files_are_named_by_line(path: Path, change: Callable, line: int, message: str) -> None:
    table = [text.split("\t") for text in path.read_text().splitlines()]
    change(table)
    path.write_text("\n".join("\t".join(row) for row in table) + "\n")
    with pytest.raises(UserError) as raised:
        read_outputs(path)
    assert str(raised.value).startswith(f"{path}:{line}: ")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        ("\t".join(COLUMNS) + "\n", "no rows"),
        (",".join(COLUMNS) + "\n", "separated by ','"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        read_outputs(tmp_path / "x.csv")
    with pytest.raises(UserError, match="not found"):
        read_outputs(tmp_path / "y.csv")
