"""Packing a submission, and anybody's packing."""

import dataclasses
import re
import shutil
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from common.run.errors import UserError
from common.run.submission.archive import Limits
from common.run.submission.measure import mark
from common.run.submission.meta import Author
from common.run.submission.tables import lines_of, parse
from common.run.submission.violations import has_errors
from common.run.verbs import main
from task4_sed.__main__ import TASK
from task4_sed.data.annotations import read_durations
from task4_sed.data.classes import CLASSES, DESED_CLASSES
from task4_sed.inference.scores import read_scores
from task4_sed.metrics.types import ClipScores, ScoreSet
from task4_sed.submission import validate as validating
from task4_sed.submission.meta import DevtestResults, meta_yaml
from task4_sed.submission.package import format_scores, package
from task4_sed.submission.rules import check_meta
from task4_sed.submission.tables import RunScores, check_table
from task4_sed.submission.validate import validate
from task4_sed.tests.submission_case import (
    CLIPS,
    DURATIONS,
    EDGES,
    LABEL,
    META,
    RUNS,
    TSV,
    YAML,
    check,
    remove,
    score_set,
    write,
)


def test_package_is_valid_and_reproducible(archive: Path, energy: Path, tmp_path: Path) -> None:
    assert check(archive) == []
    again = package(tmp_path / "again.zip", META, RUNS, [energy], toy=True)
    assert again.read_bytes() == archive.read_bytes()


def test_layout(pristine: Path) -> None:
    assert sorted(entry.name for entry in pristine.iterdir()) == ["Muster_Uni-X_task4.technical_report.pdf", LABEL]
    runs = [f"{LABEL}_run{i}{kind}.output" for i in (1, 2, 3) for kind in ("", "_unprocessed")]
    expected = sorted([*runs, YAML, "emissions_training.csv"])
    assert sorted(entry.name for entry in (pristine / LABEL).iterdir()) == expected
    for run in runs:
        assert sorted(entry.name for entry in (pristine / LABEL / run).iterdir()) == [f"{clip}.tsv" for clip in CLIPS]
    report = (pristine / "Muster_Uni-X_task4.technical_report.pdf").read_bytes()
    assert report.startswith(b"%PDF-")
    assert report.count(b"/Type /Page\n") + report.count(b"/Type /Page ") == 2


def test_scores_come_back(pristine: Path) -> None:
    for run, kind in ((0, "processed"), (2, "unprocessed")):
        suffix = "_unprocessed" if kind == "unprocessed" else ""
        stored = read_scores(pristine / LABEL / f"{LABEL}_run{run + 1}{suffix}.output")
        ours = getattr(RUNS[run], kind)
        assert stored.classes == CLASSES
        for clip in CLIPS:
            np.testing.assert_array_equal(stored.clips[clip].edges, EDGES)
            np.testing.assert_allclose(stored.clips[clip].scores, ours.clips[clip].scores, rtol=1e-6)


def test_columns_are_brought_into_order_and_minus_infinity_is_0() -> None:
    clip = ClipScores(np.array([0, 0.064, 0.192]), np.array([[-np.inf, 1.0], [1 / 3, 1.25e-9]]))
    text = format_scores(clip, "clip", ("b", "a"), (1, 0))
    assert text == "onset\toffset\tb\ta\n0\t0.064\t1\t0\n0.064\t0.192\t1.25e-09\t0.3333333\n"


def test_edges_of_the_frame_grid_join_exactly() -> None:
    edges = np.arange(157) * 0.064  # 3 * 0.064 is 0.19200000000000003
    text = format_scores(ClipScores(edges, np.zeros((156, 1))), "clip", ("a",), (0,))
    assert check_table(text.encode(), "clip.tsv", ("a",), 10.0).violations == []
    assert "\n0.128\t0.192\t0\n" in text


def test_meta_has_the_fields_that_the_challenge_reads(pristine: Path) -> None:
    meta = yaml.safe_load((pristine / LABEL / YAML).read_text())
    assert list(meta) == ["submission", "system", "results"]
    assert meta["submission"]["label"] == LABEL
    assert meta["submission"]["authors"][0]["corresponding"] is True
    assert meta["system"]["description"]["post-processing"] == "median filter"
    assert meta["system"]["description"]["acoustic_features"] == "log-mel energies"
    assert meta["system"]["complexity"] == {
        "total_parameters": 1234567,
        "MACS": 930000000,
        "energy_training": 1.5,
    }
    assert meta["system"]["source_code"] is None
    assert meta["results"] == {"devtest": {"desed": {"PSDS1": 0.5}, "maestro": {"mPAUC": 0.73}}}


def test_other_classes(tmp_path: Path) -> None:
    runs = [RunScores(score_set(i, DESED_CLASSES), score_set(9 + i, DESED_CLASSES)) for i in range(3)]
    out = package(tmp_path / "desed.zip", META, runs, classes=DESED_CLASSES)
    assert [found.rule for found in validate(out, CLIPS, DURATIONS, DESED_CLASSES)] == ["energy"]
    assert {found.rule for found in validate(out, CLIPS)} == {"energy", "column-missing"}
    with pytest.raises(UserError, match="no scores for class 'cutlery and dishes'"):
        package(tmp_path / "bad.zip", META, runs)
    assert not (tmp_path / "bad.zip").exists()


def changed_clip(run: RunScores, scores: np.ndarray, edges: np.ndarray = EDGES) -> RunScores:
    clips = {**run.processed.clips, "clip_c": ClipScores(edges, scores)}
    return dataclasses.replace(run, processed=ScoreSet(CLASSES, clips))


def one_bad(value: float) -> np.ndarray:
    scores = np.zeros((20, 27))
    scores[3, 8] = value
    return scores


@pytest.mark.parametrize(
    ("meta", "runs", "message"),
    [
        ({"label": "Muster_task4_1"}, RUNS, "3 parts"),
        ({"label": "My_Uni_task5_1"}, RUNS, "not of the form"),
        ({"name": "better baseline"}, RUNS, "contains 'baseline'"),
        ({"name": "system # 1"}, RUNS, "'#'"),
        ({"authors": []}, RUNS, "authors"),
        ({"authors": [Author("A", "B")]}, RUNS, "corresponding"),
        ({"results": DevtestResults(float("nan"), 0.5)}, RUNS, "PSDS1"),
        ({}, RUNS[:2], "2 runs, expected those of 3"),
        ({}, [changed_clip(RUNS[0], one_bad(np.nan)), *RUNS[1:]], "clip_c: the score of 'Speech' at 1.5 s is nan"),
        ({}, [*RUNS[:2], changed_clip(RUNS[2], one_bad(np.inf))], "run 3, clip clip_c: the score of 'Speech'"),
        ({}, [changed_clip(RUNS[0], one_bad(0), EDGES + 1), *RUNS[1:]], "clip clip_c: frame edges"),
        ({}, [changed_clip(RUNS[0], one_bad(0), EDGES[::-1]), *RUNS[1:]], "clip clip_c: frame edges"),
        (
            {},
            [
                RUNS[0],
                RunScores(ScoreSet(CLASSES, dict(list(RUNS[1].processed.clips.items())[1:])), RUNS[1].unprocessed),
            ],
            "expected those of 3",
        ),
        (
            {},
            [*RUNS[:2], RunScores(RUNS[2].processed, ScoreSet(CLASSES, {"clip_z": RUNS[2].processed.clips["clip_a"]}))],
            "run 3, unprocessed: lacks clip clip_a",
        ),
    ],
)
def test_package_refuses(meta: dict, runs: list[RunScores], message: str, tmp_path: Path) -> None:
    report = tmp_path / "report.pdf"
    report.write_bytes(b"%PDF-1.4\n")
    with pytest.raises(UserError, match=re.escape(message)):
        package(tmp_path / "out.zip", dataclasses.replace(META, **meta), runs, report=report)
    assert not (tmp_path / "out.zip").exists()


def test_energy_tables_and_report_that_are_given(tmp_path: Path, energy: Path) -> None:
    (tmp_path / "my.pdf").write_bytes(b"%PDF-1.4 mine")
    tables = {"run1_training.csv": energy, "run2_training.csv": energy}
    out = package(tmp_path / "out.zip", META, RUNS, tables, tmp_path / "my.pdf")
    with zipfile.ZipFile(out) as zipped:
        assert zipped.read(f"{LABEL}/run2_training.csv") == energy.read_bytes()
        assert zipped.read("Muster_Uni-X_task4.technical_report.pdf") == b"%PDF-1.4 mine"
    with pytest.raises(UserError, match="second energy table"):
        package(out, META, RUNS, [energy, energy], tmp_path / "my.pdf")
    with pytest.raises(UserError, match="not a PDF"):
        package(out, META, RUNS, [energy], energy)
    with pytest.raises(UserError, match=r"\.zip"):
        package(tmp_path / "out.tar", META, RUNS)


# --- anybody's packing ------------------------------------------------------------------------------------------


def zip_folder(folder: Path, out: Path) -> Path:
    return Path(shutil.make_archive(str(out.with_suffix("")), "zip", folder))


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_wrapping_folders(root: Path, tmp_path: Path, depth: int) -> None:
    remove(TSV)(root)
    outer, shown = root, ""
    for level in range(depth):
        wrapped = tmp_path / f"outer{level}"
        wrapped.mkdir()
        outer.rename(wrapped / f"wrap{level}")
        outer, shown = wrapped, f"wrap{level}/{shown}"
    zipped = zip_folder(outer, tmp_path / "all.zip")
    with tarfile.open(tmp_path / "all.tar.gz", "w:gz") as tar:
        tar.add(outer, ".")
    for path in (outer, zipped, tmp_path / "all.tar.gz"):
        assert [(found.file, found.rule) for found in check(path)] == [(f"{shown}{LABEL}/{TSV}", "clip-missing")]


@pytest.mark.parametrize("wrap", ["", "task4/"])
def test_one_zip_per_team(root: Path, tmp_path: Path, archive: Path, wrap: str) -> None:
    remove(TSV)(root)
    general = tmp_path / "general" / wrap
    general.mkdir(parents=True)
    zip_folder(root, general / "team_b.zip")
    shutil.copy(archive, general / "team_a.zip")
    (general / "team_c.zip").write_bytes(archive.read_bytes()[:5000])
    write("x.txt")(tmp_path / "empty")
    zip_folder(tmp_path / "empty", general / "team_d.zip")
    found = check(zip_folder(tmp_path / "general", tmp_path / "general.zip"))
    assert {(violation.file, violation.rule) for violation in found} == {
        (f"{wrap}team_b.zip/{LABEL}/{TSV}", "clip-missing"),
        (f"{wrap}team_c.zip", "archive"),
        (f"{wrap}team_d.zip", "layout"),
    }


def test_what_a_mac_adds_is_left_out_with_one_warning(root: Path, tmp_path: Path) -> None:
    for path in [path for path in root.rglob("*") if path.is_file()]:
        relative = path.relative_to(root)
        for twin in (root / "__MACOSX" / relative.parent / f"._{path.name}", path.parent / ".DS_Store"):
            twin.parent.mkdir(parents=True, exist_ok=True)
            twin.write_bytes(b"\0\5\x16\7")
    for path in (root, zip_folder(root, tmp_path / "mac.zip")):
        (found,) = check(path)
        assert (found.rule, found.severity) == ("clutter", "warning")
    general = tmp_path / "general"
    general.mkdir()
    for team in "ab":
        shutil.copy(tmp_path / "mac.zip", general / f"{team}.zip")
    for path in (general, zip_folder(general, tmp_path / "general.zip")):
        assert [found.rule for found in check(path)] == ["clutter"]


def test_the_reported_archives_of_a_mac(shared: Path) -> None:
    for path in sorted((shared / "data" / "cases").glob("19*/*.zip")):
        found = validate(path)
        assert not has_errors(found)
        assert [of.rule for of in found].count("clutter") == 1


def test_archives_in_an_archive_share_its_limits(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as zipped:
        size = sum(info.file_size for info in zipped.infolist())
    (tmp_path / "general").mkdir()
    for team in "abc":
        shutil.copy(archive, tmp_path / "general" / f"{team}.zip")
    limits, packed = Limits(total_bytes=2 * size), zip_folder(tmp_path / "general", tmp_path / "general.zip")
    assert validate(tmp_path / "general", CLIPS, DURATIONS, limits=limits) == []
    found = validate(packed, CLIPS, DURATIONS, limits=limits)
    assert {(of.file, of.rule) for of in found} >= {("c.zip", "archive")}
    assert "general.zip: unpacks to more than" in found[-1].message


def test_what_an_archive_is_measured_by(
    tmp_path: Path, tiny_root: Path, archive: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the challenge, also where toy data are at hand; the archive of a toy run by these."""
    measured: list[Any] = []
    monkeypatch.setattr(validating, "validate", lambda path, names, durations, classes: measured.append(names) or [])
    own = Path(shutil.copy(archive, tmp_path / "own.zip"))
    mark(own, "toy")
    for more, by_toy, said in (
        ([str(archive)], False, "the challenge's classes and rules"),
        ([str(own)], True, f"the evaluation set of {tiny_root} (toy data)"),
        ([str(archive), "--measure", "recipe"], True, f"the evaluation set of {tiny_root} (toy data)"),
        ([str(own), "--measure", "challenge"], False, "the challenge's classes and rules"),
    ):
        assert main(TASK, ["validate", *more, f"data.root={tiny_root}"]) == 0
        assert capsys.readouterr().out.splitlines()[0].startswith(f"{more[0]}: measured by {said}")
        assert bool(measured.pop()) == by_toy


def test_validate_says_what_package_said(tmp_path: Path, archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of an archive of own data, also where these are not at hand; unless the challenge's measure is asked for."""
    own = Path(shutil.copy(archive, tmp_path / "own.zip"))
    mark(own, "toy")
    nowhere = f"data.root={tmp_path / 'nowhere'}"
    for words, counted in (([str(archive)], True), ([str(own)], False), ([str(own), "--measure", "challenge"], True)):
        assert main(TASK, ["validate", *words, nowhere]) == 0
        first, *others = capsys.readouterr().out.splitlines()
        assert any("[clip-count]" in line for line in others) == counted
        assert ("`package` measured it by the toy data" in first) == (words == [str(own)])


def test_an_official_set_that_is_not_whole_is_told_with_and_without_it(
    tmp_path: Path, tiny_root: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(validating, "validate", lambda *_, **more: told.append(more) or [])
    monkeypatch.setattr(validating, "made_of", lambda root: "official")
    assert main(TASK, ["validate", str(archive), f"data.root={tiny_root}"]) == 0
    assert main(TASK, ["validate", str(archive), f"data.root={tmp_path / 'nowhere'}"]) == 0
    assert told == [{"clips": validating.EVAL_CLIPS}, {}]  # {}: by default the challenge's number


def test_absurd_numbers_of_runs_and_columns(root: Path) -> None:
    for number in ("99999999", "9" * 200):
        write(f"{LABEL}/{LABEL}_run{number}.output/clip_a.tsv")(root)
    columns = [f"c{number}" for number in range(300_000)]
    (root / LABEL / TSV).write_text("\t".join(["onset", "offset", *columns]) + "\n" + "\t".join("0" * 300_002) + "\n")
    start = time.process_time()
    found = check(root)
    assert time.process_time() - start < 20
    assert len(found) < 500


def test_system_without_its_folder(root: Path, tmp_path: Path) -> None:
    remove(TSV)(root)
    zipped = zip_folder(root / LABEL, tmp_path / f"{LABEL}.zip")
    for path in (root / LABEL, zipped):
        rules = [(violation.file, violation.rule) for violation in check(path)]
        assert rules == [(".", "layout"), (f"{LABEL}/{TSV}", "clip-missing")]


def test_nothing_of_a_submission_in_it(tmp_path: Path) -> None:
    write("notes/readme.txt")(tmp_path / "folder")
    assert [violation.rule for violation in check(tmp_path / "folder")] == ["layout"]


def test_archives_that_cannot_be_opened(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not found"):
        validate(tmp_path / "missing.zip")
    with pytest.raises(UserError, match="members"):
        validate(archive, limits=Limits(members=3))


def test_scores_of_a_real_submission(shared: Path) -> None:
    """A participant's tables (columns: the DESED classes) break no rule of tables."""
    folder = shared / "data" / "sed" / "frame_scores"
    durations = read_durations(folder / "durations.tsv")
    tables = sorted((folder / "scores").glob("*.tsv"))
    assert tables
    for path in tables:
        duration = durations[f"{path.stem}.wav"]
        assert check_table(path.read_bytes(), path.name, DESED_CLASSES, duration).violations == []


# --- properties -------------------------------------------------------------------------------------------------

times = st.lists(st.floats(1e-5, 50), min_size=1, max_size=8)


@settings(deadline=None, max_examples=60)
@given(steps=times, data=st.data())
def test_what_is_written_passes_the_check(steps: list[float], data: st.DataObject) -> None:
    number = st.floats(allow_nan=False, allow_infinity=False) | st.just(-np.inf)
    rows = data.draw(st.lists(st.tuples(number, number), min_size=len(steps), max_size=len(steps)))
    clip = ClipScores(np.append(0, np.cumsum(steps)), np.array(rows))
    text = format_scores(clip, "clip", ("a", "b"), (0, 1))
    assert check_table(text.encode(), "clip.tsv", ("a", "b"), float(clip.edges[-1])).violations == []


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.sampled_from(["0", "0.5", "1", "\t", "\t", "\n", "\r", " ", "x", "nan", "1_0", "٣", ",", '"', "#"]),
        max_size=14,
    )
)
def test_a_table_that_is_not_well_formed_is_never_silent(parts: list[str]) -> None:
    body = "".join(parts)
    found = check_table(f"onset\toffset\ta\n{body}".encode(), "clip.tsv", ("a",)).violations
    assert found or parse(lines_of(body), "\t", 0, 3) is not None


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from(list("\t\n#:[]{}'\"&*!%@`-0a \x00é")))
def test_a_damaged_meta_file_never_crashes(place: int, character: str) -> None:
    text = meta_yaml(META)
    place %= len(text)
    for violation in check_meta(text[:place] + character + text[place + 1 :], LABEL, "meta.yaml"):
        assert violation.line is not None
        assert "\n" not in str(violation)
