"""DESED after frame-level pre-training: clips of two kinds in a batch, losses, figures."""

from pathlib import Path

import numpy as np
import pytest
import torch

from common.run.config import load_config
from common.run.errors import UserError
from common.run.verbs import open_run
from task4_sed.__main__ import TASK as TASK4
from task4_sed.config import Config
from task4_sed.data.audioset import FRAMES
from task4_sed.data.classes import DESED_CLASSES
from task4_sed.data.desed import desed_set
from task4_sed.evaluation.report import compare_runs
from task4_sed.evaluation.runs import main_figure
from task4_sed.inference.runs import predict_runs
from task4_sed.training.downstream import DesedSystem
from task4_sed.training.framewise import Frames, validator
from task4_sed.training.train import build_framewise, train_run

RECIPES = Path(__file__).parents[1] / "recipes"
TINY = (
    *("data.toy=tiny", "data.blocks.synth.batch=2", "data.blocks.weak.batch=1", "data.eval_batch=4"),
    *("optimizer.warmup_steps=1", "trainer.max_epochs=2", "trainer.check_val_every_n_epoch=1"),
    *("trainer.accelerator=cpu", "energy.enabled=false"),
)


def tiny_desed(root: Path, *more: str) -> Config:
    return load_config(Config, RECIPES, "toy_pretrain_desed", [*TINY, f"data.root={root}", *more])


def test_train_predict_evaluate(tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = open_run(TASK4, "toy_pretrain_desed", [*TINY, f"data.root={tiny_root}"], 1)
    train_run(run)
    predict_runs([run], None, False)
    (results,) = run.config.system.does("evaluate")([run])
    assert 0 <= results["devtest"]["psds1"] <= 1
    assert compare_runs([run]).keys() == {"desed_simplified/psds1_finetuned"}
    assert (
        results["figure"]
        == {"metric": "PSDS1", "set": "devtest", "value": results["devtest"]["psds1"]} | (results["intervals"]["psds1"])
    )
    assert main_figure(run.folder, results)[:3] == ("PSDS1", "devtest", results["devtest"]["psds1"])


def test_strong_and_weak_clips_in_a_batch(tiny_root: Path) -> None:
    system, data = build_framewise(tiny_desed(tiny_root), 1)
    assert isinstance(system, DesedSystem)
    batch = next(iter(data.train_dataloader()))
    assert batch.targets.shape == (3, len(DESED_CLASSES), FRAMES)
    weak = batch.targets[2]
    assert weak.any()
    assert torch.equal(weak, weak[:, :1].expand_as(weak))
    assert system.blocks(3) == [2, 1]
    real = tiny_desed(tiny_root, "data.blocks.strong={sets: [strong], batch: 1}")
    assert build_framewise(real, 1)[0].blocks(4) == [3, 1]
    assert next(iter(build_framewise(real, 1)[1].train_dataloader())).waveform.shape[0] == 4


def test_losses_are_of_frames_and_of_clips(tiny_root: Path) -> None:
    system, data = build_framewise(tiny_desed(tiny_root), 1)
    system.eval()
    batch = next(iter(data.train_dataloader()))
    mel = system.network.encoder.front_end(batch.waveform)
    terms = system.losses(Frames(mel, batch.targets, None))
    with torch.no_grad():
        features = system.network(mel).frames
        head = system.network.encoder
        strong = head.strong_head(features).sigmoid()
        attention = head.weak_head(features).softmax(dim=-1).clamp(1e-7, 1)
        weak = (strong * attention).sum(dim=1) / attention.sum(dim=1)
    bce = torch.nn.functional.binary_cross_entropy
    torch.testing.assert_close(terms["strong"], bce(strong[:2].transpose(1, 2), batch.targets[:2]))
    torch.testing.assert_close(terms["weak"], bce(weak[2:], batch.targets[2:, :, 0]))
    torch.testing.assert_close(terms["loss"], terms["strong"] + terms["weak"])
    terms["loss"].backward()
    assert head.weak_head.weight.grad.abs().sum() > 0


def test_heads_may_begin_with_the_prior(tiny_root: Path) -> None:
    system, data = build_framewise(tiny_desed(tiny_root, "loss.head_bias=prior"), 1)
    head = system.network.encoder.strong_head
    assert head is not None
    targets = data.training.labels.targets(np.arange(data.counts["synth"]))
    share = targets.mean(axis=(0, 2))
    np.testing.assert_allclose(head.bias.detach().sigmoid().numpy(), share, atol=1e-3)


def test_perfect_frames_are_nearly_perfect(tiny_root: Path) -> None:
    clips = desed_set(tiny_desed(tiny_root), "eval")
    perfect = clips.labels.targets(np.arange(len(clips.labels.clips))).transpose(0, 2, 1)
    figures = validator(clips, 1)(perfect)
    assert next(iter(figures)) == "psds1"
    assert figures["psds1"] > 0.9


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("data.blocks.maestro={sets: [maestro_train], batch: 1}", r"data\.blocks\.maestro: not learnt"),
        ("augment.wavmix_probability=0.5", r"augment\.wavmix_probability: not for data\.format desed"),
        ("data.blocks.weak.batch=100", r"data\.blocks\.weak: batch is 100, but its sets have only"),
    ],
)
def test_what_is_refused(tiny_root: Path, override: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        build_framewise(tiny_desed(tiny_root, override), 1)
