"""The winner's stages: sizes, order of augmentations, parameter groups, stage 2 after stage 1, pseudo labels."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from common.augment import draw_freq_warp
from common.encoders.checkpoints import cached
from common.run.config import load_config
from common.run.errors import UserError
from common.run.training import BEST
from common.run.verbs import Run
from task4_sed.__main__ import TASK
from task4_sed.config import Config
from task4_sed.data.batches import Batch
from task4_sed.data.classes import CLASSES
from task4_sed.evaluation.benchmark import in_miniature
from task4_sed.inference.checkpoints import load_network
from task4_sed.inference.predict import Predictor
from task4_sed.model.crnn import CRNN
from task4_sed.model.embedder import Embedder
from task4_sed.model.networks import TunedNetwork, build_network, fitted
from task4_sed.training.augmentation import ORDER, Augmenter, Draws, View
from task4_sed.training.losses import Blocks, Targets
from task4_sed.training.stages import StagedSystem, parameter_groups
from task4_sed.training.train import begin, build, train_run

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log")  # steps are called without a Trainer

Configure = Callable[..., Config]
MODELS = ("atst", "fpasst", "beats")
STAGE1 = (
    *("encoder={name: atst-f-tiny, projection: frozen}", "model.fft=512", "model.fusion_dim=16", "model.dropstep=0"),
    *("loss.kind=stage1", "loss.ssl_warmup_steps=3", "optimizer.warmup_steps=2", "augment.wavmix_probability=0.5"),
    *("augment.frame_shift=0", "trainer.max_epochs=1", "data.desed_to_maestro=true"),
)
STAGE2 = (
    *(*STAGE1, "loss.kind=stage2", "encoder.train=true", "start=first", "optimizer.encoder_lr=0.01"),
    *("augment.time_mask=true", "augment.warp_probability=0.5", "augment.mixstyle_probability=0.5"),
    *("augment.filter_probability=0.5", "augment.impulse_probability=0.5", "augment.impulse_responses=synthetic"),
)


def run_of(runs: Path, recipe: str, config: Config) -> Run:
    return Run(TASK, recipe, 1, runs / recipe / "run1", config)


@pytest.fixture(scope="module")
def runs(tiny: Configure, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stage 1 as recipe `first`, stage 2 after it as `second`."""
    runs = tmp_path_factory.mktemp("runs")
    train_run(run_of(runs, "first", tiny(*STAGE1)))
    train_run(run_of(runs, "second", tiny(*STAGE2)))
    return runs


def weights(path: Path, start: str) -> dict[str, Tensor]:
    state = torch.load(path, weights_only=True)["state_dict"]
    return {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}


# --- sizes


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("model", "dim", "fusion", "crnn"), [
    ("atst", 527, 167_936, 2_780_550), ("fpasst", 527, 167_936, 2_780_550), ("beats", 768, 229_632, 2_842_246),
])  # fmt: skip
def test_the_crnn_has_the_published_size(model: str, dim: int, fusion: int, crnn: int) -> None:
    """Specification of the system, parameter counts of its networks."""
    for recipe in (f"iteration{i}_stage{s}_{model}" for i in (1, 2) for s in (1, 2)):
        config = load_config(Config, TASK.recipes, recipe)
        assert config.model.embedding_dim == dim
        with torch.device("meta"):
            network = CRNN(config.model)
        parts = {"cnn": 612_688, "rnn": 1_972_224, "cat_tf": fusion, "dense": 13_851, "dense_softmax": 13_851}
        assert {name: parameters(network.get_submodule(name)) for name in parts} == parts
        assert parameters(network) == crnn


@pytest.mark.parametrize("model", MODELS)
def test_every_parameter_has_its_group(model: str, shared: Path) -> None:
    """As many parameters in each of the published groups; those in the wrong ones there are harmless."""
    config = load_config(Config, TASK.recipes, f"iteration2_stage2_{model}", ["encoder.checkpoint=random"])
    with torch.device("meta"):
        network = build_network(config.model, Embedder(config.encoder))
    groups = parameter_groups(network, config.optimizer)
    assert isinstance(network, TunedNetwork)
    found: dict[str, int] = {}
    rates: dict[str, float] = {}
    for group in groups:
        found[group["layer"]] = found.get(group["layer"], 0) + sum(p.numel() for p in group["params"])
        rates[group["layer"]] = group["lr"]
    with np.load(shared / "golden" / "task4_stage2_step" / "io.npz") as io:
        official = io[f"{model}/full/parameters"]
    # There with the frozen projection; in BEATs' files with a predictor that is never used.
    projection = parameters(network.projection)
    assert found["cnn"] == official[0]
    assert found["rnn"] == official[1] - projection
    assert projection == (0 if model == "beats" else 405_263)
    if model == "fpasst":
        assert sum(found.values()) == official.sum() - projection
    if model == "atst":
        blocks = [found[f"block{index}"] for index in reversed(range(12))]
        assert [found["norm"], *blocks] == official[2:15].tolist()
        for index in range(12):
            assert rates[f"block{index}"] == pytest.approx(1e-4 * 0.5 ** (12 - index))
        assert rates["embeddings"] == pytest.approx(1e-4 * 0.5**13)


def test_a_forgotten_parameter_is_said() -> None:
    config = load_config(Config, TASK.recipes, "iteration2_stage2_atst")
    with torch.device("meta"):
        network = build_network(config.model, Embedder(_random(config)))
    network.register_parameter("more", nn.Parameter(torch.zeros(1, device="meta")))
    with pytest.raises(RuntimeError, match=r"'more'.* forgotten"):
        parameter_groups(network, config.optimizer)


def _random(config: Config) -> Any:
    assert config.encoder is not None
    config.encoder.checkpoint = "random"
    return config.encoder


# --- fusion


def test_alignment_by_convolution_begins_as_a_mean(tiny: Configure) -> None:
    config = tiny("model.embedding_dim=6", "model.embedding_pooling=conv", "model.projection_dim=5", "model.dropstep=0")
    network = CRNN(config.model).eval()
    embeddings = torch.randn(2, 6, 250)
    seen: list[Tensor] = []
    network.align.register_forward_hook(lambda module, inputs, output: seen.extend((*inputs, output)))
    mel = torch.randn(2, config.model.num_mels, 626)
    network(mel, embeddings).strong.sum().backward()
    assert seen[0].shape == (2, 5, 250)
    assert seen[1].shape == (2, 5, 156)
    torch.testing.assert_close(seen[1], seen[0].unfold(2, 95, 1).mean(-1))
    assert all(p.grad is not None for p in (*network.project.parameters(), *network.align.parameters()))


# --- augmentations


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_order_of_augmentations(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Schmid et al. 2024; in stage 2 the teacher hears what the mask has left, before anything is mixed."""
    expected = {
        "stage1": ["shift", "mix", "style", "mask", "filter"],
        "stage2": ["shift", "mask", "teacher", "mix", "style", "warp", "filter"],
    }
    config = load_config(Config, TASK.recipes, "iteration2_stage2_atst").augment
    config.frame_shift = 0.1
    blocks = Blocks(2, 2, 2, 2, 2)
    setting = Embedder(_random(load_config(Config, TASK.recipes, "toy", ["encoder={name: atst-f-tiny}"]))).encoder
    augmenter = Augmenter(config, stage, blocks, setting.front_end.setting)
    for name in ("mixup_probability", "mixstyle_probability", "warp_probability", "filter_probability"):
        setattr(config, name, 1.0)
    done: list[tuple[str, View, View]] = []
    for name in set().union(*ORDER.values()):
        apply = getattr(augmenter, name)

        def watched(clips: Any, draws: Draws, name: str = name, apply: Any = apply) -> Any:
            after = apply(clips, draws)
            done.append((name, clips.student, after.student))
            return after

        monkeypatch.setattr(augmenter, name, watched)
    draws = augmenter.draw((128, 626), 156, 0, torch.device("cpu"))
    view = View(torch.rand(10, 128, 626), torch.randn(10, 64, 1001))
    targets = Targets(torch.rand(10, 27, 156), torch.rand(10, 27), torch.ones(10, 27, dtype=torch.bool))
    student, teacher, _ = augmenter.views(view, targets, draws)
    assert [name for name, _, _ in done] == expected[stage]
    changed = [name for name, before, after in done if not torch.equal(before.mel, after.mel)]
    assert changed == [name for name in expected[stage] if name not in ("teacher", "warp")]
    if stage == "stage2":
        torch.testing.assert_close(teacher.mel, done[2][1].mel)
    else:
        assert torch.equal(teacher.beside, student.beside)
        assert not torch.equal(teacher.mel, student.mel)


def test_the_filter_adds_decibels_to_the_encoders_mel(tiny: Configure) -> None:
    """What a filter before the logarithm would have done, but for the front end's floors."""
    embedder = Embedder(tiny(*STAGE2).encoder)  # type: ignore[arg-type]
    setting, front_end = embedder.encoder.front_end.setting, embedder.encoder.front_end
    augmenter = Augmenter(
        tiny(*STAGE2, "augment.filter_probability=1").augment, "stage2", Blocks(1, 1, 1, 1, 1), setting
    )
    power = front_end.mel(torch.randn(5, 16000))
    draw = augmenter.draw((32, 626), 156, 0, torch.device("cpu")).filter
    assert draw is not None
    added = augmenter._filtered(front_end.compress(power), draw[1])
    gain = augmenter._filtered(torch.zeros_like(power), draw[1])
    assert gain is not None
    before = front_end.compress(power * (10 ** (gain * setting.scale / 10)))
    torch.testing.assert_close(added, before, rtol=1e-4, atol=1e-4)
    assert (gain * setting.scale).abs().max() <= 6.0 + 1e-4


def test_warping_keeps_maestro_where_asked(tiny: Configure) -> None:
    blocks = Blocks(2, 1, 1, 1, 1)
    config = tiny(*STAGE2, "augment.warp_maestro=false").augment
    setting = Embedder(tiny(*STAGE2).encoder).encoder.front_end.setting  # type: ignore[arg-type]
    augmenter = Augmenter(config, "stage2", blocks, setting)
    view = View(torch.rand(6, 32, 626), torch.randn(6, 64, 1001))
    targets = Targets(torch.rand(6, 27, 156), torch.rand(6, 27), torch.ones(6, 27, dtype=torch.bool))
    warps = [draw_freq_warp(64)._replace(height=40, start=2) for _ in range(4)]
    student, teacher, _ = augmenter.views(view, targets, Draws(warp=warps))
    assert student.beside is not None
    moved = [not torch.equal(a, b) for a, b in zip(student.beside, view.beside, strict=True)]
    assert moved == [False, False, True, True, True, True]
    assert teacher.beside is view.beside


def test_a_mixed_step_on_other_classes(tiny: Configure) -> None:
    config = tiny(*STAGE2, "loss.ssl_maestro_weak=false", "augment.mixup_probability=1")
    embedder = Embedder(config.encoder)  # type: ignore[arg-type]
    config.model = fitted(config.model, embedder, 3)
    system = StagedSystem(config, ("dog", "rain", "rooster"), 1, {}, embedder, impulses=torch.eye(1, 64))
    size = system.blocks.size
    targets = torch.rand(size, 3, 156)
    batch = Batch(torch.randn(size, 160000), targets, torch.ones(size, 3, dtype=torch.bool), torch.arange(size), None)
    assert torch.isfinite(system.training_step(batch, 0))


# --- stage 2 after stage 1


def test_stage_2_begins_with_stage_1(tiny: Configure, runs: Path) -> None:
    config = tiny(*STAGE2)
    system, _ = build(config, 7)
    begin(system, run_of(runs, "second", config))
    assert isinstance(system, StagedSystem)
    for which in ("student", "teacher"):
        network = getattr(system, which)
        assert network.training
        stored = weights(runs / "first" / "run1" / BEST, f"{which}.")
        assert stored.keys() == network.crnn.state_dict().keys()
        assert all(torch.equal(network.crnn.state_dict()[name], value) for name, value in stored.items())


@pytest.mark.parametrize("start", ["ATST_stage1", "https://example.org/of/first.ckpt", "{here}/own.ckpt"])
def test_stage_2_begins_with_a_published_or_a_named_file(
    tiny: Configure, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    monkeypatch.setenv("DCASE_CACHE", str(tmp_path))  # as if it had been fetched before
    start = start.format(here=tmp_path)
    path = Path(start) if start.startswith("/") else cached("atst_stage1.ckpt" if "://" not in start else start)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(runs / "first" / "run1" / BEST, path)
    config = tiny(*STAGE2, f"start={start}")
    system, _ = build(config, 7)
    begin(system, run_of(tmp_path, "second", config))
    for which in ("student", "teacher"):
        stored = weights(runs / "first" / "run1" / BEST, f"{which}.")
        found = getattr(system, which).crnn.state_dict()
        assert all(torch.equal(found[name], value) for name, value in stored.items())


def test_the_encoder_trains_in_stage_2_alone(tiny: Configure, runs: Path) -> None:
    first = weights(runs / "first" / "run1" / BEST, "student.")
    assert not any(name.startswith(("encoder.", "projection.")) for name in first)
    fresh = build(tiny(*STAGE2), 7)[0].student
    after = weights(runs / "second" / "run1" / BEST, "student.")
    moved = {name for name, value in fresh.state_dict().items() if not torch.equal(value, after[name])}
    trained = {name for name, p in fresh.named_parameters() if p.requires_grad and name.startswith("encoder.")}
    assert trained <= moved
    assert not any(name.startswith("projection.") for name in moved)


def test_a_tuned_network_is_rebuilt_from_its_checkpoint(tiny: Configure, runs: Path) -> None:
    config = tiny(*STAGE2)
    loaded = load_network(runs / "second" / "run1" / BEST, "student", encoder=config.encoder)
    system, _ = build(config, 7)
    system.student.load_state_dict(weights(runs / "second" / "run1" / BEST, "student."))
    waveform = 0.1 * torch.randn(2, 160000)
    system.eval()
    assert system.embedder is not None
    with torch.no_grad():
        expected = system.student(system.front_end(waveform), system.embedder(waveform)).logits.transpose(1, 2)
    torch.testing.assert_close(Predictor(loaded, "cpu").logits(waveform), expected)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["start=nowhere"], r"start: .*nowhere/run1 has no finished training; first: make task4-train RECIPE=nowhere"),
        (["start=atst_as_strong"], "start: atst_as_strong is an encoder alone; it goes to encoder.checkpoint"),
        (["start=nowhere.ckpt"], "nowhere.ckpt: checkpoint not found"),
        (["model.rnn_hidden=16"], "checkpoint of another model: .* misshapen"),
        (["encoder.seed=1"], "trained beside another encoder than atst-f-tiny"),
        (["encoder.projection=none"], "trained beside another encoder"),
    ],
)
def test_another_start_is_refused(tiny: Configure, runs: Path, overrides: list[str], says: str) -> None:
    config = tiny(*STAGE2, *overrides)
    with pytest.raises(UserError, match=says):
        begin(build(config, 7)[0], run_of(runs, "second", config))


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["start=first"], "start=first: only for loss.kind stage1 or stage2"),
        (["augment.time_mask=true"], "augment.time_mask=true: only for"),
        (["loss.kind=stage1", "loss.weights.pseudo=1"], "data.pseudo_labels: not set"),
        (
            ["loss.kind=stage1", "encoder={name: beats-tiny, cache: true}", "augment.wavmix_probability=1"],
            "encoder.cache",
        ),
        (["loss.kind=stage2", "encoder={name: beats-tiny, cache: true, train: true}"], "encoder.cache"),
    ],
)
def test_settings_that_exclude_each_other(tiny: Configure, overrides: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        tiny(*overrides)


# --- pseudo labels


def stored(path: Path, names: list[str], frames: int = 156) -> tuple[Path, np.ndarray]:
    logits = np.random.default_rng(0).normal(size=(len(names), frames, len(CLASSES))).astype(np.float16)
    with h5py.File(path, "w") as file:
        file["strong_logits"], file["filenames"] = logits, [name.encode() for name in names]
    return path, logits


def test_pseudo_labels_follow_their_clips(tiny: Configure, tmp_path: Path) -> None:
    _, data = build(tiny(*STAGE1), 1)
    sets = [of for block in data.training for of in block]
    names = sorted({clip.removesuffix(".wav") for of in sets for clip in of.clips})
    path, logits = stored(tmp_path / "pseudo.h5", names)
    chosen = (*STAGE1, f"data.pseudo_labels={path}", "loss.weights.pseudo=1.5", "augment.wavmix_probability=0")
    system, data = build(tiny(*chosen), 1)
    loader = data.train_dataloader()
    batch = next(iter(loader))
    assert batch.pseudo is not None
    ends = np.cumsum([0, *(block.batch for block in system.config.data.blocks.named().values())])
    for number, (block, of_block) in enumerate(zip(pairwise(ends), data.training, strict=True)):
        for row in range(*block):
            candidates = [of.clips[int(batch.clip[row])] for of in of_block if int(batch.clip[row]) < len(of.clips)]
            expected = [
                1 / (1 + np.exp(-logits[names.index(c.removesuffix(".wav"))].T.astype(float))) for c in candidates
            ]
            assert any(np.allclose(batch.pseudo[row], p, atol=1e-3) for p in expected), (number, row)
    loss = system.training_step(batch, 0)
    assert torch.isfinite(loss)
    few, _ = stored(tmp_path / "few.h5", names[:3])
    with pytest.raises(UserError, match=r"no logits of \d+ of \d+ clips"):
        build(tiny(*STAGE1, f"data.pseudo_labels={few}"), 1)[1].train_dataloader()
    path, _ = stored(tmp_path / "short.h5", names, 155)
    with pytest.raises(UserError, match="155 frames a clip, expected 156"):
        build(tiny(*STAGE1, f"data.pseudo_labels={path}"), 1)[1].train_dataloader()


# --- rates


def test_published_batches_are_measured_in_miniature() -> None:
    for recipe in ("iteration2_stage1_atst", "iteration1_stage2_beats"):
        own = load_config(Config, TASK.recipes, recipe)
        small = in_miniature(run_of(Path("runs"), recipe, own)).config
        assert small.data.blocks == own.data.blocks
        assert (small.data.toy, small.model.num_mels, small.encoder.checkpoint) == ("toy", 40, None)
        assert small.encoder == replace(own.encoder, name=f"{own.encoder.name}-tiny", checkpoint=None)
        assert (small.loss, small.optimizer) == (own.loss, own.optimizer)
        assert small.trainer.accumulate_grad_batches == own.trainer.accumulate_grad_batches
        assert replace(small.augment, impulse_responses=None) == own.augment
    named = run_of(Path("runs"), recipe, load_config(Config, TASK.recipes, recipe, ["data.root=somewhere"]))
    assert in_miniature(named) is named


# --- switches


@pytest.mark.slow
@pytest.mark.parametrize(
    "switch",
    [
        *("trainer.precision=bf16-mixed", "encoder.checkpointing=true"),
        *("trainer.compile=true", "trainer.accumulate_grad_batches=2"),
    ],
)
def test_switches(tiny: Configure, runs: Path, tmp_path: Path, switch: str) -> None:
    (tmp_path / "first").symlink_to(runs / "first")
    train_run(run_of(tmp_path, "second", tiny(*STAGE2, switch)))
    found, plain = (weights(at / "second" / "run1" / BEST, "student.") for at in (tmp_path, runs))
    assert found.keys() == plain.keys()
    assert all(torch.isfinite(value).all() for value in found.values())
    if "checkpointing" in switch:
        for name, value in plain.items():
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)
