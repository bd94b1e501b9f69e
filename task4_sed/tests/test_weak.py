"""AudioSet's clip labels: packs, tables, sampling weights, teachers' logits, a training and what begins with it."""

import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from common.audio.audioset import LABELS, read_labels
from common.audio.packs import open_pack
from common.run.config import load_config
from common.run.errors import UserError
from common.run.results import intervals
from common.run.results.store import read_results
from common.run.verbs import Run, open_run
from task4_sed.__main__ import TASK
from task4_sed.config import Config
from task4_sed.data.prepare import prepare
from task4_sed.data.tag_logits import INDEX, read_tag_logits
from task4_sed.data.toy.audioset import TEACHER, UNTAUGHT
from task4_sed.data.weak import SEGMENTS, WeakClips, load_weak, read_segments
from task4_sed.evaluation.runs import main_figure
from task4_sed.evaluation.tagging import evaluate_tags
from task4_sed.inference.runs import predict_runs
from task4_sed.metrics.tagging import average_precisions
from task4_sed.model.framewise import load_framewise
from task4_sed.tests.pretraining import TINY, Configure, prepared
from task4_sed.training.framewise import cross_entropy
from task4_sed.training.tagging import TaggingSystem
from task4_sed.training.train import build_framewise, train_run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("audioset") / "data"
    prepared(root, "toy_pretrain_weak", *TINY)
    return root


@pytest.fixture(scope="module")
def tiny(root: Path) -> Configure:
    def configured(*overrides: str) -> Config:
        words = [*TINY, f"data.root={root}", f"data.pseudo_labels={root / TEACHER}", *overrides]
        return load_config(Config, TASK.recipes, "toy_pretrain_weak", words)

    return configured


def write_packs(root: Path, out: Path) -> None:
    """The same clips as the community packs them."""
    mids = tuple(read_labels(root))
    (out / LABELS).write_bytes((root / LABELS).read_bytes())
    for part, name in (("train", "balanced_train"), ("eval", "eval")):
        clips, bits = read_segments(root, part, mids)  # type: ignore[arg-type]
        with h5py.File(out / f"{name}_segments_mp3.hdf", "w") as file:
            file["audio_name"] = [f"x/{clip}.mp3".encode() for clip in clips]
            sounds = file.create_dataset("mp3", (len(clips),), h5py.vlen_dtype(np.uint8))
            for row, clip in enumerate(clips):
                sounds[row] = np.frombuffer((root / f"audio/{part}/{clip}.wav").read_bytes(), np.uint8)
            file["target"] = bits


def test_labels_of_packs_and_of_tables_are_the_same(root: Path, tmp_path: Path, tiny: Configure) -> None:
    write_packs(root, tmp_path)
    for part in ("train", "eval"):
        tables = load_weak(tiny().data, part)  # type: ignore[arg-type]
        packs = load_weak(tiny(f"data.root={tmp_path}").data, part)  # type: ignore[arg-type]
        assert packs.classes == tables.classes
        row = {name: number for number, name in enumerate(packs.names())}
        same = np.array([row[name] for name in tables.names()])
        np.testing.assert_array_equal(packs.labels(same), tables.labels(np.arange(len(tables))))
        assert packs.labels(np.arange(len(packs))).sum(axis=1).min() > 0
        np.testing.assert_allclose(packs.weights()[same], tables.weights())
        some = np.array([2, 0])
        assert torch.equal(packs.read(same[some], 5000), tables.read(some, 5000))
    batch = WeakClips(tables).__getitems__(np.array([[1, 0], [0, 5]]))
    assert torch.equal(batch.targets[:, :, 0], torch.from_numpy(tables.labels(np.array([1, 0]))).float())


def test_rare_labels_are_drawn_more_often(tiny: Configure) -> None:
    clips = load_weak(tiny().data, "train")
    labels = clips.labels(np.arange(len(clips))).astype(float)
    expected = [sum(1000 / (100 + labels[:, c].sum()) for c in np.flatnonzero(row)) for row in labels]
    np.testing.assert_allclose(clips.weights(), expected)


@pytest.mark.parametrize(
    ("table", "text", "says"),
    [
        (
            SEGMENTS["eval"][0],
            'abcdefghijk, 0, 10, "/m/nothing"\n',
            r"eval_segments\.csv:1: unknown label '/m/nothing'",
        ),
        (SEGMENTS["eval"][0], 2 * 'abcdefghijk, 0, 10, "/m/09x0r"\n', r"csv:2: abcdefghijk stands there twice"),
        (SEGMENTS["eval"][0], "# nothing\n", r"eval_segments\.csv: no packs of mp3 files, and no table"),
    ],
)
def test_wrong_tables_are_named(root: Path, tmp_path: Path, table: str, text: str, says: str) -> None:
    (tmp_path / table).write_text(text)
    with pytest.raises(UserError, match=says):
        read_segments(tmp_path, "eval", tuple(read_labels(root)))


def test_packs_without_labels_are_refused(root: Path, tmp_path: Path, tiny: Configure) -> None:
    write_packs(root, tmp_path)
    with h5py.File(tmp_path / "eval_segments_mp3.hdf", "a") as file:
        del file["target"]
    with pytest.raises(UserError, match=r"eval_segments_mp3\.hdf: no data set 'target', expected uint8 \(6, 2\)"):
        load_weak(tiny(f"data.root={tmp_path}").data, "eval")
    assert len(open_pack(tmp_path / "eval_segments_mp3.hdf", 16000)) == 6


def test_clips_without_a_teacher_have_their_labels_alone(root: Path, tiny: Configure) -> None:
    clips = load_weak(tiny().data, "train")
    teacher = read_tag_logits(root / TEACHER, clips.classes)
    taught = [name.removeprefix("Y") in teacher.position for name in clips.names()]
    assert 0 < taught.count(False) == -(-len(taught) // UNTAUGHT)
    batch = WeakClips(clips, teacher).__getitems__(np.array([[i, 0] for i in range(len(clips))]))
    assert batch.pseudo is not None
    assert batch.pseudo.isfinite().all(dim=1)[:, 0].tolist() == taught
    row = teacher.position[next(name for name, there in zip(clips.names(), taught, strict=True) if there)[1:]]
    expected = torch.from_numpy(np.load(root / TEACHER)[row]).float().sigmoid()
    torch.testing.assert_close(batch.pseudo[taught.index(True), :, 0], expected)
    logits = torch.randn(batch.pseudo.shape, requires_grad=True)
    cross_entropy(logits, batch.pseudo).backward()
    assert logits.grad is not None
    assert (logits.grad.abs().sum(dim=(1, 2)) > 0).tolist() == taught
    known = torch.tensor(taught)
    alone = torch.nn.functional.binary_cross_entropy_with_logits(logits[known], batch.pseudo[known])
    torch.testing.assert_close(cross_entropy(logits, batch.pseudo), alone * known.float().mean())


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("run",))


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ({"a": Evil()}, "print is no array of text or numbers"),
        (["a"], "holds a list, expected a mapping"),
        ({"a": 7}, "'a': 7, expected a clip and its row from 0 to 2"),
        ({3: 1}, "3: 1, expected a clip"),
    ],
)
def test_indices_are_read_without_running_them(
    tmp_path: Path, index: object, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "logits.npy", np.zeros((3, 2), np.float16))
    (tmp_path / INDEX).write_bytes(pickle.dumps(index))
    with pytest.raises(UserError, match=says):
        read_tag_logits(tmp_path / "logits.npy", ("A", "B"))
    assert capsys.readouterr().out == ""


def test_index_of_numpy_numbers(tmp_path: Path) -> None:
    np.save(tmp_path / "logits.npy", np.ones((3, 2), np.float32))
    (tmp_path / INDEX).write_bytes(pickle.dumps({"a": np.int64(2), "b.mp3": 0}))
    assert read_tag_logits(tmp_path / "logits.npy", ("A", "B")).position == {"a": 2, "b": 0}
    with pytest.raises(UserError, match=r"float32 \(3, 2\), expected floats \(clips, 3\)"):
        read_tag_logits(tmp_path / "logits.npy", ("A", "B", "C"))


def test_average_precision_by_hand() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    labels = np.array([[1, 0], [0, 0], [1, 0], [0, 0]])
    found = average_precisions(scores, labels)(np.ones(4))
    assert found[0] == pytest.approx((1 + 2 / 3) / 2)
    assert np.isnan(found[1])


def test_average_precision_of_weighted_clips() -> None:
    random = np.random.default_rng(0)
    scores, labels = random.normal(size=(60, 5)).round(1), random.random((60, 5)) < 0.3
    of_weights = average_precisions(scores, labels)
    for weights in (np.ones(60, np.int64), random.multinomial(60, np.full(60, 1 / 60))):
        expected = average_precision_score(labels, scores, average=None, sample_weight=weights)
        np.testing.assert_allclose(of_weights(weights), expected)


def test_waveforms_are_moved_and_louder(tiny: Configure) -> None:

    config = tiny("augment.roll_samples=4000", "augment.gain_db=7")
    system, _ = build_framewise(config, 1)
    assert isinstance(system, TaggingSystem)
    wave = torch.zeros(16, 16000)
    wave[:, 8000] = 0.1
    heard: list[torch.Tensor] = []
    system.network.encoder.front_end.forward = lambda x, jitter=None: heard.append(x)  # type: ignore
    torch.manual_seed(0)
    system.mel(wave)
    places, peaks = heard[0].argmax(dim=1), heard[0].amax(dim=1)
    assert len(set(places.tolist())) > 8
    assert 4000 <= int(places.min()) < int(places.max()) <= 12000
    decibels = 20 * (peaks / 0.1).log10()
    assert set(decibels.round().int().tolist()) <= set(range(-7, 7))


def test_a_student_begins_with_what_step_two_made(
    root: Path, tiny: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(recipe: str, *more: str) -> Run:
        words = [*TINY, f"data.root={root}", *more]
        return open_run(TASK, recipe, words, 1, tmp_path / recipe)

    run = opened("toy_pretrain_weak", f"data.pseudo_labels={root / TEACHER}")
    train_run(run)
    path = run.folder / "checkpoints" / "last.ckpt"
    network, classes = load_framewise(path)
    assert classes == tuple(read_labels(root).values())
    assert network.encoder.head_kind == "attention"
    (result,) = predict_runs([run], None, False)
    assert result["clips"] == 6
    monkeypatch.setattr(intervals, "MIN_UNITS", 2)
    (evaluated,) = evaluate_tags([run])
    figure = main_figure(run.folder, read_results(run.folder)["test"]["values"])
    assert figure[:3] == ("mAP", "audioset_weak_eval", evaluated["audioset_weak_eval"]["map"])
    assert 0 < figure.low < figure.value < figure.high < 1  # type: ignore[operator]
    begun, _ = load_framewise(train_one_step(opened, path))
    assert begun.encoder.strong_head is not None
    assert begun.encoder.strong_head.out_features == 447
    first, second = (of.encoder.state_dict() for of in (network, begun))
    for name, value in first.items():
        if "head" not in name:
            torch.testing.assert_close(second[name], value)


def train_one_step(opened: Callable[..., Run], path: Path) -> Path:
    """A teacher at rate 0, so that its encoder stays what it began with."""
    still = [f"encoder.checkpoint={path}", "optimizer.lr=0", "optimizer.encoder_lr=0", "encoder.train=false"]
    run = opened("toy_pretrain_teacher", *still)
    prepare(run.config, workers=1)
    train_run(run)
    return run.folder / "checkpoints" / "last.ckpt"
