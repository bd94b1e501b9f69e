"""Detection from Python: a network loaded once, events and scores of files and arrays."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import task4_sed
from common.run.errors import UserError
from task4_sed.inference.detectors import load_detector

MODEL = "random:frame_mn-tiny"


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * 16_000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", noise, 16_000, subtype="FLOAT")
    return tmp_path / "a.wav"


def test_events_and_scores(sound: Path) -> None:
    ears = task4_sed.load(MODEL, "cpu", threshold=0.5, median=0, labels=["Dog", "/m/09x0r"])
    scores = ears.scores(sound)
    assert list(scores.columns) == ["onset", "offset", "Dog", "Speech"]
    assert scores["offset"].iloc[-1] == 3.0
    samples, rate = soundfile.read(sound, dtype="float32")
    detector = load_detector([MODEL], "cpu")
    logits = detector.logits(torch.from_numpy(np.pad(samples, (0, 7 * 16_000)))[None])[0, :75]
    column = detector.classes.index("Dog")
    np.testing.assert_allclose(scores["Dog"], logits[:, column].sigmoid(), atol=1e-6)
    assert scores.equals(ears.scores(samples, rate))
    events = ears.detect(sound)
    active = (scores["Dog"] > 0.5).to_numpy()
    assert sum(e["offset"] - e["onset"] for e in events if e["event_label"] == "Dog") == pytest.approx(
        0.04 * active.sum()
    )
    assert events == task4_sed.detect(sound, [MODEL], threshold=0.5, median=0, labels=["Dog", "Speech"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"treshold": 0.5}, "no option 'treshold'; did you mean 'threshold'"),
        ({"merged": "all.tsv"}, "no option 'merged'"),
        ({"threshold": 2}, "expected 0 to 1"),
        ({"labels": ["Dogg"]}, "did you mean 'dog'"),
    ],
)
def test_wrong_options(options: dict[str, object], says: str, sound: Path) -> None:
    with pytest.raises(UserError, match=says):
        task4_sed.detect(sound, MODEL, **options)


def test_networks_are_loaded_as_is_said(sound: Path) -> None:
    plain, rough = (task4_sed.load(MODEL, "cpu", **of) for of in ({}, {"precision": "bfloat16"}))
    assert not plain.scores(sound).equals(rough.scores(sound))
    part = task4_sed.load(MODEL, "cpu", start=1.0, end=2.0).scores(sound)
    assert (part["onset"].iloc[0], part["offset"].iloc[-1]) == (1.0, 2.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mean": "median"}, "mean: 'median', expected logits or probabilities"),
        ({"precision": "int8"}, "precision: 'int8', expected float32 or bfloat16 or float16"),
        ({"weights": "gone"}, "gone: folder of published checkpoints not found"),
        ({"wieghts": "."}, "no option 'wieghts'; did you mean 'weights'"),
        ({"start": -1.0}, "--start is -1, expected seconds of at least 0"),
    ],
)
def test_words_that_do_not_exist(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        task4_sed.load(MODEL, "cpu", **wrong)
