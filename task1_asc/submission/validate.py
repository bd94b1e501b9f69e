"""Checking a whole submission: layout, meta files, every output row."""

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from common.audio.coverage import made_of
from common.run.files import existing_file, read_rows
from common.run.folders import entries
from common.run.submission.archive import Limits
from common.run.submission.measure import OwnData
from common.run.submission.rules import check_meta_file, check_reports, opened, team_folder
from common.run.submission.violations import Findings, Measure, Violation, judge_archives
from common.run.verbs import Run
from task1_asc.config import SPLITS, Config
from task1_asc.data.layout import read_evaluation
from task1_asc.data.sets import evaluation_folder
from task1_asc.inference.scores import clip_file
from task1_asc.submission.rules import TASK, USUAL_INDEX, check_meta, label_problem
from task1_asc.submission.tables import EVALUATION_FILES, check_output
from task1_asc.submission.validate_2025 import check_inference_package

TOP = TASK


@dataclass
class _Check(Findings):
    """What the rules need, and what was found so far."""

    files: int | Collection[str]
    counted: Mapping[str, int] | None


def validate(
    path: str | Path,
    edition: Literal[2024, 2025] = 2024,
    files: int | Collection[str] = EVALUATION_FILES,
    counted: Mapping[str, int] | None = None,
    training: Mapping[int, Collection[str]] | None = None,
    split_lists: Mapping[int | str, Collection[str]] | None = None,
    limits: Limits | None = None,
) -> list[Violation]:
    """Every rule that a submission breaks, with file and line; empty when it is valid.

    path: a .zip, .tar(.gz) or folder with the folder `task1` (2024) or the inference package (2025). files: how many
    evaluation files there are (0.wav, 1.wav, ...), or their names as outputs have them. counted: {"parameters",
    "bytes", "macs"} of the model, to compare the meta file with. training: {split: clips that its system was trained
    on}, checked against split_lists, {split or "test": clips}. limits: what an archive may unpack to.

    Raises UserError where `path` can't be opened safely. Source: rules of DCASE 2024 and 2025 Task 1.
    """
    check = _Check(files, counted)
    with opened(path, limits, check) as (folder, _):
        if edition == 2025:
            check.found += check_inference_package(folder, files)
        else:
            _check_package(folder, check)
    return check.found + check_training(training or {}, split_lists or {})


def check_training(
    training: Mapping[int, Collection[str]], split_lists: Mapping[int | str, Collection[str]]
) -> list[Violation]:
    """Clips that a system was trained on must stand in the list of its split, and not in the test list."""
    found = []
    test = frozenset(split_lists.get("test", ()))
    for split, clips in training.items():
        allowed = frozenset(split_lists[split]) if split in split_lists else None
        where = f"training list of split {split}"
        for clip in sorted(clips):
            if clip in test:
                found.append(Violation(where, None, "training-test", f"{clip} is a clip of the test list"))
            elif allowed is not None and clip not in allowed:
                found.append(Violation(where, None, "training-split", f"{clip} is not in split {split}"))
    return found


def evaluation_names(path: str | Path) -> list[str]:
    """Names of the evaluation files as outputs of 2024 have them, from an official fold1_test.csv."""
    return [clip_file(row["filename"]) for row in read_rows(existing_file(path), ("filename",), "\t")]


def expected_files(config: Config) -> int | Collection[str]:
    """Names of the evaluation files as outputs have them, of the recipe's data set; else the challenge's number."""
    if config.data.root is None or not Path(config.data.root).is_dir():
        return EVALUATION_FILES
    folder = evaluation_folder(config.data)
    return EVALUATION_FILES if folder is None else [clip_file(name) for name in read_evaluation(folder).names]


def validate_archives(
    run: Run,
    files: Sequence[Path],
    edition: int | None = None,
    counted: Mapping[str, int] | None = None,
    measure: Measure | None = None,
) -> Mapping[str, Any]:
    """List every violation of every archive; UserError at the end where there was an error.

    measure: by the evaluation set of the challenge, or of the recipe's data; None: as `common.run.submission.measure`
    says.
    """
    data = run.config.data if edition is None else replace(run.config.data, edition=edition)
    there = expected_files(replace(run.config, data=data))
    own = OwnData(data.root, made_of, fits=not isinstance(there, int))

    def expected(path: Path) -> int | Collection[str]:
        return there if own.measures(path, measure) else EVALUATION_FILES

    return judge_archives(
        files,
        lambda path: validate(path, data.edition, expected(path), counted),
        lambda path: own.told(
            path, measure, f"the challenge's evaluation set of {data.edition}", refused=edition is None
        ),
    )


def _check_package(root: Path, check: _Check) -> None:
    if (there := team_folder(root, TOP, check)) is None:
        return
    top, systems = there
    if len(systems) > USUAL_INDEX:
        wrong = f"{len(systems)} systems, the challenge's template speaks of 1 to {USUAL_INDEX}"
        check.warn(TOP, "system-count", wrong)
    for folder in systems:
        _check_system(folder, check)
    check_reports(top, TOP, systems, check)


def _check_system(folder: Path, check: _Check) -> None:
    label, shown = folder.name, f"{TOP}/{folder.name}"
    if wrong := label_problem(label):
        check.report(shown, "label", wrong)
    elif int(label.rpartition("_")[2]) > USUAL_INDEX:
        wrong = f"index {label.rpartition('_')[2]}, the challenge's template speaks of 1 to {USUAL_INDEX}"
        check.warn(shown, "label-index", wrong)
    meta = folder / f"{label}.meta.yaml"
    outputs = {split: folder / f"{label}.output.split_{split}.csv" for split in SPLITS}
    for entry in entries(folder):
        if entry not in {meta, *outputs.values()}:
            misnamed = entry.is_file() and re.search(r"\.(meta\.yaml|output\.split_\w*\.csv)$", entry.name)
            wrong = f"expected names that begin with {label}" if misnamed else "unexpected"
            check.report(f"{shown}/{entry.name}", "stray", wrong, severity="error" if misnamed else "warning")
    check_meta_file(meta, shown, check, lambda text, file: check_meta(text, label, file, check.counted))
    _check_outputs(outputs, shown, check)


def _check_outputs(outputs: Mapping[int, Path], shown: str, check: _Check) -> None:
    digests: dict[str, int] = {}
    for split, path in outputs.items():
        if not path.is_file():
            check.report(f"{shown}/{path.name}", "output-missing", "missing")
            continue
        if (data := check.content(path, f"{shown}/{path.name}")) is None:
            continue
        check.found.extend(check_output(data, f"{shown}/{path.name}", check.files))
        same = digests.setdefault(hashlib.sha256(data).hexdigest(), split)
        if same != split:
            check.warn(f"{shown}/{path.name}", "output-identical", f"identical to the output of split {same}")
