"""Every command of every README is run, or said in the table below why it is not.

Commands stand in blocks marked ```sh. They are run in their order, in a copy of the checkout where a handful of clips
and a network of a few thousand weights take the place of the toy data set: the recipes of the tasks there, `toy` and
others, are those of tests/tiny.yaml. Verbs and `python -c` run in this process; for `make`, the lines that it would
run. Blocks marked ```yaml or ```python whose first line is `# NAME.yaml` or `# NAME.py` are written to the copy, as a
reader would; so are those marked ```csv, with a beep for each file, under the name that the next command has for its
table.
"""

import importlib.util
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

import pytest

from common.run import benchmark
from common.run.verbs import Task
from common.tests.helpers import shown_table
from task4_sed.data.layout import SETS
from tests.readme_desk import (
    NOTE,
    RECIPES,
    ROOT,
    TASKS,
    VERB,
    check_settings,
    run,
    shell,
    write_recordings,
    write_tiny_recipes,
)

READMES = [ROOT / "README.md", *sorted(ROOT.glob("*/README.md")), ROOT / "common" / "encoders" / "README.md"]


@dataclass(frozen=True)
class Rule:
    """What the test does with the commands that match: the first rule counts.

    run: with `change` (pattern, replacement) applied. settings: recipe and overrides are read and checked. named: it is
    valid shell, and the files and programs in `names` exist.
    """

    pattern: str
    how: Literal["run", "settings", "named"]
    why: str
    change: tuple[tuple[str, str], ...] = ()
    names: tuple[str, ...] = ()


REAL_DATA = (r"data\.root=\S*/to/data", "data.root=data/task4_sed/toy")
ONE_RUN = (r"^(make .*)$", r"\1 RUNS=1")
TRAINED = (r"make task4-train RECIPE=", "python -m task4_sed train --recipe ")

RULES = (
    Rule(
        r"git clone .*|docker .*",
        "named",
        "needs the network and a Docker engine",
        names=("docker/task2_anomaly.Dockerfile", "docker/task4_sed.Dockerfile"),
    ),
    Rule(r".*uv pip install wandb", "named", "needs the network", names=(".venv/bin/uv",)),
    Rule(
        r"make (check|lock|dockerfiles|test-slow)",
        "named",
        "takes minutes, needs the network or writes into the checkout",
        names=("Makefile",),
    ),
    Rule(r"tensorboard .*", "named", "runs until it is stopped", names=(".venv/bin/tensorboard",)),
    Rule(r".*--recipe baseline_beats .*", "settings", "needs the weights of BEATs"),
    Rule(r"python -m task4_sed train --recipe iteration.*", "settings", "needs the transformer's weights"),
    Rule(r".*trainer\.devices=\d.*", "settings", "needs several GPUs"),
    Rule(r".*trainer\.wandb=true.*", "settings", "needs the package wandb and an account"),
    Rule(
        r"make test",
        "run",
        "one fast file instead of all tests",
        ((r"$", " PYTEST='-n 0 -k addresses tests/test_contracts.py'"),),
    ),
    Rule(
        r"python -m common\.encoders (embed|export) (?!.*_strong_1).*",
        "run",
        "as it is",
    ),
    Rule(r"python -m common\.encoders tags .*", "run", "as it is"),
    Rule(
        r"python -m common\.encoders evaluate .*",
        "run",
        "12 recordings, a small text encoder",
        ((r"^python (.*) \S+$", r"python \1 recordings --classes recordings/classes.csv --text small"),),
    ),
    Rule(r"make encoders", "named", "builds every model", names=("Makefile",)),
    Rule(
        r"python -m common\.encoders benchmark .*",
        "run",
        "a tiny model, a hundredth of a second",
        ((r"^python (.*) benchmark .*", r"python \1 benchmark beats-tiny --seconds 0.01"),),
    ),
    Rule(
        r"python -m common\.tests\.test_fingerprints .*",
        "named",
        "writes into the checkout",
        names=("common/tests/test_fingerprints.py",),
    ),
    Rule(r"python -c .*", "run", "as it is"),
    Rule(r"make (help|setup)", "run", "as it is"),
    Rule(r"\. \.venv/bin/activate|mkdir .*|ls .*", "run", "as it is"),
    Rule(
        r"python -m task4_sed prepare --from-recordings .*",
        "run",
        "12 recordings instead of 2000, 4 clips instead of 200",
        (
            (r"--from-recordings \S+", "--from-recordings recordings"),
            (r"--clips \d+", "--clips 4"),
            (r"--folds test=5", "--folds test=4"),
        ),
    ),
    Rule(r"make task4-train RECIPE=recordings(_yamnet)? .*", "run", "a tiny network", (ONE_RUN,)),
    Rule(r"make task4-train RECIPE=my\.yaml.*", "run", "a tiny network, one training", (ONE_RUN,)),
    Rule(r"make task4-train RECIPE=(tilted|event_net|eared)\.yaml", "run", "trained alone", (TRAINED,)),
    Rule(
        r"make task4-train RECIPE=baseline .*",
        "run",
        "tiny data and network, one training",
        (REAL_DATA, ONE_RUN),
    ),
    Rule(r"make task4-train RESTART=1", "named", "the same chain once more", names=("task4_sed/task.mk",)),
    Rule(
        r"make task4-package RECIPE=entry\.yaml .*",
        "run",
        "the archive is made of the toy trainings",
        (
            (r"^make task4-package RECIPE=(\S+)", r"python -m task4_sed package --recipe \1 --runs 1 2 3"),
            (r"ARGS=.*", "--run-dir runs/task4_sed/toy --out entry.zip data.root=data/task4_sed/toy"),
        ),
    ),
    Rule(
        r"make( -\w+( \d+)?)? task4-(reproduce|pretrain).*",
        "named",
        "takes minutes to days",
        names=("task4_sed/task.mk",),
    ),
    Rule(r"make task4-benchmark RECIPE=.*", "named", "takes minutes", names=("task4_sed/evaluation/benchmark.py",)),
    Rule(
        r"(make task4-|python -m task4_sed )demo.*",
        "named",
        "runs until it is stopped",
        names=("task4_sed/evaluation/demo.py",),
    ),
    Rule(
        r"make task4-\S+( .*)?",
        "run",
        "a tiny data set and network in place of the toy and the real ones",
        (REAL_DATA,),
    ),
    Rule(
        r"python -m task4_sed benchmark --metrics( \w+)?",
        "named",
        "takes a minute",
        names=("task4_sed/evaluation/benchmark_metrics.py",),
    ),
    Rule(r"python -m task4_sed prepare .*--download .+", "settings", "needs the network"),
    Rule(
        r"python -m (task4_sed (detect|export)|common\.encoders export) .*_strong.*",
        "named",
        "needs published weights",
        names=("task4_sed/inference/detectors.py",),
    ),
    Rule(
        r"(ffmpeg .* \| )?python -m task4_sed stream .*frame_mn06.*",
        "named",
        "needs published weights, ffmpeg, a microphone",
        names=("task4_sed/inference/stream.py",),
    ),
    Rule(r"tail .* \| python -m task4_sed stream .*", "run", "as it is", ((r"\| python", "| .venv/bin/python"),)),
    Rule(
        r"python -m task4_sed benchmark --detect",
        "named",
        "takes minutes",
        names=("task4_sed/evaluation/benchmark_detect.py",),
    ),
    Rule(r"python -m task4_sed benchmark.*", "run", "an instant a stage", ((r"$", " --seconds 0.02"),)),
    Rule(
        r"python -m task4_sed evaluate( --runs .*)?",
        "run",
        "one training",
        ((r"$", " --runs 1"),),
    ),
    Rule(r"python -m task4_sed train --runs .*", "run", "one training", ((r"--runs [\d ]+", "--runs 1"),)),
    Rule(r"python -m task4_sed predict --runs .*", "run", "one training", ((r"--runs [\d ]+", "--runs 1 "),)),
    Rule(
        r"python -m task4_sed validate .*",
        "run",
        "the own archive",
        ((r"\S+$", "runs/task4_sed/toy/submission.zip"),),
    ),
    Rule(
        r"python -m task4_sed package --ensemble .*",
        "named",
        "needs three trainings of each recipe",
        names=("task4_sed/submission/package.py",),
    ),
    Rule(
        r"python -m task4_sed \w+( .*)?",
        "run",
        "tiny data and network, boxes that are not tuned",
        (
            (r"--csebbs runs/\S+", "--csebbs default"),
            REAL_DATA,
        ),
    ),
)


def read_rules(path: Path) -> ModuleType:
    """A module of `readme_rules`: RULES of a task, its tiny RECIPES, EXPECTED files below runs/<task>."""
    # By path: `tests` is also the name of a package that others install.
    spec = importlib.util.spec_from_file_location(f"readme_rules_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MORE = {path.stem: read_rules(path) for path in sorted((ROOT / "tests" / "readme_rules").glob("*.py"))}
RULES += tuple(Rule(*rule) for module in MORE.values() for rule in module.RULES)


@dataclass(frozen=True)
class Command:
    """A command and where it stands."""

    text: str
    at: str

    @property
    def rule(self) -> Rule | None:
        return next((rule for rule in RULES if re.fullmatch(rule.pattern, self.text)), None)

    @property
    def changed(self) -> str:
        text = self.text
        assert self.rule is not None
        for pattern, replacement in self.rule.change:
            text = re.sub(pattern, replacement, text)
        return text


def blocks(readme: Path) -> Iterator[tuple[str, int, list[str]]]:
    """(language, line number, lines) of every fenced block."""
    language, start, lines = None, 0, list[str]()
    for number, line in enumerate(readme.read_text(encoding="utf-8").splitlines(), 1):
        if not line.startswith("```"):
            lines.append(line)
        elif language is None:
            language, start, lines = line[3:].strip(), number, []
        else:
            yield language, start, lines
            language = None
    assert language is None, f"{readme}:{start}: the block has no end"


def commands() -> list[Command]:
    found = []
    for readme in READMES:
        for language, start, lines in blocks(readme):
            if language != "sh":
                continue
            text = "\n".join(lines).replace("\\\n", " ")
            for offset, line in enumerate(text.splitlines(), 1):
                words = shlex.split(line, comments=True, posix=False)
                if words:
                    found.append(Command(" ".join(words), f"{readme.relative_to(ROOT)}:{start + offset}"))
    return found


COMMANDS = commands()


# --------------------------------------------------------------------------------------------------------------- table


def test_every_command_has_a_rule() -> None:
    assert len(COMMANDS) > 20
    assert [f"{c.at}: {c.text}" for c in COMMANDS if c.rule is None] == []


def test_every_rule_has_a_command() -> None:
    used = {c.rule for c in COMMANDS}
    assert [rule.pattern for rule in RULES if rule not in used] == []


def test_blocks_say_what_they_are() -> None:
    """So that no command hides in a block of another kind."""
    for readme in READMES:
        for language, start, lines in blocks(readme):
            assert language in ("sh", "text", "yaml", "csv", "python"), f"{readme}:{start}: {language!r}"
            if language == "text":
                assert not any(re.match(r"[$>%] ", line) for line in lines), (
                    f"{readme}:{start}: a command in a text block"
                )


def test_first_commands_are_the_two_that_matter() -> None:
    assert [c.text for c in COMMANDS if c.at.startswith("README.md")][:2] == ["make task4-train", "make test"]


def test_every_verb_is_shown() -> None:
    found = [match.groups() for c in COMMANDS if (match := VERB.match(c.text))]
    for name, task in TASKS.items():
        assert {verb for of, verb in found if of == name} == {verb.__name__.rstrip("_") for verb in task.verbs}, name


def test_links_lead_somewhere() -> None:
    for readme in READMES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", readme.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (readme.parent / target).exists(), f"{readme.relative_to(ROOT)}: {target}"


def test_layout_table_agrees_with_the_code() -> None:
    text = (ROOT / "task4_sed" / "README.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip(" `") for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    of_set = {row[0]: row for row in rows if row[0] in SETS}
    assert set(of_set) == set(SETS)
    for name, layout in SETS.items():
        _, kind, parts, audio, tables, official = of_set[name]
        assert kind == layout.kind
        assert parts == ", ".join(layout.parts)
        assert audio == layout.audio[0]
        assert [t for t in re.split(r"`?, `?", tables) if t] == [*layout.annotation, *layout.durations]
        assert official == ("" if layout.official_clips is None else f"{layout.official_clips:,}")


def test_systems_table_agrees_with_the_checkout() -> None:
    """Built or planned, as the folder is there or not; a system's own state is for people to judge."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d+ \|.*\| `(\w+)` \|.*\| (built|in part|planned) \|", text, re.MULTILINE)
    assert len(rows) == 10
    for folder, state in rows:
        if state != "planned":
            assert (ROOT / folder / "__main__.py").is_file(), folder


# ------------------------------------------------------------------------------------------------------------- running


def write_recipes(folder: Path) -> None:
    """The tiny recipes under the names of the real ones, and those that a README shows."""
    for task in TASKS.values():
        write_tiny_recipes(folder, task, MORE[task.name].RECIPES if task.name in MORE else RECIPES)
    for readme in READMES:
        table: list[str] = []
        for language, _, lines in blocks(readme):
            table = shown_table(folder, table, language, lines)
            name = re.fullmatch(r"# (\w+\.(yaml|py))", lines[0]) if language in ("yaml", "python") and lines else None
            if name:
                (folder / name[1]).write_text("\n".join(lines))
    network = (
        "from torch import nn\n\n\ndef build_network():\n"
        "    return nn.Sequential(nn.Conv2d(1, 10, 8, 8), nn.Flatten())\n"
    )
    (folder / "my_module.py").write_text(network)


@pytest.fixture(scope="module")
def desk(checkout: Path) -> Path:
    """The copy of the checkout with what a reader of the READMEs has: recordings, recipes, an audio file."""
    write_recordings(checkout / "recordings")
    write_recipes(checkout)
    shutil.copy(checkout / "recordings" / "audio" / "1-high.wav", checkout / "recording.wav")
    (checkout / NOTE).write_text('#!/bin/sh\necho "$@" >> noted\n')
    (checkout / NOTE).chmod(0o755)
    return checkout


def test_commands_that_are_not_run_name_what_exists(desk: Path) -> None:
    for command in COMMANDS:
        if command.rule is None or command.rule.how == "run":
            continue
        subprocess.run(["sh", "-n", "-c", command.text], check=True)
        if command.rule.how == "settings":
            check_settings(command.text)
        if command.text.startswith("make "):
            shell(shlex.join(["make", "-n", *shlex.split(command.text)[1:]]), desk)
        for name in command.rule.names:
            assert (desk / name).exists(), f"{command.at}: {name}"


EXPECTED = {
    "the rest": (
        "toy/run1/results.json",
        "toy/run1/plots",
        "toy/run3/results.json",
        "toy/comparison.csv",
        "toy/submission.zip",
    ),
    "pre-training": ("toy_pretrain_student/run1/results.json", "toy_pretrain_dcase2016/run1/results.json"),
}


def group_of(command: Command) -> str:
    """The task whose README has the command, where it has rules of its own; pre-training has a group too."""
    folder = command.at.partition("/")[0]
    if "pretrain" in command.text:
        return "pre-training"
    return folder if folder in MORE else "the rest"


GROUPS = ["the rest", *(pytest.param(group, marks=pytest.mark.slow) for group in ("pre-training", *MORE))]


@pytest.mark.parametrize("group", GROUPS)
def test_every_other_command_runs(group: str, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the root's, the common and Task 4's READMEs; those of the other tasks, whose verbs their own tests run too."""
    monkeypatch.chdir(desk)
    monkeypatch.setattr(Task, "recipes", property(lambda task: Path(task.name) / "recipes"))
    monkeypatch.setattr(benchmark, "TURNS", 1)
    here = [command for command in COMMANDS if group_of(command) == group]
    once = {command.text: command for command in reversed(here)}
    for command in sorted(once.values(), key=here.index):
        if command.rule is not None and command.rule.how == "run":
            print(f"### {command.at}: {command.text}\n#   as: {command.changed}", flush=True)
            run(command.changed, desk)
    expected = MORE[group].EXPECTED if group in MORE else EXPECTED[group]
    for name in expected:
        assert (desk / "runs" / (group if group in MORE else "task4_sed") / name).exists(), name
