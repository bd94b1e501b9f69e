"""Check data sets against their official layouts, say exactly what is missing, and pack their audio."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.audio.coverage import Coverage, cover, made_of, pack, packs_of, root_of, write_embedded
from common.audio.coverage import verify as verify_packs
from common.audio.shards import Storage
from common.run.errors import UserError
from common.run.files import remove_partials, write_json
from common.run.results.tables import print_table
from task6_retrieval.config import CHALLENGE, SAMPLE_RATE, SET_NAMES, WAVCAPS, Config, DataConfig
from task6_retrieval.data.classes import OFFICIAL_CLIPS
from task6_retrieval.data.layout import Listing, needed, read_listing

CLIPS_WORTH_A_PROCESS = 100  # starting a process costs about as much as packing so many clips


def write_toy_data(data: DataConfig) -> None:
    """The embedded data set, where the recipe asks for it."""
    from task6_retrieval.data.toy.write import write_toy

    write_embedded(data, write_toy)


def prepare(config: Config, workers: int, verify: bool = False) -> dict[str, Any]:
    """Report what of every data set is there and pack it, a pack each; returns the report as a mapping.

    Clips without a file are listed in <packs>/<set>.missing.tsv, broken ones in <set>.broken.tsv; both are left out.
    May be stopped and goes on. Raises UserError for malformed tables, and where a set that the recipe needs has no
    audio at all.
    """
    data = config.data
    root, packs = root_of(data), packs_of(data)
    for name in {*data.train, data.validation, data.test}:
        needed(data, name)
    remove_partials(packs)
    listings = {name: listing for name in (*SET_NAMES, CHALLENGE) if (listing := read_listing(data, name))}
    covered = {name: _packed(listing, packs, workers) for name, listing in listings.items()}
    summary = {name: _summary(listings[name], of) for name, of in covered.items()}
    _show(root, summary)
    report = {"root": str(root), "made_of": made_of(root), "sample_rate": SAMPLE_RATE, "sets": summary}
    write_json(packs / "coverage.json", report)
    if verify:
        verify_packs(packs / name for name, of in covered.items() if of.packed)
    for name in (*data.train, data.validation, data.test):
        if not covered[name].packed:
            raise UserError(
                f"the recipe needs data set {name}, but no audio of it was found: {listings[name].files[0]}"
            )
    return report


def _packed(listing: Listing, packs: Path, workers: int) -> Coverage:
    clips = cover((clip.name, file) for clip, file in zip(listing.clips, listing.files, strict=True))
    # WavCaps is too long (7,563 h) to be kept other than as its files are: flac, or mp3 made of it.
    storage: Storage = "encoded" if listing.name in WAVCAPS else "pcm16"
    return pack(clips, packs / listing.name, SAMPLE_RATE, workers, CLIPS_WORTH_A_PROCESS, storage)


def _summary(listing: Listing, of: Coverage) -> dict[str, Any]:
    absent = {*of.missing, *of.broken}
    dropped = sum(len(clip.captions) for clip in listing.clips if clip.name in absent)
    return {
        "official": OFFICIAL_CLIPS.get(listing.name),
        **of.counts(),
        "captions": listing.captions,
        "captions_dropped": dropped,
        "without_captions": listing.uncaptioned,
        "excluded": listing.excluded,
        "with_keywords": sum(bool(clip.keywords) for clip in listing.clips),
        "hours": round(of.report.seconds / 3600, 3) if of.report else 0.0,
    }


COLUMNS = ("official", "listed", "excluded", "missing", "broken", "packed", "captions")
MORE = {"captions_dropped": "dropped", "without_captions": "no captions", "hours": "hours"}  # with their titles


def _show(root: Path, summary: Mapping[str, Mapping[str, Any]]) -> None:
    keys = (*COLUMNS, *MORE)
    rows = [[name, *("-" if of[key] is None else str(of[key]) for key in keys)] for name, of in summary.items()]
    note = "missing and broken clips are listed beside the packs; dropped: captions of those; no captions: files"
    print_table(f"data sets of {root}", ["set", *COLUMNS, *MORE.values()], rows, note=note)
