"""The chain of Make rules: every stage once, in order, again only where something has changed."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAGES = ["prepare", "train", "predict", "evaluate", "compare", "package"]
RUNS = "runs/task1_asc/mine"

# In place of Python: notes the verb and makes the file that the real one would make. FAIL=verb lets that verb fail.
VERBS = f"""#!/bin/sh
echo "$*" >> calls
[ "$3" != "${{FAIL:-}}" ] || exit 1
case $3 in
  prepare) touch {RUNS}/coverage.json ;;
  compare) touch {RUNS}/comparison.csv ;;
esac
"""

Chain = Callable[..., list[list[str]]]


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """Runs `make task1-train`, or another target, with a stand-in for Python; gives the words of its calls."""
    (tmp_path / "task1_asc" / "recipes").mkdir(parents=True)
    for name in ("Makefile", "common/run/task.mk", "task1_asc/task.mk"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "task1_asc" / "recipes" / "baseline.yaml").touch()
    (tmp_path / "mine.yaml").write_text("extends: baseline\n")
    (tmp_path / "python").write_text(VERBS)
    (tmp_path / "python").chmod(0o755)
    clean = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}

    def run(*words: str, fails: str = "") -> list[list[str]]:
        (tmp_path / "calls").unlink(missing_ok=True)
        time.sleep(0.02)  # files of two calls differ in their times
        target = [] if any(word.startswith("task1-") for word in words) else ["task1-train"]
        command = ["make", "-o", ".venv/.ready", *target, "PY=./python", "RECIPE=mine.yaml", *words]
        done = subprocess.run(command, cwd=tmp_path, env=clean | {"FAIL": fails}, capture_output=True, text=True)
        assert (done.returncode != 0) == bool(fails), done.stderr
        calls = (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []
        assert all(call.startswith("-m task1_asc ") for call in calls)
        return [call.split()[2:] for call in calls]

    return run


def verbs(calls: list[list[str]]) -> list[str]:
    return [words[0] for words in calls]


def test_every_stage_once_and_a_finished_chain_runs_nothing(chain: Chain) -> None:
    assert verbs(chain()) == STAGES
    assert chain() == []
    assert chain("task1-evaluate") == []


def test_goes_on_where_it_failed(chain: Chain) -> None:
    assert verbs(chain(fails="predict")) == STAGES[:3]
    assert verbs(chain()) == STAGES[2:]


def test_other_settings_run_everything_anew_and_reach_every_stage(chain: Chain) -> None:
    chain()
    calls = chain("ARGS=data.root=/data trainer.max_epochs=2", "RUNS=1 2 3 4 5")
    assert verbs(calls) == STAGES
    for verb, *words in calls:
        assert words[-2:] == ["data.root=/data", "trainer.max_epochs=2"]
        assert words[:2] == ["--recipe", "mine.yaml"]
        runs = words[3:-2] if verb != "prepare" else []
        # A submission is made of the first run: a team may submit four systems.
        assert runs == {"prepare": [], "package": ["1"]}.get(verb, ["1", "2", "3", "4", "5"])


def test_restart_restarts_every_time(chain: Chain) -> None:
    chain()
    for _ in range(2):
        calls = chain("RESTART=1")
        assert verbs(calls) == STAGES
        assert "--restart" in calls[1]
    assert chain() == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["task1-complexity", "MODEL=m:f"], [["complexity", "m:f", "--recipe", "mine.yaml"]]),
        (["task1-validate", "ARCHIVE=a.zip"], [["validate", "a.zip", "--recipe", "mine.yaml"]]),
        (
            ["task1-splits", "DATA=/data", "OUT=lists"],
            [["splits", "make", "/data", "--out", "lists", "--recipe", "mine.yaml"]],
        ),
        (["task1-reproduce"], [["reproduce", "--recipe", "mine.yaml", "--runs", "1", "2", "3", "4", "5"]]),
    ],
    ids=lambda value: value[0] if isinstance(value[0], str) else "",
)
def test_other_targets(chain: Chain, words: list[str], expected: list[list[str]]) -> None:
    assert chain(*words) == expected


@pytest.mark.parametrize(("target", "verb"), [("task1-teach", "teach"), ("task1-export", "export")])
def test_targets_that_need_a_training(chain: Chain, target: str, verb: str) -> None:
    assert verbs(chain(target)) == ["prepare", "train", verb]
    assert verbs(chain(target)) == [verb]
