"""What an encoder hears in recordings: their tags; and, where the truth is known, how often it is right.

`evaluate` takes a folder as of ESC-50 (Piczak 2015): `audio/` and a table with `filename`, `fold`, `category`.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.audio.recordings import Recording, find_recordings
from common.encoders import Encoder, create
from common.encoders.embeddings import Unfinished
from common.encoders.text import SentenceEncoder
from common.run.errors import UserError, did_you_mean
from common.run.files import existing_folder, read_rows
from common.run.folders import printable
from common.run.numbers import unit_rows
from common.run.processes import working_device
from common.run.progress import progress
from common.run.results.tables import format_value, print_table

CLASSES = Path(__file__).with_name("esc10.csv")
TOP = 5  # tags of a recording that are shown
NEARNESS = 0.05  # cosine that makes a tag e times as near to a sentence
USES = ("tags", "neighbour", "sentences", "search", "sentences by names", "search by names")
FIRST = 10  # of a ranking, the clips that count
Vectors = NDArray[np.floating]


@dataclass(frozen=True)
class Heard:
    """Recordings as an encoder hears them: clip embeddings (recordings, dim), probabilities (recordings, classes)."""

    embeddings: Vectors
    probabilities: Vectors


def hear(encoder: Encoder, files: Sequence[Path]) -> Heard:
    """Embed files one by one; of an encoder with a head."""
    outputs = []
    with progress("listening", len(files)) as advance:
        for file in files:
            outputs.append(encoder.embed(file))
            advance(1)
    embeddings = np.stack([out.clip.cpu().numpy() for out in outputs])
    probabilities = np.stack([out.logits.sigmoid().cpu().numpy() for out in outputs if out.logits is not None])
    return Heard(embeddings, probabilities)


def asked(sentences: Sequence[str], names: Sequence[str], text: SentenceEncoder) -> Vectors:
    """Sentences as weights of the tags that are near them in meaning: (sentences, classes), each adding up to 1.

    `probabilities @ asked(...).T` is how well recordings fit sentences. Of two values of the sharpness that were
    tried, 0.05 and 0.1, the ten sentences of ESC-10 are told apart about as well by either.
    """
    likeness = text.encode(list(sentences)) @ text.encode(list(names)).T / NEARNESS
    weights = np.exp(likeness - likeness.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def spoken(probabilities: Vectors, names: Sequence[str], text: SentenceEncoder) -> Vectors:
    """What was heard as vectors among sentences, (n, dim) of unit length: tags' names weighted by probabilities."""
    return unit_rows(probabilities @ text.encode(list(names)))


def tags(name: str, paths: Sequence[str]) -> Mapping[str, Any]:
    """Print the most probable tags of files and folders; returns all of them: {file: {tag: probability}}."""
    if not paths:
        raise UserError("tags: no files are given")
    recordings = find_recordings([Path(path) for path in paths])
    encoder = create(name).to(working_device())
    encoder.class_names()
    found, called = {}, recordings.names()
    with progress("listening", len(called), "files") as advance:
        for file in recordings.files:
            with recordings.skipping(file):
                found[called[file]] = encoder.tags(file)
                advance(note=called[file])
    rows = [
        [file, ", ".join(f"{tag} {probability:.2f}" for tag, probability in list(of.items())[:TOP])]
        for file, of in found.items()
    ]
    if rows:
        print_table(f"tags ({name})", ("file", "most probable"), rows)
    return recordings.finish(found)


def embed(
    name: str, checkpoint: str | None, paths: Sequence[str], out: Path, frames: bool = False
) -> Mapping[str, Any]:
    """Write the embeddings of files and folders, of clips or of frames, to `out`; see `embeddings`.

    What was done when a call was interrupted is not done again by the same call. Returns names, shape and encoder.
    """
    recordings = find_recordings([Path(path) for path in paths])
    encoder = create(name, checkpoint).to(working_device())
    of = encoder.checkpoint or {"sha256": f"random weights {secrets.token_hex(8)}"}  # no two are the same
    rate = (encoder.frame_rate or encoder.step_rate) if frames else None
    about = {"encoder": encoder.name, "weights": of, "embeddings": "frames" if frames else "clips", "frame_rate": rate}
    unfinished = Unfinished(out, about, encoder.embedding_dim if frames else encoder.clip_dim)
    names = recordings.names()
    with progress("embed", len(recordings.files), "files") as advance:
        for file in recordings.files:
            with recordings.skipping(file):
                if not unfinished.has(names[file], file):
                    recording = Recording(file, encoder.sample_rate)
                    unfinished.add(names[file], _rows(encoder, recording, frames), recording)
            advance(note=names[file])
    heard = {name for file, name in names.items() if printable(file) not in recordings.skipped}
    if not heard:
        return recordings.finish({})
    unfinished.done = {name: of for name, of in unfinished.done.items() if name in heard}
    found = {"encoder": about, **unfinished.finish(frames)}
    shape = " x ".join(f"{size:,}" for size in found["shape"])
    count = f"{len(heard)} recording{'s' if len(heard) > 1 else ''}"
    print(f"{out}: {shape} embeddings of {about['embeddings']}, {count}, {encoder.name}")
    return recordings.finish(found)


def _rows(encoder: Encoder, recording: Recording, frames: bool) -> Iterator[NDArray[np.float32]]:
    """Frames piece by piece, or the clip embedding as the one row: the mean over the pieces, by their frames."""
    clip: Any = 0.0
    count = 0
    for out in encoder.pieces(recording):
        if frames:
            yield out.frames.float().cpu().numpy()
        count += len(out.frames)
        clip = clip + (out.clip - clip) * (len(out.frames) / count)
    if not frames:
        yield clip.float().cpu().numpy()[None]


@dataclass(frozen=True)
class Labelled:
    """Recordings with one of some classes each: files, folds, groups (of one source) and class numbers (n,)."""

    files: list[Path]
    folds: NDArray[np.str_]
    sources: NDArray[np.str_]
    labels: NDArray[np.int64]
    classes: list[dict[str, str]]


def read_labelled(folder: Path, meta: Path | None, classes: Path | None) -> Labelled:
    """A folder as of ESC-50. classes: a table of `category`, AudioSet `tag` and `sentence`, default those of ESC-10.

    Recordings of other categories are left out. Raises UserError for a folder or table that is not there or empty.
    """
    known = {row["category"]: row for row in read_rows(classes or CLASSES, ("category", "tag", "sentence"))}
    table = meta or existing_folder(folder) / "meta.csv"
    rows = [row for row in read_rows(table, ("filename", "fold", "category")) if row["category"] in known]
    if not rows:
        raise UserError(f"{table}: no recording of the categories {', '.join(known)} ({classes or CLASSES})")
    there = [name for name in known if any(row["category"] == name for row in rows)]
    return Labelled(
        [folder / "audio" / row["filename"] for row in rows],
        np.array([row["fold"] for row in rows]),
        np.array([row.get("src_file") or row["filename"] for row in rows]),
        np.array([there.index(row["category"]) for row in rows]),
        [known[name] for name in there],
    )


def nearest(embeddings: Vectors, of: Labelled) -> NDArray[np.int64]:
    """Class of each recording's nearest neighbour by cosine (n,), among other folds; with one fold, other sources."""
    groups = of.folds if len(set(of.folds)) > 1 else of.sources
    similar = unit_rows(embeddings) @ unit_rows(embeddings).T
    similar[groups[:, None] == groups[None]] = -np.inf
    return of.labels[similar.argmax(axis=1)]


def average_precision(scores: Vectors, relevant: NDArray[np.bool_], first: int = FIRST) -> float:
    """Sum of the precisions at the relevant ones of the first ten of a ranking, over ten: 1 for ten hits in a row.

    scores, relevant (n,); ties in the order given. With fewer than ten relevant ones, over their number.
    """
    hits = relevant[np.argsort(-scores, kind="stable")[:first]]
    precisions = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precisions * hits).sum() / min(first, max(1, relevant.sum())))


def figures(heard: Heard, of: Labelled, names: Sequence[str], text: SentenceEncoder) -> dict[str, Any]:
    """Shares of recordings that are right and mAP@10 of a search by sentence: of all, and under `classes` by category.

    `tags`: the most probable of the classes' tags; `neighbour`; `sentences` and `search`: by `asked`; `... by names`:
    the same by `spoken`.
    """
    heard_tags = heard.probabilities
    columns = [names.index(row["tag"]) for row in of.classes]
    sentences = [row["sentence"] for row in of.classes]
    by_tags = heard_tags @ asked(sentences, names, text).T
    by_names = spoken(heard_tags, names, text) @ text.encode(sentences).T
    right = {
        "tags": heard_tags[:, columns].argmax(axis=1) == of.labels,
        "neighbour": nearest(heard.embeddings, of) == of.labels,
        "sentences": by_tags.argmax(axis=1) == of.labels,
        "sentences by names": by_names.argmax(axis=1) == of.labels,
    }
    per_class = {}
    for index, row in enumerate(of.classes):
        relevant = of.labels == index
        found = {use: float(hit[relevant].mean()) for use, hit in right.items()}
        found["search"] = average_precision(by_tags[:, index], relevant)
        found["search by names"] = average_precision(by_names[:, index], relevant)
        per_class[row["category"]] = found
    overall = {use: float(hit.mean()) for use, hit in right.items()}
    for use in ("search", "search by names"):
        overall[use] = float(np.mean([found[use] for found in per_class.values()]))
    return {"recordings": len(of.labels), **overall, "classes": per_class}


def evaluate(name: str, folder: Path, meta: Path | None, classes: Path | None, text_name: str) -> Mapping[str, Any]:
    """Print and return `figures` of an encoder that knows tags on a folder of recordings."""
    from common.encoders import text

    of = read_labelled(folder, meta, classes)
    encoder = create(name).to(working_device())
    names = encoder.class_names()
    for row in of.classes:
        if row["tag"] not in names:
            raise UserError(f"{classes or CLASSES}: {name} has no tag {row['tag']!r}{did_you_mean(row['tag'], names)}")
    sentences = text.create(text_name)
    found = figures(hear(encoder, of.files), of, names, sentences)
    rows = [
        [category, *(format_value(of_class[use]) for use in USES)]
        for category, of_class in {"all": found, **found["classes"]}.items()
    ]
    note = (
        f"{found['recordings']} recordings, {name} and {text_name}. Shares that are right; neighbour: the nearest in "
        "other folds (one fold: of other sources); search: mAP@10 of a class's sentence"
    )
    print_table(str(folder), ("class", *USES), rows, note=note, emphasis=[True] + [False] * (len(rows) - 1))
    return {"encoder": name, "text": text_name, **found}
