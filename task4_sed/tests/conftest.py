"""The tiny data set, written and packed once for all tests of a process."""

import shutil
from pathlib import Path

import pytest

from common.tests.helpers import tiny_fixtures
from common.tests.submission_case import unpack
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
