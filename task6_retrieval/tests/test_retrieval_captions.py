"""Augmentation of captions."""

from pathlib import Path

import numpy as np
import pytest
import torch

from common.run.errors import UserError
from task6_retrieval.config import AugmentConfig
from task6_retrieval.training.captions import CaptionChange, caption_change, read_synonyms

WORDS = ["a", "small", "dog", "barks", "at", "the", "big", "cat"]
SYNONYMS = {"dog": ["hound"], "big": ["large", "huge"]}


def change(**settings: float) -> CaptionChange:
    return CaptionChange(AugmentConfig(**settings), SYNONYMS)  # type: ignore


def test_operations() -> None:
    rng = np.random.default_rng(0)
    of = change(replaced=1.0, deleted=0.5, swapped=0.5, inserted=1.0)
    replaced = of.replaced(WORDS, rng)
    assert replaced[2] == "hound"
    assert replaced[6] in ("large", "huge")
    assert [w for i, w in enumerate(replaced) if i not in (2, 6)] == [w for i, w in enumerate(WORDS) if i not in (2, 6)]
    kept = [of.deleted(WORDS, rng) for _ in range(300)]
    assert all(set(words) <= set(WORDS) for words in kept)
    assert np.mean([len(words) for words in kept]) == pytest.approx(len(WORDS) / 2, abs=0.5)
    assert len(change(deleted=1.0).deleted(WORDS, rng)) == 1
    assert all(sorted(of.swapped(WORDS, rng)) == sorted(WORDS) for _ in range(20))
    longer = of.inserted(WORDS, rng)
    assert set(longer) - set(WORDS) <= {"hound", "large", "huge"}
    assert [word for word in longer if word in WORDS] == WORDS


def test_probabilities_and_draws() -> None:
    captions = ["A dog.", "Rain, far away"]
    assert change()(captions, np.random.default_rng(0)) == captions
    half = [change(eda=0.5, deleted=0.0)(["Rain, far away"], np.random.default_rng(seed))[0] for seed in range(200)]
    assert 60 < sum(text == "rain far away" for text in half) < 140
    one, other = (change(eda=1.0, swapped=0.5)(captions, np.random.default_rng(3)) for _ in range(2))
    assert one == other
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(change(eda=1.0, deleted=0.5, swapped=0.5)([" ".join(WORDS)] * 5))
    assert drawn[0] == drawn[1] != drawn[2]


def test_files(tmp_path: Path) -> None:
    words = tmp_path / "words.json"
    words.write_text('{"dog": "hound"}')
    with pytest.raises(UserError, match=r"words.json: expected a mapping of words to lists"):
        read_synonyms(words)
    assert caption_change(AugmentConfig(), [], tmp_path) is None
