"""An own network and an own augmentation: the README's example through every stage, its run alone, wrong ones."""

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import task1_asc
from common.run.errors import UserError
from common.run.files import read_json
from common.run.verbs import Run, main
from common.tests.helpers import readme_file
from task1_asc.__main__ import TASK
from task1_asc.config import Config
from task1_asc.inference.scores import read_outputs
from task1_asc.training.train import build

FOLDER = Path(__file__).resolve().parents[1]
NET = readme_file(FOLDER / "README.md", "scene_net.py")
TILT = readme_file(FOLDER.parent / "README.md", "tilt.py")
RECIPE = f"""
extends: {FOLDER / "tests" / "tiny.yaml"}
data: {{splits: [25], edition: 2025}}
model: {{kind: scene_net:Net, arguments: {{width: 8}}}}
augment: {{own: tilt:tilt}}
finetune: {{epochs: 1, warmup_steps: 1}}
trainer: {{max_epochs: 2}}
"""


class Idea:
    """A folder with a recipe, its modules and its runs."""

    def __init__(self, folder: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.root, self.capsys = folder, root, capsys
        folder.mkdir()
        self.split = folder / "runs" / "run1" / "split25"
        for name, text in (("scene_net.py", NET), ("tilt.py", TILT), ("idea.yaml", RECIPE)):
            (folder / name).write_text(text)

    def told(self, verb: str, *words: str) -> tuple[int, str, str]:
        usual = ["--recipe", str(self.folder / "idea.yaml"), "--run-dir", str(self.folder / "runs"), "--json"]
        code = main(TASK, [verb, *words, *usual, f"data.root={self.root}"])
        return code, *self.capsys.readouterr()

    def call(self, verb: str, *words: str) -> Any:
        code, out, err = self.told(verb, *words)
        assert code == 0, err
        return json.loads(out.splitlines()[-1])

    def refused(self, verb: str, *words: str) -> str:
        code, _, err = self.told(verb, *words)
        assert code == 1
        return err


@pytest.fixture
def idea(tmp_path: Path, linked_root: Path, capsys: pytest.CaptureFixture[str]) -> Idea:
    return Idea(tmp_path / "idea", linked_root, capsys)


@pytest.mark.end_to_end
def test_an_own_network_goes_the_whole_way(idea: Idea, tmp_path_factory: pytest.TempPathFactory) -> None:
    counted = idea.call("complexity")
    assert counted["parameters"] == sum(p.numel() for p in made(8).parameters())
    idea.call("prepare")
    idea.call("train")
    for folder in (idea.split, idea.split / "devices" / "a"):
        assert (folder / "scene_net.py").read_text() == NET
        assert (folder / "tilt.py").read_text() == TILT
    idea.call("predict")
    idea.call("evaluate", "--no-plots")
    (exported,) = idea.call("export", "--precision", "float32", "--without-front-end")["files"]
    assert exported["difference"] < 1e-3
    outputs = read_outputs(idea.split / "predictions" / "test.csv").probabilities

    # Another source beside the recipe: prediction has the run's own, training says so.
    (idea.folder / "scene_net.py").write_text(NET.replace("dim=(2, 3)", "dim=(2, 3)) * 0 + mel.mean("))
    again = idea.call("predict")
    assert again["clips"]["test"] > 0
    np.testing.assert_array_equal(read_outputs(idea.split / "predictions" / "test.csv").probabilities, outputs)
    assert "holds a run with other settings: sources.scene_net.py: " in idea.refused("train")
    assert "--restart replaces it" in idea.refused("train")
    check_package(idea, idea.call("package"))

    # The folder of the split alone, somewhere else.
    alone = tmp_path_factory.mktemp("elsewhere") / "any"
    shutil.copytree(idea.split, alone)
    recording, checkpoint = np.sin(np.arange(44_100) / 9), idea.split / "checkpoints" / "last.ckpt"
    there = task1_asc.classify(recording, checkpoint, 44_100)
    shutil.rmtree(idea.folder)
    here = task1_asc.classify(recording, alone / "checkpoints" / "last.ckpt", 44_100)
    assert here == there
    (alone / "scene_net.py").write_text(NET + "\n")
    with pytest.raises(UserError, match=r"scene_net\.py: its hash is \w+, training recorded"):
        task1_asc.classify(recording, alone / "checkpoints" / "last.ckpt", 44_100)


def check_package(idea: Idea, packed: Any) -> None:
    """The inference package carries the trained source and gives logits without this project."""
    (violations,) = packed["archives"].values()
    assert [of for of in violations if of["severity"] == "error"] == []
    place = idea.folder / "unpacked"
    with zipfile.ZipFile(idea.folder / "runs" / "submission.zip") as archive:
        archive.extractall(place)
    (package,) = place.iterdir()
    team, label = package.name, f"{package.name}_1"
    assert (package / team / "models" / f"{label}.py").read_text() == NET
    settings = read_json(package / team / "ckpts" / f"{label}.json")["model"]
    assert settings["arguments"] == {"num_classes": 10, "width": 8}
    code = (
        f"import sys; sys.path.insert(0, {str(package)!r})\n"
        f"from {team}.{label} import predict\n"
        f"logits, scenes = predict([{str(package / team / 'resources' / 'dummy.wav')!r}], ['a'])\n"
        "print(len(logits[0]), len(scenes), 'common' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["10", "10", "False"], done.stderr


def made(width: int) -> torch.nn.Module:
    names: dict[str, Any] = {}
    exec(NET, names)
    network: torch.nn.Module = names["Net"](num_classes=10, width=width)
    return network


def system(tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *settings: str) -> Any:
    monkeypatch.chdir(tmp_path)
    config = tiny("data.splits=[5]", *settings)
    return build(Run(TASK, "idea", 1, tmp_path / "run1", config), 5)[0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "num_classes)\n\n",
            "num_classes + 1)\n\n",
            r"net:Net gives \(2, 11\), expected \(2, 10\): logits \(batch, cl",
        ),
        ("dim=(2, 3)", "dim=(2, 7)", r"net:Net: fails for input \(2, 1, 32, 21\), IndexError: .* \(\S+net\.py:\d+\)"),
        ("nn.ReLU()]", "nn.ReLu()]", r"net:Net: cannot be made, AttributeError: .*ReLu.* \(\S+net\.py:11\)"),
    ],
)
def test_a_network_that_fails_is_told_before_the_training(
    tiny: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    old: str,
    new: str,
    message: str,
) -> None:
    assert old in NET
    (tmp_path / "net.py").write_text(NET.replace(old, new))
    with pytest.raises(UserError, match=message) as error:
        system(tiny, tmp_path, monkeypatch, "model.kind=net:Net")
    assert "\n" not in str(error.value)


def test_own_augmentation_is_the_last_step_of_training_alone(
    tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "aug.py").write_text(
        "def zero(x):\n    assert x.dim() == 3\n    return 0 * x\ndef one(x):\n    return x + 1\n"
    )
    plain = system(tiny, tmp_path, monkeypatch, "augment.mixup_probability=1")
    own = system(tiny, tmp_path, monkeypatch, "augment.mixup_probability=1", "augment.own=[aug:zero,aug:one]")
    for name, parameter in plain.network.named_parameters():
        assert torch.equal(parameter, own.network.get_parameter(name))  # nothing drawn from the seed
    batch = next(iter(build(Run(TASK, "idea", 1, tmp_path / "run1", own.config), 5)[1].val_dataloader()))
    torch.manual_seed(2)
    mel, mix = own.augmented(batch)
    assert mix is not None
    assert torch.equal(mel, torch.ones_like(mel))
    torch.manual_seed(2)
    unchanged, _ = plain.augmented(batch)
    assert unchanged.shape == mel.shape
    own.validation_step(batch, 0)
    plain.network.load_state_dict(own.network.state_dict())
    plain.validation_step(batch, 0)
    assert torch.equal(own.predicted[0][1], plain.predicted[0][1])


def test_a_package_cannot_carry_what_imports_this_project(
    tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from task1_asc.submission.package_2025 import Package2025, _dependencies

    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text("import json\nimport timm\nfrom common.augment import roll\n" + NET)
    model = tiny("model.kind=net:Net").model
    with pytest.raises(UserError, match=r"net\.py:3: imports common, but an inference package needs nothing of it"):
        _dependencies([Package2025("L", None, model, {})])  # type: ignore[arg-type]
    (tmp_path / "net.py").write_text("import json\nimport timm\n" + NET)
    packed = Package2025("L", None, tiny("model.kind=net:Net").model, {})  # type: ignore[arg-type]
    assert _dependencies([packed]) == ["torch", "torchaudio", "torchvision", "timm"]


def test_what_gives_no_logits_is_not_counted(
    tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from task1_asc.deployment.complexity import network_complexity

    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET.replace("return self.classify(", "return 1, self.classify("))
    with pytest.raises(UserError, match=r"gives a tuple, expected \(2, 10\): logits"):
        network_complexity(Run(TASK, "idea", 1, tmp_path / "run1", tiny("model.kind=net:Net")), [], None, None)
