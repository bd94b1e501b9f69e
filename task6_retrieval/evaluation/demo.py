"""The page of Task 6: search a library by sentence or sound."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.run.errors import UserError
from common.run.results.store import recorded
from common.run.verbs import Run
from task6_retrieval.config import Config

if TYPE_CHECKING:
    from fastapi import FastAPI

    from common.search import Encoder

EXAMPLES = ("a dog barks far away",)


def toy_clips(config: Config) -> Path:
    """The test clips of the embedded data set. Raises UserError where they are not there."""
    from common.run.files import existing_folder
    from task6_retrieval.data.layout import clotho_audio

    if config.data.root is None or config.data.toy is None:
        raise UserError("demo: --library FOLDER names the recordings (or a recipe of the embedded data set has some)")
    try:
        return existing_folder(clotho_audio(Path(config.data.root), "evaluation"))
    except UserError:
        raise UserError(
            f"{config.data.root}: no clips yet; `python -m task6_retrieval prepare` writes them, or name recordings "
            "of your own with --library FOLDER"
        ) from None


def trained_or_none(run: Run) -> Run | None:
    """The run, where its training is finished."""
    return run if recorded(run.folder, "checkpoint") else None


def quality(labelled: Path | None, encoder: "Encoder", folder: Path | None) -> str:
    """mAP@10 of a sentence for each class on a labelled folder as of ESC-50, computed now; in a sentence."""
    from common.encoders.recordings import average_precision, read_labelled
    from common.search.library import opened

    if labelled is None:
        return encoder.quality
    of = read_labelled(labelled, None, None)
    index = opened(labelled / "audio", encoder, folder and folder / "labelled")
    known = {file.relative_to(labelled / "audio").as_posix(): of.labels[i] for i, file in enumerate(of.files)}
    queries = encoder.texts([row["sentence"] for row in of.classes])
    found = []
    for number, hits in enumerate(index.search(queries, k=len(index.names))):
        scores = np.array([hit.score for hit in hits if hit.name in known])
        relevant = np.array([known[hit.name] == number for hit in hits if hit.name in known])
        found.append(average_precision(scores, relevant))
    return (
        f"mAP@10 {np.mean(found):.3f} for {len(found)} sentences on the {len(known)} recordings of {labelled.name} "
        f"(one in {len(found)} fits a sentence), computed when this page opened. {encoder.quality}"
    )


def page(
    library: Path, encoders: "Sequence[Encoder]", folder: Path | None, labelled: Path | None, host: str
) -> "FastAPI":
    """The page as an application, which answers by any of the encoders; their indexes are made first."""
    from common.search.library_page import heard_by, library_page

    of = heard_by(encoders, library, folder, lambda encoder: quality(labelled, encoder, folder))
    return library_page("Language-based audio retrieval", of, EXAMPLES, host)
