"""Packing a submission and checking it: one mutation of a valid archive for each rule."""

import dataclasses
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from common.archive import Limits, Violation
from common.errors import UserError
from task4_sed.annotations import read_durations
from task4_sed.classes import CLASSES, DESED_CLASSES
from task4_sed.scores import ClipScores, ScoreSet, read_scores
from task4_sed.submission import (
    Affiliation,
    Author,
    Complexity,
    Description,
    DevtestResults,
    RunScores,
    SubmissionMeta,
    package,
    validate,
)
from task4_sed.submission.meta import meta_yaml
from task4_sed.submission.meta_check import check_meta
from task4_sed.submission.package import format_scores
from task4_sed.submission.score_check import _parse, check_table

LABEL = "Muster_Uni-X_task4_1"
CLIPS = ("clip_a", "clip_b", "clip_c", "clip_d")
DURATIONS = dict.fromkeys((f"{clip}.wav" for clip in CLIPS), 10.0)
EDGES = np.append(np.arange(20) * 0.5, 9.984)
META = SubmissionMeta(
    label=LABEL,
    name="Fused transformer",
    abbreviation="FT",
    authors=[
        Author("Muster", "Eva", "eva@example.org", True, Affiliation("University of X", "UX", None, "Linz")),
        Author("Beispiel", "Max"),
    ],
    complexity=Complexity(1_234_567, macs=930_000_000, energy_training=1.5),
    results=DevtestResults(0.5, 0.73),
    description=Description(data_augmentation=["mixup"], post_processing="median filter"),
)
RUN1 = f"{LABEL}_run1.output"
TSV = f"{RUN1}/clip_b.tsv"
YAML = f"{LABEL}.meta.yaml"


def score_set(seed: int, classes: tuple[str, ...] = CLASSES) -> ScoreSet:
    random = np.random.default_rng(seed)
    return ScoreSet(classes, {clip: ClipScores(EDGES, random.random((20, len(classes)))) for clip in CLIPS})


RUNS = [RunScores(score_set(i), score_set(10 + i)) for i in range(3)]


@pytest.fixture(scope="session")
def energy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("codecarbon") / "emissions_training.csv"
    path.write_text("project_name,duration,energy_consumed\ntrain,7200,1.5\n")
    return path


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory, energy: Path) -> Path:
    return package(tmp_path_factory.mktemp("zip") / "ours.zip", META, RUNS, [energy], toy=True)


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory, archive: Path) -> Path:
    folder = tmp_path_factory.mktemp("pristine")
    with zipfile.ZipFile(archive) as zipped:
        zipped.extractall(folder)
    return folder


@pytest.fixture
def root(tmp_path: Path, pristine: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "root"))


def check(path: Path) -> list[Violation]:
    return validate(path, CLIPS, DURATIONS)


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


# --- one mutation for each rule ---------------------------------------------------------------------------------


def edit(relative: str, change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def mutate(root: Path) -> None:
        path = root / LABEL / relative
        path.write_text("\n".join(change(path.read_text().split("\n"))))

    return mutate


def table(line: int, change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    """Change the fields of a line (counted from 1) of one score table."""

    def of_lines(lines: list[str]) -> list[str]:
        lines[line - 1] = "\t".join(change(lines[line - 1].split("\t")))
        return lines

    return edit(TSV, of_lines)


def put(index: int, value: str) -> Callable[[list[str]], list[str]]:
    return lambda fields: [value if i == index else field for i, field in enumerate(fields)]


def meta(old: str, new: str) -> Callable[[Path], None]:
    def of_lines(lines: list[str]) -> list[str]:
        text = "\n".join(lines)
        assert text.count(old) == 1, (old, text)
        return text.replace(old, new).split("\n")

    return edit(YAML, of_lines)


def meta_line(pristine: Path, word: str) -> int:
    """The only line of the valid meta file that has a word."""
    lines = (pristine / LABEL / YAML).read_text().split("\n")
    (number,) = [number for number, line in enumerate(lines, 1) if word in line]
    return number


def swap_header(fields: list[str]) -> list[str]:
    return [*fields[:2], fields[3], fields[2], *fields[4:]]


def rename(old: str, new: str) -> Callable[[Path], None]:
    return lambda root: (root / LABEL / old).rename(root / LABEL / new)  # type: ignore[func-returns-value]


def remove(relative: str) -> Callable[[Path], None]:
    return lambda root: (root / LABEL / relative).unlink()


def write(relative: str, data: bytes = b"x") -> Callable[[Path], None]:
    def mutate(root: Path) -> None:
        (root / relative).parent.mkdir(parents=True, exist_ok=True)
        (root / relative).write_bytes(data)

    return mutate


TABLE_RULES = [
    (table(1, put(4, "Kat")), {("column-missing", 1), ("column-unknown", 1)}),
    (table(1, swap_header), {("column-order", 1)}),
    (
        table(1, lambda fields: ["offset", "onset", *fields[2:]]),
        {("column-order", 1), ("time-start", 2)}
        | {("time-order", i) for i in range(2, 22)}
        | {("time-gap", i) for i in range(3, 22)}
        | {("time-coverage", 21)},
    ),
    (table(1, put(3, "Alarm_bell_ringing")), {("column-missing", 1), ("column-twice", 1)}),
    (table(7, lambda fields: fields[:-1]), {("row-fields", 7)}),
    (table(7, lambda fields: [" ".join(fields)]), {("row-fields", 7)}),
    (table(7, lambda fields: [*fields, "0.5"]), {("row-fields", 7)}),
    (table(7, put(5, "high")), {("number", 7)}),
    (table(7, put(5, "")), {("number", 7)}),
    (table(7, put(5, "0,5")), {("number", 7)}),
    (table(7, put(5, "0.000_1")), {("number", 7)}),
    (table(7, put(5, "nan")), {("score-nan", 7)}),
    (table(7, put(5, "-inf")), {("score-infinite", 7)}),
    (table(7, put(5, "inf")), {("score-infinite", 7)}),
    (table(7, put(0, "nan")), {("time-number", 7)}),
    (table(7, put(0, "2.6")), {("time-gap", 7)}),
    (table(7, put(0, "2.4")), {("time-gap", 7)}),
    (table(7, put(0, "2.500000001")), {("time-gap", 7)}),
    (table(7, put(1, "2.5")), {("time-zero-length", 7), ("time-gap", 8)}),
    (table(7, put(1, "2.2")), {("time-order", 7), ("time-gap", 8)}),
    (table(2, put(0, "0.1")), {("time-start", 2)}),
    (edit(TSV, lambda lines: [*lines[:9], lines[5], *lines[9:]]), {("time-order", 10), ("time-gap", 11)}),
    (edit(TSV, lambda lines: [*lines[:6], *lines[7:]]), {("time-gap", 7)}),
    (edit(TSV, lambda lines: [*lines[:6], "", *lines[6:]]), {("row-empty", 7)}),
    (edit(TSV, lambda lines: [*lines[:-3], ""]), {("time-coverage", 19)}),
    (table(21, put(1, "10.2")), {("time-past-end", 21)}),
    (edit(TSV, lambda lines: []), {("table-empty", None)}),
    (edit(TSV, lambda lines: lines[:1]), {("table-empty", None)}),
    (write(f"{LABEL}/{TSV}", b"onset\toffset\n\xff\xfe\n"), {("encoding", 2)}),
]


@pytest.mark.parametrize(("mutate", "expected"), TABLE_RULES)
def test_rules_of_tables(root: Path, mutate: Callable[[Path], None], expected: set) -> None:
    mutate(root)
    found = check(root)
    assert {(violation.rule, violation.line) for violation in found} == expected
    assert {violation.file for violation in found} == {f"{LABEL}/{TSV}"}


META_RULES = [
    (meta("name: Fused", "name: [Fused"), "meta-syntax", None, "error"),
    (meta("  name:", "\tname:"), "meta-syntax", "Fused", "error"),
    (meta("name: Fused transformer", "name: !!bool x"), "meta-syntax", None, "error"),
    (
        meta("name: Fused transformer", "name: Fused transformer\n  name: Other"),
        "meta-duplicate",
        "abbreviation: FT",
        "error",
    ),
    (meta(f"label: {LABEL}", "label: Other_Uni_task4_1"), "meta-label", "label:", "error"),
    (meta(f"label: {LABEL}", "label: Cornell_CMU_task4_1"), "meta-label", "label:", "error"),
    (meta("name: Fused", "name: Baseline, fused"), "meta-baseline", "Fused", "error"),
    (meta("abbreviation: FT", "abbreviation: baseline"), "meta-baseline", "abbreviation: FT", "error"),
    (meta("abbreviation: FT", "abreviation: FT"), "meta-missing", "submission:", "error"),
    (meta("name: Fused transformer", "name: 12"), "meta-type", "Fused", "error"),
    (meta("corresponding: true", "corresponding: false"), "meta-corresponding", "authors:", "error"),
    (meta("firstname: Max", "fistname: Max"), "meta-missing", "Beispiel", "error"),
    (meta("firstname: Max", "firstname: 3"), "meta-type", "firstname: Max", "error"),
    (meta("input_sampling_rate: 16000", "input_sampling_rate: 16kHz"), "meta-type", "input_sampling_rate", "error"),
    (meta("acoustic_features: log-mel energies", "acoustic_features: 3"), "meta-type", "acoustic_features", "error"),
    (meta("log-mel energies", "gammatone"), "meta-features", "acoustic_features", "warning"),
    (meta("log-mel energies", "[mfcc, gammatone]"), "meta-features", "acoustic_features", "warning"),
    (meta("total_parameters: 1234567", "total_parameters: 1.2"), "meta-type", "total_parameters", "error"),
    (meta("total_parameters: 1234567", "total_parameters: true"), "meta-type", "total_parameters", "error"),
    (
        meta("source_code: null", "source_code: https://github.com/DCASE-REPO/DESED_task"),
        "meta-source",
        "source_code",
        "error",
    ),
    (meta("source_code: null", "source_code: ask us"), "meta-source", "source_code", "warning"),
    (meta("  source_code: null\n", ""), "meta-missing", "system:", "error"),
    (meta("PSDS1: 0.5", "PSDS1: 1"), "meta-type", "PSDS1", "error"),
    (meta("PSDS1: 0.5", "PSDS1: .nan"), "meta-type", "PSDS1", "error"),
    (meta("PSDS1: 0.5", "PSDS1: 50.1"), "meta-range", "PSDS1", "warning"),
    (meta("PSDS1: 0.5", "PSDS: 0.5"), "meta-missing", "desed:", "error"),
    (meta("mPAUC: 0.73", "mPAUC: 1e-3"), "meta-type", "mPAUC", "error"),
    (meta("name: Fused transformer", "name: 'Fused#1 transformer'\n  x: 1"), "meta-syntax", None, "error"),
    (meta("name: Fused transformer", "name: Fused#1 transformer"), "meta-comment", "Fused", "warning"),
]


@pytest.mark.parametrize(("mutate", "rule", "word", "severity"), META_RULES)
def test_rules_of_the_meta_file(
    root: Path, pristine: Path, mutate: Callable[[Path], None], rule: str, word: str | None, severity: str
) -> None:
    mutate(root)
    found = check(root)
    assert {(violation.file, violation.rule, violation.severity) for violation in found} >= {
        (f"{LABEL}/{YAML}", rule, severity)
    }
    assert {violation.rule for violation in found} == {rule}
    if word is not None:
        assert found[0].line == meta_line(pristine, word)


def test_a_missing_block_names_all_its_fields(root: Path) -> None:
    meta("results:", "result:")(root)
    meta("description:", "descriptions:")(root)
    missing = [violation.message.split(",")[0] for violation in check(root)]
    assert missing == [
        "no results.devtest.desed.PSDS1",
        "no results.devtest.maestro.mPAUC",
        "no system.description.input_sampling_rate",
        "no system.description.acoustic_features",
    ]


def test_comments_are_cut_and_harmless(root: Path) -> None:
    meta("name: Fused transformer", "name: Fused transformer  # our best: [one")(root)
    meta("submission:", "# a comment\nsubmission:")(root)
    assert check(root) == []


LAYOUT_RULES = [
    (lambda root: next(root.glob("*.pdf")).unlink(), [(".", "report", "error")]),
    (
        lambda root: next(root.glob("*.pdf")).write_text("text"),
        [("Muster_Uni-X_task4.technical_report.pdf", "report", "error")],
    ),
    (write("__MACOSX/x"), [("__MACOSX", "layout", "error")]),
    (remove(YAML), [(f"{LABEL}/{YAML}", "meta-file", "error")]),
    (write(f"{LABEL}/{YAML}", b"\xff"), [(f"{LABEL}/{YAML}", "encoding", "error")]),
    (
        lambda root: shutil.rmtree(root / LABEL / f"{LABEL}_run3.output"),
        [(f"{LABEL}/{LABEL}_run3.output", "run-missing", "error")],
    ),
    (
        lambda root: shutil.rmtree(root / LABEL / f"{LABEL}_run2_unprocessed.output"),
        [(f"{LABEL}/{LABEL}_run2_unprocessed.output", "unprocessed-missing", "warning")],
    ),
    (
        rename(f"{LABEL}_run3.output", f"{LABEL}_run4.output"),
        [
            (f"{LABEL}/{LABEL}_run3.output", "run-missing", "error"),
            (f"{LABEL}/{LABEL}_run4_unprocessed.output", "unprocessed-missing", "warning"),
        ],
    ),
    (
        lambda root: shutil.copytree(root / LABEL / RUN1, root / LABEL / "Other_Uni_task4_1_run1.output"),
        [(f"{LABEL}/Other_Uni_task4_1_run1.output", "stray", "error")],
    ),
    (write(f"{LABEL}/notes.txt"), [(f"{LABEL}/notes.txt", "stray", "warning")]),
    (
        lambda root: (root / LABEL / RUN1 / "clip_e.tsv").symlink_to("nowhere"),
        [(f"{LABEL}/{RUN1}/clip_e.tsv", "stray", "error")],
    ),
    (write(f"{LABEL}/{RUN1}/clip_e.wav"), [(f"{LABEL}/{RUN1}/clip_e.wav", "stray", "error")]),
    (write(f"{LABEL}/{RUN1}/sub/x.tsv"), [(f"{LABEL}/{RUN1}/sub", "stray", "error")]),
    (remove(TSV), [(f"{LABEL}/{TSV}", "clip-missing", "error")]),
    (
        lambda root: shutil.copy(root / LABEL / TSV, root / LABEL / RUN1 / "clip_e.tsv"),
        [(f"{LABEL}/{RUN1}/clip_e.tsv", "clip-additional", "error")],
    ),
    (rename(TSV, f"{RUN1}/clip_b.wav.tsv"), [(f"{LABEL}/{RUN1}/clip_b.wav.tsv", "clip-name", "error")]),
    (
        lambda root: shutil.copy(root / LABEL / TSV, root / LABEL / RUN1 / "clip_b.wav.tsv"),
        [(f"{LABEL}/{RUN1}/clip_b.wav.tsv", "clip-twice", "error")],
    ),
    (
        lambda root: (
            shutil.rmtree(root / LABEL / f"{LABEL}_run2.output"),
            shutil.copytree(root / LABEL / RUN1, root / LABEL / f"{LABEL}_run2.output"),
        ),
        [(f"{LABEL}/{LABEL}_run2.output", "run-identical", "error")],
    ),
    (remove("emissions_training.csv"), [(LABEL, "energy", "warning")]),
    (
        write(f"{LABEL}/emissions_training.csv", b"a,b\n1,2\n"),
        [(f"{LABEL}/emissions_training.csv", "energy", "warning")],
    ),
    (
        write(f"{LABEL}/codecarbon/test.csv", b"energy_consumed\n-1\n"),
        [(f"{LABEL}/codecarbon/test.csv", "energy", "warning"), (f"{LABEL}/codecarbon", "stray", "warning")],
    ),
]


@pytest.mark.parametrize(("mutate", "expected"), LAYOUT_RULES)
def test_rules_of_the_layout(root: Path, mutate: Callable[[Path], None], expected: list) -> None:
    mutate(root)
    found = {(violation.file, violation.rule, violation.severity) for violation in check(root)}
    assert found == set(expected)


def test_empty_run(root: Path) -> None:
    for path in (root / LABEL / RUN1).iterdir():
        path.unlink()
    rules = [violation.rule for violation in check(root)]
    assert rules == ["run-empty", *["clip-missing"] * 4]


def test_decisions_instead_of_scores(root: Path) -> None:
    for path in (root / LABEL / RUN1).iterdir():
        clip = read_scores(path.parent).clips[path.stem]
        path.write_text(format_scores(ClipScores(clip.edges, clip.scores.round()), "", CLASSES, range(27)))
    assert [(found.file, found.rule) for found in check(root)] == [(f"{LABEL}/{RUN1}", "decisions")]


@pytest.mark.parametrize(
    "label",
    [
        "Muster_Uni_X_task4_1",
        "Muster_task4_1",
        "Muster_Uni_task5_1",
        "Muster_Uni_task4_0",
        "_Uni_task4_1",
        "Baseline_Uni_task4_1",
    ],
)
def test_labels(root: Path, label: str) -> None:
    """The folder and all that is named after it have the label, only its form is wrong."""
    for path in sorted((root / LABEL).iterdir()):
        path.rename(path.with_name(path.name.replace(LABEL, label)))
    path = root / LABEL / f"{label}.meta.yaml"
    path.write_text(path.read_text().replace(LABEL, label))
    (root / LABEL).rename(root / label)
    rules = {violation.rule for violation in check(root)}
    assert rules == ({"label", "meta-baseline"} if "Baseline" in label else {"label"})


def test_too_many_systems(root: Path) -> None:
    for number in range(2, 10):
        (root / f"Muster_Uni-X_task4_{number}" / "x.output").mkdir(parents=True)
    counted = [violation for violation in check(root) if violation.rule == "system-count"]
    assert [violation.message for violation in counted] == ["9 systems, expected 1 to 8"]


def test_every_violation_is_listed(root: Path) -> None:
    for path in (root / LABEL).glob("*/*.tsv"):
        path.write_text(re.sub(r"\t[0-9.e-]+\n", "\tnan\n", path.read_text()))
    found = check(root)
    assert len(found) == 6 * 4 * 20
    assert {violation.rule for violation in found} == {"score-nan"}
    assert len({(violation.file, violation.line) for violation in found}) == len(found)


def test_without_a_list_the_runs_are_compared(root: Path) -> None:
    assert {violation.rule for violation in validate(root)} == {"clip-count"}
    assert {violation.severity for violation in validate(root)} == {"warning"}
    remove(TSV)(root)
    found = [violation for violation in validate(root) if violation.rule != "clip-count"]
    assert [(violation.file, violation.rule) for violation in found] == [(f"{LABEL}/{TSV}", "clip-missing")]


def test_windows_line_ends_are_fine(root: Path) -> None:
    path = root / LABEL / TSV
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert check(root) == []


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
    assert found or _parse(body, 3) is not None


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from(list("\t\n#:[]{}'\"&*!%@`-0a \x00é")))
def test_a_damaged_meta_file_never_crashes(place: int, character: str) -> None:
    text = meta_yaml(META)
    place %= len(text)
    for violation in check_meta(text[:place] + character + text[place + 1 :], LABEL, "meta.yaml"):
        assert violation.line is not None
        assert "\n" not in str(violation)
