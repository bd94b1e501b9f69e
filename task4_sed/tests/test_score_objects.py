"""Scores as the objects of sed_scores_eval: out of files, into an evaluation, and the same figures from both."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sed_scores_eval
from sed_scores_eval.base_modules.io import lazy_sed_scores_loader
from sed_scores_eval.base_modules.scores import validate_score_dataframe

import task4_sed
from common.run.errors import UserError
from common.tests.helpers import run_examples
from task4_sed.data.classes import CLASSES
from task4_sed.inference.scores import (
    as_objects,
    from_logits,
    of_objects,
    read_scores,
    write_logits,
    write_scores_folder,
)
from task4_sed.metrics.psds import PSDS1
from task4_sed.metrics.types import ScoreSet

EVENTS = {"w": [(1.0, 3.0, "Cat"), (5.0, 8.0, "Dog")], "x": [(0.5, 2.0, "Dog")], "y": [(4.0, 9.5, "Cat")]}
ROOT = Path(task4_sed.__file__).parent


def random_scores(frame_seconds: float = 0.1) -> ScoreSet:
    random = np.random.default_rng(1)
    frames = round(10 / frame_seconds)
    logits = np.repeat(random.normal(-2, 0.8, (3, 5, 2)), -(-frames // 5), axis=1)[:, :frames]
    for clip, events in zip(logits, EVENTS.values(), strict=True):
        for onset, offset, label in events:
            clip[round(onset / frame_seconds) : round(offset / frame_seconds), ("Cat", "Dog").index(label)] += 2
    return from_logits(list(EVENTS), logits, ("Cat", "Dog"), frame_seconds)


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, Path]:
    truth, durations = tmp_path / "truth.tsv", tmp_path / "durations.tsv"
    rows = [f"{clip}.wav\t{on}\t{off}\t{label}" for clip, events in EVENTS.items() for on, off, label in events]
    truth.write_text("\n".join(["filename\tonset\toffset\tevent_label", *rows, ""]))
    durations.write_text("filename\tduration\n" + "".join(f"{clip}.wav\t10\n" for clip in EVENTS))
    return {"ground_truth": truth, "durations": durations}


def test_stored_scores_are_objects_of_the_library_and_come_back_equal(tmp_path: Path) -> None:
    scores = random_scores(0.064)
    write_logits(tmp_path / "devtest.h5", list(EVENTS), np.zeros((3, 5, 2)), ("Cat", "Dog"))
    write_scores_folder(tmp_path / "scores", scores)
    assert list(task4_sed.scores(tmp_path / "devtest.h5")["w"].columns) == ["onset", "offset", "Cat", "Dog"]
    objects = task4_sed.scores(tmp_path / "scores")
    for table in objects.values():
        assert validate_score_dataframe(table)[1] == ["Cat", "Dog"]
    back, stored = of_objects(objects), read_scores(tmp_path / "scores")
    assert back.classes == stored.classes
    assert list(back.clips) == list(stored.clips)
    for name, clip in stored.clips.items():
        np.testing.assert_array_equal(back.clips[name].edges, clip.edges)
        np.testing.assert_array_equal(back.clips[name].scores, clip.scores)


def test_objects_of_the_library_have_its_figure(tmp_path: Path, tables: dict[str, Path]) -> None:
    """Read by the library, lazily or at once, evaluated here; and ours, evaluated by the library."""
    write_scores_folder(tmp_path / "scores", random_scores())
    settings = {"dtc_threshold": PSDS1.dtc, "gtc_threshold": PSDS1.gtc, "cttc_threshold": PSDS1.cttc}
    settings |= {"alpha_ct": PSDS1.alpha_ct, "alpha_st": PSDS1.alpha_st, "max_efpr": PSDS1.max_efpr}
    ours = task4_sed.scores(tmp_path / "scores")
    seconds = dict.fromkeys(EVENTS, 10.0)
    expected = sed_scores_eval.intersection_based.psds(ours, EVENTS, seconds, **settings)[0]
    assert 0.1 < expected < 0.99
    from_files = task4_sed.evaluate(tmp_path / "scores", **tables)
    for objects in (ours, lazy_sed_scores_loader(str(tmp_path / "scores"))):
        found = task4_sed.evaluate(objects, **tables)
        assert found["psds1"] == pytest.approx(expected, abs=1e-12)
        assert found["ruler"]["fast_path"]["psds1"] == pytest.approx(expected, abs=1e-9)
        same = {key for key in from_files if key not in ("ruler", "inputs")}
        assert {key: found[key] for key in same} == {key: from_files[key] for key in same}


def broken(change: Any) -> dict[str, Any]:
    objects: dict[str, Any] = as_objects(random_scores())
    change(objects)
    return objects


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda o: o.clear(), "scores: no clips"),
        (lambda o: o.update(x=3), r"scores\['x'\]: int, expected a data frame"),
        (lambda o: o.update(x=o["x"].rename(columns={"onset": "start"})), r"scores\['x'\].* no column 'onset'"),
        (lambda o: o.update(w=o["w"].rename(columns={"onset": "start"})), r"scores\['w'\]:1: no column 'onset'"),
        (lambda o: o.update({"x.wav": o["x"]}), r"scores\['x.wav'\]: a second object for clip x"),
        (lambda o: o["x"].__setitem__("Cat", "high"), r"scores\['x'\], row 0: Cat is 'high', expected a number"),
        (lambda o: o["x"].__setitem__("Cat", np.nan), r"scores\['x'\], row 0: Cat is 'nan', expected a finite number"),
        (lambda o: o.update(x=o["x"].drop(index=3)), r"scores\['x'\], row 3: onset 0.4, a gap after"),
        (lambda o: o.update(x=o["x"].iloc[:0]), r"scores\['x'\]: no rows"),
    ],
)
def test_what_is_no_score_object_is_named(change: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        of_objects(broken(change))
    assert "\n" not in str(error.value)


def test_messages_of_the_evaluation_speak_of_memory(tables: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="scores in memory: no scores of w, which has events"):
        task4_sed.evaluate({"other": as_objects(random_scores())["w"]}, **tables)


def test_example_of_the_readme(tmp_path: Path, tiny_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [path.stem for path in sorted((tiny_root / "audio/validation/validation_16k").glob("*.wav"))]
    path = tmp_path / "runs/task4_sed/toy/run1/scores/devtest.h5"
    path.parent.mkdir(parents=True)
    random = np.random.default_rng(3)
    write_logits(path, names, random.normal(-1, 1, (len(names), 156, len(CLASSES))), CLASSES)
    shutil.copytree(tiny_root / "metadata", tmp_path / "data/task4_sed/toy/metadata")
    run_examples(ROOT / "README.md", "task4_sed.evaluate(")
