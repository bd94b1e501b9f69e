"""Spectrograms on disk, snippets of them, draws of an epoch, and the clips that are held out."""

import os
from collections import Counter
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.audio.packing import write_pack
from common.audio.packs import open_pack
from common.audio.reading import write_wav
from common.run.errors import UserError
from task2_anomaly.config import SAMPLE_RATE, Config
from task2_anomaly.data.batches import Clips, Draw, EpochSampler, SnippetDataset, WindowSampler, choose, train_loader
from task2_anomaly.data.classes import Machine
from task2_anomaly.data.features import Features, features_of
from task2_anomaly.data.front_end import front_end
from task2_anomaly.data.sets import held_out_rows, training_pack, training_rows

Configure = Callable[..., Config]
MEL = 3


def features(*sizes: int, start: float = 0.0) -> Features:
    """Clips of the given numbers of frames; every frame has a number of its own in band 0, its negative in band 1."""
    total = sum(sizes)
    frames = np.zeros((total, MEL), np.float32)
    frames[:, 0] = start + np.arange(total)
    frames[:, 1] = -frames[:, 0]
    of = np.array(sizes, np.int64)
    return Features([f"{n}.wav" for n in range(len(sizes))], frames, np.cumsum(of) - of, of)


# -------------------------------------------------------------------------------------------------------- spectrograms


def test_features_are_the_front_ends_of_the_clips(tiny: Configure) -> None:
    config, fan = tiny(), Machine("fan", 0)
    pack = training_pack(config.data, fan)
    found, ears = features_of(pack, config.front_end), front_end(config.front_end)
    assert found.names == list(open_pack(pack).names)
    for row in (0, len(found) - 1):
        expected = ears(torch.from_numpy(open_pack(pack).read(row))[None])[0].numpy()
        np.testing.assert_allclose(found.clip(row), expected, atol=1e-3)
        assert expected.shape == (40, found.num_frames[row])


def test_standardised_bands_have_mean_0_and_deviation_1(tiny: Configure) -> None:
    config = tiny("front_end.standardise=true")
    found = features_of(training_pack(config.data, Machine("fan", 0)), config.front_end).clip(2)
    np.testing.assert_allclose(found.mean(axis=1), 0, atol=1e-4)
    np.testing.assert_allclose(found.std(axis=1, ddof=1), 1, atol=1e-3)


def packed_sounds(folder: Path, **seconds: float) -> Path:
    files = []
    for n, (name, length) in enumerate(seconds.items()):
        sound = 0.1 * np.random.default_rng(n).standard_normal(round(16000 * length))
        write_wav(folder / f"{name}.wav", sound, 16000)
        files.append((f"{name}.wav", folder / f"{name}.wav"))
    write_pack(folder / "packed" / "some", files, 16000, workers=1)
    return folder / "packed" / "some"


def test_clips_of_many_lengths_stay_in_order(tiny: Configure, tmp_path: Path) -> None:
    pack = packed_sounds(tmp_path, a=0.9, b=0.5, c=0.9, d=0.2, e=0.5)
    found, ears = features_of(pack, tiny().front_end), front_end(tiny().front_end)
    assert found.names == [f"{name}.wav" for name in "abcde"]
    assert list(found.num_frames) == [ears.num_frames(round(16000 * s)) for s in (0.9, 0.5, 0.9, 0.2, 0.5)]
    for row in range(5):
        expected = ears(torch.from_numpy(open_pack(pack).read(row))[None])[0].numpy()
        np.testing.assert_allclose(found.clip(row), expected, atol=1e-3)


def test_features_are_kept_until_the_pack_or_the_front_end_changes(tiny: Configure, tmp_path: Path) -> None:
    pack, config = packed_sounds(tmp_path, a=0.5), tiny().front_end
    first = features_of(pack, config).clip(0)
    array = next((tmp_path / "packed" / "features").rglob("some-*.npy"))
    before = array.stat().st_mtime_ns
    features_of(pack, config)
    assert array.stat().st_mtime_ns == before
    assert features_of(pack, tiny("front_end.hop=256").front_end).clip(0).shape[1] > first.shape[1]
    assert len(list((tmp_path / "packed" / "features").iterdir())) == 2
    write_wav(tmp_path / "a.wav", np.zeros(8000), 16000)
    os.utime(tmp_path / "a.wav", ns=(before + 10**9, before + 10**9))
    write_pack(pack, [("a.wav", tmp_path / "a.wav")], 16000, workers=1)
    assert not np.allclose(features_of(pack, config).clip(0), first)
    assert [path.name for path in array.parent.glob("*.npy")] != [array.name]
    assert not array.exists()


def test_features_of_what_is_not_packed_or_too_short(tiny: Configure, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent: not packed yet; `prepare` packs the data set"):
        features_of(tmp_path / "absent", tiny().front_end)
    pack = packed_sounds(tmp_path, fine=0.5, short=0.01)
    with pytest.raises(UserError, match=r"some: short\.wav is too short for one frame"):
        features_of(pack, tiny().front_end)
    assert not list((tmp_path / "packed" / "features").rglob("*.npy"))


@pytest.mark.parametrize(
    "setting", ["task2_challenge", "task2_workshop", "task2_workshop_zero_pad", "task2_organisers"]
)
def test_the_front_ends_of_a_recipe_take_the_rate_of_the_data_set(tiny: Configure, setting: str) -> None:
    assert front_end(tiny(f"front_end.setting={setting}").front_end).sample_rate == SAMPLE_RATE


# ------------------------------------------------------------------------------------------------------------ snippets


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5), length=st.integers(1, 20), seed=st.integers(0, 999))
def test_cut_equals_a_plain_loop(sizes: list[int], length: int, seed: int) -> None:
    of, random = features(*sizes), np.random.default_rng(seed)
    clips = random.integers(0, len(sizes), 6)
    offsets = np.array([random.integers(0, max(sizes[c] - length, 0) + 1) for c in clips])
    plain = [np.tile(of.clip(c), 20)[:, o : o + length] for c, o in zip(clips, offsets, strict=True)]
    np.testing.assert_array_equal(of.cut(clips, offsets, length), plain)


def test_every_position_is_drawn_and_none_beyond() -> None:
    whole = Clips([features(9)])
    first = {int(whole.snippets(np.array([0]), np.array([seed]), 6)[0, 0, 0]) for seed in range(200)}
    assert first == {0, 1, 2, 3}
    exact = whole.snippets(np.array([0]), np.array([77]), 9)  # a clip as long as a snippet
    np.testing.assert_array_equal(exact[0], whole.parts[0].clip(0))
    repeated = whole.snippets(np.array([0]), np.array([77]), 12)  # and a shorter one
    np.testing.assert_array_equal(repeated[0, 0], [*range(9), 0, 1, 2])


def test_clips_are_found_in_their_parts() -> None:
    whole = Clips(
        [features(4, 4), features(4, start=100), features(4, 4, start=200)],
        [np.array([1]), np.array([0]), np.array([1, 0])],
    )
    assert len(whole) == 4
    clips = np.array([3, 0, 2, 1, 3])
    found = whole.snippets(clips, np.zeros(5, np.int64), 4)
    assert list(found[:, 0, 0]) == [200, 4, 204, 100, 200]
    some = whole.subset(np.array([0, 3]))
    assert list(some.snippets(np.array([0, 1]), np.zeros(2, np.int64), 4)[:, 0, 0]) == [4, 200]
    assert len(Clips([])) == 0


def test_batches_of_normals_and_proxies() -> None:
    dataset = SnippetDataset(Clips([features(6, 6)]), Clips([features(6, start=100)]), 4)
    batch = dataset.__getitems__(Draw(np.array([1, 0]), np.array([0, 0, 0]), np.array([0, 1, 2, 0, 5])))
    assert batch.normal.shape == (2, MEL, 4)
    assert batch.normal[:, 0, 0].tolist() == [6, 1]
    assert batch.proxy[:, 0, 0].tolist() == [102, 100, 102]  # seeds 2, 0 and 5 of three positions
    assert batch.normal.dtype == torch.float32
    alone = SnippetDataset(Clips([features(6, 6)]), None, 4).__getitems__(
        Draw(np.array([0]), np.array([], int), np.array([0]))
    )
    assert (len(alone.normal), len(alone.proxy)) == (1, 0)


# --------------------------------------------------------------------------------------------------------------- draws


def epoch(number: int = 0, seed: int = 5, normals: int = 10, proxies: int = 7, per_clip: int = 1) -> list[Draw]:
    return list(EpochSampler(normals, proxies, 4, seed, lambda: number, per_clip))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 9), st.integers(1, 3), st.integers(0, 99))
def test_an_epoch(normals: int, proxies: int, batch: int, per_clip: int, seed: int) -> None:
    sampler = EpochSampler(normals, proxies, batch, seed, lambda: 0, per_clip)
    draws = list(sampler)
    assert len(draws) == len(sampler)
    assert Counter(int(n) for draw in draws for n in draw.normals) == dict.fromkeys(range(normals), per_clip)
    assert all(len(draw.normals) == batch for draw in draws[:-1])  # the last one is kept when it is smaller
    assert all(len(draw.proxies) == batch for draw in draws)
    assert all(len(draw.seeds) == len(draw.normals) + len(draw.proxies) for draw in draws)
    counts = Counter(int(n) for draw in draws for n in draw.proxies)
    assert set(counts) <= set(range(proxies))
    assert max(counts.values()) - min(counts.get(n, 0) for n in range(proxies)) <= 1  # an endless shuffle


def test_draws_depend_on_seed_and_epoch_alone() -> None:
    def plain(draws: list[Draw]) -> list[list[list[int]]]:
        return [[part.tolist() for part in draw] for draw in draws]

    assert plain(epoch()) == plain(epoch())
    assert plain(epoch()) != plain(epoch(number=1))
    assert plain(epoch()) != plain(epoch(seed=6))
    np.random.default_rng().random()
    np.random.random()
    torch.rand(1)
    assert plain(epoch()) == plain(epoch())


def test_without_proxies() -> None:
    assert all(len(draw.proxies) == 0 and len(draw.seeds) == len(draw.normals) for draw in epoch(proxies=0))


def epochs_of(proxies: int, batch: int, ends: str, epochs: int, normals: int = 10) -> list[list[int]]:
    """The proxies of all batches of several epochs."""
    state = SimpleNamespace(epoch=0)
    sampler = EpochSampler(normals, proxies, batch, 5, lambda: state.epoch, ends=ends)  # type: ignore[arg-type]
    found = []
    for state.epoch in range(epochs):
        found += [draw.proxies.tolist() for draw in sampler]
    return found


@settings(deadline=None, max_examples=40)
@given(proxies=st.integers(1, 40), batch=st.integers(1, 9), normals=st.integers(1, 20))
def test_proxies_are_one_endless_pass_through_all_epochs(proxies: int, batch: int, normals: int) -> None:
    every = [n for of in epochs_of(proxies, batch, "joined", 6, normals) for n in of]
    turns = [every[first : first + proxies] for first in range(0, len(every), proxies)]
    assert all(sorted(turn) == list(range(proxies)) for turn in turns[:-1])
    assert len(set(turns[-1])) == len(turns[-1])  # each once before any comes again


def test_the_end_of_a_pass_is_kept_or_dropped() -> None:
    """Ten proxies in batches of four, three batches an epoch: passes of 4, 4, 2 (kept), or 4, 4 (dropped)."""
    kept = epochs_of(10, 4, "kept", 4)
    assert [len(of) for of in kept] == [4, 4, 2] * 4
    turns = [list(chain(*kept[first : first + 3])) for first in range(0, 12, 3)]
    assert all(sorted(turn) == list(range(10)) for turn in turns)
    assert len({tuple(turn) for turn in turns}) == 4  # shuffled anew
    dropped = epochs_of(10, 4, "dropped", 4)
    assert [len(of) for of in dropped] == [4] * 12
    assert all(len(set(dropped[n] + dropped[n + 1])) == 8 for n in range(0, 12, 2))
    assert len({*dropped[2], *dropped[3]} - {*dropped[0], *dropped[1]}) <= 2  # another two are left out
    even = [epochs_of(8, 4, ends, 3) for ends in ("joined", "kept", "dropped")]
    assert even[0] == even[1] == even[2]
    few = [epochs_of(3, 4, ends, 3) for ends in ("joined", "kept", "dropped")]
    assert few[0] == few[1] == few[2]  # fewer than a batch: always joined
    assert {len(of) for of in few[0]} == {4}


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=5), batch=st.integers(1, 9), seed=st.integers(0, 99))
def test_every_window_of_every_clip_once_an_epoch(sizes: list[int], batch: int, seed: int) -> None:
    length = 4
    clips = Clips([features(*sizes)])
    state = SimpleNamespace(epoch=0)
    sampler = WindowSampler(clips.windows(length), batch, seed, lambda: state.epoch)
    draws = list(sampler)
    assert len(draws) == len(sampler)
    expected = {(clip, place) for clip, size in enumerate(sizes) for place in range(max(size - length, 0) + 1)}
    drawn = [(int(c), int(s)) for draw in draws for c, s in zip(draw.normals, draw.seeds, strict=True)]
    assert sorted(drawn) == sorted(expected)
    for draw in draws:  # a seed is the place
        found = clips.snippets(draw.normals, draw.seeds, length)
        starts = clips.parts[0].starts[draw.normals] + draw.seeds
        np.testing.assert_array_equal(found[:, 0, 0], starts)
    state.epoch = 1
    again = [(int(c), int(s)) for draw in sampler for c, s in zip(draw.normals, draw.seeds, strict=True)]
    assert sorted(again) == sorted(drawn)
    assert len(drawn) < 8 or again != drawn


def test_the_last_windows_are_held_out_as_keras_does() -> None:
    """Windows 3, 1, 6 of three clips: of ten, one in ten is the last place of the last clip; in four, three places."""
    for share, missing in ((0.1, [(2, 5)]), (0.3, [(2, 3), (2, 4), (2, 5)])):
        sampler = WindowSampler(np.array([3, 1, 6]), 4, 0, lambda: 0, left_out=share)
        drawn = {(int(c), int(s)) for draw in sampler for c, s in zip(draw.normals, draw.seeds, strict=True)}
        every = {(clip, place) for clip, count in enumerate((3, 1, 6)) for place in range(count)}
        assert sorted(every - drawn) == missing
        assert len(sampler) == -(-(10 - len(missing)) // 4)


def test_an_amount_of_proxies_is_drawn_once() -> None:
    whole = Clips([features(*[4] * 6), features(*[4] * 5, start=100)])
    some = choose(whole, 5, seed=1)

    def first(whole: Clips) -> list[float]:
        return whole.snippets(np.arange(len(whole)), np.zeros(len(whole), np.int64), 4)[:, 0, 0].tolist()

    assert len(set(first(some))) == 5
    assert first(choose(whole, 5, seed=1)) == first(some) != first(choose(whole, 5, seed=2))
    assert choose(whole, None, seed=1) is whole
    assert sorted(first(choose(whole, 11, seed=1))) == sorted(first(whole))
    with pytest.raises(UserError, match=r"data\.proxy_clips: 12, but the proxy set has only 11 clips"):
        choose(whole, 12, seed=1)


def test_the_loader_gives_what_the_sampler_draws() -> None:
    normals, proxies = Clips([features(*[6] * 10)]), Clips([features(*[6] * 7, start=100)])
    state = SimpleNamespace(epoch=0)
    sampler = EpochSampler(10, 7, 4, 5, lambda: state.epoch)
    batches = list(train_loader(normals, proxies, 4, sampler))
    assert [len(batch.normal) for batch in batches] == [4, 4, 2]
    dataset = SnippetDataset(normals, proxies, 4)
    for batch, draw in zip(batches, epoch(), strict=True):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(batch, dataset.__getitems__(draw), strict=True))
    state.epoch = 1
    assert not torch.equal(next(iter(train_loader(normals, proxies, 4, sampler))).normal, batches[0].normal)


# ------------------------------------------------------------------------------------------------------------ held out


@settings(deadline=None, max_examples=40)
@given(clips=st.integers(4, 1000), share=st.floats(0.01, 0.5))
def test_held_out_and_training_clips_are_a_partition(clips: int, share: float) -> None:
    held, trained = held_out_rows(clips, share), training_rows(clips, share)
    assert sorted([*held, *trained]) == list(range(clips))
    assert len(held) == max(2, round(share * clips))  # a threshold needs two
    assert list(held) == sorted(held)
    np.testing.assert_array_equal(held, held_out_rows(clips, share))  # whatever the training's seed


def test_nothing_held_out() -> None:
    """As published: thresholds come from clips that were trained on."""
    assert list(training_rows(5, 0.0)) == list(held_out_rows(5, 0.0)) == [0, 1, 2, 3, 4]


def test_held_out_clips_lie_anywhere() -> None:
    assert list(held_out_rows(1000, 0.1)) not in (list(range(100)), list(range(900, 1000)))
