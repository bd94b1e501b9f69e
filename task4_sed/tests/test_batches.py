"""Batches: order of the blocks, epochs, processes, crops."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.audio.loading import SequentialSampler
from common.run.errors import UserError
from task4_sed.config import Config
from task4_sed.data.annotations import Event
from task4_sed.data.batches import CLIP_SAMPLES, BlockSampler, ClipDataset, WavMix, eval_loader
from task4_sed.data.labels import EventTable
from task4_sed.data.sets import ClipSet, load_set
from task4_sed.training.data import SedData

Configure = Callable[..., Config]

# Clips of the blocks; the third is left out.
SIZES = [7, 9, 0, 6]
BATCH = [2, 3, 0, 1]
PARTS = [range(7), range(7, 16), range(16, 22)]


def sampler(epoch: int = 0, seed: int = 42, rank: int = 0, ranks: int = 1, **changes: Any) -> BlockSampler:
    return BlockSampler(changes.get("sizes", SIZES), changes.get("batch", BATCH), seed, lambda: epoch, rank, ranks)


def clips(batches: list[np.ndarray]) -> list[int]:
    return [int(position) for batch in batches for position in batch[:, 0]]


def test_blocks_stand_in_their_order() -> None:
    batches = list(sampler())
    assert len(batches) == len(sampler()) == 3  # the first and second block have no whole share left
    for batch in batches:
        found = clips([batch])
        assert [position in PARTS[block] for block in range(3) for position in found].count(True) == 6
        first, second, last = found[:2], found[2:5], found[5:]
        assert [set(part) <= set(PARTS[i]) for i, part in enumerate((first, second, last))] == [True] * 3
        assert len(last) == 1


def test_an_epoch_has_no_clip_twice_and_the_next_one_other_clips() -> None:
    epochs = [clips(list(sampler(epoch))) for epoch in range(8)]
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) == 18
    assert len({tuple(epoch) for epoch in epochs}) == 8
    of_last_block = [{position for position in epoch if position in PARTS[2]} for epoch in epochs]
    assert {len(of) for of in of_last_block} == {3}
    assert len(set().union(*of_last_block)) == 6  # 3 of 6 an epoch, in time all of them


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def plain(sampler: BlockSampler) -> list[list[list[int]]]:
        return [batch.tolist() for batch in sampler]

    once = plain(sampler(3))
    np.random.seed(1)
    torch.manual_seed(1)
    assert plain(sampler(3)) == once
    assert plain(sampler(3, seed=43)) != once
    again = sampler(3)
    assert plain(again) == plain(again) == once


@settings(deadline=None, max_examples=25)
@given(
    sizes=st.lists(st.integers(1, 18), min_size=1, max_size=3),
    ranks=st.integers(1, 3),
    epoch=st.integers(0, 100),
    data=st.data(),
)
def test_processes_share_the_clips_of_one_process(
    sizes: list[int], ranks: int, epoch: int, data: st.DataObject
) -> None:
    batch = [data.draw(st.integers(1, of)) for of in sizes]
    steps = min(of // (size * ranks) for of, size in zip(sizes, batch, strict=True))
    of_rank = [list(sampler(epoch, rank=rank, ranks=ranks, sizes=sizes, batch=batch)) for rank in range(ranks)]
    assert {len(batches) for batches in of_rank} == {steps}
    everything = [clips(batches) for batches in of_rank]
    assert len(set(itertools.chain(*everything))) == sum(map(len, everything)) == steps * ranks * sum(batch)
    # together they see in each step what one process with a batch that much larger sees
    if steps:
        single = list(sampler(epoch, sizes=sizes, batch=[size * ranks for size in batch]))
        for step in range(steps):
            assert sorted(clips([single[step]])) == sorted(clips([batches[step] for batches in of_rank]))


def test_sequential_batches_of_all_processes_are_the_whole_set() -> None:
    assert [batch.tolist() for batch in SequentialSampler(5, 2)] == [[[0, 0], [1, 0]], [[2, 0], [3, 0]], [[4, 0]]]


@pytest.mark.parametrize(("size", "ranks", "each"), [(11, 3, 2), (9, 3, 2), (3, 4, 1), (1, 5, 1), (0, 2, 0)])
def test_all_processes_have_as_many_batches_and_together_every_clip(size: int, ranks: int, each: int) -> None:
    shares = [list(SequentialSampler(size, 2, rank, ranks)) for rank in range(ranks)]
    assert [len(share) for share in shares] == [each] * ranks
    assert [len(SequentialSampler(size, 2, rank, ranks)) for rank in range(ranks)] == [each] * ranks
    assert set(clips(list(itertools.chain(*shares)))) == set(range(size))


# --- clips


class Ramp:
    """A pack whose sample n of clip i is n + i / 10."""

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = np.array(lengths)

    def read_many(self, rows: np.ndarray, starts: np.ndarray, frames: int) -> np.ndarray:
        out = np.zeros((len(rows), frames), np.float32)
        for place, (row, start) in enumerate(zip(rows, starts, strict=True)):
            samples = np.arange(start, min(self.lengths[row], start + frames))
            out[place, : len(samples)] = samples + row / 10
        return out


def ramp_set(lengths: list[int], events: list[list[Event]], rows: list[int] | None = None) -> ClipSet:
    names = tuple(f"{i}.wav" for i in range(len(events)))
    rows = rows or list(range(len(events)))
    table = EventTable.build(events, ("A", "B"))
    of: Any = (names, Ramp(lengths), np.array(rows), table, {}, {}, {}, np.array([True, False]))
    return ClipSet("ramp", None, *of)  # type: ignore[arg-type]


LONG = CLIP_SAMPLES + 4 * 1024  # 4 frames more than a clip


def test_a_random_crop_moves_the_labels_with_the_audio() -> None:
    # in the long clip an event covers frames 3 to 5, in the short one frame 0
    events = [[Event(3 * 0.064, 6 * 0.064, "B")], [Event(0.0, 0.05, "A")]]
    data = ClipDataset([ramp_set([LONG, 8000], events)], random_crop=True)
    starts = set()
    for seed in (0, 1024, 2048, 3 * 1024, 4 * 1024, 4 * 1024 + 1, 777):
        batch = data.__getitems__(np.array([[0, seed], [1, seed]]))
        start = int(batch.waveform[0, 0])
        starts.add(start)
        assert start == seed % (LONG - CLIP_SAMPLES + 1)
        assert batch.waveform[0, -1] == start + CLIP_SAMPLES - 1
        shift = start / 1024
        active = [n for n in range(156) if n < 6 - shift and n + 1 > 3 - shift]
        assert np.flatnonzero(batch.targets[0, 1]).tolist() == active
        assert np.flatnonzero(batch.targets[1, 0]).tolist() == [0]  # padded, never moved
        assert batch.waveform[1, 7999] > 0
        assert batch.waveform[1, 8000:].abs().max() == 0
    assert len(starts) == 6


def test_outside_training_the_crop_is_at_0() -> None:
    data = ClipDataset([ramp_set([LONG], [[Event(3 * 0.064, 6 * 0.064, "B")]])], random_crop=False)
    batch = data.__getitems__(np.array([[0, 4096]]))
    assert batch.waveform[0, 0] == 0
    assert np.flatnonzero(batch.targets[0, 1]).tolist() == [3, 4, 5]


def test_a_batch_out_of_several_sets_keeps_its_order() -> None:
    first = ramp_set([9000, 9000, 9000], [[], [Event(0, 0.06, "A")]], rows=[2, 0])
    second = ramp_set([9000], [[Event(0, 0.06, "B")]])
    data = ClipDataset([first, second], random_crop=True)
    assert len(data) == 3
    batch = data.__getitems__(np.array([[2, 0], [1, 0], [0, 0], [2, 0]]))
    assert batch.waveform[:, 1].tolist() == pytest.approx([1.0, 1.0, 1.2, 1.0])  # rows 0 and 2 of the first pack
    assert batch.targets[:, :, 0].tolist() == [[0, 1], [1, 0], [0, 0], [0, 1]]
    assert batch.clip.tolist() == [0, 1, 0, 0]
    assert batch.valid.dtype == torch.bool
    assert batch.targets.shape == (4, 2, 156)


class Tones(Ramp):
    """A pack whose clip i is a cosine of i + 1 periods: what a mix is made of can be read off it."""

    def read_many(self, rows: np.ndarray, starts: np.ndarray, frames: int) -> np.ndarray:
        phase = 2 * np.pi * np.arange(frames) / frames
        return np.cos((rows[:, None] + 1) * phase).astype(np.float32) + 0.5


def test_waveforms_are_mixed_with_any_clip_of_their_set() -> None:
    confidence = [0.0, 0.2, 0.4, 0.6, 0.8]
    events = [[Event(0, 10, "A", value)] for value in confidence]
    tones = replace(ramp_set([CLIP_SAMPLES] * 5, events), pack=Tones([CLIP_SAMPLES] * 5))
    data = ClipDataset([tones, tones], random_crop=True, mixing=WavMix(0.5, 5.0, [True, False]))
    requests = np.array([[position, 100 * seed + position] for seed in range(40) for position in (1, 3, 6)])
    batch = data.__getitems__(requests)
    share = batch.waveform @ torch.from_numpy(tones.pack.read_many(np.arange(5), np.zeros(5), CLIP_SAMPLES) - 0.5).T
    share = (share / (CLIP_SAMPLES / 2)).numpy()
    clip, whole = requests[:, 0] % 5, share.max(axis=1) > 0.9999
    np.testing.assert_allclose(share.sum(axis=1), 1, atol=1e-3)
    assert (share[np.arange(len(clip)), clip] > 0.4999).all()
    np.testing.assert_allclose(batch.targets[:, 0].mean(-1), share @ confidence, atol=1e-3)
    assert whole[2::3].all()  # of the other set
    assert 20 < (~whole).sum() < 50  # of 80, half of them, but for those that met themselves
    partners = {int(np.argsort(row)[-2]) for row in share[~whole]}
    assert partners == set(range(5))
    assert batch.waveform[~whole].mean(-1).abs().max() < 1e-4
    again = data.__getitems__(requests)
    assert all(torch.equal(a, b) for a, b in zip(batch[:4], again[:4], strict=True))
    for request in requests[:9:3]:
        alone = data.__getitems__(request[None])
        assert alone.waveform.shape == (1, CLIP_SAMPLES)


# --- the data module


def loaded(config: Config, epoch: int = 0, seed: int = 42) -> list[Any]:
    data = SedData(config, seed)
    trainer: Any = SimpleNamespace(current_epoch=epoch, global_rank=0, world_size=1)
    data.trainer = trainer
    return list(data.train_dataloader())


def test_batches_of_the_tiny_recipe(tiny: Configure) -> None:
    batches = loaded(tiny())
    assert len(batches) == 3
    for batch in batches:
        assert batch.waveform.shape == (9, CLIP_SAMPLES)
        assert batch.waveform.abs().max() <= 1
        assert batch.targets.shape == (9, 27, 156)
        assert ((batch.targets >= 0) & (batch.targets <= 1)).all()
        assert batch.valid.sum(dim=1).tolist() == [19, 19, *[10] * 7]
        assert batch.targets[8].max() == 0  # unlabeled
        assert not (batch.targets.amax(dim=-1).bool() & ~batch.valid).any()


def test_worker_processes_give_the_same_batches(tiny: Configure) -> None:
    for one, other in zip(loaded(tiny(), epoch=2), loaded(tiny("data.workers=1"), epoch=2), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one[:4], other[:4], strict=True))
    assert not torch.equal(loaded(tiny(), epoch=2)[0].waveform, loaded(tiny(), epoch=3)[0].waveform)


def test_validation_is_every_clip_once_in_order(tiny: Configure) -> None:
    config = tiny("data.eval_batch=4")
    loaders = SedData(config, 42).val_dataloader()
    assert len(loaders) == len(config.validation.sets)
    for name, loader in zip(config.validation.sets, loaders, strict=True):
        clips = load_set(config.data, name, "validation")
        batches = list(loader)
        assert torch.cat([batch.clip for batch in batches]).tolist() == list(range(len(clips.clips)))
        waveform = torch.cat([batch.waveform for batch in batches])
        for i in (0, len(clips.clips) - 1):
            stored = clips.pack.read(int(clips.rows[i]))[:CLIP_SAMPLES]
            np.testing.assert_array_equal(waveform[i, : len(stored)].numpy(), stored)


def test_an_evaluation_loader_repeats_itself(tiny: Configure) -> None:
    loader = eval_loader(load_set(tiny().data, "maestro_val", "test"), tiny())
    assert all(torch.equal(a.waveform, b.waveform) for a, b in zip(loader, loader, strict=True))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.blocks.weak.batch=99"], r"data\.blocks\.weak: batch is 99, but its sets have only 7 clips"),
        ([f"data.blocks.{n}.batch=0" for n in ("maestro", "strong", "synth", "weak", "unlabeled")], "every block"),
        (["data.blocks.weak.sets=[weak, devtest]"], "devtest has no train part"),
        (["data.blocks.weak.sets=[]"], r"data\.blocks\.weak: batch is 2, but its sets have only 0 clips"),
        (["validation.sets=[devtest]"], "devtest has no validation part"),
    ],
)
def test_blocks_that_cannot_be_filled(tiny: Configure, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SedData(tiny(*overrides), 42)


def test_more_processes_than_the_sets_have_clips_for(tiny: Configure) -> None:
    data = SedData(tiny(), 42)
    trainer: Any = SimpleNamespace(current_epoch=0, global_rank=0, world_size=8)
    data.trainer = trainer
    with pytest.raises(UserError, match=r"data\.blocks\.\w+: 8 processes with a batch of 2 need 16 clips"):
        data.train_dataloader()
