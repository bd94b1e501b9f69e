"""Median filter, sound event bounding boxes and their tuning: fixtures, worked examples, invariants."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.run.errors import UserError
from task4_sed.data.annotations import Event
from task4_sed.inference.postprocess.boxes import parse_csebbs
from task4_sed.inference.postprocess.csebbs import (
    Boxes,
    CsebbsParameters,
    boxes_to_scores,
    combine_with_second_means,
    csebbs,
    read_boxes,
    read_parameters,
    write_boxes,
    write_parameters,
)
from task4_sed.inference.postprocess.tuning import CsebbsGrid, fold_of_clips, grid, tune_csebbs
from task4_sed.inference.scores import read_scores
from task4_sed.metrics.filters import median_filter
from task4_sed.metrics.maestro import overlap_add
from task4_sed.metrics.psds import PSDS1, psds, psds_statistics
from task4_sed.metrics.truth import truth_arrays
from task4_sed.metrics.types import ClipScores, ScoreSet


def one_clip(scores: np.ndarray, frame_seconds: float) -> ScoreSet:
    return ScoreSet(("a",), {"x": ClipScores(np.arange(len(scores) + 1) * frame_seconds, scores[:, None])})


def boxes_of(scores: np.ndarray, frame_seconds: float, *parameters: float) -> list[tuple[float, ...]]:
    found = csebbs(one_clip(scores, frame_seconds), CsebbsParameters(*parameters))["a"]
    rows = zip(found.onset.tolist(), found.offset.tolist(), found.confidence.tolist(), strict=True)
    return [tuple(round(value, 6) for value in row) for row in rows]


def bump(points: int) -> np.ndarray:
    return (1 - np.cos(np.linspace(0, 2 * np.pi, points))) / 2


def test_two_bumps() -> None:
    scores = np.zeros(500)
    scores[15:285], scores[315:485] = 0.98 * bump(270), 0.2 * bump(170)
    assert boxes_of(scores, 0.02, 1.0, 1.0, 2.0) == [(1.66, 4.34, 0.803109), (7.16, 8.84, 0.164042)]


def test_two_plateaus() -> None:
    scores = np.zeros(100)
    scores[20:40], scores[44:60] = 0.8, 0.7
    found = boxes_of(scores, 0.1, 0.4, 1.0, 2.0)
    assert [row[:2] for row in found] == [(0, 1.8), (2, 4), (4.4, 6), (6.2, 10)]
    assert [row[2] for row in found] == pytest.approx([0, 0.8, 0.7, 0], abs=1e-6)
    assert boxes_of(scores, 0.1, 0.4, 1.0, np.inf)[0] == pytest.approx((0, 10, 0.272), abs=1e-6)
    raised = boxes_of(np.where(scores == 0, 0.1, scores), 0.1, 0.4, 0.8, np.inf)
    assert len(raised) == 1
    assert raised[0] == pytest.approx((0, 10, 0.336), abs=1e-6)


def test_constant_scores_are_one_box() -> None:
    assert boxes_of(np.full(50, 0.3), 0.064, 0.5, 1.0, 2.0)[0] == pytest.approx((0, 3.2, 0.3), abs=1e-6)


def test_boxes_of_real_scores(shared: Path) -> None:
    """Every table of expected boxes: borders exactly, confidences to their six decimals."""
    folder = shared / "data" / "sed"
    scores = read_scores(folder / "frame_scores" / "scores")
    tables = [path for path in sorted((folder / "csebbs").glob("*.tsv")) if not path.stem.endswith("_parameters")]
    assert tables
    for path in tables:
        if match := re.fullmatch(r"filter([\d.]+)_(abs|rel)([\d.]+)", path.stem):
            other = "abs" if match[2] == "rel" else "rel"
            parameters = parse_csebbs(f"filter={match[1]},{match[2]}={match[3]},{other}=inf")
        elif path.stem.startswith("default"):
            parameters = CsebbsParameters(*map(float, path.stem.split("_")[1:]))
        else:
            parameters = read_parameters(path.with_name(f"{path.stem}_parameters.tsv"))
        found, expected = csebbs(scores, parameters), read_boxes(path, list(scores.clips), scores.classes)
        for name in scores.classes:
            assert found[name].clip.tolist() == expected[name].clip.tolist()
            np.testing.assert_allclose(found[name].onset, expected[name].onset, atol=1e-6)
            np.testing.assert_allclose(found[name].offset, expected[name].offset, atol=1e-6)
            np.testing.assert_allclose(found[name].confidence, expected[name].confidence, atol=1e-6)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 1.5), st.floats(0.01, 1.0), st.floats(1.01, 5.0))
def test_box_invariants(seed: int, length: float, merge_abs: float, merge_rel: float) -> None:
    random = np.random.default_rng(seed)
    scores = random.uniform(size=int(random.integers(1, 80)))
    end = round(len(scores) * 0.064, 8)
    parameters = CsebbsParameters(length, merge_abs, merge_rel)
    alone = csebbs(one_clip(scores, 0.064), parameters)["a"]
    assert (alone.onset >= 0).all()
    assert (alone.offset <= end).all()
    assert (alone.onset < alone.offset).all()
    assert (alone.onset[1:] > alone.offset[:-1]).all()
    assert ((alone.confidence >= 0) & (alone.confidence <= scores.max())).all()
    # The same clip among others, on the same and on another grid, gives the same boxes.
    clip = ClipScores(np.arange(len(scores) + 1) * 0.064, scores[:, None])
    other = ClipScores(np.array([0, 0.3, 2.0]), np.array([[0.4], [0.2]]))
    flipped = ClipScores(clip.edges, clip.scores[::-1].copy())
    together = csebbs(ScoreSet(("a",), {"o": other, "f": flipped, "x": clip}), parameters)["a"]
    own = together.clip == 2
    assert together.onset[own].tolist() == alone.onset.tolist()
    assert together.confidence[own].tolist() == alone.confidence.tolist()
    # Looser thresholds only ever join boxes.
    looser = csebbs(one_clip(scores, 0.064), CsebbsParameters(length, merge_abs * 2, merge_rel * 2))["a"]
    assert set(looser.onset.tolist()) <= set(alone.onset.tolist())


def test_boxes_become_scores() -> None:
    boxes = {
        "a": Boxes(np.array([0, 0]), np.array([0.5, 2.0]), np.array([1.0, 3.0]), np.array([0.2, 0.7])),
        "b": Boxes(np.array([1]), np.array([0.0]), np.array([4.0]), np.array([0.9])),
    }
    scores = boxes_to_scores(boxes, {"x": 3.0, "y": 4.0})
    assert scores.clips["x"].edges.tolist() == [0, 0.5, 1, 2, 3]
    assert scores.clips["x"].scores[:, 0].tolist() == [-np.inf, 0.2, -np.inf, 0.7]
    assert scores.clips["y"].scores.tolist() == [[-np.inf, 0.9]]


def test_combined_table_keeps_the_second_means() -> None:
    """The areas of MAESTRO are those of second means: boxes of other classes must not change them."""
    random = np.random.default_rng(5)
    edges = np.arange(157) * 0.064
    clips = {
        f"r-{start * 100:06d}-{(start + 10) * 100:06d}": ClipScores(edges, random.uniform(size=(156, 3)))
        for start in (0, 5, 10)
    }
    scores = ScoreSet(("car", "Dog", "birds"), clips)
    boxes = csebbs(scores, CsebbsParameters(), ["Dog"])
    combined = combine_with_second_means(boxes, scores)
    assert combined.classes == scores.classes
    before = overlap_add(scores, {"r": 20.0}, ["car", "birds"])["r"]
    np.testing.assert_allclose(overlap_add(combined, {"r": 20.0}, ["car", "birds"])["r"], before, atol=1e-12)
    for i, (name, clip) in enumerate(combined.clips.items()):
        assert clip.edges[-1] == pytest.approx(9.984)
        own = boxes["Dog"].clip == i
        middles = (boxes["Dog"].onset[own] + boxes["Dog"].offset[own]) / 2
        at = np.searchsorted(clip.edges, middles, side="right") - 1
        assert clip.scores[at, 1].tolist() == boxes["Dog"].confidence[own].tolist(), name
        assert (clip.scores >= 0).all()


def test_median_filter_by_class() -> None:
    scores = ScoreSet(("a", "b"), {"x": ClipScores(np.arange(6.0), np.array([[0, 1, 0, 0, 1.0]] * 2).T)})
    filtered = median_filter(scores, {"a": 3, "b": 1}).clips["x"].scores
    assert filtered[:, 0].tolist() == [0, 0, 0, 0, 1]  # "reflect": the last frame is repeated
    assert filtered[:, 1].tolist() == [0, 1, 0, 0, 1]
    with pytest.raises(UserError, match="no length for class 'b'"):
        median_filter(scores, {"a": 3})
    with pytest.raises(UserError, match="length 0 of b"):
        median_filter(scores, {"a": 3, "b": 0})


def noisy_set(clips: int = 20) -> tuple[ScoreSet, dict[str, list[Event]], dict[str, float]]:
    random = np.random.default_rng(2)
    edges = np.arange(101) * 0.1
    events = {f"clip{i:02d}": [Event(2.0, 4.0, "a"), Event(6.0, 7.0, "b")] for i in range(clips)}
    scored = {}
    for name in events:
        values = random.uniform(0, 0.4, (100, 2))
        values[20:40, 0] += 0.5
        values[60:70, 1] += 0.4
        scored[name] = ClipScores(edges, values)
    return ScoreSet(("a", "b"), scored), events, dict.fromkeys(events, 10.0)


def test_tuning_is_the_best_of_the_grid() -> None:
    scores, events, durations = noisy_set()
    truth = truth_arrays(events, durations, scores.classes)
    small = CsebbsGrid((0.4, 0.8), (0.1, 0.3), (1.5, 3.0))
    tuned = tune_csebbs(scores, truth, small, show_progress=False)
    for label, name in enumerate(scores.classes):
        values = []
        for setting in small.settings():
            boxes = csebbs(scores, setting)
            result = psds(psds_statistics([boxes[c].detections() for c in scores.classes], truth, PSDS1))
            values.append(result.single_class[name])
        assert tuned.parameters[name] == small.settings()[int(np.argmax(values))], label
        assert tuned.single_class[name] == max(values)
    assert 0 <= tuned.cross_validated <= 1
    together = tune_csebbs(scores, truth, CsebbsGrid((0.4,), (0.1, 0.3), (3.0,), class_wise=False), False)
    assert len(set(together.parameters.values())) == 1


def test_cross_validation_with_one_setting_is_the_plain_figure() -> None:
    scores, events, durations = noisy_set()
    truth = truth_arrays(events, durations, scores.classes)
    tuned = tune_csebbs(scores, truth, CsebbsGrid((0.6,), (), (2.0,)), show_progress=False)
    plain = psds(psds_statistics([tuned.boxes[c].detections() for c in scores.classes], truth, PSDS1))
    assert tuned.cross_validated == plain.value > 0


def test_folds_do_not_depend_on_the_order_of_clips() -> None:
    names = [f"clip{i}" for i in range(13)]
    folds = dict(zip(names, fold_of_clips(names).tolist(), strict=True))
    backwards = names[::-1]
    assert dict(zip(backwards, fold_of_clips(backwards).tolist(), strict=True)) == folds
    assert sorted(np.bincount(list(folds.values()))) == [2, 2, 3, 3, 3]


def test_grids() -> None:
    assert len(grid("winner").settings()) == 128
    assert len(grid("default").settings()) == len(grid("organisers").settings()) == 18
    with pytest.raises(UserError, match="did you mean 'winner'"):
        grid("winers")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("filtre=0.5", "did you mean 'filter'"),
        ("filter=long", "filter is 'long', expected a number"),
        ("best", "expected default, tune"),
        ("filter=0", "filter length above 0"),
        ("filter=0.5,abs=-1", "at least 0"),
        ("nowhere.tsv", "nowhere.tsv: table not found"),
    ],
)
def test_bad_csebbs_arguments(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        parse_csebbs(text)
    assert message in str(error.value)


def test_boxes_need_probabilities() -> None:
    with pytest.raises(UserError, match="x: cSEBBs need frame-wise probabilities"):
        csebbs(one_clip(np.array([0.5, -np.inf]), 0.1), CsebbsParameters())
    with pytest.raises(UserError, match="no parameters for class 'a'"):
        csebbs(one_clip(np.array([0.5]), 0.1), {"b": CsebbsParameters()})


def test_tables_round_trip(tmp_path: Path) -> None:
    parameters = {"a": CsebbsParameters(0.5, np.inf, 2.0), "b": CsebbsParameters(0.64, 0.2, np.inf)}
    write_parameters(tmp_path / "p.tsv", parameters)
    assert read_parameters(tmp_path / "p.tsv") == parameters
    boxes = {"a": Boxes(np.array([0, 1]), np.array([0.5, 2.0]), np.array([1.0, 3.0]), np.array([0.25, 0.75]))}
    write_boxes(tmp_path / "b.tsv", boxes, ["x", "y"])
    found = read_boxes(tmp_path / "b.tsv", ["x", "y"], ["a"])["a"]
    for field in ("clip", "onset", "offset", "confidence"):
        assert getattr(found, field).tolist() == getattr(boxes["a"], field).tolist()
    with pytest.raises(UserError, match=r"b\.tsv:3: unknown clip 'y'"):
        read_boxes(tmp_path / "b.tsv", ["x"], ["a"])
    (tmp_path / "p.tsv").write_text((tmp_path / "p.tsv").read_text().replace("0.64", "wide"))
    with pytest.raises(UserError, match=r"p\.tsv:3: step_filter_length is 'wide'"):
        read_parameters(tmp_path / "p.tsv")
