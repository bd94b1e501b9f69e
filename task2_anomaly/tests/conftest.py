"""The tiny data set, written and packed once for all tests of a process."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from common.run.config import load_config
from task2_anomaly.config import Config

TASK = Path(__file__).resolve().parent.parent
TINY = TASK / "tests" / "tiny.yaml"

Configure = Callable[..., Config]


def configured(root: Path, *overrides: str) -> Config:
    """The tiny recipe on the data set in `root`."""
    places = [f"data.root={root}", f"data.audioset={root / 'audioset'}", f"data.scenes={root / 'scenes'}"]
    return load_config(Config, TASK / "recipes", str(TINY), [*places, *overrides])


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data set with its packs, in the official layout; read only."""
    from task2_anomaly.data.prepare import prepare
    from task2_anomaly.data.toy.write import write_toy

    root = tmp_path_factory.mktemp("tiny") / "data"
    write_toy(root, size="tiny")
    prepare(configured(root), workers=1)
    return root


@pytest.fixture(scope="session")
def tiny(tiny_root: Path) -> Configure:
    """The tiny recipe on that data set, with overrides: tiny("trainer.max_epochs=3")."""
    return lambda *overrides: configured(tiny_root, *overrides)


@pytest.fixture
def linked_root(tiny_root: Path, tmp_path: Path) -> Path:
    """An own copy of the tiny data set without packs; audio is linked, so change a file only by replacing it."""
    root = tmp_path / "data"
    for source in tiny_root.rglob("*"):
        target = root / source.relative_to(tiny_root)
        if "packed" in target.relative_to(root).parts or source.is_dir():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, target)
    return root
