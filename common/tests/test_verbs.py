"""Verbs as a user types them: arguments, runs, exit codes and one-line errors."""

import errno
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from common.run.errors import UserError
from common.run.verbs import Run, Task, main, open_run, run_label

Call = Callable[..., tuple[int, str, str]]


@dataclass
class Inner:
    lr: float = 0.1


@dataclass
class Settings:
    seed: int = 5
    inner: Inner = field(default_factory=Inner)


SEEN: list[Any] = []


def show(
    run: Run,
    count: int,
    where: Path = Path("out"),
    kind: Literal["a", "b"] = "a",
    names: list[str] | None = None,
    box: Annotated[str, "default"] | None = None,
    level: float | None = None,
    fast: bool = False,
) -> Mapping[str, Any]:
    """Show a run.

    More about it.

    Args:
        count: how many, 100% of them
        where: folder
            on two lines
        fast: in a hurry
    """
    SEEN.append((run, count, where, kind, names, box, level, fast))
    return {"run": run.number, "lr": run.config.inner.lr}


def join(runs: list[Run]) -> Mapping[str, Any]:
    """Join runs."""
    SEEN.append(runs)
    return {"numbers": [run.number for run in runs]}


def listed(run: Run, files: list[Path]) -> None:
    """Take files."""
    SEEN.append((run, files))


def plain(text: str = "x") -> None:
    """No run."""
    SEEN.append(text)


def named(task: Task, text: str = "x") -> None:
    """Of the task.

    Args:
        text: of {task}
    """
    SEEN.append((task, text))


def exec_(what: str) -> None:
    """Fail in one way."""
    raise {
        "user": UserError("a.txt:3:\n  wrong\nthing"),
        "worker": UserError("Caught UserError in worker 0.\nTraceback:\n ...\ncommon.errors.UserError: b.txt: wrong\n"),
        "interrupt": KeyboardInterrupt(),
        "disk": OSError(errno.ENOSPC, "No space left on device", "big.h5"),
        "bug": ZeroDivisionError("mine"),
        "library": OSError("no number"),
    }[what]


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    package = tmp_path / "verb_task"
    (package / "recipes").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "recipes" / "toy.yaml").write_text("seed: 7\n")
    (package / "recipes" / "big.yaml").write_text("extends: toy\ninner: {lr: 0.5}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "verb_task", raising=False)
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    SEEN.clear()
    return Task("verb_task", "A task", Settings, (show, join, listed, plain, named, exec_))


@pytest.fixture
def call(task: Task, capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*words: str) -> tuple[int, str, str]:
        code = main(task, words)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_a_verb_may_ask_for_the_task(task: Task, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("named", "--text", "y")[0] == 0
    assert SEEN.pop() == (task, "y")
    with pytest.raises(SystemExit):
        call("named", "--help")
    assert "of verb_task" in capsys.readouterr().out


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_the_overview_lists_verbs_and_recipes(call: Call, words: tuple[str, ...]) -> None:
    code, out, err = call(*words)
    assert (code, err) == (0, "")
    assert "show        Show a run\n" in out
    assert "exec        Fail in one way\n" in out
    assert "recipes: big, toy (default: toy;" in out


def test_help_of_a_verb_tells_what_the_docstring_says(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call("show", "--help")
    out = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0
    assert "Show a run. More about it." in out
    assert "--count INT how many, 100% of them" in out
    assert "--where PATH folder on two lines (default: out)" in out
    assert "--kind {a,b}" in out
    assert "--names TEXT [TEXT ...]" in out
    assert "--box [TEXT]" in out
    assert "--recipe NAME" in out
    assert "Args:" not in out


def test_defaults(call: Call) -> None:
    assert call("show", "--count", "3")[0] == 0
    run, *values = SEEN[0]
    assert values == [3, Path("out"), "a", None, None, None, False]
    assert (run.recipe, run.number, run.seed, run.config) == ("toy", 1, 7, Settings(7))
    assert run.folder == Path("runs/verb_task/toy/run1")
    assert not Path("runs").exists()


def test_every_kind_of_argument(call: Call) -> None:
    words = "show --count 3 --where w --kind b --names x y --box --level 0.5 --fast --recipe big --run-dir d seed=1"
    assert call(*words.split())[0] == 0
    run, *values = SEEN[0]
    assert values == [3, Path("w"), "b", ["x", "y"], "default", 0.5, True]
    assert (run.folder, run.config) == (Path("d/run1"), Settings(1, Inner(0.5)))
    assert call("show", "--count", "1", "--box", "f=1,abs=2")[0] == 0
    assert SEEN[1][5] == "f=1,abs=2"


def test_a_recipe_by_path(call: Call, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: big\nseed: 2\n")
    assert call("join", "--recipe", "mine.yaml")[0] == 0
    (run,) = SEEN[0]
    assert (run.recipe, run.folder, run.config) == ("mine", Path("runs/verb_task/mine/run1"), Settings(2, Inner(0.5)))


@pytest.mark.parametrize(
    "words",
    [
        "inner.lr=0.3 --runs 1 2 3",
        "--runs 1 2 3 --names a b inner.lr=0.3",
        "--names a inner.lr=0.3 --runs 1 2 3",
        "--runs 1 2 3 inner.lr=0.3",
        "--runs 1 2 3 --recipe toy inner.lr=0.3 seed=7",
    ],
)
def test_settings_stand_anywhere(call: Call, words: str) -> None:
    code, out, _ = call("show", "--count", "1", "--json", *words.split())
    assert code == 0
    assert json.loads(out) == {"runs": [{"run": n, "lr": 0.3} for n in (1, 2, 3)]}
    assert [(of[0].seed, of[0].folder.name) for of in SEEN] == [(7, "run1"), (8, "run2"), (9, "run3")]


def test_a_verb_of_several_runs_is_called_once(call: Call) -> None:
    code, out, _ = call("join", "--runs", "2", "5", "--json")
    assert (code, json.loads(out.splitlines()[-1])) == (0, {"numbers": [2, 5]})
    assert len(SEEN) == 1


def test_which_of_the_runs_of_a_command_it_is() -> None:
    def labels(*numbers: int) -> list[str]:
        runs = [Run(Task("x", "", object, ()), "toy", number, Path(), None) for number in numbers]
        return [run_label(run, runs) for run in runs]

    assert labels(1) == [""]
    assert labels(2) == ["run 2"]
    assert labels(1, 2, 3) == ["run 1 of 3", "run 2 of 3", "run 3 of 3"]
    assert labels(4, 5) == ["run 4", "run 5"]


def test_a_single_result_and_none_as_json(call: Call) -> None:
    assert json.loads(call("show", "--count", "1", "--json")[1]) == {"run": 1, "lr": 0.1}
    assert json.loads(call("plain", "--json")[1]) == {}
    assert call("plain")[1] == ""


def test_files_and_settings_are_told_apart(call: Call, tmp_path: Path) -> None:
    (tmp_path / "seed=3").touch()  # a file that looks like a setting
    assert call("listed", "a.wav", "seed=3", "inner.lr=0.3", "sub/b.wav", "--runs", "2", "c.wav")[0] == 0
    run, files = SEEN[0]
    assert files == [Path("a.wav"), Path("seed=3"), Path("sub/b.wav"), Path("c.wav")]
    assert (run.number, run.config) == (2, Settings(7, Inner(0.3)))


def test_a_setting_may_be_longer_than_a_file_name(call: Call) -> None:
    text = "x" * 5000
    assert call("listed", "a.wav", f"inner.lr={'0' * 5000}.5", f"seed=7 # {text}")[0] == 0
    run, files = SEEN[0]
    assert (files, run.config) == ([Path("a.wav")], Settings(7, Inner(0.5)))
    code, _, err = call("show", "--count", "1", f"inner.lr={text}")
    assert code == 1
    assert err.startswith("error: inner.lr=xxx")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("shwo", "unknown verb 'shwo'; did you mean 'show'?"),
        ("show --count 1 --recipee x", "show: unknown option '--recipee'; did you mean '--recipe'?"),
        ("show --count 1 -x", "show: unknown option '-x'"),
        ("show", "the following arguments are required: --count (see python -m verb_task show --help)"),
        ("show --count many", "argument --count: invalid int value: 'many'"),
        ("show --count 1 --kind c", "argument --kind: invalid choice: 'c'"),
        ("show --count 1 of=[a, b]", "show: unexpected argument 'b]'; a setting is overridden as key=value, in quotes"),
        ("show --count 1 more", "show: unexpected argument 'more'; a setting is overridden as key=value"),
        ("show --count 1 --runs", "argument --runs: expected one argument"),
        ("show --count 1 --runs one", "argument --runs: 'one', expected numbers of trainings, e.g. 1 2 3"),
        ("show --count 1 --runs 1 two", "show: unexpected argument 'two'; a setting is overridden as key=value"),
        ("show --count 1 --runs -1", "argument --runs: '-1', expected numbers of trainings, e.g. 1 2 3"),
        ("show --count 1 --runs 0", "argument --runs: '0', expected numbers of trainings"),
        ("show --count 1 --runs 1 1", "argument --runs: '1 1', expected each training once"),
        ("show --count 1 sed=1", "sed=1: unknown setting; did you mean 'seed'?"),
        (f"show --count 1 --recipe {'o' * 300}", "no recipe 'ooo"),
        ("show --count 1 --recipe tyo", "no recipe 'tyo'; did you mean 'toy'?"),
        ("plain more", "plain: unexpected argument 'more'; see --help"),
        ("plain a=1", "plain takes no settings, but got 'a=1'"),
        ("exec --what user", "a.txt:3: wrong thing"),
        ("exec --what worker", "b.txt: wrong"),
        ("exec --what disk", "big.h5: No space left on device"),
    ],
)
def test_a_mistake_is_one_line(call: Call, words: str, message: str) -> None:
    code, out, err = call(*words.split())
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    assert SEEN == []


def test_ctrl_c(call: Call) -> None:
    code, out, err = call("exec", "--what", "interrupt")
    assert (code, out) == (130, "")
    assert err == "interrupted; the same command goes on from here\n"


@pytest.mark.parametrize(("what", "kind"), [("bug", ZeroDivisionError), ("library", OSError)])
def test_bugs_keep_their_traceback(call: Call, what: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        call("exec", "--what", what)


def test_open_run(task: Task) -> None:
    run = open_run(task, "big", ["seed=1"], 3, Path("there"))
    assert (run.seed, run.folder, run.config.inner.lr) == (3, Path("there/run3"), 0.5)
    with pytest.raises(UserError, match="--runs: 0, expected 1 or more"):
        open_run(task, "big", number=0)


PIPED = """
import sys
from common.run.verbs import Task, main
def many(lines: int) -> None:
    "Print."
    for n in range(lines):
        print("line", n)
sys.exit(main(Task("common", "t", object, (many,)), ["many", "--lines", sys.argv[1]]))
"""


@pytest.mark.parametrize("lines", ["5", "100000"])
def test_a_reader_that_goes_away_is_no_error(lines: str) -> None:
    """As in `python -m task evaluate | head -1`, with less and with more than a pipe holds."""
    process = subprocess.Popen(
        [sys.executable, "-c", PIPED, lines],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, "")


def test_values_of_a_list_option_may_look_like_settings(call: Call) -> None:
    """They stay with the option unless they are settings of the recipe."""
    words = ("show", "--count", "1", "--names", "train=1,2", "inner=3", "test=4", "seed=9", "inner.lr=0.3")
    assert call(*words)[0] == 0
    run, names = SEEN[-1][0], SEEN[-1][4]
    assert names == ["train=1,2", "inner=3", "test=4"]
    assert (run.config.seed, run.config.inner.lr) == (9, 0.3)
    code, _, err = call("show", "--count", "1", "--names", "a", "sead=3")  # the others are no such list
    assert code == 1
    assert "sead=3: unknown setting; did you mean 'seed'" in err


@pytest.mark.parametrize("words", ["--count 1_0", "--count ٣", "--count 1 --level 0_5", "--count 1 --runs ٣"])
def test_numbers_of_options_are_not_pythons(call: Call, words: str) -> None:
    code, _, err = call("show", *words.split())
    assert code == 1
    assert "--" in err
