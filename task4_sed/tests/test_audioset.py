"""AudioSet-strong: the classes, the tables, frame targets and sampling weights."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.run.errors import UserError
from task4_sed.data.annotations import Event
from task4_sed.data.audioset import (
    FRAMES,
    audioset_classes,
    clip_key,
    output_classes,
    read_clip_durations,
    read_strong_labels,
    scored_classes,
)

HEADER = "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n"
SPEECH, SILENCE, BARK = "/m/09x0r", "/m/028v0c", "/m/05tny_"


def table(tmp_path: Path, *rows: str, name: str = "strong.tsv") -> Path:
    path = tmp_path / name
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


def test_classes_are_those_of_the_release() -> None:
    classes = audioset_classes()
    evaluated = [of for of in classes if of.eval]
    assert (len(classes), len(output_classes()), len(evaluated), len(scored_classes())) == (456, 447, 416, 407)
    assert [of.name for of in classes] == sorted(of.name for of in classes)
    assert len({of.mid for of in classes}) == 456
    assert {of.name for of in classes} - set(output_classes()) >= {"Silence", "Vibration", "Heart murmur"}
    assert [output_classes().index(name) for name in scored_classes()] == sorted(
        map(output_classes().index, scored_classes())
    )


def test_keys_of_segments() -> None:
    assert clip_key("s9d-2nhuJCQ_30000") == "Ys9d-2nhuJCQ"


def test_table_becomes_events_and_targets(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        f"bbbbbbbbbbb_30000\t0.100\t0.130\t{SPEECH}",
        f"aaaaaaaaaaa_0\t9.990\t10.000\t{BARK}",
        f"bbbbbbbbbbb_30000\t0.120\t0.300\t{SPEECH}",
        f"ccccccccccc_0\t1.0\t2.0\t{SILENCE}",  # no output: the clip has no event left
        f"ddddddddddd_0\t1.0\t1.0\t{SPEECH}",  # of no length
    )
    labels = read_strong_labels(path)
    assert labels.clips == ("Ybbbbbbbbbbb", "Yaaaaaaaaaaa")
    assert labels.by_clip()["Yaaaaaaaaaaa"] == [Event(9.99, 10.0, "Bark")]
    targets = labels.targets(np.arange(2))
    assert targets.shape == (2, 447, FRAMES)
    speech, bark = (output_classes().index(name) for name in ("Speech", "Bark"))
    assert np.flatnonzero(targets[0, speech]).tolist() == [2, 3, 4, 5, 6, 7]
    assert np.flatnonzero(targets[1, bark]).tolist() == [249]
    assert targets.sum() == 7
    assert read_strong_labels(path, [of.name for of in audioset_classes()]).clips[-1] == "Yccccccccccc"
    comma = tmp_path / "strong.csv"
    comma.write_text(path.read_text().replace("\t", ","))
    assert read_strong_labels(comma).by_clip() == labels.by_clip()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("aaaaaaaaaaa_0\t1\t2\tSpeech", "unknown label 'Speech'"),
        (f"aaaaaaaaaa_0\t1\t2\t{SPEECH}", "segment_id 'aaaaaaaaaa_0'"),
        (f"aaaaaaaaaaa_0\t3\t2\t{SPEECH}", "3 to 2 s"),
        (f"aaaaaaaaaaa_0\t3\t12\t{SPEECH}", "3 to 12 s"),
        (f"aaaaaaaaaaa_0\tnan\t2\t{SPEECH}", "nan to 2 s"),
        (f"aaaaaaaaaaa_0\tx\t2\t{SPEECH}", "times 'x'"),
        (f"aaaaaaaaaaa_0\t1\t{SPEECH}", "3 fields"),
        (f"bbbbbbbbbbb_9000\t1\t2\t{SPEECH}", "excerpts of one recording"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, row: str, message: str) -> None:
    path = table(tmp_path, f"bbbbbbbbbbb_0\t1\t2\t{SPEECH}", row)
    with pytest.raises(UserError, match=f"{path}:3: .*{message}"):
        read_strong_labels(path)


def test_tables_without_a_column_are_named(tmp_path: Path) -> None:
    path = tmp_path / "strong.tsv"
    path.write_text("segment_id\tlabel\n")
    with pytest.raises(UserError, match=r"strong\.tsv:1: no column 'start_time_seconds'"):
        read_strong_labels(path)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.integers(0, 10_000))
def test_weights_are_those_of_the_targets(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    random = np.random.default_rng(seed)
    mids = [of.mid for of in audioset_classes()[:12]]
    rows = []
    for _ in range(int(random.integers(1, 60))):
        start, end = np.sort(np.round(random.uniform(0, 10, 2), 3))
        clip, mid = random.integers(0, 6), random.choice(mids)
        rows.append(f"{clip:011d}_0\t{start}\t{end}\t{mid}")
    labels = read_strong_labels(table(tmp_path_factory.mktemp("tables"), *rows))
    frames = labels.targets(np.arange(len(labels.clips))).sum(axis=2, dtype=np.float64)
    expected = (frames * 1000 / (30 + frames.sum(axis=0))).sum(axis=1)
    np.testing.assert_allclose(labels.balanced_weights(), expected, rtol=1e-12)


def test_durations_have_no_header(tmp_path: Path) -> None:
    path = tmp_path / "durations.csv"
    path.write_text("Yaaaaaaaaaaa,10.0\nYbbbbbbbbbbb,3.5\n")
    assert read_clip_durations(path) == {"Yaaaaaaaaaaa": 10.0, "Ybbbbbbbbbbb": 3.5}
    path.write_text("Yaaaaaaaaaaa,10.0\nYbbbbbbbbbbb\n")
    with pytest.raises(UserError, match=r"durations\.csv:2"):
        read_clip_durations(path)
