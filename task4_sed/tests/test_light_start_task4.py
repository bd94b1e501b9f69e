"""What answers need no tensors must not import them; Lightning belongs to training alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "lightning", "pandas", "scipy", "matplotlib", "sklearn", "torchmetrics", "torchinfo", "librosa"}

CODE = """
import contextlib, io, json, sys
from common.run.verbs import main
from task4_sed.__main__ import TASK
heavy, found = set(json.loads(sys.argv[1])), {}
for name, words in json.loads(sys.argv[2]).items():
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            main(TASK, words)
        except SystemExit:
            pass
    found[name] = sorted(heavy & set(sys.modules))
for name, module in json.loads(sys.argv[3]).items():
    __import__(module)
    found[name] = sorted(heavy & set(sys.modules))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, archive: Path, tiny_root: Path) -> dict[str, list[str]]:
    """{what was done, one after another in a single process: heavy modules loaded so far}."""
    empty = ["--run-dir", str(tmp_path_factory.mktemp("runs"))]
    words = {
        "help": ["--help"],
        "help of a verb": ["evaluate", "--help"],
        "typo": ["trian"],
        "setting": ["train", "trainer.max_epoch=3"],
        "compare": ["compare", *empty],
        "validate": ["validate", str(archive), f"data.root={tiny_root}"],
    }
    modules = {
        "evaluate": "task4_sed.evaluation.report",
        "package": "task4_sed.submission.package",
        "complexity": "task4_sed.evaluation.complexity",
        "runs side by side": "task4_sed.training.runs",
        "predict": "task4_sed.inference.predict",
        "detect": "task4_sed.inference.detect",
    }
    given = [json.dumps(part) for part in (sorted(HEAVY), words, modules)]
    done = subprocess.run([sys.executable, "-c", CODE, *given], capture_output=True, text=True, check=True)
    loaded: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return loaded


@pytest.mark.parametrize("name", ["help", "help of a verb", "typo", "setting", "compare", "validate"])
def test_answers_without_tensors(found: dict[str, list[str]], name: str) -> None:
    assert found[name] == []


@pytest.mark.parametrize("name", ["evaluate", "package", "complexity", "runs side by side"])
def test_tables_without_tensors(found: dict[str, list[str]], name: str) -> None:
    assert found[name] == []


@pytest.mark.parametrize("name", ["predict", "detect"])
def test_networks_without_lightning(found: dict[str, list[str]], name: str) -> None:
    assert "torch" in found[name]
    assert not {"lightning", "pandas", "matplotlib", "sklearn", "torchmetrics", "torchinfo"} & set(found[name])
