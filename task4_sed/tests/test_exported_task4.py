"""A network as a folder for others: what `export` writes, `detect` and `predict FILES` take."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import task4_sed
from common.run.errors import UserError
from common.run.files import sha256
from common.run.results.runs import TOY_NETWORK
from common.run.results.store import record
from common.run.verbs import main
from task4_sed.__main__ import TASK
from task4_sed.config import EncoderConfig
from task4_sed.data.classes import CLASSES
from task4_sed.inference.postprocess.csebbs import CsebbsParameters, write_parameters
from task4_sed.model.crnn import CRNN
from task4_sed.model.embedder import Embedder
from task4_sed.tests.test_checkpoints import SMALL, own

RUN = ["--recipe", str(Path(__file__).with_name("tiny.yaml")), "--run-dir", "runs"]


def leave_run(place: Path, content: Mapping[str, Any]) -> Path:
    """runs/run1 as a training leaves it."""
    folder = place / "runs" / "run1"
    (folder / "checkpoints").mkdir(parents=True)
    best = folder / "checkpoints" / "best.ckpt"
    torch.save(content, best)
    record(folder, "checkpoint", {"file": "checkpoints/best.ckpt", "sha256": sha256(best)})
    record(folder, "train", {"data": "toy"})
    record(folder, "test", {"sets": {"devtest": {"median": {"psds1": 0.25, "ruler": {"version": "1"}}}}})
    return best


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    soundfile.write(tmp_path / "recording.wav", np.random.default_rng(0).normal(0, 0.1, 30 * 8_000), 8_000)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_detects_as_its_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = leave_run(place, own())
    parameters = {name: CsebbsParameters(0.9, 0.1, 1.5) for name in CLASSES}
    write_parameters(best.parents[1] / "csebbs.tsv", parameters)
    assert main(TASK, ["export", "--out", "mine", *RUN, f"data.root={place}"]) == 0
    assert sorted(path.name for path in Path("mine").iterdir()) == [
        *("README.md", "config.json", "csebbs.tsv", "model.safetensors")
    ]
    found = task4_sed.detect("recording.wav", "mine", threshold=0.3)
    assert found
    assert found == task4_sed.detect("recording.wav", best, threshold=0.3)
    card = json.loads(Path("mine/config.json").read_text())
    assert card["metrics"] == {"devtest/median/psds1": 0.25}
    assert str(place) not in json.dumps(card)
    capsys.readouterr()
    words = ["predict", "recording.wav", "--threshold", "0.3", "--no-plots", "--json", *RUN]
    assert main(TASK, [*words, "--checkpoint", "mine", "--out", "events"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["files"]["recording.wav"] == found
    assert told["note"] == TOY_NETWORK


def test_the_encoder_beside_the_network_is_named_and_checked(place: Path) -> None:
    embedder = Embedder(EncoderConfig("atst-f-tiny"))
    config = SMALL.__class__(**{**SMALL.__dict__, "embedding_dim": embedder.dim})
    torch.manual_seed(0)
    state = {f"student.{name}": value for name, value in CRNN(config).state_dict().items()}
    about = {"classes": list(CLASSES), "model": config.__dict__, "encoder": embedder.about()}
    best = leave_run(place, {"state_dict": state, "sed": about})
    assert main(TASK, ["export", *RUN, "postprocess.network=student"]) == 0
    folder = place / "runs" / "run1" / "export"
    expected = task4_sed.detect("recording.wav", best, threshold=0.3)
    assert task4_sed.detect("recording.wav", folder, threshold=0.3) == expected
    card = json.loads((folder / "config.json").read_text())
    card["network"]["encoder"]["seed"] = 7
    (folder / "config.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match="trained beside another encoder"):
        task4_sed.detect("recording.wav", folder)


def test_without_a_training(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(TASK, ["export", *RUN]) == 1
    assert "no finished training" in capsys.readouterr().err
    assert not Path("runs/run1/export").exists()
