"""Rankings or scores against captions, or against the annotations of 2025: anybody's files, and own answers."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.run.errors import UserError, brief
from common.run.files import existing_file
from common.run.results.intervals import bootstrap_interval
from common.run.results.tables import format_value, print_table
from task6_retrieval.data.captions import read_annotations, read_captions
from task6_retrieval.inference.outputs import Scores
from task6_retrieval.inference.scores import Gallery, Outputs, read_outputs
from task6_retrieval.metrics import Ranks, clip_values, padded, query_values, ranks_of_scores, sign_flip_test


@dataclass(frozen=True)
class Truth:
    """Queries and their relevant clips by name; gallery: all clips, None where the file does not say."""

    path: Path
    queries: tuple[str, ...]
    relevant: tuple[tuple[str, ...], ...]
    gallery: Gallery | None


@dataclass(frozen=True)
class Shares:
    """Figures as sums over pairs of a query and a clip that fits it, so that clips can be drawn.

    values: {metric: (pairs,)}; weights: of a pair in its query, 1 / clips that fit; groups: a number of each clip.
    """

    values: Mapping[str, np.ndarray]
    weights: NDArray[np.float64]
    groups: NDArray[np.int64]


def shares_of(ranks: Ranks, relevant: Sequence[Sequence[str]], depth: int | None = None) -> Shares:
    """ranks: (queries, relevant), in the order of the clips of each query."""
    number = np.array([len(names) for names in relevant])
    there = np.arange(ranks.shape[1]) < number[:, None]
    weights = np.repeat(1 / number, number)
    values = {name: of[there] * weights for name, of in clip_values(ranks, depth).items()}
    return Shares(values, weights, np.unique([name for of in relevant for name in of], return_inverse=True)[1])


def read_truth(path: str | Path) -> Truth:
    """Every caption of a captions csv with its clip; or annotations (query, audio_filenames), with several clips."""
    path = existing_file(path, "captions csv, or annotations")
    if _has_annotations(path):
        annotations = read_annotations(path)
        return Truth(path, tuple(annotations), tuple(annotations.values()), None)
    clips = read_captions(path)
    pairs = [(caption, (clip.name,)) for clip in clips for caption in clip.captions]
    queries, relevant = zip(*pairs, strict=True)
    return Truth(path, queries, relevant, Gallery([clip.name for clip in clips]))


def _has_annotations(path: Path) -> bool:
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        return "audio_filenames" in file.readline(1000)


def evaluate_files(
    scores: str | Path,
    ground_truth: str | Path,
    against: str | Path | None = None,
    draws: int = 1000,
) -> dict[str, Any]:
    """Metrics of a file of rankings or scores, means over queries with intervals over clips, as a JSON-able mapping.

    ground_truth: a captions csv (one relevant clip a caption), or annotations (several); queries of the file that it
    does not have are left out of account. Intervals draw clips, with all of their captions (annotations: with
    their share in each query that they fit). against: another file; the figures' differences to it get intervals
    and p values. Keys: map@10, r@1, r@5, r@10, and map@16 where the file ranks so many. Raises UserError.
    """
    truth = read_truth(ground_truth)
    values, shares, counts = _values(scores, truth)
    result: dict[str, Any] = {name: float(of.mean()) for name, of in values.items()}
    result |= {"intervals": intervals_of(shares, draws, share=True), **counts}
    result["inputs"] = {"scores": str(scores), "ground_truth": str(ground_truth)}
    if against is not None:
        other, of_other, _ = _values(against, truth)
        both = {name: shares.values[name] - of for name, of in of_other.values.items() if name in values}
        intervals = intervals_of(replace(shares, values=both), draws, share=False)
        result["inputs"]["against"] = str(against)
        result["against"] = {
            name: {
                "value": float(other[name].mean()),
                "difference": float((values[name] - other[name]).mean()),
                "interval": intervals[name],
                "p": sign_flip_test(of, shares.groups),
            }
            for name, of in both.items()
        }
    return result


def _values(scores: str | Path, truth: Truth) -> tuple[dict[str, np.ndarray], Shares, dict[str, int]]:
    """Values of every query of the truth, in its order; what each clip gives to them; numbers of things."""
    outputs, gallery = read_outputs(scores, truth.gallery)
    rows, ignored = match_queries(outputs, truth)
    relevant = padded([_clips(names, gallery, truth, outputs) for names in truth.relevant])
    depth = None
    if outputs.scores is not None:
        ranks = ranks_of_scores(outputs.scores[rows], relevant)
    else:
        assert outputs.best is not None
        depth = outputs.best.shape[1]
        equal = (outputs.best[rows][:, None, :] == relevant[:, :, None]) & (relevant >= 0)[:, :, None]
        ranks = np.where(equal.any(axis=2), 1 + equal.argmax(axis=2), 0)
    number = np.array([len(names) for names in truth.relevant])
    counts = {"queries": len(rows), "clips": len(gallery), "queries_ignored": ignored}
    return query_values(ranks, number, depth), shares_of(ranks, truth.relevant, depth), counts


def _clips(names: Sequence[str], gallery: Gallery, truth: Truth, outputs: Outputs) -> list[int]:
    """Positions of relevant clips; -1 of one that is in no row of a list of the best."""
    positions = [gallery.position(name) for name in names]
    if outputs.scores is not None and None in positions:
        raise UserError(f"{outputs.path}:1: no column {names[positions.index(None)]!r}, a clip of {truth.path}")
    return [-1 if position is None else position for position in positions]


def match_queries(outputs: Outputs, truth: Truth) -> tuple[NDArray[np.int64], int]:
    """The row of every query of the truth (queries,), and how many rows are none of them.

    By the text, exactly or without blanks around it; of a text that stands several times the first row is for the
    first one. Raises UserError for queries without a row, and for a row that is one too many.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for row, query in enumerate(outputs.queries):
        rows[query.strip()].append(row)
    found, missing = [], []
    for query in truth.queries:
        there = rows.get(query.strip())
        if there:
            found.append(there.pop(0))
        else:
            missing.append(query)
    known = {query.strip() for query in truth.queries}
    if missing:
        foreign = next((row for row, query in enumerate(outputs.queries) if query.strip() not in known), None)
        hint = "" if foreign is None else f"; line {outputs.lines[foreign]} has none of the queries"
        raise UserError(
            f"{outputs.path}: no row for {len(missing)} of {len(truth.queries)} queries, the first is "
            f"{brief(missing[0])}{hint}"
        )
    more = next((of[0] for query, of in rows.items() if of and query in known), None)
    if more is not None:
        raise UserError(
            f"{outputs.path}:{outputs.lines[more]}: {brief(outputs.queries[more])} has a row already, expected one"
        )
    return np.array(found), len(outputs.queries) - len(found)


def intervals_of(of: Shares, draws: int, share: bool) -> dict[str, list[float | None]]:
    """95 % intervals of means over queries: clips, with all of their captions, are drawn with replacement."""
    names, matrix = list(of.values), np.stack(list(of.values.values()))
    low, high = bootstrap_interval(
        lambda w: matrix @ w / (of.weights @ w), len(of.groups), draws=draws, groups=of.groups, share=share
    )
    ends = zip(low.tolist(), high.tolist(), strict=True)
    return {n: [None if np.isnan(end) else end for end in pair] for n, pair in zip(names, ends, strict=True)}


@dataclass(frozen=True)
class Answers:
    """How a system answered the queries of a set. scores: a row for each query; ranks: (queries, relevant)."""

    truth: Truth
    scores: Scores
    ranks: Ranks

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """How many clips are relevant, (queries,)."""
        return np.array([len(names) for names in self.truth.relevant])

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """Queries of one clip have one number, (queries,); with several relevant clips, those of the first."""
        return np.unique([names[0] for names in self.truth.relevant], return_inverse=True)[1]

    @cached_property
    def best(self) -> NDArray[np.int64]:
        """The rank of the best relevant clip, (queries,)."""
        return np.where(self.ranks > 0, self.ranks, len(self.scores.clips)).min(axis=1)

    @cached_property
    def first(self) -> list[str]:
        """The clip that stands first in the answer to each query."""
        return [self.scores.clips[place] for place in self.scores.matrix.argmax(axis=1)]

    def values(self) -> dict[str, np.ndarray]:
        """{"map@10": AP@10 of every query (queries,), ...}."""
        return query_values(self.ranks, self.counts)

    def shares(self) -> Shares:
        """What each clip gives to them."""
        return shares_of(self.ranks, self.truth.relevant)


def answers_of(scores: Scores, truth: Truth) -> Answers:
    """Ranks of the relevant clips. Raises UserError for queries and clips that were not embedded."""
    known, gallery = set(scores.queries), Gallery(scores.clips)
    if (query := next((of for of in truth.queries if of not in known), None)) is not None:
        raise UserError(f"{truth.path}: no vector of the caption {brief(query)}; `predict` makes those of all anew")
    relevant = [[gallery.position(name) for name in names] for names in truth.relevant]
    for names, places in zip(truth.relevant, relevant, strict=True):
        if None in places:
            raise UserError(f"{truth.path}: no vector of the clip {brief(names[places.index(None)])}")
    of = scores.of(truth.queries)
    return Answers(truth, of, ranks_of_scores(of.matrix, padded(relevant)))  # type: ignore[arg-type]


def show(result: Mapping[str, Any]) -> None:
    """Print what `evaluate_files` found."""
    rows = []
    for name, (low, high) in result["intervals"].items():
        row = [name, format_value(result[name], low, high, decimals=4)]
        if "against" in result:
            other = result["against"].get(name)
            row += ["n/a"] * 3 if other is None else _compared(**other)
        rows.append(row)
    columns = ["metric", "value", *(["against", "difference", "p"] if "against" in result else [])]
    note = f"{result['queries']} queries, {result['clips']} clips; 95 % intervals: clips drawn with replacement"
    print_table(str(result["inputs"]["scores"]), columns, rows, note=note)


def _compared(value: float, difference: float, interval: Sequence[float | None], p: float) -> list[str]:
    low, high = interval
    return [
        format_value(value, decimals=4),
        format_value(difference, low, high, decimals=4, signed=True),
        f"{p:.4f}",
    ]
