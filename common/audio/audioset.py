"""AudioSet's clip labels as released: the table of classes, and the tables of segments (Gemmeke et al. 2017)."""

import csv
from collections.abc import Iterator
from pathlib import Path

from common.run.errors import UserError
from common.run.files import existing_file, read_rows

LABELS = "class_labels_indices.csv"
LABEL_COLUMNS = ("index", "mid", "display_name")


def read_labels(root: Path) -> dict[str, str]:
    """{mid: display name} of AudioSet's classes in their order."""
    rows = read_rows(root / LABELS, LABEL_COLUMNS)
    found: dict[str, str] = {}
    for row in rows:
        if not row["display_name"].strip() or row["mid"] in found or row["display_name"] in found.values():
            raise UserError(f"{row.at}: class {row['display_name']!r} ({row['mid']}) has no name or stands there twice")
        found[row["mid"]] = row["display_name"]
    if not found:
        raise UserError(f"{root / LABELS}: no class, expected a line for each")
    return found


def segments(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    """(file:line, YouTube id, mids) of a table as published: comments, then `id, start, end, "mid,mid"`."""
    try:
        with open(existing_file(path, "table"), encoding="utf-8") as file:
            for number, fields in enumerate(csv.reader(file, skipinitialspace=True), 1):
                if not fields or fields[0].startswith("#"):
                    continue
                if len(fields) != 4 or not fields[0] or not fields[3]:
                    raise UserError(f'{path}:{number}: expected YouTube id, start, end, "label,label"')
                yield f"{path}:{number}", fields[0], fields[3].split(",")
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a table of segments ({error})") from None
