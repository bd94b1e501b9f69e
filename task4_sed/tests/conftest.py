"""The tiny data set, written and packed once for all tests of a process."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from common.run.config import load_config
from common.tests.submission_case import unpack
from task4_sed.config import Config
from task4_sed.submission.package import package
from task4_sed.tests.submission_case import META, RUNS

TASK = Path(__file__).resolve().parent.parent
TINY = TASK / "tests" / "tiny.yaml"

Configure = Callable[..., Config]


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny toy data set with its packs, in the official layout; read only."""
    from task4_sed.data.prepare import prepare
    from task4_sed.data.toy.write import write_toy

    root = tmp_path_factory.mktemp("tiny") / "data"
    write_toy(root, size="tiny")
    prepare(load_config(Config, TASK / "recipes", str(TINY), [f"data.root={root}"]), workers=1)
    return root


@pytest.fixture(scope="session")
def tiny(tiny_root: Path) -> Configure:
    """The tiny recipe on that data set, with overrides: tiny("trainer.max_epochs=3")."""

    def configure(*overrides: str) -> Config:
        return load_config(Config, TASK / "recipes", str(TINY), [f"data.root={tiny_root}", *overrides])

    return configure


@pytest.fixture
def linked_root(tiny_root: Path, tmp_path: Path) -> Path:
    """An own copy of the tiny data set without packs; audio is linked, so change a file only by replacing it."""
    root = tmp_path / "data"
    for source in tiny_root.rglob("*"):
        target = root / source.relative_to(tiny_root)
        if "packed" in target.relative_to(root).parts:
            continue
        if source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        elif source.suffix == ".wav":
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(source, target)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    return root


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
