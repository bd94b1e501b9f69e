"""A frozen encoder beside the CNN: embeddings, their augmentation, checkpoints without them, stored ones, all verbs."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from torch import Tensor

from common.audio.recordings import Recording
from common.encoders.beats import MODELS
from common.run.config import load_config
from common.run.errors import UserError
from common.run.training import BEST, LAST
from common.run.verbs import Run, main, open_run
from task4_sed.__main__ import TASK
from task4_sed.config import Config, EncoderConfig, ModelConfig, PostprocessConfig
from task4_sed.data.batches import CLIP_SAMPLES, Batch, ClipDataset
from task4_sed.data.classes import median_frames
from task4_sed.data.embeddings import store
from task4_sed.data.sets import ClipSet, load_set
from task4_sed.evaluation.report import evaluate_runs, filter_of
from task4_sed.inference.checkpoints import load_network
from task4_sed.inference.predict import Predictor
from task4_sed.inference.runs import predict_runs
from task4_sed.model.crnn import Prediction
from task4_sed.model.embedder import Embedder
from task4_sed.model.networks import fitted
from task4_sed.tests.conftest import TINY
from task4_sed.tests.detectors import detector_of, logits_of
from task4_sed.training.system import Inputs
from task4_sed.training.train import build, train_run

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log")  # steps are called without a Trainer

Configure = Callable[..., Config]
BEATS = "encoder={name: beats-tiny}"
PLAIN = (
    *("augment.mixup_probability=0", "augment.frame_shift=0"),
    *("augment.mixstyle_probability=0", "augment.filter_probability=0"),
)


@pytest.fixture(scope="module")
def tiny(tiny: Configure) -> Configure:
    """With a short window, and the encoder."""
    return lambda *overrides: tiny("model.fft=512", "model.fusion_dim=16", BEATS, *overrides)


def noise(clips: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(clips, CLIP_SAMPLES, generator=torch.Generator().manual_seed(seed))


def saved_beats(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    torch.save(MODELS["beats-tiny"]().state_dict(), path)
    return path


# --- embeddings


def test_the_sequence_as_it_is_or_the_mean_of_its_bands() -> None:
    apart, mean = Embedder(EncoderConfig("beats-tiny")), Embedder(EncoderConfig("beats-tiny", bands="mean"))
    tokens, steps = apart(noise(2)), mean(noise(2))
    assert (tokens.shape, apart.dim, apart.bands) == ((2, 48, 496), 48, 8)
    assert (steps.shape, mean.dim, mean.bands) == ((2, 48, 62), 48, 1)
    torch.testing.assert_close(steps, tokens.reshape(2, 48, 62, 8).mean(-1))
    torch.testing.assert_close(tokens.transpose(1, 2), apart.encoder.sequence(apart.encoder.mel(noise(2))))


@pytest.mark.parametrize(("name", "steps"), [("yamnet-tiny", 21), ("yamnet", 21), ("yamnet-whole", 31)])
def test_steps_that_share_the_clip_evenly(name: str, steps: int) -> None:
    """YAMNet's own patches begin with the clip and leave out its end: the network would be off by half a second."""
    if name != "yamnet-tiny":
        pytest.importorskip("transformers", reason='the extra "ears" is not installed')
    embedder = Embedder(EncoderConfig(name))
    found = embedder(noise(1))
    assert found.shape == (1, embedder.dim, steps)
    torch.testing.assert_close(found, embedder.encoder(noise(1), frames=steps).frames.transpose(1, 2))


def test_a_frozen_projection() -> None:
    plain = Embedder(EncoderConfig("beats-tiny", seed=3))
    projected = Embedder(EncoderConfig("beats-tiny", seed=3, projection="frozen"))
    assert projected.dim == 527
    found = projected(noise(1))
    assert found.shape == (1, 527, 496)
    torch.testing.assert_close(found, projected.projection(plain(noise(1)).transpose(1, 2)).transpose(1, 2))
    assert plain.fingerprint != projected.fingerprint
    assert not any(p.requires_grad for p in projected.projection.parameters())


def test_neither_gradient_nor_random_numbers() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    embedder = Embedder(EncoderConfig("beats-tiny"))
    first, again = embedder(noise(1)), embedder(noise(1))
    assert torch.equal(first, again)
    assert not first.requires_grad
    assert not first.is_inference()  # may be part of a training step
    assert torch.equal(state, torch.get_rng_state())


def test_the_fingerprint_is_of_the_weights(tmp_path: Path) -> None:
    configs = [
        EncoderConfig("beats-tiny"),
        EncoderConfig("beats-tiny", bands="mean"),
        EncoderConfig("beats-tiny", seed=1),
    ]
    first, same, other = (Embedder(config) for config in configs)
    assert first.fingerprint == same.fingerprint != other.fingerprint
    assert len({first.key, same.key, other.key}) == 3
    files = [saved_beats(tmp_path / f"{seed}.pt", seed) for seed in (7, 8)]
    (of_seven, of_eight) = (Embedder(EncoderConfig("beats-tiny", str(path))) for path in files)
    assert of_seven.fingerprint != of_eight.fingerprint
    assert Embedder(EncoderConfig("beats-tiny", str(files[0]), seed=9)).fingerprint == of_seven.fingerprint


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (EncoderConfig("beat-tiny"), "beat-tiny.*beats-tiny"),
        (EncoderConfig("passt-tiny"), "hears 32000 Hz, expected one of 16000 Hz"),
        (EncoderConfig("atst-f-tiny", bands="mean"), "encoder.bands: atst-f-tiny has one embedding per time step"),
        (EncoderConfig("beats-tiny", "no/such/file.pt"), "no/such/file.pt"),
    ],
)
def test_encoders_that_do_not_fit(config: EncoderConfig, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Embedder(config)
    assert "\n" not in str(caught.value)


def test_the_model_takes_its_dimension_from_the_encoder(tiny: Configure) -> None:
    embedder = Embedder(EncoderConfig("beats-tiny"))
    assert fitted(ModelConfig(embedding_dim=None), embedder, 27).embedding_dim == 48
    assert fitted(ModelConfig(embedding_dim=48), embedder, 27).embedding_dim == 48
    assert fitted(ModelConfig(embedding_dim=None), None, 27).embedding_dim is None
    with pytest.raises(UserError, match=r"model.embedding_dim: is 768, but encoder beats-tiny gives 48"):
        build(tiny("model.embedding_dim=768"), 42)
    with pytest.raises(UserError, match=r"model.embedding_dim: is 768, but the recipe names no encoder"):
        build(tiny("encoder=null", "model.embedding_dim=768"), 42)


def test_a_recipe_says_which_encoder(tiny: Configure) -> None:
    with pytest.raises(UserError, match=r"setting 'name' is missing"):
        tiny("encoder={checkpoint: x}")
    with pytest.raises(UserError, match=r"encoder.bands"):
        tiny("encoder.bands=some")


# --- augmentation


class Heard:
    """Stands for an encoder: the first sample of each clip, everywhere; remembers how often it was asked."""

    bands = 1

    def __init__(self, steps: int = 5) -> None:
        self.steps, self.calls = steps, 0

    def __call__(self, waveform: Tensor) -> Tensor:
        self.calls += 1
        return waveform[:, :1, None].expand(-1, 3, self.steps)


class Fixed(torch.nn.Module):
    """A network that predicts one half and remembers what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Tensor, Tensor | None]] = []

    def forward(self, features: Tensor, embeddings: Tensor | None = None, mask: Tensor | None = None) -> Prediction:
        self.seen.append((features, embeddings))
        strong = torch.full((len(features), 27, 5), 0.5)
        return Prediction(strong, strong[..., 0], strong, strong)


class Level(torch.nn.Module):
    """Front end whose mel spectrogram is the first sample of each clip, everywhere."""

    def mel(self, waveform: Tensor) -> Tensor:
        return waveform[:, :1, None].expand(-1, 4, 8)

    def compress(self, mel: Tensor) -> Tensor:
        return mel


def test_features_embeddings_and_labels_share_the_mix(tiny: Configure) -> None:
    """One draw: a mixed clip's features and embeddings have the same partner and coefficient."""
    system, _ = build(tiny(*PLAIN, "augment.mixup_probability=1", "augment.mixup_beta=1"), 42)
    size = system.blocks.size
    level = torch.linspace(0.1, 0.9, size)
    waveform, strong = level[:, None].expand(-1, 160), level[:, None, None].expand(-1, 27, 5)
    batch = Batch(waveform, strong, torch.ones(size, 27, dtype=torch.bool), torch.arange(size))
    network, heard = Fixed(), Heard()
    system.front_end, system.embedder = Level(), heard  # type: ignore[assignment]
    system.student = system.teacher = network  # type: ignore[assignment]
    torch.manual_seed(3)
    system.training_step(batch, 0)
    (features, embeddings), of_teacher = network.seen
    assert heard.calls == 1  # once for student and teacher
    assert torch.equal(of_teacher[1], embeddings)
    torch.testing.assert_close(embeddings[:, 0, 0], features[:, 0, 0])
    assert not torch.allclose(features[:, 0, 0], level)
    torch.manual_seed(3)
    inputs, mixed, _ = system._augmented(Inputs(system.front_end.mel(waveform), heard(waveform)), strong)
    torch.testing.assert_close(inputs.embeddings[:, 0, 0], mixed[:, 0, 0])


@pytest.mark.parametrize("bands", [1, 8])
def test_a_shift_moves_embeddings_by_the_same_seconds(tiny: Configure, bands: int) -> None:
    system, _ = build(tiny(*PLAIN, "augment.frame_shift=0.25"), 42)
    system.embedder = Heard()  # type: ignore[assignment]
    system.embedder.bands = bands  # type: ignore[union-attr]
    size, steps = system.blocks.size, 40
    moment = torch.arange(steps).repeat_interleave(bands)  # which moment a token belongs to
    band = torch.arange(bands).repeat(steps)
    embeddings = torch.stack([moment, band]).float().expand(size, 2, -1)
    mel = torch.arange(80.0).expand(size, 3, -1)  # two frames to a moment
    torch.manual_seed(1)
    (moved_mel, moved), _, _ = system._augmented(Inputs(mel, embeddings), torch.zeros(size, 27, 20))
    assert torch.equal(moved[:, 1], band.float().expand(size, -1))  # bands of a moment stay together
    shifts = -moved_mel[:, 0, 0] % 80  # of the mel
    moments = -moved[:, 0, 0] % steps
    error = (moments - shifts / 2 + steps / 2) % steps - steps / 2
    assert error.abs().max() <= 0.5
    assert shifts[: system.blocks.maestro].tolist() == [0] * system.blocks.maestro
    assert len(set(shifts.tolist())) > 3


# --- checkpoints


@pytest.fixture(scope="module")
def trained(tiny: Configure, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two epochs beside an encoder out of a file."""
    folder = tmp_path_factory.mktemp("trained")
    path = saved_beats(folder / "encoder.pt", 7)
    run = Run(TASK, "tiny", 1, folder / "run1", tiny(f"encoder.checkpoint={path}"))
    train_run(run)
    return run


def test_a_checkpoint_names_its_encoder_and_does_not_hold_it(trained: Run) -> None:
    content = torch.load(trained.folder / BEST, map_location="cpu", weights_only=True)
    own = {name.split(".")[0] for name in content["state_dict"]}
    assert own == {"student", "teacher"}
    about, config = content["sed"]["encoder"], trained.config.encoder
    assert about["settings"]["name"] == "beats-tiny"
    assert about["sha256"] == Embedder(config).fingerprint
    assert content["sed"]["model"]["embedding_dim"] == 48


def test_prediction_rebuilds_the_encoder(trained: Run, tmp_path: Path) -> None:
    loaded = load_network(trained.folder / BEST, "student")
    predictor = Predictor(loaded, "cpu")
    embedder = Embedder(trained.config.encoder)
    waveform = noise(2)
    with torch.no_grad():
        expected = loaded.network(predictor.front_end(waveform), embedder(waveform)).logits.transpose(1, 2)
    torch.testing.assert_close(predictor.logits(waveform), expected)
    soundfile.write(tmp_path / "long.wav", noise(3).flatten().numpy(), 16000)
    soundfile.write(tmp_path / "short.wav", noise(1)[0, :800].numpy(), 16000)
    detector = detector_of(predictor)
    assert [logits_of(detector, Recording(tmp_path / f"{name}.wav", 16_000)).shape for name in ("long", "short")] == [
        (469, 27),
        (1, 27),  # 50 ms
    ]


def test_another_encoder_is_refused(trained: Run, tmp_path: Path) -> None:
    other = saved_beats(tmp_path / "other.pt", 8)
    moved = EncoderConfig("beats-tiny", str(other))
    predictor = Predictor(load_network(trained.folder / BEST, "student", encoder=moved), "cpu")
    with pytest.raises(UserError, match=r"best\.ckpt: trained beside another encoder than beats-tiny with .*other\.pt"):
        predictor.logits(noise(1))
    same = saved_beats(tmp_path / "moved.pt", 7)  # the file may lie elsewhere now
    moved = EncoderConfig("beats-tiny", str(same))
    Predictor(load_network(trained.folder / BEST, "student", encoder=moved), "cpu").logits(noise(1))


def test_a_training_does_not_go_on_beside_another_encoder(tiny: Configure, tmp_path: Path) -> None:
    path = saved_beats(tmp_path / "encoder.pt", 7)
    run = Run(TASK, "tiny", 1, tmp_path / "run1", tiny(f"encoder.checkpoint={path}", "trainer.max_epochs=1"))
    train_run(run)
    (run.folder / "results.json").unlink()  # as if it had been killed
    saved_beats(path, 8)
    with pytest.raises(UserError, match="trained beside another encoder"):
        train_run(run)
    saved_beats(path, 7)
    train_run(run)


def test_resumed_is_uninterrupted(trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from task4_sed.training.system import SedSystem

    class StopError(Exception):
        pass

    step = SedSystem.training_step

    def dying(self: SedSystem, batch: Batch, batch_idx: int) -> Tensor:
        if (self.current_epoch, batch_idx) == (1, 1):
            raise StopError
        return step(self, batch, batch_idx)

    run = replace(trained, folder=tmp_path / "run1")
    with monkeypatch.context() as patched:
        patched.setattr(SedSystem, "training_step", dying)
        with pytest.raises(StopError):
            train_run(run)
    train_run(run)
    states = [torch.load(of.folder / LAST, weights_only=True)["state_dict"] for of in (run, trained)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


def test_in_mixed_precision(tiny: Configure, tmp_path: Path) -> None:
    run = Run(TASK, "tiny", 1, tmp_path, tiny("trainer.precision=bf16-mixed", "trainer.max_epochs=1"))
    train_run(run)
    state = torch.load(run.folder / LAST, weights_only=True)["state_dict"]
    assert all(bool(value.isfinite().all()) for value in state.values())


# --- stored embeddings


@pytest.fixture
def clips(tiny: Configure) -> ClipSet:
    return load_set(tiny().data, "synth_val", "validation")


def test_stored_embeddings_are_the_computed_ones(clips: ClipSet, tmp_path: Path) -> None:
    embedder = Embedder(EncoderConfig("beats-tiny"))
    stored = pickle.loads(pickle.dumps(store(clips, tmp_path, embedder, batch=3)))
    batch = ClipDataset([clips], random_crop=True, stored={clips.name: stored}).__getitems__(
        np.array([[2, 12345], [0, 12345]])
    )
    assert batch.embeddings is not None
    assert batch.embeddings.dtype == torch.float16
    torch.testing.assert_close(batch.embeddings.float(), embedder(batch.waveform), rtol=1e-3, atol=1e-3)


def test_storing_goes_on_where_it_was_killed(clips: ClipSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = Embedder(EncoderConfig("beats-tiny"))
    whole = store(clips, tmp_path, embedder, batch=2).path
    content = whole.read_bytes()
    unfinished = whole.with_suffix(".unfinished")
    asked: list[int] = []
    ask = Embedder.__call__
    monkeypatch.setattr(Embedder, "__call__", lambda self, x: asked.append(len(x)) or ask(self, x))
    a_clip = 2 * 48 * 496
    for kept, computed in (
        (0, 4),
        (50, 4),
        (len(content) - a_clip - 7, 2),
        (len(content) - a_clip, 1),
        (len(content), 0),
    ):
        whole.unlink(missing_ok=True)
        unfinished.write_bytes(content[:kept])
        asked.clear()
        assert store(clips, tmp_path, embedder, batch=1).path.read_bytes() == content
        assert sum(asked) == computed
        assert not unfinished.exists()


def test_other_encoders_and_packs_are_stored_apart(clips: ClipSet, tmp_path: Path) -> None:
    embedders = [Embedder(EncoderConfig("beats-tiny", seed=seed, bands="mean")) for seed in (0, 1)]
    paths = {store(clips, tmp_path, embedder, batch=4).path for embedder in embedders}
    assert len(paths) == 2
    assert all("beats-tiny" in str(path) and clips.name in path.name for path in paths)


def test_training_on_stored_embeddings(trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same losses, to half precision; and the encoder is not asked any more."""
    assert trained.config.encoder is not None
    config = replace(trained.config, encoder=replace(trained.config.encoder, cache=True))
    build(config, 42)
    asked: list[int] = []
    monkeypatch.setattr(Embedder, "__call__", lambda self, x: asked.append(len(x)))
    run = replace(trained, folder=tmp_path / "run1", config=config)
    train_run(run)
    assert not asked
    ours, theirs = (np.genfromtxt(of.folder / "metrics.csv", delimiter=",", names=True) for of in (run, trained))
    np.testing.assert_allclose(ours["trainloss"], theirs["trainloss"], rtol=1e-3)


# --- the recipe, by the verbs


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={json.dumps(value)}"


@pytest.fixture(scope="module")
def shrink(tiny_root: Path) -> list[str]:
    """What makes a toy recipe as small as the tiny one."""
    values = yaml.safe_load(TINY.read_text())
    del values["extends"]
    values["data"]["root"] = str(tiny_root)
    return list(flat(values))


def test_the_toy_recipe_by_the_verbs(
    shrink: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.run.benchmark.TURNS", 1)
    soundfile.write(tmp_path / "one.wav", noise(2).flatten().numpy(), 16000)
    words = ["--recipe", "toy_encoder", "--run-dir", str(tmp_path / "runs"), "--json", *shrink]

    def call(verb: str, *more: str) -> Any:
        assert main(TASK, [verb, *more, *words]) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    assert call("train")["epochs"] == 2
    assert call("predict", "--floors")["clips"]["devtest"] == 6
    found = call("predict", str(tmp_path / "one.wav"), "--out", str(tmp_path / "found"))
    assert set(found["files"]) == {str(tmp_path / "one.wav")}
    assert (tmp_path / "found" / "one.png").is_file()
    with_encoder = call("complexity")
    without = call("complexity", "encoder=null")
    assert with_encoder["parameters"] > without["parameters"] + 50_000
    assert with_encoder["macs"] > without["macs"] + 20_000_000
    rates = call("benchmark", "--seconds", "0.05", "encoder.cache=false")["clips_per_second"]
    assert rates["encoder"] > 0
    assert rates["whole training"] > 0


def test_the_published_recipe(tiny: Configure) -> None:
    config = load_config(Config, TASK.recipes, "baseline_beats")
    assert config.encoder is not None
    assert config.encoder.name == "beats"
    from task4_sed.model.crnn import CRNN

    assert sum(p.numel() for p in CRNN(config.model).parameters()) == 1_785_094


def test_the_baseline_of_2023_on_few_clips(tiny_root: Path, tmp_path: Path) -> None:
    """The recipe's blocks, without MAESTRO, beside an encoder that has lost a layer."""
    blocks = ("data.blocks.synth.batch=2", "data.blocks.weak.batch=1", "data.blocks.unlabeled.batch=1")
    small = ("model.channels=[4, 4]", "model.pooling=[[2, 4], [2, 8]]", "model.rnn_hidden=4", "model.fft=512")
    ends = ("trainer.max_epochs=1", "trainer.accelerator=cpu", "energy.enabled=false", "data.workers=0")
    encoder = "encoder={name: atst-f-tiny, depth: 1, cache: true, checkpoint: null}"
    words = [f"data.root={tiny_root}", *blocks, *small, *ends, encoder, "model.embedding_dim=null"]
    words.append("postprocess.csebbs=default")
    run = replace(open_run(TASK, "pretrain_desed_crnn", words, 1), folder=tmp_path / "run1")
    train_run(run)
    predict_runs([run], None, False)
    (found,) = evaluate_runs([run])
    assert set(found["sets"]) == {"devtest"}
    median = filter_of(run.config)
    assert set(median.values()) == {7}  # type: ignore[union-attr]
    assert filter_of(replace(run.config, postprocess=PostprocessConfig())) == median_frames(list(median))  # type: ignore[arg-type]


def test_fewer_layers_of_an_encoder() -> None:
    whole, cut = Embedder(EncoderConfig("beats-tiny")), Embedder(EncoderConfig("beats-tiny", depth=1))
    blocks = [[name for name in of.encoder.layers() if name.startswith("block")] for of in (whole, cut)]
    assert (blocks[0][:1], len(blocks[0])) == (blocks[1], 2)
    with pytest.raises(UserError, match="depth 3: the model has 1 to 2 layers"):
        Embedder(EncoderConfig("beats-tiny", depth=3))
    with pytest.raises(UserError, match="frame_mn-tiny: a model without the option depth"):
        Embedder(EncoderConfig("frame_mn-tiny", depth=1))


@pytest.mark.slow
def test_two_processes(tiny: Configure, tmp_path: Path) -> None:
    """Data parallel on the CPU, with stored and with computed embeddings."""
    config = tiny()
    for cache in ("true", "false"):
        command = [
            *(sys.executable, "-m", "task4_sed", "train", "--recipe", str(TINY), "--run-dir", str(tmp_path / cache)),
            *(f"data.root={config.data.root}", "trainer.devices=2", "trainer.strategy=ddp", "trainer.max_epochs=2"),
            *("data.blocks.strong.batch=1", f"encoder={{name: beats-tiny, bands: mean, seed: 4, cache: {cache}}}"),
        ]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=TASK.recipes.parent.parent,
                               env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        load_network(tmp_path / cache / "run1" / BEST, "student")
