"""Check a recipe's data sets against their official layouts, say exactly what is missing, and pack their audio."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.audio.coverage import cover, made_of, pack, write_embedded
from common.audio.coverage import verify as verify_packs
from common.run.errors import UserError
from common.run.files import remove_partials, write_json
from common.run.results.tables import print_table
from qbv.config import SAMPLE_RATE, Config, DataConfig
from qbv.data.classes import OFFICIAL
from qbv.data.layout import TESTED, TRAINING, Listing, place_of, read_listing
from qbv.data.sets import KINDS, check_names, pack_folder, split_of, splits_folder
from qbv.data.splits import TEST, TRAIN, VAL, check_splits

SOUNDS_WORTH_A_PROCESS = 200  # starting a process costs about as much as packing so many


def write_toy_data(data: DataConfig) -> None:
    """The embedded data sets, where the recipe asks for them."""
    from qbv.data.toy.write import write_toy

    write_embedded(data, write_toy)


def names_of(data: DataConfig) -> tuple[str, ...]:
    """The data sets of the recipe's protocol."""
    return tuple(dict.fromkeys((TRAINING[data.protocol], TESTED[data.protocol])))


def made_from(data: DataConfig) -> str:
    """ "toy" or "official"."""
    return "toy" if data.toy else made_of(place_of(data, TRAINING[data.protocol]))


def prepare(config: Config, workers: int, verify: bool = False) -> dict[str, Any]:
    """Report what of the data sets and their split files is there and pack it; returns the report as a mapping.

    Sounds without a file are listed in <packs>/<kind>.missing.tsv, broken ones in <kind>.broken.tsv; both are left out.
    May be stopped and goes on. Raises UserError for malformed tables and split files, and for a data set without audio.
    """
    data = config.data
    listings = {name: read_listing(data, name) for name in names_of(data)}
    splits = _check_splits(data, listings[TRAINING[data.protocol]])  # before the long work
    covered = {name: _pack(data, listing, workers) for name, listing in listings.items()}
    _show({f"{name} {kind}": of[kind] for name, of in covered.items() for kind in KINDS})
    summary = {"made_of": made_from(data), "sample_rate": SAMPLE_RATE, "sets": covered, "splits": splits}
    for name in listings:
        write_json(pack_folder(data, name) / "coverage.json", summary)
    if verify:
        verify_packs(pack_folder(data, name) / kind for name in listings for kind in KINDS)
    return summary


def _check_splits(data: DataConfig, listing: Listing) -> dict[str, Any] | None:
    """Counts over the split files of the protocol, all of whose imitations must be in the data set's lists."""
    if data.protocol == "qvim":
        return None
    found = check_splits(splits_folder(data))
    for fold in data.folds if data.protocol == "coarse" else (None,):
        of = data if fold is None else replace(data, folds=[fold])
        for name in (TRAIN, VAL) if fold is None else (TRAIN, VAL, TEST):
            check_names(split_of(of, name), listing)
    return found


def _pack(data: DataConfig, listing: Listing, workers: int) -> dict[str, dict[str, Any]]:
    folder, found = pack_folder(data, listing.name), {}
    remove_partials(folder)
    official = dict(zip(KINDS, OFFICIAL[listing.name], strict=True))
    for kind, names, files in (
        ("imitations", listing.imitations, listing.imitation_files),
        ("recordings", listing.recordings, listing.recording_files),
    ):
        of = pack(cover(zip(names, files, strict=True)), folder / kind, SAMPLE_RATE, workers, SOUNDS_WORTH_A_PROCESS)
        if not of.packed:
            raise UserError(f"{listing.name}: no audio of its {kind} was found, the first: {files[0]}")
        hours = round(of.report.seconds / 3600, 3) if of.report else 0.0
        found[kind] = {"official": official[kind], **of.counts(), "hours": hours}
    return found


def _show(rows: Mapping[str, Mapping[str, Any]]) -> None:
    columns = ("official", "listed", "missing", "broken", "packed", "hours")
    note = "missing and broken sounds are listed beside the packs"
    cells = [
        [name, *("-" if of[column] is None else str(of[column]) for column in columns)] for name, of in rows.items()
    ]
    print_table("data sets", ["sounds", *columns], cells, note)


def show_splits(folder: Path) -> dict[str, Any]:
    """Print and return the counts of `check_splits`."""
    found, columns = check_splits(folder), ("rows", "imitations", "concepts", "reference_sounds")
    parts = {f"fold {of['fold']}, {name}": of[name] for of in found["folds"] for name in (TRAIN, VAL, TEST)}
    parts |= {f"fine, {name}": of for name, of in found.get("fine", {}).items() if isinstance(of, dict)}
    rows = [[name, *(f"{of[column]:,}" for column in columns)] for name, of in parts.items()]
    heads = ("part", "lines", "imitations", "concepts", "recordings")
    print_table(f"splits of {folder}", heads, rows, "no part has an imitation of another; test concepts never train")
    return found
