"""The second system: back ends, embeddings that are kept, fine-tuning, and the first-shot editions through it."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from common.audio.packing import write_pack
from common.audio.packs import open_pack
from common.audio.recordings import Recordings
from common.encoders import create
from common.run.config import load_config
from common.run.errors import UserError
from common.run.verbs import Run
from task2_anomaly.__main__ import TASK
from task2_anomaly.config import Config, EmbeddingConfig
from task2_anomaly.data.classes import Machine
from task2_anomaly.data.embeddings import embeddings_of
from task2_anomaly.data.prepare import prepare
from task2_anomaly.data.sets import held_out_rows, machines_of, pack_of, training_pack
from task2_anomaly.data.toy.first_shot import write_first_shot_toy
from task2_anomaly.evaluation import first_shot
from task2_anomaly.evaluation.report import evaluate_run
from task2_anomaly.evaluation.truth import read_truth_first_shot
from task2_anomaly.inference.predict import export_machine, judge, predict_files, predict_run, verdicts_of
from task2_anomaly.inference.scorers import EmbeddingScorer
from task2_anomaly.model import backends
from task2_anomaly.model.embedder import Embedder, new_encoder, pooled
from task2_anomaly.training.embedding import ClipData, learn_normal
from task2_anomaly.training.system import Finetuning
from task2_anomaly.training.train import train_run

FAN = Machine("fan", 0, section=True)
Open = Callable[..., Run]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny first-shot data set with its packs; read only."""
    root = tmp_path_factory.mktemp("firstshot") / "data"
    write_first_shot_toy(root, size="tiny")
    prepare(configured(root), workers=1)
    return root


def configured(root: Path, *overrides: str) -> Config:
    settings = ["data.toy=tiny", "data.edition=2024", "trainer.accelerator=cpu", "energy.enabled=false"]
    settings += ["data.batch=8", "trainer.max_epochs=2", "scoring.held_out=0.3", "optimizer.lr=1e-3"]
    return load_config(Config, TASK.recipes, "toy_embedding", [f"data.root={root}", *settings, *overrides])


@pytest.fixture
def opened(root: Path, tmp_path: Path) -> Open:
    """A run of the recipe with overrides, in a folder of its own or a named one."""
    return lambda *overrides, name="run": Run(TASK, "toy_embedding", 1, tmp_path / name, configured(root, *overrides))


# ----------------------------------------------------------------------------------------------------------- back ends


@pytest.fixture
def cloud() -> np.ndarray:
    """(60, 4): around the first axis."""
    return np.random.default_rng(0).normal([1, 0, 0, 0], 0.1, (60, 4))


NONE = np.zeros(60, bool)


@pytest.mark.parametrize("backend", backends.BACKENDS)
def test_what_is_far_from_normal_scores_higher(backend: str, cloud: np.ndarray) -> None:
    distance = backends.fit(EmbeddingConfig(backend=backend), cloud, NONE, seed=0)  # type: ignore[arg-type]
    near, far, farther = distance(np.array([[1.0, 0, 0, 0], [1, 0.6, 0, 0], [0, 1, 0, 0]]))
    assert near < far < farther
    assert np.array_equal(distance(cloud), backends.fit(EmbeddingConfig(backend=backend), cloud, NONE, 0)(cloud))  # type: ignore[arg-type]


def test_nearest_neighbours_by_hand() -> None:
    normal = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    query = np.array([[0.0, 5.0], [-1.0, 0.0]])
    one, two = (backends.fit(EmbeddingConfig(neighbours=k), normal, np.zeros(3, bool), seed=0)(query) for k in (1, 2))
    half = 1 - np.sqrt(0.5)
    np.testing.assert_allclose(one, [0.0, 1.0], atol=1e-12)
    np.testing.assert_allclose(two, [half / 2, (1 + 1 + np.sqrt(0.5)) / 2], atol=1e-12)


def test_the_nearer_of_two_domains_counts(cloud: np.ndarray) -> None:
    both = np.concatenate((cloud, cloud[:5] @ np.eye(4)[[1, 0, 2, 3]]))
    target = np.arange(65) >= 60
    of = EmbeddingConfig(backend="mahalanobis")
    distance = backends.fit(of, both, target, seed=0)
    source, few = (backends.fit(of, both[chosen], np.zeros(chosen.sum(), bool), 0) for chosen in (~target, target))
    query = np.random.default_rng(1).normal(0, 1, (20, 4))
    np.testing.assert_allclose(distance(query), np.minimum(source(query), few(query)))
    assert (source(query) != few(query)).any()


def test_oversampling_stays_between_neighbours() -> None:
    points = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [50.0, 50.0]])
    more = backends.smote(points, 40, seed=0)
    assert more.shape == (40, 2)
    assert np.array_equal(more[:4], points)
    assert len(np.unique(more, axis=0)) == 40
    assert (more >= 0).all()
    assert (more <= 50).all()
    near = more[4:][(more[4:] <= 1).all(axis=1)]
    assert len(near) > 10
    assert (near.sum(axis=1) <= 1 + 1e-9).all()  # within the triangle of the first three
    assert np.array_equal(backends.smote(points, 3, seed=0), points)
    assert np.array_equal(backends.smote(points[:1], 9, seed=0), points[:1])


def test_one_clip_is_not_enough() -> None:
    with pytest.raises(UserError, match=r"1 normal training clips, at least 2 are needed for embedding.backend=knn"):
        backends.fit(EmbeddingConfig(), np.ones((1, 4)), np.zeros(1, bool), seed=0)


# ---------------------------------------------------------------------------------------------------------- embeddings


@torch.inference_mode()
def test_pooling() -> None:
    encoder = create("beats-tiny", num_classes=None)
    waveform = torch.randn(2, 16000)
    frames = encoder(waveform).frames
    mean, both = (pooled(encoder, waveform, pooling) for pooling in ("mean", "mean_std"))
    torch.testing.assert_close(mean, frames.mean(dim=1))
    torch.testing.assert_close(both, torch.cat((frames.mean(dim=1), frames.std(dim=1, correction=0)), dim=1))


def test_encoders_of_other_rates_hear_the_same_time() -> None:
    """A model at 32 kHz gets twice the samples."""
    encoder = create("mn04", num_classes=None)
    assert encoder.sample_rate == 32000
    with torch.inference_mode():
        got = pooled(encoder, torch.randn(1, 16000), "mean")
    assert got.shape == (1, encoder.embedding_dim)


def test_embeddings_are_kept_until_the_pack_or_the_encoder_changes(
    opened: Open, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = opened()
    first = embeddings_of(run, Embedder(run), "dev_train", FAN)
    assert first.shape[0] == len(open_pack(training_pack(run.config.data, FAN)))
    again = Embedder(run)
    monkeypatch.setattr(again, "vectors", lambda waveform: pytest.fail("computed again"))
    np.testing.assert_array_equal(embeddings_of(run, again, "dev_train", FAN), first)
    for other in ("seed=5", "embedding.pooling=mean"):
        own = opened(other)
        changed = embeddings_of(own, Embedder(own), "dev_train", FAN)
        assert changed.shape != first.shape or not np.allclose(changed, first)
    record = training_pack(run.config.data, FAN) / "pack.json"
    content = record.read_text()
    record.write_text(content + "\n")  # another pack
    with pytest.raises(pytest.fail.Exception, match="computed again"):
        embeddings_of(run, again, "dev_train", FAN)
    record.write_text(content)


def test_clips_of_different_lengths_keep_their_places(opened: Open, root: Path, tmp_path: Path) -> None:
    """Lengths are computed together, one by one it is the same."""
    files = sorted((root / "dev_data" / "fan" / "test").glob("*.wav"))[:5]
    run = opened(f"data.packs={tmp_path}", "data.eval_batch=2")
    for number, path in enumerate(files):
        sound, rate = soundfile.read(path)
        soundfile.write(tmp_path / path.name, sound[: len(sound) - 2000 * (number % 3)], rate)
    write_pack(pack_of(run.config.data, "dev_test", FAN), [(p.name, tmp_path / p.name) for p in files], 16000)
    embedder = Embedder(run)
    found = embeddings_of(run, embedder, "dev_test", FAN)
    pack = open_pack(pack_of(run.config.data, "dev_test", FAN))
    for i in range(len(files)):
        np.testing.assert_allclose(found[i], embedder.vectors(pack.read(i)[None])[0], atol=1e-5)


def test_the_threshold_comes_from_clips_that_the_back_end_has_not_seen(opened: Open) -> None:
    run = opened("scoring.held_out=0.3")
    embedder = Embedder(run)
    learn_normal(run, embedder, FAN)
    normal = EmbeddingScorer(run, FAN, embedder).held_out()
    names = list(open_pack(training_pack(run.config.data, FAN)).names)
    assert list(normal) == [names[i] for i in held_out_rows(len(names), 0.3)]
    assert min(normal.values()) > 1e-6  # a clip that was fitted on is at no distance


def test_nothing_held_out_is_refused(root: Path) -> None:
    with pytest.raises(UserError, match=r"scoring.held_out=0.*: is 0, but a clip's distance to itself"):
        configured(root, "scoring.held_out=0")


# ------------------------------------------------------------------------------------------------- the whole system


def test_first_shot_scores_have_the_challenges_names_and_can_be_evaluated(opened: Open, root: Path) -> None:
    run = opened("embedding.smote=0.5")
    train_run(run, jobs=1, restart=False)
    predict_run(run)
    names = {path.name for path in (run.folder / "scores" / "eval_test").glob("*.csv")}
    machines = ("HoveringDrone", "RoboticArm")
    kinds = ("anomaly_score", "decision_result")
    assert names == {f"{kind}_{machine}_section_00_test.csv" for kind in kinds for machine in machines}
    result = first_shot.evaluate(run.folder / "scores" / "eval_test", read_truth_first_shot(root))
    recorded = evaluate_run(run, plots=False)["parts"]["eval_test"]["figures"]
    assert result.score == pytest.approx(recorded["official_score"], abs=1e-12)
    assert 0 <= result.score <= 1
    judged = predict_files(run, sorted((root / "dev_data" / "fan" / "test").glob("*.wav"))[:2], str(FAN))
    stored = (run.folder / "scores" / "dev_test" / f"anomaly_score_{FAN}_test.csv").read_text().splitlines()[:2]
    for (name, entry), line in zip(judged["files"].items(), stored, strict=True):
        assert name.endswith(line.split(",")[0])
        assert entry["score"] == pytest.approx(float(line.split(",")[1]), abs=1e-5)
    with pytest.raises(UserError, match=r"no machine 'fan_id_00' here"):
        predict_files(run, [root], "fan_id_00")


def test_a_run_with_other_settings_is_not_overwritten(opened: Open) -> None:
    train_run(opened(), jobs=1, restart=False)
    with pytest.raises(UserError, match=r"holds a run with other settings: embedding.backend: knn there, gmm now"):
        train_run(opened("embedding.backend=gmm"), jobs=1, restart=False)


def test_fine_tuning_tells_machines_and_attributes_apart(opened: Open) -> None:
    run = opened("embedding.finetune=true", "trainer.max_epochs=8", "embedding.mixup_probability=0")
    data = ClipData(run.config, run.seed)
    assert {machine for machine, _ in data.classes} == {str(m) for m in machines_of(run.config.data)}
    assert len(data.classes) > len({machine for machine, _ in data.classes})  # attributes too
    held = sum(len(held_out_rows(len(pack), 0.3)) for pack in data.pieces.packs)
    assert len(data.pieces.labels) == sum(map(len, data.pieces.packs)) - held

    with pytest.raises(UserError, match="no finished training; `train` makes one"):
        predict_run(run)
    train_run(run, jobs=1, restart=False)
    with (run.folder / "metrics.csv").open() as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file)]
    assert len(losses) == 8
    assert losses[-1] < 0.8 * losses[0]
    untrained = new_encoder(run.config, run.seed).state_dict()
    tuned = Embedder(run).encoder.state_dict()
    assert any((tuned[name] - untrained[name]).abs().max() > 1e-3 for name in tuned)
    predict_run(run)


def test_an_interrupted_fine_tuning_goes_on_to_the_same_encoder(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, stopped = (opened("embedding.finetune=true", name=name) for name in ("whole", "stopped"))
    train_run(whole, jobs=1, restart=False)

    def stop(system: Finetuning) -> None:
        if system.current_epoch == 1:
            raise RuntimeError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr(Finetuning, "on_train_epoch_start", stop)
        with pytest.raises(RuntimeError, match="power cut"):
            train_run(stopped, jobs=1, restart=False)
    train_run(stopped, jobs=1, restart=False)
    expected, found = (Embedder(run).encoder.state_dict() for run in (whole, stopped))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("finetune", [False, True])
def test_an_exported_back_end_judges_as_its_run(finetune: bool, opened: Open, tmp_path: Path) -> None:
    run = opened(
        f"embedding.finetune={str(finetune).lower()}", "data.machines=[fan_section_00]", "embedding.backend=gmm"
    )
    train_run(run, jobs=1, restart=False)
    wav = tmp_path / "x.wav"
    soundfile.write(wav, np.random.default_rng(0).normal(0, 0.1, 40_000), 16_000)
    export_machine(run, "fan_section_00", tmp_path / "out", None, None, False)
    expected = verdicts_of(run, FAN, Recordings([wav]))[0]
    assert judge(wav, tmp_path / "out", None) == {
        "score": pytest.approx(expected.score, abs=1e-12),
        "threshold": expected.limit,
        "anomalous": expected.anomalous,
    }
    assert len(list((tmp_path / "out").iterdir())) == 3
