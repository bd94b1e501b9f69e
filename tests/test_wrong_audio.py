"""Broken audio, full disks and other processes as a user meets them; and what is no mistake."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
import torch

from common.audio.packs import open_pack
from common.run.callbacks import AtomicCheckpoints
from common.run.files import read_rows, sha256
from common.run.training import LAST, locked
from common.tests.helpers import largest_file, partial_name
from task4_sed.data.annotations import read_durations, read_strong, read_weak
from task4_sed.data.classes import DESED_CLASSES

if TYPE_CHECKING:
    from tests.conftest import Place

RUN = "runs/run1"
SYNTH_AUDIO = "dcase_synth/audio/train/synthetic21_train/soundscapes_16k"

# ------------------------------------------------------------------------------------------------------ broken audio


def wav(samples: np.ndarray, rate: int = 16000, subtype: str = "PCM_16") -> bytes:
    """A wav file's bytes."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype=subtype)
    return file.getvalue()


TONE = np.sin(np.arange(16000) / 9) / 4
BROKEN = {
    "empty": (b"", "empty file (0 bytes)"),
    "truncated": (wav(TONE)[:16000], "truncated wav"),
    "text": (b"filename,label\n" * 99, "not readable as wav"),
    "nan": (
        wav(np.where(np.arange(16000) == 800, np.nan, TONE), subtype="FLOAT"),
        "not finite, the first (NaN) at 0.05",
    ),
}


def test_broken_clips_are_listed_and_left_out(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    for number, (content, _) in enumerate(BROKEN.values()):
        place.write(f"data/{SYNTH_AUDIO}/{number}.wav", content)
    assert place.run("prepare", "--json") == 0
    out = capsys.readouterr().out
    row = next(row for row in out.splitlines() if "synth_train" in row)
    assert [cell.strip() for cell in row.split("│")[3:6]] == ["8", "0", "4"]
    assert json.loads(out.splitlines()[-1])["sets"]["synth_train"]["broken"] == 4
    listed = read_rows(place / "data" / "packed" / "synth_train.broken.tsv", ("filename", "reason"))
    assert [row["filename"] for row in listed] == ["0.wav", "1.wav", "2.wav", "3.wav"]
    for row, (_, reason) in zip(listed, BROKEN.values(), strict=True):
        assert reason in row["reason"]
        assert row["filename"] in row["reason"]
    assert place.run("train", "--runs", "2") == 0, "the clips that are whole can be trained on"


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_file_that_is_named_is_an_error(
    kind: str, user_folder: Place, tmp_path: Path, error_line: Callable[[], str]
) -> None:
    content, reason = BROKEN[kind]
    (tmp_path / "good.wav").write_bytes(wav(TONE))
    (tmp_path / "x.wav").write_bytes(content)
    assert user_folder.run("predict", str(tmp_path / "x.wav"), "--out", str(tmp_path / "out")) == 1
    message = error_line()
    assert str(tmp_path / "x.wav") in message
    assert reason in message
    assert not any((tmp_path / "out").rglob("*"))


@pytest.mark.parametrize("kind", ["stereo", "8 kHz", "flac"])
def test_any_audio_is_right(kind: str, place: Place) -> None:
    rate = 8000 if kind == "8 kHz" else 16000
    samples = np.sin(np.arange(10 * rate) / 9) / 4
    samples = np.column_stack([samples, -samples / 2]) if kind == "stereo" else samples
    suffix = "flac" if kind == "flac" else "wav"
    if kind != "flac":  # a data set has wav files
        place.write(f"data/{SYNTH_AUDIO}/0.wav", wav(samples, rate))
        assert place.run("prepare") == 0
        pack = open_pack(place / "data" / "packed" / "synth_train")
        assert len(pack) == 8
        assert pack.lengths[pack.index_of("0.wav")] == 160_000
    soundfile.write(place / f"x.{suffix}", samples, rate)
    assert place.run("predict", "{here}/" + f"x.{suffix}", "--out", "{here}/out", "--no-plots") == 0
    assert json.loads((place / "out" / "x.json").read_text())["duration"] == 10.0


# --------------------------------------------------------------------------------------------------- full disk, lock


@pytest.mark.parametrize(
    ("command", "size", "pattern"),
    [
        ("prepare data.root={here}/new", 100_000, r"soundscapes_16k/\d+\.wav: File too large"),
        ("prepare data.packs={here}/packs", 500_000, r"packs/synth_train/00000\.h5: no space left on the disk"),
        ("predict", 20_000, r"runs/run1/scores/\w+\.h5: File too large"),
    ],
    ids=["toy data", "packs", "scores"],
)
def test_full_disk(command: str, size: int, pattern: str, place: Place, error_line: Callable[[], str]) -> None:
    before = {path: sha256(path) for path in (place / RUN).rglob("*") if path.is_file()}
    with largest_file(size):
        assert place.run(*command.split()) == 1
    message = error_line()
    assert re.search(pattern, message), message
    assert not list(place.folder.rglob("*.partial*"))
    assert {path: sha256(path) for path in (place / RUN).rglob("*") if path.is_file()} == before
    assert place.run(*command.split()) == 0, "goes on as soon as there is space"


def test_disk_full_in_training(place: Place, error_line: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first epoch's checkpoint is saved, the second's is not: the first one stands, training goes on from it."""
    save, saved = AtomicCheckpoints.save_checkpoint, []

    def save_until_full(self: AtomicCheckpoints, checkpoint: dict[str, Any], path: Any, **options: Any) -> None:
        saved.append(checkpoint["epoch"])
        with largest_file(20_000) if checkpoint["epoch"] == 1 else nullcontext():
            save(self, checkpoint, path, **options)

    words, last = ("train", "--runs", "2", "trainer.max_epochs=2"), place / "runs" / "run2" / LAST
    with monkeypatch.context() as patched:
        patched.setattr(AtomicCheckpoints, "save_checkpoint", save_until_full)
        assert place.run(*words) == 1
    message = error_line()
    assert re.search(r"runs/run2/checkpoints/\w+\.ckpt: File too large; train goes on from the last whole", message)
    assert torch.load(last, weights_only=True)["epoch"] == 0
    assert saved[-1] == 1
    assert not list(place.folder.rglob("*.partial*"))
    assert not (place / "runs" / "run2" / "results.json").exists()
    assert place.run(*words) == 0
    assert torch.load(last, weights_only=True)["epoch"] == 1
    assert len(read_rows(place / "runs" / "run2" / "metrics.csv", ("epoch",))) == 2


def test_damaged_last_checkpoint(place: Place, error_line: Callable[[], str]) -> None:
    place.truncate(f"{RUN}/{LAST}")
    (place / RUN / "results.json").unlink()  # as if the training had been interrupted
    assert place.run("train") == 1
    assert re.search(r"last\.ckpt: not a readable checkpoint, .*--restart", error_line())
    assert place.run("train", "--restart") == 0


def test_one_training_in_a_folder_at_a_time(user_folder: Place, error_line: Callable[[], str]) -> None:
    folder = user_folder / "runs" / "run3"
    with locked(folder):
        assert user_folder.run("train", "--runs", "3") == 1
    message = error_line()
    assert message == f"error: {folder}: another process is working on this run"
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_what_a_killed_process_left_is_removed(place: Place) -> None:
    pid = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    gone, here = int(pid.stdout), os.getppid()
    for folder, stem, suffix in ((f"{RUN}/scores", "devtest", ".h5"), ("runs", "submission", ".zip")):
        for process in (gone, here):
            place.write(f"{folder}/{partial_name(stem, process, suffix)}", "")
    place.write(f"data/packed/{partial_name('coverage', gone, '.json')}", "")
    assert place.run("prepare") == 0
    left = [path for path in place.files() if ".partial" in path]
    assert not [path for path in left if f"-{gone}-" in path]
    assert len([path for path in left if f"-{here}-" in path]) == 2, "of a process that still works"


def test_official_tables_are_right(shared: Path) -> None:
    """The check of event ends must let the official tables pass: some of their events end after the audio."""
    tables = shared / "data" / "sed" / "desed_metadata"
    events = read_strong(tables / "validation.tsv", DESED_CLASSES, read_durations(tables / "validation_durations.tsv"))
    assert len(events) == 1168
    assert len(read_strong(tables / "public.tsv", DESED_CLASSES)) == 692
    assert len(read_weak(tables / "weak.tsv", DESED_CLASSES)) == 1578
