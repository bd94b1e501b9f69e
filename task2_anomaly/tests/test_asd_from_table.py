"""`prepare --from-table`: own recordings of machines, in both official forms, from a csv to figures."""

from pathlib import Path

import pytest

from common.run.errors import UserError
from common.run.results.store import read_results
from common.run.verbs import main
from common.tests.helpers import check_refused, table_of, tones_fixture, train_own
from task2_anomaly.__main__ import TASK
from task2_anomaly.config import Config
from task2_anomaly.data.classes import Machine, proxy_types
from task2_anomaly.data.layout import clips_of
from task2_anomaly.data.own import from_table
from task2_anomaly.data.prepare import prepare
from task2_anomaly.data.sets import is_toy, machines_of, proxy_packs

FOLDER = Path(__file__).resolve().parents[1]
IDS, SECTIONS = "file,machine,id,split,label", "file,machine,section,domain,split,label,attributes"
GOOD = ("a.wav,mixer,0,train,normal", "b.wav,mixer,0,test,anomaly")
GOOD_SECTIONS = ("a.wav,mixer,0,source,train,normal,speed_1", "b.wav,mixer,0,target,test,anomaly,")
desk = tones_fixture(*"abcde")


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.wav"))


def test_the_layout_of_2020(desk: Path) -> None:
    rows = (*GOOD, "c.wav,mixer,0,train,normal", "d.wav,mixer,12,train,normal", "e.wav,press,0,train,normal")
    from_table(table_of(desk, IDS, *rows), desk / "out")
    assert names(desk / "out") == [
        "dev_data/mixer/test/anomaly_id_00_00000000.wav",
        "dev_data/mixer/train/normal_id_00_00000000.wav",
        "dev_data/mixer/train/normal_id_00_00000001.wav",
        "dev_data/mixer/train/normal_id_12_00000000.wav",
        "dev_data/press/train/normal_id_00_00000000.wav",
    ]
    config = Config()
    config.data.root = str(desk / "out")
    assert prepare(config, workers=1)["missing"] == []
    assert not is_toy(config.data)
    machines = machines_of(config.data)
    assert list(map(str, machines)) == ["mixer_id_00", "mixer_id_12", "press_id_00"]
    assert {path.name for path in proxy_packs(config.data, machines[0])} == {
        "dev_train_mixer_id_12", "dev_train_press_id_00",
    }  # fmt: skip
    config.data.proxies = "different_mic"
    with pytest.raises(UserError, match="different_mic has no clips for mixer_id_00"):
        proxy_packs(config.data, machines[0])


def test_own_types_are_one_set_up() -> None:
    types = ("fan", "ToyCar", "mixer", "press")
    assert proxy_types("mixer", "same_mic_different_type", types) == ("press",)
    assert proxy_types("mixer", "different_mic", types) == ("fan", "ToyCar")
    assert proxy_types("fan", "same_mic_all_types", types) == ("fan",)
    assert set(proxy_types("fan", "all", types)) == set(types)


def test_the_layout_of_the_first_shot_editions(desk: Path) -> None:
    rows = (*GOOD_SECTIONS, "c.wav,mixer,0,source,test,normal,")
    from_table(table_of(desk, SECTIONS, *rows), desk / "out")
    assert names(desk / "out/dev_data/mixer") == [
        "test/section_00_source_test_normal_0000.wav",
        "test/section_00_target_test_anomaly_0000.wav",
        "train/section_00_source_train_normal_0000_speed_1.wav",
    ]
    (clip,) = clips_of(desk / "out/dev_data/mixer/train")[0]
    assert (clip.domain, clip.label, clip.attributes, clip.section) == ("source", 0, "speed_1", True)
    config = Config()
    config.data.root = str(desk / "out")
    prepare(config, workers=1)
    assert machines_of(config.data) == [Machine("mixer", 0, section=True)]


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (GOOD, IDS.replace(",id", ",number"), r"my\.csv:1: neither id nor section, expected id .as in 2020."),
        (("a.wav,mixer,0,0,train,normal",), IDS.replace(",id", ",id,section"), r"my\.csv:1: both id and section"),
        (("a.wav,mixer,0,train,normal",), IDS.replace(",id", ",section"), r"my\.csv:1: no column 'domain'"),
        ((*GOOD, "c.wav,mixer,first,train,normal"), IDS, r"my\.csv:4: id is 'first', expected a whole number from 0"),
        ((*GOOD, "c.wav,mixer,100,train,normal"), IDS, r"my\.csv:4: id is '100', expected a whole number from 0"),
        ((*GOOD, "c.wav,a mixer,0,train,normal"), IDS, r"my\.csv:4: machine is 'a mixer', expected letters and digits"),
        ((*GOOD, "c.wav,mixer,0,dev,normal"), IDS, r"my\.csv:4: split is 'dev', expected train or test"),
        ((*GOOD, "c.wav,mixer,0,test,broken"), IDS, r"my\.csv:4: label is 'broken', expected normal or anomaly"),
        (
            (*GOOD, "c.wav,mixer,0,train,anomaly"),
            IDS,
            r"my\.csv:4: an anomaly of split train; training clips are normal",
        ),
        ((*GOOD, "c.wav,press,3,test,normal"), IDS, r"my\.csv:4: press 03 has no row of split train, expected normal"),
        (
            (GOOD_SECTIONS[0].replace("source", "src"),),
            SECTIONS,
            r"my\.csv:2: domain is 'src', expected source or target",
        ),
        ((GOOD_SECTIONS[0].replace("speed_1", "a/b"),), SECTIONS, r"my\.csv:2: attributes is 'a/b', expected letters"),
    ],
)
def test_bad_rows(desk: Path, rows: tuple[str, ...], header: str, message: str) -> None:
    check_refused(from_table, table_of(desk, header, *rows), message)


@pytest.mark.end_to_end
def test_the_example_of_the_readme_is_trained_and_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = train_own(
        TASK,
        capsys,
        "data.proxies=same_mic_all_types",
        "trainer.max_epochs=1",
        "trainer.accelerator=cpu",
        "energy.enabled=false",
    )
    recorded = read_results(tmp_path / "runs/own/run1/machines/mixer_id_00")
    assert recorded["train"]["values"]["data"] == "recordings"
    assert main(TASK, ["compare", *words]) == 0
    assert "own data set, not comparable" in capsys.readouterr().out
