"""Readers and layouts: the real captions with their oddities, both forms of Clotho, AudioCaps, WavCaps, bad input."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.audio.reading import write_wav
from common.run.config import load_config
from common.run.errors import UserError
from task6_retrieval.config import Config, DataConfig
from task6_retrieval.data import captions
from task6_retrieval.data.batches import clip_loader
from task6_retrieval.data.layout import match_files, read_listing, read_queries
from task6_retrieval.data.prepare import prepare
from task6_retrieval.data.sets import load_set, training_sets

HEADER = "file_name,caption_1,caption_2\n"


def table(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def beep(path: Path, seconds: float = 0.2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wav(path, 0.1 * np.sin(np.arange(round(8000 * seconds))), 8000)


# ---------------------------------------- the real files


SPLITS = ("development", "validation", "evaluation")


def stated_rows(folder: Path) -> dict[str, int]:
    """{file: rows without header} as the folder's README has it."""
    rows = re.findall(r"^\| `([^`]+)` \| [\d ]+ \| `\w+` \| (\d+) \|", (folder / "README.md").read_text(), re.MULTILINE)
    assert rows
    return {name: int(count) for name, count in rows}


@pytest.mark.parametrize("split", SPLITS)
def test_real_captions_stay_exactly_as_they_are(shared: Path, split: str) -> None:
    """Blanks at the ends of names, HTML entities, commas, repeated captions: nothing is changed, merged or lost."""
    path = shared / "data" / "clotho" / f"clotho_captions_{split}.csv"
    found = captions.read_captions(path)
    with open(path, newline="") as file:
        raw = list(csv.reader(file))[1:]
    assert [[clip.name, *clip.captions] for clip in found] == raw
    assert len(found) == stated_rows(path.parent)[path.name]
    names = {clip.name for clip in found}
    assert len(names) == len(found)
    assert {name for name in names if "," in name}
    assert {name for name in names if re.search(r"&#?\w+;", name)}


def test_real_splits_share_names_but_not_clips(shared: Path) -> None:
    folder = shared / "data" / "clotho"
    of = {split: captions.read_captions(folder / f"clotho_captions_{split}.csv") for split in SPLITS}
    captions_of = {split: {clip.name: clip.captions for clip in clips} for split, clips in of.items()}
    shared_names = captions_of["development"].keys() & captions_of["evaluation"].keys()
    assert shared_names
    assert all(captions_of["development"][name] != captions_of["evaluation"][name] for name in shared_names)


def test_real_annotations_and_exclusions(shared: Path) -> None:
    folder = shared / "data" / "clotho"
    annotations = captions.read_annotations(folder / "metadata_eval.csv")
    clips = captions.read_captions(folder / "clotho_captions_evaluation.csv")
    rows = stated_rows(folder)
    assert len(annotations) == rows["metadata_eval.csv"]
    assert annotations.keys() <= {caption for clip in clips for caption in clip.captions}
    assert {name for names in annotations.values() for name in names} <= {clip.name for clip in clips}
    name = next(name for name in rows if "excluded" in name)
    excluded = captions.read_excluded(folder / name)["freesound"]
    assert len(excluded) == rows[name]
    assert all(isinstance(number, str) for number in excluded)


# ---------------------------------------- bad input


@pytest.mark.parametrize(("text", "message"), [
    ("file_name,text\na.wav,x\n", "no column 'caption_1'"),
    ("name,caption_1\na.wav,x\n", "no column 'file_name'"),
    (HEADER + "a.wav,x,y\na.wav,z,w\n", ":3: file_name 'a.wav' stands in line 2 already"),
    (HEADER + "a.wav,x, \n", ":2: caption_2 is empty"),
    (HEADER + ",x,y\n", ":2: file_name is empty"),
    (HEADER + "a.wav,x\n", ":2: 2 fields, expected 3"),
    (HEADER, "no clip"),
    ("", "empty, expected a header"),
    (HEADER.encode() + "a.wav,café,y\n".encode("latin-1"), "not a text file in UTF-8"),
    ((HEADER + "a.wav,x,y\n").encode("utf-16"), "not a text file in UTF-8"),
])  # fmt: skip
def test_bad_captions(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=r"captions\.csv") as caught:
        captions.read_captions(table(tmp_path / "captions.csv", text))
    assert message in str(caught.value)


def test_long_captions_and_other_languages_are_captions(tmp_path: Path) -> None:
    path = table(tmp_path / "c.csv", HEADER + f"a.wav,{'x ' * 5000},Ein Hund bellt zweimal über Regen\n")
    clip = captions.read_captions(path)[0]
    assert len(clip.captions[0]) == 10_000
    assert clip.captions[1].endswith("über Regen")


@pytest.mark.parametrize(("cell", "message"), [
    ("a.wav", "expected a list"), ("\"['a.wav', 3]\"", "expected a list"), ("\"['a.wav', 'a.wav']\"", "twice"),
    ("[]", "expected a list"), ("\"__import__('os').getcwd()\"", "expected a list"),
])  # fmt: skip
def test_bad_annotations(tmp_path: Path, cell: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        captions.read_annotations(table(tmp_path / "m.csv", f"query,audio_filenames\nx,{cell}\n"))


@pytest.mark.parametrize("content", [[], {"data": {}}, {"data": [{"id": "1"}]}, {"data": [{"id": "1", "caption": ""}]},
                                     {"data": [{"id": "1", "caption": "x"}, {"id": 1, "caption": "x"}]}])  # fmt: skip
def test_bad_wavcaps(tmp_path: Path, content: Any) -> None:
    with pytest.raises(UserError, match=r"sb\.json"):
        captions.read_wavcaps(table(tmp_path / "sb.json", json.dumps(content)))


# ---------------------------------------- layouts


def test_names_match_exactly_then_loosely(tmp_path: Path) -> None:
    for name in (" a.wav", "a.wav", "b.wav", "metal_police.wav", "c .wav"):
        beep(tmp_path / name)
    names = [" a.wav", "a.wav", " b.wav", "metal: police.wav", "c .wav", "d.wav"]
    found = [path.name for path in match_files(names, tmp_path)]
    assert found == [" a.wav", "a.wav", "b.wav", "metal_police.wav", "c .wav", "d.wav"]


def test_both_layouts_of_clotho_are_the_same_data(tiny_root: Path, tmp_path: Path) -> None:
    inner = tmp_path / "CLOTHO_v2.1"
    (inner / "clotho_csv_files").mkdir(parents=True)
    for path in tiny_root.glob("*.csv"):
        shutil.copy(path, inner / "clotho_csv_files")
    for split in ("development", "validation", "evaluation"):
        shutil.copytree(tiny_root / split, inner / "clotho_audio_files" / split)
    for root in (tmp_path, inner):
        own = read_listing(DataConfig(root=str(root)), "clotho_validation")
        plain = read_listing(DataConfig(root=str(tiny_root)), "clotho_validation")
        assert own is not None
        assert plain is not None
        assert own.clips == plain.clips
        assert all(path.is_file() for path in own.files)


def test_keywords_are_read_as_latin_1(linked_root: Path) -> None:
    path = linked_root / "clotho_metadata_validation.csv"
    lines = path.read_text().splitlines()
    name = lines[1].split(",")[0]
    path.write_bytes("\n".join([lines[0], f"{name},café;été,1,,,x,y"]).encode("latin-1"))
    listing = read_listing(DataConfig(root=str(linked_root)), "clotho_validation")
    assert listing is not None
    assert [clip.keywords for clip in listing.clips][:2] == ["café;été", ""]


def test_coverage_names_what_is_missing(linked_root: Path, tiny: Callable[..., Config], tmp_path: Path) -> None:
    first, second, *_ = sorted((linked_root / "validation").iterdir())
    first.unlink()
    second.unlink()
    second.write_bytes(b"no audio")
    beep(linked_root / "validation" / "stranger.wav")
    report = prepare(tiny(f"data.root={linked_root}"), workers=1)["sets"]["clotho_validation"]
    counted = {key: report[key] for key in ("listed", "missing", "broken", "packed", "captions_dropped")}
    assert counted == {"listed": 5, "missing": 1, "broken": 1, "packed": 3, "captions_dropped": 10}
    assert report["without_captions"] == 1
    assert first.name in (linked_root / "packed" / "clotho_validation.missing.tsv").read_text()
    assert len(load_set(tiny(f"data.root={linked_root}").data, "clotho_validation")) == 3


@pytest.fixture
def others(tmp_path: Path) -> list[str]:
    """AudioCaps and WavCaps of a few clips; overrides that name them."""
    audio, wav = tmp_path / "audiocaps", tmp_path / "wavcaps"
    rows = ["audiocap_id,youtube_id,start_time,caption", "1,abc,30,A dog barks", "2,Yde,0,\"A cat, meowing\"",
            "3,gone,0,Nothing", "4,abc,30,Barking"]  # fmt: skip
    table(audio / "dataset" / "train.csv", "\n".join(rows))
    table(audio / "class_labels_indices.csv", 'index,mid,display_name\n0,/m/1,Dog\n1,/m/2,"Bark, bow-wow"')
    lines = ["# made", "# x", "# YTID, start_seconds, end_seconds, positive_labels", 'abc, 30.000, 40.000, "/m/1,/m/2"']
    table(audio / "unbalanced_train_segments.csv", "\n".join(lines))
    beep(audio / "audio" / "Yabc.wav")
    beep(audio / "audio" / "Yde.wav")
    records = [{"id": str(i), "caption": f"sound {i}", "tags": ["x", "y"]} for i in (354184, 2)]
    table(wav / "json_files" / "FreeSound" / "fsd_final.json", json.dumps({"data": records}))
    parts = [{"id": name, "caption": "x"} for name in ("Yok.wav", "Yeval.wav", "Y06-g5jz-OGc.wav")]
    table(wav / "json_files" / "AudioSet_SL" / "as_final.json", json.dumps({"data": parts}))
    bbc = [{"id": "NHU1", "caption": "x", "category": "['Nature', 'Birds']"}]
    table(wav / "json_files" / "BBC_Sound_Effects" / "bbc_final.json", json.dumps({"data": bbc}))
    for name in ("FreeSound/354184.flac", "FreeSound/2.flac", "AudioSet_SL/Yok.flac", "BBC_Sound_Effects/NHU1.flac"):
        beep((wav / name).with_suffix(".wav"))
    excluded = table(tmp_path / "ids.csv", "sound_id\n354184\n99")
    strict = table(tmp_path / "ids.json", json.dumps({"AudioSet": ["Yeval"], "FreeSound": []}))
    return [f"data.audiocaps={audio}", f"data.wavcaps={wav}", f"data.exclude=[{excluded},{strict}]"]


def test_audiocaps_and_wavcaps(others: list[str], tiny: Callable[..., Config], tmp_path: Path) -> None:
    sets = "[clotho_development,audiocaps_train,wavcaps_freesound,wavcaps_audioset,wavcaps_bbc]"
    config = tiny(*others, f"data.train={sets}", f"data.packs={tmp_path / 'packs'}")
    report = prepare(config, workers=1)["sets"]
    assert report["audiocaps_train"]["missing"] == 1
    assert report["audiocaps_train"]["captions_dropped"] == 1
    assert report["wavcaps_freesound"]["excluded"] == 1
    assert report["wavcaps_audioset"]["excluded"] == 1  # and one is broken as published
    clotho, audiocaps, freesound, audioset, bbc = training_sets(config.data)
    assert audiocaps.captions == (("A dog barks", "Barking"), ("A cat, meowing",))
    assert audiocaps.keywords == ("Dog;Bark, bow-wow", "")
    assert freesound.clips == ("2",)
    assert freesound.keywords == ("x;y",)
    assert bbc.keywords == ("Nature;Birds",)
    assert audioset.clips == ("Yok",)
    assert [of.first for of in (clotho, audiocaps, freesound, audioset, bbc)] == [0, 10, 12, 13, 14]


def test_evaluation_sets_of_the_challenge(tiny: Callable[..., Config], tmp_path: Path) -> None:
    folder = tmp_path / "retrieval"
    for name in ("b.wav", "rain_metal.wav"):
        beep(folder / "test" / name)
    table(folder / "retrieval_captions.csv", 'caption\n"One, two"\nThree\n')
    table(folder / "retrieval_audio_metadata.csv", "file_name,keywords\nrain: metal.wav,rain;roof\n")
    config = tiny(f"data.challenge={folder}", f"data.packs={tmp_path / 'packs'}")
    assert prepare(config, workers=1)["sets"]["challenge"]["packed"] == 2
    clips = load_set(config.data, "challenge")
    assert clips.clips == ("b.wav", "rain_metal.wav")
    assert clips.keywords == ("", "rain;roof")
    assert read_queries(config.data) == ("One, two", "Three")
    (batch,) = clip_loader(clips, config)
    assert batch.captions == ["", ""]


@pytest.mark.parametrize(("override", "message"), [
    ("data.train=[clotho_developmnt]", "did you mean 'clotho_development'"),
    ("data.segment_seconds=5", "do not fit into the window"),
    ("data.train=[audiocaps_train]", "data.audiocaps=DIR"),
])  # fmt: skip
def test_settings_that_cannot_be(tiny: Callable[..., Config], override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepare(tiny(override), workers=1)


def test_the_toy_recipe_is_a_recipe() -> None:
    folder = Path(__file__).parents[1] / "recipes"
    assert load_config(Config, folder, "toy", []).data.toy == "toy"
