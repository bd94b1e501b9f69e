"""The official layout: names, folders, machines, and who is a proxy of whom."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.audio.coverage import root_of
from common.run.errors import UserError
from task2_anomaly.config import Config, DataConfig
from task2_anomaly.data.classes import MIMII, TOY_ADMOS, TYPES, Machine, parse_machine, proxy_types
from task2_anomaly.data.layout import PARTS, Clip, clips_of, folder_of, parse_clip, types_of
from task2_anomaly.data.sets import machines_of, packed, proxy_packs, training_pack

Configure = Callable[..., Config]


@pytest.mark.parametrize(
    ("name", "clip"),
    [
        ("normal_id_00_00000012.wav", (0, 0, None, "", False)),
        ("anomaly_id_06_00000000.wav", (6, 1, None, "", False)),
        ("id_05_00000123.wav", (5, None, None, "", False)),
        ("section_00_source_train_normal_0009_strength_1_ambient.wav", (0, 0, "source", "strength_1_ambient", True)),
        ("section_00_target_test_anomaly_0001_noAttribute.wav", (0, 1, "target", "noAttribute", True)),
        ("section_00_0199.wav", (0, None, None, "", True)),  # 2023 on
        ("section_03_test_0000.wav", (3, None, None, "", True)),  # 2022
        ("section_03_source_test_0000.wav", (3, None, "source", "", True)),  # 2021
        ("section_02_source_test_normal_0000.wav", (2, 0, "source", "", True)),
    ],
)
def test_what_a_name_says(name: str, clip: tuple[object, ...]) -> None:
    assert parse_clip(name) == Clip(name, *clip)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    [
        *("id_5_00000123.wav", "normal_id_00_0012.wav", "normal_id_00_00000012.flac", "abnormal_id_00_00000012.wav"),
        *("section_0_0000.wav", "section_00_00.wav", "x_id_00_00000000.wav", "", "id_00_00000000.wav.wav"),
    ],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"no clip of this task, expected normal_id_<NN>"):
        parse_clip(name)


@settings(deadline=None, max_examples=30)
@given(number=st.integers(0, 99), section=st.booleans(), kind=st.sampled_from([*TYPES, "3DPrinter", "ToyRCCar"]))
def test_machines_survive_writing(number: int, section: bool, kind: str) -> None:
    machine = Machine(kind, number, section)
    assert parse_machine(str(machine)) == machine
    name = f"section_{number:02d}_0000.wav" if section else f"id_{number:02d}_00000000.wav"
    assert (parse_clip(name).id, parse_clip(name).section) == (number, section)


@pytest.mark.parametrize("text", ["fan", "fan_id_", "fan_id_x", "_id_00", "fan_00"])
def test_no_machine(text: str) -> None:
    with pytest.raises(UserError, match="names no machine, expected <type>_id_<NN>"):
        parse_machine(text)


@pytest.mark.parametrize("kind", TYPES)
def test_proxy_sets_are_those_of_the_paper(kind: str) -> None:
    own, other = (set(MIMII), set(TOY_ADMOS)) if kind in MIMII else (set(TOY_ADMOS), set(MIMII))
    assert set(proxy_types(kind, "same_mic_same_type")) == {kind}
    assert set(proxy_types(kind, "same_mic_different_type")) == own - {kind}
    assert set(proxy_types(kind, "same_mic_all_types")) == own
    assert set(proxy_types(kind, "different_mic")) == other
    assert set(proxy_types(kind, "all")) == set(TYPES)
    assert proxy_types(kind, "all", ("valve", kind)) == tuple(k for k in TYPES if k in ("valve", kind))


def test_a_type_of_neither_set_up() -> None:
    with pytest.raises(UserError, match="unknown machine type 'toycar'; did you mean 'ToyCar'"):
        proxy_types("toycar", "all")


def machines(packs: list[Path]) -> set[str]:
    assert len(packs) == len(set(packs))
    return {path.name.split("_", 2)[2] for path in packs}


def test_proxies_are_training_clips_of_all_ids_but_the_own(tiny: Configure) -> None:
    car = Machine("ToyCar", 2)
    packs = proxy_packs(tiny("data.proxies=same_mic_same_type").data, car)
    assert machines(packs) == {"ToyCar_id_01", "ToyCar_id_03", "ToyCar_id_05"}
    assert {path.name for path in packs} == {
        *("dev_train_ToyCar_id_01", "dev_train_ToyCar_id_03", "eval_train_ToyCar_id_05")
    }
    different = machines(proxy_packs(tiny("data.proxies=same_mic_different_type").data, car))
    assert different == {f"ToyConveyor_id_{n:02d}" for n in (1, 2, 3, 4)}
    both = machines(proxy_packs(tiny("data.proxies=same_mic_all_types").data, car))
    assert both == different | machines(packs)
    far = machines(proxy_packs(tiny("data.proxies=different_mic").data, car))
    assert far == {f"{kind}_id_{n:02d}" for kind in ("fan", "valve") for n in (0, 1, 2, 4)}
    assert machines(proxy_packs(tiny("data.proxies=all").data, car)) == both | far
    for name in ("audioset", "scenes"):
        assert [path.name for path in proxy_packs(tiny(f"data.proxies={name}").data, car)] == [name]


def test_machines_to_train(tiny: Configure) -> None:
    everything = machines_of(tiny().data)
    assert len(everything) == 16
    assert [m.type for m in everything] == [k for k in ("fan", "ToyCar", "ToyConveyor", "valve") for _ in range(4)]
    assert machines_of(tiny("data.machines=[valve,fan_id_01]").data) == [
        *(Machine("fan", 1), *(Machine("valve", n) for n in (0, 1, 2, 4)))
    ]
    with pytest.raises(UserError, match=r"data\.machines: no machine 'fan_id_03' here; there are fan_id_00, fan_id_01"):
        machines_of(tiny("data.machines=[fan_id_03]").data)
    assert training_pack(tiny().data, Machine("fan", 1)).name == "eval_train_fan_id_01"
    with pytest.raises(UserError, match="no training clips of fan_id_03; `prepare` packs"):
        training_pack(tiny().data, Machine("fan", 3))


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_types_and_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no machine types, expected folders such as dev_data/fan/train"):
        types_of(tmp_path)
    touch(
        tmp_path, "dev_data/raw/gearbox/train/a", "dev_data/valve/train/b", "eval_data/ToyCar/test/c", "dev_data/x.txt"
    )
    assert types_of(tmp_path) == ["ToyCar", "valve", "gearbox"]
    assert folder_of(tmp_path, "dev_train", "gearbox") == tmp_path / "dev_data" / "raw" / "gearbox" / "train"
    assert folder_of(tmp_path, "eval_test", "ToyCar") == tmp_path / "eval_data" / "ToyCar" / "test"
    assert [folder_of(tmp_path, part, "valve") for part in PARTS[1:]] == [None, None, None]


def test_clips_by_id(tmp_path: Path) -> None:
    touch(tmp_path, *(f"normal_id_{n:02d}_0000000{k}.wav" for n in (2, 0) for k in (1, 0)), "notes.txt")
    found = clips_of(tmp_path)
    assert {n: [clip.name for clip in clips] for n, clips in found.items()} == {
        n: [f"normal_id_{n:02d}_0000000{k}.wav" for k in (0, 1)] for n in (0, 2)
    }
    touch(tmp_path, "id_00_1.wav")
    with pytest.raises(UserError, match=r"^id_00_1\.wav: no clip of this task"):
        clips_of(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.root: no data set named; data\.root=DIR"):
        root_of(DataConfig())
    with pytest.raises(UserError, match="absent: data set not found"):
        root_of(DataConfig(root=str(tmp_path / "absent")))
    empty = DataConfig(root=str(tmp_path))
    with pytest.raises(UserError, match="nothing packed yet; `prepare` checks and packs"):
        packed(empty, PARTS)
    with pytest.raises(UserError, match=r"audioset: not packed; data\.audioset=DIR names the folder"):
        proxy_packs(DataConfig(root=str(tmp_path), proxies="audioset"), Machine("fan", 0))


def test_a_proxy_set_without_clips(tiny_root: Path, tmp_path: Path) -> None:
    (tmp_path / "packs").mkdir()
    for path in (tiny_root / "packed").glob("*_fan_id_*"):
        (tmp_path / "packs" / path.name).symlink_to(path)
    data = DataConfig(root=str(tiny_root), packs=str(tmp_path / "packs"), proxies="different_mic")
    with pytest.raises(UserError, match=r"data\.proxies: different_mic has no clips for fan_id_00"):
        proxy_packs(data, Machine("fan", 0))
