"""Data sets: the official splits, exclusion lists, missing clips, classes of an own data set."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.audio.coverage import packs_of, root_of
from common.audio.packs import open_pack
from common.run.config import load_config
from common.run.errors import UserError
from common.run.files import read_rows, write_rows
from task4_sed.config import SET_NAMES, Config, ModelConfig
from task4_sed.data.annotations import Event, read_names, read_soft, read_strong, read_weak, write_soft, write_strong
from task4_sed.data.classes import CLASSES
from task4_sed.data.layout import EXCLUSION_LISTS, SETS
from task4_sed.data.prepare import prepare
from task4_sed.data.sets import (
    classes_of,
    load_set,
    maestro_training_recordings,
    recording_of,
    scene_of,
    split,
    weak_training_clips,
)

TASK = Path(__file__).resolve().parent.parent
Configure = Callable[..., Config]


def config_of(root: Path, *overrides: str) -> Config:
    return load_config(Config, TASK / "recipes", str(TASK / "tests" / "tiny.yaml"), [f"data.root={root}", *overrides])


# --- splits


def test_the_official_split_of_weak(shared: Path) -> None:
    folder = shared / "data" / "sed" / "desed_metadata"
    clips = list(read_weak(folder / "weak.tsv"))
    official = {row["filename"]: row["split"] for row in read_rows(folder / "weak_split_seed42.tsv", ("split",))}
    training = weak_training_clips(clips)
    assert {clip: "train" if clip in training else "validation" for clip in clips} == official
    assert split(SETS["weak"], clips, "train") == [clip for clip in clips if official[clip] == "train"]
    assert split(SETS["weak"], clips, "validation") == [clip for clip in clips if official[clip] == "validation"]


def test_the_official_inner_split_of_maestro(shared: Path) -> None:
    rows = read_rows(shared / "data" / "sed" / "maestro_split" / "maestro_real_split.tsv", ("split", "recording"))
    official = {row["recording"]: row["inner_split_seed42"] for row in rows if row["split"] == "train"}
    training = maestro_training_recordings(official)
    assert {name: "train" if name in training else "validation" for name in official} == official
    windows = [f"{name}-{start:06d}-{start + 1000:06d}.wav" for name in official for start in (0, 100)]
    chosen = split(SETS["maestro_train"], windows, "validation")
    assert {recording_of(name) for name in chosen} == {name for name in official if name not in training}
    assert len(chosen) == 2 * (len(official) - len(training))
    assert sorted([*chosen, *split(SETS["maestro_train"], windows, "train")]) == sorted(windows)


def test_the_split_does_not_depend_on_the_order_of_recordings() -> None:
    names = [f"{scene}_{n:02d}" for scene in ("cafe_restaurant", "own_scene") for n in range(10)]
    training = maestro_training_recordings(names)
    assert training == maestro_training_recordings([*names[::-1], *names])
    assert [sum(scene_of(name) == scene for name in training) for scene in ("cafe_restaurant", "own_scene")] == [9, 9]


def test_a_set_of_one_part_is_not_split() -> None:
    assert split(SETS["synth_train"], ["b", "a"], "train") == ["b", "a"]


def test_names_of_windows() -> None:
    assert recording_of("cafe_restaurant_00-000100-001100.wav") == "cafe_restaurant_00"
    assert scene_of("cafe_restaurant_00") == "cafe_restaurant"


# --- what is loaded


def test_train_and_validation_share_no_clip_and_leave_none_out(tiny: Configure, tiny_root: Path) -> None:
    config = tiny("data.exclude_overlapping=false")
    for name in ("weak", "maestro_train"):
        train, validation = (load_set(config.data, name, part) for part in ("train", "validation"))
        assert not set(train.clips) & set(validation.clips)
        assert sorted([*train.clips, *validation.clips]) == sorted(open_pack(packs_of(config.data) / name).names)
        assert validation.clips


def test_clips_are_the_rows_of_their_pack_and_have_their_events(tiny: Configure, tiny_root: Path) -> None:
    clips = load_set(tiny().data, "synth_val", "validation")
    assert [clips.pack.names[row] for row in clips.rows] == list(clips.clips)
    annotated = read_strong(tiny_root / SETS["synth_val"].annotation[0])
    assert clips.truth == annotated
    for i, clip in enumerate(clips.clips):
        rows = slice(clips.events.start[i], clips.events.start[i + 1])
        found = zip(
            clips.events.onset[rows],
            clips.events.offset[rows],
            (CLASSES[column] for column in clips.events.label[rows]),
            strict=True,
        )
        assert list(found) == [(e.onset, e.offset, e.label) for e in annotated[clip]]
    assert clips.valid.tolist() == [i < 10 for i in range(27)]


def test_weak_labels_fill_the_clip(tiny: Configure) -> None:
    clips = load_set(tiny().data, "weak", "train")
    targets = clips.events.targets(np.arange(len(clips.clips)), np.full(len(clips.clips), 3.0), 27, 156)
    for clip, of_clip in zip(clips.clips, targets, strict=True):
        expected = [float(name in clips.weak[clip]) for name in CLASSES]
        assert of_clip.min(axis=1).tolist() == of_clip.max(axis=1).tolist() == expected


def test_unlabeled_clips_have_neither_events_nor_labels(tiny: Configure) -> None:
    clips = load_set(tiny().data, "unlabeled", "train")
    assert len(clips.events.onset) == 0
    assert clips.weak == {}
    assert set(map(len, clips.truth.values())) == {0}


def test_excluded_clips_are_left_out_of_training(tiny: Configure, tiny_root: Path) -> None:
    listed = {name for path in EXCLUSION_LISTS.values() for name in read_names(tiny_root / path)}
    for name in ("strong", "weak", "unlabeled"):
        for part in SETS[name].parts:
            everything = load_set(tiny("data.exclude_overlapping=false").data, name, part).clips
            kept = load_set(tiny().data, name, part).clips
            assert kept == tuple(clip for clip in everything if clip not in listed)
        assert listed & set(open_pack(tiny_root / "packed" / name).names)
    external = load_set(tiny().data, "external_strong_train", "train").clips
    assert listed & set(external)  # this is where they stay


def test_a_list_excludes_from_every_training_set(linked_root: Path) -> None:
    """A clip of Unlabeled may be named in the list of Weak: public evaluation clips occur in several sets."""
    prepare(config_of(linked_root), workers=1)
    clip = load_set(config_of(linked_root).data, "unlabeled", "train").clips[0]
    write_rows(linked_root / EXCLUSION_LISTS["weak"], ("filename",), [(clip,)])
    assert clip not in load_set(config_of(linked_root).data, "unlabeled", "train").clips


def test_missing_clips_are_left_out_and_do_not_move_the_split(linked_root: Path) -> None:
    config = config_of(linked_root, "data.exclude_overlapping=false")
    prepare(config, workers=1)
    before = {part: load_set(config.data, "weak", part).clips for part in ("train", "validation")}
    gone = before["train"][2]
    (linked_root / SETS["weak"].audio[0] / gone).unlink()
    prepare(config, workers=1)
    assert load_set(config.data, "weak", "validation").clips == before["validation"]
    assert load_set(config.data, "weak", "train").clips == tuple(c for c in before["train"] if c != gone)


def test_windows_without_a_label_belong_to_maestro(linked_root: Path) -> None:
    config, table = config_of(linked_root), linked_root / SETS["maestro_val"].annotation[0]
    soft = read_soft(table)
    silent = next(iter(soft))
    write_soft(table, {name: events for name, events in soft.items() if name != silent})
    prepare(config, workers=1)
    clips = load_set(config.data, "maestro_val", "test")
    assert silent in clips.clips
    assert clips.truth[silent] == []


def test_a_clip_with_a_duration_and_no_row_has_no_event(linked_root: Path) -> None:
    config, table = config_of(linked_root), linked_root / SETS["devtest"].annotation[0]
    strong = read_strong(table)
    silent = next(clip for clip, events in strong.items() if events)
    write_strong(table, {name: events for name, events in strong.items() if name != silent})
    prepare(config, workers=1)
    clips = load_set(config.data, "devtest", "test")
    assert len(clips.clips) == len(strong)
    assert clips.truth[silent] == []


@pytest.mark.parametrize("winner", [False, True])
def test_aliases_of_the_winner_only_in_training(tiny: Configure, winner: bool) -> None:
    config = tiny(f"data.desed_to_maestro={winner}")
    speech, talking = CLASSES.index("Speech"), CLASSES.index("people talking")

    def rows(name: str, part: str) -> tuple[np.ndarray, np.ndarray]:
        events = load_set(config.data, name, part).events  # type: ignore[arg-type]
        return np.flatnonzero(events.label == speech), np.flatnonzero(events.label == talking)

    for name in ("synth_train", "weak"):
        spoken, alias = rows(name, "train")
        assert len(spoken) > 0
        assert len(alias) == (len(spoken) if winner else 0)
    assert len(rows("synth_val", "validation")[1]) == 0
    spoken, talked = rows("maestro_train", "train")
    assert len(spoken) >= len(talked) > 0


# --- classes of an own data set


def test_classes_are_those_of_the_challenge_unless_listed(tmp_path: Path) -> None:
    assert classes_of(tmp_path) == CLASSES
    write_rows(tmp_path / "classes.tsv", ("event_label",), [("Kazoo",), ("Gong",)])
    assert classes_of(tmp_path) == ("Kazoo", "Gong")


@pytest.mark.parametrize("names", [[], ["Gong", "Gong"], [""]])
def test_a_wrong_list_of_classes(tmp_path: Path, names: list[str]) -> None:
    (tmp_path / "classes.tsv").write_text("event_label\tx\n" + "".join(f"{name}\t1\n" for name in names))
    with pytest.raises(UserError, match=r"classes\.tsv: expected at least one class, each once"):
        classes_of(tmp_path)


def test_a_data_set_with_own_classes(linked_root: Path) -> None:
    write_rows(linked_root / "classes.tsv", ("event_label",), [("Gong",), ("Speech",)])
    folder = linked_root / SETS["synth_val"].audio[0]
    names = sorted(path.name for path in folder.iterdir())
    events = {name: [Event(0.0, 1.0, "Gong"), Event(0.5, 1.0, "Speech")] for name in names}
    for other in SETS.values():  # only this set stays
        for path in other.annotation if other.name != "synth_val" else ():
            (linked_root / path).unlink(missing_ok=True)
    write_strong(linked_root / SETS["synth_val"].annotation[0], events)
    config = config_of(linked_root, "data.desed_to_maestro=true")
    with pytest.raises(UserError, match="the recipe needs data set"):
        prepare(config, workers=1)
    clips = load_set(config.data, "synth_val", "validation")
    assert clips.valid.tolist() == [True, True]
    assert clips.events.label[:2].tolist() == [0, 1]
    assert len(clips.events.label) == 2 * len(names)


# --- mistakes


def test_mistakes(tiny: Configure, tiny_root: Path, tmp_path: Path) -> None:
    data = tiny().data
    for call, message in (
        (lambda: load_set(data, "weka", "train"), "unknown data set 'weka'; did you mean 'weak'?"),
        (lambda: load_set(data, "devtest", "train"), "data set devtest has no train part; it is for test"),
        (lambda: load_set(data, "maestro_train", "test"), "has no test part; it is for train, validation"),
        (lambda: load_set(tiny(f"data.packs={tmp_path}").data, "weak", "train"), "weak: packed audio not found"),
        (lambda: root_of(tiny("data.root=null").data), "data.root=DIR names the folder"),
        (lambda: root_of(tiny(f"data.root={tmp_path / 'no'}").data), "no: data set not found"),
    ):
        with pytest.raises(UserError) as caught:
            call()
        assert message in str(caught.value)


def test_a_set_of_which_no_clip_is_there(linked_root: Path) -> None:
    config = config_of(linked_root)
    prepare(config, workers=1)
    write_rows(
        linked_root / EXCLUSION_LISTS["strong"],
        ("filename",),
        [(n,) for n in open_pack(linked_root / "packed" / "strong").names],
    )
    with pytest.raises(UserError, match=r"no audio of data set strong \(train\) is there; `prepare` lists"):
        load_set(config.data, "strong", "train")


def test_settings_and_layout_name_the_same() -> None:
    """The settings must not import the data room, so they name sets and count classes themselves."""
    assert tuple(SETS) == SET_NAMES
    assert ModelConfig().num_classes == len(CLASSES)
