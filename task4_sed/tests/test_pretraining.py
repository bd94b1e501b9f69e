"""Frame-level pre-training from data to figures: teacher, its logits, student; what is refused; order and draws."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from common.audio.packs import open_pack
from common.run.config import load_config
from common.run.errors import UserError
from common.run.files import read_rows
from common.run.results.store import read_results
from common.run.verbs import Run, open_run
from task4_sed.__main__ import TASK as TASK4
from task4_sed.config import Config, EncoderConfig
from task4_sed.data.audioset import FRAMES, output_classes
from task4_sed.data.batches import WavMix
from task4_sed.data.framewise import DrawSampler, StrongClips, load_strong, pseudo_rows
from task4_sed.data.pseudo import StoredLogits
from task4_sed.evaluation.framewise import evaluate_framewise
from task4_sed.evaluation.report import compare_runs
from task4_sed.inference.ensemble import join, pseudo_labels
from task4_sed.inference.runs import predict_runs
from task4_sed.model.framewise import load_framewise
from task4_sed.tests.pretraining import TINY, Configure, prepared
from task4_sed.training.framewise import STEPS, FrameDraws, Frames, draw, frame_loss, warmup_of
from task4_sed.training.train import build_framewise, train_run

RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("audioset") / "data"
    prepared(root, "toy_pretrain_teacher", *TINY)
    return root


@pytest.fixture(scope="module")
def tiny(root: Path) -> Configure:
    def configured(recipe: str, *overrides: str) -> Config:
        return load_config(Config, RECIPES, recipe, [*TINY, f"data.root={root}", *overrides])

    return configured


def test_teacher_ensemble_student(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def opened(recipe: str, number: int, *more: str) -> Run:
        return open_run(TASK4, recipe, [*TINY, f"data.root={root}", *more], number)

    gru = "sequence={kind: gru, dim: 8, layers: 1}"
    teachers = [opened("toy_pretrain_teacher", number, gru) for number in (1, 2)]
    for run in teachers:
        train_run(run)
        predict_runs([run], None, False, [])
        predict_runs([run], None, False)
    out = tmp_path / "mean.h5"
    pseudo_labels(teachers, ["toy_pretrain_teacher"], out)
    with h5py.File(out) as file:
        assert file["strong_logits"].dtype == np.float16
        assert file["strong_logits"].shape[1:] == (FRAMES, len(output_classes()))
    student = opened("toy_pretrain_student", 1, f"data.pseudo_labels={out}")
    train_run(student)
    predict_runs([student], None, True)
    (results,) = evaluate_framewise([student])
    assert 0 <= results["audioset_eval"]["psds1_macro"] <= 1
    assert (
        results["audioset_eval"]["psds1_macro"]
        == read_results(student.folder)["test"]["values"]["audioset_eval"]["psds1_macro"]
    )
    assert results["floors"].keys() == {"untrained", "constant"}
    assert results["floors"]["constant"]["mpauc"] == results["floors"]["constant"]["psds1_macro"] == 0.0
    assert results["floors"]["untrained"] != results["audioset_eval"]
    classes_of_run = list(read_rows(student.folder / "classes.csv", ("event_label", "PSDS1", "pAUROC")))
    assert len(classes_of_run) == results["audioset_eval"]["classes"]
    mean = np.mean([float(row["PSDS1"]) for row in classes_of_run])
    assert mean == pytest.approx(results["audioset_eval"]["psds1_macro"], abs=1e-4)
    assert {path.name for path in (student.folder / "plots").iterdir()} == {"classes.png", "training.png"}
    scored = (student.folder / "scores" / "audioset_eval.clips.txt").read_text().split()
    assert len(scored) == results["clips"]
    (system,) = compare_runs([student])
    assert system == "audioset_eval/psds1_macro"
    rows = list(read_rows(student.folder.parent / "comparison.csv", ("system", "rank", "result")))
    assert [row["rank"] for row in rows if row["result"] == "own"] == [""]
    assert len(rows) > 100
    both = join(replace(teachers[0], folder=Path("both") / "run1"), [str(run.folder) for run in teachers])
    (mean_of_two,) = evaluate_framewise([both])
    assert mean_of_two["clips_sha256"] == results["clips_sha256"]
    network, classes = load_framewise(student.folder / "checkpoints" / "last.ckpt")
    assert classes == output_classes()
    assert network.seq_model is None


def test_validation_is_evaluation(tiny: Configure) -> None:
    """What selects a checkpoint is what is reported of it, but for the half precision of stored logits."""
    system, data = build_framewise(tiny("toy_pretrain_teacher"), 1)
    assert system.network.encoder.training
    system.eval()
    with torch.no_grad():
        for batch in data.val_dataloader():
            system.validation_step(batch, 0)
    assert system.predicted is not None
    logits = system.predicted[0 : len(data.validation.labels.clips)]
    assert logits.shape == (len(data.validation.labels.clips), FRAMES, len(output_classes()))
    assert system.validate is not None
    assert set(system.validate(logits)) == {"psds1_macro", "psds1", "mpauc", "classes"}
    perfect = data.validation.labels.targets(np.arange(len(logits))).transpose(0, 2, 1)
    assert system.validate(perfect)["mpauc"] == 1.0


def test_clips_are_whole_and_labelled(tiny: Configure) -> None:
    clips = load_strong(tiny("toy_pretrain_teacher").data, "train")
    data = StrongClips(clips)
    batch = data.__getitems__(np.array([[2, 5], [0, 6]]))
    pack = open_pack(clips.packs[0].path)
    expected = pack.read(pack.index_of(clips.labels.clips[2]))
    np.testing.assert_array_equal(batch.waveform[0, : len(expected)].numpy(), expected)
    np.testing.assert_array_equal(batch.targets.numpy(), clips.labels.targets(np.array([2, 0])))
    assert batch.pseudo is None


def test_clips_without_logits_have_their_labels(tiny: Configure, tmp_path: Path) -> None:
    clips = load_strong(tiny("toy_pretrain_teacher").data, "train")
    path, classes = tmp_path / "logits.h5", output_classes()
    with h5py.File(path, "w") as file:  # named as published
        file["filenames"] = [f"{clips.labels.clips[0]}.mp3".encode(), clips.labels.clips[1][1:].encode()]
        file["strong_logits"] = np.full((2, FRAMES, len(classes)), 3, np.float16)
    stored = StoredLogits.open(path, classes)
    assert pseudo_rows(stored, clips.labels.clips).tolist()[:3] == [0, 1, -1]
    batch = StrongClips(clips, stored).__getitems__(np.array([[1, 0], [4, 0]]))
    assert batch.pseudo is not None
    torch.testing.assert_close(batch.pseudo[0], torch.full_like(batch.pseudo[0], 3).sigmoid())
    assert torch.equal(batch.pseudo[1], batch.targets[1])


def test_mixed_clips_are_the_same_after_an_interruption(tiny: Configure) -> None:
    data = StrongClips(load_strong(tiny("toy_pretrain_teacher").data, "train"), mixing=WavMix(1.0, 2.0, [True]))
    requests = np.array([[2, 5], [0, 6]])
    one, other = data.__getitems__(requests), data.__getitems__(requests)
    assert torch.equal(one.waveform, other.waveform)
    assert not torch.equal(one.targets, StrongClips(data.clips).__getitems__(requests).targets)


def epochs(sampler: DrawSampler) -> list[int]:
    return np.concatenate([requests[:, 0] for requests in sampler]).tolist()


def test_draws_of_an_epoch() -> None:
    epoch = [0]

    def sampler(**options: object) -> DrawSampler:
        return DrawSampler(10, 25, 4, 7, lambda: epoch[0], **options)  # type: ignore[arg-type]

    uniform = sampler()
    first = epochs(uniform)
    assert len(uniform) == 7
    assert sorted(first[:10]) == sorted(first[10:20]) == list(range(10))
    assert first == epochs(uniform)
    shares = [epochs(sampler(rank=rank, ranks=2)) for rank in (0, 1)]
    assert [len(of) for of in shares] == [13, 13]
    assert [shares[0][0], shares[1][0], shares[0][1]] == first[:3]
    epoch[0] = 1
    assert epochs(uniform) != first
    heavy = np.array([1.0] * 9 + [90.0])
    assert epochs(sampler(weights=heavy)).count(9) > 15
    with pytest.raises(UserError, match=r"data\.draws: 25 without replacement, but there are only 10 clips"):
        sampler(weights=heavy, replacement=False)
    once = DrawSampler(30, 25, 4, 7, lambda: 0, weights=np.ones(30), replacement=False)
    assert len(set(epochs(once))) == 25


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["start=x.ckpt"], "start=x.ckpt: only for loss.kind stage1 or stage2"),
        (["loss.distillation=0.5"], "data.pseudo_labels: not set"),
        (
            ["loss.kind=baseline", "encoder.train=false", "sequence={kind: gru}"],
            "sequence.*: only for loss.kind framewise",
        ),
        (["validation.loss=true", "data.format=hear"], "validation.loss=true: only for .* data.format audioset"),
        (["augment.impulse_probability=0.5"], "augment.impulse_probability=0.5: only for"),
    ],
)
def test_settings_that_exclude_each_other(tiny: Configure, overrides: Sequence[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        tiny("toy_pretrain_teacher", *overrides)


def test_the_recipe_that_ends_by_the_loss(root: Path, tmp_path: Path) -> None:
    """SGD with a momentum, the norm and the embeddings a step beyond the blocks; the least loss selects the model."""
    small = ("encoder.name=frame_mn-tiny", "encoder.checkpoint=null", "optimizer.encoder_decay=0.5")
    rates = ("optimizer.lr=0.5", "optimizer.encoder_lr=0.1", "trainer.max_epochs=6", "trainer.patience=1")
    run = open_run(TASK4, "pretrain_li2024", [*TINY, f"data.root={root}", *small, *rates], 1)
    run = replace(run, folder=tmp_path / "run1")
    train_run(run)
    values = read_results(run.folder)
    rows = list(read_rows(run.folder / "metrics.csv", ("epoch", "val/loss", "val/objective")))
    losses = [float(row["val/loss"]) for row in rows]
    assert values["train"]["values"]["best"]["val/loss"] == pytest.approx(min(losses))
    assert values["checkpoint"]["values"]["file"] == "checkpoints/best.ckpt"
    assert len(losses) == 6 or losses[-1] > min(losses)
    atst, _ = build_framewise(replace(run.config, encoder=EncoderConfig("atst-f-tiny", train=True)), 1)
    optimizer = atst.configure_optimizers()["optimizer"]
    assert isinstance(optimizer, torch.optim.SGD)
    assert {group["momentum"] for group in optimizer.param_groups} == {0.9}
    found = {group["layer"]: group["initial_lr"] for group in optimizer.param_groups}
    assert found == {"head": 0.5, "norm": 0.1, "block1": 0.05, "block0": 0.025, "embeddings": 0.0125}


def test_a_warm_up_as_long_as_the_training_is_refused(tiny: Configure) -> None:
    optimizer = tiny("toy_pretrain_teacher").optimizer
    long = replace(optimizer, warmup_steps=4)
    with pytest.raises(UserError, match=r"optimizer\.warmup_steps: 4, but the training has 4 steps"):
        warmup_of(long, 4)
    assert warmup_of(long, 5) == 4
    assert warmup_of(replace(long, warmup_as_run=100), 5) == 100
    with pytest.raises(UserError, match=r"optimizer\.warmup_steps: 4, but the training has 4 steps"):
        build_framewise(tiny("toy_pretrain_teacher", "optimizer.warmup_steps=4"), 1)


def test_intended_mask_hides_the_pseudo_labels_too(tiny: Configure) -> None:
    config = tiny("toy_pretrain_teacher", "augment.time_mask=true").augment
    frames = Frames(torch.ones(2, 8, 1000), torch.ones(2, 3, FRAMES), torch.ones(2, 3, FRAMES))
    torch.manual_seed(0)
    draws = FrameDraws(mask=draw(config, frames.mel.shape, FRAMES, torch.device("cpu")).mask)
    assert draws.mask is not None
    system, _ = build_framewise(tiny("toy_pretrain_teacher"), 1)
    setting = system.network.encoder.front_end.setting
    masked = STEPS["time_mask"](frames, draws, config, setting)
    width = draws.mask.width
    assert masked.pseudo is not None
    assert masked.targets[0, 0].sum() == masked.pseudo[0, 0].sum() == FRAMES - width
    assert masked.mel[0, 0].sum() == 1000 - 4 * width
    published = STEPS["time_mask"](frames, draws, replace(config, time_mask_pseudo=False), setting)
    assert published.pseudo is not None
    assert published.pseudo.sum() == frames.pseudo.sum()  # type: ignore[union-attr]


def test_loss_is_the_weighted_sum_of_its_terms() -> None:
    torch.manual_seed(0)
    logits, targets, pseudo = torch.randn(2, 3, 5), torch.rand(2, 3, 5).round(), torch.rand(2, 3, 5)
    terms = frame_loss(logits, targets, pseudo, 0.9)
    torch.testing.assert_close(terms["loss"], 0.9 * terms["distillation"] + 0.1 * terms["labels"])
    alone = frame_loss(logits, targets, targets, 0.9)
    torch.testing.assert_close(alone["loss"], frame_loss(logits, targets, None, 0.9)["loss"])


def test_encoders_train_and_heads_begin_with_the_prior(tiny: Configure) -> None:
    system, data = build_framewise(tiny("toy_pretrain_teacher", "loss.head_bias=prior"), 1)
    assert all(module.training for module in system.modules())
    bias, targets = system.network.encoder.strong_head.bias.detach(), data.training.labels.targets(np.arange(10))  # type: ignore[union-attr]
    share = targets.mean(axis=(0, 2))
    np.testing.assert_allclose(bias.sigmoid().numpy()[share > 0], share[share > 0], atol=1e-3)
    assert (bias[share == 0] < -7).all()
    frozen, _ = build_framewise(tiny("toy_pretrain_teacher", "encoder.train=false"), 1)
    assert not any(module.training for module in frozen.network.encoder.features.modules())  # type: ignore[union-attr]
