"""The Makefile and the set-up script as a newcomer meets them."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

TARGET = re.compile(r"^([a-z0-9-]+):(?!=)(.*)$", re.MULTILINE)
STAGES = ["prepare", "train", "predict", "evaluate", "compare", "package"]
RUNS = "runs/task4_sed/mine"

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


def makefiles(root: Path) -> list[Path]:
    return [root / "Makefile", *sorted(root.glob("*/task.mk"))]


def targets(root: Path) -> list[str]:
    """Targets that have a name, not those that are files."""
    found = [match[1] for path in makefiles(root) for match in TARGET.finditer(path.read_text(encoding="utf-8"))]
    return list(dict.fromkeys(found))


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
    assert {"setup", "test", "task4-train"} <= set(listed)


def test_make_alone_is_help(root: Path) -> None:
    assert make(root).stdout == make(root, "help").stdout


def test_every_target_can_be_planned(checkout: Path) -> None:
    for name in targets(checkout):
        done = make(checkout, "-n", name)
        assert done.returncode == 0, f"{name}: {done.stderr}"
        assert done.stdout.strip() or name == "setup", f"{name} would do nothing"
    assert not (checkout / "runs").exists()


@pytest.mark.parametrize("name", ["task1_asc", "task4_sed"])
def test_every_verb_has_a_target(root: Path, name: str) -> None:
    """As `make <short>-VERB`; also that the targets exist as verbs."""
    verbs = {verb.__name__.rstrip("_") for verb in importlib.import_module(f"{name}.__main__").TASK.verbs}
    short = f"{name.partition('_')[0]}-"
    assert {target.removeprefix(short) for target in targets(root) if target.startswith(short)} == verbs


def test_clean_keeps_data_of_ones_own(tmp_path: Path, root: Path) -> None:
    shutil.copy(root / "Makefile", tmp_path)
    for folder in ("runs/task4_sed/toy", "data/task4_sed/toy", "data/task4_sed/desed", ".venv"):
        (tmp_path / folder).mkdir(parents=True)
    assert make(tmp_path, "clean").returncode == 0
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.glob("*/*/*")) == ["data/task4_sed/desed"]
    assert (tmp_path / ".venv").is_dir()
    assert not (tmp_path / "runs").exists()


# --------------------------------------------------------------------------------------------------------------- chain


@pytest.fixture
def chain(tmp_path: Path, root: Path) -> Callable[..., tuple[list[str], subprocess.CompletedProcess[str]]]:
    """Runs `make task4-train` with a stand-in for Python; gives the verbs that it called, and what make said."""
    shutil.copy(root / "Makefile", tmp_path)
    (tmp_path / "task4_sed" / "recipes").mkdir(parents=True)
    shutil.copy(root / "task4_sed" / "task.mk", tmp_path / "task4_sed")
    (tmp_path / "task4_sed" / "recipes" / "baseline.yaml").touch()
    (tmp_path / "mine.yaml").write_text("extends: baseline\n")
    stand_in = tmp_path / "python"
    stand_in.write_text(VERBS % {"runs": RUNS})
    stand_in.chmod(0o755)

    def run(*words: str, **environment: str) -> tuple[list[str], subprocess.CompletedProcess[str]]:
        (tmp_path / "calls").unlink(missing_ok=True)
        time.sleep(0.02)  # files of two calls differ in their times
        names = ["task4-train"] if not any(word.startswith("task4-") for word in words) else []
        done = make(tmp_path, *names, "PY=./python", "RECIPE=mine.yaml", *words, environment=environment)
        calls = (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []
        assert all(call.startswith("-m task4_sed ") for call in calls)
        return [call.split()[2] for call in calls], done

    run.folder = tmp_path  # type: ignore[attr-defined]
    return run


def test_chain_runs_every_stage_once(chain: Callable) -> None:
    verbs, done = chain()
    assert done.returncode == 0, done.stderr
    assert verbs == STAGES
    assert f"everything lies in {RUNS}" in done.stdout


def test_finished_chain_runs_nothing(chain: Callable) -> None:
    chain()
    assert chain()[0] == []
    assert chain("task4-evaluate")[0] == []


def test_chain_goes_on_where_it_failed(chain: Callable) -> None:
    verbs, done = chain(FAIL="predict")
    assert done.returncode != 0
    assert verbs == ["prepare", "train", "predict"]
    assert done.stderr.startswith("error: no luck\n")
    assert chain()[0] == STAGES[2:]


def test_other_settings_run_everything_anew(chain: Callable) -> None:
    chain()
    assert chain("ARGS=trainer.max_epochs=2")[0] == STAGES
    assert chain("ARGS=trainer.max_epochs=2")[0] == []


def test_settings_reach_every_stage(chain: Callable) -> None:
    chain("ARGS=data.root=/data trainer.max_epochs=2", "RUNS=1 2 3 4")
    for call in (chain.folder / "calls").read_text().splitlines():  # type: ignore[attr-defined]
        assert "data.root=/data trainer.max_epochs=2" in call
        assert "--recipe mine.yaml" in call
        assert "--runs 1 2 3 4" in call or call.split()[2] == "prepare"


@pytest.mark.parametrize("recipe", ["mine.yaml", "task4_sed/recipes/baseline.yaml"])
def test_changed_recipe_runs_everything_anew(chain: Callable, recipe: str) -> None:
    """Also one that the recipe extends."""
    chain()
    time.sleep(0.02)
    (chain.folder / recipe).touch()  # type: ignore[attr-defined]
    assert chain()[0] == STAGES


def test_restart_restarts_every_time(chain: Callable) -> None:
    chain()
    for _ in range(2):
        assert chain("RESTART=1")[0] == STAGES
        assert "--restart" in (chain.folder / "calls").read_text()  # type: ignore[attr-defined]
    assert chain()[0] == []


def test_interrupted_restart_goes_on_without_restart(chain: Callable) -> None:
    chain()
    chain("RESTART=1", FAIL="train")
    assert chain()[0] == STAGES[1:]
    assert "--restart" not in (chain.folder / "calls").read_text()  # type: ignore[attr-defined]


def test_fewer_than_three_trainings_end_with_the_comparison(chain: Callable) -> None:
    verbs, done = chain("RUNS=1")
    assert done.returncode == 0, done.stderr
    assert verbs == STAGES[:-1]


def test_recipe_without_submission(chain: Callable) -> None:
    verbs, done = chain(NOTHING_TO_SUBMIT="yes")
    assert done.returncode == 0, done.stderr
    assert verbs == STAGES
    assert chain(NOTHING_TO_SUBMIT="yes")[0] == []


@pytest.mark.slow
def test_real_chain_twice(checkout: Path) -> None:
    """With the real Python: everything the first time, nothing the second time."""
    recipe = checkout / "mine.yaml"
    recipe.write_text("extends: task4_sed/tests/tiny.yaml\ndata: {root: data/task4_sed/mine}\n")
    first = make(checkout, "task4-train", "RECIPE=mine.yaml", f"PY={sys.executable}")
    assert first.returncode == 0, first.stderr
    assert re.findall(r"-m task4_sed (\w+) ", first.stdout) == STAGES
    for name in ("run3/results.json", "comparison.csv", "comparison.png", "submission.zip"):
        assert (checkout / RUNS / name).is_file()
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
            ["/bin/sh", root / "common/tools/setup.sh"], cwd=work, env={"PATH": str(folder), **environment},
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


def dockerfiles(root: Path) -> list[Path]:
    return sorted((root / "docker").glob("*.Dockerfile"))


def test_every_task_has_a_dockerfile(root: Path) -> None:
    assert [path.name.removesuffix(".Dockerfile") for path in dockerfiles(root)] == [
        path.parent.name for path in sorted(root.glob("*/task.mk"))
    ]


def test_dockerfile_copies_what_exists_and_pins_the_same_uv(root: Path) -> None:
    version = re.search(r"^UV=(\S+)$", (root / "common/tools/setup.sh").read_text(encoding="utf-8"), re.MULTILINE)
    assert version
    for path in dockerfiles(root):
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        lines = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        assert lines[0][0] == "FROM"
        copied = [word for line in lines if line[0] == "COPY" and "--from" not in line[1] for word in line[1:-1]]
        sources = [word for word in copied if not word.startswith("--")]
        assert sources
        for source in sources:
            assert (root / source).exists(), f"{path.name} copies {source}"
        assert re.findall(r"uv==(\S+)", text) == [version[1]], f"{path.name}: another uv than setup.sh"
        users = [line[1] for line in lines if line[0] == "USER"]
        assert users
        assert users[-1] not in ("root", "0")
        assert lines[-1][0] in ("ENTRYPOINT", "CMD")
