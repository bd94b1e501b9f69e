"""Tables of annotations: what is read, what is refused, and that writing and reading agree."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.run.errors import UserError
from task4_sed.data.annotations import (
    Event,
    read_durations,
    read_names,
    read_soft,
    read_strong,
    read_weak,
    write_durations,
    write_soft,
    write_strong,
    write_weak,
)
from task4_sed.data.classes import DESED_CLASSES, MAESTRO_CLASSES

STRONG = "filename\tonset\toffset\tevent_label\n"
SOFT = "filename\tonset\toffset\tevent_label\tconfidence\n"


def table(folder: Path, text: str) -> Path:
    path = folder / "a.tsv"
    path.write_text(text)
    return path


def test_strong(tmp_path: Path) -> None:
    text = STRONG + "b.wav\t0.5\t2\tDog\na.wav\t\t\t\nb.wav\t0\t10.2\tCat\nc.wav\n"
    read = read_strong(table(tmp_path, text), DESED_CLASSES, {"b.wav": 10.0})
    assert list(read.items()) == [
        ("b.wav", [Event(0.5, 2.0, "Dog"), Event(0.0, 10.2, "Cat")]),
        ("a.wav", []),
        ("c.wav", []),
    ]
    assert read["b.wav"][0].confidence == 1.0


def test_soft(tmp_path: Path) -> None:
    name = "cafe_restaurant_00-000000-001000.wav"
    read = read_soft(table(tmp_path, f"{SOFT}{name}\t0\t1\tdoor opens/closes\t0.25\n"), MAESTRO_CLASSES)
    assert read == {name: [Event(0.0, 1.0, "door opens/closes", 0.25)]}


def test_weak(tmp_path: Path) -> None:
    read = read_weak(table(tmp_path, "filename\tevent_labels\na.wav\tDog,Cat\nb.wav\t\n"), DESED_CLASSES)
    assert read == {"a.wav": ["Dog", "Cat"], "b.wav": []}


def test_durations_and_names(tmp_path: Path) -> None:
    assert read_durations(table(tmp_path, "filename\tduration\na.wav\t9.98\n")) == {"a.wav": 9.98}
    assert read_names(table(tmp_path, "filename\nb.wav\na.wav\n")) == ["b.wav", "a.wav"]


LIMITS = {"a.wav": 10.0}


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (read_strong, STRONG + "a.wav\t0\t1\tDogg\n", "a.tsv:2: unknown class 'Dogg'; did you mean 'Dog'?"),
        (read_strong, STRONG + "b.wav\t\t\t\na.wav\t-0.1\t1\tDog\n", "a.tsv:3: onset -0.1 is negative"),
        (read_strong, STRONG + "a.wav\t2\t1\tDog\n", "a.tsv:2: offset 1 is not after onset 2"),
        (read_strong, STRONG + "a.wav\t1\t1\tDog\n", "a.tsv:2: offset 1 is not after onset 1"),
        (read_strong, STRONG + "a.wav\t1\t10.3\tDog\n", "a.tsv:2: offset 10.3 is past the end of the clip (10 s)"),
        (read_strong, STRONG + "a.wav\tx\t1\tDog\n", "a.tsv:2: onset is 'x', expected a number"),
        (read_strong, STRONG + "a.wav\t0\tnan\tDog\n", "a.tsv:2: offset is 'nan', expected a finite number"),
        (read_strong, STRONG + "a.wav\t0\t1\t\n", "a.tsv:2: unknown class ''"),
        (read_strong, STRONG + "a.wav\t\t1\tDog\n", "a.tsv:2: onset is '', expected a number"),
        (read_strong, STRONG + "\t0\t1\tDog\n", "a.tsv:2: empty filename"),
        (read_strong, "filename\tonset\toffset\tlabel\n", "a.tsv:1: no column 'event_label'; did you mean 'label'?"),
        (read_soft, SOFT + "a.wav\t0\t1\tcar\t1.5\n", "a.tsv:2: confidence 1.5 is outside 0 to 1"),
        (read_soft, SOFT + "a.wav\t0\t1\tcar\t\n", "a.tsv:2: confidence is '', expected a number"),
        (read_soft, STRONG + "a.wav\t0\t1\tcar\n", "a.tsv:1: no column 'confidence'"),
    ],
)
def test_a_wrong_event_is_named(tmp_path: Path, read: Callable[..., Any], text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read(table(tmp_path, text), MAESTRO_CLASSES if read is read_soft else DESED_CLASSES, LIMITS)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (read_weak, "filename\tevent_labels\na.wav\tDog,Bird\n", "a.tsv:2: unknown class 'Bird'"),
        (read_weak, "filename\tevent_labels\na.wav\tDog\na.wav\tCat\n", "a.tsv:3: a.wav is listed twice"),
        (read_weak, "filename\tevent_labels\n\tDog\n", "a.tsv:2: empty filename"),
        (read_weak, "filename\tevent_label\n", "a.tsv:1: no column 'event_labels'; did you mean 'event_label'?"),
    ],
)
def test_a_wrong_weak_label_is_named(tmp_path: Path, read: Callable[..., Any], text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read(table(tmp_path, text), DESED_CLASSES)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("filename\tduration\na.wav\t0\n", "a.tsv:2: duration 0 is not positive"),
        ("filename\tduration\na.wav\tlong\n", "a.tsv:2: duration is 'long', expected a number"),
        ("filename\tduration\na.wav\t9\nb.wav\t8\na.wav\t10\n", "a.tsv:4: a.wav is listed twice, first with 9 s"),
        ("filename\tdur\n", "a.tsv:1: no column 'duration'"),
    ],
)
def test_a_wrong_duration_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read_durations(table(tmp_path, text))
    assert message in str(caught.value)


def test_labels_of_any_class_where_none_are_prescribed(tmp_path: Path) -> None:
    assert read_strong(table(tmp_path, STRONG + "a.wav\t0\t99\tKazoo\n"))["a.wav"] == [Event(0.0, 99.0, "Kazoo")]
    assert read_weak(table(tmp_path, "filename\tevent_labels\na.wav\tKazoo\n")) == {"a.wav": ["Kazoo"]}


milliseconds = st.integers(0, 9_000).map(lambda ms: ms / 1000)
lengths = st.integers(1, 1_000).map(lambda ms: ms / 1000)
labels = st.sampled_from(DESED_CLASSES)


@st.composite
def clips(draw: st.DrawFn, soft: bool) -> dict[str, list[Event]]:
    names = draw(st.lists(st.sampled_from(["a.wav", "b-1.wav", "ü 2.wav"]), unique=True))
    confidences = st.floats(0, 1, allow_subnormal=False) if soft else st.just(1.0)
    found = {}
    for name in names:
        events = draw(st.lists(st.tuples(milliseconds, lengths, labels, confidences), min_size=int(soft), max_size=3))
        found[name] = [Event(on, round(on + length, 3), label, value) for on, length, label, value in events]
    return found


@settings(deadline=None, max_examples=20)
@given(strong=clips(soft=False), soft=clips(soft=True))
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, strong: dict[str, list[Event]], soft: dict[str, list[Event]]
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    write_strong(folder / "strong.tsv", strong)
    assert list(read_strong(folder / "strong.tsv", DESED_CLASSES).items()) == list(strong.items())
    write_soft(folder / "soft.tsv", soft)
    assert list(read_soft(folder / "soft.tsv", DESED_CLASSES).items()) == list(soft.items())
    weak = {name: sorted({e.label for e in events}) for name, events in strong.items()}
    write_weak(folder / "weak.tsv", weak)
    assert read_weak(folder / "weak.tsv", DESED_CLASSES) == weak
    seconds = {name: 1.0 + len(events) for name, events in strong.items()}
    write_durations(folder / "durations.tsv", seconds)
    assert read_durations(folder / "durations.tsv") == seconds


def test_official_tables(shared: Path) -> None:
    folder = shared / "data" / "sed" / "desed_metadata"
    durations = read_durations(folder / "validation_durations.tsv")
    for name, limits in (("validation", durations), ("public", None)):
        events = read_strong(folder / f"{name}.tsv", DESED_CLASSES, limits)
        assert len(events) > 100
        assert any(events.values())
        assert limits is None or events.keys() == limits.keys()
    assert all(read_weak(folder / "weak.tsv", DESED_CLASSES).values())
    names = read_names(folder / "unlabel_in_domain.tsv")
    assert len(set(names)) == len(names) > 100
