"""Own recordings of machines -> a data set in the official layout: of 2020 (IDs), or first-shot (sections, domains)."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.audio.own import Job, Listed, read_table, write_data_set
from common.run.errors import UserError, did_you_mean
from common.run.files import write_rows
from task2_anomaly.config import SAMPLE_RATE
from task2_anomaly.data.layout import DOMAINS

COLUMNS = ("machine", "split", "label")
LABELS = ("normal", "anomaly")


def from_table(table: Path | None, out: Path | None) -> Mapping[str, Any]:
    """`prepare --from-table`: recordings of any length, rate and format, as mono wavs of 16 kHz in `dev_data`.

    The column `id` makes the layout of 2020, `section` and `domain` (and, if there is one, `attributes`) that of the
    first-shot editions. `sources.tsv` says which recording a clip is of. Raises UserError.
    """
    recordings, out = read_table(table, out, COLUMNS)
    assert table is not None
    section = _has_sections(table, recordings[0])
    counts: Counter[tuple[str, ...]] = Counter()
    machines: dict[tuple[str, int], Listed] = {}
    trained, jobs = set(), []
    for recording in recordings:
        number = _number(recording, "section" if section else "id")
        folder, *stem = _stem(recording, number, section)
        name = _name(recording, stem, counts[folder, *stem], section)
        counts[folder, *stem] += 1
        jobs.append(Job(recording, f"dev_data/{folder}/{name}", SAMPLE_RATE))
        machine = recording.row["machine"], number
        machines.setdefault(machine, recording)
        trained |= {machine} if recording.row["split"] == "train" else set()
    for machine, recording in machines.items():
        if machine not in trained:
            what = f"{machine[0]} {machine[1]:02d} has no row of split train"
            raise recording.wrong(f"{what}, expected normal clips to learn from")

    def write_tables(folder: Path, names: Sequence[Sequence[str]]) -> None:
        rows = [(name, of.row["file"]) for of, (name,) in zip(recordings, names, strict=True)]
        write_rows(folder / "sources.tsv", ("filename", "file"), rows)

    write_data_set(table, out, jobs, write_tables)
    recipe = "embedding_knn_yamnet" if section else "workshop"
    edition = " data.edition=2025" if section else ""
    print(f"{out}: train on it with --recipe {recipe} data.root={out}{edition}")
    return {"out": str(out), "recordings": len(recordings), "machines": len(machines)}


def _has_sections(table: Path, first: Listed) -> bool:
    """Whether the table is of a first-shot edition. Raises UserError where its columns are of neither or both."""
    there = [column for column in ("id", "section") if column in first.row]
    if len(there) != 1:
        both = "both id and section" if there else "neither id nor section"
        raise UserError(f"{table}:1: {both}, expected id (as in 2020), or section and domain (first-shot editions)")
    if there == ["section"] and "domain" not in first.row:
        raise UserError(f"{table}:1: no column 'domain'{did_you_mean('domain', first.row)}")
    return there == ["section"]


def _number(recording: Listed, column: str) -> int:
    text = recording.row[column]
    if not re.fullmatch(r"[0-9]{1,2}", text):
        raise recording.wrong(f"{column} is {text!r}, expected a whole number from 0 to 99")
    return int(text)


def _stem(recording: Listed, number: int, section: bool) -> tuple[str, ...]:
    """Folder of a clip and the words of its name before the count."""
    machine, split = recording.row["machine"], recording.choice("split", ("train", "test"))
    label = recording.choice("label", LABELS)
    if not re.fullmatch(r"[A-Za-z0-9]+", machine) or machine == "raw":
        raise recording.wrong(f"machine is {machine!r}, expected letters and digits, e.g. fan or Pump2")
    if split == "train" and label != "normal":
        raise recording.wrong("an anomaly of split train; training clips are normal, anomalies belong to test")
    if not section:
        return f"{machine}/{split}", label, "id", f"{number:02d}"
    domain = recording.choice("domain", DOMAINS)
    return f"{machine}/{split}", "section", f"{number:02d}", domain, split, label


def _name(recording: Listed, stem: Sequence[str], count: int, section: bool) -> str:
    """The official name: eight digits in 2020, four and the attributes in the first-shot editions."""
    if not section:
        return f"{'_'.join(stem)}_{count:08d}.wav"
    if count > 9999:
        raise recording.wrong("more than 10,000 clips of one kind, the most that four digits can count")
    attributes = recording.row.get("attributes", "")
    if not re.fullmatch(r"[\w.+-]*", attributes):
        raise recording.wrong(f"attributes is {attributes!r}, expected letters, digits and _, e.g. speed_1_load_2")
    return f"{'_'.join((*stem, f'{count:04d}', *([attributes] if attributes else [])))}.wav"
