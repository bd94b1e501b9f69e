"""Ensembles of own runs, and archives of runs and ensembles: from stored vectors to files that validate."""

import csv
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from common.run.errors import UserError
from common.run.results.store import read_results
from common.run.verbs import main, open_run
from task6_retrieval.__main__ import TASK
from task6_retrieval.evaluation.evaluate import evaluate_files
from task6_retrieval.inference.ensemble import SELECTED, ensemble, select
from task6_retrieval.inference.outputs import Scores, scores_of
from task6_retrieval.inference.scores import write_best, write_scores

RECIPE = str(Path(__file__).with_name("tiny.yaml"))


def scores(matrix: Any, queries: str = "ab", clips: str = "xyz") -> Scores:
    return Scores(tuple(queries), tuple(clips), np.array(matrix, np.float32))


FIRST = scores([[0.8, 0.2, 0.4], [0.0, 0.6, 0.2]])


def test_weighted_mean_by_names() -> None:
    second = scores([[0.0, 0.3, 0.9], [0.3, 0.6, 0.0]], "ba", "zyx")  # of b, a; z, y, x
    mean = ensemble([FIRST, second], [1, 3])
    assert (mean.queries, mean.clips) == (FIRST.queries, FIRST.clips)
    assert mean.matrix == pytest.approx(np.array([[0.2, 0.5, 0.325], [0.675, 0.375, 0.05]]))
    assert ensemble([FIRST, second], [2, 6]).matrix == pytest.approx(mean.matrix)
    assert ensemble([FIRST, second]).matrix == pytest.approx((FIRST.matrix + second.matrix[::-1, ::-1]) / 2)
    assert np.array_equal(ensemble([FIRST, second], [1, 0]).matrix, FIRST.matrix)


def test_selection_keeps_what_helps() -> None:
    """Two systems that know different halves of the queries, and one that knows nothing."""
    rng, names = np.random.default_rng(0), [f"{number:02d}" for number in range(40)]
    known = np.eye(40) * 5
    noise = [rng.normal(size=(40, 40)) for _ in range(3)]
    first, second = (noise[i] + known * (np.arange(40) % 2 == i)[:, None] for i in (0, 1))
    of = [Scores(tuple(names), tuple(names), matrix.astype(np.float32)) for matrix in (first, second, noise[2])]
    turned = Scores(of[1].queries[::-1], of[1].clips, of[1].matrix[::-1])
    weights = select([of[0], turned, of[2]], {name: name for name in names})
    assert min(weights[:2]) > max(weights[2], 0)
    assert sum(weights) <= SELECTED

    def hits(chosen: list[float]) -> int:
        return int((ensemble(of, chosen).matrix.argmax(axis=1) == np.arange(40)).sum())

    assert hits(weights) > max(hits(chosen) for chosen in ([1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]))


@pytest.mark.parametrize(("parts", "weights", "said"), [
    ([FIRST], [1, 2], "expected one for each of 1"),
    ([FIRST, FIRST], [1, -1], "0 or more"),
    ([FIRST, FIRST], [0, 0], "not all 0"),
    ([FIRST, FIRST], [1, float("nan")], "--weights: 1 nan"),
    ([FIRST, scores(FIRST.matrix, clips="xyw")], None, "different clips, 'w'"),
    ([FIRST, scores(FIRST.matrix, queries="ac")], None, "different queries, 'b'"),
    ([], None, "no system"),
])  # fmt: skip
def test_what_cannot_be_joined(parts: list[Scores], weights: list[float] | None, said: str) -> None:
    with pytest.raises(UserError, match=said):
        ensemble(parts, weights)


def test_rankings_with_ties_have_the_figures_of_their_scores(tmp_path: Path) -> None:
    """The ten best are those that the rule for ties ranks first: the clip that stands first in the gallery."""
    rng, clips = np.random.default_rng(0), [f"{number}.wav" for number in range(12)]
    matrix = rng.integers(0, 3, (24, 12)).astype(np.float32)  # few values, many ties
    queries = [f"query {number}" for number in range(24)]
    with open(tmp_path / "truth.csv", "w", newline="") as file:
        rows = [[name, *queries[2 * number : 2 * number + 2]] for number, name in enumerate(clips)]
        csv.writer(file).writerows([["file_name", "caption_1", "caption_2"], *rows])
    write_best(tmp_path / "best.csv", queries, clips, matrix)
    write_scores(tmp_path / "scores.csv", queries, clips, matrix)
    best, every = (evaluate_files(tmp_path / f"{of}.csv", tmp_path / "truth.csv") for of in ("best", "scores"))
    assert {key: best[key] for key in ("map@10", "r@1", "r@5", "r@10")} == {
        key: every[key] for key in ("map@10", "r@1", "r@5", "r@10")
    }


@pytest.fixture(scope="module")
def place(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> "Place":
    """Two trained runs of different encoders, and their ensemble."""
    made = Place(tmp_path_factory.mktemp("systems"), tiny_root)
    for name, more in (("mine", ()), ("other", ("model.audio.encoder=passt-tiny",))):
        for verb in ("train", "predict", "evaluate"):
            assert made.call(verb, name, *more) == 0, verb
    assert made.call("evaluate", "both", "--ensemble", *made.members, "--weights", "3", "1") == 0
    return made


class Place:
    """A folder with run folders, and the data set that they are about."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self.root = folder, root
        self.members = [str(folder / name) for name in ("mine", "other")]

    def call(self, verb: str, name: str, *words: str) -> int:
        where = ["--recipe", RECIPE, "--run-dir", str(self.folder / name), f"data.root={self.root}"]
        return main(TASK, [verb, *where, *words])

    def scores(self, name: str, of: str) -> Scores:
        return scores_of(open_run(TASK, RECIPE, [f"data.root={self.root}"], 1, self.folder / name), of)

    def results(self, name: str) -> dict[str, Any]:
        return {key: of["values"] for key, of in read_results(self.folder / name / "run1").items()}


def test_an_ensemble_is_a_run(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    for of in ("clotho_validation", "clotho_evaluation", "challenge"):
        mine, other = place.scores("mine", of), place.scores("other", of)
        assert place.scores("both", of).matrix == pytest.approx(0.75 * mine.matrix + 0.25 * other.matrix, abs=1e-6)
    train = place.results("both")["train"]
    assert train["members"] == [f"{folder}/run1" for folder in place.members]
    assert (train["weights"], train["data"]) == ([3.0, 1.0], "toy")
    assert place.call("evaluate", "both") == 0  # again, of what is stored
    assert place.call("compare", "both") == 0
    assert "both (own, 1 training)" in capsys.readouterr().out
    assert main(TASK, ["compare", "--runs-of", place.members[0], str(place.folder / "both"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["differences"]
    figures = [place.results(name)["test"]["sets"]["clotho_evaluation"]["map@10"] for name in ("mine", "both")]
    assert found[0]["difference"] == pytest.approx(100 * (figures[1] - figures[0]))
    assert main(TASK, ["runs", "--run-dir", str(place.folder), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]
    assert {of["recipe"]: of["state"] for of in listed}["both"] == "evaluated"


def test_weights_of_the_validation_set(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.call("evaluate", "chosen", "--ensemble", *place.members, "--no-plots", "--weights") == 0
    assert "weights that clotho_validation chose" in capsys.readouterr().out
    parts = [place.scores(name, "clotho_validation") for name in ("mine", "other")]
    weights = place.results("chosen")["train"]["weights"]
    assert place.scores("chosen", "clotho_validation").matrix == pytest.approx(ensemble(parts, weights).matrix)


def test_archives_of_runs_and_ensembles(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    out = place.folder / "all.zip"
    names = [*place.members, str(place.folder / "both")]
    assert place.call("package", "mine", "--runs-of", *names, "--edition", "2024", "2025", "--out", str(out)) == 0
    assert capsys.readouterr().out.count("ok: 0 errors") == 2
    for year, task in ((2024, "task8"), (2025, "task6")):
        with zipfile.ZipFile(out.with_stem(f"all_{year}")) as archive:
            labels = [f"Toy_Embedded_{task}_{number}" for number in (1, 2, 3)]
            files = {f"{label}/{label}.{of}" for label in labels for of in ("output.csv", "meta.yaml")}
            assert set(archive.namelist()) == {*files, f"Toy_Embedded_{task}.technical_report.pdf"}
            metas = [yaml.safe_load(archive.read(f"{label}/{label}.meta.yaml")) for label in labels]
            rows = list(csv.reader(archive.read(f"{labels[2]}/{labels[2]}.output.csv").decode().splitlines()))
        about = [meta["system"]["description"] for meta in metas]
        assert [of["ensemble_size"] for of in about] == [1, 1, 2]
        assert about[2]["audio_modelling"] == f"{about[0]['audio_modelling']}, {about[1]['audio_modelling']}"
        totals = [meta["system"]["complexity"]["total_parameters"] for meta in metas]
        assert totals[0] + totals[1] == totals[2]
        for name, meta in zip(("mine", "other", "both"), metas, strict=True):
            figures = place.results(name)["test"]["sets"]["clotho_evaluation"]
            for title, value in meta["results"]["development_testing"].items():
                assert value == pytest.approx(figures[title.lower()], abs=1e-6)
        queries = (place.root / "challenge" / "retrieval_captions.csv").read_text().splitlines()[1:]
        of = place.scores("both", "challenge")
        assert [row[0] for row in rows[1:]] == [row for (row,) in csv.reader(queries)]
        matrix = of.of([row[0] for row in rows[1:]]).matrix
        if year == 2025:
            assert tuple(rows[0][1:]) == of.clips
            assert np.array_equal(np.array([row[1:] for row in rows[1:]], np.float32), matrix)
        else:
            order = np.argsort(-matrix, axis=1, kind="stable")[:, :10]
            assert [row[1:] for row in rows[1:]] == [[of.clips[i] for i in line] for line in order]


def test_an_archive_says_that_its_data_are_toys(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.call("package", "both", "--ensemble", *place.members) == 0
    capsys.readouterr()
    assert place.call("validate", "both", str(place.folder / "both" / "submission.zip")) == 0
    assert "packed from toy data, no submission" in capsys.readouterr().out


@pytest.mark.parametrize(("verb", "name", "words", "said"), [
    ("evaluate", "new", ("--ensemble", "{mine}", "{mine}"), "mine/run1 is named twice"),
    ("evaluate", "new", ("--ensemble", "{mine}", "nothing"), "recipe 'nothing'"),
    ("evaluate", "new", ("--ensemble", "{mine}", "--weights", "1", "1"), "expected one for each of 1 systems"),
    ("evaluate", "mine", ("--ensemble", "{other}",), "mine/run1: holds a run; --run-dir DIR"),
    ("evaluate", "mine", ("--weights", "1"), "--weights goes with --ensemble"),
    ("package", "mine", ("--runs-of", *["{mine}"] * 5), "a team may submit 4 systems"),
    ("package", "mine", ("--out", "x.tar"), "expected a name that ends in .zip"),
    ("package", "both", ("--ensemble", "{other}", "{mine}"), "both/run1: not the ensemble of"),
    ("package", "new", (), "`train` makes them"),
    ("package", "mine", ("--report", RECIPE), "not a PDF file"),
    ("package", "mine", ("model.late=separate", "data.challenge={bare}"), "clips need keywords, which"),
    ("package", "mine", ("data.train=[wavcaps_freesound]",), "without the challenge's list of forbidden"),
    ("package", "mine", ("data.challenge={bare}",), "no scores of the query 'Unheard'"),
    ("package", "mine", ("submission.label=Toy_task6_1",), "submission.label: 'Toy_task6_1' has 3 parts"),
    ("validate", "mine", ("{bare}/empty.zip",), "not a valid submission"),
    ("validate", "mine", ("{bare}/nothing.csv",), "nothing.csv: csv of rankings or scores, or archive not found"),
])  # fmt: skip
def test_wrong_input_is_one_line_and_leaves_nothing(
    verb: str, name: str, words: tuple[str, ...], said: str, place: Place, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    bare = tmp_path / "bare"
    (bare / "test").mkdir(parents=True)
    (bare / "test" / "a.wav").touch()
    (bare / "retrieval_captions.csv").write_text("caption\nUnheard\n")
    zipfile.ZipFile(bare / "empty.zip", "w").close()
    named = {"mine": place.members[0], "other": place.members[1], "bare": str(bare)}
    before = sorted(place.folder.rglob("*"))
    assert place.call(verb, name, *(word.format(**named) for word in words)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert sorted(place.folder.rglob("*")) == before
