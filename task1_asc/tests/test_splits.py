"""Splits of the official form, and the six properties: on made ones, on the challenge's, and each one broken."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.run.errors import UserError
from task1_asc.config import SPLITS
from task1_asc.data.classes import DEVICES, PARTS_PER_SEGMENT, SCENES, TRAIN_DEVICES
from task1_asc.data.layout import ClipName, find_split, read_list, write_list
from task1_asc.data.splits import (
    SplitReport,
    allocate,
    check_splits,
    draw_locations,
    draw_test,
    make,
    make_splits,
    training_clips,
)


def segments(counts: dict[tuple[str, str], int], locations: int = 4) -> list[ClipName]:
    """All clips of so many segments for each (scene, device)."""
    return [
        ClipName(scene, f"oslo-{10 * SCENES.index(scene) + n % locations}", str(n), part, device)
        for (scene, device), count in counts.items()
        for n in range(count)
        for part in range(PARTS_PER_SEGMENT)
    ]


def pool(a: int = 24, others: int = 3) -> list[ClipName]:
    return segments({(s, d): a if d == "a" else others for s in SCENES for d in TRAIN_DEVICES})


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_allocation_rounds_cells_rows_and_columns(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    size = rows * columns
    counts = np.array(data.draw(st.lists(st.integers(0, 30), min_size=size, max_size=size))).reshape(rows, columns)
    if not counts.sum():
        return
    total = data.draw(st.integers(0, int(counts.sum())))
    got = allocate(counts, total, np.random.default_rng(0))
    share = counts * total / counts.sum()
    assert got.sum() == total
    assert ((got >= 0) & (got <= counts)).all()
    for axis in (None, 0, 1):
        off = got - share if axis is None else (got - share).sum(axis=axis)
        assert (np.abs(off) < 1).all()


def test_made_splits_have_every_property_and_the_official_sizes() -> None:
    clips = pool()
    total = len(clips) // PARTS_PER_SEGMENT  # 390: a twentieth is 19.5
    splits = make_splits(clips, seed=1)
    assert {split: len(of) // PARTS_PER_SEGMENT for split, of in splits.items()} == {
        5: 19, 10: 38, 25: 95, 50: 190, 100: total,
    }  # fmt: skip
    for split, of in splits.items():
        assert of == [clip for clip in clips if clip in set(of)], f"{split}: order of the pool"
    again, other = make_splits(clips, seed=1), make_splits(clips, seed=2)
    assert again == splits
    assert other[50] != splits[50]
    shuffled = make_splits([clips[i] for i in np.random.default_rng(0).permutation(len(clips))], seed=1)
    assert {split: set(of) for split, of in shuffled.items()} == {split: set(of) for split, of in splits.items()}


def test_as_many_segments_as_officially() -> None:
    """13,962 segments in the official numbers per device and about the official numbers per scene."""
    devices = dict(zip(TRAIN_DEVICES, (10215, 749, 748, 750, 750, 750), strict=True))
    counts = {(s, d): n // 10 + (i < n % 10) for d, n in devices.items() for i, s in enumerate(SCENES)}
    splits = make_splits(segments(counts), seed=0)
    assert [len(splits[split]) for split in SPLITS] == [6980, 13960, 34900, 69800, 139620]
    for small, large in ((5, 10), (10, 25), (25, 50), (50, 100)):
        sizes = [Counter(clip.device for clip in splits[split]) for split in (small, large)]
        for device in TRAIN_DEVICES:
            share = sizes[1][device] * len(splits[small]) / len(splits[large])
            assert abs(sizes[0][device] - share) < PARTS_PER_SEGMENT  # less than a segment


def test_pools_that_cannot_be_split() -> None:
    clips = pool()
    with pytest.raises(UserError, match=r"segment airport-oslo-0-0-a: 9 parts, expected 10"):
        make_splits(clips[1:], 0)
    with pytest.raises(UserError, match="19 training segments are too few"):
        make_splits(segments({("bus", "a"): 19}), 0)


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    """A data set with meta.csv only."""
    clips = segments({(s, d): 20 if d == "a" else 4 for s in SCENES for d in DEVICES})
    write_meta(tmp_path, clips)
    return tmp_path


def write_meta(root: Path, clips: list[ClipName]) -> None:
    rows = [f"{c.filename}\t{c.scene}\t{c.location}\t{c.device}\n" for c in clips]
    (root / "meta.csv").write_text("filename\tscene_label\tidentifier\tsource_label\n" + "".join(rows))


def test_splits_of_any_meta_csv(data_set: Path) -> None:
    lists = make(data_set, data_set / "splits", seed=3)
    assert {path.name for path in (data_set / "splits").iterdir()} == {
        *(f"split{split}.csv" for split in SPLITS), "test.csv",
    }  # fmt: skip
    for split, clips in lists.items():
        path = find_split(data_set, split)
        assert path is not None
        assert read_list(path) == clips
    report = check_splits(data_set, read_list(data_set / "meta.csv"))
    assert report.ok
    assert report.missing == ()
    assert all(check.holds for check in report.checks)
    cells = Counter((c.scene, c.device) for c in lists["test"])
    assert (len(cells), len(set(cells.values()))) == (90, 1)  # every scene as often on every device
    assert {clip.device for clip in lists["test"]} == set(DEVICES)
    before = {path: path.read_bytes() for path in (data_set / "splits").iterdir()}
    make(data_set, data_set / "splits", seed=4)  # the test and the 100 % list stay, the others are drawn anew
    changed = {path.stem for path, content in before.items() if path.read_bytes() != content}
    assert changed == {"split5", "split10", "split25", "split50"}


def test_a_list_that_names_what_meta_does_not(data_set: Path) -> None:
    (clip,) = segments({("bus", "a"): 1})[:1]
    write_list(data_set / "test.csv", [clip._replace(segment="999")])
    with pytest.raises(UserError, match=r"test\.csv: audio/bus-oslo-10-999-0-a\.wav is not in meta\.csv"):
        make(data_set, data_set / "out", seed=0)
    assert not (data_set / "out").exists()


def test_training_clips_keep_off_the_test() -> None:
    clips = segments({(s, d): 8 for s in SCENES for d in DEVICES})
    test = draw_test(clips, 0)
    training = training_clips(clips, test)
    assert {c.device for c in training} == set(TRAIN_DEVICES)
    assert not {c.location for c in training} & {c.location for c in test}


def test_held_out_locations() -> None:
    clips = segments({(s, "a"): 16 for s in SCENES}, locations=8)
    for share, expected in ((0.1, 1), (0.125, 1), (0.2, 2), (0.5, 4), (0.99, 7)):
        drawn = draw_locations(clips, share, np.random.default_rng(0))
        at = Counter(next(c.scene for c in clips if c.location == place) for place in drawn)
        assert set(at.values()) == {expected}
        assert set(at) == set(SCENES)
    with pytest.raises(UserError, match="scene bus: only one location"):
        draw_locations(segments({("bus", "a"): 3}, locations=1), 0.1, np.random.default_rng(0))


# --- the checker


@pytest.fixture
def good(tmp_path: Path) -> Path:
    clips = pool()
    for split, of in make_splits(clips, seed=0).items():
        write_list(tmp_path / f"split{split}.csv", of)
    test = segments({(s, d): 1 for s in SCENES for d in DEVICES})
    elsewhere = [clip._replace(location=clip.location.replace("oslo", "bergen")) for clip in test]
    write_list(tmp_path / "test.csv", elsewhere)
    return tmp_path


def violated(report: SplitReport) -> set[str]:
    return {check.name[0] for check in report.checks if check.holds is False}


def test_good_lists(good: Path) -> None:
    report = check_splits(good)
    assert report.ok
    assert [check.name[0] for check in report.checks] == list("123456")
    assert {check.verdict for check in report.checks} == {"holds"}
    assert report.clips == {"5 %": 190, "10 %": 380, "25 %": 950, "50 %": 1900, "100 %": 3900, "test": 900}
    assert report.as_dict()["ok"] is True


Change = Callable[[list[ClipName]], list[ClipName]]


def _stranger(clips: list[ClipName]) -> list[ClipName]:
    """One whole segment exchanged for one of the same cell that the larger list does not have."""
    return [clip._replace(segment="12345") if clip.recording == clips[0].recording else clip for clip in clips]


def _unbalanced(clips: list[ClipName]) -> list[ClipName]:
    """No segment of two scenes."""
    return [clip for clip in clips if clip.scene not in ("bus", "park")]


@pytest.mark.parametrize(
    ("split", "change", "properties"),
    [
        (5, _stranger, "1"),
        (
            10,
            lambda clips: clips[1:],
            "12",
        ),  # the smaller one has the part that is left out, or the segment is not whole
        (50, lambda clips: [*clips, clips[3]], "3"),
        ("test", lambda clips: [*clips, *segments({("bus", "a"): 1})], "4"),
        (100, lambda clips: [*clips, *segments({("bus", "s4"): 1})], "5"),
        (5, _unbalanced, "6"),
    ],
)
def test_each_property_broken(good: Path, split: int | str, change: Change, properties: str) -> None:
    path = find_split(good, split)  # type: ignore[arg-type]
    assert path is not None
    write_list(path, change(read_list(path)))
    report = check_splits(good)
    assert not report.ok
    assert violated(report) <= set(properties)
    assert properties[-1] in violated(report)


def test_numbers_of_the_violations(good: Path) -> None:
    write_list(good / "split50.csv", [*read_list(good / "split50.csv"), *segments({("bus", "s5"): 2})])
    numbers = {check.name[0]: check.numbers for check in check_splits(good).checks}
    assert numbers["1"] == {"5 in 10": 0, "10 in 25": 0, "25 in 50": 0, "50 in 100": 20}
    assert numbers["5"] == {"5 %": 0, "10 %": 0, "25 %": 0, "50 %": 20, "100 %": 0}
    meta = read_list(good / "split100.csv")
    assert check_splits(good, meta).checks[-1].numbers == {**numbers["5"], "test": 900}


def test_what_is_not_there_is_said_and_not_checked(good: Path) -> None:
    for name in ("split25", "split50", "split100", "test"):
        (good / f"{name}.csv").unlink()
    report = check_splits(good)
    assert report.ok
    assert report.missing == ("25 %", "50 %", "100 %", "test")
    assert [check.holds for check in report.checks] == [True, True, True, None, True, True]
    assert report.rows()[3][1:] == ["not checked", "lists are missing"]
    (good / "split10.csv").unlink()
    assert [check.holds for check in check_splits(good).checks] == [None, True, True, None, True, None]
    (good / "split5.csv").unlink()
    with pytest.raises(UserError, match=r"no split list found, expected split5\.csv"):
        check_splits(good)


def test_the_challenges_own_lists_are_accepted(shared: Path) -> None:
    report = check_splits(shared / "data" / "asc")
    assert report.ok
    assert len(report.clips) + len(report.missing) == len(SPLITS) + 1
    by_number = {check.name[0]: check for check in report.checks}
    for number in "235":
        assert by_number[number].holds is True
    if "5 %" in report.clips and "10 %" in report.clips:
        assert by_number["1"].holds is True
        assert by_number["6"].holds is True
    assert not replace(report, checks=(replace(report.checks[0], holds=False),)).ok
