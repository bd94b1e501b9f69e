"""`tune`: a study on disk that goes on, whose best settings are a recipe."""

import csv
from pathlib import Path

import pytest

from common.run.config import load_config
from common.run.errors import UserError
from common.run.verbs import Run, main, open_run
from task6_retrieval.__main__ import TASK
from task6_retrieval.config import Config
from task6_retrieval.training.tune import _draw, _study, configured, space_of, tune

pytest.importorskip("optuna")
FOLDER = Path(__file__).resolve().parents[1]
SPACE = "tune={optimizer.lr: [1.0e-5, 1.0e-2, log], augment.time_stripes: [0, 2]}"


def run_of(root: str, folder: Path, *words: str) -> Run:
    given = [f"data.root={root}", "trainer.max_epochs=1", SPACE, *words]
    return open_run(TASK, str(FOLDER / "tests" / "tiny.yaml"), given, folder=folder)


def test_a_search_goes_on_and_leaves_a_recipe(tiny_root: Path, tmp_path: Path) -> None:
    run = run_of(str(tiny_root), tmp_path)
    assert tune(run, 2)["trials"] == 2
    at = tmp_path / "tune"
    study = _study(at)
    dead = study.ask()  # a process that was killed: it holds no lock
    dead.suggest_float("optimizer.lr", 1e-5, 1e-2, log=True)
    dead.suggest_int("augment.time_stripes", 0, 2)
    found = tune(run, 3)
    with open(at / "trials.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["complete"] * 3
    assert float(rows[0]["optimizer.lr"]) == found["best"]["settings"]["optimizer.lr"]
    assert str(dead.params["optimizer.lr"]) in {row["optimizer.lr"] for row in rows}
    assert len({row["optimizer.lr"] for row in rows}) == 3
    assert max(float(row["val/map@10"]) for row in rows) == found["best"]["value"]
    assert (at / "trials.png").is_file()
    best = load_config(Config, TASK.recipes, str(at / "best.yaml"), [f"data.root={tiny_root}"])
    assert best.optimizer.lr == found["best"]["settings"]["optimizer.lr"]
    assert best.data.batch == run.config.data.batch
    assert not list(at.glob("*/checkpoints"))


def test_trials_that_are_held_are_left_alone_and_seeds_differ(tiny_root: Path, tmp_path: Path) -> None:
    run = run_of(str(tiny_root), tmp_path)
    (tmp_path / "tune").mkdir()
    space, at = space_of(run), tmp_path / "tune"
    drawn = [_draw(_study(at), run, space, at, 2) for _ in range(3)]
    assert drawn[2] is None
    first, second = (of[0].params for of in drawn[:2] if of is not None)
    assert first["optimizer.lr"] != second["optimizer.lr"]
    assert isinstance(first["augment.time_stripes"], int)
    assert configured(run, first).optimizer.lr == first["optimizer.lr"]
    assert configured(run, first).tune == {}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("{}", r"recipe .* has no section `tune`"),
        ("{optimizer.lr: [1.0e-3]}", r"tune\.optimizer\.lr: is \[0\.001\], expected \[lowest, highest\]"),
        ("{optimizer.lr: [2.0, 1.0]}", r"tune\.optimizer\.lr: is"),
        ("{optimizer.lr: [0.0, 1.0, log]}", r"tune\.optimizer\.lr: is"),
        ("{augment.eda: [0.0, 2.0]}", r"augment\.eda: is 2, expected 0 to 1"),
        ("{optimizer.rate: [0.0, 2.0]}", r"optimizer\.rate: unknown setting"),
    ],
)
def test_a_space_that_is_none_is_said_before_any_training(
    tiny_root: Path, tmp_path: Path, space: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=message):
        space_of(run_of(str(tiny_root), tmp_path, f"tune={space}"))
    words = ["tune", "--recipe", str(FOLDER / "tests" / "tiny.yaml"), "--run-dir", str(tmp_path), "--trials", "0"]
    assert main(TASK, words) == 1
    assert "--trials is 0" in capsys.readouterr().err
