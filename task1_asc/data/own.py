"""Own recordings of the challenge's scenes -> a data set in the official layout: clips of a second, lists, meta.csv."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.audio.own import Job, Listed, read_table, write_data_set
from common.run.errors import UserError
from common.run.files import write_rows
from task1_asc.data.classes import CLIP_SAMPLES, DEVICES, SAMPLE_RATE, SCENES
from task1_asc.data.layout import META_COLUMNS, parse_name, write_list

COLUMNS = ("label", "device", "split")
SPLITS = {"train": "split100", "test": "test"}
FIXED = " (the networks and score files have a column for each of the ten scenes, so other ones are not possible)"
LETTERS = " (a: the main device, b and c: others, s1 to s6: simulated ones)"


def from_table(table: Path | None, out: Path | None) -> Mapping[str, Any]:
    """`prepare --from-table`: recordings of any length, rate and format, cut into clips of one second at 44.1 kHz.

    Ten clips are a segment; what is left at the end of a recording is dropped, and one shorter than a second is filled
    up with silence. A `location` (default: each recording is its own) is in one split only. Writes split100 and test;
    `splits make` draws the smaller lists. `sources.tsv` says which recording a clip is of. Raises UserError.
    """
    recordings, out = read_table(table, out, COLUMNS)
    assert table is not None
    places = _places(recordings)
    jobs, splits = [], []
    for number, recording in enumerate(recordings, 1):
        scene = recording.choice("label", SCENES, FIXED)
        device = recording.choice("device", DEVICES, LETTERS)
        splits.append(recording.choice("split", SPLITS))
        name = f"audio/{scene}-own-{places[number - 1]}-{number}{{segment:05d}}-{{part}}-{device}.wav"
        jobs.append(Job(recording, name, SAMPLE_RATE, CLIP_SAMPLES))
    for split in SPLITS:
        if split not in splits:
            raise UserError(f"{table}: no row has split {split}; both train and test are needed")

    def write_tables(folder: Path, names: Sequence[Sequence[str]]) -> None:
        clips = [parse_name(name) for of in names for name in of]
        meta = [(clip.filename, clip.scene, clip.location, clip.device) for clip in clips]
        write_rows(folder / "meta.csv", META_COLUMNS, meta, "\t")
        for split, stem in SPLITS.items():
            of_split = [name for of, own in zip(names, splits, strict=True) if own == split for name in of]
            write_list(folder / "splits" / f"{stem}.csv", map(parse_name, of_split))
        sources = [(name, of.row["file"]) for of, listed in zip(recordings, names, strict=True) for name in listed]
        write_rows(folder / "sources.tsv", ("filename", "file"), sources)

    write_data_set(table, out, jobs, write_tables)
    print(f"{out}: train on it with --recipe baseline data.root={out} data.splits=[100]")
    print(f"lists of 5 to 50 %, where there are 20 segments of ten seconds: splits make {out} --out {out}/splits")
    return {"out": str(out), "recordings": len(recordings)}


def _places(recordings: Sequence[Listed]) -> list[int]:
    """A number for the location of each recording. Raises UserError for one that is in both splits."""
    first: dict[str, tuple[int, Listed]] = {}
    numbers = []
    for recording in recordings:
        row = recording.row
        place = f"location {row['location']}" if row.get("location") else f"file {row['file']}"
        number, other = first.setdefault(place, (len(first) + 1, recording))
        if other.row["split"] != row["split"]:
            line = other.row.at.rpartition(":")[2]
            raise recording.wrong(f"{place} is in {row['split']}, but in {other.row['split']} in line {line}")
        numbers.append(number)
    return numbers
