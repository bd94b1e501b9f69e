"""Class splits, clips and batches of the embedded data set: who is in which part, embeddings kept, what is wrong."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.audio.coverage import made_of
from common.audio.reading import load
from common.run.errors import UserError
from common.run.files import read_json, read_rows, write_rows
from common.tests.helpers import fingerprint
from zeroshot.config import Config
from zeroshot.data.batches import BalancedSampler, class_weights, eval_loader, train_loader
from zeroshot.data.classes import ESC50_FOLDS
from zeroshot.data.embeddings import Embedder, embed_recording, embedded
from zeroshot.data.layout import read_classes
from zeroshot.data.prepare import prepare
from zeroshot.data.sets import DataSets, load_clips, load_parts, packs_of
from zeroshot.data.splits import class_splits, read_split, write_split
from zeroshot.data.statistics import DIM, Statistics
from zeroshot.data.toy.sounds import COLUMNS, WORDS, Attributes, record
from zeroshot.data.toy.write import HELD_OUT, SIZES, classes_of, splits_of, write_toy

Configure = Callable[..., Config]


# --- the embedded data set


def test_the_same_bytes_for_a_seed(tiny_root: Path, tmp_path: Path) -> None:
    write_toy(tmp_path / "a", size="tiny")
    found = fingerprint(tmp_path / "a")
    assert found == {name: of for name, of in fingerprint(tiny_root).items() if not name.startswith("packed")}
    write_toy(tmp_path / "a", size="tiny")  # nothing to do
    with pytest.raises(UserError, match="made with seed=0, now 1"):
        write_toy(tmp_path / "a", seed=1, size="tiny")


@pytest.mark.parametrize("size", ["toy", "tiny"])
def test_near_and_far_differ_in_distance_alone(size: str) -> None:
    sizes = SIZES[size]  # type: ignore[index]
    classes = classes_of(sizes)
    assert len(set(classes)) == len(classes) == 12 * sizes.rhythms
    assert {value for of in classes for value in of} == {value for values in WORDS.values() for value in values}
    near, far = splits_of(classes, sizes)
    assert (near.test, near.val, len(near.train)) == (far.test, far.val, len(far.train))
    assert all(name.startswith(HELD_OUT) for name in near.test)
    assert not any(name.startswith(HELD_OUT) for name in (*far.train, *far.val))
    assert any(name.startswith(HELD_OUT) for name in near.train)


def test_a_class_in_words_and_numbers_and_sound() -> None:
    of = Attributes("noise", "regular", "rising", "high", "wide")
    assert (
        of.texts()[0]
        == "a hissing noise that repeats regularly, rising in pitch, in a high register, in a large echoing hall"
    )
    assert dict(zip(COLUMNS, of.numbers(), strict=True))["register_high"] == 1
    assert sum(of.numbers()) == 5
    random = np.random.default_rng(0)
    one, other = (record(random, of, 1.0, 8000) for _ in range(2))
    assert one.shape == (8000,)
    assert np.abs(one).max() <= 1
    assert not np.allclose(one, other)


@pytest.mark.parametrize("source", list(WORDS["source"]))
def test_what_registers_and_contours_sound_like(source: str) -> None:
    """The middle of the spectrum is higher in the high register, and moves with the contour."""

    def centre(part: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(part)) ** 2
        return float((power * np.fft.rfftfreq(len(part), 1 / 16000)).sum() / power.sum())

    random = np.random.default_rng(3)
    low, high, rising = (
        record(random, Attributes(source, "sustained", contour, register, "dry"), 2.0, 16000)
        for contour, register in (("flat", "low"), ("flat", "high"), ("rising", "high"))
    )
    assert centre(high) > 1.5 * centre(low)
    assert centre(rising[-8000:]) > 1.2 * centre(rising[:8000])


# --- prepare, splits, clips


def test_prepare_reports_what_is_there(tiny_root: Path, tiny: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny()
    summary = prepare(config, workers=1, verify=True)
    assert summary == read_json(packs_of(config.data, config.data.sample_rate) / "coverage.json")
    assert (summary["made_of"], made_of(tiny_root), summary["classes"]) == ("toy", "toy", 12)
    of = summary["sets"]["test"]
    assert (of["listed"], of["packed"], of["state"]) == (60, 60, "ok")
    assert set(of["positive"].values()) == {5}
    assert summary["splits"]["near"] == {
        "training classes": 7, "validation classes": 2, "test classes": 2, "training clips": 35, "test clips": 10,
        "barred by labels": 0, "barred by relatives": 0,
    }  # fmt: skip
    assert "class splits" in capsys.readouterr().out


def test_the_parts_of_a_split(tiny: Configure) -> None:
    config = tiny()
    near, far = class_splits(config)
    assert (near.name, far.name, near.test) == ("near", "far", far.test)
    parts = load_parts(config, near)
    for clips, classes in ((parts.train, near.train), (parts.validation, near.val), (parts.test, near.test)):
        assert clips is not None
        assert clips.classes == classes
        assert Counter(clips.classes[i] for i in clips.targets) == dict.fromkeys(classes, 5)
    assert parts.seen is None
    held = DataSets(tiny("data.generalised_folds=[4]")).parts(near)
    assert held.seen is not None
    assert set(held.seen.folds.tolist()) == {4}
    assert len(held.seen) == len(near.train)
    assert 4 not in held.train.folds
    assert set(held.test.folds.tolist()) == {1, 2, 3, 4, 5}
    wave = parts.test.pack.read(int(parts.test.rows[0]))
    assert np.allclose(wave, load(Path(config.data.root) / "audio" / parts.test.names[0], 8000), atol=1e-4)  # type: ignore[arg-type]


def test_drawn_folds_test_each_class_once(tiny: Configure) -> None:
    config = tiny("split.protocol=random", "split.files=[]", "split.folds=4", "split.validation=2")
    splits = class_splits(config)
    known = read_classes(config.data.root or "", "esc50")
    assert [split.name for split in splits] == ["fold1", "fold2", "fold3", "fold4"]
    assert sorted(name for split in splits for name in split.test) == sorted(known)
    for split in splits:
        assert sorted((*split.train, *split.val, *split.test)) == sorted(known)
        assert (len(split.val), split.held) == (2, {*split.val, *split.test})
    assert class_splits(config) == splits
    chosen = tiny("split.protocol=random", "split.files=[]", "split.folds=4", "split.validation=2",
                  "split.only=[fold3]")  # fmt: skip
    assert class_splits(chosen) == [splits[2]]
    chosen.split.only = ["fold9"]
    with pytest.raises(UserError, match=r"split\.only: no split 'fold9'; did you mean 'fold1'|fold9"):
        class_splits(chosen)


def test_every_choice_of_classes(tiny: Configure) -> None:
    config = tiny("split.protocol=leave_out", "split.files=[]", "split.leave_out=2", "checkpoint=last")
    splits = class_splits(config)
    assert len(splits) == len({split.test for split in splits}) == 12 * 11 // 2
    assert splits[0].name == "+".join(splits[0].test)
    config.split.leave_out = 11
    with pytest.raises(UserError, match=r"split\.leave_out: 11 of 12 classes"):
        class_splits(config)


def test_published_folds_and_categories_of_esc50(tmp_path: Path, tiny: Configure) -> None:
    names = [name for fold in ESC50_FOLDS for name in fold]
    rows = [(f"{n}.wav", 1 + n % 5, name, str(n)) for n, name in enumerate(names)]
    write_rows(tmp_path / "meta.csv", ("filename", "fold", "category", "src_file"), rows)
    given = (f"data.root={tmp_path}", "split.files=[]", "split.validation=10")
    splits = class_splits(tiny(*given, "split.protocol=random"))
    assert [split.test for split in splits] == [tuple(fold) for fold in ESC50_FOLDS]
    assert all((len(split.train), len(split.val)) == (30, 10) for split in splits)
    by_category = class_splits(tiny(*given, "split.protocol=category"))
    assert by_category[0].name == "animals"
    assert all(len(split.test) == 10 for split in by_category)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "{train},test,",
            r"own\.csv:\d+: class '{train}' is train in line 2 and test here: a class is either seen or unseen",
        ),
        ("{train},train,", r"own\.csv:\d+: class '{train}' is there twice \(line 2\)"),
        ("nobody,test,", r"own\.csv:\d+: unknown class 'nobody'"),
        ("{free},tset,", r"own\.csv:\d+: role 'tset'; did you mean 'test'"),
        ("{free},val", r"own\.csv:\d+: 2 fields, expected 3"),
    ],
)
def test_broken_split_files(tiny: Configure, tmp_path: Path, line: str, message: str) -> None:
    config = tiny()
    near = class_splits(config)[0]
    known = read_classes(config.data.root or "", "esc50")
    words = {"train": near.train[0], "free": next(n for n in known if n not in (*near.train, *near.val, *near.test))}
    write_split(tmp_path / "own.csv", near)
    with open(tmp_path / "own.csv", "a") as file:
        file.write(line.format(**words) + "\n")
    with pytest.raises(UserError, match=message.replace("{train}", words["train"])):
        read_split(tmp_path / "own.csv", config)


@pytest.mark.parametrize(("role", "left"), [("test", 1), ("train", 1), ("test", 0)])
def test_a_split_of_one_class(tiny: Configure, tmp_path: Path, role: str, left: int) -> None:
    rows = list(class_splits(tiny())[0].rows())
    kept = [row for row in rows if row[1] != role] + [row for row in rows if row[1] == role][:left]
    write_rows(tmp_path / "own.csv", ("class", "role", "reason"), kept)
    with pytest.raises(UserError, match=rf"own\.csv: {left} {role} class(es)?, expected two or more"):
        class_splits(tiny(f"split.files=[{tmp_path / 'own.csv'}]"))


def test_a_class_whose_clips_are_gone(tiny: Configure, linked_root: Path) -> None:
    config = tiny(f"data.root={linked_root}")
    gone = class_splits(config)[0].test[0]
    for row in read_rows(linked_root / "meta" / "esc50.csv", ("filename", "category")):
        if row["category"] == gone:
            (linked_root / "audio" / row["filename"]).unlink()
    with pytest.raises(UserError, match=f"split near: no test clip of '{gone}' is packed"):
        prepare(config, workers=1)
    (missing,) = linked_root.rglob("clips.missing.tsv")
    assert len(read_rows(missing, ("filename",))) == 5
    with pytest.raises(UserError, match="packed audio not found"):
        load_clips(tiny(f"data.root={linked_root}", "data.sample_rate=4000").data, 4000)


# --- embeddings and batches


def test_embeddings_are_computed_once(tiny: Configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tiny(f"data.packs={tmp_path}")
    prepare(config, workers=1)
    parts = load_parts(config, class_splits(config)[0])
    first = embedded(parts.test, config)
    assert first.shape == (10, DIM)
    assert np.isfinite(first).all()
    monkeypatch.setattr(Embedder, "_rows", None)
    assert np.array_equal(embedded(parts.test, config), first)
    whole = embed_recording(Path(config.data.root or "") / "audio" / parts.test.names[0], config)
    assert np.allclose(whole, first[0], rtol=1e-2, atol=0.05)  # packs hold 16 bits


def test_a_network_of_common_and_its_rate(tiny: Configure, tmp_path: Path) -> None:
    config = tiny("encoder.name=yamnet-tiny", "data.sample_rate=16000", f"data.packs={tmp_path}")
    prepare(config, workers=1)
    clips = load_parts(config, class_splits(config)[0]).test
    found = embedded(clips, config)
    assert found.shape == (10, 16)
    assert np.array_equal(found, embedded(clips, config))
    with pytest.raises(UserError, match=r"data\.sample_rate: 8000 Hz, but yamnet-tiny hears 16000 Hz"):
        embedded(clips, tiny("encoder.name=yamnet-tiny"))


def test_windows_of_a_long_recording_count_by_their_share(tiny: Configure) -> None:
    config = tiny()
    random = np.random.default_rng(1)
    loud, soft = (level * random.standard_normal(8000).astype(np.float32) for level in (0.1, 0.001))
    one, other = (embed_recording(of, config, 8000) for of in (loud, soft))
    assert np.allclose(embed_recording(np.concatenate([loud, soft]), config, 8000), (one + other) / 2, atol=1e-3)


def test_statistics_of_silence_and_of_gain() -> None:
    compute = Statistics(16000)
    assert np.isfinite(compute(np.zeros((1, 100), np.float32))).all()
    sound = np.random.default_rng(0).standard_normal((1, 16000)).astype(np.float32)
    moved = compute(0.1 * sound) - compute(sound)
    assert np.allclose(moved[0, :40], -20, atol=0.1)  # dB
    assert np.allclose(moved[0, 40:], 0, atol=0.05)


def test_batches_hold_every_clip_once(tiny: Configure) -> None:
    config = tiny()
    clips = load_parts(config, class_splits(config)[0]).train
    rows = [row for batch in train_loader(clips, config, seed=1) for row in batch.row.tolist()]
    assert sorted(rows) == list(range(35))
    assert rows != sorted(rows)
    batches = list(eval_loader(clips, config))
    assert [len(batch.row) for batch in batches] == [8, 8, 8, 8, 3]
    assert batches[0].audio.shape == (8, 8000)
    assert batches[0].labels.argmax(dim=1).tolist() == clips.targets[:8].tolist()
    vectors = np.arange(35 * 3, dtype=np.float32).reshape(35, 3)
    found = np.concatenate([batch.audio.numpy() for batch in eval_loader(clips, config, embeddings=vectors)])
    assert np.array_equal(found, vectors)


def test_rare_classes_come_oftener(tiny: Configure) -> None:
    config = tiny("data.balanced=true", "data.epoch_clips=20")
    clips = load_parts(config, class_splits(config)[0]).train
    few = clips.take(
        np.flatnonzero((clips.targets != 0) | (np.arange(len(clips)) < clips.targets.tolist().index(0) + 1))
    )
    weights = class_weights(few)
    assert weights[few.targets == 0].min() > weights[few.targets == 1].max()
    drawn = [row for batch in train_loader(few, config, seed=1) for row in batch.row.tolist()]
    assert len(drawn) == len(set(drawn)) == 20
    counts: Counter[int] = Counter()
    for epoch in range(300):
        sampler = BalancedSampler(np.array([5.0, 1, 1, 1, 1, 1]), 2, 2, 0, lambda epoch=epoch: epoch)
        counts.update(int(row) for requests in sampler for row in requests[:, 0])
    assert counts[0] > 2.5 * max(counts[i] for i in range(1, 6))
