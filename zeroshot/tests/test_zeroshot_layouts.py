"""ESC-50, AudioSet and OpenMIC on disk: what their tables say, and one line for each way in which they can be wrong."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.audio.reading import write_wav
from common.run.config import load_config
from common.run.errors import UserError
from common.run.files import read_rows, write_rows
from zeroshot.config import Config
from zeroshot.data.classes import ESC50_FOLDS, carried, counterparts
from zeroshot.data.layout import read_audioset, read_classes, read_esc50, read_openmic
from zeroshot.data.ontology import find_ontology, ontology_distances, read_ontology
from zeroshot.data.prepare import prepare
from zeroshot.data.sets import DataSets, load_clips
from zeroshot.data.splits import class_splits

TASK = Path(__file__).resolve().parent.parent
RATE = 8000
# A corner of AudioSet's tree: node -> children.
TREE = {
    "Animal": ("Dog", "Cat"),
    "Dog": ("Bark",),
    "Bark": (),
    "Cat": ("Meow",),
    "Meow": (),
    "Music": ("Musical instrument",),
    "Musical instrument": ("Violin, fiddle", "Flute"),
    "Violin, fiddle": (),
    "Flute": (),
    "Rain": (),
    "Wind": (),
}
SEGMENTS = {
    "balanced_train_segments": ["Dog,Animal", "Cat", "Rain", "Wind", "Flute,Music", "Bark", "Meow,Rain"],
    "eval_segments": ["Dog", "Rain,Wind", "Violin, fiddle", "Cat"],
}


def noise(path: Path) -> None:
    write_wav(path, np.random.default_rng(len(str(path))).uniform(-0.1, 0.1, RATE), RATE)


@pytest.fixture
def audioset(tmp_path: Path) -> Path:
    """AudioSet in small: eleven classes, two of its three parts, an audio file for each segment."""
    root = tmp_path / "audioset"
    mids = {name: f"/m/{number}" for number, name in enumerate(TREE)}
    nodes = [
        {"id": mids[name], "name": name, "description": f"Sound of {name}.", "child_ids": [mids[c] for c in children]}
        for name, children in TREE.items()
    ]
    labels = ((number, mid, name) for number, (name, mid) in enumerate(mids.items()))
    write_rows(root / "class_labels_indices.csv", ("index", "mid", "display_name"), labels)
    (root / "ontology.json").write_text(json.dumps(nodes))
    for part, of in SEGMENTS.items():
        lines = ["# Segments csv created", "# num_ytids=7", "# YTID, start_seconds, end_seconds, positive_labels"]
        for number, names in enumerate(of):
            mid = ",".join(mids[name] for name in names.replace("Violin, fiddle", "Violin").split(",")
                           if name != "Violin") or mids["Violin, fiddle"]  # fmt: skip
            lines.append(f'{part[:4]}-{number:06}, 30.000, 40.000, "{mid}"')
            noise(root / "audio" / part / f"{'Y' * (number % 2)}{part[:4]}-{number:06}.wav")
        (root / f"{part}.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def openmic(tmp_path: Path) -> Path:
    """OpenMIC in small: two classes, five clips; keys stored as published, as Python objects."""
    root = tmp_path / "openmic"
    keys = [f"{number:06}_{number}" for number in range(5)]
    root.mkdir()
    (root / "class-map.json").write_text(json.dumps({"violin": 1, "flute": 0}))
    value = np.array([[1.0, 0.5], [0.2, 0.9], [0.6, 0.1], [0.9, 0.9], [0.0, 0.8]])
    mask = np.array([[1, 0], [1, 1], [0, 1], [1, 0], [1, 1]], bool)
    np.savez(root / "openmic-2018.npz", Y_true=value, Y_mask=mask, sample_key=np.array(keys, object))
    (root / "partitions").mkdir()
    (root / "partitions" / "split01_train.csv").write_text("\n".join(keys[:3]) + "\n")
    (root / "partitions" / "split01_test.csv").write_text("\n".join(keys[3:]) + "\n")
    for key in keys:
        path = root / "audio" / key[:3] / f"{key}.ogg"
        noise(path.with_suffix(".wav"))
        path.with_suffix(".wav").rename(path)
    return root


def configured(*overrides: str) -> Config:
    given = ["data.sample_rate=8000", "data.clip_seconds=1.0", "data.toy=null", "loss=bce", "checkpoint=last"]
    return load_config(Config, TASK / "recipes", str(TASK / "tests" / "tiny.yaml"), [*given, *overrides])


def test_esc50_as_published_and_as_a_part_of_it(tiny_root: Path, tmp_path: Path) -> None:
    listed = read_esc50(tiny_root)
    rows = read_rows(tiny_root / "meta" / "esc50.csv", ("filename", "category", "fold"))
    assert listed.names == tuple(row["filename"] for row in rows)
    assert [listed.classes[i] for i in listed.labels.argmax(axis=1)] == [row["category"] for row in rows]
    assert listed.folds.tolist() == [int(row["fold"]) for row in rows]
    assert listed.single
    assert listed.judged.all()
    part = [[row[c] for c in ("filename", "fold", "category", "src_file")] for row in rows[::2]]
    write_rows(tmp_path / "meta.csv", ("filename", "fold", "category", "src_file"), part)
    assert read_esc50(tmp_path).names == listed.names[::2]


def test_the_ten_classes_of_the_shared_recordings(shared: Path) -> None:
    listed = read_esc50(shared / "data" / "esc10")
    targets = {row["category"]: int(row["target"]) for row in carried_rows(shared)}
    assert list(listed.classes) == sorted(targets, key=lambda name: targets[name])
    assert set(listed.classes) <= {row["class"] for row in carried("esc50")}
    assert all(file.is_file() for file in listed.files)


def carried_rows(shared: Path) -> Sequence[Any]:
    return read_rows(shared / "data" / "esc10" / "meta.csv", ("category", "target"))


def test_what_is_carried_of_the_classes_fits_together() -> None:
    names = [row["class"] for row in carried("esc50")]
    assert sorted(name for fold in ESC50_FOLDS for name in fold) == sorted(names)
    assert len(names) == 50 == 5 * len(ESC50_FOLDS[0])
    assert len(counterparts("openmic")) == 20
    assert all(counterparts("openmic").values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fold": "x"}, r"esc50\.csv:2: fold is 'x', expected a number"),
        ({"category": ""}, r"esc50\.csv:2: category is empty"),
        ({"filename": "../a.wav"}, r"esc50\.csv:2: filename '\.\./a\.wav'"),
    ],
)
def test_broken_tables_of_esc50(tmp_path: Path, change: dict[str, str], message: str) -> None:
    row = {"filename": "a.wav", "fold": "1", "target": "0", "category": "dog", "src_file": "1", **change}
    write_rows(tmp_path / "meta" / "esc50.csv", list(row), [list(row.values())])
    with pytest.raises(UserError, match=message):
        read_esc50(tmp_path)


def test_audioset_parts_labels_and_files(audioset: Path) -> None:
    listed = read_audioset(audioset)
    assert listed.classes == tuple(TREE) == read_classes(audioset, "audioset")
    assert listed.folds.tolist() == [1] * 7 + [3] * 4
    assert listed.test_folds == (3,)
    said = [{listed.classes[i] for i in np.flatnonzero(row)} for row in listed.labels]
    assert said[0] == {"Dog", "Animal"}
    assert said[9] == {"Violin, fiddle"}
    assert all(file.is_file() for file in listed.files)  # with and without `Y`


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("eval_segments.csv", "abc, 0, 10\n", r"eval_segments\.csv:1: expected YouTube id, start, end"),
        ("eval_segments.csv", 'abc, 0, 10, "/m/4,"\n', r"eval_segments\.csv:1: unknown label ''"),
        ("eval_segments.csv", 'abc, 0, 10, "/m/99"\n', r"eval_segments\.csv:1: unknown label '/m/99'; did you mean"),
        ("eval_segments.csv", b"\xff\xfe\x00", r"eval_segments\.csv: not a table"),
        ("class_labels_indices.csv", "index,mid\n0,/m/1\n", r"indices\.csv:1: no column 'display_name'"),
        ("class_labels_indices.csv", "index,mid,display_name\n0,a,A\n1,a,B\n", r"indices\.csv:3: class 'B' \(a\)"),
    ],
)
def test_broken_tables_of_audioset(audioset: Path, name: str, content: str | bytes, message: str) -> None:
    (audioset / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        read_audioset(audioset)


def test_the_ontology_relations_and_distances(audioset: Path) -> None:
    tree = read_ontology(audioset / "ontology.json")
    assert tree.descendants("Animal") == {"Dog", "Cat", "Bark", "Meow"}
    assert tree.ancestors("Bark") == {"Dog", "Animal"}
    assert tree.relatives(["Dog"]) == {"Animal", "Bark"}
    assert tree.distances(["Bark"]) == {"Bark": 0, "Dog": 1, "Animal": 2, "Cat": 3, "Meow": 4}
    config = configured(f"data.root={audioset}", "data.layout=audioset", "split.protocol=random", "split.files=[]")
    assert find_ontology(config.data) is not None
    assert ontology_distances(config, ["Cat", "Rain"], ["Bark", "Flute", "Wind"]) == [3, None, None]
    with pytest.raises(UserError, match="no class 'Dogs'; did you mean 'Dog'"):
        tree.ancestors("Dogs")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"ontology\.json:1: not valid JSON"),
        ("{}", "expected a list of nodes"),
        ('[{"id": "a", "name": "A", "child_ids": ["b"]}]', "A has the child 'b', which is no node"),
        ('[{"id": "a", "name": "A", "child_ids": []}, {"id": "b", "name": "A", "child_ids": []}]', "there twice"),
    ],
)
def test_broken_ontologies(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "ontology.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_ontology(tmp_path / "ontology.json")


def test_openmic_labels_are_partial(openmic: Path) -> None:
    listed = read_openmic(openmic)
    assert listed.classes == ("flute", "violin")
    assert listed.labels.tolist() == [[True, False], [False, True], [False, False], [True, False], [False, True]]
    assert listed.judged.tolist() == [[True, False], [True, True], [False, True], [True, False], [True, True]]
    assert listed.folds.tolist() == [1, 1, 1, 2, 2]
    assert all(file.is_file() for file in listed.files)


def _without_key(stored: dict[str, Any]) -> None:
    del stored["sample_key"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_key, r"openmic-2018\.npz: not readable"),
        (lambda stored: stored.update(Y_true=stored["Y_true"][:, :1]), r"Y_true \(5, 1\), .* expected \(clips, 2\)"),
        (lambda stored: stored.update(Y_true=stored["Y_true"] * np.nan), "values beyond 0 to 1"),
        (lambda stored: stored.update(sample_key=np.array([eval] * 5, object)), "no array of text"),
    ],
)
def test_broken_labels_of_openmic(openmic: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    path = openmic / "openmic-2018.npz"
    stored = dict(np.load(path, allow_pickle=True))
    change(stored)
    np.savez(path, **stored)
    with pytest.raises(UserError, match=message):
        read_openmic(openmic)


def test_other_broken_files_of_openmic(openmic: Path) -> None:
    (openmic / "partitions" / "split01_test.csv").write_text("nobody\n")
    with pytest.raises(UserError, match=r"split01_test\.csv:1: key 'nobody'"):
        read_openmic(openmic)
    (openmic / "class-map.json").write_text('{"flute": 0, "violin": 2}')
    with pytest.raises(UserError, match="class-map"):
        read_openmic(openmic)
    (openmic / "openmic-2018.npz").write_bytes(b"PK")
    (openmic / "class-map.json").write_text('{"flute": 0, "violin": 1}')
    with pytest.raises(UserError, match=r"npz: not readable"):
        read_openmic(openmic)


def test_tagging_on_audioset_bars_clips_of_held_out_labels_and_of_their_relatives(audioset: Path) -> None:
    split = audioset / "dog.csv"
    rows = [
        ("Rain", "train"),
        ("Wind", "train"),
        ("Meow", "train"),
        ("Cat", "train"),
        ("Dog", "test"),
        ("Flute", "test"),
    ]
    write_rows(split, ("class", "role"), rows)
    config = configured(f"data.root={audioset}", "data.layout=audioset", "split.files=[dog.csv]")
    summary = prepare(config, workers=1)
    assert summary["sets"]["test"]["state"] == "ok"
    (of,) = class_splits(config)
    assert of.held == {"Dog", "Flute"}
    assert of.relatives == {"Animal", "Bark", "Music", "Musical instrument"}
    parts = DataSets(config).parts(of)
    assert [name[-1] for name in parts.train.names] == ["1", "2", "3", "6"]
    assert parts.train.classes == ("Rain", "Wind", "Meow", "Cat")
    assert parts.train.labels.sum(axis=0).tolist() == [2, 1, 1, 1]
    assert len(parts.test) == 4  # clips without a test label stay, as negatives
    assert parts.test.labels.tolist() == [[True, False], [False, False], [False, False], [False, False]]
    write_rows(split, ("class", "role"), [*rows, ("Animal", "train")])
    with pytest.raises(UserError, match="'Animal' trains, but is an ancestor or descendant of a held-out class"):
        class_splits(config)
    config.split.barred_by = "labels"
    (of,) = class_splits(config)
    assert [name[-1] for name in DataSets(config).parts(of).train.names] == ["1", "2", "3", "6"]
    assert DataSets(config).parts(of).barred == {"labels": 1, "relatives": 0}  # Dog and Animal


def test_random_folds_of_audioset_drop_relatives_from_the_training_classes(audioset: Path) -> None:
    config = configured(f"data.root={audioset}", "data.layout=audioset", "split.protocol=random", "split.files=[]",
                        "split.folds=4", "split.validation=0")  # fmt: skip
    splits = class_splits(config)
    assert sorted(name for split in splits for name in split.test) == sorted(TREE)
    tree = read_ontology(audioset / "ontology.json")
    for split in splits:
        assert not tree.relatives(split.test) & set(split.train)
        assert split.relatives == tree.relatives(split.test)


def test_openmic_by_audioset_near_and_far(audioset: Path, openmic: Path) -> None:
    given = [f"data.root={openmic}", "data.layout=openmic", "split.files=[]",
             f"data.training={{layout: audioset, root: {audioset}}}"]  # fmt: skip
    near, far = (configured(*given, f"split.protocol={name}") for name in ("near", "far"))
    (of,) = class_splits(near)
    assert (of.test, of.held) == (("flute", "violin"), {"Flute", "Violin, fiddle"})
    assert "Musical instrument" in of.train
    (of,) = class_splits(far)
    assert {"Musical instrument", "Flute", "Violin, fiddle"} == of.held
    assert "Music" in of.train
    far.split.far_root = "Music"
    assert "Music" not in class_splits(far)[0].train
    prepare(far, workers=1)
    parts = DataSets(far).parts(class_splits(far)[0])
    assert len(parts.train) == 6
    assert parts.barred == {"labels": 0, "relatives": 0}  # the clip of Flute and Music has no training class
    assert parts.test.judged.tolist() == [[True, False], [True, True]]


def test_clips_without_a_file_are_listed_and_left_out(audioset: Path) -> None:
    config = configured(f"data.root={audioset}", "data.layout=audioset", "split.protocol=random", "split.files=[]",
                        "split.folds=2", "split.barred_by=labels")  # fmt: skip
    next((audioset / "audio" / "balanced_train_segments").glob("*000001.wav")).unlink()
    summary = prepare(config, workers=1)
    assert (summary["sets"]["test"]["missing"], summary["sets"]["test"]["packed"]) == (1, 10)
    assert summary["sets"]["test"]["positive"]["Cat"] == 1
    clips, own = load_clips(config.data, RATE)
    assert (len(clips), own) == (10, (3,))
    assert len(list(audioset.rglob("clips.missing.tsv"))) == 1
