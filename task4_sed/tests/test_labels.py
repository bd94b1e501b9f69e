"""Frame targets by hand and against a naive loop; aliases; the classes that a clip is labelled for."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from task4_sed.data.annotations import Event
from task4_sed.data.classes import CLASSES, DESED_CLASSES, DESED_TO_MAESTRO, MAESTRO_CLASSES
from task4_sed.data.labels import EventTable, aliases_for, frames_of, valid_classes, with_aliases

AB = ("A", "B")


def targets(events: list[Event], shift: float = 0.0, frames: int = 6, classes: tuple[str, ...] = AB) -> np.ndarray:
    table = EventTable.build([events], classes)
    return table.targets(np.array([0]), np.array([shift]), len(classes), frames)[0]


@pytest.mark.parametrize(
    ("onset", "offset", "shift", "expected"),
    [
        (0.0, 0.064, 0.0, [1, 0, 0, 0, 0, 0]),  # exactly one frame
        (0.064, 0.192, 0.0, [0, 1, 1, 0, 0, 0]),
        (0.063, 0.065, 0.0, [1, 1, 0, 0, 0, 0]),  # every frame that is touched
        (0.1, 0.11, 0.0, [0, 1, 0, 0, 0, 0]),
        (0.2, 9.0, 0.0, [0, 0, 0, 1, 1, 1]),  # past the last frame
        (0.0, float("inf"), 0.0, [1, 1, 1, 1, 1, 1]),
        (5.0, 6.0, 0.0, [0, 0, 0, 0, 0, 0]),
        (0.064, 0.256, 0.064, [1, 1, 1, 0, 0, 0]),  # a crop moves the labels with it
        (0.0, 0.2, 0.1, [1, 1, 0, 0, 0, 0]),
        (0.0, 0.1, 0.2, [0, 0, 0, 0, 0, 0]),
        (0.0, float("inf"), 0.5, [1, 1, 1, 1, 1, 1]),
        (0.5, 0.6, 0.5, [1, 1, 0, 0, 0, 0]),
    ],
)
def test_frames_by_hand(onset: float, offset: float, shift: float, expected: list[int]) -> None:
    found = targets([Event(onset, offset, "B")], shift)
    assert found.dtype == np.float32
    assert found.tolist() == [[0] * 6, expected]


def test_overlapping_events_have_the_largest_confidence() -> None:
    events = [Event(0.0, 0.192, "A", 0.25), Event(0.064, 0.256, "A", 0.75), Event(0.128, 0.256, "A", 0.5)]
    for order in (events, events[::-1]):
        assert targets(order)[0].tolist() == [0.25, 0.75, 0.75, 0.75, 0, 0]


def test_clips_in_any_order_and_more_than_once() -> None:
    table = EventTable.build([[Event(0, 0.064, "A")], [], [Event(0, 0.064, "B"), Event(0.064, 0.128, "A")]], AB)
    found = table.targets(np.array([2, 1, 0, 2]), np.array([0.064, 0.0, 0.0, 0.0]), 2, 3)
    assert found.tolist() == [
        [[1, 0, 0], [0, 0, 0]],
        [[0, 0, 0], [0, 0, 0]],
        [[1, 0, 0], [0, 0, 0]],
        [[0, 1, 0], [1, 0, 0]],
    ]


def test_clips_without_any_event() -> None:
    table = EventTable.build([[], []], AB)
    assert table.targets(np.array([0, 1]), np.zeros(2), 2, 5).tolist() == np.zeros((2, 2, 5)).tolist()


def test_a_label_outside_the_classes_is_a_bug() -> None:
    with pytest.raises(KeyError):
        EventTable.build([[Event(0, 1, "C")]], AB)


def naive(events: list[Event], shift: float, frames: int) -> np.ndarray:
    """One frame after the other; a frame is touched if it shares more than rounding with the event."""
    found = np.zeros((len(AB), frames), np.float32)
    for event in events:
        onset, offset = round((event.onset - shift) / 0.064, 6), round((event.offset - shift) / 0.064, 6)
        for frame in range(frames):
            if math.floor(onset) <= frame < offset and offset > 0:
                row = AB.index(event.label)
                found[row, frame] = max(found[row, frame], np.float32(event.confidence))
    return found


times = st.floats(0, 12, allow_nan=False) | st.integers(0, 180).map(lambda frame: frame * 0.064)
event = st.builds(
    lambda on, length, label, value: Event(on, on + length, label, value),
    times,
    st.floats(0.001, 5) | st.integers(1, 40).map(lambda frames: frames * 0.064),
    st.sampled_from(AB),
    st.floats(0, 1, width=32),
)


@settings(deadline=None, max_examples=60)
@given(
    clips=st.lists(st.lists(event, max_size=5), min_size=1, max_size=4),
    shift=st.floats(0, 8) | st.integers(0, 100).map(lambda frame: frame * 0.064),
    frames=st.integers(1, 156),
)
def test_many_clips_at_once_are_as_a_naive_loop(clips: list[list[Event]], shift: float, frames: int) -> None:
    table = EventTable.build(clips, AB)
    order = np.arange(len(clips))[::-1]
    shifts = np.full(len(clips), shift)
    found = table.targets(order, shifts, len(AB), frames)
    expected = np.stack([naive(clips[i], shift, frames) for i in order])
    np.testing.assert_array_equal(found, expected)


def test_frames_of_a_clip() -> None:
    assert [frames_of(n) for n in (160_000, 0, 256 * 3, 256 * 7 - 1, 256 * 7)] == [156, 0, 1, 1, 2]


# --- aliases and valid classes


def test_aliases_of_maestro_take_the_largest_confidence() -> None:
    """Three of its classes are Speech; the published code kept the confidence that was written last."""
    events = [
        Event(0, 0.064, "people talking", 0.25),
        Event(0, 0.128, "children voices", 0.75),
        Event(0, 0.192, "announcement", 0.5),
        Event(0, 0.064, "cutlery and dishes", 0.125),
        Event(0, 0.064, "car", 1.0),
    ]
    aliases = aliases_for("soft", CLASSES, desed_to_maestro=False, training=True)
    found = targets(with_aliases(events, aliases), frames=4, classes=CLASSES)
    row = {name: found[i].tolist() for i, name in enumerate(CLASSES)}
    assert row["Speech"] == [0.75, 0.75, 0.5, 0]
    assert row["Dishes"] == [0.125, 0, 0, 0]
    assert row["people talking"] == [0.25, 0, 0, 0]
    assert row["car"] == [1, 0, 0, 0]
    assert sorted(name for name, values in row.items() if any(values)) == sorted(
        ["Speech", "Dishes", *(e.label for e in events)]
    )


def test_aliases_of_desed_keep_the_events() -> None:
    events = [Event(0, 1, "Speech"), Event(2, 3, "Dog")]
    assert with_aliases(events, DESED_TO_MAESTRO) == [*events, Event(0, 1, "people talking")]
    assert with_aliases(events, {}) == events


@pytest.mark.parametrize("kind", ["strong", "weak", "unlabeled", "soft"])
@pytest.mark.parametrize("winner", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_valid_classes_of_baseline_and_winner(kind: str, winner: bool, training: bool) -> None:
    valid = valid_classes(kind, CLASSES, winner, training)  # type: ignore[arg-type]
    named = {name for name, is_valid in zip(CLASSES, valid, strict=True) if is_valid}
    if kind == "soft":
        assert named == {*MAESTRO_CLASSES, "Speech", "Dishes"}
        assert len(named) == 19
    elif winner and training:
        assert named == {*DESED_CLASSES, "people talking", "cutlery and dishes"}
    else:
        assert named == set(DESED_CLASSES)
    aliases = aliases_for(kind, CLASSES, winner, training)  # type: ignore[arg-type]
    assert set(aliases.values()) <= named
    assert bool(aliases) == (kind == "soft" or (winner and training))


def test_other_classes_are_all_valid_and_have_no_aliases() -> None:
    own = ("Speech", "Dog")
    assert valid_classes("soft", own, True, True).tolist() == [True, True]
    assert valid_classes("strong", own, True, True).tolist() == [True, True]
    assert aliases_for("soft", own, True, True) == {}
