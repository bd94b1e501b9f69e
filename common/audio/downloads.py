"""Where the data sets of a task come from, and fetching what is named of them: nothing is fetched unasked.

`<task>/downloads.csv` has a row for each file, or for all files of a Zenodo record that fit a pattern. Several rows of
one name are fetched together. What nobody may say for sure (a size, a licence, a hash) is empty. Archives are verified,
unpacked into the official layout and removed; `<root>/downloads/<file>.json` says what became of them.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from common.audio.coverage import Place
from common.run.download import MB, check_space, fetch, read
from common.run.errors import UserError, did_you_mean
from common.run.files import alone, file_hash, partial_name, read_json, read_rows, remove_partials, write_json
from common.run.folders import below
from common.run.results.tables import print_table
from common.run.submission.archive import Limits, is_archive, unpack

COLUMNS = (*("name", "holds", "record", "file", "address", "size", "md5", "licence", "into", "without", "note"),)
# Zenodo's REST API: the record as JSON, whose `files` have key, size, checksum (md5:...) and links.self.
ZENODO = "https://zenodo.org/api/records/"
UNKNOWN = "not known here"
HEADER = ("name", "what", "from", "size", "licence", "MD5", "goes to")
MOST_FILES = 5_000_000  # of an archive


@dataclass(frozen=True)
class Source:
    """A row of downloads.csv. file: name, or pattern of names in the record; into: folder below data.root.

    without: leading folders of the archive that are left out where they are there, with blanks between them.
    """

    name: str
    holds: str
    record: str
    file: str
    address: str
    size: str
    md5: str
    licence: str
    into: str
    without: str
    note: str

    @property
    def by_hand(self) -> bool:
        """Neither a record nor an address is known."""
        return not self.record and not self.address


@dataclass(frozen=True)
class Remote:
    """A file that a server has; md5 empty and size None where nobody says."""

    file: str
    address: str
    md5: str
    size: int | None
    source: Source


def read_sources(table: Path) -> list[Source]:
    """The rows of a downloads.csv."""
    return [Source(*(row[column] for column in COLUMNS)) for row in read_rows(table, COLUMNS)]


def download(table: Path, names: Sequence[str], place: Place, recipe_hint: str) -> dict[str, Any]:
    """`prepare --download`: without names what there is; else the data sets named, into `place.root`.

    place: the recipe's data settings; recipe_hint: a recipe of real data, for messages. Raises UserError.
    """
    sources = read_sources(table)
    if not names:
        return show_sources(sources)
    chosen = [source for name in names for source in _named(sources, name)]
    if place.root is None or place.toy:
        raise UserError(f"--download: goes into data.root, e.g. --recipe {recipe_hint} data.root=DIR")
    return fetch_sources(chosen, Path(place.root))


def show_sources(sources: Sequence[Source]) -> dict[str, Any]:
    """Print a row for each name, and the notes; returns {name: its rows}."""
    print_table("what may be fetched (nothing is unless it is named)", HEADER, table_of(sources))
    for name, note in dict.fromkeys((source.name, source.note) for source in sources if source.note):
        print(f"{name}: {note}")
    return {"sources": {name: [asdict(source) for source in of] for name, of in _by_name(sources).items()}}


def table_of(sources: Sequence[Source]) -> list[list[str]]:
    """A row of texts under HEADER for each name."""
    rows = []
    for name, of in _by_name(sources).items():
        first, hashes = of[0], sum(bool(source.md5) for source in of)
        where = (
            f"Zenodo {first.record}" if first.record else "by hand" if first.by_hand else urlsplit(first.address).netloc
        )
        known = [first.size or UNKNOWN, first.licence or UNKNOWN, f"{hashes} of {len(of)}" if hashes else UNKNOWN]
        rows.append([name, first.holds, where, *known, _place(first)])
    return rows


def _by_name(sources: Iterable[Source]) -> dict[str, list[Source]]:
    found: dict[str, list[Source]] = {}
    for source in sources:
        found.setdefault(source.name, []).append(source)
    return found


def _place(source: Source) -> str:
    if source.into:
        return f"data.root/{source.into}"
    return "see the note" if source.by_hand else "data.root"


def _named(sources: Sequence[Source], name: str) -> list[Source]:
    """The rows of a name, or `name/file`: of one file, or pattern of files, of it. Raises UserError."""
    head, _, pattern = name.partition("/")
    of_name = _by_name(sources)
    if head not in of_name:
        raise UserError(f"--download: unknown data set {head!r}{did_you_mean(head, of_name)}")
    found = of_name[head]
    if found[0].by_hand:
        raise UserError(f"--download {head}: cannot be fetched, it is there by hand only: {found[0].note}")
    if not pattern:
        return found
    narrowed = [source for source in found if fnmatchcase(source.file, pattern)]
    narrowed = narrowed or [replace(source, file=pattern) for source in found if "*" in source.file]
    if not narrowed:
        raise UserError(f"--download {name}: no such file{did_you_mean(pattern, [source.file for source in found])}")
    return narrowed


def fetch_sources(sources: Iterable[Source], root: Path) -> dict[str, Any]:
    """Fetch, verify, unpack; goes on where it was stopped. Returns {"fetched": files, "there": files}.

    The sizes that servers tell are compared with the free disk before anything is fetched. Raises UserError.
    """
    listing = cache(_listing)
    remotes = [remote for source in sources for remote in _remotes(source, listing)]
    left = [remote for remote in remotes if not _is_done(root, remote)]
    missing = sum(max(0, (remote.size or 0) - _bytes_there(root, remote)) for remote in left)
    largest = max((remote.size or 0 for remote in left), default=0)
    check_space(root / "downloads", missing + largest)  # an archive goes when it is unpacked, so that one lies beside
    (root / "downloads").mkdir(parents=True, exist_ok=True)
    with alone(root, "download", root):
        remove_partials(root / "downloads", recursive=False)
        for number, remote in enumerate(left, 1):
            size = "" if remote.size is None else f", {remote.size / MB:,.1f} MB"
            print(f"{number} of {len(left)}: {remote.file}{size}", flush=True)
            _have(remote, root)
    there = [remote.file for remote in remotes if remote not in left]
    print(f"{root}: {len(left)} files fetched, {len(there)} were there; `prepare` without --download checks and packs")
    return {"fetched": [remote.file for remote in left], "there": there}


def _remotes(source: Source, listing: Callable[[str], list[dict[str, Any]]]) -> list[Remote]:
    """The files of a row. Raises UserError where the record has none of them, or another hash than is known."""
    if not source.record:
        return [Remote(source.file, source.address, source.md5, None, source)]
    try:
        files = listing(source.record)
    except UserError as error:
        raise UserError(f"{error}; by hand: Zenodo record {source.record}, unpacked into {_place(source)}") from None
    found = []
    for of in files:
        if fnmatchcase(of["key"], source.file):
            md5 = str(of.get("checksum", "")).removeprefix("md5:")
            if source.md5 and source.md5 != md5:
                raise UserError(f"{of['key']}: MD5 in Zenodo record {source.record} is {md5}, expected {source.md5}")
            found.append(Remote(of["key"], of["links"]["self"], md5, of["size"], source))
    if not found:
        there = ", ".join(of["key"] for of in files[:5])
        raise UserError(f"Zenodo record {source.record}: has no file {source.file} ({source.name}); it has {there}")
    return found


def _listing(record: str) -> list[dict[str, Any]]:
    """The files of a Zenodo record: key, size, checksum, links. Raises UserError for any other answer."""
    address = f"{ZENODO}{record}"
    try:
        files: list[dict[str, Any]] = json.loads(read(address))["files"]
        plain = all(
            of["key"] == PurePosixPath(of["key"]).name and of["links"]["self"] and of["size"] >= 0 for of in files
        )
    except (ValueError, TypeError, LookupError):
        plain = False
    if not plain:
        raise UserError(f"{address}: not the list of files of a Zenodo record")
    return files


def _note(root: Path, remote: Remote) -> Path:
    return root / "downloads" / f"{remote.file}.json"


def _is_done(root: Path, remote: Remote) -> bool:
    note = _note(root, remote)
    return note.is_file() and (not remote.md5 or read_json(note)["md5"] == remote.md5)


def _bytes_there(root: Path, remote: Remote) -> int:
    """Of a file that is fetched, or in part."""
    archive = root / "downloads" / remote.file
    return sum(path.stat().st_size for path in (archive, archive.with_name(f"{archive.name}.part")) if path.exists())


def _have(remote: Remote, root: Path) -> None:
    """Fetch a file, put what it holds in its place, note it; the archive is removed."""
    archive = root / "downloads" / remote.file
    fetch(remote.address, archive, remote.md5)
    target = root / remote.source.into
    if is_archive(archive):
        files = _unpack(archive, target, remote.source.without.split())
    else:
        files = 1
        _move(archive, target / remote.file, archive)
    noted = archive.with_name(f"{archive.name}.sha256")
    write_json(_note(root, remote), {"address": remote.address, "md5": remote.md5, "into": str(target), "files": files})
    for path in (archive, noted):
        path.unlink(missing_ok=True)


def _unpack(archive: Path, target: Path, without: Sequence[str]) -> int:
    """Unpack beside the archive, then move file by file; returns how many. What is there already stays."""
    partial = archive.with_name(partial_name(archive.name))
    partial.mkdir()
    try:
        unpack(archive, partial, Limits(shutil.disk_usage(partial).free, MOST_FILES))
        paths = list(below(partial))
        for path in paths:
            parts = list(path.relative_to(partial).parts)
            for folder in without:
                parts = parts[1:] if len(parts) > 1 and parts[0] == folder else parts
            _move(path, target.joinpath(*parts), archive)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return len(paths)


def _move(path: Path, target: Path, archive: Path) -> None:
    """Move a file to its place. Raises UserError where another one is there."""
    if target.exists():
        same = target.is_file() and target.stat().st_size == path.stat().st_size
        if not same or file_hash(target, "md5") != file_hash(path, "md5"):
            raise UserError(
                f"{target}: is there and differs from that of {archive}; move it away, the next call goes on"
            )
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
