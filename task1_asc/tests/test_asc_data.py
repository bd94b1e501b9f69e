"""Prepare, clips and batches: what is packed and missing, which clips a part has, their order, windows, processes."""

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.audio.coverage import made_of
from common.audio.loading import SequentialSampler, ShuffledSampler
from common.audio.packs import open_pack
from common.audio.reading import load
from common.run.config import load_config
from common.run.errors import UserError
from common.run.files import read_json, read_rows
from task1_asc.config import SPLITS, Config
from task1_asc.data.batches import Batch, ClipDataset, eval_loader, train_loader
from task1_asc.data.classes import DEVICES, SCENES
from task1_asc.data.layout import EVALUATION_FOLDERS, find_split, parse_name, read_list, read_split, write_list
from task1_asc.data.prepare import prepare
from task1_asc.data.sets import Clips, load_clips, packs_of

Configure = Callable[..., Config]

TASK = Path(__file__).resolve().parent.parent


def at(root: Path, *overrides: str) -> Config:
    return load_config(
        Config, TASK / "recipes", str(TASK / "tests" / "tiny.yaml"), [f"data.root={root}", "data.sample_rate=44100",
                                                                      *overrides]
    )  # fmt: skip


# --- prepare


def test_a_whole_data_set(tiny_root: Path, tiny: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny()
    summary = prepare(config, workers=1, verify=True)
    packs = packs_of(config.data)
    assert summary == read_json(packs / "coverage.json")
    assert (summary["made_of"], made_of(tiny_root), summary["splits"]["ok"]) == ("toy", "toy", True)
    assert list(summary["sets"]) == ["train", "test", EVALUATION_FOLDERS[0]]
    for name, of in summary["sets"].items():
        assert (of["missing"], of["broken"], of["not_a_second"], of["state"]) == (0, 0, 0, "ok")
        assert of["packed"] == of["listed"] == len(open_pack(packs / name)) > 0
    names = [clip.filename for clip in read_list(tiny_root / "splits" / "split100.csv")]
    assert list(open_pack(packs / "train").names) == names
    assert not list(packs.glob("*.tsv"))
    assert "4 no location of the test" in capsys.readouterr().out


def test_missing_and_broken_clips_are_named_until_they_are_there(linked_root: Path) -> None:
    config = at(linked_root, "data.splits=[5]")
    small = {name for name, _ in read_split(linked_root, 5)}
    gone, broken = [name for name, _ in read_split(linked_root, 100) if name not in small][:2]
    (linked_root / gone).rename(linked_root / "kept.wav")
    content = (linked_root / broken).read_bytes()
    (linked_root / broken).unlink()
    (linked_root / broken).write_bytes(content[:1000])
    summary = prepare(config, workers=1)  # the recipe only needs split 5
    train, packs = summary["sets"]["train"], packs_of(config.data)
    assert (train["missing"], train["broken"], train["state"]) == (1, 1, "1 missing, 1 broken")
    assert [row["filename"] for row in read_rows(packs / "train.missing.tsv", ("filename",))] == [gone]
    (row,) = read_rows(packs / "train.broken.tsv", ("filename", "reason"))
    assert row["filename"] == broken
    assert "truncated wav" in row["reason"]
    with pytest.raises(UserError, match=rf"split100\.csv: 2 of 300 clips have no \(readable\) file, .* {gone}"):
        prepare(at(linked_root, "data.splits=[100]"), workers=1)
    with pytest.raises(UserError, match=r"no clip 'audio/.*`prepare` packs it, or says why it cannot"):
        load_clips(config.data, "train", 100)
    (linked_root / "kept.wav").rename(linked_root / gone)
    (linked_root / broken).write_bytes(content)
    assert prepare(at(linked_root), workers=1)["sets"]["train"]["state"] == "ok"
    assert not list(packs.glob("*.tsv"))


def test_what_prepare_refuses(linked_root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.root=DIR"):
        prepare(at(linked_root, "data.root=null"), workers=1)
    with pytest.raises(UserError, match=r"nowhere: data set not found; `prepare` writes it"):
        prepare(at(tmp_path / "nowhere"), workers=1)
    (linked_root / "splits" / "split50.csv").unlink()
    with pytest.raises(UserError, match=r"splits/split50\.csv: split list not found"):
        prepare(at(linked_root), workers=1)
    (linked_root / "splits" / "split25.csv").write_text("filename\tscene_label\nx.wav\tbus\n")
    with pytest.raises(UserError, match=r"split25\.csv:2: file name 'x\.wav' is not of the form"):
        prepare(at(linked_root), workers=1)
    (linked_root / "meta.csv").write_text("filename\tscene_label\n")
    with pytest.raises(UserError, match=r"meta\.csv:1: no column 'identifier'"):
        prepare(at(linked_root), workers=1)


def test_without_meta_csv_or_an_evaluation_set(linked_root: Path) -> None:
    (linked_root / "meta.csv").unlink()
    for name in EVALUATION_FOLDERS:
        (linked_root / name).rename(linked_root / f"another {name}")
    summary = prepare(at(linked_root), workers=1)
    assert (summary["meta"], list(summary["sets"])) == (None, ["train", "test"])
    with pytest.raises(UserError, match=r"no evaluation set of 2024 beside or in .*; data\.evaluation=DIR"):
        load_clips(at(linked_root).data, "evaluation")


def test_clips_that_are_not_a_second_are_counted(linked_root: Path) -> None:
    name, _ = read_split(linked_root, "test")[0]
    (linked_root / name).unlink()
    soundfile.write(linked_root / name, np.full(4000, 0.1), 8000, subtype="PCM_24")
    assert prepare(at(linked_root), workers=1)["sets"]["test"]["state"] == "1 not 1 s long"


# --- clips


@pytest.mark.parametrize("split", SPLITS)
def test_the_clips_of_a_split(tiny_root: Path, tiny: Configure, split: int) -> None:
    clips = load_clips(tiny().data, "train", split)
    assert list(zip(clips.names, (SCENES[i] for i in clips.labels), strict=True)) == read_split(tiny_root, split)
    assert [DEVICES[i] for i in clips.devices] == [parse_name(name).device for name in clips.names]
    assert [clips.pack.names[int(row)] for row in clips.rows] == list(clips.names)
    assert clips.segments is None


def test_test_validation_and_evaluation(tiny_root: Path, tiny: Configure) -> None:
    config = tiny().data
    test = load_clips(config, "test")
    assert list(test.names) == [name for name, _ in read_split(tiny_root, "test")]
    assert set(test.devices.tolist()) == set(range(9))
    assert load_clips(config, "validation", 5).names == test.names  # as published
    evaluation = load_clips(config, "evaluation")
    assert evaluation.names[:2] == ("audio/0.wav", "audio/1.wav")
    assert set(evaluation.labels.tolist()) == set(evaluation.devices.tolist()) == {-1}


def test_devices_of_the_evaluation_set_of_2025(linked_root: Path) -> None:
    config = at(linked_root, "data.edition=2025")
    table = linked_root / EVALUATION_FOLDERS[1] / "evaluation_setup" / "fold1_test.csv"
    table.write_text(table.read_text().replace("\tb\n", "\tunknown\n").replace("\tc\n", "\ts9\n"))
    prepare(config, workers=1)
    devices = load_clips(config.data, "evaluation").devices
    assert devices[:4].tolist() == [0, -1, -1, 3]


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_a_validation_part_has_locations_of_its_own(tiny: Configure, share: float) -> None:
    config = tiny(f"data.validation_share={share}").data
    train, validation, whole = (
        load_clips(config, "train", 100), load_clips(config, "validation", 100), load_clips(tiny().data, "train", 100),
    )  # fmt: skip
    assert sorted([*train.names, *validation.names]) == sorted(whole.names)
    places = [{parse_name(name).location for name in of.names} for of in (train, validation)]
    assert not places[0] & places[1]
    assert set(validation.labels.tolist()) == set(train.labels.tolist()) == set(range(10))
    assert load_clips(config, "validation", 100).names == validation.names
    assert load_clips(config, "test").names == load_clips(tiny().data, "test").names


def test_only_some_devices(tiny: Configure) -> None:
    config = tiny("data.devices=[a, s1]").data
    assert set(load_clips(config, "train", 100).devices.tolist()) == {0, 3}
    assert set(load_clips(config, "validation", 100).devices.tolist()) == {0, 3}
    assert set(load_clips(config, "test").devices.tolist()) == set(range(9))
    with pytest.raises(UserError, match=r"split100\.csv: none of its 300 clips is of data\.devices s4"):
        load_clips(tiny("data.devices=[s4]").data, "train", 100)
    with pytest.raises(UserError, match=r"data\.devices: unknown device 'd'"):
        load_clips(tiny("data.devices=[d]").data, "train", 100)


def test_parts_that_cannot_be_loaded(tiny: Configure, linked_root: Path) -> None:
    with pytest.raises(ValueError, match="part train needs a split"):
        load_clips(tiny().data, "train")
    with pytest.raises(UserError, match="packed audio not found; `prepare` makes it"):
        load_clips(at(linked_root).data, "test")
    with pytest.raises(UserError, match=r"scene \w+: only one location"):
        load_clips(tiny("data.validation_share=0.2").data, "train", 5)


# --- batches


def rows(batches: list[np.ndarray]) -> list[int]:
    return [int(row) for batch in batches for row in batch[:, 0]]


def shuffled(
    clips: int = 10, batch: int = 4, seed: int = 1, epoch: int = 0, rank: int = 0, ranks: int = 1
) -> list[Any]:
    return list(ShuffledSampler(clips, batch, seed, lambda: epoch, rank, ranks))


def test_an_epoch_has_every_clip_once_and_a_smaller_last_batch() -> None:
    epochs = [shuffled(epoch=epoch) for epoch in range(5)]
    assert [len(batch) for batch in epochs[0]] == [4, 4, 2]
    assert all(sorted(rows(epoch)) == list(range(10)) for epoch in epochs)
    assert len({tuple(rows(epoch)) for epoch in epochs}) == 5
    np.random.seed(0)
    assert rows(shuffled(epoch=3)) == rows(epochs[3])
    assert rows(shuffled(epoch=3, seed=2)) != rows(epochs[3])


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 5))
def test_processes_share_an_epoch(clips: int, batch: int, ranks: int) -> None:
    of_rank = [shuffled(clips, batch, rank=rank, ranks=ranks) for rank in range(ranks)]
    sampler = ShuffledSampler(clips, batch, 1, lambda: 0, 0, ranks)
    assert [len(batches) for batches in of_rank] == [len(sampler)] * ranks
    assert len({tuple(len(b) for b in batches) for batches in of_rank}) == 1
    counts = Counter(row for batches in of_rank for row in rows(batches))
    assert set(counts) == set(range(clips))
    assert sum(counts.values()) - clips < ranks  # no more repetitions than there must be
    if ranks == 1:
        assert set(counts.values()) == {1}


@pytest.mark.parametrize(("clips", "ranks", "each"), [(11, 3, 2), (9, 3, 2), (3, 4, 1), (0, 2, 0)])
def test_evaluation_in_order_for_all_processes(clips: int, ranks: int, each: int) -> None:
    shares = [list(SequentialSampler(clips, 2, rank, ranks)) for rank in range(ranks)]
    assert [len(share) for share in shares] == [each] * ranks
    assert set(rows(list(itertools.chain(*shares)))) == set(range(clips))
    assert rows(list(SequentialSampler(clips, 2))) == list(range(clips))


def test_batches_hold_the_clips_they_name(tiny_root: Path, tiny: Configure) -> None:
    config = tiny("data.batch=64")
    clips = load_clips(config.data, "train", 25)
    (batch,) = list(train_loader(clips, config, seed=1))
    assert batch.waveform.shape == (50, config.data.sample_rate)
    assert batch.waveform.dtype == torch.float32
    assert sorted(batch.row.tolist()) == list(range(50))
    for i in (0, 7, 49):
        name = clips.names[int(batch.row[i])]
        of = parse_name(name)
        assert (SCENES[int(batch.label[i])], DEVICES[int(batch.device[i])]) == (of.scene, of.device)
        wave = load(tiny_root / name, config.data.sample_rate)
        np.testing.assert_allclose(batch.waveform[i].numpy(), wave, atol=1e-4)


def equal(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("cropped", [False, True])
def test_what_an_epoch_holds_does_not_depend_on_workers_or_earlier_epochs(tiny: Configure, cropped: bool) -> None:
    epoch = [0]
    overrides = ("data.batch=16", f"data.cropped={str(cropped).lower()}")
    config, parallel = tiny(*overrides), tiny(*overrides, "data.workers=1")
    clips = load_clips(config.data, "train", 25)
    one, other = train_loader(clips, config, 1, lambda: epoch[0]), train_loader(clips, parallel, 1, lambda: epoch[0])
    first = list(one)
    epoch[0] = 1
    second = list(one)
    assert not equal(first[0], second[0])
    assert all(map(equal, second, list(other)))  # its first epoch here
    epoch[0] = 0
    assert all(map(equal, first, list(other)))
    assert len(first) == len(one) == 4


def test_evaluation_batches_are_every_clip_in_order(tiny: Configure) -> None:
    config = tiny("data.eval_batch=30")
    clips = load_clips(config.data, "test")
    batches = list(eval_loader(clips, config))
    assert [len(batch.row) for batch in batches] == [30, 30, 30, 10]
    assert torch.cat([batch.row for batch in batches]).tolist() == list(range(100))
    assert torch.equal(batches[1].waveform[3], torch.from_numpy(clips.pack.read(int(clips.rows[33]))))


class Ramp:
    """A pack at 100 Hz: sample n of clip i is 100 i + n, so that segments of ten clips in order are one ramp."""

    sample_rate = 100

    def read_many(self, rows: np.ndarray, starts: int, frames: int) -> np.ndarray:
        return (100 * rows[:, None] + starts + np.arange(frames)).astype(np.float32)


def ramp_clips() -> Clips:
    ramp: Any = Ramp()
    order = np.random.default_rng(0).permutation(30)  # the list need not be in the order of the pack
    segments = np.array([np.arange(10 * (row // 10), 10 * (row // 10) + 10) for row in order])
    return Clips(tuple(map(str, order)), order // 10, np.zeros(30, np.int64), ramp, order, segments)


def test_windows_run_across_the_clips_of_a_segment() -> None:
    clips, data = ramp_clips(), ClipDataset(ramp_clips())
    draws = [0, 1, 50, 99, 100, 250, 899, 900, 901, 12345]  # 901 starts: 0 to 900
    for draw in draws:
        requests = np.column_stack([np.arange(30), np.full(30, draw)])
        batch = data.__getitems__(requests)
        start = clips.rows // 10 * 1000 + draw % 901
        assert batch.waveform.shape == (30, 100)
        np.testing.assert_array_equal(batch.waveform.numpy(), start[:, None] + np.arange(100))
        assert batch.label.tolist() == clips.labels.tolist()


def test_windows_reach_every_start() -> None:
    clips = ramp_clips()
    starts = set()
    for epoch in range(40):
        for requests in ShuffledSampler(30, 30, 0, lambda epoch=epoch: epoch):  # type: ignore[misc]
            wave = ClipDataset(clips).__getitems__(requests).waveform
            starts.update((wave[:, 0] % 1000).long().tolist())
    assert min(starts) < 20
    assert 880 < max(starts) <= 900
    assert len(starts) > 500


def test_whole_segments_are_needed_for_windows(linked_root: Path) -> None:
    config = at(linked_root, "data.cropped=true")
    prepare(config, workers=1)
    clips = load_clips(config.data, "train", 25)
    assert clips.segments is not None
    for row, segment in zip(clips.rows, clips.segments, strict=True):
        names = [parse_name(clips.pack.names[int(part)]) for part in segment]
        assert [name.part for name in names] == list(range(10))
        assert {name.recording for name in names} == {parse_name(clips.pack.names[int(row)]).recording}
    assert load_clips(config.data, "validation", 25).segments is None
    path = find_split(linked_root, 25)
    assert path is not None
    write_list(path, read_list(path)[1:])
    with pytest.raises(UserError, match=r"data\.cropped: not all ten parts of the segment of audio/"):
        load_clips(config.data, "train", 25)
