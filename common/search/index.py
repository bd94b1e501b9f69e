"""An index of a folder of recordings: unit vectors in float16 on the disk, a search over all of them.

report = build(library, encoder)                 # again later: only what is new is heard
index = Index.open(library, encoder.key)
hits = index.search(encoder.texts(["a dog barks"]), k=10, below="field trips")

In `<library>/.dcase-index/<key>`, or `<folder>/<key>`:

about.json       of which encoder
vectors.f2       float16 (rows, dim), rows of unit length; rows are only ever appended
graph.usearch    of near neighbours, where one was asked for or there are many rows (`common.search.graph`)
contents.jsonl   a line for each content of a file: its SHA-256, first row, number of rows
files.json       {name: [bytes, mtime in ns, SHA-256]}, and why others could not be read

A line follows when its rows are on the disk, so whatever stops a build costs the batch that it was at.
"""

import bisect
import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.audio.recordings import find_recordings
from common.run.errors import UserError
from common.run.files import alone, existing_folder, read_json, remove_partials, sha256, write_json
from common.run.folders import printable
from common.run.numbers import unit_rows
from common.run.progress import progress
from common.search import Encoder, Hit, Vectors
from common.search.exact import similarities
from common.search.graph import FILE as GRAPH
from common.search.graph import Graph, grow
from common.search.graph import library as graph_library

HIDDEN = ".dcase-index"  # in the library
BATCH = 16  # files that are heard before their vectors are written
QUERIES = 16  # whose scores are in memory together
MANY = 1_000_000  # rows from which a graph is made unasked, where usearch is installed
NEAR = 4  # candidates of a graph for each recording that is wanted
VERSION = 1
ABOUT, VECTORS, CONTENTS, FILES = "about.json", "vectors.f2", "contents.jsonl", "files.json"


@dataclass
class Report:
    """What a build did: numbers of files, and {name: why it cannot be read}."""

    added: int = 0
    kept: int = 0
    removed: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Changes:
    """Names of what is in the library and not in its index, of what has been changed since, of what is gone."""

    new: list[str]
    changed: list[str]
    gone: list[str]

    def __str__(self) -> str:
        counts = [f"{len(names)} {what}" for what, names in asdict(self).items() if names]
        return f"since it was indexed: {', '.join(counts)} files" if counts else ""


def place(library: Path, folder: Path | None) -> Path:
    """The folder that has the indexes of a library."""
    return existing_folder(library) / HIDDEN if folder is None else folder


def build(library: Path, encoder: Encoder, folder: Path | None = None, approximate: bool = False) -> Report:
    """Bring the index of a library up to date: what is new or changed is heard, what is gone leaves the list.

    A file is known by its content: one that was renamed or copied is not heard again. Whoever builds the same index
    at the same time waits. approximate: with a graph of near neighbours, which later builds keep up to date. Raises
    UserError for a library without audio, without any that can be read, or where the index can not be written.
    """
    if approximate:
        graph_library()  # says at once that it is not there
    at = place(library, folder) / encoder.key
    recordings = find_recordings([library])
    try:
        at.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{at}: cannot be made ({error.strerror})"
        raise UserError(f"{reason}; --index DIR puts the index elsewhere") from None
    with alone(at, "index", at=library):
        remove_partials(at, recursive=False)
        writer = _Writer(at, encoder, library if folder else None)
        paths = {path.relative_to(library).as_posix(): path for path in recordings.files}
        report = writer.update(paths, recordings.skipped)
        if approximate or (at / GRAPH).exists() or (writer.rows >= MANY and find_spec("usearch")):
            grow(at / GRAPH, np.memmap(at / VECTORS, "<f2", "r", shape=(writer.rows, encoder.dim)))
        return report


class _Writer:
    """The index as a build finds it; raises UserError for that of another library."""

    def __init__(self, at: Path, encoder: Encoder, library: Path | None) -> None:
        self.at, self.encoder = at, encoder
        about = {"version": VERSION, "key": encoder.key, "title": encoder.title, "dim": encoder.dim}
        about |= {"window": encoder.window, "library": library and os.path.abspath(library)}
        there = read_json(at / ABOUT) if (at / ABOUT).exists() else about
        if other := next((key for key in about if key != "title" and there.get(key) != about[key]), None):
            raise UserError(
                f"{at / ABOUT}: {other} is {there.get(other)!r}, here {about[other]!r}; name another folder with "
                "--index, or remove this one"
            )
        write_json(at / ABOUT, about)
        self.files, _ = _listed(at)
        self.contents = self._whole()
        self.rows = sum(count for _, count in self.contents.values())

    def _whole(self) -> dict[str, tuple[int, int]]:
        """The contents whose rows are there; what a kill or a damage left behind them is cut off."""
        there = _size(self.at / VECTORS) // (2 * self.encoder.dim)
        contents: dict[str, tuple[int, int]] = {}
        rows = end = 0
        for content, first, count, end_of_line in _contents(self.at):
            if first != rows or rows + count > there:
                break
            contents[content], rows, end = (first, count), rows + count, end_of_line
        for name, size in ((CONTENTS, end), (VECTORS, rows * 2 * self.encoder.dim)):
            with open(self.at / name, "ab") as file:
                file.truncate(size)
        return contents

    def update(self, paths: Mapping[str, Path], skipped: Mapping[str, str]) -> Report:
        report = Report(removed=len(self.files.keys() - paths.keys()), unreadable=dict(skipped))
        self.files = {name: of for name, of in self.files.items() if name in paths and of[2] in self.contents}
        known = {name for name in paths if self.files.get(name, ())[:2] == _state(paths[name])}
        report.kept, left = len(known), [name for name in paths if name not in known]
        try:
            with progress("index", len(paths), "files", done=len(known)) as advance:
                for start in range(0, len(left), BATCH):
                    names = left[start : start + BATCH]
                    self._add({name: paths[name] for name in names}, report)
                    advance(len(names), note=printable(names[-1]))
        finally:
            write_json(self.at / FILES, {"files": self.files, "unreadable": report.unreadable})
        if not self.files:
            raise UserError(f"no file of {len(paths)} can be read, the first: {next(iter(report.unreadable.values()))}")
        return report

    def _add(self, paths: Mapping[str, Path], report: Report) -> None:
        """Hear what is new in a batch of files, and list them."""
        states: dict[str, list[Any]] = {}
        new: dict[str, str] = {}  # content: one of the files that have it
        for name, path in paths.items():
            self.files.pop(name, None)
            try:
                states[name] = [*_state(path), sha256(path)]
                if states[name][2] not in self.contents:
                    new.setdefault(states[name][2], name)
            except OSError as error:
                report.unreadable[printable(name)] = f"{printable(path)}: {error.strerror}"
        heard = self.encoder.sounds([paths[name] for name in new.values()])
        problems = self._append(list(zip(new, heard, strict=True)))
        for name, state in states.items():
            if state[2] in problems:
                # The message names the file that was heard, of which this one may be a copy.
                report.unreadable[printable(name)] = problems[state[2]]
            else:
                self.files[name] = state
                report.added += 1

    def _append(self, heard: Sequence[tuple[str, Vectors | UserError]]) -> dict[str, str]:
        """Write rows, then the lines that say whose they are; returns {content: what is wrong with it}."""
        problems = {content: str(rows) for content, rows in heard if isinstance(rows, UserError)}
        lines = []
        with open(self.at / VECTORS, "ab") as file:
            for content, rows in heard:
                if isinstance(rows, UserError):
                    continue
                if not np.isfinite(rows).all():
                    problems[content] = "the encoder gives no finite numbers for it"
                    continue
                file.write(unit_rows(np.asarray(rows, np.float32)).astype("<f2").tobytes())
                self.contents[content] = (self.rows, len(rows))
                lines.append(json.dumps([content, self.rows, len(rows)]) + "\n")
                self.rows += len(rows)
            file.flush()
            os.fsync(file.fileno())
        with open(self.at / CONTENTS, "a") as text:
            text.writelines(lines)
            text.flush()
            os.fsync(text.fileno())
        return problems


def _state(path: Path) -> list[int]:
    """[bytes, mtime in ns]; of what is gone [-1, -1]."""
    try:
        found = path.stat()
    except OSError:
        return [-1, -1]
    return [found.st_size, found.st_mtime_ns]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _contents(at: Path) -> Iterator[tuple[str, int, int, int]]:
    """(SHA-256, first row, rows, end of its line) up to the first line that is none."""
    end = 0
    with open(at / CONTENTS, "rb") if (at / CONTENTS).exists() else open(os.devnull, "rb") as file:
        for line in file:
            end += len(line)
            try:
                content, first, count = json.loads(line if line.endswith(b"\n") else b"null")
                yield str(content), int(first), int(count), end
            except (ValueError, TypeError):
                return


def _listed(at: Path) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """Files and unreadable ones; of a listing that is none, nothing."""
    try:
        there = read_json(at / FILES)
        return dict(there["files"]), dict(there["unreadable"])
    except (UserError, TypeError, KeyError, ValueError):
        return {}, {}


class Index:
    """An index that is asked. `names`: paths of the recordings below the library, sorted."""

    def __init__(self, library: Path, at: Path) -> None:
        self.library, self.about = library, read_json(at / ABOUT)
        self.title = str(self.about["title"])  # which system answers
        self.files, self.unreadable = _listed(at)
        self.names = sorted(self.files)
        dim, contents = int(self.about["dim"]), {content: rows for content, *rows, _ in _contents(at)}
        damaged = UserError(f"{at}: incomplete or damaged, the command that made it repairs it")
        try:
            spans = np.array([contents[self.files[name][2]] for name in self.names], np.int64).reshape(-1, 2)
        except (KeyError, IndexError):
            raise damaged from None
        total = _size(at / VECTORS) // (2 * dim)
        if not len(spans) or spans.sum(axis=1).max() > total:
            raise damaged
        self.vectors: NDArray[np.float16] = np.memmap(at / VECTORS, "<f2", "r", shape=(total, dim))
        # Windows of all names one after the other: those of name i from starts[i], each with its row.
        self.counts = spans[:, 1]
        self.starts = np.cumsum(self.counts) - self.counts
        within = np.arange(self.counts.sum()) - np.repeat(self.starts, self.counts)
        self.rows = np.repeat(spans[:, 0], self.counts) + within
        self.graph = Graph.open(at / GRAPH, dim, total)

    @classmethod
    def open(cls, library: Path, key: str, folder: Path | None = None, command: str = "") -> "Index":
        """Raises UserError where there is none of this encoder; command: what makes it (`Encoder.command`)."""
        at = place(library, folder)
        if (at / key / ABOUT).is_file():
            return cls(library, at / key)
        others = sorted(path.parent.name for path in at.glob(f"*/{ABOUT}")) if at.is_dir() else []
        found = f"the index is of another model ({', '.join(others)}), not of {key}" if others else "not indexed yet"
        where = f" --index {shlex.quote(str(folder))}" if folder else ""
        raise UserError(f"{library}: {found}; `{command or 'index'} {shlex.quote(str(library))}{where}` makes it")

    def vector(self, number: int) -> Vectors:
        """The mean of the windows of a recording, by its place in `names`, (1, dim)."""
        first = self.starts[number]
        return self.vectors[self.rows[first : first + self.counts[number]]].mean(
            axis=0, keepdims=True, dtype=np.float32
        )

    def search(self, queries: Vectors, k: int = 10, below: str | None = None) -> list[list[Hit]]:
        """For each query (queries, dim) the `k` best recordings, equal ones by name; `below`: those of a subfolder.

        A recording is as near as its nearest window. Exact: every vector is compared; with a graph, and without
        `below`, only its candidates are. Raises UserError for queries of another dimension and a subfolder without
        recordings.
        """
        queries = np.atleast_2d(np.asarray(queries, np.float32))
        if queries.shape[1] != self.vectors.shape[1]:
            raise UserError(f"queries of {queries.shape[1]} dimensions, the index has {self.vectors.shape[1]}")
        first, last = self._range(below)
        if self.graph is not None and (first, last) == (0, len(self.names)):
            return [self._near(query, k) for query in unit_rows(queries)]
        hits = []
        for start in range(0, len(queries), QUERIES):
            scores = similarities(unit_rows(queries[start : start + QUERIES]), self.vectors)
            hits += [self._best(of, k, first, last) for of in scores]
        return hits

    def _near(self, query: Vectors, k: int) -> list[Hit]:
        """The same by the graph (dim,): twice as many candidates until they are of `k` recordings, or all there are."""
        assert self.graph is not None
        count, wanted = NEAR * k, min(k, len(self.names))
        while True:
            rows = self.graph.candidates(query, min(count, len(self.vectors)))
            scores = self.vectors[rows].astype(np.float32) @ query
            found = self._named(rows, scores)
            if len(found) >= wanted or len(rows) >= len(self.vectors):
                return found[:k]
            if count >= len(self.vectors) // 8:  # as much work as all of them
                return self._best(similarities(query[None], self.vectors)[0], k, 0, len(self.names))
            count *= 2

    def _named(self, rows: NDArray[np.int64], scores: Vectors) -> list[Hit]:
        """The recordings of rows (n,) with their scores, best first; rows of recordings that are gone have none."""
        order, of = self.inverse
        first, last = np.searchsorted(of, rows, "left"), np.searchsorted(of, rows, "right")
        places = np.concatenate([order[a:b] for a, b in zip(first, last, strict=True)])
        scores = np.repeat(scores, last - first)
        best = np.lexsort((places, -scores))
        places, scores = places[best], scores[best]
        numbers = np.searchsorted(self.starts, places, "right") - 1
        windows = (places - self.starts[numbers]) * float(self.about["window"])
        each = np.sort(np.unique(numbers, return_index=True)[1])
        return [Hit(self.names[numbers[i]], float(scores[i]), float(windows[i])) for i in each]

    @cached_property
    def inverse(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places in `rows`, ordered by the row that stands there; and those rows."""
        order = np.argsort(self.rows, kind="stable")
        return order, self.rows[order]

    def _range(self, below: str | None) -> tuple[int, int]:
        """Names are sorted: those of a subfolder stand together."""
        prefix = (below or "").strip("/") + "/"
        if prefix in ("/", "./"):
            return 0, len(self.names)
        first = bisect.bisect_left(self.names, prefix)
        last = bisect.bisect_left(self.names, prefix[:-1] + chr(ord("/") + 1))
        if first == last:
            raise UserError(f"{self.library}: no indexed recording below {below}")
        return first, last

    def _best(self, scores: Vectors, k: int, first: int, last: int) -> list[Hit]:
        """scores (rows of the file,) -> the best of the names from `first` to before `last`."""
        begin, end = self.starts[first], self.starts[last - 1] + self.counts[last - 1]
        of_windows = scores[self.rows[begin:end]]
        of_names = np.maximum.reduceat(of_windows, self.starts[first:last] - begin)
        k = min(k, len(of_names))
        # Of equal scores at the end the first names count: all of them take part in the ordering.
        least = np.partition(of_names, len(of_names) - k)[len(of_names) - k] if k else np.inf
        chosen = np.flatnonzero(of_names >= least)
        chosen = chosen[np.argsort(-of_names[chosen], kind="stable")][:k]
        return [
            self._hit(first + int(i), float(of_names[i]), of_windows[self.starts[first + i] - begin :]) for i in chosen
        ]

    def _hit(self, number: int, score: float, windows: Vectors) -> Hit:
        best = int(windows[: self.counts[number]].argmax())
        return Hit(self.names[number], score, best * float(self.about["window"]))

    def changes(self) -> Changes:
        """What is other in the library than in the index."""
        found = {path.relative_to(self.library).as_posix(): path for path in find_recordings([self.library]).files}
        known = found.keys() & self.files.keys()
        return Changes(
            sorted(name for name in found.keys() - known if printable(name) not in self.unreadable),
            sorted(name for name in known if self.files[name][:2] != _state(found[name])),
            sorted(self.files.keys() - known),
        )
