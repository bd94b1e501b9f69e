"""Systems of several networks: logits of training clips, their mean, ensembles as runs, what they cost."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from common.run.errors import UserError
from common.run.results.store import read_results, record
from common.run.verbs import Run, main, open_run
from task4_sed.__main__ import TASK
from task4_sed.config import Config, ModelConfig
from task4_sed.data.classes import CLASSES
from task4_sed.data.pseudo import StoredLogits, average, new_logits
from task4_sed.data.sets import load_set
from task4_sed.inference import predict
from task4_sed.inference.checkpoints import Loaded
from task4_sed.inference.ensemble import steps, training_kwh
from task4_sed.inference.predict import Predictor, predict_logits
from task4_sed.inference.scores import read_logits
from task4_sed.model.crnn import CRNN

Predicted = Callable[..., Run]
SMALL = ModelConfig(
    num_mels=16, fft=512, channels=(4, 4), pooling=((2, 4), (2, 4)), rnn_hidden=4, rnn_layers=1, embedding_dim=None
)  # fmt: skip
NAMES = ("a", "b", "c", "d")
WIDE = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)


def stored(path: Path, logits: np.ndarray, names: Sequence[str] = NAMES, **options: object) -> Path:
    with new_logits(path, names, logits.shape[1], ("Cat", "Dog", "Speech"), np.float32, **options) as append:
        append(logits)
    return path


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(TASK, list(words)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


# --- means of files


def test_the_mean_matches_clips_by_name(tmp_path: Path) -> None:
    files = [stored(tmp_path / "a.h5", WIDE[0]), stored(tmp_path / "b.h5", WIDE[1][::-1], NAMES[::-1])]
    assert average(files, tmp_path / "out.h5", np.float16, ["here"]) == 4
    found = StoredLogits.open(tmp_path / "out.h5")
    assert (found.strong.dtype, list(found.position), found.runs) == (np.float16, list(NAMES), ("here",))
    np.testing.assert_allclose(found.strong, WIDE.mean(axis=0), atol=2e-3)
    assert isinstance(found.strong, np.memmap)


def test_many_clips_go_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("task4_sed.data.pseudo.CLIPS_AT_ONCE", 3)
    files = [stored(tmp_path / f"{i}.h5", WIDE[i]) for i in (0, 1)]
    average(files, tmp_path / "out.h5", np.float32)
    np.testing.assert_allclose(StoredLogits.open(tmp_path / "out.h5").strong, WIDE.mean(axis=0), rtol=1e-6)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-150])


def change(key: str, value: object) -> Callable[[Path], None]:
    def mutate(path: Path) -> None:
        with h5py.File(path, "a") as file:
            del file[key]
            file[key] = value

    return mutate


HOLE = WIDE[1].copy()
HOLE[1, 2, 0] = np.nan


@pytest.mark.parametrize(
    ("mutate", "says"),
    [
        (cut, "not a readable HDF5 file, or cut off"),
        (change("strong_logits", HOLE), "strong_logits of 'b' has NaN or infinity"),
        (change("classes", ["Cat", "Gong", "Speech"]), "class 2 is 'Gong', expected 'Dog'"),
        (change("filenames", ["a", "b", "c", "e"]), "a.h5, 'd' is only in"),
        (change("strong_logits", WIDE[1][:, :5]), "5 frames a clip, expected 6 as in"),
        (change("durations", [10.0, 10.0, 9.0, 10.0]), "c has another duration in"),
        (change("durations", [10.0]), "durations has 1 clips, but filenames 4"),
    ],
)
def test_files_that_do_not_belong_together(tmp_path: Path, mutate: Callable[[Path], None], says: str) -> None:
    files = [stored(tmp_path / f"{name}.h5", WIDE[i], durations=np.full(4, 10.0)) for i, name in enumerate("ab")]
    mutate(files[1])
    with pytest.raises(UserError) as told:
        average(files, tmp_path / "out.h5", np.float16)
    assert says in str(told.value)
    assert str(files[1]) in str(told.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.h5"]


# --- logits of training clips


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Predictor:
    torch.manual_seed(0)
    predictor = Predictor(Loaded(CRNN(SMALL).eval(), CLASSES), device="cpu", batch=4)
    monkeypatch.setattr(predict, "open_predictor", lambda run, checkpoint: (predictor, Path("best.ckpt")))
    return predictor


def test_logits_of_training_clips(tiny: Callable[..., Config], network: Predictor, tmp_path: Path) -> None:
    config = tiny("data.eval_batch=3")
    run = Run(TASK, "tiny", 1, tmp_path / "run1", config)
    # A set that is named twice stands for a clip that lies in two sets.
    result = predict_logits(run, None, ["weak", "maestro_train", "weak"])
    found = StoredLogits.open(run.folder / "logits.h5", CLASSES)
    assert (found.strong.dtype, found.runs) == (np.float16, (str(run.folder),))
    for name in ("weak", "maestro_train"):
        clips = load_set(config.data, name, "train")
        rows = found.rows(clips.clips)
        waveform = clips.pack.read_many(clips.rows[:2], np.zeros(2, np.int64), 160_000)
        expected = network.logits(torch.from_numpy(waveform)).numpy()
        np.testing.assert_allclose(found.strong[rows[:2]], expected, atol=2e-3)
    assert (
        result["clips"]
        == len(found.position)
        == sum(len(load_set(config.data, name, "train").clips) for name in ("weak", "maestro_train"))
    )
    assert read_results(run.folder)["logits"]["values"]["file"] == str(run.folder / "logits.h5")
    with pytest.raises(UserError, match="devtest has no training clips"):
        predict_logits(run, None, ["devtest"])


def test_pseudo_labels_are_the_mean_of_runs(predicted: Predicted, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [predicted(f"{name}.yaml", 1, 1.0).folder for name in ("one", "two")]
    said = refused(capsys, "pseudo_labels", "one.yaml", "two.yaml", "--out", "mean.h5")
    assert said.endswith("run1/logits.h5: logits of training clips (`predict --logits` makes them) not found")
    for folder, logits in zip(folders, WIDE, strict=True):
        stored(folder / "logits.h5", logits, runs=[str(folder)])
    assert main(TASK, ["pseudo_labels", "one.yaml", str(folders[1]), "--out", "new/mean.h5"]) == 0
    found = StoredLogits.open("new/mean.h5")
    np.testing.assert_allclose(found.strong, WIDE.mean(axis=0), atol=2e-3)
    assert found.runs == tuple(map(str, folders))
    assert main(TASK, ["pseudo_labels", "new/mean.h5", "one.yaml", "--out", "again.h5"]) == 0
    assert StoredLogits.open("again.h5").runs == tuple(map(str, folders))
    assert "a run is named twice" in refused(capsys, "pseudo_labels", "one.yaml", "one.yaml", "--out", "x.h5")
    assert "no recipe" in refused(capsys, "pseudo_labels", "--out", "x.h5")
    assert "--recipe one.yaml" in refused(capsys, "pseudo_labels", "one.yaml", "--runs", "2", "--out", "x.h5")
    assert not Path("x.h5").exists()


def test_sets_that_cannot_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'weak'" in refused(capsys, "predict", "--logits", "--sets", "week")
    assert "--sets goes with --logits" in refused(capsys, "predict", "--sets", "weak")
    assert "--logits without files" in refused(capsys, "predict", "--logits", "a.wav")


# --- an ensemble as a run


@pytest.fixture
def ensemble(predicted: Predicted, tiny_root: Path) -> Callable[..., tuple[Run, list[str]]]:
    """Run 1 of one.yaml and two.yaml, joined and evaluated in runs/both; the words of the command."""

    def joined(*settings: str) -> tuple[Run, list[str]]:
        first, _ = predicted("one.yaml", 1, 1.0, *settings), predicted("two.yaml", 1, 1.5, *settings)
        where = ["--recipe", "one.yaml", "--run-dir", "runs/both", f"data.root={tiny_root}", *settings]
        assert main(TASK, ["evaluate", "--no-plots", "--ensemble", "one.yaml", "two.yaml", *where]) == 0
        return first, where

    return joined


def test_an_ensemble_is_a_run(
    ensemble: Callable[..., tuple[Run, list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    first, where = ensemble()
    folder = Path("runs/both/run1")
    members = [first.folder, first.folder.parents[1] / "two" / "run1"]
    for path in sorted((folder / "scores").glob("*.h5")):
        parts = [read_logits(member / "scores" / path.name) for member in members]
        found = read_logits(path)
        assert found.names == parts[0].names
        np.testing.assert_allclose(found.logits, np.mean([part.logits for part in parts], axis=0), rtol=1e-5)
    results = read_results(folder)
    assert results["train"]["values"] == {"members": list(map(str, members)), "data": "toy", "kwh": 2.0}
    assert results["predict"]["values"]["kwh"] == 0.5
    assert results["test"]["values"]["sets"]["devtest"]["csebbs"]["classes"]["psds1_single_class"]
    capsys.readouterr()
    assert main(TASK, ["compare", "--json", *where]) == 0
    shown, _, last = capsys.readouterr().out.rpartition("\n{")
    assert "both (own, 1 training)" in shown
    assert json.loads("{" + last)["devtest/kwh_train"]["value"] == 2.0
    assert main(TASK, ["evaluate", "--no-plots", "--recipe", "one.yaml", *where[-1:]]) == 0
    assert main(TASK, ["compare", "--runs-of", "one.yaml", "runs/both"]) == 0
    assert main(TASK, ["runs", "--run-dir", "runs/both"]) == 0
    assert "evaluated" in capsys.readouterr().out


def test_what_cannot_be_joined(
    predicted: Predicted, tiny_root: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    one = predicted("one.yaml", 1, 1.0)
    words = ["evaluate", "--no-plots", f"data.root={tiny_root}", "--recipe", "one.yaml", "--run-dir", "runs/both"]
    said = refused(capsys, *words, "--ensemble", "one.yaml", "two.yaml")
    assert said.endswith("no trained run there; first: python -m task4_sed train --recipe two.yaml --runs 1")
    two = predicted("two.yaml", 1, 1.0)
    assert "named twice" in refused(capsys, *words, "--ensemble", "one.yaml", str(one.folder))
    assert "holds a run" in refused(capsys, *words[:-2], "--ensemble", "one.yaml", "two.yaml")
    record(two.folder, "predict", {"network": "teacher"})
    assert "those of the teacher" in refused(capsys, *words, "--ensemble", "one.yaml", "two.yaml")
    record(two.folder, "predict", {"network": "student"})
    (two.folder / "scores" / "synth_val.h5").unlink()
    assert "scores (`predict` makes them) not found" in refused(capsys, *words, "--ensemble", "one.yaml", "two.yaml")
    assert not Path("runs/both/run1/scores").exists()
    assert "goes without --scores" in refused(capsys, "evaluate", "--scores", "a.h5", "--ensemble", "one.yaml")


def test_energy_of_all_steps_counts_each_once(predicted: Predicted, capsys: pytest.CaptureFixture[str]) -> None:
    """Two networks that began with one, whose pseudo labels came of a fourth; of a published one nothing is known."""
    fourth = predicted("two.yaml", 2, 1.0)
    record(fourth.folder, "logits", {"kwh": 0.5})
    stored(Path("pseudo.h5"), WIDE[0], runs=[str(fourth.folder)])
    stage = ("loss.kind=stage1", "data.pseudo_labels=pseudo.h5", "data.exclude_overlapping=true")
    first = predicted("one.yaml", 1, 1.0, *stage)
    begun = [first.folder.parents[1] / name / "run1" for name in ("a", "b")]
    for folder in begun:
        folder.mkdir(parents=True)
        text = (first.folder / "config.yaml").read_text().replace("start: null", f"start: {first.folder.parent.name}")
        (folder / "config.yaml").write_text(text.replace("pseudo_labels: pseudo.h5", "pseudo_labels: null"))
        record(folder, "train", {"kwh": 10.0})
    assert steps(begun) == [fourth.folder, first.folder, *begun]
    assert training_kwh(*begun) == 1.0 + 0.5 + 1.0 + 20.0
    config = begun[0] / "config.yaml"
    config.write_text(config.read_text().replace("start: one", "start: far/checkpoints/best.ckpt"))
    assert training_kwh(begun[0]) == 10.0
    assert "far/checkpoints/best.ckpt: no run, the energy that it took is not known" in capsys.readouterr().out


# --- boxes that were tuned on the test set


def test_boxes_tuned_on_the_test_set_are_called_so(
    ensemble: Callable[..., tuple[Run, list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    tuned = ("postprocess.csebbs=tune:default", "postprocess.tune_on=[devtest]")
    _, where = ensemble(*tuned)
    shown = capsys.readouterr().out
    assert "csebbs tuned on the test set" in shown
    assert "csebbs tuned there, 5-fold cross-validated" in shown
    values = read_results("runs/both/run1")["test"]["values"]
    strong = values["sets"]["devtest"]
    assert "csebbs" not in strong
    assert 0 <= strong["csebbs_cross_validated"]["psds1"] <= 1
    assert "psds1_csebbs_tuned_on_test" in values["intervals"]
    assert main(TASK, ["compare", "--json", *where]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["devtest/psds1_csebbs_tuned_on_test"]["value"] == strong["csebbs_tuned_on_test"]["psds1"]
    assert "devtest/psds1_csebbs" not in found
    one = open_run(TASK, "one.yaml", [word for word in where if "=" in word])
    assert main(TASK, ["evaluate", "--no-plots", "--recipe", "one.yaml", where[4], *tuned]) == 0
    assert main(TASK, ["compare", "--json", "--runs-of", str(one.folder), "runs/both"]) == 0
    named = [of["metric"] for of in json.loads(capsys.readouterr().out.splitlines()[-1])["differences"]]
    assert "PSDS1 cSEBBs tuned on the test set" in named
