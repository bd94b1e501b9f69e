"""Anybody's csv against captions or annotations: right figures, and one line for what is wrong with it."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.run.errors import UserError
from common.run.verbs import main
from common.tests.helpers import loaded_by
from task6_retrieval.__main__ import TASK
from task6_retrieval.evaluation.captions import caption_figures
from task6_retrieval.evaluation.evaluate import evaluate_files
from task6_retrieval.inference.scores import write_best, write_scores
from task6_retrieval.metrics import ranks_of_scores, retrieval_metrics
from task6_retrieval.model.text import normalised

CLIPS = [f"{number}, a clip.wav" for number in range(12)]
NAMES = [" blank.wav", *CLIPS[1:]]
QUERIES = [f"sound {number}, said {place}" for number in range(12) for place in range(2)]


def write(path: Path, rows: Sequence[Sequence[Any]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    rows = [[name, *QUERIES[2 * number : 2 * number + 2]] for number, name in enumerate(NAMES)]
    return write(tmp_path / "captions.csv", [("file_name", "caption_1", "caption_2"), *rows])


@pytest.fixture
def scores() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 6, (24, 12)) / 8 + np.repeat(np.eye(12), 2, axis=0) / 2


def test_both_forms_give_the_figures(tmp_path: Path, truth: Path, scores: np.ndarray) -> None:
    expected = retrieval_metrics(ranks_of_scores(scores, np.arange(24) // 2))
    write_scores(tmp_path / "scores.csv", QUERIES, NAMES, scores)
    write_best(tmp_path / "best.csv", QUERIES, NAMES, scores)
    whole = evaluate_files(tmp_path / "scores.csv", truth)
    assert {name: whole[name] for name in expected} == expected
    best = evaluate_files(tmp_path / "best.csv", truth)
    assert {name: best[name] for name in expected if name != "map@16"} == {
        name: value for name, value in expected.items() if name != "map@16"
    }
    assert "map@16" not in best
    for name in ("map@10", "r@1"):
        low, high = whole["intervals"][name]
        assert low < whole[name] < high


def test_order_of_rows_and_columns_and_lost_blanks_do_not_matter(
    tmp_path: Path, truth: Path, scores: np.ndarray
) -> None:
    write_scores(tmp_path / "a.csv", QUERIES, NAMES, scores)
    rows, columns = np.random.default_rng(1).permutation(24), np.random.default_rng(2).permutation(12)
    write_scores(
        tmp_path / "b.csv", [QUERIES[i] for i in rows], [NAMES[i].strip() for i in columns], scores[rows][:, columns]
    )
    first, second = (evaluate_files(tmp_path / name, truth) for name in ("a.csv", "b.csv"))
    assert {**first, "inputs": 0} == {**second, "inputs": 0}


def test_annotations_with_several_clips(tmp_path: Path, scores: np.ndarray) -> None:
    annotations = {QUERIES[3]: [NAMES[0], NAMES[4], NAMES[5]], QUERIES[8]: [NAMES[1]]}
    path = write(tmp_path / "m.csv", [("query", "audio_filenames"), *((q, str(n)) for q, n in annotations.items())])
    write_scores(tmp_path / "scores.csv", QUERIES, NAMES, scores)
    found = evaluate_files(tmp_path / "scores.csv", path)
    expected = retrieval_metrics(ranks_of_scores(scores[[3, 8]], [[0, 4, 5], [1, -1, -1]]))
    assert {name: found[name] for name in expected} == expected
    assert found["queries_ignored"] == 22
    write_best(tmp_path / "best.csv", QUERIES, NAMES, scores)
    assert evaluate_files(tmp_path / "best.csv", path)["map@10"] == pytest.approx(expected["map@10"], abs=0.1)


def test_against_another_system(tmp_path: Path, truth: Path, scores: np.ndarray) -> None:
    write_scores(tmp_path / "good.csv", QUERIES, NAMES, scores + np.repeat(np.eye(12), 2, axis=0))
    write_scores(tmp_path / "poor.csv", QUERIES, NAMES, -scores)
    found = evaluate_files(tmp_path / "good.csv", truth, tmp_path / "poor.csv")["against"]["map@10"]
    assert found["difference"] > 0.5
    assert found["interval"][0] > 0
    assert found["p"] < 0.01
    same = evaluate_files(tmp_path / "good.csv", truth, tmp_path / "good.csv")["against"]["map@10"]
    assert (same["difference"], same["p"]) == (0.0, 1.0)


Change = Callable[[list[list[str]]], None]


def put(row: int, column: int, text: str) -> Change:
    def change(rows: list[list[str]]) -> None:
        rows[row][column] = text

    return change


@pytest.mark.parametrize(("form", "change", "message"), [
    ("best", lambda rows: rows[3].pop(), "best.csv:4: 10 columns, expected 11"),
    ("best", lambda rows: rows[3].append("x"), "best.csv:4: 12 columns"),
    ("best", put(2, 3, "9, a clop.wav"), "best.csv:3: unknown file '9, a clop.wav'; did you mean '9, a clip.wav'"),
    ("best", lambda rows: rows[2].__setitem__(3, rows[2][2]), "is there twice, expected every file once"),
    ("best", lambda rows: rows.pop(5), "no row for 1 of 24 queries, the first is 'sound 2, said 0'"),
    ("best", put(5, 0, "another"), "line 6 has none of the queries"),
    ("best", lambda rows: rows.append(rows[5]), "has a row already, expected one"),
    ("best", lambda rows: rows.__delitem__(slice(1, None)), "no query"),
    ("best", lambda rows: rows.clear(), "empty, expected a header"),
    ("scores", lambda rows: rows.__setitem__(0, [f"evaluation/{name}" for name in rows[0]]), ":1: unknown file 'evalu"),
    ("scores", put(0, 4, "stranger.wav"), "scores.csv:1: unknown file 'stranger.wav'"),
    ("scores", put(0, 4, NAMES[0]), "scores.csv:1: ' blank.wav' is there twice"),
    ("scores", put(7, 2, "nan"), "scores.csv:8: the score of 1, a clip.wav is 'nan', expected a finite number"),
    ("scores", put(7, 2, "1,5"), "is '1,5', expected a finite number"),
    ("scores", lambda rows: [row.pop() for row in rows], "scores of 11 of 12 clips, no column '11, a clip.wav'"),
])  # fmt: skip
def test_bad_files(tmp_path: Path, truth: Path, scores: np.ndarray, form: str, change: Change, message: str) -> None:
    path = tmp_path / f"{form}.csv"
    (write_best if form == "best" else write_scores)(path, QUERIES, NAMES, scores)
    rows = list(csv.reader(path.read_text().splitlines()))
    change(rows)
    with pytest.raises(UserError) as caught:
        evaluate_files(write(path, rows), truth)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_encoding(tmp_path: Path, truth: Path) -> None:
    (tmp_path / "best.csv").write_bytes("caption,a\ncafé,b\n".encode("latin-1"))
    with pytest.raises(UserError, match="not a text file in UTF-8"):
        evaluate_files(tmp_path / "best.csv", truth)


# ---------------------------------------- verbs


def test_verbs(tmp_path: Path, truth: Path, scores: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    write_best(tmp_path / "best.csv", QUERIES, NAMES, scores)
    best = str(tmp_path / "best.csv")
    assert main(TASK, ["evaluate", "--scores", best, "--ground-truth", str(truth), "--against", best, "--json"]) == 0
    assert {"map@10", "r@1", "r@5", "r@10"} <= json.loads(capsys.readouterr().out.splitlines()[-1]).keys()
    assert main(TASK, ["captions", str(truth), "--encoder", "small", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["protocols"]["P1"]["map@10"] == found["map@10"]
    for words in (
        ["evaluate", "--run-dir", "nowhere"],
        ["captions"],
        ["captions", "x.csv"],
        ["captions", str(truth), "--protocol", "P3"],
    ):
        assert main(TASK, words) == 1
        assert capsys.readouterr().err.startswith("error: ")


def test_prepare_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = Path(__file__).with_name("tiny.yaml")
    assert main(TASK, ["prepare", "--recipe", str(recipe), "--verify", "--json", "data.root=toy"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["made_of"] == "toy"
    assert report["sets"]["clotho_evaluation"]["packed"] == 6


# ---------------------------------------- captions of captions


def bag(sentences: Sequence[str]) -> np.ndarray:
    """Unit vectors of words, for tests without an encoder."""
    words = {word: number for number, word in enumerate(sorted({w for s in sentences for w in s.split()}))}
    found = np.zeros((len(sentences), len(words)))
    for row, sentence in zip(found, sentences, strict=True):
        row[[words[word] for word in sentence.split()]] = 1
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_protocols_by_another_way(tmp_path: Path) -> None:
    texts = [
        ["a dog barks", "the dog", "one dog barks"],
        ["rain falls", "heavy rain", "a rain"],
        ["a cat", "cat", "it"],
    ]
    names = ["a.wav", "b.wav", "c.wav"]
    header = ("file_name", "caption_1", "caption_2", "caption_3")
    path = write(tmp_path / "c.csv", [header, *([n, *of] for n, of in zip(names, texts, strict=True))])
    annotated = write(
        tmp_path / "m.csv", [("query", "audio_filenames"), ("cat", str(names[1:])), ("a rain", "['a.wav']")]
    )
    found = caption_figures(path, annotated, bag)
    vectors = bag([c for of in texts for c in of]).reshape(3, 3, -1)

    def mean(of: np.ndarray) -> np.ndarray:
        total = of.sum(axis=0)
        return total / np.linalg.norm(total)

    scores = {}
    for clip in range(3):
        for place in range(3):
            others = [vectors[j] if j != clip else np.delete(vectors[j], place, axis=0) for j in range(3)]
            scores[clip, place] = [vectors[clip, place] @ mean(of) for of in others]
    every = retrieval_metrics(ranks_of_scores(np.array(list(scores.values())), np.arange(9) // 3))
    assert found["protocols"]["P2"] == pytest.approx(every)
    first = np.array([[vectors[i, 0] @ mean(vectors[j, 1:]) for j in range(3)] for i in range(3)])
    assert found["protocols"]["P1"] == pytest.approx(retrieval_metrics(ranks_of_scores(first, np.arange(3))))
    asked = np.array([scores[2, 1], scores[1, 2]])
    expected = retrieval_metrics(ranks_of_scores(asked, [[1, 2], [0, -1]]))
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["protocol"] == "P3"


def test_normalised() -> None:
    assert normalised("It's a Dog, barking -- twice!") == "its a dog barking  twice"


def test_real_words_without_an_encoder(shared: Path) -> None:
    path = shared / "data" / "clotho" / "clotho_captions_validation.csv"
    found = caption_figures(path, None, lambda texts: np.ones((len(texts), 1)), "T1")
    stated = next(
        line.split("|")[2:6]
        for line in (path.parent / "README.md").read_text().splitlines()
        if line.startswith("| T1 |")
    )
    assert [found[k] for k in ("map@10", "r@1", "r@5", "r@10")] == pytest.approx([float(x) for x in stated], abs=6e-6)


@pytest.mark.slow
@pytest.mark.parametrize("normalise", [False, True])
def test_real_captions_by_the_embedded_encoder(shared: Path, normalise: bool) -> None:
    from common.encoders.text import create

    path = shared / "data" / "clotho" / "clotho_captions_validation.csv"
    found = caption_figures(path, None, create("all-MiniLM-L6-v2").encode, None, normalise)
    for line in (path.parent / "README.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        for protocol in ("P1", "P2"):
            if line.startswith(f"| {protocol} {'normalised' if normalise else 'raw'} |"):
                figures = [found["protocols"][protocol][k] for k in ("map@10", "r@1", "r@5", "r@10")]
                assert figures == pytest.approx([float(x) for x in cells[2:6]], abs=0.003)


def test_answers_that_need_no_tensor_load_none() -> None:
    commands = [
        ["--help"],
        ["captions", "--help"],
        ["evaluate", "--run-dir", "nowhere"],
        ["evaluate", "--scores", "x", "--ground-truth", "y"],
    ]
    commands += [["captions", "x.csv"], ["validate", "x.csv", "--queries", "y.csv"], ["prepare", "--recipe", "tyo"]]
    found = loaded_by("task6_retrieval", commands)
    assert [code for code, _ in found] == [0, 0, 1, 1, 1, 1, 1]
    assert found[-1][1] == set()
