"""Check anybody's outputs against the captions and files of a challenge, or of the recipe's test set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.run.errors import UserError
from common.run.files import existing_file, read_rows
from common.run.folders import below
from common.run.submission.violations import Findings, Violation, judge_archives
from common.run.verbs import Run
from task6_retrieval.config import CHALLENGE, DataConfig
from task6_retrieval.data.captions import read_captions
from task6_retrieval.data.layout import SUFFIXES, needed, read_queries
from task6_retrieval.submission.tables import Expected, check_output


def validate_outputs(
    run: Run, files: Sequence[Path], edition: int, queries: Path | None = None, clips: Path | None = None
) -> Mapping[str, Any]:
    """Every violation of each csv; UserError at the end where there was an error."""
    expected, source = expected_of(run.config.data, queries, clips)

    def find(path: Path) -> list[Violation]:
        findings = Findings()
        data = findings.content(existing_file(path, "csv of rankings or scores"), path.name)
        return findings.found if data is None else check_output(data, path.name, edition, expected)

    return judge_archives(files, find, lambda path: f"the rules of {edition}, {source}")


def expected_of(data: DataConfig, queries: Path | None, clips: Path | None) -> tuple[Expected, str]:
    """What outputs are measured by, and where it comes from. Raises UserError for wrong or empty tables."""
    if queries is None and clips is None:
        if data.challenge is not None:
            clips_there = (clip.name for clip in needed(data, CHALLENGE).clips)
            return Expected(read_queries(data), frozenset(clips_there)), f"the evaluation set {data.challenge}"
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
