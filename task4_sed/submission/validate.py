"""Checking a whole submission: layout, meta files, every score table, names and energy."""

import csv
import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from common.audio.coverage import made_of
from common.run.errors import UserError, did_you_mean
from common.run.folders import below, entries
from common.run.numbers import number
from common.run.submission.archive import Budget, Limits, is_archive, open_archive
from common.run.submission.measure import OwnData, packed_from
from common.run.submission.rules import check_meta_file, is_pdf, opened
from common.run.submission.violations import Findings, Measure, Violation, judge_archives
from common.run.verbs import Run
from task4_sed.data.annotations import read_durations
from task4_sed.data.classes import CLASSES
from task4_sed.data.layout import SETS
from task4_sed.data.sets import classes_of, first_existing
from task4_sed.metrics.types import clip_name
from task4_sed.submission.rules import LABEL_FORM, check_meta, label_problem
from task4_sed.submission.tables import check_table

RUNS = 3  # independent trainings
SYSTEMS = 8
EVAL_CLIPS = 2200  # clips of the challenge's evaluation set
MAX_DEPTH = 2  # folders or archives around the packages


@dataclass
class _Run:
    """A folder of score tables as it was read."""

    folder: Path
    shown: str
    clips: set[str] = field(default_factory=set)
    digest: str = ""


@dataclass
class _Check(Findings):
    """What the rules need, and what was found so far."""

    eval_names: frozenset[str] | None
    durations: Mapping[str, float]
    classes: tuple[str, ...]
    clips: int | None


def _folders(folder: Path) -> list[Path]:
    return [entry for entry in entries(folder) if entry.is_dir()]


def _is_system(folder: Path) -> bool:
    """Whether a folder holds what only a system's folder holds."""
    return any(
        entry.name.endswith(".meta.yaml") or (entry.is_dir() and entry.name.endswith(".output"))
        for entry in entries(folder)
    )


def _packages(
    folder: Path, shown: str, check: _Check, limits: Limits, budget: Budget | None, depth: int = 0
) -> Iterator[tuple[Path, str]]:
    """The folders that hold systems, each with its name for messages: `folder`, or folders and archives in it.

    budget: of the archive that `folder` lies in; those of a folder on disk have one each.
    """
    if any(_is_system(entry) for entry in _folders(folder)):
        yield folder, shown
        return
    for entry in entries(folder) if depth < MAX_DEPTH else ():
        name = f"{shown}{entry.name}"
        if entry.is_dir():
            yield from _packages(entry, f"{name}/", check, limits, budget, depth + 1)
        elif is_archive(entry):
            own = budget or Budget(entry, limits, check.left_out)
            try:
                with open_archive(entry, limits, own) as unpacked:
                    count = 0
                    for package in _packages(unpacked, f"{name}/", check, limits, own, depth + 1):
                        count += 1
                        yield package
                    if not count:
                        check.report(name, "layout", f"no folder {LABEL_FORM} in it")
            except UserError as error:
                check.report(name, "archive", str(error).replace(str(entry), name))


def _check_energy_file(path: Path, shown: str, check: _Check) -> None:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if "energy_consumed" not in (rows.fieldnames or ()):
                check.warn(shown, "energy", "no column 'energy_consumed', expected a table of CodeCarbon", 1)
                return
            line = 1
            for line, row in enumerate(rows, 2):
                if wrong := _energy_problem(row["energy_consumed"] or ""):
                    check.warn(shown, "energy", wrong, line)
    except (UnicodeDecodeError, csv.Error) as error:
        check.warn(shown, "energy", f"not a table of CodeCarbon ({error})")
    else:
        if line == 1:
            check.warn(shown, "energy", "no row in it, expected a table of CodeCarbon", 1)


def _energy_problem(text: str) -> str | None:
    try:
        good = 0 <= number(text) < float("inf")
    except ValueError:
        good = False
    return None if good else f"energy_consumed is {text[:40]!r}, expected kWh"


def _read_run(run: _Run, check: _Check) -> None:
    """Check every table of a run's folder, note the clips and a digest of the content."""
    digest, binary = hashlib.sha256(), []
    for path in entries(run.folder):
        shown = f"{run.shown}/{path.name}"
        if not path.is_file() or path.suffix != ".tsv":
            kind = "folder" if path.is_dir() else "file" if path.is_file() else "broken link"
            check.report(shown, "stray", f"unexpected {kind}, expected <clip>.tsv only")
            continue
        if (data := check.content(path, shown)) is None:
            continue
        clip = clip_name(path.name)
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(data).digest())
        if clip in run.clips:
            check.report(shown, "clip-twice", f"a second table for clip {clip}")
        elif path.name != f"{clip}.tsv":
            check.report(shown, "clip-name", f"expected {clip}.tsv")
        run.clips.add(clip)
        result = check_table(data, shown, check.classes, check.durations.get(clip))
        check.found.extend(result.violations)
        binary.append(result.binary)
    run.digest = digest.hexdigest()
    if not binary:
        check.report(run.shown, "run-empty", "no score table in it, expected one per clip")
    elif all(flag for flag in binary):
        check.warn(run.shown, "decisions", "every score is 0 or 1, expected scores before thresholding")


def _check_clips(runs: Sequence[_Run], check: _Check) -> None:
    """Compare the clips of each run with the evaluation list, or with the other runs where there is none."""
    expected = check.eval_names
    source = "is in the evaluation list"
    if expected is None:
        expected, source = frozenset().union(*(run.clips for run in runs)), "is in other runs"
    for run in runs:
        for clip in sorted(expected - run.clips):
            check.report(f"{run.shown}/{clip}.tsv", "clip-missing", f"missing; {clip} {source}")
        for clip in sorted(run.clips - expected):
            close = did_you_mean(clip, expected - run.clips) if len(expected - run.clips) == 1 else ""
            check.report(f"{run.shown}/{clip}.tsv", "clip-additional", f"{clip} is not in the evaluation list{close}")
        if check.clips and len(run.clips) != check.clips:
            wrong = f"{len(run.clips):,} clips, the challenge's evaluation set has {check.clips:,}"
            check.warn(run.shown, "clip-count", wrong)


def _check_copies(runs: Sequence[_Run], check: _Check) -> None:
    first: dict[tuple[bool, str], _Run] = {}
    for run in runs:
        key = (run.folder.name.endswith("_unprocessed.output"), run.digest)
        same = first.setdefault(key, run)
        if same is not run and run.clips:
            wrong = f"identical to {same.folder.name}, expected an independent training"
            check.report(run.shown, "run-identical", wrong)


def _run_folders(folder: Path, label: str, shown: str, check: _Check) -> list[_Run]:
    """The score folders of a system in order; missing and misnamed ones are reported."""
    form = re.compile(rf"{re.escape(label)}_run([1-9][0-9]*)(_unprocessed)?\.output")
    matches = {entry: form.fullmatch(entry.name) for entry in _folders(folder)}
    for entry, match in matches.items():
        if match is None:
            wrong = f"unexpected folder, expected {label}_run<i>.output or {label}_run<i>_unprocessed.output"
            report = check.report if entry.name.endswith(".output") else check.warn
            report(f"{shown}/{entry.name}", "stray", wrong)
    found = {(int(match[1]), bool(match[2])): entry for entry, match in matches.items() if match}
    last = max([RUNS, *(run for run, _ in found)])
    for run in range(1, min(last, RUNS + len(found)) + 1):  # an absurd number names no more than there are folders
        name = f"{label}_run{run}"
        if (run, False) not in found:
            why = f"{RUNS} independent trainings are required" if run <= RUNS else f"there is a run {last}"
            check.report(f"{shown}/{name}.output", "run-missing", f"missing; {why}")
        if (run, True) not in found:
            check.warn(f"{shown}/{name}_unprocessed.output", "unprocessed-missing", "missing")
    return [_Run(entry, f"{shown}/{entry.name}") for _, entry in sorted(found.items())]


def _check_system(folder: Path, label: str, shown: str, check: _Check) -> None:
    if wrong := label_problem(label):
        check.report(shown, "label", wrong)
    meta = folder / f"{label}.meta.yaml"
    check_meta_file(meta, shown, check, lambda text, file: check_meta(text, label, file))
    for entry in entries(folder):
        if entry.is_file() and entry != meta and entry.suffix not in (".csv", ".pdf"):
            check.warn(f"{shown}/{entry.name}", "stray", "unexpected file")
    tables = [path for path in below(folder) if path.suffix == ".csv" and ".output" not in path.parent.name]
    for path in tables:
        _check_energy_file(path, f"{shown}/{path.relative_to(folder).as_posix()}", check)
    if not tables:
        check.warn(shown, "energy", "no CodeCarbon table (.csv), expected those of training and test")
    runs = _run_folders(folder, label, shown, check)
    for run in runs:
        _read_run(run, check)
    if runs:
        _check_clips(runs, check)
        _check_copies(runs, check)


def _check_package(root: Path, shown: str, check: _Check) -> None:
    systems = _folders(root)
    if len(systems) > SYSTEMS:
        check.report(shown or ".", "system-count", f"{len(systems)} systems, expected 1 to {SYSTEMS}")
    reports = [entry for entry in entries(root) if entry.is_file() and entry.suffix.lower() == ".pdf"]
    if not reports:
        check.report(shown or ".", "report", "no technical report (.pdf) beside the systems' folders")
    for report in reports:
        if not is_pdf(report):
            check.report(f"{shown}{report.name}", "report", "not a PDF file")
    for folder in systems:
        name = f"{shown}{folder.name}"
        if _is_system(folder):
            _check_system(folder, folder.name, name, check)
        else:
            check.report(name, "layout", f"neither meta file nor scores in it, expected only folders {LABEL_FORM}")


def validate(
    path: str | Path,
    eval_names: Collection[str] | None = None,
    durations: Mapping[str, float] | None = None,
    classes: Sequence[str] = CLASSES,
    limits: Limits | None = None,
    clips: int | Literal["unless named"] | None = "unless named",
) -> list[Violation]:
    """Every rule that a submission breaks, with file and line; empty when it is valid.

    path: a .zip, .tar(.gz) or folder whose systems lie at the top or below one or two folders, or in one archive per
    team. eval_names: clips of the evaluation set (with or without ".wav"); None: the runs are compared with each
    other. durations: seconds per clip, for the coverage; None or a clip that isn't listed: unchecked. classes: score
    columns in their order. limits: what an archive may unpack to. clips: how many the evaluation set has, a warning
    where a run has others (None: unchecked; by default the challenge's number, where neither eval_names nor other
    classes are given).

    Raises UserError where `path` can't be opened safely. Source: rules of DCASE 2024 Task 4 (see the package's page).
    """
    path, limits = Path(path), limits or Limits()
    names = None if eval_names is None else frozenset(map(clip_name, eval_names))
    lengths = {clip_name(name): seconds for name, seconds in (durations or {}).items()}
    if clips == "unless named":
        clips = EVAL_CLIPS if names is None and tuple(classes) == CLASSES else None
    check = _Check(names, lengths, tuple(classes), clips)
    with opened(path, limits, check) as (folder, budget):
        _check_content(folder, path, limits, budget, check)
    return check.found


def _check_content(folder: Path, path: Path, limits: Limits, budget: Budget | None, check: _Check) -> None:
    if _is_system(folder):  # no folder for the system: go on as if the archive were that folder
        check.report(".", "layout", f"meta file or scores at the top, expected them in a folder {LABEL_FORM}")
        label = path.resolve().name if path.is_dir() else path.name.split(".")[0]
        _check_system(folder, label, label, check)
        return
    packages = 0
    for root, shown in _packages(folder, "", check, limits, budget):
        packages += 1
        _check_package(root, shown, check)
    if not packages and not check.found:
        check.report(".", "layout", f"no system in it, expected folders {LABEL_FORM} with scores")


def validate_archives(
    run: Run, files: list[Path], evaluation_set: Path | None = None, measure: Measure | None = None
) -> Mapping[str, Any]:
    """List every violation of every archive; UserError at the end where there was an error.

    evaluation_set: durations of the evaluation set's clips, by which names and lengths are measured. measure: by the
    classes (and, without `evaluation_set`, the clips) of the challenge, or of the recipe's data; None: as
    `common.run.submission.measure` says.
    """
    config = run.config
    own = OwnData(config.data.root, made_of)

    def find(path: Path) -> list[Violation]:
        root = Path(config.data.root) if own.measures(path, measure) else None
        table = evaluation_set
        if table is None and root is not None and config.submission_set:
            table = first_existing(root, SETS[config.submission_set].durations)
        durations = read_durations(table) if table else None
        names = [clip_name(clip) for clip in durations] if durations else None
        # Warned of wherever it is measured: of an official set that is not whole here too, of own data nowhere.
        clips: dict[str, Any] = {}
        if names is None and measure != "challenge" and packed_from(path):
            clips = {"clips": None}
        elif root and own.kind == "official" and evaluation_set is None:
            clips = {"clips": EVAL_CLIPS}
        return validate(path, names, durations, classes_of(root) if root else CLASSES, **clips)

    def measured_by(path: Path) -> str:
        listed = f" and the clips of {evaluation_set}" if evaluation_set else ""
        return own.told(path, measure, "the challenge's classes and rules") + listed

    return judge_archives(files, find, measured_by)
