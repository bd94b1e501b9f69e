"""Submissions of both forms: valid ones are packed, and every rule finds the mutation that breaks it."""

import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from common.run.errors import UserError
from common.run.settings import SubmissionConfig
from common.run.submission.meta import ExternalDataset
from common.run.submission.violations import Violation, has_errors, listing
from common.tests.submission_case import Mutation, about_team, edit_row, put, unpack
from common.tests.submission_case import edit as edit_lines
from common.tests.submission_case import swap as swap_text
from task2_anomaly.data.classes import Machine
from task2_anomaly.inference.scores import decision_file, score_file, write_decisions, write_scores
from task2_anomaly.submission.editions import FIRST_SHOT_TYPES, Edition
from task2_anomaly.submission.meta import make_meta, meta_yaml
from task2_anomaly.submission.package import System, package_2020, package_first_shot
from task2_anomaly.submission.validate import validate

LABEL = "Muster_Uni-X_task2_1"
YAML = f"{LABEL}.meta.yaml"
FAN, CAR = Machine("fan", 1), Machine("ToyCar", 5)
EXPECTED = {FAN: 12, CAR: [f"id_05_{number:08d}.wav" for number in range(9)]}
SECTIONS = {Machine(kind, 0, section=True): None for kind in FIRST_SHOT_TYPES[2023]}
ABOUT = about_team(LABEL, "Outlier-exposed classifiers", "OE-CNN")
RESULTS = {"fan": {"auc": 0.93449, "pauc": 0.8364}, "ToyCar": {"auc": 0.9313, "pauc": 0.87661}}
FIRST_SHOT = {"gearbox": {"auc_source": 0.7, "auc_target": 0.6, "pauc": 0.55}}
PARAMETERS = 18 * 2_240_898
SCORES, DECISIONS = score_file(FAN), "decision_result_grinder_section_00_test.csv"


def system_of(folder: Path, edition: Edition = "2020", about: SubmissionConfig = ABOUT, seed: int = 0) -> System:
    rng = np.random.default_rng(seed)
    machines = EXPECTED if edition == "2020" else SECTIONS
    for machine in machines:
        form = "section_00_{:04d}.wav" if machine.section else f"id_{machine.id:02d}_{{:08d}}.wav"
        scores = {form.format(number): float(rng.normal()) for number in range(12 if machine == FAN else 9)}
        write_scores(folder / about.label / score_file(machine), scores)
        decisions = {name: int(rank % 2) for rank, name in enumerate(scores)}
        write_decisions(folder / about.label / decision_file(machine), decisions)
    meta = make_meta(
        about, RESULTS if edition == "2020" else FIRST_SHOT, PARAMETERS, edition, aggregation_method="mean"
    )
    return System(meta, folder / about.label)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> dict[Edition, Path]:
    """The unpacked archives of one system with a report of its own, of both forms."""
    folder = tmp_path_factory.mktemp("asd")
    report = folder / "report.pdf"
    report.write_bytes(b"%PDF-1.4 a report")
    old = package_2020(folder / "old.zip", [system_of(folder / "old")], report, EXPECTED)
    new = package_first_shot(folder / "new.zip", [system_of(folder / "new", "first-shot")], report)
    for archive, name in ((old, "2020"), (new, "first-shot")):
        unpack(archive, folder / name)
    return {"2020": folder / "2020", "first-shot": folder / "first-shot"}


@pytest.fixture
def root(tmp_path: Path, pristine: dict[Edition, Path]) -> Path:
    return Path(shutil.copytree(pristine["2020"], tmp_path / "root"))


@pytest.fixture
def first_shot(tmp_path: Path, pristine: dict[Edition, Path]) -> Path:
    return Path(shutil.copytree(pristine["first-shot"], tmp_path / "root"))


def check(root: Path, **options: object) -> list[Violation]:
    return validate(root, expected=EXPECTED, **options)


# ----------------------------------------------------------------------------------------------------------- packaging


def test_what_is_packed_is_valid(tmp_path: Path, pristine: dict[Edition, Path]) -> None:
    root = pristine["2020"]
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    tables = [f"task2/{LABEL}/{score_file(machine)}" for machine in EXPECTED]
    assert names == sorted([*tables, f"task2/{LABEL}/{YAML}", "task2/Muster_Uni-X_task2.technical_report.pdf"])
    for place in (root, root / "task2"):
        assert check(place, counted=PARAMETERS, results={LABEL: RESULTS}) == []
    second = system_of(tmp_path, about=replace(ABOUT, label=LABEL[:-1] + "2"), seed=1)
    second = replace(second, meta=replace(second.meta, results={}))
    systems = [system_of(tmp_path), replace(second, meta=replace(second.meta, results={"fan": RESULTS["ToyCar"]}))]
    archive = package_2020(tmp_path / "a.zip", systems, None, EXPECTED)
    found = check(archive)
    assert [(v.rule, v.severity) for v in found] == [("meta-results", "warning"), ("report-placeholder", "warning")]
    assert archive.read_bytes() == package_2020(tmp_path / "b.zip", systems, None, EXPECTED).read_bytes()


def test_first_shot_has_decisions_too(pristine: dict[Edition, Path]) -> None:
    root = pristine["first-shot"]
    tables = {path.name for path in root.rglob("*.csv")}
    assert tables == {of(machine) for machine in SECTIONS for of in (score_file, decision_file)}
    assert validate(root, "first-shot", counted=PARAMETERS, results={LABEL: FIRST_SHOT}) == []
    block = yaml.safe_load((root / "task2" / LABEL / YAML).read_text())
    assert block["results"]["development_dataset"]["gearbox"] == {"auc_source": 70.0, "auc_target": 60.0, "pauc": 55.0}
    assert "domain_adaptation_method" in block["system"]["description"]


def test_results_are_in_per_cent_and_unknown_ones_null() -> None:
    meta = make_meta(ABOUT, RESULTS | {"pump": {"auc": None, "pauc": None}}, PARAMETERS)
    meta = replace(meta, external_datasets=[ExternalDataset("AudioSet", "https://research.google.com/audioset")])
    content = yaml.safe_load(meta_yaml(meta))
    results = content["results"]["development_dataset"]
    assert results["fan"] == {"averaged_auc": 93.45, "averaged_pauc": 83.64}
    assert results["pump"] == {"averaged_auc": None, "averaged_pauc": None}
    assert content["system"]["complexity"]["total_parameters"] == PARAMETERS
    assert content["system"]["external_datasets"][0]["name"] == "AudioSet"
    assert [author["corresponding"] for author in content["submission"]["authors"]] == [True, False]


def test_real_score_files_are_packed(shared: Path, tmp_path: Path) -> None:
    for team in sorted((shared / "data" / "dcase2020_task2" / "teams").iterdir()):
        about = replace(ABOUT, label=f"Muster_Uni-X_task2_{team.name[-1]}")
        archive = package_2020(tmp_path / f"{team.name}.zip", [System(make_meta(about, RESULTS, PARAMETERS), team)])
        found = validate(archive)
        assert not has_errors(found)
        assert "report-placeholder" in {violation.rule for violation in found}
        with zipfile.ZipFile(archive) as zipped:
            packed = zipped.read(f"task2/{about.label}/{score_file(FAN)}")
        assert packed == (team / score_file(FAN)).read_bytes()


def test_real_systems_side_by_side(shared: Path, tmp_path: Path) -> None:
    """Score files that are equal for some machines only are no copy; equal development results are reported."""
    teams = sorted((shared / "data" / "dcase2020_task2" / "teams").iterdir())[:2]
    systems = [
        System(make_meta(replace(ABOUT, label=f"Muster_Uni-X_task2_{n}"), RESULTS, PARAMETERS), team)
        for n, team in enumerate(teams, 1)
    ]
    found = validate(package_2020(tmp_path / "all.zip", systems))
    assert {v.rule for v in found if v.rule != "meta-results"} == {"report-placeholder", "meta-results-copied"}


def test_packaging_refuses_what_the_challenge_would(tmp_path: Path) -> None:
    system, out = system_of(tmp_path), tmp_path / "out.zip"
    other = replace(ABOUT, label="Other_Uni_task2_2")
    bad = [
        ([], "0 systems to package, expected 1 to 4"),
        ([system] * 5, "5 systems"),
        ([system, system], "two systems have this label"),
        ([system, system_of(tmp_path, about=other)], "different teams"),
        ([replace(system, meta=replace(system.meta, label="Muster_Uni"))], "4 of"),
        ([replace(system, meta=replace(system.meta, abbreviation="MUCH_TOO_LONG"))], "at most 10"),
        ([replace(system, meta=replace(system.meta, edition="first-shot", results=FIRST_SHOT))], "expected 2020"),
        ([replace(system, scores=tmp_path / "none")], "none: scores not found"),
    ]
    for systems, message in bad:
        with pytest.raises(UserError, match=message):
            package_2020(out, systems, None, EXPECTED)
    with pytest.raises(UserError, match="not a PDF"):
        package_2020(out, [system], system.scores / SCORES, EXPECTED)
    with pytest.raises(UserError, match=r"ends in \.zip"):
        package_2020(tmp_path / "out.tar", [system], None, EXPECTED)
    with pytest.raises(UserError, match=rf"{SCORES}: no row for id_01_00000012\.wav$"):
        package_2020(out, [system], None, {FAN: 13})
    with pytest.raises(UserError, match=r"anomaly_score_fan_id_03\.csv: score file not found"):
        package_2020(out, [system], None, EXPECTED | {Machine("fan", 3): 12})
    with pytest.raises(UserError, match="no row for id_01_00000012"):
        package_2020(out, [system])  # the challenge's evaluation set
    new = system_of(tmp_path / "new", "first-shot")
    (new.scores / DECISIONS).unlink()
    with pytest.raises(UserError, match=f"{DECISIONS}: decision file not found"):
        package_first_shot(out, [new])
    assert not out.exists()


# --------------------------------------------------------------------------------------------------------- score files


def edit(name: str, change: Callable[[list[str]], list[str]]) -> Mutation:
    return edit_lines(f"task2/{LABEL}/{name}", change)


def row(line: int, text: str) -> Mutation:
    """Replace a line, counted from 1."""
    return edit_row(f"task2/{LABEL}/{SCORES}", line, lambda _: [text], ",")


def value(line: int, text: str, name: str = SCORES) -> Mutation:
    return edit_row(f"task2/{LABEL}/{name}", line, put((1, text)), ",")


TABLE_RULES = [
    (edit(SCORES, lambda lines: ["filename,score", *lines]), {("header", 1)}),
    (edit(SCORES, lambda lines: lines[:2] + lines[3:]), {("clip-missing", None)}),
    (edit(SCORES, lambda lines: [*lines, lines[4]]), {("clip-twice", 14)}),
    (row(3, "id_01_00000001.wav,0.5"), {("clip-twice", 3), ("clip-missing", None)}),
    (row(3, "id_03_00000002.wav,0.5"), {("clip-id", 3), ("clip-missing", None)}),
    (row(3, "id_1_00000002.wav,0.5"), {("clip-name", 3), ("clip-missing", None)}),
    (row(3, "fan/id_01_00000002.wav,0.5"), {("clip-name", 3), ("clip-missing", None)}),
    (row(3, "normal_id_01_00000002.wav,0.5"), {("clip-name", 3), ("clip-missing", None)}),
    (row(3, "id_01_00000002,0.5"), {("clip-name", 3), ("clip-missing", None)}),
    (row(3, "id_01_00000012.wav,0.5"), {("clip-unknown", 3), ("clip-missing", None)}),
    (row(3, "id_01_00000002.wav"), {("row-fields", 3), ("clip-missing", None)}),
    (row(3, "id_01_00000002.wav,0,5"), {("row-fields", 3), ("clip-missing", None)}),
    (row(3, "id_01_00000002.wav;0.5"), {("row-fields", 3), ("clip-missing", None)}),
    (value(3, "high"), {("number", 3)}),
    (value(3, ""), {("number", 3)}),
    (value(3, "nan"), {("score-finite", 3)}),
    (value(3, "-inf"), {("score-finite", 3)}),
    (edit(SCORES, lambda lines: [f"{old.split(',')[0]},0.0" for old in lines if old]), {("score-constant", None)}),
    (edit(SCORES, lambda lines: []), {("table-empty", None)}),
    (lambda root: (root / "task2" / LABEL / SCORES).write_bytes(b"id\nx\xff,1\n"), {("encoding", 2)}),
]


@pytest.mark.parametrize(("mutate", "expected"), TABLE_RULES)
def test_rules_of_score_files(root: Path, mutate: Mutation, expected: set) -> None:
    mutate(root)
    found = check(root)
    assert {(v.rule, v.line) for v in found} == expected
    assert {v.file for v in found} == {f"task2/{LABEL}/{SCORES}"}
    assert has_errors(found) == (("score-constant", None) not in expected)
    assert all(v.message and "\n" not in v.message for v in found)


def test_harmless_differences_are_none(root: Path) -> None:
    edit(SCORES, lambda lines: [*[old for old in lines[::-1] if old], "", ""])(root)
    path = root / "task2" / LABEL / score_file(CAR)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert check(root) == []


DECISION_RULES = [
    (value(3, "2", DECISIONS), ("decision", DECISIONS, 3)),
    (value(3, "1.0", DECISIONS), ("decision", DECISIONS, 3)),
    (value(3, "yes", DECISIONS), ("decision", DECISIONS, 3)),
    (edit(DECISIONS, lambda lines: lines[1:]), ("clip-missing", DECISIONS, None)),
    (edit(DECISIONS, lambda lines: [*lines, "section_00_0099.wav,1"]), ("clip-unknown", DECISIONS, 11)),
    (edit(DECISIONS, lambda lines: [*lines, "section_01_0001.wav,1"]), ("clip-id", DECISIONS, 11)),
    (edit(DECISIONS, lambda lines: [*lines, "id_00_00000001.wav,1"]), ("clip-name", DECISIONS, 11)),
    (
        edit(DECISIONS, lambda lines: [f"{old.split(',')[0]},0" for old in lines if old]),
        ("decision-constant", DECISIONS, None),
    ),
    (lambda root: (root / "task2" / LABEL / DECISIONS).unlink(), ("decision-missing", DECISIONS, None)),
    (
        lambda root: shutil.copy(
            root / "task2" / LABEL / DECISIONS, root / "task2" / LABEL / "decision_result_fan_section_00_test.csv"
        ),
        ("table-name", "decision_result_fan_section_00_test.csv", None),
    ),
]


@pytest.mark.parametrize(("mutate", "expected"), DECISION_RULES)
def test_rules_of_decisions(first_shot: Path, mutate: Mutation, expected: tuple) -> None:
    mutate(first_shot)
    found = validate(first_shot, "first-shot")
    assert [(v.rule, v.file, v.line) for v in found] == [(expected[0], f"task2/{LABEL}/{expected[1]}", expected[2])]


def test_machine_types_of_an_edition_are_known(first_shot: Path) -> None:
    folder = first_shot / "task2" / LABEL
    for path in folder.glob("*_Vacuum_*"):
        path.unlink()
    found = validate(first_shot, "first-shot")
    assert {(v.rule, v.file.rpartition("/")[2]) for v in found} == {
        ("score-missing", "anomaly_score_Vacuum_section_00_test.csv"),
        ("decision-missing", "decision_result_Vacuum_section_00_test.csv"),
    }
    expected = {machine: None for machine in SECTIONS if machine.type != "Vacuum"}
    assert validate(first_shot, "first-shot", expected) == []
    names = {machine: [f"section_00_{number:04d}.wav" for number in range(10)] for machine in expected}
    found = validate(first_shot, "first-shot", names)
    assert {v.rule for v in found} == {"clip-missing"}
    assert len(found) == 2 * len(names)


# ------------------------------------------------------------------------------------------------------------ meta file


def swap(old: str, new: str) -> Mutation:
    return swap_text(f"task2/{LABEL}/{YAML}", old, new)


def line_of(root: Path, start: str) -> int:
    """The number of the line that begins with `start` after its indentation."""
    lines = (root / "task2" / LABEL / YAML).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.strip().startswith(start))


# What a real package held: tabs for indentation, another system's label, shares for per cent, results of another
# variant, a guess of the number of parameters.
REAL_FAULTS = [
    (swap("  label:", "\tlabel:"), "meta-syntax", "label:", "a tab where blanks are needed"),
    (
        swap("label: Muster_Uni-X_task2_1", "label: Muster_UniX_task2_1"),
        "meta-label",
        "label:",
        "'Muster_UniX_task2_1'",
    ),
    (swap("averaged_auc: 93.45", "averaged_auc: 0.9345"), "meta-percent", "averaged_auc: 0.9345", "expected per cent"),
    (swap("averaged_auc: 93.45", "averaged_auc: 92.3"), "meta-stale", "averaged_auc: 92.3", "scores give 93.45"),
    (swap(f"{PARAMETERS}", "1000000"), "meta-complexity", "total_parameters", "networks have 40,336,164"),
]


@pytest.mark.parametrize(("mutate", "rule", "start", "message"), REAL_FAULTS)
def test_faults_of_a_real_package(root: Path, mutate: Mutation, rule: str, start: str, message: str) -> None:
    mutate(root)
    found = check(root, counted=PARAMETERS, results={LABEL: RESULTS})
    assert [(v.file, v.line, v.rule, v.severity) for v in found] == [
        (f"task2/{LABEL}/{YAML}", line_of(root, start), rule, "error")
    ]
    assert message in found[0].message


META_RULES = [
    (swap("label: Muster", "labels: Muster"), "meta-missing", "submission:", "did you mean 'labels'"),
    (swap("name: Outlier-exposed classifiers", "name: 7"), "meta-type", "name: 7", "expected text"),
    (swap("abbreviation: OE-CNN", "abbreviation: OE-CNN-VERY"), "meta-abbreviation", "abbreviation", "11 characters"),
    (swap("corresponding: true", "corresponding: false"), "meta-corresponding", "authors:", "0 authors"),
    (swap("corresponding: false", "corresponding: true"), "meta-corresponding", "authors:", "2 authors"),
    (swap("corresponding: true", "corresponding: maybe"), "meta-type", "corresponding: maybe", "true or false"),
    (swap("email: m.muster@uni-x.example", "email: nobody"), "meta-email", "email: nobody", "no e-mail address"),
    (swap("email: m.muster@uni-x.example", "email: null"), "meta-email", "email: null", "no e-mail address"),
    (swap("lastname: Muster", "lastname: Mustermann"), "meta-label-author", "- lastname: Mus", "begins with 'Muster'"),
    (
        swap("lastname: Muster", "firstname2: Muster"),
        "meta-missing",
        "- firstname2",
        "no submission.authors[0].lastname",
    ),
    (swap("institution: University of X", "institution: 3"), "meta-type", "institution: 3", "expected text"),
    (swap("  front_end:", "  frontend:"), "meta-missing", "description:", "did you mean 'frontend'"),
    (swap("machine_learning_method: CNN", "machine_learning_method: []"), "meta-type", "machine_learning", "list []"),
    (swap("embeddings: null", "embeddings: 5"), "meta-type", "embeddings", "text, a list of texts, or null"),
    (swap(f"{PARAMETERS}", "many"), "meta-type", "total_parameters", "a whole number"),
    (swap(f"{PARAMETERS}", "0"), "meta-type", "total_parameters", "a whole number"),
    (swap("external_datasets: null", "external_datasets: AudioSet"), "meta-type", "external_datasets", "a list"),
    (swap("external_datasets: null", "external_datasets: [{url: x}]"), "meta-missing", "external_datasets", ".name"),
    (swap("source_code: null", "source_code: mine"), "meta-source", "source_code", "no address"),
    (swap("  development_dataset:", "  development:"), "meta-missing", "results:", "results.development_dataset"),
    (swap("averaged_auc: 93.45", "averaged_auc: 193.45"), "meta-range", "averaged_auc: 193", "expected 0 to 100"),
    (swap("averaged_auc: 93.45", "averaged_auc: -3"), "meta-range", "averaged_auc: -3", "expected 0 to 100"),
    (swap("averaged_auc: 93.45", "averaged_auc: high"), "meta-type", "averaged_auc: high", "per cent, or null"),
    (swap("averaged_auc: 93.45", "averaged_auc: .nan"), "meta-type", "averaged_auc: .nan", "per cent, or null"),
    (swap("averaged_pauc: 83.64", "averaged_pauc: 23.9"), "meta-pauc", "averaged_pauc: 23.9", "never below 47.4"),
    (swap("averaged_pauc: 83.64", "pauc: 83.64"), "meta-missing", "fan:", "averaged_pauc"),
]


@pytest.mark.parametrize(("mutate", "rule", "start", "message"), META_RULES)
def test_rules_of_the_meta_file(root: Path, mutate: Mutation, rule: str, start: str, message: str) -> None:
    mutate(root)
    found = check(root)
    assert [(v.file, v.line, v.rule) for v in found] == [(f"task2/{LABEL}/{YAML}", line_of(root, start), rule)]
    assert message in found[0].message


def test_types_of_the_results(root: Path) -> None:
    swap("    ToyCar:", "    ToyCars:")(root)
    found = check(root)
    lines = {"meta-results": line_of(root, "development_dataset"), "meta-type-unknown": line_of(root, "ToyCars")}
    assert {v.rule: v.line for v in found} == lines
    assert "did you mean 'ToyCar'" in next(v.message for v in found if v.rule == "meta-type-unknown")


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [", "a: !!bool x", "a: 1\na: 2\n", "\xff"])
def test_no_meta_data(root: Path, text: str) -> None:
    (root / "task2" / LABEL / YAML).write_bytes(text.encode("latin-1"))
    found = check(root)
    assert has_errors(found)
    assert {v.file for v in found} == {f"task2/{LABEL}/{YAML}"}


# --------------------------------------------------------------------------------------------------------------- layout


def rename(old: str, new: str) -> Mutation:
    return lambda root: (root / "task2" / old).rename(root / "task2" / new)


def copy_system(root: Path, number: int, scores: bool = False) -> Path:
    """A further system with other scores (or the same), its label right in all places."""
    label = f"{LABEL[:-1]}{number}"
    folder = Path(shutil.copytree(root / "task2" / LABEL, root / "task2" / label))
    (folder / YAML).rename(folder / f"{label}.meta.yaml")
    path = folder / f"{label}.meta.yaml"
    path.write_text(path.read_text().replace(LABEL, label).replace("93.45", f"9{number}.1"))
    if not scores:
        rows = [old.split(",") for old in (folder / SCORES).read_text().split()]
        (folder / SCORES).write_text("".join(f"{name},{float(x) + number}\n" for name, x in rows))
    return folder


REPORT = "Muster_Uni-X_task2.technical_report.pdf"
LAYOUT_RULES = [
    (lambda root: (root / "task2").rename(root / "task1"), {("stray", "task1"), ("layout", ".")}),
    (lambda root: shutil.rmtree(root / "task2" / LABEL), {("layout", "task2"), ("report-name", f"task2/{REPORT}")}),
    (lambda root: (root / "notes.txt").write_text("x"), {("stray", "notes.txt")}),
    (lambda root: (root / "task2" / "notes.txt").write_text("x"), {("stray", "task2/notes.txt")}),
    (lambda root: (root / "task2" / ".DS_Store").write_text("x"), {("clutter", ".")}),
    (lambda root: (root / "task2" / REPORT).unlink(), {("report", f"task2/{REPORT}")}),
    (lambda root: (root / "task2" / REPORT).write_text("hello"), {("report", f"task2/{REPORT}")}),
    (rename(REPORT, "My.technical_report.pdf"), {("report-name", "task2/My.technical_report.pdf")}),
    (lambda root: (root / "task2" / LABEL / YAML).unlink(), {("meta-file", f"task2/{LABEL}/{YAML}")}),
    (
        rename(f"{LABEL}/{YAML}", f"{LABEL}/other.meta.yaml"),
        {("meta-file", f"task2/{LABEL}/{YAML}"), ("meta-name", f"task2/{LABEL}/other.meta.yaml")},
    ),
    (lambda root: (root / "task2" / LABEL / SCORES).unlink(), {("score-missing", f"task2/{LABEL}/{SCORES}")}),
    (
        rename(f"{LABEL}/{SCORES}", f"{LABEL}/anomaly_score_fan_id_1.csv"),
        {("score-missing", f"task2/{LABEL}/{SCORES}"), ("table-name", f"task2/{LABEL}/anomaly_score_fan_id_1.csv")},
    ),
    (
        rename(f"{LABEL}/{SCORES}", f"{LABEL}/anomaly_score_fan_id_00.csv"),
        {("score-missing", f"task2/{LABEL}/{SCORES}"), ("table-machine", f"task2/{LABEL}/anomaly_score_fan_id_00.csv")},
    ),
    (
        lambda root: (root / "task2" / LABEL / "anomaly_score_fan_id_01_max.csv").write_text("x"),
        {("table-name", f"task2/{LABEL}/anomaly_score_fan_id_01_max.csv")},
    ),
    (
        lambda root: (root / "task2" / LABEL / "decision_result_fan_id_01.csv").write_text("x"),
        {("stray", f"task2/{LABEL}/decision_result_fan_id_01.csv")},
    ),
    (lambda root: [copy_system(root, number) for number in (2, 3, 4)], set()),
    (
        lambda root: [copy_system(root, number) for number in (2, 3, 4, 5)],
        {("system-count", "task2"), ("label", f"task2/{LABEL[:-1]}5")},
    ),
    (lambda root: copy_system(root, 2, scores=True), {("system-identical", f"task2/{LABEL[:-1]}2")}),
]


@pytest.mark.parametrize(("mutate", "expected"), LAYOUT_RULES)
def test_rules_of_the_layout(root: Path, mutate: Mutation, expected: set) -> None:
    mutate(root)
    found = check(root)
    assert {(v.rule, v.file) for v in found} == expected
    warnings = {"stray", "system-identical", "clutter"}
    assert {v.rule for v in found if v.severity == "warning"} == {rule for rule, _ in expected} & warnings


def test_one_digit_says_what_is_right(root: Path) -> None:
    rename(f"{LABEL}/{SCORES}", f"{LABEL}/anomaly_score_fan_id_1.csv")(root)
    lines = listing(check(root))
    assert any(line.endswith(f"with one digit, expected {SCORES} [table-name]") for line in lines)


def test_development_results_of_another_system(root: Path) -> None:
    folder = copy_system(root, 2)
    path = folder / f"{folder.name}.meta.yaml"
    path.write_text(path.read_text().replace("92.1", "93.45"))
    found = check(root)
    assert [(v.rule, v.file) for v in found] == [("meta-results-copied", f"task2/{folder.name}/{path.name}")]


def test_other_team(root: Path) -> None:
    folder = copy_system(root, 2)
    label = "Other_Uni_task2_2"
    (folder / f"{folder.name}.meta.yaml").rename(folder / f"{label}.meta.yaml")
    text = (folder / f"{label}.meta.yaml").read_text().replace(folder.name, label)
    (folder / f"{label}.meta.yaml").write_text(text)
    folder.rename(folder.with_name(label))
    assert {v.rule for v in check(root)} == {"team", "meta-label-author"}
