"""`prepare --from-table`: own recordings of the ten scenes, from a csv to a trained system and its figures."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from common.audio import downloads
from common.run.errors import UserError
from common.run.results.store import read_results
from common.run.verbs import main
from common.tests.helpers import check_refused, table_of, tones_fixture, train_own
from task1_asc.__main__ import TASK
from task1_asc.config import Config
from task1_asc.data.classes import SCENES
from task1_asc.data.layout import read_list, read_meta
from task1_asc.data.own import from_table
from task1_asc.data.prepare import prepare
from task1_asc.data.sets import load_clips

FOLDER = Path(__file__).resolve().parents[1]
HEADER = "file,label,device,split"
GOOD = ("a.wav,park,a,train", "b.wav,tram,b,test")
desk = tones_fixture(*"abcd")


def test_the_official_layout_comes_out(desk: Path) -> None:
    soundfile.write(desk / "long.flac", 0.1 * np.random.default_rng(1).normal(size=(12 * 16_000 + 99, 2)), 16_000)
    table = table_of(desk, HEADER, *GOOD, "long.flac,bus,s1,train")
    from_table(table, desk / "out")
    meta = read_meta(desk / "out")
    assert {(clip.scene, clip.device) for clip in meta} == {("park", "a"), ("tram", "b"), ("bus", "s1")}
    assert len({clip.location for clip in meta}) == 3
    assert {clip.part for clip in meta if clip.scene == "bus"} == set(range(10))
    assert len({clip.recording for clip in meta if clip.scene == "bus"}) == 2
    lists = {
        split: {clip.scene for clip in read_list(desk / "out/splits" / f"{split}.csv")}
        for split in ("split100", "test")
    }
    assert lists == {"split100": {"park", "bus"}, "test": {"tram"}}
    config = Config()
    config.data.root, config.data.splits = str(desk / "out"), [100]
    summary = prepare(config, workers=1)
    assert summary["made_of"] == "recordings"
    assert {name: of["packed"] for name, of in summary["sets"].items()} == {"train": 2 + 12, "test": 2}
    assert {of["not_a_second"] for of in summary["sets"].values()} == {0}
    assert len(load_clips(config.data, "train", 100)) == 14


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((*GOOD, "c.wav,kitchen,a,train"), r"my\.csv:4: label is 'kitchen'; known: airport, .*ten scenes"),
        ((*GOOD, "c.wav,prak,a,train"), r"my\.csv:4: label is 'prak'; did you mean 'park'\?"),
        ((*GOOD, "c.wav,park,phone,train"), r"my\.csv:4: device is 'phone'; known: a, b, .*the main device"),
        ((*GOOD, "c.wav,park,a,validation"), r"my\.csv:4: split is 'validation', expected train or test"),
        (GOOD[:1], r"my\.csv: no row has split test; both train and test are needed"),
    ],
)
def test_bad_rows(desk: Path, rows: tuple[str, ...], message: str) -> None:
    check_refused(from_table, table_of(desk, HEADER, *rows), message)


def test_a_location_is_in_one_split(desk: Path) -> None:
    rows = ("a.wav,park,a,train,hill", "b.wav,park,b,train,hill", "c.wav,park,a,test,hill")
    with pytest.raises(UserError, match=r"my\.csv:4: location hill is in test, but in train in line 2"):
        from_table(table_of(desk, f"{HEADER},location", *rows), desk / "out")
    from_table(table_of(desk, f"{HEADER},location", *rows[:2], rows[2].replace("hill", "lake")), desk / "out")
    assert [clip.location for clip in read_meta(desk / "out")] == ["own-1"] * 4 + ["own-2"] * 2


def test_smaller_lists_are_drawn_from_recordings_of_ten_seconds(desk: Path) -> None:
    noise = np.random.default_rng(2)
    rows = []
    for number in range(24):
        soundfile.write(desk / f"{number}.wav", 0.1 * noise.normal(size=10 * 1000), 1000)
        rows.append(f"{number}.wav,{SCENES[number % 2]},a,{'test' if number > 19 else 'train'}")
    from_table(table_of(desk, HEADER, *rows), desk / "out")
    assert main(TASK, ["splits", "make", "out", "--out", "out/splits"]) == 0
    assert len(read_list(desk / "out/splits/split5.csv")) == 10


def test_download_takes_names_and_settings_or_nothing(
    desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []
    monkeypatch.setattr(downloads, "fetch_sources", lambda sources, root: asked.append((root, len(sources))) or {})
    assert main(TASK, ["prepare", "--download", "--json"]) == 0
    assert '"development"' in capsys.readouterr().out
    words = ["prepare", "--recipe", "baseline", "--download", "development", "splits", "data.root=far"]
    assert main(TASK, words) == 0
    assert asked == [(Path("far"), 18 + 6)]
    assert main(TASK, ["prepare", "--download", "development"]) == 1  # the toy recipe's own data set stays as it is
    assert "--recipe baseline data.root=DIR" in capsys.readouterr().err


@pytest.mark.end_to_end
def test_the_example_of_the_readme_is_trained_and_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = train_own(
        TASK, capsys, "data.splits=[100]", "trainer.max_epochs=1", "trainer.accelerator=cpu", "data.edition=2024"
    )
    recorded = read_results(tmp_path / "runs/own/run1/split100")
    assert recorded["train"]["values"]["data"] == "recordings"
    assert main(TASK, ["compare", *words]) == 0
    assert "own data set, not comparable" in capsys.readouterr().out
