"""Check anybody's outputs against the captions and files of a challenge, or of the recipe's test set."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.run.errors import UserError
from common.run.files import existing_file, read_rows
from common.run.folders import below, entries
from common.run.submission.archive import is_archive
from common.run.submission.measure import packed_from
from common.run.submission.rules import check_meta_file, check_reports, label_form, opened
from common.run.submission.violations import Findings, Violation, judge_archives
from common.run.verbs import Run
from task6_retrieval.config import CHALLENGE, DataConfig
from task6_retrieval.data.captions import read_captions
from task6_retrieval.data.layout import SUFFIXES, challenge_of, needed, read_queries
from task6_retrieval.submission.meta import EDITIONS, SYSTEMS
from task6_retrieval.submission.rules import check_meta, label_problem
from task6_retrieval.submission.tables import Expected, check_output


def validate_outputs(
    run: Run, files: Sequence[Path], edition: int, queries: Path | None = None, clips: Path | None = None
) -> Mapping[str, Any]:
    """Every violation of each csv or archive; UserError at the end where there was an error."""
    expected, source = expected_of(run.config.data, queries, clips)

    def find(path: Path) -> list[Violation]:
        if path.is_dir() or is_archive(path):
            return check_archive(path, edition, expected)
        findings = Findings()
        data = findings.content(existing_file(path, "csv of rankings or scores, or archive"), path.name)
        return findings.found if data is None else check_output(data, path.name, edition, expected)

    def measured_by(path: Path) -> str:
        made = packed_from(path) if is_archive(path) else None
        return f"the rules of {edition}, {source}" + (f"; packed from {made} data, no submission" if made else "")

    return judge_archives(files, find, measured_by)


def check_archive(path: Path, edition: int, expected: Expected) -> list[Violation]:
    """Every rule that an archive or folder of a team's systems breaks, with file and line. Raises UserError where it
    cannot be opened safely.
    """
    check = Findings()
    with opened(path, None, check) as (root, _):
        systems = [entry for entry in entries(root) if entry.is_dir()]
        if not systems:
            form = label_form(EDITIONS[edition].task)
            check.report(".", "layout", f"no system in it, expected folders {form}")
        if len(systems) > SYSTEMS:
            check.report(".", "system-count", f"{len(systems)} systems, expected at most {SYSTEMS}")
        digests: dict[bytes, str] = {}
        for folder in systems:
            data = _check_system(folder, edition, expected, check)
            if data is not None and (same := digests.setdefault(data, folder.name)) != folder.name:
                check.warn(folder.name, "system-identical", f"the same output as {same}")
        check_reports(root, ".", systems, check)
    return check.found


def _check_system(folder: Path, edition: int, expected: Expected, check: Findings) -> bytes | None:
    """Check the folder of a system; the SHA-256 of its output."""
    label = folder.name
    meta, output = folder / f"{label}.meta.yaml", folder / f"{label}.output.csv"
    if wrong := label_problem(label, edition):
        check.report(label, "label", wrong)
    for entry in entries(folder):
        if entry not in (meta, output):
            check.warn(f"{label}/{entry.name}", "stray", "unexpected")
    check_meta_file(meta, label, check, lambda text, file: check_meta(text, label, file, edition))
    shown = f"{label}/{output.name}"
    if not output.is_file():
        check.report(shown, "output-missing", "missing")
        return None
    if (data := check.content(output, shown)) is None:
        return None
    check.found.extend(check_output(data, shown, edition, expected))
    return hashlib.sha256(data).digest()


def expected_of(data: DataConfig, queries: Path | None, clips: Path | None) -> tuple[Expected, str]:
    """What outputs are measured by, and where it comes from. Raises UserError for wrong or empty tables."""
    if queries is None and clips is None:
        if (challenge := challenge_of(data)) is not None:
            clips_there = (clip.name for clip in needed(data, CHALLENGE).clips)
            return Expected(read_queries(data), frozenset(clips_there)), f"the evaluation set {challenge}"
        listing = needed(data, data.test)
        captions = tuple(caption for clip in listing.clips for caption in clip.captions)
        return Expected(captions, frozenset(clip.name for clip in listing.clips)), f"captions of {listing.table}"
    if queries is None:
        raise UserError("validate: --clips goes with --queries")
    names = _names(clips or queries)
    if not names:
        raise UserError(f"{clips}: no audio file there")
    return Expected(_captions(queries), names), f"captions of {queries}"


def _captions(path: Path) -> tuple[str, ...]:
    with open(existing_file(path, "csv of captions"), encoding="utf-8-sig", errors="replace") as file:
        header = file.readline().strip().split(",")
    if "caption_1" in header:
        return tuple(caption for clip in read_captions(path) for caption in clip.captions)
    return tuple(row["caption"] for row in read_rows(path, ("caption",), ","))


def _names(path: Path) -> frozenset[str]:
    if path.is_dir():
        return frozenset(file.name for file in below(path) if file.suffix.lower() in SUFFIXES)
    return frozenset(row["file_name"] for row in read_rows(path, ("file_name",), ","))
