"""A wrong option is answered in one line, before anything heavy is loaded; the same option is the same everywhere."""

import inspect
from importlib import import_module
from pathlib import Path

import pytest

from common.run.verbs import Task, _computing
from common.tests.helpers import loaded_by

TASKS = ("task1_asc", "task2_anomaly", "task4_sed", "task6_retrieval", "qbv", "zeroshot")
NO_CHALLENGE = {"zeroshot"}  # nothing to package
WRONG = {
    "every task": (
        ["predict", "x.wav", "--out", "file"],
        ["predict", "x.wav", "--out", "file/below"],
        ["predict", "--out", "found"],
        ["predict", "--device", "gpu"],
        ["train", "--device", "cuda:x"],
        ["train", "--device", "cpu", "trainer.accelerator=gpu"],
        ["train", "trainer.max_epoch=3"],
    ),
    "every challenge": (["package", "--out", "submission.txt"],),
    "task1_asc": (
        *([verb, "--split", "30"] for verb in ("train", "predict", "evaluate", "teach", "export")),
        ["predict", "x.wav", "--split", "5", "data.splits=[25,50]"],
        ["predict", "x.wav", "--precision", "float8"],
    ),
    "task2_anomaly": (
        ["predict", "x.wav"],
        ["predict", "--machine", "fan_id_00"],
        ["train", "--jobs", "0"],
        ["grid", "--jobs", "0"],
        ["grid", "--studies", "proxy"],
    ),
    "task4_sed": (
        ["predict", "x.wav", "--threshold", "2"],
        ["detect", "x.wav"],
        ["detect", "--model", "yamnet"],
        ["detect", "x.wav", "--model", "yamnet", "--hop", "11"],
        ["detect", "x.wav", "--model", "yamnet", "--csebbs", "--low", "0.1"],
        ["detect", "x.wav", "--model", "yamnet", "--out", "file"],
        ["train", "--jobs", "0", "--runs", "1", "2"],
    ),
    "task6_retrieval": (
        ["evaluate", "--scores", "file"],
        ["evaluate", "--ground-truth", "file"],
        ["evaluate", "--against", "file"],
        ["captions"],
        ["index", "x.wav", "x.wav"],
        ["search", "a dog"],
        ["search", "--library", "."],
        ["validate", "file", "--edition", "2021"],
        ["package", "--edition", "2021"],
        ["evaluate", "--weights", "1", "2"],
        ["evaluate", "--ensemble", "toy", "--scores", "file"],
        ["compare", "--runs-of", "toy"],
        ["export", "--public"],
    ),
    "qbv": (
        ["predict", "x.wav"],
        ["predict", "x.wav", "--library", "gone"],
        ["predict", "--library", "."],
        ["predict", "--fold", "0"],
        ["predict", "x.wav", "--library", ".", "--fold", "3"],
        ["train", "--folds", "3"],
        ["train", "--jobs", "0"],
        ["evaluate", "--scores", "file"],
        ["evaluate", "--ground-truth", "file"],
        ["evaluate", "--within"],
        ["prepare", "--splits", "."],
        ["export", "--fold", "3"],
        ["export", "--public"],
        ["package", "--recipe", "toy_qvim", "submission.label=Team"],
        ["package", "--recipe", "toy_qvim", "--runs", "1", "2", "3", "4"],
        ["validate", "file"],
        ["compare", "--runs-of", "toy"],
    ),
    "zeroshot": (
        ["predict", "x.wav"],
        ["predict", "x.wav", "--classes", "dog"],
        ["predict", "x.wav", "--classes", "dog,"],
        ["predict", "x.wav", "--classes", "dog, rain", "--classes-file", "file"],
        ["predict", "x.wav", "--classes", "dog, rain", "--split", "near", "--checkpoint", "file"],
        ["predict", "--classes", "dog, rain"],
        ["evaluate", "--scores", "file"],
        ["evaluate", "--out", "found"],
        ["distance", "--classes", "dog"],
        ["compare", "--runs-of", "toy"],
    ),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_wrong_option_is_answered_at_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "x.wav").touch()
    challenge = () if name in NO_CHALLENGE else WRONG["every challenge"]
    commands = [*WRONG["every task"], *challenge, *WRONG[name]]
    for command, (code, loaded) in zip(commands, loaded_by(name, commands), strict=True):
        assert (code, loaded) == (1, set()), command
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "x.wav"]


def test_the_same_option_is_the_same_in_every_task() -> None:
    """Name, kind and default of what `predict` and the others share."""
    tasks: list[Task] = [import_module(f"{name}.__main__").TASK for name in TASKS]
    shared: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for task in tasks:
        for verb in task.verbs:
            for option in inspect.signature(verb).parameters.values():
                if option.name not in ("run", "runs"):
                    kind = (str(option.annotation), str(option.default))
                    shared.setdefault((verb.__name__, option.name), set()).add(kind)
    for same in (("predict", "files"), ("predict", "out"), ("package", "out"), ("train", "restart"), ("train", "jobs")):
        assert len(shared[same]) == 1, (same, shared[same])
    for task in tasks:
        by_name = {verb.__name__: verb for verb in task.verbs}
        for name in ("train", "predict", "benchmark"):
            assert by_name[name] in _computing, (task.name, name)
