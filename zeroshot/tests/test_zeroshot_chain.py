"""From the data set to the comparison on the tiny set; what of it can go wrong."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import zeroshot
from common.audio.reading import write_wav
from common.run.errors import UserError
from common.run.files import read_json
from common.run.results.store import read_results
from common.run.verbs import main
from zeroshot.__main__ import TASK
from zeroshot.data.texts import texts_of_names
from zeroshot.evaluation.evaluate import figures, read_truth
from zeroshot.inference.predict import EmbeddedPredictor, oracle, ranking
from zeroshot.inference.scores import Scores, read_scores, write_scores
from zeroshot.metrics import classification

RECIPE = str(Path(__file__).with_name("tiny.yaml"))


def call(verb: str, folder: Path, root: Path, *words: str) -> int:
    return main(TASK, [verb, "--recipe", RECIPE, "--run-dir", str(folder / "runs"), f"data.root={root}", *words])


def chain(
    folder: Path, root: Path, *words: str, verbs: Sequence[str] = ("train", "predict", "evaluate", "compare")
) -> Path:
    for verb in verbs:
        assert call(verb, folder, root, *words, *(["--no-plots"] if verb == "evaluate" else [])) == 0, verb
    return folder / "runs" / "run1"


@pytest.fixture(scope="module")
def done(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(folder of a trained and evaluated run, root of its data)."""
    folder = tmp_path_factory.mktemp("chain")
    words = ("data.generalised_folds=[5]",)
    return chain(folder, tiny_root, *words), tiny_root


def values(folder: Path, section: str) -> dict[str, Any]:
    found: dict[str, Any] = read_results(folder)[section]["values"]
    return found


def test_chain_leaves_scores_figures_and_comparison(done: tuple[Path, Path]) -> None:
    run, _ = done
    test = values(run, "test")
    assert set(test["splits"]) == {"near", "far"}
    assert test["value"] == pytest.approx(np.mean(list(test["splits"].values())))
    assert test["claim"] == "zero-shot"
    assert test["toy"] is True
    for split in test["splits"]:
        of = values(run / split, "test")
        assert set(of["controls"]) == {"random", "shuffled", "oracle"}
        assert set(of["generalised"]) == {"plain", "stacked"}
        assert len(of["distances"]["semantic"]) == len(of["classes"])
    text = (run.parent / "comparison.csv").read_text()
    assert "zero-shot" in text
    assert "toy data, not comparable" in text


def test_a_test_class_never_trains(done: tuple[Path, Path]) -> None:
    run, _ = done
    for split in ("near", "far"):
        classes = read_json(run / split / "classes.json")
        roles = [set(classes[role]) for role in ("train", "val", "test")]
        assert sum(map(len, roles)) == len(set.union(*roles))
        assert set(read_scores(run / split / "predictions" / "test.csv").classes) == roles[2]


def test_stored_scores_give_the_same_figures_to_anybody(done: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = done
    folder = run / "near" / "predictions"
    words = ["--scores", str(folder / "test.csv"), "--ground-truth", str(folder / "truth.csv"), "--out", str(tmp_path)]
    assert call("evaluate", tmp_path, root, *words) == 0
    (found,) = read_json(tmp_path / "results.json").values()
    assert found["accuracy"] == pytest.approx(values(run / "near", "test")["accuracy"])
    assert (tmp_path / "scores.png").is_file()


def test_distance(done: tuple[Path, Path]) -> None:
    run, root = done
    words = ["--run-dir", str(run.parent), "--recipe", RECIPE, f"data.root={root}"]
    assert main(TASK, ["distance", *words]) == 0
    assert (run.parent / "distance.png").is_file()
    lines = (run.parent / "distance.csv").read_text().splitlines()
    assert len(lines) == 1 + sum(len(values(run / split, "test")["classes"]) for split in ("near", "far"))


def test_finished_training_is_not_repeated_and_other_settings_are_refused(
    done: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run, root = done
    before = (run / "near" / "results.json").stat().st_mtime_ns
    folder = run.parents[1]
    assert call("train", folder, root, "data.generalised_folds=[5]") == 0
    assert (run / "near" / "results.json").stat().st_mtime_ns == before
    assert call("train", folder, root, "data.generalised_folds=[5]", "optimizer.lr=0.5") == 1
    assert "other settings" in capsys.readouterr().err


def test_a_trained_split_judges_any_file(done: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = done
    write_wav(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(30_000), 16_000)
    names = values(run / "near", "test")["classes"]
    checkpoint = run / "near" / "checkpoints" / "best.ckpt"
    found = zeroshot.classify(tmp_path / "a.wav", classes=list(names), checkpoint=checkpoint)
    assert set(found) == set(names)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    words = ["--classes", ", ".join(names), "--split", "near", "--out", str(tmp_path / "out")]
    assert call("predict", run.parents[1], root, str(tmp_path / "a.wav"), *words, "data.generalised_folds=[5]") == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.tsv", "a.json", "a.png"}
    head, line = (row.split("\t") for row in (tmp_path / "out" / "a.tsv").read_text().splitlines()[:2])
    assert head == ["filename", "class", "score"]
    assert line[:2] == ["a.wav", next(iter(found))]
    assert float(line[2]) == pytest.approx(next(iter(found.values())), rel=1e-4)
    about = read_json(tmp_path / "out" / "a.json")
    assert about["duration"] == pytest.approx(30_000 / 16_000)
    assert about["scores"] == pytest.approx(found)
    assert "trained on toy sounds" in about["note"]


@pytest.mark.parametrize(
    "words",
    [
        ("model.compatibility=eszsl", "checkpoint=last"),
        ("model.compatibility=eszsl", "model.choose_left_out=2", "checkpoint=last"),
        ("encoder.name=cp-resnet-tiny", "encoder.finetune=true", "data.sample_rate=16000", "trainer.max_epochs=1"),
        (
            *("encoder.name=cp-resnet-tiny", "encoder.finetune=true", "data.sample_rate=16000", "checkpoint=last"),
            *("model.compatibility=eszsl", "augment.mixup_alpha=0.3", "trainer.max_epochs=1", "augment.time_mask=5"),
        ),
        ("model.compatibility=factored", "loss=warp", "augment.mixup_alpha=0.3"),
        ("loss=bce", "model.compatibility=bilinear"),
    ],
    ids=["closed", "chosen", "trained encoder", "trained encoder, closed", "factored, warp", "bilinear, bce"],
)
def test_every_way_to_train(words: tuple[str, ...], tiny_root: Path, tmp_path: Path) -> None:
    words = (*words, "split.files=[near.csv]")
    if any("16000" in word for word in words):
        words = (*words, f"data.packs={tmp_path / 'packs'}")
        assert call("prepare", tmp_path, tiny_root, *words) == 0
    run = chain(tmp_path, tiny_root, *words, verbs=("train", "predict"))
    scores = read_scores(run / "near" / "predictions" / "test.csv")
    assert np.isfinite(scores.values).all()
    assert scores.values.std() > 0


def test_oracle_leaves_the_own_source_out() -> None:
    class Clips:
        labels = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], bool)
        sources = np.array(["a", "a", "b", "c"])

    audio = np.array([[1.0, 0], [1, 0], [0, 1], [0.6, 0.8]])
    found = oracle(audio, Clips())  # type: ignore[arg-type]
    assert found[0, 0] == 0  # nothing of its class is left
    assert found[2, 1] == pytest.approx(0.8)
    assert found[3, 1] == pytest.approx(0.8)


def test_nothing_trained_knows_a_dog_from_rain(shared: Path, yamnet_is_there: None) -> None:
    """Real recordings by the encoders that the environment carries."""
    folder = shared / "data" / "esc10"
    from common.run.files import read_rows

    rows = read_rows(folder / "meta.csv", ("filename", "category"))
    chosen = [row for name in ("dog", "rain") for row in [r for r in rows if r["category"] == name][:4]]
    predictor = EmbeddedPredictor(texts_of_names("a dog barks, rain"), TASK.config().texts)
    found = [next(iter(ranking(predictor, folder / "audio" / row["filename"]))) for row in chosen]
    right = sum(("dog" in best) == (row["category"] == "dog") for best, row in zip(found, chosen, strict=True))
    assert right >= 7
    assert "transfer" in predictor.note


@pytest.fixture
def yamnet_is_there() -> None:
    from common import encoders
    from common.encoders import text

    try:
        encoders.create("yamnet")
        text.create("all-MiniLM-L6-v2")
    except UserError as error:
        pytest.skip(str(error))


# ---------------------------------------------------------------- files of scores and truths


def scores_of(path: Path, rows: Sequence[str]) -> Path:
    path.write_text("\n".join(["clip,class,score", *rows]) + "\n")
    return path


def test_scores_come_back(tmp_path: Path) -> None:
    scores = Scores(("a", "b, c"), ("x", "y"), np.array([[0.25, -1.0], [3.0, 1e-7]]))
    write_scores(tmp_path / "s.csv", scores)
    found = read_scores(tmp_path / "s.csv")
    assert (found.clips, found.classes) == (scores.clips, scores.classes)
    assert np.allclose(found.values, scores.values)
    with pytest.raises(UserError, match="not finite"):
        write_scores(tmp_path / "s.csv", Scores(("a",), ("x",), np.array([[np.nan]])))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "no rows below the header"),
        (["a,x,1", "a,y,high"], ":3: score is 'high', expected a finite number"),
        (["a,x,1", "a,x,2"], ":3: x of a stands there a second time"),
        (["a,x,1", "a,y,2", "b,x,1"], "no score of class y for clip b"),
    ],
)
def test_bad_scores_are_refused(rows: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        read_scores(scores_of(tmp_path / "s.csv", rows))
    assert said in str(error.value)


def test_truth_of_esc50_and_of_judged_pairs(tmp_path: Path) -> None:
    (tmp_path / "meta.csv").write_text("filename,fold,target,category\na.wav,1,0,dog\nb.wav,1,1,cat\n")
    truth = read_truth(tmp_path / "meta.csv")
    assert truth.single
    assert truth.classes == ("dog", "cat")
    (tmp_path / "masked.csv").write_text("clip,class,value\na,flute,1\na,piano,0\nb,piano,1\n")
    masked = read_truth(tmp_path / "masked.csv")
    assert not masked.single
    assert masked.judged.tolist() == [[True, True], [False, True]]
    assert masked.labels.tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("clip,class,value\na,x,1\na,y,2\n", ":3: value is '2', expected 1 or 0"),
        ("clip,class\na,x\na,x\n", ":3: x of a stands there a second time"),
        ("clip,label\na,x\n", ":1: no column 'class', expected clip,class"),
        ("clip,class\n", "no rows below the header"),
    ],
)
def test_bad_truth_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text(text)
    with pytest.raises(UserError) as error:
        read_truth(tmp_path / "truth.csv")
    assert said in str(error.value)


def test_clips_of_other_classes_are_left_out_of_a_classification(tmp_path: Path) -> None:
    (tmp_path / "meta.csv").write_text("filename,category\na,dog\nb,cat\nc,cow\n")
    scores = read_scores(scores_of(tmp_path / "s.csv", ["a,dog,1", "a,cat,0", "b,dog,1", "b,cat,0"]))
    found = figures(scores, read_truth(tmp_path / "meta.csv"))
    assert (found["clips"], found["accuracy"]) == (2, 0.5)
    expected = classification(("dog", "cat"), scores.values, np.array([0, 1]))
    assert found["confusion"] == expected["confusion"]
    with pytest.raises(UserError, match="'horse' is not in the ground truth"):
        figures(Scores(("a",), ("horse",), np.zeros((1, 1))), read_truth(tmp_path / "meta.csv"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--classes", "dog"], "one class (dog); expected two or more"),
        (["--classes", "dog, dog"], "is there twice"),
        (["--classes", "dog, , cat"], "empty class between two commas"),
        (["--classes", "собака, кошка"], "собака"),
        ([], "--classes or --classes-file says which classes"),
        (["--classes", "a, b", "--split", "near"], "no finished training"),
    ],
)
def test_bad_classes_are_refused(
    words: list[str], said: str, tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_wav(tmp_path / "a.wav", np.zeros(8000), 8000)
    assert call("predict", tmp_path, tiny_root, str(tmp_path / "a.wav"), *words) == 1
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_shuffled_vectors_are_other_ones_in_every_split() -> None:
    from common.toy import key

    orders = {tuple(np.random.default_rng(key("42", f"split{n}")).permutation(2)) for n in range(20)}
    assert len(orders) == 2


def test_gradients_reach_the_encoder_only_where_the_recipe_trains_it(tiny_root: Path, tmp_path: Path) -> None:
    from common.run.verbs import open_run
    from zeroshot.data.sets import DataSets
    from zeroshot.data.splits import class_splits
    from zeroshot.data.vectors import class_vectors
    from zeroshot.training.train import build

    run = open_run(TASK, RECIPE, [f"data.root={tiny_root}"], 1, tmp_path)
    split = class_splits(run.config)[0]
    system, data = build(run, split, class_vectors(run.config), DataSets(run.config))
    assert system.network.encoder is None
    batch = next(iter(data.train_dataloader()))
    system.log = lambda *args, **named: None  # type: ignore[method-assign]
    loss = system.training_step(batch, 0)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None for p in system.network.compatibility.parameters())
