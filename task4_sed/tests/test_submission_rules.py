"""Rules of a submission: one mutation of a valid archive for each."""

import re
import shutil
from pathlib import Path

import pytest

from common.tests.submission_case import Mutation, edit, edit_row, put, swap
from task4_sed.data.classes import CLASSES
from task4_sed.inference.scores import read_scores
from task4_sed.metrics.types import ClipScores
from task4_sed.submission.package import format_scores
from task4_sed.submission.validate import validate
from task4_sed.tests.submission_case import LABEL, RUN1, TSV, YAML, check, remove, write

TABLE, META = f"{LABEL}/{TSV}", f"{LABEL}/{YAML}"


def meta_line(pristine: Path, word: str) -> int:
    """The only line of the valid meta file that has a word."""
    lines = (pristine / LABEL / YAML).read_text().split("\n")
    (number,) = [number for number, line in enumerate(lines, 1) if word in line]
    return number


def swap_header(fields: list[str]) -> list[str]:
    return [*fields[:2], fields[3], fields[2], *fields[4:]]


def rename(old: str, new: str) -> Mutation:
    return lambda root: (root / LABEL / old).rename(root / LABEL / new)  # type: ignore[func-returns-value]


TABLE_RULES = [
    (edit_row(TABLE, 1, put((4, "Kat"))), {("column-missing", 1), ("column-unknown", 1)}),
    (edit_row(TABLE, 1, swap_header), {("column-order", 1)}),
    (
        edit_row(TABLE, 1, lambda fields: ["offset", "onset", *fields[2:]]),
        {("column-order", 1), ("time-start", 2)}
        | {("time-order", i) for i in range(2, 22)}
        | {("time-gap", i) for i in range(3, 22)}
        | {("time-coverage", 21)},
    ),
    (edit_row(TABLE, 1, put((3, "Alarm_bell_ringing"))), {("column-missing", 1), ("column-twice", 1)}),
    (edit_row(TABLE, 7, lambda fields: fields[:-1]), {("row-fields", 7)}),
    (edit_row(TABLE, 7, lambda fields: [" ".join(fields)]), {("row-fields", 7)}),
    (edit_row(TABLE, 7, lambda fields: [*fields, "0.5"]), {("row-fields", 7)}),
    (edit_row(TABLE, 7, put((5, "high"))), {("number", 7)}),
    (edit_row(TABLE, 7, put((5, ""))), {("number", 7)}),
    (edit_row(TABLE, 7, put((5, "0,5"))), {("number", 7)}),
    (edit_row(TABLE, 7, put((5, "0.000_1"))), {("number", 7)}),
    (edit_row(TABLE, 7, put((5, "nan"))), {("score-nan", 7)}),
    (edit_row(TABLE, 7, put((5, "-inf"))), {("score-infinite", 7)}),
    (edit_row(TABLE, 7, put((5, "inf"))), {("score-infinite", 7)}),
    (edit_row(TABLE, 7, put((0, "nan"))), {("time-number", 7)}),
    (edit_row(TABLE, 7, put((0, "2.6"))), {("time-gap", 7)}),
    (edit_row(TABLE, 7, put((0, "2.4"))), {("time-gap", 7)}),
    (edit_row(TABLE, 7, put((0, "2.500000001"))), {("time-gap", 7)}),
    (edit_row(TABLE, 7, put((1, "2.5"))), {("time-zero-length", 7), ("time-gap", 8)}),
    (edit_row(TABLE, 7, put((1, "2.2"))), {("time-order", 7), ("time-gap", 8)}),
    (edit_row(TABLE, 2, put((0, "0.1"))), {("time-start", 2)}),
    (edit(TABLE, lambda lines: [*lines[:9], lines[5], *lines[9:]]), {("time-order", 10), ("time-gap", 11)}),
    (edit(TABLE, lambda lines: [*lines[:6], *lines[7:]]), {("time-gap", 7)}),
    (edit(TABLE, lambda lines: [*lines[:6], "", *lines[6:]]), {("row-empty", 7)}),
    (edit(TABLE, lambda lines: [*lines[:-3], ""]), {("time-coverage", 19)}),
    (edit_row(TABLE, 21, put((1, "10.2"))), {("time-past-end", 21)}),
    (edit(TABLE, lambda lines: []), {("table-empty", None)}),
    (edit(TABLE, lambda lines: lines[:1]), {("table-empty", None)}),
    (write(f"{LABEL}/{TSV}", b"onset\toffset\n\xff\xfe\n"), {("encoding", 2)}),
]


@pytest.mark.parametrize(("mutate", "expected"), TABLE_RULES)
def test_rules_of_tables(root: Path, mutate: Mutation, expected: set) -> None:
    mutate(root)
    found = check(root)
    assert {(violation.rule, violation.line) for violation in found} == expected
    assert {violation.file for violation in found} == {f"{LABEL}/{TSV}"}


# Replaced in the meta file, what stands there then, the rule, a word of the line.
META_RULES = [
    ("name: Fused", "name: [Fused", "meta-syntax", None),
    ("  name:", "\tname:", "meta-syntax", "Fused"),
    ("name: Fused transformer", "name: !!bool x", "meta-syntax", None),
    ("name: Fused transformer", "name: Fused transformer\n  name: Other", "meta-duplicate", "abbreviation: FT"),
    (f"label: {LABEL}", "label: Other_Uni_task4_1", "meta-label", "label:"),
    (f"label: {LABEL}", "label: Cornell_CMU_task4_1", "meta-label", "label:"),
    ("name: Fused", "name: Baseline, fused", "meta-baseline", "Fused"),
    ("abbreviation: FT", "abbreviation: baseline", "meta-baseline", "abbreviation: FT"),
    ("abbreviation: FT", "abreviation: FT", "meta-missing", "submission:"),
    ("name: Fused transformer", "name: 12", "meta-type", "Fused"),
    ("corresponding: true", "corresponding: false", "meta-corresponding", "authors:"),
    ("firstname: Max", "fistname: Max", "meta-missing", "Beispiel"),
    ("firstname: Max", "firstname: 3", "meta-type", "firstname: Max"),
    ("input_sampling_rate: 16000", "input_sampling_rate: 16kHz", "meta-type", "input_sampling_rate"),
    ("acoustic_features: log-mel energies", "acoustic_features: 3", "meta-type", "acoustic_features"),
    ("total_parameters: 1234567", "total_parameters: 1.2", "meta-type", "total_parameters"),
    ("total_parameters: 1234567", "total_parameters: true", "meta-type", "total_parameters"),
    ("source_code: null", "source_code: https://github.com/DCASE-REPO/DESED_task", "meta-source", "source_code"),
    ("  source_code: null\n", "", "meta-missing", "system:"),
    ("PSDS1: 0.5", "PSDS1: 1", "meta-type", "PSDS1"),
    ("PSDS1: 0.5", "PSDS1: .nan", "meta-type", "PSDS1"),
    ("PSDS1: 0.5", "PSDS: 0.5", "meta-missing", "desed:"),
    ("mPAUC: 0.73", "mPAUC: 1e-3", "meta-type", "mPAUC"),
    ("name: Fused transformer", "name: 'Fused#1 transformer'\n  x: 1", "meta-syntax", None),
]
META_WARNINGS = [
    ("log-mel energies", "gammatone", "meta-features", "acoustic_features"),
    ("log-mel energies", "[mfcc, gammatone]", "meta-features", "acoustic_features"),
    ("source_code: null", "source_code: ask us", "meta-source", "source_code"),
    ("PSDS1: 0.5", "PSDS1: 50.1", "meta-range", "PSDS1"),
    ("name: Fused transformer", "name: Fused#1 transformer", "meta-comment", "Fused"),
]


@pytest.mark.parametrize(("old", "new", "rule", "word"), META_RULES + META_WARNINGS)
def test_rules_of_the_meta_file(root: Path, pristine: Path, old: str, new: str, rule: str, word: str | None) -> None:
    assert (pristine / META).read_text().count(old) == 1
    swap(META, old, new)(root)
    severity = "error" if (old, new, rule, word) in META_RULES else "warning"
    found = check(root)
    assert {(violation.file, violation.rule, violation.severity) for violation in found} >= {
        (f"{LABEL}/{YAML}", rule, severity)
    }
    assert {violation.rule for violation in found} == {rule}
    if word is not None:
        assert found[0].line == meta_line(pristine, word)


def test_a_missing_block_names_all_its_fields(root: Path) -> None:
    swap(META, "results:", "result:")(root)
    swap(META, "description:", "descriptions:")(root)
    missing = [violation.message.split(",")[0] for violation in check(root)]
    assert missing == [
        "no results.devtest.desed.PSDS1",
        "no results.devtest.maestro.mPAUC",
        "no system.description.input_sampling_rate",
        "no system.description.acoustic_features",
    ]


def test_comments_are_cut_and_harmless(root: Path) -> None:
    swap(META, "name: Fused transformer", "name: Fused transformer  # our best: [one")(root)
    swap(META, "submission:", "# a comment\nsubmission:")(root)
    assert check(root) == []


LAYOUT_RULES = [
    (lambda root: next(root.glob("*.pdf")).unlink(), [(".", "report", "error")]),
    (
        lambda root: next(root.glob("*.pdf")).write_text("text"),
        [("Muster_Uni-X_task4.technical_report.pdf", "report", "error")],
    ),
    (write("__MACOSX/x"), [(".", "clutter", "warning")]),
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
def test_rules_of_the_layout(root: Path, mutate: Mutation, expected: list) -> None:
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
