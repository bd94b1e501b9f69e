"""Files of what was found in a recording: tables, label tracks of Audacity and Raven, frame scores."""

import re
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.audio.answers import SCORES
from common.run.files import write_rows, write_text, write_then_rename
from common.run.folders import printable
from common.run.hdf5 import new_hdf5
from task4_sed.config import Format
from task4_sed.inference.events import Detection
from task4_sed.inference.labels import Labels
from task4_sed.inference.scores import score_lines
from task4_sed.inference.spool import Spool, sigmoid

SUFFIX = {
    "tsv": ".tsv",
    "csv": ".csv",
    "json": ".json",
    "audacity": ".txt",
    "raven": ".selections.txt",
    "npz": ".npz",
    "h5": ".h5",
    "png": ".png",
    "svg": ".svg",
    "tags": ".tags.tsv",
    "embeddings": ".embeddings.npz",
}
RAVEN = ("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)")
TRACKS = "tracks"  # folder in which each recording has one with a label track per class
PICTURES: tuple[Format, ...] = ("png", "svg")
NO_NAME = r'[/\\:*?"<>|\x00-\x1f]'  # not in names of files
HIGHEST_HZ = 8000  # that is heard


def file_of(stem: Path, name: Format) -> Path:
    """The file of a format, or the folder."""
    if name == "tracks":
        return stem.parent / TRACKS / stem.name
    return stem.parent / SCORES / f"{stem.name}.tsv" if name == "scores" else Path(f"{stem}{SUFFIX[name]}")


def listed(events: Sequence[Detection]) -> list[dict[str, Any]]:
    """Events as plain mappings, for JSON and tables."""
    keys = {"onset": "onset", "offset": "offset", "event_label": "label", "confidence": "confidence", "peak": "peak"}
    rows = [{key: getattr(event, name) for key, name in keys.items()} for event in events]
    for row, event in zip(rows, events, strict=True):
        row |= {} if event.mid is None else {"mid": event.mid}
        row |= {} if event.threshold is None else {"threshold": event.threshold}
    return rows


def write_events(path: Path, labels: Labels, rows: Sequence[dict[str, Any]]) -> None:
    """A table, .tsv or .csv, of what `listed` gives, each with its filename."""
    columns = ["filename", "onset", "offset", "event_label", "confidence", "peak"]
    columns[1:1] = ["channel"] * any("channel" in row for row in rows)
    columns = ["threshold"] * any("threshold" in row for row in rows) + columns
    columns += ["mid"] if labels.mids is not None else []
    write_rows(path, columns, ([row[column] for column in columns] for row in rows))


def write_audacity(path: Path, events: Sequence[Detection]) -> None:
    """Audacity: File, Import, Labels."""
    write_text(path, "".join(f"{e.onset:.6f}\t{e.offset:.6f}\t{e.label} {e.confidence:.2f}\n" for e in events))


def write_tracks(folder: Path, events: Sequence[Detection], names: Sequence[str]) -> None:
    """A label track of Audacity for each class that was found; those of the other `names` go."""
    tracks: defaultdict[str, list[Detection]] = defaultdict(list)
    for event in events:
        tracks[re.sub(NO_NAME, "_", event.label)].append(event)
    for name in {re.sub(NO_NAME, "_", name) for name in names} - tracks.keys():
        (folder / f"{name}.txt").unlink(missing_ok=True)
    for name, of_class in tracks.items():
        write_audacity(folder / f"{name}.txt", of_class)


def write_tags(path: Path, spool: Spool, labels: Labels, frames: int) -> None:
    """The highest and the mean score of every class over a recording, the highest first."""
    highest, total = np.zeros(spool.classes), np.zeros(spool.classes)
    for block in spool.blocks(stop=frames):
        scores = sigmoid(block)
        highest, total = np.maximum(highest, scores.max(axis=0)), total + scores.sum(axis=0)
    order = np.argsort(-highest, kind="stable").tolist()
    mids = labels.mids or [""] * len(labels.names)
    rows = ((labels.names[at], f"{highest[at]:.4f}", f"{total[at] / frames:.4f}", mids[at]) for at in order)
    write_rows(path, ("event_label", "max", "mean", "mid"), rows)


def write_raven(path: Path, events: Sequence[Detection], channel: int | None = None) -> None:
    """A selection table of Raven: File, Open Selection Table."""
    rows = (
        (
            *(number, "Spectrogram 1", channel or 1, f"{e.onset:.6f}", f"{e.offset:.6f}", 0, HIGHEST_HZ, e.label),
            *(e.confidence, e.peak, e.mid or ""),
        )
        for number, e in enumerate(events, 1)
    )
    write_rows(path, (*RAVEN, "Annotation", "Score", "Peak", "MID"), rows, "\t")


def write_scores(path: Path, spool: Spool, labels: Labels, edges: np.ndarray) -> None:
    """Frame scores as `evaluate --scores` reads them; edges (frames + 1,) in seconds."""
    with write_then_rename(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        file.write("\t".join(("onset", "offset", *labels.names)) + "\n")
        first = 0
        for block in spool.blocks(stop=len(edges) - 1):
            file.writelines(score_lines(edges[first : first + len(block) + 1], sigmoid(block)))
            first += len(block)


def write_npz(
    path: Path, name: str, frames: int, columns: int, blocks: Iterable[np.ndarray], beside: Mapping[str, np.ndarray]
) -> None:
    """An array (frames, columns) float16 of that name, block by block, and others beside it."""
    header = {"descr": "<f2", "fortran_order": False, "shape": (frames, columns)}
    with write_then_rename(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as file:
        with file.open(f"{name}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            for block in blocks:
                member.write(block.astype("<f2").tobytes())
        for other, array in beside.items():
            with file.open(f"{other}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def write_h5(path: Path, spool: Spool, labels: Labels, edges: np.ndarray, frame_seconds: float) -> None:
    """Logits in half precision, in the form of stored scores: one clip."""
    frames = len(edges) - 1
    with new_hdf5(path) as (file, check):
        strong = file.create_dataset("strong_logits", (1, frames, spool.classes), np.float16)
        first = 0
        for block in spool.blocks(stop=frames):
            strong[0, first : first + len(block)] = np.clip(block, -65504, 65504)
            first += len(block)
            check()
        file["filenames"] = [path.stem.encode()]
        for key, words in {"classes": labels.names, "mids": labels.mids or ()}.items():
            if words:
                file[key] = [word.encode() for word in words]
        file["durations"] = edges[-1:] - edges[0]
        file.attrs["frame_seconds"] = frame_seconds


class Answer(NamedTuple):
    """What is written of one recording, or of one of its channels, from 1 on. edges: (frames + 1,) seconds in the file.

    embeddings: (frames, dim) where they are wanted.
    """

    stem: Path
    source: Path
    channel: int | None
    events: Sequence[Detection]
    spool: Spool
    edges: np.ndarray
    embeddings: Spool | None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Its events in tables."""
        of_channel = {} if self.channel is None else {"channel": self.channel}
        return [{"filename": printable(self.source.name), **of_channel, **row} for row in listed(self.events)]


def write_all(answer: Answer, formats: Sequence[Format], labels: Labels, frame_seconds: float) -> None:
    """The files of all formats but .json and the pictures, each whole or not at all."""
    stem, spool, edges = answer.stem, answer.spool, answer.edges
    frames, since = len(edges) - 1, edges - edges[0]  # what evaluates begins at 0
    mids = np.array(labels.mids or (), dtype=str)
    beside = {"edges": edges, "classes": np.array(labels.names), "mids": mids}
    scores = (sigmoid(block) for block in spool.blocks(stop=frames))
    heard = answer.embeddings
    write: dict[Format, Callable[[Path], None]] = {
        **dict.fromkeys(("tsv", "csv"), lambda path: write_events(path, labels, answer.rows)),
        "audacity": lambda path: write_audacity(path, answer.events),
        "tracks": lambda path: write_tracks(path, answer.events, labels.names),
        "raven": lambda path: write_raven(path, answer.events, answer.channel),
        "tags": lambda path: write_tags(path, spool, labels, frames),
        "scores": lambda path: write_scores(path, spool, labels, since),
        "npz": lambda path: write_npz(path, "scores", frames, spool.classes, scores, beside),
        "h5": lambda path: write_h5(path, spool, labels, edges, frame_seconds),
    }
    if heard is not None:
        vectors = heard.blocks(stop=frames)
        write["embeddings"] = lambda path: write_npz(path, "frames", frames, heard.classes, vectors, {"edges": edges})
    for name in formats:
        if name in write:
            write[name](file_of(stem, name))
