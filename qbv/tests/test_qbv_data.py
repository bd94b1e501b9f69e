"""Layouts, split files, packs and batches: what is read is what lies there, and what is wrong is named."""

import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.audio.reading import load, write_wav
from common.run.errors import UserError
from common.run.verbs import main
from qbv.__main__ import TASK
from qbv.config import SAMPLE_RATE, Config, DataConfig
from qbv.data.batches import PairDataset, read, samples_of, sound_loader, train_loader
from qbv.data.classes import file_stem, label_of, numbered
from qbv.data.layout import QVIM_TABLE, read_listing
from qbv.data.prepare import prepare
from qbv.data.sets import load_pairs, pairs_of_test, training_pairs
from qbv.data.splits import check_splits, fold_folder, read_meta, read_split
from qbv.tests.conftest import places

RECIPE = str(Path(__file__).with_name("tiny.yaml"))


# --- the official split files


def test_statistics_of_the_official_splits(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = sorted((shared / "data" / "qbv").rglob("expected.json"))
    assert expected
    for path in expected:
        wanted = json.loads(path.read_text())
        for folder in (path.parent, path.parent.parent):
            assert main(TASK, ["prepare", "--recipe", RECIPE, "--splits", str(folder), "--check", "--json"]) == 0
            found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
            of_fold = next(of for of in found["folds"] if of["fold"] == wanted["fold"])
            assert {key: of_fold[key] for key in wanted} == wanted


def test_the_fine_splits_are_read_and_negatives_that_match_are_left_out(shared: Path) -> None:
    folder = shared / "data" / "qbv" / "fine"
    fine = check_splits(folder)["fine"]
    meta = read_meta(folder / "meta.csv")
    train, val = (read_split(folder / f"{name}.csv") for name in ("train", "val"))
    assert fine["train"]["imitations"] + fine["val"]["imitations"] == len(meta.labels)
    assert set(train.imitations) | set(val.imitations) == set(meta.labels)
    assert fine["negatives_that_match"] == len(meta.labels) - len(meta.negative)
    assert all(meta.positive[name] != other for name, other in meta.negative.items())


def test_labels_give_the_recordings_of_the_fine_protocol(shared: Path) -> None:
    meta = read_meta(shared / "data" / "qbv" / "fine" / "meta.csv")
    wrong = {(label, meta.positive[name]) for name, label in meta.labels.items()
             if f"{file_stem(label)}.wav" != meta.positive[name]}  # fmt: skip
    assert wrong == set()


# --- names


def test_names() -> None:
    assert numbered("00039_002Animal_Cat_Meow.wav") == (39, "002Animal_Cat_Meow")
    assert numbered("note.wav") is None
    assert label_of("013-bass_bowed") == "013-"
    assert label_of("01_bass") == "01 b"
    assert file_stem("chinese cymbal (hit with a stick)") == "chinese_cymbal_hit_with_a_stick"


# --- the embedded data in the official layouts


def test_every_layout_is_read(tiny: Callable[..., Config]) -> None:
    data = tiny().data
    for name, counts in (
        ("vimsketch", (24, 6)),
        ("vocalsketch", (24, 6)),
        ("vocal_imitation_set", (6, 9)),
        ("qvim", (21, 7)),
    ):
        listing = read_listing(data, name)
        assert (len(listing.imitations), len(listing.recordings)) == counts
        assert all(path.is_file() for path in (*listing.imitation_files, *listing.recording_files))
        assert len(listing.targets) == len(listing.imitations)
    sketch = read_listing(data, "vocalsketch")
    for name, target in zip(sketch.imitations, sketch.targets, strict=True):
        assert name.startswith(sketch.concepts[target])
    whole = read_listing(data, "vimsketch")
    for name, target in zip(whole.imitations, whole.targets, strict=True):
        assert numbered(name)[1] == whole.concepts[target]


def test_a_batch_holds_the_files_that_its_rows_name(tiny: Callable[..., Config]) -> None:
    config = tiny()
    train, _ = training_pairs(config.data)
    listing = read_listing(config.data, "vimsketch")
    file_of = dict(
        zip(
            (*listing.imitations, *listing.recordings),
            (*listing.imitation_files, *listing.recording_files),
            strict=True,
        )
    )
    samples = samples_of(config.data)
    for _ in range(2):  # caches must not change what is read
        for batch in train_loader(train, config, seed=3):
            assert batch.imitation.shape == (len(batch.number), samples)
            for row, number in enumerate(batch.number.tolist()):
                names = train.imitations.names[number], train.recordings.names[train.targets[number]]
                for audio, name in zip((batch.imitation[row], batch.recording[row]), names, strict=True):
                    expected = load(file_of[name], SAMPLE_RATE)[:samples].clip(-1, 1)
                    np.testing.assert_allclose(audio[: len(expected)], expected, atol=2 / 32768)
                assert batch.concept[row] == train.labels[number]


@pytest.mark.parametrize("passes", [1, 2])
def test_an_epoch_has_every_imitation_as_often_as_the_recipe_says(passes: int, tiny: Callable[..., Config]) -> None:
    config = tiny(f"data.passes={passes}")
    train, _ = training_pairs(config.data)
    heard = [number for batch in train_loader(train, config, seed=0) for number in batch.number.tolist()]
    assert sorted(heard) == sorted(list(range(len(train))) * passes)
    split = read_split(Path(config.data.root or "") / "splits" / "fold0" / "train.csv")
    assert set(train.imitations.names) == set(split.imitations)
    if passes == 2:
        assert len(heard) == split.rows


def test_test_concepts_never_train(tiny: Callable[..., Config]) -> None:
    tested: list[str] = []
    for fold in (0, 1):
        data = tiny(f"data.folds=[{fold}]").data
        train, validation = training_pairs(data)
        test = pairs_of_test(data)
        assert set(validation.concepts) == set(train.concepts)
        assert not set(test.concepts) & set(train.concepts)
        assert not set(validation.imitations.names) & set(train.imitations.names)
        assert set(test.trials) == {0}
        tested += test.concepts
    assert len(tested) == len(set(tested)) == 6


def test_the_fine_protocol_ranks_within_classes(packed: Callable[..., Config]) -> None:
    test = pairs_of_test(packed("data.protocol=fine").data)
    assert len(test) == 6
    assert len(set(test.trials.tolist())) == len(set(test.concepts)) == 3
    for target in test.targets:
        assert test.recordings.names[target].endswith("_reference.wav")


def test_a_class_with_one_recording_has_no_contest(
    tiny_root: Path, linked_root: Path, tiny: Callable[..., Config]
) -> None:
    shutil.rmtree(next((linked_root / "vocal_imitation_set" / "original_recordings" / "non_reference").glob("000*")))
    config = on(tiny("data.protocol=fine"), linked_root)
    prepare(config, 1)
    test = pairs_of_test(config.data)
    assert {name[:3] for name in test.imitations.names} == {"001", "002"}


def test_negatives_of_pairs_train_and_do_not_match(tiny: Callable[..., Config]) -> None:
    config = tiny("loss=bce")
    train, _ = training_pairs(config.data, negatives=True)
    dataset = PairDataset(train, config)
    assert 0 < (dataset.match == 0).sum() <= len(train)
    for imitation, recording, match in zip(dataset.imitation, dataset.recording, dataset.match, strict=True):
        assert (train.targets[imitation] == recording) == bool(match)
    assert not set(train.concepts) & set(pairs_of_test(config.data).concepts)


def test_padding(tiny: Callable[..., Config]) -> None:
    config = tiny("data.seconds=1.5")
    sounds = training_pairs(config.data)[0].recordings
    zeros, repeated = (read(sounds, np.array([0]), 48_000, how)[0] for how in ("zeros", "repeat"))
    assert (zeros[SAMPLE_RATE:] == 0).all()
    assert (repeated[SAMPLE_RATE:] == repeated[: 48_000 - SAMPLE_RATE]).all()
    clips = next(iter(sound_loader(sounds, config.data)))
    assert clips.audio.shape == (len(sounds), 48_000)
    assert clips.row.tolist() == list(range(len(sounds)))


# --- what is wrong is named


def on(config: Config, root: Path) -> Config:
    """The recipe on another folder."""
    more = dict(place.removeprefix("data.").split("=", 1) for place in places(root))
    return replace(config, data=replace(config.data, root=str(root), **more))


def edit(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


def line(number: int, text: str) -> Callable[[str], str]:
    return lambda whole: "\n".join([*whole.splitlines()[: number - 1], text, *whole.splitlines()[number:]]) + "\n"


WRONG: dict[str, tuple[str, Callable[[str], str], str]] = {
    "no key": (
        "reference_file_names.csv",
        line(1, "cat.wav"),
        r"reference_file_names.csv:1: 'cat.wav', expected <id>_<key>",
    ),
    "key twice": (
        "reference_file_names.csv",
        line(2, "009_000Flute.wav"),
        r"reference_file_names.csv:2: .* has the key of",
    ),
    "no recording": (
        "vocal_imitation_file_names.csv",
        line(3, "00003_777Cat.wav"),
        r"names.csv:3: .* imitates no recording",
    ),
    "twice": ("vocal_imitation_file_names.csv", line(2, "00001_000Flute.wav"), r"stands there twice"),
    "empty": ("vocal_imitation_file_names.csv", lambda text: "", r"no name, expected one a line"),
    "not listed": (
        "splits/fold0/train.csv",
        line(2, "0\tvocal_imitations/99999_001Reed.wav\t001R"),
        r"is none of the imitations|differs from meta",
    ),
    "two labels": (
        "splits/fold0/train.csv",
        lambda text: text.replace("\t001R", "\t001X", 1),
        r"train.csv:3: .* is '001R', a line before '001X'",
    ),
    "column": (
        "splits/fold0/test.csv",
        lambda text: text.replace("scene_label", "label"),
        r"test.csv:1: no column 'scene_label'",
    ),
    "fields": ("splits/fold0/val.csv", line(3, "0\tx"), r"val.csv:3: 2 fields, expected 3"),
    "meta": (
        "splits/meta.csv",
        lambda text: text + text.splitlines()[1] + "\n",
        r"meta.csv:26: .* stands there a second time",
    ),
    "qvim class": (
        f"qvim/{QVIM_TABLE}",
        line(4, '"x","Reed","000Flute.wav","a.wav","",""'),
        r"DEV Dataset.csv:4: item '000Flute.wav' stands in class",
    ),
    "qvim query": (
        f"qvim/{QVIM_TABLE}",
        line(4, '"x","Flute","new.wav","000Flute_0.wav","",""'),
        r"DEV Dataset.csv:4: query .* imitates another item",
    ),
    "qvim header": (f"qvim/{QVIM_TABLE}", line(2, "a,b"), r"DEV Dataset.csv:2: .*|no column 'Class'"),
    "sketch table": (
        "vocal_sketch/sound_recordings.csv",
        line(2, "0,bell (4),0,a/b.wav,x"),
        r"sound_recordings.csv:2: filename 'a/b.wav'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_table_is_named_with_its_line(case: str, linked_root: Path, tiny: Callable[..., Config]) -> None:
    name, change, said = WRONG[case]
    edit(linked_root / name, change)
    protocol = "qvim" if name.startswith("qvim") else "fine" if name.startswith("vocal_sketch") else "coarse"
    with pytest.raises(UserError, match=said):
        prepare(on(tiny(f"data.protocol={protocol}"), linked_root), 1)


def test_a_part_that_shares_imitations_or_concepts_with_another(linked_root: Path) -> None:
    folder = linked_root / "splits" / "fold0"
    kept = (folder / "val.csv").read_text()
    first = (folder / "train.csv").read_text().splitlines()[1]
    edit(folder / "val.csv", line(2, first))
    with pytest.raises(UserError, match=r"val.csv: .* stands in train.csv, too"):
        check_splits(folder)
    (folder / "val.csv").write_text(kept)
    tested = (folder / "test.csv").read_text().splitlines()
    (folder / "test.csv").write_text("\n".join(tested[:-1]) + "\n")
    edit(folder / "train.csv", lambda text: text + tested[-1] + "\n")
    with pytest.raises(UserError, match=r"concept '.*' is trained or validated on, too"):
        check_splits(folder)


def test_a_fold_out_of_range(tiny: Callable[..., Config], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.folds: no fold 7, .* has 0, 1"):
        training_pairs(tiny("data.folds=[7]").data)
    with pytest.raises(UserError, match=r"\[1, 1\], expected at least one fold, each once"):
        tiny("data.folds=[1,1]")
    with pytest.raises(UserError, match=r"has no fold<k>"):
        fold_folder(tmp_path, 0)
    with pytest.raises(UserError, match=r"no split files, expected fold<k>/train.csv"):
        check_splits(tmp_path)


def test_a_damaged_gzip(tmp_path: Path) -> None:
    whole = gzip.compress(b"\tfilename\tscene_label\n0\ta/b.wav\tb\n")
    (tmp_path / "train.csv.gz").write_bytes(whole[:-9])
    with pytest.raises(UserError, match=r"train.csv.gz: damaged gzip file"):
        read_split(tmp_path / "train.csv.gz")


def test_missing_and_broken_audio_is_listed_and_left_out(linked_root: Path, tiny: Callable[..., Config]) -> None:
    config = on(tiny(), linked_root)
    train, _ = training_pairs(tiny().data)
    gone, broken = train.imitations.names[:2]
    (linked_root / "vocal_imitations" / gone).unlink()
    (linked_root / "vocal_imitations" / broken).unlink()
    (linked_root / "vocal_imitations" / broken).write_bytes(b"no audio")
    found = prepare(config, 1)["sets"]["vimsketch"]["imitations"]
    assert (found["missing"], found["broken"], found["packed"]) == (1, 1, found["listed"] - 2)
    assert gone in (linked_root / "packed" / "imitations.missing.tsv").read_text()
    assert broken in (linked_root / "packed" / "imitations.broken.tsv").read_text()
    left, _ = training_pairs(config.data)
    assert set(train.imitations.names) - set(left.imitations.names) == {gone, broken}


def test_a_query_without_its_recording_is_an_error(linked_root: Path, tiny: Callable[..., Config]) -> None:
    config = on(tiny(), linked_root)
    gone = pairs_of_test(tiny().data).recordings.names[0]
    (linked_root / "references" / gone).unlink()
    prepare(config, 1)
    with pytest.raises(UserError, match=rf"recording '{gone}' is not packed"):
        pairs_of_test(config.data)


def test_what_is_not_there(tmp_path: Path, tiny: Callable[..., Config]) -> None:
    with pytest.raises(UserError, match=r"data.root: no data set named"):
        read_listing(DataConfig(), "vimsketch")
    with pytest.raises(UserError, match=r"data.qvim=DIR names the folder of qvim"):
        read_listing(DataConfig(protocol="qvim"), "qvim")
    with pytest.raises(UserError, match=r"reference_file_names.csv: list of file names not found"):
        read_listing(DataConfig(root=str(tmp_path)), "vimsketch")
    with pytest.raises(UserError, match=r"included: folder not found"):
        read_listing(DataConfig(vocal_sketch=str(tmp_path)), "vocalsketch")
    with pytest.raises(UserError, match=r"folder of recordings not found"):
        read_listing(DataConfig(vocal_imitation_set=str(tmp_path)), "vocal_imitation_set")
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match=r"packed audio not found; `prepare` makes it"):
        load_pairs(replace(tiny().data, packs=str(tmp_path / "none")), "vimsketch")


def test_odd_recordings_are_packed(linked_root: Path, tiny: Callable[..., Config]) -> None:
    """Silent, of 50 ms, in stereo at 192 kHz, clipped, of a minute: all are read, as mono of 32 kHz."""
    import soundfile

    config = on(tiny(), linked_root)
    names = training_pairs(tiny().data)[0].imitations.names[:5]
    folder, tone = linked_root / "vocal_imitations", np.sin(np.arange(192_000) * 0.05)
    for name in names:
        (folder / name).unlink()
    write_wav(folder / names[0], np.zeros(8000), 8000)
    write_wav(folder / names[1], 0.1 * tone[:400], 8000)
    soundfile.write(folder / names[2], 0.1 * np.stack([tone, tone], axis=1), 192_000)
    write_wav(folder / names[3], np.clip(5 * tone[:8000], -1, 1), 8000)
    write_wav(folder / names[4], 0.1 * np.resize(tone, 480_000), 8000)
    prepare(config, 1)
    train, _ = training_pairs(config.data)
    place = {name: number for number, name in enumerate(train.imitations.names)}
    lengths = [train.imitations.pack.length(int(train.imitations.rows[place[name]])) for name in names]
    assert lengths == [SAMPLE_RATE, SAMPLE_RATE // 20, SAMPLE_RATE, SAMPLE_RATE, 60 * SAMPLE_RATE]
    batches: Any = train_loader(train, config, seed=0)
    assert all(np.isfinite(batch.imitation.numpy()).all() for batch in batches)
