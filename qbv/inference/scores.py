"""Stored similarities and embeddings, own or anybody's, and the truth that they are judged by.

similarities: .npz (queries, items, matrix), .csv (first column the query, one column an item), or .json as of QVIM 2025
    ({query: {item: number}}); higher is more alike. embeddings: .npz (queries, items, query, item: vectors of a row
    each; where known query_model and item_model, SHA-256 of the checkpoint), compared by cosine. truth: .csv with a
    line for each query: query, item, concept of the item, and where known imitator; a line without query names an item
    that nobody imitates.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.run.errors import UserError, brief, did_you_mean
from common.run.files import existing_file, read_json, read_rows, write_rows, write_then_rename
from common.run.numbers import number, unit_rows

TRUTH, EMBEDDINGS = "predictions/truth.csv", "predictions/embeddings.npz"
COLUMNS = ("query", "item", "concept")
LARGEST = float(np.finfo(np.float32).max)


def file_of(system: str) -> str:
    """Where a part of a run has the similarities of a system."""
    return f"predictions/{system}.npz"


@dataclass(frozen=True)
class Similarities:
    """Of queries and items by name: matrix (queries, items) float32, NaN for pairs that were not compared."""

    queries: tuple[str, ...]
    items: tuple[str, ...]
    matrix: NDArray[np.float32]


@dataclass(frozen=True)
class Truth:
    """Queries by name, the right item of each, items with their concepts; imitators: of queries, where known."""

    path: Path
    queries: tuple[str, ...]
    targets: NDArray[np.int64]
    items: tuple[str, ...]
    concepts: tuple[str, ...]
    imitators: tuple[str, ...] | None


# --------------------------------------------------------------------------------------------------------------- truth


def write_truth(
    path: Path, queries: Sequence[str], targets: Sequence[int], items: Sequence[str], concepts: Sequence[str]
) -> None:
    """Write a truth file: every query, then the items that nobody imitates."""
    rows = [(query, items[target], concepts[target]) for query, target in zip(queries, targets, strict=True)]
    rest = sorted(set(range(len(items))) - set(targets))
    write_rows(path, COLUMNS, [*rows, *(("", items[row], concepts[row]) for row in rest)])


def read_truth(path: str | Path) -> Truth:
    """Read a truth file; of a query twice the first line counts; without a column concept every item is one.

    Raises UserError (file, line) for an item of two concepts, and a file without queries.
    """
    path = Path(path)
    concept_of: dict[str, str] = {}
    right: dict[str, str] = {}
    imitator_of: dict[str, str] = {}
    rows = read_rows(path, COLUMNS[:2], ",")
    for row in rows:
        query, item = row["query"], row["item"]
        if not item.strip():
            raise UserError(f"{row.at}: item is empty")
        concept = row.get("concept", item)
        if concept_of.setdefault(item, concept) != concept:
            raise UserError(f"{row.at}: {brief(item)} is {brief(concept)}, a line before {brief(concept_of[item])}")
        if query and query not in right:
            right[query] = item
            imitator_of[query] = row.get("imitator", "")
    if not right:
        raise UserError(f"{path}: no query, expected a line for each")
    items = tuple(concept_of)
    place = {item: position for position, item in enumerate(items)}
    targets = np.array([place[item] for item in right.values()], np.int64)
    imitators = tuple(imitator_of.values()) if all(imitator_of.values()) else None
    return Truth(path, tuple(right), targets, items, tuple(concept_of.values()), imitators)


# -------------------------------------------------------------------------------------------------------- similarities


def write_similarities(path: Path, of: Similarities) -> None:
    """Write the .npz, whole or not at all."""
    with write_then_rename(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, queries=np.array(of.queries), items=np.array(of.items), matrix=of.matrix)


def write_embeddings(
    path: Path, queries: Sequence[str], items: Sequence[str], query: Any, item: Any, model: str | None = None
) -> None:
    """Write vectors (queries, dim), (items, dim) as .npz, whole or not at all; model: SHA-256 of its checkpoint."""
    with write_then_rename(path) as partial, open(partial, "wb") as file:
        names: dict[str, Any] = {"queries": np.array(queries), "items": np.array(items)}
        names |= {} if model is None else {"query_model": np.array(model), "item_model": np.array(model)}
        np.savez(file, query=query, item=item, **names)


def read_similarities(path: str | Path) -> Similarities:
    """A file of similarities or embeddings of either form; of a query that stands twice the first row counts.

    Raises UserError (file, line) for what is none, for numbers that are not finite (in an .npz NaN is a pair that was
    not compared), and for an item that stands twice.
    """
    path = existing_file(path, "file of similarities")
    read = {".npz": _read_npz, ".csv": _read_csv, ".json": _read_json}.get(path.suffix.lower())
    if read is None:
        raise UserError(f"{path}: suffix {path.suffix!r}, expected .npz, .csv or .json")
    found = read(path)
    if len(set(found.items)) < len(found.items):
        twice = next(item for place, item in enumerate(found.items) if item in found.items[:place])
        raise UserError(f"{path}: item {brief(twice)} stands there twice")
    if not found.queries or not found.items:
        raise UserError(f"{path}: no queries or no items")
    first = {query: row for row, query in reversed(list(enumerate(found.queries)))}
    rows = sorted(first.values())
    return Similarities(tuple(found.queries[row] for row in rows), found.items, found.matrix[rows])


def _read_npz(path: Path) -> Similarities:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except Exception as error:
        raise UserError(f"{path}: not a readable .npz ({type(error).__name__}: {error})") from None
    missing = [name for name in ("queries", "items") if name not in arrays]
    if missing or not ("matrix" in arrays or {"query", "item"} <= arrays.keys()):
        kind = "queries, items and matrix, or queries, items, query and item"
        raise UserError(f"{path}: holds {', '.join(sorted(arrays)) or 'nothing'}, expected {kind}")
    queries, items = (tuple(str(name) for name in arrays[name].ravel().tolist()) for name in ("queries", "items"))
    if "matrix" in arrays:
        matrix = _numbers(arrays["matrix"], (len(queries), len(items)), f"{path}: matrix", may_lack=True)
    else:
        query, item = (
            _numbers(arrays[name], (len(names), None), f"{path}: {name}")
            for name, names in (("query", queries), ("item", items))
        )
        if query.shape[1] != item.shape[1]:
            raise UserError(f"{path}: vectors of {query.shape[1]} and {item.shape[1]} numbers, expected one model's")
        models = [str(arrays.get(name, "")) for name in ("query_model", "item_model")]
        if all(models) and len(set(models)) > 1:
            shown = " and ".join(brief(model[:12]) for model in models)
            raise UserError(f"{path}: vectors of the models {shown}, expected one model's")
        matrix = unit_rows(query) @ unit_rows(item).T
    return Similarities(queries, items, matrix)


def _numbers(
    array: NDArray[Any], shape: tuple[int, int | None], what: str, may_lack: bool = False
) -> NDArray[np.float32]:
    fits = array.ndim == 2 and array.shape[0] == shape[0] and shape[1] in (None, array.shape[1])
    if not fits or array.dtype.kind not in "fiu":
        expected = f"({shape[0]}, {'dim' if shape[1] is None else shape[1]})"
        raise UserError(f"{what}: {array.dtype} of shape {array.shape}, expected numbers of shape {expected}")
    wrong = np.isinf(array) if may_lack else ~np.isfinite(array)
    if wrong.any():
        row, column = np.argwhere(wrong)[0].tolist()
        raise UserError(f"{what}: row {row}, column {column} is not finite")
    return array.astype(np.float32)


def _read_csv(path: Path) -> Similarities:
    queries, rows = [], []
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            items = next(reader, [""])[1:]
            for fields in filter(None, reader):
                at = f"{path}:{reader.line_num}"
                if len(fields) != len(items) + 1:
                    raise UserError(f"{at}: {len(fields)} fields, expected {len(items) + 1} as in the header")
                queries.append(fields[0])
                rows.append([_finite(text, at, item) for text, item in zip(fields[1:], items, strict=True)])
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: {error}") from None
    return Similarities(tuple(queries), tuple(items), np.array(rows, np.float32).reshape(len(queries), len(items)))


def _finite(value: Any, at: str, item: str) -> float:
    try:
        found = number(value) if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = np.nan
    if isinstance(value, bool) or not abs(found) <= LARGEST:
        raise UserError(f"{at}: similarity to {brief(item)} is {brief(value)}, expected a finite number")
    return found


def _read_json(path: Path) -> Similarities:
    content = read_json(path)
    if not isinstance(content, Mapping) or not all(isinstance(row, Mapping) for row in content.values()):
        raise UserError(f"{path}: expected {{query: {{item: similarity}}}}")
    items = tuple(next(iter(content.values()), {}))
    rows = []
    for query, row in content.items():
        if row.keys() != set(items):
            odd = sorted(row.keys() ^ set(items))[0]
            raise UserError(f"{path}: query {brief(query)}: item {brief(odd)} is not there, or only there")
        rows.append([_finite(row[item], f"{path}: query {brief(query)}", item) for item in items])
    return Similarities(tuple(content), items, np.array(rows, np.float32).reshape(len(rows), len(items)))


def aligned(of: Similarities, truth: Truth, source: str | Path) -> NDArray[np.float32]:
    """(queries, items) of the truth, in its order. Raises UserError for a query or an item that has no similarities."""
    found = []
    for what, wanted, there in (("query", truth.queries, of.queries), ("item", truth.items, of.items)):
        place = {name: row for row, name in enumerate(there)}
        if gone := [name for name in wanted if name not in place]:
            hint = did_you_mean(gone[0], there)
            raise UserError(f"{source}: no {what} {brief(gone[0])} ({len(gone)} of {len(wanted)} are missing){hint}")
        found.append([place[name] for name in wanted])
    return of.matrix[np.ix_(*found)]
