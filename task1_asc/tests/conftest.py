"""The tiny data set, written and packed once for all tests of a process."""

from pathlib import Path

import pytest

from common.run.config import load_config
from common.tests.helpers import tiny_fixtures
from task1_asc.config import Config

TASK = Path(__file__).resolve().parent.parent
TINY = TASK / "tests" / "tiny.yaml"

tiny_root, tiny = tiny_fixtures("task1_asc")


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
