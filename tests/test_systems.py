"""Systems of several steps as make plans and runs them: order, what is made anew, side by side."""

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.test_makefile import copy_makefiles, make

# In place of Python: notes its words and makes the files that the verb would make. FAIL=PATTERN lets a command fail.
VERBS = r"""#!/bin/sh
echo "$*" >> calls
case "$*" in ${FAIL:-nothing}) echo "error: no luck" >&2; exit 1 ;; esac
task=$2 verb=$3
shift 3
while [ $# -gt 0 ]; do
  case $1 in
    --recipe) recipe=$2; shift ;;
    --out) out=$2; shift ;;
    --restart) restart=yes ;;
    --runs) while case $2 in [0-9]*) ;; *) false ;; esac; do runs="$runs $2"; shift; done ;;
  esac
  shift
done
folder=runs/$task/$recipe
case $verb in
  prepare) touch $folder/coverage.json ;;
  train) for run in $runs; do
      file=$folder/run$run/checkpoints/best.ckpt
      [ -f $file ] && [ -z "$restart" ] || { mkdir -p $(dirname $file) && touch $file; }
    done ;;
  compare) touch $folder/comparison.csv ;;
  pseudo_labels) mkdir -p $(dirname $out) && touch $out ;;
esac
"""
SYSTEMS = {"task4_sed": 19, "task6_retrieval": 12}  # steps
LATER = {"task4_sed": "iteration1_stage2_fpasst", "task6_retrieval": "taught_atst"}  # a training after others
Call = Callable[..., tuple[list[str], subprocess.CompletedProcess[str]]]


@pytest.fixture(params=SYSTEMS)
def system(tmp_path: Path, root: Path, request: pytest.FixtureRequest) -> Call:
    """Runs `make <short>-reproduce RECIPE=toy` with a stand-in for Python; gives `VERB RECIPE` of its calls."""
    task = request.param
    copy_makefiles(root, tmp_path, task)
    (tmp_path / "python").write_text(VERBS)
    (tmp_path / "python").chmod(0o755)

    def run(*words: str, **environment: str) -> tuple[list[str], subprocess.CompletedProcess[str]]:
        (tmp_path / "calls").unlink(missing_ok=True)
        time.sleep(0.02)  # files of two calls differ in their times
        given = ["PY=./python", "RECIPE=toy", *words]
        done = make(tmp_path, f"{task.partition('_')[0]}-reproduce", *given, environment=environment)
        calls = (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []
        assert all(call.startswith(f"-m {task} ") for call in calls)
        return calls, done

    run.folder, run.task = tmp_path, task  # type: ignore[attr-defined]
    return run


def short(calls: list[str]) -> list[str]:
    """`VERB RECIPE` of calls; of a verb without a recipe itself."""
    recipes = [re.search(r"--recipe toy_(\S+)", call) for call in calls]
    return [
        f"{call.split()[2]} {recipe[1] if recipe else ''}".strip() for call, recipe in zip(calls, recipes, strict=True)
    ]


def plan(system: Call, *words: str) -> dict[str, tuple[list[str], list[str]]]:
    """{step: (what it reads, what it writes)} of the plan, in order."""
    done = system("-n", *words)[1]
    assert done.returncode == 0, done.stderr
    found = re.findall(r"^# (\S+): reads (.*); writes (.*)$", done.stdout, re.MULTILINE)
    return {name: (reads.split(), writes.split()) for name, reads, writes in found}


def test_plan_says_what_every_step_reads_and_writes(system: Call) -> None:
    """In an order in which all that is read was written before; nothing is made, and nothing is called."""
    steps = plan(system)
    assert len(steps) == SYSTEMS[system.task]  # type: ignore[attr-defined]
    written: set[str] = {"the", "data", "set"}
    for name, (reads, writes) in steps.items():
        assert set(reads) <= written, name
        assert writes
        written |= set(writes)
    calls, done = system("-n")
    assert calls == []
    assert not (system.folder / "runs").exists()  # type: ignore[attr-defined]
    commands = [line for line in done.stdout.splitlines() if line.startswith("./python -m ")]
    assert len(commands) > len(steps)
    assert commands[-1].split()[3] == "pipeline"


def test_plan_has_launch_and_settings_in_every_step(system: Call) -> None:
    done = system("-n", "LAUNCH=srun -G1", "ARGS=data.root=/data seed=7")[1]
    lines = [line for line in done.stdout.splitlines() if "./python -m " in line and " pipeline " not in line]
    assert len(lines) > SYSTEMS[system.task]  # type: ignore[attr-defined]
    assert [line for line in lines if not line.startswith("srun -G1 ./python -m ")] == []
    assert [line for line in lines if not line.endswith("data.root=/data seed=7")] == []


def test_every_step_runs_once_and_a_finished_system_not_again(system: Call) -> None:
    steps = plan(system)
    calls, done = system()
    assert done.returncode == 0, done.stderr
    called = short(calls)
    assert len(calls) == len(set(calls))
    assert sum(call.startswith("train ") for call in called) == sum("best.ckpt" in of[1][0] for of in steps.values())
    assert called[-1] == "pipeline"
    assert short(system()[0]) == ["pipeline"]
    assert short(system("LAUNCH=env")[0]) == ["pipeline"]


def test_goes_on_where_it_failed(system: Call) -> None:
    whole = short(system()[0])
    subprocess.run(["rm", "-r", "runs"], cwd=system.folder, check=True)  # type: ignore[attr-defined]
    late = LATER[system.task]  # type: ignore[attr-defined]
    first, done = system(FAIL=f"*train*{late}*")
    assert done.returncode != 0
    assert "error: no luck" in done.stderr
    second, done = system()
    assert done.returncode == 0, done.stderr
    assert short(second)[0] == short(first)[-1] == f"train {late}"
    assert [*short(first)[:-1], *short(second)] == whole


@pytest.mark.parametrize("system", ["task4_sed"], indirect=True)
def test_what_reads_a_newer_file_is_made_anew(system: Call) -> None:
    """And nothing else: a training that began with another one begins anew."""
    system()
    runs = system.folder / "runs" / system.task  # type: ignore[attr-defined]
    time.sleep(0.02)
    (runs / "toy_iteration2_stage1_beats" / "run2" / "checkpoints" / "best.ckpt").touch()
    again = system()[0]
    of = "iteration2_stage2_beats"
    expected = [*(f"{verb} {of}" for verb in ("train", "predict", "evaluate", "compare"))]
    assert short(again)[:4] == expected
    assert "--restart" in again[0]
    assert [call.split()[2] for call in again[4:]] == ["evaluate", "compare", "package", "pipeline"]
    time.sleep(0.02)
    (runs / "toy_pseudo_labels" / "logits.h5").touch()
    again = system()[0]
    trained = [call for call in again if call.split()[2] == "train"]
    assert short(trained) == [f"train iteration2_stage{s}_{m}" for m in ("atst", "fpasst", "beats") for s in (1, 2)]
    assert all("--restart" in call for call in trained)
    assert short(system()[0]) == ["pipeline"]


def test_a_touched_recipe_retrains_nothing_that_is_the_same(system: Call, root: Path) -> None:
    """The chain of every recipe is gone through, but no training begins anew: its checkpoints are no newer."""
    task = system.task  # type: ignore[attr-defined]
    recipes = system.folder / task / "recipes"  # type: ignore[attr-defined]
    recipes.mkdir()
    (recipes / "toy.yaml").touch()
    system()
    time.sleep(0.02)
    (recipes / "toy.yaml").touch()
    calls = system()[0]
    assert any(call.startswith("train ") for call in short(calls))
    assert not any("--restart" in call for call in calls)
    assert not any("pseudo_labels --out" in call for call in calls)


@pytest.mark.parametrize("system", ["task4_sed"], indirect=True)
def test_steps_run_side_by_side(system: Call) -> None:
    """The three first stages wait for each other: none of them would end were they not begun together."""
    launched = system.folder / "launch"  # type: ignore[attr-defined]
    launched.write_text(
        '#!/bin/sh\ncase "$*" in *" train "*iteration1_stage1*) : > "$$.begun"; n=0; '
        "until [ $(ls *.begun | wc -l) -eq 3 ]; do sleep 0.01; n=$((n+1)); [ $n -lt 30000 ] || exit 1; done ;; esac\n"
        'exec "$@"\n'
    )
    launched.chmod(0o755)
    calls, done = system("-j3", "LAUNCH=./launch")
    assert done.returncode == 0, done.stderr
    called = short(calls)
    assert called[0] == "prepare iteration1_stage1_atst"  # alone: the others find the data set packed
    assert set(called) >= {f"train iteration1_stage1_{model}" for model in ("atst", "fpasst", "beats")}
    assert len(list(system.folder.glob("*.begun"))) == 3  # type: ignore[attr-defined]
    assert called.count("train iteration2_stage2_atst") == 3  # one for each run


@pytest.mark.parametrize("system", ["task4_sed"], indirect=True)
def test_two_trainings_make_no_archive(system: Call) -> None:
    calls, done = system("RUNS=1 2")
    assert done.returncode == 0, done.stderr
    assert not any(call.split()[2] == "package" for call in calls)
    assert any("evaluate --ensemble" in call for call in calls)


def test_restart_begins_every_training_anew(system: Call) -> None:
    system()
    trained = [call for call in system("RESTART=1")[0] if call.split()[2] == "train"]
    assert trained
    assert all(call.count("--restart") == 1 for call in trained)
