"""Anybody's similarities, embeddings and truths: figures by hand, and what is wrong is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.run.errors import UserError
from common.run.verbs import main
from qbv.__main__ import TASK
from qbv.evaluation.evaluate import evaluate_files, figures
from qbv.inference.scores import (
    Similarities,
    aligned,
    read_similarities,
    read_truth,
    write_embeddings,
    write_similarities,
    write_truth,
)

TRUTH = """query,item,concept,imitator
q1,cat1.wav,cat,ann
q2,dog1.wav,dog,bob
q3,dog2.wav,dog,ann
q1,dog1.wav,dog,ann
,cat2.wav,cat,
"""
ITEMS = ("cat1.wav", "dog1.wav", "dog2.wav", "cat2.wav")
SCORES = np.array([[0.9, 0.1, 0.2, 0.95], [0.5, 0.4, 0.3, 0.0], [0.1, 0.2, 0.3, 0.4]], np.float32)


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    path = tmp_path / "truth.csv"
    path.write_text(TRUTH)
    return path


def written(folder: Path, suffix: str, scores: np.ndarray = SCORES) -> Path:
    path = folder / f"scores.{suffix}"
    if suffix == "npz":
        write_similarities(path, Similarities(("q1", "q2", "q3"), ITEMS, scores))
    elif suffix == "json":
        rows = {f"q{n}": dict(zip(ITEMS, map(float, row), strict=True)) for n, row in enumerate(scores, 1)}
        path.write_text(json.dumps(rows))
    else:
        rows = [",".join(["", *ITEMS]), *(f"q{n},{','.join(map(str, row))}" for n, row in enumerate(scores, 1))]
        path.write_text("\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize("suffix", ["npz", "csv", "json"])
def test_figures_by_hand(suffix: str, tmp_path: Path, truth: Path) -> None:
    path = written(tmp_path, suffix)
    found = evaluate_files([path], truth, out=tmp_path / "out")[str(path)]
    assert found["mrr"] == pytest.approx((1 / 2 + 1 / 2 + 1 / 2) / 3)  # the second line of q1 does not count
    assert (found["r@1"], found["r@2"]) == (0, 1)
    assert found["mrr by concept"] == {"cat": 0.5, "dog": 0.5}
    assert found["chance"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert (found["queries"], found["items"], found["left out"]) == (3, 4, 0)
    log = np.log2(np.arange(2, 6))
    ideal = 1 / log[0] + 1 / log[1]
    expected = [ideal, 1 / log[1] + 1 / log[2], 1 / log[1] + 1 / log[2]]
    assert found["ndcg"] == pytest.approx(np.mean(expected) / ideal)
    assert found["class mrr"] == pytest.approx(np.mean([1.5, 1 / 2 + 1 / 3, 1 / 2 + 1 / 3]) / 1.5)
    assert found["found by rank"] == [0, 1, 1, 1]
    assert json.loads((tmp_path / "out" / "results.json").read_text())[str(path)]["mrr"] == found["mrr"]


def test_within_concepts(tmp_path: Path, truth: Path) -> None:
    scores = SCORES.copy()
    scores[0, 1] = np.nan  # never compared: another concept
    path = written(tmp_path, "npz", scores)
    found = evaluate_files([path], truth, within=True)[str(path)]
    assert found["mrr by concept"] == {"cat": 0.5, "dog": 1.0}
    assert found["mrr"] == pytest.approx(0.75)
    assert found["mrr over queries"] == pytest.approx(2.5 / 3)
    assert found["chance"] == pytest.approx(0.75)
    with pytest.raises(UserError, match=r"no finite similarity of query 'q1' and item 'dog1.wav'"):
        evaluate_files([path], truth)


def test_a_concept_with_one_item_is_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("query,item,concept\nq1,cat1.wav,cat\nq2,dog1.wav,dog\n,dog2.wav,dog\n")
    truth = read_truth(tmp_path / "t.csv")
    scores = np.array([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3]])
    found = figures(scores, truth, within=True).values
    assert (found["queries"], found["left out"]) == (1, 1)
    assert found["r@2"] == 1
    assert found["r@2 as published"] == 0.5
    (tmp_path / "t.csv").write_text("query,item,concept\nq1,cat1.wav,cat\n")
    with pytest.raises(UserError, match="no query has two items to choose from"):
        figures(scores[:1, :1], read_truth(tmp_path / "t.csv"), within=True)


def test_ties_are_said(tmp_path: Path, truth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "csv", np.zeros((3, 4), np.float32))
    found = evaluate_files([path], truth)[str(path)]
    assert found["mrr"] == pytest.approx(found["chance"])
    assert found["mrr of the worst and best order of ties"] == [0.25, 1.0]
    assert "equal similarities" in capsys.readouterr().out


def test_intervals_draw_concepts_or_imitators(tmp_path: Path) -> None:
    rows = [f"q{n},i{n % 20},c{n % 20},p{n % 12}" for n in range(120)]
    (tmp_path / "t.csv").write_text("\n".join(["query,item,concept,imitator", *rows]))
    truth, scores = read_truth(tmp_path / "t.csv"), np.random.default_rng(0).normal(size=(120, 20))
    by_concept, by_imitator = (figures(scores, truth, group=group).values for group in ("concept", "imitator"))
    assert by_concept["mrr"] == by_imitator["mrr"]
    assert by_concept["interval"] != by_imitator["interval"]
    for of in (by_concept, by_imitator):
        low, high = of["interval"]
        assert low < of["mrr"] < high
    with pytest.raises(UserError, match="means over concepts are drawn by concept"):
        figures(scores, truth, within=True, group="imitator")
    (tmp_path / "t.csv").write_text("\n".join(["query,item,concept", *(row.rpartition(",")[0] for row in rows)]))
    with pytest.raises(UserError, match="needs a column imitator"):
        figures(scores, read_truth(tmp_path / "t.csv"), group="imitator")


def test_embeddings_are_compared_by_cosine(tmp_path: Path) -> None:
    query, item = np.array([[2.0, 0], [0, 0]]), np.array([[1.0, 1], [3, 0], [0, 1]])
    write_embeddings(tmp_path / "e.npz", ["a", "b"], ["x", "y", "z"], query, item)
    found = read_similarities(tmp_path / "e.npz")
    np.testing.assert_allclose(found.matrix, [[0.5**0.5, 1, 0], [0, 0, 0]], atol=1e-6)


@given(st.integers(1, 5), st.integers(2, 6), st.randoms())
@settings(max_examples=25, deadline=None)
def test_the_order_of_rows_and_columns_does_not_matter(queries: int, items: int, random: Any) -> None:
    scores = np.array([[random.random() for _ in range(items)] for _ in range(queries)], np.float32)
    names, of = [f"q{n}" for n in range(queries)], [f"i{n}" for n in range(items)]
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        write_truth(path, names, [random.randrange(items) for _ in names], of, of)
        truth = read_truth(path)
    assert set(truth.items) == set(of)
    rows, columns = random.sample(range(queries), queries), random.sample(range(items), items)
    mixed = Similarities(tuple(names[r] for r in rows), tuple(of[c] for c in columns), scores[np.ix_(rows, columns)])
    plain = Similarities(tuple(names), tuple(of), scores)
    assert np.array_equal(aligned(mixed, truth, "x"), aligned(plain, truth, "x"))


def array(**arrays: Any) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **arrays)


def text(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(content) and None


Q, X = np.array(["q1", "q2", "q3"]), np.array(ITEMS)
WRONG: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "suffix": ("s.txt", text("x"), r"suffix '.txt', expected .npz, .csv or .json"),
    "no npz": ("s.npz", text("x"), r"s.npz: not a readable .npz"),
    "objects": ("s.npz", array(queries=np.array([{}]), items=X), r"s.npz: not a readable .npz"),
    "no matrix": ("s.npz", array(queries=Q, items=X), r"holds items, queries, expected queries, items and matrix"),
    "shape": (
        "s.npz",
        array(queries=Q, items=X, matrix=SCORES.T),
        r"matrix: .* of shape \(4, 3\), expected .*\(3, 4\)",
    ),
    "infinite": (
        "s.npz",
        array(queries=Q, items=X, matrix=np.full((3, 4), np.inf)),
        r"matrix: row 0, column 0 is not finite",
    ),
    "other model": (
        "s.npz",
        array(queries=Q, items=X, query=np.ones((3, 8)), item=np.ones((4, 9))),
        r"vectors of 8 and 9 numbers",
    ),
    "another model of the same size": (
        "s.npz",
        array(
            queries=Q, items=X, query=np.ones((3, 8)), item=np.ones((4, 8)), query_model="a" * 64, item_model="b" * 64
        ),
        r"vectors of the models 'aaaaaaaaaaaa' and 'bbbbbbbbbbbb', expected one model's",
    ),
    "nan vector": (
        "s.npz",
        array(queries=Q, items=X, query=np.ones((3, 8)) * np.nan, item=np.ones((4, 8))),
        r"query: row 0, column 0 is not",
    ),
    "text": (
        "s.npz",
        array(queries=Q, items=X, query=np.array([["a"]] * 3), item=np.ones((4, 1))),
        r"expected numbers",
    ),
    "fields": ("s.csv", text(",a,b\nq1,1\n"), r"s.csv:2: 2 fields, expected 3"),
    "word": ("s.csv", text(",a,b\nq1,1,x\n"), r"s.csv:2: similarity to 'b' is 'x', expected a finite number"),
    "nan": ("s.csv", text(",a,b\nq1,nan,1\n"), r"s.csv:2: similarity to 'a' is 'nan'"),
    "huge": ("s.csv", text(",a,b\nq1,1e300,1\n"), r"s.csv:2: similarity to 'a' is '1e300'"),
    "twice": ("s.csv", text(",a,a\nq1,1,2\n"), r"item 'a' stands there twice"),
    "empty": ("s.csv", text(""), r"no queries or no items"),
    "bytes": ("s.csv", lambda path: path.write_bytes(b",a\xff\nq,1\n") and None, r"not a text file in UTF-8"),
    "list": ("s.json", text("[1]"), r"expected {query: {item: similarity}}"),
    "lacks": ("s.json", text('{"q1": {"a": 1, "b": 2}, "q2": {"a": 1}}'), r"query 'q2': item 'b' is not there"),
    "bool": ("s.json", text('{"q1": {"a": true}}'), r"query 'q1': similarity to 'a' is True"),
    "null": ("s.json", text('{"q1": {"a": null}}'), r"query 'q1': similarity to 'a' is None"),
    "broken": ("s.json", text("{"), r"s.json:1: not valid JSON"),
    "query": ("s.csv", text(f",{','.join(ITEMS)}\nq1,1,2,3,4\n"), r"no query 'q2' \(2 of 3 are missing\)"),
    "item": ("s.csv", text(",cat1.wav\nq1,1\nq2,1\nq3,1\n"), r"no item 'dog1.wav' \(3 of 4 are missing\)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_similarities(case: str, tmp_path: Path, truth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, write, said = WRONG[case]
    write(tmp_path / name)
    with pytest.raises(UserError, match=said):
        evaluate_files([tmp_path / name], truth)
    assert main(TASK, ["evaluate", "--scores", str(tmp_path / name), "--ground-truth", str(truth)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("query,item\n", "no query, expected a line for each"),
        ("query\nq1\n", "no column 'item'"),
        ("query,item\nq1,\n", "truth.csv:2: item is empty"),
        ("query,item,concept\nq1,a,x\nq2,a,y\n", "truth.csv:3: 'a' is 'y', a line before 'x'"),
    ],
)
def test_wrong_truths(content: str, said: str, truth: Path) -> None:
    truth.write_text(content)
    with pytest.raises(UserError, match=said):
        read_truth(truth)
