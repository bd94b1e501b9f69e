"""Batches: windows, segments without padding, numbers of clips, random crops in training alone."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from common.audio.arrays import store
from common.run.errors import UserError
from task6_retrieval.config import SAMPLE_RATE, Config
from task6_retrieval.data.batches import ClipDataset, clip_loader, crops, segments_of, train_loader
from task6_retrieval.data.captions import read_variants
from task6_retrieval.data.sets import load_set, numbered, training_sets
from task6_retrieval.model.audio import cut_segments


def test_every_caption_once_an_epoch(tiny: Callable[..., Config]) -> None:
    config = tiny("data.drop_last=false")
    sets = training_sets(config.data)
    seen = [
        (int(clip), caption, words)
        for batch in train_loader(sets, config, seed=1)
        for clip, caption, words in zip(batch.clip, batch.captions, batch.keywords, strict=True)
    ]
    (clips,) = sets
    expected = [(i, c, clips.keywords[i]) for i, of in enumerate(clips.captions) for c in of]
    assert sorted(seen) == sorted(expected)
    assert seen != expected
    dropping = tiny("data.batch=32")
    assert [len(b.captions) for b in train_loader(sets, dropping, seed=1)] == [32]
    assert len(train_loader(sets, dropping, seed=1)) == 1


def test_variants_take_the_place_of_captions_in_training(tiny: Callable[..., Config], tmp_path: Path) -> None:
    clips = load_set(tiny().data, "clotho_development")
    record = {"split": "development", "file_name": clips.clips[1], "caption_index": 2, "variants": ["one", "two"]}
    path = tmp_path / "variants.jsonl"
    path.write_text(json.dumps(record) + "\n" + json.dumps({**record, "split": "validation"}) + "\n")
    config = tiny("data.drop_last=false", f"data.variants={path}", "data.variants_probability=1")
    sets = training_sets(config.data)
    epochs = [[c for b in train_loader(sets, config, 1, lambda e=e: e) for c in b.captions] for e in range(8)]  # type: ignore[misc]
    original = {c for of in clips.captions for c in of}
    assert {c for captions in epochs for c in captions} - original == {"one", "two"}
    assert all(clips.captions[1][2] not in captions for captions in epochs)
    tested = [c for b in clip_loader(sets[0], config) for c in b.captions]
    assert set(tested) <= original


@pytest.mark.parametrize("line", ["{", "[]", '{"split": "x"}',
    '{"split": "x", "file_name": "a", "caption_index": 0, "variants": [""]}'])  # fmt: skip
def test_bad_variants(tmp_path: Path, line: str) -> None:
    (tmp_path / "v.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match=r"v\.jsonl:1: "):
        read_variants(tmp_path / "v.jsonl")


def test_ranks_share_an_epoch(tiny: Callable[..., Config]) -> None:
    config = tiny()
    sets = training_sets(config.data)
    parts = [{c for b in train_loader(sets, config, 1, lambda: 2, rank, 2) for c in b.captions} for rank in (0, 1)]
    assert not parts[0] & parts[1]


def test_clips_of_several_sets_have_different_numbers(tiny: Callable[..., Config]) -> None:
    config = tiny("data.drop_last=false")
    sets = numbered([load_set(config.data, name) for name in ("clotho_development", "clotho_validation")])
    owner = {caption: of.first + i for of in sets for i, clip in enumerate(of.captions) for caption in clip}
    batches = list(train_loader(sets, config, seed=0))
    assert {int(c) for b in batches for c in b.clip} == set(range(len(sets[0]) + len(sets[1])))
    unique = {c for of in sets for clip in of.captions for c in clip}
    if len(unique) == sum(len(clip) for of in sets for clip in of.captions):
        assert all(owner[c] == int(n) for b in batches for c, n in zip(b.captions, b.clip, strict=True))


def test_crops_are_random_in_training_alone(tiny: Callable[..., Config]) -> None:
    config = tiny("data.window_seconds=0.5", "data.segment_seconds=0.5")
    (clips,) = sets = training_sets(config.data)
    one = ClipDataset(sets, config.data, True, {})
    draws = [one.__getitems__(np.array([[0, seed]])).audio for seed in (0, 5000)]
    whole = torch.from_numpy(clips.pack.read(int(clips.rows[0])))
    assert torch.equal(draws[0][0], whole[:16_000])
    assert torch.equal(draws[1][0], whole[5000:21_000])
    batches = list(clip_loader(clips, config))
    again = list(clip_loader(clips, config))
    assert all(torch.equal(a.audio, b.audio) for a, b in zip(batches, again, strict=True))
    start = (len(whole) - 16_000) // 2
    assert torch.equal(batches[0].audio[0], whole[start : start + 16_000])
    assert [int(c) for b in batches for c in b.clip] == list(range(len(clips)))


def test_grid_covers_a_clip(tiny: Callable[..., Config]) -> None:
    assert crops(25, 10, "grid") == [0, 10, 15]
    assert crops(20, 10, "grid") == [0, 10]
    assert crops(7, 10, "grid") == [0]
    assert crops(25, 10, "centre") == [7]
    config = tiny("data.test_crop=grid", "data.window_seconds=0.5", "data.segment_seconds=0.5")
    clips = load_set(config.data, "clotho_validation")
    numbers = torch.cat([batch.clip for batch in clip_loader(clips, config)])
    expected = np.maximum(np.ceil(clips.seconds / 0.5 - 1e-6), 1).astype(int)
    assert torch.bincount(numbers).tolist() == expected.tolist()


def test_segments_of_padding_are_left_out(tiny: Callable[..., Config]) -> None:
    config = tiny("data.window_seconds=6")
    clips = load_set(config.data, "clotho_development")
    samples = round(config.data.segment_seconds * SAMPLE_RATE)
    left_out = 0
    for batch in clip_loader(clips, config):
        assert batch.audio.shape[1] % samples == 0
        assert batch.seconds.max() <= config.data.window_seconds
        pieces, there = cut_segments(batch.audio, batch.seconds, config.data.segment_seconds)
        segments, owner = pieces[there], there.nonzero()[:, 0]
        counts = segments_of(batch.seconds.numpy(), config.data.segment_seconds)
        assert torch.bincount(owner, minlength=len(batch.clip)).tolist() == counts.tolist()
        assert counts.max() == batch.audio.shape[1] // samples  # the longest clip has no segment of padding either
        assert (segments.abs().amax(dim=1) > 0).all()
        joined = torch.cat([segments[owner == i].flatten() for i in range(len(counts))])
        whole = torch.cat([row[: n * samples] for row, n in zip(batch.audio, counts, strict=True)])
        assert torch.equal(joined, whole)
        left_out += len(batch.clip) * int(counts.max()) - len(owner)
    assert left_out > 0


@pytest.mark.parametrize(("seconds", "count"), [(9.99, 1), (10.0, 1), (10.01, 2), (20.0, 2), (30.0, 3), (0.0, 1)])
def test_number_of_segments(seconds: float, count: int) -> None:
    assert segments_of(np.array([seconds], np.float32), 10.0).tolist() == [count]


def test_stored_embeddings_take_the_place_of_audio(tiny: Callable[..., Config], tmp_path: object) -> None:
    config = tiny()
    clips = load_set(config.data, "clotho_validation")
    sizes = np.arange(1, len(clips.pack) + 1)
    rows = iter(np.argsort(np.asarray(clips.pack.lengths), kind="stable"))

    def compute(waves: np.ndarray) -> list[np.ndarray]:
        return [np.full((sizes[row], 3), row, np.float32) for _, row in zip(waves, rows, strict=False)]

    stored = store(clips.pack, tmp_path, compute, 1, sizes=sizes)  # type: ignore[arg-type]
    for batch in clip_loader(clips, config, stored={clips.name: stored}):
        for audio, clip in zip(batch.audio, batch.clip, strict=True):
            row = clips.rows[clip]
            assert (audio[: sizes[row]] == float(row)).all()
            assert (audio[sizes[row] :] == 0).all()
