"""Own recordings with captions -> a data set in Clotho's layout: wavs by split, captions, keywords."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.audio.own import Job, Listed, read_table, write_data_set
from common.run.errors import UserError
from common.run.files import write_rows
from task6_retrieval.config import SAMPLE_RATE
from task6_retrieval.data.captions import caption_columns

SPLITS = {"train": "development", "validation": "validation", "test": "evaluation"}


def from_table(table: Path | None, out: Path | None) -> Mapping[str, Any]:
    """`prepare --from-table`: recordings of any length, rate and format, as mono wavs of 32 kHz in their splits.

    Columns: `file`, `split` (train, validation or test), `caption_1`, `caption_2`, ... (those after the first may be
    empty) or one `caption`, and if you like `keywords`, joined by `;`. `sources.tsv` says which recording a clip is of.
    Raises UserError.
    """
    recordings, out = read_table(table, out, ("split",))
    assert table is not None
    captions = [_captions(table, recording) for recording in recordings]
    splits = [SPLITS[recording.choice("split", SPLITS)] for recording in recordings]
    for split, name in SPLITS.items():
        if name not in splits:
            raise UserError(f"{table}: no row has split {split}; {', '.join(SPLITS)} are all needed")
    # Letters of any disk and encoding; braces would be places of numbers in the name of a job.
    stems = (re.sub(r"[^\w.-]", "_", Path(of.row["file"]).stem, flags=re.ASCII) for of in recordings)
    names = [f"{number:05d}-{stem}.wav" for number, stem in enumerate(stems, 1)]
    rows = list(zip(recordings, splits, names, captions, strict=True))
    jobs = [Job(recording, f"{split}/{name}", SAMPLE_RATE) for recording, split, name, _ in rows]

    def write_tables(folder: Path, written: Sequence[Sequence[str]]) -> None:
        width = max(map(len, captions))
        header = ("file_name", *(f"caption_{number}" for number in range(1, width + 1)))
        for split in SPLITS.values():
            here = [row for row in rows if row[1] == split]
            filled = [(name, *texts, *[""] * (width - len(texts))) for _, _, name, texts in here]
            write_rows(folder / f"clotho_captions_{split}.csv", header, filled)
            words = [(name, recording.row.get("keywords", "")) for recording, _, name, _ in here]
            write_rows(folder / f"clotho_metadata_{split}.csv", ("file_name", "keywords"), words)
        sources = [(name, recording.row["file"]) for recording, _, name, _ in rows]
        write_rows(folder / "sources.tsv", ("filename", "file"), sources)

    write_data_set(table, out, jobs, write_tables)
    print(f"{out}: train on it with --recipe yamnet data.root={out}")
    return {"out": str(out), "recordings": len(recordings), "captions": sum(map(len, captions))}


def _captions(table: Path, recording: Listed) -> list[str]:
    """The captions of a recording. Raises UserError where it has none, or one behind an empty one."""
    columns = caption_columns(recording.row) or [name for name in ("caption",) if name in recording.row]
    if not columns:
        raise UserError(f"{table}:1: no column 'caption', and no 'caption_1'")
    texts = [recording.row[column] for column in columns]
    count = len([text for text in texts if text])
    if not count or not all(texts[:count]):
        raise recording.wrong(f"{columns[texts.index('')]} is empty, only the last ones may be")
    return texts[:count]
