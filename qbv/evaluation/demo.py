"""The page of query by vocal imitation: a voice is recorded, and recordings that fit are played."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from common.encoders.checkpoints import cached, entry_of
from common.run.config import load_config
from common.run.errors import UserError, did_you_mean
from common.run.files import existing_folder
from common.run.results.store import recorded
from common.run.verbs import Run
from qbv.config import SYSTEMS, TRAINED, Config, parts_of
from qbv.data.layout import read_listing
from qbv.inference.checkpoints import RECIPES
from qbv.inference.search import UNTRAINED, Voice, encoder_of

if TYPE_CHECKING:
    from fastapi import FastAPI

TITLE = "Query by vocal imitation"


def toy_recordings(config: Config) -> Path:
    """The recordings of the embedded VimSketch. Raises UserError where they are not there."""
    if config.data.toy is None:
        raise UserError("demo: --library FOLDER names the recordings (or a recipe of the embedded data set has some)")
    try:
        return existing_folder(read_listing(config.data, "vimsketch").recording_files[0].parent)
    except UserError:
        raise UserError(
            f"{config.data.root}: no recordings yet; `python -m qbv prepare` writes them, or name recordings of your "
            "own with --library FOLDER"
        ) from None


def encoders(run: Run | None, toy: Run, names: Sequence[str] | None) -> list[Voice]:
    """The systems of the page by their names; without names all that can be had at once, and what is left out is said.

    trained: of `run`, else of the toy recipe. Raises UserError for an unknown name, and for a named system that cannot
    be had.
    """
    if unknown := [name for name in names or () if name not in SYSTEMS]:
        raise UserError(f"--systems: unknown system {unknown[0]!r}{did_you_mean(unknown[0], SYSTEMS)}")
    found = []
    for name in names or at_hand(run or toy):
        try:
            found.append(encoder_of(run or (toy if name == TRAINED else None), None, name))
        except UserError as error:
            if names:
                raise
            print(f"{name} is left out: {error}")
    return found


def at_hand(run: Run) -> list[str]:
    """What needs no training and no download that has not been made already."""
    trained = any(recorded(part.folder, "checkpoint") for part in parts_of(run).values())
    untrained: Config = load_config(Config, RECIPES, UNTRAINED)
    entry = entry_of(untrained.model.checkpoint or "")
    frozen = entry is not None and cached(entry.file).is_file()
    return [*([TRAINED] if trained else []), "yamnet", *(["frozen"] if frozen else []), "2dft"]


def page(library: Path, answering: Sequence[Voice], folder: Path | None, host: str) -> "FastAPI":
    """The page as an application, which answers by any of the systems; their indexes are made first."""
    from common.search.library_page import heard_by, library_page

    return library_page(TITLE, heard_by(answering, library, folder), host=host)
