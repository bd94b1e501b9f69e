"""A teacher that hears the same audio, clips without frame labels beside the labelled ones, classes of one's own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from common.augment import Mix
from common.encoders import RANDOM, create
from common.encoders.checkpoints import cached
from common.run.config import load_config
from common.run.errors import UserError
from common.run.verbs import open_run
from task4_sed.__main__ import TASK
from task4_sed.config import Config
from task4_sed.data.audioset import FRAMES, output_classes, read_strong_labels
from task4_sed.data.own import CLASSES, framewise_classes, own_classes
from task4_sed.data.toy.audioset import OWN, OWN_NAME
from task4_sed.model.framewise import load_framewise
from task4_sed.tests.pretraining import TINY, Configure, prepared
from task4_sed.training.framewise import FrameDraws, Frames, cross_entropy, frame_loss
from task4_sed.training.online import BOTH, OnlineTeacher, TaughtSystem
from task4_sed.training.train import build_framewise, train_run


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The data set, and a teacher."""
    folder = tmp_path_factory.mktemp("audioset")
    words = [*TINY, f"data.root={folder / 'data'}"]
    of_own = [*words, f"data.own.root={folder / 'data' / OWN}", "teacher.weak_batch=2", "encoder.keep_head=false"]
    names = ("audioset", "audioset_weak", "own")
    sets = prepared(folder / "data", "toy_pretrain_own", *of_own)
    assert sets == [f"{name}_{part}" for name in names for part in ("train", "eval")]
    run = open_run(TASK, "toy_pretrain_teacher", words, 1, folder / "teacher")
    train_run(run)
    return folder / "data", run.folder / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="module")
def tiny(places: tuple[Path, Path]) -> Configure:
    root, teacher = places

    def configured(recipe: str, *overrides: str) -> Config:
        words = [*TINY, f"data.root={root}", f"teacher.checkpoint={teacher}", *overrides]
        if recipe == "toy_pretrain_own":
            words += [f"data.own.root={root / OWN}", f"encoder.checkpoint={teacher}"]
        return load_config(Config, TASK.recipes, recipe, words)

    return configured


def taught(config: Config) -> tuple[TaughtSystem, torch.utils.data.DataLoader]:
    system, data = build_framewise(config, 1)
    assert isinstance(system, TaughtSystem)
    return system, data.train_dataloader()


def test_a_step_has_both_parts_and_their_weights(tiny: Configure) -> None:
    weights = ("loss.distillation=0.75", "teacher.weak_share=0.25", "teacher.weak_batch=3")
    system, loader = taught(tiny("toy_pretrain_advanced", *weights, "augment.frame_shift=0"))
    batch = next(iter(loader))
    assert (len(batch.waveform), len(batch.targets), len(loader)) == (7, 4, 2)
    terms = system.terms(batch)
    labels, strong, weak = (terms[name] for name in ("labels", "distillation", "distillation_weak"))
    torch.testing.assert_close(terms["loss"], 0.25 * labels + 0.75 * (0.75 * strong + 0.25 * weak))
    terms["loss"].backward()
    assert all(p.grad is None for p in system.teacher.network.parameters())
    assert not any("teacher" in name for name in system.state_dict())


def test_the_teacher_alone_teaches_clips_without_frame_labels(tiny: Configure) -> None:
    system, loader = taught(tiny("toy_pretrain_advanced", "teacher.weak_batch=3", "teacher.weak_mixup_probability=0"))
    batch = next(iter(loader))
    expected = system.teacher(system.teacher.front_end(batch.waveform[4:]))
    torch.manual_seed(0)
    terms = system.terms(batch._replace(targets=torch.zeros_like(batch.targets)))
    system.network.train()
    assert expected.shape == (3, len(output_classes()), FRAMES)
    assert expected.amin() >= 0
    assert terms["distillation_weak"] > 0


def test_both_hear_the_same_shift_and_mixture(tiny: Configure) -> None:
    system, loader = taught(tiny("toy_pretrain_advanced", "teacher.weak_batch=0"))
    batch = next(iter(loader))
    mel = system.teacher.front_end(batch.waveform)
    shift = torch.tensor([40, 0, -80, 4])
    swap = Mix(torch.full((4,), 0.75), torch.tensor([1, 0, 3, 2]))
    draws = FrameDraws(shift=shift, mix=swap)
    import task4_sed.training.online as online

    heard: list[torch.Tensor] = []
    network = system.teacher.network
    forward = network.forward
    network.forward = lambda x: heard.append(x) or forward(x)  # type: ignore
    original, online.draw = online.draw, lambda *given: draws
    try:
        frames, pseudo = system.heard_by_both(mel, mel, batch.targets, system.config.augment)
    finally:
        online.draw = original
    assert BOTH == ("frame_shift", "mixup")
    torch.testing.assert_close(frames.mel, heard[0])  # both front ends are the same here
    moved = torch.stack([row.roll(int(by), -1) for row, by in zip(mel, shift, strict=True)])
    torch.testing.assert_close(heard[0], 0.75 * moved + 0.25 * moved[swap.perm])
    torch.testing.assert_close(pseudo, forward(heard[0]).frame_logits.sigmoid().transpose(1, 2))


def test_teachers_of_other_classes_are_refused(tiny: Configure, places: tuple[Path, Path], tmp_path: Path) -> None:
    content = torch.load(places[1], weights_only=False)
    content["framewise"]["classes"][0] = "Another"
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match=r"teacher\.checkpoint: .*other\.ckpt has other classes than the first 447"):
        build_framewise(tiny("toy_pretrain_advanced", f"teacher.checkpoint={tmp_path / 'other.ckpt'}"), 1)
    with pytest.raises(UserError, match=r"teacher\.checkpoint=.*: not beside data\.pseudo_labels"):
        tiny("toy_pretrain_advanced", "data.pseudo_labels=x.h5")


def test_published_teachers_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCASE_CACHE", str(tmp_path))
    published = create("frame_mn06", RANDOM, num_classes=447)
    state = {n if "head" in n else f"model.frame_mn.{n}": value for n, value in published.state_dict().items()}
    path = cached("frame_mn06_strong_1.pt")
    path.parent.mkdir(parents=True)
    torch.save(state, path)
    teacher = OnlineTeacher("frame_mn06_strong_1", (*output_classes(), "Another"))
    waveform = 0.1 * torch.randn(2, 160_000)
    with torch.no_grad():
        expected = published(waveform, FRAMES).frame_logits.sigmoid().transpose(1, 2)
    torch.testing.assert_close(teacher(teacher.front_end(waveform)), expected)
    with pytest.raises(UserError, match="has other classes than the first 447"):
        OnlineTeacher("frame_mn06_strong_1", ("Another", *output_classes()))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("/m/09x0r,Talk\n", r"classes\.csv:1: /m/09x0r, Talk: one of AudioSet-strong's"),
        ("/own/a,Speech\n", r"classes\.csv:1: /own/a, Speech: one of"),
        ("/own/a,A\n/own/a,B\n", r"classes\.csv:2: /own/a, B: one of AudioSet-strong's, or there twice"),
        ("/own/a\n", r"classes\.csv:1: expected an identifier and a name"),
        ("", r"classes\.csv: no class"),
    ],
)
def test_wrong_lists_of_own_classes(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / CLASSES).write_text(text)
    with pytest.raises(UserError, match=says):
        own_classes(tmp_path)


def test_own_tables_have_their_own_names_and_identifiers(tmp_path: Path) -> None:
    table = tmp_path / "train_strong.tsv"
    head = "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n"
    table.write_text(f"{head}my clip 1\t0\t1\t/own/a\n")
    found = read_strong_labels(table, (*output_classes(), "A"), {"/own/a": "A"})
    assert found.clips == ("my clip 1",)
    assert found.targets(np.array([0]))[0, 447].sum() == 25
    table.write_text(f"{head}my clip 1\t0\t1\t/own/b\n")
    with pytest.raises(UserError, match="unknown label '/own/b'"):
        read_strong_labels(table, (*output_classes(), "A"), {"/own/a": "A"})


def test_own_clips_know_their_classes_alone(tiny: Configure) -> None:
    config = tiny("toy_pretrain_own", "data.own.share=0.5", "data.draws=400")
    assert framewise_classes(config.data) == (*output_classes(), OWN_NAME)
    _, data = build_framewise(config, 1)
    loader = data.train_dataloader()
    clips, own = loader.dataset, data.training.own
    batch = clips.__getitems__(np.array([[len(clips) - 1, 0], [0, 0]]))
    assert own == 4
    assert batch.targets[0, :447].isnan().all()
    assert batch.targets[0, 447].sum() > 5
    assert batch.targets[1].isfinite().all()
    assert batch.targets[1, 447].sum() == 0
    drawn = np.concatenate([requests[:, 0] for requests in loader.batch_sampler])
    assert 0.4 < (drawn >= len(clips) - own).mean() < 0.6


def test_unknown_labels_and_other_classes_teach_nothing() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 5, requires_grad=True)
    targets, pseudo = torch.rand(2, 3, 5).round(), torch.rand(2, 2, 5)
    targets[1, :2] = torch.nan
    terms = frame_loss(logits, targets, pseudo, 0.5)
    (gradient,) = torch.autograd.grad(terms["labels"], logits, retain_graph=True)
    assert (gradient[1, :2] == 0).all()
    assert (gradient[0] != 0).all()
    assert (gradient[1, 2] != 0).all()
    (gradient,) = torch.autograd.grad(terms["distillation"], logits)
    assert (gradient[:, 2] == 0).all()
    assert (gradient[:, :2] != 0).all()
    whole = torch.rand(2, 3, 5)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, whole)
    torch.testing.assert_close(cross_entropy(logits, whole), expected, rtol=0, atol=0)


def test_a_head_is_kept_for_the_classes_that_it_knows(tiny: Configure, places: tuple[Path, Path]) -> None:
    system, _ = build_framewise(tiny("toy_pretrain_own"), 1)
    teacher, _ = load_framewise(places[1])
    ours, theirs = system.network.encoder.strong_head, teacher.encoder.strong_head
    assert ours is not None
    assert theirs is not None
    assert ours.out_features == 448
    assert torch.equal(ours.weight[:447], theirs.weight)
    assert torch.equal(ours.bias[:447], theirs.bias)
    fresh, _ = build_framewise(tiny("toy_pretrain_own", "encoder.keep_head=false"), 1)
    assert fresh.network.encoder.strong_head is not None
    assert not torch.equal(fresh.network.encoder.strong_head.weight[:447], theirs.weight)
    with pytest.raises(UserError, match=r"encoder\.keep_head: .* expected at most"):
        build_framewise(tiny("toy_pretrain_own", "sequence={kind: gru, dim: 8, layers: 1}"), 1)


@pytest.mark.slow
def test_own_classes_are_learned_and_the_others_stay(tiny: Configure) -> None:
    """With the teacher's answers the 447 stay nearer to them than without, and the own class is told from all else."""

    def after(distillation: float) -> tuple[float, float]:
        torch.manual_seed(0)
        system, loader = taught(tiny("toy_pretrain_own", f"loss.distillation={distillation}"))
        clips: Any = loader.dataset
        batch = clips.__getitems__(np.array([[i, 0] for i in range(len(clips))]))
        mel = system.teacher.front_end(batch.waveform)
        answers = system.teacher(mel)
        for module in system.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 0.5  # few steps
        optimizer = torch.optim.AdamW(system.parameters(), lr=5e-3)
        for _ in range(45):
            optimizer.zero_grad()
            system.losses(Frames(mel, batch.targets, answers))["loss"].backward()
            optimizer.step()
        system.eval()
        with torch.inference_mode():
            ours = system.answers(mel).transpose(1, 2).sigmoid()
        there = batch.targets[:, 447].flatten() > 0
        told = roc_auc_score(there, ours[:, 447].flatten())
        return float((ours[:, :447] - answers).abs().mean()), float(told)

    (kept, told), (lost, _) = after(0.9), after(0.0)
    assert kept < 0.5 * lost
    assert told > 0.9
