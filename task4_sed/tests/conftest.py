"""The tiny data set, written and packed once for all tests of a process."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.run.results.store import record
from common.run.training import claim
from common.run.verbs import Run, open_run
from common.tests.helpers import tiny_fixtures
from common.tests.submission_case import unpack
from task4_sed.__main__ import TASK as TASK4
from task4_sed.data.classes import FRAME_SECONDS, FRAMES_PER_CLIP
from task4_sed.data.layout import SETS
from task4_sed.data.sets import classes_of, read_annotation
from task4_sed.inference.scores import write_logits
from task4_sed.submission.package import package
from task4_sed.tests.submission_case import META, RUNS

TASK = Path(__file__).resolve().parent.parent
TINY = TASK / "tests" / "tiny.yaml"

tiny_root, tiny = tiny_fixtures("task4_sed")


@pytest.fixture(scope="session")
def energy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("codecarbon") / "emissions_training.csv"
    path.write_text("project_name,duration,energy_consumed\ntrain,7200,1.5\n")
    return path


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory, energy: Path) -> Path:
    return package(tmp_path_factory.mktemp("zip") / "ours.zip", META, RUNS, [energy], toy=True)


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory, archive: Path) -> Path:
    return unpack(archive, tmp_path_factory.mktemp("pristine"))


@pytest.fixture
def root(tmp_path: Path, pristine: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "root"))


@pytest.fixture
def predicted(tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Runs as `train` and `predict` leave them, without a network: predicted("one.yaml", 1, skill, *settings).

    In an empty working directory with the recipes one.yaml and two.yaml; the greater `skill`, the better the scores.
    """
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(f"extends: {TINY}\n")

    def made(recipe: str, number: int, skill: float, *settings: str) -> Run:
        run = open_run(TASK4, recipe, [f"data.root={tiny_root}", *settings], number)
        claim(run)
        classes, rng = classes_of(tiny_root), np.random.default_rng([number, *recipe.encode()])
        for name in {*run.config.test_sets, *run.config.postprocess.tune_on, "eval24"}:
            annotation = read_annotation(tiny_root, SETS[name], classes)
            events = annotation.events or dict.fromkeys(annotation.durations, ())
            logits = rng.normal(size=(len(events), FRAMES_PER_CLIP, len(classes)))
            for clip, of_clip in zip(logits, events.values(), strict=True):
                for event in of_clip:
                    at = slice(int(event.onset / FRAME_SECONDS), int(event.offset / FRAME_SECONDS) + 1)
                    clip[at, classes.index(event.label)] += skill
            write_logits(run.folder / "scores" / f"{name}.h5", list(events), logits, classes)
        record(run.folder, "train", {"kwh": 1.0, "data": "toy"})
        record(run.folder, "predict", {"kwh": 0.25, "network": run.config.postprocess.network})
        return run

    return made
