"""From the data sets to the comparison on the tiny data, by the verbs; figures do not depend on the way."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.run.results.store import read_results
from common.run.verbs import main
from qbv.__main__ import TASK
from qbv.evaluation.evaluate import Figures
from qbv.evaluation.report import behind
from qbv.inference.scores import read_similarities, read_truth
from qbv.tests.conftest import places

RECIPE = str(Path(__file__).with_name("tiny.yaml"))


def call(verb: str, folder: Path, root: Path, *words: str) -> int:
    settings = [f"data.root={root}", *places(root)]
    return main(TASK, [verb, "--recipe", RECIPE, "--run-dir", str(folder / "runs"), *settings, *words])


def chain(folder: Path, root: Path, *words: str) -> Path:
    for verb in ("prepare", "train", "predict", "evaluate", "compare"):
        assert call(verb, folder, root, *words) == 0, verb
    return folder / "runs" / "run1"


@pytest.fixture(scope="module")
def done(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of both folds, evaluated."""
    return chain(tmp_path_factory.mktemp("chain"), tiny_root)


def values(folder: Path, section: str) -> dict[str, Any]:
    found: dict[str, Any] = read_results(folder)[section]["values"]
    return found


def test_the_chain_leaves_figures_plots_and_comparison(done: Path) -> None:
    test = values(done, "test")
    assert (test["protocol"], test["toy"], test["system"]) == ("coarse", True, "trained")
    assert set(test["systems"]) == {"trained", "frozen", "2dft", "random"}
    for of in test["systems"].values():
        assert of["mrr"] == pytest.approx(np.mean([of["folds"]["fold0"], of["folds"]["fold1"]]))
        assert of["deviation"]["mrr"] == pytest.approx(np.std(list(of["folds"].values())))
        assert of["found by rank"][-1] == pytest.approx(1.0)
        if of is not test["systems"]["trained"]:
            assert of["behind"][0] == pytest.approx(test["systems"]["trained"]["mrr"] - of["mrr"])
    text = (done.parent / "comparison.csv").read_text()
    assert "Greif et al. 2024, proposed" in text
    assert "toy data, not comparable" in text
    assert {path.name for path in (done / "plots").iterdir()} >= {"found.png", "concepts.png", "embeddings.png"}
    assert json.loads((done.parent / "coverage.json").read_text())["sets"]["vimsketch"]["recordings"]["missing"] == 0


@pytest.mark.parametrize("within", [False, True])
def test_two_systems_are_compared_on_the_same_draws(within: bool) -> None:
    """Each concept the same step ahead: no draw changes the difference, so that it has no interval."""
    concepts = tuple(str(number) for number in range(12) for _ in range(1 + number % 3))
    first = np.linspace(0.3, 0.9, len(concepts))
    one, other = (Figures({}, of, concepts) for of in (first, first - 0.25))
    assert behind({"": one}, {"": other}, within) == [pytest.approx(0.25), None, None]
    mixed = Figures({}, np.where(np.array(concepts) == "2", first - 1.0, first), concepts)  # 3 of 24 queries
    ahead, low, high = behind({"": one}, {"": mixed}, within)
    assert ahead == pytest.approx(1 / 12 if within else 3 / 24)
    assert low is not None
    assert high is not None
    assert low < ahead < high


def test_stored_files_give_the_same_figures_to_anybody(done: Path, tmp_path: Path) -> None:
    folder = done / "fold0" / "predictions"
    of_run = values(done / "fold0", "test")["trained"]
    for name in ("trained.npz", "embeddings.npz"):
        words = ["--scores", str(folder / name), "--ground-truth", str(folder / "truth.csv"), "--out", str(tmp_path)]
        assert main(TASK, ["evaluate", *words]) == 0
        (found,) = json.loads((tmp_path / "results.json").read_text()).values()
        assert found["mrr"] == pytest.approx(of_run["mrr"])
        assert found["mrr by concept"] == pytest.approx(of_run["mrr by concept"])


def test_every_query_is_compared_with_every_recording_of_its_fold(done: Path) -> None:
    for fold in ("fold0", "fold1"):
        folder = done / fold / "predictions"
        truth = read_truth(folder / "truth.csv")
        for name in ("trained", "frozen", "2dft", "random"):
            found = read_similarities(folder / f"{name}.npz")
            assert (set(found.queries), set(found.items)) == (set(truth.queries), set(truth.items))
            assert np.isfinite(found.matrix).all()


def test_runs_are_listed(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(TASK, ["runs", "--run-dir", str(done.parent), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out.strip().splitlines()[-1])["runs"]
    assert found["state"] == "evaluated"
    assert found["figure"]["value"] == pytest.approx(values(done, "test")["systems"]["trained"]["mrr"])


@pytest.mark.parametrize(
    "words", [["data.protocol=fine"], ["data.protocol=qvim", "loss=softmax"]], ids=["fine", "qvim"]
)
def test_the_other_protocols(words: list[str], tiny_root: Path, tmp_path: Path) -> None:
    run = chain(tmp_path, tiny_root, *words)
    test = values(run, "test")
    assert test["protocol"] == words[0].partition("=")[2]
    found = read_similarities(run / "predictions" / "trained.npz")
    if test["protocol"] == "fine":
        assert np.isnan(found.matrix).any()  # other classes are not compared
        assert test["systems"]["random"]["chance"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    else:
        assert 0 < test["systems"]["trained"]["ndcg"] <= 1


def test_answers_without_data(tmp_path: Path, tiny_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(TASK, ["complexity", "--recipe", "coarse", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert found["imitation encoder"] == found["recording encoder"]
    assert found["imitation encoder"]["parameters"] == 2_971_664
    assert call("benchmark", tmp_path, tiny_root, "--seconds", "0.02", "--library", "20") == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["predict"], "fold0: no finished training"),
        (["evaluate"], "truth (`predict` writes it) not found"),
        (["evaluate", "--scores", "x.npz"], "also needs --ground-truth"),
        (["evaluate", "--within"], "go with --scores"),
        (["prepare", "--splits", "x"], "--splits goes with --check"),
        (["prepare", "--splits", "x", "--check"], "x: folder of splits not found"),
        (["train", "--folds", "9"], "--folds: no fold 9"),
        (["train", "--jobs", "0"], "--jobs"),
        (["train", "data.folds=[4]"], "data.folds: no fold 4"),
    ],
)
def test_wrong_words(
    words: list[str], said: str, tmp_path: Path, tiny_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(words[0], tmp_path, tiny_root, *words[1:]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
