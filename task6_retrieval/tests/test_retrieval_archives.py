"""Archives of a team: the right one breaks no rule, and every fault put into it is found."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from common.run.submission.archive import build_zip
from common.run.submission.meta import Author
from common.run.submission.package import placeholder_report
from task6_retrieval.config import Config
from task6_retrieval.inference.scores import write_best, write_scores
from task6_retrieval.submission.meta import EDITIONS, SubmissionMeta, description_of, edition_of, meta_yaml
from task6_retrieval.submission.tables import Expected
from task6_retrieval.submission.validate import check_archive

FILES = [f"{number}, a clip.wav" for number in range(14)]
QUERIES = [f'sound {number}, "said" twice' for number in range(6)]
EXPECTED = Expected(tuple(QUERIES), frozenset(FILES))
SCORES = np.random.default_rng(0).normal(size=(6, 14))
Content = dict[str, bytes]


def content(folder: Path, edition: int) -> Content:
    team = f"Doe_Inst_{EDITIONS[edition].task}"
    label = f"{team}_1"
    results = {"r@1": 0.1, "r@5": 0.3, "r@10": 0.4, "map@10": 0.2, "map@16": 0.25}
    authors = [Author("Doe", "Jo", "jo@inst.org", True)]
    about = description_of([Config()] * 2)
    meta = SubmissionMeta(
        label, "A system", "Sys", authors, edition=edition, description=about, total_parameters=9, results=results
    )
    write = write_best if edition < 2025 else write_scores
    write(folder / "output.csv", QUERIES, FILES, SCORES)
    report = placeholder_report(meta).replace(b"placeholder for the technical report", b"report" * 6)
    return {
        f"{label}/{label}.meta.yaml": meta_yaml(meta).encode(),
        f"{label}/{label}.output.csv": (folder / "output.csv").read_bytes(),
        f"{team}.technical_report.pdf": report,
    }


def found(folder: Path, files: Content, edition: int) -> set[tuple[str, str]]:
    """(file, rule) of everything that is broken."""
    path = build_zip(folder / "archive.zip", dict(files))
    return {(of.file, of.rule) for of in check_archive(path, edition, EXPECTED)}


@pytest.mark.parametrize("edition", EDITIONS)
def test_a_right_archive(tmp_path: Path, edition: int) -> None:
    files = content(tmp_path, edition)
    assert found(tmp_path, files, edition) == set()
    with zipfile.ZipFile(tmp_path / "archive.zip") as archive:
        archive.extractall(tmp_path / "folder")
    assert check_archive(tmp_path / "folder", edition, EXPECTED) == []
    assert EDITIONS[edition_of(f"Doe_Inst_{EDITIONS[edition].task}_1")].task == EDITIONS[edition].task


LABEL, TEAM = "Doe_Inst_task6_1", "Doe_Inst_task6"
META, OUTPUT, REPORT = f"{LABEL}/{LABEL}.meta.yaml", f"{LABEL}/{LABEL}.output.csv", f"{TEAM}.technical_report.pdf"


def meta(key: str, value: object) -> Callable[[Content], None]:
    """Another value in the meta file; None as `...`: the key goes."""

    def change(files: Content) -> None:
        of = root = yaml.safe_load(files[META])
        *path, last = key.split(".")
        for part in path:
            of = of[int(part)] if isinstance(of, list) else of[part]
        if value is ...:
            del of[last]
        else:
            of[last] = value
        files[META] = yaml.safe_dump(root, sort_keys=False).encode()

    return change


def replaced(name: str, old: bytes, new: bytes) -> Callable[[Content], None]:
    def change(files: Content) -> None:
        assert old in files[name]
        files[name] = files[name].replace(old, new, 1)

    return change


def renamed(old: str, new: str) -> Callable[[Content], None]:
    def change(files: Content) -> None:
        for name in [name for name in files if name.startswith(old)]:
            files[name.replace(old, new)] = files.pop(name)

    return change


def copied(*labels: str) -> Callable[[Content], None]:
    def change(files: Content) -> None:
        for label in labels:
            for name in (META, OUTPUT):
                files[name.replace(LABEL, label)] = files[name].replace(LABEL.encode(), label.encode())

    return change


RESULTS, ABOUT, WHO = "results.development_testing", "system.description", "submission.authors.0"
FAULTS = [
    (lambda files: files.pop(META), META, "meta-file"),
    (lambda files: files.pop(OUTPUT), OUTPUT, "output-missing"),
    (lambda files: files.pop(REPORT), f"./{REPORT}", "report"),
    (lambda files: files.update({REPORT: b"text"}), f"./{REPORT}", "report"),
    (renamed(REPORT, "A_B_task6.technical_report.pdf"), "./A_B_task6.technical_report.pdf", "report-name"),
    (renamed(LABEL, "Doe_Inst_task8_1"), "Doe_Inst_task8_1", "label"),
    (renamed(LABEL, "Doe_Inst_task6_5"), "Doe_Inst_task6_5", "label"),
    (renamed(LABEL, "Doe_Inst_task6_2"), META.replace("6_1", "6_2"), "meta-label"),
    (copied(*(f"{TEAM}_{n}" for n in (2, 3, 4, 5))), ".", "system-count"),
    (copied(f"{TEAM}_2"), f"{TEAM}_2", "system-identical"),
    (copied("Roe_Inst_task6_2"), ".", "team"),
    (lambda files: files.update({f"{LABEL}/notes.txt": b"x"}), f"{LABEL}/notes.txt", "stray"),
    (lambda files: files.update({META: b"a: [b\n"}), META, "meta-syntax"),
    (lambda files: files.update({META: b"\xff" + files[META]}), META, "encoding"),
    (meta("submission.abbreviation", "much too long"), META, "meta-abbreviation"),
    (meta(f"{WHO}.email", "nobody"), META, "meta-email"),
    (meta(f"{WHO}.corresponding", False), META, "meta-corresponding"),
    (meta(f"{ABOUT}.ensemble_size", 0), META, "meta-type"),
    (meta(f"{ABOUT}.input_sampling_rate", "32 kHz"), META, "meta-type"),
    (meta(f"{ABOUT}.loss_function", ...), META, "meta-missing"),
    (meta("system.complexity.total_parameters", 1.5), META, "meta-type"),
    (meta("system.external_datasets", "AudioCaps"), META, "meta-type"),
    (meta("system.source_code", "on request"), META, "meta-source"),
    (meta(f"{RESULTS}.mAP@16", ...), META, "meta-missing"),
    (meta(f"{RESULTS}.mAP@10", 40.1), META, "meta-range"),
    (meta(f"{RESULTS}.R@1", "high"), META, "meta-type"),
    (replaced(OUTPUT, b"sound 3", b"sound 9"), OUTPUT, "query-unknown"),
    (replaced(OUTPUT, b"7, a clip.wav", b"test/7, a clip.wav"), OUTPUT, "file-unknown"),
    (replaced(OUTPUT, b"7, a clip.wav", b"8, a clip.wav"), OUTPUT, "file-twice"),
    (replaced(OUTPUT, repr(SCORES[2, 3]).encode().split(b"(")[-1].rstrip(b")"), b"nan"), OUTPUT, "score"),
    (lambda files: files.update({OUTPUT: b""}), OUTPUT, "table-empty"),
]


@pytest.mark.parametrize(("change", "file", "rule"), FAULTS, ids=[f"{n}-{f[2]}" for n, f in enumerate(FAULTS)])
def test_faults(tmp_path: Path, change: Callable[[Content], object], file: str, rule: str) -> None:
    files = content(tmp_path, 2025)
    change(files)
    assert (file, rule) in found(tmp_path, files, 2025)


def test_an_archive_without_systems(tmp_path: Path) -> None:
    assert (".", "layout") in found(tmp_path, {"notes.txt": b"x"}, 2025)
