"""An own network and an own encoder: the READMEs' examples to the archive, their runs alone, wrong ones."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import task2_anomaly
from common.run.errors import UserError
from common.run.verbs import Run, main
from common.tests.helpers import readme_file
from task2_anomaly.__main__ import TASK
from task2_anomaly.config import Config
from task2_anomaly.data.classes import parse_machine
from task2_anomaly.inference.scorers import NetworkScorer
from task2_anomaly.model.embedder import Embedder
from task2_anomaly.training.train import build

FOLDER = Path(__file__).resolve().parents[1]
NET = readme_file(FOLDER / "README.md", "fault_net.py")
EARS = readme_file(FOLDER.parent / "common" / "encoders" / "README.md", "ears.py")
RECIPE = """
extends: {tiny}
data: {{root: {root}, machines: [fan, ToyCar]}}
trainer: {{max_epochs: 1}}
"""
KINDS = {
    "network": "model: {kind: fault_net:Net, arguments: {width: 6}}\n",
    "encoder": "model: {kind: embedding}\nembedding: {encoder: ears:Ears, checkpoint: null, finetune: true}\n",
}


@pytest.mark.end_to_end
@pytest.mark.parametrize("kind", KINDS)
def test_from_training_to_archive(
    kind: str, tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ideas = tmp_path / "ideas"
    ideas.mkdir()
    text = RECIPE.format(tiny=Path(__file__).with_name("tiny.yaml"), root=tiny_root) + KINDS[kind]
    (ideas / "idea.yaml").write_text(text)
    (ideas / "fault_net.py").write_text(NET)
    (ideas / "ears.py").write_text(EARS)
    name = "fault_net.py" if kind == "network" else "ears.py"

    def told(verb: str, *words: str) -> tuple[int, str, str]:
        usual = ["--recipe", str(ideas / "idea.yaml"), "--run-dir", str(tmp_path / "runs"), "--json"]
        return main(TASK, [verb, *usual, *words]), *capsys.readouterr()

    for verb, *words in (("train",), ("predict",), ("evaluate", "--no-plots"), ("package",)):
        code, out, err = told(verb, *words)
        assert code == 0, err
    (checked,) = json.loads(out.splitlines()[-1])["archives"].values()
    assert [of for of in checked if of["severity"] == "error"] == []
    run = tmp_path / "runs" / "run1"
    machine = run / "machines" / "fan_id_00"
    assert (run / name).read_text() == (machine / name).read_text() == (ideas / name).read_text()
    recording = np.sin(np.arange(32_000) / 7).astype(np.float32)
    verdict = task2_anomaly.judge(recording, checkpoint=machine, sample_rate=16_000)

    (ideas / name).write_text((ideas / name).read_text() + "\n")
    code, _, err = told("train")
    assert code == 1
    assert f"{run}: holds a run with other settings: sources.{name}: " in err
    assert told("predict")[0] == 0
    shutil.rmtree(ideas)
    shutil.move(run, tmp_path / "elsewhere")
    moved = task2_anomaly.judge(
        recording, checkpoint=tmp_path / "elsewhere" / "machines" / "fan_id_00", sample_rate=16_000
    )
    assert moved["score"] == pytest.approx(verdict["score"])


def run_of(tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *settings: str) -> Run:
    monkeypatch.chdir(tmp_path)
    return Run(TASK, "idea", 1, tmp_path / "run1", tiny(*settings))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "nn.Linear(width, 1)",
            "nn.Linear(width, 2)",
            r"net:Net gives \(2, 2\), expected \(2, 1\): logits \(batch, 1\)",
        ),
        ("mel[:, 0]", "mel", r"net:Net: fails for input \(2, 1, 40, 32\), RuntimeError: .* \(\S+net\.py:\d+\)"),
    ],
)
def test_a_network_that_fails_is_told_before_the_training(
    tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, message: str
) -> None:
    assert old in NET
    (tmp_path / "net.py").write_text(NET.replace(old, new))
    with pytest.raises(UserError, match=message) as error:
        build(run_of(tiny, tmp_path, monkeypatch, "model.kind=net:Net"), parse_machine("fan_id_00"))
    assert "\n" not in str(error.value)


def test_windows_are_scored_one_by_one(
    tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.py").write_text(NET)
    run = run_of(tiny, tmp_path, monkeypatch, "model.kind=net:Net", "scoring.hop=3")
    system, _ = build(run, parse_machine("fan_id_00"))
    network, observation = system.network.eval(), torch.randn(2, 40, 50)
    scores = NetworkScorer(network, run.config, parse_machine("fan_id_00"), "cpu").scores(observation)
    with torch.no_grad():
        one_by_one = [network(observation[:, None, :, first : first + 32])[:, 0] for first in range(0, 19, 3)]
    torch.testing.assert_close(scores, torch.stack(one_by_one).mean(dim=0))


def test_embeddings_are_made_anew_where_the_source_changes(
    tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("model.kind=embedding", "embedding.encoder=ears:Ears", "embedding.checkpoint=null")
    keys = []
    for text in (EARS, EARS, EARS + "\n"):
        (tmp_path / "ears.py").write_text(text)
        keys.append(Embedder(run_of(tiny, tmp_path, monkeypatch, *settings), "cpu").key)
    assert keys[0] == keys[1] != keys[2]
    found: Any = Embedder(run_of(tiny, tmp_path, monkeypatch, *settings), "cpu").vectors(
        np.zeros((2, 8000), np.float32)
    )
    assert found.shape == (2, 32)
