"""Own runs on the tiny set, from training to comparison and export; what of it can go wrong."""

import csv
import json
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.run.results.store import read_results
from common.run.verbs import main
from common.tests.helpers import loaded_by
from task6_retrieval.__main__ import TASK
from task6_retrieval.evaluation.evaluate import evaluate_files
from task6_retrieval.inference.scores import write_scores
from task6_retrieval.metrics import chance, ranks_of_scores, retrieval_metrics

RECIPE = str(Path(__file__).with_name("tiny.yaml"))
METRICS = ("map@10", "r@1", "r@5", "r@10", "map@16")


def call(verb: str, folder: Path, root: Path, *words: str) -> int:
    return main(TASK, [verb, "--recipe", RECIPE, "--run-dir", str(folder / "runs"), f"data.root={root}", *words])


@pytest.fixture(scope="module")
def done(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(the folder of two trained and evaluated runs, the root of their data)."""
    folder = tmp_path_factory.mktemp("chain")
    for verb in ("train", "predict", "evaluate", "compare"):
        assert call(verb, folder, tiny_root, "--runs", "1", "2") == 0, verb
    return folder, tiny_root


def values(run: Path, section: str = "test") -> dict[str, Any]:
    found: dict[str, Any] = read_results(run)[section]["values"]
    return found


def figures(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = values(run)["sets"]["clotho_evaluation"]
    return found


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_chain_leaves_figures_pictures_and_the_rank_of_every_query(done: tuple[Path, Path]) -> None:
    run, of = done[0] / "runs" / "run1", figures(done[0] / "runs" / "run1")
    assert {path.name for path in (run / "plots").iterdir()} == {"recall.png", "queries.png", "training.png"}
    queries = rows(run / "queries.csv")
    ranks = [int(row["rank"]) for row in queries]
    assert ranks == sorted(ranks, reverse=True)
    assert len(queries) == of["queries"]
    assert np.mean([rank == 1 for rank in ranks]) == pytest.approx(of["r@1"])
    assert np.mean([1 / rank if rank <= 10 else 0 for rank in ranks]) == pytest.approx(of["map@10"])
    assert all((row["first"] == row["file_name"]) == (row["rank"] == "1") for row in queries)
    assert set(values(run, "predict")["sets"]) == {"clotho_validation", "clotho_evaluation", "challenge"}
    assert read_results(run)["test"]["environment"]["packages"]


def test_anybody_gets_the_same_figures_from_the_same_scores(done: tuple[Path, Path], tmp_path: Path) -> None:
    from common.run.verbs import open_run
    from task6_retrieval.inference.outputs import scores_of

    folder, root = done
    run = open_run(TASK, RECIPE, [f"data.root={root}"], 1, folder / "runs")
    scores, table = scores_of(run, "clotho_evaluation"), root / "clotho_captions_evaluation.csv"
    queries = [row[f"caption_{number}"] for row in rows(table) for number in range(1, 6)]
    write_scores(tmp_path / "scores.csv", queries, scores.clips, scores.of(queries).matrix)
    found, own = evaluate_files(tmp_path / "scores.csv", table), figures(run.folder)
    assert {name: found[name] for name in METRICS} == pytest.approx({name: own[name] for name in METRICS})
    assert found["intervals"] == own["intervals"]


def test_best_and_last_epoch_are_both_reported(done: tuple[Path, Path]) -> None:
    from task6_retrieval.data.teachers import read_embeddings
    from task6_retrieval.inference.checkpoints import load_file
    from task6_retrieval.inference.predict import embed_texts

    run = done[0] / "runs" / "run1"
    stored = read_embeddings(run / "last" / "embeddings" / "clotho_evaluation.npz")
    network, _ = load_file(run / "checkpoints" / "last.ckpt")
    assert np.array_equal(embed_texts(network, stored.texts), stored.sentence)
    other = values(run)["other"]
    assert other["epoch"] == "last"
    assert set(other["sets"]["clotho_evaluation"]) == set(figures(run))


def test_vectors_of_other_sets_leave_the_record_of_the_test(done: tuple[Path, Path]) -> None:
    folder, root = done
    before = values(folder / "runs" / "run1", "predict")
    assert call("predict", folder, root, "--sets", "clotho_development") == 0
    assert values(folder / "runs" / "run1", "predict") == before
    assert set(values(folder / "runs" / "run1", "teach")["sets"]) == {"clotho_development"}


def test_comparison_says_toy_and_what_is_not_verified(done: tuple[Path, Path]) -> None:
    lines = rows(done[0] / "runs" / "comparison.csv")
    own = {row["metric"]: row for row in lines if row["result"] == "own" and row["value"]}
    runs = [figures(done[0] / "runs" / f"run{number}") for number in (1, 2)]
    for metric in ("map@10", "r@1", "r@5", "r@10"):
        assert float(own[metric]["value"]) == pytest.approx(100 * np.mean([of[metric] for of in runs]))
    assert all("not comparable" in row["note"] and not row["rank"] for row in own.values())
    memory = [row for row in lines if row["source"] in ("from memory", "second-hand")]
    assert memory
    for row in lines:
        assert row["system"].endswith("(not verified)") == any(of["system"] == row["system"] for of in memory)
    assert (done[0] / "runs" / "comparison.png").is_file()
    ranked = {row["set"] for row in lines if row["result"] == "published" and row["value"]}
    assert ranked >= {f"challenge_{year}" for year in (2022, 2023, 2024, 2025)}


def test_two_systems_are_compared_clip_by_clip(
    done: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(done[0])
    assert main(TASK, ["compare", "--runs-of", "runs/run1", "runs/run2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["differences"]
    first, second = (figures(done[0] / "runs" / f"run{number}") for number in (1, 2))
    assert len(found) == len(METRICS)
    by_title = {of["metric"]: of for of in found}
    assert by_title["mAP@10 (%)"]["difference"] == pytest.approx(100 * (second["map@10"] - first["map@10"]))
    assert {(of["unit"], of["items"]) for of in found} == {("clips", first["clips"])}


def test_runs_are_listed(done: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(TASK, ["runs", "--run-dir", str(done[0] / "runs"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]
    assert [(of["run"], of["state"]) for of in found] == [(1, "evaluated"), (2, "evaluated")]
    assert found[0]["figure"]["value"] == pytest.approx(100 * figures(done[0] / "runs" / "run1")["map@10"])


def test_annotations_of_2025_are_a_set_of_their_own(
    done: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, root = done
    clips = rows(root / "clotho_captions_evaluation.csv")
    lines = [[row["caption_2"], str([row["file_name"], other["file_name"]])] for row, other in pairwise(clips)]
    with open(tmp_path / "annotations.csv", "w", newline="") as file:
        csv.writer(file).writerows([("query", "audio_filenames"), *lines])
    before = figures(folder / "runs" / "run1")
    for verb in ("evaluate", "compare"):
        words = ["--no-plots"] if verb == "evaluate" else []
        assert call(verb, folder, root, f"data.annotations={tmp_path / 'annotations.csv'}", *words) == 0
    sets = values(folder / "runs" / "run1")["sets"]
    assert sets["clotho_evaluation"] == before
    of = sets["clotho_evaluation_2025"]
    assert (of["queries"], of["clips"]) == (len(lines), before["clips"])
    assert {row["metric"] for row in rows(folder / "runs" / "comparison.csv") if row["set"].endswith("2025")} == {
        *METRICS
    }
    (tmp_path / "annotations.csv").write_text("query,audio_filenames\nunheard of,\"['x.wav']\"\n")
    capsys.readouterr()
    assert call("evaluate", folder, root, f"data.annotations={tmp_path / 'annotations.csv'}") == 1
    assert "no vector of the caption 'unheard of'" in capsys.readouterr().err


def test_what_is_missing_is_named(tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb, words, said in (
        ("predict", (), "no finished training"),
        ("evaluate", (), "vectors of a trained system"),
        ("evaluate", ("--against", "x.csv"), "go with --scores"),
        ("compare", (), "`train` makes them"),
        ("export", (), "no finished training"),
    ):
        assert call(verb, tmp_path, tiny_root, *words) == 1, verb
        error = capsys.readouterr().err
        assert said in error
        assert len(error.splitlines()) == 1


def test_an_exported_network_is_the_trained_one(done: tuple[Path, Path], tmp_path: Path) -> None:
    import torch

    from common.run.verbs import open_run
    from task6_retrieval.inference.checkpoints import load_network
    from task6_retrieval.inference.exported import open_exported

    folder, root = done
    assert call("export", folder, root, "--out", str(tmp_path / "mine")) == 0
    network, config = open_exported(tmp_path / "mine")
    run = open_run(TASK, RECIPE, [f"data.root={root}"], 1, folder / "runs")
    trained, audio = load_network(run), torch.randn(2, 40_000, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for of in (network, trained):
            assert not of.training
        assert torch.equal(network.sentences(["a dog"]), trained.sentences(["a dog"]))
        seconds = torch.tensor([1.0, 1.25])
        assert torch.equal(network.clips(audio, seconds), trained.clips(audio, seconds))
    assert config.data.segment_seconds == run.config.data.segment_seconds
    card = json.loads((tmp_path / "mine" / "config.json").read_text())
    assert card["metrics"]["clotho_evaluation/map@10"] == figures(run.folder)["map@10"]
    assert str(root) not in json.dumps(card)


@pytest.mark.parametrize("words", [(), ("model.late=separate",), ("model.hidden=8",), ("model.text.frozen=true",)])
def test_complexity_counts_every_parameter(
    words: tuple[str, ...], tmp_path: Path, tiny_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from common.run.verbs import open_run
    from task6_retrieval.model.networks import build_network

    assert call("complexity", tmp_path, tiny_root, "--json", *words) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    network = build_network(open_run(TASK, RECIPE, words).config)
    assert sum(of["parameters"] for of in found.values()) == sum(p.numel() for p in network.parameters())
    head = network.project_sentence
    assert found["text_head"]["macs"] == sum(p.numel() for name, p in head.named_parameters() if "weight" in name)
    assert found["audio_encoder"]["macs"] > 0
    assert (found["audio_head"]["macs"] > found["text_encoder"]["macs"]) == ("model.late=separate" in words)


@pytest.mark.parametrize("relevant", [1, 3])
def test_chance_is_the_mean_over_all_rankings(relevant: int) -> None:
    clips = 6
    scores = np.array(list(permutations(range(clips))), np.float64)
    ranks = ranks_of_scores(scores, np.tile(np.arange(relevant), (len(scores), 1)))
    assert chance([relevant], clips) == pytest.approx(retrieval_metrics(ranks))


def test_chance_of_single_clips_is_that_of_the_publications() -> None:
    assert chance([1, 1], 1045)["map@10"] == pytest.approx(sum(1 / rank for rank in range(1, 11)) / 1045)


def test_answers_without_tensors(tmp_path: Path, tiny_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Help, typing errors and tables come at once."""
    monkeypatch.chdir(tmp_path)
    commands = {
        0: [["--help"], ["evaluate", "--help"], ["train", "--help"]],
        1: [["trian"], ["train", "trainer.max_epoch=3"], ["compare"], ["runs"], ["evaluate"]],
    }
    for wanted, words in commands.items():
        for command, (code, loaded) in zip(words, loaded_by("task6_retrieval", words), strict=True):
            assert (code, loaded) == (wanted, set()), command
