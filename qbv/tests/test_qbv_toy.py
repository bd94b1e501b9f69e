"""The embedded data sets: the same bytes for a seed, whole or not at all, and imitations that keep the gesture."""

from pathlib import Path

import numpy as np
import pytest

from common.run.errors import UserError
from common.run.results.store import read_results
from common.run.verbs import main
from common.tests.helpers import fingerprint
from qbv.__main__ import TASK
from qbv.data.splits import check_splits, read_meta
from qbv.data.toy.sounds import TIMBRES, draw_gesture, draw_speaker, imitation, recording, retold
from qbv.data.toy.write import SIZES, Maker, sounds_of, write_toy


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    counted: list[tuple[int, int]] = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_toy(tmp_path / name, seed, "tiny", lambda *numbers: counted.append(numbers))
        assert counted[-1] == (sounds_of(SIZES["tiny"]),) * 2
        assert len(list((tmp_path / name).rglob("*.wav"))) == counted[-1][0]
    first, again, other = (fingerprint(tmp_path / name) for name in "abc")
    assert first == again
    assert first.keys() == other.keys()
    assert sum(first[name] != other[name] for name in first if name.endswith(".wav")) == counted[-1][0]
    write_toy(tmp_path / "a", 0, "tiny")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(UserError, match=r"full: exists and has no toy.json"):
        write_toy(tmp_path / "full", 0, "tiny")


def test_splits_are_as_the_official_ones(tiny_root: Path) -> None:
    for folder in (tiny_root / "splits", tiny_root / "vocal_sketch" / "splits"):
        found = check_splits(folder)
        assert read_meta(folder / "meta.csv").negative.keys() == read_meta(folder / "meta.csv").labels.keys()
    folds = check_splits(tiny_root / "splits")["folds"]
    assert [of["train"]["rows"] for of in folds] == [2 * of["train"]["imitations"] for of in folds]
    assert [of["test"]["rows"] for of in folds] == [of["test"]["imitations"] for of in folds]
    assert all(of["test"]["imitations_from_vocal_imitation_set"] > 0 for of in folds)
    assert found["fine"]["negatives_that_match"] == 0


def test_what_is_tested_sounds_like_what_trains() -> None:
    """Folds, which go by number, split neither timbres nor gestures of few and of many events."""
    sizes = SIZES["toy"]
    for part in ("vimsketch", "vocal_sketch"):
        concepts = Maker(0, sizes, None).concepts(part, sizes.concepts)
        assert len({of.label for of in concepts}) == len({of.gesture for of in concepts}) == sizes.concepts
        for fold in range(sizes.folds):
            tested = [of for of in concepts if of.number % sizes.folds == fold]
            assert {of.timbre for of in tested} == set(TIMBRES)
            assert {len(of.gesture.events) for of in tested} == {1, 2, 3, 4, 6}


@pytest.mark.slow  # a fold of the toy recipe: about two minutes
def test_training_finds_gestures_that_it_has_not_heard(tmp_path: Path) -> None:
    words = ["--recipe", "toy", "--run-dir", str(tmp_path / "runs"), f"data.root={tmp_path / 'data'}", "data.folds=[0]"]
    for verb in ("prepare", "train", "predict", "evaluate"):
        assert main(TASK, [verb, *words]) == 0, verb
    systems = read_results(tmp_path / "runs" / "run1")["test"]["values"]["systems"]
    trained = systems.pop("trained")
    for name, of in systems.items():
        assert trained["mrr"] > of["mrr"], name
        assert trained["interval"][0] > of["interval"][1] or name == "2dft", name


def test_who_imitates_keeps_order_and_direction() -> None:
    for seed in range(30):
        random = np.random.default_rng(seed)
        gesture, speaker = draw_gesture(random), draw_speaker(random)._replace(off_key=0.0)
        said = retold(random, gesture, speaker)
        assert len(said.events) == len(gesture.events)
        begins, ends = zip(*((of.begin, of.begin + of.length) for of in said.events), strict=True)
        assert list(begins) == sorted(begins)
        assert begins[0] >= 0
        assert max(ends) <= 1
        assert said.events != gesture.events
        for own, of in zip(gesture.events, said.events, strict=True):
            assert (np.sign(np.diff(own.pitch)) == np.sign(np.diff(of.pitch))).all()


@pytest.mark.parametrize("timbre", TIMBRES)
def test_sounds_of_a_timbre(timbre: str) -> None:
    rate, seconds = 8000, 2.0
    for seed in range(4):
        random = np.random.default_rng(seed)
        gesture, speaker = draw_gesture(random), draw_speaker(random)
        own = recording(random, gesture, timbre, seconds, rate)
        said = imitation(random, gesture, timbre, speaker, seconds, rate)
        assert own.shape == said.shape == (round(seconds * rate),)
        assert abs(np.corrcoef(own, said)[0, 1]) < 0.3
        for sound in (own, said):
            assert np.isfinite(sound).all()
            assert 0.01 < np.abs(sound).max() <= 1.0
