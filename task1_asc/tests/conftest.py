"""The tiny data set, written and packed once for all tests of a process."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from common.run.config import load_config
from task1_asc.config import Config

TASK = Path(__file__).resolve().parent.parent
TINY = TASK / "tests" / "tiny.yaml"

Configure = Callable[..., Config]


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data set with its packs, in the official layout; read only."""
    from task1_asc.data.prepare import prepare
    from task1_asc.data.toy.write import write_toy

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
        if "packed" in target.relative_to(root).parts or source.is_dir():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".wav":
            os.link(source, target)
        else:
            target.write_bytes(source.read_bytes())
    return root


@pytest.fixture
def untrained(tmp_path: Path) -> Path:
    """runs/task1_asc/toy/run1/split100 as a training leaves it, but with a network's first weights; below tmp_path."""
    import torch

    from common.run.config import config_dict, dump
    from common.run.files import sha256
    from common.run.results.store import record
    from task1_asc.model.networks import new_network

    config = load_config(Config, TASK / "recipes", str(TINY), ["data.splits=[100]"])
    torch.manual_seed(5)
    folder = tmp_path / "runs" / "task1_asc" / "toy" / "run1" / "split100"
    checkpoint = folder / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    state = {f"network.{name}": value for name, value in new_network(config).state_dict().items()}
    torch.save({"state_dict": state}, checkpoint)
    (folder / "config.yaml").write_text(dump(config_dict(config)), encoding="utf-8")
    record(folder, "checkpoint", {"file": "checkpoints/last.ckpt", "sha256": sha256(checkpoint)})
    return folder
