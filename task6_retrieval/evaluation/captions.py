"""Caption-to-caption retrieval: other captions of a clip stand for its sound. It tests text path, ranking and metrics.

P1: caption_1 asks, the mean of the other captions answers. P2: every caption asks, the mean of all answers, of its own
clip that of the others. P3: as P2 for the annotated queries alone, with all their relevant clips. T1: as P1 by TF-IDF.
Means of unit vectors are made unit vectors again; all after the encoder is in double precision.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.run.errors import UserError, brief
from common.run.numbers import unit_rows
from common.run.results.tables import print_table
from task6_retrieval.data.captions import Captioned, read_annotations, read_captions
from task6_retrieval.inference.scores import Gallery
from task6_retrieval.metrics import padded, ranks_of_scores, retrieval_metrics

Vectors = NDArray[np.float64]
Encode = Callable[[Sequence[str]], NDArray[np.floating]]
BLOCK = 512  # queries at once


def caption_figures(
    path: str | Path,
    annotations: str | Path | None,
    encode: Encode,
    protocol: str | None = None,
    normalise: bool = False,
) -> dict[str, Any]:
    """Figures of a captions csv, {"map@10", "r@1", ...} by `protocol` (default: P1, with annotations P3); "protocols".

    encode: sentences -> unit vectors (sentences, dim). Raises UserError for fewer than two captions a clip, and for
    annotations of other captions or clips.
    """
    clips = read_captions(path)
    if len(clips[0].captions) < 2:
        raise UserError(f"{path}:1: one caption a clip, expected caption_2 and more to answer caption_1")
    if protocol == "P3" and annotations is None:
        raise UserError("captions: P3 also needs --annotations")
    asked = None if annotations is None else annotated(annotations, clips)
    from task6_retrieval.model.text import normalised  # torch: after all files are read

    texts = [[normalised(c) if normalise else c for c in clip.captions] for clip in clips]
    found = encode([caption for of in texts for caption in of])
    vectors = np.asarray(found, np.float64).reshape(len(texts), len(texts[0]), -1)
    protocols = {"P1": first_asks(vectors), "P2": each_asks(vectors)}
    protocols |= {"P3": each_asks(vectors, *asked)} if asked is not None else {}
    protocols |= {"T1": words} if (words := tfidf(texts)) else {}
    chosen = protocol or ("P1" if asked is None else "P3")
    if chosen not in protocols:
        raise UserError(f"{path}: captions without words, which T1 needs")
    counts = {"clips": len(clips), "captions": sum(len(clip.captions) for clip in clips)}
    return {**protocols[chosen], "protocol": chosen, "normalised": normalise, **counts, "protocols": protocols}


def annotated(path: str | Path, clips: Sequence[Captioned]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Annotated captions, (queries,) numbered clip by clip, and their relevant clips (queries, most of one query)."""
    gallery, numbers = Gallery([clip.name for clip in clips]), dict[str, int]()
    for number, caption in enumerate(caption for clip in clips for caption in clip.captions):
        numbers.setdefault(caption, number)
    queries, relevant = [], []
    for query, names in read_annotations(path).items():
        positions = [gallery.position(name) for name in names]
        if query not in numbers:
            raise UserError(f"{path}: query {brief(query)} is none of the captions")
        if None in positions:
            raise UserError(f"{path}: {brief(names[positions.index(None)])} is none of the clips with captions")
        queries.append(numbers[query])
        relevant.append([position for position in positions if position is not None])
    return np.array(queries), padded(relevant)


def first_asks(vectors: Vectors) -> dict[str, float]:
    """P1 of vectors (clips, captions, dim)."""
    items = unit_rows(vectors[:, 1:].mean(axis=1))
    return _figures((vectors[part, 0] @ items.T for part in _blocks(len(items))), np.arange(len(items)))


def each_asks(
    vectors: Vectors, queries: NDArray[np.int64] | None = None, relevant: NDArray[np.int64] | None = None
) -> dict[str, float]:
    """P2 of vectors (clips, captions, dim); P3 with numbers of the queries and their relevant clips."""
    captions, dim = vectors.shape[1:]
    items, others = unit_rows(vectors.mean(axis=1)), unit_rows(vectors.sum(axis=1, keepdims=True) - vectors)
    flat, left_out = vectors.reshape(-1, dim), others.reshape(-1, dim)
    queries = np.arange(len(flat)) if queries is None else queries

    def scores() -> Iterator[Vectors]:
        for part in _blocks(len(queries)):
            chosen = queries[part]
            found = flat[chosen] @ items.T
            found[np.arange(len(chosen)), chosen // captions] = np.sum(flat[chosen] * left_out[chosen], axis=1)
            yield found

    return _figures(scores(), queries // captions if relevant is None else relevant)


def tfidf(texts: Sequence[Sequence[str]]) -> dict[str, float] | None:
    """T1: scikit-learn's TF-IDF with its default settings, fitted on the items; None where these have no word."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer()
    try:
        items = vectorizer.fit_transform(" ".join(of[1:]) for of in texts)
    except ValueError:  # nothing but single letters and signs
        return None
    queries = vectorizer.transform([of[0] for of in texts])
    blocks = ((queries[part] @ items.T).toarray() for part in _blocks(len(texts)))
    return _figures(blocks, np.arange(len(texts)))


def _blocks(count: int) -> Iterator[slice]:
    return (slice(first, min(first + BLOCK, count)) for first in range(0, count, BLOCK))


def _figures(blocks: Iterator[Vectors], relevant: NDArray[np.int64]) -> dict[str, float]:
    ranks, first = [], 0
    for scores in blocks:
        ranks.append(ranks_of_scores(scores, relevant[first : first + len(scores)]))
        first += len(scores)
    return retrieval_metrics(np.concatenate(ranks))


def show(result: Mapping[str, Any]) -> None:
    """Print what `caption_figures` found."""
    names = ("map@10", "map@16", "r@1", "r@5", "r@10")
    rows = [[protocol, *(f"{of[name]:.5f}" for name in names)] for protocol, of in result["protocols"].items()]
    text = "normalised" if result["normalised"] else "raw"
    print_table(f"{result['captions']} captions of {result['clips']} clips, {text}", ["protocol", *names], rows)
