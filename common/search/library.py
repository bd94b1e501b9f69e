"""The verbs `index` and `search`: a folder of recordings, indexed once and searched by sentences or sounds."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.run.errors import UserError
from common.run.files import existing_file
from common.run.results.tables import print_table
from common.search import Encoder, sentence
from common.search.index import Index, build

TITLE = 100  # characters of a question above its answers


def index_library(library: Path, encoder: Encoder, folder: Path | None, approximate: bool = False) -> dict[str, Any]:
    """Bring the index of a library up to date; what it did, as a JSON-able mapping, is printed."""
    report = build(library, encoder, folder, approximate)
    print(
        f"{library}: {report.added} recordings new, {report.kept} known, {report.removed} gone, "
        f"{len(report.unreadable)} unreadable; heard by {encoder.title}"
    )
    for reason in report.unreadable.values():
        print(f"  left out: {reason}")
    counts = {"added": report.added, "kept": report.kept, "removed": report.removed}
    return {**counts, "unreadable": report.unreadable, "system": encoder.title, "quality": encoder.quality}


def opened(library: Path, encoder: Encoder, folder: Path | None) -> Index:
    """The index of a library, brought up to date."""
    index_library(library, encoder, folder)
    return Index.open(library, encoder.key, folder)


def search_library(
    library: Path,
    encoder: Encoder,
    folder: Path | None,
    best: int,
    below: str | None,
    sentences: Sequence[str] = (),
    sounds: Sequence[Path] = (),
) -> Mapping[str, Any]:
    """The best recordings for each sentence and each sound; printed, and as a JSON-able mapping.

    Raises UserError where the library has no index of this encoder.
    """
    if best < 1:
        raise UserError(f"--best is {best}, expected at least 1")
    asked = [sentence(text) for text in sentences] + [str(existing_file(path, "recording")) for path in sounds]
    index = Index.open(library, encoder.key, folder, encoder.command)
    queries = [*([encoder.texts(asked[: len(sentences)])] if sentences else []), *map(encoder.query, sounds)]
    found = index.search(np.concatenate(queries), best, below)
    if changes := str(index.changes()):
        where = f" --index {shlex.quote(str(folder))}" if folder else ""
        command = f"{encoder.command} {shlex.quote(str(library))}{where}"
        print(f"{library} has changed {changes}; `{command}` brings its index up to date")
    for question, hits in zip(asked, found, strict=True):
        rows = [(str(i), f"{hit.score:.3f}", f"{hit.start:g}", hit.name) for i, hit in enumerate(hits, 1)]
        note = f"answered by {index.title}{', approximately' if index.graph else ''}. {encoder.quality}"
        print_table(question[:TITLE], ("rank", "cosine", "from (s)", "recording"), rows, note=note)
    answers = [
        {"query": question, "hits": [{"file": hit.name, "score": hit.score, "start": hit.start} for hit in hits]}
        for question, hits in zip(asked, found, strict=True)
    ]
    system = {"system": index.title, "quality": encoder.quality, "approximate": index.graph is not None}
    return {**system, "changed": changes or None, "answers": answers}
