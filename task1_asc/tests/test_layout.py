"""The official layout: names, tables, lists, evaluation sets, and what is said where one of them is wrong."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.audio.coverage import cover
from common.run.errors import UserError
from task1_asc.data.classes import DEVICES, SCENES
from task1_asc.data.layout import (
    EVALUATION_FOLDERS,
    ClipName,
    find_evaluation,
    find_split,
    parse_name,
    read_evaluation,
    read_list,
    read_meta,
    read_split,
    split_file,
    write_list,
)

CLIP = "audio/airport-lisbon-1000-40000-0-a.wav"
OTHER = "audio/metro_station-paris-7-31-9-s6.wav"
META = "filename\tscene_label\tidentifier\tsource_label\n"
LIST = "filename\tscene_label\n"


def test_a_name_taken_apart() -> None:
    clip = parse_name(OTHER)
    assert clip == ("metro_station", "paris-7", "31", 9, "s6")
    assert (clip.filename, clip.city) == (OTHER, "paris")
    assert clip.moment == ("metro_station", "paris-7", "31")
    assert clip.recording == ("metro_station", "paris-7", "31", "s6")


@settings(deadline=None, max_examples=50)
@given(
    st.sampled_from(SCENES),
    st.from_regex(r"[a-z]{1,9}(_[a-z]{1,5})?", fullmatch=True),
    st.from_regex(r"[0-9]{1,6}", fullmatch=True),
    st.from_regex(r"[0-9]{1,6}", fullmatch=True),
    st.integers(0, 9),
    st.sampled_from(DEVICES),
)
def test_names_survive_the_way_there_and_back(
    scene: str, city: str, place: str, segment: str, part: int, device: str
) -> None:
    clip = ClipName(scene, f"{city}-{place}", segment, part, device)
    assert parse_name(clip.filename) == clip


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("airport-lisbon-1000-40000-0-a.wav", "not of the form audio/<scene>"),
        ("audio/airport-lisbon-1000-40000-a.wav", "not of the form"),
        ("audio/airport-lisbon-1000-40000-10-a.wav", "not of the form"),
        ("audio/airport-lisbon-x-40000-0-a.wav", "not of the form"),
        ("audio/airport-lisbon-1000-40000-0-a.flac", "not of the form"),
        ("", "not of the form"),
        ("audio/airprt-lisbon-1000-40000-0-a.wav", "t.csv:3: unknown scene 'airprt'.*did you mean 'airport'"),
        ("audio/airport-lisbon-1000-40000-0-s7.wav", "t.csv:3: unknown device 's7'"),
    ],
)
def test_names_of_another_form(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        parse_name(name, "t.csv:3")
    assert "\n" not in str(error.value)


def meta(tmp_path: Path, text: str) -> list[ClipName]:
    (tmp_path / "meta.csv").write_text(text)
    return read_meta(tmp_path)


def listed(tmp_path: Path, text: str) -> list[ClipName]:
    (tmp_path / "split5.csv").write_text(text)
    return read_list(tmp_path / "split5.csv")


def evaluation(tmp_path: Path, text: str) -> Any:
    (tmp_path / "evaluation_setup").mkdir()
    (tmp_path / "evaluation_setup" / "fold1_test.csv").write_text(text)
    return read_evaluation(tmp_path)


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (meta, "filename\tscene_label\tidentifier\n", r"meta\.csv:1: no column 'source_label'"),
        (meta, META.replace("\t", ","), r"meta\.csv:1: columns separated by ',', expected '\\t'"),
        (meta, META + f"{CLIP}\tairport\tlisbon-1000\n", r"meta\.csv:2: 3 fields, expected 4"),
        (meta, META + f"{CLIP}\tairprt\tlisbon-1000\ta\n", r":2: unknown scene 'airprt'; did you mean 'airport'"),
        (meta, META + f"{CLIP}\tbus\tlisbon-1000\ta\n", r":2: scene_label is 'bus', but the file name says 'airport'"),
        (meta, META + f"{CLIP}\tairport\tlisbon-1\ta\n", r":2: identifier is 'lisbon-1', but .* 'lisbon-1000'"),
        (meta, META + f"{CLIP}\tairport\tlisbon-1000\tb\n", r":2: source_label is 'b', but the file name says 'a'"),
        (meta, META + f"{CLIP}\tairport\tlisbon-1000\ta\n" * 2, r"meta\.csv:3: audio/airport.* stands in line 2"),
        (meta, "", r"meta\.csv: empty, expected a header"),
        (listed, LIST + f"{CLIP}\tairport\n{OTHER[:-4]}\tbus\n", r"split5\.csv:3: file name .* is not of the form"),
        (listed, LIST + f"{CLIP}\tairport\n{CLIP}\tairport\n", r"split5\.csv:3: .* stands in line 2 already"),
        (listed, LIST + f"{CLIP}\tpark\n", r"split5\.csv:2: scene_label is 'park'"),
        (listed, LIST.replace("\t", ";"), r"split5\.csv:1: columns separated by ';'"),
        (listed, "name\tscene_label\n", r"split5\.csv:1: no column 'filename'; did you mean 'name'"),
        (evaluation, "filename\naudio/x.wav\n", r"fold1_test\.csv:2: .*not of the form audio/<number>\.wav"),
        (evaluation, "filename\n0.wav\n", r"fold1_test\.csv:2: file name '0\.wav'"),
        (evaluation, "filename\naudio/1.wav\naudio/1.wav\n", r"fold1_test\.csv:3: .*line 2"),
        (evaluation, "filename\tdevice_id\naudio/1.wav\t\n", r"fold1_test\.csv:2: device_id is empty"),
        (evaluation, "file\naudio/1.wav\n", r"fold1_test\.csv:1: no column 'filename'"),
    ],
)
def test_wrong_tables(tmp_path: Path, read: Callable[[Path, str], Any], text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path, text)
    assert "\n" not in str(error.value)


def test_windows_line_ends_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    text = LIST + f"{CLIP}\tairport\n{OTHER}\tmetro_station\n"
    expected = [parse_name(CLIP), parse_name(OTHER)]
    assert listed(tmp_path, text) == expected
    (tmp_path / "windows.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert read_list(tmp_path / "windows.csv") == expected


def test_a_list_that_may_have_a_name_twice(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(LIST + f"{CLIP}\tairport\n" * 2)
    assert read_list(tmp_path / "list.csv", unique=False) == [parse_name(CLIP)] * 2


def test_lists_written_and_read_again(tmp_path: Path) -> None:
    write_list(tmp_path / "splits" / "split10.csv", [parse_name(OTHER), parse_name(CLIP)])
    assert (tmp_path / "splits" / "split10.csv").read_bytes() == (
        LIST + f"{OTHER}\tmetro_station\n{CLIP}\tairport\n"
    ).encode()
    assert read_split(tmp_path, 10) == [(OTHER, "metro_station"), (CLIP, "airport")]


def test_where_lists_are_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"splits/split100\.csv: split list not found; `splits make`"):
        split_file(tmp_path, 100)
    with pytest.raises(UserError, match="data set not found"):
        split_file(tmp_path / "nowhere", 100)
    for path in ("evaluation_setup/fold1_train.csv", "split100.csv", "splits/split100.csv"):  # the last one is the best
        write_list(tmp_path / path, [parse_name(CLIP)])
        assert find_split(tmp_path, 100) == tmp_path / path
    write_list(tmp_path / "evaluation_setup/fold1_evaluate.csv", [parse_name(CLIP)])
    assert split_file(tmp_path, "test").name == "fold1_evaluate.csv"
    assert find_split(tmp_path, 50) is None


def test_gzipped_lists(tmp_path: Path) -> None:
    packed = gzip.compress((LIST + f"{CLIP}\tairport\n").encode())
    (tmp_path / "split25.csv.gz").write_bytes(packed)
    assert read_split(tmp_path, 25) == [(CLIP, "airport")]
    for damaged in (packed[:-9], packed[:-8] + bytes(8), b"no gzip", packed[:10] + b"\x07" * 20):
        (tmp_path / "split25.csv.gz").write_bytes(damaged)
        with pytest.raises(UserError, match=r"split25\.csv\.gz: damaged gzip file"):
            read_split(tmp_path, 25)


def test_evaluation_lists_of_both_editions(tmp_path: Path) -> None:
    for year, text, devices in (
        ("2024", "filename\naudio/7.wav\naudio/0.wav\n", None),
        ("2025", "filename\tdevice_id\naudio/7.wav\ts9\naudio/0.wav\tunknown\n", ("s9", "unknown")),
    ):
        folder = tmp_path / year
        folder.mkdir()
        assert evaluation(folder, text) == (folder, ("audio/7.wav", "audio/0.wav"), devices)
    with pytest.raises(UserError, match="evaluation set not found"):
        read_evaluation(tmp_path / "2026")


def test_which_evaluation_set_is_taken(tmp_path: Path) -> None:
    root = tmp_path / "development"
    root.mkdir()
    assert find_evaluation(root, None) is None
    (root / EVALUATION_FOLDERS[0]).mkdir()
    assert find_evaluation(root, None) == root / EVALUATION_FOLDERS[0]
    (tmp_path / EVALUATION_FOLDERS[1]).mkdir()
    assert find_evaluation(root, None) == tmp_path / EVALUATION_FOLDERS[1]  # beside it, as officially
    assert find_evaluation(root, None, edition=2024) == root / EVALUATION_FOLDERS[0]
    assert find_evaluation(root, tmp_path) == tmp_path
    with pytest.raises(UserError, match="evaluation set not found"):
        find_evaluation(root, tmp_path / "nowhere")


def test_clips_without_a_file(tmp_path: Path) -> None:
    def missing() -> tuple[str, ...]:
        return cover((name, tmp_path / name) for name in (CLIP, OTHER)).missing

    assert missing() == (CLIP, OTHER)
    (tmp_path / "audio").mkdir()
    (tmp_path / OTHER).touch()
    assert missing() == (CLIP,)


def test_the_challenges_own_lists(shared: Path) -> None:
    folder = shared / "data" / "asc"
    lists = {split: read_list(path) for split in (5, 10, 25, 50, 100, "test") if (path := find_split(folder, split))}  # type: ignore[arg-type]
    if not lists:
        pytest.skip("no split lists there")
    for clips in lists.values():
        assert len(set(clips)) == len(clips) > 0
        assert {clip.scene for clip in clips} == set(SCENES)
