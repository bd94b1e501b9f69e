"""Every example in a `--help` text does what the text says."""

import dataclasses
import functools
import inspect
import re
import shlex
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import soundfile

from common.encoders import __main__ as encoders
from common.run.verbs import Task, _parser, main
from tests.faults.chain import ROOT

TASKS = ("task1_asc", "task2_anomaly", "task4_sed", "task6_retrieval", "qbv", "zeroshot")
SETTING = "trainer.max_epochs=3"


def task_of(name: str) -> Task:
    task: Task = import_module(f"{name}.__main__").TASK
    return task


def examples() -> set[tuple[str, str, str]]:
    """(task, verb, example) of all help texts: what follows `e.g.`, and commands between backticks."""
    found = set()
    for name in TASKS:
        for verb in task_of(name).verbs:
            called = verb.__name__.rstrip("_")
            text = " ".join(_parser(task_of(name), called, verb).format_help().split())
            shown = re.findall(r"e\.g\. (.+?)(?=[;)]| positional| --[a-z]| optional| options:| -h|$)", text)
            shown += re.findall(rf"`({called} [^`]+)`", text)
            found |= {(name, called, example.strip()) for example in shown}
    return found


VERBS = [(name, verb.__name__.rstrip("_")) for name in TASKS for verb in task_of(name).verbs]


@pytest.mark.parametrize(("name", "called"), VERBS)
def test_every_verb_shows_a_command_that_it_takes(name: str, called: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its options, files and settings are read; the work itself is not done."""
    task = task_of(name)
    verb = next(verb for verb in task.verbs if verb.__name__.rstrip("_") == called)
    text = _parser(task, called, verb).format_help()
    (example,) = re.findall(rf"^example: (python -m {name} {called}(?: .*)?)$", text, re.MULTILINE)
    takes_settings = not {"run", "runs"}.isdisjoint(inspect.signature(verb).parameters)
    assert ("key=value (e.g. trainer.max_epochs=3)" in text) == takes_settings
    seen: list[dict[str, object]] = []

    @functools.wraps(verb)
    def noted(*_: object, **keywords: object) -> None:
        seen.append(keywords)

    mine = tuple(noted if of is verb else of for of in task.verbs)
    assert main(dataclasses.replace(task, verbs=mine), shlex.split(example)[3:]) == 0
    assert seen
    if "files" in inspect.signature(verb).parameters and called != "complexity":  # of a recipe, or of named networks
        assert seen[0]["files"]


def test_every_verb_of_the_encoders_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        encoders.main(["--help"])
    examples = capsys.readouterr().out.partition("examples:")[2]
    for verb in encoders.VERBS[1:]:  # the first is the default
        assert f"python -m common.encoders {verb} " in examples, verb


def call(name: str, *words: str, root: Path | None = None) -> int:
    recipe = ["--recipe", str(ROOT / name / "tests" / "tiny.yaml")]
    return main(task_of(name), [*words, *recipe, *([f"data.root={root}"] if root else [])])


def tiny(name: str, folder: Path) -> Path:
    import_module(f"{name}.data.toy.write").write_toy(folder / "data", size="tiny")
    return folder / "data"


def folds(folder: Path) -> None:
    rows = ["filename,fold,category"]
    (folder / "esc").mkdir()
    for category in ("dog", "cat"):
        for fold in (1, 2, 3, 4):
            rows.append(f"{category}{fold}.wav,{fold},{category}")
            tone = np.sin(np.arange(16000) * (0.1 if category == "dog" else 0.3)) / 4
            soundfile.write(folder / "esc" / f"{category}{fold}.wav", tone, 16000)
    (folder / "esc" / "meta.csv").write_text("\n".join(rows) + "\n")
    words = ["--from-recordings", str(folder / "esc"), "--out", str(folder / "made"), "--clips", "2"]
    example = ["--folds", "train=1,2", "validation=3", "test=4"]
    assert call("task4_sed", "prepare", *words, *example, "seed=3") == 0
    text = (folder / "made" / "sources.tsv").read_text()
    of_part = {"synth_val": "3", "devtest": "4"}
    for line in text.splitlines()[1:]:
        (fold,) = re.findall(r"(?:dog|cat)(\d)\.wav", line)
        assert fold in of_part.get(line.split("\t")[0], "12")


def machine(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tiny("task2_anomaly", folder)
    soundfile.write(folder / "x.wav", np.zeros(16000), 16000)
    run = f"--run-dir={folder / 'runs'}"
    assert call("task2_anomaly", "prepare", run, root=root) == 0
    for given, said in (("fan_id_00", "no finished training"), ("fan_id_99", "no machine 'fan_id_99'")):
        assert call("task2_anomaly", "predict", str(folder / "x.wav"), "--machine", given, run, root=root) == 1
        assert said in capsys.readouterr().err


def splits(folder: Path) -> None:
    root = tiny("task1_asc", folder)
    assert call("task1_asc", "splits", "check", str(root)) == 0
    assert call("task1_asc", "splits", "make", str(root), "--out", str(folder / "lists")) == 0
    assert list((folder / "lists").glob("split5.csv"))


def setting(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(name, "complexity", SETTING) == 0
    assert call(name, "complexity", SETTING.replace("max", "most")) == 1
    assert "unknown setting" in capsys.readouterr().err


RUN: dict[tuple[str, str], Callable[[Path, pytest.CaptureFixture[str]], None]] = {
    ("task4_sed", "train=1,2 validation=3 test=4"): lambda folder, capsys: folds(folder),
    ("task2_anomaly", "fan_id_00"): machine,
    ("task1_asc", "splits check [DIR]"): lambda folder, capsys: splits(folder),
    ("task1_asc", "splits make [DIR] --out DIR"): lambda folder, capsys: splits(folder),
    **{(name, SETTING): lambda folder, capsys, name=name: setting(name, capsys) for name in TASKS},  # type: ignore[misc]
}


def test_every_example_is_known_here() -> None:
    assert {(task, example) for task, _, example in examples()} == set(RUN)


@pytest.mark.parametrize("key", RUN, ids=" ".join)
def test_an_example_does_what_it_says(
    key: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    RUN[key](tmp_path, capsys)
