"""Checking a whole submission: layout, meta files, every output row."""

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from common.run.files import existing_file
from common.run.submission.archive import Limits, Violation, open_archive
from common.run.submission.rules import check_reports, entries
from task1_asc.config import SPLITS
from task1_asc.submission.meta_check import LABEL_FORM, USUAL_INDEX, check_meta, label_problem
from task1_asc.submission.output_check import EVALUATION_FILES, check_output
from task1_asc.submission.validate_2025 import check_inference_package

TOP = "task1"
# Left by operating systems; nobody means them.


@dataclass
class _Check:
    """What the rules need, and what was found so far."""

    files: int | Collection[str]
    counted: Mapping[str, int] | None
    found: list[Violation] = field(default_factory=list)

    def report(self, file: str, rule: str, message: str, severity: Literal["error", "warning"] = "error") -> None:
        self.found.append(Violation(file, None, rule, message, severity))


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
    with open_archive(path, limits or Limits()) as folder:
        if edition == 2025:
            found = check_inference_package(folder, files)
        else:
            check = _Check(files, counted)
            _check_package(folder, check)
            found = check.found
    return found + check_training(training or {}, split_lists or {})


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
    from common.run.files import read_rows
    from task1_asc.inference.scores import clip_file

    return [clip_file(row["filename"]) for row in read_rows(existing_file(path), ("filename",), "\t")]


def _check_package(root: Path, check: _Check) -> None:
    top = root / TOP
    if not top.is_dir() and root.name == TOP:  # the folder itself was named
        top = root
    for entry in entries(root) if top != root else ():
        if entry != top:
            check.report(entry.name, "stray", f"unexpected beside the folder {TOP!r}", "warning")
    if not top.is_dir():
        check.report(".", "layout", f"no folder {TOP!r} at the top, expected {TOP}/{LABEL_FORM}/")
        return
    systems = [entry for entry in entries(top) if entry.is_dir()]
    if not systems:
        check.report(TOP, "layout", f"no system in it, expected folders {LABEL_FORM}")
    if len(systems) > USUAL_INDEX:
        wrong = f"{len(systems)} systems, the challenge's template speaks of 1 to {USUAL_INDEX}"
        check.report(TOP, "system-count", wrong, "warning")
    for folder in systems:
        _check_system(folder, check)
    check_reports(top, TOP, {folder.name.rpartition("_")[0] for folder in systems}, check.report)


def _check_system(folder: Path, check: _Check) -> None:
    label, shown = folder.name, f"{TOP}/{folder.name}"
    if wrong := label_problem(label):
        check.report(shown, "label", wrong)
    elif int(label.rpartition("_")[2]) > USUAL_INDEX:
        wrong = f"index {label.rpartition('_')[2]}, the challenge's template speaks of 1 to {USUAL_INDEX}"
        check.report(shown, "label-index", wrong, "warning")
    meta = folder / f"{label}.meta.yaml"
    outputs = {split: folder / f"{label}.output.split_{split}.csv" for split in SPLITS}
    expected = {meta, *outputs.values()}
    for entry in entries(folder):
        if entry not in expected:
            misnamed = entry.is_file() and re.search(r"\.(meta\.yaml|output\.split_\w*\.csv)$", entry.name)
            wrong = f"expected names that begin with {label}" if misnamed else "unexpected"
            check.report(f"{shown}/{entry.name}", "stray", wrong, "error" if misnamed else "warning")
    if meta.is_file():
        try:
            text = meta.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            check.report(f"{shown}/{meta.name}", "encoding", "not text in UTF-8")
        else:
            check.found.extend(check_meta(text, label, f"{shown}/{meta.name}", check.counted))
    else:
        check.report(f"{shown}/{meta.name}", "meta-file", "missing")
    _check_outputs(outputs, shown, check)


def _check_outputs(outputs: Mapping[int, Path], shown: str, check: _Check) -> None:
    digests: dict[str, int] = {}
    for split, path in outputs.items():
        if not path.is_file():
            check.report(f"{shown}/{path.name}", "output-missing", "missing")
            continue
        data = path.read_bytes()
        check.found.extend(check_output(data, f"{shown}/{path.name}", check.files))
        same = digests.setdefault(hashlib.sha256(data).hexdigest(), split)
        if same != split:
            wrong = f"identical to the output of split {same}"
            check.report(f"{shown}/{path.name}", "output-identical", wrong, "warning")
