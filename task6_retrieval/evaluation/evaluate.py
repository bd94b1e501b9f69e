"""Rankings or scores against captions, or against the annotations of 2025: anybody's files, and own answers."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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

DRAWS = 1000  # of intervals


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


@dataclass(frozen=True)
class Answers:
    """How a system answered the queries: ranks (queries, relevant), in the order of the clips of each query.

    clips: how many were ranked; depth: the ranks that are known, where these are not all.
    """

    truth: Truth
    ranks: Ranks
    clips: int
    depth: int | None = None

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """How many clips are relevant, (queries,)."""
        return np.array([len(names) for names in self.truth.relevant])

    def values(self) -> dict[str, np.ndarray]:
        """{"map@10": AP@10 of every query (queries,), ...}."""
        return query_values(self.ranks, self.counts, self.depth)

    def shares(self) -> Shares:
        """What each clip gives to them."""
        there = np.arange(self.ranks.shape[1]) < self.counts[:, None]
        weights = np.repeat(1 / self.counts, self.counts)
        values = {name: of[there] * weights for name, of in clip_values(self.ranks, self.depth).items()}
        clips = [name for of in self.truth.relevant for name in of]
        return Shares(values, weights, np.unique(clips, return_inverse=True)[1])

    def figures(self, draws: int = DRAWS) -> dict[str, Any]:
        """Means over queries with their intervals over clips, counts."""
        means: dict[str, Any] = {name: float(of.mean()) for name, of in self.values().items()}
        counts = {"queries": len(self.ranks), "clips": self.clips}
        return {**means, "intervals": intervals_of(self.shares(), draws, share=True), **counts}


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
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Metrics of a file of rankings or scores, means over queries with intervals over clips, as a JSON-able mapping.

    ground_truth: a captions csv (one relevant clip a caption), or annotations (several); queries of the file that it
    does not have are left out of account. Intervals draw clips, with all of their captions (annotations: with
    their share in each query that they fit). against: another file; the figures' differences to it get intervals
    and p values. Keys: map@10, r@1, r@5, r@10, and map@16 where the file ranks so many. Raises UserError.
    """
    truth = read_truth(ground_truth)
    answers, ignored = answers_in(scores, truth)
    inputs = {"scores": str(scores), "ground_truth": str(ground_truth)}
    result = {**answers.figures(draws), "queries_ignored": ignored, "inputs": inputs}
    if against is not None:
        inputs["against"] = str(against)
        result["against"] = _differences(answers, answers_in(against, truth)[0], draws)
    return result


def _differences(answers: Answers, others: Answers, draws: int) -> dict[str, dict[str, Any]]:
    """By metric, of those that both have: the other's value, the difference to it, its interval and p value."""
    shares, of_others = answers.shares(), others.shares()
    both = {name: of - of_others.values[name] for name, of in shares.values.items() if name in of_others.values}
    intervals = intervals_of(replace(shares, values=both), draws, share=False)
    values, of_other = answers.values(), others.values()
    return {
        name: {
            "value": float(of_other[name].mean()),
            "difference": float((values[name] - of_other[name]).mean()),
            "interval": intervals[name],
            "p": sign_flip_test(of, shares.groups),
        }
        for name, of in both.items()
    }


def answers_in(scores: str | Path, truth: Truth) -> tuple[Answers, int]:
    """What a file answers to the queries of the truth, in its order, and how many of its rows are none of them."""
    outputs, gallery = read_outputs(scores, truth.gallery)
    rows, ignored = match_queries(outputs, truth)
    relevant = padded([_clips(names, gallery, truth, outputs) for names in truth.relevant])
    if outputs.scores is not None:
        return Answers(truth, ranks_of_scores(outputs.scores[rows], relevant), len(gallery)), ignored
    assert outputs.best is not None
    equal = (outputs.best[rows][:, None, :] == relevant[:, :, None]) & (relevant >= 0)[:, :, None]
    ranks = np.where(equal.any(axis=2), 1 + equal.argmax(axis=2), 0)
    return Answers(truth, ranks, len(gallery), outputs.best.shape[1]), ignored


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
class OwnAnswers(Answers):
    """Those of an own system, with its scores: a row for each query."""

    scores: Scores = field(kw_only=True)

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """Queries of one clip have one number, (queries,); with several relevant clips, those of the first."""
        return np.unique([names[0] for names in self.truth.relevant], return_inverse=True)[1]

    @cached_property
    def best(self) -> NDArray[np.int64]:
        """The rank of the best relevant clip, (queries,)."""
        return np.where(self.ranks > 0, self.ranks, self.clips).min(axis=1)

    @cached_property
    def first(self) -> list[str]:
        """The clip that stands first in the answer to each query."""
        return [self.scores.clips[place] for place in self.scores.matrix.argmax(axis=1)]


def answers_of(scores: Scores, truth: Truth) -> OwnAnswers:
    """Ranks of the relevant clips. Raises UserError for queries and clips that were not embedded."""
    known, gallery = set(scores.queries), Gallery(scores.clips)
    if (query := next((of for of in truth.queries if of not in known), None)) is not None:
        raise UserError(f"{truth.path}: no vector of the caption {brief(query)}; `predict` makes those of all anew")
    relevant = [[gallery.position(name) for name in names] for names in truth.relevant]
    for names, places in zip(truth.relevant, relevant, strict=True):
        if None in places:
            raise UserError(f"{truth.path}: no vector of the clip {brief(names[places.index(None)])}")
    of = scores.of(truth.queries)
    ranks = ranks_of_scores(of.matrix, padded(relevant))  # type: ignore[arg-type]
    return OwnAnswers(truth, ranks, len(of.clips), scores=of)


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
