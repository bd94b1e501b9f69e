"""Checking and packing: what is there, missing or broken, by number and by name; proxies from outside."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.audio.packs import open_pack
from common.audio.reading import read, write_wav
from common.run.config import load_config
from common.run.errors import UserError
from common.run.files import read_json
from task2_anomaly.config import Config
from task2_anomaly.data.prepare import prepare
from task2_anomaly.data.proxies import audioset_files, scene_files
from task2_anomaly.data.toy.first_shot import write_first_shot_toy
from task2_anomaly.data.toy.write import AUDIOSET, MACHINES, SIZES

TASK = Path(__file__).resolve().parent.parent
Configure = Callable[..., Config]


def config_of(root: Path, *overrides: str) -> Config:
    """Of a data set that is not marked as a toy."""
    return load_config(
        Config, TASK / "recipes", str(TASK / "tests" / "tiny.yaml"), [f"data.root={root}", "data.toy=null", *overrides]
    )


def first_of(root: Path, folder: str, count: int = 1) -> list[Path]:
    return sorted((root / folder).glob("*.wav"))[:count]


def test_a_whole_data_set(tiny: Configure, tiny_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = prepare(tiny(), workers=1, verify=True)
    assert summary == read_json(tiny_root / "packed" / "coverage.json")
    assert (summary["root"], summary["toy"], summary["missing"]) == (str(tiny_root), True, [])
    sizes, expected = SIZES["tiny"], {"audioset": len(AUDIOSET), "scenes": 1}
    for kind, ids in MACHINES.items():
        for data, numbers in (("dev", ids.development), ("eval", ids.evaluation)):
            for number in numbers:
                expected[f"{data}_train_{kind}_id_{number:02d}"] = sizes.train
                expected[f"{data}_test_{kind}_id_{number:02d}"] = sizes.normal + sizes.anomalous
    assert summary["clips"] == expected
    out = capsys.readouterr().out
    assert all(name in out for name in expected)


def test_packs_hold_the_files_samples(tiny_root: Path) -> None:
    pack = open_pack(tiny_root / "packed" / "dev_train_valve_id_02")
    assert list(pack.names) == [f"normal_id_02_{n:08d}.wav" for n in range(SIZES["tiny"].train)]
    sound, rate = read(tiny_root / "dev_data" / "valve" / "train" / pack.names[3])
    assert rate == 16000
    np.testing.assert_allclose(pack.read(3), sound, atol=2**-15)


def test_what_is_missing_is_named_with_its_source(linked_root: Path) -> None:
    shutil.rmtree(linked_root / "eval_data" / "valve")
    shutil.rmtree(linked_root / "dev_data" / "fan" / "test")
    shutil.rmtree(linked_root / "eval_data" / "ToyCar" / "test")
    missing = prepare(config_of(linked_root), workers=1)["missing"]
    assert "dev_test of fan: dev_data_fan.zip of Zenodo record 3678171" in missing
    assert "eval_train of valve: eval_data_train_valve.zip of Zenodo record 3727685" in missing
    assert "eval_test of ToyCar: eval_data_test_ToyCar.zip of Zenodo record 3841772" in missing
    assert len(missing) == 1 + 2 + 1 + 2 * 4  # and all parts of pump and slider


def test_broken_clips_are_left_out_and_named_until_they_are_whole(linked_root: Path) -> None:
    config = config_of(linked_root)
    clip = first_of(linked_root, "dev_data/fan/train", 2)[1]
    kept = clip.rename(linked_root / "kept.wav")
    clip.write_bytes(kept.read_bytes()[:2000])
    packs = linked_root / "packed"
    assert prepare(config, workers=1)["clips"]["dev_train_fan_id_00"] == SIZES["tiny"].train - 1
    named = (packs / "dev_train_fan_id_00.broken.tsv").read_text()
    assert clip.name in named
    assert "truncated" in named
    assert [path.name for path in packs.glob("*.broken.tsv")] == ["dev_train_fan_id_00.broken.tsv"]
    kept.replace(clip)
    assert prepare(config, workers=1)["clips"]["dev_train_fan_id_00"] == SIZES["tiny"].train
    assert not list(packs.glob("*.broken.tsv"))


def test_malformed_names_stop_it(linked_root: Path) -> None:
    first_of(linked_root, "dev_data/fan/train")[0].rename(linked_root / "dev_data" / "fan" / "train" / "id_1.wav")
    with pytest.raises(UserError, match=r"^id_1\.wav: no clip of this task"):
        prepare(config_of(linked_root), workers=1)


def test_without_training_clips(linked_root: Path) -> None:
    for folder in linked_root.glob("*_data/*/train"):
        shutil.rmtree(folder)
    with pytest.raises(UserError, match=r"no training clips, expected e\.g\. dev_data/fan/train/normal_id_00"):
        prepare(config_of(linked_root), workers=1)


def test_a_second_time_nothing_is_packed_again(tiny: Configure, tiny_root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (tiny_root / "packed").glob("*/pack.json")}
    prepare(tiny(), workers=1)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert len(before) == 2 * 16 + 2


def test_damaged_packs_are_found(linked_root: Path) -> None:
    config = config_of(linked_root)
    prepare(config, workers=1)
    shard = next(path for path in (linked_root / "packed" / "dev_test_fan_id_00").iterdir() if path.suffix == ".h5")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.write_bytes(content)
    with pytest.raises(UserError, match="prepare again after removing it"):
        prepare(config, workers=1, verify=True)


def test_packs_lie_where_the_recipe_says(linked_root: Path, tmp_path: Path) -> None:
    prepare(config_of(linked_root, f"data.packs={tmp_path / 'elsewhere'}"), workers=1)
    assert not (linked_root / "packed").exists()
    assert len(list((tmp_path / "elsewhere").glob("*/pack.json"))) == 32


@pytest.mark.parametrize("raw", [False, True])
def test_first_shot_editions(tmp_path: Path, raw: bool) -> None:
    root = tmp_path / "data"
    write_first_shot_toy(root, "tiny")
    if raw:
        for data in ("dev_data", "eval_data"):
            kinds = list((root / data).iterdir())
            for kind in kinds:
                shutil.move(kind, root / data / "raw" / kind.name)
    summary = prepare(config_of(root), workers=1)
    assert summary["missing"] == []
    assert summary["clips"] == {
        f"{data}_{part}_{kind}_section_00": count
        for kind, data in (("fan", "dev"), ("ToyCar", "dev"), ("HoveringDrone", "eval"), ("RoboticArm", "eval"))
        for part, count in (("train", 10), ("test", 8))
    }


# ------------------------------------------------------------------------------------------------ proxies from outside


def sounding(seconds: float, before: float = 0.0) -> np.ndarray:
    sound = 0.1 * np.random.default_rng(0).standard_normal(round(seconds * 16000))
    return np.concatenate([np.zeros(round(before * 16000)), sound])


def test_only_clips_with_enough_sound_are_proxies(tmp_path: Path) -> None:
    clips = {
        "Dog/long": sounding(2.0),
        "Dog/short": sounding(1.4),
        "Cat/with_silence_before": sounding(1.4, before=1.0),
        "Cat/silent": np.zeros(32000),
        "Cat/quiet_before_but_long": sounding(1.6, before=1.0),
    }
    for name, sound in clips.items():
        write_wav(tmp_path / "audioset" / f"{name}.wav", sound, 16000)
        write_wav(tmp_path / "scenes" / "audio" / f"{name.replace('/', '-')}.wav", sound, 16000)
    kept = ["Cat/quiet_before_but_long.wav", "Dog/long.wav"]
    assert [name for name, _ in audioset_files(tmp_path / "audioset", 1.5)] == kept
    assert [name for name, _ in scene_files(tmp_path / "scenes", 1.5)] == [name.replace("/", "-") for name in kept]
    assert scene_files(tmp_path / "scenes" / "audio", 1.5) == scene_files(tmp_path / "scenes", 1.5)
    with pytest.raises(UserError, match=r"audioset: none of 5 files of the form <class>/\*\.wav has 9\.0 s of sound"):
        audioset_files(tmp_path / "audioset", 9.0)
    with pytest.raises(UserError, match=r"none of 0 files of the form \*\.wav has 1\.5 s of sound"):
        scene_files(tmp_path / "audioset", 1.5)


def test_how_long_they_must_be_follows_the_snippet(tiny: Configure, tmp_path: Path) -> None:
    """A snippet and 50 frames: 82 frames of 32 ms are 2.6 s, the tiny clips have 2.8 s."""
    config = tiny("data.snippet_frames=40")
    config = replace(config, data=replace(config.data, packs=str(tmp_path)))
    with pytest.raises(UserError, match=r"none of \d+ files of the form <class>/\*\.wav has 2\.9 s of sound"):
        prepare(config, workers=1)


def test_a_folder_that_is_not_there(linked_root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.scenes"):
        prepare(config_of(linked_root, f"data.scenes={tmp_path / 'absent'}"), workers=1)
