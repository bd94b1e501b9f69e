"""A folder of recordings, indexed once and searched by sentences or sounds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.run.errors import UserError
from common.run.files import existing_file
from common.run.results.tables import print_table
from common.run.verbs import Run
from common.search import Encoder, sentence
from common.search.index import Index, build

TITLE = 100  # characters of a sentence above its answers


def encoder_of(run: Run | None, checkpoint: Path | None) -> Encoder:
    """What answers: the network of a checkpoint or of a finished run, else the tags of YAMNet."""
    if checkpoint is not None and run is not None:
        raise UserError("--checkpoint: the file has its recipe beside it; leave --recipe and its settings out")
    if checkpoint is not None:
        from task6_retrieval.inference.trained import of_file  # torch: seconds

        return of_file(checkpoint)
    if run is not None:
        from task6_retrieval.inference.trained import of_run

        return of_run(run)
    from task6_retrieval.inference.tags import Tags

    return Tags()


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

    Raises UserError where the library has no index of this encoder.
    """
    if best < 1:
        raise UserError(f"--best is {best}, expected at least 1")
    asked = [sentence(text) for text in sentences] if like is None else [str(existing_file(like, "recording"))]
    index = Index.open(library, encoder.key, folder, encoder.command)
    found = index.search(encoder.texts(asked) if like is None else encoder.query(like), best, below)
    if changes := str(index.changes()):
        where = f" --index {folder}" if folder else ""
        print(f"{library} has changed {changes}; `{encoder.command} {library}{where}` brings its index up to date")
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
