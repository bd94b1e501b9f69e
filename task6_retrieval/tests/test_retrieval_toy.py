"""The embedded data set: the same bytes again, captions that say what is heard, Clotho's columns."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.tests.helpers import fingerprint
from task6_retrieval.config import Config
from task6_retrieval.data.sets import load_set
from task6_retrieval.data.toy.sounds import AMBIENCES, COUNTS, EVENTS, Scene, draw_scene
from task6_retrieval.data.toy.write import SIZES, scenes_of, write_toy


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_toy(tmp_path / name, seed, "tiny")
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")
    assert fingerprint(tmp_path / "a") != fingerprint(tmp_path / "c")


def test_five_different_captions_say_everything() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        scene = draw_scene(rng)
        captions = scene.captions(rng)
        assert len(set(captions)) == 5
        for caption in captions:
            assert 7 <= len(caption.split()) <= 24
            text = caption.lower()
            for event, count in scene.events:
                doing, often = f"{event.verb}|{event.gerund}", "|".join(COUNTS[count - 1])
                assert re.search(rf"{event.subject} ({doing}) ({often})\b", text), caption
            assert any(words in text for words in AMBIENCES[scene.ambience])
            if len(scene.events) == 2:
                first, second = (text.index(event.subject) for event, _ in scene.events)
                assert (first < second) == (" after " not in text or "after that" in text)


def test_no_two_scenes_are_the_same_and_all_events_occur() -> None:
    for split, clips in SIZES["toy"].clips.items():
        scenes = list(scenes_of(0, split, SIZES["toy"]))
        assert len(set(scenes)) == clips
        assert {event for scene in scenes for event, _ in scene.events} == set(EVENTS)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.keyword)
def test_every_event_is_heard_and_short(event: object) -> None:
    sound = event.make(np.random.default_rng(0), 16_000)  # type: ignore[attr-defined]
    assert 0.05 < len(sound) / 16_000 <= 0.75
    assert np.isfinite(sound).all()
    assert np.abs(sound).max() > 0.5


def test_clips_carry_captions_and_keywords(tiny: Callable[..., Config]) -> None:
    clips = load_set(tiny().data, "clotho_development")
    assert len(clips) == SIZES["tiny"].clips["development"]
    assert all(len(of) == 5 for of in clips.captions)
    assert all(words.split(";")[-1] in AMBIENCES for words in clips.keywords)
    assert ((clips.seconds > 0.8) & (clips.seconds <= 6)).all()


def test_keywords_of_a_scene() -> None:
    scene = Scene(((EVENTS[0], 2), (EVENTS[1], 1)), "rain")
    assert scene.keywords == "dog;cat;rain"
