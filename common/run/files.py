"""Files that appear whole or not at all, and tables whose mistakes are named by file and line."""

import csv
import errno
import functools
import glob
import gzip
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import sys
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from common.run.errors import UserError, did_you_mean
from common.run.numbers import number

_PROCESS = secrets.token_hex(4)  # tells this process from an earlier one of the same number
_OWNER = re.compile(r"\.(?P<place>[0-9a-f]{12})-(?P<pid>[0-9]{1,10})-(?P<process>[0-9a-f]{8})-[0-9a-f]{8}\.partial")
_ABANDONED = 7 * 24 * 3600  # seconds without a write


@contextmanager
def write_then_rename(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; when the block ends well it is renamed to `path`.

    After an exception, Ctrl-C included, the temporary file is removed and `path` is as it was before. After kill -9
    a stale `.<name>.<owner>.partial` may stay; it is never read. The suffix of `path` is kept at the end of the name.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{partial_name(path.stem)}{path.suffix}")
    try:
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)  # Python does not say which file did not fit on the disk
        raise
    finally:
        partial.unlink(missing_ok=True)


def partial_name(name: str) -> str:
    """`.<name>.<place>-<pid>-<process>-<file>.partial`: no two processes that share a disk have the same."""
    short = os.fsdecode(os.fsencode(name)[:100])  # with the rest it may not be longer than 255 bytes
    return f".{short}.{_place()}-{os.getpid()}-{_PROCESS}-{secrets.token_hex(4)}.partial"


@functools.cache
def _place() -> str:
    """Where a process number means this process: host, boot and PID namespace (a container has its own)."""
    parts = [socket.gethostname()]
    for read in (lambda: Path("/proc/sys/kernel/random/boot_id").read_text(), lambda: os.readlink("/proc/self/ns/pid")):
        with suppress(OSError):
            parts.append(read())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def remove_partials(folder: Path, recursive: bool = True, name: str | None = None) -> None:
    """Remove temporary files and folders (of `name`) in, or below, `folder` that killed processes left.

    Of other hosts, boots and containers it cannot be known who still runs: theirs go when nobody has written to them
    for a week. What cannot be removed, on a read-only disk, stays.
    """
    pattern = f".{glob.escape(name or '')}{'.' if name else ''}*.partial*"
    for partial in list(folder.rglob(pattern) if recursive else folder.glob(pattern)):
        owner = _OWNER.search(partial.name)
        if owner is None or _in_use(partial, owner["place"], int(owner["pid"]), owner["process"]):
            continue
        with suppress(OSError):
            if partial.is_dir():
                shutil.rmtree(partial, ignore_errors=True)
            else:
                partial.unlink(missing_ok=True)


def _in_use(partial: Path, place: str, pid: int, process: str) -> bool:
    if place != _place():
        try:
            return time.time() - partial.stat().st_mtime < _ABANDONED
        except OSError:
            return True
    if pid == os.getpid():
        return process == _PROCESS  # else of an earlier process that had this one's number
    return _runs(pid)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def alone(folder: Path, name: str, at: Path | None = None) -> Iterator[None]:
    """Of all processes that share a disk, containers and machines included, one at a time is in this block.

    `<folder>/.locks/<name>` stands for it, and stays. at: what the others, who wait, are told that somebody works on.
    The lock ends with its process, also after kill -9. Where `folder` is not there, or cannot be written to, there is
    nothing to lock.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".locks" / name, mode=0o666)  # other users of a shared folder, too
    try:
        (folder / ".locks").mkdir(exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"{at or folder}: another process works on it; waiting", file=sys.stderr, flush=True)
            lock.acquire()
    except OSError as error:
        if error.errno != errno.EROFS and os.access(folder, os.W_OK):
            raise
    except NotImplementedError:
        raise UserError(f"{folder}: on a file system without locks (flock); mount it with them") from None
    try:
        yield
    finally:
        lock.release()


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text whole or not at all."""
    with write_then_rename(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write indented JSON whole or not at all; NaN and infinity are refused (they are not JSON)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, default=str) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file; a missing or malformed one is a UserError."""
    path = existing_file(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise UserError(f"{path}:1: not valid JSON (nested too deeply)") from None
    except ValueError as error:  # also of text that is not UTF-8, and of integers of thousands of digits
        line = getattr(error, "lineno", 1)
        raise UserError(f"{path}:{line}: not valid JSON ({error})") from None


def write_arrays(path: str | Path, **arrays: Any) -> None:
    """Write an .npz, numbers and texts by name, whole or not at all."""
    import numpy as np  # most readers and writers of files do without

    with write_then_rename(path) as partial, open(partial, "wb") as file:
        np.savez(file, **arrays)


def read_arrays(path: str | Path, what: str, *names: str) -> list[Any]:
    """The arrays with these names in an .npz; UserError where it is no `what`, runs no code."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as stored:
            return [stored[name] for name in names]
    except Exception as error:  # a damaged file fails anywhere
        raise UserError(f"{path}: no {what} ({type(error).__name__}: {error})") from None


def existing_file(path: str | Path, what: str = "file") -> Path:
    """`path`, or a UserError that says it is missing, is a folder, or a pipe or device, which may never end."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected a {what}")
    if not path.exists():
        raise UserError(f"{path}: {what} not found")
    if not path.is_file():
        raise UserError(f"{path}: is a pipe or a device, expected a {what}")
    return path


def existing_folder(path: str | Path, what: str = "folder") -> Path:
    """`path`, or a UserError that says it is missing or is a file."""
    path = Path(path)
    if path.is_file():
        raise UserError(f"{path}: is a file, expected a {what}")
    if not path.is_dir():
        raise UserError(f"{path}: {what} not found")
    return path


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    return file_hash(path, "sha256")


def file_hash(path: str | Path, kind: str) -> str:
    """Hexadecimal hash of a file; kind: sha256 or md5."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


@contextmanager
def write_folder_then_rename(folder: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`; when the block ends well it is renamed to `folder`.

    `folder` must not exist, or be empty. After an exception the temporary folder is removed. What a killed process
    left behind is removed by the next call.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_partials(folder.parent, recursive=False, name=folder.name)
    partial = folder.with_name(partial_name(folder.name))
    partial.mkdir()
    try:
        yield partial
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def is_complete(folder: str | Path, marker: str, identity: Mapping[str, Any]) -> bool:
    """Whether `folder` holds the JSON file `marker` with exactly `identity`; False where it is absent or empty.

    Anything else in its place raises UserError: nobody's files are overwritten.
    """
    folder = Path(folder)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    existing_folder(folder)
    if not (folder / marker).is_file():
        raise UserError(f"{folder}: exists and has no {marker}; name a new folder or remove this one")
    found = read_json(folder / marker)
    wanted = json.loads(json.dumps(identity))
    if found != wanted:
        found = found if isinstance(found, dict) else {}
        other = next(key for key in [*wanted, *found, ""] if found.get(key) != wanted.get(key) or not key)
        raise UserError(
            f"{folder / marker}: made with {other}={found.get(other)!r}, now {wanted.get(other)!r}; "
            "name a new folder or remove this one"
        )
    return True


class Row(dict[str, str]):
    """One row of a table; `at` is `<file>:<line>` for messages."""

    at: str

    def number(self, column: str) -> float:
        """The finite number in `column`, or a UserError with file, line and column."""
        text = self[column]
        try:
            value = number(text)
        except ValueError:
            raise UserError(f"{self.at}: {column} is {text!r}, expected a number") from None
        if value != value or value in (float("inf"), float("-inf")):
            raise UserError(f"{self.at}: {column} is {text!r}, expected a finite number")
        return value


def read_rows(
    path: str | Path, columns: Sequence[str], delimiter: str | None = None, encoding: str = "utf-8-sig", titles: int = 0
) -> list[Row]:
    """Rows of a .tsv or .csv file, also gzipped (.gz), with a header line that has at least `columns`.

    The delimiter follows the suffix (.csv: comma, else tab) unless given. titles: lines before the header. Raises
    UserError for a missing file, text that is not UTF-8 (or in `encoding`), an empty file, a column that is missing or
    there twice, or a row with another number of fields than the header.
    """
    path = existing_file(path, "table")
    delimiter = delimiter or ("," if path.name.removesuffix(".gz").endswith(".csv") else "\t")
    lines = csv_lines(path, delimiter, encoding)
    for _ in range(titles):
        next(lines, None)
    _, header = next(lines, (0, []))
    if not header:
        raise UserError(f"{path}: empty, expected a header line with {', '.join(columns)}")
    for column in columns:
        if column not in header:
            other = next((sign for sign in ",;\t" if len(header) == 1 and sign in header[0]), None)
            if other:
                raise UserError(f"{path}:1: columns separated by {other!r}, expected {delimiter!r}")
            raise UserError(f"{path}:1: no column {column!r}{did_you_mean(column, header)}")
    twice = next((column for column in header if column and header.count(column) > 1), None)
    if twice:
        raise UserError(f"{path}:1: column {twice!r} is there twice")
    rows = []
    for line, fields in lines:
        if not fields:
            continue
        # A trailing run of empty fields is often dropped by editors: "name.wav" for "name.wav<tab><tab><tab>".
        if len(fields) < len(header) and len(fields) == 1:
            fields = fields + [""] * (len(header) - 1)
        if len(fields) != len(header):
            raise UserError(f"{path}:{line}: {len(fields)} fields, expected {len(header)} as in the header")
        row = Row(zip(header, fields, strict=True))
        row.at = f"{path}:{line}"
        rows.append(row)
    return rows


def csv_lines(path: Path, delimiter: str = ",", encoding: str = "utf-8-sig") -> Iterator[tuple[int, list[str]]]:
    """(line, fields) of a table, also gzipped (.gz), line by line; no fields of a blank one. Raises UserError."""
    opening = gzip.open if path.suffix == ".gz" else open
    try:
        with opening(path, "rt", encoding=encoding, newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)  # a stray quote would swallow the rest
            for fields in reader:
                yield reader.line_num, fields
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: {error}") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged gzip file ({error})") from None


def write_rows(
    path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[Any]], delimiter: str | None = None
) -> None:
    """Write a .tsv (or .csv) table with a header, whole or not at all; the delimiter as for `read_rows`."""
    delimiter = delimiter or ("," if Path(path).suffix == ".csv" else "\t")
    with write_then_rename(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
