"""Own recordings that a table lists -> a data set in the official layout of a task, every file read and converted once.

A task reads its rows, says what each recording is to be called, and writes its own tables at the end. Until all is
written the data set lies in `<out>.unfinished`; a call that was stopped, or had to be given again because of a bad row,
goes on from there.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.audio.reading import blocks, load, read_blocks, write_wav
from common.audio.recordings import rechunked
from common.run.errors import UserError, did_you_mean
from common.run.files import Row, alone, existing_file, is_complete, read_json, read_rows, sha256, write_json
from common.run.folders import below
from common.run.processes import each, usable_cores
from common.run.progress import progress

MARKER = "recordings.json"
FORMAT = 1  # to be raised when the same table gives other files than before
FILES_WORTH_A_PROCESS = 50  # starting a process costs about as much as converting so many
_NOTES = ".converted"


@dataclass(frozen=True)
class Listed:
    """A recording and its row. row.at: `<table>:<line>`."""

    row: Row
    path: Path

    def choice(self, column: str, choices: Iterable[str], why: str = "") -> str:
        """The value of a column, one of `choices`. Raises UserError, which ends with `why`."""
        value, choices = self.row[column], list(choices)
        if value in choices:
            return value
        known = f", expected {' or '.join(choices)}" if len(choices) < 4 else did_you_mean(value, choices)
        raise self.wrong(f"{column} is {value!r}{known}{why}")

    def wrong(self, what: str) -> UserError:
        """The error of this row."""
        return UserError(f"{self.row.at}: {what}")


@dataclass(frozen=True)
class Job:
    """A recording to convert, and what its wav is called below the data set.

    name: with `{segment}` and `{part}` where the recording is cut into pieces, ten parts a segment.
    """

    recording: Listed
    name: str
    rate: int
    piece: int | None = None  # samples; None: not cut


def read_table(table: Path | None, out: Path | None, columns: Sequence[str]) -> tuple[list[Listed], Path]:
    """The recordings of a csv and the folder of the new data set. Files are relative to the csv.

    Raises UserError, naming file and line: a column or file is missing, a file is no audio or listed twice.
    """
    if table is None:
        raise UserError("--out goes with --from-table")
    if out is None:
        raise UserError("--from-table needs --out DIR for the data set")
    found: dict[Path, Listed] = {}
    for cells in read_rows(existing_file(table, "table of recordings"), ("file", *columns)):
        row = Row((column.strip(), text.strip()) for column, text in cells.items())
        row.at = cells.at
        recording = Listed(row, table.parent / row["file"])
        same = found.setdefault(recording.path.resolve(), recording)
        if same is not recording:
            raise recording.wrong(f"{row['file']} stands in line {same.row.at.rpartition(':')[2]} already")
        _check(recording)
    if not found:
        raise UserError(f"{table}: lists no recordings, expected a row for each")
    return list(found.values()), out


def _check(recording: Listed) -> None:
    """Its first samples are read: UserError where there is no such file, or no audio in it."""
    if not recording.row["file"]:
        raise recording.wrong("file is empty, expected a path relative to this table")
    if not recording.path.is_file():
        raise recording.wrong(f"file {str(recording.path)!r} not found; paths are relative to this table")
    try:
        next(read_blocks(recording.path))
    except UserError as error:
        raise recording.wrong(str(error)) from None


def write_data_set(
    table: Path, out: Path, jobs: Sequence[Job], write_tables: Callable[[Path, list[list[str]]], None]
) -> None:
    """Convert every recording, then write the tables: `write_tables(folder, names of the wavs of each job)`.

    Does nothing where `out` is this data set already. Raises UserError, naming the row, for a recording that cannot be
    read to its end, and where `out` is something else.
    """
    ids = [_identity(job) for job in jobs]
    identity = {"format": FORMAT, "table": sha256(table), "audio": hashlib.sha256(repr(ids).encode()).hexdigest()}
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    with alone(out.absolute().parent, f"{out.name}.own", out):
        if is_complete(out, MARKER, identity):
            print(f"{out}: is there already")
            return
        unfinished = out.with_name(f"{out.name}.unfinished")
        (unfinished / _NOTES).mkdir(parents=True, exist_ok=True)
        names = _converted(unfinished, jobs, ids)
        write_tables(unfinished, names)
        shutil.rmtree(unfinished / _NOTES)
        write_json(unfinished / MARKER, identity)
        os.replace(unfinished, out)


def _identity(job: Job) -> list[object]:
    """What its wavs depend on; the line may move."""
    of = job.recording.path.stat()
    return [job.recording.row["file"], job.name, job.rate, job.piece, of.st_size, of.st_mtime_ns]


def _converted(folder: Path, jobs: Sequence[Job], ids: Sequence[list[object]]) -> list[list[str]]:
    """The names of the wavs of each job; what earlier calls left of other tables is removed."""
    items = [(folder, number, job, ids[number]) for number, job in enumerate(jobs)]
    found: dict[int, list[str]] = {}
    with progress("convert", len(jobs), "recordings") as advance:
        for item, names, problem in each(_convert, items, min(usable_cores(), 1 + len(jobs) // FILES_WORTH_A_PROCESS)):
            if problem:
                raise UserError(problem)
            found[item[1]] = names
            advance()
    used = {name for names in found.values() for name in names}
    for path in below(folder):
        if path.parent.name != _NOTES and path.relative_to(folder).as_posix() not in used:
            path.unlink()
    return [found[number] for number in range(len(jobs))]


def _convert(folder: Path, number: int, job: Job, identity: list[object]) -> list[str]:
    """Write the wavs of a recording; their names. A note says when all are there."""
    note = folder / _NOTES / f"{hashlib.sha256(job.name.encode()).hexdigest()[:24]}.json"
    if note.is_file() and (noted := read_json(note))["identity"] == identity:
        return list(noted["names"])
    names, source = [], job.recording.path
    try:
        pieces = [load(source, job.rate)] if job.piece is None else rechunked(blocks(source, job.rate), job.piece)
        for count, waveform in enumerate(pieces):
            if job.piece is not None and len(waveform) < job.piece:
                if count:
                    break  # what is left at the end is no whole piece
                waveform = np.pad(waveform, (0, job.piece - len(waveform)))
            names.append(job.name.format(segment=count // 10, part=count % 10))
            write_wav(folder / names[-1], waveform, job.rate)
    except UserError as error:
        raise job.recording.wrong(str(error)) from None
    write_json(note, {"identity": identity, "names": names})
    return names
