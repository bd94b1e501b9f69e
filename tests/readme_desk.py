"""The desk of a reader of the READMEs: what lies in the copy of the checkout, and how commands are run there."""

import csv
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from common.encoders import __main__ as encoders
from common.run.config import config_dict, dump, load_config
from common.run.errors import UserError
from common.run.verbs import Task, main

ROOT = Path(__file__).resolve().parents[1]
TASKS: dict[str, Task] = {
    path.parent.name: importlib.import_module(f"{path.parent.name}.__main__").TASK
    for path in sorted(ROOT.glob("*/__main__.py"))
}
VERB = re.compile(rf"python -m ({'|'.join(TASKS)}) (\w+)")
CHAIN = re.compile(rf"make ({'|'.join(name.partition('_')[0] for name in TASKS)})-")
NOTE = "./note"


def write_recordings(folder: Path) -> None:
    """Isolated recordings as of ESC-50: beeps of three pitches in four folds; their tags and sentences."""
    (folder / "audio").mkdir(parents=True)
    rows = []
    time = np.arange(16000) / 16000
    for fold in range(1, 5):
        for number, category in enumerate(("high", "low", "middle")):
            name = f"{fold}-{category}.wav"
            beep = np.sin(2 * np.pi * (400 + 900 * number + 20 * fold) * time) * np.hanning(16000)
            soundfile.write(
                folder / "audio" / name, np.concatenate([np.zeros(8000), 0.3 * beep, np.zeros(8000)]), 16000
            )
            rows.append((name, fold, number, category))
    with open(folder / "meta.csv", "w", newline="") as file:
        csv.writer(file).writerows([("filename", "fold", "target", "category"), *rows])
    tags = "".join(f'{name},"Beep, bleep",a {name} beep\n' for name in ("high", "low", "middle"))
    (folder / "classes.csv").write_text(f"category,tag,sentence\n{tags}")


TINY_NETWORK = """
model: {num_mels: 32, channels: [4, 8, 8, 8], pooling: [[2, 4], [2, 2], [1, 2], [1, 2]], rnn_hidden: 8}
trainer: {max_epochs: 1, check_val_every_n_epoch: 1, accelerator: cpu}
energy: {enabled: false}
"""


TINY_PRETRAIN = """
data: {toy: audioset_tiny, batch: 4, draws: 8}
optimizer: {warmup_steps: 1}
trainer: {max_epochs: 1, check_val_every_n_epoch: 1, accelerator: cpu}
energy: {enabled: false}
"""
TINY_HEAR = TINY_PRETRAIN.replace("audioset_tiny", "dcase2016_tiny")
TINY_DESED = TINY_PRETRAIN.replace(
    "toy: audioset_tiny, batch: 4", "toy: tiny, blocks: {synth: {batch: 2}, weak: {batch: 1}}"
)
ONE_EACH = "{strong: {batch: 1}, synth: {batch: 1}, weak: {batch: 1}, unlabeled: {batch: 1}}"
RECIPES = {
    "toy": "extends: task4_sed/tests/tiny.yaml\ndata: {root: data/task4_sed/toy}\n",
    "baseline": "extends: task4_sed/tests/tiny.yaml\ntrainer: {max_epochs: 1}\n",
    "toy_encoder": "extends: task4_sed/tests/tiny.yaml\n"
    "data: {root: data/task4_sed/toy}\nencoder: {name: beats-tiny, cache: true}\n",
    "recordings_yamnet": f"extends: recordings_yamnet\ndata: {{workers: 0, blocks: {ONE_EACH}}}\n"
    "postprocess: {csebbs: default}" + TINY_NETWORK,
    "toy_pretrain_teacher": f"extends: toy_pretrain_teacher\n{TINY_PRETRAIN}",
    "toy_pretrain_student": f"extends: toy_pretrain_student\n{TINY_PRETRAIN}",
    **{
        f"toy_pretrain_{name}": f"extends: toy_pretrain_{name}\n{TINY_PRETRAIN}" for name in ("weak", "advanced", "own")
    },
    "toy_pretrain_dcase2016": f"extends: toy_pretrain_dcase2016\n{TINY_HEAR}",
    "toy_pretrain_desed": f"extends: toy_pretrain_desed\n{TINY_DESED}",
    "recordings": f"extends: recordings\ndata: {{workers: 0, blocks: {ONE_EACH}}}\npostprocess: {{csebbs: default}}"
    + TINY_NETWORK,
}


def write_tiny_recipes(folder: Path, task: Task, recipes: dict[str, str]) -> None:
    """In the copy of the checkout the task's recipes that are named here are tiny; all else of the task is linked."""
    (folder / task.name).unlink()
    (folder / task.name / "recipes").mkdir(parents=True)
    for entry in (ROOT / task.name).iterdir():
        if entry.name != "recipes":
            (folder / task.name / entry.name).symlink_to(entry)
    for entry in (ROOT / task.name / "recipes").iterdir():
        (folder / task.name / "recipes" / entry.name).symlink_to(entry)
    for name, text in recipes.items():
        source = folder / f"{name}.source.yaml"
        source.write_text(re.sub(rf"extends: (?={task.name}/)", f"extends: {ROOT}/", text))
        whole = dump(config_dict(load_config(task.config, ROOT / task.name / "recipes", str(source))))
        source.unlink()
        tiny = folder / task.name / "recipes" / f"{name}.yaml"
        tiny.unlink()
        tiny.write_text(whole)


def shell(command: str, folder: Path) -> str:
    """Run a command by the shell; its output. Fails where the command does."""
    clean = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTEST")}
    done = subprocess.run(["sh", "-c", command], cwd=folder, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def verb(words: list[str]) -> None:
    """Run a verb in this process."""
    assert words[0] == "-m"
    assert main(TASKS[words[1]], words[2:]) == 0, shlex.join(words)


def execute(code: str) -> None:
    """Run `python -c` in this process; modules of the working directory are found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", ["", *sys.path])
        exec(code, {"__name__": "__main__"})


def run(command: str, folder: Path) -> None:
    """Run a command as a reader would, but verbs in this process: starting one takes seconds."""
    words = shlex.split(command)
    if VERB.match(command):
        verb(words[1:])
    elif command.startswith("python -m common.encoders "):
        assert encoders.main(words[3:]) == 0, command
    elif command.startswith("python -c "):
        execute(words[2])
    elif CHAIN.match(command):
        for line in shell(
            shlex.join(["make", "-n", "-o", ".venv/.ready", f"PY={NOTE}", *words[1:]]), folder
        ).splitlines():
            if line.startswith(f"{NOTE} -m "):
                # Plots take half of the time; the READMEs' own `evaluate` draws them.
                verb([*shlex.split(line)[1:], *(["--no-plots"] if " evaluate " in line else [])])
                continue
            if line.startswith("make "):  # the lines of another make follow
                continue
            shell(line, folder)
            noted = folder / "noted"
            if noted.exists():  # a verb inside a line of shell
                lines = noted.read_text().splitlines()
                noted.unlink()
                for of_line in lines:
                    verb(shlex.split(of_line))
    elif words[0] == "make":
        shell(command.replace("make", "make -o .venv/.ready", 1), folder)
    else:
        shell(command, folder)


def check_settings(command: str) -> None:
    """The recipe of a command with its overrides is read and checked, as the verb would."""
    given = shlex.split(command)
    values = dict(word.split("=", 1) for word in given if re.match(r"(RECIPE|ARGS)=", word))
    recipe = values.get("RECIPE") or (given[given.index("--recipe") + 1] if "--recipe" in given else "toy")
    overrides = values["ARGS"].split() if "ARGS" in values else [w for w in given if re.match(r"\w+\.[\w.]+=", w)]
    assert overrides, command
    task = next(task for name, task in TASKS.items() if re.search(rf"\b{name.partition('_')[0]}[-_]", command))
    load_config(task.config, task.recipes, recipe, overrides)
    with pytest.raises(UserError):
        load_config(task.config, task.recipes, recipe, [overrides[0].replace("=", "x=", 1)])
