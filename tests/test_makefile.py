"""The Makefile and the set-up script as a newcomer meets them."""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from common.run.verbs import run_name

STAGES = ["prepare", "train", "predict", "evaluate", "compare", "package"]
# Targets of several recipes: tests/test_systems.py.
SYSTEMS = {
    "qbv": {"reproduce"},
    "task4_sed": {"reproduce", "pretrain", "pipeline", "pseudo-labels"},
    "task6_retrieval": {"reproduce", "pipeline"},
}
NO_CHALLENGE = {"zeroshot"}  # its chain ends with the comparison
NO_RECIPE = {"runs", "captions", "detect", "stream"}  # verbs of all recipes, and of none
AT_ONCE = {
    "runs",
    "validate",
    "complexity",
    "demo",
    "stream",
}  # verbs that need no machine for long, and a page on this one
TASKS = sorted(path.parent.name for path in Path(__file__).resolve().parents[1].glob("*/task.mk"))
# With five runs: whose the archive is (a team may submit four systems in Task 1, three to QVIM).
PACKAGED = {"task1_asc": "1", "qbv": "1 2 3"}

# In place of Python: notes the verb and makes the file that the real one would make. FAIL=verb lets that verb fail.
VERBS = """#!/bin/sh
verb=$3
echo "$*" >> calls
[ "$verb" != "${FAIL:-}" ] || { echo "error: no luck" >&2; exit 1; }
case $verb in
  prepare) touch %(runs)s/coverage.json ;;
  compare) touch %(runs)s/comparison.csv ;;
  package) [ -n "${NOTHING_TO_SUBMIT:-}" ] || touch %(runs)s/submission.zip ;;
esac
"""


def short(task: str) -> str:
    return task.partition("_")[0]


def targets(root: Path) -> list[str]:
    """Targets that have a name, not those that are files, as make knows them."""
    rules = make(root, "-pqrR", "help").stdout.partition("\n# Files\n")[2]
    blocks = [block for block in rules.split("\n\n") if not block.lstrip().startswith("# Not a target")]
    names = (re.findall(r"^([a-z0-9-]+):", block, re.MULTILINE) for block in blocks)
    return [found[0] for found in names if found]


def make(folder: Path, *words: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run make without what an outer make passes on; the environment of the tests counts as set up."""
    clean = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTEST")}
    command = ["make", "-o", ".venv/.ready", *words]
    return subprocess.run(
        command, cwd=folder, env=clean | (environment or {}), capture_output=True, text=True, check=False
    )


# ------------------------------------------------------------------------------------------------------------- targets


def test_help_lists_every_target_with_a_text(root: Path) -> None:
    done = make(root, "help")
    assert done.returncode == 0, done.stderr
    listed = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert set(listed) == set(targets(root))
    assert all(len(text) > 10 for text in listed.values())
    assert {"setup", "test", *(f"{short(task)}-train" for task in TASKS)} <= set(listed)
    assert listed["task4-train"].startswith("Task 4: ")


def test_make_alone_is_help(root: Path) -> None:
    assert make(root).stdout == make(root, "help").stdout


def test_every_target_can_be_planned(checkout: Path) -> None:
    for name in targets(checkout):
        done = make(checkout, "-n", name)
        assert done.returncode == 0, f"{name}: {done.stderr}"
        assert done.stdout.strip() or name == "setup", f"{name} would do nothing"
    assert not (checkout / "runs").exists()


@pytest.mark.parametrize("task", TASKS)
def test_every_verb_has_a_target(root: Path, task: str) -> None:
    """As `make <short>-VERB`; also that the targets exist as verbs."""
    verbs = {
        verb.__name__.rstrip("_").replace("_", "-") for verb in importlib.import_module(f"{task}.__main__").TASK.verbs
    }
    beginning = f"{short(task)}-"
    named = {target.removeprefix(beginning) for target in targets(root) if target.startswith(beginning)}
    assert named - (SYSTEMS.get(task, set()) & {"reproduce", "pretrain"}) == verbs


@pytest.mark.parametrize("task", TASKS)
def test_every_verb_is_called_by_its_target(checkout: Path, task: str) -> None:
    """With the recipe, but for the list of all recipes' runs, and the settings; LAUNCH before all that computes."""
    steps = [target for target in targets(checkout) if target.startswith(f"{short(task)}-")]
    assert len(steps) >= (7 if task in NO_CHALLENGE else 9)
    for target in steps:
        verb = target.partition("-")[2]
        if verb in SYSTEMS.get(task, ()):
            continue
        words = ("RECIPE=baseline", "ARGS=seed=7", "LAUNCH=srun -G1", "PY=python")
        planned = make(checkout, "-n", target, *words).stdout.splitlines()
        lines = [line for line in planned if re.search(rf"python -m {task} {verb}( |$)", line)]
        assert lines, f"{target}: {planned}"
        for line in lines:
            assert ("--recipe baseline " in line) == (verb not in NO_RECIPE)
            assert line.endswith(" seed=7")
            assert line.startswith("srun -G1 python -m ") == (verb not in AT_ONCE), line


def test_benchmark_runs_that_of_every_task(root: Path) -> None:
    planned = make(root, "-n", "benchmark").stdout
    assert re.findall(r"-m (\S+) benchmark", planned) == [
        *TASKS,
        "task4_sed",
        "common.encoders",
    ]  # and how fast it detects
    assert "-m task1_asc benchmark data.batch=64" in planned


def copy_makefiles(root: Path, folder: Path, *tasks: str) -> None:
    for name in ("Makefile", "common/run/task.mk", *(f"{task}/task.mk" for task in tasks)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, folder / name)


def test_clean_keeps_data_of_ones_own(tmp_path: Path, root: Path) -> None:
    copy_makefiles(root, tmp_path)
    for folder in ("runs/task4_sed/toy", "data/task4_sed/toy", "data/task4_sed/desed", ".venv"):
        (tmp_path / folder).mkdir(parents=True)
    assert make(tmp_path, "clean").returncode == 0
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.glob("[!c]*/*/*")) == ["data/task4_sed/desed"]
    assert (tmp_path / ".venv").is_dir()
    assert not (tmp_path / "runs").exists()


# --------------------------------------------------------------------------------------------------------------- chain


@pytest.fixture(params=TASKS)
def chain(
    tmp_path: Path, root: Path, request: pytest.FixtureRequest
) -> Callable[..., tuple[list[str], subprocess.CompletedProcess[str]]]:
    """Runs `make <short>-train` with a stand-in for Python; gives the verbs that it called, and what make said."""
    task = request.param
    copy_makefiles(root, tmp_path, task)
    (tmp_path / task / "recipes").mkdir()
    (tmp_path / task / "recipes" / "baseline.yaml").touch()
    (tmp_path / "mine.yaml").write_text("extends: baseline\n")
    stand_in = tmp_path / "python"
    stand_in.write_text(VERBS % {"runs": f"runs/{task}/mine"})
    stand_in.chmod(0o755)

    def run(*words: str, **environment: str) -> tuple[list[str], subprocess.CompletedProcess[str]]:
        (tmp_path / "calls").unlink(missing_ok=True)
        time.sleep(0.02)  # files of two calls differ in their times
        verb = words[0] if words and words[0] in STAGES else "train"
        words = words[1:] if words and words[0] in STAGES else words
        # More than Task 4's three, of which a submission of its is made.
        given = ["PY=./python", "RECIPE=mine.yaml", "RUNS=1 2 3 4", *words]
        done = make(tmp_path, f"{short(task)}-{verb}", *given, environment=environment)
        calls = (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []
        assert all(call.startswith(f"-m {task} ") for call in calls)
        return [call.split()[2] for call in calls], done

    run.folder, run.task = tmp_path, task  # type: ignore[attr-defined]
    run.stages = STAGES[:-1] if task in NO_CHALLENGE else STAGES  # type: ignore[attr-defined]
    return run


def test_chain_runs_every_stage_once(chain: Callable) -> None:
    verbs, done = chain()
    assert done.returncode == 0, done.stderr
    assert verbs == chain.stages
    assert f"everything lies in runs/{chain.task}/mine: " in done.stdout  # type: ignore[attr-defined]


def test_finished_chain_runs_nothing(chain: Callable) -> None:
    chain()
    assert chain()[0] == []
    assert chain("evaluate")[0] == []


def test_chain_goes_on_where_it_failed(chain: Callable) -> None:
    verbs, done = chain(FAIL="predict")
    assert done.returncode != 0
    assert verbs == ["prepare", "train", "predict"]
    assert done.stderr.startswith("error: no luck\n")
    assert chain()[0] == chain.stages[2:]


def test_other_settings_run_everything_anew(chain: Callable) -> None:
    chain()
    assert chain("ARGS=trainer.max_epochs=2")[0] == chain.stages
    assert chain("ARGS=trainer.max_epochs=2")[0] == []


def test_settings_reach_every_stage(chain: Callable) -> None:
    chain("ARGS=data.root=/data trainer.max_epochs=2", "RUNS=1 2 3 4")
    for call in (chain.folder / "calls").read_text().splitlines():  # type: ignore[attr-defined]
        assert "data.root=/data trainer.max_epochs=2" in call
        assert "--recipe mine.yaml" in call
        runs = PACKAGED.get(chain.task, "1 2 3 4") if " package " in call else "1 2 3 4"  # type: ignore[attr-defined]
        assert f" --runs {runs} data.root" in call or call.split()[2] == "prepare"


@pytest.mark.parametrize("words", ["seed=1 'submission.name=a b'", 'data.types="[fan, pump]"', "a.b=x,y c.d=$$HOME"])
def test_quotes_in_settings_hold(chain: Callable, words: str) -> None:
    """Each setting is one word for Python, as a shell reads them; a finished chain knows them again."""
    stand_in = chain.folder / "python"  # type: ignore[attr-defined]
    stand_in.write_text(stand_in.read_text().replace("verb=$3\n", 'verb=$3\nprintf "<%s>" "$@" >> words\n'))
    assert chain(f"ARGS={words}")[0] == chain.stages
    expected = [f"<{word}>" for word in shlex.split(os.path.expandvars(words.replace("$$", "$")))]
    assert (chain.folder / "words").read_text().count("".join(expected)) == len(chain.stages)  # type: ignore[attr-defined]
    assert chain(f"ARGS={words}")[0] == []


@pytest.mark.parametrize(
    ("word", "said"),
    [
        *((f"RECIPE={name}", "a path without spaces, quotes") for name in ("my recipe.yaml", "it's.yaml", "a%b.yaml")),
        *((f"ARGS={word}", "is written as ARGS=\"key='a value'\"") for word in ("a=it's", 'a="b', "a=(b)")),
    ],
)
def test_what_cannot_be_given_is_refused_in_one_line(chain: Callable, word: str, said: str) -> None:
    verbs, done = chain(word)
    assert done.returncode != 0
    assert verbs == []
    assert len(done.stderr.splitlines()) == 1
    assert word in done.stderr
    assert said in done.stderr


def test_launched_chain_has_a_step_for_each_run(chain: Callable) -> None:
    """Side by side with -j; joined before the comparison. Afterwards it is finished with and without LAUNCH."""
    launched = chain.folder / "launch"  # type: ignore[attr-defined]
    # Each run's training waits for the beginning of all others.
    launched.write_text(
        '#!/bin/sh\necho "$*" >> launched\n[ "$4" != train ] || { : > "$$.begun"; '
        'until [ $(ls *.begun | wc -l) -eq 4 ]; do sleep 0.01; done; }\nexec "$@"\n'
    )
    launched.chmod(0o755)
    verbs, done = chain("-j4", "LAUNCH=./launch")
    assert done.returncode == 0, done.stderr
    last = chain.stages[4:]
    assert len(verbs) == 1 + 3 * 4 + len(last)
    assert verbs[0] == "prepare"
    assert verbs[-len(last) :] == last
    assert sorted(verbs[1 : -len(last)]) == sorted(4 * ["train", "predict", "evaluate"])
    lines = (chain.folder / "launched").read_text().splitlines()  # type: ignore[attr-defined]
    assert sorted(re.findall(r" train .*--runs (.*?) ?$", "\n".join(lines), re.MULTILINE)) == ["1", "2", "3", "4"]
    assert len(lines) == len(verbs)
    assert chain("-j4", "LAUNCH=./launch")[0] == []
    assert chain()[0] == []


def test_chain_is_finished_for_launch_too(chain: Callable) -> None:
    chain()
    assert chain("LAUNCH=env")[0] == []


def test_launched_chain_goes_on_where_it_failed(chain: Callable) -> None:
    stand_in = chain.folder / "python"  # type: ignore[attr-defined]
    whole = stand_in.read_text()
    stand_in.write_text(
        whole.replace("case $verb in", 'case "$*" in *predict*"--runs 3"*) exit 1 ;; esac\ncase $verb in')
    )
    assert chain("-k", "LAUNCH=env")[1].returncode != 0
    stand_in.write_text(whole)
    assert chain("LAUNCH=env")[0] == ["predict", "evaluate", *chain.stages[4:]]


@pytest.mark.parametrize("recipe", ["mine.yaml", "recipes/baseline.yaml"])
def test_changed_recipe_runs_everything_anew(chain: Callable, recipe: str) -> None:
    """Also one that the recipe extends."""
    chain()
    time.sleep(0.02)
    (chain.folder / (recipe if recipe == "mine.yaml" else f"{chain.task}/{recipe}")).touch()  # type: ignore[attr-defined]
    assert chain()[0] == chain.stages


def test_restart_restarts_every_time(chain: Callable) -> None:
    chain()
    for _ in range(2):
        assert chain("RESTART=1")[0] == chain.stages
        assert "--restart" in (chain.folder / "calls").read_text()  # type: ignore[attr-defined]
    assert chain()[0] == []


def test_interrupted_restart_goes_on_without_restart(chain: Callable) -> None:
    chain()
    chain("RESTART=1", FAIL="train")
    assert chain()[0] == chain.stages[1:]
    assert "--restart" not in (chain.folder / "calls").read_text()  # type: ignore[attr-defined]


@pytest.mark.parametrize("chain", ["task4_sed"], indirect=True)
def test_fewer_than_three_trainings_end_with_the_comparison(chain: Callable) -> None:
    verbs, done = chain("RUNS=1")
    assert done.returncode == 0, done.stderr
    assert verbs == STAGES[:-1]


def test_recipe_without_submission(chain: Callable) -> None:
    verbs, done = chain(NOTHING_TO_SUBMIT="yes")
    assert done.returncode == 0, done.stderr
    assert verbs == chain.stages
    assert chain(NOTHING_TO_SUBMIT="yes")[0] == []


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        ("toy", "toy"),
        ("task4_sed/recipes/toy.yaml", "toy"),
        ("./task4_sed/../task4_sed/recipes/toy.yaml", "toy"),
        ("mine.yaml", "mine"),
        ("./mine.yaml", "mine"),
        ("mine.yml", "mine.yml"),
        ("toy.yaml", "toy.yaml"),
        ("ideas/mine.yaml", "ideas-mine"),
        ("ideas/../ideas/toy.yaml", "ideas-toy"),
        ("ideas/a.b-c+d,e@f_g.yaml", "ideas-a.b-c+d,e@f_g"),
        ("../elsewhere/mine.yaml", "{up}-elsewhere-mine"),
        ("{up}/elsewhere/mine.yaml", "{up}-elsewhere-mine"),
    ],
)
@pytest.mark.parametrize("here", ["here", "a folder"])
def test_make_and_python_agree_about_the_folder_of_a_recipe(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, here: str, recipe: str, name: str
) -> None:
    copy_makefiles(root, tmp_path / here, "task4_sed")
    monkeypatch.chdir(tmp_path / here)
    recipe = recipe.replace("{up}", str(tmp_path))
    for path in (Path("task4_sed/recipes/toy.yaml"), *([Path(recipe)] if recipe.endswith("ml") else [])):
        Path(os.path.abspath(path)).parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    name = name.replace("{up}", "-".join(tmp_path.parts[1:]))
    assert run_name(Path("task4_sed/recipes"), recipe) == name
    planned = make(tmp_path / here, "-n", "task4-prepare", f"RECIPE={recipe}").stdout
    assert planned.startswith(f"mkdir -p runs/task4_sed/{name};")


@pytest.mark.slow
def test_real_chain_twice(checkout: Path) -> None:
    """With the real Python: everything the first time, nothing the second time."""
    recipe = checkout / "mine.yaml"
    recipe.write_text("extends: task4_sed/tests/tiny.yaml\ndata: {root: data/task4_sed/mine}\n")
    first = make(checkout, "task4-train", "RECIPE=mine.yaml", f"PY={sys.executable}")
    assert first.returncode == 0, first.stderr
    assert re.findall(r"-m task4_sed (\w+) ", first.stdout) == STAGES
    for name in ("run3/results.json", "comparison.csv", "comparison.png", "submission.zip"):
        assert (checkout / "runs/task4_sed/mine" / name).is_file()
    second = make(checkout, "task4-train", "RECIPE=mine.yaml", f"PY={sys.executable}")
    assert second.returncode == 0, second.stderr
    assert "-m task4_sed" not in second.stdout
    assert "submission.zip: ok" in first.stdout


# -------------------------------------------------------------------------------------------------------------- set-up

REAL_PYTHON = """#!/bin/sh
# Answers as Python {version}: the code that it is given runs in the real one.
case $1 in
  -c) exec {python} -c "import sys; sys.version_info = {tuple}; $2" ;;
  *) exec {python} "$@" ;;
esac
"""


@pytest.fixture
def machine(tmp_path: Path, root: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A machine that has only the commands in `has`, each a script or a link to the real one; sets it up."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "awk", "cut", "rm", "touch"):
        (folder / name).symlink_to(shutil.which(name) or name)

    def set_up(has: dict[str, str], **environment: str) -> subprocess.CompletedProcess[str]:
        for name, script in has.items():
            (folder / name).write_text(script)
            (folder / name).chmod(0o755)
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        shutil.copy(root / "requirements.txt", work)
        return subprocess.run(
            ["/bin/sh", root / "common/run/setup.sh"], cwd=work, env={"PATH": str(folder), **environment},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    return set_up


def python_of(version: tuple[int, int]) -> str:
    numbers = (*version, 1, "final", 0)
    return REAL_PYTHON.format(version=".".join(map(str, version)), tuple=numbers, python=sys.executable)


def df(gigabytes: int) -> str:
    return f"#!/bin/sh\necho Filesystem blocks Used Available\necho /dev/x 1 1 {gigabytes * 1048576}\n"


THIS = sys.version_info[:2]
GOOD = {"python3": python_of(THIS), "cc": "#!/bin/sh\n", "df": df(100)}


@pytest.mark.parametrize(
    ("has", "said"),
    [
        ({}, "Python 3.11, 3.12 or 3.13 not found (PYTHON=/path/to/python names one)"),
        (GOOD | {"python3": python_of((3, 10))}, "not found, python3 is 3.10 (PYTHON="),
        (GOOD | {"python3": python_of((3, 14))}, "not found, python3 is 3.14 (PYTHON="),
        ({name: GOOD[name] for name in ("python3", "df")}, "no C compiler (cc)"),
        (GOOD | {"df": df(3)}, "only 3 GB free here, the environment needs 8 GB"),
    ],
    ids=["no Python", "old Python", "new Python", "no C compiler", "no space"],
)
def test_setup_says_in_one_line_what_is_missing(machine: Callable, has: dict[str, str], said: str) -> None:
    done = machine(has)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert said in done.stderr


def test_setup_without_venv_module(machine: Callable) -> None:
    without = python_of(THIS).replace("-c) exec", "-c) case $2 in *ensurepip*) exit 1 ;; esac; exec")
    done = machine(GOOD | {"python3": without})
    assert done.returncode == 1
    assert done.stderr.startswith("error: python3 has no venv module")


def test_setup_takes_the_python_that_is_named_or_none(machine: Callable, tmp_path: Path) -> None:
    """A good one elsewhere does not stand in for it silently."""
    old = tmp_path / "old-python"
    old.write_text(python_of((3, 9)))
    old.chmod(0o755)
    done = machine(GOOD, PYTHON=str(old))
    assert done.returncode == 1
    assert f"{old} is 3.9" in done.stderr


def test_setup_without_a_package_index(machine: Callable) -> None:
    """Where nothing is missing it makes .venv and asks pip for uv: here pip cannot reach an index."""
    broken = 'mkdir -p .venv/bin; printf "#!/bin/sh\\nexit 1\\n" > .venv/bin/python; chmod +x .venv/bin/python'
    python = python_of(THIS).replace("  *)", f"  -m) {broken} ;;\n  *)")
    tools = {name: f'#!/bin/sh\nexec {shutil.which(name)} "$@"\n' for name in ("mkdir", "chmod")}
    done = machine(GOOD | tools | {"python3": python})
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: uv ")
    assert "is the package index reachable?" in done.stderr


def test_warm_setup_does_nothing(checkout: Path, record_property: Callable[[str, object], None]) -> None:
    started = time.monotonic()
    done = make(checkout, "setup")
    record_property("make_setup_warm_seconds", round(time.monotonic() - started, 3))
    assert done.returncode == 0, done.stderr
    assert "setting up" not in done.stdout + done.stderr


# -------------------------------------------------------------------------------------------------- README and machines


def test_continuous_integration_runs_what_the_readme_says(root: Path) -> None:
    script = root / ".ci" / "run"
    assert os.access(script, os.X_OK)
    commands = [line.strip() for line in script.read_text(encoding="utf-8").splitlines()]
    assert commands[-1] == "make test"
    readme = (root / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert any(line.split("#")[0].strip() == "make test" for block in blocks for line in block.splitlines())
