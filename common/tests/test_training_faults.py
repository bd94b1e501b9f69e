"""Trainings in the field: prolonged, damaged, diverged, on several devices."""

import io
import multiprocessing
import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from common.run import processes
from common.run.callbacks import AtomicCheckpoints, Progress
from common.run.checkpoints import checkpoint_of
from common.run.errors import UserError
from common.run.files import read_json, sha256
from common.run.results.store import read_results
from common.run.training import BEST, LAST, constants, finished
from common.tests.test_training import SCORES, Line, run_in, same, train, weights


def test_an_open_ended_training_is_prolonged_as_if_it_had_been_that_long(tmp_path: Path) -> None:
    whole, tmp_path = tmp_path / "whole", tmp_path / "run1"
    train(whole)
    train(tmp_path, epochs=2, open_ended=True)
    train(tmp_path, epochs=4, open_ended=True)
    assert read_results(tmp_path)["train"]["values"]["epochs"] == 4
    assert (tmp_path / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    assert same(weights(tmp_path / LAST), weights(whole / LAST))
    assert checkpoint_of(tmp_path)[1] == sha256(tmp_path / BEST)
    with pytest.raises(UserError, match=r"trainer\.max_epochs: 4 there, 3 now; --restart"):
        train(tmp_path, epochs=3, open_ended=True)


def test_why_a_training_with_a_schedule_is_not_prolonged(tmp_path: Path) -> None:
    train(tmp_path, epochs=1)
    with pytest.raises(UserError, match=r"1 there, 2 now .its learning rate follows all epochs: more of them are"):
        train(tmp_path, epochs=2)


DAMAGES = {
    "a zeroed block": lambda content: content[:2000] + bytes(500) + content[2500:],
    "cut": lambda content: content[: len(content) // 2],
    "another zip": lambda content: zipped({"a.txt": b"hello"}),
    "a pickle": lambda content: pickle.dumps({"state_dict": {}}),
    "another checkpoint": lambda content: saved({"state_dict": {}}),
}


def zipped(files: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def saved(content: Any) -> bytes:
    torch.save(content, file := io.BytesIO())
    return file.getvalue()


@pytest.mark.parametrize("noted", [True, False], ids=["hash", "no hash"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_last_checkpoint_is_one_line(tmp_path: Path, damage: str, noted: bool) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, stop_at=2)
    last = tmp_path / LAST
    last.write_bytes(DAMAGES[damage](last.read_bytes()))
    if not noted:
        last.with_name("last.ckpt.json").unlink()
        if damage == "a zeroed block":
            return  # without a hash nobody can know
    with pytest.raises(
        UserError, match=r"last\.ckpt: not a readable checkpoint, cannot go on from it .*--restart"
    ) as of:
        train(tmp_path)
    assert "\n" not in str(of.value)
    train(tmp_path, restart=True)


def test_killed_between_the_hash_and_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin, path = AtomicCheckpoints(), tmp_path / "last.ckpt"
    plugin.save_checkpoint({"epoch": 1}, path)
    old = sha256(path)
    monkeypatch.setattr(os, "replace", killed(os.replace, path))
    with pytest.raises(KeyboardInterrupt):
        plugin.save_checkpoint({"epoch": 2}, path)
    noted = read_json(tmp_path / "last.ckpt.json")["sha256"]
    assert sha256(path) == old == noted[0]
    assert len(noted) == 2


def killed(replace: Any, at: Path) -> Any:
    def stand_in(source: Any, target: Any) -> None:
        if Path(target) == at:
            raise KeyboardInterrupt
        replace(source, target)

    return stand_in


@pytest.mark.parametrize("content", ["5", "[]", '{"checkpoint": {"values": {"sha256": "x"}}}', '{"checkpoint": 5}'])
def test_results_that_name_no_checkpoint(tmp_path: Path, content: str) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(UserError, match=r"results\.json: "):
        checkpoint_of(tmp_path)


class Diverging(Line):
    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss * (float("nan") if self.current_epoch == 1 else 1)


def test_a_diverged_training_says_so_and_keeps_the_epoch_before(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"diverged in epoch 2 .*: lower optimizer\.lr"):
        train(tmp_path, system=Diverging(SCORES))
    assert torch.load(tmp_path / LAST, weights_only=True)["epoch"] == 0
    assert not finished(run_in(tmp_path))


def test_the_progress_line_reads_the_device_once_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    original = Progress._note

    def note(bar: Progress, trainer: Any) -> str:
        with monkeypatch.context() as inner:
            for name in ("item", "__float__", "tolist", "cpu"):
                inner.setattr(torch.Tensor, name, lambda *_, name=name: reads.append(name) or 0.0)
            return original(bar, trainer)

    monkeypatch.setattr(Progress, "_note", note)
    train(tmp_path)
    assert reads == []


class Two(Line):
    """Counts the bytes of what its processes broadcast."""

    def __init__(self) -> None:
        super().__init__(SCORES, None)
        self.register_buffer("logits", torch.zeros(1000), persistent=False)


def test_constants_are_what_no_checkpoint_holds() -> None:
    system = Two()
    assert constants(system) == ["logits"]
    assert "logits" not in system.state_dict()


TWO_PROCESSES = """
import sys, pathlib, torch
from torch.nn.parallel import DistributedDataParallel as DDP
from common.tests import test_training_faults as of
seen = []
sync = DDP._sync_module_buffers
def watched(self, *a, **k):
    seen.append([name for name, _ in self.module.named_buffers() if name not in self.parameters_to_ignore])
    return sync(self, *a, **k)
DDP._sync_module_buffers = watched
of.train(pathlib.Path(sys.argv[1]), epochs=1, system=of.Two(), devices=2, strategy="ddp")
print("sent", sorted({name for names in seen for name in names}), flush=True)
"""


def test_two_processes_say_their_batch_and_send_no_constants(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(TWO_PROCESSES)
    command = [sys.executable, str(tmp_path / "two.py"), str(tmp_path / "run1")]
    path = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("sent []") == 2
    said = "2 devices x batch 2 = 4 clips a step, the recipe's is 2: trainer.divide_batch=true divides it"
    assert done.stderr.splitlines().count(said) == 1


@pytest.mark.parametrize(
    ("assigned", "gpus", "expected"),
    [
        ("", 2, ["0", "1", "0"]),
        ("3", 1, ["3"] * 3),
        ("5,7", 2, ["5", "7", "5"]),
        ("GPU-a,GPU-b,GPU-c", 2, ["GPU-a", "GPU-b", "GPU-a"]),
    ],
)
def test_workers_stay_within_the_assigned_gpus(
    assigned: str, gpus: int, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "ignore_interruption", lambda: None)
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    number, seen = multiprocessing.get_context("spawn").Value("i", 0), []
    for _ in range(3):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", assigned)
        processes._start_worker(number, gpus)  # type: ignore[arg-type]
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert seen == expected


def test_a_gpu_that_cannot_be_used_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def too_old() -> bool:
        warnings.warn("The NVIDIA driver on your system is too old (found version 11000).", stacklevel=1)
        return False

    monkeypatch.setattr(processes, "DRIVERS", (tmp_path,))
    monkeypatch.setattr(torch.cuda, "is_available", too_old)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    processes.say_unusable_gpu.cache_clear()
    train(tmp_path / "run1", epochs=1, accelerator="auto")
    assert (
        "GPU: there is one, but torch cannot use it (The NVIDIA driver on your system is too old"
        in capsys.readouterr().err
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # hidden on purpose
    processes.say_unusable_gpu.cache_clear()
    processes.say_unusable_gpu()
    assert capsys.readouterr().err == ""
    processes.say_unusable_gpu.cache_clear()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_devices_that_are_not_there_are_told_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"trainer\.accelerator=cuda, devices=1, .*not on this machine") as error:
        train(tmp_path / "run1", epochs=1, accelerator="cuda")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run1").exists()
