"""A folder of recordings, indexed once and searched by sentences or sounds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.run.errors import UserError
from common.run.files import existing_file
from common.run.results.tables import print_table
from common.search import Encoder
from common.search.index import Index, build


def index_library(library: Path, encoder: Encoder, folder: Path | None) -> dict[str, Any]:
    """Bring the index of a library up to date; what it did, as a JSON-able mapping, is printed."""
    report = build(library, encoder, folder)
    print(
        f"{library}: {report.added} recordings new, {report.kept} known, {report.removed} gone, "
        f"{len(report.unreadable)} unreadable"
    )
    for reason in report.unreadable.values():
        print(f"  left out: {reason}")
    counts = {"added": report.added, "kept": report.kept, "removed": report.removed}
    return {**counts, "unreadable": report.unreadable, "system": encoder.title.rstrip(",")}


def search_library(
    library: Path,
    encoder: Encoder,
    folder: Path | None,
    sentences: Sequence[str],
    like: Path | None,
    best: int,
    below: str | None,
) -> Mapping[str, Any]:
    """The best recordings for each sentence, or for a sound; printed, and as a JSON-able mapping.

    A sound asks with the mean of its windows. Raises UserError where the library has no index of this encoder.
    """
    if best < 1:
        raise UserError(f"--best is {best}, expected at least 1")
    index = Index.open(library, encoder.key, folder, encoder.command)
    asked, queries = list(sentences), encoder.texts(sentences)
    if like is not None:
        heard = next(iter(encoder.sounds([existing_file(like, "recording")])))
        if isinstance(heard, UserError):
            raise heard
        asked, queries = [str(like)], np.mean(heard, axis=0, keepdims=True)
    found = index.search(queries, best, below)
    if changes := str(index.changes()):
        print(f"{library} has changed {changes}; `{encoder.command} {library}` brings its index up to date")
    for question, hits in zip(asked, found, strict=True):
        rows = [(str(i), f"{hit.score:.3f}", f"{hit.start:g}", hit.name) for i, hit in enumerate(hits, 1)]
        print_table(question, ("rank", "cosine", "from (s)", "recording"), rows, note=f"answered by {index.title}")
    answers = [
        {"query": question, "hits": [{"file": hit.name, "score": hit.score, "start": hit.start} for hit in hits]}
        for question, hits in zip(asked, found, strict=True)
    ]
    return {"system": index.title, "changed": changes or None, "answers": answers}
