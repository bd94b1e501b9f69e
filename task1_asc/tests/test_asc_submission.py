"""The submission of 2024: a valid one is packed, and every rule finds the mutation that breaks it."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml

from common.run.errors import UserError
from common.run.settings import SubmissionConfig
from common.run.submission.violations import Violation, has_errors, listing
from common.tests.submission_case import Mutation, about_team, edit, edit_row, line_of, put, swap, unpack
from task1_asc.config import SPLITS
from task1_asc.data.classes import DEVICE_GROUPS, DEVICES, SCENES
from task1_asc.inference.scores import write_outputs
from task1_asc.metrics import Parts, scene_metrics
from task1_asc.submission.meta import make_meta, results_block
from task1_asc.submission.package import System2024, package_2024
from task1_asc.submission.rules import label_problem
from task1_asc.submission.validate import evaluation_names, validate

LABEL = "Muster_Uni-X_task1_1"
FILES = 12
YAML = f"{LABEL}.meta.yaml"
CSV = f"{LABEL}.output.split_25.csv"
ABOUT = about_team(LABEL, "Small scenes", "SMALL")
COUNTED = {"parameters": 61_148, "bytes": 122_296, "macs": 29_419_156}


def probabilities(seed: int) -> np.ndarray:
    shares = np.exp(np.random.default_rng(seed).normal(size=(FILES, 10)))
    return shares / shares.sum(axis=1, keepdims=True)


def metrics(seed: int) -> dict:
    rng = np.random.default_rng(seed)
    labels = np.arange(300) % 10
    predicted = np.where(rng.random(300) < 0.6, labels, rng.integers(0, 10, 300))
    parts = Parts(SCENES, DEVICES, DEVICE_GROUPS)
    return scene_metrics(parts, labels, predicted, rng.random(300), np.arange(300) // 10 % 9)


def system_of(folder: Path, about: SubmissionConfig = ABOUT) -> System2024:
    outputs = {split: folder / f"{about.label}_{split}.csv" for split in SPLITS}
    for split, path in outputs.items():
        write_outputs(path, [f"audio/{index}.wav" for index in range(FILES)], probabilities(split))
    results = {split: metrics(split) for split in SPLITS}
    meta = make_meta(about, results, 61_148, 122_296, 29_419_156, data_augmentation=["time rolling", "mixup"])
    return System2024(meta, outputs)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked archive of one system with a report of its own."""
    folder = tmp_path_factory.mktemp("asc")
    report = folder / "report.pdf"
    report.write_bytes(b"%PDF-1.4 a report")
    archive = package_2024(folder / "ours.zip", [system_of(folder)], report, files=FILES)
    return unpack(archive, folder / "root")


@pytest.fixture
def root(tmp_path: Path, pristine: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "root"))


def check(root: Path, **options: object) -> list[Violation]:
    return validate(root, files=FILES, **options)


# ----------------------------------------------------------------------------------------------------------- packaging


def test_what_is_packed_is_valid(tmp_path: Path, pristine: Path) -> None:
    names = sorted(path.relative_to(pristine).as_posix() for path in pristine.rglob("*") if path.is_file())
    expected = [f"task1/{LABEL}/{LABEL}.output.split_{split}.csv" for split in SPLITS]
    assert names == sorted([*expected, f"task1/{LABEL}/{YAML}", "task1/Muster_Uni-X_task1.technical_report.pdf"])
    assert check(pristine, counted=COUNTED) == []
    assert check(pristine / "task1", counted=COUNTED) == []
    second = system_of(tmp_path, replace(ABOUT, label=LABEL[:-1] + "2"))
    archive = package_2024(tmp_path / "a.zip", [system_of(tmp_path), second], None, files=FILES)
    found = check(archive)
    assert [(violation.rule, violation.severity) for violation in found] == [("report-placeholder", "warning")]
    again = package_2024(tmp_path / "b.zip", [system_of(tmp_path), second], None, files=FILES)
    assert archive.read_bytes() == again.read_bytes()


def test_results_are_complete_and_in_per_cent(pristine: Path) -> None:
    meta = yaml.safe_load((pristine / "task1" / LABEL / YAML).read_text())
    of = metrics(25)
    block = meta["results"]["development_dataset"]["split_25"]
    assert block["overall"]["accuracy"] == pytest.approx(100 * of["macro_accuracy"], abs=1e-4)
    assert block["class_wise"]["tram"]["logloss"] == pytest.approx(of["classes"]["tram"]["log_loss"], abs=1e-5)
    assert block["device_wise"]["s6"]["accuracy"] == pytest.approx(100 * of["devices"]["s6"]["accuracy"], abs=1e-4)
    empty = results_block(None)
    assert len(empty["class_wise"]) == 10
    assert len(empty["device_wise"]) == 9
    assert {value for part in empty["class_wise"].values() for value in part.values()} == {None}


def test_packaging_refuses_what_the_challenge_would(tmp_path: Path) -> None:
    system = system_of(tmp_path)
    out = tmp_path / "out.zip"
    bad = [
        ([], "no system"),
        ([replace(system, outputs={5: system.outputs[5]})], "no output of split 10"),
        ([system, system], "two systems have this label"),
        ([system, system_of(tmp_path, replace(ABOUT, label="Other_Uni_task1_2"))], "different teams"),
        ([replace(system, meta=replace(system.meta, label="Muster_Uni"))], "4 of"),
        ([replace(system, meta=replace(system.meta, abbreviation="MUCH_TOO_LONG"))], "at most 10"),
    ]
    for systems, message in bad:
        with pytest.raises(UserError, match=message):
            package_2024(out, systems, None, files=FILES)
    with pytest.raises(UserError, match="not a PDF"):
        package_2024(out, [system], system.outputs[5], files=FILES)
    with pytest.raises(UserError, match=r"_5\.csv:1: no row for 12\.wav"):
        package_2024(out, [system], None, files=FILES + 1)
    assert not out.exists()


# --------------------------------------------------------------------------------------------------------------- rules


IN_SYSTEM = f"task1/{LABEL}"
OUTPUT = f"{IN_SYSTEM}/{CSV}"
META = f"{IN_SYSTEM}/{YAML}"
row = partial(edit_row, OUTPUT)
meta = partial(swap, META)


def uniform(fields: list[str]) -> list[str]:
    return [fields[0], "bus", "0.0", "0.5", "0.5", *["0"] * 7]


def other_scene(fields: list[str]) -> list[str]:
    return [fields[0], SCENES[(SCENES.index(fields[1]) + 1) % 10], *fields[2:]]


OUTPUT_RULES = [
    (edit(OUTPUT, lambda lines: [line.replace("\t", ",") for line in lines]), {("delimiter", 1)}),
    (row(1, put((3, "buss"))), {("column-missing", 1), ("column-unknown", 1)}),
    (row(1, put((3, "tram"))), {("column-missing", 1), ("column-twice", 1)}),
    (row(1, lambda fields: [*fields, "more"]), {("column-unknown", 1)}),
    (row(1, lambda fields: [fields[1], fields[0], *fields[2:]]), {("column-order", 1)}),
    (row(4, lambda fields: fields[:-1]), {("row-fields", 4), ("filename-missing", None)}),
    (row(4, lambda fields: [*fields, "0"]), {("row-fields", 4), ("filename-missing", None)}),
    (row(4, lambda fields: [" ".join(fields)]), {("row-fields", 4), ("filename-missing", None)}),
    (edit(OUTPUT, lambda lines: [*lines[:3], "", *lines[3:]]), {("row-fields", 4)}),
    (row(4, put((0, "audio/2.wav"))), {("filename", 4), ("filename-missing", None)}),
    (row(4, put((0, "02.wav"))), {("filename", 4), ("filename-missing", None)}),
    (row(4, put((0, "two.wav"))), {("filename", 4), ("filename-missing", None)}),
    (row(4, put((0, "2.flac"))), {("filename", 4), ("filename-missing", None)}),
    (row(4, put((0, f"{FILES}.wav"))), {("filename-range", 4), ("filename-missing", None)}),
    (row(4, put((0, "1.wav"))), {("filename-twice", 4), ("filename-missing", None)}),
    (edit(OUTPUT, lambda lines: [*lines[:5], *lines[6:]]), {("filename-missing", None)}),
    (row(4, put((1, "Bus"))), {("scene", 4)}),
    (row(4, put((5, "high"))), {("number", 4)}),
    (row(4, put((5, "0,1"))), {("number", 4)}),
    (row(4, put((5, "nan"))), {("probability-finite", 4)}),
    (row(4, put((5, "inf"))), {("probability-finite", 4)}),
    (row(4, put((5, "-0.01"))), {("probability-range", 4)}),
    (row(4, put((5, "1.01"))), {("probability-range", 4)}),
    (row(4, lambda fields: [fields[0], "airport", "0.5", *["0.06"] * 9]), {("probability-sum", 4)}),
    (row(4, other_scene), {("label-argmax", 4)}),
    (row(4, uniform), {("label-tie", 4)}),
    (edit(OUTPUT, lambda lines: []), {("table-empty", None)}),
    (edit(OUTPUT, lambda lines: lines[:1]), {("filename-missing", None)}),
    (lambda root: (root / "task1" / LABEL / CSV).write_bytes(b"filename\nx\xff\n"), {("encoding", 2)}),
]


@pytest.mark.parametrize(("mutate", "expected"), OUTPUT_RULES)
def test_rules_of_outputs(root: Path, mutate: Mutation, expected: set) -> None:
    mutate(root)
    found = check(root)
    assert {(violation.rule, violation.line) for violation in found} == expected
    assert {violation.file for violation in found} == {f"task1/{LABEL}/{CSV}"}
    assert has_errors(found) == (expected != {("label-tie", 4)})


def datasets(value: str) -> Mutation:
    return meta("external_datasets: null", f"external_datasets: {value}")


AUTHOR = "email: m.muster@uni-x.example"
SPLIT_5 = "  development_dataset:\n    split_5:\n      overall:\n"
META_RULES = [
    (meta("name: Small", "name: [Small"), "meta-syntax", "error", None),
    (meta("  name: Small", "\tname: Small"), "meta-syntax", "error", None),
    (lambda root: (root / "task1" / LABEL / YAML).write_text("- a\n- b\n"), "meta-syntax", "error", None),
    (meta("name: Small scenes", "name: Small scenes\n  name: Other"), "meta-duplicate", "error", "abbreviation"),
    (meta(f"label: {LABEL}", "label: Other_Uni_task1_1"), "meta-label", "error", "label:"),
    (meta("abbreviation: SMALL", "abbreviation: SMALLSCENES"), "meta-abbreviation", "error", "abbreviation: SMALL"),
    (meta("abbreviation: SMALL", "abreviation: SMALL"), "meta-missing", "error", "submission:"),
    (meta("name: Small scenes", "name: 12"), "meta-type", "error", "name: Small"),
    (meta("firstname: Maria", "fistname: Maria"), "meta-missing", "error", "lastname: Muster"),
    (meta("corresponding: true", "corresponding: false"), "meta-corresponding", "error", "authors:"),
    (meta("corresponding: false", "corresponding: true"), "meta-corresponding", "error", "authors:"),
    (meta("corresponding: true", "corresponding: yes please"), "meta-type", "error", "corresponding: true"),
    (meta(AUTHOR, "email: uni-x.example"), "meta-email", "error", "email: m."),
    (meta(AUTHOR, "email: m@uni"), "meta-email", "error", "email: m."),
    (meta(AUTHOR, "email: null"), "meta-email", "error", "email: m."),
    (meta("institute: University", "institut: University"), "meta-missing", "error", "affiliation:"),
    (meta("location: null", "location: 5"), "meta-type", "error", "location:"),
    (meta("input_sampling_rate: 32kHz", "input_sampling_rate: [a, 1]"), "meta-type", "error", "input_sampling_rate"),
    (meta("acoustic_features: log-mel", "acoustic_feature: log-mel"), "meta-missing", "error", "description:"),
    (meta("framework: pytorch", "framework: {a: b}"), "meta-type", "error", "framework"),
    (meta("    split_adaptations: null\n", ""), "meta-missing", "error", "description:"),
    (meta("total_parameters: 61148", "total_parameters: 61.1"), "meta-type", "error", "total_parameters"),
    (meta("total_parameters: 61148", "total_parameters: true"), "meta-type", "error", "total_parameters"),
    (meta("total_model_size: 122296", "total_model_size: 128001"), "meta-limit", "error", "total_model_size"),
    (meta("total_model_size: 122296", "total_model_size: 61147"), "meta-size", "error", "total_model_size"),
    (meta("macs: 29419156", "macs: 30000001"), "meta-limit", "error", "macs"),
    (meta("macs: 29419156", "macs: null"), "meta-type", "error", "macs"),
    (datasets("AudioSet"), "meta-type", "error", "external_datasets"),
    (datasets("[{url: a, total_audio_length: 3}]"), "meta-missing", "error", "external_datasets"),
    (datasets("[{name: a, url: b, total_audio_length: long}]"), "meta-type", "error", "external_datasets"),
    (meta("source_code: null", "source_code: ask us"), "meta-source", "warning", "source_code"),
    (meta("source_code: null", "source: null"), "meta-missing", "error", "system:"),
    (meta("  development_dataset:", "  development:"), "meta-missing", "error", "results:"),
    (meta("    split_5:", "    split_6:"), "meta-missing", "error", "development_dataset:"),
    (meta("        park:\n", "        parc:\n"), "meta-missing", "error", "class_wise:"),
    (meta("        s4:\n", "        s7:\n"), "meta-missing", "error", "device_wise:"),
    (meta(SPLIT_5 + "        logloss: ", SPLIT_5 + "        logloss: -"), "meta-range", "error", "logloss"),
    (meta(SPLIT_5 + "        logloss: ", SPLIT_5 + "        logloss: about "), "meta-type", "error", "logloss"),
]  # fmt: skip


@pytest.mark.parametrize(("mutate", "rule", "severity", "word"), META_RULES)
def test_rules_of_the_meta_file(
    root: Path, pristine: Path, mutate: Mutation, rule: str, severity: str, word: str | None
) -> None:
    mutate(root)
    found = check(root)
    assert {(violation.file, violation.rule, violation.severity) for violation in found} == {
        (f"task1/{LABEL}/{YAML}", rule, severity)
    }
    if word is not None:
        assert found[0].line == line_of(pristine / META, word)


def test_only_the_corresponding_author_needs_an_address(root: Path) -> None:
    meta("email: bo@uni-x.example", "email: !!null")(root)
    assert check(root) == []


def set_result(*path: str, value: object) -> Mutation:
    def mutate(root: Path) -> None:
        file = root / "task1" / LABEL / YAML
        content = yaml.safe_load(file.read_text())
        block = content["results"]["development_dataset"]
        for part in path[:-1]:
            block = block[part]
        block[path[-1]] = value
        file.write_text(yaml.safe_dump(content, sort_keys=False))

    return mutate


@pytest.mark.parametrize(
    ("mutate", "rule"),
    [
        (set_result("split_50", "overall", "accuracy", value=40.0), "meta-mean"),
        (set_result("split_50", "device_wise", "b", "accuracy", value=100.5), "meta-range"),
        (set_result("split_50", "device_wise", "b", "accuracy", value=float("nan")), "meta-type"),
        (set_result("split_50", "device_wise", "b", "accuracy", value=None), None),
        (set_result("split_50", value=results_block(None)), None),
        (set_result("split_50", "class_wise", value={s: {"logloss": 1, "accuracy": 0.5} for s in SCENES}), "meta-mean"),
    ],
)
def test_rules_of_results(root: Path, mutate: Mutation, rule: str | None) -> None:
    mutate(root)
    found = check(root)
    assert {violation.rule for violation in found} - {"meta-percent"} == ({rule} if rule else set())


def test_shares_instead_of_per_cents_are_noticed(root: Path) -> None:
    shares = {"overall": {"logloss": 1, "accuracy": 0.5}}
    shares["class_wise"] = {scene: {"logloss": 1, "accuracy": 0.5} for scene in SCENES}
    shares["device_wise"] = results_block(None)["device_wise"]
    set_result("split_5", value=shares)(root)
    assert [(found.rule, found.severity) for found in check(root)] == [("meta-percent", "warning")]


def test_the_model_is_compared_with_the_meta_file(root: Path) -> None:
    found = check(root, counted=COUNTED | {"macs": 8_449_916, "parameters": 18_624})
    assert [violation.rule for violation in found] == ["meta-complexity"] * 2
    assert "the model has 8,449,916" in found[1].message
    assert not has_errors(found)


def of_task(*parts: str) -> Callable[[Path], Path]:
    return lambda root: root.joinpath("task1", *parts)


def rename_label(label: str) -> Mutation:
    """The whole system under another label, consistently."""

    def mutate(root: Path) -> None:
        folder = of_task(LABEL)(root).rename(of_task(label)(root))
        for path in list(folder.iterdir()):
            path.rename(folder / path.name.replace(LABEL, label))
        file = folder / f"{label}.meta.yaml"
        file.write_text(file.read_text().replace(f"label: {LABEL}", f"label: {label}"))
        report = next(of_task()(root).glob("*.pdf"))
        report.rename(report.with_name(f"{label.rpartition('_')[0]}.technical_report.pdf"))

    return mutate


def add_system(label: str) -> Mutation:
    def mutate(root: Path) -> None:
        folder = of_task(label)(root)
        shutil.copytree(of_task(LABEL)(root), folder)
        for path in list(folder.iterdir()):
            path.rename(folder / path.name.replace(LABEL, label))
        file = folder / f"{label}.meta.yaml"
        file.write_text(file.read_text().replace(f"label: {LABEL}", f"label: {label}"))

    return mutate


REPORT = "Muster_Uni-X_task1.technical_report.pdf"
NO_SYSTEM = [("task1", "layout", "error"), (f"task1/{REPORT}", "report-name", "error")]


def rename_output(name: str) -> Mutation:
    return lambda root: of_task(LABEL, CSV)(root).rename(of_task(LABEL, name)(root))


def renamed(name: str) -> list:
    return [(f"{IN_SYSTEM}/{CSV}", "output-missing", "error"), (f"{IN_SYSTEM}/{name}", "stray", "error")]


LAYOUT_RULES = [
    (lambda root: of_task()(root).rename(root / "task2"), [(".", "layout", "error"), ("task2", "stray", "warning")]),
    (lambda root: shutil.rmtree(of_task(LABEL)(root)), NO_SYSTEM),
    (lambda root: of_task(LABEL, YAML)(root).unlink(), [(f"task1/{LABEL}/{YAML}", "meta-file", "error")]),
    (lambda root: of_task(LABEL, YAML)(root).write_bytes(b"\xff"), [(f"task1/{LABEL}/{YAML}", "encoding", "error")]),
    (lambda root: of_task(LABEL, CSV)(root).unlink(), [(f"task1/{LABEL}/{CSV}", "output-missing", "error")]),
    (rename_output(f"{LABEL}.output.split_26.csv"), renamed(f"{LABEL}.output.split_26.csv")),
    (rename_output(CSV.replace("Uni-X", "Uni-Y")), renamed(CSV.replace("Uni-X", "Uni-Y"))),
    (
        lambda root: shutil.copy(of_task(LABEL, CSV)(root), of_task(LABEL, CSV.replace("_25", "_50"))(root)),
        [(f"task1/{LABEL}/{CSV.replace('_25', '_50')}", "output-identical", "warning")],
    ),
    (lambda root: of_task(LABEL, "notes.txt")(root).touch(), [(f"task1/{LABEL}/notes.txt", "stray", "warning")]),
    (lambda root: of_task("notes.txt")(root).touch(), [("task1/notes.txt", "stray", "warning")]),
    (lambda root: (root / "readme.txt").touch(), [("readme.txt", "stray", "warning")]),
    (lambda root: (root / "__MACOSX").mkdir(), [(".", "clutter", "warning")]),
    (lambda root: of_task(REPORT)(root).unlink(), [(f"task1/{REPORT}", "report", "error")]),
    (lambda root: of_task(REPORT)(root).write_text("text"), [(f"task1/{REPORT}", "report", "error")]),
    (
        lambda root: of_task(REPORT)(root).rename(of_task("Other_Uni_task1.technical_report.pdf")(root)),
        [("task1/Other_Uni_task1.technical_report.pdf", "report-name", "error")],
    ),
    (rename_label("Muster_Uni-X_task1_4"), [("task1/Muster_Uni-X_task1_4", "label-index", "warning")]),
    (rename_label("Muster_Uni-X_task1_5"), [("task1/Muster_Uni-X_task1_5", "label", "error")]),
    (rename_label("Muster_Uni_X_task1_1"), [("task1/Muster_Uni_X_task1_1", "label", "error")]),
    (rename_label("Muster_Uni-X_task4_1"), [("task1/Muster_Uni-X_task4_1", "label", "error")]),
    (add_system("Muster_Uni-X_task1_2"), []),
    (add_system("Other_Uni_task1_2"), [("task1", "team", "error")]),
]  # fmt: skip


@pytest.mark.parametrize(("mutate", "expected"), LAYOUT_RULES)
def test_rules_of_the_layout(root: Path, mutate: Mutation, expected: list) -> None:
    mutate(root)
    found = [(violation.file, violation.rule, violation.severity) for violation in check(root)]
    assert sorted(found) == sorted(expected)


def test_more_than_three_systems(root: Path) -> None:
    for index in (2, 3, 4):
        add_system(f"{LABEL[:-1]}{index}")(root)
    assert {violation.rule for violation in check(root)} == {"system-count", "label-index"}


@pytest.mark.parametrize(
    "label", ["A_B_task1_0", "A_B_task1_01", "A_B_task1_x", "_B_task1_1", "A_B_task1", "A_B_C_task1_1"]
)
def test_labels_of_the_wrong_form(label: str) -> None:
    assert label_problem(label) is not None
    assert label_problem("A_B_task1_1") is None


def test_training_lists_stay_in_their_split(root: Path) -> None:
    lists = {5: ["a.wav", "b.wav"], "test": ["t.wav"]}
    found = check(root, training={5: ["a.wav", "c.wav", "t.wav"], 10: ["x.wav"]}, split_lists=lists)
    assert [(violation.rule, violation.message.split()[0]) for violation in found] == [
        ("training-split", "c.wav"),
        ("training-test", "t.wav"),
    ]
    assert check(root, training={5: ["b.wav"]}, split_lists=lists) == []


def test_names_of_another_evaluation_set(root: Path, tmp_path: Path) -> None:
    table = tmp_path / "fold1_test.csv"
    table.write_text("filename\n" + "".join(f"audio/{index}.wav\n" for index in range(FILES)))
    names = evaluation_names(table)
    assert validate(root, files=names) == []
    found = validate(root, files=[*names[1:], "77.wav"])
    assert {(violation.rule, violation.line) for violation in found} == {
        ("filename-range", 2),
        ("filename-missing", None),
    }


def test_the_challenge_has_135730_files(root: Path) -> None:
    found = validate(root)
    assert {violation.rule for violation in found} == {"filename-missing"}
    assert "and 135,715 more" in found[0].message


def test_damaged_archives(tmp_path: Path, pristine: Path) -> None:
    shutil.make_archive(str(tmp_path / "good"), "zip", pristine)
    data = (tmp_path / "good.zip").read_bytes()
    assert check(tmp_path / "good.zip") == []
    (tmp_path / "cut.zip").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "cut.zip"))):
        check(tmp_path / "cut.zip")
    with pytest.raises(UserError, match="neither a folder nor"):
        check(next(pristine.rglob("*.pdf")))


def test_violations_are_printed_with_file_and_line(root: Path) -> None:
    row(4, put((5, "high")))(root)
    assert listing(check(root)) == [
        f"task1/{LABEL}/{CSV}:4: error: metro_station is 'high', expected a number [number]"
    ]
