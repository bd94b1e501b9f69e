"""Readers of tables with captions: Clotho's, the annotations of 2025, AudioCaps', WavCaps', lists of excluded clips."""

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from common.run.errors import UserError, brief
from common.run.files import Row, existing_file, read_json, read_rows
from task6_retrieval.data.classes import BROKEN

CLOTHO_ENCODING = "iso-8859-1"  # of the metadata; the captions are UTF-8
_CAPTION = re.compile(r"caption_(\d+)")


class Captioned(NamedTuple):
    """A clip as a table has it: its name there, its captions (none in the challenge), keywords joined by `;`."""

    name: str
    captions: tuple[str, ...]
    keywords: str = ""


def caption_columns(header: Iterable[str]) -> list[str]:
    """caption_1, caption_2, ... of a table, by their numbers."""
    return sorted((c for c in header if _CAPTION.fullmatch(c)), key=lambda c: int(c.rpartition("_")[2]))


def read_captions(path: str | Path, fewer: bool = False) -> list[Captioned]:
    """The clips of a captions csv (file_name, caption_1, ...) in their order, names and captions exactly as they stand.

    fewer: clips may have fewer captions than others, the cells of the last ones are empty then. Raises UserError (file,
    line) for a missing column, a clip that is named twice, an empty name or caption.
    """
    rows = read_rows(path, ("file_name", "caption_1"), ",")
    if not rows:
        raise UserError(f"{path}: no clip, expected a line for each")
    columns = caption_columns(rows[0])
    needed = columns[:1] if fewer else columns
    _no_duplicates(rows, "file_name")
    for row in rows:
        empty = next((column for column in ("file_name", *needed) if not row[column].strip()), None)
        if empty:
            raise UserError(f"{row.at}: {empty} is empty")
    return [Captioned(row["file_name"], tuple(row[c] for c in columns if row[c].strip())) for row in rows]


def read_keywords(path: str | Path, encoding: str = CLOTHO_ENCODING) -> dict[str, str]:
    """{file name: keywords joined by `;`} of Clotho's metadata csv. Raises UserError for a clip that stands twice."""
    rows = read_rows(path, ("file_name", "keywords"), ",", encoding=encoding)
    _no_duplicates(rows, "file_name")
    return {row["file_name"]: row["keywords"] for row in rows}


def with_keywords(clips: Iterable[Captioned], keywords: Mapping[str, str]) -> list[Captioned]:
    """Clips with the keywords of their names; without regard to blanks around names where none has exactly that."""
    loose = {name.strip(): words for name, words in keywords.items()}
    return [c._replace(keywords=keywords.get(c.name, loose.get(c.name.strip(), ""))) for c in clips]


def read_annotations(path: str | Path) -> dict[str, tuple[str, ...]]:
    """{query: its relevant clips} of the annotations of 2025 (columns query, audio_filenames: a list as in Python).

    Raises UserError (file, line) for a query that stands twice, and for what is no list of names, each once.
    """
    rows = read_rows(path, ("query", "audio_filenames"), ",")
    _no_duplicates(rows, "query")
    found = {}
    for row in rows:
        names = _literal(row["audio_filenames"])
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise UserError(
                f"{row.at}: audio_filenames is {brief(row['audio_filenames'])}, expected a list as ['a.wav', 'b.wav']"
            )
        if len(set(names)) < len(names):
            raise UserError(f"{row.at}: a clip stands twice in audio_filenames")
        found[row["query"]] = tuple(names)
    if not found:
        raise UserError(f"{path}: no query, expected a line for each")
    return found


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def read_audiocaps(path: str | Path) -> list[Captioned]:
    """The clips of a part of AudioCaps (one row a caption), by YouTube id in the order of their first row."""
    rows = read_rows(path, ("youtube_id", "caption"), ",")
    captions: dict[str, list[str]] = {}
    for row in rows:
        for column in ("youtube_id", "caption"):
            if not row[column].strip():
                raise UserError(f"{row.at}: {column} is empty")
        captions.setdefault(row["youtube_id"], []).append(row["caption"])
    return [Captioned(name, tuple(of)) for name, of in captions.items()]


def read_audioset_labels(segments: Iterable[Path], classes: Path) -> dict[str, str]:
    """{YouTube id: label names joined by `;`} by AudioSet's tables of segments (comments first) and of classes.

    Raises UserError (file, line) for a line of segments without id, start, end and labels.
    """
    names = {row["mid"]: row["display_name"] for row in read_rows(classes, ("mid", "display_name"), ",")}
    found = {}
    for path in segments:
        with open(existing_file(path, "table of segments"), encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                if line.startswith("#") or not line.strip():
                    continue
                fields = line.strip().split(", ", 3)
                if len(fields) < 4:
                    raise UserError(f"{path}:{number}: {brief(line.strip())}, expected id, start, end, labels")
                labels = fields[3].strip('"').split(",")
                found[fields[0]] = ";".join(names.get(label, label) for label in labels)
    return found


def read_variants(path: str | Path) -> dict[tuple[str, str, int], tuple[str, ...]]:
    """{(split of Clotho, file name, number of the caption from 0): other wordings of it} of a file of json lines.

    Raises UserError (file, line) for a line without split, file_name, caption_index and variants, a list of texts.
    """
    found = {}
    with open(existing_file(path, "file of variants"), encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                record = json.loads(line)
                key, variants = (record["split"], record["file_name"], record["caption_index"]), record["variants"]
            except (ValueError, KeyError, TypeError, RecursionError):
                raise UserError(
                    f"{path}:{number}: expected json with split, file_name, caption_index and variants"
                ) from None
            if [type(of) for of in key] != [str, str, int]:
                raise UserError(f"{path}:{number}: {brief(key)}, expected names of split and file, and a number")
            if not isinstance(variants, list) or not all(isinstance(v, str) and v.strip() for v in variants):
                raise UserError(f"{path}:{number}: variants is {brief(variants)}, expected a list of texts")
            found[key] = tuple(variants)
    return found


def read_wavcaps(path: str | Path) -> list[Captioned]:
    """The clips of a source of WavCaps (json with `data`), by id as a string and without `.wav`; one caption each.

    Keywords: its tags, or its category, or its title. The files that are broken as published are left out. Raises
    UserError for other content, an id that stands twice, an empty caption.
    """
    content = read_json(path)
    records = content.get("data") if isinstance(content, dict) else None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise UserError(f"{path}: expected a mapping with `data`, a list of records")
    clips: dict[str, Captioned] = {}
    for number, record in enumerate(records):
        name, caption = str(record.get("id", "")).removesuffix(".wav"), record.get("caption")
        at = f"{path}: record {number}"
        if not name or not isinstance(caption, str) or not caption.strip():
            raise UserError(f"{at}: id and caption are {brief(record.get('id'))} and {brief(caption)}, expected both")
        if name in clips:
            raise UserError(f"{at}: id {name} stands there already")
        clips[name] = Captioned(name, (caption,), _wavcaps_keywords(record))
    return [clip for name, clip in clips.items() if name not in BROKEN]


def _wavcaps_keywords(record: Mapping[str, object]) -> str:
    tags = record.get("tags")
    if isinstance(tags, list):
        return ";".join(map(str, tags))
    if record.get("category"):
        words = re.sub(r"[\[\]'\"]", "", str(record["category"])).split(",")
        return ";".join(word.strip() for word in words)
    return str(record.get("title") or "")


def read_excluded(path: str | Path) -> dict[str, frozenset[str]]:
    """{source: ids as strings} that must not be trained on, source freesound or audioset.

    A csv has Freesound ids in its column sound_id, or id; a json has lists of ids by source (FreeSound, AudioSet_SL).
    Ids are strings everywhere: a set of numbers contains none of them.
    """
    path = existing_file(path, "list of excluded clips")
    if path.suffix != ".json":
        column = "id" if "id" in _header(path) else "sound_id"
        ids = [row[column].strip() for row in read_rows(path, (column,), ",")]
        return {"freesound": frozenset(ids)}
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(ids, list) for ids in content.values()):
        raise UserError(f"{path}: expected a mapping of sources to lists of ids")
    return {
        name.lower().removesuffix("_sl"): frozenset(str(i).strip().removesuffix(".wav") for i in ids)
        for name, ids in content.items()
    }


def _header(path: Path) -> Sequence[str]:
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        return file.readline().strip().split(",")


def _no_duplicates(rows: Sequence[Row], column: str) -> None:
    lines: dict[str, str] = {}
    for row in rows:
        if row[column] in lines:
            first = lines[row[column]].rsplit(":", 1)[-1]
            raise UserError(f"{row.at}: {column} {brief(row[column])} stands in line {first} already")
        lines[row[column]] = row.at
