"""What people hand to `evaluate`: published tables are scored, a figure that would be wrong is refused or said."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.run.errors import UserError
from task4_sed.data.annotations import Event
from task4_sed.evaluation import inputs
from task4_sed.evaluation.evaluate import evaluate_files
from task4_sed.inference import scores as score_files
from task4_sed.inference.scores import LogitSet
from task4_sed.tests.test_evaluate import CLIPS, Files, write_points

HEADER = "filename\tonset\toffset\tevent_label\n"


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def figures(result: dict[str, Any]) -> dict[str, Any]:
    """What was measured, without the paths and what was said."""
    return {key: value for key, value in result.items() if key not in ("inputs", "notes", "dropped", "ruler")}


def table(files: Files, rename: Callable[[str], str] = str, classes: Sequence[str] | None = None) -> Path:
    """The scores as one table."""
    path = files.scores.with_name("scores.tsv")
    rows = ["\t".join(("filename", "onset", "offset", *(classes or files.set.classes)))]
    for name, clip in files.set.clips.items():
        for on, off, values in zip(clip.edges, clip.edges[1:], clip.scores.tolist(), strict=False):
            rows.append("\t".join((rename(name), f"{on:.9g}", f"{off:.9g}", *(f"{value:.9g}" for value in values))))
    path.write_text("\n".join(rows) + "\n")
    return path


def logits(files: Files, frames: int, stated: float | None, durations: Sequence[float] | None = None) -> Path:
    """The scores on a grid of so many frames of ten seconds, as HDF5."""
    path = files.scores.with_name("scores.h5")
    middles = (np.arange(frames) + 0.5) * 10 / frames
    rows = (middles / 0.1).astype(int)
    stacked = np.stack([clip.scores[rows] for clip in files.set.clips.values()])
    with h5py.File(path, "w") as file:
        file["strong_logits"] = np.log(stacked / (1 - stacked)).astype(np.float32)
        file["filenames"] = np.array([name.encode() for name in CLIPS])
        file["classes"] = np.array([name.encode() for name in files.set.classes])
        if stated is not None:
            file.attrs["frame_seconds"] = stated
        if durations is not None:
            file["durations"] = np.array(durations, dtype=float)
    return path


def test_the_ruler_stands_beside_the_fast_path(files: Files) -> None:
    fast, result = files.evaluate(ruler=False), files.evaluate()
    assert "ruler" not in fast
    ruler = result["ruler"]
    assert ruler["library"].startswith("sed_scores_eval 0.")
    assert {"psds1", "psds2", "intersection_f1_th0.5_dtc0.5_gtc0.5", "collar_f1_th0.5_200ms_20pct"} < set(
        ruler["fast_path"]
    )
    assert {"segment_f1_th0.5_1s", "segment_auroc_1s_step", "psds1_single_class"} <= {
        *ruler["fast_path"],
        *ruler["fast_path_classes"],
    }
    for name, value in ruler["fast_path"].items():
        assert value == fast[name]
        assert result[name] == pytest.approx(value, abs=1e-9)
    assert 0 <= ruler["largest_difference"] < 1e-9
    assert ruler["differences"] == []
    for metric, values in fast["classes"].items():
        assert result["classes"][metric] == pytest.approx(values, abs=1e-9)


def test_a_difference_to_the_ruler_is_said(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    from task4_sed.metrics.ruler import Ruler

    monkeypatch.setattr(Ruler, "psds", lambda self, p: (0.5, dict.fromkeys(self.truth.classes, 0.25)))
    result = files.evaluate()
    assert result["psds1"] == 0.5
    assert result["classes"]["psds1_single_class"] == {"Cat": 0.25, "Dog": 0.25}
    assert result["ruler"]["fast_path"]["psds1"] != 0.5
    assert any(note.startswith("psds1: 0.500000 with sed_scores_eval, ") for note in result["notes"])


def test_a_single_class_is_measured_as_far_as_the_ruler_goes(files: Files) -> None:
    files.truth.write_text(HEADER + "w.wav\t1\t3\tCat\nx.wav\t1\t3\tCat\n")
    result = files.evaluate()
    assert "psds1" in result["ruler"]["fast_path"]
    assert "psds2" not in result["ruler"]["fast_path"]
    assert result["psds2"] > 0
    assert any("psds2: not computed with sed_scores_eval" in note for note in result["notes"])


@pytest.mark.parametrize("suffix", [".flac", ".WAV", ".mp3", ".Opus", ".aif", ".w64", ""])
@pytest.mark.parametrize("folder", ["", "audio/eval/", "C:\\data\\"])
def test_names_match_without_folder_and_suffix(files: Files, suffix: str, folder: str) -> None:
    expected = files.evaluate(ruler=False)
    files.truth.write_text(files.truth.read_text().replace(".wav", suffix).replace("\n", f"\n{folder}").rstrip(folder))
    assert figures(files.evaluate(ruler=False)) == figures(expected)


def test_labels_are_stripped(files: Files) -> None:
    expected = figures(files.evaluate(ruler=False))
    files.truth.write_text(files.truth.read_text().replace("Cat\n", "Cat \n").replace("\tDog", "\t Dog"))
    assert figures(files.evaluate(ruler=False)) == expected
    for path in files.scores.iterdir():
        path.write_text(path.read_text().replace("\tCat\t", "\tCat \t"))
    assert figures(files.evaluate(ruler=False)) == expected


def test_nan_cells_are_no_event(files: Files) -> None:
    expected = figures(files.evaluate(ruler=False))
    for nothing in ("nan\tnan\tnan", "NaN\tNaN\t", "N/A\t\tNone"):
        files.truth.write_text(files.truth.read_text().rsplit("z.wav", 1)[0] + f"z.wav\t{nothing}\n")
        assert figures(files.evaluate(ruler=False)) == expected


def test_events_past_the_end_are_cut_with_a_note(files: Files) -> None:
    files.append(files.truth, "w.wav\t9\t10.0\tCat")
    expected = figures(files.evaluate(ruler=False))
    for end in ("10.5", "300", "1e30"):
        files.truth.write_text(files.truth.read_text().rsplit("w.wav", 1)[0] + f"w.wav\t9\t{end}\tCat\n")
        result = files.evaluate(ruler=False)
        assert figures(result) == expected
        assert any("1 events end after their clip and are cut there: Cat in w" in note for note in result["notes"])
    files.append(files.truth, "x.wav\t11\t12\tCat")
    result = files.evaluate(ruler=False)
    assert figures(result) == expected
    assert any("1 events begin after the end of their clip and are left out" in note for note in result["notes"])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 20)), max_size=6), st.floats(0.5, 15))
def test_what_is_cut_lies_in_the_clip(spans: list[tuple[float, float]], end: float) -> None:
    report = inputs.Report()
    events = [Event(min(span), max(span), "Cat") for span in spans]
    kept = inputs._cut({"a": events}, {"a": end}, report)["a"]
    assert all(event.offset <= end + inputs.END_TOLERANCE and event.onset <= event.offset for event in kept)
    late = len(report.dropped.get("late_events", ()))
    assert len(kept) + late == len(events)
    assert sum(event.offset - event.onset for event in kept) <= sum(event.offset - event.onset for event in events)
    assert all(event in kept for event in events if event.offset <= end + inputs.END_TOLERANCE)


def test_events_of_length_0_count_as_in_sed_scores_eval(files: Files) -> None:
    """By intersection found while Cat is detected in the clip at all; by segments active within a second."""
    files.append(files.truth, "w.wav\t6.5\t6.5\tCat")
    result = files.evaluate()
    assert result["number_of_events"] == 7
    assert result["ruler"]["largest_difference"] < 1e-9
    assert "psds2" in result["ruler"]["fast_path"]
    before = files.truth.read_text().replace("w.wav\t6.5\t6.5\tCat\n", "")
    files.truth.write_text(before)
    without = files.evaluate(ruler=False)
    name = "segment_f1_th0.5_1s"
    assert result["classes"][name]["Cat"] < without["classes"][name]["Cat"]


@pytest.mark.parametrize(
    ("frames", "stated", "durations", "note"),
    [
        (100, 0.1, None, None),
        (250, 0.04, None, None),
        (250, None, None, "0.04 s a frame taken"),
        (1000, None, None, "0.01 s a frame taken"),
        (156, None, None, None),
        (156, 0.064, None, None),
        (250, 0.04, (10.0, 10.0, 9.9, 10.0), None),
    ],
)
def test_frames_that_fit_the_clips(
    files: Files, frames: int, stated: float | None, durations: Sequence[float] | None, note: str | None
) -> None:
    result = evaluate_files(logits(files, frames, stated, durations), files.truth, files.durations, ruler=False)
    assert result["segment_f1_th0.5_1s"] > 0.8
    assert result["psds2"] > 0.9
    said = [text for text in result["notes"] if "frame" in text]
    assert len(said) == (note is not None)
    assert note is None or note in said[0]


@pytest.mark.parametrize(
    ("frames", "stated", "durations", "message"),
    [
        (62, None, None, "no frame_seconds (0.064 s by default): 62 frames end at 3.968 s, the longest clip at 10 s"),
        (250, 0.064, None, "frame_seconds 0.064: 250 frames end at 16 s, the longest clip at 10 s"),
        (250, 0.02, None, "frame_seconds 0.02: 250 frames end at 5 s"),
        (313, None, None, "313 frames end at 20.032 s"),
        (250, None, (10, 9, 8, 7), "250 frames end at 16 s"),
        (100, 0.1, (10, 10, 20, 10), "y lasts 20 s there, 10 s in the table of durations"),
        (1, None, None, "1 frames end at 0.064 s"),
    ],
)
def test_frames_that_contradict_the_clips(
    files: Files, frames: int, stated: float | None, durations: Sequence[float] | None, message: str
) -> None:
    with pytest.raises(UserError) as error:
        evaluate_files(logits(files, frames, stated, durations), files.truth, files.durations, ruler=False)
    assert message in str(error.value)


def test_clips_of_several_lengths_have_no_step_of_their_own(files: Files) -> None:
    files.durations.write_text("filename\tduration\nw.wav\t10\nx.wav\t8\ny.wav\t5\nz.wav\t10\n")
    with pytest.raises(UserError, match="250 frames end at 16 s"):
        evaluate_files(logits(files, 250, None), files.truth, files.durations, ruler=False)


def test_padding_is_said(files: Files) -> None:
    files.durations.write_text("filename\tduration\n" + "".join(f"{name}.wav\t8.5\n" for name in CLIPS))
    result = evaluate_files(logits(files, 100, 0.1, (8.5,) * 4), files.truth, files.durations, ruler=False)
    assert any("100 frames end at 10 s, the longest clip at 8.5 s: taken for padding" in n for n in result["notes"])


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 1500), st.floats(1, 30), st.one_of(st.none(), st.floats(0.001, 1)))
def test_a_time_axis_fits_or_is_refused(frames: int, seconds: float, stated: float | None) -> None:
    step = stated or 0.064
    stored = LogitSet(("a", "b"), np.zeros((2, frames, 1)), ("Cat",), step, None, stated is not None)
    try:
        found = inputs._on_time(stored, Path("x.h5"), {"a": seconds, "b": seconds}, inputs.Report()).frame_seconds
    except UserError:
        assert abs(step * frames - seconds) > step
    else:
        challenge = stated is None and frames == 156
        assert abs(found * frames - seconds) <= max(found, 0.25) + 1e-9 or (challenge and found * frames > seconds)


def test_scores_of_text_that_end_elsewhere_are_said(files: Files) -> None:
    files.durations.write_text(files.durations.read_text().replace("10.0", "16.0"))
    notes = files.evaluate(ruler=False)["notes"]
    assert any("scores of 4 clips end before the clip, nothing is detected there: w at 10 of 16 s" in n for n in notes)
    files.durations.write_text(files.durations.read_text().replace("16.0", "8.5"))
    notes = files.evaluate(ruler=False)["notes"]
    assert any("scores of 4 clips go on after its end, detections there count: w at 10 of 8.5 s" in n for n in notes)


def test_equal_names_of_two_folders_are_refused(files: Files, tmp_path: Path) -> None:
    truth, durations = files.truth.read_text(), files.durations.read_text()
    for other in ("elsewhere/w.wav", "w.flac"):
        files.truth.write_text(f"{truth}{other}\t1\t2\tCat\n")
        with pytest.raises(UserError, match=rf"w\.wav and {other} have the same name, w"):
            files.evaluate()
        files.truth.write_text(truth)
        files.durations.write_text(f"{durations}{other}\t10.0\n")
        with pytest.raises(UserError, match=rf"durations\.tsv: w\.wav and {other} have the same name, w"):
            files.evaluate()
        files.durations.write_text(durations)
    scores = table(files, lambda name: "b/w.wav" if name == "x" else f"a/{name}.wav")
    with pytest.raises(UserError, match=r"scores\.tsv:102: a/w\.wav and b/w\.wav have the same name, w"):
        evaluate_files(scores, files.truth, files.durations)
    write_points(tmp_path / "points.tsv", (0.1,))
    files.append(tmp_path / "points.tsv", "0.1\tb/w.wav\t8\t9\tCat")
    with pytest.raises(UserError, match=r"points\.tsv:8: w\.wav and b/w\.wav have the same name, w"):
        evaluate_files(tmp_path / "points.tsv", files.truth, files.durations)


def test_score_tables_with_folders_are_read(files: Files) -> None:
    expected = figures(files.evaluate(ruler=False))
    scores = table(files, lambda name: f"some/folder/{name}.flac")
    assert figures(evaluate_files(scores, files.truth, files.durations, ruler=False)) == expected


@pytest.mark.parametrize("number", ["0_5", "0.5_0", "٠.٥", "0x1", "1,5", ""])
def test_numbers_are_those_of_the_challenge(files: Files, number: str) -> None:
    path = files.scores / "w.tsv"
    lines = path.read_text().splitlines()
    lines[4] = "\t".join([*lines[4].split("\t")[:3], number, lines[4].split("\t")[4]])
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=rf"w\.tsv:5: Dog is '{number}', expected a number"):
        files.evaluate()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("onset\toffset\tCat\tDog\tCat", ":1: column 'Cat' is there twice"),
        ("onset\toffset\tCat\tDog\tCat ", ":1: column 'Cat' is there twice"),
        ("onset\toffset\tCat\tDog\t", ":1: column 5 has no name"),
        ("onset;offset;Cat;Dog;Blender", ":1: columns separated by ';', expected '\\t'"),
        ("onset,offset,Cat,Dog,Blender", ":1: columns separated by ',', expected '\\t'"),
    ],
)
def test_columns_of_a_folder(files: Files, header: str, message: str) -> None:
    for path in files.scores.iterdir():
        path.write_text(path.read_text().replace("onset\toffset\tCat\tDog\tBlender", header))
    with pytest.raises(UserError) as error:
        files.evaluate()
    assert f"w.tsv{message}" in str(error.value)


def test_columns_of_a_table(files: Files) -> None:
    with pytest.raises(UserError, match=r"scores\.tsv:1: column 'Cat' is there twice"):
        evaluate_files(table(files, classes=("Cat", "Cat ", "Dog")), files.truth, files.durations)
    scores = table(files)
    scores.write_text(scores.read_text().replace("\t", ";"))
    with pytest.raises(UserError, match=r"scores\.tsv:1: columns separated by ';', expected"):
        evaluate_files(scores, files.truth, files.durations)


def test_a_folder_of_systems_is_not_one_of_scores(files: Files) -> None:
    systems = files.scores.with_name("systems")
    systems.mkdir()
    files.scores.rename(systems / "one")
    with pytest.raises(
        UserError, match=r"systems: holds 1 folders of scores \(one, \.\.\.\), expected that of one system"
    ):
        evaluate_files(systems, files.truth, files.durations)


@pytest.mark.parametrize("kind", ["pipe", "device", "link to nothing", "folder"])
def test_what_is_no_file_among_the_scores_is_refused_at_once(files: Files, kind: str) -> None:
    path = files.scores / "v.tsv"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else "nowhere")
    with pytest.raises(UserError, match=r"v\.tsv: not a file, expected the scores of a clip"):
        files.evaluate()


def test_what_does_not_fit_into_memory_is_refused_at_once(files: Files) -> None:
    with open(files.scores / "v.tsv", "wb") as file:
        file.truncate(1 << 42)  # four terabytes of nothing
    with pytest.raises(UserError, match=r"scores: reading 5 files needs about [\d,.]+ GiB of memory, "):
        files.evaluate()
    huge = files.scores.with_name("v.tsv")
    (files.scores / "v.tsv").rename(huge)
    for paths in (
        (huge, files.truth, files.durations),
        (files.scores, huge, files.durations),
        (files.scores, files.truth, huge),
    ):
        with pytest.raises(UserError, match=r"v\.tsv: reading it needs about [\d,.]+ GiB"):
            evaluate_files(*paths)


def test_the_memory_of_an_evaluation_is_bounded_and_said(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "CELL_BYTES", 1e15)
    with pytest.raises(
        UserError, match=r"evaluating 4 clips, 2 classes needs about [\d,.]+ GiB of memory, [\d,.]+ GiB are"
    ):
        files.evaluate()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, r"--threshold is 1\.5, expected 0 to 1"),
        ({"threshold": -0.1}, r"--threshold is -0\.1, expected 0 to 1"),
        ({"threshold": float("nan")}, "--threshold is nan, expected 0 to 1"),
        ({"csebbs": "defualt"}, "csebbs 'defualt': expected default"),
        ({"csebbs": "tune:winers"}, "no grid 'winers'"),
    ],
)
def test_options_are_checked_before_anything_is_read(
    files: Files, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    def read(*_: Any, **__: Any) -> None:
        raise AssertionError("a file was read")

    monkeypatch.setattr(score_files, "read_rows", read)
    monkeypatch.setattr(inputs, "read_durations", read)
    with pytest.raises(UserError, match=message):
        files.evaluate(**options)
