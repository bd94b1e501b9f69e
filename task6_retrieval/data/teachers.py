"""Vectors of clips and captions by trained systems, stored once; those of several estimate correspondences."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.run.errors import UserError
from common.run.files import existing_file, read_arrays, write_arrays
from task6_retrieval.data.sets import CaptionedClips

Vectors = NDArray[np.float32]
VECTORS = "vectors of a trained system (`predict --sets NAME` makes them)"


class Embeddings(NamedTuple):
    """Raw projections of clips, named <set>/<clip>, and of texts: (clips, dim), (texts, dim)."""

    clips: tuple[str, ...]
    audio: Vectors
    texts: tuple[str, ...]
    sentence: Vectors


def embeddings_file(run: Path, name: str) -> Path:
    """Where `predict` stores a run's vectors of a data set."""
    return run / "embeddings" / f"{name}.npz"


def clip_names(sets: Sequence[CaptionedClips]) -> list[str]:
    """<set>/<clip> of all clips, in the order of their numbers."""
    return [f"{of.name}/{clip}" for of in sets for clip in of.clips]


def texts_of(sets: Sequence[CaptionedClips]) -> list[str]:
    """All captions, each once, in order."""
    return list(dict.fromkeys(text for of in sets for captions in of.captions for text in captions))


def write_embeddings(path: Path, of: Embeddings) -> None:
    """Store them, whole or not at all."""
    write_arrays(path, clips=of.clips, audio=of.audio, texts=of.texts, sentence=of.sentence)


def read_embeddings(path: Path) -> Embeddings:
    """What `write_embeddings` stored. Raises UserError for a missing file or any other content."""
    existing_file(path, VECTORS)
    clips, audio, texts, sentence = read_arrays(path, "vectors of a trained system", *Embeddings._fields)
    for what, names, values in (("clips", clips, audio), ("texts", texts, sentence)):
        if values.ndim != 2 or len(values) != len(names) or not np.isfinite(values).all():
            raise UserError(f"{path}: vectors of {what} are no finite numbers of shape ({len(names)}, dim)")
    return Embeddings(tuple(clips.tolist()), audio, tuple(texts.tolist()), sentence)


def bank(
    runs: Sequence[Path], sets: Sequence[str], clips: Sequence[str], texts: Sequence[str]
) -> tuple[Vectors, Vectors]:
    """What teachers, runs by their folders, say of clips and texts: (clips, teachers, dim), (texts, teachers, dim).

    Raises UserError for what a teacher has not embedded, and for teachers of different dimensions.
    """
    audio, sentence = [], []
    for run in runs:
        found = [read_embeddings(embeddings_file(run, name)) for name in sets]
        audio.append(_rows(run, "clips", [(of.clips, of.audio) for of in found], clips))
        sentence.append(_rows(run, "captions", [(of.texts, of.sentence) for of in found], texts))
        if audio[-1].shape[1] != audio[0].shape[1]:
            raise UserError(f"{run}: vectors of {audio[-1].shape[1]} dimensions, {runs[0]} has {audio[0].shape[1]}")
    return np.stack(audio, axis=1), np.stack(sentence, axis=1)


def _rows(run: Path, what: str, stored: Sequence[tuple[Sequence[str], Vectors]], wanted: Sequence[str]) -> Vectors:
    names, values = [name for of, _ in stored for name in of], np.concatenate([of for _, of in stored])
    position = {name: row for row, name in enumerate(names)}
    if missing := [name for name in wanted if name not in position]:
        raise UserError(
            f"{run}: no vectors for {len(missing)} of {len(wanted)} {what} of the training, the first: {missing[0]!r}"
        )
    return values[[position[name] for name in wanted]]
