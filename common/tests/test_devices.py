"""`--device`: one name for what a command may compute on, checked before anything heavy is loaded."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from common.run import processes
from common.run.errors import UserError
from common.run.processes import check_accelerator, known_device, on_device


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the kernel would show a GPU."""
    monkeypatch.setattr(processes, "DRIVERS", (tmp_path / "nvidiactl",))
    return tmp_path / "nvidiactl"


@pytest.mark.parametrize("name", ["gpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "", "cpu:0"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="expected cpu, cuda or cuda:N"):
        known_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:3"])
def test_a_gpu_needs_a_driver(name: str, driver: Path) -> None:
    assert known_device("cpu") == "cpu"
    with pytest.raises(UserError, match="no NVIDIA GPU here"):
        known_device(name)
    driver.touch()
    assert known_device(name) == name


@pytest.mark.parametrize("before", [None, "2,3"])
def test_on_the_cpu_no_gpu_is_seen(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if before is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    with on_device("cpu"):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
        check_accelerator(SimpleNamespace(trainer=SimpleNamespace(accelerator="auto")))
        with pytest.raises(UserError, match=r"--device: cpu, but trainer\.accelerator is gpu"):
            check_accelerator(SimpleNamespace(trainer=SimpleNamespace(accelerator="gpu")))
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == before


@pytest.mark.parametrize(
    ("name", "before", "seen"),
    [("cuda:1", "", "1"), ("cuda:1", "4,7", "7"), ("cuda", "4,7", "4,7"), ("cuda:0", "GPU-a,GPU-b", "GPU-a")],
)
def test_a_gpu_of_those_that_are_there(name: str, before: str, seen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if before:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    with on_device(name):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == seen
        with pytest.raises(UserError, match=r"but trainer\.accelerator is cpu"):
            check_accelerator(SimpleNamespace(trainer=SimpleNamespace(accelerator="cpu")))
    assert os.environ.get("CUDA_VISIBLE_DEVICES", "") == before


def test_a_gpu_that_cannot_be_used_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with (
        pytest.raises(UserError, match="--device: cuda:2, but CUDA_VISIBLE_DEVICES has 2 devices"),
        on_device("cuda:2"),
    ):
        pass
    with pytest.raises(UserError, match="--device: cuda:1, but torch cannot use it"), on_device("cuda:1"):
        pass
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
