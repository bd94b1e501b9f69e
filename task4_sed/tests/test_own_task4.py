"""Own networks, encoders and augmentations: the READMEs' examples to the archive, their runs alone, wrong ones."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import task4_sed
from common.run.errors import UserError
from common.run.training import BEST
from common.run.verbs import main
from common.tests.helpers import readme_file
from task4_sed.__main__ import TASK
from task4_sed.config import Config
from task4_sed.model.crnn import predict
from task4_sed.model.embedder import Embedder
from task4_sed.model.networks import OwnNetwork, build_network, fitted
from task4_sed.training.train import build

FOLDER = Path(__file__).resolve().parents[1]
NET = readme_file(FOLDER / "README.md", "event_net.py")
TILT = readme_file(FOLDER.parent / "README.md", "tilt.py")
EARS = readme_file(FOLDER.parent / "common" / "encoders" / "README.md", "ears.py")
pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log")  # steps are called without a Trainer

Configure = Callable[..., Config]
BESIDE = """
import torch
from torch import nn

class Both(nn.Module):
    def __init__(self, num_classes, num_mels, embedding_dim):
        super().__init__()
        self.mel, self.beside = nn.Linear(num_mels, num_classes), nn.LazyConv1d(num_classes, 1)

    def forward(self, mel, embeddings):
        x = nn.functional.avg_pool1d(self.mel(mel.transpose(1, 2)).transpose(1, 2), 4)
        return x, nn.functional.adaptive_avg_pool1d(self.beside(embeddings), x.shape[2])
"""


@pytest.mark.end_to_end
def test_from_training_to_archive(
    tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ideas = tmp_path / "ideas"
    ideas.mkdir()
    (ideas / "idea.yaml").write_text(
        f"extends: {FOLDER / 'tests' / 'tiny.yaml'}\ndata: {{root: {tiny_root}}}\naugment: {{own: tilt:tilt}}\n"
        "model: {kind: both:Both}\nencoder: {name: ears:Ears, bands: apart, cache: true}\n"
        "trainer: {max_epochs: 1}\n"
    )
    for name, text in (("both.py", BESIDE), ("tilt.py", TILT), ("ears.py", EARS)):
        (ideas / name).write_text(text)
    runs = tmp_path / "runs"

    def told(verb: str, *words: str) -> tuple[int, str, str]:
        usual = ["--recipe", str(ideas / "idea.yaml"), "--run-dir", str(runs), "--json"]
        return main(TASK, [verb, *words, *usual]), *capsys.readouterr()

    for verb, *words in (
        ("train",),
        ("predict", "--floors"),
        ("evaluate", "--no-plots"),
        ("package",),
        ("complexity",),
    ):
        code, out, err = told(verb, *words, *(("--runs", "1", "2", "3") if verb != "complexity" else ()))
        assert code == 0, err
    counts = json.loads(out.splitlines()[-1])
    assert counts["macs"] > counts["parameters"] > 0
    run = runs / "run1"
    assert {path.name for path in run.glob("*.py")} == {"both.py", "tilt.py", "ears.py"}
    sound = np.sin(np.arange(80_000) / 5).astype(np.float32)
    events = task4_sed.detect(sound, sample_rate=16_000, model=run / BEST, threshold=0.01)

    for name in ("both.py", "ears.py"):
        (ideas / name).write_text((ideas / name).read_text() + "\n")
        code, _, err = told("train")
        assert code == 1
        assert f"{run}: holds a run with other settings: sources." in err
    assert told("predict")[0] == 0
    shutil.rmtree(ideas)
    shutil.move(run, tmp_path / "elsewhere")
    best = tmp_path / "elsewhere" / BEST
    assert task4_sed.detect(sound, sample_rate=16_000, model=best, threshold=0.01) == events
    (tmp_path / "elsewhere" / "both.py").write_text(BESIDE + "\n")
    with pytest.raises(UserError, match=r"both\.py: its hash is \w+, but \S+ was trained with \w+"):
        task4_sed.detect(sound, sample_rate=16_000, model=best)
    (tmp_path / "elsewhere" / "both.py").unlink()
    with pytest.raises(UserError, match="no module 'both'"):
        task4_sed.detect(sound, sample_rate=16_000, model=best)


def own(tiny: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, *settings: str) -> Config:
    (tmp_path / "net.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tiny(*settings)


def test_what_a_network_gets_and_gives(tiny: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = own(tiny, tmp_path, monkeypatch, NET, "model.kind=net:Net", "model.arguments={width: 5}")
    network = build_network(fitted(config.model, None, 27)).eval()
    assert isinstance(network, OwnNetwork)
    assert network.network.gru.hidden_size == 5
    mel, mask = torch.randn(2, 32, 80), torch.rand(2, 27) > 0.5
    found = network(mel, class_mask=mask)
    logits = network.network(mel)
    assert logits.shape == (2, 27, 20)
    torch.testing.assert_close(found, predict(logits, logits, mask))
    both = own(tiny, tmp_path, monkeypatch, BESIDE, "model.kind=net:Both", "encoder={name: beats-tiny, bands: mean}")
    assert both.encoder is not None
    beside = build_network(fitted(both.model, Embedder(both.encoder), 27))
    found = beside(mel, torch.randn(2, 48, 9))
    assert found.logits.shape == found.attention.shape == (2, 27, 20)
    assert not torch.equal(found.logits, found.attention)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("num_classes)\n", "num_classes - 1)\n", r"net:Net gives \(2, 26, 156\), expected \(2, 27, 156\): logits \("),
        ("nn.AvgPool1d(2)", "nn.AvgPool1d(4)", r"net:Net gives \(2, 27, 39\), expected \(2, 27, 156\): logits \("),
        ("mel).transpose", "mel[0]).transpose", r"net:Net: fails for input \(2, 32, 626\), .* \(\S+net\.py:\d+\)"),
        (".transpose(1, 2)\n", ".tolist()\n", r"net:Net gives a list, expected \(2, 27, 156\)"),
    ],
)
def test_a_network_that_fails_is_told_before_the_training(
    tiny: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, message: str
) -> None:
    assert old in NET
    config = own(tiny, tmp_path, monkeypatch, NET.replace(old, new), "model.kind=net:Net")
    with pytest.raises(UserError, match=message) as error:
        build(config, 42)
    assert "\n" not in str(error.value)


def test_student_and_teacher_are_augmented_apart_and_in_training_only(
    tiny: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "def zero(x):\n    return 0 * x\n"
    system, data = build(own(tiny, tmp_path, monkeypatch, text, "augment.own=net:zero"), 42)
    heard: list[torch.Tensor] = []
    for network in (system.student, system.teacher):
        network.register_forward_pre_hook(lambda _, given: heard.append(given[0]))
    system.validation_step(next(iter(data.val_dataloader()[0])), 0)
    assert heard.pop().abs().sum() > 0
    system.training_step(next(iter(data.train_dataloader())), 0)
    assert [float(x.abs().sum()) for x in heard] == [0, 0]


def test_stored_embeddings_know_their_source(tiny: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = []
    for text in (EARS, EARS, EARS + "\n"):
        config = own(tiny, tmp_path, monkeypatch, text, "encoder={name: net:Ears, bands: apart}")
        assert config.encoder is not None
        embedder = Embedder(config.encoder)
        keys.append(embedder.key)
    assert keys[0] == keys[1] != keys[2]
    assert embedder(torch.zeros(2, 16_000)).shape[:2] == (2, 32)
    with pytest.raises(UserError, match=r"encoder.name: .*net\.py has no 'Eras'; did you mean 'Ears'"):
        tiny("encoder={name: net:Eras}")
