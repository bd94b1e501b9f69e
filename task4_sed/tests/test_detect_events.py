"""Scores to events against plain loops; tables of thresholds, choices and groups of classes, also wrong ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.run.errors import UserError
from task4_sed.inference.events import Rule, detections, events_of, read_rules, runs_of
from task4_sed.inference.labels import labels_of
from task4_sed.inference.options import Options
from task4_sed.inference.postprocess.csebbs import CsebbsParameters
from task4_sed.inference.spool import Spool, sigmoid
from task4_sed.metrics.types import ClipScores, ScoreSet

CLASSES, MIDS = ("Dog", "Bark", "Rain, drops"), ("/m/0bt9lr", "/m/05tny_", "/m/07r10fb")
STEP = 0.04


def plain(scores: list[float], rule: Rule) -> list[tuple[int, int]]:
    """Frame by frame, one state after the other."""
    low, found, start = rule.threshold if rule.low is None else rule.low, [], None
    for frame, score in enumerate([*scores, -1.0]):
        if score > low:
            start = frame if start is None else start
        elif start is not None:
            if any(value > rule.threshold for value in scores[start:frame]):
                found.append((start, frame))
            start = None
    joined: list[tuple[int, int]] = []
    for on, off in found:
        if joined and (on - joined[-1][1]) * STEP <= rule.gap + 1e-9:
            joined[-1] = joined[-1][0], off
        else:
            joined.append((on, off))
    return [(on, off) for on, off in joined if (off - on) * STEP >= rule.min_duration - 1e-9]


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.5, 0.6, 1.0]), min_size=1, max_size=40),
    st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    st.one_of(st.none(), st.floats(0, 1)),
    st.sampled_from([0.0, 0.04, 0.08, 0.12, 0.2]),
    st.sampled_from([0.0, 0.04, 0.08, 0.1, 0.4]),
)
def test_runs_against_a_plain_loop(
    scores: list[float], threshold: float, low: float | None, gap: float, least: float
) -> None:
    rule = Rule(threshold, None if low is None else low * threshold, 0.0, least, gap)
    assert runs_of(np.array(scores), rule, STEP) == plain(scores, rule)


def test_hysteresis_gaps_and_lengths_by_hand() -> None:
    scores = np.array([0.3, 0.6, 0.3, 0.1, 0.3, 0.3, 0.1, 0.7, 0.1, 0.1, 0.1, 0.6])
    assert runs_of(scores, Rule(0.5), STEP) == [(1, 2), (7, 8), (11, 12)]
    assert runs_of(scores, Rule(0.5, low=0.2), STEP) == [(0, 3), (7, 8), (11, 12)]  # 4 to 6 never gets above 0.5
    assert runs_of(scores, Rule(0.5, low=0.2, gap=0.12), STEP) == [(0, 3), (7, 12)]
    assert runs_of(scores, Rule(0.5, low=0.2, gap=0.12, min_duration=0.16), STEP) == [(7, 12)]
    assert runs_of(scores, Rule(0.6, low=0.2), STEP) == [(7, 8)], "a score at the threshold is not above it"


def test_what_an_event_says() -> None:
    """Times end with the recording; mean and peak are of the filtered scores."""
    scores = np.zeros((10, 2))
    scores[2:5, 0] = [0.4, 0.8, 0.6]
    scores[8:, 1] = 0.9
    rules = {"Dog": Rule(0.2, median=0.0), "Bark": Rule(0.5, median=0.0)}
    first, second = detections(scores, ("Dog", "Bark"), rules, STEP, end=0.37)
    assert (first.onset, first.offset, first.label, first.confidence, first.peak) == (0.08, 0.2, "Dog", 0.6, 0.8)
    assert (second.onset, second.offset, second.peak) == (0.32, 0.37, 0.9)


def test_median_filters_per_class() -> None:
    scores = np.zeros((40, 2))
    scores[[5, 20, 21, 22], :] = 0.9
    rules = {"Dog": Rule(0.2, median=3 * STEP), "Bark": Rule(0.2, median=9 * STEP)}
    found = detections(scores, ("Dog", "Bark"), rules, STEP, end=1.6)
    assert [(e.label, e.onset, e.offset) for e in found] == [("Dog", 0.8, 0.92)]


def test_boxes_know_their_peak() -> None:
    scores = np.full((20, 1), 0.01)
    scores[5:15, 0] = [0.5] * 5 + [0.9] * 5
    (box,) = events_of(ScoreSet(("Dog",), {"clip": ClipScores(np.arange(21) * 0.064, scores)}), CsebbsParameters(), 0.5)
    assert (box.onset, box.offset, box.confidence, box.peak) == (0.32, 0.96, 0.7, 0.9)


# ---------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"threshold": 1.5}, "--threshold is 1.5, expected 0 to 1"),
        ({"threshold": 0.3, "low": 0.4}, "--low is 0.4, expected 0 to the threshold, 0.3"),
        ({"median": -1.0}, "--median is -1, expected seconds of at least 0"),
        ({"min_duration": float("nan")}, "--min-duration is nan"),
        ({"gap": float("inf")}, "--gap is inf"),
        ({"hop": 0.0}, "--hop is 0, expected more than 0 s and at most 10 s"),
        ({"hop": 11.0}, "--hop is 11"),
        ({"top": 0}, "--top is 0, expected more than 0"),
        ({"page": -3.0}, "--page is -3"),
        ({"zoom": (3.0,)}, "--zoom is 3, expected its begin and end in seconds"),
        ({"zoom": (3.0, 3.0)}, "--zoom is 3 3, expected"),
        ({"zoom": (0.0, 3.0), "page": 5.0}, "--zoom or --page, not both"),
        ({"csebbs": "default", "gap": 0.1}, "--csebbs goes without --gap"),
        ({"parity": True, "hop": 4.0}, "--parity goes without --hop"),
        ({"parity": True, "csebbs": "default"}, "--parity goes without --csebbs"),
        ({"merged": Path("all.json")}, "--merged is all.json, expected a .tsv or .csv file"),
    ],
)
def test_options_that_make_no_sense(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        Options(**given)
    assert str(error.value).startswith(message)


# ----------------------------------------------------------------------------------------------------------- tables


def test_a_table_of_thresholds(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("event_label,threshold,low,median\n/m/05TNY_,0.5,0.3,\ndog,0.1,,0.2\n")
    rules = read_rules(tmp_path / "own.csv", Rule(gap=0.5), CLASSES, MIDS)
    assert rules == {
        "Dog": Rule(0.1, median=0.2, gap=0.5),
        "Bark": Rule(0.5, 0.3, gap=0.5),
        "Rain, drops": Rule(gap=0.5),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("event_label,threshold\nDgo,0.5\n", ":2: unknown class 'Dgo'; did you mean 'dog'?"),
        ("event_label,threshold\nDog,0.5\n/m/0bt9lr,0.4\n", ":3: class 'Dog' is listed twice"),
        ("event_label,threshold\nDog,2\n", ":2: threshold is 2, expected 0 to 1"),
        ("event_label,threshold\nDog,high\n", ":2: threshold is 'high', expected a number"),
        ("event_label,low\nDog,0.9\n", ":2: low is 0.9, expected 0 to the threshold, 0.2"),
        ("event_label,thresold\nDog,0.9\n", ":1: unknown column 'thresold'"),
        ("label,threshold\nDog,0.9\n", ":1: no column 'event_label'"),
        ("event_label,threshold\n", ": no rows, expected one per class"),
        ("", ": empty, expected a header line"),
    ],
)
def test_a_table_of_thresholds_that_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "own.csv").write_text(text)
    with pytest.raises(UserError) as error:
        read_rules(tmp_path / "own.csv", Rule(), CLASSES, MIDS)
    assert f"own.csv{message}" in str(error.value)


def test_a_choice_of_classes(tmp_path: Path) -> None:
    logits = np.arange(6.0).reshape(2, 3)
    for wanted in (["DOG", "rain,  drops"], ["/m/07R10FB", "/m/0bt9lr"], [str(tmp_path / "own.txt")]):
        (tmp_path / "own.txt").write_text("Rain, drops\n\ndog\n")
        found = labels_of(CLASSES, MIDS, wanted)
        assert (found.names, found.mids) == (("Dog", "Rain, drops"), (MIDS[0], MIDS[2]))
        np.testing.assert_array_equal(found(logits), logits[:, [0, 2]])
    everything = labels_of(CLASSES, None)
    assert (everything.names, everything.mids) == (CLASSES, None)
    np.testing.assert_array_equal(everything(logits), logits)


def test_groups_of_classes(tmp_path: Path) -> None:
    (tmp_path / "g.tsv").write_text("event_label\tgroup\nbark\tAnimal\nDog\tAnimal\nRain, drops\tRain\nDog\tPet\n")
    found = labels_of(CLASSES, MIDS, groups=tmp_path / "g.tsv")
    assert (found.names, found.mids) == (("Animal", "Rain", "Pet"), ("", MIDS[2], MIDS[0]))
    np.testing.assert_array_equal(found(np.array([[1.0, 5.0, 2.0], [4.0, 0.0, 3.0]])), [[5, 2, 1], [4, 3, 4]])
    some = labels_of(CLASSES, MIDS, ["pet", "animal"], tmp_path / "g.tsv")
    assert some.names == ("Animal", "Pet")
    np.testing.assert_array_equal(some(np.array([[1.0, 5.0, 2.0]])), [[5, 1]])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("g.tsv", "event_label\tgroup\nDgo\tAnimal\n", "g.tsv:2: unknown class 'Dgo'; did you mean 'dog'?"),
        ("g.tsv", "event_label\tgroup\nDog\t \n", "g.tsv:2: empty group"),
        ("g.tsv", "event_label\tgroup\nDog\tA\ndog\tA\n", "g.tsv:3: dog is in A twice"),
        ("g.tsv", "event_label\tgroup\n", "g.tsv: no rows"),
        ("g.tsv", "event_label\tname\nDog\tA\n", "g.tsv:1: no column 'group'"),
        ("own.txt", "Dog\nBrak\n", "own.txt:2: unknown class 'Brak'; did you mean 'bark'?"),
        ("own.txt", "\n", "own.txt: empty, expected a class in each line"),
        ("own.txt", b"\xff\xfe\x00", "own.txt: not a text file in UTF-8"),
        ("own.txt", None, "own.txt: list of classes not found"),
        ("Brak", None, "--labels: unknown class 'Brak'; did you mean 'bark'?"),
    ],
)
def test_choices_and_groups_that_are_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str | bytes | None, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path(name).write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UserError) as error:
        labels_of(CLASSES, MIDS, None if name == "g.tsv" else [name], Path(name) if name == "g.tsv" else None)
    assert message in str(error.value)


# ------------------------------------------------------------------------------------------------------------ spool


@pytest.mark.parametrize("on_disk", [True, False])
def test_the_spool_gives_back_what_went_in(tmp_path: Path, on_disk: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("task4_sed.inference.spool.VALUES", 200)
    logits = np.random.default_rng(0).normal(size=(103, 5)).astype(np.float32)
    spool = Spool(5, tmp_path / "out" if on_disk else None)
    for piece in np.split(logits, [10, 11, 60]):
        spool.add(piece)
        assert len(list(spool.blocks(0, 2))) == 1  # reading in between does not move what is added
    np.testing.assert_array_equal(np.concatenate(list(spool.blocks())), logits)
    np.testing.assert_array_equal(np.concatenate(list(spool.blocks(7, 99))), logits[7:99])
    np.testing.assert_array_equal(spool.columns([4, 1]), sigmoid(logits[:, [4, 1]]))
    np.testing.assert_array_equal(spool.peaks, sigmoid(logits.max(axis=0)))
    assert list(spool.shares([0, 2, 4])) == [[0], [2], [4]]
    first, found = spool.pooled(3, 100, 10)
    assert first.tolist() == list(range(3, 100, 10))
    for start, row in zip(first, found, strict=True):
        np.testing.assert_array_equal(row, sigmoid(logits[start : min(start + 10, 100)].max(axis=0)))
    assert list((tmp_path / "out").glob("*")) == [], "the file has no name"
